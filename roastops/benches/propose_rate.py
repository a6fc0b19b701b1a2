"""How many proposals a second: PostgreSQL and Redis, two web processes, agents over HTTP as fast as they are answered.

Every proposal is for a control of its own, so that most are held; every fourth asks for too long a move and is
refused. The clock stops when the last answer is there *and* the last audit entry is sealed into the chain *and* the
last stream event is numbered. The machines are rows with a fresh reading (the governor reads no more than that).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from kernel import clock
from roastops.benches.house import NotReady
from roastops.testing import servers
from roastops.testing.processes import Fleet

WEBS, CONNECTIONS = 2, 8
PREPARE_WAIT_S, SEALED_WITHIN_S, FRESH_EVERY_S = 120.0, 30.0, 0.5

_PREPARE = """
import json
import django
django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
call_command("migrate", verbosity=0)
from commands.models import Commissioning, Grant, StopDrill
from kernel import clock, keys
from kernel.models import Agent, Membership, Organization, Site
from roasts.machines import START_LIMITS
from roasts.models import ControlLimit, Machine, MachineReading, Roast
now = clock.now()
house = Organization.objects.create(slug="bench", name="Bench", created_at=now)
site = Site.objects.create(organization=house, name="Everywhere")
lead = User.objects.create_user("lead", password=None)
Membership.objects.create(organization=house, user=lead, role="lead")
agent = Agent.objects.create(organization=house, name="bench", release="1", owner=lead, created_at=now)
machines = Machine.objects.bulk_create(
    Machine(organization=house, site=site, name=f"m{n}", driver_kind="bullet-r1", is_virtual=True, created_at=now)
    for n in range(%d))
ControlLimit.objects.bulk_create(
    ControlLimit(machine=machine, control=each.control, min_step=each.min_step, max_step=each.max_step,
                 full_scale_step=each.max_step, max_change_step=each.max_change_step, min_interval_s=0)
    for machine in machines for each in START_LIMITS["bullet-r1"])
MachineReading.objects.bulk_create(
    MachineReading(machine=machine, link="up", at=now, sequence=1, device_ms=200_000, state="roasting",
                   bean_temp_c=180.0, infrared_temp_c=195.0, rate_of_rise_c_per_min=8.0, heater_step=6, fan_step=5,
                   drum_step=6, are_beans_proved=True, written_at=now)
    for machine in machines)
Roast.objects.bulk_create(
    Roast(organization=house, machine=machine, status="roasting", started_at=now, device_start_ms=0)
    for machine in machines)
Grant.objects.bulk_create(
    Grant(organization=house, agent=agent, machine=machine, level="L3", granted_by=lead, granted_at=now)
    for machine in machines)
Commissioning.objects.bulk_create(
    Commissioning(organization=house, machine=machine, begun_by=lead, begun_at=now, completed_by=lead, completed_at=now)
    for machine in machines)
StopDrill.objects.bulk_create(
    StopDrill(organization=house, machine=machine, user=lead, at=now, is_passed=True, result="heat_off",
              first_byte_ms=4.0, proved_ms=900.0, proof={"has_heat_gone_down": True})
    for machine in machines)
key = keys.create_key(house, agent=agent, scopes=["read", "propose"], now=now)[1]
print("MADE " + json.dumps([key, [machine.pk for machine in machines]]))
"""
_FRESH = "UPDATE roasts_machinereading SET at = now(), written_at = now(), sequence = sequence + 1"
_LEFT = (
    "SELECT (SELECT count(*) FROM kernel_auditentry e WHERE NOT EXISTS "
    "(SELECT 1 FROM kernel_auditseal s WHERE s.entry_id = e.id)) "
    "+ (SELECT count(*) FROM kernel_streamevent WHERE number IS NULL)"
)
_COUNTED = (
    "SELECT (SELECT count(*) FROM commands_proposal), (SELECT count(*) FROM kernel_auditseal), "
    "(SELECT count(*) FROM kernel_streamevent WHERE number IS NOT NULL)"
)


@dataclass
class Rate:
    """What was measured."""

    asked: int = 0
    answered_s: float = float("nan")  # until the last answer
    sealed_s: float = float("nan")  # until the last entry was sealed and the last event numbered
    latencies_ms: list[float] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)
    me_per_s: float = float("nan")
    filed: int = 0
    seals: int = 0
    numbered: int = 0


def measure(count: int) -> Rate:
    """``count`` proposals; the yardstick is `GET /v1/me` over the same connections, as fast as it is answered."""
    with (
        tempfile.TemporaryDirectory(prefix="roastops-bench-") as name,
        servers.running(servers.start_postgres) as postgres,
        servers.running(servers.start_redis) as redis,
        Fleet(Path(name), database_url=postgres.url, redis_url=redis.url) as fleet,
    ):
        machines = count // 3 + 1
        running = fleet.start("prepare", sys.executable, "-c", _PREPARE % machines)
        if running.process.wait(PREPARE_WAIT_S):
            raise NotReady(f"the bench's data could not be made:\n{running.log()[-2000:]}")
        line = next(line for line in running.log().splitlines() if line.startswith("MADE "))
        key, machine_ids = json.loads(line[5:])
        urls = [fleet.start_web().url for _ in range(WEBS)]
        with psycopg.connect(postgres.url, autocommit=True) as store:
            return asyncio.run(_measure(store, urls, key, machine_ids, count))


async def _measure(store: psycopg.Connection, urls: list[str], key: str, machine_ids: list[str], count: int) -> Rate:
    found = Rate(asked=count)
    mes = [_request("GET", "/v1/me", key, b"")] * (count // 2)
    begun_s = clock.monotonic()
    await _ask_all(urls, mes)
    found.me_per_s = len(mes) / (clock.monotonic() - begun_s)
    fresh = asyncio.create_task(_keep_fresh(store))
    asks = [_request("POST", "/v1/proposals", key, _order(machine_ids, number)) for number in range(count)]
    await asyncio.sleep(2 * FRESH_EVERY_S)
    begun_s = clock.monotonic()
    answers = await _ask_all(urls, asks)
    found.answered_s = clock.monotonic() - begun_s
    for took_s, status, body in answers:
        found.latencies_ms.append(1000 * took_s)
        word = json.loads(body)["status"] if status == 201 else f"{status} {body[:200]!r}"
        found.statuses[word] = found.statuses.get(word, 0) + 1
    await asyncio.to_thread(_await_sealed, store)
    found.sealed_s = clock.monotonic() - begun_s
    fresh.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await fresh
    row = store.execute(_COUNTED).fetchone()
    found.filed, found.seals, found.numbered = row if row is not None else (0, 0, 0)
    return found


def _order(machine_ids: list[str], number: int) -> bytes:
    """One step of a control that no other proposal of this run touches; every fourth three steps at once."""
    order_type, step = (("SET_POWER", 6), ("SET_FAN", 5), ("SET_DRUM", 6))[number % 3]
    change = -3 if number % 4 == 3 else -1
    return json.dumps(
        {
            "machine_id": machine_ids[number // 3],
            "order_type": order_type,
            "target_value": step + change,
            "target_unit": "step",
            "reasoning": "bench: how many verdicts a second?",
            "evidence": [{"kind": "bench", "number": number}],
        }
    ).encode()


def _request(method: str, path: str, key: str, body: bytes) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\nAccept: application/json\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body


async def _ask_all(urls: list[str], requests: list[bytes]) -> list[tuple[float, int, bytes]]:
    """Every request once, over CONNECTIONS that stay open, turn about over the servers: (seconds, status, body)."""
    waiting, answers = iter(requests), list[tuple[float, int, bytes]]()

    async def ask_on(url: str) -> None:
        at = urlsplit(url)
        reader, writer = await asyncio.open_connection(at.hostname, at.port)
        for request in waiting:
            begun_s = clock.monotonic()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            body = await reader.readexactly(length)
            answers.append((clock.monotonic() - begun_s, int(head[9:12]), body))
        writer.close()

    await asyncio.gather(*(ask_on(urls[number % len(urls)]) for number in range(CONNECTIONS)))
    return answers


async def _keep_fresh(store: psycopg.Connection) -> None:
    """What the machines' loops would write."""
    while True:
        await asyncio.to_thread(store.execute, _FRESH)
        await asyncio.sleep(FRESH_EVERY_S)


def _await_sealed(store: psycopg.Connection) -> None:
    deadline_s = clock.monotonic() + SEALED_WITHIN_S
    while clock.monotonic() < deadline_s:
        row = store.execute(_LEFT).fetchone()
        if row is not None and row[0] == 0:
            return
        clock.sleep(0.05)
    raise NotReady(f"not everything was sealed and numbered in {SEALED_WITHIN_S:.0f} s")
