"""The analytics page: who sees what, what it says of nothing, of bad questions, and in how many queries."""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import Any

import pytest
from django.test import Client

from commands.history import questions as order_history
from commands.history import services_alerts
from commands.history.alerts import Found, Kind, Severity
from commands.tests.orders_at import GuardsAside, order_at, refused_at
from kernel import clock
from kernel.models import Preferences
from kernel.principals import for_user

pytestmark = pytest.mark.django_db
QUERIES = 44  # for any number of orders


def browser(user: Any) -> Client:
    client = Client()
    client.force_login(user, backend="kernel.sign_in.ThrottledBackend")
    return client


def shown(user: Any, path: str = "/analytics/", **query: str) -> str:
    answer = browser(user).get(path, query)
    assert answer.status_code == 200
    return answer.content.decode()


@pytest.fixture
def orders(machine: Any, agent: Any, now: dt.datetime) -> None:
    with GuardsAside():
        for n in range(12):
            order_at(
                machine, now - dt.timedelta(hours=3 * n, minutes=5), "FAILED" if n == 3 else "COMPLETED", agent=agent
            )
        refused_at(machine, now - dt.timedelta(minutes=9), agent, "above_ceiling")


def raise_alert(organization: Any, now: dt.datetime) -> Any:
    found = Found(Kind.HIGH_LATENCY, Severity.MEDIUM, "organization", "Executions took 9 s.", "Look.", now)
    return services_alerts.raise_found(organization, found, now=now)


def test_a_stranger_is_sent_to_sign_in_and_another_house_sees_nothing(orders: None, people: Any, machine: Any) -> None:
    for path in ("/analytics/", "/analytics/alerts/"):
        assert Client().get(path).status_code == 302
    text = shown(people.stranger)
    assert "Nothing was proposed in this window." in text and "roastrunner" not in text and machine.name not in text


def test_the_page_says_what_the_orders_say(orders: None, people: Any) -> None:
    text = shown(people.viewer)
    assert "91.7 %" in text and "<code>above_ceiling</code>" in text and "roastrunner" in text
    series = json.loads(re.search(r'data-series="([^"]*)"', text).group(1).replace("&quot;", '"'))  # type: ignore[union-attr]
    assert sum(series["orders"]) == 13 and len(series["orders"]) == len(series["at_s"])
    assert "Acknowledge" not in text  # a viewer acts on nothing


def test_alerts_carry_their_acts_for_an_operator_alone(organization: Any, people: Any, now: dt.datetime) -> None:
    alert = raise_alert(organization, now)
    operators, viewers = (shown(who, "/analytics/alerts/") for who in (people.operator, people.viewer))
    for act in ("acknowledge", "resolve", "shelve"):
        address = f"/v1/alerts/{alert.pk}/{act}"
        assert address in operators and address not in viewers
    services_alerts.resolve_alert(for_user(people.operator), alert, text="done", now=now)
    assert alert.pk not in shown(people.operator, "/analytics/alerts/")
    assert "Resolved by operator" in shown(people.operator, "/analytics/alerts/", alerts="resolved")


@pytest.mark.parametrize(
    "query",
    [{"from": "soon"}, {"from": "2026-02-30"}, {"from": "0001-01-01"}, {"to": "9999-12-31"},
     {"from": "2026-11-05", "to": "2026-11-01"},
     {"range": "ever"}, {"order_type": "FLY"}, {"agent": "x" * 300}, {"machine": "mch_none"}, {"alerts": "?"}],
)  # fmt: skip
def test_whatever_is_asked_a_page_is_shown(orders: None, people: Any, query: dict[str, str]) -> None:
    shown(people.viewer, **query)


def test_days_are_the_persons_own_also_when_the_clocks_change(orders: None, people: Any) -> None:
    Preferences.objects.update_or_create(user=people.viewer, defaults={"time_zone": "Europe/Berlin"})
    text = shown(people.viewer, **{"from": "2025-10-26", "to": "2025-10-26"})
    begin, end = re.findall(r'From <time datetime="([^"]*)".*?to <time datetime="([^"]*)"', text)[0]
    assert dt.datetime.fromisoformat(end) - dt.datetime.fromisoformat(begin) == dt.timedelta(hours=25)


def test_the_page_asks_a_fixed_number_of_times(
    orders: None, people: Any, machine: Any, agent: Any, django_assert_max_num_queries: Any
) -> None:
    with GuardsAside():
        for day in range(2, 80, 2):
            order_at(machine, clock.now() - dt.timedelta(days=day), agent=agent)
    while order_history.sum_due(now=clock.now()):
        pass
    for chosen in ("24h", "90d"):
        with django_assert_max_num_queries(QUERIES):
            shown(people.viewer, range=chosen)
