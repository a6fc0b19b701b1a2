"""The fleet, for real: private PostgreSQL and Redis, a web process, worker processes, beat, a virtual machine.

A test breaks it as the world would: ``kill -9``, a frozen database, a pulled cable. Everything is reaped at the end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from drivers import keeper_config
from drivers.keeper_client import KeeperClient
from drivers.port import DriverError
from drivers.virtual.panel import Panel
from roastops.testing import processes, servers

ROOT = Path(__file__).resolve().parents[2]
PYTHON = sys.executable
logging.getLogger("httpx").setLevel(logging.WARNING)
HEATER_UP, HEATER_DOWN = "3401aaaa", "3402aaaa"
#: A roast that goes on by itself for minutes: too little heat to run away or to trip *heat without warming* (5 of 9).
HEALTHY_STEPS = {"heater": 4, "fan": 3, "drum": 7}
HEALTHY_BEAN_TEMP_C = 185.0  # above this a roast is too near its end for another test


@dataclasses.dataclass
class Stack:
    """One fleet of our own. Times are wall seconds."""

    folder: Path
    environment: dict[str, str]
    postgres: servers.Server | None
    redis: servers.Server | None
    port: int
    demo: dict[str, Any] = dataclasses.field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = dataclasses.field(default_factory=dict)
    keys: dict[str, str] = dataclasses.field(default_factory=dict)

    # --- processes

    def spawn(self, name: str, *argv: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start ``argv`` in a session of its own; its words go to a file named after it."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                argv, cwd=ROOT, env={**self.environment, **environment}, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )
        self.processes[name] = process
        return process

    def manage(self, *arguments: str, check: bool = True, timeout_s: float = 240) -> subprocess.CompletedProcess[str]:
        """`manage.py …`, run to its end."""
        done = subprocess.run(
            [PYTHON, "manage.py", *arguments], cwd=ROOT, env=self.environment, capture_output=True, text=True,
            timeout=timeout_s, check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"manage.py {arguments} ended with {done.returncode}: {done.stderr[-2000:]}")
        return done

    def migrate(self) -> None:
        """The database as `manage.py migrate` makes it. Within one run of the suite an SQLite file is made once and
        copied then."""
        kept = Path(tempfile.gettempdir(), "migrated.sqlite3")
        is_shared = kept.parent.name.startswith("rs-") and not self.environment.get("DATABASE_URL")
        file = Path(self.environment["ROASTOPS_DATA_DIR"], "roastops.sqlite3")
        if is_shared and kept.exists():
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            shutil.copyfile(kept, file)
            return
        self.manage("migrate", "--verbosity", "0")
        if is_shared:
            copied = kept.with_name(f"{kept.name}.{os.getpid()}")
            shutil.copyfile(file, copied)
            copied.rename(kept)

    def start_machine(self, *, speed: float = 1.0, state: str = "roasting") -> None:
        """The virtual roaster, already in ``state``."""
        socket_path = self.machine_socket
        self.spawn(
            "machine", PYTHON, "-m", "drivers.virtual.server", "--socket", str(socket_path), "--wire-log",
            str(self.wire_log), "--seed", "7", "--speed", f"{speed:g}", "--initial-state", state,
            "--kind", self.config.driver_kind,
        )
        wait_for(socket_path.exists, "the virtual machine", 40)

    def make_roasting(self, *, speed: float = 2.0) -> None:
        """A healthy roast, whatever earlier tests left: the machine's power cycled if need be, halts reset by the lead.

        Takes a second where all is well. Nobody is at this machine: without it a roast goes on past its end.
        """
        if not self._is_roast_healthy():
            if "machine" in self.processes:
                self.kill("machine")
                self.machine_socket.unlink(missing_ok=True)
            self.start_machine(speed=speed)
            wait_for(self._is_roasting_freshly, "a roast after the machine's power came back", 40)
        self._clear_the_way()
        with self.panel() as panel:
            for control, step in HEALTHY_STEPS.items():
                if panel.status()[f"{control}_step"] != step:
                    panel.turn_knob(control, step)
        wait_for(lambda: self._is_roast_healthy() and self._has_healthy_steps(), "a healthy roast", 30)

    def _clear_the_way(self) -> None:
        """No halt, pause, suspension, mark or held order of an earlier test. (No reset while it is made safe.)"""

        def is_clear() -> bool:
            machine = self.get(f"/v1/machines/{self.machine_id}").json()
            path = f"/v1/machines/{self.machine_id}"
            if machine["halts"]:
                self.post(f"{path}/reset", {"reason": "the next test begins"}, "lead")
            if machine["is_orders_paused"]:
                self.post(f"{path}/resume", {"what": "orders", "reason": "the next test begins"})
            if machine["suspension"]:
                self.post(f"{path}/resume", {"what": "agents"})
            for mark in self._marks_of_people(machine["roast_id"]):
                body = {"action": "withdraw", "event_id": mark}
                self.post(f"/v1/roasts/{machine['roast_id']}/events", body)
            held = self.get("/v1/proposals/pending").json()["results"]
            for order in held:
                self.post(f"/v1/proposals/{order['proposal_id']}/reject", {"code": "OTHER", "text": "the next test"})
            is_latched = bool((self.keeper_status() or {"latched": True}).get("latched"))
            return not (machine["halts"] or machine["is_orders_paused"] or machine["suspension"] or held or is_latched)

        wait_for(is_clear, "a machine that takes orders", 30, every_s=0.3)

    def _marks_of_people(self, roast_id: str | None) -> list[str]:
        """Standing marks that a person pressed: a first crack or drop of an earlier test."""
        if roast_id is None:
            return []
        marks = self.get(f"/v1/roasts/{roast_id}/events").json()["results"]
        pressed = [mark for mark in marks if mark["source"] == "person" and mark["kind"] != "note"]
        return [mark["event_id"] for mark in pressed if not mark["withdrawn_at"]]

    def _is_roasting_freshly(self) -> bool:
        machine = self.get(f"/v1/machines/{self.machine_id}").json()
        reading = machine["reading"]
        return (
            machine["link"] == "up"
            and reading["state"] == "roasting"
            and reading["age_ms"] < 2000
            and machine["roast_id"] is not None
        )

    def _is_roast_healthy(self) -> bool:
        reading = self.reading()
        return self._is_roasting_freshly() and (reading["bean_temp_c"] or 999.0) < HEALTHY_BEAN_TEMP_C

    def _has_healthy_steps(self) -> bool:
        reading = self.reading()
        return all(reading[f"{control}_step"] == step for control, step in HEALTHY_STEPS.items())

    def start_web(self) -> None:
        """uvicorn over the same application as `make run`."""
        self.spawn(
            "web", PYTHON, "-m", "uvicorn", "roastops.asgi:application", "--host", "127.0.0.1", "--port",
            str(self.port), "--timeout-graceful-shutdown", "3", "--log-level", "warning",
        )
        wait_for(lambda: self.get("/livez", timeout=1).status_code == 200, "the web process", 90)

    def start_worker(self, name: str) -> None:
        """One Celery worker process with threads, serving this host's machines."""
        queues = f"default,machines.{self.environment['ROASTOPS_HOST_NAME']}"
        self.spawn(
            name, PYTHON, "-m", "celery", "-A", "roastops", "worker", "-P", "threads", "-c", "6", "-Q", queues,
            "-n", f"{name}@test", "--loglevel", "INFO", "--without-gossip", "--without-mingle",
        )

    def start_beat(self) -> None:
        """Celery's beat, schedule in the test's folder."""
        self.spawn(
            "beat", PYTHON, "-m", "celery", "-A", "roastops", "beat", "-s", str(self.folder / "beat"),
            "--pidfile", "", "--loglevel", "WARNING",
        )

    def kill(self, name: str) -> None:
        """`kill -9` of the process and all in its group."""
        process = self.processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(5)

    def close(self) -> None:
        """End everything, the keeper too."""
        for server in (self.postgres, self.redis):
            if server is not None:
                with contextlib.suppress(ProcessLookupError):
                    server.thaw()
        for name in ("beat", "worker-a", "worker-b", "web"):
            if name in self.processes:
                self.kill(name)
        for path in (self.folder / "data" / "run").glob("mch_*.lock"):
            end_holder(path)
        for name in list(self.processes):
            self.kill(name)

    # --- asking

    @property
    def machine_id(self) -> str:
        return str(self.demo["machine_id"])

    @property
    def config(self) -> keeper_config.KeeperConfig:
        run_dir = self.folder / "data" / "run"
        return keeper_config.read(keeper_config.config_path(run_dir, self.machine_id))

    @property
    def machine_socket(self) -> Path:
        return Path(self.config.driver_options["backend"]["path"])

    @property
    def wire_log(self) -> Path:
        return self.folder / "machine.wire.jsonl"

    def keeper_status(self) -> dict[str, Any] | None:
        """What the keeper says, or None where it does not answer."""
        client = KeeperClient(self.config.socket, timeout_s=1.0)
        try:
            return dict(client.status())
        except DriverError:
            return None
        finally:
            client.close()

    def panel(self) -> Panel:
        """The person at the machine."""
        return Panel(self.machine_socket)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def get(self, path: str, who: str = "operator", **extra: Any) -> httpx.Response:
        return httpx.get(self.url(path), headers=self.headers(who), **{"timeout": 10, **extra})

    def post(self, path: str, body: dict[str, Any], who: str = "operator", **extra: Any) -> httpx.Response:
        return httpx.post(self.url(path), json=body, headers=self.headers(who), **{"timeout": 15, **extra})

    def headers(self, who: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.keys[who]}"} if who in self.keys else {}

    def load_demo(self, *more: Sequence[str]) -> list[str]:
        """The demo, and keys of its people and of an agent that holds L3; then ``more`` commands: what each printed."""
        key = ("createkey", "--org", "demo")
        people = (*key, "--scopes", "read,propose,approve,stop,operate,lead")
        made, operator, lead, agent, *rest = processes.in_turn(
            self.environment, ("demo", "--json"), (*people, "--user", "operator"), (*people, "--user", "lead"),
            (*key, "--scopes", "read,propose", "--agent", "roastrunner"), *more,
        )  # fmt: skip
        self.demo = json.loads(made)
        self.keys |= {"operator": operator, "lead": lead, "agent": agent}
        return rest

    def reading(self) -> dict[str, Any]:
        """Latest reading as the API gives it."""
        return dict(self.get(f"/v1/machines/{self.machine_id}").json()["reading"] or {})

    def order(self, order_type: str, target: float, who: str = "operator", **more: Any) -> dict[str, Any]:
        """Post an order; the answer's body."""
        body = {
            "machine_id": self.machine_id, "order_type": order_type, "target_value": target, "target_unit": "step",
            "reasoning": "fleet test", **more,
        }
        answer = self.post("/v1/proposals", body, who)
        if answer.status_code != 201:
            raise AssertionError(f"{answer.status_code}: {answer.text[:500]}")
        return dict(answer.json())

    def proposal(self, proposal_id: str) -> dict[str, Any]:
        return dict(self.get(f"/v1/proposals/{proposal_id}").json())

    def sql(self, text: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows, straight from PostgreSQL."""
        import psycopg

        with psycopg.connect(self.environment["DATABASE_URL"], autocommit=True) as connection:
            cursor = connection.execute(text, values)
            return list(cursor.fetchall()) if cursor.description else []

    def wire(self) -> list[dict[str, Any]]:
        """The virtual machine's own wire log."""
        lines = self.wire_log.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]

    def sent(self, *data_hex: str) -> list[dict[str, Any]]:
        """Entries of the wire log that moved the heater (or are exactly ``data_hex``)."""
        wanted = set(data_hex or (HEATER_UP, HEATER_DOWN))
        return [entry for entry in self.wire() if entry["dir"] == "out" and entry.get("hex", "").lower() in wanted]


def wait_for(is_true: Callable[[], Any], what: str, timeout_s: float, every_s: float = 0.05) -> float:
    """Seconds until ``is_true``; an AssertionError naming ``what`` when it does not come."""
    started_s = time.monotonic()
    while time.monotonic() - started_s < timeout_s:
        with contextlib.suppress(httpx.HTTPError, OSError):
            if is_true():
                return time.monotonic() - started_s
        time.sleep(every_s)
    raise AssertionError(f"{what}: not within {timeout_s} s")


def end_holder(lock_file: Path) -> None:
    """Kill the keeper that wrote its process id into ``lock_file``."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        pid = int(lock_file.read_text().split()[0])
        if b"drivers.keeper" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)


def base_environment(folder: Path, port: int) -> dict[str, str]:
    """Ours, without what the test run itself was given."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ROASTOPS_")}
    for name in ("DATABASE_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE"):
        kept.pop(name, None)
    return {
        **kept, "ROASTOPS_DATA_DIR": str(folder / "data"), "ROASTOPS_HOST_NAME": "fleethost", "PORT": str(port),
        "PYTHONUNBUFFERED": "1", "ROASTOPS_REQUESTS_PER_MINUTE": "0",  # walks and hostile bodies ask without end
    }


@contextlib.contextmanager
def fleet(*, workers: int = 2, speed: float = 1.0, state: str = "roasting") -> Iterator[Stack]:
    """A whole fleet on PostgreSQL and Redis, demo data loaded, machine tended; reaped afterwards."""
    with (
        tempfile.TemporaryDirectory(prefix="ro-", ignore_cleanup_errors=True) as name,
        servers.running(servers.start_brief_postgres) as postgres,
        servers.running(servers.start_redis) as redis,
    ):
        port = servers.free_port()
        environment = base_environment(Path(name), port)
        environment |= {"DATABASE_URL": postgres.url, "REDIS_URL": redis.url}
        stack = Stack(Path(name), environment, postgres, redis, port)
        try:
            stack.migrate()
            stack.load_demo()
            stack.start_machine(speed=speed, state=state)
            stack.start_web()
            for letter in "ab"[:workers]:
                stack.start_worker(f"worker-{letter}")
            stack.start_beat()
            wait_for(lambda: stack.reading().get("heater_step") is not None, "a tended machine", 30)
            yield stack
        except BaseException:
            tell(stack)
            raise
        finally:
            stack.close()


@contextlib.contextmanager
def roasting_house() -> Iterator[Stack]:
    """The embedded house with a virtual machine that is roasting; ended with SIGTERM, and that must go well."""
    with tempfile.TemporaryDirectory(prefix="ro-", ignore_cleanup_errors=True) as name:
        port = servers.free_port()
        stack = Stack(Path(name), base_environment(Path(name), port), None, None, port)
        try:
            stack.migrate()
            stack.load_demo()
            stack.start_machine(speed=2.0, state="roasting")
            stack.spawn("up", PYTHON, "manage.py", "up", "--without-demo")
            wait_for(lambda: stack.get("/readyz", timeout=1).status_code == 200, "the house", 180)
            wait_for(lambda: stack.reading().get("heater_step") is not None, "a tended machine", 90)
            yield stack
            up = stack.processes["up"]
            up.send_signal(signal.SIGTERM)
            assert up.wait(60) == 0
        except BaseException:
            tell(stack)
            raise
        finally:
            with contextlib.suppress(KeyError, ProcessLookupError, subprocess.TimeoutExpired):
                stack.kill("up")
            stack.close()


def tell(stack: Stack) -> None:
    """The ends of all logs, for whoever reads the failure."""
    for log in sorted(stack.folder.glob("*.log")) + sorted((stack.folder / "data").rglob("*.log")):
        text = log.read_text(errors="replace")[-2500:]
        if text.strip():
            sys.stderr.write(f"\n===== {log.name}\n{text}\n")
