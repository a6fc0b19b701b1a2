"""What only lines over TCP can do: acknowledgements by id, silence, reconnects, late lines, bad greetings."""

from __future__ import annotations

import pytest

from drivers import registry
from drivers.port import Control, DriverError, NoHooks, NotFound, Outcome, Quality, Reading, SettingOrder, Unplugged
from drivers.tests.line_machines import LINE_RIGS, HandConnector, LineRig
from drivers.tests.test_contract_lines import MakeRig, hand, make_rig
from drivers.virtual.clocks import ManualClock
from drivers.virtual.line_peer import LinePeer

__all__ = ["hand", "make_rig"]


@pytest.mark.parametrize(("fault", "outcome", "reason", "counted"), [
    ("slow_ack", Outcome.PROVED, "", {}),
    ("lost_ack", Outcome.PROVED, "", {}),
    ("doubled_ack", Outcome.PROVED, "", {"acks_doubled": 1}),
    ("wrong_id", Outcome.PROVED, "", {"acks_unknown": 1}),
    ("decline", Outcome.DECLINED, "declined_by_machine", {}),
    ("slow_act", Outcome.PROVED, "", {}),
    ("lost_command", Outcome.IN_DOUBT, "no_acknowledgement", {}),
    ("stuck_control", Outcome.IN_DOUBT, "acknowledged_not_echoed", {}),
    ("slow_act:delay_s=2.5", Outcome.IN_DOUBT, "no_acknowledgement", {}),
])
def test_an_acknowledgement_is_heard_by_its_id_and_the_echo_decides(
    make_rig: MakeRig, fault: str, outcome: Outcome, reason: str, counted: dict[str, int],
) -> None:
    rig = make_rig("tcp-line")
    rig.peer.act("fault", fault=fault)
    receipt = rig.driver.apply(SettingOrder("o", Control.HEATER, 90), 4.0)
    assert (receipt.outcome, receipt.reason) == (outcome, reason), receipt.message
    assert rig.heats() == [90]
    rig.clock.advance(1.5)
    rig.driver.read()
    counters = rig.driver.identity.extras["counters"]
    assert {name: counters[name] for name in counted} == counted


def test_a_silent_source_is_stale_and_then_gone(make_rig: MakeRig) -> None:
    rig = make_rig("tcp-line", declares=False)
    seen: list[Reading] = []

    class Listener(NoHooks):
        def on_reading(self, reading: Reading) -> None:
            seen.append(reading)

    rig.driver.hooks = Listener()  # type: ignore[attr-defined]
    last = rig.driver.read()
    rig.peer.act("fault", fault="silence@0+60")
    rig.clock.advance(3.0)
    stale = rig.driver.read()
    assert stale.quality["bean_temp_c"] is Quality.STALE and stale.device_ms == last.device_ms
    assert stale.sequence == last.sequence + 1
    assert rig.driver.read() is stale, "said once"
    assert [reading.sequence for reading in seen][-1] == stale.sequence and len(seen) <= 2
    rig.clock.advance(1.5)
    with pytest.raises(Unplugged, match="said nothing"):
        rig.driver.read()


def test_a_steered_source_that_is_silent_is_kept_long_enough_to_be_made_safe(make_rig: MakeRig) -> None:
    rig = make_rig("tcp-line")
    rig.driver.read()
    rig.peer.act("fault", fault="silence@0+60")
    rig.clock.advance(6.0)
    assert rig.driver.read().quality["heater_step"] is Quality.STALE
    assert rig.driver.make_safe(1.0).outcome is Outcome.UNPROVED
    assert rig.truth(Control.HEATER) == 0, "over the connection that still stands"


def test_a_peer_that_accepts_and_closes_is_called_ever_more_seldom(hand: ManualClock) -> None:
    rig = LINE_RIGS["tcp-line"](hand)
    rig.peer.act("fault", fault="accept_then_close@0+100000")
    calls: list[float] = []
    for _ in range(1200):  # two minutes of a keeper that asks ten times a second
        try:
            rig.driver.open()
        except Unplugged:
            calls.append(hand.monotonic())
        except NotFound:
            pass
        hand.advance(0.1)
    waits = [b - a for a, b in zip(calls, calls[1:], strict=False)]
    assert 20 <= len(calls) <= 30 and all(b >= a - 0.11 for a, b in zip(waits, waits[1:], strict=False))
    assert max(waits) == pytest.approx(5.0, abs=0.25)


def test_a_peer_that_greets_and_closes_does_not_reset_the_backoff_either(hand: ManualClock) -> None:
    rig = LINE_RIGS["tcp-line"](hand)
    opened = 0
    for _ in range(600):
        try:
            rig.driver.open()
            opened += 1
            rig.driver.read()
            rig.peer.hang_up()
            rig.driver.read()
        except DriverError:
            pass
        hand.advance(0.1)
    assert 10 <= opened <= 20


def test_a_good_connection_that_breaks_is_called_again_at_once(make_rig: MakeRig) -> None:
    rig = make_rig("tcp-line")
    for _ in range(60):
        rig.clock.advance(0.1)
        rig.driver.read()
    rig.peer.hang_up()
    with pytest.raises(Unplugged):
        rig.driver.read()
    rig.driver.open()
    assert rig.driver.read().heater_step == 55


def test_lines_held_back_on_the_way_are_as_old_as_they_are(make_rig: MakeRig) -> None:
    rig = make_rig("tcp-line")
    for _ in range(20):
        rig.clock.advance(0.1)
        rig.driver.read()
    ages: list[float] = []

    class Listener(NoHooks):
        def on_reading(self, reading: Reading) -> None:
            ages.append(reading.age_s(rig.clock.monotonic()))

    rig.driver.hooks = Listener()  # type: ignore[attr-defined]
    rig.peer.act("fault", fault="burst@0+2")
    rig.clock.advance(2.05)
    rig.driver.read()
    assert len(ages) >= 18 and ages[0] == pytest.approx(1.95, abs=0.15) and ages[-1] < 0.2
    assert all(b < a for a, b in zip(ages, ages[1:], strict=False)), "in order, each with its own age"


def test_a_clock_that_is_set_back_neither_stops_readings_nor_turns_time_back(make_rig: MakeRig) -> None:
    rig = make_rig("tcp-line")
    before = rig.driver.read()
    rig.peer.act("fault", fault="clock_back")
    for _ in range(5):
        rig.clock.advance(0.1)
        after = rig.driver.read()
    assert after.sequence == before.sequence + 5
    assert after.device_ms - before.device_ms == pytest.approx(500, abs=100)
    assert after.age_s(rig.clock.monotonic()) < 0.1


def test_a_safe_value_that_is_not_off_is_never_called_heat_off(hand: ManualClock) -> None:
    class Pilot(LinePeer):
        def send_line(self, line: str, delay_s: float = 0.0) -> None:
            super().send_line(line.replace('"safe":0', '"safe":10'), delay_s)

    peer = Pilot(seed=3, clock=hand)
    driver = registry.make_driver("tcp-line", {"connector": HandConnector(peer), "port": 1})
    driver.open()
    receipt = driver.make_safe(3.0)
    assert (receipt.outcome, receipt.reason) == (Outcome.UNPROVED, "safe_value_is_not_off")
    assert receipt.value_after == 10 and "10 %" in receipt.by_hand[0]
    driver.close()


@pytest.mark.parametrize(("stands_at", "goes_to"), [(0, 0), (5, 5), (10, 10), (11, 10), (80, 10)])
def test_making_safe_never_turns_heat_up_to_the_safe_value(hand: ManualClock, stands_at: int, goes_to: int) -> None:
    class Pilot(LinePeer):
        def send_line(self, line: str, delay_s: float = 0.0) -> None:
            super().send_line(line.replace('"safe":0', '"safe":10'), delay_s)

    peer = Pilot(seed=3, clock=hand)
    rig = LineRig(registry.make_driver("tcp-line", {"connector": HandConnector(peer), "port": 1}), peer, hand)
    rig.driver.open()
    peer.set_step("heater", stands_at)
    hand.advance(1.2)
    while rig.driver.read().heater_step != stands_at:
        hand.advance(0.1)
    receipt = rig.driver.make_safe(3.0)
    assert (max(rig.heats()), rig.truth(Control.HEATER)) == (goes_to, goes_to)
    assert receipt.outcome is (Outcome.PROVED if goes_to == 0 else Outcome.UNPROVED)
    rig.driver.close()


def test_a_greeting_that_does_not_hold_leaves_the_machine_read_only(hand: ManualClock) -> None:
    class Odd(LinePeer):
        def send_line(self, line: str, delay_s: float = 0.0) -> None:
            super().send_line(line.replace('"version":1', '"version":2'), delay_s)

    driver = registry.make_driver("tcp-line", {"connector": HandConnector(Odd(seed=3, clock=hand)), "port": 1})
    driver.open()
    assert driver.capabilities.controls == {}
    assert driver.identity.extras["parse_errors"] == {"bad_hello": 1}
    assert "version 1 is spoken" in driver.identity.extras["last_error"]
    driver.close()


def test_a_greeting_that_was_garbled_is_heard_when_it_comes_again(hand: ManualClock) -> None:
    rig = LINE_RIGS["tcp-line"](hand)
    rig.peer.act("fault", fault="garbage:count=1")
    rig.driver.open()
    assert rig.driver.make_safe(1.0).reason == "read_only"
    for _ in range(60):
        hand.advance(0.1)
        rig.driver.read()
    assert rig.driver.make_safe(3.0).outcome is Outcome.PROVED
    rig.driver.close()


def test_the_same_seed_clock_and_bytes_give_the_same_bytes() -> None:
    def lived() -> list[bytes]:
        hand = ManualClock(5.0)
        peer = LinePeer(seed=9, clock=hand, faults="garbage@2,nan@3,half_line@4")
        peer.connect()
        taken = []
        for turn in range(100):
            hand.advance(0.1)
            if turn == 30:
                peer.feed(b"SET a heater 80\n")
            taken.append(peer.take())
        return taken

    assert lived() == lived() and len(b"".join(lived())) > 5000
