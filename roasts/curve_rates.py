"""Rates of rise over a whole roast: the causal one, one that looks ahead, and what goes wrong after first crack. Pure.

Arrays in, arrays out: times in seconds, temperatures °C, rates °C/min; a missing value is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from roasts.rate_of_rise import FULL_SHARE, MAX_GAP_S, MAX_POINTS, WINDOW_S

Column = NDArray[np.float64]

#: Half the window of the centred rate: as wide as the causal one, but around its moment.
CENTRED_HALF_S = WINDOW_S / 2
#: Crash and flick are read from a 30-second rate (spec/roasts.md "Curve").
CRASH_WINDOW_S = 30.0
CRASH_WITHIN_S = 30.0
CRASH_FALL_C_PER_MIN = 4.0
FLICK_RISE_C_PER_MIN = 2.0
FLICK_FOR_S = 15.0
#: The fall begins where the rate was last this close to its high, and ends where it is first this close to its low.
EDGE_C_PER_MIN = 0.1
#: A bound, whatever a file holds: a roast that crashed more often is told by its first ones.
MAX_CRASHES = 10


@dataclass(frozen=True, slots=True)
class Crash:
    """After first crack the 30-second rate fell by ``fall_c_per_min`` with all controls left alone.

    ``from_s`` is the rate's high, ``bottom_s`` its low before it rises by 2 °C/min, a control moves or the beans drop.
    """

    from_s: float
    bottom_s: float
    fall_c_per_min: float


@dataclass(frozen=True, slots=True)
class Flick:
    """After a crash the 30-second rate stood at least 2 °C/min above its low for ``for_s`` (at least 15 s)."""

    from_s: float
    for_s: float
    rise_c_per_min: float


def causal_rate(times_s: Column, temps_c: Column, *, window_s: float = WINDOW_S, from_s: float = -np.inf) -> Column:
    """The rate everything is decided by (`roasts.rate_of_rise`), at every row; NaN where it has none.

    It starts over at ``from_s`` (the charge), as the recorder's does. All rows at once: what `RateOfRise.step` says one
    after the other (held together by a test), thirty times as fast.
    """
    found = np.full(len(times_s), np.nan)
    first = int(np.searchsorted(times_s, from_s))
    rows_ms, temps = np.round(times_s[first:] * 1000), temps_c[first:]
    good = np.flatnonzero(np.isfinite(temps))
    good = good[np.concatenate(([True], np.diff(rows_ms[good]) > 0))] if len(good) else good
    if len(good) < 3:
        return found
    rates = _causal_at(rows_ms[good], temps[good], window_s * 1000)
    # a row without a reading keeps the last rate, until the silence is a gap
    last = np.searchsorted(good, np.arange(len(rows_ms)), side="right") - 1
    is_held = (last >= 0) & (rows_ms - rows_ms[good[last]] <= MAX_GAP_S * 1000)
    found[first:] = np.where(is_held, rates[last], np.nan)
    return found


def _causal_at(times_ms: Column, temps_c: Column, window_ms: float) -> Column:
    """The causal rate at each reading: over its window, but not over a gap and not over more than MAX_POINTS."""
    places = np.arange(len(times_ms))
    after_gap = np.concatenate(([True], np.diff(times_ms) > MAX_GAP_S * 1000))
    segment = np.maximum.accumulate(np.where(after_gap, places, 0))
    low = np.maximum(np.searchsorted(times_ms, times_ms - window_ms), np.maximum(segment, places - MAX_POINTS + 1))
    # counted from the first reading, not from the mean: no digit of a rate comes from the future
    slopes = _slopes((times_ms - times_ms[0]) / 1000, temps_c - temps_c[0], low, places + 1)
    return np.where(times_ms - times_ms[low] >= FULL_SHARE * window_ms, slopes, np.nan)


def centred_rate(times_s: Column, temps_c: Column, *, half_s: float = CENTRED_HALF_S) -> Column:
    """The least-squares slope over ``half_s`` before *and after* each row, °C/min: for looking back only.

    It sees the future, so nothing may be decided by it. NaN where a side is missing or fewer than 3 readings stand.
    """
    good = np.isfinite(temps_c)
    rows = np.flatnonzero(good)
    found = np.full(len(times_s), np.nan)
    if len(rows) < 3:
        return found
    at_s, at_c = times_s[rows] - np.mean(times_s[rows]), temps_c[rows] - np.mean(temps_c[rows])
    low = np.searchsorted(at_s, at_s - half_s, side="left")
    high = np.searchsorted(at_s, at_s + half_s, side="right")
    slopes = _slopes(at_s, at_c, low, high)
    has_both_sides = (at_s - at_s[low] >= 0.75 * half_s) & (at_s[high - 1] - at_s >= 0.75 * half_s)
    found[rows] = np.where(has_both_sides, slopes, np.nan)
    return found


def _slopes(at_s: Column, at_c: Column, low: NDArray[np.intp], high: NDArray[np.intp]) -> Column:
    """Slope ×60 of each window [low, high) by running sums (both columns centred: large squares lose digits)."""
    sums = [np.concatenate(([0.0], np.cumsum(column))) for column in (at_s, at_c, at_s * at_s, at_s * at_c)]
    sum_t, sum_c, sum_tt, sum_tc = (column[high] - column[low] for column in sums)
    count = high - low
    spread = count * sum_tt - sum_t**2
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = 60 * (count * sum_tc - sum_t * sum_c) / spread
    return np.where((count >= 3) & (spread > 1e-9), slopes, np.nan)


def slope_c_per_min2(times_s: Column, rates_c_per_min: Column) -> float | None:
    """How fast the rate itself changes: its least-squares slope over time, °C/min per minute; None below 3 values."""
    good = np.isfinite(rates_c_per_min)
    if np.count_nonzero(good) < 3:
        return None
    at_min = times_s[good] / 60 - np.mean(times_s[good]) / 60
    spread = float(np.sum(at_min**2))
    if spread <= 0:
        return None
    return float(np.sum(at_min * rates_c_per_min[good]) / spread)


def changes_s(times_s: Column, *controls: Column | None) -> Column:
    """When any of these controls stood at another step than at the row before; rows without a value do not count."""
    moments: list[Column] = []
    for column in controls:
        if column is None:
            continue
        known = np.flatnonzero(np.isfinite(column))
        moved = known[1:][np.diff(column[known]) != 0]
        moments.append(times_s[moved])
    return np.unique(np.concatenate(moments)) if moments else np.empty(0)


def find_crashes(
    times_s: Column, temps_c: Column, moved_s: Column, *, crack_s: float, end_s: float
) -> tuple[tuple[Crash, ...], tuple[Flick, ...]]:
    """Crashes and flicks between first crack and ``end_s`` (the drop, or the last reading).

    Crash (spec/roasts.md): the 30-second rate falls more than 4 °C/min within 30 s without a control change.
    Flick: it then rises by 2 °C/min or more and stays there for 15 s or more.
    """
    rows = (times_s >= crack_s - CRASH_WINDOW_S) & (times_s <= end_s)
    at_s = times_s[rows]
    rates = causal_rate(at_s, temps_c[rows], window_s=CRASH_WINDOW_S)
    usable = (at_s >= crack_s) & np.isfinite(rates)
    at_s, rates = at_s[usable], rates[usable]
    crashes: list[Crash] = []
    flicks: list[Flick] = []
    row = 0
    while row < len(at_s) and len(crashes) < MAX_CRASHES:
        found = _first_fall(at_s, rates, moved_s, row)
        if found is None:
            break
        crash, bottom = found
        crashes.append(crash)
        flick = _flick_after(at_s, rates, bottom)
        if flick is not None:
            flicks.append(flick)
        row = bottom + 1
    return tuple(crashes), tuple(flicks)


def _first_fall(at_s: Column, rates: Column, moved_s: Column, first: int) -> tuple[Crash, int] | None:
    """The first crash at or after row ``first``, and the row of its low."""
    for row in range(first, len(at_s)):
        low_row = max(first, int(np.searchsorted(at_s, at_s[row] - CRASH_WITHIN_S)))
        moved = moved_s[moved_s <= at_s[row]]
        if len(moved):
            low_row = max(low_row, int(np.searchsorted(at_s, moved[-1], side="right")))
        if low_row >= row:
            continue
        highest = float(np.max(rates[low_row : row + 1]))
        if highest - rates[row] > CRASH_FALL_C_PER_MIN:
            high = low_row + int(np.flatnonzero(rates[low_row : row + 1] >= highest - EDGE_C_PER_MIN)[-1])
            bottom = _bottom_from(at_s, rates, moved_s, row)
            fall = highest - float(np.min(rates[row : bottom + 1]))
            return Crash(float(at_s[high]), float(at_s[bottom]), fall), bottom
    return None


def _bottom_from(at_s: Column, rates: Column, moved_s: Column, row: int) -> int:
    """The row of the low: before the rate rises by a flick's height, a control moves, or the readings end."""
    lowest = row
    for later in range(row, len(at_s)):
        if rates[later] < rates[lowest]:
            lowest = later
        if rates[later] - rates[lowest] >= FLICK_RISE_C_PER_MIN:
            break
        if np.any((moved_s > at_s[row]) & (moved_s <= at_s[later])):
            break
    is_low = rates[row : lowest + 1] <= rates[lowest] + EDGE_C_PER_MIN
    return row + int(np.argmax(is_low))


def _flick_after(at_s: Column, rates: Column, bottom: int) -> Flick | None:
    """The first stretch after the low that stands high enough for long enough."""
    is_up = rates[bottom:] - rates[bottom] >= FLICK_RISE_C_PER_MIN
    start: int | None = None
    for offset in range(len(is_up)):
        row = bottom + offset
        if is_up[offset] and start is None:
            start = row
        is_last = offset == len(is_up) - 1
        if start is not None and (not is_up[offset] or is_last):
            end = row if is_up[offset] else row - 1
            if at_s[end] - at_s[start] >= FLICK_FOR_S:
                rise = float(np.max(rates[start : end + 1]) - rates[bottom])
                return Flick(float(at_s[start]), float(at_s[end] - at_s[start]), rise)
            start = None
    return None
