"""What a bridge keeps on disk until it is acknowledged: an append-only queue in order, and how long to wait meanwhile.

A line is one envelope, finished and signed before it is written, and written (and flushed to the disk, unless told
otherwise) before it is sent: so a sequence never goes out twice with other content, whatever dies in between. What is
acknowledged is a position in a file of its own. A torn last line of a crash was never sent, and is cut off. Nothing is
dropped before it is acknowledged; a queue that is full takes nothing new. No Django, no clock, no network.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

QUEUE_NAME, ACKNOWLEDGED_NAME = "queue.jsonl", "acknowledged.json"
#: About a day and a half at 10 Hz.
QUEUE_BYTES_MAX = 2_000_000_000
LINE_BYTES_MAX = 2_000_000
#: A file of lines that are all acknowledged is begun anew at this size.
BEGIN_ANEW_BYTES = 1_000_000
FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 10.0


class QueueFull(Exception):
    """The queue holds all it may: nothing new is taken until something is acknowledged."""


class BadQueue(Exception):
    """What lies there is no queue of ours, or of another machine."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """An envelope ready to send: its bytes, its place in the row, and the digest the next one must name."""

    sequence: int
    digest: str
    points: int
    body: str


class Queue:
    """One machine's queue in a folder. One thread appends, one sends; both may be the same.

    ``does_sync``: every line reaches the disk before it may be sent (else the operating system decides: a power cut may
    lose lines that were sent, and the sequence after them).
    """

    def __init__(
        self, folder: Path, machine_id: str, *, bytes_max: int = QUEUE_BYTES_MAX, does_sync: bool = True
    ) -> None:
        self._folder = folder
        self._machine_id = machine_id
        self._bytes_max = bytes_max
        self._does_sync = does_sync
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = folder / QUEUE_NAME
        self._offset = 0  # everything before it is acknowledged
        self.last_sequence, self.last_digest = 0, ""
        self.waiting = 0  # envelopes not acknowledged
        self.waiting_points = 0
        self._read_acknowledged()
        self._recover()

    def _read_acknowledged(self) -> None:
        try:
            said = json.loads((self._folder / ACKNOWLEDGED_NAME).read_text())
        except FileNotFoundError:
            return
        except ValueError as error:
            raise BadQueue(f"{self._folder / ACKNOWLEDGED_NAME} is not readable: {error}") from error
        if said.get("machine_id") != self._machine_id:
            raise BadQueue(f"{self._folder} is the queue of {said.get('machine_id')}, not of {self._machine_id}")
        self._offset = int(said["offset"])
        self.last_sequence, self.last_digest = int(said["sequence"]), str(said["digest"])

    def _recover(self) -> None:
        """Count what waits; cut off a torn last line."""
        size = self._path.stat().st_size if self._path.exists() else 0
        if self._offset > size:
            self._offset = 0  # the file was begun anew, and the note of it came no further
        end = self._offset
        for sealed, after in self._lines():
            if sealed.sequence <= self.last_sequence and self.waiting == 0:
                self._offset = end = after  # acknowledged, and the note of it came no further
                continue
            self.last_sequence, self.last_digest = sealed.sequence, sealed.digest
            self.waiting += 1
            self.waiting_points += sealed.points
            end = after
        if end < size:
            with self._path.open("r+b") as stream:
                stream.truncate(end)
        self._size = end

    def _lines(self) -> Iterator[tuple[Sealed, int]]:
        """Whole lines from the acknowledged position on, each with the position behind it."""
        if not self._path.exists():
            return
        with self._path.open("rb") as stream:
            stream.seek(self._offset)
            while line := stream.readline(LINE_BYTES_MAX):
                sealed = _read_line(line)
                if sealed is None:
                    return
                yield sealed, stream.tell()

    def append(self, sealed: Sealed) -> None:
        """Take one more. QueueFull; OSError where the disk does not take it (nothing is queued then)."""
        line = (
            json.dumps(
                {"sequence": sealed.sequence, "digest": sealed.digest, "points": sealed.points, "body": sealed.body}
            ).encode()
            + b"\n"
        )
        if self._size - self._offset + len(line) > self._bytes_max or len(line) > LINE_BYTES_MAX:
            raise QueueFull(f"{self.waiting} envelopes wait in {self._folder}")
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            written = os.write(handle, line)
            if written < len(line):
                os.ftruncate(handle, self._size)
                raise OSError(f"the disk took {written} of {len(line)} bytes")
            if self._does_sync:
                os.fsync(handle)
        finally:
            os.close(handle)
        self._size += len(line)
        self.last_sequence, self.last_digest = sealed.sequence, sealed.digest
        self.waiting += 1
        self.waiting_points += sealed.points

    def oldest(self) -> Sealed | None:
        """The next to send; it stays until it is acknowledged."""
        if self.waiting == 0:
            return None
        return next((sealed for sealed, _after in self._lines()), None)

    def acknowledge(self, sequence: int) -> None:
        """The oldest has been taken by the other side. ValueError: it is not the oldest."""
        found = next(self._lines(), None)
        if found is None or found[0].sequence != sequence:
            raise ValueError(f"{sequence} is not the oldest that waits")
        self.waiting -= 1
        self.waiting_points -= found[0].points
        offset = found[1]
        if self.waiting == 0 and offset >= BEGIN_ANEW_BYTES:
            # The note first: a crash between the two finds an offset past the end, and begins at 0.
            self._note(0, found[0])
            self._path.unlink()
            self._size = offset = 0
        else:
            self._note(offset, found[0])
        self._offset = offset

    def renumber(self, after_sequence: int, after_digest: str, seal: Callable[[str, int, str], Sealed]) -> int:
        """The other side is further than we are (another bridge sent, or a power cut took our newest lines): seal all
        that waits anew, behind it. ``seal(body, sequence, previous_digest)``. How many were sealed.
        """
        sequence, digest, count = after_sequence, after_digest, 0
        draft = self._path.with_suffix(".draft")
        with draft.open("wb") as stream:
            for old, _after in self._lines():
                sealed = seal(old.body, sequence + 1, digest)
                sequence, digest, count = sealed.sequence, sealed.digest, count + 1
                line = {"sequence": sequence, "digest": digest, "points": sealed.points, "body": sealed.body}
                stream.write(json.dumps(line).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        draft.chmod(0o600)
        os.replace(draft, self._path)
        self._write_note(0, after_sequence, after_digest)
        self._offset, self._size = 0, self._path.stat().st_size
        self.last_sequence, self.last_digest = sequence, digest
        return count

    def _note(self, offset: int, sealed: Sealed) -> None:
        self._write_note(offset, sealed.sequence, sealed.digest)

    def _write_note(self, offset: int, sequence: int, digest: str) -> None:
        path = self._folder / ACKNOWLEDGED_NAME
        draft = path.with_suffix(".draft")
        said = {"machine_id": self._machine_id, "offset": offset, "sequence": sequence, "digest": digest}
        with draft.open("w") as stream:
            json.dump(said, stream)
            stream.flush()
            if self._does_sync:
                os.fsync(stream.fileno())
        draft.chmod(0o600)
        os.replace(draft, path)


def _read_line(line: bytes) -> Sealed | None:
    """None for a torn line: it was being written when we died, and never sent."""
    if not line.endswith(b"\n"):
        return None
    try:
        said = json.loads(line)
        return Sealed(int(said["sequence"]), str(said["digest"]), int(said["points"]), str(said["body"]))
    except (ValueError, KeyError, TypeError):
        return None


def wait_s(failures: int) -> float:
    """Seconds before the next try after so many failures in a row: doubling, bounded."""
    return min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(30, max(0, failures - 1)))
