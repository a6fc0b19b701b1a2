"""The history as it was summed says what the rows say, whenever it was summed and however it is asked."""

from __future__ import annotations

import datetime as dt
import random
from typing import Any

import pytest
from django.db.models import QuerySet

from commands.history import analytics
from commands.history import questions as order_history
from commands.history import sums as order_sums
from commands.history.questions import Filter
from commands.models import OrderHour, Proposal
from commands.tests.orders_at import GuardsAside, order_at, refused_at
from kernel.models import Agent, Organization, Site
from roasts.models import Machine

pytestmark = pytest.mark.django_db
MONDAY = dt.datetime(2026, 9, 7, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)


@pytest.fixture
def second_machine(machine: Machine) -> Machine:
    return Machine.objects.create(
        organization=machine.organization, site=machine.site, name="Second", driver_kind="bullet-r1",
        created_at=machine.created_at,
    )  # fmt: skip


@pytest.fixture
def elsewhere(people: Any, now: dt.datetime) -> Machine:
    """A machine of another organisation."""
    site = Site.objects.create(organization=people.stranger_organization, name="There")
    return Machine.objects.create(
        organization=people.stranger_organization, site=site, name="Theirs", driver_kind="bullet-r1", created_at=now
    )


def spans(organization: Organization) -> QuerySet[OrderHour]:
    return OrderHour.objects.filter(organization=organization, machine_key="")


def fill(machines: list[Machine], agent: Agent, days: int, count: int) -> None:
    """Orders of every kind over ``days`` days from MONDAY."""
    draw = random.Random(3)
    with GuardsAside():
        for _ in range(count):
            at = MONDAY + dt.timedelta(seconds=draw.uniform(0, days * 86_400))
            machine, who = draw.choice(machines), draw.choice([agent, agent, None])
            kind = draw.randrange(5)
            if kind == 0:
                refused_at(machine, at, agent, draw.choice(["too_soon", "above_ceiling"]))
                continue
            if who is None:
                order_at(machine, at, draw.choice(["COMPLETED", "FAILED"]), proposer_user=PERSON[0],
                         took_s=draw.uniform(0.2, 3), order_type=draw.choice(["SET_FAN", "COOL"]))  # fmt: skip
            else:
                status = draw.choice(["COMPLETED", "COMPLETED", "FAILED", "TIMEOUT", "ABORTED"])
                order_at(machine, at, status, agent=who, took_s=draw.uniform(0.2, 3))


PERSON: list[Any] = []


@pytest.fixture(autouse=True)
def _person(people: Any) -> None:
    PERSON[:] = [people.operator]


def summed_at(now: dt.datetime) -> None:
    while order_history.sum_due(now=now):
        pass


def test_an_hour_is_summed_ten_minutes_after_its_end_and_not_before(machine: Machine, agent: Agent) -> None:
    order_at(machine, MONDAY, agent=agent)
    assert order_history.sum_due(now=MONDAY + HOUR + dt.timedelta(minutes=9, seconds=59)) == 0
    assert not spans(machine.organization).exists()
    assert order_history.sum_due(now=MONDAY + HOUR + dt.timedelta(minutes=10)) == 1
    assert spans(machine.organization).get().hour_at == MONDAY


def test_what_was_summed_says_what_the_rows_say(
    machine: Machine, second_machine: Machine, elsewhere: Machine, agent: Agent
) -> None:
    fill([machine, second_machine], agent, 70, 400)
    with GuardsAside():
        order_at(elsewhere, MONDAY + HOUR, agent=agent)
    now, house = MONDAY + dt.timedelta(days=70), machine.organization.pk
    windows = [
        (MONDAY, MONDAY + dt.timedelta(days=7)),
        (MONDAY + dt.timedelta(hours=5, minutes=17), MONDAY + dt.timedelta(days=6, minutes=3)),
        (MONDAY + dt.timedelta(days=60), now),
    ]
    filters = [
        Filter(), Filter(machine=machine.pk), Filter(agent=agent.pk), Filter(agent=""), Filter(order_type="SET_FAN"),
        Filter(machine=second_machine.pk, agent=agent.pk, order_type="SET_POWER"), Filter(machine="mch_none"),
    ]  # fmt: skip
    before = [order_history.metrics_of(house, *window, only) for window in windows[:2] for only in filters]
    assert before[0].total.orders > 20 and not OrderHour.objects.exists()
    summed_at(now)
    after = [order_history.metrics_of(house, *window, only) for window in windows[:2] for only in filters]
    assert before == after
    assert spans(machine.organization).filter(span_s=8 * analytics.WEEK_S).exists()
    for only in filters:
        for begin, end in [(MONDAY, now), (MONDAY + dt.timedelta(days=3, minutes=7), now - dt.timedelta(hours=30))]:
            exact = analytics.measure(order_history.orders_between(house, begin, end, only)).total
            summed = order_history.metrics_of(house, begin, end, only)
            assert summed.method == "histogram"
            assert (summed.total.by_status, summed.total.refusals) == (exact.by_status, exact.refusals)
            assert summed.total.execution_duration.count == exact.execution_duration.count
            if exact.execution_duration.count:
                p95 = (summed.total.execution_duration.p95_ms, exact.execution_duration.p95_ms)
                assert p95[0] == pytest.approx(p95[1], rel=0.02)


@pytest.mark.parametrize("bucket_s", [analytics.DAY_S, analytics.WEEK_S])
def test_a_long_series_adds_up_and_is_the_rows_own(
    machine: Machine, second_machine: Machine, agent: Agent, bucket_s: int
) -> None:
    fill([machine, second_machine], agent, 40, 200)
    now, house = MONDAY + dt.timedelta(days=40), machine.organization.pk
    summed_at(now)
    begin, end = MONDAY + dt.timedelta(days=2, hours=3), now - dt.timedelta(hours=1)
    for only in (Filter(), Filter(machine=machine.pk), Filter(agent=agent.pk)):
        buckets = order_history.series_of(house, begin, end, bucket_s, only)
        exact = analytics.series(
            order_history.orders_between(house, begin, end, only), analytics.bucket_bounds(begin, end, bucket_s)
        )
        assert [(each.begin, each.end, each.figures.by_status) for each in buckets] == [
            (each.begin, each.end, each.figures.by_status) for each in exact
        ]


def test_an_order_that_settles_later_is_counted_in_the_hour_it_was_proposed_in(machine: Machine, agent: Agent) -> None:
    late = order_at(machine, MONDAY, "IN_DOUBT", agent=agent)
    order_at(machine, MONDAY + dt.timedelta(days=8), agent=agent)
    now, house = MONDAY + dt.timedelta(days=9), machine.organization.pk
    summed_at(now)
    window = (MONDAY, MONDAY + dt.timedelta(days=1))
    assert order_history.metrics_of(house, *window).total.by_status["IN_DOUBT"] == 1
    assert spans(machine.organization).get(span_s=analytics.DAY_S, hour_at=MONDAY).open_orders == 1
    with GuardsAside():
        Proposal.objects.filter(pk=late.pk).update(status="FAILED", settled_at=now)
    soon = now + order_history.AGAIN_AFTER - dt.timedelta(seconds=1)
    order_history.sum_due(now=soon)
    assert order_history.metrics_of(house, *window).total.by_status["IN_DOUBT"] == 1
    order_history.sum_due(now=now + order_history.AGAIN_AFTER)
    found = order_history.metrics_of(house, *window).total
    assert (found.by_status["IN_DOUBT"], found.by_status["FAILED"]) == (0, 1)
    day = spans(machine.organization).get(span_s=analytics.DAY_S, hour_at=MONDAY)
    assert day.open_orders == 0
    whole = order_history.metrics_of(house, MONDAY - dt.timedelta(days=7), MONDAY + dt.timedelta(days=1, hours=1))
    assert whole.method == "histogram" and whole.total.by_status["FAILED"] == 1


def test_summing_twice_changes_nothing(machine: Machine, agent: Agent) -> None:
    fill([machine], agent, 2, 30)
    now = MONDAY + dt.timedelta(days=3)
    summed_at(now)
    columns = ("span_s", "hour_at", "machine_key", "names", "counts", "latencies", "open_orders")
    before = [tuple(map(_plain, row)) for row in OrderHour.objects.order_by("id").values_list(*columns)]
    for hour_at in spans(machine.organization).filter(span_s=3600).values_list("hour_at", flat=True):
        order_history.sum_hour(machine.organization_id, hour_at, now=now)
    assert [tuple(map(_plain, row)) for row in OrderHour.objects.order_by("id").values_list(*columns)] == before
    assert order_history.sum_due(now=now) == 0


def _plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, memoryview | bytes) else value


def test_no_day_is_summed_before_all_its_hours_are(machine: Machine, agent: Agent) -> None:
    for hour in range(60):
        order_at(machine, MONDAY + hour * HOUR, agent=agent)
    now = MONDAY + dt.timedelta(days=10)
    assert order_history.sum_due(now=now) == order_history.MAX_HOURS_AT_ONCE
    days = spans(machine.organization).filter(span_s=analytics.DAY_S)
    assert days.count() == 2  # 48 hours: the third day waits for the next turn
    order_history.sum_due(now=now)
    assert days.count() == 3
    run = (analytics.DAY_S, MONDAY, now)
    sums = [order_sums.total(each) for _, each in order_history._spans(machine.organization_id, [run], "")]
    assert [figures.orders for figures in sums] == [24, 24, 12]


def test_who_ended_an_order_is_read_from_its_moves(machine: Machine, agent: Agent) -> None:
    order_at(machine, MONDAY, "REJECTED", agent=agent, by_person=True, rejection_code="WRONG_TIMING")
    order_at(machine, MONDAY, "ABORTED", agent=agent, by_person=True, outcome_code="superseded")
    order_at(machine, MONDAY, "ABORTED", agent=agent, outcome_code="suspended")
    order_at(machine, MONDAY, "ABORTED", agent=agent, outcome_code="left_prediction")
    order_at(machine, MONDAY, "REJECTED", agent=agent, rejection_code="CONSTRAINT_VIOLATION")  # before the wire
    refused_at(machine, MONDAY, agent, "above_ceiling", "CONSTRAINT_VIOLATION")
    found = order_history.metrics_of(machine.organization_id, MONDAY, MONDAY + HOUR).total
    assert (found.rejected, found.refused, found.intervened, found.passed_by_agents) == (1, 2, 3, 4)
    assert dict(found.refusals) == {"above_ceiling": 1, "CONSTRAINT_VIOLATION": 1}
