"""A peer that sends one line per sample over TCP (``tcp-line``); steered only where it declares controls by HELLO."""

from __future__ import annotations

import datetime as dt
from collections import OrderedDict
from typing import Any

from drivers.lines import greeting
from drivers.lines.greeting import Ack, Hello
from drivers.lines.line_machine import LineMachine, NoAnswer
from drivers.lines.links import Connector
from drivers.lines.parsing import LINE_BYTES_MAX, Fault, LineFormat, LineParser, LineSplitter, Sample
from drivers.lines.readings import FIELDS, make_reading
from drivers.lines.timing import LineClock, Pacer
from drivers.port import Control, Hooks, Identity, MachineState, Reading, Unplugged
from kernel import clock

WAIT_S = 0.08  # a read waits so long for a line that has not come yet
TAKES_MAX = 64  # bursts of up to 64 pieces are taken at once
FIRST_LINE_AT_LEAST_S = 1.0
READ_ONLY_SILENCE_S = 4.0  # before the keeper's 5 s: a machine that is only read cannot be made safe by it
STEERED_SILENCE_S = 10.0  # after the keeper made it safe, blind, over the connection that still stands
ACKS_REMEMBERED = 64


class TcpLine(LineMachine):
    """One peer, one connection at a time."""

    model = "TCP line"

    def __init__(
        self, connector: Connector, line_format: LineFormat, *, hooks: Hooks | None = None, interval_s: float = 1.0,
        assumed_state: MachineState = MachineState.UNKNOWN, dedupe_within_s: float = 0.05,
        reconnect_max_s: float = 5.0, settle_s: float = 2.0, is_read_only: bool = False,
        line_bytes_max: int = LINE_BYTES_MAX,
    ) -> None:
        super().__init__(connector, hooks=hooks, interval_s=interval_s, assumed_state=assumed_state,
                         reconnect_max_s=reconnect_max_s, settle_s=settle_s)
        self._configured_interval_s = interval_s
        self._is_read_only = is_read_only
        self._parser = LineParser(line_format)
        self._splitter = LineSplitter(line_bytes_max)
        self._clock = LineClock()
        self._pacer = Pacer(dedupe_within_s)
        self._hello: Hello | None = None
        self._pending: tuple[Reading, Any] | None = None
        self._heard_s = 0.0  # when the last line of telemetry came
        self._acks: OrderedDict[str, tuple[Ack, float]] = OrderedDict()
        self._awaited: OrderedDict[str, None] = OrderedDict()  # ids of ours that an ACK may name
        self.counts |= {"lines": 0, "samples": 0, "ignored": 0, "acks_unknown": 0, "acks_doubled": 0}

    @property
    def identity(self) -> Identity:
        """As HELLO says; the counters are live."""
        hello = self._hello
        extras = self._identity_extras() | {"is_read_only": not self.controls and not self.states}
        if hello is None:
            return Identity(model=self.model, extras=extras)
        return Identity(model=hello.model or self.model, serial=hello.serial, firmware=hello.firmware, extras=extras)

    @property
    def is_answering(self) -> bool:
        return True

    def ack_of(self, wire_id: str) -> tuple[Ack, float] | None:
        return self._acks.get(wire_id)

    def state_words(self, wire_id: str, state: MachineState) -> bytes:
        self._expect_ack(wire_id)
        return greeting.state_line(wire_id, state)

    # -- what LineMachine asks --

    def _begin(self) -> None:
        """Until the first telemetry: a peer that accepts and says nothing is no machine. One that greeted is kept all
        the same: it can be made safe.
        """
        self._parser.reset()
        self._splitter.reset()
        self._pending, self._hello = None, None
        self.controls, self.states = {}, frozenset()
        self._interval_s = self._configured_interval_s
        self._acks.clear()
        self._awaited.clear()
        began_s = self._heard_s = clock.monotonic()
        wait_s = max(FIRST_LINE_AT_LEAST_S, self.stale_s())
        while self.latest is None:
            self._take_lines(WAIT_S)
            if clock.monotonic() - began_s > wait_s and self.latest is None:
                if self._hello is not None:
                    return
                said = f"; its lines cannot be read ({self.last_error})" if self.last_error else " and says nothing"
                raise NoAnswer(f"{self._connector.where} accepts{said}", self._how_to_find())

    def _poll(self, wait_s: float | None) -> Reading:
        self._take_lines(WAIT_S if wait_s is None else min(wait_s, WAIT_S))
        now_s = clock.monotonic()
        if self._pending is not None and self._pacer.is_pending_due(now_s):
            reading, key = self._pending
            self._pacer.emitted(reading.device_ms, key)
            self._pending = None
            self._emit(reading)
        silent_s = now_s - self._heard_s
        bound_s = STEERED_SILENCE_S if self.controls else READ_ONLY_SILENCE_S
        if silent_s > max(bound_s, self.stale_s()):
            raise Unplugged(f"{self._connector.where} has said nothing for {silent_s:.0f} s", self._how_to_find())
        latest = self.latest
        if latest is None:
            raise NoAnswer(f"{self._connector.where} greeted, and sends no telemetry", self._how_to_find())
        if latest.age_s(now_s) > self.stale_s():
            self._mark_stale()
        return self.latest or latest

    def _words_for(self, control: Control, step: int, wire_id: str, before: int | None) -> tuple[bytes, str]:
        self._expect_ack(wire_id)
        return greeting.set_line(wire_id, control, step), greeting.set_meaning(control, before, step)

    def _how_to_find(self) -> str:
        return (
            f"Does the program at {self._connector.where} run, and send a line per sample? "
            f"`nc {self._connector.where.replace(':', ' ')}` shows it. Some take one client at a time: "
            "is another connected?"
        )

    def _fields(self) -> frozenset[str]:
        return FIELDS

    # -- inside --

    def _take_lines(self, wait_s: float) -> None:
        """All that has come; waits only where nothing has."""
        for _ in range(TAKES_MAX):
            stream = self._stream
            if stream is None:
                raise Unplugged(f"{self._connector.where} is not connected", self._how_to_find())
            data = stream.receive(wait_s)
            if not data:
                return
            wait_s = 0.0
            received_s = clock.monotonic()
            for line in self._splitter.feed(data):
                self._take_line(line, received_s)

    def _take_line(self, line: bytes | None, received_s: float) -> None:
        self.counts["lines"] += 1
        if line is None:
            self._count_fault("line_too_long", "a line was longer than line_bytes_max, and was skipped")
            return
        parsed = self._parser.parse(line)
        if isinstance(parsed, Sample):
            self._take_sample(parsed, received_s)
        elif isinstance(parsed, Fault):
            self._count_fault(parsed.code, parsed.words)
        elif isinstance(parsed, Hello):
            self._take_hello(parsed)
        elif isinstance(parsed, Ack):
            self._take_ack(parsed, received_s)
        else:
            self.counts["ignored"] += 1

    def _take_sample(self, sample: Sample, received_s: float) -> None:
        self.counts["samples"] += 1
        self._heard_s = received_s
        for code in sample.faults:
            self._count_fault(code, "a value was refused")
        moment = self._clock.see(sample.ts_s, received_s)
        extras: dict[str, Any] = dict(sample.extras)
        extras["elapsed_s"] = round((moment.device_ms - (self._clock.first_ms or 0)) / 1000, 3)
        if sample.state_text is not None and sample.state_text.lower() != (sample.state or ""):
            extras["state_text"] = sample.state_text
        reading = make_reading(
            sample.values, state=sample.state or self._assumed_state, device_ms=moment.device_ms, extras=extras,
            at=clock.now() - dt.timedelta(seconds=moment.lag_s), monotonic_s=received_s - moment.lag_s,
        )
        key = (reading.heater_step, reading.fan_step, reading.drum_step, reading.state)
        if self.latest is None or self._pacer.is_due(reading.device_ms, key, received_s):
            self._pending = None
            self._pacer.emitted(reading.device_ms, key)
            self._emit(reading)
        else:
            self._pending = (reading, key)
        self.counts["deduplicated"] = self._pacer.dropped

    def _take_hello(self, hello: Hello) -> None:
        self._hello = hello
        if hello.interval_ms is not None:
            self._interval_s = hello.interval_ms / 1000
        if not self._is_read_only:
            self.controls, self.states = dict(hello.controls), hello.states

    def _take_ack(self, ack: Ack, received_s: float) -> None:
        """Only what we asked counts, and only the first answer to it."""
        if ack.id not in self._awaited:
            self.counts["acks_unknown"] += 1
        elif ack.id in self._acks:
            self.counts["acks_doubled"] += 1
        else:
            self._acks[ack.id] = (ack, received_s)

    def _expect_ack(self, wire_id: str) -> None:
        self._awaited[wire_id] = None
        while len(self._awaited) > ACKS_REMEMBERED:
            old, _ = self._awaited.popitem(last=False)
            self._acks.pop(old, None)
