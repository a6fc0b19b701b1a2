"""The order history, asked and summed: closed spans once, the running hour from rows. docs/analytics.md says how.

**An order belongs to the hour it was proposed in**, whatever becomes of it later. An hour is summed ten minutes after
its end; as long as an order of it is not settled it is summed again. Longer spans are made of the hours below them.
So a question costs the same however long the history is: at most a week of hours, or some tens of spans.
"""

from __future__ import annotations

import datetime as dt
import functools
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db import connection, transaction

from commands.history import analytics, order_rows
from commands.history import sums as order_sums
from commands.history.analytics import (
    DAY_S,
    EXACT_WINDOW_S,
    HOUR_S,
    RECORD,
    WEEK_S,
    Bucket,
    Figures,
    Metrics,
    Orders,
    floor_to,
)
from commands.history.sums import SUM, Sums
from commands.models import OrderHour, Proposal
from kernel import prepared
from kernel.models import Organization
from kernel.prepared import utc

SPANS_S = (HOUR_S, DAY_S, WEEK_S, 8 * WEEK_S)
#: An hour is summed so long after its end: whoever read the clock in it has committed by then.
GRACE = dt.timedelta(minutes=10)
AGAIN_AFTER = dt.timedelta(seconds=60)
MAX_HOURS_AT_ONCE, MAX_AGAIN_AT_ONCE = 48, 20
ALL = ""  # machine_key of a row over all machines


@dataclass(frozen=True, slots=True)
class Filter:
    """What a question is limited to. ``agent`` "" asks for people's orders, None for everybody's."""

    machine: str = ""
    agent: str | None = None
    order_type: str = ""


EVERYTHING = Filter()


def orders_between(organization_id: str, begin: dt.datetime, end: dt.datetime, only: Filter = EVERYTHING) -> Orders:
    """Orders proposed in [begin, end), from the rows."""
    if begin >= end:
        return Orders(np.empty(0, dtype=RECORD))
    return order_rows.read(
        organization_id, begin, end, machine=only.machine, agent=only.agent, order_type=only.order_type
    )


# --- summing


def sum_due(*, now: dt.datetime) -> int:
    """Sum hours and longer spans that have closed, and again those with orders that were open; how many hours."""
    done = 0
    for organization_id in Organization.objects.values_list("pk", flat=True):
        done += _sum_closed(organization_id, now)
    again = OrderHour.objects.filter(open_orders__gt=0, span_s=HOUR_S, summed_at__lte=now - AGAIN_AFTER)
    for organization_id, hour_at in again.order_by("summed_at").values_list("organization_id", "hour_at")[
        :MAX_AGAIN_AT_ONCE
    ]:
        sum_hour(organization_id, hour_at, now=now)
        _sum_longer_again(organization_id, hour_at, now)
        done += 1
    return done


def summed_until(organization_id: str, span_s: int = HOUR_S) -> dt.datetime | None:
    """Where the summed spans of this length end; None before the first."""
    newest = (
        OrderHour.objects.filter(organization_id=organization_id, machine_key=ALL, span_s=span_s)
        .order_by("-hour_at")
        .values_list("hour_at", flat=True)
        .first()
    )
    return None if newest is None else newest + dt.timedelta(seconds=span_s)


_NEWEST = (
    f"SELECT max(hour_at) FROM {OrderHour._meta.db_table} "
    "WHERE organization_id = %(organization)s AND machine_key = '' AND span_s = "
)
_NEWEST_OF_ALL = "SELECT " + ", ".join(f"({_NEWEST}{span_s})" for span_s in SPANS_S)


def _all_summed_until(organization_id: str) -> dict[int, dt.datetime | None]:
    """``summed_until`` of every length, in one statement."""
    (newest,) = prepared.run(_NEWEST_OF_ALL, {"organization": organization_id})
    ends = zip(SPANS_S, map(utc, newest), strict=True)
    return {span_s: None if at is None else at + dt.timedelta(seconds=span_s) for span_s, at in ends}


def _sum_closed(organization_id: str, now: dt.datetime) -> int:
    closed = floor_to(now - GRACE, HOUR_S)
    begin, done = summed_until(organization_id), 0
    while done < MAX_HOURS_AT_ONCE:
        hour_at = _next_hour(organization_id, begin, closed)
        if hour_at is None:
            break
        sum_hour(organization_id, hour_at, now=now)
        begin = hour_at + dt.timedelta(seconds=HOUR_S)
        done += 1
    # Whatever lies before the next unsummed order is complete, the empty hours between too.
    complete = closed if done < MAX_HOURS_AT_ONCE else begin
    if begin is not None and complete is not None:
        for below_s, span_s in zip(SPANS_S, SPANS_S[1:], strict=False):
            _sum_spans(organization_id, span_s, below_s, complete, now)
    return done


def _next_hour(organization_id: str, begin: dt.datetime | None, closed: dt.datetime) -> dt.datetime | None:
    """The first closed hour from ``begin`` on in which anything was proposed."""
    rows = Proposal.objects.filter(organization_id=organization_id, proposed_at__lt=closed)
    if begin is not None:
        rows = rows.filter(proposed_at__gte=begin)
    first = rows.order_by("proposed_at").values_list("proposed_at", flat=True).first()
    return None if first is None else floor_to(first, HOUR_S)


def sum_hour(organization_id: str, hour_at: dt.datetime, *, now: dt.datetime) -> None:
    """Sum one hour from its rows; again with the same answer, whoever else does it."""
    orders = orders_between(organization_id, hour_at, hour_at + dt.timedelta(seconds=HOUR_S))
    orders = analytics.sorted_names(orders)
    _keep(
        OrderHour(
            organization_id=organization_id, span_s=HOUR_S, hour_at=hour_at, machine_key=ALL, names=list(orders.names),
            counts=orders.records.tobytes(), latencies=b"", open_orders=orders.open_count, summed_at=now,
        )
    )  # fmt: skip


def _keep(*rows: OrderHour) -> None:
    OrderHour.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["organization", "machine_key", "span_s", "hour_at"],
        update_fields=["names", "counts", "latencies", "open_orders", "summed_at"],
    )


def _sum_spans(organization_id: str, span_s: int, below_s: int, complete: dt.datetime, now: dt.datetime) -> None:
    """Spans of this length that lie wholly before ``complete`` and have orders, from where we stopped."""
    done_until = summed_until(organization_id, span_s)
    below = OrderHour.objects.filter(organization_id=organization_id, machine_key=ALL, span_s=below_s)
    while True:
        rows = below.filter(hour_at__gte=done_until) if done_until is not None else below
        first = rows.order_by("hour_at").values_list("hour_at", flat=True).first()
        if first is None:
            return
        begin = floor_to(first, span_s)
        done_until = begin + dt.timedelta(seconds=span_s)
        if done_until > complete:
            return
        _sum_span(organization_id, begin, span_s, below_s, now)


def _sum_span(organization_id: str, begin: dt.datetime, span_s: int, below_s: int, now: dt.datetime) -> None:
    """One longer span, over all machines and for each, of the spans below it."""
    end = begin + dt.timedelta(seconds=span_s)
    if below_s == HOUR_S:
        orders = _hours(organization_id, begin, end)
        machines = [orders.names[index] for index in np.unique(orders.records["machine"]).tolist()]
        sums = {ALL: order_sums.sums_of(orders)}
        sums |= {machine: order_sums.sums_of(orders.only(machine=machine)) for machine in machines}
    else:
        parts: dict[str, list[Sums]] = {}
        for machine_key, part in _every_span(organization_id, begin, end, below_s):
            parts.setdefault(machine_key, []).append(part)
        sums = {machine_key: order_sums.joined(each) for machine_key, each in parts.items()}
    with transaction.atomic():
        _keep(
            *(
                OrderHour(
                    organization_id=organization_id, span_s=span_s, hour_at=begin, machine_key=machine_key,
                    names=list(each.names), counts=each.counts.tobytes(), latencies=each.latencies.tobytes(),
                    open_orders=each.open_orders, summed_at=now,
                )
                for machine_key, each in sums.items()
            )
        )  # fmt: skip


def _sum_longer_again(organization_id: str, hour_at: dt.datetime, now: dt.datetime) -> None:
    for below_s, span_s in zip(SPANS_S, SPANS_S[1:], strict=False):
        begin = floor_to(hour_at, span_s)
        rows = OrderHour.objects.filter(organization_id=organization_id, machine_key=ALL, span_s=span_s, hour_at=begin)
        if rows.exists():
            _sum_span(organization_id, begin, span_s, below_s, now)


# --- reading


_SUMMED = (
    f" FROM {OrderHour._meta.db_table} WHERE organization_id = %(organization)s AND machine_key = %(machine)s AND "
)
_RUN = "span_s = {span_s} AND hour_at >= %({begin})s AND hour_at < %({end})s"
Run = tuple[int, dt.datetime, dt.datetime]  # length of the spans, [from, to) of where they begin


def _summed(columns: str, organization_id: str, machine_key: str, runs: Sequence[Run]) -> list[tuple[Any, ...]]:
    """These columns of the summed spans of all the runs, of one machine or of all together (ALL), in one statement."""
    at = connection.ops.adapt_datetimefield_value
    values: dict[str, Any] = {"organization": organization_id, "machine": machine_key}
    asked = []
    for place, (span_s, begin, end) in enumerate(runs):
        values |= {f"begin{place}": at(begin), f"end{place}": at(end)}
        asked.append("(" + _RUN.format(span_s=int(span_s), begin=f"begin{place}", end=f"end{place}") + ")")
    statement = f"SELECT CAST(names AS text), counts, {columns}{_SUMMED}({' OR '.join(asked)}) ORDER BY hour_at"
    return prepared.run(statement, values, is_binary=True)


@functools.lru_cache(maxsize=1024)
def _names_of(names: str) -> tuple[str, ...]:
    """A row's names, of their JSON text: a week's hours mostly have the same."""
    return tuple(json.loads(names))


def _hours(organization_id: str, begin: dt.datetime, end: dt.datetime) -> Orders:
    """The records of summed hours that begin in [begin, end)."""
    alike: dict[tuple[str, ...], list[bytes]] = {}
    for names, counts, _ in _summed("open_orders", organization_id, ALL, [(HOUR_S, begin, end)]):
        alike.setdefault(_names_of(names), []).append(bytes(counts))
    parts = [Orders(np.frombuffer(b"".join(each), dtype=RECORD), names) for names, each in alike.items()]
    return parts[0] if len(parts) == 1 else analytics.joined(parts)


def _spans(
    organization_id: str, runs: Sequence[Run], machine_key: str, *, has_latencies: bool = True
) -> list[tuple[dt.datetime, Sums]]:
    """Where each summed longer span of the runs begins, and its sums."""
    if not runs:
        return []
    columns = "hour_at, open_orders" + (", latencies" if has_latencies else "")
    found = []
    for names, counts, hour_at, open_orders, *latencies in _summed(columns, organization_id, machine_key, runs):
        sums = _sums(counts, latencies[0] if latencies else b"", _names_of(names), open_orders)
        begin = utc(hour_at)
        if begin is not None:
            found.append((begin, sums))
    return found


def _every_span(organization_id: str, begin: dt.datetime, end: dt.datetime, span_s: int) -> Iterable[tuple[str, Sums]]:
    """Summed longer spans that begin in [begin, end): whose each is (ALL: all machines'), and its sums."""
    rows = OrderHour.objects.filter(
        organization_id=organization_id, span_s=span_s, hour_at__gte=begin, hour_at__lt=end
    ).order_by("hour_at", "machine_key")
    for key, names, open_orders, counts, latencies in rows.values_list(
        "machine_key", "names", "open_orders", "counts", "latencies"
    ):
        yield key, _sums(counts, latencies, tuple(names), open_orders)


def _sums(counts: Any, latencies: Any, names: tuple[str, ...], open_orders: int) -> Sums:
    """A longer span's columns as its sums."""
    return Sums(np.frombuffer(bytes(counts), dtype=SUM), np.frombuffer(bytes(latencies), dtype=SUM), names, open_orders)


def orders_in(
    organization_id: str,
    begin: dt.datetime,
    end: dt.datetime,
    only: Filter = EVERYTHING,
    *,
    until: dt.datetime | None = None,
) -> Orders:
    """Orders proposed in [begin, end): closed hours as they were summed, the rest from rows. For up to a week.
    ``until``: where the summed hours end, for one who has asked."""
    until = until or summed_until(organization_id) or begin
    parts = []
    if begin < until:
        hours = _hours(organization_id, floor_to(begin, HOUR_S), min(end, until))
        hours = hours.within(begin, end)
        parts.append(hours.only(machine=only.machine, agent=only.agent, order_type=only.order_type))
    parts.append(orders_between(organization_id, max(begin, until), end, only))
    return analytics.joined(parts)


def sums_in(
    organization_id: str,
    begin: dt.datetime,
    end: dt.datetime,
    only: Filter = EVERYTHING,
    *,
    has_latencies: bool = True,
) -> Sums:
    """Orders proposed in [begin, end), summed: the longest spans that fit, hours and rows at the edges. Of one machine
    when the filter names one; agent and type are chosen afterwards (``order_sums.measure``)."""
    whole, until = Filter(machine=only.machine), _all_summed_until(organization_id)
    runs = _covered(begin, end, [(span_s, until[span_s]) for span_s in reversed(SPANS_S[1:])])
    summed = [run for run in runs if run[0]]
    parts = [part for _at, part in _spans(organization_id, summed, only.machine or ALL, has_latencies=has_latencies)]
    for span_s, first, last in runs:
        if span_s == 0:  # order by order
            orders = orders_in(organization_id, first, last, whole, until=until[HOUR_S] or first)
            parts.append(order_sums.sums_of(orders))
    return order_sums.joined(parts, is_folded=False)


def _covered(
    begin: dt.datetime, end: dt.datetime, spans: Sequence[tuple[int, dt.datetime | None]]
) -> list[tuple[int, dt.datetime, dt.datetime]]:
    """[begin, end) as runs of spans, each as long as possible: (span, from, to); span 0: order by order."""
    if begin >= end:
        return []
    if not spans:
        return [(0, begin, end)]
    (span_s, until), shorter = spans[0], spans[1:]
    first = -(-(begin - analytics.ANCHOR) // dt.timedelta(seconds=span_s)) * dt.timedelta(seconds=span_s)
    inner_begin = analytics.ANCHOR + first
    inner_end = floor_to(min(end, until), span_s) if until is not None else begin
    if inner_begin >= inner_end:
        return _covered(begin, end, shorter)
    return [
        *_covered(begin, inner_begin, shorter), (span_s, inner_begin, inner_end), *_covered(inner_end, end, shorter),
    ]  # fmt: skip


def is_exact(begin: dt.datetime, end: dt.datetime) -> bool:
    """Whether latencies of this window are exact."""
    return (end - begin).total_seconds() <= EXACT_WINDOW_S


def metrics_of(organization_id: str, begin: dt.datetime, end: dt.datetime, only: Filter = EVERYTHING) -> Metrics:
    """Everything of the orders proposed in [begin, end)."""
    if is_exact(begin, end):
        return analytics.measure(orders_in(organization_id, begin, end, only))
    sums = sums_in(organization_id, begin, end, only)
    measured = order_sums.measure(sums, agent=only.agent, order_type=only.order_type)
    if not only.machine:
        return measured
    # A machine's rows hold that machine alone.
    return Metrics(
        measured.total, measured.by_order_type, {only.machine: measured.total}, measured.by_agent, measured.method
    )


def recent_metrics(organization_id: str, now: dt.datetime, only: Filter = EVERYTHING) -> tuple[Metrics, Metrics]:
    """Of the last 24 hours and of the last 7 days, from one reading."""
    week = orders_in(organization_id, now - dt.timedelta(days=7), now, only)
    return analytics.measure(week.within(now - dt.timedelta(hours=24), now)), analytics.measure(week)


def series_of(
    organization_id: str, begin: dt.datetime, end: dt.datetime, bucket_s: int, only: Filter = EVERYTHING
) -> list[Bucket]:
    """Figures of each bucket of [begin, end); where `is_exact` says no, from sums of hours, without percentiles."""
    bounds = analytics.bucket_bounds(begin, end, bucket_s)
    if is_exact(begin, end):
        return analytics.series(orders_in(organization_id, begin, end, only), bounds)
    step = dt.timedelta(seconds=bucket_s)
    closed = summed_until(organization_id, bucket_s) or begin
    pairs = list(itertools.pairwise(bounds))
    summed = [pair for pair in pairs if pair[1] - pair[0] == step and pair[1] <= closed]
    rows = _summed_figures(organization_id, begin, min(end, closed), bucket_s, only) if summed else {}
    found = [Bucket(*pair, rows.get(pair[0], analytics.NO_ORDERS)) for pair in summed]
    for run in _runs([pair for pair in pairs if pair not in set(summed)]):
        orders = orders_in(organization_id, run[0], run[-1], only)
        found += analytics.series(orders, run)
    return sorted(found, key=lambda bucket: bucket.begin)


def _summed_figures(
    organization_id: str, begin: dt.datetime, end: dt.datetime, span_s: int, only: Filter
) -> dict[dt.datetime, Figures]:
    rows = _spans(organization_id, [(span_s, begin, end)], only.machine or ALL, has_latencies=False)
    return {at: order_sums.total(sums, agent=only.agent, order_type=only.order_type) for at, sums in rows}


def _runs(pairs: Sequence[tuple[dt.datetime, dt.datetime]]) -> list[list[dt.datetime]]:
    """Bounds of neighbouring buckets together."""
    runs: list[list[dt.datetime]] = []
    for begin, end in pairs:
        if runs and runs[-1][-1] == begin:
            runs[-1].append(end)
        else:
            runs.append([begin, end])
    return runs
