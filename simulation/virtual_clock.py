"""The simulation's own time and chance, behind `kernel.clock` and `kernel.ids`: both come from the seed alone."""

from __future__ import annotations

import datetime as dt
import hashlib
import resource
import threading
from collections.abc import Callable

BEGIN = dt.datetime(2026, 11, 21, 8, 0, tzinfo=dt.UTC)


class VirtualClock:
    """Stands until somebody advances it. ``on_sleep`` (seconds) is asked when somebody sleeps; else it advances."""

    def __init__(self) -> None:
        self._elapsed_us = 0
        self.on_sleep: Callable[[float], bool] | None = None

    @property
    def elapsed_ms(self) -> float:
        """Virtual milliseconds since the episode began."""
        return self._elapsed_us / 1000

    def restart(self) -> None:
        """The episode begins."""
        self._elapsed_us = 0

    def advance(self, duration_s: float) -> None:
        """Let time pass; it never goes back."""
        self._elapsed_us += max(0, round(duration_s * 1_000_000))

    def advance_to_ms(self, at_ms: float) -> None:
        """Let time pass until ``at_ms`` since the beginning, unless it is later already."""
        self._elapsed_us = max(self._elapsed_us, round(at_ms * 1000))

    def now(self) -> dt.datetime:
        return BEGIN + dt.timedelta(microseconds=self._elapsed_us)

    def monotonic(self) -> float:
        return 1_000_000.0 + self._elapsed_us / 1_000_000

    def sleep(self, duration_s: float) -> None:
        if self.on_sleep is None or not self.on_sleep(duration_s):
            self.advance(duration_s)

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        if not event.is_set():
            self.sleep(timeout_s)
        return event.is_set()


def cpu_s() -> float:
    """CPU time that this process has really used (s)."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Chance:
    """Bytes nobody can guess, but the seed can: a stream per actor, so that no actor's draws move another's."""

    def __init__(self, whose: Callable[[], str]) -> None:
        self._whose = whose
        self._seed = 0
        self._counts: dict[str, int] = {}

    def restart(self, seed: int) -> None:
        """Begin every stream anew, from ``seed``."""
        self._seed, self._counts = seed, {}

    def random_bytes(self, count: int) -> bytes:
        """The next ``count`` bytes of whoever runs now."""
        name = self._whose()
        number = self._counts[name] = self._counts.get(name, 0) + 1
        return hashlib.shake_256(f"{self._seed}:ids:{name}:{number}".encode()).digest(count)
