"""Viewers of a floor in a process of their own: each watches one machine's stream, as an open page does.

`python -m roastops.benches.crowd`, with `{"url", "key", "machines", "viewers"}` as one line on standard input; says
`JOINED` when all are there, begins to count at a second line, and prints `SEEN {…}` at the end of its input.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import sys
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import uvloop

from kernel import clock

OPENED_AT_ONCE = 20
_AT = b'"at":"'


@dataclass(slots=True)
class Crowd:
    """What was seen. ``late_ms``: of each reading, from its reading at the machine to this process."""

    late_ms: list[float] = field(default_factory=list)
    decisions: int = 0
    joined: int = 0
    lost: int = 0
    is_counting: bool = False


async def watch(asked: dict[str, Any], crowd: Crowd) -> None:
    """All viewers, until standard input ends."""
    turn = asyncio.Semaphore(OPENED_AT_ONCE)
    machines, all_here = asked["machines"], asyncio.Event()
    viewers = [
        asyncio.create_task(_view(asked, machines[number % len(machines)], crowd, turn, all_here))
        for number in range(asked["viewers"])
    ]
    try:
        await all_here.wait()
        sys.stdout.write("JOINED\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        crowd.is_counting = True
        await asyncio.to_thread(sys.stdin.read)
        crowd.is_counting = False
    finally:
        for viewer in viewers:
            viewer.cancel()
        await asyncio.gather(*viewers, return_exceptions=True)


async def _view(
    asked: dict[str, Any], machine_id: str, crowd: Crowd, turn: asyncio.Semaphore, all_here: asyncio.Event
) -> None:
    at = urlsplit(asked["url"])
    async with turn:
        reader, writer = await asyncio.open_connection(at.hostname, at.port)
        head = f"GET /v1/stream?machine={machine_id} HTTP/1.1\r\nHost: bench\r\n"
        writer.write(f"{head}Authorization: Bearer {asked['key']}\r\nAccept: text/event-stream\r\n\r\n".encode())
        while not (await reader.readline()).startswith(b"event: hello"):
            continue
        crowd.joined += 1
        if crowd.joined == asked["viewers"]:
            all_here.set()
    kind = b""
    try:
        while line := await reader.readline():
            if line.startswith(b"event: "):
                kind = line[7:].strip()
            elif crowd.is_counting and line.startswith(b"data: "):
                _note(crowd, kind, line)
        crowd.lost += 1
    finally:
        writer.close()


def _note(crowd: Crowd, kind: bytes, line: bytes) -> None:
    if kind != b"reading":
        crowd.decisions += 1
        return
    place = line.find(_AT)
    if place < 0:
        return  # a machine whose link is down shows no reading
    taken_at = dt.datetime.fromisoformat(line[place + len(_AT) : line.index(b'"', place + len(_AT))].decode())
    crowd.late_ms.append((clock.now() - taken_at).total_seconds() * 1000)


def main() -> None:
    """As the module says."""
    crowd = Crowd()
    uvloop.run(watch(json.loads(sys.stdin.readline()), crowd))
    late_ms = sorted(crowd.late_ms)
    share = {name: late_ms[int(part * len(late_ms))] for name, part in (("p50", 0.5), ("p99", 0.99))} if late_ms else {}
    seen = {"readings": len(late_ms), "decisions": crowd.decisions, "lost": crowd.lost, **share}
    sys.stdout.write("SEEN " + json.dumps(seen) + "\n")


if __name__ == "__main__":
    main()
