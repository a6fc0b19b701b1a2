"""Random and mutated lines through the parsers, by seed: for `manage.py fuzzcodecs` and the tests. Moves nothing."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from drivers.lines import tc4_codec
from drivers.lines.greeting import Ack, Hello
from drivers.lines.parsing import RANGES, Fault, Format, Ignored, LineFormat, LineParser, LineSplitter, Sample
from drivers.port import ProtocolError

_SEEDS = (
    b'{"ts":"2026-01-01T00:00:00.5Z","btC":201.5,"etC":210.25,"powerPct":70,"fanPct":30,"drumRpm":42,"state":"roasting"}',
    b'{"bean_temp_c":201.5,"heater_pct":70.5,"humidity":41.2,"note":"first crack"}',
    b"2026-01-01T00:00:00+01:00,201.5,210.2,70,30,42",
    b'HELLO {"version":1,"model":"x","interval_ms":100,"controls":{"heater":{"min":0,"max":100,"safe":0}},'
    b'"states":["cooling"]}',
    b"ACK prp_12345/3 declined too_hot", b"ACK prp_12345 ok",
    b"24.1,185.2,201.5,70,30,0.0", b"24.1,,201.5", b"# Active channels set to 1200", b"",
)  # fmt: skip
_SPICE = (b"NaN", b"Infinity", b"1e999", b"-0", b"null", b"true", b"{}", b"[[[[", b'"', b"\\u0000", b"\\ud800", b"\x00",
          b"\xff", b"\r", b",,,", b"9" * 400, b"1_0", b" ", b";", b"nan", b"HELLO ", b"ACK ", b"}")  # fmt: skip
_FORMATS = (LineFormat(), LineFormat(format=Format.CSV), LineFormat(format=Format.CSV, has_header=True, delimiter=";"))
_PIECE_MAX = 3


@dataclass(frozen=True, slots=True)
class FuzzFigures:
    """What came of it. ``rows``: TC4 rows that were read."""

    lines: int
    samples: int
    faults: int
    greetings: int
    rows: int


class FuzzFailure(Exception):
    """A line that broke a promise; ``line`` repeats it."""

    def __init__(self, line: bytes, words: str) -> None:
        super().__init__(f"{words}: {line!r}")
        self.line = line


def fuzz_lines(*, seed: int, count: int) -> FuzzFigures:
    """``count`` lines. FuzzFailure for a value that is kept and should not be; any other exception is a failure too."""
    chance = random.Random(seed)
    parsers = [LineParser(line_format) for line_format in _FORMATS]
    splitter = LineSplitter(2048)
    samples = faults = greetings = rows = 0
    for number in range(count):
        line = _mutated(chance)
        splitter.feed(line + (b"\n" if chance.random() < 0.7 else b""))
        found = parsers[number % len(parsers)].parse(line)
        if isinstance(found, Sample):
            _check(line, found)
            samples += 1
        elif isinstance(found, Fault):
            faults += 1
        elif isinstance(found, (Hello, Ack)):
            greetings += 1
        elif not isinstance(found, Ignored):
            raise FuzzFailure(line, f"parsed as {found!r}")
        rows += _reads_as_row(line, chance.randint(1, 4))
    return FuzzFigures(count, samples, faults, greetings, rows)


def _mutated(chance: random.Random) -> bytes:
    """A good line with a few bytes changed, cut, doubled or spiced; now and then pure noise."""
    if chance.random() < 0.05:
        return chance.randbytes(chance.randrange(120))
    line = bytearray(chance.choice(_SEEDS))
    for _ in range(chance.randrange(_PIECE_MAX)):
        at = chance.randrange(len(line) + 1)
        kind = chance.randrange(4)
        if kind == 0:
            line[at : at + 1] = chance.randbytes(1)
        elif kind == 1:
            del line[at : at + chance.randrange(8)]
        elif kind == 2:
            line[at:at] = chance.choice(_SPICE)
        else:
            line[at:at] = line[at : at + chance.randrange(12)]
    return bytes(line).replace(b"\n", b" ")


def _check(line: bytes, sample: Sample) -> None:
    for name, value in sample.values.items():
        low, high = RANGES[name]
        if not (math.isfinite(value) and low <= value <= high):
            raise FuzzFailure(line, f"{name} was kept as {value}")
    if any(isinstance(value, float) and not math.isfinite(value) for value in sample.extras.values()):
        raise FuzzFailure(line, "an extra was kept that is not finite")


def _reads_as_row(line: bytes, inputs: int) -> int:
    try:
        row = tc4_codec.parse_row(line, inputs)
    except ProtocolError:
        return 0
    if not all(-60.0 <= value <= 900.0 for value in row.temps_c.values()):
        raise FuzzFailure(line, f"a temperature was kept: {row.temps_c}")
    return 1
