"""The contract of `drivers/port.py` for line machines (TCP lines, TC4 over serial and TCP): what `test_contract.py`
asks of a Bullet, asked of machines that take absolute settings, on a clock that is turned by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from drivers.lines.line_machine import NoAnswer
from drivers.port import (
    FIRMWARE_OWNS_HEAT,
    Control,
    DriverError,
    MachineState,
    NoHooks,
    NotFound,
    Outcome,
    Reading,
    SettingOrder,
    StateOrder,
    Unplugged,
    WriteNote,
)
from drivers.tests.line_machines import LINE_RIGS, LineRig
from drivers.virtual.clocks import ManualClock
from drivers.virtual.line_faults import LINE_FAULTS, TC4_FAULTS
from kernel import clock

#: (kind, what of the peer is different, name)
CORNERS: list[tuple[str, dict[str, Any], str]] = [
    ("tcp-line", {}, "tcp-line"),
    ("tcp-line", {"form": "csv"}, "tcp-line-csv"),
    ("tcp-line", {"sends_ts": False}, "tcp-line-without-ts"),
    ("tcp-line", {"interval_ms": 500}, "tcp-line-slow"),
    ("tc4-serial", {}, "tc4-serial"),
    ("tc4-tcp", {}, "tc4-tcp"),
]
corners = pytest.mark.parametrize(
    ("kind", "peer"), [(kind, peer) for kind, peer, _ in CORNERS], ids=[name for _, _, name in CORNERS])
kinds = pytest.mark.parametrize("kind", LINE_RIGS)
FAULTS_OF = {"tcp-line": LINE_FAULTS, "tc4-serial": TC4_FAULTS, "tc4-tcp": TC4_FAULTS}
MakeRig = Callable[..., LineRig]


@pytest.fixture
def hand() -> Iterator[ManualClock]:
    turned = ManualClock(start_s=1000.0)
    before = clock.install(turned)
    yield turned
    clock.install(before)


@pytest.fixture
def make_rig(hand: ManualClock) -> Iterator[MakeRig]:
    made: list[LineRig] = []

    def make(kind: str, **details: Any) -> LineRig:
        rig = LINE_RIGS[kind](hand, **details)
        rig.driver.open()
        made.append(rig)
        return rig

    yield make
    for rig in made:
        rig.driver.close()


def read_soon(rig: LineRig, within_s: float = 8.0) -> Reading:
    """The next reading that comes; what is closed is opened again, as a keeper does."""
    until_s = rig.clock.monotonic() + within_s
    while True:
        try:
            return rig.driver.read()
        except Unplugged:
            try:
                rig.driver.open()
            except DriverError:
                if rig.clock.monotonic() > until_s:
                    raise
        except DriverError:
            if rig.clock.monotonic() > until_s:
                raise
        rig.clock.advance(0.1)


@corners
def test_a_reading_says_what_the_machine_is(make_rig: MakeRig, kind: str, peer: dict[str, Any]) -> None:
    rig = make_rig(kind, **peer)
    first = rig.driver.read()
    rig.clock.advance(peer.get("interval_ms", 100) / 1000)
    second = rig.driver.read()
    assert second.sequence == first.sequence + 1
    assert second.state is MachineState.ROASTING
    status = rig.peer.status()
    assert second.bean_temp_c == pytest.approx(status["bean_temp_c"], abs=1.0)
    assert second.heater_step == rig.truth(Control.HEATER) and second.fan_step == rig.truth(Control.FAN)
    assert second.environment_temp_c is not None and second.infrared_temp_c is None
    assert second.exhaust_temp_c is None
    assert second.device_ms > first.device_ms
    if kind == "tcp-line":
        late_ms = 0 if peer.get("sends_ts", True) else 100  # without its own time, ours at receipt
        assert 0 <= second.device_ms - first.device_ms - peer.get("interval_ms", 100) <= late_ms
        assert rig.driver.identity.serial == "L-7"


@corners
@pytest.mark.parametrize(("control", "target"), [
    (Control.HEATER, 100), (Control.HEATER, 0), (Control.HEATER, 56), (Control.FAN, 100), (Control.FAN, 0)])
def test_an_order_reaches_its_target_by_one_command(
    make_rig: MakeRig, kind: str, peer: dict[str, Any], control: Control, target: int,
) -> None:
    rig = make_rig(kind, **peer)
    before = rig.truth(control)
    receipt = rig.driver.apply(SettingOrder("o", control, target, from_step=before), 4.0)
    assert (receipt.outcome, receipt.reason) == (Outcome.PROVED, "")
    assert (receipt.value_before, receipt.value_after, rig.truth(control)) == (before, target, target)
    assert rig.told() == [(control.value, target)] and len(receipt.writes) == 1
    assert receipt.proof is not None and receipt.proof.monotonic_s > receipt.writes[0].monotonic_s


@corners
def test_making_safe_is_proved_and_only_goes_down(make_rig: MakeRig, kind: str, peer: dict[str, Any]) -> None:
    rig = make_rig(kind, **peer)
    rig.driver.apply(SettingOrder("up", Control.HEATER, 100), 4.0)
    receipt = rig.driver.make_safe(3.0)
    assert (receipt.outcome, receipt.value_before, receipt.value_after) == (Outcome.PROVED, 100, 0)
    assert rig.truth(Control.HEATER) == 0 and rig.truth(Control.FAN) == 70 and rig.truth(Control.DRUM) == 70
    assert set(rig.heats()[1:]) == {0}
    assert receipt.first_byte_monotonic_s == receipt.started_monotonic_s, "before anything is read"
    assert receipt.proved_monotonic_s is not None
    assert receipt.proved_monotonic_s - receipt.started_monotonic_s <= 2.0


@kinds
def test_making_safe_always_sends_even_where_heat_reads_off(make_rig: MakeRig, kind: str) -> None:
    rig = make_rig(kind)
    rig.driver.make_safe(3.0)
    before = len(rig.heats())
    again = rig.driver.make_safe(3.0)
    assert again.outcome is Outcome.PROVED and len(rig.heats()) > before and set(rig.heats()) == {0}


@pytest.mark.parametrize(("kind", "peer", "fault"), [
    (kind, peer, fault) for kind, peer, _ in CORNERS for fault in FAULTS_OF[kind]
], ids=[f"{name}-{fault}" for kind, _, name in CORNERS for fault in FAULTS_OF[kind]])
@pytest.mark.parametrize("begins_s", [0.05, 0.3])
def test_no_fault_makes_a_receipt_lie(
    make_rig: MakeRig, kind: str, peer: dict[str, Any], fault: str, begins_s: float,
) -> None:
    rig = make_rig(kind, **peer)
    rig.driver.read()
    rig.peer.act("fault", fault=f"{fault}@{begins_s}")
    before = {control: rig.truth(control) for control in Control}
    rig.clock.advance(0.25)
    receipt = rig.driver.apply(SettingOrder("o", Control.HEATER, 90, from_step=55), 4.0)
    assert len(rig.heats()) <= 1, "never sent twice"
    assert receipt.outcome in (Outcome.PROVED, Outcome.DECLINED, Outcome.IN_DOUBT, Outcome.NOT_SENT)
    assert bool(receipt.reason) is (receipt.outcome is not Outcome.PROVED)
    if receipt.outcome is Outcome.NOT_SENT:
        assert rig.heats() == []
    if receipt.outcome is Outcome.PROVED:
        assert rig.truth(Control.HEATER) == 90 or fault in ("reboot", "disconnect")
    if receipt.outcome is Outcome.DECLINED:
        assert rig.truth(Control.HEATER) != 90
    if fault != "reboot":
        assert [rig.truth(c) for c in (Control.FAN, Control.DRUM)] == [before[Control.FAN], before[Control.DRUM]]
    _make_safe_tells_the_truth(rig)


def _make_safe_tells_the_truth(rig: LineRig) -> None:
    """Whatever state a fault left behind: never a heat-up, PROVED only if it is so, and stays so."""
    told = len(rig.heats())
    receipt = rig.driver.make_safe(3.0)
    assert set(rig.heats()[told:]) <= {0}
    if receipt.outcome is Outcome.PROVED:
        assert rig.truth(Control.HEATER) == 0
        assert receipt.proof is not None and receipt.proof.state not in FIRMWARE_OWNS_HEAT
        rig.clock.advance(5.0)
        assert rig.truth(Control.HEATER) == 0
    else:
        assert receipt.outcome is Outcome.UNPROVED and receipt.by_hand and receipt.reason


@pytest.mark.parametrize(("kind", "fault"), [(kind, fault) for kind in LINE_RIGS for fault in FAULTS_OF[kind]])
def test_readings_come_back_by_themselves_after_a_fault(make_rig: MakeRig, kind: str, fault: str) -> None:
    rig = make_rig(kind)
    rig.driver.read()
    rig.peer.act("fault", fault=fault)
    began_s = rig.clock.monotonic()
    for _ in range(60):
        rig.clock.advance(0.1)
        reading = read_soon(rig, within_s=12.0)
    assert reading.heater_step == rig.truth(Control.HEATER)
    assert reading.age_s(rig.clock.monotonic()) < 0.5 and not reading.quality.get("heater_step")
    assert rig.clock.monotonic() - began_s < 25.0
    if fault != "over_temperature":
        assert reading.bean_temp_c == pytest.approx(rig.peer.status()["bean_temp_c"], abs=1.0), "°C again"


@corners
def test_unplugged_is_said_and_a_machine_that_is_back_is_opened_again(
    make_rig: MakeRig, kind: str, peer: dict[str, Any],
) -> None:
    rig = make_rig(kind, **peer)
    rig.driver.read()
    rig.clock.advance(6.0)
    elapsed_s = rig.driver.read().extras["elapsed_s"]
    rig.peer.act("fault", fault="disconnect@0+3")
    with pytest.raises(Unplugged) as caught:
        rig.driver.read()
    assert caught.value.how_to_fix
    assert rig.driver.apply(SettingOrder("o", Control.HEATER, 9), 1.0).outcome is Outcome.NOT_SENT
    safe = rig.driver.make_safe(3.0)
    assert (safe.outcome, safe.reason, bool(safe.by_hand)) == (Outcome.UNPROVED, "unplugged", True)
    rig.driver.close()
    with pytest.raises(NotFound):
        rig.driver.open()
    rig.clock.advance(5.0)
    rig.driver.open()
    back = rig.driver.read()
    assert back.heater_step == rig.truth(Control.HEATER)
    passed_s = back.extras["elapsed_s"] - elapsed_s
    assert 4.5 <= passed_s <= 12.0, "the machine's time goes on over a reconnect"


@kinds
def test_heat_goes_up_only_while_roasting(make_rig: MakeRig, kind: str) -> None:
    details = {"initial_state": "charge"} if kind == "tcp-line" else {"options": {"assumed_state": "off"}}
    rig = make_rig(kind, **details)
    up = rig.driver.apply(SettingOrder("o", Control.HEATER, rig.truth(Control.HEATER) + 1), 4.0)
    assert (up.outcome, up.reason) == (Outcome.DECLINED, "wrong_state")
    assert rig.told() == []


@kinds
def test_a_machine_that_says_no_state_takes_heat_down_and_nothing_else(make_rig: MakeRig, kind: str) -> None:
    details = {"sends_state": False} if kind == "tcp-line" else {"options": {"assumed_state": "unknown"}}
    rig = make_rig(kind, **details)
    up = rig.driver.apply(SettingOrder("a", Control.HEATER, 60), 4.0)
    air = rig.driver.apply(SettingOrder("b", Control.FAN, 60), 4.0)
    down = rig.driver.apply(SettingOrder("c", Control.HEATER, 30), 4.0)
    assert [r.reason for r in (up, air, down)] == ["unknown_state", "unknown_state", ""]
    assert rig.told() == [("heater", 30)]


@kinds
def test_an_order_checks_where_the_control_stands_and_what_the_machine_does(make_rig: MakeRig, kind: str) -> None:
    rig = make_rig(kind)
    moved = rig.driver.apply(SettingOrder("a", Control.HEATER, 70, from_step=40), 4.0)
    only = SettingOrder("b", Control.HEATER, 40, allowed_states=frozenset({MachineState.COOLING}))
    state = rig.driver.apply(only, 4.0)
    beyond = rig.driver.apply(SettingOrder("c", Control.HEATER, 101), 4.0)
    below = rig.driver.apply(SettingOrder("c2", Control.DRUM, 9), 4.0)
    late = rig.driver.apply(SettingOrder("d", Control.HEATER, 70), 0.0)
    bad = rig.driver.apply(SettingOrder("e f\ng", Control.HEATER, 70), 4.0)
    there = rig.driver.apply(SettingOrder("g", Control.HEATER, 55), 4.0)
    assert [r.reason for r in (moved, state, beyond, below, late, bad)] == [
        "moved_at_machine", "wrong_state", "out_of_range", "out_of_range", "deadline", "bad_order_id"]
    assert (late.outcome, there.outcome, there.writes) == (Outcome.NOT_SENT, Outcome.PROVED, ())
    assert rig.told() == []


@kinds
def test_a_hand_at_the_panel_contradicts_an_order(make_rig: MakeRig, kind: str) -> None:
    rig = make_rig(kind)

    class Meddler(NoHooks):
        def after_write(self, note: WriteNote, monotonic_s: float) -> None:
            rig.peer.act("turn_knob", control="heater", step=20)

    rig.driver.hooks = Meddler()  # type: ignore[attr-defined]
    receipt = rig.driver.apply(SettingOrder("o", Control.HEATER, 90), 4.0)
    assert (receipt.outcome, receipt.reason, receipt.value_after) == (Outcome.DECLINED, "contradicted", 20)
    assert rig.heats() == [90]


@kinds
def test_stop_just_before_an_orders_bytes_leave_never_claims_that_heat_is_off(make_rig: MakeRig, kind: str) -> None:
    """Without a keeper's gate the order goes out after STOP's commands: STOP must not have said PROVED."""
    rig = make_rig(kind)
    receipts: list[Any] = []

    class Stopper(NoHooks):
        def before_write(self, note: WriteNote) -> None:
            if note.order_id == "o":
                receipts.append(rig.driver.make_safe(1.5, "stop"))

    rig.driver.hooks = Stopper()  # type: ignore[attr-defined]
    rig.driver.apply(SettingOrder("o", Control.HEATER, 90), 4.0)
    assert receipts[0].outcome is Outcome.UNPROVED and rig.truth(Control.HEATER) == 90
    later = rig.driver.make_safe(3.0, "again")
    assert later.outcome is Outcome.PROVED and rig.truth(Control.HEATER) == 0
    after = rig.driver.apply(SettingOrder("p", Control.HEATER, 50), 4.0)
    assert after.outcome is Outcome.PROVED, "a STOP that is over stops nothing that comes later"


@kinds
def test_while_an_order_is_leaving_stop_proves_nothing(make_rig: MakeRig, kind: str) -> None:
    rig = make_rig(kind)
    rig.driver.is_order_leaving = True  # type: ignore[attr-defined]
    receipt = rig.driver.make_safe(2.0)
    assert receipt.outcome is Outcome.UNPROVED and rig.truth(Control.HEATER) == 0
    assert len(rig.heats()) > 1, "it goes on sending"


@kinds
def test_a_silent_machine_gets_heat_off_again_and_again(make_rig: MakeRig, kind: str) -> None:
    rig = make_rig(kind)
    rig.peer.act("fault", fault="silence@0+60")
    rig.clock.advance(1.0)
    receipt = rig.driver.make_safe(3.0)
    assert receipt.outcome is Outcome.UNPROVED and receipt.by_hand
    assert len(rig.heats()) >= 3 and set(rig.heats()) == {0} and rig.truth(Control.HEATER) == 0
    assert receipt.first_byte_monotonic_s == receipt.started_monotonic_s


@kinds
def test_old_telemetry_moves_nothing(make_rig: MakeRig, kind: str) -> None:
    rig = make_rig(kind)
    rig.driver.read()
    rig.peer.act("fault", fault="silence@0+60")
    rig.clock.advance(3.0)
    receipt = rig.driver.apply(SettingOrder("o", Control.HEATER, 90), 4.0)
    assert receipt.outcome in (Outcome.DECLINED, Outcome.NOT_SENT)
    assert receipt.reason in ("stale_reading", "no_answer") and rig.told() == []


@pytest.mark.parametrize("target", list(MachineState))
@pytest.mark.parametrize("initial_state", ["off", "charge", "roasting"])
def test_one_state_order_asks_once_at_most_and_never_lies(
    make_rig: MakeRig, initial_state: str, target: MachineState,
) -> None:
    rig = make_rig("tcp-line", initial_state=initial_state)
    receipt = rig.driver.apply(StateOrder("o", target), 4.0)
    asked = [line for line in rig.peer.told if line.startswith("STATE")]
    assert len(asked) <= 1
    if receipt.outcome is Outcome.PROVED:
        assert receipt.proof is not None and rig.state() == target.value
    elif receipt.outcome is Outcome.DECLINED:
        assert receipt.reason in ("no_such_press", "declined_by_machine") and rig.state() == initial_state
    else:
        raise AssertionError(receipt)
    if target in (MachineState.ROASTING, MachineState.CHARGE) and initial_state != target.value:
        assert asked == [], "beans move by hand"


def test_cooling_is_asked_for_and_proved(make_rig: MakeRig) -> None:
    rig = make_rig("tcp-line")
    wrong = rig.driver.apply(StateOrder("a", MachineState.COOLING, from_state=MachineState.CHARGE), 4.0)
    cool = rig.driver.apply(StateOrder("b", MachineState.COOLING, from_state=MachineState.ROASTING), 4.0)
    again = rig.driver.apply(StateOrder("c", MachineState.COOLING), 4.0)
    assert [wrong.reason, cool.outcome, again.outcome] == ["moved_at_machine", Outcome.PROVED, Outcome.PROVED]
    assert list(rig.peer.told) == ["STATE b cooling"]


def test_where_the_firmware_owns_the_heat_safe_is_unproved(make_rig: MakeRig) -> None:
    rig = make_rig("tcp-line", initial_state="charge")
    receipt = rig.driver.make_safe(3.0)
    assert (receipt.outcome, receipt.reason) == (Outcome.UNPROVED, "firmware_owns_heat")


def test_a_machine_without_hello_is_only_read_and_says_so(make_rig: MakeRig) -> None:
    rig = make_rig("tcp-line", declares=False)
    assert rig.driver.capabilities.controls == {} and rig.driver.capabilities.states == frozenset()
    assert rig.driver.identity.extras["is_read_only"] is True
    order = rig.driver.apply(SettingOrder("o", Control.HEATER, 10), 4.0)
    state = rig.driver.apply(StateOrder("s", MachineState.COOLING), 4.0)
    safe = rig.driver.make_safe(3.0)
    assert [(r.outcome, r.reason) for r in (order, state, safe)] == [
        (Outcome.DECLINED, "read_only"), (Outcome.DECLINED, "no_such_press"), (Outcome.UNPROVED, "read_only")]
    assert "mains" in safe.by_hand[0] and "heater 55 %" in safe.message
    assert list(rig.peer.told) == []


def test_the_option_read_only_stands_above_hello(make_rig: MakeRig) -> None:
    rig = make_rig("tcp-line", options={"read_only": True})
    assert rig.driver.capabilities.controls == {}
    assert rig.driver.make_safe(3.0).reason == "read_only" and list(rig.peer.told) == []


@pytest.mark.parametrize("kind", ["tc4-serial", "tc4-tcp"])
def test_a_tc4_without_declared_outputs_is_only_read(make_rig: MakeRig, kind: str) -> None:
    rig = make_rig(kind, options={"controls": {}})
    reading = rig.driver.read()
    assert (reading.heater_step, reading.fan_step) == (55, 30), "what READ shows is shown"
    assert rig.driver.apply(SettingOrder("o", Control.HEATER, 10), 4.0).reason == "read_only"
    assert (rig.driver.make_safe(3.0).reason, rig.told()) == ("read_only", [])


@pytest.mark.parametrize("kind", ["tc4-serial", "tc4-tcp"])
def test_a_tc4_that_shows_no_outputs_is_steered_blind_and_never_says_proved(make_rig: MakeRig, kind: str) -> None:
    rig = make_rig(kind, shows_outputs=False)
    assert rig.driver.read().heater_step is None
    order = rig.driver.apply(SettingOrder("o", Control.HEATER, 40), 4.0)
    assert (order.outcome, order.reason) == (Outcome.DECLINED, "unknown_state") or (
        order.outcome, order.reason) == (Outcome.IN_DOUBT, "no_echo")
    safe = rig.driver.make_safe(3.0)
    assert (safe.outcome, safe.reason) == (Outcome.UNPROVED, "no_echo") and safe.by_hand
    assert rig.heats()[-3:] == [0, 0, 0] and rig.truth(Control.HEATER) == 0


@pytest.mark.parametrize("full_scale", [100, 255, 1000])
@pytest.mark.parametrize("percent", [0, 1, 33, 50, 99, 100])
def test_an_output_that_counts_otherwise_is_scaled_and_read_back(
    make_rig: MakeRig, full_scale: int, percent: int,
) -> None:
    controls = {"heater": {"output": "OT1"}, "fan": {"output": "IO3", "full_scale": full_scale}}
    rig = make_rig("tc4-serial", options={"controls": controls}, io3_full_scale=full_scale)
    receipt = rig.driver.apply(SettingOrder("o", Control.FAN, percent), 4.0)
    assert receipt.outcome is Outcome.PROVED and receipt.value_after == percent
    assert list(rig.peer.told) == [f"IO3;{percent * full_scale // 100}"]


def test_an_arduino_that_restarts_is_set_up_anew_before_it_is_believed(make_rig: MakeRig) -> None:
    rig = make_rig("tc4-serial")
    rig.driver.read()
    rig.peer.act("fault", fault="reboot@0+2")
    with pytest.raises(NoAnswer):
        rig.driver.read()
    rig.clock.advance(2.0)
    reading = read_soon(rig)
    assert rig.peer.units == "C"  # type: ignore[attr-defined]
    assert reading.bean_temp_c == pytest.approx(rig.peer.status()["bean_temp_c"], abs=1.0)
    assert reading.heater_step == 0


@kinds
@pytest.mark.parametrize("fault", ["garbage:count=400", "huge_line:count=20", "half_line:count=50"])
def test_noise_is_counted_by_name_and_never_a_reading(make_rig: MakeRig, kind: str, fault: str) -> None:
    rig = make_rig(kind)
    rig.driver.read()
    rig.peer.act("fault", fault=fault)
    for _ in range(100):
        rig.clock.advance(0.1)
        try:
            reading = rig.driver.read()
        except DriverError:
            continue
        assert reading.heater_step == 55
    extras = rig.driver.identity.extras
    assert extras["parse_errors"] or extras["counters"].get("no_answers")
    assert rig.told() == []
