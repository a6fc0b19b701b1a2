"""Every fault of the catalogue is seen at the wire, begins when told and ends when told."""

from __future__ import annotations

import math
import struct
import time
from pathlib import Path

import pytest
import usb.core
import usb.util

import drivers.virtual
from drivers.tests.test_virtual_usb import asked, opened
from drivers.virtual import faults
from drivers.virtual.clocks import ManualClock
from drivers.virtual.faults import NAMES, Fault, checked, parse, schedule

UP = b"\x34\x01\xaa\xaa"


class Bench:
    """A machine mid-roast on a hand-turned clock, with faults, and a client of it."""

    def __init__(self, text: str, **settings: object) -> None:
        self.clock = ManualClock()
        self.backend = drivers.virtual.backend(seed=5, clock=self.clock, faults=text, settings=dict(settings))
        self.device = opened(self.backend)

    def at(self, device_s: float) -> Bench:
        self.clock.advance(device_s - self.clock.monotonic())
        return self

    def frame(self) -> bytes:
        return asked(self.device)

    def probe_c(self) -> float:
        return float(struct.unpack_from("<f", self.frame(), 8)[0])

    def heater(self) -> int:
        return self.frame()[27]

    def errno(self, action) -> int:
        with pytest.raises(usb.core.USBError) as raised:
            action()
        assert raised.value.errno is not None
        return raised.value.errno


def test_unplug_and_return_by_itself() -> None:
    bench = Bench("unplug@10+5")
    assert len(bench.at(9.9).frame()) == 64
    bench.at(10.2)
    assert bench.errno(bench.frame) == 19
    assert usb.core.find(backend=bench.backend) is None
    bench.at(15.2)
    assert bench.errno(bench.frame) == 19  # the old handle stays dead: it is a new device now
    again = opened(bench.backend)
    assert again.address != bench.device.address and asked(again)[29] == 6


def test_an_unplug_without_end_waits_for_the_replug() -> None:
    bench = Bench("unplug@1,replug@30").at(29)
    assert usb.core.find(backend=bench.backend) is None
    assert usb.core.find(backend=bench.at(31).backend) is not None


def test_unplug_wakes_a_blocking_read() -> None:
    backend = drivers.virtual.backend(seed=1, faults="unplug@0.3")
    device = opened(backend)
    started_s = time.monotonic()
    with pytest.raises(usb.core.USBError) as gone:
        device.read(0x81, 64, timeout=5000)
    assert gone.value.errno == 19 and time.monotonic() - started_s < 1.0


def test_nak_times_writes_out_and_nothing_is_taken() -> None:
    bench = Bench("nak@5+3").at(5.1)
    assert bench.errno(lambda: bench.device.write(3, UP, timeout=200)) == 110
    assert bench.at(9).heater() == 5


def test_time_out_takes_orders_but_gives_no_replies() -> None:
    bench = Bench("time_out@5+2").at(5.1)
    bench.device.write(3, UP)
    bench.device.write(3, b"\x30\x01")
    assert bench.errno(lambda: bench.device.read(0x81, 64, timeout=300)) == 110
    assert bench.at(8).heater() == 6


def test_a_late_reply_shifts_the_queue_for_who_does_not_drain_it() -> None:
    bench = Bench("late_reply@5:delay_s=1.5").at(5.1)
    bench.device.write(3, b"\x30\x01")
    assert bench.errno(lambda: bench.device.read(0x81, 64, timeout=1000)) == 110
    bench.device.write(3, b"\x30\x03")
    late = bytes(bench.device.read(0x81, 64))
    assert late[41] == 10  # the old frame A where B was asked


def test_a_short_read() -> None:
    bench = Bench("short_read@5:bytes=13").at(5.1)
    assert len(bench.frame()) == 13
    assert len(bench.frame()) == 64


def test_a_slipped_frame_comes_unasked() -> None:
    bench = Bench("slipped_frame@5").at(5.1)
    assert bench.frame()[41] != 10
    bench.device.write(3, b"\x30\x03")
    assert bytes(bench.device.read(0x81, 64))[41] == 10


def test_garbage_is_noise_of_the_seed() -> None:
    first, second = (Bench("garbage@5:count=2").at(5.1) for _ in range(2))
    noise = first.frame()
    assert noise != first.frame() and noise == second.frame()
    second.frame()
    assert second.frame()[41] == 10


def test_a_stuck_sensor_shows_one_value_and_comes_back() -> None:
    bench = Bench("stuck_sensor@5+20:sensor=probe")
    stuck = {round(bench.at(second).probe_c(), 4) for second in (6, 10, 20)}
    assert len(stuck) == 1
    assert bench.at(30).probe_c() > stuck.pop() + 2


def test_nan_and_its_error_code() -> None:
    bench = Bench("nan@5+5:sensor=probe").at(6)
    assert math.isnan(bench.probe_c())
    bench.device.write(3, b"\x30\x03")
    assert struct.unpack_from("<H", bytes(bench.device.read(0x81, 64)), 24)[0] == 1024
    assert bench.at(11).probe_c() > 100


def test_dropped_and_doubled_steps() -> None:
    for text, heaters in (("dropped_step@5", [5, 6]), ("doubled_step@5", [7, 8])):
        bench = Bench(text).at(6)
        seen = []
        for _ in range(2):
            bench.device.write(3, UP)
            seen.append(bench.heater())
        assert seen == heaters


def test_a_brown_out_shows_on_the_mains_and_cools() -> None:
    sagging, steady = Bench("brown_out@5+60:voltage_v=140"), Bench("")
    assert struct.unpack_from("<h", sagging.at(10).frame(), 48)[0] == 140
    assert sagging.at(60).probe_c() < steady.at(60).probe_c() - 0.3
    assert struct.unpack_from("<h", sagging.at(80).frame(), 48)[0] > 190


def test_a_firmware_reboot_forgets_everything_but_the_heat() -> None:
    bench = Bench("firmware_reboot@5+2").at(5.5)
    assert bench.errno(bench.frame) == 19
    device = opened(bench.at(8).backend)
    frame = asked(device)
    assert (frame[29], frame[27]) == (0, 0)
    assert struct.unpack_from("<f", frame, 8)[0] > 100


def test_a_spurious_charge_starts_the_roast_even_from_preheat() -> None:
    clock = ManualClock()
    backend = drivers.virtual.backend(seed=5, clock=clock, faults="spurious_charge@20", initial_state="off")
    device = opened(backend)
    device.write(3, b"\x30\x01\x00\x00")
    clock.advance(19)
    assert asked(device)[29] == 2
    clock.advance(2)
    frame = asked(device)
    assert frame[29] == 6 and frame[27] == 7


def test_over_temperature_is_shown_for_as_long_as_told() -> None:
    bench = Bench("over_temperature@5+10:temp_c=270").at(6)
    assert bench.probe_c() == 270
    assert bench.at(16).probe_c() < 200


def test_a_true_runaway_trips_the_firmware() -> None:
    bench = Bench("over_temperature@5+200:sensor=none:watts=9000")
    assert bench.at(200).frame()[29] == 8
    assert bench.heater() == 0


def test_every_fault_of_the_catalogue_is_tested_here() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in NAMES if f'"{name}' not in source and f",{name}@" not in source] == []


def test_faults_are_injected_live() -> None:
    bench = Bench("").at(3)
    bench.backend.machine.act("fault", fault="nan@0+4:sensor=infrared")
    assert math.isnan(struct.unpack_from("<f", bench.frame(), 0)[0])
    began = bench.backend.machine.wire.entries(directions=frozenset({"fault"}))
    assert [entry["fault"] for entry in began] == ["nan"]


@pytest.mark.parametrize("text", ["unplugg", "nan@x", "nan@1+y", "nan@1:colour=red", "nan@-3", "late_reply@1:delay_s"])
def test_a_fault_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="fault"):
        parse(text)


def test_schedules_follow_their_seed() -> None:
    one, same, other = (schedule(seed, count=20, horizon_s=600) for seed in (1, 1, 2))
    assert one == same != other
    assert [fault.at_s for fault in one] == sorted(fault.at_s for fault in one)
    assert all(fault.lasts_s > 0 for fault in one if fault.name == "unplug")
    assert checked([Fault("nan", 3.0), "nak@4", {"name": "replug", "at_s": 5.0}])[2].name == "replug"
    assert set(faults.CATALOGUE) == set(NAMES) and len(NAMES) == 16
