"""One holder at a time of a named piece of standing work. The token only rises."""

from __future__ import annotations

import datetime as dt

from django.db.models import F

from kernel.models import WorkLease


def take(name: str, owner: str, *, now: dt.datetime, length_s: float) -> int | None:
    """The lease's token when ``owner`` has it now (taken over if free or run out), else None."""
    expires_at = now + dt.timedelta(seconds=length_s)
    if WorkLease.objects.filter(name=name, owner=owner, expires_at__gt=now).update(expires_at=expires_at):
        return WorkLease.objects.values_list("token", flat=True).get(name=name)
    WorkLease.objects.get_or_create(name=name, defaults={"expires_at": now - dt.timedelta(seconds=1)})
    took = WorkLease.objects.filter(name=name, expires_at__lte=now).update(
        owner=owner, expires_at=expires_at, token=F("token") + 1
    )
    return WorkLease.objects.values_list("token", flat=True).get(name=name) if took else None


def hold(name: str, owner: str, token: int) -> bool:
    """Lock the lease's row inside a transaction: True while it is still ours, so that what follows is alone."""
    return WorkLease.objects.filter(name=name, owner=owner, token=token).update(token=token) == 1


def give_up(name: str, owner: str, *, now: dt.datetime) -> None:
    """Let the next one have it at once."""
    WorkLease.objects.filter(name=name, owner=owner).update(expires_at=now)
