"""Faults of virtual line machines on request: by name and device time, ``name@START[+DURATION][:key=value:…]``."""

from __future__ import annotations

from typing import Any

from drivers.virtual.timed_fault import Catalogue, TimedFault, parse_faults

CATALOGUE: Catalogue = {
    "silence": ("nothing is sent; commands are carried out", 3.0, {}),
    "deaf": ("commands are neither carried out nor answered", 3.0, {}),
    "garbage": ("the next lines are noise", 0.0, {"count": 4}),
    "half_line": ("the next lines are cut, without their end", 0.0, {"count": 1}),
    "huge_line": ("the next lines are far too long", 0.0, {"count": 1, "bytes": 200_000}),
    "nan": ("the bean probe shows not-a-number in the next lines", 0.0, {"count": 10}),
    "disconnect": ("the connection ends; for its duration none is taken", 0.0, {}),
    "accept_then_close": ("connections are taken and closed at once", 3.0, {}),
    "burst": ("lines are held back, then come all at once", 2.0, {}),
    "clock_back": ("the machine's clock is set back by an hour", 0.0, {}),
    "slow_ack": ("the next acknowledgements come late", 0.0, {"count": 1, "delay_s": 1.0}),
    "slow_act": ("the next commands are carried out late", 0.0, {"count": 1, "delay_s": 0.8}),
    "lost_ack": ("the next acknowledgements are lost", 0.0, {"count": 1}),
    "doubled_ack": ("the next acknowledgements come twice", 0.0, {"count": 1}),
    "wrong_id": ("the next acknowledgements name another command", 0.0, {"count": 1}),
    "decline": ("the next commands are declined", 0.0, {"count": 1}),
    "lost_command": ("the next commands are lost on the way", 0.0, {"count": 1}),
    "stuck_control": ("controls do not move, though commands are acknowledged", 5.0, {}),
    "reboot": ("the machine restarts: silent for its duration, its settings at their start", 2.0, {}),
    "over_temperature": ("the bean probe shows 20 °C too much and more", 10.0, {"temp_c": 265.0}),
}  # fmt: skip
_ACKS = frozenset({"slow_ack", "lost_ack", "doubled_ack", "wrong_id", "decline"})
LINE_FAULTS = tuple(name for name in CATALOGUE if name != "reboot")
TC4_FAULTS = tuple(name for name in CATALOGUE if name not in _ACKS | {"burst", "clock_back", "slow_act"})


class LineFault(TimedFault):
    """One fault of a line machine."""

    __slots__ = ()
    catalogue = CATALOGUE


def parse(text: str, names: tuple[str, ...]) -> list[LineFault]:
    """Faults from their text form, of ``names`` only; a bad one is a ValueError that says which."""
    return parse_faults(text, LineFault, names)


class Troubles:
    """Which faults are at work now: some for a while, some for the next so many lines or commands."""

    def __init__(self, faults: list[LineFault]) -> None:
        self._due = sorted(faults, key=lambda fault: (fault.at_s, fault.name))
        self._until_s: dict[str, float] = {}
        self._left: dict[str, int] = {}
        self._parameters: dict[str, LineFault] = {}

    def begin(self, device_s: float) -> list[str]:
        """Faults that begin at or before this moment, by name."""
        begun = []
        while self._due and self._due[0].at_s <= device_s:
            fault = self._due.pop(0)
            self._until_s[fault.name] = device_s + fault.lasts_s
            self._left[fault.name] = int(fault.parameter("count")) if "count" in CATALOGUE[fault.name][2] else 0
            self._parameters[fault.name] = fault
            begun.append(fault.name)
        return begun

    def add(self, fault: LineFault, device_s: float) -> None:
        """One more, counted from now."""
        moved = LineFault(fault.name, device_s + fault.at_s, fault.duration_s, fault.parameters)
        self._due = sorted([*self._due, moved], key=lambda each: (each.at_s, each.name))

    def is_on(self, name: str, device_s: float) -> bool:
        """Is a lasting fault at work?"""
        return device_s < self._until_s.get(name, -1.0)

    def take(self, name: str) -> bool:
        """Does a counted fault hit this line or command? It has then one less to go."""
        left = self._left.get(name, 0)
        if left > 0:
            self._left[name] = left - 1
        return left > 0

    def parameter(self, name: str, key: str) -> Any:
        """A parameter of the fault that began last under this name."""
        return self._parameters[name].parameter(key)
