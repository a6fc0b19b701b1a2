"""A planned batch with the loop, a real keeper and a real virtual machine; and its part of the machine's page."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from commands.loop import waiting
from commands.tests import console_scene
from commands.tests.real_machine import wait_for
from commands.tests.test_loop_real import operator, rigged, tending
from kernel import clock
from kernel.principals import for_user
from roasts.models import Machine, Profile, ProfileVersion, Roast, Sample
from roasts.recording import services_planned

pytestmark = pytest.mark.django_db(transaction=True)


def plan(who, machine: Machine) -> Roast:
    said = {"bean": "Guji", "lot": "L-7", "weight_in_g": 400.0}
    return services_planned.plan_batch(who, machine, said=said, version=None, now=clock.now())


def status_of(roast_id: str) -> str:
    return Roast.with_planned.get(pk=roast_id).status


def test_planned_preheating_and_charged_it_is_one_roast(settings) -> None:
    with rigged(settings, "--initial-state", "charge", "--seed", "7") as (real, machine):
        real.ensure_keeper()
        who = operator()
        planned = plan(who, machine)
        with tending(machine) as loop:
            wait_for(lambda: status_of(planned.pk) == "preheating", what="preheating")
            assert loop.keeper_side.view.roast_id == "" and not Roast.objects.exists()
            real.panel.charge_beans()
            wait_for(lambda: Roast.objects.open().exists(), 30, "the charge")
            roast = Roast.objects.get()
            assert (roast.pk, roast.bean, roast.lot, roast.weight_in_g) == (planned.pk, "Guji", "L-7", 400.0)
            wait_for(lambda: Sample.objects.filter(roast=roast).count() > 3, what="samples of it")
            after = plan(who, machine)
            wait_for(lambda: waiting.at_machine(machine.pk).planned is not None, what="the one after it")
            assert status_of(after.pk) == "planned", "the machine roasts: it does not heat up for the next"
    assert [row.pk for row in Roast.objects.all()] == [planned.pk]


def test_a_charge_while_no_loop_was_there_is_the_planned_batch(settings) -> None:
    with rigged(settings, "--initial-state", "charge", "--seed", "7") as (real, machine):
        real.ensure_keeper()
        planned = plan(operator(), machine)
        real.panel.charge_beans()
        wait_for(lambda: real.keeper_status()["reading"]["state"] == "roasting", 30, "the charge")
        with tending(machine):
            wait_for(Roast.objects.exists, 30, "the roast")
        assert Roast.objects.get().pk == planned.pk


def test_what_is_planned_costs_the_loop_no_statement_of_its_own(settings, machine: Machine, people) -> None:
    def look() -> int:
        with CaptureQueriesContext(connection) as asked:
            waiting.at_machine(machine.pk)
        return len(asked)

    assert waiting.at_machine(machine.pk).planned is None
    before = look()
    planned = plan(people.principal("operator"), machine)
    assert look() == before
    assert waiting.at_machine(machine.pk).planned.roast_id == planned.pk


# --- the page ---------------------------------------------------------------------------------------


def page(scene: console_scene.Scene, name: str = "operator") -> str:
    client = Client()
    client.post("/sign-in/", {"username": name, "password": console_scene.PASSWORD})
    answer = client.get(f"/machines/{scene.machine.pk}/panels/next/")
    assert answer.status_code == 200
    return answer.content.decode()


def test_the_page_asks_for_the_next_batch_and_shows_it(scene: console_scene.Scene) -> None:
    assert 'data-api="/v1/roasts"' in page(scene)
    planned = services_planned.plan_batch(
        for_user(scene.operator), scene.machine, said={"bean": "<i>Guji"}, version=None, now=clock.now()
    )
    shown = page(scene)
    assert "&lt;i&gt;Guji" in shown and f"/v1/roasts/{planned.pk}/withdraw" in shown
    assert 'id="next-form"' not in shown and 'id="next-batch"' in shown, "a roast is in the drum: folded"
    assert "began without this plan" not in shown
    Roast.objects.open().update(started_at=clock.now())
    assert "began without this plan" in page(scene)
    Roast.objects.open().update(status="finished")
    assert 'id="next-batch"' not in page(scene)


@pytest.mark.parametrize("is_planned", [False, True])
def test_the_page_offers_the_profiles_of_this_machine(scene: console_scene.Scene, is_planned: bool) -> None:
    now = clock.now()
    profile = Profile.objects.create(organization=scene.organization, name="House", created_at=now)
    mine, others = (
        ProfileVersion.objects.create(
            profile=profile, version=number, document={"sensor": {"machine": machine_id}}, digest=machine_id,
            created_by=scene.lead, created_at=now,
        )
        for number, machine_id in ((1, scene.machine.pk), (2, "mch_other"))
    )  # fmt: skip
    if is_planned:
        services_planned.plan_batch(
            for_user(scene.operator), scene.machine, said={"bean": "Guji"}, version=mine, now=now
        )
    shown = page(scene)
    assert f'value="{mine.pk}"' in shown and others.pk not in shown
    assert (f'value="{mine.pk}" selected' in shown) is is_planned
