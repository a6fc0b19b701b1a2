"""What people say to an order that waits: yes (one or two of them), no, veto; and what they find of it afterwards.

Here too a window that nobody vetoed ends, and the order goes on its way. Imported through `commands.services`.
"""

from __future__ import annotations

import datetime as dt
import hmac
import logging

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from commands import governor, situation
from commands.lifecycle import BEFORE_THE_WIRE, EXECUTED, Status
from commands.models import Approval, Proposal
from commands.plans import services_plan_moves
from commands.reasons import Code, Decision, RejectCode
from commands.records.moves import (
    WITH_NAMES,
    LostRace,
    call_off,
    governor_principal,
    mine,
    move,
    order_digest,
    person_pk,
    require_loop,
    settled_by,
    stream_document,
    tell_unmoved,
    time_out,
)
from commands.rules.values import ApprovalLook
from kernel import prepared
from kernel.errors import ApiError, Conflict, Forbidden, Malformed, Stale
from kernel.principals import ROLES_FOR, Principal

logger = logging.getLogger(__name__)
_ERRORS: dict[int, type[ApiError]] = {403: Forbidden, 409: Conflict, 412: Stale}
#: A veto window that ended longer ago than this (nothing ran, or nobody was there) is not acted on any more.
RELEASE_WITHIN_S = 5.0
#: A sweep takes no more; the next one comes soon.
RELEASED_AT_ONCE = 100
FINDINGS = ("in_order", "not_in_order")


def approve_proposal(principal: Principal, proposal: Proposal, *, digest: str, now: dt.datetime) -> Proposal:
    """A person says yes to exactly this order. With all the yeses it needs it is APPROVED, else it waits on.

    Forbidden, Conflict (settled, expired, said yes already) or Stale (digest) say why not.
    """
    proposal = mine(principal, proposal)
    require_loop(proposal.machine)  # given to a bridge since this was held
    _raise_refusal(governor.refuse_approval(_approval_look(principal, proposal, digest, now)), proposal, now)
    if order_digest(proposal) != proposal.digest:
        raise Stale(Code.STALE_DIGEST.value, "This order was changed after it was proposed.", "Reject it.")
    if proposal.plan is not None:  # said before anything is locked: who approves a plan holds the plan first
        services_plan_moves.require_whole(proposal.plan, Status.APPROVED, principal.user)
    try:
        with transaction.atomic():
            return _say_yes(principal, proposal, digest, now)
    except LostRace:
        raise no_longer_held(proposal) from None
    except IntegrityError as error:
        fresh = Proposal.objects.get(pk=proposal.pk)
        if fresh.status != Status.PENDING_APPROVAL:
            raise no_longer_held(proposal) from error
        raise Conflict(
            Code.APPROVED_ALREADY.value, "You have approved this order already.", "It needs another person's yes.",
            proposal_id=proposal.pk, status_now=str(fresh.status),
        ) from error  # fmt: skip


def _say_yes(principal: Principal, proposal: Proposal, digest: str, now: dt.datetime) -> Proposal:
    if _HELD.first(order=proposal.pk) is None:  # two people at two tablets say yes one after the other
        raise LostRace(proposal.pk)
    prepared.insert(Approval(proposal=proposal, user_id=person_pk(principal), digest=digest, at=now))
    given = standing_approvals(proposal)
    detail = {"digest": digest, "given": given, "needed": proposal.approvals_needed}
    if given < proposal.approvals_needed:
        document = {**stream_document(proposal), "approvals_given": given}
        tell_unmoved(proposal, principal, "approval_given", document, detail=detail, now=now)
        return proposal
    if proposal.proposer_user_id is not None:
        _clear_the_way(principal, proposal, now)
    return move(
        proposal, Status.APPROVED, principal, now=now, verb="proposal_approved", detail=detail,
        decided_at=now, approver=principal.user, approved_digest=digest,
    )  # fmt: skip


#: One order while it waits, locked.
_HELD = prepared.Prepared(
    lambda order: (
        Proposal.objects.select_for_update()
        .filter(pk=order, status=Status.PENDING_APPROVAL.value)
        .order_by()
        .values_list("id")
    ),
    "order",
)
_STANDING = prepared.Prepared(
    lambda order, digest, organization: (
        Approval.objects.filter(
            proposal_id=order,
            digest=digest,
            user__is_active=True,
            user__memberships__organization_id=organization,
            user__memberships__role__in=sorted(ROLES_FOR["approve"]),
        )
        .order_by()
        .values_list("user_id")
        .distinct()
    ),
    "order",
    "digest",
    "organization",
)


def standing_approvals(proposal: Proposal) -> int:
    """Yeses to this order by people who may still give one."""
    rows = _STANDING.rows(order=proposal.pk, digest=proposal.digest, organization=proposal.organization_id)
    return len(rows)


def _clear_the_way(principal: Principal, proposal: Proposal, now: dt.datetime) -> None:
    """A person's order that had to wait for a second calls off agents' orders on its control, as one that ran at
    once would have."""
    rivals = Proposal.objects.select_related(*WITH_NAMES).filter(
        machine_id=proposal.machine_id,
        control=proposal.control,
        proposer_agent__isnull=False,
        status__in=[status.value for status in BEFORE_THE_WIRE],
    )
    for rival in rivals:
        call_off(
            rival, principal, code=Code.SUPERSEDED.value, now=now, detail={"by_proposal": proposal.pk},
            message=f"{proposal.proposer_name} gave an order on the same control.",
        )  # fmt: skip


def _approval_look(principal: Principal, proposal: Proposal, digest: str, now: dt.datetime) -> ApprovalLook:
    agent = proposal.proposer_agent
    own_id = person_pk(principal) if principal.user is not None else None
    is_given = hmac.compare_digest(digest.encode(), proposal.digest.encode())
    has_approved = own_id is not None and proposal.approvals_needed > 1 and Approval.objects.filter(
        proposal=proposal, user_id=own_id
    ).exists()  # fmt: skip
    return ApprovalLook(
        is_person=principal.is_person,
        may_approve=principal.may("approve"),
        is_proposer=proposal.proposer_user_id is not None and proposal.proposer_user_id == own_id,
        is_owner_of_proposer=agent is not None and agent.owner_id is not None and agent.owner_id == own_id,
        status=proposal.status,
        settled_by=settled_by(proposal) if proposal.status != Status.PENDING_APPROVAL else "",
        digest=proposal.digest,
        given_digest=proposal.digest if is_given else "",
        expires_at=proposal.expires_at,
        now=now,
        has_approved=has_approved,
    )


def _raise_refusal(refusal: governor.ApprovalRefusal | None, proposal: Proposal, now: dt.datetime) -> None:
    if refusal is None:
        return
    if refusal.code is Code.EXPIRED and proposal.status == Status.PENDING_APPROVAL:
        time_out(proposal, now)
    raise _ERRORS[refusal.status](
        refusal.code.value,
        refusal.message,
        refusal.how_to_fix,
        proposal_id=proposal.pk,
        status_now=str(proposal.status),
    )


def no_longer_held(proposal: Proposal) -> ApiError:
    """Somebody or something settled it first: who, and what it is now."""
    fresh = Proposal.objects.get(pk=proposal.pk)
    return Conflict(
        Code.NOT_AWAITING_APPROVAL.value,
        f"This order is not awaiting approval: {settled_by(fresh)}.",
        "Look at its timeline; a new order needs a new proposal.",
        proposal_id=proposal.pk,
        status_now=str(fresh.status),
    )


def reject_proposal(principal: Principal, proposal: Proposal, *, code: str, text: str, now: dt.datetime) -> Proposal:
    """A person turns a held order down, with one of the structured reasons; OTHER needs words."""
    proposal = mine(principal, proposal)
    _require_operator(principal, "Rejecting")
    if code not in set(RejectCode):
        raise Malformed(
            "unknown_reject_code",
            f"{code!r} is no reason we know.",
            f"One of: {', '.join(word.value for word in RejectCode)}.",
        )
    if code == RejectCode.OTHER and not text.strip():
        raise Malformed("text_required", "OTHER needs a text.", "Say why in `text`.")
    if proposal.status != Status.PENDING_APPROVAL:
        raise no_longer_held(proposal)
    if now >= proposal.expires_at:
        time_out(proposal, now)
        raise Conflict(
            Code.EXPIRED.value,
            "This order's time has run out already.",
            "Nothing more is needed.",
            proposal_id=proposal.pk,
            status_now=str(proposal.status),
        )
    return _turn_down(principal, proposal, code=code, text=text, verb="proposal_rejected", now=now)


def _turn_down(
    principal: Principal, proposal: Proposal, *, code: str, text: str, verb: str, now: dt.datetime
) -> Proposal:
    try:
        return move(
            proposal,
            Status.REJECTED,
            principal,
            now=now,
            verb=verb,
            detail={"code": code, "text": text[:500], "legacy_code": "USER_REJECTED"},
            decided_at=now,
            rejection_code=code,
            rejection_text=text[:500],
        )
    except LostRace:
        raise no_longer_held(proposal) from None


def _require_operator(principal: Principal, doing: str) -> None:
    if not principal.is_person or not principal.may("approve"):
        raise Forbidden(Code.ROLE_REQUIRED.value, f"{doing} needs the operator's role.", "Ask an operator.")


def veto_proposal(principal: Principal, proposal: Proposal, *, text: str = "", now: dt.datetime) -> Proposal:
    """Any operator stops an order in its veto window; one that was just released and has not gone is called off.

    Conflict ``not_open_to_veto``: it is no such order (reject it); ``too_late``: it is on the wire or settled.
    """
    proposal = mine(principal, proposal)
    _require_operator(principal, "A veto")
    if proposal.decision != Decision.VETO.value:
        raise Conflict(
            "not_open_to_veto", "This order does not run by itself: there is no veto window.",
            "Reject it, or call it off.", proposal_id=proposal.pk, status_now=str(proposal.status),
        )  # fmt: skip
    if proposal.status == Status.PENDING_APPROVAL:
        try:
            with transaction.atomic():
                return _turn_down(
                    principal, proposal, code=Code.VETOED.value, text=text, verb="proposal_vetoed", now=now
                )
        except Conflict:
            proposal = mine(principal, proposal)  # released, or settled, at this very moment
    if proposal.status == Status.APPROVED and call_off(
        proposal, principal, code=Code.VETOED.value, message=text or "Vetoed before it was on the wire.", now=now
    ):
        return proposal
    fresh = mine(principal, proposal)
    raise Conflict(
        "too_late", f"It is too late for a veto: {settled_by(fresh)}.", "Call it off, or press STOP.",
        proposal_id=fresh.pk, status_now=str(fresh.status),
    )  # fmt: skip


def release_due(*, now: dt.datetime, machine_id: str | None = None) -> int:
    """Orders whose veto window ended without a veto go on their way to the wire, at most RELEASED_AT_ONCE; how many.
    Each is judged again."""
    if machine_id is not None and all(runs_at > now for (runs_at,) in _WINDOWS.rows(machine=machine_id)):
        return 0
    due = _DUE.rows(now=now) if machine_id is None else _DUE_HERE.rows(now=now, machine=machine_id)
    return sum(_release(proposal, now) for proposal in due)


def _due(now: dt.datetime, **where: str) -> QuerySet[Proposal]:
    due = Proposal.objects.filter(
        status=Status.PENDING_APPROVAL.value,
        decision=Decision.VETO.value,
        runs_at__lte=now,
        runs_at__gt=now - dt.timedelta(seconds=RELEASE_WITHIN_S),
        expires_at__gt=now,
        **where,
    )
    return due.select_related(*WITH_NAMES).order_by("runs_at", "id")[:RELEASED_AT_ONCE]


_DUE = prepared.PreparedObjects(_due, "now", times=["now"])
_DUE_HERE = prepared.PreparedObjects(
    lambda now, machine: _due(now, machine_id=machine), "now", "machine", times=["now"]
)
#: Asked three times a second by every machine's loop.
_WINDOWS = prepared.Prepared(
    lambda machine: (
        Proposal.objects.awaiting_decision()
        .filter(machine_id=machine, decision=Decision.VETO.value, runs_at__isnull=False)
        .values_list("runs_at")
    ),
    "machine",
)


def _release(proposal: Proposal, now: dt.datetime) -> bool:
    """True when it was released. One that now needs a person's yes stays held; one that is refused is called off."""
    verdict = governor.review(situation.gather(proposal.machine_id, proposal, None, now))
    for text in verdict.tracebacks:
        logger.error("a governor rule raised: %s", text)
    actor = governor_principal(proposal)
    if verdict.decision is not Decision.REFUSE:
        detail = {"reasons": [reason.to_json() for reason in verdict.reasons]}
        try:
            move(proposal, Status.APPROVED, actor, now=now, verb="veto_window_ended", detail=detail, decided_at=now)
        except LostRace:
            return False
        return True
    against = [reason for reason in verdict.refusals if reason.code is not Code.NOT_APPROVED]
    if against:
        call_off(
            proposal, actor, code=against[0].code.value, message=against[0].message, now=now,
            detail={"reasons": [reason.to_json() for reason in verdict.reasons]},
        )  # fmt: skip
    return False


def review_proposal(
    principal: Principal, proposal: Proposal, *, finding: str, text: str = "", now: dt.datetime
) -> Proposal:
    """A person looks at an agent's order that ran without anybody's yes (L5, or L4 unvetoed): in order, or not.

    Not the agent's owner; said once. Conflict: nobody needs to (``not_for_review``), or somebody did.
    """
    proposal = mine(principal, proposal)
    _require_operator(principal, "Reviewing")
    if finding not in FINDINGS:
        raise Malformed("unknown_finding", f"{finding!r} is no finding.", f"One of: {', '.join(FINDINGS)}.")
    if finding == "not_in_order" and not text.strip():
        raise Malformed("text_required", "Say what was not in order.", "Say it in `text`.")
    agent = proposal.proposer_agent
    if agent is None or proposal.approver_id is not None or Status(proposal.status) not in EXECUTED:
        raise Conflict(
            "not_for_review", "Only an agent's order that ran without anybody's yes is reviewed afterwards.",
            "Look at its timeline.", proposal_id=proposal.pk, status_now=str(proposal.status),
        )  # fmt: skip
    if agent.owner_id is not None and agent.owner_id == person_pk(principal):
        raise Forbidden(
            "owner_cannot_review", "The owner of an agent does not review its orders.", "Another operator reviews it."
        )
    changes = {
        "reviewed_at": now, "reviewed_by": principal.user, "review_finding": finding, "review_text": text[:500],
    }  # fmt: skip
    with transaction.atomic():
        if prepared.update(Proposal, proposal.pk, changes, where={"reviewed_at": None}) != 1:
            raise Conflict(
                "reviewed_already", "Somebody reviewed this order already.", "See its review.",
                proposal_id=proposal.pk, status_now=str(proposal.status),
            )  # fmt: skip
        for name, value in changes.items():
            setattr(proposal, name, value)
        document = {**stream_document(proposal), "finding": finding}
        tell_unmoved(proposal, principal, "proposal_reviewed", document, detail={"text": text[:500]}, now=now)
    return proposal
