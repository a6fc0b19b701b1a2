"""Plans through the services, on the real database: filed, judged, approved as one, run in turn, stopped."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.db import DatabaseError, transaction

from commands import services, situation
from commands.models import Execution, MachineLease, Plan, Proposal
from commands.plans import services_plans
from commands.plans.services_plans import PlannedOrder
from commands.rules.conversion import OrderType
from commands.tests.conftest import set_reading
from drivers.port import Outcome, Receipt
from kernel import errors
from kernel.models import AuditEntry, StreamEvent
from roasts.models import ControlLimit, Machine

pytestmark = pytest.mark.django_db
POWER, FAN, DRUM, COOL = OrderType.SET_POWER, OrderType.SET_FAN, OrderType.SET_DRUM, OrderType.COOL


def wanted(*orders: tuple[OrderType, float | None]) -> list[PlannedOrder]:
    return [PlannedOrder(kind, value, "step" if value is not None else "") for kind, value in orders]


@pytest.fixture
def plan_of(machine: Any, now: dt.datetime) -> Any:
    """`plan_of(principal, (POWER, 5), (FAN, 5))`: a plan proposed."""

    def propose(principal: Any, *orders: tuple[OrderType, float | None], **more: Any) -> Plan:
        return services_plans.propose_plan(
            principal, machine=machine, title="Ease off", reasoning="It rises too fast.", orders=wanted(*orders),
            now=more.pop("now", now), **more,
        )  # fmt: skip

    return propose


@pytest.fixture
def held_plan(granted: Any, agent_principal: Any, plan_of: Any) -> Plan:
    """The agent's heater 6 → 5, fan 4 → 5, heater 5 → 4; held."""
    return plan_of(agent_principal, (POWER, 5), (FAN, 5), (POWER, 4))


def orders_of(plan: Plan) -> list[Proposal]:
    return list(Proposal.objects.filter(plan=plan).order_by("plan_position"))


def statuses(plan: Plan) -> list[str]:
    return [order.status for order in orders_of(plan)]


def fresh(plan: Plan) -> Plan:
    return Plan.objects.get(pk=plan.pk)


def next_order(plan: Plan) -> Proposal | None:
    return Proposal.objects.ready_to_claim().filter(plan=plan).first()


def claim(proposal: Proposal, now: dt.datetime) -> Execution | None:
    gathered = situation.gather(proposal.machine_id, Proposal.objects.get(pk=proposal.pk), None, now)
    return services.claim_execution(proposal.pk, lease_token=1, situation=gathered, now=now)


def carry_out(plan: Plan, now: dt.datetime, outcome: Outcome = Outcome.PROVED, **receipt: Any) -> Proposal:
    """The loop's part for the order whose turn it is, the reading moved as the machine would."""
    proposal = next_order(plan)
    assert proposal is not None
    execution = claim(proposal, now)
    assert execution is not None, Proposal.objects.get(pk=proposal.pk).rejection_text
    done = services.conclude_execution(
        execution,
        Receipt(
            proposal.pk, outcome, value_before=proposal.from_step,
            value_after=receipt.pop("value_after", proposal.target_step), **receipt,
        ),
        now=now,
    )  # fmt: skip
    if outcome is Outcome.PROVED and proposal.control:
        row = proposal.machine.latest  # type: ignore[attr-defined]
        setattr(row, f"{proposal.control}_step", proposal.target_step)
        row.save()
    return done


def approve(people: Any, plan: Plan, now: dt.datetime) -> Plan:
    return services_plans.approve_plan(people.principal("operator"), plan, digest=fresh(plan).digest, now=now)


# --- filed


def test_an_agents_plan_is_held_as_one(held_plan: Plan) -> None:
    assert (held_plan.status, held_plan.decision) == ("PENDING_APPROVAL", "HOLD")
    assert statuses(held_plan) == ["PENDING_APPROVAL"] * 3
    first, fan, last = orders_of(held_plan)
    assert (first.from_step, fan.from_step, last.from_step) == (6, 4, 5), "judged from what the earlier ones leave"
    assert [order.seen_heater_step for order in (first, fan, last)] == [6, 6, 6], "proposed on what stood"
    assert first.expires_at == held_plan.expires_at < fan.expires_at < last.expires_at
    assert AuditEntry.objects.filter(subject_id=held_plan.pk, verb="plan_proposed").count() == 1
    assert StreamEvent.objects.filter(subject_id=held_plan.pk).get().payload["status"] == "PENDING_APPROVAL"


def test_a_persons_own_plan_runs_at_once_in_order(people: Any, plan_of: Any, now: dt.datetime) -> None:
    plan = plan_of(people.principal("operator"), (POWER, 5), (FAN, 6))
    assert (plan.status, statuses(plan)) == ("APPROVED", ["APPROVED", "APPROVED"])
    assert carry_out(plan, now).control == "heater"
    assert (fresh(plan).status, statuses(plan)) == ("EXECUTING", ["COMPLETED", "APPROVED"])
    assert carry_out(plan, now).control == "fan"
    done = fresh(plan)
    assert (done.status, done.outcome_message, done.settled_at) == ("COMPLETED", "All 2 orders were confirmed.", now)


def test_the_worst_order_decides_for_all(granted: Any, agent_principal: Any, plan_of: Any) -> None:
    plan = plan_of(agent_principal, (FAN, 5), (DRUM, 3))  # more steps than the envelope lets an agent move at once
    assert (plan.status, plan.decision, statuses(plan)) == ("REJECTED", "REFUSE", ["REJECTED", "REJECTED"])
    fan, drum = orders_of(plan)
    assert fan.rejection_code == "plan_refused" and drum.rejection_code == "CONSTRAINT_VIOLATION"
    assert plan.outcome_code == "CONSTRAINT_VIOLATION"
    assert {reason["position"] for reason in plan.reasons} == {0, 1}
    assert next_order(plan) is None


def test_what_would_be_too_long_a_move_now_is_right_after_the_one_before(
    granted: Any, agent_principal: Any, plan_of: Any, propose: Any
) -> None:
    """Heater 6 → 3 is a longer move than the envelope allows; 6 → 4 → 3 is not."""
    assert propose(agent_principal, target=3).status == "REJECTED"
    assert plan_of(agent_principal, (POWER, 4), (POWER, 3)).status == "PENDING_APPROVAL"


def test_a_move_that_the_one_before_makes_too_long_is_refused(granted: Any, agent_principal: Any, plan_of: Any) -> None:
    plan = plan_of(agent_principal, (FAN, 6), (FAN, 3))
    assert plan.status == "REJECTED"
    assert "change_too_large" in {reason["code"] for reason in plan.reasons}


@pytest.mark.parametrize(
    ("orders", "code"),
    [([(COOL, None), (FAN, 5)], "state_order_not_last"), ([(FAN, 5)] * 13, "plan_too_long"), ([], "plan_too_long")],
)
def test_what_is_no_plan_is_refused_by_name(orders: Any, code: str, people: Any, plan_of: Any) -> None:
    with pytest.raises(errors.Unprocessable) as refusal:
        plan_of(people.principal("operator"), *orders)
    assert refusal.value.code == code
    assert not Plan.objects.exists()


def test_a_state_may_be_the_plans_last_order(people: Any, plan_of: Any, now: dt.datetime) -> None:
    plan = plan_of(people.principal("operator"), (POWER, 3), (COOL, None))
    carry_out(plan, now)
    carry_out(plan, now)
    assert fresh(plan).status == "COMPLETED"


def test_an_agent_has_one_open_plan_on_a_machine(held_plan: Plan, agent_principal: Any, plan_of: Any) -> None:
    with pytest.raises(errors.Conflict) as refusal:
        plan_of(agent_principal, (DRUM, 6))  # another control: no conflict of orders
    assert (refusal.value.code, refusal.value.context["plan_id"]) == ("plan_open", held_plan.pk)
    assert Plan.objects.count() == 1


def test_the_database_itself_takes_no_order_into_another_machines_plan(
    held_plan: Plan, people: Any, propose: Any, machine: Any, now: dt.datetime
) -> None:
    other = Machine.objects.create(
        organization=machine.organization, site=machine.site, name="Other", driver_kind="bullet-r1", created_at=now
    )
    order = propose(people.principal("operator"), "SET_DRUM", 6)
    order.pk, order.machine, order.plan, order.plan_position = "prp_other", other, held_plan, 7
    order.status, order.decided_at = "PROPOSED", None
    with pytest.raises(DatabaseError, match="planned"), transaction.atomic():
        order.save(force_insert=True)


def test_an_order_on_a_plans_control_conflicts(held_plan: Plan, agent_principal: Any, propose: Any) -> None:
    other = propose(agent_principal, "SET_FAN", 6)
    assert "conflict" in {reason["code"] for reason in other.reasons}


def test_another_organisation_sees_no_plan(held_plan: Plan, people: Any, now: dt.datetime) -> None:
    with pytest.raises(errors.NotFound):
        services_plans.approve_plan(people.principal("stranger"), held_plan, digest=held_plan.digest, now=now)


# --- decided


def test_approved_as_one_digest(held_plan: Plan, people: Any, now: dt.datetime) -> None:
    plan = approve(people, held_plan, now)
    assert (plan.status, statuses(plan)) == ("APPROVED", ["APPROVED"] * 3)
    assert plan.approver == people.operator
    assert {order.approver for order in orders_of(plan)} == {people.operator}
    assert AuditEntry.objects.filter(subject_id=plan.pk, verb="plan_approved").count() >= 1


@pytest.mark.parametrize("digest", ["0" * 64, "é" * 64])
def test_another_digest_approves_nothing(digest: str, held_plan: Plan, people: Any, now: dt.datetime) -> None:
    with pytest.raises(errors.Stale):
        services_plans.approve_plan(people.principal("operator"), held_plan, digest=digest, now=now)
    assert statuses(held_plan) == ["PENDING_APPROVAL"] * 3


def test_an_order_of_a_plan_is_not_approved_by_itself(held_plan: Plan, people: Any, now: dt.datetime) -> None:
    first = orders_of(held_plan)[0]
    with pytest.raises(errors.Conflict) as refusal:
        services.approve_proposal(people.principal("operator"), first, digest=first.digest, now=now)
    assert refusal.value.code == "part_of_plan"
    assert statuses(held_plan) == ["PENDING_APPROVAL"] * 3


@pytest.mark.parametrize(
    ("who", "code"), [("lead", "owner_cannot_approve"), ("viewer", "role_required"), ("judge", "role_required")]
)
def test_who_may_not_approve_orders_may_not_approve_plans(
    who: str, code: str, held_plan: Plan, people: Any, now: dt.datetime
) -> None:
    with pytest.raises(errors.Forbidden) as refusal:
        services_plans.approve_plan(people.principal(who), held_plan, digest=held_plan.digest, now=now)
    assert refusal.value.code == code
    assert fresh(held_plan).approver is None


def test_an_agent_approves_no_plan(held_plan: Plan, agent_principal: Any, now: dt.datetime) -> None:
    with pytest.raises(errors.Forbidden):
        services_plans.approve_plan(agent_principal, held_plan, digest=held_plan.digest, now=now)


@pytest.fixture
def critical_plan(granted: Any, agent_principal: Any, machine: Any, plan_of: Any, now: dt.datetime) -> Plan:
    """Air 4 → 5, then heat 2 → 7: critical, so the whole plan needs two people."""
    ControlLimit.objects.filter(machine=machine).update(max_change_step=9)
    set_reading(machine, now, heater_step=2)
    return plan_of(agent_principal, (FAN, 5), (POWER, 7))


def test_a_plan_matters_as_much_as_the_most_of_its_orders(critical_plan: Plan) -> None:
    assert critical_plan.significance == "critical"
    assert [order.approvals_needed for order in orders_of(critical_plan)] == [2, 2], "the air, too"


def test_a_plan_that_needs_two_waits_for_the_second(critical_plan: Plan, people: Any, now: dt.datetime) -> None:
    plan = approve(people, critical_plan, now)
    assert (plan.status, plan.approver, statuses(plan)) == ("PENDING_APPROVAL", None, ["PENDING_APPROVAL"] * 2)
    assert next_order(plan) is None
    with pytest.raises(errors.Conflict):
        approve(people, critical_plan, now)
    done = services_plans.approve_plan(
        people.principal("second_operator"), critical_plan, digest=critical_plan.digest, now=now
    )
    assert (done.status, done.approver) == ("APPROVED", people.second_operator)


def test_rejected_as_a_whole(held_plan: Plan, people: Any, now: dt.datetime) -> None:
    plan = services_plans.reject_plan(people.principal("operator"), held_plan, code="WRONG_TIMING", text="", now=now)
    assert (plan.status, plan.outcome_code, statuses(plan)) == (
        "REJECTED", "WRONG_TIMING", ["REJECTED", "ABORTED", "ABORTED"],
    )  # fmt: skip
    assert {order.outcome_code for order in orders_of(plan)[1:]} == {"plan_stopped"}
    with pytest.raises(errors.Conflict):
        services_plans.reject_plan(people.principal("operator"), held_plan, code="WRONG_TIMING", text="", now=now)


def test_an_agent_withdraws_its_plan_while_it_waits(
    held_plan: Plan, agent_principal: Any, people: Any, now: dt.datetime
) -> None:
    assert services_plans.abort_plan(agent_principal, held_plan, now=now).status == "ABORTED"
    with pytest.raises(errors.Conflict) as refusal:
        services_plans.abort_plan(people.principal("operator"), held_plan, now=now)
    assert refusal.value.code == "plan_over"


def test_an_agent_does_not_call_off_what_a_person_let_through(
    held_plan: Plan, agent_principal: Any, people: Any, now: dt.datetime
) -> None:
    approve(people, held_plan, now)
    with pytest.raises(errors.Conflict) as refusal:
        services_plans.abort_plan(agent_principal, held_plan, now=now)
    assert refusal.value.code == "not_abortable"
    with pytest.raises(errors.Forbidden):
        services_plans.abort_plan(people.principal("viewer"), held_plan, now=now)


# --- run


def test_run_in_order_each_after_the_one_before_is_confirmed(held_plan: Plan, people: Any, now: dt.datetime) -> None:
    plan = approve(people, held_plan, now)
    first, fan, last = orders_of(plan)
    assert claim(fan, now) is None and claim(last, now) is None, "not their turn"
    execution = claim(first, now)
    assert execution is not None and next_order(plan) is None
    assert claim(fan, now) is None, "the first is on the wire, not confirmed"
    services.conclude_execution(execution, Receipt(first.pk, Outcome.PROVED, value_after=5), now=now)
    set_reading(plan.machine, now, heater_step=5)
    assert next_order(plan) == fan and claim(last, now) is None
    assert carry_out(plan, now) == fan
    assert carry_out(plan, now) == last
    assert fresh(plan).status == "COMPLETED"
    assert [row.proposal_id for row in Execution.objects.order_by("claimed_at", "id")].count(first.pk) == 1


def test_the_database_itself_refuses_an_order_out_of_turn(held_plan: Plan, people: Any, now: dt.datetime) -> None:
    plan = approve(people, held_plan, now)
    with pytest.raises(DatabaseError, match="in_turn"), transaction.atomic():
        Execution.objects.create(
            proposal=orders_of(plan)[1], machine=plan.machine, lease_token=1, from_step=4, claimed_at=now
        )


@pytest.mark.parametrize(
    "changes", [{"plan_id": None, "plan_position": None}, {"plan_position": 2}, {"rolls_back_id": "self"}]
)
def test_the_database_itself_moves_no_order_to_another_place(changes: dict[str, Any], held_plan: Plan) -> None:
    first = orders_of(held_plan)[0]
    values = {name: first.pk if value == "self" else value for name, value in changes.items()}
    with pytest.raises(DatabaseError, match="substance|plan_position_once"), transaction.atomic():
        Proposal.objects.filter(pk=first.pk).update(**values)


@pytest.mark.parametrize(
    ("outcome", "reason", "ends", "first_status"),
    [
        (Outcome.NOT_SENT, "deadline", "FAILED", "FAILED"),
        (Outcome.DECLINED, "contradicted", "FAILED", "FAILED"),
        (Outcome.IN_DOUBT, "no_echo", "EXECUTING", "IN_DOUBT"),
    ],
)
def test_stopped_at_the_first_that_is_not_confirmed(
    outcome: Outcome, reason: str, ends: str, first_status: str, held_plan: Plan, people: Any, now: dt.datetime
) -> None:
    plan = approve(people, held_plan, now)
    carry_out(plan, now, outcome, reason=reason, value_after=6)
    assert statuses(plan) == [first_status, "ABORTED", "ABORTED"]
    assert {order.outcome_code for order in orders_of(plan)[1:]} == {"plan_stopped"}
    assert fresh(plan).status == ends and next_order(plan) is None
    assert Execution.objects.count() == 1


@pytest.mark.parametrize(("reads", "first", "plan_is"), [(5, "COMPLETED", "FAILED"), (6, "FAILED", "FAILED")])
def test_a_doubt_resolved_by_reading_never_starts_the_plan_again(
    reads: int, first: str, plan_is: str, held_plan: Plan, people: Any, now: dt.datetime
) -> None:
    plan = approve(people, held_plan, now)
    order = carry_out(plan, now, Outcome.IN_DOUBT, reason="no_echo", value_after=None)
    services.resolve_in_doubt(order, actual_step=reads, writes_known=1, now=now)
    assert statuses(plan) == [first, "ABORTED", "ABORTED"]
    assert fresh(plan).status == plan_is


def test_refused_at_the_last_moment_stops_the_plan(held_plan: Plan, people: Any, now: dt.datetime) -> None:
    plan = approve(people, held_plan, now)
    carry_out(plan, now)
    set_reading(plan.machine, now, heater_step=5, drum_step=3)  # a hand at the drum
    fan = next_order(plan)
    assert fan is not None and claim(fan, now) is None
    assert statuses(plan) == ["COMPLETED", "REJECTED", "ABORTED"]
    done = fresh(plan)
    assert (done.status, done.outcome_code) == ("FAILED", "control_moved"), done.outcome_message


def test_its_own_earlier_orders_are_no_hand_at_the_machine(held_plan: Plan, people: Any, now: dt.datetime) -> None:
    plan = approve(people, held_plan, now)
    carry_out(plan, now)
    assert carry_out(plan, now).status == "COMPLETED"


def test_a_control_moved_by_hand_voids_the_whole_held_plan(held_plan: Plan, machine: Any, now: dt.datetime) -> None:
    reading = set_reading(machine, now, drum_step=5)
    services.void_held(machine, reading=reading, now=now)
    assert set(statuses(held_plan)) == {"ABORTED"}
    done = fresh(held_plan)
    assert (done.status, done.outcome_code) == ("ABORTED", "control_moved")


def test_a_halt_ends_the_plan(held_plan: Plan, people: Any, machine: Any, now: dt.datetime) -> None:
    plan = approve(people, held_plan, now)
    carry_out(plan, now)
    services.open_halt(machine, kind="stop", by=people.principal("operator"), stop_id="hlt_x", now=now)
    assert statuses(plan) == ["COMPLETED", "ABORTED", "ABORTED"]
    assert (fresh(plan).status, fresh(plan).outcome_code) == ("ABORTED", "halted")


def test_a_persons_order_on_one_of_its_controls_ends_the_plan(
    held_plan: Plan, people: Any, propose: Any, now: dt.datetime
) -> None:
    propose(people.principal("operator"), "SET_FAN", 6)
    assert set(statuses(held_plan)) == {"ABORTED"}
    assert fresh(held_plan).outcome_code == "superseded"


def test_nobody_approves_it_in_time(held_plan: Plan) -> None:
    assert services.expire_due(now=held_plan.expires_at - dt.timedelta(microseconds=1)) == 0
    services.expire_due(now=held_plan.expires_at)
    assert statuses(held_plan) == ["TIMEOUT", "ABORTED", "ABORTED"]
    assert fresh(held_plan).status == "TIMEOUT"


def test_called_off_while_it_runs(held_plan: Plan, people: Any, now: dt.datetime) -> None:
    plan = approve(people, held_plan, now)
    first = orders_of(plan)[0]
    execution = claim(first, now)
    assert execution is not None
    plan = services_plans.abort_plan(people.principal("second_operator"), plan, text="enough", now=now)
    assert (plan.status, statuses(plan)) == ("EXECUTING", ["EXECUTING", "ABORTED", "ABORTED"])
    first.refresh_from_db()
    assert first.abort_requested_at == now and services.is_abort_requested(first.pk)
    services.conclude_execution(
        execution, Receipt(first.pk, Outcome.DECLINED, "aborted", "called off", value_before=6, value_after=6), now=now
    )
    assert (fresh(plan).status, statuses(plan)) == ("ABORTED", ["ABORTED"] * 3)


def test_an_agents_orders_on_one_control_keep_their_distance_within_a_plan(
    granted: Any, agent_principal: Any, people: Any, machine: Any, plan_of: Any, now: dt.datetime
) -> None:
    ControlLimit.objects.filter(machine=machine, control="fan").update(min_interval_s=30)
    plan = approve(people, plan_of(agent_principal, (FAN, 5), (FAN, 6)), now)
    first, second = orders_of(plan)
    assert second.expires_at - first.expires_at == dt.timedelta(seconds=40)
    carry_out(plan, now)
    early, in_time = now + dt.timedelta(seconds=29.9), now + dt.timedelta(seconds=30)
    second = orders_of(plan)[1]
    assert not services_plans.is_due(second, early)
    assert services_plans.is_due(second, in_time)
    set_reading(machine, in_time, fan_step=5)
    execution = claim(second, in_time)
    assert execution is not None, Proposal.objects.get(pk=second.pk).rejection_text


def test_claimed_early_all_the_same_it_is_refused(
    granted: Any, agent_principal: Any, people: Any, machine: Any, plan_of: Any, now: dt.datetime
) -> None:
    ControlLimit.objects.filter(machine=machine, control="fan").update(min_interval_s=30)
    plan = approve(people, plan_of(agent_principal, (FAN, 5), (FAN, 6)), now)
    carry_out(plan, now)
    early = now + dt.timedelta(seconds=29.9)
    set_reading(machine, early, fan_step=5)
    assert claim(orders_of(plan)[1], early) is None
    assert orders_of(plan)[1].rejection_code == "too_soon"


def test_an_older_lease_claims_nothing_of_a_plan(held_plan: Plan, people: Any, machine: Any, now: dt.datetime) -> None:
    plan = approve(people, held_plan, now)
    MachineLease.objects.create(machine=machine, token=2, expires_at=now, heartbeat_at=now)
    assert claim(orders_of(plan)[0], now) is None
    assert statuses(plan) == ["APPROVED"] * 3


def test_of_a_plan_that_is_only_partly_let_through_nothing_runs(held_plan: Plan, people: Any, now: dt.datetime) -> None:
    """As at the end of a veto window: the first is released, the rest not yet."""
    first = orders_of(held_plan)[0]
    Plan.objects.filter(pk=held_plan.pk).update(approver=people.operator)
    services.approve_proposal(people.principal("operator"), first, digest=first.digest, now=now)
    assert statuses(held_plan) == ["APPROVED", "PENDING_APPROVAL", "PENDING_APPROVAL"]
    assert next_order(held_plan) is None and claim(first, now) is None
