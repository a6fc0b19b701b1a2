"""``fit``: recorded roasts in, one machine's parameters out, with held-out errors beside them. Pure; up to minutes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from roasts.twin import fitting, judging, lanes
from roasts.twin.fitting import RoastError
from roasts.twin.judging import CrackError
from roasts.twin.lanes import Grid
from roasts.twin.memory import Remembered
from roasts.twin.parameters import ErrorGrowth, FittedRange, TwinParameters, constants_of, pack
from roasts.twin.physics import Vector
from roasts.twin.values import CrackTemperature, TwinError, TwinRoast

FEWEST_ROASTS = 3
USUAL_CRACK = CrackTemperature(188.0, 4.0, 0)


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """A fit and what it was judged by: ``judged[i]`` are parameters that do not know ``roasts[i]`` (oldest first)."""

    parameters: TwinParameters
    roasts: tuple[TwinRoast, ...]
    judged: tuple[TwinParameters, ...]
    held_out: tuple[RoastError, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Roasts that had no part in a fit, oldest first, each once, and how far it was off on them.

    ``parameters`` are the judged ones with these roasts in their memory, for pictures of what was judged.
    """

    parameters: TwinParameters
    roasts: tuple[TwinRoast, ...]
    errors: tuple[RoastError, ...]
    cracks: tuple[CrackError, ...]

    def report(self) -> dict[str, Any]:
        """Medians, 90th percentiles and every roast, as JSON. °C, s."""
        return {"errors": summary(self.errors), "first_crack": judging.crack_report(self.cracks),
                "roasts": rows_of(self.errors)}  # fmt: skip


def fit(
    roasts: Sequence[TwinRoast],
    *,
    crack: CrackTemperature | None = None,
    fold_count: int = 0,
    seed: int = 0,
    origin: str = "",
) -> TwinParameters:
    """Parameters fitted on all the roasts, each once; some tens of seconds for 40.

    With ``fold_count`` there is a report of errors on roasts held out in turn (as many further fits), and the
    band is theirs; without, the band is the usual one.

    Raises:
        TwinError: fewer than three different roasts, or a roast that cannot be laid out.
    """
    return calibrate(roasts, crack=crack, fold_count=fold_count, seed=seed, origin=origin).parameters


def calibrate(
    roasts: Sequence[TwinRoast],
    *,
    crack: CrackTemperature | None = None,
    fold_count: int = 10,
    seed: int = 0,
    origin: str = "",
) -> Calibration:
    """As :func:`fit`, with what pictures and further judging need."""
    different = sorted(lanes.unique(roasts), key=lambda roast: roast.began_s or 0.0)
    if len(different) < FEWEST_ROASTS:
        raise TwinError(f"a twin needs at least {FEWEST_ROASTS} different roasts, not {len(different)}")
    grid = lanes.lay_out(different)
    vector = fitting.fit_vector(grid).vector
    constants, gains = constants_of(vector)
    bare = TwinParameters(
        constants=constants,
        gains=gains,
        fitted=fitted_range(different, grid),
        growth=ErrorGrowth(),
        crack=crack_of(different) if crack is None else crack,
        origin=origin or f"fitted on {len(different)} roasts",
        roast_count=len(different),
        data_digest=data_digest(different),
        report={},
        memory=memory_of(grid, vector),
    )
    in_sample = fitting.errors_of(grid, vector, range(len(grid)))
    if not fold_count:
        return Calibration(replace(bare, report=report_of([], in_sample, 0, seed)), tuple(different), (), ())
    return _judged(bare, different, grid, in_sample, min(fold_count, len(grid)), seed)


def _judged(
    bare: TwinParameters,
    roasts: Sequence[TwinRoast],
    grid: Grid,
    in_sample: Sequence[RoastError],
    fold_count: int,
    seed: int,
) -> Calibration:
    """The held-out side: every roast under parameters fitted without it."""
    vectors = held_out_vectors(grid, fold_count, seed)
    held_out = [fitting.errors_of(grid, vector, [number])[0] for number, vector in enumerate(vectors)]
    judged = [_under(bare, grid, vector) for vector in vectors]
    growth = judging.growth_of(roasts, judged, held_out)
    judged = [replace(each, growth=growth) for each in judged]
    cracks = judging.crack_report(judging.crack_errors(roasts, judged))
    report = report_of(held_out, in_sample, fold_count, seed) | {"first_crack": cracks}
    return Calibration(replace(bare, growth=growth, report=report), tuple(roasts), tuple(judged), tuple(held_out))


def judge(parameters: TwinParameters, roasts: Sequence[TwinRoast], others: Sequence[TwinRoast] = ()) -> Judged:
    """Errors on other roasts than those it was fitted on. What began earlier lends its opening and its crack mark:
    of these roasts, of the parameters' memory, and of ``others`` (the roasts it was fitted on).
    """
    different = sorted(lanes.unique(roasts), key=lambda roast: roast.began_s or 0.0)
    grid = lanes.lay_out(different)
    vector = pack(parameters.constants, parameters.gains)
    errors = fitting.errors_of(grid, vector, range(len(grid)), parameters.memory)
    cracks = judging.crack_errors(different, [parameters] * len(different), lanes.unique(others))
    learnt = replace(parameters, memory=(*parameters.memory, *lanes.remembered(grid, vector)))
    return Judged(learnt, tuple(different), tuple(errors), tuple(cracks))


def held_out_vectors(grid: Grid, fold_count: int, seed: int) -> list[Vector]:
    """For every roast the parameters fitted without its fold, in the grid's order; every fit starts at the priors."""
    found: dict[int, Vector] = {}
    for held_out in fitting.folds(len(grid), fold_count, seed):
        vector = fitting.fit_vector(grid, [i for i in range(len(grid)) if i not in held_out]).vector
        found |= dict.fromkeys(held_out, vector)
    return [found[number] for number in range(len(grid))]


def memory_of(grid: Grid, vector: Vector) -> tuple[Remembered, ...]:
    """What each roast's opening said, oldest first; roasts without a time are left out."""
    return tuple(sorted(lanes.remembered(grid, vector), key=lambda one: one.began_s))


def crack_of(roasts: Sequence[TwinRoast]) -> CrackTemperature:
    """The machine's first-crack temperature from these roasts' own marks; the usual one where nobody marked."""
    history = judging.crack_history_of(roasts)
    return judging.crack_temperature_of(history) if history else USUAL_CRACK


def _under(bare: TwinParameters, grid: Grid, vector: Vector) -> TwinParameters:
    """The same machine under another vector, with its memory as that vector sees it."""
    constants, gains = constants_of(vector)
    return replace(bare, constants=constants, gains=gains, memory=memory_of(grid, vector))


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
        "roasts": rows_of(held_out),
    }


def rows_of(errors: Sequence[RoastError]) -> list[dict[str, Any]]:
    """Every roast's errors, as JSON."""
    return [{name: getattr(error, name) for name in RoastError.__slots__} for error in errors]


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
