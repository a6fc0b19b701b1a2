"""Sums of orders for windows too long to look at every order: counts by cell, latencies as merged histograms. Pure.

Sums of neighbours add up to the sum of both, so a span is summed once and never looked at again. A cell is
(agent, type), or one machine over all agents and types. A histogram's buckets grow by :data:`GROWTH`: whatever lies in
one is told as its middle, at most 1 % off; a percentile interpolated between two of them is no further off.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from commands.history import analytics
from commands.history.analytics import (
    APPROVED,
    BY_AGENT,
    INTERVENED,
    NOTHING_MS,
    ORDER_TYPES,
    REFUSED,
    REJECTED,
    SHARES,
    STATUSES,
    Figures,
    Latency,
    Metrics,
    Orders,
)

ERROR = 0.01
GROWTH = (1 + ERROR) / (1 - ERROR)
_LOG_GROWTH = math.log(GROWTH)
#: An entry: how much of one measure one cell has. A cell of (agent, type) has no machine, a machine's no agent or type.
SUM = np.dtype([("machine", "<u2"), ("agent", "<u2"), ("order_type", "u1"), ("measure", "<u2"), ("amount", "<i8")])
ANY, ANY_TYPE = 65_535, 255
#: Measures: a status by its index, then these; from CODES on refusals by code (index of the names); in the
#: latencies' entries from APPROVALS and EXECUTIONS on histogram buckets.
M_REFUSED, M_REJECTED, M_APPROVED, M_PASSED, M_INTERVENED = 20, 21, 22, 23, 24
M_APPROVAL_MS, M_EXECUTION_MS = 25, 26
CODES, APPROVALS, EXECUTIONS = 1000, 0, 4000
_FLAGGED = ((REFUSED, M_REFUSED), (REJECTED, M_REJECTED), (APPROVED, M_APPROVED))
_TIMES = (("approval_ms", M_APPROVAL_MS, APPROVALS), ("execution_ms", M_EXECUTION_MS, EXECUTIONS))


@dataclass(frozen=True, slots=True)
class Sums:
    """``counts`` and ``latencies`` (entries of :data:`SUM`), and what machine, agent and code indices stand for."""

    counts: np.ndarray
    latencies: np.ndarray
    names: tuple[str, ...] = ("",)
    open_orders: int = 0


def bucket_of(values_ms: np.ndarray) -> np.ndarray:
    """The histogram bucket of each value: 0 for 0 ms, else the one that ends at or after it."""
    positive = np.maximum(values_ms, 1).astype(np.float64)
    found = np.ceil(np.log(positive) / _LOG_GROWTH - 1e-9).astype(np.int64) + 1
    return np.where(values_ms <= 0, 0, found)


def middle_ms(bucket: np.ndarray) -> np.ndarray:
    """What is told for a value in the bucket: no further than :data:`ERROR` from any in it."""
    ends = np.power(GROWTH, bucket.astype(np.float64) - 1)
    return np.where(bucket <= 0, 0.0, 2 * ends / (GROWTH + 1))


def sums_of(orders: Orders) -> Sums:
    """These orders, summed by cell."""
    records = orders.records
    count = len(records)
    any_name, any_type = np.full(count, ANY), np.full(count, ANY_TYPE)
    cells = [(any_name, records["agent"], records["order_type"]), (records["machine"], any_name, any_type)]
    counts, latencies = [], []
    for cell in cells:
        counts += [_entries(cell, measures, amounts, chosen) for measures, amounts, chosen in _measures(records)]
        for column, total, first in _TIMES:
            values, has = records[column], records[column] != NOTHING_MS
            counts.append(_entries(cell, np.full(count, total), values, has))
            latencies.append(_entries(cell, first + bucket_of(values), np.ones(count, dtype=np.int64), has))
    return Sums(_added(counts), _added(latencies), orders.names, orders.open_count)


def _measures(records: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(measure of each order, amount, whether it counts) for all but the latencies."""
    count, flags = len(records), records["flags"]
    ones, all_of_them = np.ones(count, dtype=np.int64), np.ones(count, dtype=bool)
    found = [(records["status"].astype(np.int64), ones, all_of_them)]
    found += [(np.full(count, measure), ones, flags & bit != 0) for bit, measure in _FLAGGED]
    is_open = np.isin(records["status"], analytics.OPEN_INDICES)
    is_passed = (flags & (BY_AGENT | REFUSED) == BY_AGENT) & ~is_open
    found.append((np.full(count, M_PASSED), ones, is_passed))
    found.append((np.full(count, M_INTERVENED), ones, is_passed & (flags & INTERVENED != 0)))
    found.append((CODES + records["code"].astype(np.int64), ones, flags & REFUSED != 0))
    return found


def _entries(
    cell: tuple[np.ndarray, np.ndarray, np.ndarray], measures: np.ndarray, amounts: np.ndarray, chosen: np.ndarray
) -> np.ndarray:
    entries = np.empty(int(chosen.sum()), dtype=SUM)
    for name, values in zip(("machine", "agent", "order_type"), cell, strict=True):
        entries[name] = values[chosen]
    entries["measure"], entries["amount"] = measures[chosen], amounts[chosen]
    return entries


def _added(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Entries of one cell and measure as one."""
    entries = np.concatenate(parts) if parts else np.empty(0, dtype=SUM)
    key = (
        (entries["machine"].astype(np.int64) << 40)
        | (entries["agent"].astype(np.int64) << 24)
        | (entries["order_type"].astype(np.int64) << 16)
        | entries["measure"]
    )
    _, first, place = np.unique(key, return_index=True, return_inverse=True)
    added = entries[first].copy()
    # Through 53 bits: nine thousand years of milliseconds.
    added["amount"] = np.bincount(place, weights=entries["amount"], minlength=len(first)).astype(np.int64)
    return added


def joined(parts: Sequence[Sums], *, is_folded: bool = True) -> Sums:
    """The sums of several spans as one's; not ``is_folded``: entries side by side, for one who adds them anyway."""
    names: dict[str, int] = {"": 0}
    for part in parts:
        for name in part.names:
            names.setdefault(name, len(names))
    counts, latencies = [], []
    for part in parts:
        renamed = np.full(ANY + 1, ANY, dtype=np.uint16)
        renamed[: len(part.names)] = [names[name] for name in part.names]
        counts.append(_renamed(part.counts, renamed, has_codes=True))
        latencies.append(_renamed(part.latencies, renamed, has_codes=False))
    fold = _added if is_folded else _side_by_side
    return Sums(fold(counts), fold(latencies), tuple(names), sum(part.open_orders for part in parts))


def _side_by_side(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.empty(0, dtype=SUM)


def _renamed(entries: np.ndarray, renamed: np.ndarray, *, has_codes: bool) -> np.ndarray:
    found = entries.copy()
    for column in ("machine", "agent"):
        found[column] = renamed[entries[column]]
    if has_codes:
        is_code = entries["measure"] >= CODES
        found["measure"][is_code] = CODES + renamed[entries["measure"][is_code] - CODES]
    return found


# --- figures


def measure(sums: Sums, *, agent: str | None = None, order_type: str = "") -> Metrics:
    """Figures of summed spans; of one agent or type only, when asked (then they are not kept by machine)."""
    cells = _Cells.of(sums, agent, order_type)
    machines = None
    if agent is None and not order_type:
        machines = _Cells.of_machines(sums).by("machine", sums.names)
    return Metrics(
        cells.whole(),
        cells.by("order_type", ORDER_TYPES),
        machines,
        cells.by("agent", sums.names),
        method="histogram",
    )


def total(sums: Sums, *, agent: str | None = None, order_type: str = "") -> Figures:
    """Figures of all these orders together, or of one agent's or type's."""
    return _Cells.of(sums, agent, order_type).whole()


@dataclass(frozen=True, slots=True)
class _Cells:
    """Entries of one kind of cell."""

    counts: np.ndarray
    latencies: np.ndarray
    names: tuple[str, ...]

    @classmethod
    def of(cls, sums: Sums, agent: str | None, order_type: str) -> _Cells:
        def chosen(entries: np.ndarray) -> np.ndarray:
            keep = entries["machine"] == ANY
            if agent is not None:
                keep &= entries["agent"] == (sums.names.index(agent) if agent in sums.names else ANY)
            if order_type:
                keep &= entries["order_type"] == ORDER_TYPES.index(order_type)
            return entries[keep]

        return cls(chosen(sums.counts), chosen(sums.latencies), sums.names)

    @classmethod
    def of_machines(cls, sums: Sums) -> _Cells:
        counts, latencies = sums.counts, sums.latencies
        return cls(counts[counts["machine"] != ANY], latencies[latencies["machine"] != ANY], sums.names)

    def whole(self) -> Figures:
        return _figures(self.counts, self.latencies, self.names)

    def by(self, column: str, names: Sequence[str]) -> dict[str, Figures]:
        present, count_keys = analytics.numbered(self.counts[column])
        counts = _split(self.counts, count_keys, len(present))
        latency_keys = np.searchsorted(present, self.latencies[column]).astype(np.uint16)
        latencies = _split(self.latencies, latency_keys, len(present))
        return {
            names[index]: _figures(counts[each], latencies[each], self.names)
            for each, index in enumerate(present.tolist())
        }


def _split(entries: np.ndarray, keys: np.ndarray, count: int) -> list[np.ndarray]:
    arranged = entries[np.argsort(keys, kind="stable")]
    bounds = np.concatenate([[0], np.cumsum(np.bincount(keys, minlength=count))])
    return [arranged[bounds[each] : bounds[each + 1]] for each in range(count)]


def _figures(counts: np.ndarray, latencies: np.ndarray, names: tuple[str, ...]) -> Figures:
    size = CODES + len(names)
    amounts = np.bincount(counts["measure"], weights=counts["amount"], minlength=size).astype(np.int64)
    refusals: Mapping[str, int] = {
        names[code]: int(amounts[CODES + code]) for code in np.flatnonzero(amounts[CODES:]).tolist()
    }
    return Figures(
        dict(zip(STATUSES, amounts[: len(STATUSES)].tolist(), strict=True)),
        int(amounts[M_REFUSED]),
        int(amounts[M_REJECTED]),
        int(amounts[M_APPROVED]),
        int(amounts[M_PASSED]),
        int(amounts[M_INTERVENED]),
        refusals,
        _latency(latencies, APPROVALS, EXECUTIONS, int(amounts[M_APPROVAL_MS])),
        _latency(latencies, EXECUTIONS, ANY + 1, int(amounts[M_EXECUTION_MS])),
    )


def _latency(entries: np.ndarray, first: int, end: int, total_ms: int) -> Latency:
    """Of a histogram's entries: mean exact, the rest as far off as its buckets are wide."""
    chosen = entries[(entries["measure"] >= first) & (entries["measure"] < end)]
    per_bucket = np.bincount(chosen["measure"].astype(np.int64) - first, weights=chosen["amount"]).astype(np.int64)
    buckets = np.flatnonzero(per_bucket)
    if not len(buckets):
        return Latency(0)
    ends, middles = np.cumsum(per_bucket[buckets]), middle_ms(buckets)
    count = int(ends[-1])

    def ranked(rank: int) -> float:
        """The value at this place, from 0, in ascending order."""
        return float(middles[np.searchsorted(ends, rank, side="right")])

    def interpolated(share: float) -> float:
        place = (count - 1) * share
        below = math.floor(place)
        low, high = ranked(below), ranked(min(below + 1, count - 1))
        return low + (high - low) * (place - below)

    p50, p95, p99 = (interpolated(share) for share in SHARES)
    return Latency(count, total_ms / count, p50, p95, p99, float(middles[-1]))
