"""Mutated roast files, read in a process of their own: `python -m roasts.tests.fuzz_files COUNT SEED`.

Prints one JSON line: how many were read and refused, the slowest one in seconds, and the process's peak of memory in MB
(interpreter and numpy included). Exits with a traceback on anything but a FormatError; a file that hangs is told by
the alarm. Each file is a mutation of a seed file: real logs where there are any, and every format we write. What
was read is counted and written again, too, in each of the formats in turn.
"""

from __future__ import annotations

import ast
import json
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from roasts.alog import AlogError, read_alog
from roasts.curve import BULLET_R1_HEATER, CurveSettings, summarise
from roasts.formats.imported import FormatError
from roasts.formats.reading import read_roast
from roasts.formats.writing import write_roast
from roasts.tests import real_logs

TEXT_FORMATS = ("alog", "artisan-csv", "json", "ndjson", "roastime-json", "roastime-csv")
ALARM_S = 20
NASTY = (
    b"-" * 100_000, b"[" * 100_000, b"(" * 5_000, b"{'a':" * 5_000, b"9" * 100_000, b"1e" + b"9" * 5_000, b"nan",
    b"-inf", b"1j", b"{1,2}", b"b'x'", b"None", b"null", b"'" * 3, b'"' * 3, b"\\", b"\x00" * 50, b"\xff\xfe",
    b"\xed\xa0\x80", b"\\ud800", b"[]" * 50_000, b"''," * 50_000, b"0," * 500_000, b"1.5, " * 300_000,
    b"\n" * 100_000, b"\t" * 5_000, b"," * 5_000, b"{}" * 1_000, b"__import__('os')", b"lambda: 0", b"f'{1}'",
    b"1_000", b"0x10", b"1" * 300, b"1e400", b"-1e400", b"True", b"99999999999999999999", b"\xe2\x80\xa8", b"[[" * 30,
    b"#", b"'timeindex': [1e9, -5, 0.5, '7']",
)  # fmt: skip


def seeds() -> list[bytes]:
    """Files to mutate: one of each format made of a small roast, and real ones where they are."""
    log = {
        "mode": "C", "timex": [float(s) for s in range(60)], "temp1": [200.0 + s for s in range(60)],
        "temp2": [100.0 + s for s in range(60)], "timeindex": [2, 0, 30, 0, 0, 0, 50, 0], "title": "seed",
        "extradevices": [84, 85, 86, 87], "extraname1": ["a", "b", "c", "d"], "extraname2": ["e", "f", "g", "h"],
        "extratimex": [[float(s) for s in range(60)]] * 4, "extratemp1": [[70.0] * 60] * 3 + [[4.0] * 2 + [6.0] * 58],
        "extratemp2": [[20.0] * 60] * 4, "specialevents": [3], "specialeventstype": [3], "specialeventsvalue": [8.0],
        "specialeventsStrings": ["x"], "weight": [400.0, 340.0, "g"], "computed": {"TP_BT": 1.0},
        "roastepoch": 1772934297,
    }  # fmt: skip
    small = read_alog(repr(log).encode())
    real = [path.read_bytes() for path in real_logs.paths()[:5]]
    whole = [read_alog(data) for data in real[:1]]
    return [write_roast(roast, name) for roast in [small, *whole] for name in TEXT_FORMATS] + real


def _spliced(rng: random.Random, data: bytes, other: bytes) -> bytes:
    at, begin = rng.randrange(len(data) + 1), rng.randrange(len(other) + 1)
    return data[:at] + other[begin : begin + rng.randrange(2_000)] + data[at:]


def _flipped(rng: random.Random, data: bytes, _: bytes) -> bytes:
    changed = bytearray(data)
    for _count in range(rng.randint(1, 30)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _cut(rng: random.Random, data: bytes, _: bytes) -> bytes:
    begin = rng.randrange(len(data))
    return data[:begin] if rng.random() < 0.4 else data[:begin] + data[begin + rng.randrange(5_000) :]


def _nasty(rng: random.Random, data: bytes, _: bytes) -> bytes:
    for _count in range(rng.randint(1, 3)):
        at = rng.randrange(len(data))
        data = data[:at] + rng.choice(NASTY) + data[at + rng.choice([0, 0, 1, 5]) :]
    return data


def _value(rng: random.Random, data: bytes, _: bytes) -> bytes:
    """Another value after one of the colons or commas: the mutation that stays well-formed."""
    places = [at for at, byte in enumerate(data[:200_000]) if byte in b":,\t"]
    if not places:
        return data
    at = rng.choice(places) + 1
    end = min((p for p in (data.find(mark, at) for mark in (b",", b"]", b"}", b"\t", b"\n")) if p >= 0), default=at)
    return data[:at] + rng.choice(NASTY) + data[end:]


def _many(rng: random.Random, data: bytes, _: bytes) -> bytes:
    """A stretch of the file many times over, up to more than is read at all."""
    begin = rng.randrange(len(data))
    piece = data[begin : begin + rng.randrange(1, 3_000)]
    most = 9_000_000 // len(piece)
    return data[:begin] + piece * min(rng.choice([10, 1_000, most]), most) + data[begin:]


MUTATIONS: tuple[Callable[[random.Random, bytes, bytes], bytes], ...] = (_spliced, _flipped, _cut, _nasty, _value)


def mutated(rng: random.Random, files: list[bytes]) -> bytes:
    """One mutated file."""
    data = rng.choice(files)
    if rng.random() < 0.02:
        return _many(rng, data, b"")
    for _count in range(rng.choice([1, 1, 1, 2, 5])):
        data = rng.choice(MUTATIONS)(rng, data or b"{", rng.choice(files))
    return data


def read_one(data: bytes, format_name: str = "json") -> bool:
    """Whether it was read; only the room's own refusals are an answer. What was read is counted and written again."""
    try:
        read_alog(data)
    except AlogError:
        pass
    try:
        roast = read_roast(data)
    except FormatError:
        return False
    summarise(roast.curve, roast.marks, CurveSettings(heater=BULLET_R1_HEATER))
    written = write_roast(roast, format_name)
    if format_name == "alog":
        ast.literal_eval(written.decode("utf-8"))  # as Artisan reads it
    return True


def _peak_mb() -> float:
    """This program's own peak: `ru_maxrss` would begin with that of whoever started it."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this system does not tell a program's peak of memory")


def run(count: int, seed: int) -> dict[str, Any]:
    """Read ``count`` mutated files."""
    rng, files = random.Random(seed), seeds()
    read, slowest_s, slowest = 0, 0.0, 0
    for number in range(count):
        data = mutated(rng, files)
        signal.setitimer(signal.ITIMER_PROF, ALARM_S)  # of our own time: a busy machine is no hang
        began_s = time.process_time()
        read += read_one(data, TEXT_FORMATS[number % len(TEXT_FORMATS)])
        took_s = time.process_time() - began_s
        signal.setitimer(signal.ITIMER_PROF, 0)
        if took_s > slowest_s:
            slowest_s, slowest = took_s, number
    peak_mb = _peak_mb()
    refused = count - read
    return {"read": read, "refused": refused, "slowest_s": slowest_s, "slowest": slowest, "peak_mb": peak_mb}


if __name__ == "__main__":
    print(json.dumps(run(int(sys.argv[1]), int(sys.argv[2]))))
