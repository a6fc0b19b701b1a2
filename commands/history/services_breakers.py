"""Automatic demotion: a breaker lowers a grant, once, and tells everybody. Nothing here ever raises one.

Called by a sweeper every second. What counts is in rows (orders that ended, halts), so a crash, a lost message or two
sweepers at once lose nothing and do nothing twice: a trip is unique by grant, kind and order type.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from commands.history import breakers
from commands.history.alerts import Found, Kind, Severity
from commands.history.breakers import Attempt, Breaker, Interlock, Look, Trip
from commands.history.services_alerts import raise_found
from commands.lifecycle import ON_THE_WIRE, Status
from commands.models import BreakerTrip, Grant, Halt, Proposal
from kernel import audit, canonical, ids, live, metrics
from kernel.prepared import Prepared, PreparedObjects
from kernel.principals import Principal, system_principal

#: So far back evidence is looked for; a sweeper that was away for longer had no machine loop beside it either.
LOOK_BACK = dt.timedelta(hours=1)
MAX_ATTEMPTS = 5000
#: The alert that goes with each.
_ALERTS = {
    Breaker.ERROR_RATE: Kind.HIGH_FAILURE_RATE,
    Breaker.FAILURES_OF_TYPE: Kind.HIGH_FAILURE_RATE,
    Breaker.CONTRADICTED: Kind.EXECUTION_FAILURE,
    Breaker.CRITICAL_INCIDENT: Kind.SAFETY_VIOLATION,
}


def trip_due(*, now: dt.datetime) -> int:
    """Look at every grant whose agent failed, or whose machine was halted by an interlock, and lower; how many."""
    lowered = 0
    for grant in _suspects(now):
        told = set(_TOLD.rows(grant=str(grant.pk)))
        due = [trip for trip in breakers.trips(look_at(grant, now)) if (trip.kind.value, trip.order_type) not in told]
        if due and lower_grant(grant, due[0], now=now) is not None:
            lowered += 1
    return lowered


def _suspects(now: dt.datetime) -> list[Grant]:
    """Live grants with anything to look at: two short queries on most seconds."""
    found = [grant for (machine_id,) in _HALTED.rows(now=now) for grant in _OF_MACHINE.rows(machine=machine_id)]
    for agent_id, machine_id in _FAILED.rows(now=now):
        found += _OF_AGENT.rows(agent=agent_id, machine=machine_id)
    by_id = {grant.pk: grant for grant in found}
    return [by_id[key] for key in sorted(by_id)]


def _live() -> QuerySet[Grant]:
    """Grants that a breaker can still lower."""
    live = Grant.objects.filter(revoked_at__isnull=True).exclude(lowered_to__in=["L1", "L2"])
    return live.select_related("organization", "agent", "machine").order_by("id")


#: All of this is asked every second.
_FAILED = Prepared(
    lambda now: (
        Proposal.objects.filter(
            status=Status.FAILED.value, settled_at__gt=now - LOOK_BACK, proposer_agent__isnull=False
        )
        .order_by()
        .values_list("proposer_agent_id", "machine_id")
        .distinct()
    ),
    "now",
    times=["now"],
)
_HALTED = Prepared(
    lambda now: (
        Halt.objects.filter(kind=Halt.Kind.INTERLOCK.value, opened_at__gt=now - LOOK_BACK)
        .order_by()
        .values_list("machine_id")
        .distinct()
    ),
    "now",
    times=["now"],
)
_OF_MACHINE = PreparedObjects(lambda machine: _live().filter(machine_id=machine), "machine")
_OF_AGENT = PreparedObjects(
    lambda agent, machine: _live().filter(agent_id=agent, machine_id=machine), "agent", "machine"
)
_TOLD = Prepared(
    lambda grant: BreakerTrip.objects.filter(grant_id=grant).order_by().values_list("kind", "order_type"), "grant"
)
_INTERLOCKS = Prepared(
    lambda machine, now: Halt.objects.filter(
        machine_id=machine, kind=Halt.Kind.INTERLOCK.value, opened_at__gt=now - LOOK_BACK
    ).values_list("id", "code", "opened_at"),
    "machine",
    "now",
    times=["now"],
)


def look_at(grant: Grant, now: dt.datetime) -> Look:
    """What the breakers look at: the last hour's orders of the agent here, the machine's interlocks, others' orders."""
    orders: dict[bool, list[Attempt]] = defaultdict(list)
    for agent_id, attempt in _attempts(grant.machine_id, now):
        orders[agent_id == grant.agent_id].append(attempt)
    return Look(
        grant.effective_level,
        grant.granted_at,
        grant.lowered_at,
        tuple(orders[True]),
        tuple(Interlock(*row) for row in _INTERLOCKS.rows(machine=grant.machine_id, now=now)),
        tuple(orders[False]),
    )


_COLUMNS = (
    "proposer_agent_id", "id", "order_type", "control", "status", "outcome_code", "settled_at",
    "execution__claimed_at", "proposed_at", "from_step", "target_step",
)  # fmt: skip


_ENDED = Prepared(
    lambda machine, now: (
        Proposal.objects.filter(
            machine_id=machine,
            status__in=[Status.COMPLETED.value, Status.FAILED.value],
            settled_at__gt=now - LOOK_BACK,
        )
        .order_by("-settled_at", "-id")
        .values_list(*_COLUMNS)[:MAX_ATTEMPTS]
    ),
    "machine",
    "now",
    times=["now"],
)
_GOING = Prepared(
    lambda machine: (
        Proposal.objects.filter(machine_id=machine, status__in=sorted(status.value for status in ON_THE_WIRE))
        .order_by("-proposed_at", "-id")
        .values_list(*_COLUMNS)
    ),
    "machine",
)


def _attempts(machine_id: str, now: dt.datetime) -> Iterable[tuple[str | None, Attempt]]:
    for rows in (_ENDED.rows(machine=machine_id, now=now), _GOING.rows(machine=machine_id)):
        for agent_id, *columns, settled_at, claimed_at, proposed_at, before, after in rows:
            order_id, order_type, control, status, outcome_code = columns
            at = settled_at or claimed_at or proposed_at
            is_towards_danger = is_danger(control, before, after)
            yield agent_id, Attempt(order_id, order_type, control, status, outcome_code, at, is_towards_danger)


def is_danger(control: str, before: int | None, after: int | None) -> bool:
    """Heat up, or air or drum down; where the step before is not known, as if it were."""
    if not control or after is None:
        return False
    if before is None:
        return True
    return after > before if control == "heater" else after < before


def lower_grant(grant: Grant, trip: Trip, *, now: dt.datetime) -> BreakerTrip | None:
    """Lower the grant for this trip, with its record, audit entry, stream event and alert, in one transaction. None:
    somebody was first, or the grant is revoked or low enough already."""
    try:
        with transaction.atomic():
            held = Grant.objects.select_for_update(of=("self",)).select_related("organization", "agent", "machine")
            row = held.filter(pk=grant.pk, revoked_at__isnull=True).first()
            if row is None:
                return None
            from_level, to_level = row.effective_level, min(trip.to_level, row.effective_level)
            if to_level == from_level:
                return None
            record = BreakerTrip.objects.create(
                id=ids.new("brk"), organization=row.organization, machine=row.machine, agent=row.agent, grant=row,
                kind=trip.kind.value, order_type=trip.order_type, from_level=from_level, to_level=to_level,
                evidence=trip.evidence, at=now,
            )  # fmt: skip
            lowered = Grant.objects.filter(pk=row.pk, revoked_at__isnull=True, lowered_to=row.lowered_to).update(
                lowered_to=to_level, lowered_at=now, lowered_reason=trip.message[:500]
            )
            if lowered != 1:
                raise IntegrityError("the grant was changed meanwhile")
            _tell(row, record, trip, now)
            transaction.on_commit(lambda: metrics.BREAKER_TRIPS.labels(kind=trip.kind.value).inc())
            return record
    except IntegrityError:
        return None  # another sweeper was first: its trip stands


def _tell(grant: Grant, record: BreakerTrip, trip: Trip, now: dt.datetime) -> None:
    document: dict[str, Any] = {
        "grant_id": grant.pk,
        "agent_id": grant.agent_id,
        "agent": grant.agent.name,
        "machine_id": grant.machine_id,
        "level": str(grant.level),
        "from_level": record.from_level,
        "lowered_to": record.to_level,
        "lowered_reason": trip.message,
        "breaker": trip.kind.value,
        "order_type": trip.order_type,
        "evidence": trip.evidence,
        "order_types": list(grant.order_types),
        "expires_at": canonical.utc_text(grant.expires_at) if grant.expires_at else None,
        "is_live": True,
    }
    actor = breaker_principal(grant)
    audit.record(grant.organization, actor, "grant_lowered", "grant", grant.pk, document, now=now)
    live.publish_decision(grant.organization, "grant", grant.pk, grant.machine_id, document, now=now)
    raise_found(
        grant.organization,
        Found(
            _ALERTS[trip.kind],
            Severity.HIGH,
            f"grant:{grant.pk}:{trip.kind.value}:{trip.order_type}",
            f"{grant.agent.name} was lowered from {record.from_level} to {record.to_level} at {grant.machine.name}. "
            f"{trip.message}",
            "Look at the orders named here. It stays so until a lead signs a new grant.",
            now,
            grant.machine_id,
            grant.agent_id,
            {"breaker": trip.kind.value, "grant_id": grant.pk, **trip.evidence},
        ),
        now=now,
    )


def breaker_principal(grant: Grant) -> Principal:
    """The breaker as actor."""
    return system_principal("circuit breaker", grant.organization)
