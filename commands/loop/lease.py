"""Who tends a machine: a row with an owner, a token that only rises, and an expiry. Guarded updates only."""

from __future__ import annotations

import datetime as dt

from django.db.models import F

from commands.models import MachineLease
from kernel import prepared
from roasts.models import Machine

EXPIRY = dt.timedelta(seconds=3)
HEARTBEAT_S = 1.0


def take_lease(machine_id: str, *, owner: str, now: dt.datetime) -> int | None:
    """The fencing token, or None while another owner's lease is alive. Two takers: one wins."""
    long_ago = now - EXPIRY
    lease = _LEASE.first(machine=machine_id)
    if lease is None:
        lease, _ = MachineLease.objects.get_or_create(
            machine_id=machine_id, defaults={"token": 0, "expires_at": long_ago, "heartbeat_at": long_ago}
        )
    if lease.expires_at > now:
        return None
    taken = MachineLease.objects.filter(pk=machine_id, token=lease.token, expires_at__lte=now).update(
        owner=owner, token=F("token") + 1, expires_at=now + EXPIRY, heartbeat_at=now
    )
    return lease.token + 1 if taken else None


_LEASE = prepared.PreparedObjects(lambda machine: MachineLease.objects.filter(pk=machine).order_by(), "machine")


def renew_lease(machine_id: str, *, owner: str, token: int, now: dt.datetime) -> bool:
    """Live on; False when another token appeared: let go at once. (An outage does not lose a lease nobody took.)"""
    times = {"expires_at": now + EXPIRY, "heartbeat_at": now}
    renewed = prepared.update(MachineLease, machine_id, times, where={"owner": owner, "token": token})
    return renewed == 1


def give_up_lease(machine_id: str, *, owner: str, token: int, now: dt.datetime) -> bool:
    """Hand over in order: the next taker need not wait for the expiry."""
    given = MachineLease.objects.filter(pk=machine_id, owner=owner, token=token).update(expires_at=now, owner="")
    return given == 1


def untended_machines(*, now: dt.datetime) -> list[str]:
    """Ids of machines that nobody tends now."""
    tended = MachineLease.objects.filter(expires_at__gt=now).values("machine_id")
    machines = Machine.objects.filter(is_archived=False, is_remote=False).exclude(pk__in=tended)
    return list(machines.order_by("pk").values_list("pk", flat=True))


def raise_token(machine_id: str, *, owner: str, token: int, to: int) -> bool:
    """Lift our own live lease's token (it only rises) above what the keeper has seen."""
    return MachineLease.objects.filter(pk=machine_id, owner=owner, token=token).update(token=to) == 1 and to > token
