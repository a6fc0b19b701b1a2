"""JSON options → a line machine's driver. The one place that knows what an option may be (docs/line-protocols.md)."""

from __future__ import annotations

import enum
from typing import Any, TypeVar

from drivers.lines import tc4_codec as codec
from drivers.lines.greeting import ASKABLE, FULL_STEP, INTERVAL_MS, Steerable
from drivers.lines.links import Connector, SerialConnector, TcpConnector
from drivers.lines.parsing import (
    DEFAULT_COLUMNS,
    KEY_CHARACTERS_MAX,
    LINE_BYTES_MAX,
    RESERVED,
    TEMPERATURES,
    Format,
    LineFormat,
    Scale,
)
from drivers.lines.tc4 import TEMPERATURE_FIELDS, Output, Tc4, Wiring
from drivers.lines.tcp_line import TcpLine
from drivers.port import Control, ControlRange, Hooks, MachineState
from drivers.registry import CANNOT_BE, KNOWN, NO_OPTION, NO_TEMPERATURE, NOT_WHOLE, BadOption, closest

_SHARED = ("assumed_state", "interval_ms", "reconnect_max_ms", "settle_ms", "connector")
_TCP = ("host", "port", "connect_timeout_ms")
LINE_OPTIONS = (
    *_TCP, "format", "columns", "has_header", "delimiter", "temperature_unit", "offsets", "states",
    "dedupe_within_ms", "line_bytes_max", "read_only", *_SHARED,
)  # fmt: skip
_TC4 = ("chan", "filter_percent", "inputs", "offsets", "controls", "answer_timeout_ms", "boot_ms")
TC4_SERIAL_OPTIONS = ("device", "baud", *_TC4, *_SHARED)
TC4_TCP_OPTIONS = (*_TCP, *_TC4, *_SHARED)
BAUDS = (9600, 19200, 38400, 57600, 115_200, 230_400)
_OUTPUT_KEYS = ("output", "min", "max", "safe", "full_scale", "echo")
_ENTRIES_MAX = 64
#: A heater that is steered blind cannot be read back; these columns of READ show what an output drives.
_ECHOES = ("heater", "fan")

Choice = TypeVar("Choice", bound=enum.StrEnum)


def make_tcp_line(options: dict[str, Any], hooks: Hooks | None) -> TcpLine:
    """``tcp-line``, not open yet. BadOption names what is wrong."""
    given = _Given("tcp-line", options, LINE_OPTIONS)
    line_format = LineFormat(
        format=given.choice("format", Format, Format.JSONL),
        has_header=given.flag("has_header", False),
        columns=_columns(given),
        delimiter=given.text("delimiter", ",", 1),
        scale=given.choice("temperature_unit", Scale, Scale.CELSIUS),
        offsets_c=_offsets(given, {name: ours for name, ours in RESERVED.items() if ours in TEMPERATURES}),
        states={word: _state("states", name) for word, name in given.mapping("states").items()},
    )
    if line_format.format is Format.CSV and not line_format.delimiter.isprintable() and line_format.delimiter != "\t":
        raise BadOption("delimiter must be one character that can be seen, or a tab")
    return TcpLine(
        _tcp_connector(given), line_format, hooks=hooks,
        interval_s=given.whole("interval_ms", 1000, *INTERVAL_MS) / 1e3,
        assumed_state=given.choice("assumed_state", MachineState, MachineState.UNKNOWN),
        dedupe_within_s=given.whole("dedupe_within_ms", 50, 0, 10_000) / 1e3,
        reconnect_max_s=given.whole("reconnect_max_ms", 5000, 250, 60_000) / 1e3,
        settle_s=given.whole("settle_ms", 2000, 100, 3500) / 1e3,
        is_read_only=given.flag("read_only", False),
        line_bytes_max=given.whole("line_bytes_max", LINE_BYTES_MAX, 64, 1_000_000),
    )


def make_tc4_serial(options: dict[str, Any], hooks: Hooks | None) -> Tc4:
    """``tc4-serial``, not open yet. BadOption."""
    given = _Given("tc4-serial", options, TC4_SERIAL_OPTIONS)
    connector = given.connector()
    if connector is None:
        device = given.text("device", None, 200)
        baud = given.whole("baud", 115_200, 300, 2_000_000)
        if baud not in BAUDS:
            raise BadOption(CANNOT_BE, KNOWN, name="baud", value=baud, known=", ".join(map(str, BAUDS)))
        connector = SerialConnector(device, baud)
    return _tc4(given, connector, hooks)


def make_tc4_tcp(options: dict[str, Any], hooks: Hooks | None) -> Tc4:
    """``tc4-tcp``, not open yet. BadOption."""
    given = _Given("tc4-tcp", options, TC4_TCP_OPTIONS)
    return _tc4(given, _tcp_connector(given), hooks)


def _tc4(given: _Given, connector: Connector, hooks: Hooks | None) -> Tc4:
    chan = given.text("chan", "1200", 4)
    if not codec.is_chan(chan):
        raise BadOption(CANNOT_BE, "Four digits 0–4, as in CHAN;1200.", name="chan", value=repr(chan))
    names = {name.removesuffix("_temp_c"): name for name in TEMPERATURE_FIELDS}
    wiring = Wiring(
        chan=chan, filter_percent=given.whole("filter_percent", 70, 0, 99), inputs=_inputs(given, chan, names),
        offsets_c=_offsets(given, names | {name: name for name in TEMPERATURE_FIELDS}), outputs=_outputs(given),
    )
    return Tc4(
        connector, wiring, hooks=hooks, interval_s=given.whole("interval_ms", 250, *INTERVAL_MS) / 1e3,
        assumed_state=given.choice("assumed_state", MachineState, MachineState.UNKNOWN),
        answer_s=given.whole("answer_timeout_ms", 600, 50, 3000) / 1e3,
        reconnect_max_s=given.whole("reconnect_max_ms", 5000, 250, 60_000) / 1e3,
        settle_s=given.whole("settle_ms", 2000, 100, 3500) / 1e3,
        boot_s=given.whole("boot_ms", 4000, 0, 10_000) / 1e3,
    )


def _tcp_connector(given: _Given) -> Connector:
    connector = given.connector()
    if connector is not None:
        return connector
    host = given.text("host", "127.0.0.1", 255)
    port = given.whole("port", None, 1, 65_535)
    return TcpConnector(host, port, given.whole("connect_timeout_ms", 1000, 50, 5000) / 1e3)


def _columns(given: _Given) -> tuple[str, ...]:
    value = given.options.get("columns")
    if value is None:
        return DEFAULT_COLUMNS
    names = [name.strip() for name in value.split(",")] if isinstance(value, str) else value
    is_list = isinstance(names, list) and 1 <= len(names) <= _ENTRIES_MAX
    if not is_list or not all(isinstance(name, str) and 1 <= len(name) <= KEY_CHARACTERS_MAX for name in names):
        how_to_fix = "A list of names, as in the table of docs/line-protocols.md."
        raise BadOption(CANNOT_BE, how_to_fix, name="columns", value=repr(value))
    if len(set(names)) != len(names):
        raise BadOption("{name} names one twice", name="columns")
    return tuple(names)


def _offsets(given: _Given, known: dict[str, str]) -> dict[str, float]:
    """°C by our name."""
    found: dict[str, float] = {}
    for name, value in given.mapping("offsets").items():
        if name not in known:
            raise BadOption(NO_TEMPERATURE, KNOWN, name=repr(name), known=", ".join(known), meant=closest(name, known))
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not -100.0 <= value <= 100.0:
            words = "the offset of {name} must be a number of °C from -100 to 100, not {value}"
            raise BadOption(words, name=name, value=repr(value))
        found[known[name]] = float(value)
    return found


def _inputs(given: _Given, chan: str, names: dict[str, str]) -> dict[str, str]:
    """Our temperature → where READ shows it."""
    shown = ["ambient", *(f"ch{number}" for number in range(1, 5))]
    usable = shown[: 1 + codec.inputs_of(chan)]
    asked = given.mapping("inputs")
    if not asked:
        return {name: source for name, source in Wiring().inputs.items() if source in usable}
    found: dict[str, str] = {}
    for name, source in asked.items():
        if name not in names:
            raise BadOption(NO_TEMPERATURE, KNOWN, name=repr(name), known=", ".join(names), meant=closest(name, names))
        if source not in usable:
            words, how_to_fix = "{name} cannot be read from {value}", "With CHAN;{chan}: {known}."
            raise BadOption(words, how_to_fix, name=name, value=repr(source), chan=chan, known=", ".join(usable))
        found[names[name]] = source
    return found


def _outputs(given: _Given) -> dict[Control, Output]:
    """What may be steered: control → output. Nothing where the option is absent."""
    found: dict[Control, Output] = {}
    for name, said in given.mapping("controls").items():
        if name not in Control._value2member_map_:
            known = [control.value for control in Control]
            words = "there is no control {name}"
            raise BadOption(words, KNOWN, name=repr(name), known=", ".join(known), meant=closest(name, known))
        inner = _Given(f"controls.{name}", said if isinstance(said, dict) else {"": said}, _OUTPUT_KEYS)
        low, high = inner.whole("min", 0, 0, FULL_STEP), inner.whole("max", FULL_STEP, 0, FULL_STEP)
        if low >= high:
            raise BadOption("{name}: min {low} is not below max {high}", name=name, low=low, high=high)
        safe_default = 0 if name == Control.HEATER else None
        safe = inner.options.get("safe", safe_default)
        found[Control(name)] = Output(
            command=_one_of(inner, "output", codec.OUTPUTS),
            steerable=Steerable(ControlRange(low, high), None if safe is None else inner.whole("safe", 0, 0, high)),
            full_scale=inner.whole("full_scale", 100, 100, 100_000),
            echo=_echo(inner, name),
        )
    commands = [output.command for output in found.values()]
    if len(set(commands)) != len(commands):
        raise BadOption("two controls cannot share an output")
    return found


def _echo(inner: _Given, name: str) -> str | None:
    """The column that shows it: its namesake, unless said otherwise; ``none`` where nothing does."""
    value = inner.options.get("echo", name if name in _ECHOES else "none")
    if value in (None, "none"):
        return None
    if value not in _ECHOES:
        raise BadOption(
            CANNOT_BE, KNOWN, name=f"{inner.kind}.echo", value=repr(value), known=", ".join((*_ECHOES, "none"))
        )  # fmt: skip
    return value


def _one_of(inner: _Given, name: str, known: tuple[str, ...]) -> str:
    value = inner.options.get(name)
    if value not in known:
        meant = closest(str(value), known) if value is not None else ""
        path = f"{inner.kind}.{name}"
        raise BadOption(CANNOT_BE, KNOWN, name=path, value=repr(value), known=", ".join(known), meant=meant)
    return str(value)


def _state(name: str, value: Any) -> MachineState:
    known = sorted(state.value for state in ASKABLE)
    if value not in known:
        meant = closest(str(value), known)
        raise BadOption(CANNOT_BE, KNOWN, name=name, value=repr(value), known=", ".join(known), meant=meant)
    return MachineState(value)


class _Given:
    """The options as given; each reader refuses what does not fit."""

    def __init__(self, kind: str, options: dict[str, Any], known: tuple[str, ...]) -> None:
        for name in options:
            if name not in known:
                meant = closest(name, known)
                raise BadOption(NO_OPTION, KNOWN, kind=kind, name=repr(name), known=", ".join(known), meant=meant)
        self.kind = kind
        self.options = options

    def whole(self, name: str, default: int | None, low: int, high: int) -> int:
        """A whole number within bounds; the command line has only text."""
        value = self.options.get(name, default)
        if isinstance(value, str) and value.isdecimal() and value.isascii():
            value = int(value)
        if value is None and name not in self.options:
            raise BadOption("{kind} needs the option {name}", kind=self.kind, name=name)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise BadOption(NOT_WHOLE, name=name, low=low, high=high, value=repr(value))
        return value

    def text(self, name: str, default: str | None, longest: int) -> str:
        """Text that is not empty; numbers that the command line took for such come back as text."""
        value = self.options.get(name, default)
        if value is None and name not in self.options:
            raise BadOption("{kind} needs the option {name}", kind=self.kind, name=name)
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not 1 <= len(value) <= longest or "\x00" in value:
            words = "{name} must be text of 1–{longest} characters, not {value}"
            raise BadOption(words, name=name, longest=longest, value=repr(value))
        return value

    def flag(self, name: str, default: bool) -> bool:
        """true or false."""
        value = self.options.get(name, default)
        if not isinstance(value, bool):
            raise BadOption("{name} must be true or false, not {value}", name=name, value=repr(value))
        return value

    def choice(self, name: str, kind: type[Choice], default: Choice) -> Choice:
        """A member of a small enum."""
        value = self.options.get(name, default)
        try:
            return kind(value)
        except ValueError:
            known = [member.value for member in kind]
            meant = closest(str(value), known)
            raise BadOption(
                CANNOT_BE, KNOWN, name=name, value=repr(value), known=", ".join(known), meant=meant
            ) from None  # fmt: skip

    def mapping(self, name: str) -> dict[str, Any]:
        """A JSON object, bounded; empty where there is none."""
        value = self.options.get(name) or {}
        if not isinstance(value, dict) or len(value) > _ENTRIES_MAX:
            words = "{name} must be an object of at most {most} entries, not {value}"
            raise BadOption(words, name=name, most=_ENTRIES_MAX, value=repr(value))
        return value

    def connector(self) -> Connector | None:
        """In this process only (tests): what stands in for a socket or a port."""
        value = self.options.get("connector")
        if value is not None and not hasattr(value, "connect"):
            raise BadOption(CANNOT_BE, name="connector", value=repr(value))
        return value
