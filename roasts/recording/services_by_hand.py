"""A person opens or closes the roast of a machine that tells no states. One transaction each.

The store is told first; the machine loop finds it there and goes on with it (`commands.loop.store_side`). A machine
that is fed by a bridge keeps its own state with its stream: `roasts.telemetry.services` does the same for it.
"""

from __future__ import annotations

import datetime as dt

from django.db import IntegrityError, transaction

from drivers.port import MachineState
from kernel import audit
from kernel.errors import Conflict, Forbidden
from kernel.principals import Principal
from roasts import services
from roasts.models import EventKind, Machine, MachineReading, Roast, RoastStatus
from roasts.recording import recorder, services_planned
from roasts.telemetry import services as telemetry_services

#: A charge is *now*: a machine that was not read for longer than this has no now.
MAX_AGE = dt.timedelta(seconds=5)


def open_by_person(principal: Principal, machine: Machine, *, now: dt.datetime) -> Roast:
    """The beans are in: open a roast as of the newest reading, with the person's mark of its charge.

    A roast that has dropped is finished by that. Forbidden; Conflict `roast_open`, `machine_says_itself`,
    `machine_not_read`.
    """
    _require_operate(principal)
    if machine.is_remote:
        return telemetry_services.open_by_person(principal, machine, now=now)
    try:
        with transaction.atomic():
            latest = _latest_without_state(machine, now)
            _finish_dropped(principal, machine, ended_at=latest.at or now, now=now)
            name_roast = services_planned.ids_for(machine.pk, now)
            opening = recorder.OpenRoast(latest.device_ms, latest.at or now, is_late=False, is_spurious=False)
            roast = services.open_roast(
                machine, opening, roast_id=name_roast(), connection_id=latest.connection_id, now=now
            )
            payload = {"machine_id": machine.pk, "device_ms": latest.device_ms}
            audit.record(machine.organization, principal, "roast_opened_by_hand", "roast", roast.pk, payload, now=now)
            services.mark_event(principal, roast, kind=EventKind.CHARGE.value, elapsed_ms=0, now=now)
    except IntegrityError as error:
        raise _is_open("") from error  # the loop has just understood the same charge
    return roast


def close_by_person(
    principal: Principal, machine: Machine, *, is_aborted: bool, reason: str, now: dt.datetime
) -> Roast:
    """The roast is over: close it as of the newest reading. Forbidden; Conflict `no_roast`, `machine_says_itself`."""
    _require_operate(principal)
    if machine.is_remote:
        return telemetry_services.close_by_person(principal, machine, is_aborted=is_aborted, reason=reason, now=now)
    with transaction.atomic():
        latest = MachineReading.objects.select_for_update().filter(pk=machine.pk).first()
        _refuse_stated(latest)
        roast = Roast.objects.open().select_for_update().filter(machine=machine).first()
        if roast is None:
            raise Conflict("no_roast", "No roast is open on this machine.", "Nothing is left to do.")
        if roast.samples.exclude(state=MachineState.UNKNOWN.value).exists():
            raise _says_itself()
        last_at = latest.at if latest is not None and latest.at is not None else now
        _close(principal, machine, roast, is_aborted=is_aborted, reason=reason, ended_at=last_at, now=now)
    return Roast.objects.get(pk=roast.pk)


def _require_operate(principal: Principal) -> None:
    if not principal.may("operate"):
        raise Forbidden("not_allowed", f"{principal.name} may not operate here.", "Ask an operator.")


def _latest_without_state(machine: Machine, now: dt.datetime) -> MachineReading:
    """The newest reading of a machine that is read now and tells no state."""
    latest = MachineReading.objects.select_for_update().filter(pk=machine.pk).first()
    if latest is None or latest.at is None or now - latest.at > MAX_AGE:
        raise Conflict(
            "machine_not_read", f"Nothing was read from {machine.name} just now.", "Wait until its link is up."
        )
    _refuse_stated(latest)
    return latest


def _refuse_stated(latest: MachineReading | None) -> None:
    if latest is not None and latest.state != MachineState.UNKNOWN.value:
        raise _says_itself()


def _says_itself() -> Conflict:
    return Conflict(
        "machine_says_itself",
        "This machine says itself when it roasts.",
        "Charge it, or let it cool down: its roasts open and close by that.",
    )


def _finish_dropped(principal: Principal, machine: Machine, *, ended_at: dt.datetime, now: dt.datetime) -> None:
    """The next beans are in: a roast that dropped is over. Conflict where one is under way."""
    for roast in Roast.objects.open().select_for_update().filter(machine=machine):
        if roast.status != RoastStatus.COOLING.value:
            raise _is_open(roast.pk)
        _close(
            principal, machine, roast, is_aborted=False, reason="the next roast was charged", ended_at=ended_at, now=now
        )


def _is_open(roast_id: str) -> Conflict:
    return Conflict("roast_open", "A roast is open on this machine.", "Close it first.", roast_id=roast_id)


def _close(
    principal: Principal,
    machine: Machine,
    roast: Roast,
    *,
    is_aborted: bool,
    reason: str,
    ended_at: dt.datetime,
    now: dt.datetime,
) -> None:
    status = RoastStatus.ABORTED if is_aborted else RoastStatus.FINISHED
    services.close_roast(machine, roast.pk, status=status.value, ended_at=max(ended_at, roast.started_at), now=now)
    Roast.objects.filter(pk=roast.pk).update(close_reason="person")
    payload = {"machine_id": machine.pk, "reason": reason, "is_aborted": is_aborted}
    audit.record(machine.organization, principal, "roast_closed_by_hand", "roast", roast.pk, payload, now=now)
