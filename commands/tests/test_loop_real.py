"""The machine loop with a real keeper process and a real virtual machine process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.conf import settings
from django.db import connection

from commands import services
from commands.machine_loop import MachineLoop
from commands.models import Alarm, Execution, Halt, Proposal
from commands.tests.real_machine import RealMachine, real_machine, wait_for
from commands.tests.rows import machine_row, organization_row, person_row
from kernel import clock
from kernel.principals import for_user
from roasts.models import Gap, Machine, MachineReading, Roast, Sample

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def rig(settings) -> Iterator[tuple[RealMachine, Machine]]:
    """A machine that roasts at heater 5, its row, and the data folder of both."""
    yield from _rig(settings)


def _rig(settings, *arguments: str, **row) -> Iterator[tuple[RealMachine, Machine]]:
    organization = organization_row()
    with real_machine(*arguments, organization_id=organization.pk) as real:
        settings.DATA_DIR = real.data_dir
        settings.RUN_DIR = real.data_dir / "run"
        machine = machine_row(pk="mch_test", driver_options=real.driver_options(), **row)
        yield real, machine


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


def latest() -> MachineReading:
    return MachineReading.objects.get(pk="mch_test")


def test_readings_are_recorded_and_shown(rig) -> None:
    _, machine = rig
    with tending(machine):
        wait_for(lambda: latest().link == "up" and latest().at, what="a latest row")
        wait_for(lambda: Sample.objects.count() >= 20, what="samples")
        assert (clock.now() - latest().at).total_seconds() < 1.0
        assert latest().state == "roasting" and latest().heater_step == 5
        assert latest().identity["serial"]
    roast = Roast.objects.get()
    assert roast.status in ("charged", "roasting") and roast.events.get().kind == "charge"
    numbers = list(Sample.objects.order_by("sequence").values_list("sequence", flat=True))
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "each reading once, none missing"


def test_an_operators_order_steps_the_heater_and_is_read_back(rig) -> None:
    real, machine = rig
    anna = operator()
    with tending(machine):
        wait_for(lambda: latest().at)
        proposal = order(anna, machine, "SET_POWER", 3)
        settled(proposal)
    assert (proposal.status, proposal.actual_step) == ("COMPLETED", 3), (proposal.outcome_message, proposal.rejection_text)
    assert real.heater_steps_sent() == ["3402aaaa"] * 2
    assert real.status()["heater_step"] == 3
    stages = list(Execution.objects.get().stages.values_list("stage", flat=True))
    assert stages == ["released", "sent", "read_back", "verified"]
