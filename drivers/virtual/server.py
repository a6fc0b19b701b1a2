"""A virtual roaster as a process of its own: ``python -m drivers.virtual.server --socket PATH …``.

No Django. One machine, its wire log, and a unix socket (mode 0600) that takes over a stale file. One client
claims the USB interface at a time; the panel may be used beside it. SIGTERM and SIGINT end it with code 0.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from drivers.virtual import KINDS
from drivers.virtual.clocks import HouseClock
from drivers.virtual.firmware import INITIAL_STATES
from drivers.virtual.machine import UsbFailure, VirtualMachine
from drivers.virtual.own_process import run_until_told
from drivers.virtual.person import DemoPerson
from drivers.virtual.socket_wire import ConnectionLost, LineSocket, connect, require_short
from kernel import clock

MAX_CONNECTIONS = 64
MAX_WIRE_ENTRIES = 5000
HEARTBEAT_S = 0.1
USB_OPERATIONS = frozenset({
    "close", "claim", "release", "kernel_driver_active", "detach_kernel_driver", "attach_kernel_driver",
    "get_configuration", "set_configuration", "reset",
})  # fmt: skip


class Connection:
    """One client connection: a lifeline, one of its extra connections, or a panel."""

    def __init__(self, line: LineSocket) -> None:
        self.line = line
        self.session = ""
        self.is_lifeline = False


class MachineServer:
    """Serves one machine until :meth:`stop`."""

    def __init__(self, machine: VirtualMachine, path: Path) -> None:
        self.machine = machine
        self._path = path
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._connections: set[Connection] = set()
        self._sessions: set[str] = set()
        self._session_count = 0
        self._listener = listen(path)

    def run(self) -> None:
        """Accept clients and let the machine live, until stopped."""
        threading.Thread(target=self._accept, name="accept", daemon=True).start()
        while not self._stopping.wait(HEARTBEAT_S):
            self.machine.advance()
        self._close()

    def stop(self) -> None:
        """End :meth:`run` soon."""
        self._stopping.set()

    def _close(self) -> None:
        self._listener.close()
        self._path.unlink(missing_ok=True)
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.line.close()
        self.machine.shut_down()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                stream, _ = self._listener.accept()
            except OSError:
                return  # the listener is closed
            connection = Connection(LineSocket(stream))
            with self._lock:
                if len(self._connections) >= MAX_CONNECTIONS:
                    connection.line.close()
                    continue
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        try:
            while True:
                connection.line.send(self._answer(connection, connection.line.receive()))
        except ConnectionLost:
            pass  # the client left; what it held is freed below
        finally:
            connection.line.close()
            with self._lock:
                self._connections.discard(connection)
            if connection.is_lifeline:
                self._end_session(connection.session)

    def _end_session(self, session: str) -> None:
        with self._lock:
            self._sessions.discard(session)
            others = [each for each in self._connections if each.session == session]
        self.machine.close_owner(session)
        for each in others:
            each.line.close()

    def _answer(self, connection: Connection, request: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"ok": self._done(connection, request)}
        except UsbFailure as failure:
            return {"usb_error": {"errno": failure.errno, "message": failure.message}}
        except (KeyError, TypeError, ValueError) as error:
            return {"error": f"{type(error).__name__}: {error}"}

    def _done(self, connection: Connection, request: dict[str, Any]) -> Any:
        details = {key: value for key, value in request.items() if key not in ("op", "id")}
        operation = str(request["op"])
        if operation in ("hello", "attach"):
            return self._introduce(connection, operation, str(details.get("session", "")))
        if operation == "panel":
            act = str(details.pop("act"))
            return self.machine.play_log(**details) if act == "replay" else self.machine.act(act, **details)
        if operation == "status":
            return {**self.machine.status(), "pid": os.getpid()}
        if operation == "wire":
            wanted = details.get("directions")
            entries = self.machine.wire.entries(
                after=int(details.get("after", 0)), directions=frozenset(wanted) if wanted else None
            )
            return entries[:MAX_WIRE_ENTRIES]
        return self._usb(connection, operation, details)

    def _introduce(self, connection: Connection, operation: str, session: str) -> str:
        with self._lock:
            if operation == "hello":
                self._session_count += 1  # not a secret: the socket's mode keeps others out
                session, connection.is_lifeline = f"{os.getpid()}-{self._session_count}", True
                self._sessions.add(session)
            elif session not in self._sessions:
                raise ValueError("no such session")
            connection.session = session
            return session

    def _usb(self, connection: Connection, operation: str, details: dict[str, Any]) -> Any:
        if operation == "describe":
            return self.machine.describe()
        if not connection.session:
            raise ValueError(f"{operation} needs a session: say hello first")
        if operation == "open":
            return self.machine.open(connection.session)
        self.machine.require_owner(int(details["handle"]), connection.session)
        if operation == "write":
            data = bytes.fromhex(details["data"])
            return self.machine.write(int(details["handle"]), data, int(details["timeout_ms"]))
        if operation == "read":
            return self.machine.read(int(details["handle"]), int(details["size"]), int(details["timeout_ms"])).hex()
        if operation not in USB_OPERATIONS:
            raise ValueError(f"no operation {operation!r}")
        return getattr(self.machine, operation)(**details)


def listen(path: Path) -> socket.socket:
    """A listening unix socket at ``path``; a stale file is taken over, a live one is an error."""
    require_short(path)
    if path.exists():
        try:
            connect(path, 0.5).close()
        except ConnectionLost:
            path.unlink(missing_ok=True)
        else:
            raise SystemExit(f"virtualroaster: another machine is already served at {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(mask)
    listener.listen(32)
    return listener


def add_arguments(
    parser: argparse.ArgumentParser, *, settings_flags: Sequence[str] = ("--machine-settings",),
    is_socket_required: bool = True, kinds: Sequence[str] = KINDS,
) -> None:
    """The options, shared with ``manage.py virtualroaster`` (where ``--settings`` is Django's own)."""
    parser.add_argument(
        "--socket", "--serve", dest="socket", required=is_socket_required, help="unix socket to serve the machine at"
    )
    parser.add_argument("--kind", default="bullet-r1", choices=kinds)
    parser.add_argument("--wire-log", help="JSON lines of every byte in and out; outlives the clients")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--speed", type=float, help="device seconds per second")
    parser.add_argument("--faults", default="", help="name@START[+DURATION][:key=value], comma separated")
    parser.add_argument("--replay", help="an Artisan .alog whose channels to play as wire frames")
    parser.add_argument(
        *settings_flags, dest="machine_settings", default="", help="name=value,… or JSON: the machine and its unknowns"
    )
    parser.add_argument("--initial-state", choices=INITIAL_STATES, help="default: off; charge with --autostart")
    parser.add_argument("--autostart", action="store_true", help="a demo person roasts batch after batch")
    parser.add_argument("--pid-file")


def serve(options: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code."""
    speed = 1.0 if options.speed is None else options.speed
    initial = options.initial_state or ("charge" if options.autostart else "off")
    try:
        machine = VirtualMachine(
            kind=options.kind, seed=options.seed, speed=speed, faults=options.faults, settings=options.machine_settings,
            initial_state=initial, replay=options.replay, wire_log=options.wire_log, clock=HouseClock(),
            person=DemoPerson() if options.autostart else None,
        )  # fmt: skip
        server = MachineServer(machine, Path(options.socket))
    except (ValueError, OSError) as error:
        print(f"virtualroaster: {error}", file=sys.stderr)
        return 2
    run_until_told(server, f"{options.kind} at {options.socket}", options.pid_file)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of ``python -m drivers.virtual.server``."""
    parser = argparse.ArgumentParser(prog="python -m drivers.virtual.server", description=__doc__)
    add_arguments(parser, settings_flags=("--machine-settings", "--settings"))
    return serve(parser.parse_args(arguments))


def wait_until_served(path: str | Path, timeout_s: float = 10.0) -> None:
    """Return when the machine at ``path`` answers; TimeoutError otherwise."""
    deadline_s = clock.monotonic() + timeout_s
    while True:
        try:
            connect(path, 0.5).close()
            return
        except ConnectionLost as lost:
            if clock.monotonic() > deadline_s:
                raise TimeoutError(f"no virtual machine at {path} after {timeout_s} s") from lost
        clock.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main())
