"""A roast as columns, and everything that is counted from it. Pure numpy: values in, values out.

Times are seconds since charge, temperatures °C, rates °C/min, controls native steps. A value that is
missing is NaN, a channel that the source does not have is None.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Column = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One roast; row i of every column is the same moment. ``elapsed_s`` rises strictly and is negative before charge.

    ``bean_temp_c`` is the probe in the beans (BT). ``infrared_temp_c`` is a Bullet's eye;
    ``environment_temp_c`` the ET of machines that have one. All columns have the shape of ``elapsed_s``.
    """

    elapsed_s: Column
    bean_temp_c: Column
    infrared_temp_c: Column | None = None
    environment_temp_c: Column | None = None
    exhaust_temp_c: Column | None = None
    ambient_temp_c: Column | None = None
    heater_step: Column | None = None
    fan_step: Column | None = None
    drum_step: Column | None = None
    fan_rpm: Column | None = None
    voltage_v: Column | None = None
    state: tuple[str, ...] | None = None  # drivers.port.MachineState values

    def __len__(self) -> int:
        return len(self.elapsed_s)


@dataclass(frozen=True, slots=True)
class Mark:
    """One event of a roast. ``kind`` and ``source`` are values of roasts.models.EventKind and EventSource."""

    kind: str
    elapsed_s: float
    source: str = "person"
    confidence: float = 1.0
    text: str = ""


Marks = tuple[Mark, ...]


def first_of(marks: Marks, kind: str) -> float | None:
    """Elapsed seconds of the mark of this kind that wins: a person's, else the machine's, else the inferred one."""
    rank = {"person": 0, "device": 1, "inferred": 2}
    of_kind = [mark for mark in marks if mark.kind == kind]
    if not of_kind:
        return None
    return min(of_kind, key=lambda mark: (rank.get(mark.source, 3), mark.elapsed_s)).elapsed_s
