"""How the analytics page writes rates and durations; a dash where there is nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import template

register = template.Library()
NOTHING = "–"


@register.filter
def percent(rate: float | None) -> str:
    """0.953 → "95.3 %"; whole percents without a decimal."""
    if rate is None:
        return NOTHING
    return f"{100 * rate:.1f}".removesuffix(".0") + " %"


@register.filter
def duration(value_ms: float | None) -> str:
    """Milliseconds as a person reads them: 240 ms, 1.2 s, 43 s, 5 min, 3 h."""
    if value_ms is None:
        return NOTHING
    if value_ms < 1000:
        return f"{value_ms:.0f} ms"
    seconds = value_ms / 1000
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


@register.filter
def of_most(count: int, rows: Sequence[Any]) -> str:
    """The share of the greatest count, in percent, for a bar."""
    most = max((row["count"] for row in rows), default=0)
    return f"{100 * count / most:.1f}" if most else "0"
