"""A virtual machine as a process of its own: served until a signal, its number in a file meanwhile."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Protocol


class Served(Protocol):
    """A server of one virtual machine."""

    def run(self) -> None:
        """Serve until told to stop."""

    def stop(self) -> None:
        """End `run` soon; from any thread, and from a signal."""


def run_until_told(server: Served, what: str, pid_file: str | None) -> None:
    """Say ``what`` is where, serve until SIGTERM or SIGINT, and take the file with the number away again."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    if pid_file:
        Path(pid_file).write_text(f"{os.getpid()}\n", encoding="ascii")
    print(f"virtual {what}, pid {os.getpid()}", flush=True)
    try:
        server.run()
    finally:
        if pid_file:
            Path(pid_file).unlink(missing_ok=True)
