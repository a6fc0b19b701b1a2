"""Orders as the one statement reads them are what their rows say, told plainly."""

from __future__ import annotations

import datetime as dt
import random
from typing import Any

import pytest

from commands.history import analytics, order_rows
from commands.history.analytics import OrderFact
from commands.models import Execution, Proposal, ProposalTransition
from commands.tests.orders_at import GuardsAside, order_at, refused_at
from kernel.models import Agent
from roasts.models import Machine

pytestmark = pytest.mark.django_db
NOON = dt.datetime(2026, 9, 7, 12, tzinfo=dt.UTC)
END = NOON + dt.timedelta(hours=1)


def plainly(order: Proposal) -> OrderFact:
    """docs/analytics.md, one order at a time."""
    ended = {"REJECTED", "ABORTED"}
    is_by_person = order.decision != "REFUSE" and order.status in ended and (
        ProposalTransition.objects.filter(proposal=order, to_status__in=ended, actor_kind="person").exists()
    )  # fmt: skip
    is_refused, is_rejected = (order.status == "REJECTED" and is_by_person is by for by in (False, True))
    reasons = order.reasons if order.decision == "REFUSE" else []
    codes = [reason.get("code", "") for reason in reasons if reason.get("decision") == "REFUSE"]
    is_taken = order.status == "ABORTED" and (is_by_person or order.outcome_code == "suspended")
    attempt = Execution.objects.filter(proposal=order).first()
    has_ended = order.status in ("COMPLETED", "FAILED") and attempt is not None
    return OrderFact(
        order.proposed_at, order.machine_id, order.proposer_agent_id or "", order.order_type, order.status, is_refused,
        ((codes or [""])[0] or order.rejection_code or "no_rules") if is_refused else "", is_rejected,
        order.approver_id is not None,
        bool(order.proposer_agent_id) and (is_rejected or is_taken or order.abort_requested_by_id is not None),
        ms(order.proposed_at, order.decided_at) if order.approver_id is not None else None,
        ms(attempt.claimed_at, attempt.concluded_at) if has_ended and attempt is not None else None,
    )  # fmt: skip


def ms(begin: dt.datetime, end: dt.datetime | None) -> int | None:
    return None if end is None else round((end - begin).total_seconds() * 1000)


def records(orders: analytics.Orders) -> list[tuple[Any, ...]]:
    """Every order with its names spelt out, in the order of their times."""
    names = orders.names
    return sorted(
        (at, names[machine], names[agent], names[code], *rest)
        for at, machine, agent, code, *rest in orders.records.tolist()
    )


def fill(machine: Machine, agent: Agent, person: Any) -> None:
    """Every kind of order, some at whole seconds, some with waits that end on half a millisecond."""
    draw = random.Random(7)
    statuses = ["COMPLETED", "FAILED", "TIMEOUT", "ABORTED", "REJECTED"]
    with GuardsAside():
        for number in range(120):
            at = NOON + dt.timedelta(seconds=number * 30 + draw.choice([0, 0.25, 0.123456]))
            took_s = draw.choice([1, 0.0005, 0.0015, 1.2345, 2.000499, 2.000501])
            if number % 5 == 0:
                refused_at(machine, at, agent, draw.choice(["too_soon", "above_ceiling"]))
            elif number % 7 == 0:
                order_at(machine, at, draw.choice(["COMPLETED", "FAILED"]), proposer_user=person, took_s=took_s)
            else:
                waited = dt.timedelta(seconds=draw.choice([0, 0.0005, 1.0025, 3.1]))
                signed = {"approver": person, "approved_digest": "d" * 64, "decided_at": at + waited}
                order_at(machine, at, draw.choice(statuses), agent=agent, took_s=took_s, **draw.choice([{}, signed]))
        order_at(machine, NOON + dt.timedelta(seconds=1), "PENDING_APPROVAL", agent=agent)
        order_at(machine, NOON + dt.timedelta(seconds=2), "IN_DOUBT", agent=agent, control="fan", order_type="SET_FAN")
    orders = list(Proposal.objects.order_by("id"))
    for order in orders[::4]:
        if order.status in ("ABORTED", "REJECTED") and order.decision != "REFUSE":
            ProposalTransition.objects.create(
                proposal=order, to_status=order.status, at=END, actor_kind="person", actor_id="p", actor_name="p"
            )
    with GuardsAside():
        chosen = [order.pk for order in orders]
        Proposal.objects.filter(pk__in=chosen[1::9], status="ABORTED").update(outcome_code="suspended")
        Proposal.objects.filter(pk__in=chosen[2::6]).update(abort_requested_at=END, abort_requested_by=person)
        Proposal.objects.filter(pk__in=chosen[::3], decision="REFUSE").update(
            reasons=[{"code": "first", "decision": "HOLD"}, {"decision": "REFUSE"}, {"code": "x", "decision": "REFUSE"}]
        )


def test_what_the_statement_reads_is_what_the_rows_say(machine: Machine, agent: Agent, people: Any) -> None:
    fill(machine, agent, people.operator)
    asked: dict[str, Any] = {"machine": "", "agent": None, "order_type": ""}
    orders = list(Proposal.objects.filter(proposed_at__gte=NOON, proposed_at__lt=END))
    filters: list[dict[str, Any]] = [
        {}, {"machine": machine.pk}, {"machine": "mch_none"}, {"agent": agent.pk}, {"agent": ""},
        {"order_type": "SET_FAN", "agent": agent.pk},
    ]  # fmt: skip
    for each in filters:
        chosen = [
            order
            for order in orders
            if each.get("machine", machine.pk) == order.machine_id
            and each.get("agent", order.proposer_agent_id or "") == (order.proposer_agent_id or "")
            and each.get("order_type", order.order_type) == order.order_type
        ]
        found = order_rows.read(machine.organization_id, NOON, END, **asked | each)
        assert records(found) == records(analytics.of_facts([plainly(order) for order in chosen])), each
    assert len(orders) > 100
