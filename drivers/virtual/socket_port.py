"""The client side of a served machine: a USB port over a unix socket. Thread-safe: each concurrent call
takes its own connection, so a write passes a blocking read.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from drivers.virtual.machine import ENODEV, UsbFailure
from drivers.virtual.socket_wire import ConnectionLost, LineSocket, connect


class SocketPort:
    """Implements the backend's ``UsbPort``. A machine whose process is gone looks unplugged."""

    def __init__(self, path: str | Path) -> None:
        self._path = str(path)
        self._lock = threading.Lock()
        self._lifeline: LineSocket | None = None
        self._session = ""
        self._process = 0
        self._idle: list[LineSocket] = []

    def describe(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] | None = self._ask("describe")
        except UsbFailure:
            return None  # no such process: nothing is plugged in
        return found

    def open(self, owner: str = "local") -> int:
        return int(self._ask("open"))

    def close(self, handle: int) -> None:
        try:
            self._ask("close", handle=handle)
        except UsbFailure:
            return  # the machine is gone, and the handle with it

    def claim(self, handle: int, interface: int) -> None:
        self._ask("claim", handle=handle, interface=interface)

    def release(self, handle: int, interface: int) -> None:
        self._ask("release", handle=handle, interface=interface)

    def kernel_driver_active(self, handle: int, interface: int) -> bool:
        return bool(self._ask("kernel_driver_active", handle=handle, interface=interface))

    def detach_kernel_driver(self, handle: int, interface: int) -> None:
        self._ask("detach_kernel_driver", handle=handle, interface=interface)

    def attach_kernel_driver(self, handle: int, interface: int) -> None:
        self._ask("attach_kernel_driver", handle=handle, interface=interface)

    def get_configuration(self, handle: int) -> int:
        return int(self._ask("get_configuration", handle=handle))

    def set_configuration(self, handle: int, value: int) -> None:
        self._ask("set_configuration", handle=handle, value=value)

    def reset(self, handle: int) -> None:
        self._ask("reset", handle=handle)

    def write(self, handle: int, data: bytes, timeout_ms: int) -> int:
        return int(self._ask("write", handle=handle, data=data.hex(), timeout_ms=timeout_ms))

    def read(self, handle: int, size: int, timeout_ms: int) -> bytes:
        return bytes.fromhex(self._ask("read", handle=handle, size=size, timeout_ms=timeout_ms))

    def disconnect(self) -> None:
        """Let go of the machine, as the end of the process would."""
        with self._lock:
            for connection in [*self._idle, *([self._lifeline] if self._lifeline else [])]:
                connection.close()
            self._idle, self._lifeline = [], None

    def _ask(self, operation: str, **details: Any) -> Any:
        try:
            connection = self._connection()
            connection.send({"op": operation, **details})
            answer = connection.receive()
        except ConnectionLost as lost:
            self.disconnect()
            raise UsbFailure(ENODEV, f"No such device ({lost})") from lost
        with self._lock:
            self._idle.append(connection)
        if "usb_error" in answer:
            raise UsbFailure(int(answer["usb_error"]["errno"]), str(answer["usb_error"]["message"]))
        if "error" in answer:
            raise ValueError(str(answer["error"]))
        return answer["ok"]

    def _connection(self) -> LineSocket:
        """An idle connection of our session, or a new one."""
        with self._lock:
            if self._process != os.getpid():  # a forked child has no part in its parent's claim
                self._lifeline, self._idle, self._process = None, [], os.getpid()
            if self._lifeline is None:
                self._lifeline = connect(self._path)
                self._lifeline.send({"op": "hello", "pid": os.getpid()})
                self._session = str(self._lifeline.receive()["ok"])
            if self._idle:
                return self._idle.pop()
            session = self._session
        connection = connect(self._path)
        connection.send({"op": "attach", "session": session})
        if "ok" not in connection.receive():
            connection.close()
            raise ConnectionLost("the virtual machine forgot this session")
        return connection
