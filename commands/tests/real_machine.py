"""A real keeper and a real virtual machine process for tests, always reaped."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drivers import keeper_config, keeper_process
from drivers.keeper_client import KeeperClient
from drivers.keeper_config import KeeperConfig
from drivers.tests.virtual_machines import end_process, start_machine
from drivers.virtual.panel import Panel


def wait_for(condition: Callable[[], Any], timeout_s: float = 15.0, what: str = "") -> Any:
    """The first true answer, or an AssertionError that says what did not come."""
    until_s = time.monotonic() + timeout_s
    while time.monotonic() < until_s:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what or condition} did not come within {timeout_s} s")


@dataclass
class RealMachine:
    """A served roaster, its config, and its panel."""

    config: KeeperConfig
    data_dir: Path
    socket: Path
    panel: Panel
    process: Any

    def driver_options(self) -> dict[str, Any]:
        return self.config.driver_options

    def status(self) -> dict[str, Any]:
        """The truth inside the machine."""
        return self.panel.status()

    def ensure_keeper(self) -> int:
        """A living keeper with its link up."""
        pid = keeper_process.ensure_keeper(self.config)
        wait_for(lambda: self.keeper_status()["link"]["state"] == "up", what="link up")
        wait_for(lambda: self.keeper_status()["reading"], what="a reading")
        return pid

    def keeper_status(self) -> dict[str, Any]:
        client = KeeperClient(self.config.socket, 1.0)
        try:
            return client.status()
        finally:
            client.close()

    def kill_keeper(self) -> None:
        """kill -9 of the keeper."""
        pid = keeper_process.living_keeper(self.config)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)

    def heater_steps_sent(self) -> list[str]:
        """Heater commands as the machine itself logged them."""
        return [entry["hex"] for entry in self.commands() if entry["hex"].startswith("34")]

    def commands(self) -> list[dict[str, Any]]:
        """Everything the machine was told that moves something: not the status polls."""
        found = []
        for entry in self.panel.wire():
            data = entry.get("hex", "")
            if entry["dir"] == "out" and (data[:2] in ("34", "31", "32") or data == "30010000"):
                found.append(entry)
        return found


@contextlib.contextmanager
def real_machine(
    *arguments: str, machine_id: str = "mch_test", organization_id: str = "org_test", kind: str = "bullet-r1",
    **config: Any,
) -> Iterator[RealMachine]:
    """A virtual roaster process of that kind (roasting, unless told otherwise) and the config of its keeper."""
    data_dir = Path(tempfile.mkdtemp(prefix="roastops-"))
    socket = data_dir / "machine.sock"
    given = arguments or ("--initial-state", "roasting", "--seed", "7")
    process = start_machine(socket, "--kind", kind, *given)
    options = {"backend": {"kind": "virtual-socket", "path": str(socket)}, "device_clock": "counter"}
    made = keeper_config.make(
        data_dir / "run", machine_id=machine_id, name="Test roaster", driver_kind=kind, driver_options=options,
        organization_id=organization_id, **config,
    )  # fmt: skip
    keeper_config.write(data_dir / "run", made)
    panel = Panel(socket)
    try:
        yield RealMachine(made, data_dir, socket, panel, process)
    finally:
        panel.close()
        keeper_process.stop_keeper(made, 2.0)
        _reap_keeper(made)
        end_process(process)
        shutil.rmtree(data_dir, ignore_errors=True)


def _reap_keeper(config: KeeperConfig) -> None:
    """A keeper that hangs or was stopped by a signal must not outlive its test."""
    try:
        pid = int(Path(config.lock_file).read_text().strip() or 0)
    except (OSError, ValueError):
        return
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes() if Path(f"/proc/{pid}").exists() else b""
        if config.machine_id.encode() in command:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
