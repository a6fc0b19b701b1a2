"""What went over the wire and what happened at the machine, one JSON line each, outliving every client."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections import deque
from pathlib import Path
from typing import IO, Any

MAX_FILE_BYTES = 64_000_000
MAX_KEPT = 20_000


class WireLog:
    """Entries carry ``n``, ``wall``, ``mono_s`` (the host's monotonic clock), ``device_s``, ``dir`` and its own.

    ``dir``: out (host to machine), in (machine to host), usb (open, claim, …), panel (a person's act),
    self (the firmware's own act), fault, alarm. The newest entries stay in memory; with a path every entry
    is a line of that file, flushed at once, rotated once to ``.1`` when large.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self._lock = threading.Lock()
        self._kept: deque[dict[str, Any]] = deque(maxlen=MAX_KEPT)
        self._count = 0
        self._path = Path(path) if path else None
        self._file: IO[str] | None = None
        if self._path:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a", encoding="utf-8")

    def append(self, direction: str, wall: str, mono_s: float, device_s: float, **what: Any) -> None:
        """Record one thing."""
        with self._lock:
            self._count += 1
            entry: dict[str, Any] = {"n": self._count, "wall": wall, "mono_s": mono_s, "device_s": round(device_s, 1)}
            entry |= {"dir": direction, **what}
            self._kept.append(entry)
            if self._file:
                self._write(json.dumps(entry, separators=(",", ":")) + "\n")

    def entries(self, *, after: int = 0, directions: frozenset[str] | None = None) -> list[dict[str, Any]]:
        """The kept entries with ``n`` above ``after``, optionally only of some directions."""
        with self._lock:
            kept = list(self._kept)
        return [e for e in kept if e["n"] > after and (directions is None or e["dir"] in directions)]

    def close(self) -> None:
        """Close the file; memory stays."""
        with self._lock:
            if self._file:
                self._file.close()
                self._file = None

    def _write(self, line: str) -> None:
        """A full disk ends the file, loudly; the machine roasts on."""
        try:
            if self._file is None:
                return
            self._file.write(line)
            self._file.flush()
            if self._file.tell() > MAX_FILE_BYTES:
                self._rotate()
        except OSError as error:
            print(f"virtual machine: its wire log ends here: {error}", file=sys.stderr, flush=True)
            self._file = None

    def _rotate(self) -> None:
        if self._file and self._path:
            self._file.close()
            os.replace(self._path, self._path.with_name(self._path.name + ".1"))
            self._file = self._path.open("a", encoding="utf-8")
