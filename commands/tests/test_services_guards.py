"""What the database refuses when the code is gone around: raw SQL, on whichever database the suite runs."""

from __future__ import annotations

import datetime as dt
from contextlib import contextmanager

import pytest
from django.db import DatabaseError, connection, transaction
from django.db.migrations import recorder

from commands import checks, services, situation
from commands.models import Approval, Attendance, Execution, GovernorPolicy, Grant, Proposal
from commands.records import order_guards
from commands.rules import policy
from commands.tests.conftest import set_reading
from drivers.port import Outcome, Receipt
from kernel import clock
from kernel.models import Membership, Organization

pytestmark = pytest.mark.django_db
TABLE = Proposal._meta.db_table


def sql(statement, *values):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement, values)


def update(proposal, **columns):
    """Raw UPDATE of one proposal."""
    names = ", ".join(f"{name} = %s" for name in columns)
    sql(f"UPDATE {TABLE} SET {names} WHERE id = %s", *columns.values(), proposal.pk)


@contextmanager
def refused(match):
    with pytest.raises(DatabaseError, match=match), transaction.atomic():
        yield


def claim(proposal, now):
    gathered = situation.gather(proposal.machine_id, Proposal.objects.get(pk=proposal.pk), None, now)
    return services.claim_execution(proposal.pk, lease_token=1, situation=gathered, now=now)


def say_yes(proposal, user, digest=None):
    return Approval.objects.create(proposal=proposal, user=user, digest=digest or proposal.digest, at=clock.now())


def approval(proposal, user):
    return {"status": "APPROVED", "approver_id": user.pk, "approved_digest": proposal.digest}


def test_every_guard_stands():
    assert order_guards.missing(connection) == set()
    assert checks.order_guards_stand(databases=["default"]) == []


def test_a_missing_guard_is_seen():
    with connection.cursor() as cursor:
        on = f" ON {TABLE}" if connection.vendor == "postgresql" else ""
        cursor.execute(f"DROP TRIGGER order_guard_{TABLE}_owner{on}")
    assert [error.id for error in checks.order_guards_stand(databases=["default"])] == ["commands.E001"]


def test_a_guard_that_a_later_migration_brings_does_not_forbid_migrating():
    """`migrate` checks first: an older database must get as far as the migration that puts the guard there."""
    with connection.cursor() as cursor:
        on = f" ON {TABLE}" if connection.vendor == "postgresql" else ""
        cursor.execute(f"DROP TRIGGER order_guard_{TABLE}_mission{on}")
    assert [error.id for error in checks.order_guards_stand(databases=["default"])] == ["commands.E001"]
    recorder.MigrationRecorder(connection).record_unapplied("commands", "0008_mission")
    assert checks.order_guards_stand(databases=["default"]) == []


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("mission", "msn_2"), ("order_type", "SET_FAN"), ("control", "fan"), ("target_step", 9), ("target_step", None),
        ("from_step", 1),
        ("asked_value", 9.0), ("asked_unit", "percent"), ("digest", "f" * 64), ("decision", "ALLOW"),
        ("expires_at", "2036-01-01 00:00:00+00:00"), ("proposed_at", "2036-01-01 00:00:00+00:00"),
        ("proposer_agent_id", None), ("id", "prp_other"),
    ],
)  # fmt: skip
def test_the_substance_of_an_order_is_never_edited(held, column, value):
    with refused("never edited"):
        update(held, **{column: value})


def test_an_order_does_not_change_its_machine(held, machine):
    machine.pk = "mch_other"
    machine.name = "Other"
    machine.save(force_insert=True)
    with refused("never edited"):
        update(held, machine_id="mch_other")


ALL = [
    "PROPOSED",
    "PENDING_APPROVAL",
    "APPROVED",
    "REJECTED",
    "EXECUTING",
    "COMPLETED",
    "FAILED",
    "ABORTED",
    "TIMEOUT",
    "IN_DOUBT",
]


@pytest.mark.parametrize(
    "status", sorted(set(ALL) - {"PENDING_APPROVAL", "APPROVED", "REJECTED", "ABORTED", "TIMEOUT"})
)
def test_a_held_order_makes_no_illegal_move(held, status):
    with refused("no such move|no execution"):
        update(held, status=status)


@pytest.mark.parametrize("status", sorted(set(ALL) - {"REJECTED"}))
def test_a_rejected_order_stays_rejected(held, people, now, status):
    services.reject_proposal(people.principal("operator"), held, code="OTHER", text="no", now=now)
    with refused("no such move|no execution"):
        update(held, status=status)


def test_a_held_order_is_not_approved_by_nobody(held):
    with refused("needs an approver|held_agent_order_needs_approver"):
        update(held, status="APPROVED")


def test_the_operator_may(held, people):
    say_yes(held, people.operator)
    update(held, **approval(held, people.operator))
    held.refresh_from_db()
    assert held.status == "APPROVED"


def test_the_agents_owner_may_not_approve(held, people):
    Membership.objects.create(organization=held.organization, user=people.lead, role="operator")
    with refused("owner|as many people"):
        update(held, **approval(held, people.lead))
    with refused("only another operator"):
        say_yes(held, people.lead)


@pytest.mark.parametrize("who", ["stranger", "judge", "viewer"])
def test_who_is_no_operator_of_this_organisation_may_not_approve(held, people, who):
    with refused("operator of this organisation|as many people"):
        update(held, **approval(held, getattr(people, who)))


@pytest.mark.parametrize("who", ["stranger", "judge", "viewer"])
def test_who_is_no_operator_of_this_organisation_says_no_yes(held, people, who):
    with refused("only another operator"):
        say_yes(held, getattr(people, who))


def test_a_yes_is_to_exactly_a_held_order(held, people):
    with refused("only another operator"):
        say_yes(held, people.operator, digest="0" * 64)
    update(held, status="ABORTED")
    with refused("only another operator"):
        say_yes(held, people.operator)


def test_nobody_says_yes_to_their_own_order(machine, people, propose, now):
    set_reading(machine, now, heater_step=2)
    services.set_policy(
        people.principal("lead"), document=policy.DEFAULT_DOCUMENT | {"own_second_from": "critical"}, reason="two",
        now=now,
    )  # fmt: skip
    order = propose(people.principal("operator"), target=9)
    assert order.status == "PENDING_APPROVAL"
    with refused("only another operator"):
        say_yes(order, people.operator)


def test_an_approver_without_a_recorded_yes_is_none(held, people):
    with refused("as many people"):
        update(held, **approval(held, people.operator))


def test_a_yes_is_said_once_and_never_taken_back(held, people):
    given = say_yes(held, people.operator)
    with refused("(?i)unique|approves_once"):
        say_yes(held, people.operator)
    with refused("append-only"):
        Approval.objects.filter(pk=given.pk).update(digest="0" * 64)
    with refused("append-only"):
        Approval.objects.filter(pk=given.pk).delete()


def test_a_veto_window_has_an_end_after_its_beginning(held, people, agent, now):
    columns = {"decision": "VETO", "runs_at": now}
    values = {
        "organization": held.organization, "machine": held.machine, "order_type": "SET_FAN", "control": "fan",
        "reasoning": "r", "proposer_agent": agent, "digest": "d" * 64, "proposed_at": now, "expires_at": now,
    }  # fmt: skip
    for wrong in (columns, {"decision": "VETO"}, {"decision": "HOLD", "runs_at": now + dt.timedelta(seconds=15)}):
        with refused("has a window"):
            Proposal.objects.create(**values, **wrong)
    with refused("has a window"):
        Proposal.objects.create(**values, decision="HOLD", approvals_needed=0)


def test_a_grant_is_never_worth_more_again(granted):
    Grant.objects.filter(pk=granted.pk).update(lowered_to="L2")
    for level in ("L3", "L4", ""):
        with refused("only falls"):
            Grant.objects.filter(pk=granted.pk).update(lowered_to=level)
    Grant.objects.filter(pk=granted.pk).update(lowered_to="L1")


@pytest.mark.parametrize("column", ["agent_release", "reason"])
def test_what_a_lead_signed_is_not_edited(granted, column):
    with refused("never edited"):
        Grant.objects.filter(pk=granted.pk).update(**{column: "other"})


def test_what_a_lead_relied_on_is_not_edited(granted):
    with refused("never edited"):
        Grant.objects.filter(pk=granted.pk).update(order_types=["DROP"])
    with refused("never edited"):
        Grant.objects.filter(pk=granted.pk).update(evidence=["better"])


@pytest.mark.parametrize("who", ["operator", "stranger", "viewer"])
def test_only_a_lead_of_the_organisation_signs_its_policy(organization, people, who, now):
    with refused("signed by a lead"):
        GovernorPolicy.objects.create(
            organization=organization, version=1, document={}, digest="d", reason="r", signed_by=getattr(people, who),
            signed_at=now,
        )  # fmt: skip


@pytest.mark.parametrize("version", [0, 2])
def test_policy_versions_follow_each_other(organization, people, version, now):
    with refused("next version"):
        GovernorPolicy.objects.create(
            organization=organization, version=version, document={}, digest="d", reason="r", signed_by=people.lead,
            signed_at=now,
        )  # fmt: skip


@pytest.mark.parametrize("who", ["stranger", "viewer", "judge"])
def test_only_an_operator_of_the_house_is_present(machine, people, who, now):
    with refused("an operator is present"):
        Attendance.objects.create(organization=machine.organization, machine=machine, user=getattr(people, who), at=now)


def test_a_digest_of_something_else_is_no_approval(held, people):
    say_yes(held, people.operator)
    with refused("approved_exactly_this_order"):
        update(held, status="APPROVED", approver_id=people.operator.pk, approved_digest="0" * 64)


def test_a_proposer_is_never_the_approver(people, propose):
    order = propose(people.principal("operator"))
    with refused("named once|proposer_is_not_approver"):
        update(order, approver_id=people.operator.pk, approved_digest=order.digest)


def test_the_constraint_stands_without_the_trigger(people, propose):
    order = propose(people.principal("operator"))
    with connection.cursor() as cursor:
        on = f" ON {TABLE}" if connection.vendor == "postgresql" else ""
        cursor.execute(f"DROP TRIGGER order_guard_{TABLE}_approval{on}")
    with refused("proposer_is_not_approver"):
        update(order, approver_id=people.operator.pk, approved_digest=order.digest)


def test_an_approval_is_never_rewritten(held, people, now):
    services.approve_proposal(people.principal("operator"), held, digest=held.digest, now=now)
    with refused("named once"):
        update(held, approver_id=people.second_operator.pk)
    with refused("named once"):
        update(held, approver_id=None)


@pytest.mark.parametrize("status", ["EXECUTING"])
def test_nothing_executes_without_an_execution(people, propose, status):
    order = propose(people.principal("operator"))
    with refused("no execution"):
        update(order, status=status)


def test_completed_without_execution_is_refused_whatever_stood_before(people, propose):
    order = propose(people.principal("operator"))
    with connection.cursor() as cursor:
        on = f" ON {TABLE}" if connection.vendor == "postgresql" else ""
        cursor.execute(f"DROP TRIGGER order_guard_{TABLE}_move{on}")
    for status in ("COMPLETED", "FAILED", "IN_DOUBT"):
        with refused("no execution"):
            update(order, status=status)


@pytest.mark.parametrize("status", sorted(set(ALL) - {"PROPOSED", "PENDING_APPROVAL", "REJECTED"}))
def test_no_order_is_born_moved(held, status):
    clone = Proposal.objects.get(pk=held.pk)
    clone.pk, clone.status, clone.control = "prp_clone", status, "fan"
    with refused("born"), transaction.atomic():
        clone.save(force_insert=True)


def test_no_order_is_born_approved(held, people):
    clone = Proposal.objects.get(pk=held.pk)
    clone.pk, clone.control, clone.approver, clone.approved_digest = "prp_clone", "fan", people.operator, clone.digest
    with refused("born"), transaction.atomic():
        clone.save(force_insert=True)


def test_an_order_belongs_to_its_machines_organisation(held, people):
    clone = Proposal.objects.get(pk=held.pk)
    clone.pk, clone.control = "prp_clone", "fan"
    clone.organization = people.stranger_organization
    with refused("organisation of its machine"), transaction.atomic():
        clone.save(force_insert=True)


def test_two_unsettled_agent_orders_on_one_control_cannot_be(held):
    clone = Proposal.objects.get(pk=held.pk)
    clone.pk = "prp_clone"
    with refused("(?i)unique"), transaction.atomic():
        clone.save(force_insert=True)


@pytest.mark.parametrize("approved", [False, True])
def test_one_execution_of_an_approved_order(held, people, now, approved):
    if not approved:
        with refused("only an approved order"), transaction.atomic():
            Execution.objects.create(proposal=held, machine=held.machine, lease_token=1, claimed_at=now)
        return
    services.approve_proposal(people.principal("operator"), held, digest=held.digest, now=now)
    Execution.objects.create(proposal=held, machine=held.machine, lease_token=1, claimed_at=now)
    with refused("(?i)unique"), transaction.atomic():
        Execution.objects.create(proposal=held, machine=held.machine, lease_token=2, claimed_at=now)


def test_an_attempt_is_never_edited_but_concluded(people, propose, now):
    order = propose(people.principal("operator"))
    execution = claim(order, now)
    with refused("never edited"):
        sql(f"UPDATE {Execution._meta.db_table} SET lease_token = 9 WHERE id = %s", execution.pk)
    services.conclude_execution(execution, Receipt(order.pk, Outcome.PROVED, value_after=5), now=now)
    order.refresh_from_db()
    assert order.status == "COMPLETED"


@pytest.mark.parametrize("table", ["commands_proposaltransition", "commands_executionstage"])
def test_history_only_grows(table, people, propose, now):
    claim(propose(people.principal("operator")), now)
    with refused("append-only"):
        sql(f"UPDATE {table} SET at = at")
    with refused("append-only"):
        sql(f"DELETE FROM {table}")


@pytest.mark.parametrize("who", ["operator", "judge", "stranger"])
def test_a_grant_is_signed_by_a_lead_of_the_house(who, people, agent, machine, now):
    with refused("signed by a lead"), transaction.atomic():
        Grant.objects.create(
            organization=machine.organization,
            agent=agent,
            machine=machine,
            level="L3",
            granted_by=getattr(people, who),
            granted_at=now,
        )


def test_a_grant_over_another_houses_machine_is_refused(people, agent, machine, now):
    other = Organization.objects.get(slug="other")
    with refused("signed by a lead"), transaction.atomic():
        Grant.objects.create(
            organization=other, agent=agent, machine=machine, level="L3", granted_by=people.stranger, granted_at=now
        )


@pytest.mark.parametrize(("column", "value"), [("level", "L5"), ("expires_at", None), ("granted_by_id", 1)])
def test_a_grant_is_never_edited(people, agent, machine, now, column, value):
    import datetime as dt

    grant = services.grant_autonomy(
        people.principal("lead"),
        agent=agent,
        machine=machine,
        level="L3",
        expires_at=now + dt.timedelta(days=1),
        now=now,
    )
    new = people.judge.pk if column == "granted_by_id" else value
    with refused("never edited"):
        sql(f"UPDATE {Grant._meta.db_table} SET {column} = %s WHERE id = %s", new, grant.pk)


def test_a_revoked_grant_does_not_come_back(granted, people, now):
    services.revoke_grant(people.principal("lead"), granted, now=now)
    with refused("never edited"):
        sql(f"UPDATE {Grant._meta.db_table} SET revoked_at = NULL WHERE id = %s", granted.pk)
