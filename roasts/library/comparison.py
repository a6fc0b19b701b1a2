"""Two roasts laid over each other: how far apart their bean temperatures are, where, and for how long. Pure.

Deviations are ``b - a`` in °C, on a grid of one second, so that no sampling rate weighs more than another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from roasts.curve import Column, Curve, CurveSummary, Marks, summarise

GRID_S = 1.0
ROUNDING_C = 1e-9  # the edge of the tolerance counts in, whatever the last bit says
TOLERANCE_C = 3.0
#: Events two roasts may be laid over each other by.
ALIGNMENTS = ("charge", "turning_point", "dry_end", "first_crack_start", "drop")
#: Short words people type for them.
ALIGNMENT_WORDS = {"first_crack": "first_crack_start", "fc": "first_crack_start", "tp": "turning_point"}
#: A bound whatever a curve's clock says: six hours of one-second grid.
MAX_OVERLAP_S = 6 * 3600


class NotComparable(ValueError):
    """The two cannot be laid over each other: ``reason`` is missing_event, no_overlap or unknown_event."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True, eq=False)
class MarkedCurve:
    """A curve with its marks; ``summary`` spares counting it again."""

    curve: Curve
    marks: Marks = ()
    summary: CurveSummary | None = None

    def counted(self) -> CurveSummary:
        return self.summary if self.summary is not None else summarise(self.curve, self.marks)


@dataclass(frozen=True, slots=True)
class Deviation:
    """Over ``overlap_s`` seconds: root mean square and largest |b - a| in °C, and how long it stayed in tolerance."""

    overlap_s: float
    rmse_c: float
    mean_c: float
    max_deviation_c: float  # signed: b - a where it is farthest
    max_at_s: float  # on a's clock
    within_s: float


@dataclass(frozen=True, slots=True)
class PhaseDifference:
    """One phase of a: the deviation over it, and how much longer b's own phase took (s; None: b has none)."""

    name: str
    deviation: Deviation | None
    longer_by_s: float | None
    share_differs_percent: float | None  # b's percent of its roast minus a's


@dataclass(frozen=True, slots=True)
class Comparison:
    """b against a. ``shift_s`` is added to b's clock to lay it over a's."""

    align: str
    shift_s: float
    tolerance_c: float
    whole: Deviation
    phases: tuple[PhaseDifference, ...]

    @property
    def rmse_c(self) -> float:
        return self.whole.rmse_c

    @property
    def max_deviation_c(self) -> float:
        return self.whole.max_deviation_c

    @property
    def within_s(self) -> float:
        return self.whole.within_s


def compare(a: MarkedCurve, b: MarkedCurve, align: str = "charge", *, tolerance_c: float = TOLERANCE_C) -> Comparison:
    """Lay ``b`` over ``a`` by an event of both and measure, from charge to drop of both.

    Raises NotComparable where an event is missing or the two never overlap.
    """
    summary_a, summary_b = a.counted(), b.counted()
    event = ALIGNMENT_WORDS.get(align, align)
    shift_s = _moment(summary_a, event, "first") - _moment(summary_b, event, "second")
    span_a, span_b = _span(summary_a), _span(summary_b)
    from_s, to_s = max(span_a[0], span_b[0] + shift_s), min(span_a[1], span_b[1] + shift_s)
    if to_s - from_s < GRID_S:
        raise NotComparable("no_overlap", "The two roasts have no moment in common when laid over each other so.")
    grid_s = np.arange(from_s, min(to_s, from_s + MAX_OVERLAP_S) + 1e-9, GRID_S)
    deviation_c = temps_at(b.curve, grid_s - shift_s) - temps_at(a.curve, grid_s)
    whole = _deviation(grid_s, deviation_c, tolerance_c)
    if whole is None:
        raise NotComparable("no_overlap", "One of the two has no bean temperature where the other has.")
    phases = []
    for phase in summary_a.phases:
        rows = (grid_s >= phase.from_s) & (grid_s <= phase.to_s)
        other = summary_b.phase(phase.name)
        phases.append(
            PhaseDifference(
                name=phase.name,
                deviation=_deviation(grid_s[rows], deviation_c[rows], tolerance_c),
                longer_by_s=None if other is None else other.duration_s - phase.duration_s,
                share_differs_percent=None if other is None else other.percent - phase.percent,
            )
        )
    return Comparison(align=event, shift_s=shift_s, tolerance_c=tolerance_c, whole=whole, phases=tuple(phases))


def _moment(summary: CurveSummary, event: str, which: str) -> float:
    if event not in ALIGNMENTS:
        raise NotComparable("unknown_event", f"Roasts are not laid over each other by {event!r}.")
    landmark = summary.landmark(event)
    if landmark is None:
        raise NotComparable("missing_event", f"The {which} roast has no {event.replace('_', ' ')}.")
    return landmark.elapsed_s


def _span(summary: CurveSummary) -> tuple[float, float]:
    charge = summary.landmark("charge")
    from_s = charge.elapsed_s if charge is not None else 0.0
    return from_s, from_s + (summary.total_s or 0.0)


def temps_at(curve: Curve, at_s: Column) -> Column:
    """Bean temperatures at any moments, by the line between neighbours; NaN outside the curve."""
    good = np.isfinite(curve.bean_temp_c)
    if not np.any(good):
        return np.full(len(at_s), np.nan)
    return np.interp(at_s, curve.elapsed_s[good], curve.bean_temp_c[good], left=np.nan, right=np.nan)


def _deviation(at_s: Column, deviation_c: Column, tolerance_c: float) -> Deviation | None:
    good = np.isfinite(deviation_c)
    if not np.any(good):
        return None
    at_s, deviation_c = at_s[good], deviation_c[good]
    farthest = int(np.argmax(np.abs(deviation_c)))
    return Deviation(
        overlap_s=float(len(at_s) * GRID_S),
        rmse_c=float(np.sqrt(np.mean(deviation_c**2))),
        mean_c=float(np.mean(deviation_c)),
        max_deviation_c=float(deviation_c[farthest]),
        max_at_s=float(at_s[farthest]),
        within_s=float(np.count_nonzero(np.abs(deviation_c) <= tolerance_c + ROUNDING_C) * GRID_S),
    )
