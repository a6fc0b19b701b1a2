"""Sums of orders for windows too long to look at every order: counts by cell, latencies as merged histograms. Pure.

Sums of neighbours add up to the sum of both, so a span is summed once and never looked at again. A cell is
(agent, type), or one machine over all agents and types. A histogram's buckets grow by :data:`GROWTH`: whatever lies in
one is told as its middle, at most 1 % off; a percentile interpolated between two of them is no further off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from commands.history import analytics
from commands.history.analytics import (
    NOTHING_MS,
    ORDER_TYPES,
    REFUSED,
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
_FLAGGED = (M_REFUSED, M_REJECTED, M_APPROVED)  # as analytics.IS_FLAGGED
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
    records, name_count = orders.records, len(orders.names)
    own = name_count + records["agent"].astype(np.int64) * len(ORDER_TYPES) + records["order_type"]
    # Every order counts in two cells: its agent's and type's, and its machine's.
    rows, places = analytics.numbered(np.concatenate([own, records["machine"].astype(np.int64)]))
    twice = np.concatenate([records, records])
    counts, latencies = _counted(twice, places, len(rows), name_count), []
    for column, total, first in _TIMES:
        has = np.flatnonzero(twice[column] != NOTHING_MS)
        values, whose = twice[column][has], places[has]
        counts.append((np.array([total]), np.bincount(whose, weights=values, minlength=len(rows)).reshape(-1, 1)))
        buckets, columns = analytics.numbered(first + bucket_of(values))
        latencies.append((buckets, analytics.crossed(whose, columns, len(rows), len(buckets))))
    cells = _cells_at(rows, name_count)
    return Sums(_entries(cells, counts), _entries(cells, latencies), orders.names, orders.open_count)


def _counted(records: np.ndarray, places: np.ndarray, row_count: int, name_count: int) -> list[tuple[Any, np.ndarray]]:
    """(measures, rows by measures) of all but the latencies; ``places``: the row of each record."""
    flag_count = len(analytics.FLAG_WORDS)
    kinds = records["status"].astype(np.int64) * flag_count + records["flags"]
    table = analytics.crossed(places, kinds, row_count, len(STATUSES) * flag_count)
    table = table.reshape(row_count, len(STATUSES), flag_count)
    flags, settled = table.sum(axis=1), table[:, ~analytics.IS_OPEN].sum(axis=1)
    asked = [(measure, flags, words) for measure, words in zip(_FLAGGED, analytics.IS_FLAGGED, strict=True)]
    asked += [(M_PASSED, settled, analytics.IS_PASSED), (M_INTERVENED, settled, analytics.IS_INTERVENED)]
    found = np.stack([of[:, words].sum(axis=1) for _measure, of, words in asked], axis=1)
    refused = np.flatnonzero(records["flags"] & REFUSED)
    codes = analytics.crossed(places[refused], records["code"][refused], row_count, name_count)
    return [
        (np.arange(len(STATUSES)), table.sum(axis=2)),
        (np.array([measure for measure, _of, _words in asked]), found),
        (CODES + np.arange(name_count), codes),
    ]


def _cells_at(rows: np.ndarray, name_count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Machine, agent and type of each row's number: a machine's index, or beyond those (agent, type)."""
    own = rows - name_count
    is_machine = own < 0
    agents, types = np.divmod(own, len(ORDER_TYPES))
    return np.where(is_machine, rows, ANY), np.where(is_machine, ANY, agents), np.where(is_machine, ANY_TYPE, types)


def _entries(cells: tuple[np.ndarray, np.ndarray, np.ndarray], tables: Sequence[tuple[Any, np.ndarray]]) -> np.ndarray:
    """What is not nought in the tables (measures, rows by measures)."""
    parts = []
    for measures, table in tables:
        row, column = np.nonzero(table)
        part = np.empty(len(row), dtype=SUM)
        for name, values in zip(("machine", "agent", "order_type"), cells, strict=True):
            part[name] = values[row]
        part["measure"], part["amount"] = measures[column], table[row, column]
        parts.append(part)
    return np.concatenate(parts)


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
    counts, latencies, ordered = [], [], tuple(names)
    for part in parts:
        if part.names == ordered[: len(part.names)]:  # the same numbers stand for them
            counts.append(part.counts)
            latencies.append(part.latencies)
            continue
        renamed = np.full(ANY + 1, ANY, dtype=np.uint16)
        renamed[: len(part.names)] = [names[name] for name in part.names]
        counts.append(_renamed(part.counts, renamed, has_codes=True))
        latencies.append(_renamed(part.latencies, renamed, has_codes=False))
    fold = _added if is_folded else _side_by_side
    return Sums(fold(counts), fold(latencies), ordered, sum(part.open_orders for part in parts))


def _side_by_side(parts: Sequence[np.ndarray]) -> np.ndarray:
    # By their bytes: numpy compares the fields of every pair of arrays that it puts together.
    return np.frombuffer(b"".join(part.tobytes() for part in parts), dtype=SUM)


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
    cells = _Cells.of(sums)
    chosen = cells.chosen(agent, order_type)
    machines = None
    if agent is None and not order_type:
        machines = cells.by(cells.machine, cells.machine != ANY)
    return Metrics(
        cells.figures(chosen),
        {ORDER_TYPES[index]: each for index, each in cells.numbered_by(cells.order_type, chosen)},
        machines,
        cells.by(cells.agent, chosen),
        method="histogram",
    )


def total(sums: Sums, *, agent: str | None = None, order_type: str = "") -> Figures:
    """Figures of all these orders together, or of one agent's or type's."""
    cells = _Cells.of(sums)
    return cells.figures(cells.chosen(agent, order_type))


@dataclass(frozen=True, slots=True)
class _Cells:
    """Sums as tables: a row for each cell that occurs, a column for each measure that occurs."""

    machine: np.ndarray  # of each row; ANY where it has none
    agent: np.ndarray
    order_type: np.ndarray
    counts: np.ndarray  # (rows, count_measures)
    count_measures: np.ndarray
    latencies: np.ndarray  # (rows, buckets)
    buckets: np.ndarray
    middles_ms: np.ndarray  # of each bucket
    names: tuple[str, ...]

    @classmethod
    def of(cls, sums: Sums) -> _Cells:
        keys = [_cell_keys(entries, len(sums.names)) for entries in (sums.counts, sums.latencies)]
        rows, places = analytics.numbered(np.concatenate(keys))
        counts, count_measures = _table(sums.counts, places[: len(keys[0])], len(rows))
        latencies, buckets = _table(sums.latencies, places[len(keys[0]) :], len(rows))
        return cls(
            *_cells_at(rows, len(sums.names)), counts, count_measures, latencies, buckets,
            middle_ms(np.where(buckets < EXECUTIONS, buckets - APPROVALS, buckets - EXECUTIONS)), sums.names,
        )  # fmt: skip

    def chosen(self, agent: str | None, order_type: str) -> np.ndarray:
        """Which rows of (agent, type) are of this agent and type."""
        keep = self.machine == ANY
        if agent is not None:
            keep &= self.agent == (self.names.index(agent) if agent in self.names else ANY)
        if order_type:
            keep &= self.order_type == ORDER_TYPES.index(order_type)
        return keep

    def by(self, column: np.ndarray, chosen: np.ndarray) -> dict[str, Figures]:
        """Figures of the chosen rows by the name that ``column`` gives each."""
        return {self.names[index]: figures for index, figures in self.numbered_by(column, chosen)}

    def numbered_by(self, column: np.ndarray, chosen: np.ndarray) -> list[tuple[int, Figures]]:
        present = np.unique(column[chosen]).tolist()
        return [(index, self.figures(chosen & (column == index))) for index in present]

    def figures(self, chosen: np.ndarray) -> Figures:
        """Of these rows together."""
        amounts = dict(zip(self.count_measures.tolist(), _sum(self.counts, chosen), strict=True))
        latencies = np.array(_sum(self.latencies, chosen), dtype=np.int64)
        is_approval = self.buckets < EXECUTIONS
        return Figures(
            {status: amounts.get(index, 0) for index, status in enumerate(STATUSES)},
            amounts.get(M_REFUSED, 0),
            amounts.get(M_REJECTED, 0),
            amounts.get(M_APPROVED, 0),
            amounts.get(M_PASSED, 0),
            amounts.get(M_INTERVENED, 0),
            {self.names[key - CODES]: amount for key, amount in amounts.items() if key >= CODES and amount},
            _latency(latencies * is_approval, self.middles_ms, amounts.get(M_APPROVAL_MS, 0)),
            _latency(latencies * ~is_approval, self.middles_ms, amounts.get(M_EXECUTION_MS, 0)),
        )


def _cell_keys(entries: np.ndarray, name_count: int) -> np.ndarray:
    """A number for each entry's cell: a machine's index, or beyond those (agent, type)."""
    own = name_count + entries["agent"].astype(np.int64) * len(ORDER_TYPES) + entries["order_type"]
    return np.where(entries["machine"] == ANY, own, entries["machine"])


def _table(entries: np.ndarray, rows: np.ndarray, row_count: int) -> tuple[np.ndarray, np.ndarray]:
    """The entries' amounts as (rows, measures), and which measure each column is."""
    measures, columns = analytics.numbered(entries["measure"])
    flat = rows.astype(np.int64) * len(measures) + columns
    # Through 53 bits: nine thousand years of milliseconds.
    added = np.bincount(flat, weights=entries["amount"], minlength=row_count * len(measures))
    return added.astype(np.int64).reshape(row_count, len(measures)), measures


def _sum(table: np.ndarray, chosen: np.ndarray) -> list[int]:
    found: list[int] = table[chosen].sum(axis=0).tolist()
    return found


def _latency(per_bucket: np.ndarray, middles_ms: np.ndarray, total_ms: int) -> Latency:
    """Of a histogram: mean exact, the rest as far off as its buckets are wide."""
    buckets = np.flatnonzero(per_bucket)
    if not len(buckets):
        return Latency(0)
    ends, middles = np.cumsum(per_bucket[buckets]), middles_ms[buckets]
    count = int(ends[-1])

    # The values at these places, from 0, in ascending order: below each percentile, and the next.
    places = [(count - 1) * share for share in SHARES]
    ranks = [rank for place in places for rank in (math.floor(place), min(math.floor(place) + 1, count - 1))]
    ranked = middles[np.searchsorted(ends, ranks, side="right")].tolist()
    p50, p95, p99 = (
        low + (high - low) * (place - math.floor(place))
        for place, low, high in zip(places, ranked[::2], ranked[1::2], strict=True)
    )
    return Latency(count, total_ms / count, p50, p95, p99, float(middles[-1]))
