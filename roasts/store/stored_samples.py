"""A roast's samples by column, from its rows, or from its pack once they were thinned: the reader cannot tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from roasts.models import PackedRoast, Roast, Sample
from roasts.store import packing
from roasts.store.packing import PackedContent


def read_rows(
    roast_id: str,
    names: Sequence[str],
    *,
    from_ms: int | None = None,
    to_ms: int | None = None,
    limit: int | None = None,
) -> list[tuple[Any, ...]]:
    """Values of the named columns, one tuple a sample, by elapsed time; both bounds included."""
    rows = Sample.objects.filter(roast_id=roast_id).order_by("elapsed_ms")
    if from_ms is not None:
        rows = rows.filter(elapsed_ms__gte=from_ms)
    if to_ms is not None:
        rows = rows.filter(elapsed_ms__lte=to_ms)
    found = list(rows.values_list(*names)[:limit])
    if found:
        return found
    content = thinned_content(roast_id)
    if content is None:
        return []
    elapsed_ms = content.columns["elapsed_ms"]
    low = from_ms if from_ms is not None else -(2**31)
    high = to_ms if to_ms is not None else 2**31
    picked = zip(*(content.columns[name] for name in names), strict=True)
    return [row for at_ms, row in zip(elapsed_ms, picked, strict=True) if low <= at_ms <= high][:limit]


def newest_value(roast_id: str, name: str, *, until_ms: int) -> Any:
    """The last value of a column at or before a moment; None where there is none."""
    rows = Sample.objects.filter(roast_id=roast_id, elapsed_ms__lte=until_ms, **{f"{name}__isnull": False})
    found = rows.order_by("-elapsed_ms").values_list(name, flat=True).first()
    content = thinned_content(roast_id) if found is None else None
    if content is None:
        return found
    pairs = zip(content.columns["elapsed_ms"], content.columns[name], strict=True)
    return next((value for at_ms, value in reversed(list(pairs)) if at_ms <= until_ms and value is not None), None)


def thinned_content(roast_id: str) -> PackedContent | None:
    """What the pack of a thinned roast holds; None where the rows are the record. packing.CorruptPack."""
    packed = PackedRoast.objects.filter(pk=roast_id, thinned_at__isnull=False).first()
    return None if packed is None else packing.unpack(bytes(packed.payload), packed.digest)


def sample_values(roast: Roast) -> list[dict[str, Any]]:
    """Every sample of a roast with all its columns."""
    names = tuple(packing.COLUMNS)
    return [dict(zip(names, row, strict=True)) for row in read_rows(roast.pk, names)]
