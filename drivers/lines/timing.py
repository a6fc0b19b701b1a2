"""Time of a peer whose lines come over a network: its own clock, late delivery, pace, and when to call again. Pure."""

from __future__ import annotations

from dataclasses import dataclass

SPEED_MAX = 50.0  # a virtual machine may run faster than we; a clock that jumps further was set anew
JUMP_FREE_S = 60.0
DRIFT_PER_S = 0.001  # how much slower than ours a peer's clock may run and still not count as late


@dataclass(frozen=True, slots=True)
class Moment:
    """When a line belongs: the machine's own time in ms, and how long ago it was really taken, in seconds."""

    device_ms: int
    lag_s: float


class LineClock:
    """The machine's time from its ``ts``, or from ours where it gives none. Never goes back, and survives a
    reconnect: the same clock goes on. Not thread-safe.
    """

    def __init__(self) -> None:
        self._device_ms = 0.0
        self._ts_s: float | None = None
        self._received_s: float | None = None
        self._offset_s: float | None = None  # least seen of our time minus theirs: a line without delay
        self._offset_at_s = 0.0
        self.first_ms: int | None = None

    def see(self, ts_s: float | None, received_s: float) -> Moment:
        """A line came at our monotonic ``received_s`` and says ``ts_s`` (seconds since 1970, None: nothing)."""
        if self._received_s is None:
            self._device_ms = received_s * 1000.0
            step_ms = 0.0
        else:
            step_ms = self._step_ms(ts_s, max(0.0, received_s - self._received_s))
        self._device_ms += step_ms
        lag_s = self._lag_s(ts_s, received_s)
        self._ts_s, self._received_s = ts_s, received_s
        device_ms = round(self._device_ms)
        if self.first_ms is None:
            self.first_ms = device_ms
        return Moment(device_ms, lag_s)

    def _step_ms(self, ts_s: float | None, passed_s: float) -> float:
        if ts_s is None or self._ts_s is None:
            return passed_s * 1000.0
        step_s = ts_s - self._ts_s
        if step_s < 0.0 or step_s > JUMP_FREE_S + SPEED_MAX * passed_s:
            self._offset_s = None  # their clock was set: what was late before says nothing now
            return passed_s * 1000.0
        return step_s * 1000.0

    def _lag_s(self, ts_s: float | None, received_s: float) -> float:
        """How much later than the fastest line this one came."""
        if ts_s is None:
            return 0.0
        offset_s = received_s - ts_s
        if self._offset_s is None:
            self._offset_s = offset_s
        else:
            allowed_s = self._offset_s + DRIFT_PER_S * max(0.0, received_s - self._offset_at_s)
            self._offset_s = min(allowed_s, offset_s)
        self._offset_at_s = received_s
        return max(0.0, offset_s - self._offset_s)


class Pacer:
    """Thins out lines that come closer than ``window_s`` and change no control and no state: the newest stands.

    (The predecessor dropped the newer line, and everything after a clock that was set back.)
    """

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._last_ms: int | None = None
        self._last_key: object = None
        self._pending_since_s: float | None = None
        self.dropped = 0

    def is_due(self, device_ms: int, key: object, received_s: float) -> bool:
        """Does this line become a reading now? If not it waits for :meth:`is_pending_due`, or for a newer one."""
        is_apart = self._last_ms is None or not 0 <= device_ms - self._last_ms < self._window_s * 1000.0
        if is_apart or key != self._last_key:
            self._note_dropped()
            self.emitted(device_ms, key)
            return True
        self._note_dropped()
        self._pending_since_s = received_s
        return False

    def is_pending_due(self, now_s: float) -> bool:
        """A line waits, and nothing newer came within the window."""
        return self._pending_since_s is not None and now_s - self._pending_since_s >= self._window_s

    def emitted(self, device_ms: int, key: object) -> None:
        """That line became a reading."""
        self._last_ms, self._last_key = device_ms, key
        self._pending_since_s = None

    def _note_dropped(self) -> None:
        if self._pending_since_s is not None:
            self.dropped += 1


class Backoff:
    """When a peer may be called again. A connection that brought nothing worth having does not reset it: a peer that
    accepts and closes is called as seldom as one that is not there.
    """

    def __init__(self, first_s: float, max_s: float) -> None:
        self._first_s, self._max_s = first_s, max_s
        self._wait_s = 0.0
        self._not_before_s = float("-inf")

    def left_s(self, now_s: float) -> float:
        """Seconds until the next call may be made; 0 or less: now."""
        return self._not_before_s - now_s

    def failed(self, now_s: float, at_most_s: float | None = None) -> None:
        """No connection, or one that ended without proof of itself: wait twice as long, up to the bound."""
        bound_s = self._max_s if at_most_s is None else min(self._max_s, at_most_s)
        self._wait_s = min(bound_s, max(self._first_s, 2.0 * self._wait_s))
        self._not_before_s = now_s + self._wait_s

    def worked(self) -> None:
        """The connection lived and brought telemetry: the next call begins anew."""
        self._wait_s = 0.0
        self._not_before_s = float("-inf")
