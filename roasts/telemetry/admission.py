"""Whose telemetry this is: machine, policy, device key and how far its stream came, in one query that locks the stream.

The stream's row is locked while an envelope is filed, so two envelopes of one machine come one after the other.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from django.db import connection

from kernel import prepared
from kernel.errors import Conflict, NotFound
from kernel.prepared import utc
from roasts.models import DeviceKey, Machine, TelemetryPolicy, TelemetryStream
from roasts.telemetry.signing import PublicHalf


@dataclass(frozen=True, slots=True)
class Admission:
    """What the store says of a machine before its envelope is filed. ``key`` None: no such device key."""

    machine_id: str
    organization_id: str
    signing: str  # TelemetryPolicy.Signing
    last_sequence: int
    last_digest: str
    state: Any
    key: PublicHalf | None

    @property
    def own_kid(self) -> str | None:
        """The key named, where it is this machine's own."""
        return self.key.kid if self.key is not None and self.key.machine_id == self.machine_id else None


def admit(organization_id: str, machine_id: str, kid: str) -> Admission:
    """Lock the machine's stream and read what filing needs; call in a transaction.

    NotFound: no such machine here. Conflict: a machine that its own loop feeds.
    """
    row = _read(organization_id, machine_id, kid)
    if row is None:
        _require_remote(organization_id, machine_id)
        TelemetryStream.objects.get_or_create(machine_id=machine_id)
        row = _read(organization_id, machine_id, kid)
    if row is None:
        raise NotFound("machine_not_found", "There is no such machine here.", "List them with GET /v1/machines.")
    if not row[0]:
        raise _not_remote()
    return _admission(organization_id, machine_id, kid, row)


def look(
    organization_id: str, machine_id: str, kid: str, *, more: str, joined: str
) -> tuple[Admission, tuple[Any, ...]] | None:
    """The same without a lock, with the columns ``more`` of what is ``joined`` to m (the machine) and s (its stream),
    as SQL: all of it as it stood at one moment. None where one of them is not there, or the machine is not remote.
    """
    rows = prepared.run(_sql(more, joined), [kid, machine_id, organization_id])
    if not rows or not rows[0][0]:
        return None
    return _admission(organization_id, machine_id, kid, rows[0][:WIDTH]), rows[0][WIDTH:]


def _admission(organization_id: str, machine_id: str, kid: str, row: tuple[Any, ...]) -> Admission:
    return Admission(
        machine_id=machine_id,
        organization_id=organization_id,
        signing=row[1] or TelemetryPolicy.Signing.RECORD.value,
        last_sequence=row[2],
        last_digest=row[3],
        state=row[4],
        key=_key(kid, row[5:]),
    )


def _require_remote(organization_id: str, machine_id: str) -> None:
    machine = Machine.objects.filter(pk=machine_id, organization_id=organization_id, is_archived=False).first()
    if machine is None:
        raise NotFound("machine_not_found", "There is no such machine here.", "List them with GET /v1/machines.")
    if not machine.is_remote:
        raise _not_remote()


def _not_remote() -> Conflict:
    return Conflict(
        "machine_not_remote",
        "This machine is fed by its own machine loop.",
        "Make a remote machine for a bridge to feed (`is_remote`).",
    )


def _key(kid: str, columns: tuple[Any, ...]) -> PublicHalf | None:
    organization_id, machine_id, public_key, valid_from, valid_until, revoked_at = columns
    valid_from = utc(valid_from)
    if public_key is None or valid_from is None:
        return None
    return PublicHalf(kid, organization_id, machine_id, public_key, valid_from, utc(valid_until), utc(revoked_at))


def stored_state(text: Any) -> Any:
    """The stream's state as values; None where it is not readable."""
    try:
        return json.loads(text) if isinstance(text, str) else text
    except ValueError:
        return None


def _read(organization_id: str, machine_id: str, kid: str) -> tuple[Any, ...] | None:
    lock = " FOR UPDATE OF s" if connection.vendor == "postgresql" else ""
    with connection.cursor() as cursor:
        cursor.execute(_sql() + lock, [kid, machine_id, organization_id])
        return cursor.fetchone()


_COLUMNS = (
    "m.is_remote", "p.signing", "s.last_sequence", "s.last_digest", "s.state", "k.organization_id", "k.machine_id",
    "k.public_key", "k.valid_from", "k.valid_until", "k.revoked_at",
)  # fmt: skip
WIDTH = len(_COLUMNS)


def _sql(more: str = "", joined: str = "") -> str:
    quote = connection.ops.quote_name
    stream, machine, policy, key = (
        quote(model._meta.db_table) for model in (TelemetryStream, Machine, TelemetryPolicy, DeviceKey)
    )
    return (
        f"SELECT {', '.join(_COLUMNS)}{more and ', '}{more} "
        f"FROM {machine} m JOIN {stream} s ON s.machine_id = m.id {joined} "
        f"LEFT JOIN {policy} p ON p.organization_id = m.organization_id LEFT JOIN {key} k ON k.id = %s "
        "WHERE m.id = %s AND m.organization_id = %s AND NOT m.is_archived"
    )
