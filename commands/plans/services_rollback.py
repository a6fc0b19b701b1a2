"""Going back: of one order, or of a plan that stopped half-way. Always new orders, judged like any other.

Nothing is undone: a control is brought to where it was read before the order's first byte, by whoever asks for it,
under the governor's usual rules. More heat is more heat, also on the way back.
"""

from __future__ import annotations

import datetime as dt

from commands import services, situation
from commands.lifecycle import SETTLED, Status
from commands.models import Plan, Proposal
from commands.plans import sequence
from commands.plans.services_plans import PlannedOrder, plan_of, propose_plan
from commands.records.moves import mine, settled_by
from commands.rules.conversion import OrderType
from kernel.errors import Conflict
from kernel.principals import Principal

#: How a plan ends that stopped half-way.
STOPPED_HALF_WAY = frozenset({sequence.PlanStatus.FAILED, sequence.PlanStatus.ABORTED, sequence.PlanStatus.TIMEOUT})


def roll_back_order(principal: Principal, proposal: Proposal, *, reasoning: str, now: dt.datetime) -> Proposal:
    """A new order that brings the control back to where it was read before this one moved it.

    Conflict: ``not_a_setting``, ``not_settled``, ``nothing_moved``, ``nothing_confirmed``, ``moved_since`` (a hand, or
    another order: with both figures). Else what ``services.propose_order`` says; a refusal is a filed order.
    """
    proposal = mine(principal, proposal)
    moved = moved_by(proposal)
    if not proposal.control:
        raise _cannot(proposal, "not_a_setting", f"{proposal.order_type} sets no control: it is not taken back.",
                      "Bring the machine where you want it, at the machine.")  # fmt: skip
    if Status(proposal.status) not in SETTLED:
        raise _cannot(proposal, "not_settled", f"This order is {proposal.status}: what it moved is not known yet.",
                      "Wait for its end, or call it off.")  # fmt: skip
    if moved is None:
        raise _cannot(proposal, "nothing_moved", f"This order moved nothing: {settled_by(proposal)}.",
                      "Give your own order.")  # fmt: skip
    back = sequence.going_back([moved], _steps_now(proposal.machine_id, now))
    if isinstance(back, sequence.Refusal):
        code = "nothing_moved" if back.code == "nothing_to_compensate" else back.code
        raise _cannot(proposal, code, back.message, back.how_to_fix)
    return services.propose_order(
        principal,
        machine=proposal.machine,
        order_type=proposal.order_type,
        target_value=moved.before_step,
        target_unit="step",
        reasoning=f"{_words(moved)} {reasoning}".strip()[:4000],
        rolls_back=proposal,
        now=now,
    )


def compensate_plan(principal: Principal, plan: Plan, *, reasoning: str, now: dt.datetime) -> Plan:
    """A new plan that takes back, the last first, what a plan that stopped half-way has moved.

    Conflict: ``not_stopped`` (it runs, or all of it was confirmed), ``in_doubt``, ``already_compensated``,
    ``nothing_to_compensate``, ``nothing_confirmed``, ``moved_since``.
    """
    plan = plan_of(principal, plan)
    if plan.status not in STOPPED_HALF_WAY:
        raise Conflict(
            "not_stopped", f"This plan is {plan.status}: there is nothing half done to take back.",
            "Roll single orders back: POST /v1/proposals/{id}/rollback.", plan_id=plan.pk, status_now=str(plan.status),
        )  # fmt: skip
    standing = plan.compensations.exclude(status__in=["REJECTED", "ABORTED", "TIMEOUT"]).first()
    if standing is not None:
        raise Conflict(
            "already_compensated", f"A plan that takes this one back is {standing.status}.", "Look at it.",
            plan_id=standing.pk, status_now=str(standing.status),
        )  # fmt: skip
    orders = {order.pk: order for order in Proposal.objects.filter(plan=plan).select_related("execution")}
    moved = [each for each in map(moved_by, orders.values()) if each is not None]
    back = sequence.going_back(moved, _steps_now(plan.machine_id, now))
    if isinstance(back, sequence.Refusal):
        raise Conflict(back.code, back.message, back.how_to_fix, plan_id=plan.pk, status_now=str(plan.status))
    return propose_plan(
        principal,
        machine=plan.machine,
        title=f"Back: {plan.title}"[:200],
        reasoning=f"Takes back what the plan “{plan.title}” had moved when it stopped. {reasoning}".strip()[:4000],
        orders=[
            PlannedOrder(each.order_type, each.before_step, "step", _words(each), rolls_back=orders[each.order_id])
            for each in back
        ],
        compensates=plan,
        now=now,
    )


def moved_by(proposal: Proposal) -> sequence.Moved | None:
    """What an order did to its control, by the readings around its bytes; None where it is not known to have moved.

    Before: the driver's reading just before the first byte. After: what was read back.
    """
    execution = getattr(proposal, "execution", None)
    if execution is None or not proposal.control or proposal.actual_step is None:
        return None
    before = execution.receipt.get("value_before", execution.from_step)
    return sequence.Moved(
        proposal.plan_position or 0, proposal.pk, OrderType(proposal.order_type), proposal.control, before,
        proposal.actual_step,
    )  # fmt: skip


def _steps_now(machine_id: str, now: dt.datetime) -> dict[str, int | None]:
    """Where the controls read now; unknown where nothing was read. (How fresh that is, the governor judges.)"""
    reading = situation.newest_reading(situation.machine_look(machine_id), now)
    return dict(reading.steps) if reading is not None else {}


def _words(moved: sequence.Moved) -> str:
    return (
        f"Back to the {moved.control}'s last confirmed setting: {moved.after_step} → {moved.before_step} "
        f"(takes back {moved.order_id})."
    )


def _cannot(proposal: Proposal, code: str, message: str, how_to_fix: str) -> Conflict:
    return Conflict(code, message, how_to_fix, proposal_id=proposal.pk, status_now=str(proposal.status))
