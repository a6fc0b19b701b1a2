"""Many roasts at once: recorded roasts laid out as arrays, and the model run over them in parallel lanes. Pure numpy.

A lane is one roast under one set of parameters. Fitting runs hundreds of lanes in one batch, so that a
Jacobian by finite differences costs one run.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from roasts.curve import Curve
from roasts.twin import physics
from roasts.twin.memory import INNOVATIONS, Remembered, expected_from
from roasts.twin.parameters import CORRECTED, unpack
from roasts.twin.physics import Knobs, NodeState, Vector
from roasts.twin.values import KNOWN_UNTIL_S, TwinError, TwinRoast

STEP_S = 1.0
UPDATE_ROW = round(KNOWN_UNTIL_S / STEP_S)
#: Between charge and this row the infrared shows its reset value and is not compared.
EYE_OPENS_ROW = 20
LONGEST_S = 3600.0
USUAL_PREHEAT_C = 238.0
#: Where what earlier roasts showed goes in, while this one's own opening does not.
MEMORY_ROW = 60
#: Rows whose means are compared at 90 s, and how far apart in time their middles are.
LATE, EARLY, LATE_AFTER_EARLY_S = slice(84, 89), slice(58, 63), 26.0


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Roasts on a grid of one second from charge. Arrays are rows (seconds) × roasts; past a drop they repeat."""

    names: tuple[str, ...]
    rows: NDArray[np.int64]  # last row of each roast: its drop
    heater_step: Vector
    fan_krpm: Vector
    voltage_v: Vector
    probe_c: Vector  # NaN past the drop
    infrared_c: Vector
    mass_kg: Vector
    preheat_c: Vector
    probe_charge_c: Vector
    began_s: Vector  # unix seconds; NaN where nobody knows
    beans: tuple[str, ...]  # as people named them; "" where nobody did
    expected: Vector  # innovations × roasts: what earlier roasts let expect; 0 without

    def __len__(self) -> int:
        return len(self.names)


def preheat_of(curve: Curve) -> float | None:
    """The set-point that the infrared showed before charge (°C, median of the last 30 s), None where it did not."""
    if curve.infrared_temp_c is None:
        return None
    before = (curve.elapsed_s <= 1.0) & (curve.elapsed_s > -30.0) & (curve.infrared_temp_c > 100.0)
    return float(np.median(curve.infrared_temp_c[before])) if before.any() else None


def roast_digest(roast: TwinRoast) -> str:
    """SHA-256 over what the twin reads of a roast: two files of one roast have the same digest."""
    found = hashlib.sha256(f"{roast.mass_kg:.4f}".encode())
    inside = (roast.curve.elapsed_s >= 0) & (roast.curve.elapsed_s <= roast.drop_s)
    curve = roast.curve
    for column in (curve.elapsed_s, curve.bean_temp_c, curve.infrared_temp_c, curve.heater_step):
        if column is not None:
            found.update(np.round(column[inside], 2).tobytes())
    return found.hexdigest()


def unique(roasts: Sequence[TwinRoast]) -> list[TwinRoast]:
    """Each roast once, in the order given: the same roast is often saved under two names."""
    first: dict[str, TwinRoast] = {}
    for roast in roasts:
        first.setdefault(roast_digest(roast), roast)
    return list(first.values())


def held(times_s: Vector, values: Vector | None, at_s: Vector, default: float) -> Vector:
    """A control at moments: the last known value holds; ``default`` where nothing is known."""
    if values is None:
        return np.full(at_s.shape, default)
    good = np.isfinite(values)
    if not good.any():
        return np.full(at_s.shape, default)
    rows = np.clip(np.searchsorted(times_s[good], at_s + 1e-6, side="right") - 1, 0, None)
    return np.asarray(values[good][rows], dtype=np.float64)


def measured(times_s: Vector, values: Vector | None, at_s: Vector) -> Vector:
    """A sensor at moments, linear between readings; NaN before the first, after the last and without the sensor."""
    if values is None:
        return np.full(at_s.shape, np.nan)
    good = np.isfinite(values)
    if good.sum() < 2:
        return np.full(at_s.shape, np.nan)
    return np.interp(at_s, times_s[good], values[good], left=np.nan, right=np.nan)


def lay_out(roasts: Sequence[TwinRoast]) -> Grid:
    """Recorded roasts as a grid.

    Raises:
        TwinError: a roast without probe readings round charge, shorter than two minutes or longer than an hour.
    """
    if not roasts:
        raise TwinError("there is no roast to look at")
    for roast in roasts:
        if not 120.0 <= roast.drop_s <= LONGEST_S:
            raise TwinError(f"roast {roast.name!r} lasts {roast.drop_s:.0f} s: a twin reads roasts of 2 to 60 minutes")
    last = np.array([int(roast.drop_s / STEP_S) for roast in roasts])
    at_s = np.arange(last.max() + 1) * STEP_S
    columns = [_columns(roast, int(row), at_s) for roast, row in zip(roasts, last, strict=True)]
    stacked = [np.stack(column, axis=1) for column in zip(*columns, strict=True)]
    preheats = [preheat_of(roast.curve) for roast in roasts]
    probes = stacked[3][0]
    if not np.isfinite(probes).all():
        raise TwinError(f"roast {roasts[int(np.argmin(np.isfinite(probes)))].name!r} has no probe reading at charge")
    return Grid(
        names=tuple(roast.name for roast in roasts),
        rows=last,
        heater_step=stacked[0],
        fan_krpm=stacked[1],
        voltage_v=stacked[2],
        probe_c=stacked[3],
        infrared_c=stacked[4],
        mass_kg=np.array([roast.mass_kg for roast in roasts]),
        preheat_c=np.array([USUAL_PREHEAT_C if found is None else found for found in preheats]),
        probe_charge_c=np.array(probes),
        began_s=np.array([math.nan if roast.began_s is None else roast.began_s for roast in roasts]),
        beans=tuple(roast.bean for roast in roasts),
        expected=np.zeros((len(INNOVATIONS), len(roasts))),
    )


def _columns(roast: TwinRoast, last: int, at_s: Vector) -> tuple[Vector, ...]:
    """One roast's columns on the grid: heater, fan (krpm), voltage, probe, infrared."""
    curve, inside = roast.curve, np.minimum(at_s, last * STEP_S)
    fan = held(curve.elapsed_s, curve.fan_step, inside, 2.0)
    probe = measured(curve.elapsed_s, curve.bean_temp_c, at_s)
    infrared = measured(curve.elapsed_s, curve.infrared_temp_c, at_s)
    probe[last + 1 :] = np.nan
    infrared[last + 1 :] = np.nan
    return (
        held(curve.elapsed_s, curve.heater_step, inside, 0.0),
        np.array([physics.fan_krpm(step) for step in fan]),
        held(curve.elapsed_s, curve.voltage_v, inside, physics.REFERENCE_VOLTAGE_V),
        probe,
        infrared,
    )


def innovations(
    probe_seen: Vector, infrared_seen: Vector, probe_made: Vector, infrared_made: Vector
) -> tuple[Vector, ...]:
    """What the first 90 seconds say beyond the model: means over 84-88 s and their change since 58-62 s, in °C.

    Arrays are rows (seconds, at least 89) × lanes; row 88 of a log at 1 Hz needs no reading past 90 s. A
    sensor that is missing (NaN) says nothing (0).
    """
    level, rise = _level_and_rise(probe_seen[: LATE.stop] - probe_made[: LATE.stop])
    eye_level, eye_rise = _level_and_rise(infrared_seen[: LATE.stop] - infrared_made[: LATE.stop])
    return level, rise, eye_level, eye_rise


def _level_and_rise(off_c: Vector) -> tuple[Vector, Vector]:
    late, early = np.mean(off_c[LATE], axis=0), np.mean(off_c[EARLY], axis=0)
    return np.nan_to_num(late, nan=0.0), np.nan_to_num(late - early, nan=0.0)


def corrected(state: NodeState, gains: Vector, found: tuple[Vector, ...], probe_core_s: Vector) -> NodeState:
    """The state at 90 s after what the readings said; sensors take their own readings outright."""
    moved = np.einsum("ijl,jl->il", gains, np.stack(found))
    shift = dict(zip(CORRECTED, moved, strict=True))
    rise_c_per_s = found[1] / LATE_AFTER_EARLY_S
    return state._replace(
        wall_temp_c=state.wall_temp_c + shift["wall_temp_c"],
        body_temp_c=state.body_temp_c + shift["body_temp_c"],
        bean_temp_c=state.bean_temp_c + 0.5 * found[2] + shift["bean_temp_c"],
        shell_temp_c=state.shell_temp_c + found[0] + rise_c_per_s * probe_core_s + shift["shell_temp_c"],
        probe_temp_c=state.probe_temp_c + found[0],
        infrared_temp_c=state.infrared_temp_c + found[2],
        uptake_ln=state.uptake_ln + shift["uptake_ln"],
        power_ln=state.power_ln + shift["power_ln"],
    )


def run(grid: Grid, vectors: Vector, which: NDArray[np.int64], *, is_corrected: bool) -> tuple[Vector, Vector]:
    """Probe and infrared (rows × lanes) of lanes: lane i is roast ``which[i]`` under ``vectors[i]``, charge to drop.

    ``is_corrected``: readings up to 90 s after charge go in; otherwise nothing after charge does, but what
    earlier roasts let expect (``grid.expected``).
    """
    p, gains = unpack(vectors)
    mass_kg = grid.mass_kg[which]
    state = physics.at_charge(p, grid.preheat_c[which], grid.probe_charge_c[which], mass_kg)
    row_count = int(grid.rows[which].max()) + 1
    probe, infrared = np.empty((2, row_count, len(which)))
    for row in range(row_count):
        probe[row], infrared[row] = state.probe_temp_c, state.infrared_temp_c
        if is_corrected and row == UPDATE_ROW:
            found = innovations(grid.probe_c[:row, which], grid.infrared_c[:row, which], probe[:row], infrared[:row])
            state = corrected(state, gains, found, p.probe_core_s)
        elif not is_corrected and row == MEMORY_ROW:
            state = corrected(state, gains, tuple(grid.expected[:, which]), p.probe_core_s)
        beans_in = np.clip(row + 1.0 - p.fall_s, 0.0, 1.0)
        controls = (grid.heater_step[row, which], grid.fan_krpm[row, which], grid.voltage_v[row, which])
        knobs = Knobs(*controls, beans_in)
        after = physics.advance(state, knobs, p, mass_kg, STEP_S, np.exp)
        state = after if row >= 5 else after._replace(infrared_temp_c=state.infrared_temp_c)
    return probe, infrared


def openings(grid: Grid, vector: Vector) -> Vector:
    """What each roast's first 90 seconds said beyond the model: innovations × roasts, °C."""
    alone = replace(grid, expected=np.zeros_like(grid.expected), rows=np.minimum(grid.rows, UPDATE_ROW))
    made = run(alone, np.repeat(vector[None], len(grid), axis=0), np.arange(len(grid)), is_corrected=False)
    return np.stack(
        innovations(grid.probe_c[:UPDATE_ROW], grid.infrared_c[:UPDATE_ROW], made[0][:UPDATE_ROW], made[1][:UPDATE_ROW])
    )


def remembered(grid: Grid, vector: Vector) -> list[Remembered]:
    """What each roast of the grid showed under these parameters, in its order; roasts without a time are left out."""
    found = openings(grid, vector)
    return [
        Remembered(float(began_s), tuple(float(value) for value in found[:, number]), grid.beans[number])
        for number, began_s in enumerate(grid.began_s)
        if np.isfinite(began_s)
    ]


def with_memory(grid: Grid, vector: Vector, memory: Sequence[Remembered] = ()) -> Grid:
    """The grid, each roast with what the roasts before it let expect under these parameters: those of the grid,
    and those in ``memory``.
    """
    known = [*memory, *remembered(grid, vector)]
    expected = [expected_from(known, float(at_s), bean) for at_s, bean in zip(grid.began_s, grid.beans, strict=True)]
    return replace(grid, expected=np.stack(expected, axis=1))
