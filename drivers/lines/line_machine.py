"""What both kinds of line machines share behind the driver port: who may read, who may write, and what was told.

A kind of machine says how it is opened, polled and worded (:class:`drivers.lines.tcp_line.TcpLine`,
:class:`drivers.lines.tc4.Tc4`). How an order is carried out is in `applying.py`; how heat goes down is in `safing.py`.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from dataclasses import replace
from typing import Any

from drivers.lines import applying, safing
from drivers.lines.greeting import Ack, Steerable
from drivers.lines.links import Connector, Stream
from drivers.lines.timing import Backoff
from drivers.port import (
    Capabilities,
    Control,
    DriverError,
    Hooks,
    Identity,
    MachineState,
    NoHooks,
    NotFound,
    ProtocolError,
    Quality,
    Reading,
    Receipt,
    SettingOrder,
    StateOrder,
    Unplugged,
    WireWrite,
    WriteNote,
    longest_age_s,
)
from drivers.steering import Steered
from kernel import clock

BACKOFF_FIRST_S = 0.25
ABSENT_RETRY_S = 1.0  # nothing listens there: asking is cheap, and it shall be back within 2 s
LIVED_S = 5.0  # a connection that brought telemetry this long was a good one: the next call begins anew
STALE_AT_LEAST_S = 1.0
_TURN_S = 0.01  # how soon a reading that another thread took is noticed


class NoAnswer(ProtocolError):
    """Nothing came in time. It may still come."""

    code = "no_answer"


class LineMachine(Steered):
    """A roaster that speaks lines of text. See :class:`drivers.port.Driver`."""

    model = "line machine"
    look_s = 0.09  # how long a look may take while an order or STOP waits for its proof

    def __init__(
        self, connector: Connector, *, hooks: Hooks | None, interval_s: float, assumed_state: MachineState,
        reconnect_max_s: float, settle_s: float,
    ) -> None:
        super().__init__()
        self.hooks: Hooks = hooks or NoHooks()
        self.settle_s = settle_s
        self.controls: dict[Control, Steerable] = {}
        self.states: frozenset[MachineState] = frozenset()
        self.latest: Reading | None = None  # of this connection
        self.last_order_s = float("-inf")  # when the last one began to leave
        self.counts: dict[str, int] = {"opens": 0, "readings": 0, "writes": 0}
        self.parse_errors: dict[str, int] = {}
        self.last_error = ""
        self._connector = connector
        self._stream: Stream | None = None
        self._interval_s = interval_s
        self._assumed_state = assumed_state
        self._poll_lock = threading.RLock()
        self._backoff = Backoff(BACKOFF_FIRST_S, reconnect_max_s)
        self._why_not_open = ""
        self._opened_s = 0.0
        self._sequence = 0
        self._is_marked_stale = False

    # -- the port --

    @property
    def identity(self) -> Identity:
        """Who it says it is, and what has been counted since this driver was made."""
        return Identity(model=self.model, extras=self._identity_extras())

    @property
    def capabilities(self) -> Capabilities:
        """Without declared controls: none, and no state that may be asked for."""
        return Capabilities(
            controls={control: each.range for control, each in self.controls.items()}, states=self.states,
            poll_interval_s=self._interval_s, fields=self._fields(),
        )

    @property
    def is_open(self) -> bool:
        """Connected, as far as we know."""
        return self._stream is not None

    def open(self) -> None:
        """Connect and hear who it is; a peer that was not there is not called again before its backoff is over.

        NotFound, NoPermission, Busy, Unplugged, ProtocolError.
        """
        with self._poll_lock:
            self._hang_up()
            left_s = self._backoff.left_s(clock.monotonic())
            if left_s > 0:
                raise NotFound(f"{self._why_not_open}; it is called again in {left_s:.1f} s", self._how_to_find())
            self.latest = None
            try:
                self._stream = self._connector.connect()
                self._opened_s = clock.monotonic()
                self.counts["opens"] += 1
                self._begin()
            except DriverError as error:
                is_absent = self._stream is None
                self._hang_up()
                self._why_not_open = error.message
                self._backoff.failed(clock.monotonic(), ABSENT_RETRY_S if is_absent else None)
                raise

    def read(self) -> Reading:
        """The newest reading; waits, bounded, for a new one. Unplugged; NoAnswer, ProtocolError where none came.

        Where another thread takes one meanwhile, that is it: who reads in a loop leaves the lock to nobody.
        """
        asked_at_s = clock.monotonic()
        while not self._poll_lock.acquire(timeout=_TURN_S):
            latest = self.latest
            if latest is not None and latest.monotonic_s > asked_at_s:
                return latest
            if clock.monotonic() - asked_at_s >= self.stale_s():
                raise NoAnswer(f"no answer within {self.stale_s() * 1000:.0f} ms")
        try:
            return self._guarded_poll(None)
        finally:
            self._poll_lock.release()

    def _carry_out(self, order: SettingOrder | StateOrder, deadline_s: float) -> Receipt:
        if isinstance(order, SettingOrder):
            return applying.apply_setting(self, order, deadline_s)
        return applying.apply_state(self, order, deadline_s)

    def _bring_down(self, deadline_s: float, order_id: str) -> Receipt:
        return safing.make_safe(self, deadline_s, order_id)

    def close(self) -> None:
        """Let the machine go. It keeps its last settings: nothing is sent."""
        stream = self._stream
        if stream is not None:
            stream.close()  # wakes a poll of another thread
        with self._poll_lock:
            self._hang_up()

    # -- for applying and safing --

    def read_within(self, wait_s: float) -> Reading:
        """Like :meth:`read`, but never much longer than ``wait_s``, whoever else is reading."""
        asked_at_s = clock.monotonic()
        if not self._poll_lock.acquire(timeout=wait_s):
            latest = self.latest
            if latest is not None and latest.monotonic_s > asked_at_s:
                return latest
            raise NoAnswer(f"no answer within {wait_s * 1000:.0f} ms")
        try:
            return self._guarded_poll(wait_s)
        finally:
            self._poll_lock.release()

    def set_control(
        self, control: Control, step: int, *, wire_id: str, order_id: str, number: int = 1, numbers: int = 1,
    ) -> WireWrite:
        """Send one absolute setting. NotSent, InDoubt, Unplugged."""
        before = self.latest.step_of(control) if self.latest is not None else None
        data, meaning = self._words_for(control, step, wire_id, before)
        return self.send(data, meaning, order_id=order_id, number=number, numbers=numbers)

    def send(self, data: bytes, meaning: str, *, order_id: str, number: int = 1, numbers: int = 1) -> WireWrite:
        """Send one command, told to the hooks before and after."""
        stream = self._stream
        if stream is None:
            raise Unplugged(f"{self._connector.where} is not connected", self._how_to_find())
        note = WriteNote(data_hex=data.hex(), meaning=meaning, order_id=order_id, step=number, steps=numbers)
        self.hooks.before_write(note)
        at_s = stream.send(data)
        self.counts["writes"] += 1
        self.hooks.after_write(note, at_s)
        return WireWrite(monotonic_s=at_s, data_hex=note.data_hex, meaning=meaning)

    def stale_s(self) -> float:
        """Seconds without a line after which nothing it said is believed any more."""
        return longest_age_s(STALE_AT_LEAST_S, self._interval_s)

    def state_words(self, wire_id: str, state: MachineState) -> bytes:
        """The command that asks for a state; only machines that declare states are asked."""
        raise NotImplementedError

    @abstractmethod
    def ack_of(self, wire_id: str) -> tuple[Ack, float] | None:
        """What the machine answered to this command, and when; None where nothing came (or it never answers)."""

    @property
    @abstractmethod
    def is_answering(self) -> bool:
        """Does it acknowledge commands? Else a reading asked for after the command is as good."""

    # -- what a kind of machine says --

    @abstractmethod
    def _begin(self) -> None:
        """After connecting: hear or ask who it is. Bounded."""

    @abstractmethod
    def _poll(self, wait_s: float | None) -> Reading:
        """The newest reading."""

    @abstractmethod
    def _words_for(self, control: Control, step: int, wire_id: str, before: int | None) -> tuple[bytes, str]:
        """(bytes, meaning) of a setting."""

    @abstractmethod
    def _how_to_find(self) -> str:
        """What a person looks at when it is not there."""

    @abstractmethod
    def _fields(self) -> frozenset[str]:
        """Reading fields it fills."""

    # -- inside --

    def _guarded_poll(self, wait_s: float | None) -> Reading:
        if self._stream is None:
            raise Unplugged(f"{self._connector.where} is not connected", self._how_to_find())
        try:
            return self._poll(wait_s)
        except Unplugged as error:
            self._why_not_open = error.message
            self._hang_up()
            raise

    def _hang_up(self) -> None:
        """End the connection, and judge it: one that never brought telemetry for a while counts as a failed call."""
        stream, self._stream = self._stream, None
        if stream is None:
            return
        stream.close()
        now_s = clock.monotonic()
        if self.latest is not None and now_s - self._opened_s >= LIVED_S:
            self._backoff.worked()
        else:
            self._backoff.failed(now_s)

    def _emit(self, reading: Reading) -> None:
        """A new reading: number it, keep it, tell it."""
        self._sequence += 1
        self._is_marked_stale = False
        self.counts["readings"] += 1
        self.latest = replace(reading, sequence=self._sequence)
        self.hooks.on_reading(self.latest)

    def _mark_stale(self) -> None:
        """Say once that the newest reading is not believed any more."""
        latest = self.latest
        if latest is None or self._is_marked_stale:
            return
        self._sequence += 1
        names = {*self._fields(), "heater_step", "fan_step", "drum_step", "state"}
        quality = {name: latest.quality.get(name, Quality.STALE) for name in names}
        self.latest = replace(latest, sequence=self._sequence, quality=latest.quality | quality)
        self._is_marked_stale = True
        self.hooks.on_reading(self.latest)

    def _count_fault(self, code: str, words: str) -> None:
        self.parse_errors[code] = self.parse_errors.get(code, 0) + 1
        self.last_error = f"{code}: {words}"

    def _identity_extras(self) -> dict[str, Any]:
        return {
            "connected_to": self._connector.where, "counters": dict(self.counts),
            "parse_errors": dict(sorted(self.parse_errors.items())), "last_error": self.last_error,
            "safe_steps": {control.value: each.safe_step for control, each in self.controls.items()},
        }
