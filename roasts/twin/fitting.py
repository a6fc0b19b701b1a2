"""Calibration: least squares with priors over many roasts in parallel lanes, and honest held-out errors.

One residual vector holds every roast with equal weight, in two ways at once: after readings up to 90 s
went in, and with nothing after charge. Jacobians are finite differences run as further lanes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from roasts.twin import lanes
from roasts.twin.lanes import Grid
from roasts.twin.memory import Remembered
from roasts.twin.parameters import prior_spreads, prior_vector
from roasts.twin.physics import Vector

#: How many independent °C a roast is worth against one prior: its residuals are strongly correlated.
ROAST_WEIGHT = 3.0
CHARGE_ONLY_WEIGHT = 0.5
INFRARED_WEIGHT = 0.7
COMPARED_EVERY_ROWS = 5
DIFFERENCE = 1e-4  # finite difference, as a share of the prior's spread
LARGE_RESIDUAL_C = 3.0  # from here on a residual counts linearly (soft L1)
MOST_STEPS, MOST_MORE_STEPS = 20, 8


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A fitted vector (see parameters.prior_vector) and what it cost."""

    vector: Vector
    cost: float
    evaluations: int


@dataclass(frozen=True, slots=True)
class RoastError:
    """Root mean square errors of one roast, °C.

    ``known``: readings up to 90 s after charge went in, compared from there to the drop.
    ``blind``: nothing after charge went in, compared from the turning point to the drop; ``alone``: nor what
    the machine's earlier roasts showed.
    """

    name: str
    known_probe_c: float
    known_infrared_c: float
    blind_probe_c: float
    blind_infrared_c: float
    alone_probe_c: float


class Problem:
    """The residuals of some roasts of a grid, as scipy wants them."""

    def __init__(self, grid: Grid, rows_of: NDArray[np.int64]) -> None:
        self.grid, self.which = grid, rows_of
        self.centre, self.spread = prior_vector(), prior_spreads()
        row_count = int(grid.rows[rows_of].max()) + 1
        row = np.arange(row_count)[:, None]
        inside = row <= grid.rows[rows_of]
        self.probe, self.infrared = grid.probe_c[:row_count, rows_of], grid.infrared_c[:row_count, rows_of]
        compared = inside & (row % COMPARED_EVERY_ROWS == 0)
        known = compared & (row > lanes.UPDATE_ROW)
        blind = compared & (row >= 10)
        self.parts = (
            _Part(known & np.isfinite(self.probe), True, True, 1.0),
            _Part(known & np.isfinite(self.infrared), True, False, INFRARED_WEIGHT),
            _Part(blind & np.isfinite(self.probe), False, True, CHARGE_ONLY_WEIGHT),
            _Part(blind & np.isfinite(self.infrared) & (row >= lanes.EYE_OPENS_ROW), False, False,
                  CHARGE_ONLY_WEIGHT * INFRARED_WEIGHT),
        )  # fmt: skip

    def residuals(self, vector: Vector) -> Vector:
        """Weighted differences of all parts, then the pull of the priors."""
        return np.concatenate([self._many(vector[None])[0], (vector - self.centre) / self.spread])

    def jacobian(self, vector: Vector) -> Vector:
        """Finite differences: one further lane per roast and parameter."""
        steps = DIFFERENCE * self.spread
        moved = self._many(np.vstack([vector, vector + np.diag(steps)]))
        slopes = (moved[1:] - moved[0]) / steps[:, None]
        return np.vstack([slopes.T, np.diag(1.0 / self.spread)])

    def _many(self, vectors: Vector) -> Vector:
        """Residuals without priors for each of several vectors: vectors × residuals."""
        count, roast_count = len(vectors), len(self.which)
        which, repeated = np.tile(self.which, count), np.repeat(vectors, roast_count, axis=0)
        runs = {flag: lanes.run(self.grid, repeated, which, is_corrected=flag) for flag in (True, False)}
        return np.stack([self._residuals_of(runs, number, roast_count) for number in range(count)])

    def _residuals_of(self, runs: dict[bool, tuple[Vector, Vector]], number: int, roast_count: int) -> Vector:
        found, span = [], slice(number * roast_count, (number + 1) * roast_count)
        for part in self.parts:
            made = runs[part.is_known][0 if part.is_probe else 1][:, span]
            seen = self.probe if part.is_probe else self.infrared
            off = soft((made - seen)[part.mask])
            found.append(off * (part.weight * np.broadcast_to(part.share, part.mask.shape)[part.mask]))
        return np.concatenate(found) * np.sqrt(ROAST_WEIGHT)


class _Part:
    """One sensor under one way of running: which cells are compared and how much they count."""

    def __init__(self, mask: NDArray[np.bool_], is_known: bool, is_probe: bool, weight: float) -> None:
        self.mask, self.is_known, self.is_probe, self.weight = mask, is_known, is_probe, weight
        self.share = 1.0 / np.sqrt(np.maximum(1, mask.sum(axis=0)))


def soft(off_c: Vector) -> Vector:
    """Signed square root of the soft-L1 loss: small differences squared, large ones linear."""
    squared = 2.0 * LARGE_RESIDUAL_C**2 * (np.sqrt(1.0 + (off_c / LARGE_RESIDUAL_C) ** 2) - 1.0)
    return np.asarray(np.sign(off_c) * np.sqrt(squared))


def fit_vector(grid: Grid, which: Sequence[int] | None = None, start: Vector | None = None, most: int = 0) -> Fitted:
    """The vector that explains the roasts ``which`` of the grid best (all when left out), starting at ``start``.

    Two passes: what earlier roasts let expect depends on the vector, so the second fits with the first's memory.
    """
    chosen = np.arange(len(grid)) if which is None else np.asarray(which, dtype=np.int64)
    first = _solved(Problem(grid, chosen), prior_vector() if start is None else start, most or MOST_STEPS)
    second = _solved(Problem(lanes.with_memory(grid, first.vector), chosen), first.vector, most or MOST_MORE_STEPS)
    return Fitted(second.vector, second.cost, first.evaluations + second.evaluations)


def _solved(problem: Problem, start: Vector, most: int) -> Fitted:
    from scipy.optimize import least_squares  # half a second of CPU that no other process of the house need pay

    found = least_squares(
        problem.residuals, start, problem.jacobian, x_scale=problem.spread, max_nfev=most, ftol=1e-4, xtol=1e-4
    )
    return Fitted(np.asarray(found.x), float(found.cost), int(found.nfev))


def errors_of(grid: Grid, vector: Vector, which: Sequence[int], memory: Sequence[Remembered] = ()) -> list[RoastError]:
    """How far the model is off on roasts it runs open loop; earlier roasts, of the grid or in ``memory``, lend
    their openings.
    """
    chosen = np.asarray(which, dtype=np.int64)
    repeated = np.repeat(vector[None], len(chosen), axis=0)
    known = lanes.run(grid, repeated, chosen, is_corrected=True)
    blind = lanes.run(lanes.with_memory(grid, vector, memory), repeated, chosen, is_corrected=False)
    alone = lanes.run(replace(grid, expected=np.zeros_like(grid.expected)), repeated, chosen, is_corrected=False)
    found = []
    for lane, roast in enumerate(chosen):
        last = int(grid.rows[roast]) + 1
        probe, infrared = grid.probe_c[:last, roast], grid.infrared_c[:last, roast]
        turn, after = int(np.nanargmin(probe)), lanes.UPDATE_ROW + 1
        found.append(
            RoastError(
                grid.names[roast],
                _rmse((known[0][:last, lane] - probe)[after:]),
                _rmse((known[1][:last, lane] - infrared)[after:]),
                _rmse((blind[0][:last, lane] - probe)[turn:]),
                _rmse((blind[1][:last, lane] - infrared)[turn:]),
                _rmse((alone[0][:last, lane] - probe)[turn:]),
            )
        )
    return found


def folds(count: int, fold_count: int, seed: int) -> list[list[int]]:
    """Roast numbers shuffled into folds; the same seed gives the same folds."""
    order = np.random.default_rng(seed).permutation(count)
    return [sorted(int(i) for i in order[first::fold_count]) for first in range(fold_count)]


def _rmse(off_c: Vector) -> float:
    good = off_c[np.isfinite(off_c)]
    return float(np.sqrt(np.mean(good**2))) if len(good) else float("nan")
