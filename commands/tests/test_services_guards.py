"""What the database refuses when the code is gone around: raw SQL, on whichever database the suite runs."""

from __future__ import annotations

import pytest
from django.db import DatabaseError, connection, transaction

from commands import checks, order_guards, services, situation
from commands.models import Execution, Grant, Proposal
from drivers.port import Outcome, Receipt
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


def refused(match):
    return pytest.raises(DatabaseError, match=match)


def claim(proposal, now):
    gathered = situation.gather(proposal.machine_id, Proposal.objects.get(pk=proposal.pk), None, now)
    return services.claim_execution(proposal.pk, lease_token=1, situation=gathered, now=now)


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


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("order_type", "SET_FAN"), ("control", "fan"), ("target_step", 9), ("target_step", None), ("from_step", 1),
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
    update(held, **approval(held, people.operator))
    held.refresh_from_db()
    assert held.status == "APPROVED"


def test_the_agents_owner_may_not_approve(held, people):
    Membership.objects.create(organization=held.organization, user=people.lead, role="operator")
    with refused("owner"):
        update(held, **approval(held, people.lead))


@pytest.mark.parametrize("who", ["stranger", "judge", "viewer"])
def test_who_is_no_operator_of_this_organisation_may_not_approve(held, people, who):
    with refused("operator of this organisation"):
        update(held, **approval(held, getattr(people, who)))


def test_a_digest_of_something_else_is_no_approval(held, people):
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
