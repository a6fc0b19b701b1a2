"""Plans as a person sees them: how far each has come, and what may still be done about it. Decides nothing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import Prefetch, Q, QuerySet

from commands.console import order_words
from commands.lifecycle import Status
from commands.models import Plan, Proposal
from commands.plans import sequence
from commands.plans.services_rollback import STOPPED_HALF_WAY, moved_by

#: A plan that stopped half-way is offered to be taken back on its machine's page for this long.
STOPPED_WITHIN = dt.timedelta(hours=1)
PLANS_SHOWN = 5
_UNDER_WAY = (sequence.PlanStatus.APPROVED.value, sequence.PlanStatus.EXECUTING.value)
_NOT_COMPENSATING = ("REJECTED", "ABORTED", "TIMEOUT")


@dataclass(frozen=True, slots=True)
class PlanOrder:
    """One order of a plan, in words."""

    order_id: str
    title: str
    status: str
    status_word: str
    icon: str


@dataclass(frozen=True, slots=True)
class PlanView:
    """A plan in words, and the two things that can be done about one that was let through."""

    plan: Plan
    orders: tuple[PlanOrder, ...]
    may_call_off: bool
    may_compensate: bool
    is_on_the_wire: bool

    @property
    def done(self) -> int:
        """How many of its orders are confirmed."""
        return sum(order.status == Status.COMPLETED.value for order in self.orders)


def shown_on(machine_id: str, now: dt.datetime) -> tuple[PlanView, ...]:
    """Plans of a machine that run, or stopped half-way lately with something to take back. (Those that wait for a
    yes or run out their veto window stand in the queue.)"""
    stopped = Q(status__in=[status.value for status in STOPPED_HALF_WAY], settled_at__gt=now - STOPPED_WITHIN)
    rows = _with_orders(Plan.objects.filter(Q(status__in=_UNDER_WAY) | stopped, machine_id=machine_id))
    views = [plan_view(plan) for plan in rows.order_by("-proposed_at", "-id")[: 4 * PLANS_SHOWN]]
    return tuple(view for view in views if view.may_call_off or view.may_compensate)[:PLANS_SHOWN]


def view_of(plan_id: str) -> PlanView | None:
    """One plan, whatever became of it."""
    plan = _with_orders(Plan.objects.filter(pk=plan_id)).first()
    return plan_view(plan) if plan is not None else None


def _with_orders(plans: QuerySet[Plan]) -> QuerySet[Plan]:
    orders = Proposal.objects.select_related("execution").order_by("plan_position")
    return plans.select_related("proposer_agent", "proposer_user").prefetch_related(
        Prefetch("orders", queryset=orders), "compensations"
    )


def plan_view(plan: Plan) -> PlanView:
    """A plan with its orders and compensations loaded."""
    orders = list(plan.orders.all())  # type: ignore[attr-defined]
    statuses = {Status(order.status) for order in orders}
    is_running = plan.status in sequence.OPEN and bool(statuses & {*_LEFT, Status.EXECUTING})
    standing = [each for each in plan.compensations.all() if each.status not in _NOT_COMPENSATING]  # type: ignore[attr-defined]
    has_moved = any(_has_moved(order) for order in orders)
    is_stopped = plan.status in STOPPED_HALF_WAY and Status.IN_DOUBT not in statuses
    return PlanView(
        plan=plan,
        orders=tuple(_in_words(orders)),
        may_call_off=is_running,
        may_compensate=is_stopped and has_moved and not standing,
        is_on_the_wire=Status.EXECUTING in statuses,
    )


_LEFT = (Status.PENDING_APPROVAL, Status.APPROVED)


def _has_moved(order: Proposal) -> bool:
    moved = moved_by(order)
    return moved is not None and moved.before_step != moved.after_step


def _in_words(orders: Iterable[Proposal]) -> Iterable[PlanOrder]:
    for order in orders:
        word, icon = order_words.STATUS_WORDS.get(order.status, (order.status, "question"))
        yield PlanOrder(order.pk, order_words.order_title(order), str(order.status), str(word), icon)
