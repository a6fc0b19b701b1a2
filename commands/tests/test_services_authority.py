"""Levels 4 and 5, two people, presence, fitness, the policy: through services, on rows."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import json

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from commands import services, situation
from commands.models import Approval, Attendance, Commissioning, GovernorPolicy, Grant, Proposal
from commands.rules import policies, policy
from commands.tests.conftest import set_reading
from commands.tests.rows import attend_row, drill_row
from kernel import clock, errors
from kernel.models import AuditEntry, Membership

pytestmark = pytest.mark.django_db


def s(seconds: float) -> dt.timedelta:
    return dt.timedelta(seconds=seconds)


@pytest.fixture
def grant(people, agent, machine, now):
    """`grant("L4")`: the lead signs that level, for settings."""

    def sign(level: str, **more) -> Grant:
        return services.grant_autonomy(
            people.principal("lead"), agent=agent, machine=machine, level=level, now=now, **more
        )

    return sign


@pytest.fixture
def present(people, machine, now):
    return services.attend_machine(people.principal("operator"), machine, now=now)


@pytest.fixture
def window(grant, present, propose, agent_principal) -> Proposal:
    """An L4 order in its veto window."""
    grant("L4")
    return propose(agent_principal)


def set_policy(people, now, **changes) -> GovernorPolicy:
    document = copy.deepcopy(policy.DEFAULT_DOCUMENT)
    for place, value in changes.items():
        target = document["numbers"] if place in document["numbers"] else document
        target[place] = value
    return services.set_policy(people.principal("lead"), document=document, reason="because", now=now)


def claim(order: Proposal, now: dt.datetime):
    set_reading(order.machine, now)
    gathered = situation.gather(order.machine_id, Proposal.objects.get(pk=order.pk), None, now)
    return services.claim_execution(order.pk, lease_token=1, situation=gathered, now=now)


def status(order: Proposal) -> str:
    order.refresh_from_db()
    return str(order.status)


def path_of(order: Proposal) -> list[str]:
    return [row.to_status for row in order.transitions.order_by("id")]


def verbs(order: Proposal) -> list[str]:
    return list(AuditEntry.objects.filter(subject_id=order.pk).order_by("at", "id").values_list("verb", flat=True))


# --- L4 ---


def test_an_l4_order_waits_out_its_window_and_runs(window, machine, now):
    assert (window.status, window.decision, window.runs_at) == ("PENDING_APPROVAL", "VETO", now + s(15))
    set_reading(machine, now + s(15))
    assert services.release_due(now=now + s(14.999)) == 0
    assert services.release_due(now=now + s(15)) == 1
    assert claim(window, now + s(15)) is not None
    assert path_of(window) == ["PROPOSED", "PENDING_APPROVAL", "APPROVED", "EXECUTING"]
    assert verbs(window) == ["veto_window_opened", "veto_window_ended", "execution_claimed"]
    assert window.approver_id is None


def test_the_sweeper_releases_too(window, machine, now, monkeypatch):
    from commands import tasks

    set_reading(machine, now + s(16))
    monkeypatch.setattr(tasks.clock, "now", lambda: now + s(16))
    assert tasks.sweep() == 1
    assert status(window) == "APPROVED"


def test_any_operator_vetoes(window, people, now):
    vetoed = services.veto_proposal(people.principal("second_operator"), window, text="no", now=now + s(14))
    assert (vetoed.status, vetoed.rejection_code, vetoed.rejection_text) == ("REJECTED", "vetoed", "no")
    assert services.release_due(now=now + s(15)) == 0


def test_the_agents_owner_may_veto_too(window, people, now):
    assert services.veto_proposal(people.principal("lead"), window, now=now).status == "REJECTED"


@pytest.mark.parametrize("who", ["viewer", "judge"])
def test_without_the_role_nobody_vetoes(window, people, who, now):
    with pytest.raises(errors.Forbidden):
        services.veto_proposal(people.principal(who), window, now=now)


def test_an_agent_does_not_veto(window, agent_principal, now):
    with pytest.raises(errors.Forbidden):
        services.veto_proposal(agent_principal, window, now=now)


def test_a_stranger_does_not_see_it(window, people, now):
    with pytest.raises(errors.NotFound):
        services.veto_proposal(people.principal("stranger"), window, now=now)


def test_a_veto_that_comes_just_after_the_release_still_counts(window, people, machine, now):
    set_reading(machine, now + s(15))
    services.release_due(now=now + s(15))
    vetoed = services.veto_proposal(people.principal("operator"), window, now=now + s(15.1))
    assert (vetoed.status, vetoed.outcome_code) == ("ABORTED", "vetoed")
    assert claim(window, now + s(15.2)) is None


def test_on_the_wire_it_is_too_late_for_a_veto(window, people, machine, now):
    set_reading(machine, now + s(15))
    services.release_due(now=now + s(15))
    assert claim(window, now + s(15)) is not None
    with pytest.raises(errors.Conflict) as caught:
        services.veto_proposal(people.principal("operator"), window, now=now + s(15.2))
    assert caught.value.code == "too_late"


def test_a_held_order_is_rejected_not_vetoed(held, people, now):
    with pytest.raises(errors.Conflict) as caught:
        services.veto_proposal(people.principal("operator"), held, now=now)
    assert caught.value.code == "not_open_to_veto"


def test_an_operator_may_approve_within_the_window(window, people, now):
    approved = services.approve_proposal(people.principal("operator"), window, digest=window.digest, now=now + s(1))
    assert approved.status == "APPROVED"
    assert claim(window, now + s(2)) is not None


def test_with_nobody_there_any_more_it_stays_held(grant, machine, people, propose, agent_principal, now):
    grant("L4")
    attend_row(machine, people.operator, now - s(290))
    order = propose(agent_principal)
    set_reading(machine, now + s(15))
    assert services.release_due(now=now + s(15)) == 0
    assert status(order) == "PENDING_APPROVAL"
    attend_row(machine, people.operator, now + s(16))
    assert services.release_due(now=now + s(16)) == 1


def test_a_window_that_ended_long_ago_runs_nothing(window, machine, now):
    set_reading(machine, now + s(20))
    assert services.release_due(now=now + s(20)) == 0
    set_reading(machine, now + s(19.9))
    assert services.release_due(now=now + s(19.9)) == 1


def test_a_person_who_takes_the_machine_ends_the_window(window, machine, people, now):
    services.suspend_agents(people.principal("operator"), machine, now=now + s(1))
    set_reading(machine, now + s(15))
    assert services.release_due(now=now + s(15)) == 0
    assert status(window) == "ABORTED"


def test_a_grant_taken_back_ends_the_window(window, grant, people, machine, now):
    services.revoke_grant(people.principal("lead"), Grant.objects.get(revoked_at=None), now=now + s(1))
    set_reading(machine, now + s(15))
    assert services.release_due(now=now + s(15)) == 0
    assert (status(window), window.outcome_code) == ("ABORTED", "no_grant")


def test_a_breaker_that_lowers_the_grant_leaves_it_to_people(window, machine, now):
    Grant.objects.filter(revoked_at=None).update(lowered_to="L3", lowered_at=now)
    set_reading(machine, now + s(15))
    assert services.release_due(now=now + s(15)) == 0
    assert status(window) == "PENDING_APPROVAL"


def test_a_control_that_moved_ends_the_window(window, machine, now):
    set_reading(machine, now + s(15), heater_step=4)
    services.release_due(now=now + s(15))
    assert (status(window), window.outcome_code) == ("ABORTED", "control_moved")


def test_after_its_window_it_is_still_judged_before_the_wire(window, machine, now):
    set_reading(machine, now + s(15))
    services.release_due(now=now + s(15))
    Grant.objects.filter(revoked_at=None).update(lowered_to="L3", lowered_at=now)
    assert claim(window, now + s(16)) is None
    assert (status(window), window.outcome_code) == ("REJECTED", "not_approved")


def test_another_organisations_loop_releases_only_its_machine(window, machine, now):
    set_reading(machine, now + s(15))
    assert services.release_due(now=now + s(15), machine_id="mch_other") == 0
    assert services.release_due(now=now + s(15), machine_id=machine.pk) == 1


# --- L5 ---


@pytest.fixture
def ran(grant, present, propose, agent_principal, now) -> Proposal:
    """An L5 order on the wire."""
    grant("L5")
    order = propose(agent_principal)
    assert order.status == "APPROVED"
    assert claim(order, now + s(1)) is not None
    order.refresh_from_db()
    return order


def test_an_l5_order_runs_at_once_and_is_reviewed_after(ran, people, now):
    assert (ran.decision, ran.approver_id, ran.runs_at) == ("ALLOW", None, None)
    reviewed = services.review_proposal(people.principal("operator"), ran, finding="in_order", now=now + s(60))
    assert (reviewed.review_finding, reviewed.reviewed_by, reviewed.status) == (
        "in_order",
        people.operator,
        "EXECUTING",
    )
    assert verbs(ran)[-1] == "proposal_reviewed"
    with pytest.raises(errors.Conflict) as caught:
        services.review_proposal(people.principal("second_operator"), ran, finding="in_order", now=now)
    assert caught.value.code == "reviewed_already"


def test_what_is_not_in_order_needs_words(ran, people, now):
    with pytest.raises(errors.Malformed):
        services.review_proposal(people.principal("operator"), ran, finding="not_in_order", text=" ", now=now)
    found = services.review_proposal(people.principal("operator"), ran, finding="not_in_order", text="late", now=now)
    assert found.review_text == "late"


def test_the_owner_and_who_has_no_role_do_not_review(ran, people, agent_principal, now):
    for principal in (people.principal("lead"), people.principal("viewer"), agent_principal):
        with pytest.raises(errors.Forbidden):
            services.review_proposal(principal, ran, finding="in_order", now=now)


def test_an_approved_or_a_persons_order_is_not_for_review(held, people, propose, now):
    own = propose(people.principal("second_operator"), "SET_FAN", 5)
    for order in (held, own):
        with pytest.raises(errors.Conflict) as caught:
            services.review_proposal(people.principal("operator"), order, finding="in_order", now=now)
        assert caught.value.code == "not_for_review"


def test_an_l5_agent_supersedes_nobody(grant, present, propose, agent_principal, people):
    grant("L5")
    own = propose(people.principal("operator"))
    assert propose(agent_principal, target=4).status == "REJECTED"
    assert status(own) == "APPROVED"


# --- presence ---


@pytest.mark.parametrize(("level", "decision"), [("L4", "VETO"), ("L5", "ALLOW")])
@pytest.mark.parametrize(("age_s", "is_there"), [(300, True), (301, False)])
def test_presence_within_five_minutes(
    grant, machine, people, propose, agent_principal, now, level, decision, age_s, is_there
):
    grant(level)
    attend_row(machine, people.operator, now - s(age_s))
    assert propose(agent_principal).decision == (decision if is_there else "HOLD")


def test_presence_at_another_machine_or_of_somebody_gone_is_none(grant, machine, people, propose, agent_principal, now):
    grant("L5")
    attend_row(machine, people.operator, now)
    Membership.objects.filter(user=people.operator).delete()
    assert propose(agent_principal).decision == "HOLD"


def test_an_older_presence_of_somebody_who_is_still_here_counts(grant, machine, people, propose, agent_principal, now):
    grant("L5")
    attend_row(machine, people.second_operator, now - s(10))
    attend_row(machine, people.operator, now)
    people.operator.is_active = False
    people.operator.save()
    assert propose(agent_principal).decision == "ALLOW"


def test_a_second_press_is_the_same_press(people, machine, now):
    first = services.attend_machine(people.principal("operator"), machine, now=now)
    assert services.attend_machine(people.principal("operator"), machine, now=now + s(1.9)).pk == first.pk
    assert services.attend_machine(people.principal("operator"), machine, now=now + s(2)).pk != first.pk
    assert services.attend_machine(people.principal("second_operator"), machine, now=now + s(2)).pk != first.pk
    assert Attendance.objects.count() == 3


def test_who_may_be_present(people, machine, agent_principal, now):
    for principal in (people.principal("viewer"), people.principal("judge"), agent_principal):
        with pytest.raises(errors.Forbidden):
            services.attend_machine(principal, machine, now=now)
    with pytest.raises(errors.NotFound):
        services.attend_machine(people.principal("stranger"), machine, now=now)


# --- fitness ---


def test_without_commissioning_an_agent_only_advises(granted, machine, propose, agent_principal, people, now):
    Commissioning.objects.filter(machine=machine).update(ended_at=now)
    order = propose(agent_principal)
    assert (order.status, services.is_advice(order)) == ("REJECTED", True)
    assert services.adopt_proposal(people.principal("operator"), order, now=now).status == "APPROVED"


def test_a_drill_that_failed_voids_the_one_that_passed(granted, machine, people, propose, agent_principal, now):
    drill_row(machine, people.operator, now, is_passed=False)
    order = propose(agent_principal)
    assert (order.status, order.rejection_code) == ("REJECTED", "AGENT_COMMANDS_NOT_ALLOWED")
    drill_row(machine, people.operator, now + s(0.5))
    assert propose(agent_principal, now=now + s(0.6)).status == "PENDING_APPROVAL"


def test_an_old_drill_does_not_count(granted, machine, people, propose, agent_principal, now):
    for age_s, wanted in ((86_400, "PENDING_APPROVAL"), (86_400.001, "REJECTED")):
        later = now + s(age_s)
        set_reading(machine, later)
        order = propose(agent_principal, "SET_FAN", 5, now=later)
        assert order.status == wanted
        services.expire_due(now=later + s(300))


# --- two people ---


@pytest.fixture
def grave(granted, machine, propose, agent_principal, now) -> Proposal:
    """An agent's critical order: heater 3 → 8."""
    machine.limits.filter(control="heater").update(max_change_step=9)
    set_reading(machine, now, heater_step=3)
    order = propose(agent_principal, target=8)
    assert (order.significance, order.approvals_needed, order.status) == ("critical", 2, "PENDING_APPROVAL")
    return order


def say_yes(people, who, order, now):
    return services.approve_proposal(people.principal(who), order, digest=order.digest, now=now)


def test_a_critical_order_needs_two_different_people(grave, people, now):
    once = say_yes(people, "operator", grave, now + s(1))
    assert (once.status, once.approver_id) == ("PENDING_APPROVAL", None)
    with pytest.raises(errors.Conflict) as caught:
        say_yes(people, "operator", grave, now + s(2))
    assert caught.value.code == "approved_already"
    twice = say_yes(people, "second_operator", grave, now + s(3))
    assert (twice.status, twice.approver) == ("APPROVED", people.second_operator)
    assert Approval.objects.filter(proposal=grave).count() == 2
    assert verbs(grave) == ["proposal_held", "approval_given", "proposal_approved"]


def test_a_yes_of_somebody_who_lost_the_role_no_longer_counts(grave, people, now):
    say_yes(people, "operator", grave, now)
    Membership.objects.filter(user=people.operator).delete()
    assert say_yes(people, "second_operator", grave, now).status == "PENDING_APPROVAL"


def test_after_the_first_yes_it_still_expires_and_may_be_rejected(grave, people, now):
    say_yes(people, "operator", grave, now)
    services.reject_proposal(people.principal("second_operator"), grave, code="WRONG_TIMING", text="", now=now)
    assert status(grave) == "REJECTED"


def test_the_owner_is_not_the_second_person(grave, people, now):
    say_yes(people, "operator", grave, now)
    with pytest.raises(errors.Forbidden) as caught:
        say_yes(people, "lead", grave, now)
    assert caught.value.code == "owner_cannot_approve"


def test_an_own_order_waits_for_a_second_person_where_the_house_asks(
    machine, people, propose, granted, agent_principal, now
):
    set_policy(people, now, own_second_from="critical")
    agents = propose(agent_principal)
    set_reading(machine, now, heater_step=3)
    own = propose(people.principal("operator"), target=9)
    assert (own.status, own.decision, own.approvals_needed) == ("PENDING_APPROVAL", "HOLD", 1)
    assert own.expires_at == now + s(300)  # not the 20 s of an order that runs at once
    with pytest.raises(errors.Forbidden):
        say_yes(people, "operator", own, now)
    assert say_yes(people, "second_operator", own, now).status == "APPROVED"
    assert (status(agents), agents.outcome_code) == ("ABORTED", "superseded")


def test_an_own_order_that_waits_is_void_like_any_other_once_a_control_moved(machine, people, propose, now):
    set_policy(people, now, own_second_from="critical")
    set_reading(machine, now, heater_step=3)
    own = propose(people.principal("operator"), target=9)
    stands = set_reading(machine, now, heater_step=3)
    assert services.void_held(machine, reading=stands, now=now) == []
    moved = set_reading(machine, now, heater_step=3, fan_step=machine.latest.fan_step + 1)
    assert [order.pk for order in services.void_held(machine, reading=moved, now=now)] == [own.pk]
    assert (status(own), own.outcome_code) == ("ABORTED", "control_moved")


# --- the policy ---


def test_a_new_version_is_in_force_at_once_and_told(people, granted, propose, agent_principal, now):
    assert set_policy(people, now, expires_off_roast_s=77.0).version == 1
    order = propose(agent_principal)
    assert order.expires_at == now + s(77)
    entry = AuditEntry.objects.get(verb="policy_set")
    assert json.loads(entry.payload)["changes"] == ["expires_off_roast_s: 300.0 → 77.0"]
    set_policy(people, now, expires_off_roast_s=78.0)
    assert policies.policy_of(granted.organization_id).version == 2
    assert policies.policy_of(people.stranger_organization.pk).version == 0


def test_the_verdict_says_by_which_version(people, granted, propose, agent_principal, now):
    set_policy(people, now)
    order = propose(agent_principal)
    assert order.transitions.get(to_status="PENDING_APPROVAL").detail["policy_version"] == 1


@pytest.mark.parametrize("who", ["operator", "viewer", "judge"])
def test_only_a_lead_writes_the_policy(people, who, now):
    with pytest.raises(errors.Forbidden):
        services.set_policy(people.principal(who), document=policy.DEFAULT_DOCUMENT, reason="r", now=now)


def test_an_agent_does_not_write_the_policy(agent_principal, now):
    with pytest.raises(errors.Forbidden):
        services.set_policy(agent_principal, document=policy.DEFAULT_DOCUMENT, reason="r", now=now)


def test_a_faulty_policy_is_refused_by_its_places(people, now):
    with pytest.raises(errors.Malformed) as caught:
        set_policy(people, now, veto_window_s=0)
    assert [fault["place"] for fault in caught.value.context["faults"]] == ["numbers.veto_window_s"]
    assert not GovernorPolicy.objects.exists()


def test_who_looked_at_an_older_version_is_told(people, now):
    lead = people.principal("lead")
    services.set_policy(lead, document=policy.DEFAULT_DOCUMENT, reason="r", based_on=0, now=now)
    with pytest.raises(errors.Conflict) as caught:
        services.set_policy(lead, document=policy.DEFAULT_DOCUMENT, reason="r", based_on=0, now=now)
    assert caught.value.code == "policy_moved_on"


def test_a_version_that_is_not_what_was_signed_trusts_no_agent(people, granted, propose, agent_principal, now):
    row = GovernorPolicy(
        organization=granted.organization, version=1, document=policy.DEFAULT_DOCUMENT | {"matrix": {}},
        digest="0" * 64, reason="r", signed_by=people.lead, signed_at=now,
    )  # fmt: skip
    row.save()
    order = propose(agent_principal)
    assert order.status == "REJECTED"
    assert "policy_unreadable" in {reason["code"] for reason in order.reasons}
    assert propose(people.principal("operator")).status == "APPROVED"


# --- the digest and the look ---


@pytest.mark.parametrize(
    ("name", "value"),
    [("runs_at", clock.now()), ("significance", "none"), ("approvals_needed", 0), ("plan_position", 3),
     ("plan_id", "pln_x"), ("rolls_back_id", "prp_x")],
)  # fmt: skip
def test_the_digest_covers_how_an_order_may_run(held, name, value):
    setattr(held, name, value)
    assert services.order_digest(held) != held.digest


def test_the_look_takes_two_queries_whoever_signed_what(people, granted, machine, propose, agent_principal, now):
    set_policy(people, now)
    services.attend_machine(people.principal("operator"), machine, now=now)
    order = propose(agent_principal)
    with CaptureQueriesContext(connection) as queries:
        situation.gather(machine.pk, dataclasses.replace(situation.order_of(order), proposal_id=""), None, now)
    assert len(queries) <= 2


def test_a_grant_for_one_release_is_for_that_release(grant, propose, agent_principal, agent):
    grant("L3", agent_release="2")
    assert propose(agent_principal).rejection_code == "AGENT_COMMANDS_NOT_ALLOWED"
    agent.release = "2"
    agent.save()
    agent_principal.agent.release = "2"
    assert propose(agent_principal).status == "PENDING_APPROVAL"


def test_a_grant_that_runs_out_between_proposal_and_wire_stops_the_order(grant, present, propose, agent_principal, now):
    grant("L5", expires_at=now + s(1))
    order = propose(agent_principal)
    assert order.status == "APPROVED"
    assert claim(order, now + s(1)) is None
    assert status(order) == "REJECTED"
