"""The machine loop with a real keeper process and a real virtual machine process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import connection

from commands import services
from commands.api import machines
from commands.machine_loop import MachineLoop
from commands.models import Alarm, Execution, Halt, MachineLease, Proposal
from commands.stop import journal, wire
from commands.tests.real_machine import RealMachine, real_machine, wait_for
from commands.tests.rows import database_locked, machine_row, organization_row, person_row
from drivers.keeper_client import KeeperClient
from drivers.port import Control, SettingOrder
from kernel import clock
from kernel.principals import for_user
from roasts.models import Gap, Machine, MachineReading, Roast, Sample

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def rig(settings) -> Iterator[tuple[RealMachine, Machine]]:
    """A machine that roasts at heater 5, its row, and the data folder of both."""
    with rigged(settings) as both:
        yield both


@contextmanager
def rigged(settings, *arguments: str, kind: str = "bullet-r1", **row) -> Iterator[tuple[RealMachine, Machine]]:
    organization = organization_row()
    with real_machine(*arguments, organization_id=organization.pk, kind=kind) as real:
        settings.DATA_DIR = real.data_dir
        settings.RUN_DIR = real.data_dir / "run"
        yield real, machine_row(
            pk="mch_test", driver_kind=kind, driver_options=real.driver_options(), **row
        )


@contextmanager
def tending(machine: Machine) -> Iterator[MachineLoop]:
    """The loop at work; ended in order."""
    loop = wait_for(lambda: MachineLoop.begin(machine.pk), what="the lease")
    thread = threading.Thread(target=loop.run, args=(lambda: False,), daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop._leave("leaving")
        thread.join(10)
        assert not thread.is_alive()


def operator():
    user = person_row("anna", "operator")
    return for_user(user)


def order(principal, machine: Machine, order_type: str, value: int | None) -> Proposal:
    """A person's own order: runs at once."""
    machine = Machine.objects.get(pk=machine.pk)
    return services.propose_order(
        principal, machine=machine, order_type=order_type, target_value=value,
        target_unit="step" if value is not None else None, reasoning="test", now=clock.now(),
    )  # fmt: skip


def settled(proposal: Proposal, timeout_s: float = 10.0) -> Proposal:
    def look() -> Proposal | None:
        proposal.refresh_from_db()
        return proposal if proposal.status in ("COMPLETED", "FAILED", "REJECTED", "ABORTED", "TIMEOUT") else None

    return wait_for(look, timeout_s, f"an end of {proposal.pk} ({proposal.status})")


def later_gaps():
    """Gaps but the first: this machine was roasting for 150 s before anybody looked."""
    return Gap.objects.filter(from_ms__gt=0)


def latest() -> MachineReading:
    return MachineReading.objects.get(pk="mch_test")


def assert_nothing_missing(real: RealMachine) -> None:
    """Every device time the keeper saw, up to the last one recorded, is a sample, once."""
    recorded = list(Sample.objects.order_by("elapsed_ms").values_list("sequence", flat=True))
    seen: dict[int, int] = {}
    client = KeeperClient(real.config.socket, 1.0)
    for event in client.follow(0):
        if event["event"] == "reading" and event["reading"]["sequence"] <= recorded[-1]:
            seen.setdefault(event["reading"]["device_ms"], event["reading"]["sequence"])
        elif event["event"] in ("reading", "quiet"):
            break
    assert recorded == sorted(seen.values())


def test_readings_are_recorded_and_shown(rig) -> None:
    real, machine = rig
    with tending(machine):
        wait_for(lambda: latest().link == "up" and latest().at, what="a latest row")
        wait_for(lambda: Sample.objects.count() >= 20, what="samples")
        assert (clock.now() - latest().at).total_seconds() < 1.0
        assert latest().state == "roasting" and latest().heater_step == 5
        assert latest().identity["serial"]
    roast = Roast.objects.get()
    assert roast.status in ("charged", "roasting") and roast.events.get().kind == "charge"
    assert_nothing_missing(real)


def test_an_operators_order_steps_the_heater_and_is_read_back(rig) -> None:
    real, machine = rig
    anna = operator()
    with tending(machine):
        wait_for(lambda: latest().at)
        proposal = order(anna, machine, "SET_POWER", 3)
        settled(proposal)
    assert (proposal.status, proposal.actual_step) == ("COMPLETED", 3), proposal.outcome_message
    assert real.heater_steps_sent() == ["3402aaaa"] * 2
    assert real.status()["heater_step"] == 3
    stages = list(Execution.objects.get().stages.values_list("stage", flat=True))
    assert stages == ["released", "sent", "read_back", "verified"]


def test_stop_latches_is_filed_by_the_loop_and_no_order_passes(rig) -> None:
    real, machine = rig
    anna = operator()
    with tending(machine):
        wait_for(lambda: latest().at)
        answer = wire.stop_through_keeper(real.config, by="somebody", reason="STOP", stop_id="hlt_bykeeper")
        assert answer.receipt.outcome.value == "proved"
        filed = Halt.objects.filter(kind="stop").exclude(result="")  # opened, then told what came of it
        halt = wait_for(lambda: filed.all().first(), what="the latch filed as a halt")
        assert (halt.pk, halt.result, halt.opened_by_name) == ("hlt_bykeeper", "heat_off", "somebody")
        assert settled(order(anna, machine, "SET_POWER", 3)).status == "REJECTED"
        assert real.status()["heater_step"] == 0
        wait_for(lambda: not journal.waiting(real.data_dir))
    assert Halt.objects.count() == 1


def test_heat_that_comes_back_while_halted_is_taken_away_again(rig) -> None:
    real, machine = rig
    with tending(machine):
        wait_for(lambda: latest().at)
        wire.stop_through_keeper(real.config, by="somebody", reason="STOP", stop_id="hlt_x")
        wait_for(lambda: real.status()["heater_step"] == 0)
        real.panel.turn_knob("heater", 4)
        wait_for(lambda: real.status()["heater_step"] == 0, 10, "heat off again")
        wait_for(lambda: Alarm.objects.filter(code="heat_while_halted").exists(), what="the alarm")
    assert Halt.objects.filter(closed_at__isnull=True).count() == 1


def test_unplugged_pauses_orders_marks_the_gap_and_recording_resumes_by_itself(rig) -> None:
    real, machine = rig
    anna = operator()
    with tending(machine):
        wait_for(lambda: Sample.objects.count() > 10)
        real.panel.unplug()
        wait_for(lambda: latest().link == "down", what="the console to hear of it")
        wait_for(lambda: latest().is_orders_paused, what="orders paused")
        alarm = wait_for(lambda: Alarm.objects.filter(code="lost_device").first())
        assert "panel" in alarm.action.lower() and "Unproved" in alarm.consequence
        wait_for(lambda: Halt.objects.filter(kind="link_lost", result="unproved").first(), what="the halt, unproved")
        clock.sleep(2.0)
        before = Sample.objects.count()
        real.panel.replug()
        wait_for(lambda: latest().link == "up", what="the link")
        wait_for(lambda: Sample.objects.count() > before + 10, what="recording to resume")
        wait_for(lambda: Alarm.objects.get(pk=alarm.pk).cleared_at, what="the alarm to clear")
        assert settled(order(anna, machine, "SET_FAN", 5)).status == "REJECTED"
        machines.resume_orders(anna, machine, reason="I looked", now=clock.now())
        done = settled(order(anna, machine, "SET_FAN", 5))
        assert done.status == "COMPLETED", (done.outcome_message, done.rejection_text)
    assert Roast.objects.count() == 1
    gap = wait_for(lambda: later_gaps().first())
    assert gap.reason == "unplugged" and gap.to_ms - gap.from_ms > 1500
    assert Halt.objects.get().closed_at is not None


def test_a_killed_keeper_is_revived_and_the_roast_goes_on(rig) -> None:
    real, machine = rig
    with tending(machine):
        wait_for(lambda: Sample.objects.count() > 10)
        before = latest().connection_id
        real.kill_keeper()
        killed_s = clock.monotonic()
        wait_for(lambda: latest().link == "up" and latest().connection_id not in ("", before), what="another keeper")
        assert clock.monotonic() - killed_s < 5.0
        count = Sample.objects.count()
        wait_for(lambda: Sample.objects.count() > count + 10)
    assert Roast.objects.count() == 1
    assert not latest().is_orders_paused, "nobody pulled the cable"


def test_a_keeper_killed_while_it_steps_leaves_a_doubt_that_reading_settles(rig) -> None:
    real, machine = rig
    anna = operator()
    with tending(machine):
        wait_for(lambda: latest().at)
        clock.sleep(0.6)
        proposal = order(anna, machine, "SET_FAN", 12)  # nine steps: about a second
        wait_for(lambda: len(real.commands()) >= 2, what="the first steps")
        real.kill_keeper()
        settled(proposal, 15)
        at_end = len(real.commands())
        clock.sleep(1.0)
        assert len(real.commands()) == at_end, "nothing was sent again"
        steps = [entry for entry in real.commands() if entry["hex"].startswith("3101")]
    reached = real.status()["fan_step"]
    assert reached == 3 + len(steps), "every step on the wire is one step of the fan, none doubled"
    assert proposal.status == ("COMPLETED" if reached == 12 else "FAILED")
    assert proposal.actual_step == reached
    statuses = list(proposal.transitions.values_list("to_status", flat=True))
    assert "IN_DOUBT" in statuses


def test_an_order_whose_executor_died_is_settled_by_reading_never_sent_again(rig) -> None:
    """As after kill -9 of the loop: the execution stands in the store, the keeper carried it out, nobody concluded."""
    real, machine = rig
    anna = operator()
    with tending(machine):
        wait_for(lambda: latest().at)
        clock.sleep(0.6)
    proposal = order(anna, machine, "SET_POWER", 2)
    loop = wait_for(lambda: MachineLoop.begin(machine.pk))
    assert loop is not None
    client = KeeperClient(real.config.socket, 2.0)
    client.hello(loop.token)
    execution = Execution.objects.create(
        proposal=proposal, machine=machine, lease_token=loop.token, from_step=5, claimed_at=clock.now()
    )
    Proposal.objects.filter(pk=proposal.pk).update(status="EXECUTING")
    receipt = client.apply(SettingOrder(proposal.pk, Control.HEATER, 2, from_step=5), token=loop.token)
    assert receipt.outcome.value == "proved"
    client.close()
    MachineLease.objects.update(expires_at=clock.now())  # it died without a word
    sent = real.heater_steps_sent()
    with tending(machine) as successor:
        assert successor.token > loop.token
        settled(proposal)
    assert (proposal.status, proposal.actual_step, proposal.outcome_code) == ("COMPLETED", 2, "resolved_by_reading")
    assert real.heater_steps_sent() == sent
    assert "IN_DOUBT" in proposal.transitions.values_list("to_status", flat=True)
    assert execution.stages.filter(stage="in_doubt").exists()


def test_two_loops_one_machine_the_older_lets_go_at_once(rig) -> None:
    _real, machine = rig
    with tending(machine) as first:
        wait_for(lambda: latest().at)
        assert MachineLoop.begin(machine.pk) is None, "a live lease is not taken"
        MachineLease.objects.update(expires_at=clock.now())
        with tending(machine) as second:
            wait_for(first.stop.is_set, 3, "the older loop to let go")
            assert first.why in ("fenced", "lease_lost") and second.token == first.token + 1
            count = Sample.objects.count()
            wait_for(lambda: Sample.objects.count() > count + 5, what="the new owner to record")
    assert Sample.objects.values("roast", "elapsed_ms").distinct().count() == Sample.objects.count()


def test_a_store_that_is_gone_for_a_while_loses_no_sample(rig) -> None:
    """Somebody holds the database's write lock for 9 s: nothing can be written, the machine goes on."""
    real, machine = rig
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL's outage is played by the fleet tests with SIGSTOP")
    with tending(machine) as loop:
        wait_for(lambda: Sample.objects.count() > 10)
        with database_locked():
            clock.sleep(9.0)
            assert loop.keeper_side.view.reading is not None
            assert loop.keeper_side.view.age_s(clock.monotonic()) < 1.0, "it reads on"
            assert real.status()["heater_step"] == 5, "nothing was moved"
            assert not loop.stop.is_set(), "unreachable is not lost"
        clock.sleep(2.0)
    assert_nothing_missing(real)
    assert not later_gaps().exists()


def test_a_loop_that_comes_back_files_what_the_keeper_kept_meanwhile(rig) -> None:
    real, machine = rig
    with tending(machine):
        wait_for(lambda: Sample.objects.count() > 10)
    clock.sleep(2.0)
    with tending(machine):
        count = Sample.objects.count()
        wait_for(lambda: Sample.objects.count() > count + 25)
    assert_nothing_missing(real)
    assert not later_gaps().exists() and Roast.objects.count() == 1


def test_an_interlock_makes_safe_with_the_store_gone_and_its_halt_is_filed_later(settings) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("SQLite's way of losing a store")
    with rigged(settings, max_bean_temp_c=100.0) as (real, machine):
        with tending(machine):
            with database_locked():
                wait_for(lambda: real.status()["heater_step"] == 0, what="heat down without a store")
            halt = wait_for(lambda: Halt.objects.filter(kind="interlock").first(), 15, "the halt filed")
            assert halt.code in ("bean_over_temperature", "bean_above_maximum")
            wait_for(lambda: Halt.objects.get(pk=halt.pk).result == "heat_off", what="its proof")
            wait_for(lambda: Alarm.objects.filter(code="bean_over_temperature").exists(), what="the alarm")


def test_stop_overtakes_a_running_order(rig) -> None:
    real, machine = rig
    anna = operator()
    with tending(machine):
        wait_for(lambda: latest().at)
        clock.sleep(0.6)
        proposal = order(anna, machine, "SET_FAN", 12)
        wait_for(lambda: len(real.commands()) >= 2, what="the first steps")
        wire.stop_through_keeper(real.config, by="somebody", reason="STOP", stop_id="hlt_overtakes")
        settled(proposal)
        assert proposal.status == "FAILED", proposal.outcome_message
        assert real.status()["heater_step"] == 0
        assert real.status()["fan_step"] <= 7
    meanings = [entry["hex"] for entry in real.commands()]
    first_down = meanings.index("3402aaaa")
    assert "3101aaaa" not in meanings[first_down : first_down + 5], "heat first, nothing in between"


def test_an_interlock_forbids_more_heat_whoever_orders_it(rig) -> None:
    real, machine = rig
    anna = operator()
    with tending(machine):
        wait_for(lambda: latest().at)
        clock.sleep(0.6)
        real.panel.fault("nan:sensor=probe")
        wait_for(lambda: Alarm.objects.filter(code="bean_sensor_lost").exists(), what="the alarm")
        up = settled(order(anna, machine, "SET_POWER", 7))
        assert up.status in ("FAILED", "REJECTED"), up.outcome_message
        assert settled(order(anna, machine, "SET_POWER", 4)).status == "COMPLETED", "less heat is always allowed"
    assert "3401aaaa" not in real.heater_steps_sent()
