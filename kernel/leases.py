"""One holder at a time of a named piece of standing work. The token only rises."""

from __future__ import annotations

import datetime as dt

from django.db import connection

from kernel import prepared
from kernel.models import WorkLease

_TABLE = WorkLease._meta.db_table
#: Ours to prolong, or run out and anybody's to take: the row's own lock says who was first.
_TAKE = (
    f"UPDATE {_TABLE} SET owner = %(owner)s, expires_at = %(until)s, "
    "token = token + CASE WHEN owner = %(owner)s AND expires_at > %(now)s THEN 0 ELSE 1 END "
    "WHERE name = %(name)s AND (owner = %(owner)s OR expires_at <= %(now)s) RETURNING token"
)
_BEGIN = (
    f"INSERT INTO {_TABLE} (name, owner, token, expires_at) VALUES (%(name)s, %(owner)s, 1, %(until)s) "
    "ON CONFLICT DO NOTHING RETURNING token"
)
_HOLD = f"UPDATE {_TABLE} SET token = token WHERE name = %s AND owner = %s AND token = %s RETURNING 1"


def take(name: str, owner: str, *, now: dt.datetime, length_s: float) -> int | None:
    """The lease's token when ``owner`` has it now (taken over if free or run out), else None."""
    at = connection.ops.adapt_datetimefield_value
    values = {"name": name, "owner": owner, "now": at(now), "until": at(now + dt.timedelta(seconds=length_s))}
    found = prepared.run(_TAKE, values) or prepared.run(_BEGIN, values)
    return found[0][0] if found else None


def hold(name: str, owner: str, token: int) -> bool:
    """Lock the lease's row inside a transaction: True while it is still ours, so that what follows is alone."""
    return bool(prepared.run(_HOLD, [name, owner, token]))


def give_up(name: str, owner: str, *, now: dt.datetime) -> None:
    """Let the next one have it at once."""
    WorkLease.objects.filter(name=name, owner=owner).update(expires_at=now)
