"""Over the request limit: STOP and less heat are never turned away, and an agent that asks too often is told of."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest

from commands.history import services_alerts
from commands.models import Alert, Proposal, RequestRefusal
from kernel import clock, request_gate
from kernel.request_counts import MemoryCounts
from kernel.request_gate import Door
from kernel.request_limits import Kind

pytestmark = pytest.mark.django_db


class NothingLeft(MemoryCounts):
    """Everybody is over every limit."""

    def take(self, name: str, limit: int, now_s: float) -> Any:
        return super().take(name, 0, now_s)


@pytest.fixture
def over_limit() -> Iterator[None]:
    request_gate.open_door(Door(NothingLeft(), 1))
    yield
    request_gate.take_door_away()


def order(machine: Any, order_type: str, value: float | None = None, unit: str | None = "step") -> dict[str, Any]:
    return {
        "machine_id": machine.pk, "order_type": order_type, "target_value": value,
        "target_unit": unit if value is not None else None, "reasoning": "test",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("order_type", "value", "unit", "passes"),
    [
        ("SET_POWER", 5, "step", True), ("SET_POWER", 0, "step", True), ("SET_POWER", 55, "percent", True),
        ("SET_POWER", 6, "step", False), ("SET_POWER", 7, "step", False), ("SET_FAN", 9, "step", False),
        ("DROP", None, None, True), ("COOL", None, None, True), ("PREHEAT", None, None, False),
        ("SET_POWER", 5, "rpm", False),
    ],
)  # fmt: skip
def test_a_person_over_the_limit_may_still_lower_the_heat_drop_and_cool(
    machine: Any, people: Any, signed_in: Any, over_limit: None, order_type: str, value: Any, unit: Any, passes: bool
) -> None:
    console = signed_in(people.operator)
    answer = console.post("/v1/proposals", order(machine, order_type, value, unit), format="json")
    assert answer.status_code == (201 if passes else 429), answer.json()
    assert Proposal.objects.count() == (1 if passes else 0)
    if not passes:
        assert answer.json()["error"] == "too_many_requests" and int(answer["Retry-After"]) >= 1


def test_by_key_a_persons_less_heat_passes_too(machine: Any, people: Any, api_by_key: Any, over_limit: None) -> None:
    caller = api_by_key(user=people.operator, scopes=["operate"])
    assert caller.post("/v1/proposals", order(machine, "SET_POWER", 5), format="json").status_code == 201
    assert caller.get("/v1/me").status_code == 429


def test_an_agents_less_heat_does_not_pass(
    machine: Any, granted: Any, agent: Any, api_by_key: Any, over_limit: None
) -> None:
    caller = api_by_key(agent=agent, scopes=["read", "propose"])
    assert caller.post("/v1/proposals", order(machine, "SET_POWER", 5), format="json").status_code == 429
    assert not Proposal.objects.exists()


def test_less_heat_that_cannot_be_told_from_more_does_not_pass(
    machine: Any, people: Any, signed_in: Any, over_limit: None
) -> None:
    machine.latest.heater_step = None
    machine.latest.save()
    console = signed_in(people.operator)
    assert console.post("/v1/proposals", order(machine, "SET_POWER", 0), format="json").status_code == 429


def test_an_operator_over_the_limit_says_no_and_takes_the_machine(
    machine: Any, held: Proposal, people: Any, signed_in: Any, over_limit: None
) -> None:
    console = signed_in(people.operator)
    assert console.post(f"/v1/machines/{machine.pk}/suspend", {}, format="json").status_code == 200
    held.refresh_from_db()
    path = f"/v1/proposals/{held.pk}/reject"
    answer = console.post(path, {"code": "SAFETY_CONCERN"}, format="json")
    assert answer.status_code != 429
    assert console.post(f"/v1/proposals/{held.pk}/approve", {"digest": held.digest}, format="json").status_code == 429


def test_an_agent_that_is_turned_away_again_and_again_raises_an_alert(
    machine: Any, agent: Any, api_by_key: Any, over_limit: None
) -> None:
    caller = api_by_key(agent=agent, scopes=["read", "propose"])
    assert caller.get("/v1/me").status_code == 429
    assert list(RequestRefusal.objects.values_list("agent__name", "kind", "count")) == [("roastrunner", "read", 1)]
    now = clock.now()
    services_alerts.watch_orders(machine.organization, now=now)
    assert not Alert.objects.exists(), "once is not again and again"
    caller.get("/v1/me")
    caller.get("/v1/me")
    assert sum(RequestRefusal.objects.values_list("count", flat=True)) == 3
    now = clock.now()
    services_alerts.watch_orders(machine.organization, now=now)
    alert = Alert.objects.get()
    assert (alert.kind, alert.agent_id, alert.trigger["value"]) == ("RATE_LIMIT_EXCEEDED", agent.pk, 3)
    assert alert.trigger["codes"] == ["too_many_requests"] and alert.trigger["orders"] == []
    services_alerts.watch_orders(machine.organization, now=now + dt.timedelta(minutes=10, seconds=1))
    alert.refresh_from_db()
    assert alert.resolved_at is not None


def test_a_person_that_is_turned_away_is_no_alert(machine: Any, people: Any, signed_in: Any, over_limit: None) -> None:
    assert signed_in(people.operator).get("/v1/me").status_code == 429
    assert not RequestRefusal.objects.exists()


def test_a_neighbours_refusals_are_not_ours(machine: Any, agent: Any, people: Any) -> None:
    RequestRefusal.objects.create(
        organization=agent.organization, agent=agent, kind=Kind.READ.value, count=50, at=clock.now()
    )
    services_alerts.watch_orders(people.stranger_organization, now=clock.now())
    assert not Alert.objects.exists()
    services_alerts.watch_orders(agent.organization, now=clock.now())
    assert Alert.objects.get().organization == agent.organization
