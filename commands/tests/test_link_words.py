"""A pulled cable, in every order of events: what the page says and what a person may do never contradict the link."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import Client

from commands import services
from commands.loop import lease, notes
from commands.loop.interlocks import Limits
from commands.loop.keeper_side import KeeperSide, Resume
from commands.loop.notes import MachineFacts, PauseOrders, View
from commands.loop.store_side import StoreSide
from commands.models import Halt
from commands.tests import console_scene
from drivers import keeper_config
from kernel import clock, live, principals
from kernel.principals import system_principal
from roasts.models import Machine, MachineReading
from roasts.recording.backlog import Backlog

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def no_readings() -> Iterator[None]:
    """What one test publishes, another does not hear."""
    live.forget_readings()
    yield
    live.forget_readings()


def halts_panel(scene) -> str:
    client = Client()
    client.force_login(scene.operator)
    return client.get(f"/machines/{scene.machine.pk}/panels/halts/").content.decode()


def say(scene, link: str, at: dt.datetime) -> None:
    """What the loop tells viewers, before any row is written."""
    view = View(link=link, link_code="unplugged" if link == "down" else "", link_message="The cable is out.")
    machine = scene.machine
    live.publish_reading(machine.organization_id, machine.pk, notes.live_payload(machine.pk, view, at))


def lose_link(scene, now: dt.datetime) -> None:
    services.open_halt(
        scene.machine, kind="link_lost", code="lost_device",
        by=system_principal("machine loop", scene.organization), now=now,
    )  # fmt: skip


# --- what the page says --------------------------------------------------------------------------


def test_what_the_loop_says_now_wins_over_the_row_it_wrote_before(scene, now):
    say(scene, "down", now + dt.timedelta(milliseconds=100))
    assert "Link down" in halts_panel(scene)


def test_a_row_written_after_the_last_word_wins(scene, now):
    say(scene, "up", now)
    console_scene.set_latest(scene.machine, now, link="down", written_at=now + dt.timedelta(milliseconds=100))
    assert "Link down" in halts_panel(scene)


def test_an_unplugged_machine_is_never_said_to_be_plugged_in_again(scene, now):
    console_scene.set_latest(scene.machine, now, link="down", is_orders_paused=True)
    lose_link(scene, now)
    body = halts_panel(scene)
    assert "Link down" in body
    assert "plugged in again" not in body
    assert "Orders are paused" in body
    assert "/resume" not in body, "nothing to let through while nobody can have seen it answer"


def test_after_the_replug_it_is_said_and_the_operator_may_let_orders_through(scene, now):
    console_scene.set_latest(scene.machine, now, link="up", is_orders_paused=True)
    lose_link(scene, now)
    body = halts_panel(scene)
    assert "Link down" not in body
    assert "plugged in again" in body
    assert "/resume" in body


# --- what a person may do ------------------------------------------------------------------------


def test_orders_are_not_let_through_while_the_cable_is_out(scene, now):
    console_scene.set_latest(scene.machine, now, link="down", is_orders_paused=True)
    lose_link(scene, now)
    client = Client()
    client.force_login(scene.operator)
    path, body = f"/v1/machines/{scene.machine.pk}/resume", {"what": "orders", "reason": "it hangs there"}
    answer = client.post(path, body, content_type="application/json")
    assert (answer.status_code, answer.json()["error"]) == (409, "link_down")
    assert Halt.objects.filter(closed_at__isnull=True).count() == 1
    assert MachineReading.objects.get(machine=scene.machine).is_orders_paused

    console_scene.set_latest(scene.machine, now, link="up")
    assert client.post(path, body, content_type="application/json").json()["is_orders_paused"] is False
    assert not Halt.objects.filter(closed_at__isnull=True).exists()


def test_orders_are_let_through_as_soon_as_the_loop_says_that_it_answers(scene, now):
    console_scene.set_latest(scene.machine, now, link="down", is_orders_paused=True)
    say(scene, "up", now + dt.timedelta(milliseconds=100))
    assert services.resume_orders(principals.for_user(scene.operator), scene.machine, now=now)


# --- what the loop writes, and in which order ----------------------------------------------------


def store_side(machine: Machine, tmp_path: Path) -> StoreSide:
    config = keeper_config.make(
        tmp_path / "run", machine_id=machine.pk, name="Test", driver_kind="bullet-r1", driver_options={},
        organization_id=machine.organization_id,
    )  # fmt: skip
    backlog = Backlog(tmp_path / "readings.ndjson")
    keeper_side = KeeperSide(
        MachineFacts(machine.pk, machine.organization_id, "Test", Limits()), config, token=1, data_dir=tmp_path,
        backlog=backlog, resume=Resume(),
    )  # fmt: skip
    token = lease.take_lease(machine.pk, owner="test", now=clock.now())
    assert token is not None
    return StoreSide(machine, owner="test", token=token, keeper_side=keeper_side, backlog=backlog, data_dir=tmp_path)


def test_the_row_says_link_down_as_soon_as_anybody_hears_that_orders_are_paused(scene, tmp_path):
    scene.machine.lease.delete()
    side = store_side(scene.machine, tmp_path)
    keeper_side = side._keeper_side
    keeper_side.view = dataclasses.replace(keeper_side.view, link="up")
    side.tick(clock.now())
    # The link goes, and the pause is noted, a moment after the row was written: within its rate limit.
    keeper_side.view = dataclasses.replace(keeper_side.view, link="down", link_code="unplugged")
    keeper_side.notes.append(PauseOrders("lost_device", clock.now()))
    assert side._apply_note(clock.now())
    row = MachineReading.objects.get(machine=scene.machine)
    assert (row.is_orders_paused, row.link) == (True, "down")
