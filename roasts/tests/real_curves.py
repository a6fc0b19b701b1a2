"""The real logs of ``../shared/data`` as curves and marks, for tests of what is counted from them."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np

from roasts.alog import read_alog
from roasts.curve import Column, Curve, Mark, Marks
from roasts.tests import real_logs

MARK_SLOTS = {
    1: "dry_end",
    2: "first_crack_start",
    3: "first_crack_end",
    4: "second_crack_start",
    6: "drop",
    7: "cool_end",
}
MISSING = -1


def curve_of(log: real_logs.Log) -> Curve:
    """The log's columns by seconds since its charge; Artisan's -1 is no value."""
    times_s = np.asarray(log.times_s, dtype=float)
    charge_row = max(log.raw["timeindex"][0], 0)
    return Curve(
        elapsed_s=times_s - times_s[charge_row],
        bean_temp_c=_known(log.channel("bt")),
        infrared_temp_c=_known(log.channel("et")),
        heater_step=np.asarray(log.channel("heater"), dtype=float),
        fan_step=np.asarray(log.channel("fan"), dtype=float),
        drum_step=np.asarray(log.channel("drum"), dtype=float),
        fan_rpm=np.asarray(log.channel("fan_rpm"), dtype=float),
        voltage_v=np.asarray(log.channel("voltage"), dtype=float),
        state=tuple(real_logs.STATES[round(code)].value for code in log.channel("state")),
        dry_end_c=float(log.raw["phases"][1]),
    )


def _known(values: list[float]) -> Column:
    column = np.asarray(values, dtype=float)
    return np.where(column == MISSING, np.nan, column)


def marks_of(log: real_logs.Log, curve: Curve) -> Marks:
    """The marks a person made: rows of Artisan's ``timeindex``; 0 is unset (but for the charge)."""
    found = [Mark("charge", 0.0)]
    for slot, kind in MARK_SLOTS.items():
        row = log.raw["timeindex"][slot]
        if row > 0:
            found.append(Mark(kind, float(curve.elapsed_s[row])))
    return tuple(found)


@functools.cache
def all_roasts() -> tuple[tuple[str, Curve, Marks, dict], ...]:
    """(name, curve, marks, Artisan's ``computed``) of every real log there is."""
    return tuple(_read(path) for path in real_logs.paths())


def _read(path: Path) -> tuple[str, Curve, Marks, dict]:
    log = real_logs.read(path)
    curve = replace(curve_of(log), area_from_s=read_alog(path.read_bytes()).curve.area_from_s)
    return path.stem, curve, marks_of(log, curve), log.raw["computed"]
