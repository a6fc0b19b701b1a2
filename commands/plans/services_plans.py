"""Plans: proposed, approved as one digest, called off. One transaction each; their orders' moves move them.

What becomes of a plan while its orders run is `services_plan_moves`' business.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.db import IntegrityError, transaction

from commands import services, situation
from commands.lifecycle import BEFORE_THE_WIRE, Status
from commands.models import Plan, Proposal
from commands.plans import places, sequence
from commands.plans.services_plan_moves import hold, tell
from commands.reasons import Code, Decision, Reason, Verdict, weigh
from commands.records.executions import request_abort
from commands.records.moves import WITH_NAMES, call_off, require_loop
from commands.rules import significance
from commands.rules.conversion import OrderType
from commands.rules.values import Situation
from kernel import ids, prepared
from kernel.errors import ApiError, Conflict, Forbidden, NotFound, Stale, Unprocessable
from kernel.principals import Principal
from roasts.models import Machine, Roast

logger = logging.getLogger(__name__)
MAX_TRIES = 3
PLAN_NAMES = ("organization", "machine", "proposer_agent", "proposer_user", "approver")


@dataclass(frozen=True, slots=True)
class PlannedOrder:
    """One order of a plan, as asked."""

    order_type: OrderType
    value: float | None
    unit: str
    reasoning: str = ""  # empty: the plan's
    evidence: tuple[Any, ...] = ()
    constraints: Mapping[str, Any] | None = None
    rolls_back: Proposal | None = None


def propose_plan(
    principal: Principal,
    *,
    machine: Machine,
    title: str,
    reasoning: str,
    orders: Sequence[PlannedOrder],
    roast: Roast | None = None,
    expires_in_s: float | None = None,
    compensates: Plan | None = None,
    now: dt.datetime,
) -> Plan:
    """Judge and file several orders as one. Each is judged from what those before it leave behind; the worst decides
    for all. A person's own plan runs at once; a refused one is filed as REJECTED with every reason.

    Forbidden, NotFound, Unprocessable as for one order, and where these orders are no plan; Conflict
    ``plan_open``: an agent's plan is open on this machine already.
    """
    refusal = sequence.refuse_shape([order.order_type for order in orders])
    if refusal is not None:
        raise Unprocessable(refusal.code, refusal.message, refusal.how_to_fix)
    if not principal.may("propose"):
        raise Forbidden("not_allowed", f"{principal.name} may not order here.", "Ask for the role, or the key's scope.")
    if principal.organization is None or machine.organization_id != principal.organization.pk:
        raise NotFound()
    require_loop(machine)
    for _ in range(MAX_TRIES):
        plan = _new_plan(principal, machine, title, reasoning, compensates, now)
        looked = _look_at_all(principal, plan, orders, roast, expires_in_s, now)
        try:
            return _file(principal, plan, looked, now)
        except IntegrityError as error:
            _raise_open_plan(machine, error)
            logger.info("proposing the plan again after a race: %s", error)
    raise Conflict(Code.CONFLICT.value, "Other orders came first.", "Look at the queue, then try again.")


def _raise_open_plan(machine: Machine, error: IntegrityError) -> None:
    standing = Plan.objects.filter(
        machine=machine, proposer_agent__isnull=False, status__in=[status.value for status in sequence.OPEN]
    ).first()
    if standing is not None:
        raise Conflict(
            "plan_open", f"A plan of an agent is {standing.status} on this machine.", "Wait until it is over.",
            plan_id=standing.pk,
        ) from error  # fmt: skip


def _new_plan(
    principal: Principal, machine: Machine, title: str, reasoning: str, compensates: Plan | None, now: dt.datetime
) -> Plan:
    return Plan(
        id=ids.new("pln"), organization=principal.organization, machine=machine, title=title, reasoning=reasoning,
        proposer_agent=principal.agent, proposer_user=principal.user if principal.is_person else None,
        compensates=compensates, proposed_at=now, expires_at=now,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Looked:
    """One order of the plan: what is asked, its situation, and the controls as they really read now."""

    asked: services.Asked
    situation: Situation
    steps_now: Mapping[str, int | None]
    verdict: Verdict


def _look_at_all(
    principal: Principal, plan: Plan, orders: Sequence[PlannedOrder], roast: Roast | None, expires_in_s: float | None,
    now: dt.datetime,
) -> list[_Looked]:  # fmt: skip
    """Every order where it stands, with the plan's significance and its own deadline, judged."""
    asked = [
        services.Asked(
            plan.machine, order.order_type, order.value, order.unit, order.reasoning or plan.reasoning, roast,
            order.evidence, dict(order.constraints or {}), expires_in_s, rolls_back=order.rolls_back, plan=plan,
            plan_position=position,
        )
        for position, order in enumerate(orders)
    ]  # fmt: skip
    actual = [services.look_at_asked(principal, each, now) for each in asked]
    items = [
        sequence.Item(position, Status.PROPOSED, each.order.control, each.order.target_step)
        for position, each in enumerate(actual)
    ]
    found = [sequence.placed(each, items[:position]) for position, each in enumerate(actual)]
    rated = significance.highest([each.rated for each in found])
    waits_s = [_wait_s(items, position, each) for position, each in enumerate(found)]
    ends = sequence.deadlines(found[0].order.expires_at, waits_s)
    judged = [
        replace(each, order=replace(each.order, floor=rated, expires_at=end))
        for each, end in zip(found, ends, strict=True)
    ]
    verdicts = _as_one([services.reviewed(each) for each in judged])
    plan.significance = rated.level.value if rated is not None else ""
    plan.roast_id, plan.expires_at = judged[0].roast_id, ends[0]
    plan.decision = verdicts[0].decision.value
    plan.reasons = _told(verdicts)
    return [
        _Looked(one, each, was.reading.steps if was.reading is not None else {}, verdict)
        for one, each, was, verdict in zip(asked, judged, actual, verdicts, strict=True)
    ]


def _wait_s(items: Sequence[sequence.Item], position: int, found: Situation) -> float:
    return sequence.wait_s(
        items, position, found.limits, is_by_agent=found.order.is_by_agent, constraints=found.order.constraints
    )


def _as_one(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Every order gets the worst one's decision; one that had a milder one says where it comes from."""
    whole = sequence.decide(verdicts)
    codes = {
        Decision.REFUSE: (Code.PLAN_REFUSED, "Another order of this plan is refused, so none of it runs."),
        Decision.HOLD: (Code.PLAN_HELD, "Another order of this plan is held: the plan is decided as one."),
        Decision.VETO: (Code.PLAN_VETO, "Another order of this plan is open to veto: so is the whole plan."),
    }
    found = []
    for verdict in verdicts:
        if verdict.decision is whole:
            found.append(verdict)
            continue
        code, message = codes[whole]
        reason = Reason(code, whole, message, "Propose the orders one by one, or change the other one.")
        found.append(weigh((*verdict.reasons, reason)))
    return found


def _told(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """The plan's reasons: each order's that decided, with its place."""
    return [
        {**reason.to_json(), "position": position}
        for position, verdict in enumerate(verdicts)
        for reason in verdict.reasons
        if reason.decision is verdict.decision
    ]


def _file(principal: Principal, plan: Plan, looked: Sequence[_Looked], now: dt.datetime) -> Plan:
    """The plan and its orders, born together."""
    proposals = [services.new_proposal(principal, each.asked, each.situation, each.verdict, now) for each in looked]
    needed = max(proposal.approvals_needed for proposal in proposals)
    for proposal, each in zip(proposals, looked, strict=True):
        proposal.approvals_needed = needed
        for control in situation.CONTROLS:  # judged by what will stand; proposed on what stood
            setattr(proposal, f"seen_{control}_step", each.steps_now.get(control))
    plan.digest = sequence.digest_of([proposal.digest for proposal in proposals])
    plan.status = _STATUS_AT_BIRTH[Decision(plan.decision)].value
    with transaction.atomic():
        if plan.status not in sequence.OPEN:
            plan.settled_at = now
            plan.outcome_code, plan.outcome_message = services.rejection_of(_worst_refusal(looked))
        prepared.insert(plan)
        if plan.decision == Decision.ALLOW:
            for proposal in proposals:
                prepared.insert(proposal)
        for proposal, each in zip(proposals, looked, strict=True):
            if plan.decision == Decision.ALLOW and principal.is_person:
                services.supersede(proposal, each.situation, principal, now)
            services.file_by_verdict(proposal, each.situation, each.verdict, now)
        order_ids = [proposal.pk for proposal in proposals]
        tell(plan, principal, "plan_proposed", now, {"reasons": plan.reasons, "orders": order_ids})
    return plan_of(principal, plan)


_STATUS_AT_BIRTH = {
    Decision.ALLOW: sequence.PlanStatus.PENDING_APPROVAL,  # its orders' moves take it on, in the same transaction
    Decision.VETO: sequence.PlanStatus.PENDING_APPROVAL,
    Decision.HOLD: sequence.PlanStatus.PENDING_APPROVAL,
    Decision.REFUSE: sequence.PlanStatus.REJECTED,
}


def _worst_refusal(looked: Sequence[_Looked]) -> Verdict:
    """The verdict that refused by itself, not for another's sake."""
    own = [each.verdict for each in looked if any(r.code is not Code.PLAN_REFUSED for r in each.verdict.refusals)]
    return own[0] if own else looked[0].verdict


# --- decided by people


def approve_plan(principal: Principal, plan: Plan, *, digest: str, now: dt.datetime) -> Plan:
    """A person says yes to exactly these orders in exactly this order. With all the yeses it needs it is APPROVED.

    Every order's own rules of approval hold (``services.approve_proposal``): Forbidden, Conflict, Stale.
    """
    plan = plan_of(principal, plan)
    with transaction.atomic():
        held = hold(plan.pk)
        orders = orders_of(plan)
        if digest != held.digest or sequence.digest_of([order.digest for order in orders]) != held.digest:
            raise Stale(
                Code.STALE_DIGEST.value, "The digest is not this plan's: you looked at something else.",
                "Read the plan again and approve the digest it shows now.",
            )  # fmt: skip
        first = _first_undecided(held, orders)
        if principal.user is not None:
            Plan.objects.filter(pk=plan.pk).exclude(proposer_user=principal.user).update(
                approver=principal.user, decided_at=now
            )
        moved = [services.approve_proposal(principal, order, digest=order.digest, now=now) for order in orders[first:]]
        if any(order.status == Status.PENDING_APPROVAL for order in moved):  # it needs another person's yes
            Plan.objects.filter(pk=plan.pk).update(approver=None, decided_at=None)
        tell(plan_of(principal, plan), principal, "plan_approved", now, {"digest": digest})
    return plan_of(principal, plan)


def _first_undecided(plan: Plan, orders: Sequence[Proposal]) -> int:
    """Position of the first order that waits for a person; Conflict where none does."""
    for position, order in enumerate(orders):
        if order.status == Status.PENDING_APPROVAL:
            return position
    raise Conflict(
        Code.NOT_AWAITING_APPROVAL.value, f"This plan is not awaiting approval: it is {plan.status}.",
        "Look at its orders; a new plan needs a new proposal.", plan_id=plan.pk, status_now=str(plan.status),
    )  # fmt: skip


def reject_plan(principal: Principal, plan: Plan, *, code: str, text: str, now: dt.datetime) -> Plan:
    """A person turns a held plan down: its first order is rejected, and the rest with it."""
    return _with_first_held(
        principal, plan, lambda order: services.reject_proposal(principal, order, code=code, text=text, now=now)
    )


def veto_plan(principal: Principal, plan: Plan, *, text: str, now: dt.datetime) -> Plan:
    """An operator stops a plan in its veto window, or one that was just released and has not begun."""
    plan = plan_of(principal, plan)
    with transaction.atomic():
        hold(plan.pk)
        waiting = [order for order in orders_of(plan) if Status(order.status) in BEFORE_THE_WIRE]
        if not waiting:
            raise _is_over(plan)
        services.veto_proposal(principal, waiting[0], text=text, now=now)
    return plan_of(principal, plan)


def _with_first_held(principal: Principal, plan: Plan, act: Callable[[Proposal], Proposal]) -> Plan:
    plan = plan_of(principal, plan)
    with transaction.atomic():
        held = hold(plan.pk)
        orders = orders_of(plan)
        act(orders[_first_undecided(held, orders)])
    return plan_of(principal, plan)


def abort_plan(principal: Principal, plan: Plan, *, text: str = "", now: dt.datetime) -> Plan:
    """Call a plan off: what is not on the wire yet never goes; an order that is on it writes nothing more.

    Any operator; an agent withdraws its own while it waits. Conflict ``plan_over``, ``in_doubt``.
    """
    plan = plan_of(principal, plan)
    is_own = principal.agent is not None and plan.proposer_agent_id == principal.agent.pk
    if not (principal.is_person and principal.may("operate")) and not is_own:
        raise Forbidden("not_allowed", f"{principal.name} may not call off this plan.", "Ask an operator.")
    with transaction.atomic():
        held = hold(plan.pk)
        orders = orders_of(plan)
        waiting = [order for order in orders if Status(order.status) in BEFORE_THE_WIRE]
        on_wire = [order for order in orders if order.status in (Status.EXECUTING, Status.IN_DOUBT)]
        if not waiting and not on_wire:
            raise _is_over(held)
        if is_own and any(order.status != Status.PENDING_APPROVAL for order in orders):
            raise Conflict(
                "not_abortable", "It has been let through: only an operator calls it off now.", "Ask an operator.",
                plan_id=plan.pk, status_now=str(held.status),
            )  # fmt: skip
        if waiting:
            call_off(waiting[0], principal, code=Code.WITHDRAWN.value, message=text or "Called off.", now=now)
        for order in on_wire:
            if waiting and order.status == Status.IN_DOUBT:
                continue  # nothing more of it is sent anyway
            request_abort(principal, order, text=text, now=now)
    return plan_of(principal, plan)


def _is_over(plan: Plan) -> ApiError:
    return Conflict(
        "plan_over", f"This plan is {plan.status}: nothing of it waits any more.", "Look at its orders.",
        plan_id=plan.pk, status_now=str(plan.status),
    )  # fmt: skip


# --- read


def plan_of(principal: Principal, plan: Plan) -> Plan:
    """The row as it stands now, if it is the principal's organisation's; else it is not there."""
    fresh = own_plan(principal, plan.pk)
    if fresh is None:
        raise NotFound()
    return fresh


def own_plan(principal: Principal, plan_id: str) -> Plan | None:
    """The principal's organisation's plan as it stands now, with everybody's names; None where it has no such."""
    own = principal.organization
    return None if own is None else _OWN.first(plan=plan_id, organization=own.pk)


def orders_of(plan: Plan) -> list[Proposal]:
    """A plan's orders in their order, with everybody's names."""
    return _ORDERS.rows(plan=plan.pk)


_OWN = prepared.PreparedObjects(
    lambda plan, organization: (
        Plan.objects.filter(pk=plan, organization_id=organization).select_related(*PLAN_NAMES).order_by()
    ),
    "plan",
    "organization",
)
_ORDERS = prepared.PreparedObjects(
    lambda plan: Proposal.objects.filter(plan_id=plan).select_related(*WITH_NAMES).order_by("plan_position"), "plan"
)


def is_due(proposal: Proposal, now: dt.datetime) -> bool:
    """May the loop take it: an order of a plan keeps its distance to the one before it on the same control."""
    if proposal.plan_id is None or proposal.proposer_agent_id is None or not proposal.control:
        return True
    items, position = places.items_of(proposal.plan_id), proposal.plan_position or 0
    after_s = sequence.wait_s(
        items, position, situation.limits_of(proposal.machine_id, proposal.control), is_by_agent=True,
        constraints=situation.constraints_of(proposal.constraints),
    )  # fmt: skip
    due_at = sequence.due_at(items, position, after_s)
    return due_at is None or now >= due_at
