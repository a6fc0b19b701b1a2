"""What a bench says: figures with their bars, and a yardstick measured in the same run. Pure."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One number. ``at_most`` or ``at_least`` is its bar."""

    name: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def is_measured(self) -> bool:
        """False for a figure that is not a number: nothing was measured."""
        return not math.isnan(self.value)

    @property
    def is_passed(self) -> bool:
        """Whether the bar is kept; a figure that is not a number keeps none."""
        if self.at_most is not None and not self.value <= self.at_most:
            return False
        return self.at_least is None or self.value >= self.at_least

    @property
    def bar(self) -> str:
        if self.at_most is not None:
            return f"≤ {self.at_most:g}"
        return f"≥ {self.at_least:g}" if self.at_least is not None else ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A bench's figures. ``yardstick`` says what the ratios are against."""

    bench: str
    figures: tuple[Figure, ...]
    yardstick: str
    is_short: bool
    remarks: tuple[str, ...] = ()

    @property
    def is_passed(self) -> bool:
        """Whether the run counts as good: in a short one, that everything was measured (CI runs them to see that they
        run, not for the times of a busy machine); else that every bar was kept."""
        return all(figure.is_measured and (self.is_short or figure.is_passed) for figure in self.figures)

    def lines(self) -> list[str]:
        """For people."""
        lines = [f"{self.bench}{' (short)' if self.is_short else ''}: yardstick: {self.yardstick}"]
        for figure in self.figures:
            mark = "" if not figure.bar else "ok" if figure.is_passed else "MISSED"
            value = f"{figure.value:>12,.3f} {figure.unit:<9}"
            lines.append(f"  {figure.name:<42} {value} {figure.bar:<10} {mark}".rstrip())
        return lines + [f"  note: {remark}" for remark in self.remarks]

    def as_json(self) -> dict[str, Any]:
        return {
            "bench": self.bench,
            "is_short": self.is_short,
            "is_passed": self.is_passed,
            "yardstick": self.yardstick,
            "figures": [asdict(f) | {"is_passed": f.is_passed} for f in self.figures],
            "remarks": list(self.remarks),
        }


def quantile(values: list[float], share: float) -> float:
    """Nearest-rank quantile; NaN of nothing."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
