"""The only writers of a status in this room: one transaction each, no I/O inside.

Proposals live here; `records/` holds the other ideas (moves, executions, approvals, halts, grants ...), and
everything is importable from here.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import IntegrityError, transaction

from commands import governor, situation
from commands.lifecycle import BEFORE_THE_WIRE, ON_THE_WIRE, Status
from commands.models import Plan, Proposal
from commands.reasons import ADVISORY, LEGACY, Code, Decision, Reason, Verdict
from commands.records.approvals import (
    approve_proposal,
    reject_proposal,
    release_due,
    review_proposal,
    veto_proposal,
)
from commands.records.attendance import attend_machine
from commands.records.claim_lock import OutOfDate
from commands.records.executions import (
    claim_execution,
    conclude_execution,
    is_abort_requested,
    mark_in_doubt,
    record_stage,
    request_abort,
    resolve_in_doubt,
)
from commands.records.grants import grant_autonomy, revoke_grant
from commands.records.halts import (
    acknowledge_alarm,
    clear_alarm,
    open_halt,
    pause_orders,
    raise_alarm,
    reset_halt,
    resume_agents,
    resume_orders,
    suspend_agents,
    update_halt_result,
)
from commands.records.moves import (
    WITH_NAMES,
    IllegalMove,
    LostRace,
    OrderError,
    call_off,
    file_judged,
    found_with_names,
    governor_principal,
    mine,
    move,
    order_digest,
    require_loop,
    settled_by,
    time_out,
)
from commands.records.policy_versions import set_policy
from commands.rules import policies
from commands.rules.conversion import CONTROL_OF, OrderType, to_native
from commands.rules.machine import void_reason
from commands.rules.significance import Rated
from commands.rules.states import table_of
from commands.rules.values import Order, Seen, Situation, Timing
from kernel import clock, ids, metrics, prepared
from kernel.errors import ApiError, Conflict, Forbidden, NotFound, Unprocessable
from kernel.principals import Principal, person_id, system_principal
from roasts.models import Machine, Roast

__all__ = [
    "IllegalMove", "LostRace", "OrderError", "OutOfDate", "abort_proposal", "acknowledge_alarm", "adopt_proposal",
    "approve_proposal", "attend_machine", "claim_execution", "clear_alarm", "conclude_execution", "expire_due",
    "grant_autonomy", "is_abort_requested", "mark_in_doubt", "open_halt", "pause_orders", "propose_order",
    "raise_alarm", "record_stage", "reject_proposal", "release_due", "request_abort", "reset_halt",
    "resolve_in_doubt", "resume_agents", "resume_orders", "review_proposal", "revoke_grant", "set_policy",
    "suspend_agents", "update_halt_result", "veto_proposal", "void_held", "would_make_safe",
]  # fmt: skip

logger = logging.getLogger(__name__)
MAX_TRIES = 3
#: A sweep takes no more; the next one comes soon.
EXPIRED_AT_ONCE = 500


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """What the caller wants, as they said it."""

    machine: Machine
    order_type: OrderType
    value: float | None
    unit: str
    reasoning: str
    roast: Roast | None
    evidence: tuple[Any, ...]
    constraints: Mapping[str, Any]
    expires_in_s: float | None
    adopted_from: Proposal | None = None
    rolls_back: Proposal | None = None
    plan: Plan | None = None
    plan_position: int | None = None
    floor: Rated | None = None  # significance of the plan it is part of
    mission: str | None = None
    look: situation.OrderLook | None = None  # what the caller has just read of the machine for this order


def propose_order(
    principal: Principal,
    *,
    machine: Machine,
    order_type: str,
    target_value: float | None,
    target_unit: str | None,
    reasoning: str,
    roast: Roast | None = None,
    evidence: Sequence[Any] = (),
    constraints: Mapping[str, Any] | None = None,
    expires_in_s: float | None = None,
    rolls_back: Proposal | None = None,
    plan: Plan | None = None,
    plan_position: int | None = None,
    floor: Rated | None = None,
    mission: str | None = None,
    look: situation.OrderLook | None = None,
    now: dt.datetime,
) -> Proposal:
    """Judge and file an order. A person's own runs at once; an agent's is held, waits out a veto, runs, is refused, or
    is advice, as far as the agent is trusted here and the order matters.

    ``rolls_back``: the order this one takes back. ``plan``, ``plan_position``, ``floor``: what it is part of, where,
    and the significance it has at least for that. ``mission``: the work it belongs to, a name. ``look``: what the
    caller has just read of the machine for this order. A refusal is a filed proposal with status REJECTED. Forbidden:
    may not order here; NotFound: another organisation's machine; Unprocessable: the roast is not its open one.
    """
    asked = Asked(
        machine,
        OrderType(order_type),
        target_value,
        target_unit or "",
        reasoning,
        roast,
        tuple(evidence),
        dict(constraints or {}),
        expires_in_s,
        rolls_back=rolls_back,
        plan=plan,
        plan_position=plan_position,
        floor=floor,
        mission=mission or None,
        look=look,
    )
    return _judge_and_file(principal, asked, now=now)


def would_make_safe(
    principal: Principal, machine: Machine, order_type: str, value: float | None, unit: str | None, *, now: dt.datetime
) -> bool:
    """Whether such an order would provably be less heat than now, a drop, or cooling. Nothing is judged or filed."""
    asked = Asked(machine, OrderType(order_type), value, unit or "", "", None, (), {}, None)
    return look_at_asked(principal, asked, now).is_safe_direction


def _judge_and_file(principal: Principal, asked: Asked, *, now: dt.datetime) -> Proposal:
    if not principal.may("propose"):
        raise Forbidden("not_allowed", f"{principal.name} may not order here.", "Ask for the role, or the key's scope.")
    _require_same_organization(principal, asked.machine)
    require_loop(asked.machine)
    begun_s = clock.monotonic()
    for _ in range(MAX_TRIES):
        looked = look_at_asked(principal, asked, now)
        verdict = reviewed(looked)
        try:
            proposal = _file(principal, asked, looked, verdict, now)
            transaction.on_commit(lambda: metrics.PROPOSAL_SECONDS.observe(clock.monotonic() - begun_s))
            return proposal
        except IntegrityError as error:
            # A rival filed an order on the same control, or adopted the same advice, between look and write.
            if asked.adopted_from is not None and _is_adopted(asked.adopted_from):
                raise _already_adopted(asked.adopted_from) from error
            logger.info("proposing again after a race: %s", error)
            asked = dataclasses.replace(asked, look=None)
    raise Conflict(
        Code.CONFLICT.value, "Other orders on this control came first.", "Look at the queue, then try again."
    )


def _require_same_organization(principal: Principal, machine: Machine) -> None:
    if principal.organization is None or machine.organization_id != principal.organization.pk:
        raise NotFound()


def look_at_asked(principal: Principal, asked: Asked, now: dt.datetime) -> Situation:
    """The situation of what is asked for, its target in native steps and its deadline in it. Unprocessable."""
    draft = Order(
        order_type=asked.order_type,
        control=CONTROL_OF[asked.order_type],
        target_step=None,
        is_by_agent=not principal.is_person,
        proposer_id=principal.id,
        proposer_name=principal.name,
        expires_at=now,
        constraints=situation.constraints_of(asked.constraints),
        asked_value=asked.value,
        asked_unit=asked.unit,
        is_proposer_active=principal.agent.is_active if principal.agent is not None else True,
        agent_release=principal.agent.release if principal.agent is not None else "",
        plan_id=asked.plan.pk if asked.plan is not None else "",
        floor=asked.floor,
    )
    looked = situation.gather(asked.machine.pk, draft, principal, now, look=asked.look)
    if asked.roast is not None and asked.roast.pk != looked.roast_id:
        raise Unprocessable(
            "roast_not_open", "This roast is not the machine's open one.", "Leave roast_id out, or name the open roast."
        )
    full_scale = looked.limits.full_scale_step if looked.limits else None
    takes_c = table_of(looked.machine_kind).preheat_range_c is not None
    native = to_native(asked.order_type, asked.value, asked.unit, full_scale, takes_preheat_c=takes_c)
    misfit = native.misfit
    order = dataclasses.replace(
        draft,
        target_step=native.step,
        preheat_c=native.preheat_c,
        misfit=(misfit.code, misfit.message, misfit.how_to_fix) if misfit else None,
    )
    looked = dataclasses.replace(looked, order=order)
    runs_at_once = principal.is_person and not governor.needs_second_person(looked)
    timing = Timing(runs_at_once, looked.is_in_roast, looked.is_after_first_crack, looked.policy)
    expires_at = governor.expiry(timing, now=now, asked_s=asked.expires_in_s)
    return dataclasses.replace(looked, order=dataclasses.replace(order, expires_at=expires_at))


def reviewed(looked: Situation) -> Verdict:
    """The governor's verdict; what raised is logged."""
    verdict = governor.review(looked)
    for text in verdict.tracebacks:
        logger.error("a governor rule raised: %s", text)
    return verdict


def _file(principal: Principal, asked: Asked, looked: Situation, verdict: Verdict, now: dt.datetime) -> Proposal:
    proposal = new_proposal(principal, asked, looked, verdict, now)
    if verdict.decision is not Decision.ALLOW:
        with transaction.atomic(), prepared.together(is_whole=True):
            file_by_verdict(proposal, looked, verdict, now)
        return proposal
    with transaction.atomic():
        prepared.insert(proposal)
        if principal.is_person:
            supersede(proposal, looked, principal, now)
        file_by_verdict(proposal, looked, verdict, now)
    return proposal


def new_proposal(
    principal: Principal, asked: Asked, looked: Situation, verdict: Verdict, now: dt.datetime
) -> Proposal:
    """The order as a row that is not in the database yet, with its digest."""
    order, reading, rated = looked.order, looked.reading, looked.rated
    steps = reading.steps if reading else {}
    is_veto = verdict.decision is Decision.VETO
    proposal = Proposal(
        id=ids.new("prp"),
        organization=principal.organization,
        machine=asked.machine,
        roast_id=looked.roast_id,
        order_type=order.order_type.value,
        control=order.control,
        asked_value=asked.value,
        asked_unit=asked.unit,
        target_step=order.target_step,
        from_step=looked.from_step if order.control else None,
        seen_state=reading.state if reading else "",
        seen_heater_step=steps.get("heater"),
        seen_fan_step=steps.get("fan"),
        seen_drum_step=steps.get("drum"),
        seen_bean_temp_c=reading.bean_temp_c if reading else None,
        seen_rate_c_per_min=reading.rate_of_rise_c_per_min if reading else None,
        seen_device_ms=reading.device_ms if reading else None,
        constraints=dict(asked.constraints),
        reasoning=asked.reasoning,
        evidence=list(asked.evidence),
        mission=asked.mission,
        proposer_agent=principal.agent,
        proposer_user=principal.user if principal.is_person else None,
        agent_release=principal.agent.release if principal.agent is not None else "",
        adopted_from=asked.adopted_from,
        rolls_back=asked.rolls_back,
        plan=asked.plan,
        plan_position=asked.plan_position,
        significance=rated.level.value if rated is not None else "",
        significance_reason=rated.reason if rated is not None else "",
        approvals_needed=governor.approvals_needed(looked, verdict.decision),
        runs_at=now + dt.timedelta(seconds=looked.policy.veto_window_s) if is_veto else None,
        status=Status.PROPOSED.value,
        decision=verdict.decision.value,
        reasons=[reason.to_json() for reason in verdict.reasons],
        proposed_at=now,
        expires_at=order.expires_at,
    )
    proposal.digest = order_digest(proposal)
    return proposal


def supersede(proposal: Proposal, looked: Situation, principal: Principal, now: dt.datetime) -> None:
    """A person's order calls off whatever on its control is not on the wire yet."""
    rival_ids = [
        other.proposal_id
        for other in reversed(looked.unsettled)
        if other.control == proposal.control and Status(other.status) in BEFORE_THE_WIRE
    ]
    waiting = [status.value for status in BEFORE_THE_WIRE]  # some may have been settled since the look
    for rival_id in rival_ids:
        rival = found_with_names(rival_id)
        if rival is None or rival.status not in waiting:
            continue
        is_adopted = proposal.adopted_from_id == rival.pk
        code = Code.ADOPTED if is_adopted else Code.SUPERSEDED
        call_off(
            rival,
            principal,
            code=code.value,
            message=f"{principal.name} gave an order on the same control.",
            now=now,
            detail={"by_proposal": proposal.pk},
        )


def file_by_verdict(proposal: Proposal, looked: Situation, verdict: Verdict, now: dt.datetime) -> None:
    """Write a new order where its verdict puts it (one that is allowed is in the database already, to be moved)."""
    detail = {
        "decision": verdict.decision.value,
        "reasons": [reason.to_json() for reason in verdict.reasons],
        "policy_version": looked.policy.version,
        "significance_reason": proposal.significance_reason,
    }
    actor = governor_principal(proposal)
    if verdict.decision is Decision.ALLOW:
        move(proposal, Status.APPROVED, actor, now=now, verb="proposal_allowed", detail=detail, decided_at=now)
    elif verdict.decision in (Decision.HOLD, Decision.VETO):
        verb = "proposal_held" if verdict.decision is Decision.HOLD else "veto_window_opened"
        file_judged(proposal, Status.PENDING_APPROVAL, actor, now=now, verb=verb, detail=detail)
    else:
        code, text = rejection_of(verdict)
        file_judged(
            proposal,
            Status.REJECTED,
            actor,
            now=now,
            verb="proposal_refused",
            detail=detail,
            decided_at=now,
            rejection_code=code,
            rejection_text=text,
        )


def rejection_of(verdict: Verdict) -> tuple[str, str]:
    """Code and words of a refusal: the first refusing reason's, by the predecessor's code where it had one."""
    first: Reason | None = next(iter(verdict.refusals), None)
    if first is None:
        return Code.NO_RULES.value, "Nothing allowed this order."
    return LEGACY.get(first.code, first.code.value)[:40], first.message[:500]


def adopt_proposal(principal: Principal, proposal: Proposal, *, now: dt.datetime) -> Proposal:
    """A person makes an agent's advice, or its held order, their own; the new order is returned."""
    proposal = mine(principal, proposal)
    if not principal.is_person:
        raise Forbidden("agents_cannot_adopt", "Only a person adopts advice.", "An operator adopts it in the console.")
    if proposal.proposer_agent_id is None:
        raise Conflict("not_advice", "This is a person's order.", "Give your own order.")
    if _is_adopted(proposal):
        raise _already_adopted(proposal)
    is_held = proposal.status == Status.PENDING_APPROVAL
    if not is_held and not is_advice(proposal):
        raise Conflict(
            "not_advice",
            f"This order cannot be adopted: {settled_by(proposal)}.",
            "Give your own order.",
            proposal_id=proposal.pk,
            status_now=str(proposal.status),
        )
    if now >= proposal.expires_at:
        raise Conflict(
            Code.EXPIRED.value,
            "This advice is too old.",
            "Give your own order if it is still right.",
            proposal_id=proposal.pk,
            status_now=str(proposal.status),
        )
    is_setting = proposal.target_step is not None
    asked = Asked(
        machine=proposal.machine,
        order_type=OrderType(proposal.order_type),
        value=proposal.target_step if is_setting else proposal.asked_value,
        unit="step" if is_setting else proposal.asked_unit,
        reasoning=f"Adopted from {proposal.proposer_agent.name}: {proposal.reasoning}"[:4000],  # type: ignore[union-attr]
        roast=None,
        evidence=tuple(proposal.evidence),
        constraints={},
        expires_in_s=None,
        adopted_from=proposal,
        mission=proposal.mission,
    )
    return _judge_and_file(principal, asked, now=now)


def is_advice(proposal: Proposal) -> bool:
    """Refused because agents may only advise here: a person may adopt it until it expires."""
    codes = {reason.get("code") for reason in proposal.reasons if reason.get("decision") == Decision.REFUSE.value}
    return proposal.status == Status.REJECTED and bool(codes & {code.value for code in ADVISORY})


def _is_adopted(proposal: Proposal) -> bool:
    return _ADOPTION.first(order=proposal.pk) is not None


_ADOPTION = prepared.Prepared(
    lambda order: (
        Proposal.objects.filter(adopted_from_id=order)
        .exclude(status=Status.REJECTED.value)
        .order_by()
        .values_list("id")[:1]
    ),
    "order",
)


def _already_adopted(proposal: Proposal) -> ApiError:
    return Conflict(
        "already_adopted",
        "Somebody has adopted this already.",
        "Look at the machine's orders.",
        proposal_id=proposal.pk,
    )


def abort_proposal(principal: Principal, proposal: Proposal, *, now: dt.datetime, text: str = "") -> Proposal:
    """Call an order off: any operator; an agent withdraws its own held one. On the wire: see ``request_abort``."""
    proposal = mine(principal, proposal)
    is_own = principal.agent is not None and proposal.proposer_agent_id == principal.agent.pk
    if not (principal.is_person and principal.may("operate")) and not is_own:
        raise Forbidden("not_allowed", f"{principal.name} may not call off this order.", "Ask an operator.")
    status = Status(proposal.status)
    if status in ON_THE_WIRE:
        return request_abort(principal, proposal, text=text, now=now)
    if status not in BEFORE_THE_WIRE or (is_own and status is not Status.PENDING_APPROVAL):
        raise Conflict(
            "not_abortable",
            f"The order cannot be called off: {settled_by(proposal)}.",
            "Look at its timeline.",
            proposal_id=proposal.pk,
            status_now=status.value,
        )
    if not call_off(proposal, principal, code=Code.WITHDRAWN.value, message=text or "Called off.", now=now):
        raise Conflict("not_abortable", "The order has moved on.", "Look at its timeline.", proposal_id=proposal.pk)
    return proposal


def expire_due(*, now: dt.datetime) -> int:
    """Time out held and approved orders whose deadline has come, at most EXPIRED_AT_ONCE; how many."""
    return sum(time_out(proposal, now) for proposal in _DUE.rows(now=now))


_DUE = prepared.PreparedObjects(
    lambda now: (
        Proposal.objects.filter(status__in=[Status.PENDING_APPROVAL.value, Status.APPROVED.value], expires_at__lte=now)
        .select_related(*WITH_NAMES)
        .order_by("expires_at", "id")[:EXPIRED_AT_ONCE]
    ),
    "now",
    times=["now"],
)


def void_held(machine: Machine | str, *, reading: Any, now: dt.datetime) -> list[Proposal]:
    """Call off held orders, anybody's, whose grounds have gone (see ``rules.machine.void_reason``); which.

    ``reading``: a ``drivers.port.Reading``, a latest row or a streamed payload. One query when nothing is held.
    """
    machine_id = machine if isinstance(machine, str) else machine.pk
    look = situation.look_at(reading, now, link="up")
    voided = []
    for order_id, organization_id, state, *steps, bean_temp_c, rate_c_per_min, device_ms in _HELD.rows(
        machine=machine_id
    ):
        seen = Seen(state, dict(zip(situation.CONTROLS, steps, strict=True)), bean_temp_c, rate_c_per_min, device_ms)
        reason = void_reason(seen, look, policies.policy_of(organization_id))
        if reason is None:
            continue
        proposal = found_with_names(order_id)
        if proposal is None or proposal.status != Status.PENDING_APPROVAL:
            continue  # somebody decided it since
        actor = system_principal("machine loop", proposal.organization)
        if call_off(proposal, actor, code=reason.code.value, message=reason.message, now=now):
            voided.append(proposal)
    return voided


#: Asked three times a second by every machine's loop.
_HELD = prepared.Prepared(
    lambda machine: (
        Proposal.objects.filter(machine_id=machine, status=Status.PENDING_APPROVAL.value)
        .order_by("proposed_at", "id")
        .values_list(
            "id", "organization_id", "seen_state", *(f"seen_{control}_step" for control in situation.CONTROLS),
            "seen_bean_temp_c", "seen_rate_c_per_min", "seen_device_ms",
        )
    ),
    "machine",
)


def approver_id(proposal: Proposal) -> str | None:
    """Who approved, as shown."""
    return person_id(proposal.approver) if proposal.approver is not None else None
