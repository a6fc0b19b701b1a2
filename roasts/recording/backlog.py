"""What the recorder decided and the store does not have yet: in memory, and on disk when that grows. No Django.

Order is kept: what is on disk is older than what is in memory. Filing is idempotent, so a line that is
filed twice (a crash between commit and truncation) does no harm.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections import deque
from pathlib import Path

from roasts.recording import decision_json
from roasts.recording.filing import Filing
from roasts.recording.recorder import RecordSample

logger = logging.getLogger(__name__)
MEMORY_MAX = 600  # a minute at 10 Hz
FILE_BYTES_MAX = 128_000_000  # about six hours


class Backlog:
    """A bounded queue of filings for one machine. One thread puts, one takes; any may ask its length."""

    def __init__(self, path: Path, memory_max: int = MEMORY_MAX, file_bytes_max: int = FILE_BYTES_MAX) -> None:
        self._path = path
        self._memory_max = memory_max
        self._file_bytes_max = file_bytes_max
        self._lock = threading.Lock()
        self._memory: deque[Filing] = deque()
        self._file_bytes = path.stat().st_size if path.exists() else 0
        self._offset = 0  # how much of the file is filed
        self._taken: tuple[str, int] = ("", 0)  # what the last `take` covered
        self.dropped = 0
        self.is_urgent = False  # something other than samples waits: it is filed at once

    def __len__(self) -> int:
        with self._lock:
            return len(self._memory) + (1 if self._offset < self._file_bytes else 0)

    def put(self, filing: Filing) -> None:
        """Add one; goes to disk with the rest when memory is full. Never raises for a full disk: counts."""
        with self._lock:
            self._memory.append(filing)
            self.is_urgent = self.is_urgent or not isinstance(filing.decision, RecordSample)
            if len(self._memory) >= self._memory_max:
                self._spill()

    def spill(self) -> None:
        """Write everything in memory to disk: we are leaving, and the store has not taken it."""
        with self._lock:
            if self._memory:
                self._spill()

    def _spill(self) -> None:
        lines = b"".join(json.dumps(_to_row(filing)).encode() + b"\n" for filing in self._memory)
        try:
            if self._file_bytes + len(lines) > self._file_bytes_max:
                raise OSError("journal is full")
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(handle, "ab") as stream:
                stream.write(lines)
            self._file_bytes += len(lines)
            self._taken = ("", 0)  # what was being filed from memory moved to disk; filing twice is harmless
            self._memory.clear()
        except OSError as error:
            self.dropped += 1
            self._memory.popleft()
            logger.error("readings journal: %s; %d dropped", error, self.dropped)

    def take(self, count: int) -> list[Filing]:
        """The oldest ``count`` filings, which stay until :meth:`done`. OSError when the file cannot be read."""
        with self._lock:
            while self._offset < self._file_bytes:
                if batch := self._take_from_file(count):
                    return batch
                self._forget_file_to(self._taken[1])  # nothing but torn lines
            batch = [self._memory[n] for n in range(min(count, len(self._memory)))]
            self.is_urgent = self.is_urgent and len(batch) < len(self._memory)
            self._taken = ("memory", len(batch))
            return batch

    def _take_from_file(self, count: int) -> list[Filing]:
        batch: list[Filing] = []
        with self._path.open("rb") as stream:
            stream.seek(self._offset)
            for _ in range(count):
                line = stream.readline()
                if not line:
                    break
                try:
                    batch.append(_from_row(json.loads(line)))
                except (ValueError, KeyError, TypeError) as error:  # a torn line of a crash
                    logger.error("readings journal: a line is not readable: %s", error)
            self._taken = ("file", stream.tell())
        return batch

    def done(self) -> None:
        """The last batch taken is filed."""
        with self._lock:
            source, amount = self._taken
            self._taken = ("", 0)
            if source == "memory":
                for _ in range(amount):
                    self._memory.popleft()
            elif source == "file":
                self._forget_file_to(amount)

    def _forget_file_to(self, offset: int) -> None:
        self._offset = offset
        if self._offset >= self._file_bytes:
            self._path.unlink(missing_ok=True)
            self._offset = self._file_bytes = 0


def _to_row(filing: Filing) -> dict:
    return {
        "roast_id": filing.roast_id,
        "connection_id": filing.connection_id,
        "sequence": filing.sequence,
        "decision": decision_json.encode(filing.decision),
    }


def _from_row(row: dict) -> Filing:
    return Filing(row["roast_id"], row["connection_id"], row["sequence"], decision_json.decode(row["decision"]))
