"""Plans with a real loop, a real keeper and the wire of a virtual machine: in turn, at most once each, stopped."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from commands import services
from commands.models import Execution, MachineLease, Plan, Proposal
from commands.plans import services_plans
from commands.plans.services_plans import PlannedOrder
from commands.rules.conversion import OrderType
from commands.tests.real_machine import RealMachine, wait_for
from commands.tests.rows import person_row
from commands.tests.test_loop_real import latest, operator, rig, settled, tending  # noqa: F401
from kernel import clock, keys
from kernel.models import Agent
from kernel.principals import for_key, for_user
from roasts.models import ControlLimit, Machine

pytestmark = pytest.mark.django_db(transaction=True)
HEATER_DOWN, FAN_UP = "3402aaaa", "3101aaaa"
APART_S = 8.0


def propose(principal: Any, machine: Machine, *orders: tuple[OrderType, int]) -> Plan:
    return services_plans.propose_plan(
        principal, machine=Machine.objects.get(pk=machine.pk), title="Ease off", reasoning="test", now=clock.now(),
        orders=[PlannedOrder(kind, step, "step") for kind, step in orders],
    )  # fmt: skip


def ended(plan: Plan, timeout_s: float = 30.0) -> Plan:
    def look() -> Plan | None:
        plan.refresh_from_db()
        return plan if plan.status not in ("PENDING_APPROVAL", "APPROVED", "EXECUTING") else None

    found: Plan = wait_for(look, timeout_s, f"the end of {plan.pk}")
    return found


def orders_of(plan: Plan) -> list[Proposal]:
    return list(Proposal.objects.filter(plan=plan).order_by("plan_position"))


def statuses(plan: Plan) -> list[str]:
    return [order.status for order in orders_of(plan)]


def wire(real: RealMachine) -> list[str]:
    return [entry["hex"] for entry in real.commands()]


def test_a_persons_plan_goes_over_the_wire_in_order(rig) -> None:  # noqa: F811
    real, machine = rig
    browser = Client()
    browser.force_login(person_row("anna", "operator"))
    with tending(machine):
        wait_for(lambda: latest().at)
        orders = [
            {"order_type": "SET_POWER", "target_value": 3, "target_unit": "step"},
            {"order_type": "SET_FAN", "target_value": 5, "target_unit": "step"},
            {"order_type": "SET_POWER", "target_value": 2, "target_unit": "step"},
        ]
        body = {"machine_id": machine.pk, "title": "Ease off", "reasoning": "test", "orders": orders}
        answer = browser.post("/v1/plans", body, content_type="application/json")
        assert answer.status_code == 201, answer.content
        plan = ended(Plan.objects.get(pk=answer.json()["plan_id"]))
        assert (plan.status, statuses(plan)) == ("COMPLETED", ["COMPLETED"] * 3), plan.outcome_message
        assert wire(real) == [HEATER_DOWN] * 2 + [FAN_UP] * 2 + [HEATER_DOWN]
        assert (real.status()["heater_step"], real.status()["fan_step"]) == (2, 5)
        shown = browser.get(f"/v1/plans/{plan.pk}").json()
        assert [order["outcome"]["actual_step"] for order in shown["orders"]] == [3, 5, 2]
        back = browser.post(
            f"/v1/proposals/{orders_of(plan)[1].pk}/rollback", {"reasoning": "too much air"},
            content_type="application/json",
        )  # fmt: skip
        assert back.status_code == 201, back.content
        done = settled(Proposal.objects.get(pk=back.json()["proposal_id"]))
        assert (done.status, done.actual_step, real.status()["fan_step"]) == ("COMPLETED", 3, 3), done.outcome_message


def test_a_keeper_killed_in_a_plans_second_order_ends_the_plan(rig) -> None:  # noqa: F811
    real, machine = rig
    anna = operator()
    with tending(machine):
        wait_for(lambda: latest().at)
        plan = propose(anna, machine, (OrderType.SET_POWER, 4), (OrderType.SET_FAN, 12), (OrderType.SET_POWER, 2))
        wait_for(lambda: FAN_UP in wire(real), what="the second order's first step")
        real.kill_keeper()
        plan = ended(plan)
        at_end = wire(real)
        clock.sleep(1.0)
        assert wire(real) == at_end, "nothing was sent afterwards"
    first, fan, last = orders_of(plan)
    assert at_end.count(HEATER_DOWN) == 1, "the first was sent once, the third never"
    assert first.status == "COMPLETED"
    assert (last.status, last.outcome_code) == ("ABORTED", "plan_stopped"), last.outcome_message
    assert real.status()["fan_step"] == 3 + at_end.count(FAN_UP) == fan.actual_step, "every byte is one step, told"
    assert plan.status == "FAILED"
    assert Execution.objects.filter(proposal__plan=plan).count() == 2


@pytest.mark.prove
def test_a_loop_that_died_between_two_orders_is_followed_by_one_that_goes_on(rig) -> None:  # noqa: F811
    """The first is confirmed in the store: that is the proof by which the next loop goes on, in its time."""
    real, machine = rig
    ControlLimit.objects.filter(machine=machine, control="fan").update(min_interval_s=APART_S)
    agent = Agent.objects.create(organization=machine.organization, name="roastrunner", created_at=clock.now())
    lead = for_user(person_row("lara", "lead"))
    services.grant_autonomy(lead, agent=agent, machine=machine, level="L3", now=clock.now())
    key, _plain = keys.create_key(machine.organization, agent=agent, scopes=["read", "propose"], now=clock.now())
    with tending(machine):
        wait_for(lambda: latest().at)
        plan = propose(for_key(key), machine, (OrderType.SET_FAN, 4), (OrderType.SET_FAN, 5))
        Proposal.objects.update(seen_bean_temp_c=None)  # whether the beans keep to their prediction is not asked here
        assert plan.status == "PENDING_APPROVAL", plan.reasons
        services_plans.approve_plan(operator(), plan, digest=plan.digest, now=clock.now())
        wait_for(lambda: orders_of(plan)[0].status == "COMPLETED", what="the first order")
    assert statuses(plan) == ["COMPLETED", "APPROVED"], "the second keeps its distance, and the loop is gone"
    MachineLease.objects.update(expires_at=clock.now())  # as after kill -9: it said nothing
    with tending(machine):
        plan = ended(plan)
    assert (plan.status, statuses(plan)) == ("COMPLETED", ["COMPLETED", "COMPLETED"]), plan.outcome_message
    assert wire(real) == [FAN_UP] * 2, "at most once each"
    first, second = Execution.objects.filter(proposal__plan=plan).order_by("claimed_at")
    assert (second.claimed_at - first.concluded_at).total_seconds() >= APART_S


@pytest.mark.prove
def test_a_loop_that_died_in_an_order_leaves_a_doubt_and_the_rest_is_never_sent(rig) -> None:  # noqa: F811
    real, machine = rig
    anna = operator()
    with tending(machine):
        wait_for(lambda: latest().at)
    plan = propose(anna, machine, (OrderType.SET_POWER, 4), (OrderType.SET_FAN, 5))
    first = orders_of(plan)[0]
    Execution.objects.create(proposal=first, machine=machine, lease_token=1, from_step=5, claimed_at=clock.now())
    Proposal.objects.filter(pk=first.pk).update(status="EXECUTING")
    MachineLease.objects.update(expires_at=clock.now())
    with tending(machine):
        plan = ended(plan, 40)
    first, fan = orders_of(plan)
    assert (first.status, first.outcome_code) == ("FAILED", "not_sent"), "the wire log holds no byte of it"
    assert (fan.status, fan.outcome_code, wire(real)) == ("ABORTED", "plan_stopped", [])


@pytest.mark.prove
def test_stop_ends_a_plan_at_once(rig) -> None:  # noqa: F811
    real, machine = rig
    anna = operator()
    with tending(machine):
        wait_for(lambda: latest().at)
        plan = propose(anna, machine, (OrderType.SET_FAN, 12), (OrderType.SET_DRUM, 5))
        wait_for(lambda: FAN_UP in wire(real), what="the first order's first step")
        services.open_halt(machine, kind="stop", by=anna, stop_id="hlt_plan", now=clock.now())
        wait_for(lambda: orders_of(plan)[1].status == "ABORTED", what="the rest called off")
        plan = ended(plan)
    assert "32" not in {data[:2] for data in wire(real)}, "the drum was never touched"
    assert plan.status in ("ABORTED", "FAILED")
