"""The life of an order through the services, on the real database."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest
from django.db import transaction

from commands import services, situation
from commands.models import Execution, MachineLease, Proposal, ProposalTransition, Suspension
from commands.records import approvals
from commands.tests.conftest import set_reading
from drivers.port import Outcome, Receipt
from kernel import errors
from kernel.models import AuditEntry, StreamEvent
from roasts.models import Machine, RoastEvent

pytestmark = pytest.mark.django_db


def path_of(proposal):
    return list(ProposalTransition.objects.filter(proposal=proposal).order_by("id").values_list("to_status", flat=True))


def claim(proposal, now, **changes):
    gathered = situation.gather(proposal.machine_id, Proposal.objects.get(pk=proposal.pk), None, now)
    return services.claim_execution(
        proposal.pk, lease_token=1, situation=dataclasses.replace(gathered, **changes), now=now
    )


def codes_of(proposal):
    return [reason["code"] for reason in proposal.reasons]


def test_agent_with_l3_is_held(held, agent):
    assert held.status == "PENDING_APPROVAL"
    assert held.decision == "HOLD"
    assert (held.from_step, held.target_step) == (6, 5)
    assert path_of(held) == ["PROPOSED", "PENDING_APPROVAL"]
    assert AuditEntry.objects.filter(subject_id=held.pk, verb="proposal_held").count() == 1
    assert StreamEvent.objects.filter(subject_id=held.pk).get().payload["status"] == "PENDING_APPROVAL"


def test_agent_without_grant_is_advice(agent_principal, propose):
    order = propose(agent_principal)
    assert order.status == "REJECTED"
    assert order.rejection_code == "AGENT_COMMANDS_NOT_ALLOWED"
    assert services.is_advice(order)
    assert path_of(order) == ["PROPOSED", "REJECTED"]


@pytest.mark.parametrize(
    ("level", "status", "code"),
    [
        ("L1", "REJECTED", "AUTONOMY_LEVEL_TOO_LOW"),
        ("L2", "REJECTED", "AGENT_COMMANDS_NOT_ALLOWED"),
        ("L3", "PENDING_APPROVAL", ""),
        ("L4", "PENDING_APPROVAL", ""),  # nobody is there: as at L3
        ("L5", "PENDING_APPROVAL", ""),
    ],
)
def test_level_decides(level, status, code, people, agent, machine, agent_principal, propose, now):
    services.grant_autonomy(people.principal("lead"), agent=agent, machine=machine, level=level, now=now)
    order = propose(agent_principal)
    assert (order.status, order.rejection_code) == (status, code)


def test_persons_order_runs_at_once_without_approver(people, propose):
    order = propose(people.principal("operator"))
    assert order.status == "APPROVED"
    assert order.approver is None
    assert path_of(order) == ["PROPOSED", "APPROVED"]


def test_a_machine_that_a_bridge_feeds_takes_no_approval(held, people, machine, now):
    Machine.objects.filter(pk=machine.pk).update(is_remote=True)
    with pytest.raises(errors.Conflict) as refused:
        services.approve_proposal(people.principal("operator"), held, digest=held.digest, now=now)
    assert refused.value.code == "machine_is_remote"
    held.refresh_from_db()
    assert held.status == "PENDING_APPROVAL"


def test_approve_execute_complete(held, people, now):
    approved = services.approve_proposal(people.principal("operator"), held, digest=held.digest, now=now)
    assert approved.status == "APPROVED"
    execution = claim(held, now)
    assert execution is not None
    assert execution.from_step == 6
    receipt = Receipt(held.pk, Outcome.PROVED, value_before=6, value_after=5)
    done = services.conclude_execution(execution, receipt, now=now)
    assert (done.status, done.actual_step) == ("COMPLETED", 5)
    assert path_of(held) == ["PROPOSED", "PENDING_APPROVAL", "APPROVED", "EXECUTING", "COMPLETED"]


@pytest.mark.parametrize(
    ("outcome", "reason", "status", "code"),
    [
        (Outcome.DECLINED, "contradicted", "FAILED", "contradicted"),
        (Outcome.DECLINED, "moved_at_machine", "FAILED", "moved_at_machine"),
        (Outcome.NOT_SENT, "", "FAILED", "not_sent"),
        (Outcome.IN_DOUBT, "", "IN_DOUBT", "in_doubt"),
        (Outcome.SENT, "", "IN_DOUBT", "in_doubt"),
        (Outcome.UNPROVED, "", "IN_DOUBT", "in_doubt"),
    ],
)
def test_receipt_ends_the_order(outcome, reason, status, code, people, propose, now):
    order = propose(people.principal("operator"))
    execution = claim(order, now)
    done = services.conclude_execution(execution, Receipt(order.pk, outcome, reason=reason), now=now)
    assert (done.status, done.outcome_code) == (status, code)


def test_second_claim_gets_nothing(people, propose, now):
    order = propose(people.principal("operator"))
    assert claim(order, now) is not None
    assert claim(order, now) is None
    assert Execution.objects.filter(proposal=order).count() == 1


def test_older_lease_claims_nothing(people, propose, machine, now):
    MachineLease.objects.create(machine=machine, token=2, expires_at=now, heartbeat_at=now)
    order = propose(people.principal("operator"))
    assert claim(order, now) is None
    order.refresh_from_db()
    assert order.status == "APPROVED"


def test_same_lease_claims(people, propose, machine, now):
    MachineLease.objects.create(machine=machine, token=1, expires_at=now, heartbeat_at=now)
    assert claim(propose(people.principal("operator")), now) is not None


def test_halted_keeper_refuses_at_the_last_moment(people, propose, now):
    order = propose(people.principal("operator"), target=7)
    assert claim(order, now, keeper_latched=True) is None
    order.refresh_from_db()
    assert (order.status, order.rejection_code) == ("REJECTED", "halted")


def test_revoked_grant_refuses_at_the_last_moment(held, granted, people, now):
    services.approve_proposal(people.principal("operator"), held, digest=held.digest, now=now)
    services.revoke_grant(people.principal("lead"), granted, now=now)
    assert claim(held, now) is None
    held.refresh_from_db()
    assert (held.status, held.rejection_code) == ("REJECTED", "AGENT_COMMANDS_NOT_ALLOWED")


def test_expired_order_times_out_at_dispatch(held, people, now):
    services.approve_proposal(people.principal("operator"), held, digest=held.digest, now=now)
    late = held.expires_at
    set_reading(held.machine, late)
    assert claim(held, late) is None
    held.refresh_from_db()
    assert held.status == "TIMEOUT"


def test_moved_control_refuses_at_dispatch(held, people, machine, now):
    services.approve_proposal(people.principal("operator"), held, digest=held.digest, now=now)
    set_reading(machine, now, fan_step=5)
    assert claim(held, now) is None
    held.refresh_from_db()
    assert held.rejection_code == "control_moved"


def test_edited_order_is_not_approved_even_without_triggers(held, people, now, monkeypatch):
    # as if a column had been changed
    monkeypatch.setattr(approvals, "order_digest", lambda proposal: "0" * 64)
    with pytest.raises(errors.Stale):
        services.approve_proposal(people.principal("operator"), held, digest=held.digest, now=now)


def test_stale_digest(held, people, now):
    with pytest.raises(errors.Stale) as refusal:
        services.approve_proposal(people.principal("operator"), held, digest="0" * 64, now=now)
    assert refusal.value.code == "stale_digest"


def test_digest_that_is_no_ascii(held, people, now):
    with pytest.raises(errors.Stale):
        services.approve_proposal(people.principal("operator"), held, digest="é" * 64, now=now)


def test_owner_cannot_approve(held, people, now):
    with pytest.raises(errors.Forbidden) as refusal:
        services.approve_proposal(people.principal("lead"), held, digest=held.digest, now=now)
    assert refusal.value.code == "owner_cannot_approve"


@pytest.mark.parametrize("who", ["judge", "viewer"])
def test_without_role_nobody_approves(who, held, people, now):
    with pytest.raises(errors.Forbidden) as refusal:
        services.approve_proposal(people.principal(who), held, digest=held.digest, now=now)
    assert refusal.value.code == "role_required"


def test_agent_cannot_approve(held, agent_principal, now):
    with pytest.raises(errors.Forbidden) as refusal:
        services.approve_proposal(agent_principal, held, digest=held.digest, now=now)
    assert refusal.value.code == "agents_cannot_approve"


def test_own_order_cannot_be_approved(people, propose, now):
    order = propose(people.principal("operator"))
    with pytest.raises(errors.Forbidden) as refusal:
        services.approve_proposal(people.principal("operator"), order, digest=order.digest, now=now)
    assert refusal.value.code == "proposer_cannot_approve"


def test_other_organisation_sees_nothing(held, people, now):
    with pytest.raises(errors.NotFound):
        services.approve_proposal(people.principal("stranger"), held, digest=held.digest, now=now)


def test_last_moment_is_in_time_and_the_deadline_is_not(held, people):
    early = held.expires_at - dt.timedelta(microseconds=1)
    with transaction.atomic():
        approved = services.approve_proposal(people.principal("operator"), held, digest=held.digest, now=early)
        assert approved.status == "APPROVED"
        transaction.set_rollback(True)


def test_at_the_deadline_it_is_expired(held, people):
    with pytest.raises(errors.Conflict) as refusal:
        services.approve_proposal(people.principal("operator"), held, digest=held.digest, now=held.expires_at)
    assert refusal.value.code == "expired"
    held.refresh_from_db()
    assert held.status == "TIMEOUT"


def test_settled_order_says_by_whom(held, people, now):
    services.reject_proposal(people.principal("second_operator"), held, code="WRONG_TIMING", text="", now=now)
    with pytest.raises(errors.Conflict) as refusal:
        services.approve_proposal(people.principal("operator"), held, digest=held.digest, now=now)
    assert refusal.value.code == "not_awaiting_approval"
    assert "second" in refusal.value.message
    assert "WRONG_TIMING" in refusal.value.message


def test_other_needs_a_text(held, people, now):
    with pytest.raises(errors.Malformed):
        services.reject_proposal(people.principal("operator"), held, code="OTHER", text=" ", now=now)
    rejected = services.reject_proposal(people.principal("operator"), held, code="OTHER", text="smoke", now=now)
    assert (rejected.rejection_code, rejected.rejection_text) == ("OTHER", "smoke")


def test_sweeper_times_out_what_is_due_and_nothing_else(held):
    assert services.expire_due(now=held.expires_at - dt.timedelta(microseconds=1)) == 0
    assert services.expire_due(now=held.expires_at) == 1
    held.refresh_from_db()
    assert held.status == "TIMEOUT"


@pytest.mark.parametrize(
    ("change", "code"), [({"fan_step": 5}, "control_moved"), ({"bean_temp_c": 183.1}, "left_prediction")]
)
def test_held_order_is_void_when_its_grounds_go(change, code, held, machine, now):
    reading = set_reading(machine, now, **change)
    assert [order.pk for order in services.void_held(machine, reading=reading, now=now)] == [held.pk]
    held.refresh_from_db()
    assert (held.status, held.outcome_code) == ("ABORTED", code)


def test_held_order_stands_on_the_prediction(held, machine, now):
    # 12 °C/min for 15 s of device time: 183.0 expected; 3 °C off is still within.
    reading = set_reading(machine, now, device_ms=415_000, bean_temp_c=186.0)
    assert services.void_held(machine, reading=reading, now=now) == []


def test_persons_order_supersedes_the_held_one(held, people, propose):
    own = propose(people.principal("operator"), target=4)
    held.refresh_from_db()
    assert own.status == "APPROVED"
    assert (held.status, held.outcome_code) == ("ABORTED", "superseded")


def test_persons_order_on_another_control_leaves_it(held, people, propose):
    propose(people.principal("operator"), "SET_FAN", 5)
    held.refresh_from_db()
    assert held.status == "PENDING_APPROVAL"


def test_second_agent_order_on_the_control_conflicts(held, agent_principal, propose):
    second = propose(agent_principal, target=4)
    assert second.status == "REJECTED"
    assert "conflict" in codes_of(second)


def test_adopting_advice_makes_it_a_persons_order(agent_principal, propose, people, now):
    advice = propose(agent_principal)
    order = services.adopt_proposal(people.principal("operator"), advice, now=now)
    assert (order.status, order.target_step, order.adopted_from_id) == ("APPROVED", 5, advice.pk)
    with pytest.raises(errors.Conflict) as refusal:
        services.adopt_proposal(people.principal("operator"), advice, now=now)
    assert refusal.value.code == "already_adopted"


def test_adopting_a_held_order_calls_it_off(held, people, now):
    order = services.adopt_proposal(people.principal("operator"), held, now=now)
    held.refresh_from_db()
    assert order.status == "APPROVED"
    assert (held.status, held.outcome_code) == ("ABORTED", "adopted")


def test_a_halt_calls_off_what_waits_and_an_agent_is_refused(held, people, machine, agent_principal, propose, now):
    first = services.open_halt(machine, kind="stop", by=people.principal("operator"), stop_id="hlt_x", now=now)
    again = services.open_halt(machine, kind="stop", by=people.principal("operator"), stop_id="hlt_y", now=now)
    assert first.pk == again.pk
    held.refresh_from_db()
    assert (held.status, held.outcome_code) == ("ABORTED", "halted")
    assert "halted" in codes_of(propose(agent_principal))
    with pytest.raises(errors.Forbidden):
        services.reset_halt(people.principal("operator"), first, reason="looked", now=now)
    closed = services.reset_halt(people.principal("lead"), first, reason="looked", now=now)
    assert closed.closed_by == people.lead


def test_i_have_it_suspends_agents_and_gives_back(held, people, machine, agent_principal, propose, now):
    services.suspend_agents(people.principal("operator"), machine, now=now)
    services.suspend_agents(people.principal("second_operator"), machine, now=now)
    assert Suspension.objects.count() == 1
    held.refresh_from_db()
    assert held.outcome_code == "suspended"
    assert "suspended" in codes_of(propose(agent_principal))
    assert propose(people.principal("operator")).status == "APPROVED"
    services.resume_agents(people.principal("second_operator"), machine, now=now)
    assert propose(agent_principal, "SET_FAN", 5).status == "PENDING_APPROVAL"


def test_paused_orders_wait_for_a_person(people, machine, propose, now):
    services.pause_orders(machine, code="unplugged", now=now)
    assert "orders_paused" in codes_of(propose(people.principal("operator"), target=7))
    assert propose(people.principal("operator"), target=5).status == "APPROVED"
    assert services.resume_orders(people.principal("operator"), machine, now=now)
    assert propose(people.principal("operator"), "SET_FAN", 5).status == "APPROVED"


@pytest.mark.parametrize(
    ("actual", "writes", "status", "code"),
    [
        (5, 1, "COMPLETED", "resolved_by_reading"),
        (5, None, "COMPLETED", "resolved_by_reading"),
        (6, 0, "FAILED", "not_sent"),
        (5, 0, "FAILED", "not_sent"),
        (6, 1, "FAILED", "not_reached"),
        (4, None, "FAILED", "not_reached"),
        (None, 1, "IN_DOUBT", "executor_lost"),
    ],
)
def test_doubt_is_resolved_by_reading(actual, writes, status, code, people, propose, now):
    order = propose(people.principal("operator"))
    services.mark_in_doubt(claim(order, now), code="executor_lost", message="gone", now=now)
    settled = services.resolve_in_doubt(order, actual_step=actual, writes_known=writes, now=now)
    assert (settled.status, settled.outcome_code) == (status, code)


def test_expiry_by_phase(agent_principal, people, granted, propose, roast, machine, now):
    in_roast = propose(agent_principal)
    assert in_roast.expires_at - now == dt.timedelta(seconds=45)
    RoastEvent.objects.create(roast=roast, kind="first_crack_start", elapsed_ms=1, source="person", at=now)
    after = propose(agent_principal, "SET_FAN", 5)
    assert after.expires_at - now == dt.timedelta(seconds=20)
    shorter = propose(agent_principal, "SET_DRUM", 6, expires_in_s=5)
    assert shorter.expires_at - now == dt.timedelta(seconds=5)


def test_expiry_off_a_roast_and_never_longer(agent_principal, granted, propose, now):
    assert propose(agent_principal).expires_at - now == dt.timedelta(seconds=300)
    longer = propose(agent_principal, "SET_FAN", 5, expires_in_s=3000)
    assert longer.expires_at - now == dt.timedelta(seconds=300)


@pytest.mark.parametrize("order_type", ["CHARGE", "DROP"])
def test_beans_are_advice_from_an_agent(order_type, people, agent, agent_principal, machine, propose, now):
    services.grant_autonomy(
        people.principal("lead"), agent=agent, machine=machine, level="L3", order_types=["CHARGE", "DROP"], now=now
    )
    order = propose(agent_principal, order_type, None)
    assert order.status == "REJECTED"
    assert "hand_act_countdown" in codes_of(order)
    assert services.is_advice(order)


def test_another_roast_is_refused(people, propose, roast, now):
    roast.status = "finished"
    roast.save()
    with pytest.raises(errors.Unprocessable):
        propose(people.principal("operator"), roast=roast)


def test_machine_of_another_organisation_is_not_there(people, propose):
    with pytest.raises(errors.NotFound):
        propose(people.principal("stranger"))


def test_propose_costs_a_fixed_number_of_queries(
    agent_principal, granted, machine, roast, propose, django_assert_max_num_queries, django_assert_num_queries
):
    propose(agent_principal, "SET_DRUM", 6)
    with django_assert_max_num_queries(16) as few:
        propose(agent_principal)
    for _ in range(8):
        propose(agent_principal, "SET_FAN", 99)
    with django_assert_num_queries(len(few.captured_queries)):
        propose(agent_principal, "SET_FAN", 5)


def test_what_agents_did_lately_is_counted(held, people, agent, agent_principal, machine, roast, propose, now):
    """Times, counts and failures as the governor gets them, the order itself left out."""
    services.approve_proposal(people.principal("operator"), held, digest=held.digest, now=now)
    services.conclude_execution(claim(held, now), Receipt(held.pk, Outcome.NOT_SENT), now=now)
    fan = propose(agent_principal, "SET_FAN", 5)
    services.approve_proposal(people.principal("operator"), fan, digest=fan.digest, now=now)
    draft = dataclasses.replace(situation.order_of(held), proposal_id="")
    recent = situation.gather(machine.pk, draft, None, now).recent
    assert recent.last_on_control_at == now
    assert (recent.day_count, recent.roast_count, recent.session_count) == (1, 0, 1)
    assert (recent.settled_count, recent.failed_count) == (1, 1)
    assert situation.gather(machine.pk, Proposal.objects.get(pk=held.pk), None, now).recent.day_count == 0
    later = now + dt.timedelta(minutes=60)
    assert situation.gather(machine.pk, draft, None, later).recent.settled_count == 1
    assert situation.gather(machine.pk, draft, None, later + dt.timedelta(microseconds=1)).recent.settled_count == 0
    tomorrow = situation.gather(machine.pk, draft, None, now + dt.timedelta(hours=24)).recent
    assert (tomorrow.day_count, tomorrow.last_on_control_at) == (0, None)
