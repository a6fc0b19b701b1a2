"""Machines over HTTP: what is shown, who may act, what a reset and a resume need."""

from __future__ import annotations

import datetime as dt

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from commands import services
from commands.models import Halt, MachineLease
from commands.records import halts
from commands.tests.real_machine import real_machine
from commands.tests.rows import machine_row, organization_row, person_row
from kernel import clock, keys, live
from kernel.models import Agent, ApiKey
from kernel.principals import system_principal
from roasts.models import Machine, MachineReading

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def nobody_has_spoken():
    live.forget_readings()
    yield
    live.forget_readings()


def caller(role: str, slug: str = "demo", name: str = "") -> Client:
    user = person_row(name or f"{role}-{slug}", role, slug=slug)
    scopes = ["lead", "operate", "stop", "read"]
    plain = keys.create_key(organization_row(slug), scopes=scopes, user=user, now=clock.now())[1]
    return Client(headers={"Authorization": f"Bearer {plain}"})


def agent_caller() -> Client:
    agent = Agent.objects.create(organization=organization_row(), name="runner", created_at=clock.now())
    plain = keys.create_key(organization_row(), scopes=["propose"], agent=agent, now=clock.now())[1]
    ApiKey.objects.filter(agent=agent).update(scopes=["propose", "lead"])  # from before agents' scopes were bounded
    return Client(headers={"Authorization": f"Bearer {plain}"})


def tended(machine: Machine, age_s: float = 0.2, **values) -> None:
    now = clock.now()
    at = now - dt.timedelta(seconds=age_s)
    given = {"link": "up", "at": at, "state": "roasting", "bean_temp_c": 150.0, "heater_step": 5, "written_at": now}
    MachineReading.objects.filter(pk=machine.pk).update(**(given | values))
    MachineLease.objects.update_or_create(
        machine=machine,
        defaults={"owner": "x", "token": 1, "expires_at": now + dt.timedelta(seconds=3), "heartbeat_at": now},
    )


def halted(machine: Machine, kind: str = "stop") -> Halt:
    return services.open_halt(machine, kind=kind, by=system_principal("test", machine.organization), now=clock.now())


def test_a_machine_shows_its_newest_reading_with_its_age() -> None:
    machine, viewer = machine_row(), caller("viewer")
    viewer.get(f"/v1/machines/{machine.pk}")  # a process's first request takes seconds: it reads every address
    begun = clock.now()
    tended(machine, age_s=0.2)
    shown = viewer.get(f"/v1/machines/{machine.pk}").json()
    took_ms = (clock.now() - begun) / dt.timedelta(milliseconds=1)
    assert shown["link"] == "up" and shown["reading"]["bean_temp_c"] == 150.0
    assert 200 <= shown["reading"]["age_ms"] <= 200 + took_ms
    assert shown["envelope"]["controls"]["heater"]["max_step"] == 9 and shown["halts"] == []
    newer = clock.now().isoformat()
    live.publish_reading(machine.organization_id, machine.pk, {"at": newer, "state": "roasting", "bean_temp_c": 151.0})
    assert caller("lead").get(f"/v1/machines/{machine.pk}").json()["reading"]["bean_temp_c"] == 151.0


def test_a_link_nobody_tends_is_not_called_up() -> None:
    machine = machine_row()
    assert caller("viewer").get(f"/v1/machines/{machine.pk}").json()["link"] == "never"
    tended(machine)
    MachineLease.objects.update(expires_at=clock.now() - dt.timedelta(seconds=6))
    shown = caller("lead").get(f"/v1/machines/{machine.pk}").json()
    assert shown["link"] == "untended" and "panel" in shown["link_message"]


def test_an_old_reading_is_stale_whatever_the_row_says() -> None:
    machine = machine_row()
    tended(machine, age_s=3.1)
    assert caller("viewer").get(f"/v1/machines/{machine.pk}").json()["link"] == "stale"


def test_hot_beans_are_mentioned_until_cooling_was_seen() -> None:
    machine = machine_row()
    tended(machine)
    halt = halted(machine)
    viewer = caller("viewer")
    assert viewer.get(f"/v1/machines/{machine.pk}").json()["halts"][0]["may_hold_hot_beans"] is True
    tended(machine, state="off")  # it restarted in mid-roast
    assert viewer.get(f"/v1/machines/{machine.pk}").json()["halts"][0]["may_hold_hot_beans"] is True
    tended(machine, state="cooling")
    assert viewer.get(f"/v1/machines/{machine.pk}").json()["halts"][0]["may_hold_hot_beans"] is False
    tended(machine)
    halts.observe_cooling(halt, now=clock.now())
    shown = viewer.get(f"/v1/machines/{machine.pk}").json()["halts"][0]
    assert shown["may_hold_hot_beans"] is False and shown["cooling_observed_at"]


def test_the_list_costs_the_same_for_one_machine_and_for_many() -> None:
    viewer = caller("viewer")
    tended(machine_row("m0"))
    viewer.get("/v1/machines")  # the key's first use is noted
    with CaptureQueriesContext(connection) as one:
        viewer.get("/v1/machines")
    for number in range(1, 8):
        tended(machine_row(f"m{number}"))
    with CaptureQueriesContext(connection) as many:
        assert len(viewer.get("/v1/machines").json()["results"]) == 8
    assert len(many) == len(one)


def test_neighbours_and_strangers_see_no_machine() -> None:
    machine = machine_row()
    neighbour = caller("admin", "other")
    assert neighbour.get(f"/v1/machines/{machine.pk}").status_code == 404
    assert neighbour.get("/v1/machines").json()["results"] == []
    for act in ("reset", "suspend", "resume", "resume-orders", "stop"):
        answer = neighbour.post(f"/v1/machines/{machine.pk}/{act}", {"reason": "x"}, content_type="application/json")
        assert answer.status_code == 404, act
        assert Client().post(f"/v1/machines/{machine.pk}/{act}").status_code == 401
    assert Client().get("/v1/machines").status_code == 401


@pytest.mark.parametrize("act", ["reset", "suspend", "resume", "resume-orders", "stop"])
def test_viewers_and_agents_may_not_act(act: str) -> None:
    machine = machine_row()
    for who in (caller("viewer"), agent_caller()):
        answer = who.post(f"/v1/machines/{machine.pk}/{act}", {"reason": "x"}, content_type="application/json")
        assert answer.status_code == 403, act


def test_only_a_lead_resets_and_only_with_a_reason(settings, tmp_path) -> None:
    settings.RUN_DIR = tmp_path
    machine = machine_row()
    halt = halted(machine)
    path = f"/v1/machines/{machine.pk}/reset"
    assert caller("operator").post(path, {"reason": "x"}, content_type="application/json").status_code == 403
    lead = caller("lead")
    assert lead.post(path, {}, content_type="application/json").status_code == 400
    assert lead.post(path, {"reason": " "}, content_type="application/json").status_code == 400
    answer = lead.post(path, {"reason": "I looked"}, content_type="application/json")
    assert answer.status_code == 200 and answer.json()["halts"] == [halt.pk]
    halt.refresh_from_db()
    assert halt.close_reason == "I looked"


def test_i_have_it_and_giving_it_back() -> None:
    machine = machine_row()
    operator = caller("operator")
    taken = operator.post(f"/v1/machines/{machine.pk}/suspend", {}, content_type="application/json")
    assert taken.json()["is_suspended"] is True
    assert operator.get(f"/v1/machines/{machine.pk}").json()["suspension"]["taken_by"] == "operator-demo"
    given_back = operator.post(f"/v1/machines/{machine.pk}/resume", {"what": "agents"}, content_type="application/json")
    assert given_back.json()["is_suspended"] is False


def test_resuming_orders_clears_the_lost_links_halt_and_no_other() -> None:
    machine = machine_row()
    halted(machine, "link_lost")
    stop = halted(machine, "stop")
    services.pause_orders(machine, code="lost_device", now=clock.now())
    answer = caller("operator").post(
        f"/v1/machines/{machine.pk}/resume", {"what": "orders"}, content_type="application/json"
    )
    assert answer.json()["is_orders_paused"] is False
    assert list(Halt.objects.filter(closed_at__isnull=True)) == [stop]


@pytest.mark.django_db(transaction=True)
def test_a_reset_releases_the_keeper_first_and_refuses_where_it_does_not_answer(settings) -> None:
    with real_machine(organization_id=organization_row().pk) as real:
        settings.DATA_DIR, settings.RUN_DIR = real.data_dir, real.data_dir / "run"
        machine = machine_row(pk="mch_test")
        lead = caller("lead")
        real.ensure_keeper()
        stopped = lead.post("/v1/machines/mch_test/stop")
        assert stopped.json()["result"] == "heat_off" and stopped.json()["recorded"] is True
        assert real.keeper_status()["latched"]
        answer = lead.post("/v1/machines/mch_test/reset", {"reason": "I looked"}, content_type="application/json")
        assert answer.json()["halts"] == [stopped.json()["halt_id"]]
        assert real.keeper_status()["latched"] is None
        halted(machine)
        real.kill_keeper()
        refused = lead.post("/v1/machines/mch_test/reset", {"reason": "again"}, content_type="application/json")
        assert (refused.status_code, refused.json()["error"]) == (503, "keeper_unreachable")
        assert Halt.objects.filter(closed_at__isnull=True).count() == 1, "a halt that cannot be released stands"
