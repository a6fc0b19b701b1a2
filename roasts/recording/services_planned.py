"""The next batch of a machine, before its beans are in: planned, withdrawn, and shown as heating up.

A planned roast is a row of its own status, and no roast yet: `Roast.objects` leaves it out. The charge makes it one
(`roasts.services.open_roast`), under the same id. One that never happened is no record: withdrawing it deletes it, and
the audit keeps who planned what.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

from django.db import IntegrityError, transaction

from kernel import audit, live
from kernel.errors import Conflict, Forbidden, NotFound
from kernel.principals import Principal, system_principal
from roasts import services
from roasts.models import Machine, MachineReading, ProfileVersion, Roast, RoastStatus
from roasts.recording.planned import HEATING_UP, PlannedBatch

_HEATING_WORDS = frozenset(state.value for state in HEATING_UP)


def plan_batch(
    principal: Principal,
    machine: Machine,
    *,
    said: Mapping[str, Any],
    version: ProfileVersion | None,
    now: dt.datetime,
) -> Roast:
    """Plan the machine's next batch. ``said``: fields of `services_library.TEXTS` and NUMBERS; ``version`` None leaves
    the profile to what the machine follows at the charge. Forbidden; NotFound for a machine that was put away;
    Conflict `batch_planned`, `profile_archived`.
    """
    _require_operate(principal)
    if version is not None and version.profile.is_archived:
        raise Conflict("profile_archived", "This profile is put away.", "Take it out again, or choose another.")
    try:
        with transaction.atomic():
            _hold_in_use(machine)
            roast = Roast.with_planned.create(
                id=services.new_roast_id(),
                organization_id=machine.organization_id,
                machine=machine,
                status=RoastStatus.PLANNED.value,
                started_at=now,
                device_start_ms=0,
                profile_version=version,
                **said,
            )
            payload = {"machine_id": machine.pk, **said, "profile_version_id": roast.profile_version_id}
            audit.record(machine.organization, principal, "roast_planned", "roast", roast.pk, payload, now=now)
            _show(roast, "roast_planned", now)
    except IntegrityError as error:
        standing = Roast.with_planned.planned().filter(machine=machine).values_list("pk", flat=True).first()
        if standing is None:
            raise
        raise Conflict(
            "batch_planned",
            "The next batch of this machine is planned already.",
            "Change that one, or withdraw it.",
            roast_id=standing,
        ) from error
    if MachineReading.objects.filter(pk=machine.pk, state__in=_HEATING_WORDS, link=MachineReading.Link.UP).exists():
        heat_up(machine.pk, now=now)
        roast.refresh_from_db()
    return roast


def withdraw_batch(principal: Principal, roast: Roast, *, now: dt.datetime) -> Roast:
    """Take a plan back: the row goes, the audit stays. Forbidden; NotFound; Conflict `roast_begun`."""
    _require_operate(principal)
    with transaction.atomic():
        rows = Roast.with_planned.planned().select_for_update(of=("self",)).select_related("organization")
        row = rows.filter(pk=roast.pk).first()
        if row is None:
            if Roast.objects.filter(pk=roast.pk).exists():
                raise Conflict("roast_begun", "The beans of this batch are in.", "A roast that has begun is kept.")
            raise NotFound("roast_not_found", "There is no such roast here.", "List them with GET /v1/roasts.")
        _forget(principal, row, now)
    return row


def withdraw_with_machine(principal: Principal, machine: Machine, *, now: dt.datetime) -> None:
    """The machine is put away: what was planned on it will not happen. Its caller has the transaction."""
    rows = Roast.with_planned.planned().select_for_update(of=("self",)).select_related("organization")
    for row in rows.filter(machine=machine):
        _forget(principal, row, now)


def _forget(principal: Principal, row: Roast, now: dt.datetime) -> None:
    payload = {"machine_id": row.machine_id, "bean": row.bean, "lot": row.lot, "weight_in_g": row.weight_in_g}
    audit.record(row.organization, principal, "roast_plan_withdrawn", "roast", row.pk, payload, now=now)
    _show(row, "roast_plan_withdrawn", now)
    Roast.with_planned.filter(pk=row.pk).delete()


def _hold_in_use(machine: Machine) -> None:
    """The machine's row until we are done: who puts it away meanwhile waits, and then finds our plan. NotFound."""
    if not Machine.objects.select_for_update(no_key=True).filter(pk=machine.pk, is_archived=False).exists():
        raise NotFound("machine_not_found", "There is no such machine here.", "List them with GET /v1/machines.")


def heat_up(machine_id: str, *, now: dt.datetime) -> bool:
    """The machine heats up: its planned batch is preheating from now on. False where none was only planned."""
    with transaction.atomic():
        rows = Roast.with_planned.select_for_update(of=("self",)).select_related("organization")
        roast = rows.filter(machine_id=machine_id, status=RoastStatus.PLANNED.value).first()
        if roast is None:
            return False
        roast.status = RoastStatus.PREHEATING.value
        Roast.with_planned.filter(pk=roast.pk).update(status=roast.status)
        actor = system_principal("machine_loop", roast.organization)
        payload = {"machine_id": machine_id}
        audit.record(roast.organization, actor, "roast_preheating", "roast", roast.pk, payload, now=now)
        _show(roast, "roast_preheating", now)
    return True


def planned_batch(machine_id: str) -> PlannedBatch | None:
    """What is planned for this machine. One statement."""
    row = Roast.with_planned.planned().filter(machine_id=machine_id).values_list("pk", "started_at", "status").first()
    return None if row is None else PlannedBatch(row[0], row[1], row[2] == RoastStatus.PREHEATING.value)


def ids_for(machine_id: str, charged_at: dt.datetime) -> Callable[[], str]:
    """Names roasts as they open: the first one after the planned batch, if it was planned before then.

    Asks the store once, and only when a roast opens.
    """
    is_asked = False

    def name() -> str:
        nonlocal is_asked
        planned = None if is_asked else planned_batch(machine_id)
        is_asked = True
        return planned.roast_id if planned is not None and planned.is_for(charged_at) else services.new_roast_id()

    return name


def _require_operate(principal: Principal) -> None:
    if not principal.may("operate"):
        raise Forbidden("not_allowed", f"{principal.name} may not operate here.", "Ask an operator.")


def _show(roast: Roast, verb: str, now: dt.datetime) -> None:
    payload = {"verb": verb, "status": roast.status}
    live.publish_decision(roast.organization, "roast", roast.pk, roast.machine_id, payload, now=now)
