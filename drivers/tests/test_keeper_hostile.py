"""What a hostile moment does to a keeper: a disk that stalls, an order that comes late, two acts at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drivers import benches, keeper, keeper_record, stop_token
from drivers.keeper import Keeper, Refused
from drivers.keeper_client import KeeperClient, KeeperUnreachable
from drivers.keeper_config import Limits, make
from drivers.keeper_process import living_keeper
from drivers.keeper_record import Latch
from drivers.keeper_watch import Reason, Watch, should_try_again
from drivers.port import Control, Identity, NotSent, Outcome, Quality, Receipt, SettingOrder, WriteNote
from drivers.tests.test_contract import bullet_rig
from drivers.tests.test_keeper import sent
from drivers.tests.test_keeper_parts import reading, view
from drivers.virtual.clocks import ManualClock
from kernel import clock

pytestmark = pytest.mark.timeout(60)
UP = "3401aaaa"


class SlowDriver:
    """Writes one step down at once, then is busy until ``may_end``."""

    identity = Identity(model="slow")
    capabilities: Any = None

    def __init__(self, hooks: Keeper) -> None:
        self.hooks = hooks
        self.may_end = threading.Event()

    def make_safe(self, deadline_s: float, order_id: str) -> Receipt:
        note = WriteNote("3402aaaa", "heater -1", order_id, 1, 9)
        self.hooks.before_write(note)
        self.hooks.after_write(note, time.monotonic())
        self.may_end.wait(10)
        return Receipt(order_id, Outcome.PROVED)

    def apply(self, order: Any, deadline_s: float) -> Receipt:
        return Receipt(order.order_id, Outcome.PROVED)

    def close(self) -> None: ...


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keeper]:
    """A keeper without its link and watch threads, at a machine that reads heater 5."""
    monkeypatch.setattr(keeper, "make_driver", lambda kind, options, *, hooks: SlowDriver(hooks))
    config = make(tmp_path, machine_id="mch_1", name="one", driver_kind="slow", driver_options={})
    made = Keeper(config)
    made.reading = reading(heater_step=5)
    made.see_token(1, is_beat=True)
    made.stops.start()
    yield made
    made.driver.may_end.set()  # type: ignore[attr-defined]
    made.stops.close()


@pytest.fixture
def stall(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The disk takes nothing until this is set."""
    is_back = threading.Event()
    write, write_private = os.write, keeper_record.write_private

    def stalled(act: Callable[..., Any]) -> Callable[..., Any]:
        def waits(*arguments: Any) -> Any:
            is_back.wait(10)
            return act(*arguments)

        return waits

    monkeypatch.setattr(keeper_record.os, "write", stalled(write))
    monkeypatch.setattr(keeper_record, "write_private", stalled(write_private))
    yield is_back
    is_back.set()


@pytest.fixture
def turned() -> Iterator[ManualClock]:
    made = ManualClock(start_s=1000.0)
    before = clock.install(made)
    yield made
    clock.install(before)


def in_thread(act: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """The thread, and what it came to: a value or the error."""
    came: list[Any] = []

    def run() -> None:
        try:
            came.append(act())
        except Exception as error:
            came.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, came


# -- a disk that stalls --


def test_a_stalled_disk_holds_up_neither_the_first_byte_nor_the_answer(held: Keeper, stall: threading.Event) -> None:
    in_thread(lambda: held.wire_log.append("order", order_id="a"))  # an order is in the middle of its record
    _, came = in_thread(lambda: held.stop("hlt_1", "ann", "STOP"))
    deadline_s = time.monotonic() + 1.0
    while not came and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert came, "STOP waits for the disk"
    assert came[0].has_sent.wait(1.0) and came[0].first_byte_s is not None
    held.driver.may_end.set()  # type: ignore[attr-defined]
    assert came[0].is_done.wait(1.0)
    stall.set()
    held.wire_log.close()
    text = Path(held.config.wire_log).read_text()
    assert text.count('"dir":"out"') == 1 and text.count('"dir":"receipt"') == 1  # recorded, after
    assert keeper_record.LatchFile(held.config.latch_file).latch is not None


def test_a_write_whose_record_stalled_does_not_leave_after_a_stop(held: Keeper, stall: threading.Event) -> None:
    note = WriteNote(UP, "heater +1", "a", 1, 2)
    thread, came = in_thread(lambda: held.before_write(note))
    time.sleep(0.1)
    held.stop("hlt_1", "ann", "STOP")
    stall.set()
    thread.join(5)
    assert isinstance(came[0], NotSent)


# -- two acts at once --


def test_no_order_steps_down_beside_a_running_stop(held: Keeper) -> None:
    """Two counts of downs at once could go below 0, and nobody knows whether the firmware wraps."""
    run = held.stop("hlt_1", "ann", "STOP")
    assert run.has_sent.wait(1.0)
    with pytest.raises(Refused) as refused:
        held.apply(1, SettingOrder("a", Control.HEATER, 2), 1.0)
    assert refused.value.code == "stopping"
    with pytest.raises(NotSent):
        held.before_write(WriteNote("3402aaaa", "heater -1", "b", 1, 1))
    held.driver.may_end.set()  # type: ignore[attr-defined]
    assert run.is_done.wait(1.0)
    assert held.apply(1, SettingOrder("a", Control.HEATER, 2), 1.0).outcome is Outcome.PROVED


def test_a_release_beside_a_stop_leaves_the_latch(held: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    held.latches.set_latch(Latch("hlt_0", "bob", "2026-11-21T08:00:00.000000Z", "STOP", True))
    request = held.stops.request

    def raced(*arguments: Any) -> Any:
        in_thread(lambda: held.release("*", "lead"))[0].join(0.3)
        return request(*arguments)

    monkeypatch.setattr(held.stops, "request", raced)
    held.stop("hlt_1", "ann", "STOP")
    time.sleep(0.1)
    assert held.latches.latch is not None


def test_heat_off_is_not_proved_while_a_step_may_be_about_to_leave(turned: ManualClock) -> None:
    rig = bullet_rig("bullet-r1", turned)
    rig.driver.open()
    rig.driver.is_order_leaving = True  # its thread stands between the last look and the wire
    receipt = rig.driver.make_safe(3.0)
    assert rig.truth(Control.HEATER) == 0
    assert (receipt.outcome, receipt.reason) == (Outcome.UNPROVED, "order_in_flight") and receipt.by_hand
    rig.driver.is_order_leaving = False
    assert rig.driver.make_safe(3.0).outcome is Outcome.PROVED


# -- an order that comes late --


def test_an_order_whose_sender_gave_up_is_not_carried_out_later() -> None:
    """The keeper was frozen: the executor has long settled the order as not sent."""
    with benches.served_machine() as bench:
        pid = living_keeper(bench.config)
        assert pid is not None
        client = KeeperClient(bench.config.socket, 0.3)
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(KeeperUnreachable):
                client.apply(SettingOrder("late", Control.HEATER, 7), token=1, deadline_s=0.4)
            time.sleep(0.3)
        finally:
            os.kill(pid, signal.SIGCONT)
        bench.client.beat(1)
        time.sleep(0.8)
        assert sent(bench, UP) == 0
        assert bench.client.trace("late") == {"known": False, "writes": [], "receipt": None}


def test_an_order_that_waited_for_another_keeps_its_own_deadline(held: Keeper) -> None:
    now_s, now_unix_s = time.monotonic(), time.time()
    for sent_at in ((now_s - 5.0, now_unix_s), (now_s, now_unix_s - 3600.0)):  # waited; or the box was asleep
        with pytest.raises(Refused) as refused:
            held.apply(1, SettingOrder("a", Control.FAN, 2), 4.0, sent_at=sent_at)
        assert refused.value.code == "too_late"


# -- telemetry that stands still --


def test_the_same_frame_for_five_seconds_is_as_stale_as_none() -> None:
    watch = Watch(Limits(), "hold_and_alarm")
    frozen = {"state": Quality.STALE, "heater_step": Quality.STALE}
    assert watch.tick(view(100.0, reading(monotonic_s=100.0))) is None
    assert watch.tick(view(104.9, reading(monotonic_s=104.9, quality=frozen))) is None
    assert watch.tick(view(105.1, reading(monotonic_s=105.1, quality=frozen))) is Reason.STALE_READING


def test_a_machine_that_is_off_may_stand_still() -> None:
    watch = Watch(Limits(), "hold_and_alarm")
    frozen = {"state": Quality.STALE, "heater_step": Quality.STALE}
    assert watch.tick(view(100.0, reading(monotonic_s=100.0, heater_step=0))) is None
    assert watch.tick(view(110.0, reading(monotonic_s=110.0, heater_step=0, quality=frozen))) is None


def test_a_stop_that_found_no_device_goes_on_the_moment_there_is_one() -> None:
    fresh = view(100.0, reading(monotonic_s=100.0), link_up_for_s=0.2)
    assert should_try_again(fresh, is_proved=False, ended_ago_s=0.5)  # the device came after that attempt
    assert not should_try_again(fresh, is_proved=False, ended_ago_s=0.1)  # it was there: give it a rest
    assert not should_try_again(fresh, is_proved=True, ended_ago_s=0.5)


# -- tokens --


def test_half_characters_in_a_token_are_no_token() -> None:
    with pytest.raises(stop_token.BadToken):
        stop_token.verify(bytes(32), "v1.mch_1.usr_1\ud800.1700000000.00", machine_id="mch_1", now_unix=0.0)


def test_a_step_up_that_is_not_echoed_yet_does_not_make_stop_wait(turned: ManualClock) -> None:
    """The last reading says 0, and an order's first step up from there has just left."""
    rig = bullet_rig("bullet-r1", turned)
    rig.driver.open()
    assert rig.driver.make_safe(3.0).outcome is Outcome.PROVED
    turned.advance(1.0)
    assert rig.driver.read().heater_step == 0  # type: ignore[attr-defined]
    rig.driver.send_order(bytes.fromhex(UP), order_id="a", step=1, steps=3)  # type: ignore[attr-defined]
    begun_s = turned.monotonic()
    receipt = rig.driver.make_safe(3.0)
    assert receipt.first_byte_monotonic_s is not None
    assert receipt.writes[0].meaning == "heater -1" and receipt.first_byte_monotonic_s - begun_s < 0.05
    assert receipt.outcome is Outcome.PROVED and rig.truth(Control.HEATER) == 0
    assert rig.sent("3402aaaa") == 6  # five before, and the one: not a step below 0
