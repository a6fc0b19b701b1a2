"""The virtual machine's view of time: the house clock, or one that a test turns by hand."""

from __future__ import annotations

import datetime as dt
import threading

from kernel import clock as house_clock
from kernel.clock import Clock


class HouseClock:
    """Whatever :mod:`kernel.clock` holds at each call, so that an installed simulation clock is followed."""

    def now(self) -> dt.datetime:
        return house_clock.now()

    def monotonic(self) -> float:
        return house_clock.monotonic()

    def sleep(self, duration_s: float) -> None:
        house_clock.sleep(duration_s)

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        return house_clock.wait(event, timeout_s)


class ManualClock:
    """A clock that moves only when told, or when somebody waits on it (a wait takes no real time)."""

    def __init__(self, start_s: float = 0.0) -> None:
        self._start_at = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
        self._elapsed_s = start_s
        self._lock = threading.Lock()

    def now(self) -> dt.datetime:
        return self._start_at + dt.timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        with self._lock:
            return self._elapsed_s

    def advance(self, duration_s: float) -> None:
        """Let ``duration_s`` seconds pass."""
        with self._lock:
            self._elapsed_s += max(0.0, duration_s)

    def sleep(self, duration_s: float) -> None:
        self.advance(duration_s)

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        if not event.is_set():
            self.advance(timeout_s)
        return event.is_set()


__all__ = ["Clock", "HouseClock", "ManualClock"]
