"""The governor's policy: only a lead writes it, and every change is a new version. Through `commands.services`."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db import IntegrityError, transaction

from commands.models import GovernorPolicy
from commands.records.moves import person_pk
from commands.rules import policies, policy
from kernel import audit, canonical, ids, live
from kernel.errors import Conflict, Forbidden, Malformed
from kernel.models import Organization
from kernel.principals import Principal

MAX_FAULTS_TOLD = 50


def set_policy(
    principal: Principal,
    *,
    document: Any,
    reason: str,
    based_on: int | None = None,
    now: dt.datetime,
) -> GovernorPolicy:
    """A lead puts the next version in force. ``based_on``: the version they looked at (0: the house's own).

    Malformed ``policy_faulty`` names every fault; Conflict ``policy_moved_on``: another lead was first.
    """
    organization = _lead_of(principal)
    if not reason.strip():
        raise Malformed("reason_required", "A new policy needs a reason.", "Say why in `reason`.")
    try:
        policy.parse(document, version=0)
    except policy.PolicyRefused as error:
        faults = [{"place": fault.place, "message": fault.message} for fault in error.faults[:MAX_FAULTS_TOLD]]
        raise Malformed(
            "policy_faulty", f"The policy has {len(error.faults)} fault(s), the first: {error}.",
            "Mend every place named in `faults`; GET /v1/governor-policy shows a whole one.", faults=faults,
        ) from error  # fmt: skip
    newest = policies.newest(organization.pk)
    standing = newest.version if newest is not None else 0
    if based_on is not None and based_on != standing:
        raise _moved_on(standing)
    version = standing + 1
    row = GovernorPolicy(
        id=ids.new("gpo"), organization=organization, version=version, document=document,
        digest=policies.digest_of(organization.pk, version, document), reason=reason[:500],
        signed_by_id=person_pk(principal), signed_at=now,
    )  # fmt: skip
    try:
        with transaction.atomic():
            row.save(force_insert=True)
            changes = differences(newest.document if newest is not None else policy.DEFAULT_DOCUMENT, document)
            told = {**policy_document(row), "changes": changes}
            audit.record(organization, principal, "policy_set", "governor_policy", row.pk, told, now=now)
            live.publish_decision(organization, "governor_policy", row.pk, None, policy_document(row), now=now)
    except IntegrityError as error:
        raise _moved_on(standing) from error
    return row


def _lead_of(principal: Principal) -> Organization:
    if not principal.is_person or not principal.may("lead") or principal.organization is None:
        raise Forbidden(
            "not_allowed", "Only a lead writes the governor's policy.", "Ask a lead (and, by key, the scope `lead`)."
        )
    return principal.organization


def _moved_on(standing: int) -> Conflict:
    return Conflict(
        "policy_moved_on", "Another version was put in force meanwhile.", "Look at it, then write yours again.",
        version_now=standing,
    )  # fmt: skip


def policy_document(row: GovernorPolicy) -> dict[str, Any]:
    """A version as the stream and the audit trail tell it; its text is in the row."""
    return {
        "policy_id": row.pk,
        "version": row.version,
        "digest": row.digest,
        "reason": row.reason,
        "signed_at": canonical.utc_text(row.signed_at),
    }


def differences(old: Any, new: Any) -> list[str]:
    """What changed from one valid document to the next, for people: places, old and new values; tables by row count."""
    if not isinstance(old, dict):
        return ["everything: the former version cannot be read"]
    found = [
        f"{name}: {old.get('numbers', {}).get(name)} → {value}"
        for name, value in new["numbers"].items()
        if old.get("numbers", {}).get(name) != value
    ]
    found += [f"{name}: {old.get(name)} → {new[name]}" for name in policy.FROM if old.get(name) != new[name]]
    found += [
        f"{level} {each}: {old.get('matrix', {}).get(level, {}).get(each)} → {decision}"
        for level, across in new["matrix"].items()
        for each, decision in across.items()
        if old.get("matrix", {}).get(level, {}).get(each) != decision
    ]
    if old.get("table") != new["table"]:
        found.append(f"significance table: {len(old.get('table', []))} → {len(new['table'])} rows")
    return found
