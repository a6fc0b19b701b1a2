"""A real server, keeper and virtual machine in a folder of their own, for benches over HTTP; all reaped."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from drivers import keeper_config, keeper_process
from drivers.virtual.panel import Panel
from kernel import clock
from roastops.testing.processes import Fleet, Running

START_WAIT_S, PREPARE_WAIT_S = 20.0, 120.0


class NotReady(Exception):
    """Something did not come up in time."""


@dataclass
class House:
    """What a bench needs to hold."""

    fleet: Fleet
    web: Running
    machine: Running
    machine_id: str
    machine_log: Path
    socket: Path
    clients: dict[str, httpx.Client] = field(default_factory=dict)

    def client(self, who: str) -> httpx.Client:
        """`operator`, `lead` (people's keys) or `agent`: one connection that stays open."""
        return self.clients[who]

    def panel(self) -> Panel:
        """The person at the machine."""
        return Panel(self.socket)

    def look(self) -> dict[str, Any]:
        """The machine as the API shows it."""
        answer = self.client("operator").get(f"/v1/machines/{self.machine_id}")
        return dict(answer.json()) if answer.is_success else {}


@contextlib.contextmanager
def running_house(
    *, machine: bool = True, database_url: str = "", redis_url: str = "", speed: float = 1.0
) -> Iterator[House]:
    """`manage.py up` without its own demo processes, on demo data, with a virtual machine that stands in ROASTING
    and no person at it. With addresses: a web process and a worker of the fleet instead."""
    with tempfile.TemporaryDirectory(prefix="roastops-bench-") as name, contextlib.ExitStack() as closing:
        folder = Path(name)
        fleet = Fleet(folder, database_url=database_url, redis_url=redis_url, ROASTOPS_SPEED=f"{speed:g}")
        closing.callback(end_keepers, folder / "run")
        closing.enter_context(fleet)
        made, keys = prepared(fleet)
        socket = Path(run_file(folder, made["machine_id"])["driver_options"]["backend"]["path"])
        log = folder / "virtual.jsonl"
        argv = [sys.executable, "-m", "drivers.virtual.server", "--socket", str(socket), "--wire-log", str(log)]
        argv += ["--seed", "1", "--speed", f"{speed:g}", "--initial-state", "roasting"]
        roaster = fleet.start("roaster", *(argv if machine else [sys.executable, "-c", ""]))
        web = _start_server(fleet, is_fleet=bool(database_url))
        house = House(fleet, web, roaster, made["machine_id"], log, socket)
        for who, key in keys.items():
            house.clients[who] = closing.enter_context(http_client(web.url, key))
        if machine:
            _await_link(house)
        yield house


def _start_server(fleet: Fleet, *, is_fleet: bool) -> Running:
    if not is_fleet:
        return fleet.start_up("--without-demo")
    web = fleet.start_web()
    fleet.start_worker()
    fleet.start_beat()
    return web


def http_client(url: str, key: str) -> httpx.Client:
    """One connection that stays open."""
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.Client(base_url=url, headers=headers, timeout=30.0, trust_env=False)


_PREPARE = """
import django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
call_command("demo", "--json")
for holder, name, scopes in %r:
    call_command("createkey", "--org", "demo", holder, name, "--scopes", scopes)
"""
_HOLDERS = {
    "operator": ("--user", "operator", "read,propose,approve,stop,operate"),
    "lead": ("--user", "lead", "read,propose,approve,stop,operate,lead"),
    "agent": ("--agent", "roastrunner", "read,propose"),
}


def prepared(fleet: Fleet) -> tuple[dict[str, Any], dict[str, str]]:
    """Migrated, with demo data and three keys: in one process, for each start costs a second."""
    program = _PREPARE % (list(_HOLDERS.values()),)
    running = fleet.start("prepare", sys.executable, "-c", program)
    if running.process.wait(PREPARE_WAIT_S):
        raise NotReady(f"the bench's data could not be made:\n{running.log()[-2000:]}")
    lines = [line for line in running.log().splitlines() if line.startswith(('{"org', "ro_"))]
    return json.loads(lines[0]), dict(zip(_HOLDERS, lines[1:], strict=True))


def run_file(folder: Path, machine_id: str) -> dict[str, Any]:
    """What the machine's keeper is told."""
    return dict(json.loads((folder / "run" / f"{machine_id}.json").read_text()))


def _await_link(house: House) -> None:
    deadline_s = clock.monotonic() + START_WAIT_S
    machine: dict[str, Any] = {}
    while clock.monotonic() < deadline_s:
        machine = house.look()
        link = machine.get("link")
        if (link.get("state") if isinstance(link, dict) else link) == "up":
            return
        clock.sleep(0.1)
    raise NotReady(f"the machine's link did not come up in {START_WAIT_S:.0f} s: {machine}\n{house.web.log()[-2000:]}")


def check(answer: httpx.Response) -> httpx.Response:
    """The answer, if it is a good one; RuntimeError with what it said."""
    if not answer.is_success:
        raise RuntimeError(f"{answer.request.url.path} answered {answer.status_code}: {answer.text[:300]}")
    return answer


def end_keepers(run_folder: Path) -> None:
    """Keepers detach on purpose; a bench leaves none behind."""
    for path in run_folder.glob("mch_*.json"):
        with contextlib.suppress(OSError, keeper_config.BadConfig):
            keeper_process.stop_keeper(keeper_config.read(path))
