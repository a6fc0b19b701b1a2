"""What the alerts' detectors look at: the newest rows, a fixed number of queries however long the history is."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from django.core.cache import cache
from django.db.models import F, Min, QuerySet

from commands.history import analytics
from commands.history import questions as order_history
from commands.history.alerts import (
    HISTORY_DAYS,
    HOUR,
    MOVED_CODES,
    REFUSALS,
    TEN_MINUTES,
    TOO_MANY_REQUESTS,
    Ended,
    Habit,
    Moment,
    Refusal,
)
from commands.history.analytics import HOUR_S, Orders
from commands.lifecycle import Status
from commands.models import Alert, Halt, Proposal, ProposalTransition, RequestRefusal
from commands.reasons import Decision
from kernel.models import Agent, Organization
from roasts.models import Machine

#: Of each kind of row at once; what is beyond is older, and enough stands without it.
MAX_ROWS = 5000
NEW_AGENT = dt.timedelta(hours=24)
KNOWN_FOR_S = 3600


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything that the detectors need but habits."""

    ended: tuple[Ended, ...]
    refusals: tuple[Refusal, ...]
    interlocks: tuple[Moment, ...]
    moved: tuple[Moment, ...]
    doubts: tuple[Moment, ...]
    timeouts: tuple[Moment, ...]
    first_uses: tuple[tuple[str, str, str, dt.datetime], ...]  # agent's id and name, order type, when


def gather(organization: Organization, now: dt.datetime) -> Seen:
    """The last hour's ends and halts, the last ten minutes' refusals, what is in doubt, what is asked for anew."""
    machines = list(Machine.objects.filter(organization=organization).values_list("pk", flat=True))
    return Seen(
        _ended(machines, now),
        _refusals(organization, now) + _requests_refused(organization, now),
        _interlocks(machines, now),
        _moved(organization, machines, now),
        _doubts(machines),
        _timeouts(machines, now),
        _first_uses(organization, now),
    )


def _ended(machines: list[str], now: dt.datetime) -> tuple[Ended, ...]:
    rows = (
        Proposal.objects.filter(
            status__in=[Status.COMPLETED.value, Status.FAILED.value], settled_at__gt=now - HOUR, machine__in=machines
        )
        .annotate(took=F("execution__concluded_at") - F("execution__claimed_at"))
        .order_by("-settled_at")
        .values_list(
            "id", "machine_id", "machine__name", "order_type", "status", "outcome_code", "settled_at",
            "proposer_agent_id", "took",
        )[:MAX_ROWS]
    )  # fmt: skip
    return tuple(
        Ended(pk, machine_id, machine, order_type, status, code, at, agent_id or "", _ms(took))
        for pk, machine_id, machine, order_type, status, code, at, agent_id, took in rows
        if at is not None
    )


def _ms(took: dt.timedelta | None) -> float | None:
    return None if took is None else took.total_seconds() * 1000


def _refusals(organization: Organization, now: dt.datetime) -> tuple[Refusal, ...]:
    rows = (
        Proposal.objects.filter(
            organization=organization,
            proposed_at__gt=now - TEN_MINUTES,
            decision=Decision.REFUSE.value,
            proposer_agent__isnull=False,
        )
        .order_by("-proposed_at", "-id")
        .values_list("id", "proposer_agent_id", "proposer_agent__name", "reasons", "proposed_at")[:MAX_ROWS]
    )
    return tuple(
        Refusal(
            order_id,
            agent_id or "",
            agent or "",
            frozenset(reason["code"] for reason in reasons if reason.get("decision") == Decision.REFUSE.value),
            at,
        )
        for order_id, agent_id, agent, reasons, at in rows
    )


def _requests_refused(organization: Organization, now: dt.datetime) -> tuple[Refusal, ...]:
    """Requests over the limit: one row may stand for many, and more than enough for an alert tells no more."""
    rows = (
        RequestRefusal.objects.filter(organization=organization, at__gt=now - TEN_MINUTES)
        .order_by("-at")
        .values_list("agent_id", "agent__name", "count", "at")[:MAX_ROWS]
    )
    return tuple(
        Refusal("", agent_id, agent, frozenset({TOO_MANY_REQUESTS}), at)
        for agent_id, agent, count, at in rows
        for _ in range(min(count, REFUSALS))
    )


def _interlocks(machines: list[str], now: dt.datetime) -> tuple[Moment, ...]:
    rows = Halt.objects.filter(machine__in=machines, kind=Halt.Kind.INTERLOCK.value, opened_at__gt=now - HOUR)
    return tuple(
        Moment(*row) for row in rows.values_list("id", "machine_id", "machine__name", "code", "opened_at")[:MAX_ROWS]
    )


def _moved(organization: Organization, machines: list[str], now: dt.datetime) -> tuple[Moment, ...]:
    """Orders that found their control elsewhere than it was left: called off before the wire, or declined at it."""
    rows = Proposal.objects.filter(
        organization=organization,
        machine__in=machines,
        proposed_at__gt=now - HOUR - TEN_MINUTES,
        outcome_code__in=MOVED_CODES,
        settled_at__gt=now - HOUR,
    ).order_by("settled_at")
    return _settled_moments(rows)


def _doubts(machines: list[str]) -> tuple[Moment, ...]:
    rows = Proposal.objects.filter(machine__in=machines, status=Status.IN_DOUBT.value)
    found = list(
        rows.values_list("id", "machine_id", "machine__name", "order_type", "proposed_at", "proposer_agent_id")[:200]
    )
    since = (
        dict(
            ProposalTransition.objects.filter(
                proposal__in=[row[0] for row in found], to_status=Status.IN_DOUBT.value
            ).values_list("proposal_id", "at")
        )
        if found
        else {}
    )
    return tuple(Moment(*row[:4], since.get(row[0], row[4]), row[5] or "") for row in found)


def _timeouts(machines: list[str], now: dt.datetime) -> tuple[Moment, ...]:
    """Held orders that nobody decided; one that was approved and not sent in time is another matter."""
    rows = Proposal.objects.filter(
        status=Status.TIMEOUT.value,
        settled_at__gt=now - HOUR,
        machine__in=machines,
        decided_at__isnull=True,
        approver__isnull=True,
    ).order_by("settled_at")
    return _settled_moments(rows)


def _settled_moments(rows: QuerySet[Proposal]) -> tuple[Moment, ...]:
    columns = rows.values_list("id", "machine_id", "machine__name", "order_type", "settled_at")[:MAX_ROWS]
    return tuple(
        Moment(pk, machine_id, machine, order_type, at)
        for pk, machine_id, machine, order_type, at in columns
        if at is not None
    )


def _first_uses(organization: Organization, now: dt.datetime) -> tuple[tuple[str, str, str, dt.datetime], ...]:
    """Order types that an agent asked for in the last ten minutes and never before, of agents a day old or more."""
    begin = now - TEN_MINUTES
    rows = (
        Proposal.objects.filter(
            organization=organization, proposed_at__gt=begin, proposed_at__lte=now, proposer_agent__isnull=False
        )
        .order_by()
        .values_list("proposer_agent_id", "proposer_agent__name", "order_type")
        .annotate(first_at=Min("proposed_at"))
    )
    return tuple(
        (agent_id, agent, order_type, first_at)
        for agent_id, agent, order_type, first_at in rows
        if not _has_used(organization, str(agent_id), order_type, begin)
    )


def _has_used(organization: Organization, agent_id: str, order_type: str, before: dt.datetime) -> bool:
    """Whether this is nothing new: remembered for an hour, told already, or found. A new agent's first day teaches."""
    key = f"order-type-used:{agent_id}:{order_type}"
    if cache.get(key):
        return True
    own = Proposal.objects.filter(proposer_agent_id=agent_id)
    subject = f"type:{order_type}:{agent_id}"
    is_known = (
        Alert.objects.filter(organization=organization, kind="UNUSUAL_PATTERN", subject=subject).exists()
        or own.filter(order_type=order_type, proposed_at__lte=before).exists()
        or not own.filter(proposed_at__lte=before - NEW_AGENT + TEN_MINUTES).exists()
    )
    if is_known:
        cache.set(key, True, KNOWN_FOR_S)
    return is_known


# --- habits, once for each closed hour


def habits(organization: Organization, now: dt.datetime) -> list[Habit]:
    """What each agent did in the newest summed hour, and in the hours of the 14 days before in which it worked."""
    until = order_history.summed_until(organization.pk)
    if until is None or until <= now - 2 * HOUR - order_history.GRACE:
        return []  # nothing happened in the last closed hour
    begin = until - dt.timedelta(days=HISTORY_DAYS) - HOUR
    orders = order_history.orders_in(organization.pk, begin, until)
    names = dict(Agent.objects.filter(organization=organization).values_list("pk", "name"))
    by_agent: dict[str, dict[int, dict[str, int]]] = defaultdict(dict)
    for agent_index, hour, counts in _hourly(orders):
        by_agent[orders.names[agent_index]][hour] = counts
    hour_at = until - HOUR
    key = analytics.epoch_us(hour_at) // (HOUR_S * 1_000_000)
    return [
        Habit(
            agent_id, names.get(agent_id, agent_id), hour_at, hours[key],
            {what: [counts[what] for hour, counts in hours.items() if hour < key] for what in hours[key]},
        )
        for agent_id, hours in by_agent.items()
        if agent_id and key in hours
    ]  # fmt: skip


def _hourly(orders: Orders) -> list[tuple[int, int, dict[str, int]]]:
    """(agent, hour since 1970, its counts) of every hour in which an agent proposed anything."""
    records = orders.records
    hours = records["at_us"] // (HOUR_S * 1_000_000)
    pairs, place = np.unique(np.stack([records["agent"].astype(np.int64), hours]), axis=1, return_inverse=True)
    place, count = place.reshape(-1), pairs.shape[1]
    tallies = {
        "orders": np.bincount(place, minlength=count),
        "refusals": np.bincount(place[records["flags"] & analytics.REFUSED != 0], minlength=count),
        "approvals": np.bincount(place[records["flags"] & analytics.APPROVED != 0], minlength=count),
    }
    return [
        (int(pairs[0, each]), int(pairs[1, each]), {what: int(tally[each]) for what, tally in tallies.items()})
        for each in range(count)
    ]
