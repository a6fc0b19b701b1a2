"""What in the order history a person should look at: eight detectors, each with its trigger. Pure.

Every boundary stands in docs/analytics.md. A detector gives a :class:`Found` for each cause it sees now; whether that
is new, seen before or already dealt with is ``services_alerts``' to say.
"""

from __future__ import annotations

import datetime as dt
import enum
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from commands.lifecycle import Status
from commands.reasons import LEGACY, Code


class Kind(enum.StrEnum):
    """What an alert is of."""

    HIGH_FAILURE_RATE = "HIGH_FAILURE_RATE"
    HIGH_LATENCY = "HIGH_LATENCY"
    SAFETY_VIOLATION = "SAFETY_VIOLATION"
    CONSTRAINT_VIOLATION = "CONSTRAINT_VIOLATION"
    RATE_LIMIT_EXCEEDED = "RATE_LIMIT_EXCEEDED"
    EXECUTION_FAILURE = "EXECUTION_FAILURE"
    APPROVAL_TIMEOUT = "APPROVAL_TIMEOUT"
    UNUSUAL_PATTERN = "UNUSUAL_PATTERN"


class Severity(enum.StrEnum):
    """How soon somebody should look."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


HOUR, TEN_MINUTES = dt.timedelta(hours=1), dt.timedelta(minutes=10)
FAILURE_RATE, FAILURE_SAMPLE = 0.2, 5
LATENCY_MS = 5000.0
REFUSALS, TIMEOUTS = 3, 3
DOUBT = dt.timedelta(seconds=30)
DEVIATIONS, LEAST_DEVIATION, HISTORY_DAYS, HISTORY_HOURS = 4, 1.0, 14, 24
#: Refusals by the machine's envelope; and by intervals, counts and request limits.
ENVELOPE_CODES = frozenset(code.value for code, legacy in LEGACY.items() if legacy == "CONSTRAINT_VIOLATION")
TOO_MANY_REQUESTS = "too_many_requests"  # as the door says it: kernel.request_gate
LIMIT_CODES = frozenset(
    {code.value for code in (Code.TOO_SOON, Code.DAILY_COUNT, Code.ROAST_COUNT, Code.SESSION_LIMIT)}
    | {TOO_MANY_REQUESTS}
)
#: Outcomes that say: the control was moved by a hand or the firmware, not by us.
MOVED_CODES = frozenset({"moved_at_machine", Code.CONTROL_MOVED.value})


@dataclass(frozen=True, slots=True)
class Ended:
    """An order that ended on the wire. ``took_ms``: from claim to conclusion, None where unknown."""

    order_id: str
    machine_id: str
    machine: str
    order_type: str
    status: str  # COMPLETED or FAILED
    outcome_code: str
    at: dt.datetime
    agent_id: str = ""
    took_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """An agent's order that the governor refused, with every refusing reason's code; or, without an order, a request
    of its that the door turned away."""

    order_id: str
    agent_id: str
    agent: str
    codes: frozenset[str]
    at: dt.datetime


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened at a machine: an interlock's halt, an order that ran out of time, a moved control, an
    order in doubt since then. ``what``: the interlock's code, or the order type."""

    id: str
    machine_id: str
    machine: str
    what: str
    at: dt.datetime
    agent_id: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """A cause that stands now. ``newest_at``: its newest evidence; what was resolved after that is not raised again."""

    kind: Kind
    severity: Severity
    subject: str
    message: str
    how_to_fix: str
    newest_at: dt.datetime
    machine_id: str = ""
    agent_id: str = ""
    trigger: Mapping[str, Any] = field(default_factory=dict)


#: These resolve by themselves: what they are of leaves its window, or the doubt ends. The others a person resolves.
RESOLVES_ITSELF = {
    Kind.HIGH_FAILURE_RATE: "The failure rate of the last hour is no longer above its bound.",
    Kind.HIGH_LATENCY: "The mean duration of the last hour is no longer above its bound.",
    Kind.CONSTRAINT_VIOLATION: "Fewer than three such refusals in the last ten minutes.",
    Kind.RATE_LIMIT_EXCEEDED: "Fewer than three such refusals in the last ten minutes.",
    Kind.APPROVAL_TIMEOUT: "Fewer than three orders ran out of time in the last hour.",
}
DOUBT_RESOLVED = "The doubt is over: the machine reads as ordered."


def high_failure_rate(ended: Sequence[Ended], now: dt.datetime) -> list[Found]:
    """More than 0.2 of at least 5 settled executions of the last hour failed: at a machine, or, where no machine
    alone says so, in the organisation."""
    recent = [order for order in ended if now - HOUR < order.at <= now]
    found = []
    for machine_id, orders in _by(recent, "machine_id").items():
        if (rate := _failure_rate(orders)) is not None:
            subject = f"machine:{machine_id}"
            found.append(_failing(orders, rate, subject, machine_id, f"at {orders[0].machine}"))
    rate = _failure_rate(recent)
    if not found and rate is not None:
        found.append(_failing(recent, rate, "organization", "", "over all machines"))
    return found


def _failure_rate(orders: Sequence[Ended]) -> float | None:
    """The rate where it is above its bound; else None."""
    failed = sum(order.status == Status.FAILED for order in orders)
    # Compared as whole numbers: 1 of 5 is exactly at the bound, whatever floating point makes of it.
    is_above = len(orders) >= FAILURE_SAMPLE and failed * 10 > len(orders) * 2
    return failed / len(orders) if is_above else None


def _failing(orders: Sequence[Ended], rate: float, subject: str, machine_id: str, where: str) -> Found:
    failed = [order for order in orders if order.status == Status.FAILED]
    return Found(
        Kind.HIGH_FAILURE_RATE,
        Severity.HIGH,
        subject,
        f"{len(failed)} of {len(orders)} executions of the last hour failed {where}.",
        "Look at what they have in common; take the machine (I have it) until it is clear.",
        max(order.at for order in failed),
        machine_id,
        trigger={"value": rate, "bound": FAILURE_RATE, "settled": len(orders), "orders": _ids(failed)},
    )


def high_latency(ended: Sequence[Ended], now: dt.datetime) -> list[Found]:
    """The mean execution of the last hour took more than 5 s: at a machine, or else over all."""
    recent = [order for order in ended if now - HOUR < order.at <= now and order.took_ms is not None]
    found = []
    for machine_id, orders in _by(recent, "machine_id").items():
        if _mean_ms(orders) > LATENCY_MS:
            found.append(_slow(orders, f"machine:{machine_id}", machine_id, f"at {orders[0].machine}"))
    if not found and recent and _mean_ms(recent) > LATENCY_MS:
        found.append(_slow(recent, "organization", "", "over all machines"))
    return found


def _mean_ms(orders: Sequence[Ended]) -> float:
    return statistics.fmean(order.took_ms or 0.0 for order in orders)


def _slow(orders: Sequence[Ended], subject: str, machine_id: str, where: str) -> Found:
    mean_ms = _mean_ms(orders)
    return Found(
        Kind.HIGH_LATENCY,
        Severity.MEDIUM,
        subject,
        f"Executions of the last hour took {mean_ms / 1000:.1f} s on average {where}.",
        "Look at the link and the machine's loop (the time is from claim to conclusion, doubt included).",
        max(order.at for order in orders),
        machine_id,
        trigger={"value": mean_ms, "bound": LATENCY_MS, "settled": len(orders)},
    )


def safety_violations(interlocks: Iterable[Moment], moved: Sequence[Moment], now: dt.datetime) -> list[Found]:
    """Each interlock that halted a machine; and a control that moved without an order of ours (nobody is blamed)."""
    found = [
        Found(
            Kind.SAFETY_VIOLATION,
            Severity.HIGH,
            f"halt:{halt.id}",
            f"An interlock halted {halt.machine}: {halt.what}.",
            "Look at the machine first, then at what was ordered before; resolve this when the cause is known.",
            halt.at,
            halt.machine_id,
            trigger={"value": halt.what, "halt_id": halt.id},
        )
        for halt in interlocks
    ]
    recent = [moment for moment in moved if now - HOUR < moment.at <= now]
    for machine_id, moments in _by(recent, "machine_id").items():
        trigger = {"value": len(moments), "orders": [moment.id for moment in moments[-10:]]}
        found.append(moved_by_itself(machine_id, moments[0].machine, max(moment.at for moment in moments), trigger))
    return found


def moved_by_itself(machine_id: str, machine: str, at: dt.datetime, trigger: Mapping[str, Any]) -> Found:
    """An effect without an order: a control of the machine moved, and no bytes of ours moved it."""
    return Found(
        Kind.SAFETY_VIOLATION,
        Severity.LOW,
        f"moved:{machine_id}",
        f"A control of {machine} moved without an order of ours: a hand or the firmware.",
        "Ask who was at the panel. Orders that counted on the old setting were called off.",
        at,
        machine_id,
        trigger=trigger,
    )


def refused_again_and_again(refusals: Iterable[Refusal], now: dt.datetime) -> list[Found]:
    """Three or more envelope refusals of one agent in ten minutes; and the same of intervals and counts."""
    found = []
    recent = [refusal for refusal in refusals if now - TEN_MINUTES < refusal.at <= now]
    for agent_id, own in _by(recent, "agent_id").items():
        for kind, codes, words in (
            (Kind.CONSTRAINT_VIOLATION, ENVELOPE_CODES, "outside the machine's envelope"),
            (Kind.RATE_LIMIT_EXCEEDED, LIMIT_CODES, "too often or too soon"),
        ):
            hits = [refusal for refusal in own if refusal.codes & codes]
            if len(hits) < REFUSALS:
                continue
            found.append(
                Found(
                    kind,
                    Severity.MEDIUM,
                    f"agent:{agent_id}",
                    f"{hits[0].agent} ordered {words}: {len(hits)} refusals in ten minutes.",
                    "Look at its orders; tell its author the limits, or take its grant back.",
                    max(refusal.at for refusal in hits),
                    agent_id=agent_id,
                    trigger={
                        "value": len(hits),
                        "bound": REFUSALS,
                        "codes": sorted(set().union(*(refusal.codes & codes for refusal in hits))),
                        "orders": _ids(hits),
                    },
                )
            )
    return found


def execution_failures(ended: Iterable[Ended], doubts: Iterable[Moment], now: dt.datetime) -> list[Found]:
    """Each order that failed or was contradicted in the last hour, and each in doubt for more than 30 s."""
    found = [
        Found(
            Kind.EXECUTION_FAILURE,
            Severity.HIGH if order.outcome_code == Code.CONTRADICTED else Severity.MEDIUM,
            f"order:{order.order_id}",
            f"{order.order_type} at {order.machine} failed: {order.outcome_code or 'no reason given'}.",
            "Look at the order's timeline and at the machine.",
            order.at,
            order.machine_id,
            order.agent_id,
            {"value": order.outcome_code, "what": "failed", "orders": [order.order_id]},
        )
        for order in ended
        if order.status == Status.FAILED and now - HOUR < order.at <= now
    ]
    found += [
        Found(
            Kind.EXECUTION_FAILURE,
            Severity.HIGH,
            f"order:{doubt.id}",
            f"{doubt.what} at {doubt.machine} is in doubt: it may or may not have reached the machine.",
            "Read the machine's panel; the order is never sent again.",
            doubt.at,
            doubt.machine_id,
            doubt.agent_id,
            {"value": (now - doubt.at).total_seconds(), "bound": DOUBT.total_seconds(), "what": "in_doubt",
             "orders": [doubt.id]},
        )
        for doubt in doubts
        if now - doubt.at > DOUBT
    ]  # fmt: skip
    return found


def approval_timeouts(timeouts: Iterable[Moment], now: dt.datetime) -> list[Found]:
    """Three or more held orders of a machine ran out of time in the last hour: nobody is looking."""
    found = []
    recent = [moment for moment in timeouts if now - HOUR < moment.at <= now]
    for machine_id, moments in _by(recent, "machine_id").items():
        if len(moments) >= TIMEOUTS:
            found.append(
                Found(
                    Kind.APPROVAL_TIMEOUT,
                    Severity.MEDIUM,
                    f"machine:{machine_id}",
                    f"{len(moments)} held orders at {moments[0].machine} ran out of time in the last hour.",
                    "Is somebody at this machine? If not, take it (I have it) so that its agents wait.",
                    max(moment.at for moment in moments),
                    machine_id,
                    trigger={
                        "value": len(moments), "bound": TIMEOUTS, "orders": [moment.id for moment in moments[-10:]]
                    },
                )
            )  # fmt: skip
    return found


@dataclass(frozen=True, slots=True)
class Habit:
    """An agent's hours: ``hour`` is the one looked at, ``earlier`` those of the 14 days before in which it worked."""

    agent_id: str
    agent: str
    hour_at: dt.datetime
    hour: Mapping[str, int]  # orders, refusals, approvals
    earlier: Mapping[str, Sequence[int]]


def unusual_hours(habits: Iterable[Habit]) -> list[Found]:
    """An hour's orders, refusals or approvals further from the median than 4 median absolute deviations (of at least
    one order each), of an agent that worked in at least 24 of the hours before."""
    found = []
    for habit in habits:
        for what, count in habit.hour.items():
            earlier = habit.earlier[what]
            if len(earlier) < HISTORY_HOURS:
                continue
            median = statistics.median(earlier)
            deviation = max(LEAST_DEVIATION, statistics.median(abs(each - median) for each in earlier))
            if abs(count - median) > DEVIATIONS * deviation:
                found.append(_unusual(habit, what, count, median, deviation))
    return found


def _unusual(habit: Habit, what: str, count: int, median: float, deviation: float) -> Found:
    return Found(
        Kind.UNUSUAL_PATTERN,
        Severity.LOW,
        f"{what}:{habit.agent_id}",
        f"{habit.agent} had {count} {what} in the hour from {habit.hour_at:%Y-%m-%d %H:%M} UTC; {median:g} are usual.",
        "Look at its orders of that hour.",
        habit.hour_at + HOUR,
        agent_id=habit.agent_id,
        trigger={
            "value": count, "median": median, "deviation": deviation, "bound": DEVIATIONS * deviation,
            "hour_at": habit.hour_at.isoformat(),
        },
    )  # fmt: skip


def never_used(agent_id: str, agent: str, order_type: str, at: dt.datetime) -> Found:
    """An agent that has worked here for more than a day asks for an order type it never used."""
    return Found(
        Kind.UNUSUAL_PATTERN,
        Severity.MEDIUM,
        f"type:{order_type}:{agent_id}",
        f"{agent} asked for {order_type} for the first time.",
        "Is that what it is here for? Its grant says which order types it may use.",
        at,
        agent_id=agent_id,
        trigger={"value": order_type},
    )


def _by(rows: Sequence[Any], column: str) -> dict[str, list[Any]]:
    grouped: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        grouped[getattr(row, column)].append(row)
    return grouped


def _ids(rows: Sequence[Any]) -> list[str]:
    """The newest ten orders; what was turned away at the door was none."""
    return [row.order_id for row in sorted(rows, key=lambda row: row.at) if row.order_id][-10:]
