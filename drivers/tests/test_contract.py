"""What every driver must do, whatever its firmware turns out to be: the contract of `drivers/port.py`.

Each registered kind runs under every corner of its matrix of unknowns and every fault of the virtual machine, on a
clock that is turned by hand. A new driver is one line in RIGS.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

import drivers.virtual
from drivers import registry
from drivers.port import (
    FIRMWARE_OWNS_HEAT,
    Busy,
    Control,
    Driver,
    DriverError,
    MachineState,
    NoPermission,
    NotFound,
    Outcome,
    ProtocolError,
    Quality,
    Reading,
    SettingOrder,
    StateOrder,
    Unplugged,
)
from drivers.tests.line_machines import LINE_RIGS
from drivers.virtual.clocks import ManualClock
from drivers.virtual.faults import NAMES as FAULTS
from drivers.virtual.settings import matrix
from kernel import clock


@dataclass(frozen=True)
class Facts:
    """What a test must know of a kind: its hottest step, and its bytes."""

    heater_max: int
    heater_up: str
    heater_down: str
    prs: str
    serial: str
    begun_s: float = 0.1  # device time once one reading was had and a tenth went by
    written_s: float = 1.2  # the full count of downs, with readings and without
    proved_s: float = 2.0


FACTS: dict[str, Facts] = {
    "bullet-r1": Facts(9, "3401aaaa", "3402aaaa", "30010000", "1183"),
    "bullet-r2": Facts(14, "3401aaaa90e5e4f1", "3402aaaa19108df3", "30010000ae1a21db", "R2-1183",
                       begun_s=0.2, written_s=1.7, proved_s=3.0),
}  # fmt: skip


@dataclass
class Rig:
    """A driver, the virtual machine under it, and the clock both live by."""

    driver: Driver
    machine: Any
    clock: ManualClock
    facts: Facts

    def truth(self, control: Control) -> int:
        """Where the control really stands."""
        return int(self.machine.status()[f"{control.value}_step"])

    def sent(self, data_hex: str) -> int:
        """How many transfers of exactly these bytes reached the machine's OUT endpoint."""
        return sum(entry.get("dir") == "out" and entry.get("hex") == data_hex and entry.get("taken", True)
                   for entry in self.machine.wire.entries())

    def state(self) -> int:
        return int(self.machine.status()["state"])


def bullet_rig(kind: str, hand: ManualClock, *, settings: dict[str, Any] | None = None,
               initial_state: str = "roasting", options: dict[str, Any] | None = None, faults: str = "") -> Rig:
    settings = dict(settings or {})
    backend = drivers.virtual.backend(
        kind, seed=5, clock=hand, settings=settings, initial_state=initial_state, faults=faults)
    driver = registry.make_driver(kind, {
        "backend": backend, "device_clock": "counter" if settings.get("has_frame_counter", True) else "wall",
        "sensor_map": settings.get("sensor_map", "probe_b"), **(options or {})})
    return Rig(driver, backend.machine, hand, FACTS[kind])


RIGS: dict[str, Callable[..., Rig]] = {kind: functools.partial(bullet_rig, kind) for kind in FACTS}
CORNERS = [(kind, corner) for kind in RIGS for corner in matrix(kind)]
NAMES = [f"{kind}-{corner.name}" for kind, corner in CORNERS]
corners = pytest.mark.parametrize(("kind", "corner"), CORNERS, ids=NAMES)


def test_every_registered_kind_is_held_to_the_contract() -> None:
    assert set(RIGS) | set(LINE_RIGS) == set(registry.KINDS)  # line machines: test_contract_lines.py


@pytest.fixture
def hand() -> Iterator[ManualClock]:
    turned = ManualClock(start_s=1000.0)
    before = clock.install(turned)
    yield turned
    clock.install(before)


@pytest.fixture
def make_rig(hand: ManualClock) -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(kind: str, **details: Any) -> Rig:
        rig = RIGS[kind](hand, **details)
        rig.driver.open()
        made.append(rig)
        return rig

    yield make
    for rig in made:
        rig.driver.close()


def read_soon(rig: Rig, within_s: float = 5.0) -> Reading:
    """The next reading that comes."""
    until_s = rig.clock.monotonic() + within_s
    while True:
        try:
            return rig.driver.read()
        except DriverError:
            if rig.clock.monotonic() > until_s:
                raise
            rig.clock.advance(0.1)


@corners
def test_a_reading_says_what_the_machine_is(make_rig: Callable[..., Rig], kind: str, corner: Any) -> None:
    rig = make_rig(kind, settings=corner.settings)
    first = rig.driver.read()
    rig.clock.advance(0.1)
    second = rig.driver.read()
    assert second.sequence == first.sequence + 1
    has_counter = corner.settings.get("has_frame_counter", True)
    assert second.device_ms - first.device_ms == (100 if has_counter else pytest.approx(100, abs=10))
    assert second.state is MachineState.ROASTING
    for control in Control:
        assert second.step_of(control) == rig.truth(control)
    status = rig.machine.status()
    assert second.bean_temp_c == pytest.approx(status["probe_temp_c"], abs=2.0)
    has_exhaust = rig.machine.settings.has_exhaust_sensor
    assert (second.exhaust_temp_c is not None) is has_exhaust
    assert second.quality.get("exhaust_temp_c") is (None if has_exhaust else Quality.ABSENT)
    assert rig.driver.identity.serial == rig.facts.serial
    absent = {name for name, quality in second.quality.items() if quality is Quality.ABSENT}
    assert all(getattr(second, name) is not None for name in rig.driver.capabilities.fields - absent)


@corners
@pytest.mark.parametrize(("control", "target"), [
    (Control.HEATER, None), (Control.HEATER, 0), (Control.HEATER, 6), (Control.FAN, 12), (Control.FAN, 1),
    (Control.DRUM, 2), (Control.DRUM, 9),
])
def test_an_order_reaches_its_target_by_the_steps_it_needs(
    make_rig: Callable[..., Rig], kind: str, corner: Any, control: Control, target: int | None,
) -> None:
    rig = make_rig(kind, settings=corner.settings)
    target = rig.facts.heater_max if target is None else target
    before = rig.truth(control)
    receipt = rig.driver.apply(SettingOrder("o", control, target, from_step=before), 5.0)
    assert (receipt.outcome, receipt.reason) == (Outcome.PROVED, "")
    assert (receipt.value_before, receipt.value_after, rig.truth(control)) == (before, target, target)
    assert len(receipt.writes) == (1 if is_absolute(kind, control) and target != before else abs(target - before))
    assert all(rig.truth(other) == rig.driver.read().step_of(other) for other in Control)
    gaps = [b.monotonic_s - a.monotonic_s for a, b in zip(receipt.writes, receipt.writes[1:], strict=False)]
    assert all(gap >= 0.1 for gap in gaps), "at most ten commands a second"


def is_absolute(kind: str, control: Control) -> bool:
    """Is the control set by one command?"""
    return kind == "bullet-r1" and control is Control.DRUM


@corners
def test_making_safe_is_proved_and_only_goes_down(make_rig: Callable[..., Rig], kind: str, corner: Any) -> None:
    rig = make_rig(kind, settings=corner.settings)
    hottest = rig.facts.heater_max
    rig.driver.apply(SettingOrder("up", Control.HEATER, hottest), 5.0)
    ups = rig.sent(rig.facts.heater_up)
    receipt = rig.driver.make_safe(3.0)
    assert (receipt.outcome, receipt.value_before, receipt.value_after) == (Outcome.PROVED, hottest, 0)
    assert rig.truth(Control.HEATER) == 0
    assert rig.sent(rig.facts.heater_up) == ups and rig.sent(rig.facts.prs) == 0
    assert rig.truth(Control.FAN) >= 7 and rig.truth(Control.DRUM) == 7
    downs = [write.monotonic_s for write in receipt.writes if write.data_hex == rig.facts.heater_down]
    dropped = 1 if corner.settings.get("max_steps_per_s") else 0  # the first may come too soon after the last step up
    assert hottest <= len(downs) <= hottest + dropped
    assert max(downs) - receipt.started_monotonic_s <= rig.facts.written_s
    assert receipt.proved_monotonic_s is not None
    assert receipt.proved_monotonic_s - receipt.started_monotonic_s <= rig.facts.proved_s


@corners
def test_making_safe_twice_sends_no_step_below_zero(make_rig: Callable[..., Rig], kind: str, corner: Any) -> None:
    rig = make_rig(kind, settings=corner.settings)
    rig.driver.read()
    rig.driver.make_safe(3.0)
    downs = rig.sent(rig.facts.heater_down)
    again = rig.driver.make_safe(3.0)
    assert (again.outcome, again.first_byte_monotonic_s) == (Outcome.PROVED, None)
    assert (rig.sent(rig.facts.heater_down), rig.truth(Control.HEATER)) == (downs, 0)


#: Every corner meets every fault in mid-order; the first and the last of a kind meet it at the first byte too.
FAULTED = [
    (kind, corner, fault, begins_s)
    for kind in RIGS for corner in matrix(kind) for fault in FAULTS for begins_s in (0.0, 0.25)
    if begins_s or corner.name in (matrix(kind)[0].name, matrix(kind)[-1].name)
]


@pytest.mark.parametrize(("kind", "corner", "fault", "begins_s"), FAULTED,
                         ids=[f"{kind}-{corner.name}-{fault}-{at}" for kind, corner, fault, at in FAULTED])
def test_no_fault_makes_a_receipt_lie(
    make_rig: Callable[..., Rig], kind: str, corner: Any, fault: str, begins_s: float,
) -> None:
    rig = make_rig(kind, settings=corner.settings, faults=f"{fault}@{FACTS[kind].begun_s + begins_s}")
    rig.driver.read()
    before = {control: rig.truth(control) for control in Control}
    rig.clock.advance(0.1)
    receipt = rig.driver.apply(SettingOrder("o", Control.HEATER, 9, from_step=5), 5.0)
    assert rig.sent(rig.facts.heater_up) <= 4 and rig.sent(rig.facts.heater_down) == 0 and rig.sent(rig.facts.prs) == 0
    assert receipt.outcome in (Outcome.PROVED, Outcome.DECLINED, Outcome.IN_DOUBT, Outcome.NOT_SENT)
    assert bool(receipt.reason) is (receipt.outcome is not Outcome.PROVED)
    if receipt.outcome is Outcome.NOT_SENT:
        assert rig.sent(rig.facts.heater_up) == 0
    if receipt.outcome is Outcome.PROVED:
        assert rig.truth(Control.HEATER) == 9 or fault in ("unplug", "firmware_reboot")
    if fault not in ("firmware_reboot", "over_temperature"):
        assert [rig.truth(c) for c in (Control.FAN, Control.DRUM)] == [before[Control.FAN], before[Control.DRUM]]
    _make_safe_tells_the_truth(rig)


def _make_safe_tells_the_truth(rig: Rig) -> None:
    """Whatever state a fault left behind: never a heat-up, never the button, PROVED only if it is so."""
    ups, prs = rig.sent(rig.facts.heater_up), rig.sent(rig.facts.prs)
    receipt = rig.driver.make_safe(3.0)
    assert (rig.sent(rig.facts.heater_up), rig.sent(rig.facts.prs)) == (ups, prs)
    if receipt.outcome is Outcome.PROVED:
        assert rig.truth(Control.HEATER) == 0
        assert receipt.proof is not None and receipt.proof.state not in FIRMWARE_OWNS_HEAT
    else:
        assert receipt.outcome is Outcome.UNPROVED and receipt.by_hand and receipt.reason


@corners
@pytest.mark.parametrize("fault", ["late_reply", "short_read", "slipped_frame", "garbage", "nan", "time_out", "nak"])
def test_readings_come_back_by_themselves_after_a_fault(
    make_rig: Callable[..., Rig], kind: str, corner: Any, fault: str,
) -> None:
    rig = make_rig(kind, settings=corner.settings)
    rig.driver.read()
    rig.machine.act("fault", fault=fault)
    began_s = rig.clock.monotonic()
    reading = read_soon(rig)
    for _ in range(30):
        rig.clock.advance(0.1)
        reading = read_soon(rig)
    assert reading.step_of(Control.HEATER) == rig.truth(Control.HEATER)
    assert is_true_of(rig, reading)
    assert rig.clock.monotonic() - began_s < 12.0


def is_true_of(rig: Rig, reading: Reading) -> bool:
    """Nothing of another frame stands in it. (A slip shows in an R1's preheat target first.)"""
    tells_target = "preheat_target_c" in rig.driver.capabilities.fields
    target_c = rig.machine.settings.preheat_target_c if tells_target else None
    return reading.preheat_target_c == target_c and reading.step_of(Control.HEATER) == rig.truth(Control.HEATER)


@pytest.mark.parametrize("kind", RIGS)
def test_a_slip_is_over_within_two_polls(make_rig: Callable[..., Rig], kind: str) -> None:
    rig = make_rig(kind)
    rig.driver.read()
    for _ in range(20):
        rig.machine.act("fault", fault="slipped_frame")
        polls = 0
        while True:
            polls += 1
            try:
                reading = rig.driver.read()
            except DriverError:
                continue
            break
        assert polls <= 2
        assert is_true_of(rig, reading)
        rig.clock.advance(0.1)


@corners
def test_unplugged_is_said_and_a_replugged_machine_is_opened_again(
    make_rig: Callable[..., Rig], kind: str, corner: Any,
) -> None:
    rig = make_rig(kind, settings=corner.settings)
    rig.driver.read()
    rig.machine.act("fault", fault="unplug")
    with pytest.raises(Unplugged) as caught:
        rig.driver.read()
    assert caught.value.how_to_fix
    receipt = rig.driver.apply(SettingOrder("o", Control.HEATER, 9), 1.0)
    assert receipt.outcome is Outcome.NOT_SENT
    safe = rig.driver.make_safe(3.0)
    assert (safe.outcome, safe.reason, bool(safe.by_hand)) == (Outcome.UNPROVED, "unplugged", True)
    rig.driver.close()
    with pytest.raises(NotFound):
        rig.driver.open()
    rig.machine.act("fault", fault="replug")
    rig.driver.open()
    assert rig.driver.read().step_of(Control.HEATER) == rig.truth(Control.HEATER)


@pytest.mark.parametrize("kind", RIGS)
def test_absent_forbidden_and_busy_are_three_errors(kind: str, hand: ManualClock) -> None:
    forbidden = RIGS[kind](hand, settings={"may_open": False})
    with pytest.raises(NoPermission) as no_permission:
        forbidden.driver.open()
    assert "udev" in no_permission.value.how_to_fix
    held = RIGS[kind](hand)
    held.driver.open()
    other = registry.make_driver(kind, {"backend": held.driver.port._options.backend})  # type: ignore[attr-defined]
    with pytest.raises(Busy) as busy:
        other.open()
    assert "Only one program" in busy.value.how_to_fix
    held.driver.read()
    held.driver.close()


@pytest.mark.parametrize("kind", RIGS)
@pytest.mark.parametrize("state", ["off", "charge"])
def test_heat_goes_up_only_while_roasting(make_rig: Callable[..., Rig], kind: str, state: str) -> None:
    rig = make_rig(kind, initial_state=state)
    receipt = rig.driver.apply(SettingOrder("o", Control.HEATER, rig.facts.heater_max), 5.0)
    assert (receipt.outcome, receipt.reason) == (Outcome.DECLINED, "wrong_state")
    assert rig.sent(rig.facts.heater_up) == 0


@pytest.mark.parametrize("kind", RIGS)
def test_an_order_checks_where_the_control_stands_and_what_the_machine_does(
    make_rig: Callable[..., Rig], kind: str,
) -> None:
    rig = make_rig(kind)
    moved = rig.driver.apply(SettingOrder("a", Control.HEATER, 7, from_step=4), 5.0)
    cooling_only = SettingOrder("b", Control.HEATER, 4, allowed_states=frozenset({MachineState.COOLING}))
    state = rig.driver.apply(cooling_only, 5.0)
    beyond = rig.driver.apply(SettingOrder("c", Control.HEATER, rig.facts.heater_max + 1), 5.0)
    late = rig.driver.apply(SettingOrder("d", Control.HEATER, 7), 0.0)
    there = rig.driver.apply(SettingOrder("e", Control.HEATER, 5), 5.0)
    assert [r.reason for r in (moved, state, beyond, late)] == [
        "moved_at_machine", "wrong_state", "out_of_range", "deadline"]
    assert (late.outcome, there.outcome, there.writes) == (Outcome.NOT_SENT, Outcome.PROVED, ())
    assert rig.sent(rig.facts.heater_up) == rig.sent(rig.facts.heater_down) == 0


@pytest.mark.parametrize("kind", RIGS)
def test_a_hand_at_the_panel_stops_an_order(make_rig: Callable[..., Rig], kind: str, hand: ManualClock) -> None:
    rig = make_rig(kind)

    def meddle(receipt_step: int) -> None:
        if receipt_step == 2:
            rig.machine.act("turn_knob", control="heater", step=1)

    class Meddler:
        def before_write(self, note: Any) -> None:
            meddle(note.step)

        def after_write(self, note: Any, monotonic_s: float) -> None: ...

        def on_reading(self, reading: Reading) -> None: ...

    rig.driver.hooks = Meddler()  # type: ignore[attr-defined]
    receipt = rig.driver.apply(SettingOrder("o", Control.HEATER, 9), 5.0)
    assert (receipt.outcome, receipt.reason, receipt.value_after) == (Outcome.DECLINED, "contradicted", 2)
    assert rig.sent(rig.facts.heater_up) == 2


@corners
def test_state_orders_follow_the_table_and_prove_the_state(
    make_rig: Callable[..., Rig], kind: str, corner: Any,
) -> None:
    rig = make_rig(kind, settings=corner.settings)
    unknown = rig.driver.apply(StateOrder("a", MachineState.PREHEATING), 5.0)
    by_hand = rig.driver.apply(StateOrder("b", MachineState.CHARGE), 5.0)
    assert [r.reason for r in (unknown, by_hand)] == ["no_such_press"] * 2
    assert rig.sent(rig.facts.prs) == 0
    cool = rig.driver.apply(StateOrder("c", MachineState.COOLING, from_state=MachineState.ROASTING), 5.0)
    assert cool.outcome is Outcome.PROVED and rig.state() in (7, 8) and rig.sent(rig.facts.prs) == 1
    again = rig.driver.apply(StateOrder("d", MachineState.COOLING), 5.0)
    assert again.outcome is Outcome.PROVED and rig.sent(rig.facts.prs) == 1, "already there: nothing is pressed"


@corners
@pytest.mark.parametrize("initial_state", ["off", "charge", "roasting"])
@pytest.mark.parametrize("target", list(MachineState))
def test_one_state_order_presses_once_at_most_and_never_lies(
    make_rig: Callable[..., Rig], kind: str, corner: Any, initial_state: str, target: MachineState,
) -> None:
    rig = make_rig(kind, settings=corner.settings, initial_state=initial_state)
    receipt = rig.driver.apply(StateOrder("o", target), 5.0)
    assert rig.sent(rig.facts.prs) <= 1
    assert not (initial_state == "charge" and rig.sent(rig.facts.prs)), "a roast is started by hand, with beans"
    if receipt.outcome is Outcome.PROVED:
        assert receipt.proof is not None and rig.state() == receipt.proof.state_code
    if receipt.outcome is Outcome.DECLINED:
        assert receipt.reason in ("no_such_press", "contradicted")


@pytest.mark.parametrize("kind", RIGS)
def test_where_the_firmware_owns_the_heat_safe_is_unproved(make_rig: Callable[..., Rig], kind: str) -> None:
    rig = make_rig(kind, initial_state="off")
    pressed = rig.driver.apply(StateOrder("o", MachineState.PREHEATING), 5.0)
    assert pressed.outcome is Outcome.PROVED
    rig.clock.advance(30.0)
    read_soon(rig)
    receipt = rig.driver.make_safe(3.0)
    assert (receipt.outcome, receipt.reason) == (Outcome.UNPROVED, "firmware_owns_heat")
    assert "mains" in receipt.by_hand[0]
    assert rig.sent(rig.facts.prs) == 1


@pytest.mark.parametrize("kind", RIGS)
def test_a_silent_machine_gets_the_full_count_of_downs_in_time(make_rig: Callable[..., Rig], kind: str) -> None:
    rig = make_rig(kind)
    rig.driver.apply(SettingOrder("up", Control.HEATER, rig.facts.heater_max), 5.0)
    rig.machine.act("fault", fault="time_out@0+60")
    rig.clock.advance(1.0)
    started_s = rig.clock.monotonic()
    receipt = rig.driver.make_safe(3.0)
    downs = [write.monotonic_s for write in receipt.writes]
    assert (receipt.outcome, receipt.reason) == (Outcome.UNPROVED, "no_answer")
    assert len(downs) == rig.facts.heater_max and rig.truth(Control.HEATER) == 0
    assert downs[0] - started_s < 0.01 and downs[-1] - started_s <= rig.facts.written_s


@pytest.mark.parametrize("kind", RIGS)
def test_noise_is_never_a_reading_even_where_it_carries_the_marker(make_rig: Callable[..., Rig], kind: str) -> None:
    rig = make_rig(kind)
    rig.driver.read()
    rig.machine.act("fault", fault="garbage:count=20000")
    refused = 0
    for _ in range(900):  # one in 256 random frames carries the marker
        rig.clock.advance(0.1)
        try:
            reading = rig.driver.read()
        except ProtocolError:
            refused += 1
            continue
        assert is_true_of(rig, reading)
    assert refused > 500
    assert rig.sent(rig.facts.heater_up) == rig.sent(rig.facts.heater_down) == rig.sent(rig.facts.prs) == 0


@pytest.mark.parametrize("kind", RIGS)
def test_frozen_telemetry_is_stale_and_moves_nothing(make_rig: Callable[..., Rig], kind: str) -> None:
    rig = make_rig(kind)
    rig.driver.read()
    rig.clock.advance(0.1)
    rig.driver.read()
    rig.machine.firmware.tick = lambda: None  # the firmware hangs; its USB side still answers
    for _ in range(15):
        rig.clock.advance(0.1)
        reading = rig.driver.read()
    assert reading.quality["heater_step"] is Quality.STALE
    receipt = rig.driver.apply(SettingOrder("o", Control.HEATER, 9), 5.0)
    assert (receipt.outcome, receipt.reason) == (Outcome.DECLINED, "stale_reading")
    assert rig.sent(rig.facts.heater_up) == 0


@pytest.mark.parametrize("kind", RIGS)
@pytest.mark.parametrize(("mapped", "verdict"), [("probe_b", "ok"), ("probe_a", "mismatch")])
def test_the_sensor_map_is_checked_at_charge(hand: ManualClock, kind: str, mapped: str, verdict: str) -> None:
    rig = RIGS[kind](hand, initial_state="charge", options={"sensor_map": mapped})
    rig.driver.open()
    assert rig.driver.read().extras["sensor_check"] == "not_checked"
    rig.machine.act("charge_beans", mass_kg=0.4)
    for _ in range(300):
        rig.clock.advance(0.1)
        reading = rig.driver.read()
    assert reading.state is MachineState.ROASTING
    assert reading.extras["sensor_check"] == verdict
    assert ("sensor_advice" in reading.extras) is (verdict == "mismatch")
    rig.driver.close()
