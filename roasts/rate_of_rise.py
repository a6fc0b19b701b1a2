"""The one causal rate of rise, used wherever something is decided. Pure.

Formula: the least-squares slope of temperature over device time, over the readings of the last
``WINDOW_S`` seconds (closed interval), times 60. With ``u = t - t_last`` in seconds and ``n`` points::

    rate = 60 * (n*sum(u*T) - sum(u)*sum(T)) / (n*sum(u*u) - sum(u)**2)      [°C/min]

Only the past goes in, so it lags a steady bend by about half the window (10 s). It is ``None`` until the
window is full, and again after a gap: a rate over a hole would be a guess. (Artisan's live formula is
an end-point difference over the same span; a fitted slope is quieter at 10 Hz. Reference §4.3.)
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

WINDOW_S = 20.0
MAX_GAP_S = 5.0
#: The window counts as full when its points span this share of it (readings never fall exactly on its edge).
FULL_SHARE = 0.95
#: A bound on memory whatever a source sends: 20 s at 50 readings/s.
MAX_POINTS = 1000


class RateOfRise:
    """Feed readings in device order with :meth:`step`; it answers the rate after each."""

    __slots__ = ("_max_gap_ms", "_origin_ms", "_points", "_sum_t", "_sum_u", "_sum_ut", "_sum_uu", "_window_ms", "rate")

    def __init__(self, window_s: float = WINDOW_S, max_gap_s: float = MAX_GAP_S) -> None:
        self._window_ms = round(window_s * 1000)
        self._max_gap_ms = round(max_gap_s * 1000)
        self._points: deque[tuple[int, float]] = deque()
        self._origin_ms = 0
        self.rate: float | None = None
        self.reset()

    def reset(self) -> None:
        """Forget everything: at charge, and after a gap."""
        self._points.clear()
        self._sum_u = self._sum_t = self._sum_uu = self._sum_ut = 0.0
        self.rate = None

    def step(self, device_ms: int, temp_c: float | None) -> float | None:
        """Take one reading; °C/min or None. A missing value or a repeated time changes nothing;
        time going back, or a hole of more than ``max_gap_s``, starts over.
        """
        if temp_c is None or not math.isfinite(temp_c):
            return self._when_missing(device_ms)
        if self._points:
            passed_ms = device_ms - self._points[-1][0]
            if passed_ms == 0:
                return self.rate
            if passed_ms < 0 or passed_ms > self._max_gap_ms:
                self.reset()
        self._add(device_ms, temp_c)
        if self._points[0][0] < device_ms - self._window_ms:
            self._forget_before(device_ms - self._window_ms)
        self.rate = self._slope(device_ms)
        return self.rate

    def kept(self) -> dict[str, Any]:
        """All that it knows as JSON values, to the bit: sums that were added to for long differ from sums made anew."""
        sums = [self._sum_u, self._sum_t, self._sum_uu, self._sum_ut]
        return {"origin_ms": self._origin_ms, "sums": sums, "rate": self.rate, "points": list(self._points)}

    @classmethod
    def resumed(cls, kept: Mapping[str, Any]) -> RateOfRise:
        """One that goes on from :meth:`kept`. KeyError, TypeError, ValueError for anything else."""
        state = cls()
        state._origin_ms = int(kept["origin_ms"])
        state._sum_u, state._sum_t, state._sum_uu, state._sum_ut = (float(each) for each in kept["sums"])
        state._points.extend((int(at_ms), float(temp_c)) for at_ms, temp_c in kept["points"])
        state.rate = None if kept["rate"] is None else float(kept["rate"])
        return state

    def _when_missing(self, device_ms: int) -> float | None:
        """A sensor that is silent longer than a gap has no rate."""
        if self._points and device_ms - self._points[-1][0] > self._max_gap_ms:
            self.reset()
        return self.rate

    def _add(self, device_ms: int, temp_c: float) -> None:
        if not self._points:
            self._origin_ms = device_ms
        elif device_ms - self._origin_ms > 16 * self._window_ms:
            self._move_origin(device_ms)
        self._points.append((device_ms, temp_c))
        self._count(device_ms, temp_c, 1)
        if len(self._points) > MAX_POINTS:
            self._count(*self._points.popleft(), -1)

    def _move_origin(self, device_ms: int) -> None:
        """Sum again near the present: running sums of large squares would lose digits."""
        self._origin_ms = device_ms
        self._sum_u = self._sum_t = self._sum_uu = self._sum_ut = 0.0
        for point_ms, temp_c in self._points:
            self._count(point_ms, temp_c, 1)

    def _count(self, point_ms: int, temp_c: float, sign: int) -> None:
        u_s = (point_ms - self._origin_ms) / 1000
        self._sum_u += sign * u_s
        self._sum_t += sign * temp_c
        self._sum_uu += sign * u_s * u_s
        self._sum_ut += sign * u_s * temp_c

    def _forget_before(self, oldest_ms: int) -> None:
        while self._points and self._points[0][0] < oldest_ms:
            self._count(*self._points.popleft(), -1)

    def _slope(self, device_ms: int) -> float | None:
        if device_ms - self._points[0][0] < FULL_SHARE * self._window_ms:
            return None
        count = len(self._points)
        spread = count * self._sum_uu - self._sum_u**2
        if count < 3 or spread <= 0:
            return None
        return 60 * (count * self._sum_ut - self._sum_u * self._sum_t) / spread
