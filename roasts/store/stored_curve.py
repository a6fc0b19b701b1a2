"""A stored roast as a `Curve` and its `Marks`: from its rows, or from its packed object once it was thinned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from roasts.curve import Column, Curve, Mark, Marks
from roasts.models import ImportedFile, Roast, RoastSource, Sample
from roasts.store import stored_samples

#: Columns of a sample that a curve has, in the order they are read.
TEMPERATURES = ("bean_temp_c", "infrared_temp_c", "environment_temp_c", "exhaust_temp_c", "ambient_temp_c")
CONTROLS = ("heater_step", "fan_step", "drum_step", "fan_rpm", "voltage_v")
FIELDS = (*TEMPERATURES, *CONTROLS)
#: Temperatures that a reading may call stale or absent: such a value is no value.
DOUBTED = ("bean_temp_c", "infrared_temp_c")
MAX_ROWS = 200_000


def load_curve(roast: Roast) -> Curve:
    """The whole roast. Seconds since charge; a channel that never had a value is None."""
    rows = stored_samples.read_rows(roast.pk, ("elapsed_ms", "state", *FIELDS), limit=MAX_ROWS)
    if not rows:
        return Curve(elapsed_s=np.empty(0), bean_temp_c=np.empty(0))
    elapsed_ms, states, *columns = zip(*rows, strict=True)
    found = {name: _column(values) for name, values in zip(FIELDS, columns, strict=True)}
    elapsed_s = np.asarray(elapsed_ms, dtype=float) / 1000
    _leave_out_doubted(roast, elapsed_s, found)
    curve = curve_of(elapsed_s, found, states)
    return _with_source(curve, roast) if roast.source == RoastSource.IMPORTED.value else curve


def _with_source(curve: Curve, roast: Roast) -> Curve:
    """The curve with where its imported file itself lets drying end and its area begin."""
    said = ImportedFile.objects.filter(roast=roast).values("dry_end_c", "area_from_s").first()
    return curve if said is None else replace(curve, **said)


def curve_of(elapsed_s: Column, columns: dict[str, Column], states: Sequence[str] | None) -> Curve:
    """A curve of columns by their names; an empty column becomes None, but for the bean temperature."""
    kept: dict[str, Any] = {name: column for name, column in columns.items() if np.any(np.isfinite(column))}
    bean_temp_c = kept.pop("bean_temp_c", np.full(len(elapsed_s), np.nan))
    return Curve(elapsed_s=elapsed_s, bean_temp_c=bean_temp_c, state=tuple(states) if states else None, **kept)


def _column(values: Sequence[float | None]) -> Column:
    return np.array(values, dtype=float)  # None becomes NaN


def _leave_out_doubted(roast: Roast, elapsed_s: Column, columns: dict[str, Column]) -> None:
    for name in DOUBTED:
        moments_s = np.asarray(_doubted_ms(roast, name), dtype=float) / 1000
        if len(moments_s):
            columns[name][np.isin(elapsed_s, moments_s)] = np.nan


def _doubted_ms(roast: Roast, name: str) -> list[int]:
    """When a reading called this field stale or absent; from the packed object where the rows are gone."""
    doubted = list(Sample.objects.filter(roast=roast, quality__has_key=name).values_list("elapsed_ms", flat=True))
    content = None if doubted else stored_samples.thinned_content(roast.pk)
    if content is None:
        return doubted
    pairs = zip(content.columns["elapsed_ms"], content.columns["quality"], strict=True)
    return [elapsed_ms for elapsed_ms, quality in pairs if name in quality]


def load_marks(roast: Roast) -> Marks:
    """The marks that stand; of several of a kind `curve.winner_of` says which counts."""
    standing = roast.events.filter(withdrawn_at__isnull=True).order_by("at", "id")
    return tuple(
        Mark(kind, elapsed_ms / 1000, source, confidence, text)
        for kind, elapsed_ms, source, confidence, text in standing.values_list(
            "kind", "elapsed_ms", "source", "confidence", "text"
        )
    )
