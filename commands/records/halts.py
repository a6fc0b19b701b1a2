"""Halts, suspensions and pauses: what keeps orders away from a machine. Through `commands.services`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from commands.alarms.services_alarms import acknowledge_alarm, clear_alarm, raise_alarm
from commands.lifecycle import Status
from commands.loop.notes import last_word
from commands.models import Halt, Proposal, Suspension
from commands.reasons import Code
from commands.records.claim_lock import hold_claims
from commands.records.moves import call_off, person_pk
from kernel import audit, canonical, ids, live, prepared
from kernel.errors import Conflict, Forbidden, Malformed, NotFound
from kernel.prepared import Prepared, PreparedObjects
from kernel.principals import Principal, system_principal
from kernel.standing import found_or_made
from roasts.models import Machine, MachineReading

__all__ = [
    "acknowledge_alarm", "clear_alarm", "halt_document", "observe_cooling", "open_halt", "pause_orders",
    "raise_alarm", "require_link", "reset_halt", "resume_agents", "resume_orders", "suspend_agents",
    "update_halt_result",
]  # fmt: skip

MAX_LOOKS = 5
WITH_NAMES = ("organization", "machine", "proposer_agent", "proposer_user", "approver")


def open_halt(
    machine: Machine,
    *,
    kind: str,
    code: str = "",
    by: Principal,
    stop_id: str = "",
    now: dt.datetime,
    halt_id: str = "",
) -> Halt:
    """Latch a halt; the open one of this kind when there is one. Orders not on the wire yet are called off.

    ``halt_id``: an id promised before the row existed (STOP answers first and records after).
    """
    standing = _open(machine, kind)
    if standing is not None:
        return standing

    def latch() -> Halt:
        hold_claims(machine.pk)
        halt = Halt(
            id=halt_id or ids.new("hlt"), organization=machine.organization, machine=machine, kind=kind,
            code=code[:60], stop_id=stop_id[:60], opened_at=now, opened_by_kind=by.kind, opened_by_id=by.id,
            opened_by_name=by.name,
        )  # fmt: skip
        prepared.insert(halt)
        _call_off_orders(machine, by, Code.HALTED, f"{machine.name} was halted.", now, agents_only=False)
        _tell(halt, by, "halt_opened", now)
        return halt

    # Two press STOP at once and a lead resets the first at that moment: the second's is recorded all the same.
    return found_or_made(lambda: _open(machine, kind), latch)


def _open(machine: Machine, kind: str) -> Halt | None:
    return _OPEN.first(machine=machine.pk, kind=kind)


_OPEN = PreparedObjects(
    lambda machine, kind: Halt.objects.select_related("machine", "organization").filter(
        machine_id=machine, kind=kind, closed_at__isnull=True
    ),
    "machine",
    "kind",
)


def _waiting(machine_id: str) -> QuerySet[Proposal]:
    """What waits or is approved there."""
    return Proposal.objects.filter(
        machine_id=machine_id, status__in=[Status.PENDING_APPROVAL.value, Status.APPROVED.value]
    ).select_related(*WITH_NAMES)


_WAITING = PreparedObjects(_waiting, "machine")
_AGENTS_WAITING = PreparedObjects(lambda machine: _waiting(machine).filter(proposer_agent__isnull=False), "machine")


def _call_off_orders(
    machine: Machine, by: Principal, code: Code, message: str, now: dt.datetime, *, agents_only: bool
) -> None:
    """Whatever waits or is approved here must not fire later, when the machine is given back.

    Who approves at this very moment moves a row between our look and our update: look again.
    """
    actor = (
        by
        if by.kind == "system"
        else system_principal("halt" if code is Code.HALTED else "suspension", machine.organization)
    )
    for _ in range(MAX_LOOKS):
        missed = [
            proposal
            for proposal in (_AGENTS_WAITING if agents_only else _WAITING).rows(machine=machine.pk)
            if not call_off(proposal, actor, code=code.value, message=message, now=now, detail={"by": by.name})
        ]
        if not missed:
            return


def update_halt_result(
    halt: Halt,
    *,
    result: str,
    first_byte_ms: float | None = None,
    proved_ms: float | None = None,
    by_hand: Sequence[str] = (),
    proof: Mapping[str, Any] | None = None,
    now: dt.datetime,
) -> Halt:
    """What making safe could prove: ``heat_off`` or ``unproved``. The newest statement stands; audit keeps all."""
    if result not in ("heat_off", "unproved"):
        raise ValueError(f"no such result: {result!r}")
    with transaction.atomic():
        Halt.objects.filter(pk=halt.pk).update(
            result=result,
            first_byte_ms=first_byte_ms,
            proved_ms=proved_ms,
            by_hand=list(by_hand),
            proof=dict(proof or {}),
        )
        halt.refresh_from_db()
        _tell(halt, system_principal("stop", halt.organization), "halt_result", now)
    return halt


def observe_cooling(halt: Halt, *, now: dt.datetime) -> Halt:
    """The beans were seen to cool after the halt."""
    with transaction.atomic():
        if Halt.objects.filter(pk=halt.pk, cooling_observed_at__isnull=True).update(cooling_observed_at=now):
            halt.refresh_from_db()
            _tell(halt, system_principal("machine loop", halt.organization), "halt_cooling_observed", now)
    return halt


def reset_halt(principal: Principal, halt: Halt, *, reason: str, now: dt.datetime) -> Halt:
    """A lead resets a halt, with a reason; one from a lost link is cleared by the operator who looked.

    The database's half only: the caller releases the keeper's latch. A closed halt stays as it is.
    """
    if halt.organization_id != (principal.organization.pk if principal.organization else None):
        raise NotFound()
    needed = "operate" if halt.kind == Halt.Kind.LINK_LOST else "lead"
    if not principal.is_person or not principal.may(needed):
        raise Forbidden(
            "not_allowed", f"Resetting this halt needs a person who may {needed}.", "Ask a lead.", needed=needed
        )
    if not reason.strip():
        raise Malformed("reason_required", "A reset needs a reason.", "Say in `reason` what you looked at.")
    with transaction.atomic():
        closed = Halt.objects.filter(pk=halt.pk, closed_at__isnull=True).update(
            closed_at=now, closed_by=principal.user, close_reason=reason[:500]
        )
        halt.refresh_from_db()
        if closed:
            _tell(halt, principal, "halt_reset", now)
    return halt


def _tell(halt: Halt, actor: Principal, verb: str, now: dt.datetime) -> None:
    document = halt_document(halt)
    audit.record(halt.organization, actor, verb, "halt", halt.pk, document, now=now)
    live.publish_decision(halt.organization, "halt", halt.pk, halt.machine_id, document, now=now)


def halt_document(halt: Halt) -> dict[str, Any]:
    """A halt as JSON, for stream, audit and API."""
    return {
        "halt_id": halt.pk,
        "machine_id": halt.machine_id,
        "kind": str(halt.kind),
        "code": halt.code,
        "stop_id": halt.stop_id,
        "opened_at": canonical.utc_text(halt.opened_at),
        "opened_by": {"kind": halt.opened_by_kind, "id": halt.opened_by_id, "name": halt.opened_by_name},
        "result": halt.result,
        "first_byte_ms": halt.first_byte_ms,
        "proved_ms": halt.proved_ms,
        "by_hand": list(halt.by_hand),
        "cooling_observed_at": canonical.utc_text(halt.cooling_observed_at) if halt.cooling_observed_at else None,
        "closed_at": canonical.utc_text(halt.closed_at) if halt.closed_at else None,
        "close_reason": halt.close_reason,
    }


def suspend_agents(principal: Principal, machine: Machine, *, now: dt.datetime) -> Suspension:
    """ "I have it": agents may not act here until a person gives it back; their held orders are called off."""
    _require_operator(principal, machine)

    def suspend() -> Suspension:
        hold_claims(machine.pk)
        suspension = Suspension.objects.create(
            organization=machine.organization, machine=machine, taken_by_id=person_pk(principal), taken_at=now
        )
        _call_off_orders(
            machine, principal, Code.SUSPENDED, f"{principal.name} has the machine.", now, agents_only=True
        )
        _tell_machine(principal, machine, "agents_suspended", "suspension", suspension.pk, {"is_suspended": True}, now)
        return suspension

    return found_or_made(
        lambda: Suspension.objects.filter(machine=machine, given_back_at__isnull=True).first(), suspend
    )


def resume_agents(principal: Principal, machine: Machine, *, now: dt.datetime) -> Suspension | None:
    """Any operator gives the machine back to its agents; None when nobody had it."""
    _require_operator(principal, machine)
    with transaction.atomic():
        suspension = Suspension.objects.filter(machine=machine, given_back_at__isnull=True).first()
        if suspension is None:
            return None
        given_back = Suspension.objects.filter(pk=suspension.pk, given_back_at__isnull=True).update(
            given_back_at=now, given_back_by=principal.user
        )
        suspension.refresh_from_db()
        if given_back:
            _tell_machine(
                principal, machine, "agents_resumed", "suspension", suspension.pk, {"is_suspended": False}, now
            )
    return suspension


def pause_orders(machine: Machine, *, code: str, now: dt.datetime) -> bool:
    """After a lost link: no orders until a person resumes. True when this call paused them."""
    actor = system_principal("machine loop", machine.organization)
    with transaction.atomic():
        hold_claims(machine.pk)
        paused = MachineReading.objects.filter(machine=machine, is_orders_paused=False).update(is_orders_paused=True)
        if paused:
            _call_off_orders(machine, actor, Code.ORDERS_PAUSED, "The link was lost.", now, agents_only=False)
            _tell_machine(
                actor, machine, "orders_paused", "machine", machine.pk, {"is_orders_paused": True, "code": code}, now
            )
    return bool(paused)


def resume_orders(principal: Principal, machine: Machine, *, now: dt.datetime) -> bool:
    """The operator who looked at the machine lets orders through again. True when they were paused."""
    _require_operator(principal, machine)
    require_link(machine)
    with transaction.atomic():
        resumed = MachineReading.objects.filter(machine=machine, is_orders_paused=True).update(is_orders_paused=False)
        if resumed:
            _tell_machine(principal, machine, "orders_resumed", "machine", machine.pk, {"is_orders_paused": False}, now)
    return bool(resumed)


def require_link(machine: Machine) -> None:
    """Nobody has seen a machine answer whose cable is out: what is let through now would fire unseen later."""
    written, written_at = _LINK.first(machine=machine.pk) or ("", None)
    if written_at is None:
        return
    link, _, _ = last_word(written, "", "", written_at, live.latest_reading(machine.organization_id, machine.pk))
    if link == MachineReading.Link.DOWN.value:
        raise Conflict(
            "link_down",
            f"{machine.name} cannot be reached: orders stay paused.",
            "Check cable and power, look at the machine, and resume once it answers again.",
        )


_LINK = Prepared(
    lambda machine: MachineReading.objects.filter(pk=machine).order_by().values_list("link", "written_at"), "machine"
)


def _require_operator(principal: Principal, machine: Machine) -> None:
    if principal.organization is None or machine.organization_id != principal.organization.pk:
        raise NotFound()
    if not principal.is_person or not principal.may("operate"):
        raise Forbidden("not_allowed", "This needs an operator.", "Ask somebody with the role.", needed="operate")


def _tell_machine(
    actor: Principal,
    machine: Machine,
    verb: str,
    kind: str,
    subject_id: str,
    document: dict[str, Any],
    now: dt.datetime,
) -> None:
    payload = {"machine_id": machine.pk, "by": actor.name, **document}
    audit.record(machine.organization, actor, verb, kind, subject_id, payload, now=now)
    live.publish_decision(machine.organization, kind, subject_id, machine.pk, payload, now=now)
