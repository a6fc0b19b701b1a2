"""The eight kinds of alert: each trigger on both sides of its bound, once while it stands, and what people do."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from commands.history import alerts, services_alerts, watch
from commands.history.alerts import Ended, Found, Habit, Kind, Moment, Refusal
from commands.models import Alert, Halt, ProposalTransition
from commands.tests.orders_at import GuardsAside, order_at, refused_at
from kernel.errors import Conflict, Forbidden, Malformed, NotFound
from kernel.models import AuditEntry, StreamEvent

AT = dt.datetime(2026, 11, 21, 8, 0, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)


def ended(
    n: int, status: str = "COMPLETED", *, ago_s: float = 60, took_ms: float | None = 800, machine: str = "m1",
    code: str = "",
) -> Ended:  # fmt: skip
    at = AT - dt.timedelta(seconds=ago_s)
    return Ended(f"o{n}", machine, machine.upper(), "SET_POWER", status, code, at, "a1", took_ms)


def some(failed: int, settled: int, **more: Any) -> list[Ended]:
    return [ended(n, "FAILED" if n < failed else "COMPLETED", **more) for n in range(settled)]


# --- failure rate


@pytest.mark.parametrize(
    ("failed", "settled", "is_raised"), [(1, 5, False), (2, 5, True), (4, 4, False), (20, 100, False), (21, 100, True)]
)
def test_more_than_a_fifth_of_at_least_five_failed(failed: int, settled: int, is_raised: bool) -> None:
    assert bool(alerts.high_failure_rate(some(failed, settled), AT)) is is_raised


def test_what_ended_an_hour_ago_is_no_longer_counted() -> None:
    four = some(2, 4)
    assert alerts.high_failure_rate([*four, ended(9, ago_s=3599)], AT)
    assert not alerts.high_failure_rate([*four, ended(9, ago_s=3600)], AT)


def test_the_organisation_is_told_where_no_machine_alone_says_so() -> None:
    spread = [ended(n, "FAILED" if n < 2 else "COMPLETED", machine=f"m{n}") for n in range(6)]
    assert [each.subject for each in alerts.high_failure_rate(spread, AT)] == ["organization"]
    at_one = [*some(2, 5), *(ended(90 + n, machine="m2") for n in range(3))]
    assert [each.subject for each in alerts.high_failure_rate(at_one, AT)] == ["machine:m1"]


# --- latency


@pytest.mark.parametrize(("took_ms", "is_raised"), [(5000.0, False), (5000.1, True)])
def test_a_mean_execution_above_five_seconds(took_ms: float, is_raised: bool) -> None:
    rows = [ended(1, took_ms=took_ms - 1000), ended(2, took_ms=took_ms + 1000), ended(3, took_ms=None)]
    assert bool(alerts.high_latency(rows, AT)) is is_raised
    assert not alerts.high_latency([ended(1, took_ms=9000, ago_s=3600)], AT)


# --- safety


def test_each_interlock_is_an_alert_of_its_own() -> None:
    halts = [Moment(f"h{n}", "m1", "M1", "bean_over_temperature", AT) for n in range(2)]
    found = alerts.safety_violations(halts, [], AT)
    assert [(each.subject, each.severity.value) for each in found] == [("halt:h0", "high"), ("halt:h1", "high")]


def test_a_control_that_moved_by_itself_is_told_once_and_blames_nobody() -> None:
    moved = [Moment(f"o{n}", "m1", "M1", "SET_FAN", AT - MINUTE, "a1") for n in range(3)]
    [found] = alerts.safety_violations([], moved, AT)
    assert (found.severity.value, found.agent_id, found.trigger["value"]) == ("low", "", 3)
    assert not alerts.safety_violations([], [Moment("o", "m1", "M1", "SET_FAN", AT - 60 * MINUTE)], AT)


# --- refusals


def refusal(n: int, code: str, *, ago_s: float = 10, agent: str = "a1") -> Refusal:
    return Refusal(f"o{n}", agent, agent.upper(), frozenset({code, "no_grant"}), AT - dt.timedelta(seconds=ago_s))


@pytest.mark.parametrize(
    ("code", "kind"), [("above_ceiling", Kind.CONSTRAINT_VIOLATION), ("too_soon", Kind.RATE_LIMIT_EXCEEDED),
                       ("session_limit_reached", Kind.RATE_LIMIT_EXCEEDED), ("stale_reading", None)],
)  # fmt: skip
def test_three_refusals_of_one_agent_in_ten_minutes(code: str, kind: Kind | None) -> None:
    three = [refusal(n, code, ago_s=599) for n in range(3)]
    assert [each.kind for each in alerts.refused_again_and_again(three, AT)] == ([kind] if kind else [])
    assert not alerts.refused_again_and_again(three[:2], AT)
    assert not alerts.refused_again_and_again([*three[:2], refusal(3, code, ago_s=600)], AT)
    assert not alerts.refused_again_and_again([*three[:2], refusal(3, code, agent="a2")], AT)


def test_every_refusal_that_the_predecessor_called_a_constraint_violation_counts() -> None:
    assert {"above_ceiling", "below_floor", "change_too_large", "no_envelope"} <= alerts.ENVELOPE_CODES
    assert not alerts.ENVELOPE_CODES & alerts.LIMIT_CODES


# --- executions


def test_each_failure_is_an_alert_and_a_contradiction_a_grave_one() -> None:
    rows = [ended(1, "FAILED", code="not_sent"), ended(2, "FAILED", code="contradicted"), ended(3)]
    found = alerts.execution_failures(rows, [], AT)
    assert [(each.subject, each.severity.value) for each in found] == [("order:o1", "medium"), ("order:o2", "high")]


@pytest.mark.parametrize(("age_s", "is_raised"), [(30, False), (30.1, True)])
def test_a_doubt_of_more_than_thirty_seconds(age_s: float, is_raised: bool) -> None:
    doubt = Moment("o1", "m1", "M1", "SET_POWER", AT - dt.timedelta(seconds=age_s))
    assert bool(alerts.execution_failures([], [doubt], AT)) is is_raised


def test_three_orders_that_ran_out_of_time_at_one_machine_in_an_hour() -> None:
    late = [Moment(f"o{n}", "m1", "M1", "SET_FAN", AT - 59 * MINUTE) for n in range(3)]
    assert [each.subject for each in alerts.approval_timeouts(late, AT)] == ["machine:m1"]
    assert not alerts.approval_timeouts(late[:2], AT)
    assert not alerts.approval_timeouts([*late[:2], Moment("o", "m2", "M2", "SET_FAN", AT)], AT)
    assert not alerts.approval_timeouts([*late[:2], Moment("o", "m1", "M1", "SET_FAN", AT - 60 * MINUTE)], AT)


# --- unusual patterns


def habit(count: int, earlier: list[int]) -> Habit:
    return Habit("a1", "runner", AT, {"orders": count}, {"orders": earlier})


@pytest.mark.parametrize(("count", "is_raised"), [(30, False), (31, True), (14, False), (13, True), (22, False)])
def test_beyond_four_median_absolute_deviations(count: int, is_raised: bool) -> None:
    earlier = [20, 24] * 15  # median 22, deviations all 2
    assert bool(alerts.unusual_hours([habit(count, earlier)])) is is_raised


def test_an_agent_that_never_varies_may_differ_by_four_orders() -> None:
    assert not alerts.unusual_hours([habit(14, [10] * 30)])
    assert alerts.unusual_hours([habit(15, [10] * 30)])


def test_a_day_of_hours_must_be_known_first() -> None:
    assert not alerts.unusual_hours([habit(100, [10] * 23)])
    assert alerts.unusual_hours([habit(100, [10] * 24)])


# --- in the database

pytestmark_db = pytest.mark.django_db


def found_at(at: dt.datetime, **more: Any) -> Found:
    values: dict[str, Any] = {
        "kind": Kind.HIGH_LATENCY, "severity": alerts.Severity.MEDIUM, "subject": "organization", "message": "m",
        "how_to_fix": "h", "newest_at": at,
    }  # fmt: skip
    return Found(**(values | more))


@pytestmark_db
def test_an_alert_stands_once_and_counts_new_evidence(organization: Any, now: dt.datetime) -> None:
    first = services_alerts.raise_found(organization, found_at(now), now=now)
    assert first is not None and first.times_seen == 1
    assert services_alerts.raise_found(organization, found_at(now), now=now + MINUTE) is None
    again = services_alerts.raise_found(organization, found_at(now + MINUTE), now=now + 2 * MINUTE)
    assert again is not None and (again.pk, again.times_seen, again.last_seen_at) == (first.pk, 2, now + 2 * MINUTE)
    assert AuditEntry.objects.filter(subject_id=first.pk).count() == 2
    assert StreamEvent.objects.filter(kind="alert", subject_id=first.pk).count() == 2


@pytestmark_db
def test_what_somebody_resolved_is_not_raised_for_the_same_evidence(
    organization: Any, people: Any, now: dt.datetime
) -> None:
    first = services_alerts.raise_found(organization, found_at(now), now=now)
    assert first is not None
    services_alerts.resolve_alert(people.principal("operator"), first, text="done", now=now + MINUTE)
    assert services_alerts.raise_found(organization, found_at(now), now=now + 2 * MINUTE) is None
    assert services_alerts.raise_found(organization, found_at(now + 2 * MINUTE), now=now + 3 * MINUTE) is not None
    assert Alert.objects.count() == 2


@pytestmark_db
def test_a_rate_resolves_itself_when_its_hour_is_over_and_a_failure_does_not(
    machine: Any, agent: Any, now: dt.datetime
) -> None:
    house = machine.organization
    with GuardsAside():
        for n in range(5):
            order_at(machine, now - MINUTE, "FAILED" if n < 2 else "COMPLETED", agent=agent, control=f"c{n}")
    services_alerts.watch_orders(house, now=now)
    kinds = sorted(Alert.objects.values_list("kind", flat=True))
    assert kinds == ["EXECUTION_FAILURE", "EXECUTION_FAILURE", "HIGH_FAILURE_RATE"]
    assert services_alerts.watch_orders(house, now=now + MINUTE) == 0
    services_alerts.watch_orders(house, now=now + 61 * MINUTE)
    standing = Alert.objects.filter(resolved_at__isnull=True).values_list("kind", flat=True)
    assert sorted(standing) == ["EXECUTION_FAILURE", "EXECUTION_FAILURE"]
    assert "no longer" in Alert.objects.get(kind="HIGH_FAILURE_RATE").resolution


@pytestmark_db
def test_a_doubt_resolves_itself_when_the_machine_reads_as_ordered(machine: Any, agent: Any, now: dt.datetime) -> None:
    doubt = order_at(machine, now - MINUTE, "IN_DOUBT", agent=agent)
    ProposalTransition.objects.create(
        proposal=doubt, from_status="EXECUTING", to_status="IN_DOUBT", actor_kind="system", actor_id="x",
        actor_name="x", at=now - dt.timedelta(seconds=29),
    )  # fmt: skip
    house = machine.organization
    assert services_alerts.watch_orders(house, now=now) == 0
    assert services_alerts.watch_orders(house, now=now + dt.timedelta(seconds=2)) == 1
    with GuardsAside():
        type(doubt).objects.filter(pk=doubt.pk).update(status="COMPLETED", settled_at=now)
    services_alerts.watch_orders(house, now=now + MINUTE)
    assert Alert.objects.get().resolution == alerts.DOUBT_RESOLVED


@pytestmark_db
def test_the_watch_reads_the_rows_of_every_kind(machine: Any, agent: Any, people: Any, now: dt.datetime) -> None:
    house, at = machine.organization, now - MINUTE
    order_at(machine, now - dt.timedelta(days=2), agent=agent, order_type="SET_FAN")
    with GuardsAside():
        for _ in range(3):
            refused_at(machine, at, agent, "above_ceiling", "CONSTRAINT_VIOLATION")
            refused_at(machine, at, agent, "too_soon")
            order_at(machine, at, "TIMEOUT", agent=agent, order_type="SET_FAN")
        order_at(machine, at, "TIMEOUT", agent=agent, decided_at=at, approver=people.operator, approved_digest="d" * 64)
        order_at(machine, at, "ABORTED", agent=agent, outcome_code="control_moved")
        order_at(machine, at, took_s=20, agent=agent)
    Halt.objects.create(
        organization=house, machine=machine, kind="interlock", code="heat_on_too_long", opened_at=at,
        opened_by_kind="system", opened_by_id="x", opened_by_name="x",
    )  # fmt: skip
    services_alerts.watch_orders(house, now=now)
    assert sorted(Alert.objects.values_list("kind", "severity", "trigger__value")) == [
        ("APPROVAL_TIMEOUT", "medium", 3),
        ("CONSTRAINT_VIOLATION", "medium", 3),
        ("HIGH_LATENCY", "medium", 20_000.0),
        ("RATE_LIMIT_EXCEEDED", "medium", 3),
        ("SAFETY_VIOLATION", "high", "heat_on_too_long"),
        ("SAFETY_VIOLATION", "low", 1),
        ("UNUSUAL_PATTERN", "medium", "SET_POWER"),
    ]
    assert services_alerts.watch_orders(house, now=now) == 0
    assert not Alert.objects.filter(organization=people.stranger_organization).exists()


@pytestmark_db
def test_a_new_agents_first_day_is_not_unusual(machine: Any, agent: Any, now: dt.datetime) -> None:
    order_at(machine, now - dt.timedelta(hours=23), agent=agent, order_type="SET_FAN")
    order_at(machine, now - MINUTE, agent=agent, order_type="SET_DRUM")
    assert not watch.gather(machine.organization, now).first_uses


@pytestmark_db
def test_habits_are_read_from_the_summed_hours(machine: Any, agent: Any, now: dt.datetime) -> None:
    from commands.history import questions as order_history

    hour_at = now.replace(minute=0, second=0, microsecond=0) - dt.timedelta(hours=2)
    with GuardsAside():
        for back in range(30):
            for n in range(2 if back else 9):
                at = hour_at - dt.timedelta(hours=back) + n * MINUTE
                order_at(machine, at, agent=agent, order_type="SET_FAN")
    soon = hour_at + dt.timedelta(hours=1, minutes=11)
    order_history.sum_due(now=soon)
    [habit_now] = watch.habits(machine.organization, soon)
    assert habit_now.hour == {"orders": 9, "refusals": 0, "approvals": 0}
    assert habit_now.earlier["orders"] == [2] * 29 and habit_now.hour_at == hour_at
    [found] = alerts.unusual_hours([habit_now])
    assert found.trigger["median"] == 2
    assert watch.habits(machine.organization, soon + dt.timedelta(hours=2)) == []


@pytestmark_db
def test_people_acknowledge_shelve_and_resolve(
    organization: Any, people: Any, agent_principal: Any, now: dt.datetime
) -> None:
    alert = services_alerts.raise_found(organization, found_at(now), now=now)
    assert alert is not None
    anna, second = people.principal("operator"), people.principal("second_operator")
    services_alerts.acknowledge_alert(anna, alert, now=now)
    again = services_alerts.acknowledge_alert(second, alert, now=now + MINUTE)
    assert (again.acknowledged_by, again.acknowledged_at) == (people.operator, now)
    shelve = services_alerts.shelve_alert
    for until in (now, now + dt.timedelta(hours=24, microseconds=1)):
        with pytest.raises(Malformed):
            shelve(anna, alert, until=until, reason="later", now=now)
    with pytest.raises(Malformed):
        shelve(anna, alert, until=now + MINUTE, reason=" ", now=now)
    shelved = shelve(anna, alert, until=now + dt.timedelta(hours=24), reason="later", now=now)
    assert services_alerts.state_of(shelved, now) == "shelved"
    assert services_alerts.state_of(shelved, now + dt.timedelta(hours=24)) == "acknowledged"
    services_alerts.resolve_alert(anna, alert, text="looked", now=now)
    kept = services_alerts.resolve_alert(second, alert, text="me too", now=now + MINUTE)
    assert (kept.resolution, kept.resolved_by) == ("looked", people.operator)
    with pytest.raises(Conflict):
        shelve(anna, alert, until=now + MINUTE, reason="later", now=now)
    for stranger, error in ((people.principal("stranger"), NotFound), (agent_principal, Forbidden),
                            (people.principal("viewer"), Forbidden)):  # fmt: skip
        with pytest.raises(error):
            services_alerts.resolve_alert(stranger, alert, text="", now=now)
