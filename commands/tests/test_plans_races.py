"""Many at once on one plan: one end, told once; no two of its transactions wait for each other."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection

from commands import services, situation
from commands.models import Execution, Plan, Proposal, ProposalTransition
from commands.plans import places, sequence, services_plans
from commands.tests.test_services_plans import approve, held_plan, orders_of, plan_of, statuses  # noqa: F401
from commands.tests.test_services_races import at_once

pytestmark = pytest.mark.django_db(transaction=True)


def assert_consistent(plan: Plan, ends: Any) -> None:
    """The plan says what its orders say, each order moved along the table, and nobody deadlocked."""
    plan.refresh_from_db()
    assert plan.status == sequence.status_of(places.items_of(plan.pk)), statuses(plan)
    assert not [end for end in ends if "deadlock" in str(end)]
    if connection.vendor == "postgresql":
        assert not [end for end in ends if str(end).startswith("busy")], ends
    for order in orders_of(plan):
        moves = ProposalTransition.objects.filter(proposal=order).order_by("id")
        path = list(moves.values_list("to_status", flat=True))
        assert len(path) == len(set(path)), path


@pytest.mark.prove
def test_decisions_on_a_plan_and_on_its_orders_have_one_end(
    held_plan: Plan, people: Any, machine: Any, now: Any  # noqa: F811
) -> None:
    operator, second = people.principal("operator"), people.principal("second_operator")
    first = orders_of(held_plan)[0]
    ends = at_once([
        lambda: approve(people, held_plan, now).status,
        lambda: services.approve_proposal(second, first, digest=first.digest, now=now).status,
        lambda: services_plans.reject_plan(second, held_plan, code="WRONG_TIMING", text="", now=now).status,
        lambda: services_plans.abort_plan(operator, held_plan, now=now).status,
        lambda: f"void {len(services.void_held(machine, reading=machine.latest, now=now))}",
    ])  # fmt: skip
    assert_consistent(held_plan, ends)
    assert ends["APPROVED"] <= 1 and ends["REJECTED"] <= 1 and ends["ABORTED"] >= 0
    assert held_plan.status in ("REJECTED", "ABORTED", "APPROVED")


def test_claims_halts_and_aborts_leave_one_order_at_most_on_the_wire(
    held_plan: Plan, people: Any, machine: Any, now: Any  # noqa: F811
) -> None:
    plan = approve(people, held_plan, now)
    operator = people.principal("operator")
    gathered = {
        order.pk: situation.gather(machine.pk, Proposal.objects.select_related("plan").get(pk=order.pk), None, now)
        for order in orders_of(plan)
    }

    def claim(place: int) -> str:
        order = orders_of(plan)[place]
        made = services.claim_execution(order.pk, lease_token=1, situation=gathered[order.pk], now=now)
        return "claimed" if made else "not ours"

    ends = at_once([
        lambda: claim(0), lambda: claim(1), lambda: claim(2),
        lambda: services_plans.abort_plan(operator, plan, now=now).status,
        lambda: services.open_halt(machine, kind="stop", by=operator, now=now).kind,
    ])  # fmt: skip
    assert_consistent(plan, ends)
    assert ends["claimed"] <= 1 and Execution.objects.count() == ends["claimed"]
    assert {order.status for order in orders_of(plan)[1:]} == {"ABORTED"}, statuses(plan)
