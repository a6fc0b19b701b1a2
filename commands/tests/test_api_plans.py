"""Plans, the ways back and what-ifs over REST: shapes, refusals, repeats."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from commands.models import Plan, Proposal
from commands.tests.conftest import set_reading
from commands.tests.test_outlook import open_roast
from roasts import outlook
from roasts.models import Machine

pytestmark = pytest.mark.django_db
SignedIn = Callable[[User], APIClient]
FAN = {"order_type": "SET_FAN", "target_value": 5, "target_unit": "step"}
POWER = {"order_type": "SET_POWER", "target_value": 5, "target_unit": "step"}


def body(machine: Machine, *orders: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"machine_id": machine.pk, "title": "Ease off", "reasoning": "Too fast.", "orders": list(orders)} | more


@pytest.fixture
def by_agent(api_by_key: Callable[..., APIClient], agent: Any) -> APIClient:
    return api_by_key(agent=agent, scopes=["read", "propose"])


@pytest.fixture
def held(by_agent: APIClient, machine: Machine, granted: Any) -> dict[str, Any]:
    answer = by_agent.post("/v1/plans", body(machine, POWER, FAN), format="json")
    assert answer.status_code == 201, answer.content
    return dict(answer.json())


def test_proposed_listed_approved(held: dict[str, Any], people: Any, signed_in: SignedIn, machine: Machine) -> None:
    assert (held["status"], held["decision"], held["proposer"]["kind"]) == ("PENDING_APPROVAL", "HOLD", "agent")
    assert [order["plan_position"] for order in held["orders"]] == [0, 1]
    assert {order["plan_id"] for order in held["orders"]} == {held["plan_id"]}
    browser = signed_in(people.operator)
    listed = browser.get("/v1/plans", {"machine": machine.pk, "status": "PENDING_APPROVAL"}).json()["results"]
    assert [plan["plan_id"] for plan in listed] == [held["plan_id"]]
    assert browser.get("/v1/plans", {"status": "COMPLETED"}).json()["results"] == []
    path = f"/v1/plans/{held['plan_id']}"
    wrong = browser.post(f"{path}/approve", {"digest": "0" * 64}, format="json")
    assert (wrong.status_code, wrong.json()["error"]) == (412, "stale_digest")
    single = held["orders"][0]
    alone = browser.post(
        f"/v1/proposals/{single['proposal_id']}/approve", {"digest": single["digest"]}, format="json"
    )
    assert (alone.status_code, alone.json()["error"], alone.json()["plan_id"]) == (409, "part_of_plan", held["plan_id"])
    done = browser.post(f"{path}/approve", {"digest": held["digest"]}, format="json")
    assert (done.status_code, done.json()["status"]) == (200, "APPROVED"), done.content
    assert done.json()["approver"]["name"] == "operator"
    assert {order["status"] for order in browser.get(path).json()["orders"]} == {"APPROVED"}


@pytest.mark.parametrize(
    ("act", "sent", "plan_status"),
    [("reject", {"code": "WRONG_TIMING"}, "REJECTED"), ("abort", {}, "ABORTED"), ("abort", {"text": "no"}, "ABORTED")],
)
def test_turned_down(
    act: str, sent: dict[str, Any], plan_status: str, held: dict[str, Any], people: Any, signed_in: SignedIn
) -> None:
    answer = signed_in(people.operator).post(f"/v1/plans/{held['plan_id']}/{act}", sent, format="json")
    assert (answer.status_code, answer.json()["status"]) == (200, plan_status), answer.content
    again = signed_in(people.operator).post(f"/v1/plans/{held['plan_id']}/{act}", sent, format="json")
    assert again.status_code == 409, again.content


def test_a_veto_is_for_what_runs_by_itself(held: dict[str, Any], people: Any, signed_in: SignedIn) -> None:
    answer = signed_in(people.operator).post(f"/v1/plans/{held['plan_id']}/veto", {}, format="json")
    assert (answer.status_code, answer.json()["error"]) == (409, "not_open_to_veto")


def test_the_same_plan_twice_is_one(by_agent: APIClient, machine: Machine, granted: Any) -> None:
    answers = [
        by_agent.post("/v1/plans", body(machine, FAN), format="json", headers={"Idempotency-Key": "advice-1"})
        for _ in range(2)
    ]
    assert {answer.json()["plan_id"] for answer in answers} == {Plan.objects.get().pk}
    assert answers[1].headers["Idempotent-Replay"] == "true"


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"orders": []}, 400, None),
        ({"orders": [FAN] * 13}, 400, None),
        ({"orders": [{"order_type": "COOL"}, FAN]}, 422, "state_order_not_last"),
        ({"orders": [FAN | {"target": 5}]}, 400, None),
        ({"orders": "all"}, 400, None),
        ({"title": ""}, 400, None),
        ({"machine_id": "mch_none"}, 404, "machine_not_found"),
        ({"roast_id": "rst_none"}, 404, "roast_not_found"),
        ({"expires_in_s": 0.5}, 400, None),
    ],
)
def test_what_is_no_plan(
    change: dict[str, Any], status: int, code: str | None, people: Any, signed_in: SignedIn, machine: Machine
) -> None:
    answer = signed_in(people.operator).post("/v1/plans", body(machine, FAN) | change, format="json")
    assert answer.status_code == status, answer.content
    assert code is None or answer.json()["error"] == code
    assert not Plan.objects.exists()


@pytest.mark.parametrize("who", ["viewer", "judge"])
def test_who_may_not_order_proposes_no_plan(who: str, people: Any, signed_in: SignedIn, machine: Machine) -> None:
    answer = signed_in(getattr(people, who)).post("/v1/plans", body(machine, FAN), format="json")
    assert answer.status_code == 403


def test_another_organisation_finds_no_plan(held: dict[str, Any], people: Any, signed_in: SignedIn) -> None:
    browser, path = signed_in(people.stranger), f"/v1/plans/{held['plan_id']}"
    assert browser.get(path).status_code == 404
    assert browser.get("/v1/plans").json()["results"] == []
    for act, sent in (
        ("approve", {"digest": held["digest"]}), ("reject", {"code": "OTHER", "text": "x"}), ("veto", {}),
        ("abort", {}), ("compensate", {"reasoning": "x"}),
    ):  # fmt: skip
        assert browser.post(f"{path}/{act}", sent, format="json").status_code == 404, act
    order = held["orders"][0]["proposal_id"]
    for act, sent in (("rollback", {"reasoning": "x"}), ("resolve", {"reads_step": 5, "evidence": "x"})):
        assert browser.post(f"/v1/proposals/{order}/{act}", sent, format="json").status_code == 404, act


def test_the_ways_back_say_why_not(held: dict[str, Any], people: Any, signed_in: SignedIn) -> None:
    browser = signed_in(people.operator)
    order = held["orders"][0]["proposal_id"]
    back = browser.post(f"/v1/proposals/{order}/rollback", {"reasoning": "x"}, format="json")
    assert (back.status_code, back.json()["error"]) == (409, "not_settled")
    doubt = browser.post(f"/v1/proposals/{order}/resolve", {"reads_step": 5, "evidence": "x"}, format="json")
    assert (doubt.status_code, doubt.json()["error"]) == (409, "not_in_doubt")
    whole = browser.post(f"/v1/plans/{held['plan_id']}/compensate", {"reasoning": "x"}, format="json")
    assert (whole.status_code, whole.json()["error"]) == (409, "not_stopped")
    for sent in ({}, {"reads_step": 5}, {"reads_step": "5", "evidence": "x"}, {"reads_state": "dancing"}):
        assert browser.post(f"/v1/proposals/{order}/resolve", sent, format="json").status_code == 400, sent


def test_a_persons_plan_over_rest_runs_at_once(people: Any, signed_in: SignedIn, machine: Machine) -> None:
    answer = signed_in(people.operator).post("/v1/plans", body(machine, POWER, FAN), format="json").json()
    assert (answer["status"], {order["status"] for order in answer["orders"]}) == ("APPROVED", {"APPROVED"})
    assert Proposal.objects.ready_to_claim().count() == 1


# --- what if


def ask(browser: APIClient, machine: Machine, *orders: dict[str, Any]) -> Any:
    return browser.post(f"/v1/machines/{machine.pk}/what-if", {"orders": list(orders)}, format="json")


def test_several_what_ifs_at_once_without_a_roast(people: Any, signed_in: SignedIn, machine: Machine) -> None:
    browser = signed_in(people.viewer)
    answer = ask(browser, machine, POWER, FAN | {"target_unit": "rpm"}, {"order_type": "COOL"},
                 FAN | {"target_value": 50, "target_unit": "percent"}, FAN | {"target_value": 99})  # fmt: skip
    assert answer.status_code == 200, answer.content
    found = answer.json()
    assert found["roast_id"] is None and found["says"]
    assert [each["target_step"] for each in found["candidates"]] == [5, None, None, 6, 99]
    words = [each["says"] for each in found["candidates"]]
    assert words[0] == "" and "rpm" in words[1] and "states" in words[2] and words[3] == "" and "12" in words[4]
    assert not Proposal.objects.exists()


def test_what_ifs_are_bounded(people: Any, signed_in: SignedIn, machine: Machine) -> None:
    browser = signed_in(people.viewer)
    assert ask(browser, machine).status_code == 400
    assert ask(browser, machine, *[FAN] * 11).status_code == 400
    assert ask(signed_in(people.stranger), machine, FAN).status_code == 404


def test_each_candidate_has_its_future(people: Any, signed_in: SignedIn, machine: Machine, now: dt.datetime) -> None:
    outlook.forget_all()
    open_roast(machine, seconds=120)
    set_reading(machine, now)
    steps = [2, 7, 9]
    orders = [POWER | {"target_value": step} for step in steps]
    found = ask(signed_in(people.viewer), machine, *orders).json()
    ends = [each["curve"]["with_c"][-1] for each in found["candidates"]]
    without = {each["curve"]["without_c"][-1] for each in found["candidates"]}
    assert ends == sorted(ends) and len(set(ends)) == 3, "more heat ends hotter"
    assert len(without) == 1 and found["elapsed_s"] > 100
    outlook.forget_all()
