"""Writing down what happened, in the transaction in which it happened."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from django.db import connection, transaction

from kernel import canonical, live, prepared
from kernel.models import AuditEntry, Organization
from kernel.principals import Principal


class OutsideTransaction(RuntimeError):
    """An audit entry must stand or fall with what it records; there was no transaction to join."""


def record(
    organization: Organization,
    actor: Principal,
    verb: str,
    subject_kind: str,
    subject_id: str,
    payload: Mapping[str, Any],
    *,
    now: dt.datetime,
) -> AuditEntry:
    """Append one entry to the organisation's trail; the sealer chains it after the commit.

    ``verb`` is lower_snake and in the past tense (`proposal_approved`); ``payload`` holds JSON values and datetimes.
    """
    if not connection.in_atomic_block:
        raise OutsideTransaction(f"audit.record({verb!r}) was called outside a transaction")
    text = canonical.dumps(dict(payload))
    entry = AuditEntry(
        organization=organization,
        at=now,
        actor_kind=actor.kind,
        actor_id=actor.id,
        actor_name=actor.name,
        verb=verb,
        subject_kind=subject_kind,
        subject_id=subject_id,
        payload=text,
        payload_digest=canonical.digest_text(text),
    )
    prepared.insert(entry)
    transaction.on_commit(live.wake_sealer)
    return entry
