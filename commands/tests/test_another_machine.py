"""Another machine is plugged in where one was commissioned: the commissioning ends by itself, and no grant acts."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace
from typing import Any

import pytest
from django.test import Client

from commands import services
from commands.commissioning import services_commissioning, steps
from commands.loop.keeper_side import KeeperSide, Resume
from commands.loop.notes import MachineFacts
from commands.models import Alarm, Commissioning, Grant, Proposal
from commands.tests.real_machine import wait_for
from commands.tests.rows import machine_row, organization_row, person_row
from commands.tests.test_loop_real import latest, rigged, tending
from commands.tests.test_services_commissioning import LIMITS, all_passed
from drivers.tests.virtual_machines import end_process, start_machine
from drivers.virtual.panel import Panel
from kernel import clock, keys, principals
from kernel.errors import Conflict
from kernel.models import Agent, AuditEntry
from roasts.models import Machine, MachineReading

NOW = dt.datetime(2026, 11, 21, 8, 0, tzinfo=dt.UTC)
LATER = NOW + dt.timedelta(minutes=5)
HERS, OTHER = {"serial": "1183", "model": "Bullet R1"}, {"serial": "1184", "model": "Bullet R1"}


def signed(machine: Machine, identity: dict[str, Any] = HERS) -> Commissioning:
    """The commissioning in force, of the machine that says this of itself."""
    entry = {"code": "identity", "result": "passed", "evidence": {"identity": identity}}
    Commissioning.objects.filter(machine=machine, ended_at=None).update(steps=[entry])
    return Commissioning.objects.get(machine=machine, ended_at=None)


def standing(machine: Machine) -> Alarm | None:
    return Alarm.objects.filter(machine=machine, code="another_machine", cleared_at=None).first()


@pytest.mark.django_db
def test_another_serial_ends_the_commissioning_and_tells_a_person_both() -> None:
    machine = machine_row()
    row = signed(machine)
    assert services_commissioning.meet_machine(machine, OTHER, now=NOW) == row
    assert services_commissioning.in_force(machine) is None
    row.refresh_from_db()
    alarm = standing(machine)
    assert alarm is not None and alarm.priority == "high"
    for words in (row.end_reason, alarm.cause):
        assert "1184" in words and "1183" in words
    assert "no agent acts" in alarm.consequence
    entry = AuditEntry.objects.get(subject_id=row.pk, verb="commissioning_ended")
    assert (entry.actor_kind, entry.actor_name) == ("system", "machine loop")


@pytest.mark.django_db
@pytest.mark.parametrize("identity", [HERS, {"serial": None}, {}])
def test_the_same_machine_and_one_that_says_no_serial_change_nothing(identity: dict[str, Any]) -> None:
    machine = machine_row()
    row = signed(machine)
    assert services_commissioning.meet_machine(machine, identity, now=NOW) is None
    assert services_commissioning.in_force(machine) == row and standing(machine) is None


@pytest.mark.django_db
def test_meeting_it_twice_ends_it_once_and_the_right_one_clears_the_alarm_and_restores_nothing() -> None:
    machine = machine_row()
    signed(machine)
    services_commissioning.meet_machine(machine, OTHER, now=NOW)
    assert services_commissioning.meet_machine(machine, OTHER, now=LATER) is None
    assert Alarm.objects.filter(machine=machine, code="another_machine").count() == 1
    services_commissioning.meet_machine(machine, HERS, now=LATER)
    assert standing(machine) is None
    assert services_commissioning.in_force(machine) is None, "only a lead's signature brings trust back"


@pytest.mark.django_db
def test_what_nobody_commissioned_or_somebody_took_back_raises_no_alarm() -> None:
    machine = machine_row()
    row = signed(machine)
    lead = principals.for_user(person_row("lena", "lead"))
    services_commissioning.end_commissioning(lead, row, reason="moved to another site", now=NOW)
    assert services_commissioning.meet_machine(machine, OTHER, now=LATER) is None
    Commissioning.objects.filter(machine=machine).update(completed_at=None, completed_by=None)
    assert services_commissioning.meet_machine(machine, OTHER, now=LATER) is None
    assert standing(machine) is None


@pytest.mark.django_db
def test_steps_done_at_one_machine_are_not_signed_for_another_and_a_new_signature_ends_the_alarm() -> None:
    machine = machine_row()
    signed(machine)
    services_commissioning.meet_machine(machine, OTHER, now=NOW)
    operator = principals.for_user(person_row("otto", "operator"))
    lead = principals.for_user(person_row("lena", "lead"))
    row = services_commissioning.begin_commissioning(operator, machine, now=NOW)
    row = all_passed(operator, row)
    seen = steps.Finding(steps.Result.PASSED, "It answers.", {"identity": OTHER})
    row = services_commissioning.record_step(operator, row, code="identity", finding=seen, now=NOW)
    MachineReading.objects.filter(machine=machine).update(identity={"serial": "1185"})
    with pytest.raises(Conflict) as refused:
        services_commissioning.complete_commissioning(lead, row, limits=LIMITS, now=LATER)
    assert refused.value.code == "another_machine" and "1185" in refused.value.message
    MachineReading.objects.filter(machine=machine).update(identity=OTHER)
    services_commissioning.complete_commissioning(lead, row, limits=LIMITS, now=LATER)
    assert standing(machine) is None


# --- between the plug and the look ---------------------------------------------------------------


@pytest.fixture
def side(tmp_path: Any) -> KeeperSide:
    facts = MachineFacts("mch_test", "org_test", "Test", None)  # type: ignore[arg-type]
    return KeeperSide(facts, SimpleNamespace(), token=1, data_dir=tmp_path, backlog=None, resume=Resume())  # type: ignore[arg-type]


def test_a_machine_is_known_once_its_identity_was_asked_for_and_looked_at(side: KeeperSide) -> None:
    up = {"event": "link", "state": "up"}
    side.handle(up)
    assert not side.is_machine_known, "nobody has asked who it is"
    side.handle({"event": "identity", "identity": HERS, "interval_s": 0.1})
    assert not side.is_machine_known, "nobody has compared it"
    side.vouch(HERS)
    assert side.is_machine_known and side.view.interval_s == 0.1
    side.handle({"event": "link", "state": "down"})
    side.handle(up)
    assert not side.is_machine_known, "another one may have been plugged in"
    side.handle({"event": "identity", "identity": OTHER})
    assert not side.is_machine_known, "another one was"
    side.vouch(OTHER)
    assert side.is_machine_known


def test_another_keeper_is_asked_anew(side: KeeperSide) -> None:
    hello = {"event": "hello", "boot_id": "a", "newest_sequence": 0, "latched": None, "link": {"state": "up"}}
    side.handle(hello)
    side.handle({"event": "identity", "identity": HERS})
    side.vouch(HERS)
    assert side.is_machine_known
    side.handle({**hello, "boot_id": "b"})
    assert not side.is_machine_known


# --- for real ------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_trusted_agent_is_only_heard_once_another_bullet_answers_at_the_cable(settings: Any) -> None:
    """Level 5, commissioned, drilled, attended: its order goes out. The other Bullet's first answer ends that."""
    with rigged(settings) as (real, machine), tending(machine):
        wait_for(lambda: latest().identity.get("serial"), what="who it is")
        signed(machine, latest().identity)
        agent, client = trusted_agent(machine)
        wait_for(lambda: order(client, machine, 4)["status"] == "APPROVED", what="an order let through")
        wait_for(lambda: Proposal.objects.filter(status="COMPLETED").exists(), what="its end")
        assert real.status()["heater_step"] == 4
        end_process(real.process)
        wait_for(lambda: latest().link == "down", what="the cable out")
        given = ("--initial-state", "roasting", "--seed", "7", "--settings", "serial_number=1184")
        other, panel = start_machine(real.socket, *given), Panel(real.socket)
        try:
            alarm = wait_for(lambda: standing(machine), what="the alarm")
            assert "1184" in alarm.cause
            told = order(client, machine, 3)
            assert told["status"] == "REJECTED"
            assert "not_commissioned" in {reason["code"] for reason in told["verdict"]["reasons"]}
            assert Grant.objects.get(agent=agent).revoked_at is None, "the grant stands; it acts on nothing here"
            assert [entry for entry in panel.wire() if entry.get("hex", "").startswith("34")] == []
        finally:
            panel.close()
            end_process(other)


def trusted_agent(machine: Machine) -> tuple[Agent, Client]:
    organization, lead = organization_row(), person_row("lara", "lead")
    agent = Agent.objects.create(organization=organization, name="roastrunner", owner=lead, created_at=NOW)
    plain = keys.create_key(organization, agent=agent, scopes=["read", "propose"], now=clock.now())[1]
    services.grant_autonomy(principals.for_user(lead), agent=agent, machine=machine, level="L5", now=clock.now())
    services.attend_machine(principals.for_user(person_row("otto", "operator")), machine, now=clock.now())
    return agent, Client(headers={"Authorization": f"Bearer {plain}"})


def order(client: Client, machine: Machine, step: int) -> dict[str, Any]:
    body = {
        "machine_id": machine.pk, "order_type": "SET_POWER", "target_value": step, "target_unit": "step",
        "reasoning": "test",
    }  # fmt: skip
    answer = client.post("/v1/proposals", body, content_type="application/json")
    assert answer.status_code == 201, answer.content
    return dict(answer.json())
