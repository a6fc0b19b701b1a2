"""Circuit breakers: when what an agent did on a machine lowers its grant there. Pure. docs/analytics.md: the choices.

Each looks at the orders of one agent on one machine since its grant was signed; a lead's new grant begins afresh.
A breaker trips once per grant and kind (and order type, for failures of a type); nothing here ever raises a level.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from commands.lifecycle import Status
from commands.reasons import Code
from commands.rules.values import Level


class Breaker(enum.StrEnum):
    """What tripped."""

    ERROR_RATE = "error_rate"
    FAILURES_OF_TYPE = "failures_of_type"
    CONTRADICTED = "contradicted"
    CRITICAL_INCIDENT = "critical_incident"


WINDOW = dt.timedelta(minutes=5)
ERROR_RATE_PERCENT, ERROR_SAMPLE = 5, 20
FAILURES = 3
#: An interlock that halts the machine so soon after an agent's order took effect is laid at that order's door.
INCIDENT_WINDOW = dt.timedelta(seconds=90)
#: Interlocks that an order can have caused: too hot, too fast, heat that goes nowhere. A lost link or a stale
#: reading is nobody's order.
CAUSED_BY_ORDERS = frozenset(
    {
        "bean_over_temperature", "infrared_over_temperature", "exhaust_over_temperature", "rate_of_rise_too_high",
        "heat_without_warming", "heat_on_too_long",
    }
)  # fmt: skip
#: A hand or the firmware moved the control: nobody is blamed, the order counts for nothing.
NOBODYS = frozenset({"moved_at_machine", Code.CONTROL_MOVED.value})
LEVELS = (Level.L1, Level.L2, Level.L3, Level.L4, Level.L5)
#: Statistics take acting alone away (every order goes to a person, or is advice); evidence leaves advice alone.
_LOWERS_TO = {
    Breaker.ERROR_RATE: Level.L3,
    Breaker.FAILURES_OF_TYPE: Level.L3,
    Breaker.CONTRADICTED: Level.L2,
    Breaker.CRITICAL_INCIDENT: Level.L2,
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """An order of this agent on this machine that ended on the wire, or is there."""

    order_id: str
    order_type: str
    control: str
    status: str
    outcome_code: str
    at: dt.datetime  # when it ended; of one still on the wire, when it was claimed
    is_towards_danger: bool = False  # heat up, or air or drum down


@dataclass(frozen=True, slots=True)
class Interlock:
    """An interlock that halted the machine."""

    halt_id: str
    code: str
    at: dt.datetime


@dataclass(frozen=True, slots=True)
class Look:
    """Everything about one grant. ``others`` are people's orders on this machine that reached it: whoever moved a
    control last before an incident is the one it is laid to."""

    level: str  # the effective one
    granted_at: dt.datetime
    lowered_at: dt.datetime | None  # by a breaker: what it was lowered for does not count towards a rate again
    attempts: tuple[Attempt, ...]
    interlocks: tuple[Interlock, ...] = ()
    others: tuple[Attempt, ...] = ()


@dataclass(frozen=True, slots=True)
class Trip:
    """Lower this grant. ``at``: when the last of the evidence came."""

    kind: Breaker
    to_level: str
    message: str
    at: dt.datetime
    order_type: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)


def lowered(level: str, kind: Breaker) -> str:
    """The level after this breaker: what it lowers to, and at least one below; L2 is the lowest a breaker goes."""
    place = LEVELS.index(Level(level))
    floor = LEVELS.index(Level.L2)
    return LEVELS[max(floor, min(LEVELS.index(_LOWERS_TO[kind]), place - 1))].value


def trips(look: Look) -> list[Trip]:
    """Every breaker that has reason to trip: what lowers furthest first, then by time. None where it may not act."""
    if look.level not in (Level.L3, Level.L4, Level.L5):
        return []
    since = sorted(
        (attempt for attempt in look.attempts if attempt.at > look.granted_at),
        key=lambda attempt: (attempt.at, attempt.order_id),
    )
    ended = [
        attempt
        for attempt in since
        if attempt.status in (Status.COMPLETED, Status.FAILED) and attempt.outcome_code not in NOBODYS
    ]
    fresh = [attempt for attempt in ended if look.lowered_at is None or attempt.at > look.lowered_at]
    found = [
        *_error_rate(look, fresh), *_failures_of_type(look, fresh), *_contradicted(look, ended),
        *_critical_incident(look, since),
    ]  # fmt: skip
    return sorted(found, key=lambda trip: (trip.to_level, trip.at))


def _error_rate(look: Look, ended: Sequence[Attempt]) -> list[Trip]:
    """More than 5 % of at least 20 settled orders within any five minutes failed."""
    first = failed = 0
    for place, attempt in enumerate(ended):
        failed += attempt.status == Status.FAILED
        while ended[first].at <= attempt.at - WINDOW:
            failed -= ended[first].status == Status.FAILED
            first += 1
        settled = place - first + 1
        if settled >= ERROR_SAMPLE and failed * 100 > settled * ERROR_RATE_PERCENT:
            inside = [each.order_id for each in ended[first : place + 1] if each.status == Status.FAILED]
            return [
                _trip(
                    look, Breaker.ERROR_RATE, attempt.at,
                    f"{failed} of {settled} orders failed within five minutes.",
                    {"failed": failed, "settled": settled, "bound": ERROR_RATE_PERCENT / 100, "orders": inside},
                )
            ]  # fmt: skip
    return []


def _failures_of_type(look: Look, ended: Sequence[Attempt]) -> list[Trip]:
    """Three failures of one order type within any five minutes."""
    found = []
    failed = [attempt for attempt in ended if attempt.status == Status.FAILED]
    for order_type in sorted({attempt.order_type for attempt in failed}):
        own = [attempt for attempt in failed if attempt.order_type == order_type]
        for first, last in zip(own, own[FAILURES - 1 :], strict=False):
            if last.at - first.at < WINDOW:
                inside = [each.order_id for each in own if first.at <= each.at <= last.at]
                found.append(
                    _trip(
                        look, Breaker.FAILURES_OF_TYPE, last.at,
                        f"{len(inside)} {order_type} orders failed within five minutes.",
                        {"failed": len(inside), "orders": inside}, order_type,
                    )
                )  # fmt: skip
                break
    return found


def _contradicted(look: Look, ended: Sequence[Attempt]) -> list[Trip]:
    """The machine read back something else than was set. A control moved by hand, or an effect, is none of this."""
    for attempt in ended:
        if attempt.status == Status.FAILED and attempt.outcome_code == Code.CONTRADICTED:
            message = f"The machine contradicted its {attempt.order_type}: it read back another setting."
            return [_trip(look, Breaker.CONTRADICTED, attempt.at, message, {"orders": [attempt.order_id]})]
    return []


def _critical_incident(look: Look, attempts: Sequence[Attempt]) -> list[Trip]:
    """An interlock halted the machine within 90 s of an order of this agent that took it towards danger (heat up, air
    or drum down) and reached it or may have, and nobody had moved that control since."""
    for halt in sorted(look.interlocks, key=lambda each: each.at):
        if halt.code not in CAUSED_BY_ORDERS or halt.at <= look.granted_at:
            continue
        for attempt in reversed(attempts):
            is_near = halt.at - INCIDENT_WINDOW <= attempt.at <= halt.at
            if (
                is_near
                and attempt.is_towards_danger
                and _may_have_reached(attempt)
                and not _overtaken(look, attempt, halt)
            ):
                message = f"An interlock ({halt.code}) halted the machine right after its {attempt.order_type}."
                evidence = {"orders": [attempt.order_id], "halt_id": halt.halt_id, "interlock": halt.code}
                return [_trip(look, Breaker.CRITICAL_INCIDENT, halt.at, message, evidence)]
    return []


def _may_have_reached(attempt: Attempt) -> bool:
    return attempt.status in (Status.COMPLETED, Status.IN_DOUBT, Status.EXECUTING)


def _overtaken(look: Look, attempt: Attempt, halt: Interlock) -> bool:
    """Somebody else moved the same control after this order and before the interlock."""
    return any(
        other.control == attempt.control and attempt.at < other.at <= halt.at and _may_have_reached(other)
        for other in look.others
    )


def _trip(
    look: Look, kind: Breaker, at: dt.datetime, message: str, evidence: dict[str, Any], order_type: str = ""
) -> Trip:
    return Trip(kind, lowered(look.level, kind), message, at, order_type, evidence)
