"""The bend that first crack leaves in the rates: beans give off steam and heat unevenly, and the rate falls. Pure.

Everything works on about one point a second (means of what was read in it), so that 1 Hz and 10 Hz look alike.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from typing import NamedTuple


class Point(NamedTuple):
    """Mean of one second: its mean time (seconds), probe and infrared in °C (None: not read).

    A tuple, because a state holds many and is written out between two batches of telemetry.
    """

    at_s: float
    bean_temp_c: float
    infrared_c: float | None = None


@dataclass(frozen=True, slots=True)
class Bends:
    """Log of the rate afterwards over the rate at the crack, of probe and infrared; None: not enough points."""

    bean: float | None
    infrared: float | None


#: A point takes readings for so long: one reading of a log at 1 Hz, eight of a machine read at 10 Hz.
POINT_MS = 750
#: Seconds after a moment that its bend needs.
BEND_AFTER_S = 45.0
#: Seconds before a moment that its bend needs.
BEND_BEFORE_S = 25.0
#: (begin, end) around the moment: the rate at it, and the rate afterwards.
BEAN_AT, BEAN_AFTER = (-15.0, 5.0), (25.0, 45.0)
INFRARED_AT, INFRARED_AFTER = (-25.0, 5.0), (15.0, 45.0)
LOWEST_RATE_C_PER_MIN = 1.0
#: A window needs so many points a second.
FULL_SHARE = 0.4
SMOOTH_INFRARED_S = 5.0
_SECOND, _FIRST = attrgetter("at_s"), itemgetter(0)


def bends_at(points: Sequence[Point], at_s: float) -> Bends:
    """How the rates bend around ``at_s``; points in the order of time. Those outside the windows do not matter."""
    near = points[bisect_left(points, at_s - 26.0, key=_SECOND) : bisect_right(points, at_s + 46.0, key=_SECOND)]
    bean = [(point.at_s, point.bean_temp_c) for point in near]
    eye = [(point.at_s, point.infrared_c) for point in near if point.infrared_c is not None]
    return Bends(_bend(bean, at_s, BEAN_AT, BEAN_AFTER), _bend(eye, at_s, INFRARED_AT, INFRARED_AFTER))


def mean_infrared_c(points: Sequence[Point], at_s: float) -> float | None:
    """Infrared over the last seconds up to ``at_s``: it sees beans and drum by turns and jumps about. ``points`` in
    the order of time."""
    begin, end = bisect_right(points, at_s - SMOOTH_INFRARED_S, key=_SECOND), bisect_right(points, at_s, key=_SECOND)
    seen = [point.infrared_c for point in points[begin:end] if point.infrared_c is not None]
    return sum(seen) / len(seen) if seen else None


def slope_c_per_min(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Least-squares slope of (seconds, °C), in °C/min."""
    count = len(pairs)
    if count < 4:
        return None
    sum_s = sum_c = spread = product = 0.0
    for at_s, temp_c in pairs:  # one loop, not a sum each: four slopes a second of every roast that is on
        sum_s += at_s
        sum_c += temp_c
    middle_s, mean_c = sum_s / count, sum_c / count
    for at_s, temp_c in pairs:
        from_middle_s = at_s - middle_s
        spread += from_middle_s**2
        product += from_middle_s * (temp_c - mean_c)
    return 60 * product / spread if spread > 0 else None


def _bend(
    pairs: Sequence[tuple[float, float]], at_s: float, at: tuple[float, float], after: tuple[float, float]
) -> float | None:
    rates = []
    for begin_s, end_s in (at, after):
        window = pairs[bisect_left(pairs, at_s + begin_s, key=_FIRST) : bisect_right(pairs, at_s + end_s, key=_FIRST)]
        if len(window) < FULL_SHARE * (end_s - begin_s):
            return None
        rate = slope_c_per_min(window)
        if rate is None:
            return None
        rates.append(max(rate, LOWEST_RATE_C_PER_MIN))
    return math.log(rates[1] / rates[0])
