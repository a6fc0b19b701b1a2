"""What a keeper writes down so that its own death costs nothing: the wire log, and the latch.

Each line is appended and handed to the kernel *before* its bytes go to the machine: after a kill -9 the log says
which steps may have left. (Not fsynced: a power cut takes the box, and the machine is then looked at afresh.)
STOP alone does not wait for a disk: its lines and its latch stand in memory at once and go to the file behind it.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drivers.keeper_config import write_private
from drivers.wire_json import time_to_json
from kernel import clock

log = logging.getLogger("drivers.keeper")

LOG_BYTES_MAX = 4_000_000
LOGS_KEPT = 4  # the one being written, and three before it
ORDERS_REMEMBERED = 50_000
LATER_MAX = 10_000
LATER_WAIT_S = 2.0


class Later:
    """A thread that does, in order, what must not hold up the wire. A disk that stalls stalls only this."""

    def __init__(self) -> None:
        self._work: deque[Callable[[], None]] = deque(maxlen=LATER_MAX)
        self._wake = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="record", daemon=True)
        self._thread.start()

    def do(self, act: Callable[[], None]) -> None:
        """Soon; the caller goes on."""
        with self._wake:
            self._work.append(act)
            self._wake.notify_all()

    def close(self) -> None:
        """Finish what is asked, as far as the disk lets us."""
        with self._wake:
            self._is_closed = True
            self._wake.notify_all()
        self._thread.join(timeout=LATER_WAIT_S)

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._work and not self._is_closed:
                    self._wake.wait()
                if not self._work:
                    return
                act = self._work.popleft()
            try:
                act()
            except OSError:
                log.exception("the record cannot be written")


@dataclass(slots=True)
class OrderTrace:
    """What the wire log knows of one order id."""

    writes: list[dict[str, Any]] = field(default_factory=list)
    receipt: dict[str, Any] | None = None


class WireLog:
    """JSON lines, appended before each write; rotated by size; read back at start."""

    def __init__(self, path: Path, *, bytes_max: int = LOG_BYTES_MAX) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._lock = threading.Lock()  # what is remembered: never held over a write to the disk
        self._file_lock = threading.Lock()
        self.later = Later()
        self._orders: OrderedDict[str, OrderTrace] = OrderedDict()
        path.parent.mkdir(parents=True, exist_ok=True)
        for line in self._old_lines():
            self._remember(line)
        self._handle = self._open()

    def append(self, direction: str, **content: Any) -> None:
        """Write one line. OSError where the disk refuses: the caller decides what that forbids."""
        self._write(self._noted(direction, content))

    def append_soon(self, direction: str, **content: Any) -> None:
        """One line that nothing waits for: remembered at once, written behind the caller (STOP: wire first)."""
        raw = self._noted(direction, content)
        self.later.do(lambda: self._write(raw))

    def _noted(self, direction: str, content: dict[str, Any]) -> bytes:
        line: dict[str, Any] = {"t": time_to_json(clock.now()), "mono": clock.monotonic(), "dir": direction, **content}
        raw = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            self._remember(line)
        return raw

    def _write(self, raw: bytes) -> None:
        with self._file_lock:
            written = os.write(self._handle, raw)
            if written != len(raw):
                os.write(self._handle, b"\n")
                raise OSError(f"only {written} of {len(raw)} bytes went to the wire log")
            if os.fstat(self._handle).st_size >= self._bytes_max:
                self._rotate()

    def trace(self, order_id: str) -> OrderTrace | None:
        """What is known of an order, or None: it was never begun."""
        with self._lock:
            return self._orders.get(order_id)

    def close(self) -> None:
        """Give the file back."""
        self.later.close()
        os.close(self._handle)

    def _remember(self, line: dict[str, Any]) -> None:
        order_id = line.get("order_id")
        if not isinstance(order_id, str):
            return
        trace = self._orders.setdefault(order_id, OrderTrace())
        direction = line.get("dir")
        if direction == "out":
            trace.writes.append({
                "t": line.get("t"), "monotonic_s": line.get("mono"), "data_hex": line.get("hex"),
                "meaning": line.get("meaning"), "step": line.get("step"), "steps": line.get("steps"),
                "is_done": False,
            })
        elif direction == "done" and trace.writes:
            trace.writes[-1]["is_done"] = True
        elif direction == "receipt":
            trace.receipt = line.get("receipt")
        while len(self._orders) > ORDERS_REMEMBERED:
            self._orders.popitem(last=False)

    def _old_lines(self) -> Iterator[dict[str, Any]]:
        """Every line still kept, oldest first; a line torn by a crash is passed over."""
        for number in range(LOGS_KEPT - 1, -1, -1):
            path = self._numbered(number)
            if not path.exists():
                continue
            with path.open("rb") as stream:
                for raw in stream:
                    try:
                        line = json.loads(raw)
                    except ValueError:
                        continue
                    if isinstance(line, dict):
                        yield line

    def _open(self) -> int:
        handle = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        size = os.fstat(handle).st_size
        if size and os.pread(handle, 1, size - 1) != b"\n":
            os.write(handle, b"\n")
        return handle

    def _rotate(self) -> None:
        for number in range(LOGS_KEPT - 2, -1, -1):
            path = self._numbered(number)
            if path.exists():
                os.replace(path, self._numbered(number + 1))
        old, self._handle = self._handle, self._open()
        os.close(old)

    def _numbered(self, number: int) -> Path:
        return self._path if number == 0 else self._path.with_name(f"{self._path.name}.{number}")


@dataclass(frozen=True, slots=True)
class Latch:
    """The machine is halted at its keeper: nothing but heat down until a release."""

    stop_id: str
    by: str
    at: str
    reason: str
    is_proved: bool = False

    def to_json(self) -> dict[str, Any]:
        """For the socket and the file."""
        return {"stop_id": self.stop_id, "by": self.by, "at": self.at, "reason": self.reason,
                "is_proved": self.is_proved}


class LatchFile:
    """The latch and the highest loop token seen, in a file that outlives the keeper."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.latch: Latch | None = None
        self.token = 0
        self.write_error = ""
        self._load()

    def set_latch(self, latch: Latch | None) -> None:
        """In memory at once, then on disk (STOP puts it in memory itself and saves behind the wire)."""
        self.latch = latch
        self.save()

    def save(self) -> None:
        """What stands in memory now, to disk; a disk that refuses is told by ``write_error``."""
        with self._lock:
            self._save()

    def set_token(self, token: int) -> None:
        """Remember the highest token, so that a fenced loop stays fenced after our restart."""
        with self._lock:
            self.token = max(self.token, token)
            self._save()

    def _save(self) -> None:
        content = {"latch": self.latch.to_json() if self.latch else None, "token": self.token}
        try:
            write_private(self._path, json.dumps(content).encode())
            self.write_error = ""
        except OSError as error:
            self.write_error = str(error)

    def _load(self) -> None:
        """An unreadable latch file is a latch: unknown refuses."""
        try:
            content = json.loads(self._path.read_bytes())
            latch = content["latch"]
            self.latch = Latch(**latch) if latch is not None else None
            self.token = int(content["token"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError) as error:
            self.latch = Latch("unreadable", "keeper", time_to_json(clock.now()), f"latch file unreadable: {error}")
