"""From a reading to three hundred viewers: real streams, a real server, readings that come by telemetry at 4 Hz."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import uvloop

from kernel import clock
from roastops.benches.figures import Figure, Outcome, quantile
from roastops.benches.house import NotReady
from roastops.testing.processes import Fleet

VIEWERS = 300
EVERY_S = 0.25
FULL_S, SHORT_S = 30.0, 4.0
INDEX_BITS = 12
PREPARE_WAIT_S, JOIN_WAIT_S = 120.0, 60.0

_PREPARE = """
import json
import django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
from kernel import clock, keys
from kernel.models import Agent, Organization, Site
from roasts.models import Machine
now = clock.now()
house = Organization.objects.create(slug="bench", name="Bench", created_at=now)
site = Site.objects.create(organization=house, name="Here")
machine = Machine.objects.create(
    organization=house, site=site, name="Far", driver_kind="bullet-r1", is_remote=True, created_at=now)
bridge = Agent.objects.create(organization=house, name="bridge", created_at=now)
print("MADE " + json.dumps([machine.pk, keys.create_key(house, agent=bridge, scopes=["telemetry"], now=now)[1]]))
"""


@dataclass
class Watch:
    """When each reading was taken, and how late each viewer had it."""

    taken_s: dict[int, float] = field(default_factory=dict)
    late_ms: list[float] = field(default_factory=list)
    post_ms: list[float] = field(default_factory=list)
    joined: int = 0
    is_joined: asyncio.Event = field(default_factory=asyncio.Event)


def run(*, is_short: bool) -> Outcome:
    """300 viewers of one machine; the yardstick is the POST that brought the reading, answered."""
    with tempfile.TemporaryDirectory(prefix="roastops-bench-") as name, Fleet(Path(name)) as fleet:
        running = fleet.start("prepare", sys.executable, "-c", _PREPARE)
        if running.process.wait(PREPARE_WAIT_S):
            raise NotReady(f"the bench's data could not be made:\n{running.log()[-2000:]}")
        line = next(line for line in running.log().splitlines() if line.startswith("MADE "))
        machine_id, key = json.loads(line[5:])
        web = fleet.start_up("--without-demo")
        watch = Watch()
        uvloop.run(_watch(web.url, machine_id, key, watch, SHORT_S if is_short else FULL_S))
    return _outcome(watch, is_short)


async def _watch(url: str, machine_id: str, key: str, watch: Watch, seconds: float) -> None:
    viewers = [asyncio.create_task(_view(url, machine_id, key, watch)) for _ in range(VIEWERS)]
    try:
        async with asyncio.timeout(JOIN_WAIT_S):
            await watch.is_joined.wait()
        await _send(url, machine_id, key, watch, seconds)
        await asyncio.sleep(1.0)
    finally:
        for viewer in viewers:
            viewer.cancel()
        await asyncio.gather(*viewers, return_exceptions=True)


async def _view(url: str, machine_id: str, key: str, watch: Watch) -> None:
    """One viewer: notes when each reading arrives."""
    at = urlsplit(url)
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    head = f"GET /v1/stream?machine={machine_id}&kind=readings HTTP/1.1\r\nHost: bench\r\n"
    writer.write(f"{head}Authorization: Bearer {key}\r\nAccept: text/event-stream\r\n\r\n".encode())
    try:
        while line := await reader.readline():
            if line.startswith(b"event: hello"):
                watch.joined += 1
                if watch.joined == VIEWERS:
                    watch.is_joined.set()
            elif line.startswith(b'data: {"machine_id"'):
                place = line.find(b'"sequence":')
                if place > 0:
                    batch = int(line[place + 11 :].split(b",", 1)[0]) >> INDEX_BITS
                    watch.late_ms.append((clock.monotonic() - watch.taken_s[batch]) * 1000)
    finally:
        writer.close()


async def _send(url: str, machine_id: str, key: str, watch: Watch, seconds: float) -> None:
    """A reading every quarter of a second, each in an envelope of its own."""
    at = urlsplit(url)
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    for sequence in range(1, round(seconds / EVERY_S) + 1):
        await asyncio.sleep(max(0.0, begun_s + sequence * EVERY_S - loop.time()))
        watch.taken_s[sequence] = clock.monotonic()
        now = clock.now().astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
        point = {"at": now, "state": "roasting", "bean_temp_c": 200 + sequence / 10, "heater_step": 5}
        body = json.dumps(
            {
                "schema": "roastops-telemetry/1",
                "machine_id": machine_id,
                "sequence": sequence,
                "at": now,
                "points": [point],
            }
        ).encode()
        head = f"POST /v1/telemetry HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        said = await reader.readexactly(length)
        if b" 201 " not in answer[:16]:
            raise NotReady(f"the reading was not taken: {said[:300]!r}")
        watch.post_ms.append((clock.monotonic() - watch.taken_s[sequence]) * 1000)
    writer.close()


def _outcome(watch: Watch, is_short: bool) -> Outcome:
    sent = len(watch.taken_s) * VIEWERS
    p99 = quantile(watch.late_ms, 0.99)
    return Outcome(
        "viewers",
        (
            Figure("reading → viewer, p50", quantile(watch.late_ms, 0.5), "ms"),
            Figure("reading → viewer, p99", p99, "ms", at_most=250.0),
            Figure("reading → viewer, max", max(watch.late_ms, default=float("nan")), "ms"),
            Figure("share of readings that reached their viewer", len(watch.late_ms) / sent, "", at_least=0.95),
            Figure("yardstick: the POST that brought it, p99", quantile(watch.post_ms, 0.99), "ms"),
            Figure("ratio of p99 to the yardstick", p99 / quantile(watch.post_ms, 0.99), "×"),
        ),
        "the POST that brought the reading, until its answer",
        is_short,
        (f"{VIEWERS} streams, a reading every {EVERY_S:g} s by telemetry, {len(watch.late_ms)} frames seen",),
    )
