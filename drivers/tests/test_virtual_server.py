# ruff: noqa: F811 - pytest fixtures are imported by name
"""A served machine: a process of its own, one claim at a time, a wire log that outlives its clients."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import usb.core
import usb.util

import drivers.virtual
from drivers.tests.test_virtual_usb import asked, opened
from drivers.tests.virtual_machines import ROOT, end_process, served, start_machine  # noqa: F401 - a fixture
from drivers.virtual.clocks import ManualClock
from drivers.virtual.machine import VirtualMachine
from drivers.virtual.panel import Panel
from drivers.virtual.person import DemoPerson
from drivers.virtual.socket_wire import connect

HOLDER = """
import sys, time
sys.path.insert(0, {root!r})
import usb.core, usb.util, drivers.virtual
device = usb.core.find(backend=drivers.virtual.socket_backend({path!r}))
if device.is_kernel_driver_active(1):
    device.detach_kernel_driver(1)
usb.util.claim_interface(device, 1)
device.write(3, [0x34, 1, 0xAA, 0xAA])
print("holding", flush=True)
device.read(0x81, 64, timeout=60000)
"""


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_killed_client_frees_its_claim_and_leaves_its_bytes_in_the_wire_log(served, tmp_path) -> None:
    wire_log = tmp_path / "wire.jsonl"
    path = served("--wire-log", str(wire_log), "--initial-state", "roasting")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER.format(root=str(ROOT), path=str(path))],
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert holder.stdout is not None and holder.stdout.readline().strip() == "holding"
        device = usb.core.find(backend=drivers.virtual.socket_backend(path))
        with pytest.raises(usb.core.USBError) as busy:
            usb.util.claim_interface(device, 1)
        assert busy.value.errno == 16
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait(5)
        claim_within(device, 1.0)
        assert asked(device)[27] == 6
    finally:
        end_process(holder)
    steps = [entry for entry in lines_of(wire_log) if entry["dir"] == "out" and entry["hex"] == "3401aaaa"]
    assert len(steps) == 1
    assert (steps[0]["before"][0], steps[0]["after"][0]) == (5, 6)
    assert {"n", "wall", "device_s", "handle", "meaning"} <= set(steps[0])


def test_a_handle_is_worth_nothing_in_another_session(served) -> None:
    path = served("--initial-state", "roasting")
    owner = opened(drivers.virtual.socket_backend(path))
    stranger = connect(path)
    stranger.send({"op": "hello"})
    stranger.receive()
    for request in ({"op": "write", "handle": 1, "data": "3401aaaa", "timeout_ms": 100}, {"op": "close", "handle": 1}):
        stranger.send(request)
        assert stranger.receive()["usb_error"]["errno"] == 19
    stranger.close()
    assert asked(owner)[27] == 5


def claim_within(device: usb.core.Device, seconds: float) -> None:
    deadline_s = time.monotonic() + seconds
    while True:
        try:
            usb.util.claim_interface(device, 1)
            return
        except usb.core.USBError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.02)


def test_sigterm_ends_it_with_zero_and_a_stale_socket_is_taken_over(tmp_path) -> None:
    path, pid_file = Path(f"/tmp/roastops-{os.getpid()}.sock"), tmp_path / "pid"
    first = start_machine(path, "--pid-file", str(pid_file))
    try:
        assert int(pid_file.read_text()) == first.pid
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        again = subprocess.run(
            [sys.executable, "-m", "drivers.virtual.server", "--socket", str(path)],
            cwd=ROOT, capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
        assert again.returncode != 0 and "already served" in again.stderr
        os.kill(first.pid, signal.SIGKILL)
        first.wait(5)
        assert path.exists()  # stale
        second = start_machine(path)
        started_s = time.monotonic()
        assert end_process(second) == 0
        assert time.monotonic() - started_s < 2.0
        assert not path.exists()
    finally:
        end_process(first)
        path.unlink(missing_ok=True)


def test_a_dead_machine_looks_unplugged(served) -> None:
    path = served()
    backend = drivers.virtual.socket_backend(path)
    device = opened(backend)
    with Panel(path) as panel:
        os.kill(panel.status()["pid"], signal.SIGKILL)
    with pytest.raises(usb.core.USBError) as gone:
        for _ in range(50):
            asked(device)
            time.sleep(0.02)
    assert gone.value.errno == 19
    assert usb.core.find(backend=backend) is None


def test_the_panel_is_the_person_at_the_machine(served) -> None:
    path = served("--initial-state", "charge", "--speed", "20")
    with Panel(path) as panel:
        assert panel.status()["state"] == 4
        assert panel.charge_beans(0.35)["bean_mass_kg"] == pytest.approx(0.35)
        wait_for(lambda: panel.status()["state"] == 6)
        assert panel.turn_knob("heater", 3)["heater_step"] == 3
        assert panel.pour_out()["bean_mass_kg"] == 0
        assert panel.drop_beans()["state"] in (7, 8)
        wait_for(lambda: panel.status()["state"] == 8)
        assert panel.press_prs()["state"] == 9
        acts = [entry["act"] for entry in panel.wire(directions=["panel"])]
        assert acts == ["charge_beans", "turn_knob", "pour_out", "drop_beans", "press_prs"]
        with pytest.raises(ValueError, match="did you mean 'unplug'"):
            panel.fault("unplugg")
        assert not panel.unplug()["is_plugged"]
        assert panel.replug()["is_plugged"]


def wait_for(condition, timeout_s: float = 5.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.02)


@pytest.mark.parametrize(
    "line",
    [b"not json\n", b"[]\n", b"{}\n", b'{"op":"open"}\n', b'{"op":"write","handle":1,"data":"zz","timeout_ms":1}\n',
     b'{"op":"attach","session":"x"}\n', b'{"op":"panel","act":"explode"}\n', b'{"op":"panel"}\n',
     b'{"op":"shut_down"}\n'],
)  # fmt: skip
def test_nonsense_on_the_socket_harms_nobody(line, nonsense_machine) -> None:
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.connect(str(nonsense_machine))
    stream.settimeout(2.0)
    stream.sendall(line)
    answer = stream.recv(65536)
    assert answer == b"" or b'"error"' in answer
    stream.close()
    asking = connect(nonsense_machine)
    asking.send({"op": "status"})
    assert "ok" in asking.receive()
    asking.close()


@pytest.fixture(scope="module")
def nonsense_machine():
    path = Path(f"/tmp/roastops-nonsense-{os.getpid()}.sock")
    process = start_machine(path)
    try:
        yield path
    finally:
        end_process(process)
        path.unlink(missing_ok=True)


def test_bad_options_are_told_and_end_with_two() -> None:
    for option, words in (("--machine-settings=at_limt=wrap", "at_limit"), ("--faults=unplugg@3", "unplug"),
                          ("--replay=/nowhere.alog", "nowhere")):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "drivers.virtual.server", "--socket", "/tmp/never.sock", option],
            cwd=ROOT, capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
        assert done.returncode == 2 and words in done.stderr


def test_the_demo_person_roasts_batch_after_batch() -> None:
    clock = ManualClock()
    machine = VirtualMachine(seed=1, clock=clock, initial_state="charge", person=DemoPerson())
    seen: list[int] = []
    longest_s = 0
    for _ in range(1500):
        clock.advance(1.0)
        status = machine.status()
        if not seen or seen[-1] != status["state"]:
            seen.append(status["state"])
        if status["state"] == 6:
            longest_s = max(longest_s, status["roast_clock_s"])
    text = "".join(map(str, seen))
    assert text.startswith("46") and text.count("6") >= 2 and "890" in text.replace("7", "")
    assert 300 < longest_s <= 665
    acts = machine.wire.entries(directions=frozenset({"panel"}))
    in_roast = [e["act"] for e in acts if e["before"][3] == 6]
    assert in_roast[:3] == ["turn_knob", "turn_knob", "drop_beans"]  # a light hand


def test_the_demo_person_does_not_fight_an_order() -> None:
    clock = ManualClock()
    machine = VirtualMachine(seed=1, clock=clock, initial_state="charge", person=DemoPerson())
    clock.advance(60)
    assert machine.status()["heater_step"] == 6
    machine.act("turn_knob", control="heater", step=2)
    clock.advance(120)
    assert machine.status()["heater_step"] == 2
