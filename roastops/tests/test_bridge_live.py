"""A real bridge, a real server and a virtual roaster; the network goes away in the middle of a roast."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from drivers import keeper_config, keeper_process
from drivers.keeper import take_lock
from roastops.testing import servers
from roastops.testing.processes import BASE_DIR, Fleet, Running, in_turn

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
SPEED = 40.0  # device seconds a second: a roast of ten minutes in a quarter of one
POLL_S = 0.1


class Proxy:
    """A TCP relay that can be cut: what is open ends, what comes is refused by silence."""

    def __init__(self, target: str) -> None:
        at = urlsplit(target)
        self._target = (at.hostname or "127.0.0.1", at.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: set[socket.socket] = set()
        self._is_cut = threading.Event()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._is_cut.set()
        with self._lock:
            lines, self._open = list(self._open), set()
        for line in lines:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
            line.close()

    def mend(self) -> None:
        self._is_cut.clear()

    def close(self) -> None:
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _address = self._listener.accept()
            except OSError:
                return
            if self._is_cut.is_set():
                near.close()
                continue
            try:
                far = socket.create_connection(self._target, 5)
            except OSError:
                near.close()
                continue
            with self._lock:
                self._open |= {near, far}
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._relay, args=(one, other), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        for line in (source, sink):
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)


@dataclass
class Far:
    """A remote machine with its bridge, and the server behind a cable that can be cut."""

    house: Fleet
    there: Fleet
    proxy: Proxy
    client: httpx.Client
    machine_id: str
    folder: Path
    argv: list[str]
    bridge: Running

    def start_bridge(self) -> Running:
        self.bridge = self.there.start("bridge", *self.argv)
        return self.bridge

    def standing(self) -> dict[str, Any]:
        return dict(self.client.get(f"/v1/telemetry/{self.machine_id}").json())

    def roasts(self) -> list[dict[str, Any]]:
        return list(self.client.get("/v1/roasts", params={"machine": self.machine_id}).json()["results"])

    def samples(self, roast_id: str) -> dict[str, Any]:
        return dict(self.client.get(f"/v1/roasts/{roast_id}/samples").json())


def wait_for(what: Callable[[], Any], limit_s: float, why: Callable[[], str]) -> Any:
    deadline_s = time.monotonic() + limit_s
    while time.monotonic() < deadline_s:
        found = what()
        if found:
            return found
        time.sleep(POLL_S)
    raise AssertionError(why())


def _end_keepers(run_folder: Path) -> None:
    """The house tends its demo machine, whose keeper detaches on purpose."""
    for path in run_folder.glob("mch_*.json"):
        with contextlib.suppress(OSError, keeper_config.BadConfig):
            keeper_process.stop_keeper(keeper_config.read(path))


@pytest.fixture(scope="module")
def far() -> Iterator[Far]:
    """All of it running, signed with `policy require`; reaped."""
    with contextlib.ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="ro-", ignore_cleanup_errors=True)))
        for name in ("house", "there"):
            (folder / name).mkdir()
        database_url = ""
        if os.environ.get("DATABASE_URL"):
            database_url = held.enter_context(servers.running(servers.start_brief_postgres)).url
        held.callback(_end_keepers, folder / "house" / "run")
        house = held.enter_context(Fleet(folder / "house", database_url=database_url))
        there = held.enter_context(Fleet(folder / "there", ROASTOPS_SPEED=f"{SPEED:g}"))
        key_file, signing_key = folder / "there" / "api.key", folder / "device.json"
        key = ("createkey", "--org", "demo")
        *_, lead = in_turn(
            house.environment, ("migrate", "--verbosity", "0"), ("demo", "--json"),
            ("devicekey", "new", "--org", "demo", "--machine", "Far", "--new-machine", "--out", str(signing_key)),
            (*key, "--user", "lead", "--scopes", "operate,lead"),
        )  # fmt: skip
        machine_id = json.loads(signing_key.read_text())["machine_id"]
        scope = f"telemetry:{machine_id}"
        key_file.write_text(house.manage(*key, "--agent", "bridge", "--scopes", scope).strip())
        web = house.start_up("--without-demo")
        headers = {"Authorization": f"Bearer {lead}"}
        client = held.enter_context(httpx.Client(base_url=web.url, headers=headers, trust_env=False, timeout=20))
        client.put("/v1/telemetry-policy", json={"signing": "require"}).raise_for_status()
        proxy = Proxy(web.url)
        held.callback(proxy.close)
        path = folder / "there" / "r.sock"
        roaster = [sys.executable, "-m", "drivers.virtual.server", "--socket", str(path), "--speed", f"{SPEED:g}"]
        there.start("roaster", *roaster, "--seed", "3", "--autostart")
        options = {"backend": {"kind": "virtual-socket", "path": str(path)}, "device_clock": "counter"}
        argv = [sys.executable, str(BASE_DIR / "manage.py"), "bridge", "--driver", "bullet-r1"]
        argv += ["--options", json.dumps(options), "--server", proxy.url, "--key-file", str(key_file)]
        argv += ["--signing-key", str(signing_key), "--batch-seconds", "0.5"]
        found = Far(house, there, proxy, client, machine_id, folder, argv, there.start("bridge", *argv))
        yield found
        if found.bridge.process.poll() is None:
            found.bridge.stop()


def test_a_network_that_is_away_in_mid_roast_costs_nothing_and_is_told(far: Far) -> None:
    roast = wait_for(
        lambda: next((r for r in far.roasts() if r["status"] == "roasting"), None), 60, lambda: far.bridge.log()[-3000:]
    )
    wait_for(lambda: far.samples(roast["roast_id"])["count"] > 20, 20, lambda: far.bridge.log()[-3000:])
    far.proxy.cut()
    before = far.samples(roast["roast_id"])["count"]
    time.sleep(7.0)  # close to five minutes of the machine's
    assert far.samples(roast["roast_id"])["count"] <= before + 20, "the cut cut nothing"
    far.proxy.mend()
    closed = wait_for(
        lambda: next((r for r in far.roasts() if r["roast_id"] == roast["roast_id"] and r["ended_at"]), None),
        90,
        lambda: far.bridge.log()[-3000:],
    )
    assert closed["status"] == "finished", far.bridge.log()[-3000:]
    detail = far.client.get(f"/v1/roasts/{closed['roast_id']}").json()
    samples = far.samples(closed["roast_id"])
    steps_ms = [b - a for a, b in zip(samples["elapsed_ms"], samples["elapsed_ms"][1:], strict=False)]
    assert max(steps_ms) < 1500 * SPEED and not [g for g in detail["gaps"] if g["reason"] == "missing_batches"]
    trust = far.client.get(f"/v1/roasts/{closed['roast_id']}/provenance").json()
    assert trust["verified_points"] == samples["count"] and trust["failed_points"] == trust["unsigned_points"] == 0
    assert trust["late_points"] > 20 and len(trust["late"]) == 1, trust
    stretch_ms = trust["late"][0]["to_ms"] - trust["late"][0]["from_ms"]
    assert stretch_ms > 60_000, "it says where it came late"
    assert far.standing()["missing"] == []
    said = far.bridge.log()
    assert "network: the server does not answer" in said and "network: taken again" in said
    checked = far.house.manage("verifyroast", closed["roast_id"])
    assert "failed 0" in checked and "WRONG" not in checked
    # it is watched here, and no order reaches it
    refused = far.client.post(
        "/v1/proposals",
        json={"machine_id": far.machine_id, "order_type": "SET_POWER", "target_value": 3, "target_unit": "step",
              "reasoning": "try"},
    )  # fmt: skip
    assert (refused.status_code, refused.json()["error"]) == (409, "machine_is_remote")
    assert far.client.get(f"/v1/machines/{far.machine_id}").json()["link"] == "up"


def test_a_bridge_killed_with_a_full_queue_goes_on_where_it_was(far: Far) -> None:
    wait_for(lambda: far.standing()["last_sequence"] >= 3, 60, lambda: far.bridge.log()[-3000:])
    far.proxy.cut()
    queue = far.folder / "there" / "bridge" / far.machine_id / "queue.jsonl"
    wait_for(lambda: len(queue.read_text().splitlines()) >= far.standing()["last_sequence"] + 4, 30, far.bridge.log)
    far.bridge.kill()
    queued = [json.loads(line)["sequence"] for line in queue.read_text().splitlines(keepends=True) if line[-1] == "\n"]
    far.proxy.mend()
    far.start_bridge()
    wait_for(lambda: far.standing()["last_sequence"] >= queued[-1] + 2, 60, lambda: far.bridge.log()[-3000:])
    stands = far.standing()
    assert stands["missing"] == [] and queued == list(range(queued[0], queued[-1] + 1))
    assert "envelopes wait; next sequence" in far.bridge.log()
    far.bridge.process.send_signal(2)
    assert far.bridge.process.wait(15) == 0
    assert "ended;" in far.bridge.log()


def test_a_bridge_refuses_a_machine_that_a_keeper_here_has(tmp_path: Path) -> None:
    backend, run = {"kind": "virtual-socket", "path": str(tmp_path / "r.sock")}, tmp_path / "run"
    config = keeper_config.make(
        run, machine_id="mch_here", name="Here", driver_kind="bullet-r1", driver_options={"backend": backend}
    )
    keeper_config.write(run, config)
    (tmp_path / "api.key").write_text("ro_x_y")
    handle = take_lock(config)
    try:
        argv = [sys.executable, str(BASE_DIR / "manage.py"), "bridge", "--driver", "bullet-r1", "--machine", "mch_far"]
        argv += ["--options", json.dumps({"backend": backend}), "--server", "http://127.0.0.1:1"]
        argv += ["--key-file", str(tmp_path / "api.key")]
        environment = {**os.environ, "ROASTOPS_DATA_DIR": str(tmp_path)}
        ended = subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=60, check=False)
    finally:
        os.close(handle)
    assert ended.returncode == 1 and "busy" in ended.stderr
