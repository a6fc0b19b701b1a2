# ruff: noqa: F811 - pytest fixtures are imported by name
"""The virtual R2 through real pyusb, as programs that know nothing of us use it."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import usb.core
import usb.util
from hypothesis import given, settings
from hypothesis import strategies as st

import drivers.virtual
from drivers.tests.virtual_machines import served  # noqa: F401 - a fixture
from drivers.virtual.clocks import ManualClock
from drivers.virtual.firmware_r2 import FirmwareR2
from drivers.virtual.machine import VirtualMachine
from drivers.virtual.person import DemoPerson
from drivers.virtual.settings import R2Settings, matrix, settings_from
from drivers.virtual.usb_backend import VirtualBackend

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = {bytes.fromhex(each) for each in (
    "30010000AE1A21DB", "3401AAAA90E5E4F1", "3402AAAA19108DF3", "3101AAAA22337C51", "3102AAAAABC61553",
    "3201AAAA4C810B31", "3202AAAAC5746233")}

#: A plain pyusb program in somebody else's words: it resets, finds its endpoints, reads frames by their first byte,
#: and speaks three of the JSON commands such programs know.
PLAIN_CLIENT = """
import json, struct, sys, time
import usb.core, usb.util

roaster = usb.core.find(idVendor=0x0483, idProduct=0xA4CD)
if roaster is None:
    sys.exit("no roaster")
roaster.reset()
if roaster.is_kernel_driver_active(1):
    roaster.detach_kernel_driver(1)
roaster.set_configuration(1)
usb.util.claim_interface(roaster, 1)
for endpoint in roaster.get_active_configuration()[(1, 0)]:
    if endpoint.bEndpointAddress & 0x80:
        source = endpoint
    else:
        sink = endpoint
seen = {}

def watch(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            frame = bytes(source.read(64, timeout=1000))
        except usb.core.USBError:
            continue
        if frame[0] == 0xA0:
            names = ("ibts", "ibts_ror", "ambient", "probe", "probe_ror", "energy", "air")
            seen.update(zip(names, struct.unpack_from("<7f", frame, 4)))
            words = ("rpm", "inlet", "hot_air", "exhaust", "pressure", "humidity", "room")
            seen.update(zip(words, struct.unpack_from("<7H", frame, 32)))
            seen.update(minutes=frame[46], seconds=frame[48], heater=frame[50], fan=frame[51], drum=frame[53])
            seen.update(state=frame[59])
        elif frame[0] == 0xA1:
            seen.update(errors=frame[4], coil_rpm=struct.unpack_from("<H", frame, 34)[0])
            seen.update(drum_rpm=struct.unpack_from("<H", frame, 48)[0])
        elif frame[0] == 0xA2:
            seen.update(watts=struct.unpack_from("<H", frame, 4)[0], volts=struct.unpack_from("<H", frame, 28)[0] / 10)

def tell(words):
    register, value = 0xFFFFFFFF, bytes.fromhex(words)
    for byte in value:
        register ^= byte << 24
        for _ in range(8):
            register = ((register << 1) ^ 0x04C11DB7 if register & 0x80000000 else register << 1) & 0xFFFFFFFF
    sink.write(value + struct.pack("<I", register))

def move(name, family, wanted):
    while seen[name] != wanted:
        for _ in range(abs(wanted - seen[name])):
            tell(family + ("01" if wanted > seen[name] else "02") + "AAAA")
        watch(0.25)

def obey(text):
    command = json.loads(text)
    if command["command"] == "dopreheat":
        tell("30010000")
    elif command["command"] == "start":
        tell("30010000")
        watch(0.25)
        tell("30010000")
        watch(0.25)
        for name, family, step in (("drum", "32", 5), ("fan", "31", 2), ("heater", "34", 2)):
            move(name, family, step)
    elif command["command"] == "drop":
        tell("30010000")
    watch(0.25)

watch(0.3)
told = [dict(seen)]
tell("350000B4")
for text in ('{"command": "dopreheat"}', '{"command": "start"}'):
    obey(text)
    told.append(dict(seen))
move("heater", "34", 14)
move("fan", "31", 12)
move("drum", "32", 1)
told.append(dict(seen))
obey('{"command": "drop"}')
watch(1.3)
told.append(dict(seen))
usb.util.dispose_resources(roaster)
print(json.dumps(told))
"""


def check_client_saw_everything(told: list[dict]) -> None:
    off, preheating, roasting, moved, dropped = told
    assert [each["state"] for each in told] == [0, 2, 6, 6, 7]
    assert (roasting["heater"], roasting["fan"], roasting["drum"]) == (2, 2, 5)
    assert (moved["heater"], moved["fan"], moved["drum"]) == (14, 12, 1)
    assert (dropped["heater"], dropped["fan"], dropped["drum"]) == (0, 7, 1)
    assert 20 < off["ibts"] < 30 and 20 < off["probe"] < 30 and off["errors"] == 0
    assert 190 < off["volts"] < 210 and off["rpm"] % 15 == 0 and 9000 < off["pressure"] < 11000
    assert preheating["watts"] > 500 and moved["watts"] > 900 and dropped["watts"] == 0
    assert len(off) > 20


def test_a_plain_client_works_in_process(monkeypatch, capsys) -> None:
    for module in ("libusb1", "openusb", "libusb0"):
        kept = __import__(f"usb.backend.{module}", fromlist=["x"])
        monkeypatch.setattr(kept, "get_backend", kept.get_backend)  # so that install_as_default is undone
    backend = drivers.virtual.backend("bullet-r2", seed=1, initial_state="off")
    drivers.virtual.install_as_default(backend)
    exec(compile(PLAIN_CLIENT, "plain_client.py", "exec"), {"__name__": "__main__"})
    check_client_saw_everything(json.loads(capsys.readouterr().out))
    assert backend.machine.firmware.preheat_target_c == 0xB4
    assert not backend.machine.wire.entries(directions=frozenset({"alarm"}))


def test_a_plain_client_works_in_another_process(tmp_path, served) -> None:
    script = tmp_path / "plain_client.py"
    script.write_text(PLAIN_CLIENT, encoding="utf-8")
    path = served("--kind", "bullet-r2", "--initial-state", "off")
    done = subprocess.run(
        [sys.executable, "-m", "drivers.virtual.run_client", str(path), str(script)],
        cwd=ROOT, capture_output=True, text=True, timeout=40, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    check_client_saw_everything(json.loads(done.stdout))


def opened(backend: VirtualBackend) -> usb.core.Device:
    device = usb.core.find(idVendor=0x0483, idProduct=0xA4CD, backend=backend)
    assert device is not None
    if device.is_kernel_driver_active(1):
        device.detach_kernel_driver(1)
    usb.util.claim_interface(device, 1)
    return device


def frames_of(device: usb.core.Device, *, until: bytes = b"") -> list[bytes]:
    """All that lies in the pipe now."""
    frames = []
    while True:
        try:
            frames.append(bytes(device.read(0x81, 64, timeout=1)))
        except usb.core.USBTimeoutError:
            return frames


@pytest.mark.parametrize("speed", [0.5, 1.0, 4.0, 60.0])
def test_sets_come_ten_times_a_second_of_the_clock_whatever_the_speed(speed: float) -> None:
    clock = ManualClock()
    backend = drivers.virtual.backend("bullet-r2", seed=1, clock=clock, speed=speed, settings={"pipe_frames": 400})
    device = opened(backend)
    frames_of(device)
    clock.advance(4.0)
    frames = frames_of(device)
    sets = 40 if speed >= 1 else 20  # slower than its own tenths it has nothing new to say
    assert abs(len(frames) - 3 * sets) <= 3
    assert [frame[0] for frame in frames[:3]] == [0xA0, 0xA1, 0xA2]
    counters = [struct.unpack_from("<H", frame, 2)[0] for frame in frames if frame[0] == 0xA0]
    steps = {b - a for a, b in zip(counters, counters[1:], strict=False)}
    assert steps == {max(1, round(speed))}


def test_a_full_pipe_forgets_as_it_is_set() -> None:
    for pipe, is_newest_kept in (("drops_oldest", True), ("drops_newest", False)):
        clock = ManualClock()
        backend = drivers.virtual.backend(
            "bullet-r2", seed=1, clock=clock, settings={"pipe_frames": 30, "pipe_full": pipe})
        device = opened(backend)
        clock.advance(20.0)
        counters = [struct.unpack_from("<H", frame, 2)[0] for frame in frames_of(device)]
        assert len(counters) in (30, 31)
        assert (max(counters) > 190) is is_newest_kept and (min(counters) < 15) is not is_newest_kept


def test_nobody_asks_it_and_an_r1s_questions_mean_nothing() -> None:
    backend = drivers.virtual.backend("bullet-r2", seed=1, clock=ManualClock())
    device = opened(backend)
    before = backend.machine.status()
    for question in (b"\x30\x01", b"\x30\x03", b"\x30\x02", b"\x34\x01\xaa\xaa", b"\x30\x01\x00\x00"):
        device.write(3, question)
    after = backend.machine.status()
    assert [after[name] for name in ("state", "heater_step")] == [before[name] for name in ("state", "heater_step")]
    assert len(backend.machine.wire.entries(directions=frozenset({"alarm"}))) == 5


@settings(max_examples=80, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=80), st.binary(min_size=8, max_size=8),
                          st.sampled_from(sorted(COMMANDS)).flatmap(
                              lambda good: st.integers(0, 63).map(
                                  lambda bit: (int.from_bytes(good, "big") ^ (1 << bit)).to_bytes(8, "big")))),
                max_size=30))
def test_garbage_from_a_client_moves_nothing_and_never_breaks_it(transfers: list[bytes]) -> None:
    firmware = FirmwareR2(seed=1, initial_state="roasting")
    before = (firmware.heater_step, firmware.fan_step, firmware.drum_step, firmware.state)
    for transfer in transfers:
        if transfer not in COMMANDS:
            firmware.receive(transfer)
    assert (firmware.heater_step, firmware.fan_step, firmware.drum_step, firmware.state) == before


def test_garbage_over_the_socket_leaves_the_machine_at_work(served) -> None:
    device = opened(drivers.virtual.socket_backend(served("--kind", "bullet-r2", "--initial-state", "roasting")))
    for length in (0, 1, 7, 8, 9, 64, 512, 4096):
        device.write(3, os.urandom(length))
    with pytest.raises(usb.core.USBError):
        device.write(3, bytes(5000))
    seen = {bytes(device.read(0x81, 64, timeout=1000))[0] for _ in range(9)}
    assert seen == {0xA0, 0xA1, 0xA2}


def test_the_states_of_the_ring_and_beyond_it() -> None:
    def walk(ring: str, start: str, presses: int) -> list[int]:
        firmware = FirmwareR2(R2Settings(prs=ring), seed=1, initial_state=start)
        walked = [firmware.state]
        for _ in range(presses):
            walked.append(firmware.press_prs())
        return walked

    assert walk("ring", "off", 5) == [0, 2, 4, 6, 7, 0]
    assert walk("all_states", "roasting", 3) == [6, 7, 9, 0]
    assert walk("back_to_back", "roasting", 2) == [6, 8, 2]
    firmware = FirmwareR2(seed=1, initial_state="roasting")
    firmware.power_on()
    firmware.tick()
    assert (firmware.state, firmware.press_prs(), firmware.heater_step) == (0x0B, 0x0B, 0)
    for _ in range(11):
        firmware.tick()
    assert firmware.state == 0
    firmware = FirmwareR2(R2Settings(prs="ring"), seed=1, initial_state="off")
    firmware.press_prs()
    seen = set()
    for _ in range(20_000):
        firmware.tick()
        seen.add(firmware.state)
        if firmware.state == 3:
            assert firmware.press_prs() == 3, "the ring of the existing client knows no 3"
        if firmware.state == 4:
            break
    assert seen == {2, 3, 4}


def test_a_cooled_machine_ends_in_shutdown_and_then_off() -> None:
    firmware = FirmwareR2(seed=1, initial_state="roasting")
    firmware.drop_beans()
    walked = []
    for _ in range(13_000):
        firmware.tick()
        if not walked or walked[-1] != firmware.state:
            walked.append(firmware.state)
    assert walked == [7, 9, 0]


def test_fourteen_steps_are_as_hot_as_an_r1s_nine() -> None:
    from drivers.virtual.firmware_r1 import FirmwareR1

    hot = []
    for firmware, top in ((FirmwareR1(seed=1, initial_state="roasting"), 9),
                          (FirmwareR2(seed=1, initial_state="roasting"), 14)):
        firmware.heater_step = top
        hot.append(firmware.wire_values().heater_watts)
    assert hot[0] == pytest.approx(hot[1], rel=1e-6)


@pytest.mark.parametrize("corner", matrix("bullet-r2"), ids=lambda corner: corner.name)
def test_every_corner_of_the_matrix_is_usable(corner) -> None:
    made = settings_from(corner.settings, "bullet-r2")
    backend = drivers.virtual.backend("bullet-r2", seed=1, clock=ManualClock(), settings=corner.settings)
    device = opened(backend)
    device.write(made.out_endpoint, bytes.fromhex("3401AAAA90E5E4F1"))
    assert backend.machine.status()["heater_step"] == 6
    assert {bytes(device.read(made.in_endpoint, 64, timeout=500))[0] for _ in range(5)} >= {0xA0, 0xA1, 0xA2}


def test_settings_of_the_other_model_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="idle_message"):
        settings_from("idle_message=off", "bullet-r2")
    with pytest.raises(ValueError, match="frame_seal"):
        settings_from("frame_seal=own", "bullet-r1")
    with pytest.raises(ValueError, match="bullet-r1 can play"):
        drivers.virtual.backend("bullet-r2", seed=1, replay="x.alog")


#: A fixed conversation, printed as one digest. Runs in fresh processes with different hash seeds.
CONVERSATION = """
import hashlib, sys
sys.path.insert(0, {root!r})
import usb.core, usb.util
import drivers.virtual
from drivers.virtual.clocks import ManualClock
clock = ManualClock()
backend = drivers.virtual.backend("bullet-r2", seed={seed}, clock=clock, initial_state="charge",
                                  faults="garbage@20,unplug@25+2,stuck_sensor@30+5,late_reply@40,slipped_frame@50")
digest, device = hashlib.sha256(), None
for tenth in range(600):
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
            device.write(3, bytes.fromhex("3402AAAA19108DF3"))
        for _ in range(4):
            digest.update(bytes(device.read(0x81, 64, timeout=20)))
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


def test_a_second_machine_started_alike_is_alike_and_apart() -> None:
    """Starts are remembered within a process: what one machine does must not show in the next."""
    first = FirmwareR2(seed=3, initial_state="roasting")
    frames = [first.pushed_frames() for _ in range(3)]
    for _ in range(50):
        first.tick()
    first.receive(bytes.fromhex("3401AAAA90E5E4F1"))
    second = FirmwareR2(seed=3, initial_state="roasting")
    assert [second.pushed_frames() for _ in range(3)] == frames
    assert (second.heater_step, second.ticks) == (5, 0)
    assert FirmwareR2(seed=4, initial_state="roasting").pushed_frames() != frames[0]


def test_the_demo_person_roasts_batch_after_batch() -> None:
    clock = ManualClock()
    machine = VirtualMachine(seed=1, kind="bullet-r2", clock=clock, speed=50, initial_state="charge",
                             person=DemoPerson())
    walked: list[int] = []
    hottest = 0
    for _ in range(4000):
        clock.advance(0.02)
        status = machine.status()
        hottest = max(hottest, status["heater_step"])
        if not walked or walked[-1] != status["state"]:
            walked.append(status["state"])
        if walked.count(6) == 2 and status["state"] == 6:
            break
    assert walked[:6] == [4, 6, 7, 0, 2, 3] and walked.count(6) == 2, walked
    assert 9 <= hottest <= 14
