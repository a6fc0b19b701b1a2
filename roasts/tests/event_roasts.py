"""Roasts to infer events from: a made-up one, and the real logs in the order they were roasted, with their marks."""

from __future__ import annotations

import datetime as dt
import functools
import math
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from drivers.port import MachineState, Reading
from roasts import inference
from roasts.curve import Curve
from roasts.events.crack_history import EarlierCrack, earlier_crack
from roasts.inference import Decision, InferenceState
from roasts.tests import real_logs

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
#: Of the made-up roast, seconds after its charge: the probe turns, the beans leave.
TURN_S, DROP_S = 60.0, 540.0


def at(device_ms: int, bean_c: float | None, state: MachineState = MachineState.UNKNOWN, **more: object) -> Reading:
    """A reading of a machine that gives the probe, and what else is asked for."""
    values: dict = {
        "sequence": max(1, device_ms // 100),
        "at": START + dt.timedelta(milliseconds=device_ms),
        "monotonic_s": device_ms / 1000,
        "device_ms": device_ms,
        "state": state,
        "bean_temp_c": bean_c,
    }
    return Reading(**(values | more))


def probe_c(since_charge_s: float) -> float:
    """A made-up roast: plateau at 160, 90 at the turn, 204 at the drop, then down."""
    if since_charge_s < 2:
        return 160.0
    if since_charge_s < TURN_S:
        return 90 + 70 * ((TURN_S - since_charge_s) / (TURN_S - 2)) ** 2
    risen = min(since_charge_s, DROP_S + 3) - TURN_S
    top_c = 90 + 0.36 * risen - 0.00025 * risen**2
    return top_c - 1.2 * max(0.0, since_charge_s - DROP_S - 4)


def made_up(*, charge_ms: int = 20_000, end_s: float = 600, step_ms: int = 1000) -> Iterator[Reading]:
    """The made-up roast as a machine without states sends it."""
    for device_ms in range(0, charge_ms + round(1000 * end_s), step_ms):
        yield at(device_ms, round(probe_c((device_ms - charge_ms) / 1000), 1))


def play(
    readings: Iterable[Reading], state: InferenceState | None = None, *, is_finished: bool = True
) -> tuple[InferenceState, list[Decision]]:
    """(last state, all decisions)."""
    state = state or InferenceState()
    found: list[Decision] = []
    for reading in readings:
        state, decisions = inference.step(state, reading)
        found += decisions
    if is_finished:
        state, decisions = inference.finish(state)
        found += decisions
    return state, found


def standing(decisions: Iterable[Decision]) -> dict[str, int]:
    """kind → ms of the marks that stand at last."""
    marks: dict[str, int] = {}
    for decision in decisions:
        if isinstance(decision, inference.Made):
            marks[decision.mark.kind] = decision.mark.at_ms
        elif isinstance(decision, inference.Withdrawn):
            marks.pop(decision.mark.kind)
    return marks


@dataclass(frozen=True, slots=True)
class Marked:
    """A real roast and what its person marked, in seconds of the log's own time."""

    log: real_logs.Log
    bean: str
    charge_s: float
    turning_s: float
    crack_s: float
    drop_s: float
    is_on_round: bool  # the crack is marked at the first crossing of 190.0 °C

    def readings(self, *, is_stated: bool = True, has_eye: bool = True, has_heater: bool = True) -> list[Reading]:
        """The log at its own rate, with channels left out."""
        gone: dict = {} if is_stated else {"state": MachineState.UNKNOWN}
        gone |= {} if has_eye else {"infrared_temp_c": None}
        gone |= {} if has_heater else {"heater_step": None, "fan_step": None, "drum_step": None}
        return [replace(reading, **gone) for reading in real_logs.readings(self.log)]


def at_10_hz(readings: list[Reading], *, noise_c: float, seed: int) -> list[Reading]:
    """Interpolated to 10 Hz, with noise on both temperatures."""
    draw = random.Random(seed)
    times_ms = np.array([reading.device_ms for reading in readings])
    grid_ms = np.arange(times_ms[0], times_ms[-1] + 1, 100)
    held = readings
    columns = {}
    for name in ("bean_temp_c", "infrared_temp_c"):
        values = [getattr(reading, name) for reading in readings]
        columns[name] = None if values[0] is None else np.interp(grid_ms, times_ms, np.array(values, dtype=float))
    rows = np.searchsorted(times_ms, grid_ms, side="right") - 1
    made = []
    for place, (row, device_ms) in enumerate(zip(rows, grid_ms, strict=True)):
        temps = {n: None if c is None else float(c[place]) + draw.gauss(0, noise_c) for n, c in columns.items()}
        made.append(replace(held[row], device_ms=int(device_ms), **temps))
    return made


@functools.cache
def marked() -> tuple[Marked, ...]:
    """The real roasts with a marked crack, in the order they were roasted, each once."""
    seen, found = set(), []
    for log in sorted(map(real_logs.read, real_logs.paths()), key=lambda log: (log.raw["roastepoch"], log.name)):
        key = tuple(log.channel("bt"))
        if key not in seen and log.raw["timeindex"][2]:
            seen.add(key)
            found.append(_marked(log))
    return tuple(found)


def _marked(log: real_logs.Log) -> Marked:
    charge, _, crack, *_, drop, _ = log.raw["timeindex"]
    times_s, bean_c = log.times_s, log.channel("bt")
    if not drop:  # one person marked none: the firmware did
        drop = next(row for row, state in enumerate(log.channel("state")) if state == 8)
    lowest_c = min(temp_c for temp_c in bean_c[charge:crack] if temp_c > 0)
    turning = max(row for row in range(charge, crack) if bean_c[row] == lowest_c)
    crossed = next((row for row in range(turning, len(bean_c)) if bean_c[row] >= 189.95), None)
    is_on_round = crossed is not None and abs(times_s[crossed] - times_s[crack]) <= 2.5
    name = re.sub(r"^\d\d-\d\d-\d\d_(\d{4}_|reference_)?|(_\d)?_no\d+$", "", log.name)
    return Marked(
        log, name, times_s[charge], times_s[turning], times_s[crack], times_s[drop], is_on_round
    )


@functools.cache
def history() -> tuple[EarlierCrack, ...]:
    """One earlier crack for each marked roast, in their order."""
    return tuple(crack for one in marked() if (crack := _crack(one)) is not None)


def _crack(one: Marked) -> EarlierCrack | None:
    readings = one.readings()
    columns = {
        name: np.array([getattr(reading, name) for reading in readings], dtype=float)
        for name in ("bean_temp_c", "infrared_temp_c", "heater_step")
    }
    curve = Curve(np.array(one.log.times_s) - one.charge_s, **columns)
    roasted_at = dt.datetime.fromtimestamp(one.log.raw["roastepoch"], dt.UTC)
    return earlier_crack(
        curve, one.crack_s - one.charge_s, at=roasted_at, bean=one.bean, drop_s=one.drop_s - one.charge_s
    )


def median_and_p90(errors_s: list[float]) -> tuple[float, float]:
    """Of absolute errors; a mark that is missing counts as infinitely wrong."""
    sizes = sorted(abs(error_s) if math.isfinite(error_s) else math.inf for error_s in errors_s)
    return float(np.median(sizes)), float(np.percentile(sizes, 90, method="higher"))
