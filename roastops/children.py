"""Small processes beside ours, in sessions of their own: started, adopted when still alive, and ended in order."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import subprocess
from pathlib import Path

from kernel import clock

logger = logging.getLogger(__name__)
POLL_S = 0.05
MAX_LOG_BYTES = 5_000_000


@dataclasses.dataclass(slots=True)
class Child:
    """One process: what to run, where its id and its words go. ``mark`` must stand in the command line of an
    adopted process, so that a recycled id is not taken for ours.
    """

    name: str
    argv: list[str]
    mark: str
    pid_file: Path
    log_file: Path
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def ensure(self) -> int:
        """Its process id: adopted if it lives, else started."""
        pid = self.living_pid()
        return pid if pid is not None else self._start()

    def living_pid(self) -> int | None:
        """The id of the living process, or None."""
        if self.process is not None:
            return self.process.pid if self.process.poll() is None else None
        try:
            pid = int(self.pid_file.read_text())
            command_line = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except (OSError, ValueError):
            return None
        return pid if self.mark in command_line else None

    def _start(self) -> int:
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        self.pid_file.parent.mkdir(parents=True, exist_ok=True)
        is_long = self.log_file.exists() and self.log_file.stat().st_size > MAX_LOG_BYTES
        with self.log_file.open("wb" if is_long else "ab") as log:
            self.process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **self.environment},
            )
        self.pid_file.write_text(f"{self.process.pid}\n")
        logger.info("started %s (%d)", self.name, self.process.pid)
        return self.process.pid

    def ask_to_end(self) -> None:
        """SIGTERM."""
        pid = self.living_pid()
        if pid is not None:
            _signal(pid, signal.SIGTERM)

    def end(self, timeout_s: float) -> None:
        """SIGTERM, then SIGKILL after ``timeout_s``; the process is gone, and reaped if it was ours, on return."""
        self.ask_to_end()
        deadline_s = clock.monotonic() + timeout_s
        while (pid := self.living_pid()) is not None and clock.monotonic() < deadline_s:
            clock.sleep(POLL_S)
        if pid is not None:
            logger.warning("%s (%d) did not end; killed", self.name, pid)
            _signal(pid, signal.SIGKILL)
            if self.process is not None:
                self.process.wait(5)
        self.pid_file.unlink(missing_ok=True)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
