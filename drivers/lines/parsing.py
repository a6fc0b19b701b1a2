"""Lines of text → values. Pure: bytes in; samples, greetings, acknowledgements and named faults out.

A line is UTF-8 text that ends in a newline: one JSON object (``jsonl``) or one row (``csv``). A value that is no
number, not finite or out of range is refused by name and leaves its field absent; the rest of the line stands. A line
that cannot be understood at all is refused as a whole. What a line may say: ``docs/line-protocols.md``.
"""

from __future__ import annotations

import csv
import datetime as dt
import enum
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from drivers.lines.greeting import Ack, BadGreeting, Hello, parse_ack, parse_hello
from drivers.port import MachineState

LINE_BYTES_MAX = 8192
EXTRAS_MAX = 32
KEY_CHARACTERS_MAX = 64
TEXT_CHARACTERS_MAX = 200

#: what a peer may call a value → our name for it (ours are good names too)
RESERVED: dict[str, str] = {
    "ts": "ts", "state": "state",
    "btC": "bean_temp_c", "etC": "environment_temp_c", "infraredC": "infrared_temp_c", "exhaustC": "exhaust_temp_c",
    "ambientC": "ambient_temp_c", "rorCPerMin": "rate_of_rise_c_per_min",
    "powerPct": "heater_pct", "gasPct": "heater_pct", "heaterPct": "heater_pct", "fanPct": "fan_pct",
    "drumPct": "drum_pct", "drumRpm": "drum_rpm", "fanRpm": "fan_rpm", "voltageV": "voltage_v",
}  # fmt: skip
RESERVED |= {ours: ours for ours in list(RESERVED.values())}

#: our name → (lowest, highest) believed; temperatures °C, rates °C/min, shares %, rpm, V
RANGES: dict[str, tuple[float, float]] = {
    "bean_temp_c": (-60.0, 700.0), "environment_temp_c": (-60.0, 900.0), "infrared_temp_c": (-60.0, 900.0),
    "exhaust_temp_c": (-60.0, 900.0), "ambient_temp_c": (-60.0, 150.0), "rate_of_rise_c_per_min": (-5000.0, 5000.0),
    "heater_pct": (0.0, 100.0), "fan_pct": (0.0, 100.0), "drum_pct": (0.0, 100.0),
    "drum_rpm": (0.0, 10_000.0), "fan_rpm": (0.0, 100_000.0), "voltage_v": (0.0, 1000.0),
}  # fmt: skip
TEMPERATURES = frozenset(name for name in RANGES if name.endswith("_temp_c"))
DEFAULT_COLUMNS = ("ts", "btC", "etC", "powerPct", "fanPct", "drumRpm")

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.ASCII | re.IGNORECASE)
_RFC_3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(\.\d{1,18})?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_UNPRINTABLE = dict.fromkeys([*range(32), 127, *range(0xD800, 0xE000)])


class Format(enum.StrEnum):
    """How a line carries its values."""

    JSONL = "jsonl"
    CSV = "csv"


class Scale(enum.StrEnum):
    """The unit a peer's temperatures come in."""

    CELSIUS = "C"
    FAHRENHEIT = "F"


@dataclass(frozen=True, slots=True)
class LineFormat:
    """What to expect of a peer's lines. ``offsets_c`` are added after conversion to °C; ``states``: its word → ours."""

    format: Format = Format.JSONL
    has_header: bool = False
    columns: tuple[str, ...] = DEFAULT_COLUMNS
    delimiter: str = ","
    scale: Scale = Scale.CELSIUS
    offsets_c: Mapping[str, float] = field(default_factory=dict)
    states: Mapping[str, MachineState] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sample:
    """One line of telemetry. ``ts_s``: the peer's own time in seconds since 1970, None where it gave none.

    ``values``: our names → finite numbers in range; ``faults``: names of what was refused in it.
    """

    ts_s: float | None
    values: dict[str, float]
    state: MachineState | None = None
    state_text: str | None = None
    extras: dict[str, float | str] = field(default_factory=dict)
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ignored:
    """A line without telemetry that is no error: ``blank``, ``comment``, ``header`` or ``no_channel``."""

    why: str


@dataclass(frozen=True, slots=True)
class Fault:
    """A line that was refused as a whole, by a stable name, and in words."""

    code: str
    words: str


Parsed = Sample | Hello | Ack | Ignored | Fault


class LineSplitter:
    """Bytes as they come → whole lines without their ends. Holds at most one line of at most ``bytes_max``."""

    def __init__(self, bytes_max: int = LINE_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._rest = bytearray()
        self._is_skipping = False

    def feed(self, data: bytes) -> list[bytes | None]:
        """Lines completed by ``data``, in order; None for each that was too long to be kept."""
        pieces = data.split(b"\n")
        lines: list[bytes | None] = []
        for piece in pieces[:-1]:
            is_too_long = self._is_skipping or len(self._rest) + len(piece) > self._bytes_max
            lines.append(None if is_too_long else bytes(self._rest + piece).removesuffix(b"\r"))
            self._rest.clear()
            self._is_skipping = False
        last = pieces[-1]
        if self._is_skipping or len(self._rest) + len(last) > self._bytes_max:
            self._rest.clear()
            self._is_skipping = True
        else:
            self._rest += last
        return lines

    def reset(self) -> bool:
        """Forget what was begun (another connection); True where a line had been."""
        had = bool(self._rest) or self._is_skipping
        self._rest.clear()
        self._is_skipping = False
        return had


class LineParser:
    """One peer's lines. Remembers nothing but the header of the present connection."""

    def __init__(self, line_format: LineFormat) -> None:
        self._format = line_format
        self._columns: tuple[str, ...] | None = None
        self.reset()

    def reset(self) -> None:
        """Another connection: its header comes again."""
        self._columns = None if self._format.has_header else self._format.columns

    def parse(self, line: bytes) -> Parsed:
        """What one line says. Never raises, whatever the bytes are."""
        try:
            text = line.decode("utf-8").strip("\ufeff \t\r\x00")
        except UnicodeDecodeError:
            return Fault("not_utf8", "the line is not UTF-8 text")
        if not text:
            return Ignored("blank")
        try:
            if text.startswith("HELLO ") or text == "HELLO":
                return parse_hello(text[5:])
            if text.startswith("ACK "):
                return parse_ack(text)
        except BadGreeting as bad:
            return Fault(bad.code, bad.words)
        if text.startswith("#"):
            return Ignored("comment")
        if self._format.format is Format.JSONL:
            return self._parse_json(text)
        return self._parse_row(text)

    def _parse_json(self, text: str) -> Parsed:
        try:
            found = json.loads(text)  # NaN and Infinity pass here, and are refused by name where they stand
        except (ValueError, RecursionError):
            return Fault("bad_json", "the line is not JSON")
        if not isinstance(found, dict):
            return Fault("not_an_object", "the line is JSON, but no object")
        return self._sample(found.items())

    def _parse_row(self, text: str) -> Parsed:
        try:
            row = next(csv.reader([text], delimiter=self._format.delimiter, strict=True), [])
        except csv.Error:
            return Fault("bad_csv", "the line is no row of values")
        cells = [cell.strip() for cell in row]
        if self._columns is None:
            if len(set(cells)) != len(cells) or not all(cells):
                return Fault("bad_header", "the header names a column twice, or not at all")
            self._columns = tuple(cells)
            return Ignored("header")
        if len(cells) != len(self._columns):
            code = "too_few_columns" if len(cells) < len(self._columns) else "too_many_columns"
            return Fault(code, f"{len(cells)} values, {len(self._columns)} columns")
        if tuple(cells) == self._columns:
            return Ignored("header")
        return self._sample((name, _cell(cell)) for name, cell in zip(self._columns, cells, strict=True) if cell)

    def _sample(self, pairs: Iterable[tuple[str, Any]]) -> Parsed:
        values: dict[str, float] = {}
        extras: dict[str, float | str] = {}
        faults: list[str] = []
        ts_s: float | None = None
        state_value: Any = None
        for key, value in pairs:
            name = RESERVED.get(key)
            if value is None:
                continue
            if name is None:
                _keep_extra(extras, faults, key, value)
            elif name == "ts":
                if not isinstance(value, str):
                    faults.append("ts_not_text")
                    continue
                ts_s = parse_ts(value)
                if ts_s is None:
                    return Fault("bad_ts", f"ts {value[:40]!r} is no RFC 3339 time")
            elif name == "state":
                state_value = value
            else:
                self._keep_value(values, faults, name, value)
        state, state_text = self._state(state_value, faults)
        if not values and state is None:
            return Fault(faults[0], "no value of the line can be used") if faults else Ignored("no_channel")
        return Sample(ts_s, values, state, state_text, extras, tuple(faults))

    def _keep_value(self, values: dict[str, float], faults: list[str], name: str, value: Any) -> None:
        number = _number(value)
        if isinstance(number, str):
            faults.append(number)
            return
        if name in TEMPERATURES:
            if self._format.scale is Scale.FAHRENHEIT:
                number = (number - 32.0) / 1.8
            number += self._format.offsets_c.get(name, 0.0)
        low, high = RANGES[name]
        if low <= number <= high:
            values[name] = number
        else:
            faults.append("out_of_range")

    def _state(self, value: Any, faults: list[str]) -> tuple[MachineState | None, str | None]:
        """(our state, the peer's own word); a word nobody knows is ``unknown``, which permits nothing."""
        if value is None:
            return None, None
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # a number in a CSV cell
        text = clean_text(str(value)) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
        state = self._format.states.get(text)
        if state is None and text.lower() in MachineState._value2member_map_:
            state = MachineState(text.lower())
        if state is None:
            faults.append("unknown_state")
        return state or MachineState.UNKNOWN, text


def parse_ts(text: str) -> float | None:
    """Seconds since 1970 of an RFC 3339 time, which must name its zone; None where it is none. A leap second counts
    as the first of the next minute.
    """
    found = _RFC_3339.fullmatch(text.strip())
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    fraction, sign, zone_h, zone_min = found.groups()[6:]
    try:
        at = dt.datetime(year, month, day, hour, minute, min(second, 59), tzinfo=dt.UTC)
    except ValueError:
        return None
    if second > 60 or (zone_h is not None and (int(zone_h) > 23 or int(zone_min) > 59)):
        return None
    seconds = (at - _EPOCH).total_seconds() + (1 if second == 60 else 0) + float(fraction or 0.0)
    if sign is not None:
        shift_s = 3600 * int(zone_h) + 60 * int(zone_min)
        seconds += -shift_s if sign == "+" else shift_s
    return seconds


def clean_text(text: str) -> str:
    """Text of a stranger, fit to be stored and shown: no control characters, no lone surrogates, bounded."""
    return text[: 4 * TEXT_CHARACTERS_MAX].translate(_UNPRINTABLE).strip()[:TEXT_CHARACTERS_MAX]


def _cell(cell: str) -> float | str:
    """A CSV cell: a number where it is one (``nan`` and ``inf`` too: they are refused by name), else text."""
    if _NUMBER.fullmatch(cell) or _NOT_FINITE.fullmatch(cell):
        return float(cell)
    return cell


def _number(value: Any) -> float | str:
    """A finite float, or the name of what it is instead."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "not_a_number"
    try:
        number = float(value)
    except OverflowError:
        return "not_finite"
    return number if math.isfinite(number) else "not_finite"


def _keep_extra(extras: dict[str, float | str], faults: list[str], key: str, value: Any) -> None:
    """Numbers and short text under a name of the peer's own are kept, up to a bound; the rest is named and dropped."""
    name = clean_text(key)[:KEY_CHARACTERS_MAX]
    if isinstance(value, str):
        kept: float | str = clean_text(value)
    else:
        kept = _number(value)
        if isinstance(kept, str):
            faults.append("not_finite" if kept == "not_finite" else "extra_dropped")
            return
    if not name or (len(extras) >= EXTRAS_MAX and name not in extras):
        faults.append("extra_dropped")
        return
    extras[name] = kept
