"""The only source of time in the house (no Django here: the keeper process uses it too).

The simulation installs its own clock with :func:`install`. Read the clock once per operation and
pass ``now`` down; pure code takes it as an argument.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
from typing import Protocol


class Clock(Protocol):
    """What a clock must offer. ``now`` is aware UTC; ``monotonic`` seconds with no epoch."""

    def now(self) -> dt.datetime: ...

    def monotonic(self) -> float: ...

    def sleep(self, duration_s: float) -> None: ...

    def wait(self, event: threading.Event, timeout_s: float) -> bool: ...


class SystemClock:
    """The machine's own clocks. On Linux ``monotonic`` is comparable between processes of one host."""

    def now(self) -> dt.datetime:
        return dt.datetime.now(dt.UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, duration_s: float) -> None:
        time.sleep(max(0.0, duration_s))

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        return event.wait(max(0.0, timeout_s))


_clock: Clock = SystemClock()


def install(clock: Clock) -> Clock:
    """Replace the process-wide clock (simulation, tests); returns the one that was there."""
    global _clock
    previous, _clock = _clock, clock
    return previous


def now() -> dt.datetime:
    """Wall time, aware, UTC."""
    return _clock.now()


def monotonic() -> float:
    """Seconds that never go back; only differences mean anything."""
    return _clock.monotonic()


def sleep(duration_s: float) -> None:
    """Give way for ``duration_s`` seconds."""
    _clock.sleep(duration_s)


def wait(event: threading.Event, timeout_s: float) -> bool:
    """Wait for ``event`` at most ``timeout_s`` seconds; True when it was set."""
    return _clock.wait(event, timeout_s)
