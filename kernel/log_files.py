"""The JSON log on disk: one file for all processes of a data folder, turned over by size, never waited for."""

from __future__ import annotations

import fcntl
import logging
import os
import queue
from io import TextIOWrapper
from logging.handlers import QueueHandler, QueueListener, WatchedFileHandler
from pathlib import Path

from kernel.log_lines import JsonFormatter

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


class _Waiting(QueueHandler):
    """Formats where the line is born (the ids at hand are that thread's), and never waits: a full queue drops it."""

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)  # type: ignore[union-attr]
        except queue.Full:
            return


class LogFile:
    """Keeps what the root logger hears, written by a thread of its own: a disk that hangs holds up no STOP."""

    def __init__(self, path: Path) -> None:
        waiting: queue.Queue[logging.LogRecord] = queue.Queue(QUEUE_MAX)
        self._listener = QueueListener(waiting, SharedFile(path))
        self._handler = _Waiting(waiting)
        self._handler.setFormatter(JsonFormatter())
        self._listener.start()
        logging.getLogger().addHandler(self._handler)

    def close(self) -> None:
        """Write what waits, as far as the disk lets us within CLOSE_WAIT_S."""
        logging.getLogger().removeHandler(self._handler)
        writer = self._listener._thread  # type: ignore[attr-defined]
        try:
            self._listener.enqueue_sentinel()
        except queue.Full:
            return
        if writer is not None:
            writer.join(CLOSE_WAIT_S)


_kept: list[LogFile] = []


def keep(data_dir: Path) -> None:
    """From now on this process's log lines also go to ``data_dir/logs``; once per process. OSError is told."""
    if _kept:
        return
    try:
        _kept.append(LogFile(data_dir / "logs" / NAME))
    except OSError as error:
        logging.getLogger(__name__).error("no log file is kept: %s", error)


def close() -> None:
    """At the end of a process that does not end by itself."""
    while _kept:
        _kept.pop().close()
