"""From APPROVED to the end: claim, stages, conclusion, doubt. Imported through `commands.services`."""

from __future__ import annotations

import datetime as dt
import logging
from typing import Any

from django.db import IntegrityError, transaction

from commands import governor
from commands.lifecycle import Status
from commands.models import Execution, ExecutionStage, Proposal
from commands.plans import places, sequence, services_plan_moves
from commands.reasons import LEGACY, Code, Decision, Verdict
from commands.records.claim_lock import OutOfDate, hold_claims, is_forbidden_since
from commands.records.moves import (
    LostRace,
    found_with_names,
    governor_principal,
    move,
    order_digest,
    settled_by,
    stream_document,
    tell_unmoved,
    topic,
    with_names,
)
from commands.rules.values import Phase, Situation
from drivers import wire_json
from drivers.port import ABORTED, Outcome, Receipt
from kernel import clock, live, metrics, prepared
from kernel.errors import Conflict, Forbidden
from kernel.principals import Principal, system_principal

logger = logging.getLogger(__name__)
#: What a receipt means for the order. Anything not listed is in doubt.
_ENDINGS = {Outcome.PROVED: Status.COMPLETED, Outcome.DECLINED: Status.FAILED, Outcome.NOT_SENT: Status.FAILED}
_STAGES = {Outcome.PROVED: "verified", Outcome.DECLINED: "declined", Outcome.NOT_SENT: "not_sent"}
#: A person called it off in mid-execution, and the control was read back (or nothing had left yet).
_CALLED_OFF = frozenset({Outcome.DECLINED, Outcome.NOT_SENT})
_TOO_LATE = "It was called off when everything had been sent already: it was carried out."


def _loop(proposal: Proposal) -> Principal:
    return system_principal("machine loop", proposal.organization)


def claim_execution(proposal_id: str, *, lease_token: int, situation: Situation, now: dt.datetime) -> Execution | None:
    """Take an approved order for the wire: its Execution exists once, by index, before any byte.

    The governor judges once more. None: somebody else has it, a newer lease exists, or it was refused at the last
    moment (recorded: REJECTED, or TIMEOUT when its time ran out). OutOfDate: something forbids it since ``situation``
    was gathered.
    """
    if situation.order.proposal_id != proposal_id or situation.phase is not Phase.DISPATCH:
        raise ValueError("the situation is not of this order's dispatch")
    try:
        with transaction.atomic():
            return _claim(proposal_id, lease_token, situation, now)
    except LostRace:
        return None
    except IntegrityError:
        logger.warning("order %s has an execution already", proposal_id)
        return None


def _claim(proposal_id: str, lease_token: int, situation: Situation, now: dt.datetime) -> Execution | None:
    proposal = found_with_names(proposal_id)
    if proposal is None or proposal.status != Status.APPROVED:
        return None
    newest_token = hold_claims(proposal.machine_id)
    if newest_token is not None and newest_token > lease_token:
        return None
    if not _is_its_turn(proposal):
        return None
    if is_forbidden_since(situation, proposal.machine_id):
        raise OutOfDate(proposal_id)
    if order_digest(proposal) != proposal.digest:
        _turn_away(
            proposal, Status.REJECTED, Code.STALE_DIGEST.value, "The order was changed after it was proposed.", now, {}
        )
        return None
    verdict = governor.review(situation)
    for text in verdict.tracebacks:
        logger.error("a governor rule raised: %s", text)
    if _is_refused(verdict, proposal, now):
        _refuse_late(proposal, verdict, now)
        return None
    execution = Execution(
        proposal=proposal,
        machine_id=proposal.machine_id,
        lease_token=lease_token,
        from_step=situation.from_step,
        claimed_at=now,
    )
    prepared.insert(execution)
    move(
        proposal,
        Status.EXECUTING,
        _loop(proposal),
        now=now,
        verb="execution_claimed",
        detail={"execution_id": execution.pk, "lease_token": lease_token, "from_step": situation.from_step},
    )
    _stage(execution, "released", {"lease_token": lease_token}, now)
    return execution


def _is_its_turn(proposal: Proposal) -> bool:
    """Of a plan: it was let through as a whole, and every order before this one is confirmed. The plan stays locked,
    so nobody ends it between this look and the claim."""
    if proposal.plan_id is None:
        return True
    plan = services_plan_moves.hold(proposal.plan_id)
    items = places.items_of(plan.pk)
    return plan.status in sequence.RUNNING and sequence.is_in_turn(items, proposal.plan_position or 0)


def _is_refused(verdict: Verdict, proposal: Proposal, now: dt.datetime) -> bool:
    """ALLOW goes; HOLD goes when a person has approved; VETO, too, or when its window has ended unvetoed."""
    if verdict.decision is Decision.ALLOW:
        return False
    if verdict.decision is Decision.VETO and proposal.runs_at is not None and now >= proposal.runs_at:
        return False
    return verdict.decision is Decision.REFUSE or proposal.approver_id is None


def _refuse_late(proposal: Proposal, verdict: Verdict, now: dt.datetime) -> None:
    reasons = [reason.to_json() for reason in verdict.reasons]
    if any(reason.code is Code.EXPIRED for reason in verdict.refusals):
        _turn_away(
            proposal, Status.TIMEOUT, Code.EXPIRED.value, "Its time ran out before the wire.", now, {"reasons": reasons}
        )
        return
    first = next(iter(verdict.refusals), None)
    code = LEGACY.get(first.code, first.code.value) if first else Code.NOT_APPROVED.value
    message = first.message if first else "Nobody approved this order."
    _turn_away(proposal, Status.REJECTED, code, message, now, {"reasons": reasons})


def _turn_away(
    proposal: Proposal, to: Status, code: str, message: str, now: dt.datetime, detail: dict[str, Any]
) -> None:
    move(
        proposal,
        to,
        governor_principal(proposal),
        now=now,
        verb="dispatch_refused",
        detail={"code": code, "message": message, **detail},
        rejection_code=code[:40],
        rejection_text=message[:500],
        outcome_code=code[:40],
        outcome_message=message,
    )


def record_stage(execution: Execution, stage: str, detail: dict[str, Any], *, now: dt.datetime) -> ExecutionStage:
    """Append one entry to the flight recorder: queued, released, sent, acknowledged, read_back, …"""
    return _stage(execution, stage, detail, now)


def _stage(execution: Execution, stage: str, detail: dict[str, Any], now: dt.datetime) -> ExecutionStage:
    made = ExecutionStage(execution=execution, stage=stage, at=now, detail=detail)
    prepared.insert(made)
    return made


def conclude_execution(execution: Execution, receipt: Receipt, *, now: dt.datetime) -> Proposal:
    """Record what the wire said. PROVED completes; DECLINED and NOT_SENT fail, or abort where a person called the
    order off in time; anything else is in doubt.

    An order that was marked in doubt meanwhile may still be concluded; a settled one is left as it is.
    """
    proposal = with_names(execution.proposal_id)
    to = _ending(proposal, receipt)
    code = _outcome_code(receipt, to)
    if Status(proposal.status) not in (Status.EXECUTING, Status.IN_DOUBT) or proposal.status == to:
        logger.warning(
            "order %s is %s: its receipt (%s) changes nothing", proposal.pk, proposal.status, receipt.outcome
        )
        return proposal
    stage = _stage_name(receipt, to, code)
    message = _TOO_LATE if to is Status.COMPLETED and proposal.abort_requested_at is not None else receipt.message
    document = wire_json.receipt_to_json(receipt)
    try:
        with transaction.atomic():
            ended = {"outcome": receipt.outcome.value, "receipt": document, "concluded_at": now}
            prepared.update(Execution, execution.pk, {**ended, "first_byte_at": _first_byte_at(receipt)})
            _stage(
                execution,
                stage,
                {
                    "code": code,
                    "message": message,
                    "writes": len(receipt.writes),
                    "value_before": receipt.value_before,
                    "value_after": receipt.value_after,
                },
                now,
            )
            if to is not Status.IN_DOUBT:
                _time_execution(execution, now)
            return move(
                proposal,
                to,
                _loop(proposal),
                now=now,
                verb=f"execution_{to.value.lower()}",
                detail={"execution_id": execution.pk, "code": code, "message": message},
                outcome_code=code,
                outcome_message=message,
                actual_step=receipt.value_after,
            )
    except LostRace:
        return with_names(execution.proposal_id)


def _ending(proposal: Proposal, receipt: Receipt) -> Status:
    """Where the receipt takes the order. A doubt is never aborted: what was sent in it is not known."""
    is_called_off = receipt.reason == ABORTED and receipt.outcome in _CALLED_OFF
    if is_called_off and proposal.abort_requested_at is not None and proposal.status == Status.EXECUTING:
        return Status.ABORTED
    return _ENDINGS.get(receipt.outcome, Status.IN_DOUBT)


def _stage_name(receipt: Receipt, to: Status, code: str) -> str:
    if to is Status.ABORTED:
        return ABORTED
    return "contradicted" if code == Code.CONTRADICTED else _STAGES.get(receipt.outcome, "in_doubt")


def _time_execution(execution: Execution, now: dt.datetime) -> None:
    """Count how long it took from the claim, once this is committed."""
    took_s = max(0.0, (now - execution.claimed_at).total_seconds())
    transaction.on_commit(lambda: metrics.EXECUTION_SECONDS.observe(took_s))


def _outcome_code(receipt: Receipt, to: Status) -> str:
    if to is Status.COMPLETED:
        return ""
    fallback = {Status.IN_DOUBT: Code.IN_DOUBT.value, Status.FAILED: Code.NOT_SENT.value, Status.ABORTED: ABORTED}[to]
    if receipt.outcome is Outcome.DECLINED:
        fallback = "declined"
    return (receipt.reason or fallback)[:40]


def _first_byte_at(receipt: Receipt) -> dt.datetime | None:
    """Wall time of the first byte: this host's monotonic clock leads back to it, from one look at both clocks
    (the caller's ``now`` may be older by the time it waited for the database: then the byte came before its claim)."""
    if receipt.first_byte_monotonic_s is None:
        return None
    ago_s, now = clock.monotonic() - receipt.first_byte_monotonic_s, clock.now()
    return now - dt.timedelta(seconds=ago_s) if 0 <= ago_s < 86_400 else None


def request_abort(principal: Principal, proposal: Proposal, *, text: str = "", now: dt.datetime) -> Proposal:
    """A person calls off an order that is on the wire: the loop hears it and the driver stops before its next step.

    The order stays EXECUTING until its receipt says what came of it: ABORTED where steps were left unsent, COMPLETED
    where all had left. Nothing is made safe by this, and nothing is sent twice. Asking again changes nothing.
    Forbidden: not an operator; Conflict ``in_doubt`` (a doubt is resolved by reading), ``not_abortable``.
    """
    if not principal.is_person or not principal.may("operate"):
        raise Forbidden("not_allowed", f"{principal.name} may not call off this order.", "Ask an operator.")
    status = Status(proposal.status)
    if status is Status.IN_DOUBT:
        raise Conflict(
            Code.IN_DOUBT.value,
            "What left of this order is not known, so there is nothing to call off: nothing more of it is sent.",
            "Look at the machine, then resolve it; STOP takes the heat off.",
            proposal_id=proposal.pk,
            status_now=status.value,
        )
    with transaction.atomic():
        asked = Proposal.objects.filter(
            pk=proposal.pk, status=Status.EXECUTING.value, abort_requested_at__isnull=True
        ).update(abort_requested_at=now, abort_requested_by=principal.user)
        fresh = with_names(proposal.pk)
        if asked:
            detail = {"text": text[:500]} if text else {}
            tell_unmoved(fresh, principal, "abort_requested", stream_document(fresh), detail=detail, now=now)
            transaction.on_commit(lambda: live.wake(topic(fresh.machine_id)))
    if not asked and fresh.status != Status.EXECUTING:
        raise Conflict(
            "not_abortable",
            f"The order cannot be called off any more: {settled_by(fresh)}.",
            "Look at its timeline.",
            proposal_id=fresh.pk,
            status_now=str(fresh.status),
        )
    return fresh


def is_abort_requested(proposal_id: str) -> bool:
    """A person has called this order off while it is on the wire."""
    return _ABORT.first(order=proposal_id) is not None


#: Asked again and again while an order is on the wire.
_ABORT = prepared.Prepared(
    lambda order: (
        Proposal.objects.filter(pk=order, status=Status.EXECUTING.value, abort_requested_at__isnull=False)
        .order_by()
        .values_list("id")
    ),
    "order",
)


def mark_in_doubt(execution: Execution, *, code: str, message: str, now: dt.datetime) -> Proposal:
    """The loop cannot say what left for the wire (a crash, a lost keeper): to be resolved by reading."""
    proposal = with_names(execution.proposal_id)
    if proposal.status != Status.EXECUTING:
        return proposal
    try:
        with transaction.atomic():
            _stage(execution, "in_doubt", {"code": code, "message": message}, now)
            return move(
                proposal,
                Status.IN_DOUBT,
                _loop(proposal),
                now=now,
                verb="execution_in_doubt",
                detail={"execution_id": execution.pk, "code": code, "message": message},
                outcome_code=code[:40],
                outcome_message=message,
            )
    except LostRace:
        return with_names(execution.proposal_id)


def resolve_in_doubt(
    proposal: Proposal,
    *,
    actual_step: int | None,
    writes_known: int | None,
    now: dt.datetime,
    actual_state: str | None = None,
    is_reached: bool | None = None,
) -> Proposal:
    """Settle a doubt by what the machine reads now; nothing is sent again.

    ``writes_known``: how many writes of this order the keeper's wire log holds, None when it knows nothing of it.
    ``is_reached`` decides for a state order (``actual_state`` is for the record). Unreadable: it stays in doubt.
    """
    proposal = with_names(proposal.pk)
    if proposal.status != Status.IN_DOUBT:
        return proposal
    if proposal.control:
        is_reached = None if actual_step is None else actual_step == proposal.target_step
    if is_reached is None:
        return proposal
    to, code, message = _resolution(proposal, is_reached, writes_known, actual_step, actual_state)
    try:
        with transaction.atomic():
            execution = Execution.objects.filter(proposal=proposal).first()
            if execution is not None:
                _stage(
                    execution,
                    "resolved",
                    {
                        "code": code,
                        "actual_step": actual_step,
                        "actual_state": actual_state,
                        "writes_known": writes_known,
                    },
                    now,
                )
                Execution.objects.filter(pk=execution.pk).update(
                    outcome="proved" if to is Status.COMPLETED else "declined", concluded_at=now
                )
                _time_execution(execution, now)
            return move(
                proposal,
                to,
                _loop(proposal),
                now=now,
                verb="doubt_resolved",
                detail={"code": code, "actual_step": actual_step, "writes_known": writes_known},
                outcome_code=code,
                outcome_message=message,
                actual_step=actual_step,
            )
    except LostRace:
        return with_names(proposal.pk)


def _resolution(
    proposal: Proposal, is_reached: bool, writes_known: int | None, actual_step: int | None, actual_state: str | None
) -> tuple[Status, str, str]:
    reads = actual_state if actual_step is None else str(actual_step)
    was_there = proposal.control != "" and proposal.from_step == proposal.target_step
    if is_reached and (writes_known != 0 or was_there):
        return Status.COMPLETED, Code.RESOLVED_BY_READING.value, f"The machine reads {reads}, as ordered."
    if writes_known == 0:
        return (
            Status.FAILED,
            Code.NOT_SENT.value,
            f"The wire log holds no byte of this order; the machine reads {reads}.",
        )
    return Status.FAILED, Code.NOT_REACHED.value, f"The machine reads {reads}; nothing was sent again."
