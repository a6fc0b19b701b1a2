"""What a set of orders says of itself: counts, rates, latencies, by type, machine and agent, over time. Pure.

Every definition in words: docs/analytics.md. Orders come as one record each (:data:`RECORD`, columns of small
numbers that index :attr:`Orders.names`); figures of long windows come from sums (``commands.history.sums``).
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from commands.lifecycle import UNSETTLED, Status
from commands.rules.conversion import OrderType

HOUR_S, DAY_S, WEEK_S = 3600, 86_400, 7 * 86_400
#: A Monday: weeks and eight weeks are counted from it, days and hours too (all UTC, so no day has 23 or 25 hours).
ANCHOR = dt.datetime(1970, 1, 5, tzinfo=dt.UTC)
EXACT_WINDOW_S = 7 * DAY_S  # up to here latencies are exact
STATUSES = tuple(status.value for status in Status)
ORDER_TYPES = tuple(word.value for word in OrderType)
STATUS_INDEX = {status: index for index, status in enumerate(STATUSES)}
TYPE_INDEX = {word: index for index, word in enumerate(ORDER_TYPES)}
OPEN_INDICES = [STATUS_INDEX[status.value] for status in UNSETTLED]

#: What happened to an order besides its status.
REFUSED, REJECTED, APPROVED, BY_AGENT, INTERVENED = 1, 2, 4, 8, 16
NOTHING_MS = -1  # no approval, no execution
MAX_MS = 2**31 - 1  # 24 days: an order in doubt for longer counts as long as that

#: One order. ``at_us``: of the epoch; machine, agent, code: indices of `names`; 0 is nothing (a person's order).
RECORD = np.dtype(
    [
        ("at_us", "<i8"),
        ("machine", "<u2"),
        ("agent", "<u2"),
        ("code", "<u2"),
        ("order_type", "u1"),
        ("status", "u1"),
        ("flags", "u1"),
        ("approval_ms", "<i4"),
        ("execution_ms", "<i4"),
    ]
)
_INDEXED = ("machine", "agent", "code")
#: The percentiles that are told.
SHARES = (0.50, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class OrderFact:
    """One order as the rows tell it. ``refusal_code`` only of a refused one; latencies in whole milliseconds."""

    proposed_at: dt.datetime
    machine_id: str
    agent_id: str  # "": a person's
    order_type: str
    status: str
    is_refused: bool = False  # by the governor, at proposal or before the wire
    refusal_code: str = ""
    is_rejected: bool = False  # by a person: rejected or vetoed
    is_approved: bool = False  # by a person
    is_intervened: bool = False  # an agent's order that a person turned down, called off, replaced or cut short
    approval_ms: int | None = None
    execution_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Orders:
    """Any number of orders: ``records`` (n of :data:`RECORD`) and what their indices stand for (``names[0]`` is "")."""

    records: np.ndarray
    names: tuple[str, ...] = ("",)

    def within(self, begin: dt.datetime, end: dt.datetime) -> Orders:
        """Those proposed in [begin, end)."""
        at_us = self.records["at_us"]
        inside = (at_us >= epoch_us(begin)) & (at_us < epoch_us(end))
        return self if inside.all() else Orders(self.records[inside], self.names)

    def only(self, *, machine: str = "", agent: str | None = None, order_type: str = "") -> Orders:
        """Those of a machine, an agent ("" is people's, None all) and a type."""
        if not machine and agent is None and not order_type:
            return self
        chosen = np.ones(len(self.records), dtype=bool)
        if machine:
            chosen &= self.records["machine"] == self.index_of(machine)
        if agent is not None:
            chosen &= self.records["agent"] == self.index_of(agent)
        if order_type:
            chosen &= self.records["order_type"] == TYPE_INDEX.get(order_type, 255)
        return Orders(self.records[chosen], self.names)

    def index_of(self, name: str) -> int:
        """Where a name stands; 65535 for one that no order here has."""
        return self.names.index(name) if name in self.names else 65_535

    @property
    def open_count(self) -> int:
        """How many are not settled."""
        return int(np.isin(self.records["status"], OPEN_INDICES).sum())


def epoch_us(at: dt.datetime) -> int:
    """Whole microseconds since 1970."""
    return (at - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)


def floor_to(at: dt.datetime, span_s: int) -> dt.datetime:
    """Where the span of this length that holds ``at`` begins, counted from :data:`ANCHOR`."""
    return at - (at - ANCHOR) % dt.timedelta(seconds=span_s)


def of_facts(facts: Iterable[OrderFact]) -> Orders:
    """Rows as columns."""
    names: dict[str, int] = {"": 0}
    rows = [_record(fact, names) for fact in facts]
    return Orders(np.array(rows, dtype=RECORD), tuple(names))


def _record(fact: OrderFact, names: dict[str, int]) -> tuple[int, ...]:
    flags = REFUSED * fact.is_refused | REJECTED * fact.is_rejected | APPROVED * fact.is_approved
    flags |= BY_AGENT * bool(fact.agent_id) | INTERVENED * fact.is_intervened
    return (
        epoch_us(fact.proposed_at),
        names.setdefault(fact.machine_id, len(names)),
        names.setdefault(fact.agent_id, len(names)),
        names.setdefault(fact.refusal_code if fact.is_refused else "", len(names)),
        TYPE_INDEX[fact.order_type],
        STATUS_INDEX[fact.status],
        int(flags),
        _bounded_ms(fact.approval_ms),
        _bounded_ms(fact.execution_ms),
    )


def _bounded_ms(value: int | None) -> int:
    return NOTHING_MS if value is None else min(max(0, value), MAX_MS)


def joined(parts: Sequence[Orders]) -> Orders:
    """Several sets as one, under one set of names."""
    # By their bytes: numpy compares the fields of every pair of arrays that it puts together.
    records = np.frombuffer(bytearray(b"".join(part.records.tobytes() for part in parts)), dtype=RECORD)
    if len({part.names for part in parts}) == 1:
        return Orders(records, parts[0].names)
    names: dict[str, int] = {"": 0}
    for part in parts:
        for name in part.names:
            names.setdefault(name, len(names))
    at = 0
    for part in parts:
        renamed = np.array([names[name] for name in part.names], dtype=np.uint16)
        for column in _INDEXED:
            records[column][at : at + len(part.records)] = renamed[part.records[column]]
        at += len(part.records)
    return Orders(records, tuple(names))


def sorted_names(orders: Orders) -> Orders:
    """The same orders, their names in alphabetical order: hours with the same names are joined without renaming."""
    names = ("", *sorted(set(orders.names) - {""}))
    place = {name: index for index, name in enumerate(names)}
    renamed = np.array([place[name] for name in orders.names], dtype=np.uint16)
    records = orders.records.copy()
    for column in _INDEXED:
        records[column] = renamed[records[column]]
    return Orders(records, names)


# --- latencies


@dataclass(frozen=True, slots=True)
class Latency:
    """How long something took, in milliseconds; every figure None where ``count`` is 0."""

    count: int
    mean_ms: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "count": self.count, "mean_ms": self.mean_ms, "p50_ms": self.p50_ms, "p95_ms": self.p95_ms,
            "p99_ms": self.p99_ms, "max_ms": self.max_ms,
        }  # fmt: skip


def latency_of(ordered_ms: np.ndarray) -> Latency:
    """Of values in ascending order: exact, percentiles by linear interpolation (Hyndman and Fan's seventh)."""
    count = len(ordered_ms)
    if not count:
        return Latency(0)
    mean = float(ordered_ms.sum(dtype=np.int64)) / count
    p50, p95, p99 = (_interpolated(ordered_ms, share) for share in SHARES)
    return Latency(count, mean, p50, p95, p99, float(ordered_ms[-1]))


def _interpolated(ordered: np.ndarray, share: float) -> float:
    place = (len(ordered) - 1) * share
    below = math.floor(place)
    low, high = float(ordered[below]), float(ordered[min(below + 1, len(ordered) - 1)])
    return low + (high - low) * (place - below)


@dataclass(frozen=True, slots=True)
class Ordered:
    """Latencies of orders in ascending order, and whose each is (the order's place)."""

    values_ms: np.ndarray
    places: np.ndarray

    def by(self, keys: np.ndarray, count: int) -> list[Latency]:
        """Of each key from 0 to ``count`` - 1 (at most 65,536), one key per order."""
        if count == 1:
            return [latency_of(self.values_ms)]
        own = keys[self.places].astype(np.uint16)  # so that they are sorted by counting
        values = self.values_ms[np.argsort(own, kind="stable")]
        counts = np.bincount(own, minlength=count)
        present = np.flatnonzero(counts)
        found = [Latency(0)] * count
        told = _latencies(values, (np.cumsum(counts) - counts)[present], counts[present])
        for each, latency in zip(present.tolist(), told, strict=True):
            found[each] = latency
        return found


def _latencies(values_ms: np.ndarray, begins: np.ndarray, counts: np.ndarray) -> list[Latency]:
    """As :func:`latency_of` of each group: ``counts`` ascending values from ``begins`` on, none of them empty."""
    if not len(begins):
        return []
    totals = np.add.reduceat(values_ms.astype(np.int64), begins)
    columns = [counts, totals / counts]
    for share in SHARES:
        place = (counts - 1) * share
        below = np.floor(place).astype(np.int64)
        low = values_ms[begins + below].astype(np.float64)
        high = values_ms[begins + np.minimum(below + 1, counts - 1)].astype(np.float64)
        columns.append(low + (high - low) * (place - below))
    columns.append(values_ms[begins + counts - 1].astype(np.float64))
    return [Latency(*each) for each in zip(*(column.tolist() for column in columns), strict=True)]


def ordered(values_ms: np.ndarray) -> Ordered:
    """Values of :data:`NOTHING_MS` are none."""
    has = np.flatnonzero(values_ms != NOTHING_MS)
    places = has[np.argsort(values_ms[has])]
    return Ordered(values_ms[places], places)


# --- counts and rates


@dataclass(frozen=True, slots=True)
class Figures:
    """What is told of one set of orders. A rate is None where there was nothing it could be of, never 0/0."""

    by_status: Mapping[str, int]
    refused: int = 0
    rejected: int = 0
    approved: int = 0
    passed_by_agents: int = 0  # agents' settled orders that the governor did not refuse
    intervened: int = 0
    refusals: Mapping[str, int] = field(default_factory=dict)
    approval_latency: Latency = Latency(0)
    execution_duration: Latency = Latency(0)

    @property
    def orders(self) -> int:
        return sum(self.by_status.values())

    @property
    def settled_executions(self) -> int:
        """Attempts on the wire whose end is known."""
        return self.by_status[Status.COMPLETED.value] + self.by_status[Status.FAILED.value]

    def to_json(self) -> dict[str, Any]:
        settled, orders = self.settled_executions, self.orders
        return {
            "orders": orders,
            "by_status": dict(self.by_status),
            "settled_executions": settled,
            "success_rate": _rate(self.by_status[Status.COMPLETED.value], settled),
            "failure_rate": _rate(self.by_status[Status.FAILED.value], settled),
            "approved_by_person": self.approved,
            "rejected_by_person": self.rejected,
            "rejection_rate": _rate(self.rejected, self.rejected + self.approved),
            "refused": self.refused,
            "refusal_rate": _rate(self.refused, orders),
            "refusals": [
                {"code": code, "count": count, "rate": _rate(count, orders)}
                for code, count in sorted(self.refusals.items(), key=lambda pair: (-pair[1], pair[0]))
            ],
            "human_interventions": self.intervened,
            "human_intervention_rate": _rate(self.intervened, self.passed_by_agents),
            "approval_latency": self.approval_latency.to_json(),
            "execution_duration": self.execution_duration.to_json(),
        }


#: Nothing was proposed.
NO_ORDERS = Figures(dict.fromkeys(STATUSES, 0))


def _rate(part: int, whole: int) -> float | None:
    return part / whole if whole else None


#: Every combination of flags, and which of them say what.
FLAG_WORDS = np.arange(32)
IS_FLAGGED = tuple(FLAG_WORDS & bit != 0 for bit in (REFUSED, REJECTED, APPROVED))
IS_PASSED = FLAG_WORDS & (BY_AGENT | REFUSED) == BY_AGENT
IS_INTERVENED = IS_PASSED & (FLAG_WORDS & INTERVENED != 0)
IS_OPEN = np.isin(np.arange(len(STATUSES)), OPEN_INDICES)


@dataclass(frozen=True, slots=True)
class _Marks:
    """What is counted of each order, gathered once: its status and flags as one number; who was refused, and why."""

    kinds: np.ndarray  # status * 32 + flags
    refused: np.ndarray  # places of the refused
    codes: np.ndarray  # of each of those
    names: tuple[str, ...]

    @classmethod
    def of(cls, orders: Orders) -> _Marks:
        flags = orders.records["flags"]
        refused = np.flatnonzero(flags & REFUSED)
        kinds = orders.records["status"].astype(np.int64) * len(FLAG_WORDS) + flags
        return cls(kinds, refused, orders.records["code"][refused], orders.names)

    def tallied(self, keys: np.ndarray, count: int) -> list[Figures]:
        """Counts, without latencies, of each key from 0 to ``count`` - 1."""
        width = len(STATUSES) * len(FLAG_WORDS)
        table = crossed(keys, self.kinds, count, width).reshape(count, len(STATUSES), len(FLAG_WORDS))
        flags, settled = table.sum(axis=1), table[:, ~IS_OPEN].sum(axis=1)
        told = [flags[:, words].sum(axis=1) for words in IS_FLAGGED]
        told += [settled[:, words].sum(axis=1) for words in (IS_PASSED, IS_INTERVENED)]
        refusals: list[dict[str, int]] = [{} for _ in range(count)]
        codes = crossed(keys[self.refused], self.codes, count, len(self.names))
        rows, columns = np.nonzero(codes)
        for row, column, number in zip(rows.tolist(), columns.tolist(), codes[rows, columns].tolist(), strict=True):
            refusals[row][self.names[column]] = number
        listed = (table.sum(axis=2).tolist(), *(each.tolist() for each in told), refusals)
        return [
            Figures(dict(zip(STATUSES, by_status, strict=True)), refused, rejected, approved, passed, intervened, words)
            for by_status, refused, rejected, approved, passed, intervened, words in zip(*listed, strict=True)
        ]


def crossed(keys: np.ndarray, values: np.ndarray, key_count: int, value_count: int) -> np.ndarray:
    """How often each value came with each key: (keys, values)."""
    flat = keys.astype(np.int64) * value_count + values
    return np.bincount(flat, minlength=key_count * value_count).reshape(key_count, value_count)


def _with_latencies(figures: Figures, approval: Latency, execution: Latency) -> Figures:
    return Figures(
        figures.by_status, figures.refused, figures.rejected, figures.approved, figures.passed_by_agents,
        figures.intervened, figures.refusals, approval, execution,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Metrics:
    """A window's figures, whole and apart. ``method``: ``exact`` or ``histogram``. ``by_machine`` None: not kept."""

    total: Figures
    by_order_type: Mapping[str, Figures]
    by_machine: Mapping[str, Figures] | None
    by_agent: Mapping[str, Figures]  # "": people's
    method: str = "exact"


def measure(orders: Orders) -> Metrics:
    """Everything of these orders, exactly."""
    found = _Grouping.of(orders)
    whole = found.figures(np.zeros(len(orders.records), dtype=np.uint16), 1)[0]
    return Metrics(
        whole,
        found.by("order_type", ORDER_TYPES),
        found.by("machine", orders.names),
        found.by("agent", orders.names),
    )


@dataclass(frozen=True, slots=True)
class _Grouping:
    """Orders whose latencies were put in order once, to be told apart in several ways."""

    orders: Orders
    marks: _Marks
    approvals: Ordered
    executions: Ordered

    @classmethod
    def of(cls, orders: Orders) -> _Grouping:
        times = (ordered(orders.records[column]) for column in ("approval_ms", "execution_ms"))
        return cls(orders, _Marks.of(orders), *times)

    def figures(self, keys: np.ndarray, count: int) -> list[Figures]:
        """Figures with exact latencies of each key from 0 to ``count`` - 1 (one key per order)."""
        tallied = self.marks.tallied(keys, count)
        latencies = self.approvals.by(keys, count), self.executions.by(keys, count)
        return [_with_latencies(*each) for each in zip(tallied, *latencies, strict=True)]

    def by(self, column: str, names: Sequence[str]) -> dict[str, Figures]:
        present, keys = numbered(self.orders.records[column])
        found = self.figures(keys, len(present))
        return {names[index]: figures for index, figures in zip(present.tolist(), found, strict=True)}


def numbered(indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The indices that occur, ascending, and for each row which of them it has (as ``np.unique``, by counting)."""
    present = np.flatnonzero(np.bincount(indices))
    places = np.zeros(int(present[-1]) + 1 if len(present) else 0, dtype=np.int64)
    places[present] = np.arange(len(present))
    return present, places[indices]


def grouped_figures(orders: Orders, keys: np.ndarray, count: int) -> list[Figures]:
    """Figures with exact latencies of each key from 0 to ``count`` - 1 (one key per order)."""
    return _Grouping.of(orders).figures(keys, count)


# --- over time


@dataclass(frozen=True, slots=True)
class Bucket:
    """One stretch of a series, half-open [begin, end); the first and the last may be cut by the window."""

    begin: dt.datetime
    end: dt.datetime
    figures: Figures


def bucket_bounds(begin: dt.datetime, end: dt.datetime, bucket_s: int) -> list[dt.datetime]:
    """Where the buckets of [begin, end) meet: multiples of ``bucket_s`` from :data:`ANCHOR`, in UTC, between the two
    ends of the window. Empty for an empty window."""
    if begin >= end:
        return []
    step = dt.timedelta(seconds=bucket_s)
    bounds = [begin]
    following = floor_to(begin, bucket_s) + step
    while following < end:
        bounds.append(following)
        following += step
    return [*bounds, end]


def series(orders: Orders, bounds: Sequence[dt.datetime]) -> list[Bucket]:
    """Figures between each two neighbours of ``bounds``; where nothing was proposed, zeros. Orders outside are left
    out."""
    if len(bounds) < 2:
        return []
    inside = orders.within(bounds[0], bounds[-1])
    edges = np.array([epoch_us(at) for at in bounds], dtype=np.int64)
    keys = np.searchsorted(edges, inside.records["at_us"], side="right") - 1
    found = grouped_figures(inside, keys, len(bounds) - 1)
    return [Bucket(*each) for each in zip(bounds, bounds[1:], found, strict=False)]
