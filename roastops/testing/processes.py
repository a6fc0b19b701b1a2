"""Real processes of the fleet for tests: web, worker, beat, each in a session of its own, all reaped.

with Fleet(data_dir, database_url=…, redis_url=…) as fleet:
    fleet.manage("migrate")
    web = fleet.start_web()
    worker = fleet.start_worker()
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from roastops.testing.servers import free_port

#: Several management commands in one process; prints [what each printed].
_IN_TURN = """
import contextlib, io, json, sys
import django
django.setup()
from django.core.management import call_command
said = []
for command in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        call_command(*command)
    said.append(printed.getvalue().strip())
print(json.dumps(said))
"""
BASE_DIR = Path(__file__).resolve().parent.parent.parent
START_TIMEOUT_S = 30.0


@dataclasses.dataclass
class Running:
    """One process of the fleet."""

    name: str
    process: subprocess.Popen[bytes]
    log_file: Path
    url: str = ""

    @property
    def pid(self) -> int:
        return self.process.pid

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def signal(self, number: int) -> None:
        """To the process and the children in its session."""
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """kill -9, and reap."""
        if self.process.poll() is None:
            self.signal(signal.SIGKILL)
        self.process.wait(10)

    def stop(self, timeout_s: float = 12.0) -> int:
        """SIGTERM to the process alone; its exit status; killed (and TimeoutExpired) when it does not end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


def in_turn(environment: dict[str, str], *commands: Sequence[str], timeout_s: float = 240.0) -> list[str]:
    """`manage.py …` of each, one after the other in **one** process (a start costs seconds); what each printed, without
    the last line's end. AssertionError when one failed."""
    done = subprocess.run(
        [sys.executable, "-c", _IN_TURN, json.dumps(commands)],
        env={"DJANGO_SETTINGS_MODULE": "roastops.settings", **environment}, cwd=BASE_DIR, capture_output=True,
        text=True, timeout=timeout_s, check=False,
    )  # fmt: skip
    if done.returncode:
        raise AssertionError(f"manage.py {list(commands)} → {done.returncode}\n{done.stderr[-3000:]}")
    return list(json.loads(done.stdout.splitlines()[-1]))


class Fleet:
    """Starts processes with one environment; ends whatever still lives when the block ends."""

    def __init__(
        self, data_dir: Path, *, database_url: str = "", redis_url: str = "", host_name: str = "testhost", **extra: str
    ) -> None:
        self.data_dir = data_dir
        self.processes: list[Running] = []
        kept = {k: v for k, v in os.environ.items() if not k.startswith("ROASTOPS_") and k not in _NOT_INHERITED}
        self.environment = {
            **kept,
            "DJANGO_SETTINGS_MODULE": "roastops.settings",
            "ROASTOPS_DATA_DIR": str(data_dir),
            "ROASTOPS_HOST_NAME": host_name,
            "ROASTOPS_REQUESTS_PER_MINUTE": "0",  # a bench asks as often as it is answered
            "PYTHONPATH": str(BASE_DIR),
            **({"DATABASE_URL": database_url} if database_url else {}),
            **({"REDIS_URL": redis_url} if redis_url else {}),
            **extra,
        }

    def __enter__(self) -> Fleet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for running in reversed(self.processes):
            if running.process.poll() is None:
                try:
                    running.stop(8.0)
                except subprocess.TimeoutExpired:
                    continue
            self._end_session(running)

    def _end_session(self, running: Running) -> None:
        try:
            running.signal(signal.SIGKILL)
        except ProcessLookupError:
            return

    def manage(self, *arguments: str, timeout_s: float = 60.0) -> str:
        """`manage.py …` to its end; what it printed. CalledProcessError when it failed."""
        outcome = subprocess.run(
            [sys.executable, str(BASE_DIR / "manage.py"), *arguments],
            env=self.environment,
            cwd=BASE_DIR,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if outcome.returncode:
            raise AssertionError(f"manage.py {' '.join(arguments)} → {outcome.returncode}\n{outcome.stderr[-3000:]}")
        return outcome.stdout

    def start(self, name: str, *argv: str, url: str = "", **environment: str) -> Running:
        """Any process; its words go to a file in the data folder."""
        log_file = self.data_dir / f"{name}-{len(self.processes)}.log"
        with log_file.open("wb") as log:
            process = subprocess.Popen(
                list(argv),
                env={**self.environment, **environment},
                cwd=BASE_DIR,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        running = Running(name, process, log_file, url)
        self.processes.append(running)
        return running

    def start_web(self) -> Running:
        """A web process (`manage.py up --web-only`), ready to answer."""
        return self.start_up("--web-only")

    def start_up(self, *arguments: str, **environment: str) -> Running:
        """`manage.py up` on a free port, ready to answer."""
        port = free_port()
        argv = [sys.executable, str(BASE_DIR / "manage.py"), "up", "--port", str(port), *arguments]
        running = self.start(
            "web" if "--web-only" in arguments else "up", *argv, url=f"http://127.0.0.1:{port}", **environment
        )
        self.await_url(running, "/readyz")
        return running

    def start_worker(self, threads: int = 8) -> Running:
        """A Celery worker of this host."""
        queues = f"default,machines.{self.environment['ROASTOPS_HOST_NAME']}"
        argv = [sys.executable, "-m", "celery", "-A", "roastops", "worker", "-P", "threads", "-c", str(threads)]
        return self.start("worker", *argv, "-Q", queues, "--without-mingle", "--without-gossip", "-l", "INFO")

    def start_beat(self) -> Running:
        """Celery's beat."""
        schedule = self.data_dir / f"beat-{len(self.processes)}"
        argv = [sys.executable, "-m", "celery", "-A", "roastops", "beat", "-s", str(schedule), "-l", "INFO"]
        return self.start("beat", *argv, "--pidfile=")

    def await_url(self, running: Running, path: str) -> None:
        """Until the path answers 200; AssertionError with the log's end when it does not."""
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s and running.process.poll() is None:
            try:
                with urllib.request.urlopen(running.url + path, timeout=2) as answer:
                    if answer.status == 200:
                        return
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        raise AssertionError(f"{running.name} does not answer:\n{running.log()[-3000:]}")


_NOT_INHERITED = {"DATABASE_URL", "REDIS_URL", "PYTEST_DATA_DIR", "DJANGO_SETTINGS_MODULE", "PORT"}
