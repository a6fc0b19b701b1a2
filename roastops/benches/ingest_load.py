"""A thousand bridges in one process: each keeps a connection, sends its batch when it is due, and repeats what was
not acknowledged, to whichever server answers.

`python -m roastops.benches.ingest_load`, with an :class:`Asked` as one line of JSON on standard input; says `BEGUN`
when every roast is open and the measured slots begin, and `DONE {…}` (a :class:`Seen`) at their end. Meanwhile lines
come in: `-<url>` of a server that is gone, `+<url>` of one that has come.

A bridge's points are those of a roast that goes on. Roasts are of GROUPS different ages, as in life (they do not all
reach dry end in the same second); the points of one slot are rendered once for a whole group, so that the load costs
the machine under test little. A lead-in opens every roast with one point, before the measured slots begin.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime as dt
import json
import os
import sys
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import uvloop

from kernel import clock

POINTS_HZ = 10
RETRY_S = 0.2
ANSWER_WAIT_S = 30.0
GROUPS, YOUNGEST_S, APART_S = 20, 60, 30
LEAD_IN_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Sender:
    """One machine's bridge: its key and when in each slot it sends (seconds)."""

    machine_id: str
    key: str
    phase_s: float
    group: int

    @property
    def age_ms(self) -> int:
        """How long its roast has been on when the lead-in comes."""
        return (YOUNGEST_S + APART_S * self.group) * 1000


@dataclass(frozen=True, slots=True)
class Asked:
    """What to send, where: ``senders`` as lists of Sender's fields; given up ``overtime_s`` after the last was due."""

    urls: list[str]
    slot_s: float
    slots: int
    overtime_s: float
    senders: list[tuple[str, str, float, int]]


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of it. ``acknowledged``: machine → batches; ``cpu_s``: of the load itself, in the measured slots."""

    acknowledged: dict[str, int]
    latencies_ms: list[float]
    openings_ms: list[float]
    repeats: int
    elapsed_s: float
    refusals: list[str]
    cpu_s: float


@dataclass
class Load:
    """What was sent and what was heard. ``urls`` may change while it runs: a server dies, another comes."""

    urls: list[str]
    slot_s: float
    begun_at: dt.datetime
    acknowledged: dict[str, int] = field(default_factory=dict)  # machine → batches
    latencies_ms: list[float] = field(default_factory=list)
    openings_ms: list[float] = field(default_factory=list)  # of the lead-in: each opens a roast
    repeats: int = 0
    refusals: list[str] = field(default_factory=list)
    _slots: dict[tuple[int, int], bytes] = field(default_factory=dict)

    @property
    def points_per_batch(self) -> int:
        return round(self.slot_s * POINTS_HZ)

    def points(self, sender: Sender, slot: int) -> bytes:
        """The points of a slot as JSON text, newest at the slot's end."""
        place = (sender.group, slot)
        found = self._slots.get(place)
        if found is None:
            found = self._slots[place] = json.dumps(self._render(sender, slot), separators=(",", ":")).encode()
            self._slots.pop((sender.group, slot - 4), None)
        return found

    def _render(self, sender: Sender, slot: int) -> list[dict[str, Any]]:
        """A point each tenth of a second; device time goes on where the lead-in left it."""
        points = []
        for n in range(self.points_per_batch):
            since_ms = round((slot * self.slot_s + n / POINTS_HZ) * 1000)
            points.append(_point(self.begun_at, since_ms, sender.age_ms + 1000 // POINTS_HZ + since_ms))
        return points

    def request(self, sender: Sender, slot: int) -> bytes:
        """The whole HTTP request of one batch."""
        at = self.begun_at + dt.timedelta(seconds=(slot + 1) * self.slot_s + sender.phase_s)
        return _request(sender, slot + 2, at, self.points(sender, slot))

    def opening(self, sender: Sender) -> bytes:
        """The request that opens a sender's roast."""
        now = clock.now()
        point = {**_point(now, 0, sender.age_ms), "roast_clock_s": sender.age_ms // 1000}
        return _request(sender, 1, now, json.dumps([point]).encode())


def _point(begun_at: dt.datetime, since_ms: int, device_ms: int) -> dict[str, Any]:
    return {
        "at": _text(begun_at + dt.timedelta(milliseconds=since_ms)),
        "device_ms": device_ms,
        "state": "roasting",
        "bean_temp_c": round(90 + device_ms / 6000, 2),
        "infrared_temp_c": round(120 + device_ms / 6500, 2),
        "exhaust_temp_c": round(100 + device_ms / 7000, 2),
        "heater_step": 6,
        "fan_step": 3,
        "drum_step": 6,
        "fan_rpm": 1200 + device_ms // 100 % 50,
        "voltage_v": 230,
    }


def _text(at: dt.datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _request(sender: Sender, sequence: int, at: dt.datetime, points: bytes) -> bytes:
    body = (
        f'{{"schema":"roastops-telemetry/1","machine_id":"{sender.machine_id}","sequence":{sequence},'
        f'"at":"{_text(at)}","points":'
    ).encode() + points
    body += b"}"
    head = (
        f"POST /v1/telemetry HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {sender.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _Line:
    """A connection that stays open, made anew when it broke, to the server whose turn it is."""

    def __init__(self, load: Load, number: int) -> None:
        self._load = load
        self._number = number
        self._url = ""
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """(status, body). OSError, EOFError, TimeoutError where no answer came."""
        reader, writer = await self._open()
        writer.write(request)
        async with asyncio.timeout(ANSWER_WAIT_S):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            return int(head[9:12]), await reader.readexactly(length)

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._reader is not None and self._writer is not None and self._url in self._load.urls:
            return self._reader, self._writer
        self.close()
        self._url = self._load.urls[self._number % len(self._load.urls)]
        self._number += 1  # another server next time
        at = urlsplit(self._url)
        self._reader, self._writer = await asyncio.open_connection(at.hostname, at.port)
        return self._reader, self._writer

    def close(self) -> None:
        if self._writer is not None:
            with contextlib.suppress(OSError):
                self._writer.close()
        self._reader = self._writer = None


async def lead_in(load: Load, senders: list[Sender]) -> None:
    """Open every roast, LEAD_IN_AT_ONCE at a time."""
    turn = asyncio.Semaphore(LEAD_IN_AT_ONCE)

    async def opened(number: int, sender: Sender) -> None:
        async with turn:
            line = _Line(load, number)
            begun_s = clock.monotonic()
            status, body = await line.ask(load.opening(sender))
            line.close()
            load.openings_ms.append((clock.monotonic() - begun_s) * 1000)
            if status != 201:
                load.refusals.append(f"{status} {body[:200]!r}")

    await asyncio.gather(*(opened(number, sender) for number, sender in enumerate(senders)))


async def run(load: Load, senders: list[Sender], slots: int, begin_s: float) -> None:
    """Send ``slots`` batches of each; ``begin_s``: monotonic second of the first slot's begin."""
    await asyncio.gather(*(_bridge(load, sender, n, slots, begin_s) for n, sender in enumerate(senders)))


async def _bridge(load: Load, sender: Sender, number: int, slots: int, begin_s: float) -> None:
    line = _Line(load, number)
    try:
        for slot in range(slots):
            due_s = begin_s + (slot + 1) * load.slot_s + sender.phase_s
            is_behind = clock.monotonic() > due_s  # the batch before has just been answered: this one has waited since
            await asyncio.sleep(max(0.0, due_s - clock.monotonic()))
            await _deliver(load, line, sender, slot, due_s if is_behind else clock.monotonic())
    finally:
        line.close()


async def _deliver(load: Load, line: _Line, sender: Sender, slot: int, begun_s: float) -> None:
    """One batch until it is acknowledged. ``begun_s``: monotonic second from which its answer is waited for."""
    request = load.request(sender, slot)
    while True:
        try:
            status, body = await line.ask(request)
        except (OSError, EOFError, TimeoutError, ValueError, StopIteration):
            status, body = 503, b""
        if status == 201:
            break
        line.close()
        if status not in (502, 503):
            load.refusals.append(f"{status} {body[:200]!r}")
            return
        load.repeats += 1
        await asyncio.sleep(RETRY_S)
    load.latencies_ms.append((clock.monotonic() - begun_s) * 1000)
    load.acknowledged[sender.machine_id] += 1


async def drive(asked: Asked) -> Seen:
    """The lead-in, then the load, until all is acknowledged or it is given up."""
    load = Load(asked.urls, asked.slot_s, clock.now())
    senders = [Sender(*each) for each in asked.senders]
    await lead_in(load, senders)
    load.acknowledged = {sender.machine_id: 0 for sender in senders}
    load.begun_at, cpu_s = clock.now(), sum(os.times()[:2])
    begin_s = clock.monotonic()
    _say("BEGUN")
    told = asyncio.create_task(_follow_servers(load))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout((asked.slots + 1) * asked.slot_s + asked.overtime_s):
            await run(load, senders, asked.slots, begin_s)
    elapsed_s = clock.monotonic() - begin_s - asked.slot_s
    told.cancel()
    names = ("acknowledged", "latencies_ms", "openings_ms", "repeats", "refusals")
    values = {name: getattr(load, name) for name in names}
    return Seen(**values, elapsed_s=elapsed_s, cpu_s=sum(os.times()[:2]) - cpu_s)


async def _follow_servers(load: Load) -> None:
    """Who is gone and who has come, line by line from standard input."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := (await reader.readline()).decode().strip():
        if line[0] == "-":
            load.urls.remove(line[1:])
        else:
            load.urls.append(line[1:])


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    with open(0, "rb", buffering=0, closefd=False) as unbuffered:  # what follows the line is for another reader
        given = Asked(**json.loads(unbuffered.readline()))
    _say("DONE " + json.dumps(dataclasses.asdict(uvloop.run(drive(given)))))
