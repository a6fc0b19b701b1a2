"""Where an order of a plan stands: its plan's orders read from their rows, for ``commands.situation`` and the loop."""

from __future__ import annotations

import datetime as dt

from django.db.models import Max

from commands.lifecycle import COUNTED, Status
from commands.models import Plan, Proposal
from commands.plans import sequence
from commands.rules.significance import Rated, Significance
from commands.rules.values import Situation
from kernel.prepared import Prepared

DAY = dt.timedelta(hours=24)


def items_of(plan_id: str) -> list[sequence.Item]:
    """The plan's orders as they stand, in order."""
    return [
        sequence.Item(position or 0, Status(status), control, target_step, outcome_code, settled_at)
        for position, status, control, target_step, outcome_code, settled_at in _ITEMS.rows(plan=plan_id)
    ]


_ITEMS = Prepared(
    lambda plan: (
        Proposal.objects.filter(plan_id=plan)
        .order_by("plan_position")
        .values_list("plan_position", "status", "control", "target_step", "outcome_code", "settled_at")
    ),
    "plan",
)
_SIGNIFICANCE = Prepared(lambda plan: Plan.objects.filter(pk=plan).order_by().values_list("significance"), "plan")


def placed(proposal: Proposal, found: Situation) -> Situation:
    """The situation of an order of a plan that was proposed earlier: see ``plans.placed_at_dispatch``."""
    if proposal.plan_id is None:
        return found
    return sequence.placed_at_dispatch(
        found, proposal.plan_position or 0, items_of(proposal.plan_id), _last_outside_at(proposal, found.now),
        _floor_of(proposal.plan_id),
    )  # fmt: skip


def _last_outside_at(proposal: Proposal, now: dt.datetime) -> dt.datetime | None:
    """When an agent's order that is not of this plan last moved this control, or was let through to."""
    if proposal.proposer_agent_id is None or not proposal.control:
        return None
    others = Proposal.objects.filter(
        machine_id=proposal.machine_id,
        control=proposal.control,
        proposer_agent__isnull=False,
        status__in=[status.value for status in COUNTED],
        proposed_at__gt=now - DAY,
    ).exclude(plan_id=proposal.plan_id)
    return others.aggregate(last=Max("decided_at"))["last"]


def _floor_of(plan_id: str) -> Rated | None:
    """The significance every order of the plan has at least; None where nobody could rate it."""
    ((level,),) = _SIGNIFICANCE.rows(plan=plan_id)
    return Rated(Significance(level), "The plan it is part of matters as much.") if level else None
