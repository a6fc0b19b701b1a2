"""Orders for a state, end to end: API, approval, loop, keeper, the real driver, the button of a virtual machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.test import Client

from commands.models import Execution, Grant, Proposal
from commands.tests.real_machine import RealMachine, wait_for
from commands.tests.rows import AT, organization_row, person_row
from commands.tests.test_loop_real import latest, rigged, settled, tending
from kernel import clock, keys
from kernel.models import Agent
from roasts.models import Machine, RoastEvent

pytestmark = pytest.mark.django_db(transaction=True)
PRESS = "30010000"
STATE_ORDERS = ("PREHEAT", "CHARGE", "DROP", "COOL")
Rig = tuple[RealMachine, Machine]


@contextmanager
def standing_in(settings: Any, state: str, kind: str = "bullet-r1") -> Iterator[Rig]:
    """A machine in that state, tended, with a fresh reading."""
    arguments = ("--initial-state", state, "--seed", "7", "--speed", "2")
    with rigged(settings, *arguments, kind=kind) as (real, machine), tending(machine):
        wait_for(lambda: latest().link == "up" and latest().state == state, what=f"a reading in {state}")
        yield real, machine


def presses(real: RealMachine) -> list[str]:
    return [entry["hex"] for entry in real.commands() if entry["hex"] == PRESS]


@pytest.fixture
def person() -> Client:
    """Anna, an operator, in the console's session."""
    client = Client()
    client.force_login(person_row("anna", "operator"))
    return client


@pytest.fixture
def second() -> Client:
    """Ben, another operator."""
    client = Client()
    client.force_login(person_row("ben", "operator"))
    return client


@pytest.fixture
def ask_as_agent() -> Callable[[Machine, str], dict[str, Any]]:
    """What an agent that may act with approval is answered."""
    organization = organization_row()
    lead = person_row("lara", "lead")
    agent = Agent.objects.create(organization=organization, name="roastrunner", owner=lead, created_at=AT)
    _key, plain = keys.create_key(organization, agent=agent, scopes=["read", "propose"], now=clock.now())

    def ask(machine: Machine, order_type: str) -> dict[str, Any]:
        Grant.objects.get_or_create(
            organization=organization, agent=agent, machine=machine, revoked_at=None,
            defaults={"level": "L3", "granted_by": lead, "granted_at": clock.now(), "order_types": list(STATE_ORDERS)},
        )  # fmt: skip
        return propose(Client(headers={"Authorization": f"Bearer {plain}"}), machine, order_type)

    return ask


def propose(client: Client, machine: Machine, order_type: str) -> dict[str, Any]:
    body = {"machine_id": machine.pk, "order_type": order_type, "reasoning": "test"}
    answer = client.post("/v1/proposals", body, content_type="application/json")
    assert answer.status_code == 201, answer.content
    return dict(answer.json())


def said_yes(client: Client, order: dict[str, Any]) -> None:
    path = f"/v1/proposals/{order['proposal_id']}/approve"
    answer = client.post(path, {"digest": order["digest"]}, content_type="application/json")
    assert answer.status_code == 200, answer.content


def approve(client: Client, order: dict[str, Any]) -> Proposal:
    said_yes(client, order)
    return settled(Proposal.objects.get(pk=order["proposal_id"]))


def stages(proposal: Proposal) -> list[str]:
    return list(Execution.objects.get(proposal=proposal).stages.order_by("id").values_list("stage", flat=True))


def timeline(client: Client, proposal: Proposal) -> list[str]:
    return [entry["what"] for entry in client.get(f"/v1/proposals/{proposal.pk}/timeline").json()["entries"]]


def codes(order: dict[str, Any]) -> set[str]:
    return {reason["code"] for reason in order["verdict"]["reasons"]}


def test_an_agents_preheat_needs_two_is_pressed_once_and_read_back(settings, person, second, ask_as_agent) -> None:
    with standing_in(settings, "off") as (real, machine):
        order = ask_as_agent(machine, "PREHEAT")
        assert order["status"] == "PENDING_APPROVAL", order["verdict"]
        assert presses(real) == [], "nothing is pressed before a person approved"
        assert order["approvals_needed"] == 2, "heat into an empty drum is critical"
        said_yes(second, order)
        assert Proposal.objects.get().status == "PENDING_APPROVAL" and presses(real) == [], "one of two"
        done = approve(person, order)
        assert (done.status, presses(real)) == ("COMPLETED", [PRESS]), done.outcome_message
        wait_for(lambda: latest().state in ("preheating", "stabilising"), what="the state in the console")
        assert stages(done) == ["released", "sent", "verified"]
        told = timeline(person, done)
        wanted = ["PROPOSED", "PENDING_APPROVAL", "APPROVED", "EXECUTING", "sent", "verified", "COMPLETED"]
        assert [what for what in told if what in wanted] == wanted, told
        again = propose(person, machine, "PREHEAT")
        assert again["status"] == "REJECTED" and "wrong_state" in codes(again), again["verdict"]
        assert presses(real) == [PRESS]


def test_an_agents_cool_ends_the_roast_with_one_press(settings, person, ask_as_agent) -> None:
    with standing_in(settings, "roasting") as (real, machine):
        wait_for(lambda: latest().bean_temp_c)
        done = approve(person, ask_as_agent(machine, "COOL"))
        assert (done.status, presses(real)) == ("COMPLETED", [PRESS]), done.outcome_message
        wait_for(lambda: latest().state == "cooling" and real.status()["heater_step"] == 0, what="the roast's end")
        wait_for(lambda: RoastEvent.objects.filter(kind="drop").exists(), what="the drop, marked by the machine")


def test_a_persons_drop_runs_at_once(settings, person) -> None:
    with standing_in(settings, "roasting") as (real, machine):
        order = propose(person, machine, "DROP")
        assert order["status"] == "APPROVED", order["verdict"]
        done = settled(Proposal.objects.get(pk=order["proposal_id"]))
        assert (done.status, presses(real)) == ("COMPLETED", [PRESS]), done.outcome_message
        assert wait_for(lambda: latest().state == "cooling")


def test_charging_is_a_hands_work_a_persons_order_is_declined_and_an_agents_is_advice(
    settings, person, ask_as_agent
) -> None:
    with standing_in(settings, "charge") as (real, machine):
        order = propose(person, machine, "CHARGE")
        done = settled(Proposal.objects.get(pk=order["proposal_id"]))
        assert (done.status, done.outcome_code) == ("FAILED", "no_such_press"), done.outcome_message
        assert "at the machine" in done.outcome_message
        advice = ask_as_agent(machine, "CHARGE")
        assert advice["status"] == "REJECTED" and "hand_act_countdown" in codes(advice)
        assert "beans_not_proved" not in codes(advice)
        assert presses(real) == []
        assert latest().state == "charge"


def test_an_r2_preheats_to_the_temperature_asked_for_and_says_what_it_cannot_prove(settings, person) -> None:
    with standing_in(settings, "off", "bullet-r2") as (real, machine):
        body = {"machine_id": machine.pk, "order_type": "PREHEAT", "target_value": 220.9, "target_unit": "celsius",
                "reasoning": "test"}  # fmt: skip
        too_hot = person.post("/v1/proposals", body | {"target_value": 261}, content_type="application/json").json()
        assert too_hot["status"] == "REJECTED" and "preheat_out_of_range" in codes(too_hot)
        order = person.post("/v1/proposals", body, content_type="application/json").json()
        assert order["status"] == "APPROVED", order["verdict"]
        done = settled(Proposal.objects.get(pk=order["proposal_id"]))
        assert done.status == "COMPLETED", done.outcome_message
        assert "The temperature was sent; this machine does not tell it" in done.outcome_message
        told = [(entry["hex"], entry["meaning"]) for entry in real.panel.wire(directions=["out"])]
        assert told == [("350000dc16b0f65e", "preheat target 220"), ("30010000ae1a21db", "prs 0 -> 2")]
        assert done.asked_value == 220.9 and done.target_step is None


@pytest.mark.parametrize(("state", "order_type"), [("off", "DROP"), ("off", "COOL"), ("roasting", "PREHEAT")])
def test_a_state_order_in_the_wrong_state_presses_nothing(settings, person, state: str, order_type: str) -> None:
    with standing_in(settings, state) as (real, machine):
        order = propose(person, machine, order_type)
        assert order["status"] == "REJECTED" and "wrong_state" in codes(order), order["verdict"]
        assert presses(real) == []


def test_a_machine_that_went_on_before_the_approval_is_not_pressed(settings, person, ask_as_agent) -> None:
    with standing_in(settings, "roasting") as (real, machine):
        wait_for(lambda: latest().bean_temp_c)
        order = ask_as_agent(machine, "COOL")
        real.panel.press_prs()  # somebody at the machine was faster
        wait_for(lambda: latest().state == "cooling", what="the hand's press")
        mark = len(presses(real))
        path = f"/v1/proposals/{order['proposal_id']}/approve"
        answer = person.post(path, {"digest": order["digest"]}, content_type="application/json")
        if answer.status_code == 200:
            assert settled(Proposal.objects.get(pk=order["proposal_id"])).status in ("REJECTED", "ABORTED", "FAILED")
        assert len(presses(real)) == mark
