"""Called off on the wire, rolled back, compensated, a doubt resolved by a person: through the services."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from django.db import DatabaseError, transaction

from commands import services, situation
from commands.models import Attendance, Execution, ExecutionStage, Plan, Proposal
from commands.plans import services_plans, services_rollback
from commands.records import doubts
from commands.tests.conftest import set_reading
from commands.tests.test_services_plans import (  # noqa: F401
    DRUM,
    FAN,
    POWER,
    approve,
    carry_out,
    claim,
    fresh,
    held_plan,
    orders_of,
    plan_of,
    statuses,
)
from drivers.port import Outcome, Receipt
from kernel import errors
from kernel.models import AuditEntry, StreamEvent

pytestmark = pytest.mark.django_db


def ended(proposal: Proposal, now: dt.datetime, outcome: Outcome = Outcome.PROVED, **values: Any) -> Proposal:
    """Claimed and concluded with that receipt."""
    execution = claim(proposal, now)
    assert execution is not None
    return services.conclude_execution(execution, Receipt(proposal.pk, outcome, **values), now=now)


@pytest.fixture
def on_wire(people: Any, propose: Any, now: dt.datetime) -> tuple[Proposal, Execution]:
    """The operator's fan 4 → 9, claimed."""
    order = propose(people.principal("operator"), "SET_FAN", 9)
    execution = claim(order, now)
    assert execution is not None
    order.refresh_from_db()
    return order, execution


# --- called off on the wire


def test_an_order_called_off_on_the_wire_ends_by_its_receipt(on_wire: Any, people: Any, now: dt.datetime) -> None:
    order, execution = on_wire
    asked = services.abort_proposal(people.principal("second_operator"), order, text="wrong", now=now)
    assert (asked.status, asked.abort_requested_by) == ("EXECUTING", people.second_operator)
    assert services.is_abort_requested(order.pk)
    assert "wrong" in str(AuditEntry.objects.get(subject_id=order.pk, verb="abort_requested").payload)
    receipt = Receipt(order.pk, Outcome.DECLINED, "aborted", "called off", value_before=4, value_after=6)
    done = services.conclude_execution(execution, receipt, now=now)
    assert (done.status, done.outcome_code, done.actual_step) == ("ABORTED", "aborted", 6)
    assert ExecutionStage.objects.filter(execution=execution).last().stage == "aborted"  # type: ignore[union-attr]
    last = done.transitions.order_by("-id").first()  # type: ignore[attr-defined]
    assert (last.actor_kind, last.from_status, last.to_status) == ("system", "EXECUTING", "ABORTED")
    with pytest.raises(errors.Conflict) as refusal:
        services.abort_proposal(people.principal("operator"), done, now=now)
    assert refusal.value.code == "not_abortable"


def test_asking_twice_is_asking_once(on_wire: Any, people: Any, now: dt.datetime) -> None:
    order, _execution = on_wire
    first = services.abort_proposal(people.principal("second_operator"), order, now=now)
    again = services.abort_proposal(people.principal("operator"), order, now=now + dt.timedelta(seconds=1))
    assert (again.abort_requested_at, again.abort_requested_by) == (first.abort_requested_at, people.second_operator)
    assert AuditEntry.objects.filter(subject_id=order.pk, verb="abort_requested").count() == 1


def test_when_everything_had_left_it_is_completed_and_says_so(on_wire: Any, people: Any, now: dt.datetime) -> None:
    order, execution = on_wire
    services.abort_proposal(people.principal("operator"), order, now=now)
    done = services.conclude_execution(
        execution, Receipt(order.pk, Outcome.PROVED, value_before=4, value_after=9), now=now
    )
    assert done.status == "COMPLETED" and "everything had been sent" in done.outcome_message
    assert done.actual_step == 9


@pytest.mark.parametrize(
    ("outcome", "reason", "status"),
    [
        (Outcome.NOT_SENT, "aborted", "ABORTED"),
        (Outcome.IN_DOUBT, "aborted", "IN_DOUBT"),
        (Outcome.DECLINED, "stopped", "FAILED"),
        (Outcome.DECLINED, "contradicted", "FAILED"),
    ],
)
def test_what_is_not_known_is_never_called_aborted(
    outcome: Outcome, reason: str, status: str, on_wire: Any, people: Any, now: dt.datetime
) -> None:
    order, execution = on_wire
    services.abort_proposal(people.principal("operator"), order, now=now)
    assert services.conclude_execution(execution, Receipt(order.pk, outcome, reason), now=now).status == status


def test_an_agents_order_called_off_in_mid_execution_counts_as_a_move(
    held: Proposal, people: Any, now: dt.datetime
) -> None:
    services.approve_proposal(people.principal("operator"), held, digest=held.digest, now=now)
    execution = claim(held, now)
    assert execution is not None
    services.abort_proposal(people.principal("operator"), held, now=now)
    services.conclude_execution(execution, Receipt(held.pk, Outcome.DECLINED, "aborted"), now=now)
    draft = dataclasses.replace(situation.order_of(held), proposal_id="")
    recent = situation.gather(held.machine_id, draft, None, now).recent
    assert (recent.last_on_control_at, recent.day_count, recent.failed_count) == (now, 1, 0)


def test_a_receipt_of_an_order_nobody_called_off_aborts_nothing(on_wire: Any, now: dt.datetime) -> None:
    order, execution = on_wire
    done = services.conclude_execution(execution, Receipt(order.pk, Outcome.DECLINED, "aborted"), now=now)
    assert done.status == "FAILED"


def test_the_database_aborts_no_order_on_the_wire_unasked(on_wire: Any) -> None:
    order, _execution = on_wire
    with pytest.raises(DatabaseError, match="aborted"), transaction.atomic():
        Proposal.objects.filter(pk=order.pk).update(status="ABORTED")


def test_a_doubt_is_not_called_off(on_wire: Any, people: Any, now: dt.datetime) -> None:
    order, execution = on_wire
    services.mark_in_doubt(execution, code="executor_lost", message="gone", now=now)
    with pytest.raises(errors.Conflict) as refusal:
        services.abort_proposal(people.principal("operator"), order, now=now)
    assert refusal.value.code == "in_doubt"


@pytest.mark.parametrize("who", ["viewer", "judge"])
def test_only_an_operator_calls_off_what_is_on_the_wire(who: str, on_wire: Any, people: Any, now: dt.datetime) -> None:
    with pytest.raises(errors.Forbidden):
        services.abort_proposal(people.principal(who), on_wire[0], now=now)
    assert not services.is_abort_requested(on_wire[0].pk)


def test_an_agent_does_not_call_off_its_own_order_on_the_wire(
    held: Proposal, people: Any, agent_principal: Any, now: dt.datetime
) -> None:
    services.approve_proposal(people.principal("operator"), held, digest=held.digest, now=now)
    assert claim(held, now) is not None
    with pytest.raises(errors.Forbidden):
        services.abort_proposal(agent_principal, held, now=now)


# --- rolled back


@pytest.fixture
def done(people: Any, propose: Any, machine: Any, now: dt.datetime) -> Proposal:
    """The operator's fan 4 → 6, read back; the machine reads 6."""
    order = ended(propose(people.principal("operator"), "SET_FAN", 6), now, value_before=4, value_after=6)
    set_reading(machine, now, fan_step=6)
    return order


def back(people: Any, proposal: Proposal, now: dt.datetime, who: str = "operator") -> Proposal:
    return services_rollback.roll_back_order(people.principal(who), proposal, reasoning="It was too much.", now=now)


def refusal_code(act: Callable[[], Any]) -> str:
    with pytest.raises(errors.Conflict) as refusal:
        act()
    return refusal.value.code


def test_back_to_where_it_was_read_before(done: Proposal, people: Any, now: dt.datetime) -> None:
    order = back(people, done, now)
    assert (order.status, order.order_type, order.from_step, order.target_step) == ("APPROVED", "SET_FAN", 6, 4)
    assert (order.rolls_back_id, order.proposer_user) == (done.pk, people.operator)
    assert "6 → 4" in order.reasoning and "It was too much." in order.reasoning and done.pk in order.reasoning


def test_a_move_that_ended_half_way_is_taken_back_from_where_it_stands(
    people: Any, propose: Any, machine: Any, now: dt.datetime
) -> None:
    order = propose(people.principal("operator"), "SET_FAN", 12)
    partial = ended(order, now, Outcome.DECLINED, reason="partial", value_before=4, value_after=7)
    set_reading(machine, now, fan_step=7)
    assert (partial.status, back(people, partial, now).target_step) == ("FAILED", 4)


def test_an_agents_way_back_is_judged_as_the_agents(
    done: Proposal, agent_principal: Any, granted: Any, now: dt.datetime
) -> None:
    order = services_rollback.roll_back_order(agent_principal, done, reasoning="It was too much.", now=now)
    assert (order.status, order.rolls_back_id, order.approver) == ("PENDING_APPROVAL", done.pk, None)


def test_an_agent_without_a_grant_only_recommends_the_way_back(
    done: Proposal, agent_principal: Any, now: dt.datetime
) -> None:
    order = services_rollback.roll_back_order(agent_principal, done, reasoning="x", now=now)
    assert order.status == "REJECTED" and services.is_advice(order)


def test_more_heat_is_more_heat_also_on_the_way_back(
    people: Any, propose: Any, machine: Any, agent_principal: Any, granted: Any, now: dt.datetime
) -> None:
    down = ended(propose(people.principal("operator"), target=3), now, value_before=6, value_after=3)
    set_reading(machine, now, heater_step=3, are_beans_proved=False)
    order = services_rollback.roll_back_order(agent_principal, down, reasoning="x", now=now)
    codes = {reason["code"] for reason in order.reasons}
    assert order.status == "REJECTED" and {"beans_not_proved", "change_too_large"} <= codes
    set_reading(machine, now - dt.timedelta(seconds=2), heater_step=3)
    stale = back(people, down, now)
    assert stale.status == "REJECTED", "a person's way back to more heat needs a fresh reading, too"


def test_moved_since_by_a_hand(done: Proposal, people: Any, machine: Any, now: dt.datetime) -> None:
    set_reading(machine, now, fan_step=7)
    with pytest.raises(errors.Conflict) as refusal:
        back(people, done, now)
    assert refusal.value.code == "moved_since" and "6" in refusal.value.message and "7" in refusal.value.message


def test_nothing_to_take_back(people: Any, propose: Any, held: Proposal, machine: Any, now: dt.datetime) -> None:
    unsent = ended(propose(people.principal("operator"), "SET_DRUM", 6), now, Outcome.NOT_SENT)
    there = propose(people.principal("operator"), "SET_FAN", 4)
    there = ended(there, now, value_before=4, value_after=4)
    unread = ended(propose(people.principal("operator"), "SET_FAN", 5), now, value_before=None, value_after=5)
    Execution.objects.filter(proposal=unread).update(receipt={"value_before": None})
    set_reading(machine, now, fan_step=5)
    state = propose(people.principal("operator"), "COOL", None)
    assert refusal_code(lambda: back(people, unsent, now)) == "nothing_moved"
    assert refusal_code(lambda: back(people, there, now)) == "nothing_moved"
    assert refusal_code(lambda: back(people, unread, now)) == "nothing_confirmed"
    assert refusal_code(lambda: back(people, state, now)) == "not_a_setting"
    assert refusal_code(lambda: back(people, held, now)) == "not_settled"
    assert not Proposal.objects.filter(rolls_back__isnull=False).exists()


def test_another_organisation_takes_nothing_back(done: Proposal, people: Any, now: dt.datetime) -> None:
    with pytest.raises(errors.NotFound):
        back(people, done, now, "stranger")


# --- a plan taken back


@pytest.fixture
def stopped(held_plan: Plan, people: Any, machine: Any, now: dt.datetime) -> Plan:  # noqa: F811
    """Heater 6 → 5 and fan 4 → 5 confirmed; heater 5 → 4 never sent."""
    plan = approve(people, held_plan, now)
    carry_out(plan, now)
    carry_out(plan, now)
    carry_out(plan, now, Outcome.NOT_SENT, reason="deadline", value_after=None)
    assert (fresh(plan).status, statuses(plan)) == ("FAILED", ["COMPLETED", "COMPLETED", "FAILED"])
    return fresh(plan)


def taken_back(principal: Any, plan: Plan, now: dt.datetime) -> Plan:
    return services_rollback.compensate_plan(principal, plan, reasoning="Half is worse.", now=now)


def test_a_plan_that_stopped_is_taken_back_the_last_first(stopped: Plan, people: Any, now: dt.datetime) -> None:
    plan = taken_back(people.principal("operator"), stopped, now)
    assert (plan.status, plan.compensates_id) == ("APPROVED", stopped.pk)
    first, second = orders_of(plan)
    assert (first.control, first.from_step, first.target_step) == ("fan", 5, 4)
    assert (second.control, second.from_step, second.target_step) == ("heater", 5, 6)
    assert [order.rolls_back_id for order in (first, second)] == [order.pk for order in orders_of(stopped)[1::-1]]
    carry_out(plan, now)
    carry_out(plan, now)
    assert fresh(plan).status == "COMPLETED"
    assert refusal_code(lambda: taken_back(people.principal("operator"), stopped, now)) == "already_compensated"


def test_an_agents_compensation_is_held(stopped: Plan, agent_principal: Any, now: dt.datetime) -> None:
    plan = taken_back(agent_principal, stopped, now)
    assert (plan.status, statuses(plan)) == ("PENDING_APPROVAL", ["PENDING_APPROVAL"] * 2)


def test_a_plan_whose_controls_were_moved_since_is_not_taken_back(
    stopped: Plan, people: Any, machine: Any, now: dt.datetime
) -> None:
    set_reading(machine, now, heater_step=5, fan_step=9)
    assert refusal_code(lambda: taken_back(people.principal("operator"), stopped, now)) == "moved_since"


def test_what_did_not_stop_half_way_is_not_taken_back(
    held_plan: Plan, people: Any, plan_of: Any, now: dt.datetime  # noqa: F811
) -> None:
    operator = people.principal("operator")
    assert refusal_code(lambda: taken_back(operator, held_plan, now)) == "not_stopped"
    services_plans.abort_plan(operator, held_plan, now=now)
    assert refusal_code(lambda: taken_back(operator, held_plan, now)) == "nothing_to_compensate"


# --- a doubt, resolved by a person


@pytest.fixture
def doubt(people: Any, propose: Any, machine: Any, now: dt.datetime) -> Proposal:
    """The operator's fan 4 → 9, in doubt for 20 s; the machine is silent; the operator is there."""
    order = propose(people.principal("operator"), "SET_FAN", 9, now=now)
    execution = claim(order, now)
    assert execution is not None
    services.mark_in_doubt(execution, code="keeper_unreachable", message="gone", now=now)
    present(people, machine, now + dt.timedelta(seconds=15))
    order.refresh_from_db()
    return order


def present(people: Any, machine: Any, at: dt.datetime, who: str = "operator") -> None:
    Attendance.objects.create(
        organization=machine.organization, machine=machine, user=getattr(people, who), at=at
    )


def resolve(people: Any, order: Proposal, at: dt.datetime, step: int | None = 9, who: str = "operator") -> Proposal:
    return doubts.resolve_doubt(
        people.principal(who), order, reads_step=step, reads_state=None, evidence="the panel", now=at
    )


@pytest.mark.parametrize(
    ("step", "status", "code"), [(9, "COMPLETED", "resolved_by_person"), (6, "FAILED", "not_reached")]
)
def test_a_person_at_the_machine_settles_a_doubt(
    step: int, status: str, code: str, doubt: Proposal, people: Any, now: dt.datetime
) -> None:
    at = now + dt.timedelta(seconds=20)
    settled = resolve(people, doubt, at, step)
    assert (settled.status, settled.outcome_code, settled.actual_step) == (status, code, step)
    assert "the panel" in settled.outcome_message
    last = settled.transitions.order_by("-id").first()  # type: ignore[attr-defined]
    assert (last.actor_kind, last.actor_name) == ("person", "operator")
    assert AuditEntry.objects.filter(subject_id=doubt.pk, verb="doubt_resolved_by_person").count() == 1
    assert StreamEvent.objects.filter(subject_id=doubt.pk).last().payload["status"] == status  # type: ignore[union-attr]
    assert ExecutionStage.objects.filter(execution__proposal=doubt).last().stage == "resolved"  # type: ignore[union-attr]
    assert refusal_code(lambda: resolve(people, doubt, at)) == "not_in_doubt"


def test_nobodys_word_goes_against_a_fresh_reading(
    doubt: Proposal, people: Any, machine: Any, now: dt.datetime
) -> None:
    at = now + dt.timedelta(seconds=20)
    set_reading(machine, at - dt.timedelta(seconds=3), fan_step=6)
    with pytest.raises(errors.Conflict) as refusal:
        resolve(people, doubt, at, 9)
    assert refusal.value.code == "disagrees_with_reading"
    assert (refusal.value.context["said"], refusal.value.context["read"]) == (9, 6)
    assert resolve(people, doubt, at, 6).status == "FAILED", "agreeing with it is heard"


@pytest.mark.parametrize("change", [{"age_s": 3.001}, {"link": "down"}, {"fan_step": None}])
def test_a_reading_that_says_nothing_does_not_stand_against_a_person(
    change: dict[str, Any], doubt: Proposal, people: Any, machine: Any, now: dt.datetime
) -> None:
    at = now + dt.timedelta(seconds=20)
    values = {"fan_step": 6, **change}
    set_reading(machine, at - dt.timedelta(seconds=values.pop("age_s", 0.0)), **values)
    assert resolve(people, doubt, at, 9).status == "COMPLETED"


def test_bytes_may_still_be_leaving(doubt: Proposal, people: Any, machine: Any, now: dt.datetime) -> None:
    present(people, machine, now)
    assert refusal_code(lambda: resolve(people, doubt, now + dt.timedelta(seconds=9.4))) == "still_under_way"
    assert resolve(people, doubt, now + dt.timedelta(seconds=9.5)).status == "COMPLETED"


def test_who_has_not_said_that_they_are_there_has_not_looked(doubt: Proposal, people: Any, now: dt.datetime) -> None:
    at = now + dt.timedelta(seconds=20)
    assert refusal_code(lambda: resolve(people, doubt, at, who="second_operator")) == "not_attended"
    late = now + dt.timedelta(seconds=15 + 300)
    assert refusal_code(lambda: resolve(people, doubt, late + dt.timedelta(milliseconds=1))) == "not_attended"
    assert resolve(people, doubt, late).status == "COMPLETED"


@pytest.mark.parametrize("who", ["viewer", "judge"])
def test_only_an_operator_resolves(who: str, doubt: Proposal, people: Any, now: dt.datetime) -> None:
    with pytest.raises(errors.Forbidden):
        resolve(people, doubt, now + dt.timedelta(seconds=20), who=who)


def test_an_agent_resolves_nothing(doubt: Proposal, agent_principal: Any, now: dt.datetime) -> None:
    with pytest.raises(errors.Forbidden):
        doubts.resolve_doubt(
            agent_principal, doubt, reads_step=9, reads_state=None, evidence="x", now=now + dt.timedelta(seconds=20)
        )


@pytest.mark.parametrize(("step", "is_taken"), [(12, True), (13, False), (0, True), (-1, False)])
def test_a_step_that_the_control_does_not_have_is_no_evidence(
    step: int, is_taken: bool, doubt: Proposal, people: Any, now: dt.datetime
) -> None:
    at = now + dt.timedelta(seconds=20)
    if is_taken:
        assert resolve(people, doubt, at, step).status == "FAILED"
        return
    with pytest.raises(errors.Unprocessable) as refusal:
        resolve(people, doubt, at, step)
    assert refusal.value.code == "no_such_step"
    doubt.refresh_from_db()
    assert doubt.status == "IN_DOUBT"


def test_a_setting_is_resolved_by_a_step_and_by_nothing_else(doubt: Proposal, people: Any, now: dt.datetime) -> None:
    for step, state in ((None, "cooling"), (None, None), (9, "cooling")):
        with pytest.raises(errors.Malformed):
            doubts.resolve_doubt(
                people.principal("operator"), doubt, reads_step=step, reads_state=state, evidence="x", now=now
            )


@pytest.mark.parametrize(("state", "status"), [("cooling", "COMPLETED"), ("roasting", "FAILED")])
def test_a_state_order_is_resolved_by_a_state(
    state: str, status: str, people: Any, propose: Any, machine: Any, now: dt.datetime
) -> None:
    order = propose(people.principal("operator"), "COOL", None)
    execution = claim(order, now)
    assert execution is not None
    services.mark_in_doubt(execution, code="no_state_change", message="silent", now=now)
    present(people, machine, now)
    settled = doubts.resolve_doubt(
        people.principal("operator"), order, reads_step=None, reads_state=state, evidence="looked",
        now=now + dt.timedelta(seconds=20),
    )  # fmt: skip
    assert settled.status == status
