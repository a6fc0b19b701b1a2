"""The JSON log on disk: one file for all processes of a data folder, turned over by size, never waited for."""

from __future__ import annotations

import fcntl
import logging
import os
import queue
from io import TextIOWrapper
from logging.handlers import QueueHandler, QueueListener, WatchedFileHandler
from pathlib import Path

NAME = "roastops.jsonl"
BYTES_MAX = 10_000_000
FILES_KEPT = 10  # the one being written, and nine before it
QUEUE_MAX = 10_000
CLOSE_WAIT_S = 1.0


class SharedFile(WatchedFileHandler):
    """Processes append whole lines to one file; whoever finds it full turns it over, under a lock."""

    def __init__(self, path: Path, *, bytes_max: int = BYTES_MAX, files_kept: int = FILES_KEPT) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._bytes_max = bytes_max
        self._files_kept = files_kept
        super().__init__(path, encoding="utf-8")

    def _open(self) -> TextIOWrapper:
        handle = os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        return os.fdopen(handle, "a", encoding="utf-8")

    def emit(self, record: logging.LogRecord) -> None:
        """One line; a disk that refuses is told on stderr, and costs nobody more than the line."""
        try:
            super().emit(record)  # opens anew where somebody turned it over
            if self.stream is not None and os.fstat(self.stream.fileno()).st_size >= self._bytes_max:
                self._turn_over(self.stream)
        except OSError:
            self.handleError(record)

    def _turn_over(self, full: TextIOWrapper) -> None:
        lock = os.open(f"{self.baseFilename}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.path.samestat(os.stat(self.baseFilename), os.fstat(full.fileno())):
                for number in range(self._files_kept - 2, -1, -1):
                    path = _numbered(self.baseFilename, number)
                    if os.path.exists(path):
                        os.replace(path, _numbered(self.baseFilename, number + 1))
        finally:
            os.close(lock)
        self.reopenIfNeeded()


def _numbered(path: str, number: int) -> str:
    return path if number == 0 else f"{path}.{number}"


class Kept(QueueHandler):
    """Formats where the line is born (the ids at hand are that thread's) and never waits: a full queue drops it.

    A thread of its own writes: a disk that hangs holds up no STOP. Until :meth:`start` it keeps nothing. It is one of
    `settings.LOGGING`'s handlers, and the only one of its process: whoever sets Django up again (Celery does, and our
    ASGI module) clears the loggers, and gets this one back.
    """

    def __init__(self) -> None:
        super().__init__(queue.Queue(QUEUE_MAX))
        self._listener: QueueListener | None = None

    def start(self, path: Path) -> None:
        """Write to ``path`` from now on; once. OSError."""
        if self._listener is None:
            listener = QueueListener(self.queue, SharedFile(path))
            listener.start()
            self._listener = listener

    def stop(self) -> None:
        """Write what waits, as far as the disk lets us within CLOSE_WAIT_S."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        writer = listener._thread  # type: ignore[attr-defined]
        try:
            listener.enqueue_sentinel()
        except queue.Full:
            return
        if writer is not None:
            writer.join(CLOSE_WAIT_S)

    def emit(self, record: logging.LogRecord) -> None:
        if self._listener is not None:
            super().emit(record)

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)  # type: ignore[union-attr]
        except queue.Full:
            return


_kept = Kept()


def handler() -> Kept:
    """For `settings.LOGGING`."""
    return _kept


def keep(data_dir: Path) -> None:
    """From now on this process's log lines also go to ``data_dir/logs``. A disk that refuses is told, no more."""
    try:
        _kept.start(data_dir / "logs" / NAME)
    except OSError as error:
        logging.getLogger(__name__).error("no log file is kept: %s", error)


def close() -> None:
    """At the end of a process that does not end by itself."""
    _kept.stop()
