"""Faults on request: by name, seed and device time. Text form ``name@START[+DURATION][:key=value:…]``.

Times are seconds of device time since the machine was created (delays of single replies: seconds of the
clock that USB time-outs use). ``unplug@30+10,nak@45+2,stuck_sensor@60+20:sensor=probe``.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from drivers.virtual.timed_fault import Catalogue, TimedFault, parse_faults

CATALOGUE: Catalogue = {
    "unplug": ("USB gone; with a duration it comes back by itself", 0.0, {}),
    "replug": ("USB back", 0.0, {}),
    "nak": ("OUT transfers are not taken: the host times out", 2.0, {}),
    "time_out": ("replies never come", 2.0, {}),
    "late_reply": ("the next replies come late", 0.0, {"delay_s": 1.5, "count": 1}),
    "short_read": ("the next replies are cut short", 0.0, {"bytes": 20, "count": 1}),
    "slipped_frame": ("a reply nobody asked for comes first: A and B change places", 0.0, {"count": 1}),
    "garbage": ("the next replies are noise", 0.0, {"count": 4}),
    "stuck_sensor": ("a sensor shows one value", 10.0, {"sensor": "probe"}),
    "nan": ("a sensor shows not-a-number", 5.0, {"sensor": "probe"}),
    "dropped_step": ("the next relative steps are swallowed", 0.0, {"count": 1}),
    "doubled_step": ("the next relative steps count twice", 0.0, {"count": 1}),
    "brown_out": ("mains voltage falls", 5.0, {"voltage_v": 150.0}),
    "firmware_reboot": ("the firmware restarts: state 0, USB away for a moment", 2.0, {}),
    "spurious_charge": ("the roast starts by itself", 0.0, {}),
    "over_temperature": ("a sensor shows too much; with watts the drum really runs away", 10.0,
                         {"sensor": "both", "temp_c": 265.0, "watts": 0.0}),
}  # fmt: skip
NAMES = tuple(CATALOGUE)


class Fault(TimedFault):
    """One fault of a Bullet."""

    __slots__ = ()
    catalogue = CATALOGUE


def parse(text: str) -> list[Fault]:
    """Faults from their text form; a bad one is a ValueError that says which."""
    return parse_faults(text, Fault, NAMES)


def checked(faults: str | Iterable[Fault | str | dict[str, Any]]) -> list[Fault]:
    """Faults from text, from dicts with the fields of :class:`Fault`, or as they are."""
    if isinstance(faults, str):
        return parse(faults)
    made: list[Fault] = []
    for each in faults:
        if isinstance(each, str):
            made.extend(parse(each))
        else:
            made.append(each if isinstance(each, Fault) else Fault(**each))
    return made


def schedule(seed: int, *, count: int, horizon_s: float, names: Iterable[str] = NAMES) -> list[Fault]:
    """``count`` faults drawn from the seed over ``horizon_s`` device seconds, ordered by time. An unplug
    always comes back.
    """
    chance, choices = random.Random(int(seed)), sorted(names)
    drawn = []
    for _ in range(count):
        name, at_s = chance.choice(choices), round(chance.uniform(0.0, horizon_s), 1)
        drawn.append(Fault(name, at_s, 5.0 if name == "unplug" else None))
    return sorted(drawn, key=lambda fault: (fault.at_s, fault.name))
