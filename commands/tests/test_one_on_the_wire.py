"""A single order and a plan of agents on one control, filed side by side: at most one of them is ever on the wire.

Each was judged before the other was there, so no rule saw both, and no index forbids both to wait: a plan's own orders
wait on one control one behind the other. What decides is the claim: the governor's conflict rule, and behind it the
index ``one_agent_order_on_the_wire``.
"""

from __future__ import annotations

import datetime as dt
import threading
from typing import Any

import pytest
from django.db import IntegrityError, connection, connections, transaction

from commands import services, situation
from commands.models import Execution, Plan, Proposal
from commands.plans import services_plans
from commands.rules.conversion import OrderType
from commands.tests.conftest import set_reading
from commands.tests.test_services_plans import approve, orders_of, plan_of  # noqa: F401
from drivers.port import Outcome, Receipt

pytestmark = pytest.mark.django_db(transaction=True)
POWER, FAN = OrderType.SET_POWER, OrderType.SET_FAN


@pytest.fixture
def both(granted: Any, agent_principal: Any, people: Any, machine: Any, plan_of: Any, now: Any) -> Any:  # noqa: F811
    """(single, plan's first order), both approved: the single one was looked at before the plan was filed."""
    asked = services.Asked(machine, POWER, 4, "step", "It rises too fast.", None, (), {}, None)
    looked = services.look_at_asked(agent_principal, asked, now)
    plan = plan_of(agent_principal, (POWER, 5), (FAN, 5))
    single = services._file(agent_principal, asked, looked, services.reviewed(looked), now)
    approve(people, plan, now)
    services.approve_proposal(people.principal("operator"), single, digest=single.digest, now=now)
    return single, orders_of(plan)[0]


def claimed(order: Proposal, look: situation.Situation, now: dt.datetime) -> Execution | None:
    return services.claim_execution(order.pk, lease_token=1, situation=look, now=now)


def looked_at(order: Proposal, machine: Any, now: dt.datetime) -> situation.Situation:
    row = Proposal.objects.select_related("plan", "proposer_agent", "proposer_user").get(pk=order.pk)
    return situation.gather(machine.pk, row, None, now)


def end_of(order: Proposal) -> tuple[str, str]:
    order.refresh_from_db()
    return order.status, order.outcome_code or order.rejection_code


@pytest.mark.parametrize("first", [0, 1])
def test_the_second_is_refused_at_the_claim_while_the_first_is_on_the_wire(
    both: Any, first: int, machine: Any, now: Any
) -> None:
    winner, loser = both[first], both[1 - first]
    assert claimed(winner, looked_at(winner, machine, now), now) is not None
    assert claimed(loser, looked_at(loser, machine, now), now) is None
    assert end_of(loser) == ("REJECTED", "conflict")
    assert Execution.objects.count() == 1


@pytest.mark.parametrize("first", [0, 1])
def test_once_the_first_has_moved_the_control_the_second_is_void(both: Any, first: int, machine: Any, now: Any) -> None:
    winner, loser = both[first], both[1 - first]
    execution = claimed(winner, looked_at(winner, machine, now), now)
    assert execution is not None
    step = winner.target_step or 0
    receipt = Receipt(winner.pk, Outcome.PROVED, started_monotonic_s=1.0, value_before=6, value_after=step)
    services.conclude_execution(execution, receipt, now=now)
    set_reading(machine, now, heater_step=step)
    assert claimed(loser, looked_at(loser, machine, now), now) is None
    assert end_of(loser) == ("REJECTED", "control_moved")


@pytest.mark.parametrize("first", [0, 1])
def test_two_that_were_both_let_through_at_the_same_moment_meet_at_the_index(
    both: Any, first: int, machine: Any, now: Any
) -> None:
    winner, loser = both[first], both[1 - first]
    looks = {order.pk: looked_at(order, machine, now) for order in both}
    assert claimed(winner, looks[winner.pk], now) is not None
    assert claimed(loser, looks[loser.pk], now) is None, "its look was older than the other's claim"
    assert end_of(loser) == ("APPROVED", ""), "nothing was sent: it is looked at again, and refused then"
    assert claimed(loser, looked_at(loser, machine, now), now) is None
    assert end_of(loser) == ("REJECTED", "conflict")


def test_the_database_itself_refuses_the_second_on_the_wire(both: Any, machine: Any, now: Any) -> None:
    single, planned = both
    assert claimed(single, looked_at(single, machine, now), now) is not None
    with pytest.raises(IntegrityError), transaction.atomic():
        Execution.objects.create(proposal=planned, machine=machine, lease_token=1, claimed_at=now)
        Proposal.objects.filter(pk=planned.pk).update(status="EXECUTING")


def test_a_persons_order_goes_beside_an_agents_doubt(
    both: Any, people: Any, machine: Any, now: Any, propose: Any
) -> None:
    """Less heat waits for nothing: the index is about agents alone."""
    single, _ = both
    execution = claimed(single, looked_at(single, machine, now), now)
    assert execution is not None
    services.mark_in_doubt(execution, code="executor_lost", message="gone", now=now)
    own = propose(people.principal("operator"), target=3)
    assert claimed(own, looked_at(own, machine, now), now) is not None


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite writes one after the other")
def test_two_transactions_side_by_side_file_both_and_send_one(
    granted: Any, agent_principal: Any, people: Any, machine: Any, now: Any, propose: Any, plan_of: Any  # noqa: F811
) -> None:
    """The single order is filed and not yet committed while the plan looks: neither sees the other."""
    is_filed, may_commit, filed = threading.Event(), threading.Event(), []

    def single() -> None:
        with transaction.atomic():
            filed.append(propose(agent_principal, target=4))
            is_filed.set()
            may_commit.wait(20)
        connections.close_all()

    thread = threading.Thread(target=single)
    thread.start()
    try:
        assert is_filed.wait(20)
        plan: Plan = plan_of(agent_principal, (POWER, 5), (FAN, 5))
    finally:
        may_commit.set()
        thread.join(20)
    assert plan.status == "PENDING_APPROVAL" and filed[0].status == "PENDING_APPROVAL"
    approve(people, plan, now)
    services.approve_proposal(people.principal("operator"), filed[0], digest=filed[0].digest, now=now)
    pair = (filed[0], orders_of(plan)[0])
    looks = {order.pk: looked_at(order, machine, now) for order in pair}
    gate, got = threading.Barrier(2), []

    def claim(order: Proposal) -> None:
        gate.wait(20)
        got.append(claimed(order, looks[order.pk], now) is not None)
        connections.close_all()

    racers = [threading.Thread(target=claim, args=(order,)) for order in pair]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(20)
    assert sorted(got) == [False, True]
    assert Proposal.objects.filter(status="EXECUTING").count() == 1 == Execution.objects.count()
    assert services_plans.plan_of(people.principal("operator"), plan).status in ("APPROVED", "EXECUTING")
