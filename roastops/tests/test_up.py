"""`manage.py up` as a real process: starts, streams, drains, comes back."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import json
import os
import pty
import signal
import sys
import threading
import time
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import pytest

from roastops.testing.processes import Fleet, Running
from roastops.testing.servers import free_port
from roastops.tests.stack import ROOT

pytestmark = pytest.mark.slow


def get(url: str, key: str = "") -> tuple[int, Any]:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


class OpenStream(threading.Thread):
    """A client that reads the stream until it ends."""

    def __init__(self, running: Running, key: str) -> None:
        super().__init__(daemon=True)
        host = running.url.removeprefix("http://")
        self.connection = http.client.HTTPConnection(host, timeout=30)
        self.connection.request("GET", "/v1/stream", headers={"Authorization": f"Bearer {key}"})
        self.answer = self.connection.getresponse()
        self.text = b""
        self.start()

    def run(self) -> None:
        while chunk := self.answer.read1(65536):
            self.text += chunk


def children_of(data_dir: Path) -> list[str]:
    """Command lines of living processes that name the data folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes().decode(errors="replace") if entry.name.isdigit() else ""
        except OSError:
            continue
        if str(data_dir) in line and int(entry.name) != os.getpid():
            found.append(line.replace("\0", " "))
    return found


def until(condition: Any, timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.timeout(180)
def test_it_serves_streams_and_leaves_cleanly_and_starts_again_quickly(tmp_path: Path) -> None:
    begun = dt.datetime.now(dt.UTC)
    with Fleet(tmp_path, ROASTOPS_SPEED="10") as fleet:
        up = fleet.start_up()
        key = fleet.manage("createkey", "--org", "demo", "--user", "operator", "--scopes", "operate").strip()
        streams = [OpenStream(up, key) for _ in range(3)]
        until(lambda: all(b"event: reading" in stream.text for stream in streams), 40)
        status, body = get(up.url + "/healthz", key)
        assert status == 200, body
        assert body["checks"]["machine_leases"]["observed"] == 1
        assert len(children_of(tmp_path)) >= 2  # the virtual roaster and its keeper

        started = time.monotonic()
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(12) == 0
        took_s = time.monotonic() - started
        assert took_s < 10
        for stream in streams:
            stream.join(2)
            assert b"retry: 1000\nevent: bye" in stream.text
        until(lambda: not children_of(tmp_path), 3)
        its_words_are_kept_and_bundled(fleet, begun, key)

        started = time.monotonic()
        again = fleet.start_up()
        assert time.monotonic() - started < 5
        assert again.stop() == 0


@pytest.mark.prove
def test_the_demo_may_be_the_first_command_of_all(tmp_path: Path) -> None:
    made = json.loads(Fleet(tmp_path).manage("demo", "--json", timeout_s=120))
    assert made["organization"] == "demo" and "lead" in made["users"]


@pytest.mark.prove
@pytest.mark.timeout(180)
def test_closing_the_terminal_ends_it_all(tmp_path: Path) -> None:
    """As a window closes: a session leader that waits (make), and we in a group of our own before its terminal."""
    with Fleet(tmp_path) as fleet:
        port = free_port()
        manage = f"{sys.executable} {ROOT / 'manage.py'} up --own-terminal --port {port}"
        leader, terminal = pty.fork()
        if leader == 0:
            os.chdir(ROOT)
            os.execvpe("sh", ["sh", "-c", f"{manage}; true"], fleet.environment)
        drained = threading.Thread(target=read_all, args=(terminal,), daemon=True)
        drained.start()
        try:
            until(lambda: is_ready(port), 90)
            until(lambda: len(children_of(tmp_path)) >= 2, 30)
            os.close(terminal)
            until(lambda: not children_of(tmp_path) and not is_ready(port), 30)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(leader, signal.SIGKILL)
            os.waitpid(leader, 0)
            end_all(tmp_path)


def read_all(terminal: int) -> None:
    with contextlib.suppress(OSError):
        while os.read(terminal, 65536):
            pass


def is_ready(port: int) -> bool:
    try:
        return get(f"http://127.0.0.1:{port}/readyz")[0] == 200
    except OSError:
        return False


def end_all(data_dir: Path) -> None:
    """Whoever still names the data folder in its environment: ours, in groups of their own."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and f"ROASTOPS_DATA_DIR={data_dir}".encode() in (entry / "environ").read_bytes():
                os.kill(int(entry.name), signal.SIGKILL)


def its_words_are_kept_and_bundled(fleet: Fleet, begun: dt.datetime, key: str) -> None:
    """The log on disk, to its last line before the end, with ids; and an incident's bundle of it all."""
    text = (fleet.data_dir / "logs" / "roastops.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    let_go = [line for line in lines if "let go of" in line["message"]]
    assert let_go and {"at", "level", "logger", "message", "pid"} <= set(let_go[-1])
    out = fleet.data_dir / "incident.zip"
    now = dt.datetime.now(dt.UTC)
    fleet.manage("incident", "--from", begun.isoformat(), "--to", now.isoformat(), "--out", str(out))
    with zipfile.ZipFile(out) as bundle:
        parts = {name: bundle.read(name).decode() for name in bundle.namelist()}
    for name in ("logs.jsonl", "wire.jsonl", "audit.jsonl", "checkpoints.jsonl", "roasts.jsonl", "samples.jsonl"):
        assert parts[name], name
    assert any('"machine_id"' in line and "holding" in line for line in parts["logs.jsonl"].splitlines())
    secrets = [key, *(path.read_text() for path in fleet.data_dir.rglob("*.key") if path.stat().st_size > 40)]
    for secret in secrets:
        assert secret.strip() not in "".join(parts.values())


@pytest.mark.timeout(120)
def test_machine_and_keeper_outlive_a_killed_house_and_are_adopted(tmp_path: Path) -> None:
    """Killing RoastOps does not kill the machine."""
    with Fleet(tmp_path, ROASTOPS_SPEED="10") as fleet:
        up = fleet.start_up()
        until(lambda: any("drivers.keeper" in line for line in children_of(tmp_path)), 30)
        pids = sorted(path.read_text() for path in (tmp_path / "virtual").glob("*.pid"))
        os.kill(up.pid, signal.SIGKILL)
        up.process.wait(5)
        time.sleep(0.5)
        assert any("drivers.virtual.server" in line for line in children_of(tmp_path))
        again = fleet.start_up()
        assert sorted(path.read_text() for path in (tmp_path / "virtual").glob("*.pid")) == pids
        assert again.stop() == 0
        until(lambda: not children_of(tmp_path), 3)


@pytest.mark.timeout(60)
def test_taken_port_is_said_at_once(tmp_path: Path) -> None:
    with Fleet(tmp_path) as fleet:
        first = fleet.start_up("--without-demo")
        port = first.url.rsplit(":", 1)[1]
        with pytest.raises(AssertionError, match="cannot be used"):
            fleet.manage("up", "--without-demo", "--port", port)


@pytest.mark.timeout(60)
def test_leaving_house_says_so_takes_nothing_new_and_ends_what_it_began(tmp_path: Path) -> None:
    """Readiness goes first; a bare uvicorn ends its streams too."""
    with Fleet(tmp_path) as fleet:
        fleet.manage("migrate")
        web = fleet.start_web()
        assert get(web.url + "/readyz")[0] == 200
        assert get(web.url + "/health")[1]["service"] == "roastops"
        assert get(web.url + "/v1/nothing") == (404, get(web.url + "/v1/nothing")[1])
        assert web.stop(8) == 0
