"""Private PostgreSQL and Redis for the tests, from installed binaries, in a temporary folder; always ended.

`python -m roastops.testing.servers` starts both and prints their addresses until Ctrl-C.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

START_TIMEOUT_S = 30.0
PACKAGES = {"postgres": "postgresql", "redis-server": "redis-server", "chromium": "chromium"}


class Missing(Exception):
    """A server or browser cannot be had here; says which and why."""


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find_program(name: str) -> str | None:
    """Where an installed program is; PostgreSQL's are looked for in Debian's folders too."""
    found = shutil.which(name)
    if found:
        return found
    if name in ("postgres", "initdb", "pg_ctl"):
        places = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"), key=_version, reverse=True)
        return places[0] if places else None
    if name == "chromium":
        return next((path for other in ("chromium-browser", "google-chrome") if (path := shutil.which(other))), None)
    return None


def _version(path: str) -> float:
    try:
        return float(path.split("/")[4])
    except ValueError:
        return 0.0


def require_program(name: str) -> str:
    """The program's path, installed first where we are root on Debian; Missing says why not."""
    found = find_program(name)
    if found:
        return found
    package = PACKAGES.get(name, name)
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Missing(f"{name} is not installed (Debian: apt-get install {package})")
    _apt_get("update", "-q")
    outcome = _apt_get("install", "-y", "-q", "--no-install-recommends", package)
    found = find_program(name)
    if not found:
        raise Missing(f"{name} could not be installed: {outcome.stderr.decode(errors='replace')[-300:]}")
    return found


def _end_with_parent() -> None:
    """In the child: a test run that is killed takes its servers with it (Linux: PR_SET_PDEATHSIG is 1)."""
    ctypes.CDLL(None, use_errno=True).prctl(1, int(signal.SIGINT))


def _apt_get(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(["apt-get", *arguments], env=environment, capture_output=True, timeout=900, check=False)


@dataclasses.dataclass
class Server:
    """A running server of ours: its address, and its process group."""

    url: str
    process: subprocess.Popen[bytes]
    folder: Path

    def freeze(self) -> None:
        """SIGSTOP to the server and all its children."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.killpg(self.process.pid, signal.SIGCONT)

    def stop(self) -> None:
        """End it, reap it, remove its folder."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGCONT)
            os.killpg(self.process.pid, signal.SIGINT)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(5)
        shutil.rmtree(self.folder, ignore_errors=True)


def _unprivileged() -> dict[str, int]:
    """PostgreSQL refuses to be root: as root, the arguments that start a child as somebody else."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid}
    raise Missing("PostgreSQL needs a user that is not root, and there is none")


def start_postgres(*, is_durable: bool = True) -> Server:
    """A private PostgreSQL with a database `roastops`, listening on 127.0.0.1 alone; durable as benches need it."""
    initdb, postgres = find_program("initdb"), require_program("postgres")
    initdb = initdb or require_program("initdb")
    folder = Path(tempfile.mkdtemp(prefix="roastops-pg-"))
    who = _unprivileged()
    if who:
        os.chown(folder, who["user"], who["group"])
    data, port = folder / "data", free_port()
    made = subprocess.run(
        [initdb, "-D", str(data), "-U", "roastops", "--auth=trust", "-E", "UTF8", "--no-locale", "--no-sync"],
        capture_output=True,
        timeout=60,
        check=False,
        cwd=folder,
        **who,  # type: ignore[call-overload]
    )
    if made.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        raise Missing(f"initdb failed: {made.stderr.decode(errors='replace')[-300:]}")
    process = subprocess.Popen(
        [postgres, "-D", str(data), "-p", str(port), "-k", str(folder), "-c", "listen_addresses=127.0.0.1"]
        + ["-c", "max_connections=200", "-c", "shared_buffers=64MB", "-c", "full_page_writes=off"]
        + ([] if is_durable else ["-c", "fsync=off", "-c", "synchronous_commit=off"]),
        stdin=subprocess.DEVNULL,
        stdout=(folder / "log").open("wb"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=_end_with_parent,  # noqa: PLW1509  (one system call, no lock)
        cwd=folder,
        **who,  # type: ignore[call-overload]
    )
    server = Server(f"postgresql://roastops@127.0.0.1:{port}/roastops", process, folder)
    _await(lambda: _has_database(port), server)
    return server


def start_brief_postgres() -> Server:
    """One for tests: it waits for no disk. (What it committed survives `kill -9`, as ever, but no power cut.)"""
    return start_postgres(is_durable=False)


def _has_database(port: int) -> bool:
    import psycopg

    try:
        with psycopg.connect(f"postgresql://roastops@127.0.0.1:{port}/postgres", autocommit=True) as connection:
            connection.execute("CREATE DATABASE roastops")
    except psycopg.errors.DuplicateDatabase:
        return True
    except psycopg.OperationalError:
        return False
    return True


def start_redis(port: int | None = None) -> Server:
    """A private Redis without persistence, on ``port`` or a free one."""
    program = require_program("redis-server")
    folder, port = Path(tempfile.mkdtemp(prefix="roastops-redis-")), port or free_port()
    process = subprocess.Popen(
        [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=(folder / "log").open("wb"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=_end_with_parent,  # noqa: PLW1509  (one system call, no lock)
    )
    server = Server(f"redis://127.0.0.1:{port}/0", process, folder)
    _await(lambda: _answers(port), server)
    return server


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as line:
            line.sendall(b"PING\r\n")
            return line.recv(64).startswith(b"+PONG")
    except OSError:
        return False


def _await(is_ready, server: Server) -> None:  # type: ignore[no-untyped-def]
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if server.process.poll() is not None:
            break
        if is_ready():
            return
        time.sleep(0.05)
    log = (server.folder / "log").read_text(errors="replace")[-400:]
    server.stop()
    raise Missing(f"{server.url} did not start: {log}")


@contextlib.contextmanager
def running(start) -> Iterator[Server]:  # type: ignore[no-untyped-def]
    """`with running(start_redis) as redis:`."""
    server = start()
    try:
        yield server
    finally:
        server.stop()


def main() -> int:
    with running(start_brief_postgres) as postgres, running(start_redis) as redis:
        sys.stdout.write(f"DATABASE_URL={postgres.url}\nREDIS_URL={redis.url}\n")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main())
