"""A plan follows its orders: what every move of one of them does to the rest. Called by the one mover, inside its
transaction."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

from commands.lifecycle import Status
from commands.models import Plan, Proposal
from commands.plans import sequence
from commands.plans.places import items_of
from kernel import audit, canonical, live, prepared
from kernel.errors import Conflict
from kernel.principals import Principal, system_principal

#: Aborts one order that is not on the wire; False when somebody else moved it first (``records.moves.call_off``).
CallOff = Callable[..., bool]


def hold(plan_id: str) -> Plan:
    """The plan, locked until the transaction ends: its orders move one at a time, whoever moves them."""
    plan = _HELD.first(plan=plan_id)
    if plan is None:
        raise Plan.DoesNotExist(plan_id)
    return plan


_HELD = prepared.PreparedObjects(
    lambda plan: (
        Plan.objects.select_for_update(of=("self",))
        .select_related("organization", "machine")
        .filter(pk=plan)
        .order_by()
    ),
    "plan",
)
_REST = prepared.PreparedObjects(
    lambda plan: (
        Proposal.objects.filter(plan_id=plan)
        .select_related("organization", "machine", "proposer_agent", "proposer_user", "approver")
        .order_by("-plan_position")
    ),
    "plan",
)


def require_whole(plan: Plan, to: Status, approver: Any) -> None:
    """An order of a plan is never approved by itself: who approves has named the plan's digest. Conflict."""
    if to is Status.APPROVED and approver is not None and plan.approver_id != approver.pk:
        raise Conflict(
            "part_of_plan",
            "This order is part of a plan, which is approved as a whole.",
            "Approve the plan's digest: POST /v1/plans/{id}/approve.",
            plan_id=plan.pk,
        )


def follow(plan: Plan, moved: Proposal, *, now: dt.datetime, call_off: CallOff) -> None:
    """Stop the plan where an order of it was not confirmed; then its status is what its orders' say."""
    if moved.outcome_code != sequence.STOPPED:  # else the stop is under way already, above us
        items = items_of(plan.pk)
        _stop_rest(plan, moved, sequence.to_stop(items), now, call_off)
    items = items_of(plan.pk)
    settle(plan, items, now=now)


def _stop_rest(plan: Plan, moved: Proposal, positions: list[int], now: dt.datetime, call_off: CallOff) -> None:
    if not positions:
        return
    actor = system_principal("plan", plan.organization)
    at = (moved.plan_position or 0) + 1
    why = moved.outcome_message or moved.rejection_text or moved.status
    message = f"Order {at} of the plan is {moved.status}: {why}"[:500]
    for proposal in _REST.rows(plan=plan.pk):
        if proposal.plan_position not in positions:
            continue
        call_off(
            proposal, actor, code=sequence.STOPPED, message=message, now=now,
            detail={"plan_id": plan.pk, "stopped_by": moved.pk},
        )  # fmt: skip


def settle(plan: Plan, items: list[sequence.Item], *, now: dt.datetime) -> None:
    """Write the status that the orders say, once; a settled plan stays as it is."""
    new = sequence.status_of(items)
    if plan.status == new or plan.status not in sequence.OPEN:
        return
    changes: dict[str, Any] = {"status": new.value}
    if new not in sequence.OPEN:
        changes |= _ending(plan, items, now)
    if prepared.update(Plan, plan.pk, changes, where={"status": str(plan.status)}) != 1:
        return
    for name, value in changes.items():
        setattr(plan, name, value)
    tell(plan, system_principal("plan", plan.organization), f"plan_{new.value.lower()}", now)


def _ending(plan: Plan, items: list[sequence.Item], now: dt.datetime) -> dict[str, Any]:
    end = sequence.stopper(items)
    if end is None:
        return {"settled_at": now, "outcome_code": "", "outcome_message": f"All {len(items)} orders were confirmed."}
    order = next(order for order in _REST.rows(plan=plan.pk) if order.plan_position == end.position)
    done = sum(item.status is Status.COMPLETED for item in items)
    why = order.outcome_message or order.rejection_text
    return {
        "settled_at": now,
        "outcome_code": (order.outcome_code or order.rejection_code)[:40],
        "outcome_message": f"{done} of {len(items)} orders were confirmed; order {end.position + 1} is "
        f"{end.status.value}: {why}",
    }


def tell(plan: Plan, actor: Principal, verb: str, now: dt.datetime, detail: dict[str, Any] | None = None) -> None:
    """What the record and the consoles hear of a plan."""
    document = plan_document(plan)
    audit.record(plan.organization, actor, verb, "plan", plan.pk, document | (detail or {}), now=now)
    live.publish_decision(plan.organization, "plan", plan.pk, plan.machine_id, document, now=now)


def plan_document(plan: Plan) -> dict[str, Any]:
    """A plan as told on the stream."""
    return {
        "plan_id": plan.pk,
        "machine_id": plan.machine_id,
        "roast_id": plan.roast_id,
        "status": str(plan.status),
        "title": plan.title,
        "decision": plan.decision,
        "significance": plan.significance,
        "digest": plan.digest,
        "expires_at": canonical.utc_text(plan.expires_at),
        "compensates": plan.compensates_id,
        "outcome_code": plan.outcome_code,
    }
