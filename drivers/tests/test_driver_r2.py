"""What is an R2's own: endpoints that are found, a reset that asks nobody's roast, frames that are pushed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import drivers.virtual
from drivers import registry
from drivers.bullet.driver_r2 import BulletR2
from drivers.bullet.usb import NoAnswer
from drivers.port import Busy, Control, MachineState, NoHooks, Outcome, Quality, Reading, SettingOrder, StateOrder
from drivers.virtual.clocks import ManualClock
from kernel import clock

PREHEAT_200 = "350000c8ba1de301"
PRS = "30010000ae1a21db"


@pytest.fixture
def hand() -> Iterator[ManualClock]:
    turned = ManualClock(start_s=1000.0)
    before = clock.install(turned)
    yield turned
    clock.install(before)


def r2(hand: Any = None, *, state: str = "roasting", hooks: Any = None, **settings: Any) -> tuple[BulletR2, Any]:
    """An open driver and its machine."""
    backend = drivers.virtual.backend("bullet-r2", seed=5, clock=hand, settings=settings, initial_state=state)
    driver = registry.open_driver("bullet-r2", {"backend": backend}, hooks=hooks)
    assert isinstance(driver, BulletR2)
    return driver, backend.machine


def sent(machine: Any) -> list[str]:
    return [entry["hex"] for entry in machine.wire.entries(directions=frozenset({"out"}))]


@pytest.mark.parametrize("settings", [
    {}, {"out_endpoint": 1, "in_endpoint": 0x83}, {"has_decoy_endpoints": True, "out_endpoint": 2},
])
def test_the_last_pair_of_endpoints_is_the_one_that_works(hand: ManualClock, settings: dict[str, Any]) -> None:
    driver, machine = r2(hand, **settings)
    assert driver.read().heater_step == 5
    assert driver.apply(SettingOrder("o", Control.HEATER, 6), 3.0).outcome is Outcome.PROVED
    assert machine.status()["heater_step"] == 6


def test_a_machine_that_another_program_holds_is_not_reset(hand: ManualClock) -> None:
    holder, machine = r2(hand)
    resets = len([each for each in machine.wire.entries() if each.get("act") == "reset"])
    other = registry.make_driver("bullet-r2", {"backend": holder.port._options.backend})
    with pytest.raises(Busy):
        other.open()
    assert len([each for each in machine.wire.entries() if each.get("act") == "reset"]) == resets == 1
    assert holder.read().state is MachineState.ROASTING


def test_a_reset_that_renumbers_the_device_is_followed(hand: ManualClock) -> None:
    driver, machine = r2(hand, reset_renumbers=True)
    assert driver.read().sequence == 1
    assert len([each for each in machine.wire.entries() if each.get("act") == "reset"]) == 1
    driver.close()
    driver.open()
    assert driver.read().sequence == 2


@pytest.mark.parametrize("pipe", ["drops_oldest", "drops_newest"])
def test_what_lay_in_the_pipe_for_long_is_never_a_reading(hand: ManualClock, pipe: str) -> None:
    driver, machine = r2(hand, pipe_full=pipe, pipe_frames=167)
    driver.read()
    machine.act("turn_knob", control="heater", step=9)
    hand.advance(60.0)  # nobody reads; a pipe that drops the newest is full of the past
    machine.act("turn_knob", control="heater", step=2)
    reading = driver.read()
    assert reading.heater_step == 2
    assert reading.age_s(clock.monotonic()) < 0.11
    assert driver.counts["stale_frames"] > 0


def test_the_newest_of_what_came_meanwhile_is_the_reading(hand: ManualClock) -> None:
    driver, machine = r2(hand)
    driver.read()
    hand.advance(0.12)
    machine.act("turn_knob", control="fan", step=8)
    hand.advance(0.02)
    assert driver.read().fan_step == 3  # what is known is no more than 150 ms old
    hand.advance(0.1)
    assert driver.read().fan_step == 8


def test_silence_is_no_answer_and_readings_come_back(hand: ManualClock) -> None:
    driver, machine = r2(hand)
    driver.read()
    machine.act("fault", fault="time_out@0+2")
    for _ in range(5):
        with pytest.raises(NoAnswer):
            driver.read()
    hand.advance(1.0)
    assert driver.read().heater_step == 5


def test_a_frame_without_its_checksum_is_refused_once_the_rule_is_known(hand: ManualClock) -> None:
    driver, machine = r2(hand)
    for _ in range(4):
        driver.read()
    assert driver.read().extras["frame_seal"] == "mpeg2_words"
    before = driver.counts["protocol_errors"]
    firmware = machine.firmware
    firmware.settings = drivers.virtual.settings.R2Settings(frame_seal="none")  # as a bad cable would spoil it
    with pytest.raises(Exception, match="checksum"):
        driver.read()
    assert driver.counts["protocol_errors"] > before


def test_errors_of_the_machine_are_told_by_category_and_type(hand: ManualClock) -> None:
    driver, machine = r2(hand)
    driver.read()
    assert driver.read().error_codes == ()
    machine.firmware.error_codes = ((1024, 3), (6864, 7))
    for _ in range(3):
        reading = driver.read()
    assert reading.error_codes == (1024, 6864)
    assert reading.extras["errors"] == [[4, 0, 0, 3], [26, 208, 0, 7]]


def test_fields_of_frames_that_stopped_coming_are_absent(hand: ManualClock) -> None:
    driver, machine = r2(hand)
    for _ in range(3):
        reading = driver.read()
    assert reading.voltage_v == 201
    whole = machine.firmware.pushed_frames
    machine.firmware.pushed_frames = lambda: whole()[:1]
    for _ in range(15):
        reading = driver.read()
    assert reading.voltage_v is None and reading.quality["voltage_v"] is Quality.ABSENT
    assert reading.quality["error_codes"] is Quality.ABSENT
    assert reading.heater_step == 5 and "heater_step" not in reading.quality


def test_telemetry_that_stands_still_is_stale_without_a_counter_too(hand: ManualClock) -> None:
    driver, machine = r2(hand, has_frame_counter=False)
    driver.read()
    machine.firmware.tick = lambda: None
    machine.firmware.state_ticks = 0
    for _ in range(30):
        reading = driver.read()
    assert reading.quality["heater_step"] is Quality.STALE
    receipt = driver.apply(SettingOrder("o", Control.HEATER, 9), 3.0)
    assert (receipt.outcome, receipt.reason, sent(machine)) == (Outcome.DECLINED, "stale_reading", [])


def test_an_unknown_state_permits_nothing_but_heat_down(hand: ManualClock) -> None:
    driver, machine = r2(hand)
    driver.read()
    machine.firmware._acts_by_state[0x1C] = lambda: None
    machine.firmware.state = 0x1C
    machine.firmware._accepts = lambda control: True
    reading = driver.read()
    while reading.state_code != 0x1C:
        reading = driver.read()
    assert reading.state is MachineState.UNKNOWN and reading.quality["state"] is Quality.ABSENT
    up = driver.apply(SettingOrder("a", Control.FAN, 4), 3.0)
    press = driver.apply(StateOrder("b", MachineState.OFF), 3.0)
    assert (up.reason, press.reason, sent(machine)) == ("unknown_state", "stale_reading", [])
    assert driver.apply(SettingOrder("c", Control.HEATER, 4), 3.0).outcome is Outcome.PROVED
    safe = driver.make_safe(3.0)
    assert (safe.outcome, safe.reason) == (Outcome.UNPROVED, "firmware_owns_heat")


def test_preheating_with_a_target_sends_the_target_first(hand: ManualClock) -> None:
    driver, machine = r2(hand, state="off")
    receipt = driver.apply(StateOrder("o", MachineState.PREHEATING, preheat_target_c=200.9), 5.0)
    assert receipt.outcome is Outcome.PROVED
    assert sent(machine) == [PREHEAT_200, PRS]
    assert machine.firmware.preheat_target_c == 200
    again = driver.apply(StateOrder("p", MachineState.PREHEATING, preheat_target_c=200), 5.0)
    assert (again.outcome, again.reason, sent(machine)[2:]) == (Outcome.SENT, "no_echo", [PREHEAT_200])


@pytest.mark.parametrize(("target_c", "reason"), [(19.9, "out_of_range"), (351.0, "out_of_range")])
def test_a_preheat_target_out_of_range_presses_nothing(hand: ManualClock, target_c: float, reason: str) -> None:
    driver, machine = r2(hand, state="off")
    receipt = driver.apply(StateOrder("o", MachineState.PREHEATING, preheat_target_c=target_c), 5.0)
    assert (receipt.outcome, receipt.reason, sent(machine)) == (Outcome.DECLINED, reason, [])


def test_a_cooled_machine_is_switched_off_by_one_press(hand: ManualClock) -> None:
    driver, machine = r2(hand)
    assert driver.apply(StateOrder("a", MachineState.COOLING), 5.0).outcome is Outcome.PROVED
    hand.advance(2.0)
    off = driver.apply(StateOrder("b", MachineState.OFF, from_state=MachineState.COOLING), 5.0)
    assert (off.outcome, machine.status()["state"], sent(machine)) == (Outcome.PROVED, 0, [PRS, PRS])


def test_a_drum_that_stands_is_turned_by_nine_steps_after_the_heat_is_off(hand: ManualClock) -> None:
    driver, machine = r2(hand)
    machine.firmware.drum_step = 0
    receipt = driver.make_safe(3.0)
    assert (receipt.outcome, machine.status()["heater_step"]) == (Outcome.PROVED, 0)
    meanings = [write.meaning for write in receipt.writes]
    assert meanings[:5] == ["heater -1"] * 5 and meanings[5:14] == ["drum +1"] * 9
    assert machine.status()["drum_step"] == 9


def in_background(act: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


def test_a_reader_that_waits_holds_up_neither_an_order_nor_a_stop() -> None:
    """In real time: one thread reads in a loop, as the keeper does; STOP's first byte leaves at once."""
    readings: list[Reading] = []

    class Listener(NoHooks):
        def on_reading(self, reading: Reading) -> None:
            readings.append(reading)

    driver, machine = r2(hooks=Listener())
    is_over = threading.Event()

    def read_on() -> None:
        while not is_over.is_set():
            driver.read()
            time.sleep(0.01)

    reader = in_background(read_on)
    try:
        time.sleep(0.35)
        up = driver.apply(SettingOrder("o", Control.HEATER, 14, from_step=5), 5.0)
        assert (up.outcome, len(up.writes), machine.status()["heater_step"]) == (Outcome.PROVED, 9, 14)
        assert up.first_byte_monotonic_s is not None and up.first_byte_monotonic_s - up.started_monotonic_s < 0.05
        gaps = [b.monotonic_s - a.monotonic_s for a, b in zip(up.writes, up.writes[1:], strict=False)]
        assert all(gap >= 0.1 for gap in gaps) and sum(gaps) < 2.0
        started_s = time.monotonic()
        safe = driver.make_safe(3.0)
        assert safe.outcome is Outcome.PROVED and safe.first_byte_monotonic_s is not None
        assert safe.first_byte_monotonic_s - started_s < 0.05
        assert safe.proved_monotonic_s is not None and safe.proved_monotonic_s - started_s <= 3.0
        assert [write.meaning for write in safe.writes[:14]] == ["heater -1"] * 14
    finally:
        is_over.set()
        reader.join(2.0)
        driver.close()
    assert [each.sequence for each in readings] == sorted({each.sequence for each in readings}), "none twice"
    times_s = [each.monotonic_s for each in readings]
    assert times_s == sorted(times_s)


@pytest.mark.parametrize("options", [{"product_id": "5741"}, {"sensor_map": "probe_c"}, {"reset": True}])
def test_options_that_do_not_fit_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(registry.BadOption):
        registry.make_driver("bullet-r2", options)


def test_an_order_reads_beside_a_thread_that_reads_without_pause() -> None:
    """The keeper's link thread takes the lock again at once: nobody else may starve behind it."""
    driver, _ = r2()
    done = threading.Event()

    def read_on() -> None:
        while not done.is_set():
            driver.read()

    reader = threading.Thread(target=read_on, daemon=True)
    reader.start()
    try:
        waited_s = []
        for _ in range(12):
            asked_s = time.monotonic()
            reading = driver.read()
            waited_s.append(time.monotonic() - asked_s)
            assert reading.monotonic_s > asked_s, "the next to come"
        receipt = driver.apply(StateOrder("drop", MachineState.COOLING), 3.0)
    finally:
        done.set()
        reader.join(2.0)
    assert max(waited_s) < 0.35, waited_s
    assert receipt.outcome is Outcome.PROVED, receipt
