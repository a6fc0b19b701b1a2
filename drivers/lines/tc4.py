"""A TC4 that answers when asked (``tc4-serial``, ``tc4-tcp``); steered only where its options declare outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from drivers.lines import tc4_codec as codec
from drivers.lines.greeting import Ack, Steerable
from drivers.lines.line_machine import LineMachine, NoAnswer
from drivers.lines.links import Connector, Stream
from drivers.lines.parsing import LineSplitter
from drivers.lines.readings import make_reading
from drivers.lines.timing import LineClock
from drivers.port import Control, Hooks, Identity, MachineState, ProtocolError, Reading, Unplugged
from kernel import clock

BOOT_S = 4.0  # opening the port restarts most Arduinos; their loader waits about two seconds
BOOT_TRY_S = 0.4
DRAIN_S = 0.02
TEMPERATURE_FIELDS = ("bean_temp_c", "environment_temp_c", "infrared_temp_c", "exhaust_temp_c", "ambient_temp_c")


@dataclass(frozen=True, slots=True)
class Wiring:
    """Which input is which sensor, and what the outputs drive."""

    chan: str = "1200"
    filter_percent: int = 70
    inputs: Mapping[str, str] = field(default_factory=lambda: {
        "ambient_temp_c": "ambient", "environment_temp_c": "ch1", "bean_temp_c": "ch2"})
    offsets_c: Mapping[str, float] = field(default_factory=dict)
    outputs: Mapping[Control, Output] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Output:
    """One output that may be steered. ``full_scale``: what the firmware calls 100 %; ``echo``: the column of READ that
    shows it, None where none does.
    """

    command: str
    steerable: Steerable
    full_scale: int = 100
    echo: str | None = None


class Tc4(LineMachine):
    """One TC4, one question at a time."""

    model = "TC4"

    def __init__(
        self, connector: Connector, wiring: Wiring, *, hooks: Hooks | None = None, interval_s: float = 0.25,
        assumed_state: MachineState = MachineState.UNKNOWN, answer_s: float = 0.6, reconnect_max_s: float = 5.0,
        settle_s: float = 2.0, boot_s: float = BOOT_S,
    ) -> None:
        super().__init__(connector, hooks=hooks, interval_s=interval_s, assumed_state=assumed_state,
                         reconnect_max_s=reconnect_max_s, settle_s=settle_s)
        self.look_s = answer_s
        self._wiring = wiring
        self._answer_s = answer_s
        self._boot_s = boot_s
        self._splitter = LineSplitter()
        self._lines: list[bytes | None] = []
        self._clock = LineClock()
        self._firmware: str | None = None
        self._must_configure = False
        self.counts |= {"questions": 0, "no_answers": 0, "strays": 0, "configured": 0}

    @property
    def identity(self) -> Identity:
        """What it answered to CHAN is all it says of itself; the counters are live."""
        return Identity(model=self.model, firmware=self._firmware, extras=self._identity_extras())

    @property
    def is_answering(self) -> bool:
        return False  # but READ is answered after the command before it was carried out

    def ack_of(self, wire_id: str) -> tuple[Ack, float] | None:
        return None

    # -- what LineMachine asks --

    def _begin(self) -> None:
        """Set it up as if it had just started (it mostly has), and read it once."""
        self._splitter.reset()
        self._lines.clear()
        self.controls = {control: output.steerable for control, output in self._wiring.outputs.items()}
        self._configure(self._boot_s)
        self._poll(None)

    def _poll(self, wait_s: float | None) -> Reading:
        """Ask and wait for the answer; after a silence it is set up anew: an Arduino that restarted reads °F."""
        stream = self._require_stream()
        if self._must_configure:
            self._configure(self._answer_s)
        self._drain(stream, 0.0)
        asked_s = stream.send(codec.READ)
        self.counts["questions"] += 1
        line = self._answer(stream, max(wait_s or 0.0, self._answer_s))
        if line is None:
            self.counts["no_answers"] += 1
            self._must_configure = True
            raise NoAnswer("READ was not answered in time", self._how_to_find())
        try:
            row = codec.parse_row(line, codec.inputs_of(self._wiring.chan))
        except ProtocolError as error:
            self._count_fault("bad_row", error.message)
            self._drain(stream, DRAIN_S)
            raise
        self._take_row(row, asked_s)
        latest = self.latest
        if latest is None:
            raise NoAnswer("READ was not answered in time")
        return latest

    def _words_for(self, control: Control, step: int, wire_id: str, before: int | None) -> tuple[bytes, str]:
        output = self._wiring.outputs[control]
        data = codec.output_line(output.command, step, output.full_scale)
        return data, codec.set_meaning(control, before, step, output.command)

    def _how_to_find(self) -> str:
        return (
            f"Is a TC4 (aArtisanQ or what imitates it) at {self._connector.where}, at the speed of its sketch "
            "(mostly 115200)? It must answer `READ`. Close Artisan: one program at a time."
        )

    def _fields(self) -> frozenset[str]:
        shown = {"heater": "heater_step", "fan": "fan_step"}
        steps = {f"{control.value}_step" for control in self.controls} | set(shown.values())
        return frozenset({*self._wiring.inputs, *steps})

    # -- inside --

    def _require_stream(self) -> Stream:
        if self._stream is None:
            raise Unplugged(f"{self._connector.where} is not connected", self._how_to_find())
        return self._stream

    def _configure(self, within_s: float) -> None:
        """CHAN until it is answered, then units and filter. NoAnswer."""
        stream = self._require_stream()
        until_s = clock.monotonic() + within_s
        while True:
            self._drain(stream, 0.0)
            stream.send(codec.chan_line(self._wiring.chan))
            said = self._answer(stream, BOOT_TRY_S, is_remark_wanted=True)
            if said is not None:
                break
            if clock.monotonic() >= until_s:
                raise NoAnswer("nothing answers CHAN as a TC4 does", self._how_to_find())
        self._firmware = said.decode("ascii", "replace").lstrip("# ")[:80] or None
        for line in codec.settings_lines(self._wiring.filter_percent):
            stream.send(line)
        self.counts["configured"] += 1
        self._must_configure = False
        self._drain(stream, DRAIN_S)

    def _answer(self, stream: Stream, wait_s: float, *, is_remark_wanted: bool = False) -> bytes | None:
        """The next line that is (or, for CHAN, is) a remark ``#…``; None after ``wait_s``."""
        until_s = clock.monotonic() + wait_s
        while True:
            while self._lines:
                line = self._lines.pop(0)
                if line is None:
                    self._count_fault("line_too_long", "a line was longer than any answer")
                elif line.strip() and line.startswith(b"#") is is_remark_wanted:
                    return line
                else:
                    self.counts["strays"] += bool(line.strip())
            left_s = until_s - clock.monotonic()
            if left_s < 0.001:
                return None
            self._lines += self._splitter.feed(stream.receive(left_s))

    def _drain(self, stream: Stream, wait_s: float) -> None:
        """Throw away what was not asked for: a late answer must not be taken for the next one."""
        for _ in range(16):
            data = stream.receive(wait_s)
            if not data:
                break
            self._lines += self._splitter.feed(data)
        self.counts["strays"] += len(self._lines)
        self._lines.clear()
        self._splitter.reset()

    def _take_row(self, row: codec.Row, asked_s: float) -> None:
        for code in row.faults:
            self._count_fault(code, "a value was refused")
        wiring = self._wiring
        values = {
            name: row.temps_c[source] + wiring.offsets_c.get(name, 0.0)
            for name, source in wiring.inputs.items() if source in row.temps_c
        }
        extras: dict[str, Any] = {
            f"{source}_temp_c": value for source, value in row.temps_c.items() if source not in wiring.inputs.values()
        }
        if row.set_value_c is not None:
            extras["set_value_c"] = row.set_value_c
        for column, value in (("heater", row.heater), ("fan", row.fan)):
            control, full_scale = self._shown_by(column)
            if value is not None:
                values[f"{control}_pct"] = min(100.0, codec.percent_of(value, full_scale))
        self.controls = {
            control: replace(output.steerable, has_echo=row.has_outputs and output.echo is not None)
            for control, output in wiring.outputs.items()
        }
        moment = self._clock.see(None, asked_s)
        extras["elapsed_s"] = round((moment.device_ms - (self._clock.first_ms or 0)) / 1000, 3)
        self._emit(make_reading(
            values, state=self._assumed_state, at=clock.now(), monotonic_s=asked_s, device_ms=moment.device_ms,
            extras=extras, expected=self._fields(),
        ))

    def _shown_by(self, column: str) -> tuple[str, int]:
        """(control, full scale) that a column of READ shows: the one whose output says so, else its namesake."""
        for control, output in self._wiring.outputs.items():
            if output.echo == column:
                return control.value, output.full_scale
        return column, 100
