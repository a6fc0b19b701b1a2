"""The only module here that touches sockets and serial ports: bytes in and out, every call bounded in time.

Reads and writes may run in different threads at once: STOP writes while a poll waits in a read. Every failure
becomes one of the port's errors, with its cure.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
from dataclasses import dataclass
from typing import Any, Protocol

import serial

from drivers.port import Busy, DriverError, InDoubt, NoPermission, NotFound, NotSent, ProtocolError, Unplugged
from kernel import clock

WRITE_TIMEOUT_S = 0.2
RECEIVE_BYTES = 65536
KEEPALIVE_IDLE_S, KEEPALIVE_EVERY_S, KEEPALIVE_COUNT = 5, 2, 3  # a dead peer's connection ends after about 11 s

_ABSENT = frozenset({errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ENOTDIR})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM})
_HELD = frozenset({errno.EBUSY, errno.EAGAIN})
_UNREACHABLE = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN})


class Stream(Protocol):
    """An open connection. ``receive`` belongs to one thread at a time, ``send`` to another."""

    def receive(self, wait_s: float) -> bytes:
        """What has come, after at most ``wait_s``; b"" where nothing did. Unplugged at the end."""

    def send(self, data: bytes) -> float:
        """Hand over all of ``data``; the monotonic second it began at. NotSent (no byte left), InDoubt, Unplugged."""

    def close(self) -> None: ...


class Connector(Protocol):
    """Where a machine is."""

    @property
    def where(self) -> str:
        """For people."""

    def connect(self) -> Stream:
        """Bounded in time. NotFound, NoPermission, Busy, Unplugged, ProtocolError."""


class DescriptorStream:
    """A stream over a non-blocking file descriptor that ``owner`` keeps open."""

    def __init__(self, owner: Any, descriptor: int, how_to_replug: str, *, is_socket: bool) -> None:
        self._owner: Any = owner
        self._descriptor = descriptor
        self._how_to_replug = how_to_replug
        self._is_socket = is_socket
        self._send_lock = threading.Lock()
        self._is_half_sent = False
        self._is_closed = False

    def receive(self, wait_s: float) -> bytes:
        if self._is_closed:
            raise Unplugged("the connection is closed", self._how_to_replug)
        if not self._wait(select.POLLIN, wait_s):
            return b""
        try:
            data = os.read(self._descriptor, RECEIVE_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise Unplugged(f"the connection broke: {error.strerror}", self._how_to_replug) from error
        if not data:
            raise Unplugged("the other side closed the connection", self._how_to_replug)
        return data

    def send(self, data: bytes) -> float:
        """A line that was cut short is ended first, so that this one is not read as its rest."""
        with self._send_lock:
            at_s = clock.monotonic()
            rest = memoryview((b"\n" if self._is_half_sent else b"") + data)
            whole, until_s = len(rest), at_s + WRITE_TIMEOUT_S
            while rest:
                try:
                    rest = rest[self._write(rest, max(0.0, until_s - clock.monotonic())) :]
                except (DriverError, OSError) as error:
                    self._is_half_sent = self._is_half_sent or len(rest) < whole
                    if len(rest) == whole:
                        raise NotSent(f"nothing could be sent: {error}", self._how_to_replug) from error
                    raise InDoubt(f"only a part was sent: {error}", "Read back before anything else.") from error
            self._is_half_sent = False
            return at_s

    def close(self) -> None:
        self._is_closed = True
        try:
            if self._is_socket:
                self._owner.shutdown(socket.SHUT_RDWR)  # wakes who still waits in a read
        except OSError:
            pass  # already gone
        self._owner.close()

    def _write(self, data: memoryview, wait_s: float) -> int:
        if self._is_closed:
            raise Unplugged("the connection is closed", self._how_to_replug)
        if not self._wait(select.POLLOUT, wait_s):
            raise TimeoutError("the other side takes nothing")
        try:
            return self._owner.send(data) if self._is_socket else os.write(self._descriptor, data)
        except BlockingIOError:
            return 0

    def _wait(self, what: int, wait_s: float) -> bool:
        poller = select.poll()
        try:
            poller.register(self._descriptor, what)
            found = poller.poll(max(0.0, wait_s) * 1000.0)
        except (OSError, ValueError) as error:
            raise Unplugged("the connection is closed", self._how_to_replug) from error
        if found and found[0][1] & select.POLLNVAL:
            raise Unplugged("the connection is closed", self._how_to_replug)
        return bool(found)


@dataclass(slots=True)
class TcpConnector:
    """A peer that listens at ``host``:``port``."""

    host: str
    port: int
    connect_timeout_s: float = 1.0

    @property
    def where(self) -> str:
        return f"{self.host}:{self.port}"

    def connect(self) -> Stream:
        """Name lookup and connect share ``connect_timeout_s``."""
        until_s = clock.monotonic() + self.connect_timeout_s
        error: OSError = OSError(errno.EHOSTUNREACH, "it has no address")
        for family, kind, protocol, _, address in self._addresses():
            try:
                return self._connected(family, kind, protocol, address, max(0.05, until_s - clock.monotonic()))
            except OSError as failure:
                error = failure
        raise self._why_not(error) from error

    def _addresses(self) -> list[Any]:
        """The name's addresses. The system's lookup has no bound of its own: it waits in a thread of its own."""
        found: list[Any] = []

        def look_up() -> None:
            try:
                found.extend(socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM))
            except (OSError, UnicodeError):
                return

        thread = threading.Thread(target=look_up, name="lookup", daemon=True)
        thread.start()
        thread.join(self.connect_timeout_s)
        if not found:
            raise NotFound(f"no address is known for {self.host!r}", "Check the name, or give the numeric address.")
        return found[:4]

    def _connected(self, family: int, kind: int, protocol: int, address: Any, timeout_s: float) -> Stream:
        made = socket.socket(family, kind, protocol)
        try:
            made.settimeout(timeout_s)
            made.connect(address)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _keep_alive(made)
            made.setblocking(False)
        except OSError:
            made.close()
            raise
        return DescriptorStream(made, made.fileno(), self._how_to_replug(), is_socket=True)

    def _why_not(self, error: OSError) -> DriverError:
        if error.errno in _FORBIDDEN:
            return NoPermission(f"this host may not connect to {self.where}", "A firewall forbids it: permit it there.")
        if error.errno == errno.ECONNREFUSED:
            return NotFound(f"nothing listens at {self.where}", "Start the program that sends there; check the port.")
        if isinstance(error, TimeoutError) or error.errno in _UNREACHABLE:
            return NotFound(f"{self.where} does not answer", "Is it switched on, and on this network?")
        return NotFound(f"{self.where} cannot be reached: {error}", "Check host and port.")

    def _how_to_replug(self) -> str:
        return f"Look at the program at {self.where} and at the network: it is called again by itself."


@dataclass(slots=True)
class SerialConnector:
    """A serial port, ours alone while it is open."""

    device: str
    baud: int = 115_200

    @property
    def where(self) -> str:
        return self.device

    def connect(self) -> Stream:
        try:
            made = serial.Serial(self.device, self.baud, timeout=0, write_timeout=WRITE_TIMEOUT_S, exclusive=True)
        except (serial.SerialException, OSError, ValueError) as error:
            raise self._why_not(error) from error
        os.set_blocking(made.fileno(), False)
        how = f"Check the cable of {self.device} at both ends: it is opened again by itself."
        return DescriptorStream(made, made.fileno(), how, is_socket=False)

    def _why_not(self, error: Exception) -> DriverError:
        number = getattr(error, "errno", None)
        if number in _FORBIDDEN:
            return NoPermission(f"{self.device} is there, but this user may not open it", (
                "Put this user in the group that owns it (`ls -l` shows it; mostly `usermod -aG dialout <user>`), "
                "and log in again."))
        if number in _HELD:
            return Busy(f"another program holds {self.device}", (
                "Only one program can speak to a serial port: close Artisan and the Arduino monitor, or stop the "
                "keeper that owns it (`fuser -v` names the holder)."))
        if number in _ABSENT:
            return NotFound(f"there is no {self.device}", (
                "Is the cable in? `ls /dev/serial/by-id` lists what is there; the names there stay the same after a "
                "replug. In a container pass the device through."))
        return ProtocolError(f"{self.device} cannot be opened: {error}", "Is it a serial port, and the speed right?")


def _keep_alive(made: socket.socket) -> None:
    """Let the system notice a peer that died without a word."""
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    wanted = (("TCP_KEEPIDLE", KEEPALIVE_IDLE_S), ("TCP_KEEPINTVL", KEEPALIVE_EVERY_S),
              ("TCP_KEEPCNT", KEEPALIVE_COUNT), ("TCP_USER_TIMEOUT", 5000))
    for name, value in wanted:
        option = getattr(socket, name, None)  # macOS and Windows know some of them
        if option is not None:
            made.setsockopt(socket.IPPROTO_TCP, option, value)
