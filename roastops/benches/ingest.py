"""Points a second over HTTP from a thousand machines, with a worker killed on the way, counted row by row after.

The bridges are no part of the house: their process stands before it in the queue for the processor.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from kernel import clock, priority
from roastops.benches import ingest_load
from roastops.benches.figures import Figure, Outcome, quantile
from roastops.benches.floor import ELSEWHERE
from roastops.benches.house import NotReady
from roastops.benches.ingest_load import GROUPS, Asked, Seen
from roastops.testing import servers
from roastops.testing.processes import Fleet, Running

WORKERS = 3  # one dies on the way: two must carry the load meanwhile, for a process is one core at most
SLOT_S = 5.0
BATCH_POINTS = round(SLOT_S * ingest_load.POINTS_HZ)
COPY_ROWS = 100_000
PREPARE_WAIT_S = 120.0
#: A load that cannot be kept is given up this long after its last batch was due; what was not sent is said.
OVERTIME_S = 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class Size:
    """How much: machines at 10 Hz, and for how many slots of SLOT_S."""

    machines: int
    slots: int


SHORT, USUAL, FULL = Size(100, 3), Size(1000, 12), Size(1000, 60)

_PREPARE = """
import json, sys
import django
django.setup()
from django.core.management import call_command
from django.db import connection, transaction
call_command("migrate", verbosity=0)
from kernel import clock, keys
from kernel.models import Agent, Organization, Site
from roasts.models import Machine
now = clock.now()
transaction.set_autocommit(False)
house = Organization.objects.create(slug="bench", name="Bench", created_at=now)
site = Site.objects.create(organization=house, name="Everywhere")
made = []
for n in range(%d):
    machine = Machine.objects.create(
        organization=house, site=site, name=f"m{n}", driver_kind="bullet-r1", is_remote=True, created_at=now)
    bridge = Agent.objects.create(organization=house, name=f"bridge {n}", created_at=now)
    _key, plain = keys.create_key(house, agent=bridge, scopes=[f"telemetry:{machine.pk}"], now=now)
    made.append([machine.pk, plain])
transaction.commit()
transaction.set_autocommit(True)
with connection.cursor() as cursor:
    cursor.execute("ANALYZE")  # PostgreSQL does it by itself, within its first minute
print("MADE " + json.dumps(made))
"""


def run(*, is_short: bool, is_full: bool = False) -> Outcome:
    """1,000 machines for a minute (``is_full``: five; ``is_short``: 100 machines for 15 s)."""
    size = SHORT if is_short else FULL if is_full else USUAL
    with (
        tempfile.TemporaryDirectory(prefix="roastops-bench-") as name,
        servers.running(servers.start_postgres) as postgres,
        servers.running(servers.start_redis) as redis,
        Fleet(Path(name), database_url=postgres.url, redis_url=redis.url) as fleet,
    ):
        senders = _prepared(fleet, size.machines)
        workers = [fleet.start_web() for _ in range(WORKERS)]
        asked = Asked([each.url for each in workers], SLOT_S, size.slots, OVERTIME_S, senders)
        load, used = _drive(asked, fleet, workers, postgres.process.pid)
        with psycopg.connect(postgres.url, autocommit=True) as store:
            counted = _counted(store)
            copy_per_s = _copied_per_s(store)
    return _outcome(size, load, counted, copy_per_s, used, is_short)


def _prepared(fleet: Fleet, machines: int) -> list[tuple[str, str, float, int]]:
    """Machines and a key bound to each, made in one process; as Senders' fields."""
    running = fleet.start("prepare", sys.executable, "-c", _PREPARE % machines)
    if running.process.wait(PREPARE_WAIT_S):
        raise NotReady(f"the bench's data could not be made:\n{running.log()[-2000:]}")
    line = next(line for line in running.log().splitlines() if line.startswith("MADE "))
    pairs = json.loads(line[5:])
    return [(machine_id, key, n * SLOT_S / machines, n % GROUPS) for n, (machine_id, key) in enumerate(pairs)]


@dataclasses.dataclass(frozen=True, slots=True)
class Used:
    """CPU seconds while the load ran: of the workers (without their starts), of the database, of the load."""

    workers_s: float
    database_s: float
    load_s: float


def _drive(asked: Asked, fleet: Fleet, workers: list[Running], database_pid: int) -> tuple[Seen, Used]:
    """The load from its begin to its end, a worker killed in the middle."""
    with _bridges(fleet) as process:
        if process.stdin is None or process.stdout is None:
            raise NotReady("the load's process has no pipes")
        _say(process, json.dumps(dataclasses.asdict(asked)))
        if process.stdout.readline().strip() != "BEGUN":
            raise NotReady("the load did not begin")
        begun_s = clock.monotonic()
        tally = _Tally({each.pid: _used_s(each.pid) for each in workers})
        database_s = _used_s(database_pid)
        clock.sleep(begun_s + SLOT_S * (1 + asked.slots / 2) - clock.monotonic())
        _kill_one(process, fleet, workers, tally)
        seen = Seen(**json.loads(process.stdout.readline().removeprefix("DONE ")))
        return seen, Used(tally.total_s(), _used_s(database_pid) - database_s, seen.cpu_s)


@contextlib.contextmanager
def _bridges(fleet: Fleet) -> Iterator[subprocess.Popen[str]]:
    """The load's process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "roastops.benches.ingest_load"], env=fleet.environment, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    priority.lift(process.pid, ELSEWHERE)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _say(process: subprocess.Popen[str], line: str) -> None:
    """A load that is over hears no more."""
    with contextlib.suppress(BrokenPipeError):
        if process.stdin is not None:
            process.stdin.write(line + "\n")
            process.stdin.flush()


@dataclasses.dataclass(slots=True)
class _Tally:
    """CPU seconds of workers: pid → used before the load (or when it was ready), and of one that is gone."""

    before_s: dict[int, float]
    gone_s: float = 0.0

    def leave(self, pid: int) -> None:
        """This one dies now."""
        self.gone_s += _used_s(pid) - self.before_s.pop(pid)

    def total_s(self) -> float:
        return self.gone_s + sum(_used_s(pid) - before_s for pid, before_s in self.before_s.items())


def _kill_one(load: subprocess.Popen[str], fleet: Fleet, workers: list[Running], tally: _Tally) -> None:
    """kill -9 to the last worker; a new one takes its place, as any supervisor would have it."""
    victim = workers.pop()
    tally.leave(victim.pid)
    victim.kill()
    _say(load, f"-{victim.url}")
    workers.append(fleet.start_web())
    tally.before_s[workers[-1].pid] = _used_s(workers[-1].pid)
    _say(load, f"+{workers[-1].url}")


def _used_s(pid: int) -> float:
    """CPU seconds of a process and its living children (PostgreSQL's leave its group), and of children that ended."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended between the list and the look
        if pid in (int(path.parent.name), int(words[1])):
            ticks += sum(int(word) for word in words[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def _counted(store: psycopg.Connection) -> dict[str, Any]:
    """What is in the store: samples by machine, batches, the roasts' own counts."""
    samples: dict[str, int] = dict(
        store.execute(
            f"SELECT r.machine_id, count(*) FROM {_table('Sample')} s JOIN {_table('Roast')} r ON r.id = s.roast_id "
            "GROUP BY 1"
        ).fetchall()
    )
    batches: dict[str, int] = dict(
        store.execute(f"SELECT machine_id, count(*) FROM {_table('TelemetryBatch')} GROUP BY 1").fetchall()
    )
    told = store.execute(f"SELECT coalesce(sum(unsigned_points), 0) FROM {_table('Roast')}").fetchone()
    return {"samples": samples, "batches": batches, "told": int(told[0]) if told else 0}


def _table(model: str) -> str:
    from django.apps import apps

    return apps.get_model("roasts", model)._meta.db_table


def _copied_per_s(store: psycopg.Connection) -> float:
    """Rows a second of a bare COPY into the same table."""
    roast = store.execute(f"SELECT id FROM {_table('Roast')} ORDER BY id LIMIT 1").fetchone()
    if roast is None:
        return float("nan")
    columns = "roast_id, elapsed_ms, sequence, at, state, bean_temp_c, infrared_temp_c, exhaust_temp_c, "
    columns += "rate_of_rise_c_per_min, heater_step, fan_step, drum_step, fan_rpm, voltage_v, quality"
    at = dt.datetime(2026, 1, 1, tzinfo=dt.UTC).isoformat()
    rows = "".join(
        f"{roast[0]}\t{100_000_000 + n}\t{n}\t{at}\troasting\t200.5\t210.5\t180.5\t8.5\t5\t3\t6\t1200\t230\t{{}}\n"
        for n in range(COPY_ROWS)
    ).encode()
    begun_s = clock.monotonic()
    with store.cursor() as cursor, cursor.copy(f"COPY {_table('Sample')} ({columns}) FROM STDIN") as copy:
        copy.write(rows)
    return COPY_ROWS / (clock.monotonic() - begun_s)


def _differences(load: Seen, slots: int, counted: dict[str, Any]) -> tuple[int, int]:
    """(points lost or doubled, machines that differ). Of a machine that was given up one batch more may be filed, for
    it was on its way.
    """
    lost = differing = 0
    for machine, acknowledged in load.acknowledged.items():
        least = 1 + acknowledged * BATCH_POINTS
        most = least + (BATCH_POINTS if acknowledged < slots else 0)
        found = counted["samples"].get(machine, 0)
        lost += max(0, least - found, found - most)
        batches = counted["batches"].get(machine, 0)
        differing += found not in (least, most) or batches != 1 + (found - 1) // BATCH_POINTS
    return lost, differing


def _outcome(size: Size, load: Seen, counted: dict[str, Any], copy_per_s: float, used: Used, is_short: bool) -> Outcome:
    filed, acknowledged = sum(counted["samples"].values()), sum(load.acknowledged.values())
    due, (lost, differing) = size.machines * size.slots, _differences(load, size.slots, counted)
    rate = (filed - size.machines) / max(load.elapsed_s, size.slots * SLOT_S)
    figures = (
        Figure("points filed per second", rate, "points/s", at_least=size.machines * ingest_load.POINTS_HZ * 0.99),
        Figure("answer to a batch, p50", quantile(load.latencies_ms, 0.5), "ms"),
        Figure("answer to a batch, p95", quantile(load.latencies_ms, 0.95), "ms", at_most=50.0),
        Figure("answer to a batch, p99", quantile(load.latencies_ms, 0.99), "ms"),
        Figure("answer to a lead-in (opens a roast), p95", quantile(load.openings_ms, 0.95), "ms"),
        Figure("batches not acknowledged by the end", float(due - acknowledged), "", at_most=0.0),
        Figure("points lost or doubled", float(lost), "points", at_most=0.0),
        Figure("machines whose points or batches differ", float(differing), "", at_most=0.0),
        Figure("points the roasts count of themselves, off by", float(abs(counted["told"] - filed)), "", at_most=0.0),
        Figure("CPU of a batch in the workers", 1000 * used.workers_s / max(1, acknowledged), "ms"),
        Figure("CPU of a batch in the database", 1000 * used.database_s / max(1, acknowledged), "ms"),
        Figure("CPU of the workers, of one core", 100 * used.workers_s / load.elapsed_s, "%"),
        Figure("CPU of the database, of one core", 100 * used.database_s / load.elapsed_s, "%"),
        Figure("CPU of the load itself, of one core", 100 * used.load_s / load.elapsed_s, "%"),
        Figure("yardstick: bare COPY", copy_per_s, "rows/s"),
        Figure("ratio to the yardstick", rate / copy_per_s, "×"),
    )
    remarks = (
        f"{size.machines} machines at {ingest_load.POINTS_HZ} Hz, batches of {SLOT_S:g} s, {size.slots} each; "
        f"one of {WORKERS} workers killed in the middle; {load.repeats} batches sent again",
        "the bridges' process has the processor first, where that is allowed: it stands for other people's computers",
        *(f"refused: {each}" for each in load.refusals[:3]),
    )
    return Outcome("ingest", figures, "bare COPY of as many rows into the same table", is_short, remarks)
