"""A person says that they are at a machine; it counts for the policy's minutes. Through `commands.services`."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db import transaction

from commands.models import Attendance
from commands.records.moves import person_pk
from commands.rules import policies
from kernel import audit, canonical, ids, live, prepared
from kernel.errors import Forbidden, NotFound
from kernel.principals import ROLES_FOR, Principal
from roasts.models import Machine

#: A second press of the same person within this is the same press.
SAME_PRESS_S = 2.0


def attend_machine(principal: Principal, machine: Machine, *, now: dt.datetime) -> Attendance:
    """An operator confirms that they are at this machine now. Forbidden, NotFound."""
    if principal.organization is None or machine.organization_id != principal.organization.pk:
        raise NotFound()
    if not principal.is_person or not principal.may("operate"):
        raise Forbidden("not_allowed", "Only an operator can be at a machine.", "The person at the machine presses it.")
    last = latest_attendance(machine)
    if last is not None and last.user_id == person_pk(principal):
        if 0 <= (now - last.at).total_seconds() < SAME_PRESS_S:
            return last
    with transaction.atomic():
        row = Attendance(
            id=ids.new("att"), organization=machine.organization, machine=machine, user_id=person_pk(principal), at=now
        )
        prepared.insert(row)
        document = attendance_document(machine, row)
        audit.record(machine.organization, principal, "machine_attended", "machine", machine.pk, document, now=now)
        live.publish_decision(machine.organization, "attendance", row.pk, machine.pk, document, now=now)
    return row


def latest_attendance(machine: Machine) -> Attendance | None:
    """The newest presence of somebody who may still work here: as the governor looks at it."""
    return _LATEST.first(machine=machine.pk, organization=machine.organization_id)


_LATEST = prepared.PreparedObjects(
    lambda machine, organization: (
        Attendance.objects.filter(
            machine_id=machine,
            user__is_active=True,
            user__memberships__organization_id=organization,
            user__memberships__role__in=sorted(ROLES_FOR["operate"]),
        )
        .select_related("user")
        .order_by("-at", "-id")[:1]
    ),
    "machine",
    "organization",
)


def counts_until(machine: Machine, row: Attendance | None) -> dt.datetime | None:
    """Until when this presence counts by the policy in force; None where nobody said so."""
    if row is None:
        return None
    return row.at + dt.timedelta(seconds=policies.policy_of(machine.organization_id).attendance_max_age_s)


def attendance_document(machine: Machine, row: Attendance | None) -> dict[str, Any]:
    """Who is at the machine, and until when that counts; nulls where nobody said so."""
    until = counts_until(machine, row)
    return {
        "machine_id": machine.pk,
        "attended_by": None if row is None else row.user.get_username(),
        "attended_at": None if row is None else canonical.utc_text(row.at),
        "counts_until": None if until is None else canonical.utc_text(until),
    }
