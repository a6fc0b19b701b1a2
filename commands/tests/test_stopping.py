"""STOP over ASGI, with a real keeper and a real virtual machine."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.db import connection
from django.test import Client

from commands.console import pages
from commands.models import Halt
from commands.stop import asgi, journal, wire
from commands.stop.authority import AUTHORITY
from commands.tests.real_machine import RealMachine, real_machine, wait_for
from commands.tests.rows import database_locked, machine_row, organization_row, person_row
from drivers import keeper
from kernel import clock, keys
from kernel.models import Agent, ApiKey
from kernel.principals import for_user
from roasts.models import Machine

pytestmark = pytest.mark.django_db(transaction=True)
FIELDS = {"result", "halt_id", "first_byte_ms", "proved_ms", "by_hand", "proof", "recorded"}


@pytest.fixture
def rig(settings) -> Iterator[tuple[RealMachine, Machine]]:
    organization = organization_row()
    with real_machine(organization_id=organization.pk) as real:
        settings.DATA_DIR = real.data_dir
        settings.RUN_DIR = real.data_dir / "run"
        yield real, machine_row(pk="mch_test", driver_options=real.driver_options())


def bearer(role: str = "operator", slug: str = "demo", name: str = "anna") -> dict[str, str]:
    user = person_row(name, role, slug=slug)
    plain = keys.create_key(organization_row(slug), scopes=["stop", "lead"], user=user, now=clock.now())[1]
    return {"Authorization": f"Bearer {plain}"}


def post(headers: dict[str, str], machine_id: str = "mch_test", **more: Any) -> httpx.Response:
    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(app=asgi.stop_asgi)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            return await client.post(f"/v1/machines/{machine_id}/stop", headers=headers, **more)

    return asyncio.run(go())


def test_stop_takes_the_heat_off_proves_it_and_records_it(rig) -> None:
    real, _machine = rig
    real.ensure_keeper()
    headers = bearer()
    AUTHORITY.refresh()
    answer = post(headers, content=b"not json at all")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert set(body) == FIELDS
    assert body["result"] == "heat_off" and body["recorded"] is True
    assert body["first_byte_ms"] < 250 and body["proved_ms"] < 3000
    assert wire.DROP_BY_HAND in body["by_hand"], "heat off is not cold"
    assert real.status()["heater_step"] == 0
    assert real.heater_steps_sent()[:5] == ["3402aaaa"] * 5 and "3401aaaa" not in real.heater_steps_sent()
    halt = Halt.objects.get()
    assert (halt.pk, halt.result, halt.opened_by_name) == (body["halt_id"], "heat_off", "anna")
    assert journal.waiting(real.data_dir) == []


def test_stop_again_is_the_same_halt_and_only_downward(rig) -> None:
    real, _machine = rig
    real.ensure_keeper()
    headers = bearer()
    AUTHORITY.refresh()
    first = post(headers).json()
    second = post(headers).json()
    assert second["halt_id"] == first["halt_id"] and second["result"] == "heat_off"
    assert second["first_byte_ms"] is None, "heat was off already"
    assert Halt.objects.get().first_byte_ms == first["first_byte_ms"], "the first press's proof stands"
    assert "3401aaaa" not in real.heater_steps_sent()


def test_many_stops_at_once_are_one_halt(rig) -> None:
    real, _machine = rig
    real.ensure_keeper()
    headers = bearer()
    AUTHORITY.refresh()

    async def go() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=asgi.stop_asgi)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            return await asyncio.gather(
                *[client.post("/v1/machines/mch_test/stop", headers=headers) for _ in range(20)]
            )

    answers = asyncio.run(go())
    assert {answer.status_code for answer in answers} == {200}
    wait_for(lambda: not journal.waiting(real.data_dir), what="all notes filed")
    assert Halt.objects.count() == 1
    # Whether or not an answer could wait for the record, it names the halt that is recorded.
    assert {answer.json()["halt_id"] for answer in answers} == {Halt.objects.get().pk}
    assert real.heater_steps_sent().count("3402aaaa") <= 9


@pytest.mark.parametrize(
    ("role", "slug", "status"), [("viewer", "demo", 403), ("judge", "demo", 403), ("operator", "other", 404)]
)
def test_who_may_not_moves_nothing(rig, role: str, slug: str, status: int) -> None:
    real, _machine = rig
    real.ensure_keeper()
    headers = bearer(role, slug)
    AUTHORITY.refresh()
    answer = post(headers)
    assert answer.status_code == status and set(answer.json()) == {"error", "message", "how_to_fix"}
    assert real.commands() == []


def test_an_agent_and_a_stranger_may_not(rig) -> None:
    real, _machine = rig
    agent = Agent.objects.create(organization=organization_row(), name="runner", created_at=clock.now())
    plain = keys.create_key(organization_row(), scopes=["read"], agent=agent, now=clock.now())[1]
    ApiKey.objects.filter(agent=agent).update(scopes=["stop"])  # a key from before agents' scopes were bounded
    AUTHORITY.refresh()
    assert post({"Authorization": f"Bearer {plain}"}).status_code == 403
    assert post({}).status_code == 401
    assert post({"Authorization": "Bearer ro_nobody_x"}).status_code == 401
    assert post({"X-Stop-Token": "v1.mch_test.usr_1.9999999999.00"}).status_code == 401
    assert real.commands() == []


def test_an_unknown_machine_is_not_there(rig) -> None:
    headers = bearer()
    AUTHORITY.refresh()
    for machine_id in ("mch_nobody", "..", "%2e%2e%2fstop", "a" * 300):
        assert post(headers, machine_id).status_code == 404


def test_a_key_made_a_moment_ago_stops_too(rig) -> None:
    real, _machine = rig
    real.ensure_keeper()
    AUTHORITY.refresh()
    assert post(bearer()).json()["result"] == "heat_off"


def test_the_consoles_token_stops_by_header_and_by_body(rig) -> None:
    real, machine = rig
    real.ensure_keeper()
    user = person_row("anna", "operator")
    AUTHORITY.refresh()
    token = pages.issue_stop_tokens(for_user(user), [machine])[machine.pk]
    assert post({"X-Stop-Token": token}).json()["result"] == "heat_off"
    assert post({}, json={"stop_token": token}).json()["result"] == "heat_off"
    assert Halt.objects.get().opened_by_name == "anna"


def test_a_session_stops_with_its_csrf_token_and_not_without(rig) -> None:
    real, _machine = rig
    real.ensure_keeper()
    browser = Client()
    browser.force_login(person_row("anna", "operator"))
    AUTHORITY.refresh()
    session = browser.cookies["sessionid"].value
    csrf = "a" * 32
    cookies = {"Cookie": f"sessionid={session}; csrftoken={csrf}"}
    assert post({**cookies, "X-CSRFToken": "b" * 32}).status_code == 403
    assert post(cookies).status_code == 401, "a form on another site sends no token"
    assert post({**cookies, "X-CSRFToken": csrf, "Origin": "http://evil.example"}).status_code == 403
    assert real.commands() == []
    assert post({**cookies, "X-CSRFToken": csrf, "X-Stop-Token": "expired"}).json()["result"] == "heat_off"


def test_stop_with_a_store_that_cannot_be_written_is_journalled(rig) -> None:
    real, _machine = rig
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL's freeze is played by the fleet tests with SIGSTOP")
    real.ensure_keeper()
    headers = bearer()
    AUTHORITY.refresh()
    with database_locked():
        begun_s = clock.monotonic()
        body = post(headers).json()
        took_s = clock.monotonic() - begun_s
        assert body["result"] == "heat_off" and body["recorded"] is False
        assert body["first_byte_ms"] < 250
        # The fan's four steps come after the proof; the store's own time-out would be five seconds.
        assert took_s * 1000 < body["proved_ms"] + 1500, "the answer does not wait for the store"
        assert [note.stop_id for _, note in journal.waiting(real.data_dir)] == [body["halt_id"]]
    halt = wait_for(lambda: Halt.objects.filter(pk=body["halt_id"], result="heat_off").first(), 15)
    assert halt is not None
    wait_for(lambda: not journal.waiting(real.data_dir), what="the note filed")


def test_a_dead_keeper_is_revived_for_a_stop(rig) -> None:
    real, _machine = rig
    real.ensure_keeper()
    real.kill_keeper()
    headers = bearer()
    AUTHORITY.refresh()
    begun_s = clock.monotonic()
    body = post(headers).json()
    assert clock.monotonic() - begun_s < 4.0
    assert body["result"] in ("heat_off", "unproved")
    wait_for(lambda: real.status()["heater_step"] == 0, what="heat off")
    wait_for(lambda: Halt.objects.filter(pk=body["halt_id"], result="heat_off").exists(), what="the proof recorded")
    assert "3401aaaa" not in real.heater_steps_sent()


def test_a_machine_nobody_can_reach_is_unproved_with_what_hands_must_do(rig) -> None:
    real, _machine = rig
    headers = bearer()
    AUTHORITY.refresh()
    real.panel.unplug()
    body = post(headers).json()
    assert body["result"] == "unproved" and body["proved_ms"] is None
    assert any("panel" in line for line in body["by_hand"])
    assert Halt.objects.get().result == "unproved"


def test_a_machine_without_a_keepers_config_is_unproved_not_lost(settings, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path
    settings.RUN_DIR = tmp_path / "run"
    machine = machine_row()
    headers = bearer()
    AUTHORITY.refresh()
    body = post(headers, machine.pk).json()
    assert body["result"] == "unproved" and body["proof"]["reason"] == "no_keeper_configured"
    assert Halt.objects.get(machine=machine).result == "unproved"


def run_stop(real: RealMachine, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`manage.py stop` with a database and a broker that do not exist."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ROASTOPS_", "PYTEST_"))}
    environment |= {
        "ROASTOPS_DATA_DIR": str(real.data_dir),
        "DATABASE_URL": "postgres://nobody:x@127.0.0.1:1/none",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "DJANGO_SETTINGS_MODULE": "roastops.settings",
    }
    root = Path(__file__).resolve().parents[2]
    return subprocess.run(
        [sys.executable, "manage.py", "stop", *arguments],
        env=environment, cwd=root, text=True, capture_output=True, timeout=60, check=False,
    )  # fmt: skip


def test_the_command_stops_through_the_keeper_with_everything_else_dead(rig) -> None:
    real, _machine = rig
    real.ensure_keeper()
    done = run_stop(real, "--machine", "mch_test", "--json")
    assert done.returncode == 0, done.stderr
    body = json.loads(done.stdout)
    assert body["result"] == "heat_off" and real.status()["heater_step"] == 0
    assert [note.stop_id for _, note in journal.waiting(real.data_dir)] == [body["halt_id"]]


def test_the_command_takes_the_device_itself_where_no_keeper_lives_and_leaves_the_latch(rig) -> None:
    real, _machine = rig
    done = run_stop(real, "--all")
    assert done.returncode == 0, done.stderr
    assert "HEAT OFF" in done.stdout and wire.DROP_BY_HAND in done.stdout
    assert real.status()["heater_step"] == 0
    real.ensure_keeper()
    assert real.keeper_status()["latched"]["reason"] == "STOP", "the next keeper finds it halted"


def test_the_command_names_who_holds_a_busy_machine(rig) -> None:
    real, _machine = rig
    held = keeper.take_lock(real.config)
    try:
        done = run_stop(real, "--machine", "Test roaster")
    finally:
        os.close(held)
    assert done.returncode == 2
    assert f"process {os.getpid()}" in done.stdout and "UNPROVED" in done.stdout


def test_the_command_knows_no_such_machine(rig) -> None:
    real, _machine = rig
    done = run_stop(real, "--machine", "nobody")
    assert done.returncode == 3 and "Test roaster" in done.stderr


def test_a_keeper_that_hangs_is_answered_for_within_seconds_and_obeys_when_it_wakes(rig) -> None:
    real, _machine = rig
    pid = real.ensure_keeper()
    headers = bearer()
    AUTHORITY.refresh()
    os.kill(pid, signal.SIGSTOP)
    try:
        begun_s = clock.monotonic()
        body = post(headers).json()
        assert clock.monotonic() - begun_s < 6.0
        assert body["result"] == "unproved" and any("panel" in line for line in body["by_hand"])
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: real.status()["heater_step"] == 0, what="the keeper to obey late")
