"""How far an agent is trusted here: signed by a lead, replaced as a whole, revocable. Through `commands.services`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

from django.db import IntegrityError, transaction

from commands.models import BreakerTrip, Grant
from commands.records.moves import person_pk
from commands.rules.conversion import OrderType
from commands.rules.values import Level
from kernel import audit, canonical, live, prepared
from kernel.errors import Conflict, Forbidden, Malformed, NotFound
from kernel.models import Agent
from kernel.principals import Principal
from roasts.models import Machine


def grant_autonomy(
    principal: Principal,
    *,
    agent: Agent,
    machine: Machine,
    level: str,
    order_types: Iterable[str] = (),
    reason: str = "",
    expires_at: dt.datetime | None = None,
    agent_release: str = "",
    evidence: Iterable[Any] = (),
    now: dt.datetime,
) -> Grant:
    """A lead signs how far ``agent`` may go on ``machine``; the live grant, if any, is revoked with it.

    Empty ``order_types``: all settings, no states. ``agent_release``: only orders of that release; empty: of any.
    ``evidence``: what the lead relied on. A new grant is worth what is signed, whatever a breaker did to the former.
    """
    _require_lead(principal)
    if {agent.organization_id, machine.organization_id} != {principal.organization.pk}:  # type: ignore[union-attr]
        raise NotFound()
    if level not in set(Level):
        raise Malformed(
            "unknown_level", f"{level!r} is no level.", f"One of: {', '.join(word.value for word in Level)}."
        )
    types = sorted(set(order_types))
    unknown = [name for name in types if name not in set(OrderType)]
    if unknown:
        raise Malformed(
            "unknown_order_type",
            f"{unknown[0]!r} is no order type.",
            f"Some of: {', '.join(word.value for word in OrderType)}.",
        )
    if expires_at is not None and expires_at <= now:
        raise Malformed("already_expired", "The grant would have expired already.", "Give a later expires_at.")
    try:
        with transaction.atomic():
            for old in _STANDING.rows(agent=agent.pk, machine=machine.pk):
                _revoke(principal, old, now)
            grant = Grant(
                organization=principal.organization, agent=agent, machine=machine, level=str(level), order_types=types,
                granted_by_id=person_pk(principal), reason=reason[:500], granted_at=now, expires_at=expires_at,
                agent_release=agent_release[:100], evidence=list(evidence),
            )  # fmt: skip
            grant.granted_by = principal.user  # type: ignore[assignment]  # a person, or there is no key of one
            prepared.insert(grant)
            _tell(principal, grant, "autonomy_granted", now)
    except IntegrityError:
        raise Conflict(
            "conflict", "Another lead granted at the same moment.", "Look at the grants, then decide."
        ) from None
    return grant


_STANDING = prepared.PreparedObjects(
    lambda agent, machine: Grant.objects.filter(
        agent_id=agent, machine_id=machine, revoked_at__isnull=True
    ).select_related("agent", "organization"),
    "agent",
    "machine",
)


def revoke_grant(principal: Principal, grant: Grant, *, now: dt.datetime) -> Grant:
    """A lead takes a grant back; the agent recommends (L2) from now on. A revoked one stays as it is."""
    _require_lead(principal)
    if grant.organization_id != principal.organization.pk:  # type: ignore[union-attr]
        raise NotFound()
    with transaction.atomic():
        _revoke(principal, grant, now)
    grant.refresh_from_db()
    return grant


def see_lowering(principal: Principal, trip: BreakerTrip, *, now: dt.datetime) -> BreakerTrip:
    """An operator has seen that a breaker lowered a grant; the first one stays. It raises nothing.

    NotFound: another organisation's; Forbidden: not a person who may operate.
    """
    if principal.organization is None or trip.organization_id != principal.organization.pk:
        raise NotFound()
    if not principal.is_person or not principal.may("operate"):
        raise Forbidden("not_allowed", "This needs a person who may operate.", "Ask an operator.")
    with transaction.atomic():
        is_first = BreakerTrip.objects.filter(pk=trip.pk, seen_at__isnull=True).update(
            seen_at=now, seen_by_id=person_pk(principal)
        )
        trip.refresh_from_db()
        if is_first:
            document = {"trip_id": trip.pk, "grant_id": trip.grant_id, "agent_id": trip.agent_id, "kind": trip.kind}
            audit.record(trip.organization, principal, "lowering_seen", "grant", trip.grant_id, document, now=now)
            live.publish_decision(trip.organization, "breaker", trip.pk, trip.machine_id, document, now=now)
    return trip


def _revoke(principal: Principal, grant: Grant, now: dt.datetime) -> None:
    if prepared.update(Grant, grant.pk, {"revoked_at": now}, where={"revoked_at": None}) == 1:
        grant.revoked_at = now
        _tell(principal, grant, "grant_revoked", now)


def _require_lead(principal: Principal) -> None:
    if not principal.is_person or not principal.may("lead"):
        raise Forbidden("not_allowed", "Only a lead grants autonomy.", "Ask a lead (and, by key, the scope `lead`).")


def _tell(principal: Principal, grant: Grant, verb: str, now: dt.datetime) -> None:
    document: dict[str, Any] = {
        "grant_id": grant.pk,
        "agent_id": grant.agent_id,
        "agent": grant.agent.name,
        "machine_id": grant.machine_id,
        "level": str(grant.level),
        "effective_level": grant.effective_level,
        "agent_release": grant.agent_release,
        "order_types": list(grant.order_types),
        "reason": grant.reason,
        "expires_at": canonical.utc_text(grant.expires_at) if grant.expires_at else None,
        "is_live": grant.revoked_at is None,
    }
    audit.record(grant.organization, principal, verb, "grant", grant.pk, document, now=now)
    live.publish_decision(grant.organization, "grant", grant.pk, grant.machine_id, document, now=now)
