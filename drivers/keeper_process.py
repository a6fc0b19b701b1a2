"""Starting a keeper that outlives us, finding one that lives, ending one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from drivers import keeper_config
from drivers.keeper_client import KeeperClient, KeeperUnreachable
from drivers.keeper_config import KeeperConfig
from drivers.port import DriverError
from kernel import clock

START_WAIT_S = 5.0
_ROOT = Path(__file__).resolve().parent.parent


def ensure_keeper(config: KeeperConfig, wait_s: float = START_WAIT_S) -> int:
    """The process id of this machine's keeper; starts one, in a session of its own, where none answers.

    Writes the config file where it is missing. KeeperUnreachable where none comes up in ``wait_s``.
    """
    pid = living_keeper(config)
    if pid is not None:
        return pid
    path = Path(config.lock_file).with_suffix(".json")
    if not path.exists() or keeper_config.read(path) != config:
        path = keeper_config.write(path.parent, config)
    process = _spawn(path, config)
    until_s = clock.monotonic() + wait_s
    while clock.monotonic() < until_s:
        pid = living_keeper(config)
        if pid is not None:
            return pid
        code = process.poll()
        if code not in (None, 0, 3):  # 3: another one has the lock and will answer
            break
        clock.sleep(0.02)
    raise KeeperUnreachable(
        f"the keeper of {config.machine_id} does not come up (exit {process.poll()})", f"See {config.output_file}.")


def living_keeper(config: KeeperConfig) -> int | None:
    """The process id of the keeper that answers, or None."""
    client = KeeperClient(config.socket, timeout_s=1.0)
    try:
        return int(client.status()["pid"])
    except DriverError:
        return None
    finally:
        client.close()


def stop_keeper(config: KeeperConfig, wait_s: float = 5.0) -> bool:
    """Ask the keeper to end (SIGTERM; nothing is sent to the machine); False where none lived or it did not end."""
    pid = living_keeper(config)
    if pid is None:
        return False
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return True
    until_s = clock.monotonic() + wait_s
    while clock.monotonic() < until_s:
        if not _is_alive(pid):
            return True
        clock.sleep(0.02)
    return False


def _spawn(path: Path, config: KeeperConfig) -> subprocess.Popen[bytes]:
    """Detached: our death, and our terminal's Ctrl-C, are not its."""
    with config.output_file.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "drivers.keeper", "--config", str(path)],
            cwd=_ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )


def _is_alive(pid: int) -> bool:
    """Is it running? A zombie child of ours is not."""
    try:
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return False
    except ChildProcessError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
