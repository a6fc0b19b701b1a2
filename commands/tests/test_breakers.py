"""When an agent's orders lower its grant: both sides of every bound, what blames nobody, once under races."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands import services
from commands.history import breakers, services_breakers
from commands.history.breakers import Attempt, Breaker, Interlock, Look
from commands.loop import interlocks
from commands.models import Alert, BreakerTrip, Grant, Halt
from commands.tests.orders_at import order_at
from kernel.models import AuditEntry, StreamEvent

AT = dt.datetime(2026, 11, 21, 8, 0, tzinfo=dt.UTC)
SIGNED = AT - dt.timedelta(days=1)


def after(seconds: float) -> dt.datetime:
    return AT + dt.timedelta(seconds=seconds)


def attempt(second: float, status: str = "COMPLETED", **more: Any) -> Attempt:
    values = {"order_type": "SET_POWER", "control": "heater", "outcome_code": ""} | more
    return Attempt(f"o{second:08.2f}{values['order_type']}", status=status, at=after(second), **values)


def look(*attempts: Attempt, level: str = "L5", **more: Any) -> Look:
    values = {"granted_at": SIGNED, "lowered_at": None} | more
    return Look(level, attempts=tuple(attempts), **values)


def kinds(seen: Look) -> list[str]:
    return [trip.kind.value for trip in breakers.trips(seen)]


def mixed(settled: int, failed: int, *, spread_s: float = 290) -> list[Attempt]:
    """So many settled orders, the failed ones last, and apart in type so that only the rate can trip."""
    types = ["SET_FAN", "SET_DRUM", "PREHEAT", "COOL", "DROP", "SET_POWER"]
    return [
        attempt(n * spread_s / settled, "FAILED" if n >= settled - failed else "COMPLETED", order_type=types[n % 6])
        for n in range(settled)
    ]


# --- error rate


@pytest.mark.parametrize(
    ("settled", "failed", "trips"),
    [
        (20, 1, False),
        (20, 2, True),
        (19, 19 // 10, False),
        (40, 2, False),
        (40, 3, True),
        (100, 5, False),
        (100, 6, True),
    ],
)
def test_more_than_five_percent_of_at_least_twenty_trips(settled: int, failed: int, trips: bool) -> None:
    assert ("error_rate" in kinds(look(*mixed(settled, failed)))) is trips


def test_nineteen_settled_orders_are_too_few() -> None:
    nineteen = mixed(19, 2)
    assert kinds(look(*nineteen)) == []
    assert kinds(look(*nineteen, attempt(291))) == ["error_rate"]


def test_the_rate_is_of_any_five_minutes_and_not_of_a_second_more() -> None:
    burst = [attempt(0, "FAILED"), attempt(1, "FAILED", order_type="SET_FAN"), *(attempt(2 + n) for n in range(17))]
    assert kinds(look(*burst, attempt(299.9))) == ["error_rate"]
    assert kinds(look(*burst, attempt(300))) == []  # the first is no longer in (0 s, 300 s]


@given(st.lists(st.tuples(st.integers(0, 1200), st.booleans()), max_size=80))
def test_the_rate_trips_exactly_where_some_window_says_so(rows: list[tuple[int, bool]]) -> None:
    types = ["SET_FAN", "SET_DRUM", "PREHEAT", "COOL", "DROP", "SET_POWER", "CHARGE"]
    orders = [
        attempt(second + n / 1000, "FAILED" if is_failed else "COMPLETED", order_type=types[n % 7])
        for n, (second, is_failed) in enumerate(sorted(rows))
    ]

    def is_bad(end: dt.datetime) -> bool:
        inside = [order for order in orders if end - breakers.WINDOW < order.at <= end]
        failed = sum(order.status == "FAILED" for order in inside)
        return len(inside) >= 20 and failed / len(inside) > 0.05

    assert ("error_rate" in kinds(look(*orders))) is any(is_bad(order.at) for order in orders)


# --- failures of a type


def test_three_failures_of_a_type_within_five_minutes_trip() -> None:
    two = [attempt(0, "FAILED"), attempt(100, "FAILED")]
    assert kinds(look(*two)) == []
    assert kinds(look(*two, attempt(200, "FAILED", order_type="SET_FAN"))) == []
    assert kinds(look(*two, attempt(299.9, "FAILED"))) == ["failures_of_type"]
    assert kinds(look(*two, attempt(300, "FAILED"))) == []
    assert kinds(look(*two, attempt(150), attempt(299.9, "FAILED"))) == ["failures_of_type"]  # successes between


# --- contradicted, and what blames nobody


def test_a_contradicted_setting_leaves_advice_alone() -> None:
    [trip] = breakers.trips(look(attempt(0, "FAILED", outcome_code="contradicted")))
    assert (trip.kind, trip.to_level) == (Breaker.CONTRADICTED, "L2")


def test_a_control_moved_at_the_machine_blames_nobody() -> None:
    moved = [attempt(n, "FAILED", outcome_code="moved_at_machine") for n in range(5)]
    assert kinds(look(*moved, *mixed(18, 0))) == []


@pytest.mark.parametrize("code", ["", "not_sent", "not_reached", "declined", "in_doubt", "resolved_by_reading"])
def test_no_other_ending_is_a_contradiction(code: str) -> None:
    assert kinds(look(attempt(0, "FAILED", outcome_code=code))) == []


# --- critical incident


def incident(seconds: float, code: str = "bean_over_temperature") -> dict[str, Any]:
    return {"interlocks": (Interlock("hlt_1", code, after(seconds)),)}


def test_an_interlock_right_after_heat_up_is_laid_to_the_order() -> None:
    heat_up = attempt(0, is_towards_danger=True)
    assert kinds(look(heat_up, **incident(90))) == ["critical_incident"]
    assert kinds(look(heat_up, **incident(90.1))) == []
    assert kinds(look(heat_up, **incident(-0.1))) == []
    assert kinds(look(attempt(0), **incident(30))) == []  # heat down
    assert kinds(look(attempt(0, "FAILED", is_towards_danger=True), **incident(30))) == []  # nothing was moved
    assert kinds(look(attempt(0, "IN_DOUBT", is_towards_danger=True), **incident(30))) == ["critical_incident"]


def test_what_somebody_moved_since_is_not_the_agents() -> None:
    heat_up, person = attempt(0, is_towards_danger=True), attempt(10)
    assert kinds(look(heat_up, others=(person,), **incident(30))) == []
    assert kinds(look(heat_up, others=(attempt(10, control="fan"),), **incident(30))) == ["critical_incident"]
    assert kinds(look(heat_up, others=(attempt(10, "FAILED"),), **incident(30))) == ["critical_incident"]
    assert kinds(look(heat_up, others=(attempt(-5),), **incident(30))) == ["critical_incident"]


@pytest.mark.parametrize("code", ["lost_device", "stale_heat", "heat_while_halted", ""])
def test_a_lost_link_is_nobodys_order(code: str) -> None:
    assert kinds(look(attempt(0, is_towards_danger=True), **incident(30, code))) == []


def test_the_interlocks_that_orders_cause_are_interlocks_that_turn_heat_down() -> None:
    down = {rule.code for rule in interlocks.RULES if rule.act is interlocks.Act.HEAT_DOWN}
    assert down - {"stale_heat"} == breakers.CAUSED_BY_ORDERS


# --- what it lowers to


@pytest.mark.parametrize(
    ("level", "statistics", "evidence"), [("L5", "L3", "L2"), ("L4", "L3", "L2"), ("L3", "L2", "L2")]
)
def test_statistics_take_acting_alone_away_and_evidence_leaves_advice(
    level: str, statistics: str, evidence: str
) -> None:
    assert {breakers.lowered(level, kind) for kind in (Breaker.ERROR_RATE, Breaker.FAILURES_OF_TYPE)} == {statistics}
    assert {breakers.lowered(level, kind) for kind in (Breaker.CONTRADICTED, Breaker.CRITICAL_INCIDENT)} == {evidence}


@given(st.sampled_from(["L1", "L2", "L3", "L4", "L5"]), st.sampled_from(list(Breaker)))
def test_no_breaker_ever_raises_a_level(level: str, kind: Breaker) -> None:
    lowered = breakers.lowered(level, kind)
    assert lowered <= max(level, "L2") and (level <= "L2" or lowered < level)
    assert level > "L2" or kinds(look(attempt(0, "FAILED", outcome_code="contradicted"), level=level)) == []


def test_what_was_before_the_grant_is_not_held_against_it() -> None:
    bad = attempt(0, "FAILED", outcome_code="contradicted")
    assert kinds(look(bad, granted_at=AT)) == []
    assert kinds(look(bad, granted_at=after(-0.1))) == ["contradicted"]


def test_a_rate_it_was_lowered_for_is_not_counted_twice() -> None:
    rows = mixed(20, 2)
    assert kinds(look(*rows, level="L3", lowered_at=after(300))) == []
    assert kinds(look(*rows, attempt(1, "FAILED", outcome_code="contradicted"), level="L3", lowered_at=after(300))) == [
        "contradicted"
    ]


def test_of_several_the_one_that_lowers_furthest_comes_first() -> None:
    rows = [attempt(n, "FAILED", outcome_code="contradicted" if n == 2 else "") for n in range(3)]
    assert kinds(look(*rows)) == ["contradicted", "failures_of_type"]


@pytest.mark.parametrize(
    ("control", "before", "after_step", "is_danger"),
    [("heater", 5, 6, True), ("heater", 6, 5, False), ("fan", 4, 3, True), ("fan", 3, 4, False), ("drum", 5, 4, True),
     ("heater", None, 3, True), ("heater", 5, 5, False), ("", None, None, False)],
)  # fmt: skip
def test_heat_up_and_less_air_or_turning_lead_towards_danger(
    control: str, before: int | None, after_step: int, is_danger: bool
) -> None:
    assert services_breakers.is_danger(control, before, after_step) is is_danger


# --- in the database


@pytest.fixture
def trusted(people: Any, agent: Any, machine: Any, now: dt.datetime) -> Grant:
    """The agent at L5, signed an hour ago."""
    then = now - dt.timedelta(hours=1)
    return services.grant_autonomy(people.principal("lead"), agent=agent, machine=machine, level="L5", now=then)


@pytest.mark.django_db
def test_a_contradicted_order_lowers_the_grant_and_everybody_hears(
    trusted: Grant, machine: Any, agent: Any, now: dt.datetime
) -> None:
    bad = order_at(machine, now - dt.timedelta(seconds=9), "FAILED", agent=agent, outcome_code="contradicted")
    assert services_breakers.trip_due(now=now) == 1
    trusted.refresh_from_db()
    assert (trusted.level, trusted.effective_level, trusted.lowered_at) == ("L5", "L2", now)
    trip = BreakerTrip.objects.get()
    assert (trip.kind, trip.from_level, trip.to_level, trip.evidence) == (
        "contradicted", "L5", "L2", {"orders": [bad.pk]}
    )  # fmt: skip
    assert AuditEntry.objects.filter(verb="grant_lowered", subject_id=trusted.pk).count() == 1
    assert StreamEvent.objects.filter(kind="grant", subject_id=trusted.pk, payload__lowered_to="L2").exists()
    alert = Alert.objects.get(subject__startswith="grant:")
    assert alert.severity == "high" and "from L5 to L2" in alert.message
    assert services_breakers.trip_due(now=now + dt.timedelta(seconds=1)) == 0
    assert BreakerTrip.objects.count() == 1


@pytest.mark.django_db
def test_an_order_that_did_as_told_lowers_nothing(trusted: Grant, machine: Any, agent: Any, now: dt.datetime) -> None:
    order_at(machine, now - dt.timedelta(seconds=9), agent=agent)
    order_at(machine, now - dt.timedelta(seconds=8), "FAILED", agent=agent, outcome_code="moved_at_machine")
    assert services_breakers.trip_due(now=now) == 0
    assert not BreakerTrip.objects.exists()


@pytest.mark.django_db
def test_an_interlock_after_an_agents_heat_up_lowers_the_grant(
    trusted: Grant, machine: Any, agent: Any, now: dt.datetime
) -> None:
    order_at(machine, now - dt.timedelta(seconds=60), agent=agent, from_step=5, target_step=6)
    Halt.objects.create(
        organization=machine.organization, machine=machine, kind="interlock", code="rate_of_rise_too_high",
        opened_at=now - dt.timedelta(seconds=5), opened_by_kind="system", opened_by_id="x", opened_by_name="x",
    )  # fmt: skip
    assert services_breakers.trip_due(now=now) == 1
    assert BreakerTrip.objects.get().kind == "critical_incident"


@pytest.mark.django_db
def test_two_sweepers_lower_once(trusted: Grant, machine: Any, agent: Any, now: dt.datetime) -> None:
    """The second looked before the first wrote."""
    order_at(machine, now - dt.timedelta(seconds=9), "FAILED", agent=agent, outcome_code="contradicted")
    [trip] = breakers.trips(services_breakers.look_at(trusted, now))
    assert services_breakers.lower_grant(trusted, trip, now=now) is not None
    assert services_breakers.lower_grant(trusted, trip, now=now) is None
    assert BreakerTrip.objects.count() == 1 and Alert.objects.count() == 1


@pytest.mark.django_db
def test_a_new_grant_begins_afresh_and_a_revoked_one_is_left_alone(
    trusted: Grant, people: Any, machine: Any, agent: Any, now: dt.datetime
) -> None:
    order_at(machine, now - dt.timedelta(seconds=9), "FAILED", agent=agent, outcome_code="contradicted")
    fresh = services.grant_autonomy(people.principal("lead"), agent=agent, machine=machine, level="L4", now=now)
    assert services_breakers.trip_due(now=now) == 0
    fresh.refresh_from_db()
    trusted.refresh_from_db()
    assert (fresh.effective_level, trusted.effective_level) == ("L4", "L5")


@pytest.mark.django_db
def test_another_machines_failures_are_not_held_against_this_grant(
    trusted: Grant, machine: Any, agent: Any, now: dt.datetime
) -> None:
    other = type(machine).objects.create(
        organization=machine.organization, site=machine.site, name="Other", driver_kind="bullet-r1", created_at=now
    )
    order_at(other, now - dt.timedelta(seconds=9), "FAILED", agent=agent, outcome_code="contradicted")
    assert services_breakers.trip_due(now=now) == 0


@pytest.mark.django_db
def test_a_quiet_second_costs_two_queries(trusted: Grant, now: dt.datetime, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(2):
        services_breakers.trip_due(now=now)
