"""What a moved control did to the beans, in hindsight: what was measured 60 to 90 s later against what the twin, as it
stood just before, expected with the move and without it. Shown; nobody is judged by it.

On real roasts the rate of rise falls in 85 % of such windows with no change at all: only the twin's own curve without
the move says what would have come anyway.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from roasts import outlook, twin
from roasts.models import Roast, Sample
from roasts.store import summaries

#: Seconds after the move.
FROM_S, TO_S = 60.0, 90.0
#: A mean of fewer readings than this in 30 s is none.
FEWEST_SAMPLES = 10


class NotYet(Exception):
    """The window is not over; ask again."""


@dataclass(frozen=True, slots=True)
class Hindsight:
    """Means over the window, °C on the probe. ``within_c``: 80 % of the truth lies within so much of ``with_c``."""

    without_c: float
    with_c: float
    measured_c: float
    within_c: float
    samples: int
    moved: tuple[str, ...]  # controls that moved after the order, before the window's end
    is_extrapolating: bool
    why_extrapolating: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As kept with the order's execution."""
        words = [f"{self.measured_c - self.without_c:+.1f} °C against the twin's curve without it"]
        if self.moved:
            words.append(f"{', '.join(self.moved)} moved meanwhile, so this is not of this order alone")
        if self.is_extrapolating:
            words.append("extrapolating: " + "; ".join(self.why_extrapolating))
        return {
            "window_s": [FROM_S, TO_S],
            "expected_without_c": round(self.without_c, 2),
            "expected_with_c": round(self.with_c, 2),
            "measured_c": round(self.measured_c, 2),
            "within_c": round(self.within_c, 2),
            "samples": self.samples,
            "moved_meanwhile": list(self.moved),
            "is_extrapolating": self.is_extrapolating,
            "why_extrapolating": list(self.why_extrapolating),
            "says": "; ".join(words) + ".",
        }


def hindsight_of(roast: Roast, control: str, step: int, *, moved_at: dt.datetime) -> Hindsight:
    """Of a control that was brought to ``step`` in this roast.

    Raises:
        NotYet: the window's readings are still to come.
        roasts.outlook.NoOutlook: there is no twin, there were no readings, or the roast ended before the window did.
    """
    before = Sample.objects.filter(roast=roast, at__lt=moved_at).order_by("-elapsed_ms").first()
    if before is None:
        raise outlook.NoOutlook("No reading of this roast is older than the order.")
    at_ms = before.elapsed_ms
    until_ms = at_ms + int(TO_S * 1000)
    newest = Sample.objects.filter(roast=roast).order_by("-elapsed_ms").values_list("elapsed_ms", flat=True).first()
    if newest is None or newest < until_ms:
        if roast.status in summaries.CLOSED:
            raise outlook.NoOutlook("The roast ended before the window was over.")
        raise NotYet
    after = list(
        Sample.objects.filter(roast=roast, elapsed_ms__gt=at_ms, elapsed_ms__lte=until_ms)
        .order_by("elapsed_ms")
        .values_list("elapsed_ms", "bean_temp_c", "heater_step", "fan_step", "drum_step")
    )
    measured = [bean_c for ms, bean_c, *_ in after if bean_c is not None and ms >= at_ms + FROM_S * 1000]
    if len(measured) < FEWEST_SAMPLES:
        raise outlook.NoOutlook(f"Only {len(measured)} readings of the beans came in the window.")
    state = outlook.state_at(roast, at_ms)
    found = twin.what_if(state, twin.Order(control, float(step)), TO_S)  # type: ignore[arg-type]
    return Hindsight(
        without_c=_mean(found.times_s, found.without_c, state.elapsed_s),
        with_c=_mean(found.times_s, found.with_c, state.elapsed_s),
        measured_c=float(np.mean(measured)),
        within_c=_mean(found.times_s, found.band.bean_high_c - found.band.bean_temp_c, state.elapsed_s),
        samples=len(measured),
        moved=_moved(after, control, step),
        is_extrapolating=found.is_extrapolating,
        why_extrapolating=found.why_extrapolating,
    )


def _mean(times_s: Any, values: Any, from_elapsed_s: float) -> float:
    """The mean over the window that begins FROM_S after ``from_elapsed_s``."""
    since_s = np.asarray(times_s) - from_elapsed_s
    return float(np.mean(np.asarray(values)[(since_s >= FROM_S) & (since_s <= TO_S)]))


def _moved(after: Sequence[tuple[Any, ...]], control: str, step: int) -> tuple[str, ...]:
    """Controls that changed once the order's own had arrived."""
    names = ("heater", "fan", "drum")
    arrived = next((number for number, row in enumerate(after) if row[2 + names.index(control)] == step), 0)
    found = []
    for place, name in enumerate(names, start=2):
        seen = [row[place] for row in after[arrived:] if row[place] is not None]
        if any(value != seen[0] for value in seen[1:]):
            found.append(name)
    return tuple(found)
