"""After a crash: what was on the wire is marked in doubt and resolved by reading back, never by sending again."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable

from commands import services
from commands.loop.notes import View
from commands.loop.orders_out import REACHED
from commands.models import Execution, Proposal, Status
from drivers.keeper_client import KeeperClient
from drivers.port import Control, DriverError, Reading
from kernel.prepared import PreparedObjects
from roasts.models import Machine

logger = logging.getLogger(__name__)
FRESH_S = 1.0
#: A keeper that lives may still be stepping for an executor that died: without a receipt, wait this long. No byte
#: leaves later than SEND_WITHIN_S and an order's deadline after the claim (the keeper refuses it as too late).
SETTLED_AFTER_S = 9.5
LOOKED_AT = 20


def mark_orphans(machine: Machine, *, now: dt.datetime) -> int:
    """EXECUTING without an ending becomes IN_DOUBT; returns how many."""
    count = 0
    for execution in _ORPHANS.rows(machine=machine.pk):
        services.mark_in_doubt(
            execution, code="executor_lost", message="Whoever carried it out is gone; bytes may have left.", now=now
        )
        count += 1
    return count


_ORPHANS = PreparedObjects(
    lambda machine: (
        Execution.objects.filter(machine_id=machine, proposal__status=Status.EXECUTING.value)
        .order_by("claimed_at", "id")
    ),
    "machine",
)  # fmt: skip
#: Looked at three times a second while something is in doubt.
_DOUBTFUL = PreparedObjects(
    lambda machine: (
        Proposal.objects.filter(machine_id=machine, status=Status.IN_DOUBT.value)
        .select_related("execution")
        .order_by("proposed_at", "id")[:LOOKED_AT]
    ),
    "machine",
)


def resolve_doubts(
    machine: Machine, client: KeeperClient, view: View, *, await_shown: Callable[[Reading], None], now: dt.datetime,
    now_s: float,
) -> int:
    """Settle what can be settled from the keeper's wire log and a fresh reading; returns how many. ``await_shown``:
    returns when the store shows that reading."""
    age_s = view.age_s(now_s)
    if view.reading is None or age_s is None or age_s > FRESH_S or not view.is_keeper_up:
        return 0
    count = 0
    for proposal in _DOUBTFUL.rows(machine=machine.pk):
        try:
            count += _resolve(proposal, client, view, await_shown=await_shown, now=now)
        except DriverError as error:
            logger.warning("%s stays in doubt: %s", proposal.pk, error)
            return count
    return count


def _resolve(
    proposal: Proposal, client: KeeperClient, view: View, *, await_shown: Callable[[Reading], None], now: dt.datetime
) -> bool:
    trace = client.trace(proposal.pk)
    claimed_at = proposal.execution.claimed_at
    is_over = trace["receipt"] is not None or (now - claimed_at).total_seconds() >= SETTLED_AFTER_S
    is_newer = view.reading is not None and view.reading.at > claimed_at
    if not is_over or not is_newer or view.reading is None:
        return False
    actual = view.reading.step_of(Control(proposal.control)) if proposal.control else None
    if actual is not None or not proposal.control:  # else it stays in doubt
        await_shown(view.reading)
    services.resolve_in_doubt(
        proposal,
        actual_step=actual,
        # The keeper notes an order before its first byte: one it does not know has sent nothing.
        writes_known=len(trace["writes"]) if trace["known"] else 0,
        now=now,
        actual_state=view.reading.state.value,
        is_reached=None if proposal.control else view.reading.state in REACHED[proposal.order_type],
    )
    return True
