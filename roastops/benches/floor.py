"""A roasting floor: many virtual Bullets with their keepers, one web process, one worker, PostgreSQL and Redis."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from kernel import clock, priority
from roastops.benches.house import NotReady, check, end_keepers, http_client, prepared, run_file
from roastops.testing import servers
from roastops.testing.processes import Fleet, Running

MAKE_WAIT_S, LINKS_WAIT_S = 60.0, 120.0
#: The niceness of what is no part of the house: roasters are hardware, viewers sit at computers of their own. Here they
#: share our cores; so they are served first, and their lateness is not taken for ours.
ELSEWHERE = -10

#: More machines like the first. The envelope's pace is not what is measured: orders may follow each other at once.
_MORE = """
import json
import django
django.setup()
from django.conf import settings
from drivers import keeper_config
from kernel import clock, priority
from roastops import demo
from roasts.models import ControlLimit, Machine, MachineReading
first = Machine.objects.get(pk=%r)
made = [first.pk]
for number in range(2, %d + 1):
    machine = Machine.objects.get(pk=first.pk)
    machine.pk = Machine._meta.pk.get_default()
    machine.name, machine.created_at, machine.profile_version = f"Bullet {number}", clock.now(), None
    path = str(keeper_config.socket_path(settings.DATA_DIR / "virtual", machine.pk))
    machine.driver_options = {**machine.driver_options, "backend": {"kind": "virtual-socket", "path": path}}
    machine.save(force_insert=True)
    MachineReading.objects.create(machine=machine)
    for limit in ControlLimit.objects.filter(machine=first):
        limit.pk, limit.machine = None, machine
        limit.save(force_insert=True)
    demo.write_run_file(machine)
    made.append(machine.pk)
ControlLimit.objects.update(min_interval_s=0)
print("MADE " + json.dumps(made))
"""


@dataclass(frozen=True, slots=True)
class FloorMachine:
    """One virtual machine: its id, where its panel and USB are served, its own wire log."""

    machine_id: str
    socket: Path
    log: Path


@dataclass
class Floor:
    """What a bench needs to hold. ``keys``: plain API keys of `operator`, `lead`, `agent`."""

    fleet: Fleet
    web: Running
    worker: Running
    machines: list[FloorMachine]
    keys: dict[str, str]
    clients: dict[str, httpx.Client] = field(default_factory=dict)

    def client(self, who: str) -> httpx.Client:
        """One connection that stays open, made at its first use."""
        if who not in self.clients:
            self.clients[who] = http_client(self.web.url, self.keys[who.partition("/")[0]])
        return self.clients[who]


@contextlib.contextmanager
def running_floor(count: int) -> Iterator[Floor]:
    """``count`` machines that stand in ROASTING, each with its link up."""
    with (
        tempfile.TemporaryDirectory(prefix="roastops-bench-") as name,
        servers.running(servers.start_postgres) as postgres,
        servers.running(servers.start_redis) as redis,
        contextlib.ExitStack() as closing,  # the machines and their processes end before their servers
    ):
        folder = Path(name)
        fleet = Fleet(folder, database_url=postgres.url, redis_url=redis.url, ROASTOPS_SPEED="1")
        closing.callback(end_keepers, folder / "run")
        closing.enter_context(fleet)
        made, keys = prepared(fleet)
        machines = [_machine(fleet, folder, machine_id) for machine_id in _more(fleet, made["machine_id"], count)]
        web = fleet.start_web()
        worker = fleet.start_worker(threads=count + 8)
        fleet.start_beat()
        floor = Floor(fleet, web, worker, machines, keys)
        try:
            _await_links(floor)
            yield floor
        finally:
            for client in floor.clients.values():
                client.close()


def _more(fleet: Fleet, first: str, count: int) -> list[str]:
    running = fleet.start("more", sys.executable, "-c", _MORE % (first, count))
    if running.process.wait(MAKE_WAIT_S):
        raise NotReady(f"the machines could not be made:\n{running.log()[-2000:]}")
    line = next(line for line in running.log().splitlines() if line.startswith("MADE "))
    return [str(machine_id) for machine_id in json.loads(line[5:])]


def _machine(fleet: Fleet, folder: Path, machine_id: str) -> FloorMachine:
    socket = Path(run_file(folder, machine_id)["driver_options"]["backend"]["path"])
    log = folder / f"virtual-{machine_id}.jsonl"
    argv = [sys.executable, "-m", "drivers.virtual.server", "--socket", str(socket), "--wire-log", str(log)]
    roaster = fleet.start("roaster", *argv, "--seed", "1", "--speed", "1", "--initial-state", "roasting")
    priority.lift(roaster.pid, ELSEWHERE)
    return FloorMachine(machine_id, socket, log)


def _await_links(floor: Floor) -> None:
    """Until every machine's link is up."""
    deadline_s = clock.monotonic() + LINKS_WAIT_S
    waiting = {each.machine_id for each in floor.machines}
    while waiting and clock.monotonic() < deadline_s:
        for machine_id in sorted(waiting):
            link = check(floor.client("operator").get(f"/v1/machines/{machine_id}")).json().get("link")
            if (link.get("state") if isinstance(link, dict) else link) == "up":
                waiting.discard(machine_id)
        clock.sleep(0.3)
    if waiting:
        raise NotReady(f"{len(waiting)} links did not come up in {LINKS_WAIT_S:.0f} s:\n{floor.worker.log()[-2000:]}")
