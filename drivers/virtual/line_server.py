"""A virtual line roaster or TC4 on a TCP port or a pseudo terminal, as a process of its own or in a test's thread.

``manage.py virtualroaster --kind tcp-line --listen 127.0.0.1:5025`` (or ``--kind tc4 --listen …``, ``--kind tc4 --pty
LINK``). SIGTERM and SIGINT end it with code 0. One client at a time: a second one is closed at once.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import socket
import sys
import termios
import threading
import tty
from collections.abc import Iterator, Sequence
from pathlib import Path

from drivers.virtual.bench_drum import INITIAL_STATES
from drivers.virtual.line_faults import LINE_FAULTS, TC4_FAULTS
from drivers.virtual.line_peer import LinePeer, NotTaken, Peer
from drivers.virtual.own_process import run_until_told
from drivers.virtual.tc4_peer import Tc4Peer

KINDS = ("tcp-line", "tc4")
TURN_S = 0.01
SEND_MAX_S = 0.2


class TcpDoor:
    """A listening socket; the virtual machine's client comes through it."""

    def __init__(self, host: str, port: int) -> None:
        self._listener = socket.create_server((host, port), backlog=4)
        self._listener.setblocking(False)
        self.host, self.port = self._listener.getsockname()[:2]
        self._client: socket.socket | None = None

    def turn(self, peer: Peer) -> None:
        """Take a client, its bytes and ours; waits TURN_S at most."""
        self._close_listener_while(peer.is_troubled("disconnect"))
        watched = [each for each in (self._listener, self._client) if each is not None and each.fileno() >= 0]
        ready, _, _ = select.select(watched, [], [], TURN_S)
        if self._listener in ready:
            self._accept(peer)
        if self._client is not None:
            self._serve(peer, self._client, self._client in ready)

    def close(self) -> None:
        """Nobody comes any more."""
        self._drop()
        self._listener.close()

    def _close_listener_while(self, is_away: bool) -> None:
        if is_away and self._listener.fileno() >= 0:
            self._drop()
            self._listener.close()
        elif not is_away and self._listener.fileno() < 0:
            self._listener = socket.create_server((self.host, self.port), backlog=4)
            self._listener.setblocking(False)

    def _accept(self, peer: Peer) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        if self._client is not None:
            client.close()
            return
        try:
            peer.connect()
        except NotTaken:
            client.close()
            return
        if not peer.is_connected:
            client.close()
            return
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.setblocking(False)
        self._client = client

    def _serve(self, peer: Peer, client: socket.socket, is_readable: bool) -> None:
        try:
            if is_readable:
                data = client.recv(65536)
                if not data:
                    raise ConnectionResetError
                peer.feed(data)
            data = peer.take()
            if data:
                client.settimeout(SEND_MAX_S)
                client.sendall(data)
                client.setblocking(False)
        except OSError:
            peer.hang_up()
        if not peer.is_connected:
            self._drop()

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client = None


class TerminalDoor:
    """A pseudo terminal whose name is linked at ``link``: what a serial cable is to a program."""

    def __init__(self, link: Path) -> None:
        self.link = link
        self._master, self._slave = -1, -1
        self._open()

    def turn(self, peer: Peer) -> None:
        """Bytes in and out; a cable that is pulled takes the terminal away, and comes back as another."""
        is_away = peer.is_troubled("disconnect")
        if is_away and self._master >= 0:
            self._close_terminal()
            peer.hang_up()
        elif not is_away and self._master < 0:
            self._open()
        if self._master < 0:
            select.select([], [], [], TURN_S)
            return
        if not peer.is_connected:
            with contextlib.suppress(NotTaken):
                peer.connect()
        ready, _, _ = select.select([self._master], [], [], TURN_S)
        if ready:
            with contextlib.suppress(OSError):
                peer.feed(os.read(self._master, 65536))
        data = peer.take()
        if data:
            with contextlib.suppress(BlockingIOError):
                os.write(self._master, data)

    def close(self) -> None:
        """Pull the cable for good."""
        self._close_terminal()

    def _open(self) -> None:
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave, termios.TCSANOW)
        os.set_blocking(self._master, False)
        self.link.unlink(missing_ok=True)
        self.link.symlink_to(os.ttyname(self._slave))

    def _close_terminal(self) -> None:
        for descriptor in (self._master, self._slave):
            if descriptor >= 0:
                os.close(descriptor)
        self._master, self._slave = -1, -1
        self.link.unlink(missing_ok=True)


Door = TcpDoor | TerminalDoor


class LineServer:
    """Serves one peer at one door until :meth:`stop`."""

    def __init__(self, peer: Peer, door: Door) -> None:
        self.peer, self.door = peer, door
        self._stopping = threading.Event()

    def run(self) -> None:
        """Until stopped."""
        try:
            while not self._stopping.is_set():
                self.peer.advance()  # it lives on where nobody is connected
                self.door.turn(self.peer)
        finally:
            self.door.close()

    def stop(self) -> None:
        """End :meth:`run` soon."""
        self._stopping.set()


@contextlib.contextmanager
def served(peer: Peer, door: Door) -> Iterator[LineServer]:
    """The peer served in a thread of this process while the block runs."""
    server = LineServer(peer, door)
    thread = threading.Thread(target=server.run, name="peer", daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(2.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What line machines need beside the options of every virtual machine."""
    parser.add_argument("--listen", metavar="HOST:PORT", help="tcp-line, tc4: where to listen (port 0: any)")
    parser.add_argument("--pty", metavar="LINK", help="tc4: a pseudo terminal, linked under this name")
    parser.add_argument("--csv", action="store_true", help="tcp-line: rows instead of JSON (columns: see the docs)")
    parser.add_argument("--interval-ms", type=int, default=100, help="tcp-line: device ms between lines")
    parser.add_argument("--undeclared", action="store_true", help="tcp-line: say no HELLO: only to be read")
    parser.add_argument("--no-outputs", action="store_true", help="tc4: READ without heater and fan columns")


def peer_of(options: argparse.Namespace) -> Peer:
    """The virtual machine that the options describe. ValueError."""
    speed = 1.0 if options.speed is None else options.speed
    initial_state = options.initial_state or "roasting"
    if options.kind == "tc4":
        return Tc4Peer(seed=options.seed, speed=speed, faults=options.faults, initial_state=initial_state,
                       shows_outputs=not options.no_outputs)
    return LinePeer(seed=options.seed, speed=speed, faults=options.faults, initial_state=initial_state,
                    form="csv" if options.csv else "jsonl", interval_ms=options.interval_ms,
                    declares=not options.undeclared)


def door_of(options: argparse.Namespace) -> Door:
    """Where it is served. ValueError, OSError."""
    if options.kind == "tc4" and options.pty:
        return TerminalDoor(Path(options.pty))
    host, separator, port = (options.listen or "").rpartition(":")
    if not separator or not port.isdecimal() or int(port) > 65_535:
        other = " or --pty LINK" if options.kind == "tc4" else ""
        raise ValueError(f"--kind {options.kind} needs --listen HOST:PORT{other}")
    return TcpDoor(host, int(port))


def serve(options: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code."""
    try:
        peer = peer_of(options)
        door = door_of(options)
    except (ValueError, OSError) as error:
        print(f"virtualroaster: {error}", file=sys.stderr)
        return 2
    where = f"{door.host}:{door.port}" if isinstance(door, TcpDoor) else str(door.link)
    run_until_told(LineServer(peer, door), f"{options.kind} at {where}", options.pid_file)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of ``python -m drivers.virtual.line_server``."""
    parser = argparse.ArgumentParser(prog="python -m drivers.virtual.line_server", description=__doc__)
    parser.add_argument("--kind", default="tcp-line", choices=KINDS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--speed", type=float, help="device seconds per second")
    names = ", ".join(sorted({*LINE_FAULTS, *TC4_FAULTS}))
    parser.add_argument("--faults", default="", help=f"name@START[+DURATION][:key=value], of: {names}")
    parser.add_argument("--initial-state", choices=INITIAL_STATES)
    parser.add_argument("--pid-file")
    add_arguments(parser)
    return serve(parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
