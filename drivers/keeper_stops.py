"""STOP inside the keeper: one thread that does nothing else, one run at a time, everybody who asks shares it."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from drivers.port import Outcome, Receipt
from drivers.wire_json import receipt_to_json, time_to_json
from kernel import clock

log = logging.getLogger("drivers.keeper")

STOP_DEADLINE_S = 3.0
STOPS_REMEMBERED = 20


@dataclass(slots=True)
class StopRun:
    """One make_safe and all who wait for it."""

    stop_id: str
    by: str
    reason: str
    at: str
    first_byte_s: float | None = None
    receipt: Receipt | None = None
    has_sent: threading.Event = field(default_factory=threading.Event)  # first byte left, or there is none to come
    is_done: threading.Event = field(default_factory=threading.Event)
    joined: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """For `status`."""
        return {
            "stop_id": self.stop_id, "by": self.by, "reason": self.reason, "at": self.at, "joined": self.joined[:20],
            "first_byte_monotonic_s": self.first_byte_s,
            "receipt": receipt_to_json(self.receipt) if self.receipt is not None else None,
        }


class StopDesk:
    """Takes stop requests from any thread; its own thread goes to the wire."""

    def __init__(self, make_safe: Callable[[float, str], Receipt], on_done: Callable[[StopRun], None]) -> None:
        self._make_safe = make_safe
        self._on_done = on_done
        self._wake = threading.Condition()
        self._current: StopRun | None = None
        self._is_waiting = False
        self._is_closed = False
        self._recent: deque[StopRun] = deque(maxlen=STOPS_REMEMBERED)
        self.ended_at_s = 0.0
        self._thread = threading.Thread(target=self._work, name="stopper", daemon=True)

    def start(self) -> None:
        """Start the thread before anybody may ask: a STOP never waits for one to be made."""
        self._thread.start()

    def request(self, stop_id: str, by: str, reason: str) -> StopRun:
        """Begin a stop, or join the one that runs."""
        with self._wake:
            if self._current is not None:
                if len(self._current.joined) < STOPS_REMEMBERED:
                    self._current.joined.append(stop_id)
                return self._current
            run = StopRun(stop_id, by, reason, time_to_json(clock.now()))
            self._current = run
            self._is_waiting = True
            self._wake.notify_all()
            return run

    def wrote(self, order_id: str, monotonic_s: float) -> None:
        """A write of ours left; the first one of a stop is what its callers wait for."""
        run = self._current
        if run is not None and run.stop_id == order_id and run.first_byte_s is None:
            run.first_byte_s = monotonic_s
            run.has_sent.set()

    @property
    def current(self) -> StopRun | None:
        """The run under way."""
        return self._current

    @property
    def is_running(self) -> bool:
        """A make_safe is under way."""
        return self._current is not None

    def recent(self) -> list[dict[str, Any]]:
        """The last stops, oldest first."""
        with self._wake:
            runs = list(self._recent)
        return [run.to_json() for run in runs]

    def close(self) -> None:
        """Let the thread end after what it is doing."""
        with self._wake:
            self._is_closed = True
            self._wake.notify_all()
        self._thread.join(timeout=STOP_DEADLINE_S + 2.0)

    def _work(self) -> None:
        while True:
            with self._wake:
                while not self._is_waiting and not self._is_closed:
                    self._wake.wait()
                if not self._is_waiting:
                    return
                self._is_waiting = False
                run = self._current
            if run is not None:
                self._run(run)

    def _run(self, run: StopRun) -> None:
        try:
            run.receipt = self._make_safe(STOP_DEADLINE_S, run.stop_id)
        except Exception:  # the outermost loop of STOP: the answer must come, and the next STOP must work
            log.exception("make_safe failed")
            run.receipt = Receipt(
                order_id=run.stop_id, outcome=Outcome.UNPROVED, reason="driver_failed",
                message="the driver failed while making safe: see the keeper's log",
                first_byte_monotonic_s=run.first_byte_s, started_monotonic_s=clock.monotonic(),
                by_hand=("Use the machine's panel, or cut the mains.",),
            )
        with self._wake:
            self._recent.append(run)
            self._current = None
            self.ended_at_s = clock.monotonic()
        run.has_sent.set()
        try:
            self._on_done(run)
        except Exception:
            log.exception("the stop's record failed")
        run.is_done.set()
