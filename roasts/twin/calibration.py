"""``fit``: recorded roasts in, one machine's parameters out, with held-out errors beside them. Pure; up to minutes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from roasts.twin import fitting, lanes
from roasts.twin.fitting import RoastError
from roasts.twin.lanes import Grid
from roasts.twin.parameters import ErrorGrowth, FittedRange, TwinParameters, constants_of
from roasts.twin.physics import Vector
from roasts.twin.values import CrackTemperature, TwinError, TwinRoast

FEWEST_ROASTS = 3
USUAL_CRACK = CrackTemperature(188.0, 4.0, 0)
GROWTH_AHEAD_S = (0.0, 15.0, 30.0, 60.0, 90.0, 120.0, 180.0, 300.0, 450.0)


def fit(
    roasts: Sequence[TwinRoast],
    *,
    crack: CrackTemperature | None = None,
    fold_count: int = 10,
    seed: int = 0,
    origin: str = "",
) -> TwinParameters:
    """Parameters fitted on all the roasts (each once), with a report of errors on roasts held out in turn.

    ``fold_count`` 0 leaves the held-out report away (and the band is then the priors' own).

    Raises:
        TwinError: fewer than three different roasts, or a roast that cannot be laid out.
    """
    different = lanes.unique(roasts)
    if len(different) < FEWEST_ROASTS:
        raise TwinError(f"a twin needs at least {FEWEST_ROASTS} different roasts, not {len(different)}")
    grid = lanes.lay_out(different)
    whole = fitting.fit_vector(grid)
    held_out = cross_validate(grid, min(fold_count, len(grid)), seed) if fold_count else []
    constants, gains = constants_of(whole.vector)
    return TwinParameters(
        constants=constants,
        gains=gains,
        fitted=fitted_range(different, grid),
        growth=ErrorGrowth(),
        crack=USUAL_CRACK if crack is None else crack,
        origin=origin or f"fitted on {len(different)} roasts",
        roast_count=len(different),
        data_digest=data_digest(different),
        report=report_of(held_out, fitting.errors_of(grid, whole.vector, range(len(grid))), fold_count, seed),
    )


def cross_validate(grid: Grid, fold_count: int, seed: int) -> list[RoastError]:
    """Errors of every roast under parameters fitted without its fold, in the grid's order; fits start at the priors."""
    found: dict[int, RoastError] = {}
    for held_out in fitting.folds(len(grid), fold_count, seed):
        vector = fitting.fit_vector(grid, [i for i in range(len(grid)) if i not in held_out]).vector
        found |= dict(zip(held_out, fitting.errors_of(grid, vector, held_out), strict=True))
    return [found[number] for number in range(len(grid))]


def data_digest(roasts: Sequence[TwinRoast]) -> str:
    """SHA-256 over the digests of the roasts, whatever their order."""
    return hashlib.sha256("".join(sorted(lanes.roast_digest(roast) for roast in roasts)).encode()).hexdigest()


def fitted_range(roasts: Sequence[TwinRoast], grid: Grid) -> FittedRange:
    """Where the recorded roasts were."""
    drums, fans = [], []
    for roast in roasts:
        inside = (roast.curve.elapsed_s >= 10.0) & (roast.curve.elapsed_s <= roast.drop_s - 5.0)
        drums.append(lanes.held(roast.curve.elapsed_s, roast.curve.drum_step, roast.curve.elapsed_s, 9.0)[inside])
        fans.append(lanes.held(roast.curve.elapsed_s, roast.curve.fan_step, roast.curve.elapsed_s, 2.0)[inside])
    return FittedRange(
        mass_kg=_span(grid.mass_kg),
        voltage_v=_span(grid.voltage_v),
        drum_step=_span(np.concatenate(drums)),
        heater_step=_span(grid.heater_step),
        fan_step=_span(np.concatenate(fans)),
        preheat_temp_c=_span(grid.preheat_c),
        probe_charge_c=_span(grid.probe_charge_c),
        duration_s=_span(np.asarray(grid.rows * lanes.STEP_S, dtype=np.float64)),
    )


def report_of(
    held_out: Sequence[RoastError], in_sample: Sequence[RoastError], fold_count: int, seed: int
) -> dict[str, Any]:
    """Medians, 90th percentiles and every roast, as JSON. °C."""
    return {
        "held_out": summary(held_out) if held_out else {},
        "in_sample": summary(in_sample),
        "fold_count": fold_count,
        "seed": seed,
        "roasts": [{name: getattr(error, name) for name in RoastError.__slots__} for error in held_out],
    }


def summary(errors: Sequence[RoastError]) -> dict[str, dict[str, float]]:
    """Median and 90th percentile over roasts of each error, °C."""
    found = {}
    for name in RoastError.__slots__[1:]:
        values = np.array([getattr(error, name) for error in errors])
        values = values[np.isfinite(values)]
        if len(values):
            found[name] = {"median": float(np.median(values)), "p90": float(np.percentile(values, 90))}
    return found


def _span(values: Vector) -> tuple[float, float]:
    return float(np.nanmin(values)), float(np.nanmax(values))
