"""A line machine end to end: added by a lead, held by a real keeper, tended by the loop, ordered over the API."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.test import Client

from commands import machine_loop
from commands.models import Alarm, Execution, Halt, Proposal
from commands.stop import asgi
from commands.stop.authority import AUTHORITY
from commands.tests.real_machine import wait_for
from commands.tests.rows import organization_row, person_row
from commands.tests.test_loop_real import tending
from drivers import keeper_config, keeper_process
from drivers.virtual.line_peer import LinePeer
from drivers.virtual.line_server import TcpDoor, served
from kernel import clock, keys
from kernel.models import Site
from kernel.principals import for_user
from roasts import machines
from roasts.models import Gap, Machine, MachineReading, Roast, Sample

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def line_machine(
    settings: Any, more_options: dict[str, Any] | None = None, **peer: Any
) -> Iterator[tuple[LinePeer, Machine]]:
    """A served peer and its machine, filed as a lead files it; the keeper's process is reaped."""
    folder = Path(tempfile.mkdtemp(prefix="roastops-"))
    settings.DATA_DIR, settings.RUN_DIR = folder, folder / "run"
    made, door = LinePeer(seed=3, **peer), TcpDoor("127.0.0.1", 0)
    organization = organization_row()
    site, _ = Site.objects.get_or_create(organization=organization, name="Here")
    options = {"host": "127.0.0.1", "port": door.port, **(more_options or {})}
    assert machines.check_driver("tcp-line", options) is None
    machine = machines.add_machine(
        for_user(person_row("lea", "lead")), now=clock.now(),
        machine=Machine(site=site, name="Line", driver_kind="tcp-line", driver_options=options))
    config = machine_loop.config_of(machine, settings.RUN_DIR)
    keeper_config.write(settings.RUN_DIR, config)
    try:
        with served(made, door):
            yield made, machine
    finally:
        keeper_process.stop_keeper(config, 3.0)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def rig(settings: Any) -> Iterator[tuple[LinePeer, Machine]]:
    with line_machine(settings) as both:
        yield both


def latest(machine: Machine) -> MachineReading:
    return MachineReading.objects.get(pk=machine.pk)


def anna() -> dict[str, str]:
    user = person_row("anna", "operator")
    plain = keys.create_key(organization_row(), scopes=["operate", "propose", "stop", "read"], user=user,
                            now=clock.now())[1]
    return {"Authorization": f"Bearer {plain}"}


def ordered(headers: dict[str, str], machine: Machine, value: float, unit: str = "percent") -> dict[str, Any]:
    """POST /v1/proposals by a person, to its end."""
    answer = Client(headers=headers).post("/v1/proposals", {
        "machine_id": machine.pk, "order_type": "SET_POWER", "target_value": value, "target_unit": unit,
        "reasoning": "test"}, content_type="application/json")
    assert answer.status_code == 201, answer.content
    row = Proposal.objects.get(pk=answer.json()["proposal_id"])

    def settled() -> bool:
        row.refresh_from_db()
        return row.status in ("COMPLETED", "FAILED", "REJECTED", "IN_DOUBT", "ABORTED")

    wait_for(settled, what=f"an end of the order ({row.status})")
    return {"id": row.pk, "status": row.status, "actual_step": row.actual_step, "message": row.outcome_message}


def stopped(headers: dict[str, str], machine: Machine) -> dict[str, Any]:
    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(app=asgi.stop_asgi)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            return await client.post(f"/v1/machines/{machine.pk}/stop", headers=headers)

    answer = asyncio.run(go())
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_line_machine_is_recorded_ordered_in_percent_and_stopped_with_proof(rig: Any) -> None:
    peer, machine = rig
    headers = anna()
    with tending(machine):
        wait_for(lambda: latest(machine).at and latest(machine).link == "up", what="readings")
        wait_for(lambda: Sample.objects.count() >= 20, what="samples")
        wait_for(lambda: not Alarm.objects.filter(cleared_at=None).exists(), what="the alarm of the start to clear")
        AUTHORITY.refresh()
        done = ordered(headers, machine, 62.9)
        assert machine_loop.facts_of(machine).limits.warming_heater_step == 56, "5 of 9, in percent"
        assert (done["status"], done["actual_step"]) == ("COMPLETED", 62), f"heat rounds down: {done}"
        assert list(peer.told) == [f"SET {done['id']} heater 62"] and peer.status()["heater_step"] == 62
        stages = list(Execution.objects.get().stages.values_list("stage", flat=True))
        assert stages == ["released", "sent", "read_back", "verified"]
        answer = stopped(headers, machine)
        assert answer["result"] == "heat_off", answer
        assert answer["first_byte_ms"] < 250 and answer["proved_ms"] < 2000
        assert peer.status()["heater_step"] == 0 and peer.status()["fan_step"] == 70
        assert Halt.objects.get().result == "heat_off"
        assert ordered(headers, machine, 30)["status"] == "REJECTED"
    sample = Sample.objects.order_by("elapsed_ms").first()
    assert sample is not None and sample.environment_temp_c is not None and sample.heater_step == 55
    assert Roast.objects.get().status in ("charged", "roasting")
    assert latest(machine).identity["serial"] == "L-7"


def test_a_source_of_one_line_a_second_is_known_as_such_and_its_heat_goes_up(settings: Any) -> None:
    """Its readings are up to 1.1 s old: by a fast machine's bound, many an order for more heat would be refused."""
    headers = anna()
    with line_machine(settings, interval_ms=1000) as (peer, machine), tending(machine) as loop:
        wait_for(lambda: latest(machine).interval_s == 1.0 and latest(machine).at, what="its interval, and a reading")
        wait_for(lambda: not Alarm.objects.filter(cleared_at=None).exists(), what="the alarm of the start to clear")
        assert loop.keeper_side.view.interval_s == 1.0
        shown = Client(headers=headers).get(f"/v1/machines/{machine.pk}").json()
        assert shown["reading"]["interval_s"] == 1.0 and shown["link"] == "up"
        for step in (60, 63, 66):
            done = ordered(headers, machine, step)
            assert (done["status"], done["actual_step"]) == ("COMPLETED", step), done
        assert peer.status()["heater_step"] == 66


def test_a_line_that_breaks_is_down_comes_back_and_marks_its_gap(rig: Any) -> None:
    peer, machine = rig
    with tending(machine):
        wait_for(lambda: Sample.objects.count() >= 20, what="samples")
        peer.act("fault", fault="disconnect@0+2")
        wait_for(lambda: latest(machine).link == "down", 5.0, "link down")
        wait_for(lambda: latest(machine).link == "up", 8.0, "link up again")
        before = Sample.objects.count()
        wait_for(lambda: Sample.objects.count() >= before + 20, what="samples again")
    roast = Roast.objects.get()
    gap = wait_for(lambda: Gap.objects.filter(roast=roast, from_ms__gt=0).first(), what="the gap")
    assert 1500 <= gap.to_ms - gap.from_ms <= 5000 and gap.reason == "unplugged"


def test_a_machine_that_is_only_read_is_recorded_and_stop_says_the_truth(settings: Any) -> None:
    with line_machine(settings, declares=False) as (peer, machine):
        headers = anna()
        with tending(machine):
            wait_for(lambda: Sample.objects.count() >= 10, what="samples")
            AUTHORITY.refresh()
            refused = ordered(headers, machine, 30)
            assert refused["status"] in ("FAILED", "REJECTED") and list(peer.told) == []
            answer = stopped(headers, machine)
            assert answer["result"] == "unproved", answer
            assert any("turn its heat off at the machine" in words for words in answer["by_hand"])
        assert list(peer.told) == [] and peer.status()["heater_step"] == 55


#: A peer 50 times as fast as life says each of its seconds.
FAST = {"speed": 50.0, "interval_ms": 1000, "initial_state": "charge", "sends_state": False, "declares": False}


def kinds_of(roast: Roast) -> dict[str, int]:
    return dict(roast.events.filter(withdrawn_at__isnull=True).values_list("kind", "elapsed_ms"))


def test_a_machine_without_states_is_roasted_from_an_inferred_charge_to_its_report(settings: Any) -> None:
    with line_machine(settings, {"dedupe_within_ms": 5}, **FAST) as (peer, machine), tending(machine):
        peer.act("turn_knob", control="heater", step=90)
        wait_for(lambda: latest(machine).link == "up" and latest(machine).device_ms, what="readings")
        wait_for(lambda: peer.status()["device_s"] > 20, what="a plateau to fall from")
        assert not Roast.objects.exists()
        charged_s = peer.status()["device_s"]
        peer.act("charge_beans")
        roast = wait_for(Roast.objects.first, what="an inferred charge")
        assert kinds_of(roast) == {"charge": 0} and roast.events.get().source == "inferred"
        wait_for(lambda: peer.status()["device_s"] - charged_s > 260, what="a roast")
        peer.act("drop_beans")
        dropped_s = peer.status()["device_s"]
        wait_for(lambda: "drop" in kinds_of(roast), what="an inferred drop")
        wait_for(lambda: Roast.objects.get().status == "finished", 30, "the end")
    samples = list(roast.samples.order_by("elapsed_ms"))
    assert len(samples) > 250 and samples[0].elapsed_ms < 3000 and {one.state for one in samples} == {"unknown"}
    assert max(b.elapsed_ms - a.elapsed_ms for a, b in zip(samples, samples[1:], strict=False)) <= 5000
    assert samples[9].environment_temp_c is not None and (samples[9].extras or {}).get("drum_rpm") == 42.0
    found = kinds_of(roast)
    assert {"charge", "turning_point", "drop"} <= set(found), found
    assert abs(found["drop"] / 1000 - (dropped_s - charged_s)) < 60, "a bench drum cools slowly"
    roast.refresh_from_db()
    assert roast.status == "finished" and roast.summary is not None, "closed and counted: its report is due"


def asked(headers: dict[str, str], machine: Machine, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    answer = Client(headers=headers).post(f"/v1/machines/{machine.pk}/{path}", body, content_type="application/json")
    return answer.status_code, answer.json()


def test_a_persons_charge_and_end_of_a_machine_without_states(settings: Any) -> None:
    headers = anna()
    with line_machine(settings, initial_state="charge", sends_state=False) as (_, machine), tending(machine) as loop:
        wait_for(lambda: latest(machine).link == "up" and latest(machine).device_ms, what="readings")
        status, opened = asked(headers, machine, "roasts", {})
        assert (status, opened["status"]) == (201, "charged"), opened
        assert asked(headers, machine, "roasts", {})[1]["error"] == "roast_open"
        roast = Roast.objects.get(pk=opened["roast_id"])
        wait_for(lambda: roast.samples.count() >= 20, what="samples")
        first = roast.samples.order_by("elapsed_ms").first()
        assert first is not None and first.elapsed_ms <= 200, "recorded from the moment it was said"
        assert loop.keeper_side.view.roast_id == roast.pk
        status, closed = asked(headers, machine, "roasts/close", {"reason": "Only a trial."})
        assert (status, closed["status"]) == (200, "finished"), closed
        wait_for(lambda: loop.keeper_side.view.roast_id == "", what="the loop lets it go")
        kept = roast.samples.count()
        wait_for(lambda: latest(machine).device_ms > roast.device_start_ms + 5000, what="further readings")
        assert abs(roast.samples.count() - kept) <= 5 and Roast.objects.count() == 1
        assert asked(headers, machine, "roasts/close", {})[1]["error"] == "no_roast"
        second = asked(headers, machine, "roasts", {})[1]["roast_id"]
        wait_for(lambda: Sample.objects.filter(roast_id=second).count() >= 5, what="samples of the next")
