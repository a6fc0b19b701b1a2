# ruff: noqa: F811 - pytest fixtures are imported by name
"""The virtual machine through real pyusb, as programs that know nothing of us use it."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import usb.core
import usb.util

import drivers.virtual
from drivers.tests.virtual_machines import served  # noqa: F401 - a fixture
from drivers.virtual.clocks import ManualClock
from drivers.virtual.settings import matrix
from drivers.virtual.usb_backend import VirtualBackend

ROOT = Path(__file__).resolve().parents[2]

#: A plain pyusb program in somebody else's words: no backend=, nothing of ours imported.
PLAIN_CLIENT = """
import json, struct, sys, time
import usb.core, usb.util

roaster = usb.core.find(idVendor=0x0483, idProduct=0x5741) or usb.core.find(idVendor=0x0483, idProduct=0xA27E)
if roaster is None:
    sys.exit("no roaster")
if roaster.is_kernel_driver_active(1):
    roaster.detach_kernel_driver(1)
if roaster.get_active_configuration().bConfigurationValue != 1:
    roaster.set_configuration(1)
usb.util.claim_interface(roaster, 1)

def ask(question, size=64):
    roaster.write(0x3, question)
    return bytes(roaster.read(0x81, size))

def status():
    a, b = ask([0x30, 0x01]), ask([0x30, 0x03])
    both = a + b
    assert len(both) == 128 and both[41] == 10
    names = ("bt", "bt_ror", "dt", "ibts_ror", "exhaust")
    seen = dict(zip(names, struct.unpack("<5f", both[:20])))
    seen.update(minutes=both[24], seconds=both[25], fan=both[26], heater=both[27], drum=both[28], state=both[29])
    seen.update(irt=struct.unpack("<f", both[32:36])[0], pcbt=struct.unpack("<f", both[36:40])[0])
    seen.update(rpm=struct.unpack("<h", both[44:46])[0], volts=struct.unpack("<h", both[48:50])[0])
    seen.update(coil=struct.unpack("<i", both[52:56])[0], coil2=struct.unpack("<i", both[96:100])[0])
    seen["target"] = struct.unpack("<H", both[104:106])[0]
    return seen

def move(up, down, now, wanted):
    for _ in range(abs(wanted - now)):
        roaster.write(0x3, up if wanted > now else down)

info1, info2 = ask([0x30, 0x02], 32), ask([0x89, 0x01], 36)
first = status()
move([0x34, 1, 0xAA, 0xAA], [0x34, 2, 0xAA, 0xAA], first["heater"], 5)
move([0x31, 1, 0xAA, 0xAA], [0x31, 2, 0xAA, 0xAA], first["fan"], 3)
roaster.write(0x3, [0x32, 1, 7, 0])
before = status()
move([0x34, 1, 0xAA, 0xAA], [0x34, 2, 0xAA, 0xAA], before["heater"], 9)
move([0x31, 1, 0xAA, 0xAA], [0x31, 2, 0xAA, 0xAA], before["fan"], 12)
roaster.write(0x3, [0x32, 1, 2, 0])
after = status()
roaster.write(0x3, [0x30, 0x01, 0x00, 0x00])
time.sleep(float(sys.argv[1]) if len(sys.argv) > 1 else 0)
pressed = status()
usb.util.release_interface(roaster, 1)
usb.util.dispose_resources(roaster)
print(json.dumps({"serial": struct.unpack("<h", info1[:2])[0], "firmware": struct.unpack("<h", info1[24:26])[0],
                  "count": info2[30] + 256 * info2[31], "before": before, "after": after, "pressed": pressed}))
"""


def opened(backend: VirtualBackend) -> usb.core.Device:
    """Found, kernel driver away, interface claimed: as clients do it."""
    device = usb.core.find(idVendor=0x0483, backend=backend)
    assert device is not None
    if device.is_kernel_driver_active(1):
        device.detach_kernel_driver(1)
    usb.util.claim_interface(device, 1)
    return device


def asked(device: usb.core.Device, question: bytes = b"\x30\x01") -> bytes:
    device.write(3, question)
    return bytes(device.read(0x81, 64))


def check_client_saw_everything(seen: dict) -> None:
    assert (seen["serial"], seen["firmware"], seen["count"]) == (1183, 563, 1238)
    before, after = seen["before"], seen["after"]
    assert (before["heater"], before["fan"], before["drum"]) == (5, 3, 7)
    assert (after["heater"], after["fan"], after["drum"]) == (9, 12, 2)
    assert seen["before"]["state"] == 6 and seen["pressed"]["state"] in (7, 8)
    assert 80 < before["bt"] < 250 and 60 < before["dt"] < 250 and before["exhaust"] < -20
    assert before["target"] == 240 and 190 < before["volts"] < 210 and before["rpm"] % 15 == 0
    assert 0 < before["coil"] < 10000 and 0 < before["coil2"] < 10000


def test_a_plain_client_works_in_process(monkeypatch, capsys) -> None:
    for module in ("libusb1", "openusb", "libusb0"):
        kept = __import__(f"usb.backend.{module}", fromlist=["x"])
        monkeypatch.setattr(kept, "get_backend", kept.get_backend)  # so that install_as_default is undone
    backend = drivers.virtual.backend("bullet-r1", seed=1)
    drivers.virtual.install_as_default(backend)
    monkeypatch.setattr(sys, "argv", ["plain_client.py"])
    exec(compile(PLAIN_CLIENT, "plain_client.py", "exec"), {"__name__": "__main__"})
    check_client_saw_everything(json.loads(capsys.readouterr().out))
    assert not backend.machine.wire.entries(directions=frozenset({"alarm"}))


def test_a_plain_client_works_in_another_process(tmp_path, served) -> None:
    script = tmp_path / "plain_client.py"
    script.write_text(PLAIN_CLIENT, encoding="utf-8")
    path = served("--initial-state", "roasting")
    done = subprocess.run(
        [sys.executable, "-m", "drivers.virtual.run_client", str(path), str(script), "0.7"],
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    check_client_saw_everything(seen)
    assert seen["pressed"]["state"] == 8


def test_a_client_walks_the_states_by_the_button() -> None:
    clock = ManualClock()
    device = opened(drivers.virtual.backend(seed=1, clock=clock, initial_state="off"))
    walked = []
    for _ in range(7):
        walked.append(asked(device)[29])
        device.write(3, b"\x30\x01\x00\x00")
        clock.advance(1.0)
    assert walked == [0, 2, 4, 6, 8, 9, 0]


def test_descriptors_are_those_of_the_machine() -> None:
    for product_id in (0x5741, 0xA27E):
        backend = drivers.virtual.backend(seed=1, settings={"product_id": product_id})
        (device,) = usb.core.find(find_all=True, idVendor=0x0483, backend=backend)
        assert device.idProduct == product_id
        assert (device.manufacturer, device.product, device.serial_number) == ("Aillio", "Bullet R1", "R1-1183")
        endpoints = {e.bEndpointAddress: e for e in device[0][(1, 0)]}
        assert set(endpoints) == {0x03, 0x81}
        assert all(e.wMaxPacketSize == 64 and e.bmAttributes == 2 for e in endpoints.values())
        assert "Bullet" in str(device)
    assert usb.core.find(idVendor=0x0483, idProduct=0xA4CD, backend=backend) is None


def test_errors_are_those_of_libusb() -> None:
    backend = drivers.virtual.backend(seed=1)
    device = usb.core.find(backend=backend)
    with pytest.raises(usb.core.USBError) as busy:
        usb.util.claim_interface(device, 1)
    assert busy.value.errno == 16  # the kernel driver holds it
    device = opened(backend)
    with pytest.raises(usb.core.USBTimeoutError) as late:
        device.read(0x81, 64, timeout=30)
    assert (late.value.errno, late.value.backend_error_code) == (110, -7)
    device.write(3, b"\x30\x01")
    with pytest.raises(usb.core.USBError) as overflow:
        device.read(0x81, 16)
    assert overflow.value.errno == 75
    with pytest.raises(usb.core.USBError):
        device.ctrl_transfer(0x21, 0x22, 0, 0, None)
    second = usb.core.find(backend=backend)
    with pytest.raises(usb.core.USBError) as taken:
        usb.util.claim_interface(second, 1)
    assert taken.value.errno == 16
    usb.util.dispose_resources(device)
    usb.util.claim_interface(second, 1)
    assert len(asked(second)) == 64


def test_no_permission_is_told_apart() -> None:
    device = usb.core.find(backend=drivers.virtual.backend(seed=1, settings="may_open=false"))
    with pytest.raises(usb.core.USBError) as refused:
        usb.util.claim_interface(device, 1)
    assert refused.value.errno == 13


@pytest.mark.parametrize("over_socket", [False, True])
def test_a_write_passes_a_blocking_read(over_socket: bool, served) -> None:
    backend = drivers.virtual.socket_backend(served()) if over_socket else drivers.virtual.backend(seed=1)
    device = opened(backend)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(bytes(device.read(0x81, 64, timeout=3000))))
    reader.start()
    time.sleep(0.1)
    assert not got
    started_s = time.monotonic()
    device.write(3, b"\x30\x01")
    reader.join(1.0)
    assert len(got) == 1 and len(got[0]) == 64
    assert time.monotonic() - started_s < 0.3


def test_many_threads_share_one_device() -> None:
    """Four threads, 50 steps up and down each: every step counted once, no reply lost."""
    backend = drivers.virtual.backend(seed=1, initial_state="roasting")
    device = opened(backend)
    asked(device)

    def work() -> None:
        for _ in range(50):
            device.write(3, b"\x31\x01\xaa\xaa")
            device.write(3, b"\x31\x02\xaa\xaa")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        assert len(asked(device)) == 64
    for thread in threads:
        thread.join(10)
    assert backend.machine.status()["fan_step"] == 3
    steps = [e for e in backend.machine.wire.entries(directions=frozenset({"out"})) if e["hex"].startswith("31")]
    assert len(steps) == 400


@pytest.mark.parametrize("corner", matrix(), ids=lambda corner: corner.name)
def test_every_corner_of_the_matrix_is_usable(corner) -> None:
    clock = ManualClock()
    device = opened(drivers.virtual.backend(seed=1, clock=clock, settings=corner.settings))
    device.write(3, b"\x34\x01\xaa\xaa")
    for _ in range(5):
        frame = asked(device)
    assert frame[27] == 6 and frame[41] == 10


#: A fixed conversation, printed as one digest. Runs in fresh processes with different hash seeds.
CONVERSATION = """
import hashlib, sys
sys.path.insert(0, {root!r})
import usb.core, usb.util
import drivers.virtual
from drivers.tests.virtual_machines import served  # noqa: F401 - a fixture
from drivers.virtual.clocks import ManualClock
clock = ManualClock()
backend = drivers.virtual.backend("bullet-r1", seed={seed}, clock=clock, initial_state="charge",
                                  faults="garbage@20,unplug@25+2,stuck_sensor@30+5,late_reply@40,slipped_frame@50")
digest, device = hashlib.sha256(), None
for tenth in range(900):
    clock.advance(0.1)
    try:
        if device is None:
            device = usb.core.find(backend=backend)
            if device is None:
                continue
            device.detach_kernel_driver(1)
            usb.util.claim_interface(device, 1)
        if tenth == 50:
            backend.machine.act("charge_beans", mass_kg=0.4)
        if tenth % 100 == 99:
            device.write(3, [0x34, 2, 0xAA, 0xAA])
        for question in ([0x30, 1], [0x30, 3]):
            device.write(3, question)
            digest.update(bytes(device.read(0x81, 64, timeout=100)))
    except usb.core.USBError as error:
        digest.update(repr(error.errno).encode())
        if error.errno == 19:
            usb.util.dispose_resources(device)
            device = None
for entry in backend.machine.wire.entries():
    digest.update(repr(sorted(entry.items(), key=lambda pair: pair[0])).encode())
print(digest.hexdigest())
"""


def test_same_seed_and_clock_give_the_same_bytes_in_any_process() -> None:
    def digest(seed: int, hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        program = CONVERSATION.format(root=str(ROOT), seed=seed)
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    first = digest(7, "0")
    assert len(first) == 64
    assert digest(7, "12345") == first
    assert digest(8, "0") != first


def test_device_time_runs_by_the_speed() -> None:
    clock = ManualClock()
    device = opened(drivers.virtual.backend(seed=1, clock=clock, speed=4.0))
    start = struct.unpack_from("<H", asked(device), 30)[0]
    clock.advance(2.5)
    assert struct.unpack_from("<H", asked(device), 30)[0] - start == 100


def test_unknown_kinds_name_the_nearest() -> None:
    with pytest.raises(ValueError, match="bullet-r"):
        drivers.virtual.backend("bullet-r9", seed=1)
