"""The one mover of an order's status, and what every move leaves behind. Imported through `commands.services`."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import logging
from typing import Any

from django.db import transaction

from commands.lifecycle import SETTLED, Status, may_move
from commands.models import Proposal, ProposalTransition
from commands.plans import services_plan_moves
from commands.reasons import Code
from kernel import audit, canonical, live, metrics, prepared
from kernel.errors import Conflict, Forbidden, NotFound
from kernel.principals import Principal, system_principal
from roasts.models import Machine

logger = logging.getLogger(__name__)


#: What is loaded with an order wherever it is judged, moved or shown.
WITH_NAMES = ("organization", "machine", "proposer_agent", "proposer_user", "approver", "reviewed_by")
#: What is audited and told of an order that stays where it stands. Whatever else is told of one has moved it.
TOLD_UNMOVED = frozenset({"approval_given", "abort_requested", "proposal_reviewed"})


class OrderError(Exception):
    """Root of this room's errors; the API turns those a caller can act on into refusals."""


class LostRace(OrderError):
    """Somebody else moved the order first: look again."""


class IllegalMove(OrderError):
    """The lifecycle has no such move for this actor: a bug of the caller."""


def topic(machine_id: str) -> str:
    """The nudge a machine's loop sleeps on."""
    return f"machine:{machine_id}"


def person_pk(principal: Principal) -> int | str:
    """The person's primary key, for a column that names who signed; Forbidden for anybody else."""
    if principal.user is None:
        raise Forbidden("not_allowed", f"{principal.name} is not a person.", "A person does this.")
    return principal.user.pk  # type: ignore[return-value]


#: One order as it stands, with all of that: anybody's, and one organisation's.
_NAMED = prepared.PreparedObjects(
    lambda order: Proposal.objects.select_related(*WITH_NAMES).filter(pk=order).order_by(), "order"
)
_OWN = prepared.PreparedObjects(
    lambda order, organization: (
        Proposal.objects.select_related(*WITH_NAMES).filter(pk=order, organization_id=organization).order_by()
    ),
    "order",
    "organization",
)


def own_order(principal: Principal, order_id: str) -> Proposal | None:
    """The principal's organisation's order as it stands now, with everybody's names; None where it has no such."""
    own = principal.organization
    return None if own is None else _OWN.first(order=order_id, organization=own.pk)


def mine(principal: Principal, proposal: Proposal) -> Proposal:
    """The row as it stands now, if it is the principal's organisation's; else it is not there."""
    fresh = own_order(principal, proposal.pk)
    if fresh is None:
        raise NotFound()
    return fresh


def found_with_names(order_id: str) -> Proposal | None:
    """The row as it stands now, whosever it is, with everybody's names; None where there is none."""
    return _NAMED.first(order=order_id)


def with_names(order_id: str) -> Proposal:
    """The same, of an order that is there. Proposal.DoesNotExist."""
    found = found_with_names(order_id)
    if found is None:
        raise Proposal.DoesNotExist(order_id)
    return found


def require_loop(machine: Machine) -> None:
    """A machine that a bridge feeds is watched, not steered: nothing here reaches it."""
    if machine.is_remote:
        raise Conflict(
            "machine_is_remote",
            f"{machine.name} is fed by a bridge: it is watched here, and no order reaches it.",
            "Set it at the machine itself, or where its own RoastOps runs.",
        )


def governor_principal(proposal: Proposal) -> Principal:
    """The governor as actor of a move."""
    return system_principal("governor", proposal.organization)


def order_digest(proposal: Proposal) -> str:
    """SHA-256 of exactly this order: what an approval names. Any edit changes it."""
    return canonical.digest(
        {
            "proposal_id": proposal.pk,
            "organization_id": proposal.organization_id,
            "machine_id": proposal.machine_id,
            "roast_id": proposal.roast_id,
            "order_type": str(proposal.order_type),
            "control": proposal.control,
            "from_step": proposal.from_step,
            "target_step": proposal.target_step,
            "asked_value": None if proposal.asked_value is None else float(proposal.asked_value),  # 3 is 3.0
            "asked_unit": proposal.asked_unit,
            "constraints": proposal.constraints,
            "proposer": proposal.proposer_agent_id or f"usr_{proposal.proposer_user_id}",
            "expires_at": proposal.expires_at,
            "runs_at": proposal.runs_at,
            "significance": proposal.significance,
            "approvals_needed": proposal.approvals_needed,
            "plan_id": proposal.plan_id,
            "plan_position": proposal.plan_position,
            "rolls_back": proposal.rolls_back_id,
            **({"mission": proposal.mission} if proposal.mission else {}),
        }
    )


def proposer_of(proposal: Proposal) -> dict[str, str]:
    """Who proposed, as shown: kind, id, name."""
    if proposal.proposer_agent is not None:
        return {"kind": "agent", "id": proposal.proposer_agent.pk, "name": proposal.proposer_agent.name}
    return {"kind": "person", "id": f"usr_{proposal.proposer_user_id}", "name": proposal.proposer_name}


def stream_document(proposal: Proposal) -> dict[str, Any]:
    """What consoles and agents hear of an order at each move."""
    return {
        "proposal_id": proposal.pk,
        "machine_id": proposal.machine_id,
        "roast_id": proposal.roast_id,
        "status": str(proposal.status),
        "order_type": str(proposal.order_type),
        "control": proposal.control,
        "from_step": proposal.from_step,
        "target_step": proposal.target_step,
        "actual_step": proposal.actual_step,
        "proposer": proposer_of(proposal),
        "decision": str(proposal.decision),
        "digest": proposal.digest,
        "expires_at": canonical.utc_text(proposal.expires_at),
        "runs_at": canonical.utc_text(proposal.runs_at) if proposal.runs_at else None,
        "significance": proposal.significance,
        "approvals_needed": proposal.approvals_needed,
        "rejection_code": proposal.rejection_code,
        "outcome_code": proposal.outcome_code,
    }


def move(
    proposal: Proposal,
    to: Status,
    actor: Principal,
    *,
    now: dt.datetime,
    verb: str,
    detail: dict[str, Any] | None = None,
    **changes: Any,
) -> Proposal:
    """Move the order by guarded update, with its transition, audit entry and stream event, in one transaction.

    ``changes`` are further columns of the same update. LostRace: it no longer stands where the caller saw it. The
    plan it is part of, if any, follows (``services_plan_moves``).
    """
    old = Status(proposal.status)
    if not may_move(old, to, actor.kind):
        raise IllegalMove(f"{actor.kind} {actor.name} may not move {proposal.pk} from {old.value} to {to.value}")
    if to in SETTLED:
        changes.setdefault("settled_at", now)
    with transaction.atomic(savepoint=False):
        plan = services_plan_moves.hold(proposal.plan_id) if proposal.plan_id is not None else None
        if plan is not None:
            services_plan_moves.require_whole(plan, to, changes.get("approver"))
        written = {"status": to.value, **changes}
        moved = prepared.update(Proposal, proposal.pk, written, where={"status": old.value})
        if moved == 1:
            _set(proposal, to, changes)
            _leave_tracks(proposal, old, to, actor, now, verb, detail or {})
            if plan is not None:
                services_plan_moves.follow(plan, proposal, now=now, call_off=call_off)
    if moved != 1:  # nothing was written: a caller's transaction may go on
        raise LostRace(f"{proposal.pk} is no longer {old.value}")
    if to is Status.APPROVED:
        transaction.on_commit(lambda: live.wake(topic(proposal.machine_id)))
    transaction.on_commit(functools.partial(_count_move, _Counted.of(proposal, old, to, actor), now))
    return proposal


def file_judged(
    proposal: Proposal,
    to: Status,
    actor: Principal,
    *,
    now: dt.datetime,
    verb: str,
    detail: dict[str, Any],
    **changes: Any,
) -> Proposal:
    """A new order that was held or refused is written where the verdict put it, its birth and its first move told
    together: nobody else has seen it, so there is no race to guard. Call it inside a transaction."""
    old = Status.PROPOSED
    if not may_move(old, to, actor.kind) or proposal.status != old.value:
        raise IllegalMove(f"{actor.kind} {actor.name} may not file {proposal.pk} as {to.value}")
    if to in SETTLED:
        changes.setdefault("settled_at", now)
    _set(proposal, to, changes)
    with prepared.together():
        prepared.insert(proposal)
        _leave_tracks(proposal, old, to, actor, now, verb, detail)
    transaction.on_commit(functools.partial(_count_move, _Counted.of(proposal, old, to, actor), now))
    return proposal


def tell_unmoved(
    proposal: Proposal,
    actor: Principal,
    verb: str,
    document: dict[str, Any],
    *,
    detail: dict[str, Any] | None = None,
    now: dt.datetime,
) -> None:
    """What somebody said of an order without moving it: ``document`` to the stream, with ``detail`` to the audit.

    Call it inside the transaction that notes it. ValueError: no verb of ``TOLD_UNMOVED``.
    """
    if verb not in TOLD_UNMOVED:
        raise ValueError(f"{verb!r} is told of a move, by the mover")
    told = {**document, **(detail or {})}
    audit.record(proposal.organization, actor, verb, "proposal", proposal.pk, told, now=now)
    live.publish_decision(proposal.organization, "proposal", proposal.pk, proposal.machine_id, document, now=now)


def _set(proposal: Proposal, to: Status, changes: dict[str, Any]) -> None:
    proposal.status = to.value
    for name, value in changes.items():
        setattr(proposal, name, value)


@dataclasses.dataclass(frozen=True, slots=True)
class _Counted:
    """What metrics and the log say of one move once it is committed; the row may have moved on by then."""

    proposal_id: str
    machine_id: str
    roast_id: str
    order_type: str
    old: Status
    to: Status
    code: str
    actor_kind: str
    proposed_at: dt.datetime

    @classmethod
    def of(cls, proposal: Proposal, old: Status, to: Status, actor: Principal) -> _Counted:
        code = (proposal.outcome_code or proposal.rejection_code) if to is not Status.COMPLETED else ""
        return cls(
            proposal.pk, proposal.machine_id, proposal.roast_id or "", str(proposal.order_type), old, to, code,
            actor.kind, proposal.proposed_at,
        )  # fmt: skip


def _count_move(moved: _Counted, now: dt.datetime) -> None:
    if moved.old is Status.PROPOSED:  # birth and verdict are told together
        metrics.count_order(moved.order_type, moved.old.value, "")
    metrics.count_order(moved.order_type, moved.to.value, moved.code)
    is_decided = moved.old is Status.PENDING_APPROVAL and moved.to in (Status.APPROVED, Status.REJECTED)
    if is_decided and moved.actor_kind == "person":
        metrics.APPROVAL_SECONDS.observe(max(0.0, (now - moved.proposed_at).total_seconds()))
    logger.info(
        "order %s: %s to %s %s",
        moved.order_type,
        moved.old.value,
        moved.to.value,
        moved.code,
        extra={"order_id": moved.proposal_id, "machine_id": moved.machine_id, "roast_id": moved.roast_id},
    )


def _leave_tracks(
    proposal: Proposal,
    old: Status,
    to: Status,
    actor: Principal,
    now: dt.datetime,
    verb: str,
    detail: dict[str, Any],
) -> None:
    row = _transition(proposal, old.value, to, actor, now, detail)
    if old is Status.PROPOSED:  # birth and verdict are told together
        birth = _transition(proposal, "", old, actor, now, {})
        prepared.insert(birth, row)
    else:
        prepared.insert(row)
    document = stream_document(proposal)
    audit.record(proposal.organization, actor, verb, "proposal", proposal.pk, {**document, **detail}, now=now)
    live.publish_decision(proposal.organization, "proposal", proposal.pk, proposal.machine_id, document, now=now)


def _transition(
    proposal: Proposal, old: str, to: Status, actor: Principal, now: dt.datetime, detail: dict[str, Any]
) -> ProposalTransition:
    return ProposalTransition(
        proposal=proposal,
        from_status=old,
        to_status=to.value,
        actor_kind=actor.kind,
        actor_id=actor.id,
        actor_name=actor.name,
        at=now,
        detail=detail,
    )


def call_off(
    proposal: Proposal,
    actor: Principal,
    *,
    code: str,
    message: str,
    now: dt.datetime,
    detail: dict[str, Any] | None = None,
) -> bool:
    """Abort an order that is not on the wire yet; False when somebody else moved it first."""
    try:
        move(
            proposal, Status.ABORTED, actor, now=now, verb="proposal_aborted",
            detail={"code": code, "message": message, **(detail or {})}, outcome_code=code, outcome_message=message,
        )  # fmt: skip
    except LostRace:
        return False
    return True


def time_out(proposal: Proposal, now: dt.datetime) -> bool:
    """Its deadline has come; False when somebody else moved it first."""
    actor = system_principal("sweeper", proposal.organization)
    try:
        move(
            proposal, Status.TIMEOUT, actor, now=now, verb="proposal_expired",
            outcome_code=Code.EXPIRED.value, outcome_message="Its time ran out.",
        )  # fmt: skip
    except LostRace:
        return False
    return True


_LAST_MOVE = prepared.Prepared(
    lambda order: (
        ProposalTransition.objects.filter(proposal_id=order)
        .order_by("-id")
        .values_list("to_status", "actor_name")[:1]
    ),
    "order",
)


def settled_by(proposal: Proposal) -> str:
    """Who or what moved the order to where it stands, for a person to read."""
    last = _LAST_MOVE.first(order=proposal.pk)
    if last is None:
        return str(proposal.status)
    to_status, actor_name = last
    code = proposal.outcome_code or proposal.rejection_code
    return f"{to_status} by {actor_name}" + (f" ({code})" if code else "")
