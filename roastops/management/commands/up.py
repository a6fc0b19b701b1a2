"""`manage.py up` (what `make run` calls): the whole house as one process, its machine and its agent beside it."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn
from django.conf import settings
from django.core.management import call_command, get_commands
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection

from drivers.virtual import playing
from drivers.virtual.replay import UnreadableLog, expected_rows
from kernel import clock, draining, garbage, log_files, priority, request_gate
from kernel.sealer import SealerThread
from roastops import preparation
from roastops.bounded_http import BoundedHttp
from roastops.children import Child

logger = logging.getLogger(__name__)
TERMINAL = 0  # the file descriptor
GRACE_S = 3  # for requests under way
WORKER_GRACE_S = 4.0  # for tasks under way: a machine loop hands over within a tick
LAST_RESORT_S = 9.5
HELD_WITHIN_S = 30.0  # the machine loop starts the keeper a moment after the door is open
GUARD_EVERY_S = 1.0
RESTARTS, RESTARTS_BACK = 3, 1 / 60  # a child that cannot live is started thrice; a minute of life gives one back
NOTICE_S = 0.2  # readiness says "draining" before the door closes


class Server(uvicorn.Server):
    """uvicorn without its signal handling: `up` decides what a signal means."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Command(BaseCommand):
    help = "Serve RoastOps from one process: console, API, worker and beat; a virtual roaster and an agent beside it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=settings.ENVIRONMENT.port)
        parser.add_argument("--bind", default=settings.ENVIRONMENT.bind)
        parser.add_argument("--without-demo", action="store_true", help="no demo data, no virtual roaster, no agent")
        parser.add_argument("--replay", metavar="FILE.alog", help="the demo's roaster plays this recorded roast")
        parser.add_argument("--own-terminal", action="store_true", help="`make run`: Ctrl-C is for us, not for make")
        parser.add_argument("--web-only", action="store_true", help="fleet: worker and beat are processes of their own")

    def handle(self, *args: Any, **options: Any) -> None:
        if not 1 <= options["port"] <= 65535:
            raise CommandError(f"--port {options['port']} is no port: give one from 1 to 65535.")
        is_demo = not options["without_demo"] and not options["web_only"]
        house = House(self, options["bind"], options["port"], is_demo=is_demo, has_worker=not options["web_only"])
        if options["replay"]:
            house.replay = readable_log(options["replay"], is_demo=house.is_demo)
        log_files.keep(settings.DATA_DIR)
        if options["own_terminal"]:
            quieten_terminal(settings.DATA_DIR)
        with own_terminal() if options["own_terminal"] else contextlib.nullcontext(False) as house.has_terminal:
            status = house.run()
        log_files.close()
        with contextlib.suppress(OSError):  # the terminal may be gone
            sys.stdout.flush()
            sys.stderr.flush()
        # Everything is stopped and stored. A worker's thread that did not end must not hold the process.
        os._exit(status)


def readable_log(path: str, *, is_demo: bool) -> Path:
    """The log to play. CommandError before anything is started."""
    if not is_demo:
        raise CommandError("--replay is played by the demo's virtual roaster, and there is to be no demo.")
    if settings.ENVIRONMENT.demo_machine != "bullet-r1":
        raise CommandError("--replay plays logs of a Bullet R1: unset ROASTOPS_DEMO_MACHINE.")
    try:
        expected_rows(path)
    except UnreadableLog as error:
        raise CommandError(str(error)) from error
    return Path(path).absolute()


def quieten_terminal(data_dir: Path) -> None:
    """A person reads this terminal: only what went wrong, in words. Every line is in the log on disk."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr:
            handler.setLevel(logging.ERROR)
            handler.setFormatter(logging.Formatter(f"%(levelname)s: %(message)s   (more in {data_dir / 'logs'})"))


@contextlib.contextmanager
def own_terminal() -> Iterator[bool]:
    """Be the terminal's foreground group (false: it is not ours to take): make, interrupted with us, would report an
    error for our clean end."""
    terminal = TERMINAL
    if not os.isatty(terminal) or os.tcgetpgrp(terminal) != os.getpgrp() or os.getpid() == os.getpgrp():
        yield False
        return
    before = os.getpgrp()
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.setpgid(0, 0)
    os.tcsetpgrp(terminal, os.getpgrp())
    try:
        yield True
    finally:
        with contextlib.suppress(OSError):
            os.tcsetpgrp(terminal, before)


def is_hung_up(terminal: int) -> bool:
    """Whether the window behind the terminal was closed. A shell tells its jobs by SIGHUP, but we left its job."""
    asked = select.poll()
    asked.register(terminal, 0)
    return any(found & select.POLLHUP for _, found in asked.poll(0))


class House:
    """Starts everything in order, and stops it in the reverse one."""

    def __init__(self, command: BaseCommand, bind: str, port: int, *, is_demo: bool, has_worker: bool) -> None:
        self.command = command
        self.bind, self.port = bind, port
        self.is_demo = is_demo and settings.ENVIRONMENT.load_demo
        self.has_worker = has_worker
        self.server: Server | None = None
        self.machines: list[Child] = []
        self.keepers: list[Any] = []
        self.agent: Child | None = None
        self.replay: Path | None = None
        self.has_terminal = False
        self.leaving = threading.Event()

    def run(self) -> int:
        """Until a signal; the exit status."""
        door = self._open_door()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if (
                number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
            ):  # nohup: goes on without a terminal
                signal.signal(number, self._on_signal)
        preparation.migrate()
        preparation.collect_static()
        preparation.compile_catalogs()
        if not self.has_worker:
            # STOP is asked for here; what works beside it can wait. Not sooner: a process that only begins would stand
            # before a database that serves the others.
            priority.go_first()
        logins = self._load_demo() if self.is_demo else None
        if self.is_demo:
            self._start_machines()
        sealer = SealerThread()
        sealer.start()
        from commands.stop import asgi

        request_gate.open_door()
        asgi.start()  # who may STOP is known before anybody asks, and stays known without a database
        work = self._start_work() if self.has_worker else None
        try:
            self._serve(door, logins)
        finally:
            is_clean = self._stop(work, sealer)
        return 0 if is_clean else 1

    def _open_door(self) -> socket.socket:
        """Bind first: a taken port is said at once."""
        family = socket.AF_INET6 if ":" in self.bind else socket.AF_INET
        # The protocol is named so that asyncio sets TCP_NODELAY on what it accepts; else every answer waits 40 ms.
        door = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind((self.bind, self.port))
        except OSError as error:
            raise CommandError(
                f"Port {self.port} on {self.bind} cannot be used: {error.strerror}. Set PORT to another one."
            ) from error
        return door

    def _on_signal(self, number: int, _frame: Any) -> None:
        """First signal: say so, then close the door. Second: at once."""
        if self.leaving.is_set():
            if self.server is not None:
                self.server.force_exit = True
            return
        self.leaving.set()
        threading.Thread(target=self._leave, name="leave", daemon=True).start()

    def _leave(self) -> None:
        deadline_s = clock.monotonic() + LAST_RESORT_S
        draining.begin()
        if self.agent is not None:
            self.agent.ask_to_end()
        clock.sleep(NOTICE_S)
        if self.server is not None:
            self.server.should_exit = True
        while clock.monotonic() < deadline_s:
            clock.sleep(0.1)
        logger.error("not everything ended within %s s", LAST_RESORT_S)
        log_files.close()
        os._exit(1)

    def _load_demo(self) -> dict[str, Any] | None:
        if "demo" not in get_commands():
            return None
        words = io.StringIO()
        call_command("demo", "--json", stdout=words)
        return json.loads(words.getvalue())

    def _start_machines(self) -> None:
        """A process for every virtual roaster of this host, and its keeper."""
        from roasts.models import Machine

        mine = Machine.objects.filter(is_virtual=True, is_archived=False, host__in=["", settings.HOST_NAME])
        for machine in mine.order_by("id"):
            backend = machine.driver_options.get("backend") or {}
            if backend.get("kind") == "virtual-socket":
                state = "off" if self.replay else "charge"  # a roast of its own would only be in the log's way
                self.machines.append(
                    virtual_roaster(machine.pk, Path(backend["path"]), state, kind=machine.driver_kind)
                )
        for child in self.machines:
            child.ensure()
        connection.close()

    def _start_work(self) -> tuple[Any, Any]:
        from roastops.embedded import EmbeddedBeat, EmbeddedWorker

        worker, beat = EmbeddedWorker(settings.ENVIRONMENT.worker_threads), EmbeddedBeat()
        worker.start()
        beat.start()
        return worker, beat

    def _serve(self, door: socket.socket, logins: dict[str, Any] | None) -> None:
        config = uvicorn.Config(
            "roastops.asgi:application",
            lifespan="off",  # the sealer is ours to stop, after the worker
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=True,
            timeout_graceful_shutdown=GRACE_S,
            timeout_keep_alive=30,
            http=BoundedHttp,
            loop="uvloop",  # writes to 300 viewers without letting go of the interpreter at each (docs/decisions.md)
            ws_max_size=65_536,
            forwarded_allow_ips="127.0.0.1" if settings.ENVIRONMENT.behind_proxy else "",
        )
        self.server = Server(config)
        if self.leaving.is_set():
            return
        config.load()
        garbage.settle()
        threading.Thread(target=self._announce, args=(logins,), name="announce", daemon=True).start()
        threading.Thread(target=self._guard, name="guard", daemon=True).start()
        self.server.run(sockets=[door])

    def _guard(self) -> None:
        """A virtual roaster or demo agent that died is started again: at most RESTARTS in a row, then left alone. And
        who closes the terminal meant to end us: nobody could press Ctrl-C any more."""
        left: dict[str, float] = {}
        while not clock.wait(self.leaving, GUARD_EVERY_S):
            if self.has_terminal and is_hung_up(TERMINAL):
                logger.warning("the terminal was closed; leaving")
                self._on_signal(signal.SIGHUP, None)
            for child in [*self.machines, *([self.agent] if self.agent is not None else [])]:
                if child.living_pid() is not None:
                    left[child.name] = min(RESTARTS, left.get(child.name, RESTARTS) + RESTARTS_BACK)
                elif left.get(child.name, RESTARTS) >= 1 and not self.leaving.is_set():
                    left[child.name] = left.get(child.name, RESTARTS) - 1
                    logger.warning("%s ended by itself; starting it again", child.name)
                    child.ensure()

    def _announce(self, logins: dict[str, Any] | None) -> None:
        """Once the door is open: the agent, the address, the logins."""
        while self.server is not None and not self.server.started:
            if self.leaving.is_set():
                return
            clock.sleep(0.02)
        address = f"http://{'127.0.0.1' if self.bind == '0.0.0.0' else self.bind}:{self.port}"
        if self.is_demo and "runagent" in get_commands():
            self.agent = demo_agent(address)
            self.agent.ensure()
        lines = ["", f"RoastOps {settings.VERSION} is at {address}", ""]
        for role, login in (logins or {}).get("users", {}).items():
            lines.append(f"  {role:<9} {login['username']} / {login['password']}")
        lines += ["", "Ctrl-C stops it.", ""]
        self._say("\n".join(lines))
        (settings.RUN_DIR / playing.ADDRESS_NAME).write_text(f"{address}\n", encoding="ascii")
        if self.replay is not None and logins is not None:
            self._play(self.replay, str(logins["machine_id"]), address)

    def _play(self, log: Path, machine_id: str, address: str) -> None:
        """As soon as the demo machine's keeper holds it."""
        try:
            played = playing.play(settings.RUN_DIR, log, machine_id=machine_id, held_within_s=HELD_WITHIN_S)
        except playing.CannotPlay as error:
            logger.error("%s", error)
            return
        self._say(playing.told(played, log.name, address) + "\n")

    def _say(self, text: str) -> None:
        self.command.stdout.write(text)
        self.command.stdout.flush()

    def _stop(self, work: tuple[Any, Any] | None, sealer: SealerThread) -> bool:
        """Loops hand over, work ends, the trail is sealed, then the machines. True when nothing had to be forced."""
        draining.begin()
        is_clean = True
        if work is not None:
            worker, beat = work
            beat.stop(1.0)
            is_clean = worker.stop(WORKER_GRACE_S)
        if self.agent is not None:
            self.agent.end(2.0)
        sealer.stop(1.5)
        self._stop_machines()
        (settings.RUN_DIR / playing.ADDRESS_NAME).unlink(missing_ok=True)
        return is_clean

    def _stop_machines(self) -> None:
        """The virtual roasters are ours to end, with their keepers; a real machine's keeper goes on holding it."""
        if not self.machines:
            return
        from drivers import keeper_config, keeper_process

        for child in self.machines:
            path = keeper_config.config_path(settings.RUN_DIR, child.name)
            if path.exists():
                try:
                    keeper_process.stop_keeper(keeper_config.read(path))
                except (OSError, keeper_config.BadConfig) as error:
                    logger.warning("keeper of %s: %s", child.name, error)
            child.end(2.0)


def virtual_roaster(
    machine_id: str, socket_path: Path, initial_state: str = "charge", *, kind: str = "bullet-r1"
) -> Child:
    """The process that plays the machine; its own wire log lies beside its socket."""
    folder = settings.DATA_DIR / "virtual"
    argv = [sys.executable, "-m", "drivers.virtual.server", "--socket", str(socket_path)]
    argv += ["--kind", kind, "--wire-log", str(folder / f"{machine_id}.wire.jsonl"), "--seed", "1"]
    argv += ["--speed", f"{settings.SPEED:g}", "--autostart", "--initial-state", initial_state]
    return Child(
        name=machine_id,
        argv=argv,
        mark=str(socket_path),
        pid_file=folder / f"{machine_id}.pid",
        log_file=settings.DATA_DIR / "logs" / f"virtual-{machine_id}.log",
    )


def demo_agent(address: str) -> Child:
    """`manage.py runagent roastrunner --demo` against ourselves."""
    manage = str(settings.BASE_DIR / "manage.py")
    return Child(
        name="roastrunner",
        argv=[sys.executable, manage, "runagent", "roastrunner", "--demo"],
        mark="runagent",
        pid_file=settings.DATA_DIR / "roastrunner.pid",
        log_file=settings.DATA_DIR / "logs" / "roastrunner.log",
        environment={"ROASTOPS_URL": address},
    )
