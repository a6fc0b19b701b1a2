"""What a set of orders says of itself: rates, percentiles, series, sums that are merged."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from commands.history import analytics, sums
from commands.history.analytics import Figures, Metrics, OrderFact
from commands.lifecycle import Status

AT = dt.datetime(2026, 10, 25, 0, 0, tzinfo=dt.UTC)  # the day Berlin has 25 hours
ENDED = {Status.COMPLETED, Status.FAILED}


def fact(minute: float = 0, status: str = "COMPLETED", **more: Any) -> OrderFact:
    values = {"machine_id": "m1", "agent_id": "a1", "order_type": "SET_POWER"} | more
    return OrderFact(AT + dt.timedelta(minutes=minute), status=status, **values)


@st.composite
def facts(draw: st.DrawFn) -> OrderFact:
    status = draw(st.sampled_from(list(Status)))
    agent = draw(st.sampled_from(["", "a1", "a2", "a3"]))
    is_refused = status is Status.REJECTED and draw(st.booleans())
    is_approved = status not in (Status.REJECTED, Status.PROPOSED) and draw(st.booleans())
    return OrderFact(
        AT + dt.timedelta(microseconds=draw(st.integers(0, 40 * 86_400 * 10**6))),
        draw(st.sampled_from(["m1", "m2", "m3"])),
        agent,
        draw(st.sampled_from(analytics.ORDER_TYPES)),
        status.value,
        is_refused=is_refused,
        refusal_code=draw(st.sampled_from(["above_ceiling", "too_soon", "m1"])) if is_refused else "",
        is_rejected=status is Status.REJECTED and not is_refused,
        is_approved=is_approved,
        is_intervened=bool(agent) and status in (Status.REJECTED, Status.ABORTED) and draw(st.booleans()),
        approval_ms=draw(st.integers(0, 300_000)) if is_approved else None,
        execution_ms=draw(st.integers(0, 2**33)) if status in ENDED else None,
    )


MANY = st.lists(facts(), max_size=60)


def every(metrics: Metrics) -> list[Figures]:
    parts = [metrics.by_order_type, metrics.by_machine or {}, metrics.by_agent]
    return [metrics.total, *(figures for part in parts for figures in part.values())]


# --- rates


def test_where_nothing_was_settled_a_rate_is_null_and_never_nought_by_nought() -> None:
    found = analytics.measure(analytics.of_facts([fact(status="PENDING_APPROVAL")])).total.to_json()
    rates = [name for name in found if name.endswith("_rate")]
    assert {name: found[name] for name in rates} == {
        "success_rate": None, "failure_rate": None, "rejection_rate": None, "refusal_rate": 0.0,
        "human_intervention_rate": None,
    }  # fmt: skip
    assert found["approval_latency"] == {
        "count": 0, "mean_ms": None, "p50_ms": None, "p95_ms": None, "p99_ms": None, "max_ms": None
    }  # fmt: skip
    assert analytics.NO_ORDERS.to_json()["refusal_rate"] is None


def test_success_is_of_settled_executions_alone() -> None:
    statuses = ["COMPLETED"] * 3 + ["FAILED"] + ["ABORTED", "TIMEOUT", "EXECUTING", "IN_DOUBT", "APPROVED"]
    found = analytics.measure(analytics.of_facts([fact(status=word) for word in statuses])).total.to_json()
    assert (found["success_rate"], found["failure_rate"], found["settled_executions"]) == (0.75, 0.25, 4)
    assert found["orders"] == 9 and found["by_status"]["IN_DOUBT"] == 1


def test_a_person_rejects_the_governor_refuses() -> None:
    rows = [fact(status="REJECTED", is_refused=True, refusal_code="too_soon")] * 3
    rows += [fact(status="REJECTED", is_rejected=True, is_intervened=True)]
    rows += [fact(is_approved=True, approval_ms=10)] * 3
    found = analytics.measure(analytics.of_facts(rows)).total.to_json()
    assert (found["rejection_rate"], found["refusal_rate"]) == (0.25, 3 / 7)
    assert found["refusals"] == [{"code": "too_soon", "count": 3, "rate": 3 / 7}]
    assert found["human_intervention_rate"] == 0.25  # of the four that the governor let through


def test_people_and_open_orders_do_not_count_towards_human_intervention() -> None:
    rows = [fact(agent_id=""), fact(status="PENDING_APPROVAL"), fact(), fact(status="ABORTED", is_intervened=True)]
    assert analytics.measure(analytics.of_facts(rows)).total.to_json()["human_intervention_rate"] == 0.5


@settings(suppress_health_check=[HealthCheck.too_slow])  # drawing many facts is slow on a full machine
@given(MANY)
def test_every_rate_lies_between_nought_and_one(rows: list[OrderFact]) -> None:
    orders = analytics.of_facts(rows)
    for figures in every(analytics.measure(orders)) + every(sums.measure(sums.sums_of(orders))):
        document = figures.to_json()
        for name, value in document.items():
            if name.endswith("_rate"):
                assert value is None or 0 <= value <= 1, name
        for row in document["refusals"]:
            assert 0 < row["rate"] <= 1


@given(MANY)
def test_parts_add_up_to_the_whole(rows: list[OrderFact]) -> None:
    metrics = analytics.measure(analytics.of_facts(rows))
    for part in (metrics.by_order_type, metrics.by_machine or {}, metrics.by_agent):
        assert sum(figures.orders for figures in part.values()) == len(rows) == metrics.total.orders
        assert sum(figures.refused for figures in part.values()) == metrics.total.refused
        for status in analytics.STATUSES:
            assert sum(figures.by_status[status] for figures in part.values()) == metrics.total.by_status[status]
        assert sum(figures.execution_duration.count for figures in part.values()) == (
            metrics.total.execution_duration.count
        )


# --- percentiles


@given(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=200))
def test_percentiles_are_numpys_linear_interpolation_and_lie_between_the_extremes(values: list[int]) -> None:
    found = analytics.latency_of(np.sort(np.array(values, dtype=np.int32)))
    expected = np.percentile(np.array(values, dtype=np.float64), [50, 95, 99], method="linear")
    assert [found.p50_ms, found.p95_ms, found.p99_ms] == pytest.approx(expected, rel=1e-12, abs=1e-9)
    assert min(values) <= found.p50_ms <= found.p95_ms <= found.p99_ms <= found.max_ms == max(values)  # type: ignore[operator]
    assert found.mean_ms == pytest.approx(np.mean(np.array(values, dtype=np.float64)))


def test_the_predecessors_sample_gives_what_interpolation_gives() -> None:
    sample = np.sort(np.array([100, 200, 500, 1000, 1500, 2000, 3000, 5000, 900, 2300]))
    found = analytics.latency_of(sample)
    assert (found.p50_ms, found.max_ms) == (1250.0, 5000.0)
    assert found.p95_ms == pytest.approx(4100.0)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-1, 10_000)), max_size=80))
def test_grouped_latencies_are_each_groups_own(pairs: list[tuple[int, int]]) -> None:
    keys, values = (np.array(column, dtype=np.int64) for column in (zip(*pairs, strict=True) if pairs else ([], [])))
    for key, found in enumerate(analytics.ordered(values).by(keys, 5)):
        own = sorted(value for each, value in pairs if each == key and value >= 0)
        assert found == analytics.latency_of(np.array(own, dtype=np.int64))


@given(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=300))
def test_a_merged_histogram_is_at_most_two_percent_off(values: list[int]) -> None:
    half = len(values) // 2
    parts = [
        sums.sums_of(analytics.of_facts([fact(execution_ms=value) for value in part]))
        for part in (values[:half], values[half:])
    ]
    found = sums.measure(sums.joined(parts)).total.execution_duration
    exact = analytics.latency_of(np.sort(np.array(values)))
    assert found.count == exact.count and found.mean_ms == pytest.approx(exact.mean_ms)
    for name in ("p50_ms", "p95_ms", "p99_ms", "max_ms"):
        assert getattr(found, name) == pytest.approx(getattr(exact, name), rel=0.02), name
    assert found.p50_ms <= found.p95_ms <= found.p99_ms <= found.max_ms  # type: ignore[operator]


def test_a_bucket_tells_no_value_more_than_one_percent_wrong() -> None:
    values = np.unique(np.round(np.logspace(0, np.log10(2**31 - 1), 20_000)).astype(np.int64))
    told = sums.middle_ms(sums.bucket_of(values))
    assert np.max(np.abs(told - values) / values) <= 0.01 + 1e-6
    assert sums.middle_ms(sums.bucket_of(np.array([0])))[0] == 0


# --- sums


@given(MANY, st.integers(1, 5))
@settings(max_examples=50)
def test_sums_of_pieces_say_what_the_orders_say(rows: list[OrderFact], pieces: int) -> None:
    parts = [sums.sums_of(analytics.of_facts(rows[place::pieces])) for place in range(pieces)]
    for is_folded in (True, False):
        summed = sums.measure(sums.joined(parts, is_folded=is_folded))
        exact = analytics.measure(analytics.of_facts(rows))
        assert_same_counts(summed.total, exact.total)
        for mine, theirs in (
            (summed.by_order_type, exact.by_order_type),
            (summed.by_machine or {}, exact.by_machine or {}),
            (summed.by_agent, exact.by_agent),
        ):
            assert set(mine) == set(theirs)
            for key in mine:
                assert_same_counts(mine[key], theirs[key])


def assert_same_counts(mine: Figures, theirs: Figures) -> None:
    first, second = mine.to_json(), theirs.to_json()
    for document in (first, second):
        for name in ("approval_latency", "execution_duration"):
            document[name] = (document[name]["count"], pytest.approx(document[name]["mean_ms"]))
    assert first == second


@given(MANY)
def test_an_agents_sums_are_the_sums_of_its_orders(rows: list[OrderFact]) -> None:
    whole = sums.sums_of(analytics.of_facts(rows))
    for agent in ("", "a1", "a9"):
        own = analytics.of_facts([row for row in rows if row.agent_id == agent])
        assert_same_counts(sums.total(whole, agent=agent), analytics.measure(own).total)
    of_type = analytics.of_facts([row for row in rows if row.order_type == "SET_FAN" and row.agent_id == "a1"])
    assert_same_counts(sums.total(whole, agent="a1", order_type="SET_FAN"), analytics.measure(of_type).total)


@given(MANY)
def test_orders_joined_from_pieces_are_the_orders(rows: list[OrderFact]) -> None:
    halves = [analytics.of_facts(rows[::2]), analytics.of_facts(rows[1::2])]
    assert analytics.measure(analytics.joined(halves)) == analytics.measure(analytics.of_facts(rows))


# --- windows and series


def test_a_window_is_half_open() -> None:
    orders = analytics.of_facts([fact(0), fact(60)])
    hour = dt.timedelta(hours=1)
    assert len(orders.within(AT, AT + hour).records) == 1
    assert len(orders.within(AT, AT + hour + dt.timedelta(microseconds=1)).records) == 2
    assert len(orders.within(AT + dt.timedelta(microseconds=1), AT + hour).records) == 0


@given(
    MANY,
    st.integers(0, 40 * 86_400),
    st.integers(0, 40 * 86_400),
    st.sampled_from([300, 3600, 86_400, 604_800]),
)
@settings(max_examples=60)
def test_a_series_adds_up_to_its_total(rows: list[OrderFact], first_s: int, second_s: int, bucket_s: int) -> None:
    begin, end = (AT + dt.timedelta(seconds=each) for each in sorted((first_s, second_s)))
    if (end - begin).total_seconds() / bucket_s > 2000:
        bucket_s = 86_400
    bounds = analytics.bucket_bounds(begin, end, bucket_s)
    orders = analytics.of_facts(rows)
    buckets = analytics.series(orders, bounds)
    total = analytics.measure(orders.within(begin, end)).total
    assert sum(bucket.figures.orders for bucket in buckets) == total.orders
    assert sum(bucket.figures.execution_duration.count for bucket in buckets) == total.execution_duration.count
    for before, after in zip(buckets, buckets[1:], strict=False):
        assert before.end == after.begin
    if buckets:
        assert (buckets[0].begin, buckets[-1].end) == (begin, end)


def test_hours_without_orders_are_told_as_zeros() -> None:
    orders = analytics.of_facts([fact(10), fact(190)])
    buckets = analytics.series(orders, analytics.bucket_bounds(AT, AT + dt.timedelta(hours=5), 3600))
    assert [bucket.figures.orders for bucket in buckets] == [1, 0, 0, 1, 0]
    assert buckets[1].figures == analytics.NO_ORDERS


def test_the_day_the_clocks_change_has_twenty_four_hours_like_any_other() -> None:
    for day in (AT, dt.datetime(2026, 3, 29, tzinfo=dt.UTC)):
        assert len(analytics.bucket_bounds(day, day + dt.timedelta(days=1), 3600)) == 25
        assert analytics.floor_to(day + dt.timedelta(hours=23, minutes=59), 86_400) == day
    assert analytics.floor_to(AT, 604_800).weekday() == 0


def test_a_cut_window_has_cut_buckets_at_its_ends() -> None:
    begin, end = AT + dt.timedelta(minutes=20), AT + dt.timedelta(minutes=130)
    bounds = analytics.bucket_bounds(begin, end, 3600)
    assert [(at - AT).total_seconds() / 60 for at in bounds] == [20, 60, 120, 130]
    assert analytics.bucket_bounds(end, end, 3600) == []
