"""What an order or a hand moved is in the machine's latest row before anybody hears of it: the next order is judged
from where the controls stand now, not from a row of 0.4 s ago."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.db import connection

from commands import execution
from commands.execution import Executor
from commands.loop.keeper_side import KeeperSide
from commands.loop.notes import MovedAtMachine
from commands.loop.store_side import StoreSide
from commands.models import Status
from commands.tests.orders_at import order_at
from commands.tests.real_machine import wait_for
from commands.tests.rows import machine_row, person_row
from commands.tests.test_loop_real import latest, order, rigged, settled, tending
from commands.tests.test_waiting import sides
from drivers.port import MachineState, Reading
from kernel import clock, live
from kernel.models import Agent, Organization
from kernel.principals import for_user
from roasts.models import Machine, MachineReading

READING_TABLE, ORDER_TABLE = "roasts_machinereading", "commands_proposal"


def reading(sequence: int, *, fan_step: int) -> Reading:
    return Reading(
        sequence=sequence, at=clock.now(), monotonic_s=clock.monotonic(), device_ms=sequence * 100,
        state=MachineState.CHARGE, bean_temp_c=150.0, infrared_temp_c=180.0, heater_step=0, fan_step=fan_step,
        drum_step=7,
    )  # fmt: skip


@pytest.fixture
def machine(organization: Organization) -> Iterator[Machine]:
    live.forget_readings()
    yield machine_row()
    live.forget_readings()


@pytest.fixture
def loop(machine: Machine, tmp_path: Path) -> tuple[KeeperSide, StoreSide, Executor]:
    """The sides of a loop that has just written a reading with the fan at 3."""
    keeper, store, executor = sides(machine, tmp_path)
    see(keeper, reading(1, fan_step=3))
    store.tick(clock.now())
    assert MachineReading.objects.get(pk=machine.pk).fan_step == 3
    return keeper, store, executor


class Sleepless(clock.SystemClock):
    """Nobody sleeps; at the ``number``-th time something happens."""

    def __init__(self, number: int, act: Callable[[], object]) -> None:
        self._left, self._act = number, act

    def sleep(self, duration_s: float) -> None:
        self._left -= 1
        if self._left == 0:
            self._act()


def see(keeper: KeeperSide, newest: Reading) -> Reading:
    keeper.view = dataclasses.replace(keeper.view, reading=newest, link="up", processed_sequence=newest.sequence)
    return newest


@contextlib.contextmanager
def heard() -> Iterator[list[str]]:
    """The statements that this thread sends, as they were written (PostgreSQL does not say them of a prepared one)."""
    said: list[str] = []

    def note(execute: Callable[..., object], sql: str, *rest: object) -> object:
        said.append(sql)
        return execute(sql, *rest)

    with connection.execute_wrapper(note):
        yield said


def written(statements: list[str]) -> list[str]:
    """The tables that were updated, in order."""
    found = [sql.replace('"', "").split() for sql in statements]
    return [words[1] for words in found if words[0] == "UPDATE"]


@pytest.mark.django_db
def test_a_reading_that_is_asked_for_is_written_at_once_in_one_statement_and_then_nothing_is(
    machine: Machine, loop: tuple[KeeperSide, StoreSide, Executor]
) -> None:
    keeper, store, _ = loop
    newest = see(keeper, reading(2, fan_step=4))
    with heard() as idle:
        store.tick(clock.now())
    assert written(idle) == [], "less than 0.4 s after the last: it is not due"
    assert not store.shows(newest) and store.asked.is_set(), "the store's thread does not sleep on"
    with heard() as asked:
        store.tick(clock.now())
    assert written(asked) == [READING_TABLE] and MachineReading.objects.get(pk=machine.pk).fan_step == 4
    assert store.shows(newest) and not store.asked.is_set()
    with heard() as after:
        store.tick(clock.now())
        store.tick(clock.now())
    assert written(after) == []


@pytest.mark.django_db
def test_a_newer_reading_in_the_row_shows_an_older_one_too(loop: tuple[KeeperSide, StoreSide, Executor]) -> None:
    keeper, store, _ = loop
    older = see(keeper, reading(2, fan_step=4))
    store.shows(see(keeper, reading(3, fan_step=5)))
    store.tick(clock.now())
    assert store.shows(older) and not store.asked.is_set()


@pytest.mark.django_db
def test_a_hand_at_the_machine_is_in_the_row_before_the_order_it_voids_is(
    machine: Machine, agent: Agent, loop: tuple[KeeperSide, StoreSide, Executor]
) -> None:
    keeper, store, _ = loop
    held = order_at(machine, clock.now(), "PENDING_APPROVAL", agent=agent, seen_state="charge", seen_fan_step=3)
    see(keeper, reading(2, fan_step=6))
    keeper.notes.append(MovedAtMachine("fan", 3, 6, clock.now()))
    with heard() as asked:
        store.tick(clock.now())
    tables = written(asked)
    assert tables.index(READING_TABLE) < tables.index(ORDER_TABLE) and tables.count(READING_TABLE) == 1
    held.refresh_from_db()
    assert held.status not in (Status.PENDING_APPROVAL, Status.APPROVED)
    assert MachineReading.objects.get(pk=machine.pk).fan_step == 6


@pytest.mark.django_db
def test_moves_that_one_reading_shows_are_one_statement(loop: tuple[KeeperSide, StoreSide, Executor]) -> None:
    keeper, store, _ = loop
    see(keeper, reading(2, fan_step=6))
    keeper.notes.extend(MovedAtMachine(name, 3, 6, clock.now()) for name in ("fan", "drum", "heater"))
    with heard() as asked:
        while store.tick(clock.now()):
            continue
    assert written(asked).count(READING_TABLE) == 1 and not keeper.notes


@pytest.mark.django_db
def test_an_order_waits_for_the_reading_that_proves_it_not_for_an_older_one(
    loop: tuple[KeeperSide, StoreSide, Executor],
) -> None:
    keeper, store, executor = loop
    proof = reading(2, fan_step=4)
    asked: set[int] = set()

    def shows(newest: Reading) -> bool:
        asked.add(newest.sequence)
        store.tick(clock.now())
        return store.shows(newest)

    executor._shows = shows
    was = clock.install(Sleepless(3, lambda: see(keeper, proof)))
    try:
        executor._await_shown(proof)
    finally:
        clock.install(was)
    assert asked == {2}, "until the keeper's side saw it nothing was asked for"


@pytest.mark.django_db
def test_an_order_does_not_wait_for_ever_for_a_store_that_hangs(
    loop: tuple[KeeperSide, StoreSide, Executor], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keeper, _store, executor = loop
    monkeypatch.setattr(execution, "SHOWN_WITHIN_S", 0.02)
    newest = see(keeper, reading(2, fan_step=4))
    executor._await_shown(newest)
    assert "did not show" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_whoever_sees_an_order_settled_finds_its_step_in_the_latest_row(settings) -> None:
    """By the clock alone one in ten would: six in a row would not."""
    with rigged(settings) as (_real, machine), tending(machine):
        anna = for_user(person_row("anna", "operator"))
        wait_for(lambda: latest().fan_step == 3, what="a latest row")
        for step in (4, 5, 4, 5, 4, 5):
            moved = settled(order(anna, machine, "SET_FAN", step))
            shown = latest()
            assert (moved.status, moved.actual_step, shown.fan_step) == ("COMPLETED", step, step)
