"""What a verified setting did to the beans, against the twin's curve without it; and several what-ifs at once."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from commands.models import Execution, ExecutionStage, Proposal
from commands.records import effects
from commands.tests.rows import AT, machine_row, person_row
from commands.tests.test_outlook import open_roast
from kernel.models import StreamEvent
from roasts.models import Machine, Roast, Sample

pytestmark = pytest.mark.django_db
MOVED_S = 200  # after charge


def at(second: float) -> dt.datetime:
    return AT + dt.timedelta(seconds=second)


def go_on(roast: Roast, until_s: int, *, heater: int = 5, rate_c_per_s: float = 0.1, fan: int = 2) -> None:
    """Samples from MOVED_S on, at the order's setting."""
    begun_c = 101.0 + 0.23 * (MOVED_S - 55)
    Sample.objects.bulk_create(
        Sample(
            roast=roast, elapsed_ms=second * 1000, sequence=second + 1, at=at(second), state="roasting",
            bean_temp_c=begun_c + rate_c_per_s * (second - MOVED_S), infrared_temp_c=175.0, heater_step=heater,
            fan_step=fan if second < MOVED_S + 30 else 2, drum_step=9, voltage_v=200,
        )
        for second in range(MOVED_S, until_s)
    )  # fmt: skip


@pytest.fixture
def machine() -> Machine:
    return machine_row()


@pytest.fixture
def roast(machine: Machine) -> Roast:
    """200 s of a roast at heater 7."""
    return open_roast(machine, seconds=MOVED_S)


@pytest.fixture
def execution(roast: Roast) -> Execution:
    """Heater 7 → 5, confirmed at 200 s."""
    machine = roast.machine
    order = Proposal.objects.create(
        organization=machine.organization, machine=machine, roast=roast, order_type="SET_POWER", control="heater",
        target_step=5, from_step=7, reasoning="less", status="PROPOSED", decision="ALLOW", digest="x",
        proposer_user=person_row("anna", "operator"), proposed_at=at(MOVED_S - 1), expires_at=at(MOVED_S + 60),
    )  # fmt: skip
    Proposal.objects.filter(pk=order.pk).update(status="APPROVED")
    made = Execution.objects.create(
        proposal=order, machine=machine, lease_token=1, from_step=7, claimed_at=at(MOVED_S - 0.5),
        first_byte_at=at(MOVED_S - 0.4), outcome="proved",
    )  # fmt: skip
    Proposal.objects.filter(pk=order.pk).update(status="EXECUTING")
    Proposal.objects.filter(pk=order.pk).update(status="COMPLETED")
    return made


def note(second: float) -> int:
    return effects.note_due_effects(now=at(second))


def effect_of(execution: Execution) -> dict[str, Any]:
    execution.refresh_from_db()
    return dict(execution.effect)


def test_measured_against_the_twins_curve_without_it(roast: Roast, execution: Execution) -> None:
    go_on(roast, MOVED_S + 95)
    assert note(MOVED_S + 95) == 1
    found = effect_of(execution)
    assert found["window_s"] == [60.0, 90.0] and found["samples"] == 31
    assert found["expected_with_c"] < found["expected_without_c"], "less heat ends cooler"
    assert found["measured_c"] == pytest.approx(101.0 + 0.23 * 145 + 0.1 * 74, abs=0.01)
    assert found["moved_meanwhile"] == []
    assert isinstance(found["is_extrapolating"], bool) and "without it" in found["says"]
    assert ExecutionStage.objects.get(execution=execution, stage="effect").detail == found
    assert StreamEvent.objects.get(kind="effect").payload["effect"]["samples"] == 31


def test_it_is_shown_and_changes_nothing_else(roast: Roast, execution: Execution) -> None:
    go_on(roast, MOVED_S + 95, rate_c_per_s=0.6)  # hotter than anybody expected
    assert note(MOVED_S + 95) == 1
    order = Proposal.objects.get(pk=execution.proposal_id)
    assert (order.status, order.outcome_code) == ("COMPLETED", "")
    assert effect_of(execution)["measured_c"] > effect_of(execution)["expected_with_c"]


def test_noted_once(roast: Roast, execution: Execution) -> None:
    go_on(roast, MOVED_S + 95)
    assert [note(MOVED_S + 95), note(MOVED_S + 110)] == [1, 0]
    assert ExecutionStage.objects.filter(stage="effect").count() == 1


def test_not_before_the_window_is_over(roast: Roast, execution: Execution) -> None:
    go_on(roast, MOVED_S + 89)
    assert note(MOVED_S + 95) == 0 and effect_of(execution) == {}
    Sample.objects.create(roast=roast, elapsed_ms=(MOVED_S + 89) * 1000, sequence=900, at=at(MOVED_S + 89))
    assert note(MOVED_S + 95) == 1, "90 s after the last reading before the order"


def test_another_control_that_moved_meanwhile_is_named(roast: Roast, execution: Execution) -> None:
    go_on(roast, MOVED_S + 95, fan=4)
    note(MOVED_S + 95)
    assert effect_of(execution)["moved_meanwhile"] == ["fan"]
    assert "not of this order alone" in effect_of(execution)["says"]


def test_a_roast_that_ended_before_says_so_and_is_not_asked_again(roast: Roast, execution: Execution) -> None:
    go_on(roast, MOVED_S + 40)
    Roast.objects.filter(pk=roast.pk).update(status="finished", ended_at=at(MOVED_S + 40))
    assert [note(MOVED_S + 60), note(MOVED_S + 75)] == [1, 0]
    assert effect_of(execution) == {"says": "The roast ended before the window was over."}


def test_a_machine_without_a_twin_says_so(roast: Roast, execution: Execution) -> None:
    Machine.objects.update(driver_kind="tcp-line")
    go_on(roast, MOVED_S + 95)
    assert note(MOVED_S + 95) == 1
    assert "no twin" in effect_of(execution)["says"]


def test_an_order_of_which_nothing_left_has_no_effect(roast: Roast, execution: Execution) -> None:
    go_on(roast, MOVED_S + 95)
    Execution.objects.filter(pk=execution.pk).update(first_byte_at=None)
    assert note(MOVED_S + 95) == 0

