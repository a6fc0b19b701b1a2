"""The effect of a verified setting, noted with its execution 60 to 90 s later. It contradicts no order and lowers no
grant: it is there to be looked at.

Off the loop's path: a sweeper's task (`commands.tasks.note_effects`).
"""

from __future__ import annotations

import datetime as dt
import logging
from typing import Any

from django.db import transaction
from django.db.models import OuterRef, Subquery

from commands.lifecycle import Status
from commands.models import Execution
from commands.records.executions import record_stage
from kernel import live
from roasts import outlook
from roasts.models import Machine, Roast
from roasts.twin import hindsight

logger = logging.getLogger(__name__)
#: An order older than this has its effect, or will not have it.
LATEST = dt.timedelta(minutes=20)
MOST_AT_ONCE = 10
#: A machine on trial may run its roasts faster than the clock on the wall: at least this much of it passes.
SOONEST_S = 5.0


def note_due_effects(*, now: dt.datetime, limit: int = MOST_AT_ONCE) -> int:
    """Note the effects that can be told by now, the oldest first; how many."""
    due = (
        Execution.objects.filter(
            proposal__roast_id__in=_latest_roasts(),
            proposal__status=Status.COMPLETED.value,
            effect={},
            first_byte_at__gte=now - LATEST,
            first_byte_at__lte=now - dt.timedelta(seconds=SOONEST_S),
        )
        .exclude(proposal__control="")
        .select_related("proposal__roast__machine", "proposal__organization")
        .order_by("first_byte_at", "id")
    )
    noted = 0
    for execution in due[: limit * 5]:
        noted += _note(execution, now)
        if noted >= limit:
            break
    return noted


def _latest_roasts() -> list[str]:
    """The open roast of each machine, and the one before it, by an index: this costs the same after a million."""
    newest = Roast.objects.filter(machine_id=OuterRef("pk")).order_by("-started_at", "-pk").values("pk")
    rows = Machine.objects.filter(is_archived=False).values_list(Subquery(newest[:1]), Subquery(newest[1:2]))
    return [roast_id for row in rows for roast_id in row if roast_id is not None]


def _note(execution: Execution, now: dt.datetime) -> bool:
    proposal = execution.proposal
    if proposal.roast is None or proposal.target_step is None or execution.first_byte_at is None:
        return False
    try:
        found = hindsight.hindsight_of(
            proposal.roast, proposal.control, proposal.target_step, moved_at=execution.first_byte_at
        )
        document: dict[str, Any] = found.to_json()
    except hindsight.NotYet:
        return False
    except outlook.NoOutlook as reason:
        document = {"says": str(reason)}
    with transaction.atomic():
        if Execution.objects.filter(pk=execution.pk, effect={}).update(effect=document) != 1:
            return False  # another sweeper was here
        record_stage(execution, "effect", document, now=now)
        live.publish_decision(
            proposal.organization, "effect", proposal.pk, proposal.machine_id,
            {"proposal_id": proposal.pk, "machine_id": proposal.machine_id, "effect": document}, now=now,
        )  # fmt: skip
    return True
