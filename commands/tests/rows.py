"""Rows that the loop's and STOP's tests stand on."""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib.auth.models import User
from django.db import connection

from commands.models import Attendance, Commissioning, StopDrill
from kernel import clock
from kernel.models import Membership, Organization, Site
from roasts.models import ControlLimit, Machine, MachineReading

AT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
FULL = {"heater": (0, 9, 9), "fan": (1, 12, 12), "drum": (1, 9, 9)}


def organization_row(slug: str = "demo") -> Organization:
    """The organisation of that slug, made when it is not there."""
    return Organization.objects.get_or_create(slug=slug, defaults={"name": slug.title(), "created_at": AT})[0]


def machine_row(name: str = "Bullet", slug: str = "demo", **values: Any) -> Machine:
    """A Bullet R1, if nothing else is said, with its full envelope and a latest row."""
    values.setdefault("driver_kind", "bullet-r1")
    organization = organization_row(slug)
    site, _ = Site.objects.get_or_create(organization=organization, name="Here")
    machine = Machine.objects.create(
        organization=organization, site=site, name=name, created_at=AT, **values
    )
    for control, (low, high, full) in FULL.items():
        ControlLimit.objects.create(
            machine=machine, control=control, min_step=low, max_step=high, full_scale_step=full, max_change_step=9
        )
    MachineReading.objects.create(machine=machine)
    return commissioned(machine)


def commissioned(machine: Machine, *, drilled_at: dt.datetime | None = None) -> Machine:
    """A lead signed its commissioning, and its STOP drill passed: just now, unless told when."""
    name = f"commissioner-{machine.organization.slug}"
    lead, _ = User.objects.get_or_create(username=name, defaults={"password": "!"})
    Commissioning.objects.create(
        organization=machine.organization, machine=machine, begun_by=lead, begun_at=AT, completed_by=lead,
        completed_at=AT,
    )  # fmt: skip
    StopDrill.objects.create(
        organization=machine.organization, machine=machine, user=lead, at=drilled_at or clock.now(), is_passed=True,
        result="heat_off", first_byte_ms=4.0, proved_ms=900.0, proof={"has_heat_gone_down": True},
    )  # fmt: skip
    return machine


def fit_for_agents(machine: Machine, user: User, at: dt.datetime) -> None:
    """Commissioned, and its STOP drilled and passed by ``user`` at ``at``: agents may act here."""
    if not Commissioning.objects.filter(machine=machine, completed_at__isnull=False, ended_at__isnull=True).exists():
        Commissioning.objects.create(
            organization=machine.organization, machine=machine, begun_by=user, begun_at=at, completed_by=user,
            completed_at=at,
        )  # fmt: skip
    drill_row(machine, user, at)


def drill_row(machine: Machine, user: User, at: dt.datetime, *, is_passed: bool = True) -> StopDrill:
    """A STOP drill."""
    return StopDrill.objects.create(
        organization=machine.organization, machine=machine, user=user, at=at, is_passed=is_passed,
        result="heat_off" if is_passed else "unproved", first_byte_ms=20.0, proved_ms=800.0,
    )  # fmt: skip


def attend_row(machine: Machine, user: User, at: dt.datetime) -> Attendance:
    """``user`` said that they are at the machine."""
    return Attendance.objects.create(organization=machine.organization, machine=machine, user=user, at=at)


def person_row(name: str, *roles: str, slug: str = "demo") -> User:
    """A user with these roles in that organisation."""
    user = User.objects.create_user(name, password="correct horse battery")
    for role in roles:
        Membership.objects.create(organization=organization_row(slug), user=user, role=role)
    return user


@contextmanager
def database_locked() -> Iterator[None]:
    """Somebody holds SQLite's write lock: nothing can be written (reading goes on)."""
    thief = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None, timeout=5)
    thief.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        thief.execute("ROLLBACK")
        thief.close()
