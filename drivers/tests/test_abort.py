"""An order called off: before its first byte nothing leaves, in mid-order nothing more; it says where things stand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from drivers.keeper_client import KeeperRefused
from drivers.port import Control, MachineState, Outcome, Reading, SettingOrder, StateOrder, WriteNote
from drivers.tests.test_contract import Rig, corners, hand, make_rig  # noqa: F401
from drivers.tests.test_contract_lines import LINE_RIGS
from drivers.tests.test_keeper import DOWN, UP, bench, order, panel, sent, serve  # noqa: F401
from drivers.virtual.clocks import ManualClock


class CallsOff:
    """Calls the order off as its ``step``-th write leaves (0: before it begins); ``also`` happens then, too."""

    def __init__(self, driver: Any, step: int, also: Callable[[], Any] = lambda: None) -> None:
        self.driver, self.step, self.also = driver, step, also
        if step == 0:
            self.act("o")

    def act(self, order_id: str) -> None:
        self.driver.abort(order_id)
        self.also()

    def before_write(self, note: WriteNote) -> None: ...

    def after_write(self, note: WriteNote, monotonic_s: float) -> None:
        if note.order_id == "o" and note.step == self.step:
            self.act("o")

    def on_reading(self, reading: Reading) -> None: ...


@corners
@pytest.mark.parametrize("step", [0, 1, 2, 3])
def test_an_order_called_off_writes_nothing_more_and_says_where_it_stands(
    make_rig: Callable[..., Rig], kind: str, corner: Any, step: int,  # noqa: F811
) -> None:
    rig = make_rig(kind, settings=corner.settings)
    rig.driver.hooks = CallsOff(rig.driver, step)  # type: ignore[attr-defined]
    before = rig.truth(Control.HEATER)
    receipt = rig.driver.apply(SettingOrder("o", Control.HEATER, before + 4, from_step=before), 5.0)
    assert rig.sent(rig.facts.heater_up) == len(receipt.writes) == step
    assert (receipt.outcome, receipt.reason) == (Outcome.DECLINED if step else Outcome.NOT_SENT, "aborted")
    assert receipt.value_after == rig.truth(Control.HEATER)
    if not corner.settings.get("max_steps_per_s"):
        assert rig.truth(Control.HEATER) == before + step
    assert (receipt.proof is not None) is (step > 0)
    rig.driver.hooks = CallsOff(rig.driver, -1)  # type: ignore[attr-defined]
    later = rig.driver.apply(SettingOrder("p", Control.HEATER, before), 5.0)
    assert later.outcome is Outcome.PROVED, "what was called off stops no other order"


@corners
def test_an_order_whose_bytes_have_all_left_is_carried_out(
    make_rig: Callable[..., Rig], kind: str, corner: Any,  # noqa: F811
) -> None:
    rig = make_rig(kind, settings=corner.settings)
    rig.driver.hooks = CallsOff(rig.driver, 2)  # type: ignore[attr-defined]
    before = rig.truth(Control.HEATER)
    receipt = rig.driver.apply(SettingOrder("o", Control.HEATER, before - 2), 5.0)
    assert (receipt.outcome, rig.truth(Control.HEATER)) == (Outcome.PROVED, before - 2)


@pytest.mark.parametrize("kind", ["bullet-r1", "bullet-r2"])
def test_stop_in_the_same_moment_wins(make_rig: Callable[..., Rig], kind: str) -> None:  # noqa: F811
    rig = make_rig(kind)
    safe: list[Any] = []
    rig.driver.hooks = CallsOff(rig.driver, 2, lambda: safe.append(rig.driver.make_safe(3.0)))  # type: ignore[attr-defined]
    receipt = rig.driver.apply(SettingOrder("o", Control.HEATER, 9), 5.0)
    assert (receipt.outcome, receipt.reason) == (Outcome.DECLINED, "contradicted"), "it says what STOP did to it"
    assert rig.truth(Control.HEATER) == 0 and rig.sent(rig.facts.heater_up) == 2
    assert len(safe) == 1


@pytest.mark.parametrize("kind", ["bullet-r1", "bullet-r2"])
def test_a_machine_that_went_silent_leaves_the_called_off_order_in_doubt(
    make_rig: Callable[..., Rig], kind: str,  # noqa: F811
) -> None:
    rig = make_rig(kind)
    rig.driver.hooks = CallsOff(  # type: ignore[attr-defined]
        rig.driver, 2, lambda: rig.machine.act("fault", fault="unplug")
    )
    receipt = rig.driver.apply(SettingOrder("o", Control.HEATER, 9), 5.0)
    assert receipt.outcome is Outcome.IN_DOUBT and len(receipt.writes) == 2


@pytest.mark.parametrize("kind", ["bullet-r1", "bullet-r2"])
def test_a_button_called_off_is_not_pressed(make_rig: Callable[..., Rig], kind: str) -> None:  # noqa: F811
    rig = make_rig(kind)
    rig.driver.abort("o")
    receipt = rig.driver.apply(StateOrder("o", MachineState.COOLING), 5.0)
    assert (receipt.outcome, receipt.reason, rig.sent(rig.facts.prs)) == (Outcome.DECLINED, "aborted", 0)


@pytest.mark.parametrize("kind", LINE_RIGS)
def test_a_line_machine_is_told_nothing_of_an_order_called_off(hand: ManualClock, kind: str) -> None:  # noqa: F811
    rig = LINE_RIGS[kind](hand)
    rig.driver.open()
    rig.driver.abort("o")
    receipt = rig.driver.apply(SettingOrder("o", Control.HEATER, 90), 4.0)
    assert (receipt.outcome, receipt.reason, receipt.writes, rig.heats()) == (Outcome.NOT_SENT, "aborted", (), [])
    rig.driver.close()


def test_a_keeper_carries_the_word_to_an_order_that_comes_after_it(bench: Any, panel: Any) -> None:  # noqa: F811
    assert bench.client.abort("a", token=1) == {"known": False, "is_over": False}
    receipt = bench.client.apply(order("a", 9, from_step=5), token=1)
    assert (receipt.outcome, receipt.reason) == (Outcome.NOT_SENT, "aborted")
    assert bench.client.abort("a", token=1) == {"known": True, "is_over": True}
    assert (sent(bench, UP), sent(bench, DOWN), panel.status()["heater_step"]) == (0, 0, 5)


def test_a_keeper_hears_only_the_loop_that_owns_it(bench: Any) -> None:  # noqa: F811
    bench.client.hello(3)
    with pytest.raises(KeeperRefused) as refused:
        bench.client.abort("a", token=2)
    assert refused.value.code == "fenced"
    assert bench.client.apply(order("a", 6), token=3).outcome is Outcome.PROVED, "a fenced loop calls nothing off"
