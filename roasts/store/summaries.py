"""The summary of a closed roast, kept with it: counted at its close, and again when a mark or a weight is corrected."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from typing import Any

from kernel.canonical import utc_text
from roasts.curve import (
    BULLET_R1_HEATER,
    BULLET_R2_HEATER,
    CurveSettings,
    CurveSummary,
    HeaterModel,
    Weights,
    summarise,
)
from roasts.models import Roast, RoastStatus
from roasts.store import stored_curve

CLOSED = frozenset({RoastStatus.FINISHED.value, RoastStatus.ABORTED.value})
#: Machines whose heater's power we can assume from its step.
HEATERS: dict[str, HeaterModel] = {"bullet-r1": BULLET_R1_HEATER, "bullet-r2": BULLET_R2_HEATER}
DIGITS = 4


def settings_of(roast: Roast, **chosen: Any) -> CurveSettings:
    """The house's settings for this roast's machine; ``chosen`` overrides what a person asked for."""
    return CurveSettings(heater=HEATERS.get(roast.machine.driver_kind), **chosen)


def weights_of(roast: Roast) -> Weights:
    """Green in and roasted out, grams."""
    return Weights(roast.weight_in_g, roast.weight_out_g)


def count(roast: Roast, settings: CurveSettings | None = None) -> CurveSummary:
    """Count the roast as it is stored now. Two queries more than its samples need."""
    curve, marks = stored_curve.load_curve(roast), stored_curve.load_marks(roast)
    return summarise(curve, marks, settings or settings_of(roast), weights_of(roast))


def summarise_roast(roast: Roast, *, now: dt.datetime, counted: CurveSummary | None = None) -> CurveSummary | None:
    """Count a closed roast and keep what came out; None (and nothing kept) while it is open. ``counted``: by who has
    just stored the very curve, and need not read it back.

    From here on the database refuses to change the roast but by corrections (`roasts.store.closed_guards`).
    """
    if roast.status not in CLOSED:
        return None
    summary = counted or count(roast)
    drop = summary.landmark("drop")
    values = {
        "summary": {**summary_to_json(summary), "counted_at": utc_text(now)},
        "total_ms": _ms(summary.total_s) if summary.is_dropped else None,
        "first_crack_ms": _ms(summary.first_crack_s),
        "development_ratio": summary.development_ratio,
        "drop_bean_temp_c": drop.bean_temp_c if drop is not None else None,
    }
    Roast.objects.filter(pk=roast.pk).update(**values)
    for name, value in values.items():
        setattr(roast, name, value)
    return summary


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def summary_to_json(summary: CurveSummary) -> dict[str, Any]:
    """The summary as plain JSON values, numbers to four digits; durations beside their begin and end."""
    found = to_plain(summary)
    for phase, row in zip(summary.phases, found["phases"], strict=True):
        row["duration_s"] = round(phase.duration_s, DIGITS)
    found["turning_point_s"] = _plain(summary.turning_point_s)
    found["first_crack_s"] = _plain(summary.first_crack_s)
    found["dry_phase_s"] = _plain(summary.dry_phase_s)
    return found


def to_plain(value: Any) -> Any:
    """A value of the curve's modules (a dataclass) as plain JSON."""
    return _plain(dataclasses.asdict(value))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return round(value, DIGITS) if math.isfinite(value) else None
    return value
