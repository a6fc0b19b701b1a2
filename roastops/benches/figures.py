"""What a bench says: figures with their bars, and a yardstick measured in the same run. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

SHORT_SLACK = 4.0  # a short run on a busy machine may be this many times slower before it fails


@dataclass(frozen=True, slots=True)
class Figure:
    """One number. ``at_most`` or ``at_least`` is its bar; ``is_ratio`` figures keep their bar in a short run."""

    name: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None
    is_ratio: bool = False

    def passes(self, *, is_short: bool) -> bool:
        """Whether the bar is kept; a figure that is not a number keeps none."""
        slack = SHORT_SLACK if is_short and not self.is_ratio else 1.0
        if self.at_most is not None and not self.value <= self.at_most * slack:
            return False
        return self.at_least is None or self.value >= self.at_least / slack

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
        return all(figure.passes(is_short=self.is_short) for figure in self.figures)

    def lines(self) -> list[str]:
        """For people."""
        lines = [f"{self.bench}{' (short)' if self.is_short else ''}: yardstick: {self.yardstick}"]
        for figure in self.figures:
            mark = "" if not figure.bar else "ok" if figure.passes(is_short=self.is_short) else "MISSED"
            value = f"{figure.value:>12,.3f} {figure.unit:<9}"
            lines.append(f"  {figure.name:<42} {value} {figure.bar:<10} {mark}".rstrip())
        return lines + [f"  note: {remark}" for remark in self.remarks]

    def as_json(self) -> dict[str, Any]:
        return {
            "bench": self.bench,
            "is_short": self.is_short,
            "is_passed": self.is_passed,
            "yardstick": self.yardstick,
            "figures": [asdict(f) | {"is_passed": f.passes(is_short=self.is_short)} for f in self.figures],
            "remarks": list(self.remarks),
        }


def quantile(values: list[float], share: float) -> float:
    """Nearest-rank quantile; NaN of nothing."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
