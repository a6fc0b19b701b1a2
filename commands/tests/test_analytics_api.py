"""Analytics and alerts over REST: what is answered, to whom, and what is refused by name."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from commands.history import questions as order_history
from commands.history import services_alerts
from commands.history.alerts import Found, Kind, Severity
from commands.models import Alert
from commands.tests.orders_at import GuardsAside, order_at, refused_at

pytestmark = pytest.mark.django_db
MINUTE = dt.timedelta(minutes=1)


@pytest.fixture
def orders(machine: Any, agent: Any, people: Any, now: dt.datetime) -> None:
    """Two completed, one failed, one refused, within the last hour; one completed ten days ago."""
    with GuardsAside():
        for n, status in enumerate(["COMPLETED", "COMPLETED", "FAILED"]):
            order_at(machine, now - (20 + n) * MINUTE, status, agent=agent, took_s=1.0 + n)
        refused_at(machine, now - 5 * MINUTE, agent, "too_soon")
        order_at(machine, now - dt.timedelta(days=10), proposer_user=people.operator)


@pytest.fixture
def alert(organization: Any, now: dt.datetime) -> Alert:
    found = Found(Kind.HIGH_LATENCY, Severity.MEDIUM, "organization", "slow", "look", now - MINUTE)
    raised = services_alerts.raise_found(organization, found, now=now)
    assert raised is not None
    return raised


def test_the_last_day_is_answered_whole_and_apart(orders: None, machine: Any, signed_in: Any, people: Any) -> None:
    answer = signed_in(people.viewer).get("/v1/analytics/metrics").json()
    assert (answer["orders"], answer["success_rate"], answer["refusal_rate"]) == (4, 2 / 3, 0.25)
    assert answer["refusals"] == [{"code": "too_soon", "count": 1, "rate": 0.25}]
    assert (answer["latency_method"], answer["latency_error"]) == ("exact", 0.0)
    assert answer["execution_duration"]["p50_ms"] == 2000.0
    assert answer["approval_latency"]["p50_ms"] is None and answer["rejection_rate"] is None
    assert [(row["key"], row["name"], row["orders"]) for row in answer["by_machine"]] == [(machine.pk, "Bullet", 4)]
    assert [row["name"] for row in answer["by_agent"]] == ["roastrunner"]
    assert [row["key"] for row in answer["by_order_type"]] == ["SET_POWER"]


def test_filters_and_long_windows(
    orders: None, machine: Any, agent: Any, signed_in: Any, people: Any, now: Any
) -> None:
    client = signed_in(people.operator)
    begin = (now - dt.timedelta(days=20)).isoformat()

    def ask(**query: Any) -> Any:
        return client.get("/v1/analytics/metrics", query).json()

    order_history.sum_due(now=now)
    assert ask(**{"from": begin})["orders"] == 5
    assert ask(**{"from": begin})["latency_method"] == "histogram"
    people_only = ask(**{"from": begin, "agent": "people"})
    assert people_only["orders"] == 1 and people_only["by_machine"] is None
    assert [row["key"] for row in people_only["by_agent"]] == ["people"]
    assert ask(**{"from": begin, "agent": "roastrunner"})["orders"] == 4
    assert ask(**{"from": begin, "machine": machine.pk})["by_machine"][0]["orders"] == 5
    assert ask(machine="mch_of_nobody")["orders"] == 0
    assert ask(agent="nobody")["orders"] == 0
    assert ask(order_type="SET_FAN")["orders"] == 0


def test_another_organisation_sees_nothing_of_ours(
    orders: None, alert: Alert, machine: Any, agent: Any, signed_in: Any, people: Any
) -> None:
    stranger = signed_in(people.stranger)
    for query in ({}, {"machine": machine.pk}, {"agent": agent.pk}):
        answer = stranger.get("/v1/analytics/metrics", query).json()
        assert answer["orders"] == 0 and answer["by_machine"] in ([], None)
    summary = stranger.get("/v1/analytics/summary").json()
    assert (summary["open_alerts"], summary["recent_failures"], summary["last_7_days"]["orders"]) == (0, 0, 0)
    assert stranger.get("/v1/analytics/alerts").json()["results"] == []
    for act in ("acknowledge", "resolve", "shelve"):
        assert stranger.post(f"/v1/alerts/{alert.pk}/{act}", {}, format="json").status_code == 404


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ({"from": "yesterday"}, "from"),
        ({"to": "2026-13-01T00:00:00Z"}, "to"),
        ({"from": "2026-11-02T00:00:00Z", "to": "2026-11-01T00:00:00Z"}, "bad_window"),
        ({"from": "2001-01-01T00:00:00Z"}, "bad_window"),
        ({"from": "0001-01-01T00:00:00Z", "to": "0001-01-02T00:00:00Z"}, "bad_window"),
        ({"to": "0001-01-01T00:00:00Z"}, "bad_window"),
        ({"from": "9999-12-31T23:59:59Z", "to": "9999-12-31T23:59:59Z"}, "bad_window"),
        ({"from": "9999-12-31T23:00:00-05:00", "to": "9999-12-31T23:59:59-14:00"}, "from"),
        ({"frm": "2026-11-02T00:00:00Z"}, "frm"),
        ({"order_type": "FLY"}, "order_type"),
    ],
)
@pytest.mark.parametrize("path", ["metrics", "metrics/timeseries"])
def test_what_is_wrong_with_a_window_is_named(path: str, query: Any, error: str, signed_in: Any, people: Any) -> None:
    answer = signed_in(people.viewer).get(f"/v1/analytics/{path}", query)
    assert answer.status_code == 400, answer.content
    document = answer.json()
    assert error == document["error"] or error in document["fields"]


def test_an_empty_window_is_no_error(orders: None, signed_in: Any, people: Any, now: dt.datetime) -> None:
    query = {"from": now.isoformat(), "to": now.isoformat()}
    assert signed_in(people.viewer).get("/v1/analytics/metrics", query).json()["orders"] == 0
    assert signed_in(people.viewer).get("/v1/analytics/metrics/timeseries", query).json()["buckets"] == []


def test_a_series_adds_up_and_names_its_buckets(orders: None, signed_in: Any, people: Any, now: dt.datetime) -> None:
    client = signed_in(people.viewer)
    answer = client.get("/v1/analytics/metrics/timeseries").json()
    assert (answer["bucket_s"], answer["has_percentiles"]) == (3600, True)
    assert sum(bucket["orders"] for bucket in answer["buckets"]) == 4 and len(answer["buckets"]) in (24, 25)
    assert answer["buckets"][0]["success_rate"] is None
    long = {"from": (now - dt.timedelta(days=30)).isoformat()}
    answer = client.get("/v1/analytics/metrics/timeseries", long).json()
    assert (answer["bucket_s"], answer["has_percentiles"]) == (86_400, False)
    assert sum(bucket["orders"] for bucket in answer["buckets"]) == 5
    refused = client.get("/v1/analytics/metrics/timeseries", {**long, "bucket_s": 300})
    assert (refused.status_code, refused.json()["error"]) == (400, "bucket_too_short")
    assert client.get("/v1/analytics/metrics/timeseries", {"bucket_s": 17}).status_code == 400


def test_the_summary_says_what_goes_on_now(
    orders: None, alert: Alert, machine: Any, agent: Any, signed_in: Any, people: Any, now: dt.datetime
) -> None:
    order_at(machine, now, "PENDING_APPROVAL", agent=agent, decision="HOLD", control="fan")
    order_at(machine, now, "EXECUTING", agent=agent, control="drum")
    answer = signed_in(people.viewer).get("/v1/analytics/summary").json()
    assert (answer["pending"], answer["executing"], answer["recent_failures"]) == (1, 1, 1)
    assert (answer["last_24_h"]["orders"], answer["last_7_days"]["orders"], answer["open_alerts"]) == (6, 6, 1)
    assert answer["newest_failures"][0]["machine"] == "Bullet" and answer["alerts"][0]["alert_id"] == alert.pk


def test_alerts_are_acknowledged_shelved_and_resolved_over_the_wire(
    alert: Alert, signed_in: Any, api_by_key: Any, people: Any, agent: Any, now: dt.datetime
) -> None:
    operator = signed_in(people.operator)

    def act(name: str, body: Any, client: Any = operator, **headers: Any) -> Any:
        return client.post(f"/v1/alerts/{alert.pk}/{name}", body, format="json", **headers)

    assert act("acknowledge", {}, signed_in(people.viewer)).status_code == 403
    assert act("acknowledge", {}, api_by_key(agent=agent, scopes=["read", "propose"])).status_code == 403
    assert act("acknowledge", {"why": 1}).status_code == 400
    assert act("acknowledge", {}).json()["state"] == "acknowledged"
    hour = {"minutes": 60, "reason": "known"}
    for wrong in ({"minutes": 60}, {**hour, "minutes": 0}, {**hour, "minutes": 1441}, {**hour, "minutes": "60"},
                  {**hour, "reason": " "}):  # fmt: skip
        assert act("shelve", wrong).status_code == 400, wrong
    shelved = act("shelve", hour).json()
    assert (shelved["state"], shelved["shelved_by"]["name"]) == ("shelved", "operator")
    assert operator.get("/v1/analytics/alerts").json()["results"] == []
    for state, count in (("shelved", 1), ("all", 1), ("resolved", 0)):
        assert len(operator.get("/v1/analytics/alerts", {"state": state}).json()["results"]) == count
    first = act("resolve", {"text": "done"}, HTTP_IDEMPOTENCY_KEY="once").json()
    again = act("resolve", {"text": "done"}, HTTP_IDEMPOTENCY_KEY="once")
    assert again.json() == first and again.headers["Idempotent-Replay"] == "true"
    assert act("shelve", hour).status_code == 409
    assert operator.get("/v1/analytics/alerts", {"state": "resolved", "kind": "HIGH_LATENCY"}).json()["results"]
    assert operator.get("/v1/analytics/alerts", {"state": "gone"}).status_code == 400


def test_a_question_asks_the_database_a_fixed_number_of_times(
    orders: None, signed_in: Any, people: Any, now: dt.datetime, machine: Any, agent: Any
) -> None:
    """However long the history is."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    def cost() -> list[int]:
        found = []
        for path, query in (
            ("metrics", {}), ("metrics", {"from": (now - dt.timedelta(days=300)).isoformat()}),
            ("metrics/timeseries", {"from": (now - dt.timedelta(days=60)).isoformat()}), ("summary", {}),
        ):  # fmt: skip
            with CaptureQueriesContext(connection) as queries:
                client.get(f"/v1/analytics/{path}", query)
            found.append(len(queries))
        return found

    client = signed_in(people.viewer)
    order_history.sum_due(now=now)
    cost()
    with GuardsAside():
        for day in range(11, 120, 3):
            order_at(machine, now - dt.timedelta(days=day), agent=agent)
    from commands.models import OrderHour

    OrderHour.objects.all().delete()
    while order_history.sum_due(now=now):
        pass
    after = cost()
    assert max(after) <= 24, after
