"""Who asked how often: in this process's memory, or, in a fleet, in Redis for all of its web processes.

Redis is asked for requests by the block, so that most cost nothing there. One that does not answer at once is left
alone for a while, and this process counts for itself: nobody waits for it, and nobody is let through without a count.
"""

from __future__ import annotations

import logging
import threading
from typing import Protocol

import redis

from kernel import clock
from kernel.request_limits import WINDOW_S, Ruling, rule

logger = logging.getLogger(__name__)
MAX_NAMES = 20_000
PREFIX = "roastops:asked"
ANSWER_WITHIN_S = 0.05
LEFT_ALONE_S = 5.0
#: A block is a second's worth of the limit: what a window's end leaves unused is lost.
BLOCKS = 60


class Counts(Protocol):
    """Anything that lets at most so many through."""

    def take(self, name: str, limit: int, now_s: float) -> Ruling:
        """One request of ``name`` at ``now_s`` (Unix time, s); it counts only where it passes."""
        ...


class MemoryCounts:
    """This process alone. Thread-safe; bounded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[int, int, int]] = {}  # window, count in the one before, count in it

    def take(self, name: str, limit: int, now_s: float) -> Ruling:
        window, into_s = _place(now_s)
        with self._lock:
            begun, before, now = self._seen.get(name, (window, 0, 0))
            if window != begun:
                before, now = (now, 0) if window == begun + 1 else (0, 0)
            ruling = rule(limit, before=before, now=now, into_s=into_s)
            if name not in self._seen and len(self._seen) >= MAX_NAMES:
                self._forget(window)
            self._seen[name] = (window, before, now if ruling.is_over else now + 1)
        return ruling

    def _forget(self, window: int) -> None:
        """Whoever was quiet for a whole window; where nobody was, all: to count anew is better than to grow."""
        self._seen = {name: seen for name, seen in self._seen.items() if seen[0] >= window - 1}
        if len(self._seen) >= MAX_NAMES:
            self._seen = {}


class RedisCounts:
    """All web processes of a fleet together."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(
            url, socket_timeout=ANSWER_WITHIN_S, socket_connect_timeout=ANSWER_WITHIN_S
        )
        self._alone = MemoryCounts()
        self._alone_until_s = float("-inf")
        self._lock = threading.Lock()
        self._blocks: dict[str, tuple[int, int]] = {}  # window, requests of it that were given to us and not used
        self._over: dict[str, tuple[float, Ruling]] = {}  # until when the last no is repeated without asking

    def take(self, name: str, limit: int, now_s: float) -> Ruling:
        known = self._known(name, limit, now_s)
        if known is not None:
            return known
        if clock.monotonic() < self._alone_until_s:
            return self._alone.take(name, limit, now_s)
        try:
            return self._ask(name, limit, now_s)
        except redis.RedisError as error:
            self._alone_until_s = clock.monotonic() + LEFT_ALONE_S
            logger.warning("request limits: Redis does not answer, this process counts for itself: %s", error)
            return self._alone.take(name, limit, now_s)

    def _known(self, name: str, limit: int, now_s: float) -> Ruling | None:
        """From our block, or a no that still stands; None: Redis must be asked."""
        window, _into_s = _place(now_s)
        with self._lock:
            no = self._over.get(name)
            if no is not None and now_s < no[0]:
                return no[1]
            begun, left = self._blocks.get(name, (window, 0))
            if begun != window or left < 1:
                return None
            self._blocks[name] = (window, left - 1)
        return Ruling(False, limit, left, 0.0)

    def _ask(self, name: str, limit: int, now_s: float) -> Ruling:
        """Take a block; what does not fit under the limit is given back."""
        window, into_s = _place(now_s)
        block, key = max(1, limit // BLOCKS), f"{PREFIX}:{name}:{window}"
        with self._client.pipeline(transaction=False) as pipe:
            pipe.get(f"{PREFIX}:{name}:{window - 1}")
            pipe.incrby(key, block)
            pipe.expire(key, round(2 * WINDOW_S) + 1)
            before, now, _ = pipe.execute()
        ruling = rule(limit, before=int(before or 0), now=int(now) - block, into_s=into_s)
        given = min(block, ruling.left)
        if given < block:
            self._client.decrby(key, block - given)
        with self._lock:
            if len(self._blocks) + len(self._over) >= MAX_NAMES:
                self._blocks, self._over = {}, {}
            if ruling.is_over:
                self._over[name] = (now_s + min(1.0, ruling.retry_after_s), ruling)
            else:
                self._over.pop(name, None)
                self._blocks[name] = (window, given - 1)
        return ruling


def _place(now_s: float) -> tuple[int, float]:
    """Number of the window, and how far into it, s."""
    window = int(now_s // WINDOW_S)
    return window, now_s - window * WINDOW_S
