"""Raising, clearing, acknowledging and shelving alarms: one transaction each, each in the audit trail."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from django.db import transaction

from commands.alarms import states
from commands.alarms.rows import look_of
from commands.models import Alarm
from commands.records.moves import person_pk
from kernel import audit, canonical, live, prepared
from kernel.errors import Conflict, Forbidden, Malformed, NotFound, Unprocessable
from kernel.principals import Principal, system_principal
from kernel.standing import found_or_made
from roasts.models import Machine


def raise_alarm(
    machine: Machine,
    *,
    code: str,
    cause: str,
    consequence: str,
    action: str,
    priority: str = "high",
    now: dt.datetime,
) -> Alarm:
    """Tell a person what to do; the standing alarm of this code when there is one."""
    standing = _standing(machine, code)
    if standing is not None:
        return standing

    def tell() -> Alarm:
        alarm = Alarm(
            organization=machine.organization, machine=machine, code=code, priority=priority, cause=cause,
            consequence=consequence, action=action, raised_at=now,
        )  # fmt: skip
        prepared.insert(alarm)
        _tell(alarm, system_principal("machine loop", machine.organization), "alarm_raised", now)
        return alarm

    return found_or_made(lambda: _standing(machine, code), tell)


def _standing(machine: Machine, code: str) -> Alarm | None:
    return _STANDING.first(machine=machine.pk, code=code)


_STANDING = prepared.PreparedObjects(
    lambda machine, code: Alarm.objects.filter(machine_id=machine, code=code, cleared_at__isnull=True),
    "machine",
    "code",
)


def clear_alarm(machine: Machine, *, code: str, now: dt.datetime) -> Alarm | None:
    """Its cause is gone; None when no such alarm stood."""
    with transaction.atomic():
        alarm = _standing(machine, code)
        if alarm is None or not Alarm.objects.filter(pk=alarm.pk, cleared_at__isnull=True).update(cleared_at=now):
            return None
        alarm.refresh_from_db()
        _tell(alarm, system_principal("machine loop", machine.organization), "alarm_cleared", now)
    return alarm


def acknowledge_alarm(principal: Principal, alarm: Alarm, *, now: dt.datetime) -> Alarm:
    """A person has seen it; the first one stays."""
    _require_operator(principal, alarm.machine)
    with transaction.atomic():
        _acknowledge(principal, alarm, now)
    return alarm


def acknowledge_alarms(
    principal: Principal, machine: Machine, *, alarm_ids: Sequence[str], now: dt.datetime
) -> list[Alarm]:
    """A person has seen these alarms of one machine: each by its id, so that one which came meanwhile stays unseen,
    and each in the trail by itself. Oldest first. NotFound, and none acknowledged, where one is not this machine's.
    """
    _require_operator(principal, machine)
    asked = set(alarm_ids)
    with transaction.atomic():
        rows = Alarm.objects.filter(machine=machine, pk__in=asked).select_related("machine", "organization")
        found = list(rows.order_by("raised_at", "id"))  # in one order: two people's presses do not lock each other
        if len(found) != len(asked):
            raise NotFound("alarm_not_found", "One of these alarms is not here.", "List them with GET /v1/alarms.")
        for alarm in found:
            _acknowledge(principal, alarm, now)
    return found


def _acknowledge(principal: Principal, alarm: Alarm, now: dt.datetime) -> None:
    seen = Alarm.objects.filter(pk=alarm.pk, acknowledged_at__isnull=True).update(
        acknowledged_at=now, acknowledged_by=principal.user
    )
    alarm.refresh_from_db(fields=["cleared_at", "acknowledged_at", "acknowledged_by", "shelved_until", "shelve_reason"])
    if seen:
        _tell(alarm, principal, "alarm_acknowledged", now)


def shelve_alarm(principal: Principal, alarm: Alarm, *, minutes: float, reason: str, now: dt.datetime) -> Alarm:
    """Set one alarm aside for a while: 10 min at most where it is high, else 60. A later shelf replaces the former.

    Conflict where it is over, Unprocessable where it would be too long, Malformed without a reason.
    """
    _require_operator(principal, alarm.machine)
    lasting = dt.timedelta(minutes=minutes)
    with transaction.atomic():
        row = Alarm.objects.select_for_update(of=("self",)).select_related("machine", "organization").get(pk=alarm.pk)
        refusal = states.refuse_shelf(look_of(row), lasting=lasting, reason=reason, now=now)
        if refusal is not None:
            kind = {"alarm_over": Conflict, "reason_required": Malformed}.get(refusal.code, Unprocessable)
            raise kind(refusal.code, refusal.message, refusal.how_to_fix)
        row.shelved_until, row.shelved_by_id, row.shelve_reason = now + lasting, person_pk(principal), reason[:500]
        row.save(update_fields=["shelved_until", "shelved_by", "shelve_reason"])
        _tell(row, principal, "alarm_shelved", now)
    return row


def unshelve_alarm(principal: Principal, alarm: Alarm, *, now: dt.datetime) -> Alarm:
    """It shows again. One that is not shelved stays as it is."""
    _require_operator(principal, alarm.machine)
    with transaction.atomic():
        shelved = Alarm.objects.filter(pk=alarm.pk, shelved_until__gt=now)
        if shelved.update(shelved_until=None, shelved_by=None, shelve_reason=""):
            alarm.refresh_from_db()
            _tell(alarm, principal, "alarm_unshelved", now)
    alarm.refresh_from_db()
    return alarm


def _require_operator(principal: Principal, machine: Machine) -> None:
    if principal.organization is None or machine.organization_id != principal.organization.pk:
        raise NotFound()
    if not principal.is_person or not principal.may("operate"):
        raise Forbidden("not_allowed", "This needs an operator.", "Ask somebody with the role.", needed="operate")


def _tell(alarm: Alarm, actor: Principal, verb: str, now: dt.datetime) -> None:
    document = {
        "alarm_id": alarm.pk,
        "machine_id": alarm.machine_id,
        "code": alarm.code,
        "priority": alarm.priority,
        "cause": alarm.cause,
        "consequence": alarm.consequence,
        "action": alarm.action,
        "raised_at": canonical.utc_text(alarm.raised_at),
        "is_standing": alarm.cleared_at is None,
        "is_acknowledged": alarm.acknowledged_at is not None,
        "state": states.state_of(look_of(alarm), now).value,
        "shelved_until": canonical.utc_text(alarm.shelved_until) if alarm.shelved_until else None,
        "shelve_reason": alarm.shelve_reason,
    }
    audit.record(alarm.organization, actor, verb, "alarm", alarm.pk, document, now=now)
    live.publish_decision(alarm.organization, "alarm", alarm.pk, alarm.machine_id, document, now=now)
