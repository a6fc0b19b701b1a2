"""What waits for a machine's loop: one statement a look, several times a second, and nobody waits longer for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from commands.execution import Executor
from commands.loop import lease, waiting
from commands.loop.interlocks import Limits
from commands.loop.keeper_side import KeeperSide, Resume
from commands.loop.notes import MachineFacts
from commands.loop.store_side import StoreSide
from commands.models import Halt, Status
from commands.tests.orders_at import order_at
from commands.tests.rows import machine_row
from drivers import keeper_config
from kernel import clock
from kernel.models import Agent, Organization
from roasts.models import Machine
from roasts.recording import recorder
from roasts.recording.backlog import Backlog
from roasts.recording.filing import Filing

pytestmark = pytest.mark.django_db
TO_CARRY_OUT = {"APPROVED", "EXECUTING", "IN_DOUBT"}


@pytest.fixture
def machine(organization: Organization) -> Machine:
    return machine_row()


def sides(machine: Machine, tmp_path: Path) -> tuple[KeeperSide, StoreSide, Executor]:
    config = keeper_config.make(
        tmp_path / "run", machine_id=machine.pk, name="Test", driver_kind="bullet-r1", driver_options={},
        organization_id=machine.organization_id,
    )  # fmt: skip
    backlog = Backlog(tmp_path / "readings.ndjson")
    keeper_side = KeeperSide(
        MachineFacts(machine.pk, machine.organization_id, "Test", Limits()), config, token=1, data_dir=tmp_path,
        backlog=backlog, resume=Resume(),
    )  # fmt: skip
    token = lease.take_lease(machine.pk, owner="test", now=clock.now()) or 0
    store = StoreSide(machine, owner="test", token=token, keeper_side=keeper_side, backlog=backlog, data_dir=tmp_path)
    return keeper_side, store, Executor(machine, config, token=token, keeper_side=keeper_side, shows=store.shows)


@pytest.mark.parametrize("status", [each.value for each in Status])
def test_only_orders_that_the_executor_ends_wait_for_it(machine: Machine, agent: Agent, status: str) -> None:
    order_at(machine, clock.now(), status, agent=agent)
    assert waiting.orders_to_carry_out(machine.pk) == ({status} & TO_CARRY_OUT)
    assert waiting.orders_to_carry_out(machine_row("another").pk) == frozenset()


def test_the_store_says_whose_the_machine_is_what_is_held_and_whether_it_is_halted(
    machine: Machine, agent: Agent
) -> None:
    found = waiting.at_machine(machine.pk)
    assert found is not None
    assert (found.is_ours, found.has_held_orders, found.is_halted) == (True, False, False)
    assert found.bounds == tuple(getattr(machine, name) for name in waiting.BOUNDS)
    order_at(machine, clock.now(), "PENDING_APPROVAL", agent=agent)
    halt = Halt.objects.create(
        organization=machine.organization, machine=machine, kind="stop", opened_at=clock.now(),
        opened_by_kind="person", opened_by_id="usr_1", opened_by_name="somebody",
    )  # fmt: skip
    found = waiting.at_machine(machine.pk)
    assert found is not None and (found.has_held_orders, found.is_halted) == (True, True)
    Halt.objects.filter(pk=halt.pk).update(closed_at=clock.now())
    for gone in ({"is_archived": True}, {"is_archived": False, "is_remote": True}):
        Machine.objects.filter(pk=machine.pk).update(**gone)
        found = waiting.at_machine(machine.pk)
        assert found is not None and (found.is_ours, found.is_halted) == (False, False)
    assert waiting.at_machine("mch_gone") is None


def test_a_look_that_finds_nothing_is_one_statement(machine: Machine, tmp_path: Path) -> None:
    _, store, executor = sides(machine, tmp_path)
    with CaptureQueriesContext(connection) as asked:
        assert not executor.tick(clock.now())
    assert len(asked) == 1 and not executor.has_more_to_do
    with CaptureQueriesContext(connection) as asked:
        store._look_around(clock.now(), clock.monotonic())
    assert len(asked) == 1


@pytest.mark.parametrize("status", sorted(TO_CARRY_OUT - {"EXECUTING"}))
def test_an_executor_with_something_left_says_so_and_is_asked_again_soon(
    machine: Machine, agent: Agent, tmp_path: Path, status: str
) -> None:
    executor = sides(machine, tmp_path)[2]
    order_at(machine, clock.now(), status, agent=agent)
    assert not executor.tick(clock.now()), "no keeper was heard: nothing can be done yet"
    assert executor.has_more_to_do


def test_samples_wait_to_be_filed_together_and_the_roast_they_belong_to_does_not(
    machine: Machine, tmp_path: Path
) -> None:
    _, store, _ = sides(machine, tmp_path)
    store.tick(clock.now())
    backlog = store._backlog
    opening = recorder.OpenRoast(0, clock.now(), is_late=False, is_spurious=False)
    backlog.put(Filing("rst_1", "boot", 1, opening))
    assert backlog.is_urgent
    store.tick(clock.now())
    assert (len(backlog), backlog.is_urgent) == (0, False)
    assert machine.roasts.count() == 1
