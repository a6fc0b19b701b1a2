"""Commissioning a machine and drilling its STOP: one transaction each, the record of who saw what."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db import transaction

from commands.alarms.services_alarms import clear_alarm, raise_alarm
from commands.commissioning import drill as stop_drill
from commands.commissioning import steps
from commands.models import Commissioning, StopDrill
from commands.records.moves import person_pk
from kernel import audit, canonical, live
from kernel.errors import Conflict, Forbidden, Malformed, NotFound
from kernel.prepared import PreparedObjects
from kernel.principals import Principal, system_principal
from kernel.standing import found_or_made
from roasts.models import Machine, MachineReading

#: What stands in the record of a virtual machine, in every step and in the drill.
VIRTUAL_NOTE = "A virtual machine, recorded by the program: nobody walked through it, and STOP was not pressed."
NOT_PRESSED = "not_pressed"
#: Alarm and reason: what answers is not what was commissioned.
ANOTHER_MACHINE = "another_machine"


def in_force(machine: Machine) -> Commissioning | None:
    """The completed commissioning that stands, if any."""
    return Commissioning.objects.filter(machine=machine, completed_at__isnull=False, ended_at__isnull=True).first()


def under_way(machine: Machine) -> Commissioning | None:
    """The one that somebody began and nobody completed or abandoned."""
    return Commissioning.objects.filter(machine=machine, completed_at__isnull=True, ended_at__isnull=True).first()


def last_passed_drill(machine: Machine) -> StopDrill | None:
    """The newest drill that passed."""
    return StopDrill.objects.filter(machine=machine, is_passed=True).first()


def controls_of(machine: Machine) -> list[str]:
    """Controls whose setting a person can change here."""
    return [limit.control for limit in machine.limits.all() if limit.max_step > limit.min_step]


def begin_commissioning(principal: Principal, machine: Machine, *, now: dt.datetime) -> Commissioning:
    """Begin, or go on with the one under way: a second call finds it."""
    _require(principal, machine, "operate")
    standing = under_way(machine)
    if standing is not None:
        return standing

    def begin() -> Commissioning:
        begun = Commissioning.objects.create(
            organization=machine.organization, machine=machine, begun_by_id=person_pk(principal), begun_at=now
        )
        _tell(principal, begun, "commissioning_begun", now)
        return begun

    return found_or_made(lambda: under_way(machine), begin)


def record_step(
    principal: Principal, commissioned: Commissioning, *, code: str, finding: steps.Finding, now: dt.datetime
) -> Commissioning:
    """Append what a step came to. Conflict when this commissioning is no longer under way."""
    _require(principal, commissioned.machine, "operate")
    entry = {
        "code": code,
        "result": finding.result.value,
        "message": finding.message,
        "evidence": dict(finding.evidence),
        "by": principal.name,
        "at": canonical.utc_text(now),
    }
    with transaction.atomic():
        row = _under_way_locked(commissioned)
        row.steps = [*row.steps, entry]
        row.save(update_fields=["steps"])
        _tell(principal, row, "commissioning_step", now, step=entry)
    return row


def complete_commissioning(
    principal: Principal, commissioned: Commissioning, *, limits: dict[str, Any], now: dt.datetime
) -> Commissioning:
    """A lead signs: every step has passed and the limits are still those that were reviewed. Replaces the former."""
    machine = commissioned.machine
    _require(principal, machine, "lead")
    with transaction.atomic():
        row = _under_way_locked(commissioned)
        missing = steps.still_open(row.steps, controls_of(machine))
        if missing:
            raise Conflict(
                "steps_open",
                f"These steps have not passed: {', '.join(missing)}.",
                "Do them at the machine, then sign.",
                steps=list(missing),
            )
        changed = steps.limits_changed(row.steps, limits)
        if changed:
            raise Conflict(
                "limits_changed", f"Limits were changed since they were reviewed: {', '.join(changed)}.",
                "Review the limits again, then sign.", limits=list(changed),
            )  # fmt: skip
        _refuse_another_machine(machine, row)
        _end_standing(principal, machine, "replaced by a later one", now)
        row.completed_by_id, row.completed_at = person_pk(principal), now
        row.save(update_fields=["completed_by", "completed_at"])
        _tell(principal, row, "commissioning_completed", now)
        clear_alarm(machine, code=ANOTHER_MACHINE, now=now)
    return row


def _refuse_another_machine(machine: Machine, row: Commissioning) -> None:
    """Somebody plugged in another machine between the first step and the signature."""
    said = MachineReading.objects.filter(machine=machine).values_list("identity", flat=True).first() or {}
    if not steps.is_same_machine(row.steps, said):
        raise Conflict(
            ANOTHER_MACHINE, f"{steps.other_serial_words(row.steps, said)} The steps were done at another machine.",
            "Plug that one in again, or do the steps anew at this one.",
        )  # fmt: skip


def meet_machine(machine: Machine, identity: dict[str, Any], *, now: dt.datetime) -> Commissioning | None:
    """The machine said who it is. A commissioning of another one ends by itself, with an alarm, and is returned: no
    grant acts here until somebody has walked through this machine's. The alarm goes when the right one answers."""
    row = _NEWEST_DONE.first(machine=machine.pk)
    if row is None:
        return None
    if steps.is_same_machine(row.steps, identity):
        clear_alarm(machine, code=ANOTHER_MACHINE, now=now)
        return None
    if row.ended_at is not None:
        return None
    words = steps.other_serial_words(row.steps, identity)
    with transaction.atomic():
        _end(system_principal("machine loop", machine.organization), row, f"{words} It was never commissioned.", now)
        raise_alarm(
            machine, code=ANOTHER_MACHINE, cause=words, consequence=_NOT_COMMISSIONED, action=_COMMISSION_IT, now=now
        )
    return row


_NEWEST_DONE = PreparedObjects(
    lambda machine: Commissioning.objects.filter(machine_id=machine, completed_at__isnull=False).order_by(
        "-completed_at", "-id"
    )[:1],
    "machine",
)
_NOT_COMMISSIONED = "Its commissioning has ended: no agent acts on it any more."
_COMMISSION_IT = "Look at what is plugged in. Walk through the commissioning of this machine before agents act on it."


def end_commissioning(principal: Principal, commissioned: Commissioning, *, reason: str, now: dt.datetime) -> None:
    """Abandon one under way (an operator) or take one in force back (a lead, or the loop that met another machine)."""
    if principal.kind != "system":
        _require(principal, commissioned.machine, "lead" if commissioned.completed_at else "operate")
    if not reason.strip():
        raise Malformed("reason_required", "Ending a commissioning needs a reason.", "Say why in `reason`.")
    with transaction.atomic():
        _end(principal, commissioned, reason, now)


def record_drill(
    principal: Principal, machine: Machine, *, answer: dict[str, Any], note: str = "", now: dt.datetime
) -> StopDrill:
    """File what a pressed STOP answered (``commands.stop.asgi.stop_machine``'s answer), judged."""
    _require(principal, machine, "operate")
    pressed = stop_drill.Pressed(answer["result"], answer["first_byte_ms"], answer["proved_ms"], machine.driver_kind)
    finding = stop_drill.judge(pressed)
    with transaction.atomic():
        drill = StopDrill.objects.create(
            organization=machine.organization, machine=machine, user_id=person_pk(principal), at=now,
            is_passed=finding.is_passed, result=pressed.result, first_byte_ms=pressed.first_byte_ms,
            proved_ms=pressed.proved_ms, proof=stop_drill.proof_document(finding, answer), note=note[:500],
        )  # fmt: skip
        _tell_drill(principal, drill, now)
    return drill


def record_for_virtual(
    machine: Machine, *, by: Principal, now: dt.datetime, drill_max_age_s: float = 8 * 3600.0
) -> Commissioning:
    """A virtual machine moves no heat: its commissioning and a drill are written down as not done, so that agents
    may act on it at once. A second call finds both; a drill older than ``drill_max_age_s`` is written anew.

    Malformed for a machine that is not virtual: nothing of this kind is ever written for a real one.
    """
    if not machine.is_virtual:
        raise Malformed(
            "not_virtual", f"{machine.name} is a real machine.", "Walk through its commissioning at the machine."
        )
    with transaction.atomic():
        row = in_force(machine) or _write_virtual(machine, by, now)
        last = last_passed_drill(machine)
        age_s = None if last is None else (now - last.at).total_seconds()
        if stop_drill.is_due(last_passed_age_s=age_s, max_age_s=drill_max_age_s):
            drill = StopDrill.objects.create(
                organization=machine.organization, machine=machine, user_id=person_pk(by), at=now, is_passed=True,
                result=NOT_PRESSED, proof={"is_virtual": True, "message": VIRTUAL_NOTE}, note=VIRTUAL_NOTE,
            )  # fmt: skip
            _tell_drill(by, drill, now)
    return row


def _write_virtual(machine: Machine, by: Principal, now: dt.datetime) -> Commissioning:
    entries = [
        {"code": step.code, "result": steps.Result.PASSED.value, "message": VIRTUAL_NOTE,
         "evidence": {"is_virtual": True}, "by": by.name, "at": canonical.utc_text(now)}
        for step in steps.steps_for(controls_of(machine))
    ]  # fmt: skip
    row = Commissioning.objects.create(
        organization=machine.organization, machine=machine, begun_by_id=person_pk(by), begun_at=now, steps=entries,
        completed_by_id=person_pk(by), completed_at=now,
    )  # fmt: skip
    _tell(by, row, "commissioning_completed", now, note=VIRTUAL_NOTE)
    return row


def _under_way_locked(commissioned: Commissioning) -> Commissioning:
    """The row, held until the end of the transaction; two people at two tablets append one after the other."""
    rows = Commissioning.objects.select_for_update(of=("self",)).select_related("machine", "organization")
    row = rows.filter(pk=commissioned.pk, completed_at__isnull=True, ended_at__isnull=True).first()
    if row is None:
        raise Conflict(
            "not_under_way", "This commissioning was completed or abandoned meanwhile.", "Begin another one."
        )
    return row


def _end_standing(principal: Principal, machine: Machine, reason: str, now: dt.datetime) -> None:
    standing = in_force(machine)
    if standing is not None:
        _end(principal, standing, reason, now)


def _end(principal: Principal, commissioned: Commissioning, reason: str, now: dt.datetime) -> None:
    rows = Commissioning.objects.filter(pk=commissioned.pk, ended_at__isnull=True)
    if rows.update(ended_at=now, end_reason=reason[:500]):
        commissioned.refresh_from_db()
        _tell(principal, commissioned, "commissioning_ended", now, reason=reason[:500])


def _require(principal: Principal, machine: Machine, capability: str) -> None:
    if principal.organization is None or machine.organization_id != principal.organization.pk:
        raise NotFound()
    if not principal.is_person or not principal.may(capability):
        raise Forbidden(
            "not_allowed", f"This needs a person who may {capability}.", "Ask somebody with the role.",
            needed=capability,
        )  # fmt: skip


def commissioning_document(row: Commissioning) -> dict[str, Any]:
    """A commissioning as JSON, for stream, audit and API; the newest result of each step."""
    return {
        "commissioning_id": row.pk,
        "machine_id": row.machine_id,
        "begun_at": canonical.utc_text(row.begun_at),
        "completed_at": canonical.utc_text(row.completed_at) if row.completed_at else None,
        "ended_at": canonical.utc_text(row.ended_at) if row.ended_at else None,
        "end_reason": row.end_reason,
    }


def _tell(principal: Principal, row: Commissioning, verb: str, now: dt.datetime, **more: Any) -> None:
    document = {**commissioning_document(row), **more}
    audit.record(row.organization, principal, verb, "commissioning", row.pk, document, now=now)
    live.publish_decision(row.organization, "commissioning", row.pk, row.machine_id, document, now=now)


def drill_document(drill: StopDrill) -> dict[str, Any]:
    """A drill as JSON."""
    return {
        "drill_id": drill.pk,
        "machine_id": drill.machine_id,
        "at": canonical.utc_text(drill.at),
        "is_passed": drill.is_passed,
        "result": drill.result,
        "first_byte_ms": drill.first_byte_ms,
        "proved_ms": drill.proved_ms,
        "has_heat_gone_down": bool(drill.proof.get("has_heat_gone_down")),
        "message": str(drill.proof.get("message", "")),
        "proves": list(drill.proof.get("proves", ())),
        "does_not_prove": list(drill.proof.get("does_not_prove", ())),
        "by_hand": list(drill.proof.get("by_hand", ())),
        "halt_id": drill.proof.get("halt_id"),
        "note": drill.note,
    }


def _tell_drill(principal: Principal, drill: StopDrill, now: dt.datetime) -> None:
    document = drill_document(drill)
    audit.record(drill.organization, principal, "stop_drilled", "stop_drill", drill.pk, document, now=now)
    live.publish_decision(drill.organization, "stop_drill", drill.pk, drill.machine_id, document, now=now)
