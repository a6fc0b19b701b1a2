"""Plans and a breaker's trips where a person looks: what may still be done is a button, and goes to the API."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from commands.models import BreakerTrip, Grant, Plan
from commands.plans import plan_words, services_plans, services_rollback
from commands.records import grants
from commands.tests.test_services_plans import (  # noqa: F401
    approve,
    carry_out,
    fresh,
    held_plan,
    orders_of,
    plan_of,
)
from kernel.models import AuditEntry

pytestmark = pytest.mark.django_db


@pytest.fixture
def running(held_plan: Plan, people: Any, now: dt.datetime) -> Plan:  # noqa: F811
    """Approved: heater 6 → 5 is next, then the fan, then the heater again."""
    return approve(people, held_plan, now)


@pytest.fixture
def stopped(running: Plan, people: Any, machine: Any, now: dt.datetime) -> Plan:
    """Its first order moved the heater to 5; then the operator called the rest off."""
    carry_out(running, now)
    services_plans.abort_plan(people.principal("operator"), running, now=now)
    return fresh(running)


def shown(machine: Any, now: dt.datetime) -> list[tuple[str, bool, bool]]:
    return [(view.plan.pk, view.may_call_off, view.may_compensate) for view in plan_words.shown_on(machine.pk, now)]


def test_a_plan_that_waits_stands_in_the_queue_alone(held_plan: Plan, machine: Any, now: dt.datetime) -> None:  # noqa: F811
    assert shown(machine, now) == []
    view = plan_words.view_of(held_plan.pk)
    assert view is not None and view.may_call_off and not view.may_compensate


def test_a_running_plan_may_be_called_off_and_not_taken_back(running: Plan, machine: Any, now: dt.datetime) -> None:
    assert shown(machine, now) == [(running.pk, True, False)]


def test_a_plan_that_stopped_half_way_may_be_taken_back_for_an_hour(
    stopped: Plan, machine: Any, now: dt.datetime
) -> None:
    assert stopped.status == "ABORTED"
    assert shown(machine, now) == [(stopped.pk, False, True)]
    assert shown(machine, now + dt.timedelta(minutes=59)) == [(stopped.pk, False, True)]
    assert shown(machine, now + dt.timedelta(minutes=60)) == []
    view = plan_words.view_of(stopped.pk)
    assert view is not None and view.may_compensate, "on its orders' pages it may be taken back later, too"
    assert view.done == 1 and [order.status for order in view.orders] == ["COMPLETED", "ABORTED", "ABORTED"]


def test_one_that_moved_nothing_or_is_taken_back_already_offers_nothing(
    stopped: Plan, held_plan: Plan, people: Any, machine: Any, now: dt.datetime  # noqa: F811
) -> None:
    services_rollback.compensate_plan(people.principal("operator"), stopped, reasoning="", now=now)
    view = plan_words.view_of(stopped.pk)
    assert view is not None and not view.may_compensate


def test_a_plan_that_was_called_off_before_its_first_order_offers_nothing(
    running: Plan, people: Any, machine: Any, now: dt.datetime
) -> None:
    services_plans.abort_plan(people.principal("operator"), running, now=now)
    assert shown(machine, now) == []


@pytest.mark.parametrize("who", ["operator", "viewer"])
def test_the_pages_offer_the_acts_to_who_may_operate(
    who: str, stopped: Plan, machine: Any, people: Any, signed_in: Any
) -> None:
    browser = signed_in(getattr(people, who))
    order = orders_of(stopped)[0]
    for path in (f"/machines/{machine.pk}/", f"/orders/{order.pk}/"):
        page = browser.get(path).content.decode()
        assert stopped.title in page and "1 of 3 confirmed" in page
        assert (f'data-api="/v1/plans/{stopped.pk}/compensate"' in page) is (who == "operator")


@pytest.mark.parametrize("who", ["operator", "viewer"])
def test_a_running_plan_is_called_off_from_its_machines_page(
    who: str, running: Plan, machine: Any, people: Any, signed_in: Any
) -> None:
    browser = signed_in(getattr(people, who))
    page = browser.get(f"/machines/{machine.pk}/").content.decode()
    assert (f'data-api="/v1/plans/{running.pk}/abort"' in page) is (who == "operator")
    answer = browser.post(f"/v1/plans/{running.pk}/abort", {}, format="json")
    assert answer.status_code == (200 if who == "operator" else 403)


# --- an agent that is trusted less ---------------------------------------------------------------


@pytest.fixture
def trip(granted: Grant, machine: Any, agent: Any, now: dt.datetime) -> BreakerTrip:
    return BreakerTrip.objects.create(
        organization=machine.organization, machine=machine, agent=agent, grant=granted, kind="error_rate",
        from_level="L4", to_level="L3", evidence={"failed": 3}, at=now,
    )  # fmt: skip


def test_who_has_seen_a_trip_is_kept_once_and_it_leaves_the_page(
    trip: BreakerTrip, machine: Any, people: Any, signed_in: Any
) -> None:
    path, url = f"/machines/{machine.pk}/", f"/v1/breaker-trips/{trip.pk}/seen"
    first, second = signed_in(people.operator), signed_in(people.second_operator)
    assert url in first.get(path).content.decode()
    answer = first.post(url, {}, format="json")
    assert answer.status_code == 200 and answer.json()["seen_by"] == "operator"
    again = second.post(url, {}, format="json")
    assert again.json()["seen_by"] == "operator" and again.json()["seen_at"] == answer.json()["seen_at"]
    assert url not in first.get(path).content.decode()
    assert AuditEntry.objects.filter(verb="lowering_seen", subject_id=trip.grant_id).count() == 1
    listed = second.get("/v1/breaker-trips", {"machine": machine.pk}).json()["results"]
    assert [(row["trip_id"], row["kind"], row["to_level"]) for row in listed] == [(trip.pk, "error_rate", "L3")]
    assert second.get("/v1/breaker-trips", {"agent": "agt_none"}).json()["results"] == []


def test_a_viewer_a_stranger_and_an_agent_see_no_trip_away(
    trip: BreakerTrip, machine: Any, people: Any, signed_in: Any, agent_principal: Any
) -> None:
    url = f"/v1/breaker-trips/{trip.pk}/seen"
    assert signed_in(people.viewer).post(url, {}, format="json").status_code == 403
    assert signed_in(people.stranger).post(url, {}, format="json").status_code == 404
    assert signed_in(people.operator).post(url, {"note": 1}, format="json").status_code == 400
    assert "/seen" not in signed_in(people.viewer).get(f"/machines/{machine.pk}/").content.decode()
    assert signed_in(people.stranger).get("/v1/breaker-trips").json()["results"] == []
    with pytest.raises(Exception, match="person"):
        grants.see_lowering(agent_principal, trip, now=trip.at)
    trip.refresh_from_db()
    assert trip.seen_at is None
