"""STOP at heat 0: one look that fails is no reason to send steps down into the dark; a second one is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from drivers.port import Control, Outcome
from drivers.tests.test_contract import FACTS, Rig, hand, make_rig, read_soon  # noqa: F401  (two are fixtures)

KINDS = ("bullet-r1", "bullet-r2")


def off_and_about_to_fail(make: Callable[..., Rig], kind: str, fault: str) -> Rig:
    """Heat is at 0, read a tenth of a second ago, when the fault begins."""
    rig = make(kind, faults=fault)
    rig.driver.read()
    rig.driver.make_safe(3.0)
    assert rig.truth(Control.HEATER) == 0
    while rig.machine.status()["device_s"] < 19.9:
        rig.clock.advance(0.1)
        read_soon(rig)
    rig.clock.advance(0.15)
    return rig


@pytest.mark.parametrize("kind", KINDS)
def test_one_failed_look_sends_no_step_below_zero(make_rig: Callable[..., Rig], kind: str) -> None:  # noqa: F811
    rig = off_and_about_to_fail(make_rig, kind, "time_out@20+0.1")
    downs = rig.sent(FACTS[kind].heater_down)
    receipt = rig.driver.make_safe(3.0)
    assert receipt.outcome is Outcome.PROVED
    assert rig.sent(FACTS[kind].heater_down) == downs


@pytest.mark.parametrize("kind", KINDS)
def test_a_machine_that_stays_silent_gets_the_full_count(make_rig: Callable[..., Rig], kind: str) -> None:  # noqa: F811
    rig = off_and_about_to_fail(make_rig, kind, "time_out@20+60")
    downs = rig.sent(FACTS[kind].heater_down)
    receipt = rig.driver.make_safe(4.0)
    assert receipt.outcome is Outcome.UNPROVED and receipt.by_hand
    assert rig.sent(FACTS[kind].heater_down) - downs >= FACTS[kind].heater_max
