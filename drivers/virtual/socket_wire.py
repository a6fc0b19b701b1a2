"""What a served machine and its clients say to each other: one JSON object per line over a unix socket.

Requests ``{"op": …}``; bytes travel as hex. A client's lifeline connection begins with ``hello`` and owns
everything opened under its session; further connections of the same client begin with ``attach``. When
the lifeline dies (``kill -9`` included) the session's handles are closed and its claim is free.

USB operations: describe, open, close, claim, release, kernel_driver_active, detach_kernel_driver,
attach_kernel_driver, get_configuration, set_configuration, reset, write, read. Panel operations: panel
(``act`` and its details), status, wire. Answers: ``{"ok": value}``, ``{"usb_error": {"errno", "message"}}`` or
``{"error": text}``.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

MAX_LINE_BYTES = 8_000_000  # a wire log excerpt is the longest
MAX_SOCKET_PATH_BYTES = 100


class ConnectionLost(OSError):
    """The other side is gone, or does not speak our language."""


class LineSocket:
    """A stream socket that speaks JSON lines. One user at a time."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._buffer = bytearray()

    def send(self, message: dict[str, Any]) -> None:
        """Send one object."""
        try:
            self._stream.sendall(json.dumps(message, separators=(",", ":")).encode() + b"\n")
        except OSError as error:
            raise ConnectionLost(f"the virtual machine's connection broke: {error}") from error

    def receive(self) -> dict[str, Any]:
        """Receive one object; :class:`ConnectionLost` at the end or on nonsense."""
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > MAX_LINE_BYTES:
                raise ConnectionLost("line too long")
            try:
                chunk = self._stream.recv(65536)
            except OSError as error:
                raise ConnectionLost(f"the virtual machine's connection broke: {error}") from error
            if not chunk:
                raise ConnectionLost("the virtual machine's connection is closed")
            self._buffer += chunk
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            message = json.loads(line)
        except ValueError as error:
            raise ConnectionLost("not JSON") from error
        if not isinstance(message, dict):
            raise ConnectionLost("not an object")
        return message

    def close(self) -> None:
        """Close, waking whoever still reads."""
        try:
            self._stream.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # already gone
        self._stream.close()


def connect(path: str | Path, timeout_s: float = 2.0) -> LineSocket:
    """A connection to the machine served at ``path``."""
    require_short(path)
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.settimeout(timeout_s)
    try:
        stream.connect(str(path))
    except OSError as error:
        stream.close()
        raise ConnectionLost(f"no virtual machine is served at {path}: {error}") from error
    stream.settimeout(None)
    return LineSocket(stream)


def require_short(path: str | Path) -> None:
    """Unix socket paths have room for about 107 bytes."""
    if len(str(path).encode()) >= MAX_SOCKET_PATH_BYTES:
        raise ValueError(f"socket path is too long ({len(str(path).encode())} bytes, {MAX_SOCKET_PATH_BYTES} at most)")
