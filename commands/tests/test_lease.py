"""One tender per machine: the token only rises, an outage loses nothing, a second taker loses."""

from __future__ import annotations

import datetime as dt
import threading

import pytest
from django.db import connection

from commands.loop import lease
from commands.models import MachineLease
from commands.tests.rows import machine_row

NOW = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
S = dt.timedelta(seconds=1)
pytestmark = pytest.mark.django_db


def test_the_first_taker_gets_token_one_and_the_second_nothing() -> None:
    machine = machine_row()
    assert lease.take_lease(machine.pk, owner="a", now=NOW) == 1
    assert lease.take_lease(machine.pk, owner="b", now=NOW + 2.9 * S) is None


def test_an_expired_lease_is_taken_with_a_higher_token_and_its_old_owner_has_lost_it() -> None:
    machine = machine_row()
    lease.take_lease(machine.pk, owner="a", now=NOW)
    assert lease.take_lease(machine.pk, owner="b", now=NOW + 3 * S) == 2
    assert not lease.renew_lease(machine.pk, owner="a", token=1, now=NOW + 3 * S)
    assert lease.renew_lease(machine.pk, owner="b", token=2, now=NOW + 4 * S)


def test_an_outage_longer_than_the_expiry_does_not_lose_a_lease_nobody_took() -> None:
    machine = machine_row()
    lease.take_lease(machine.pk, owner="a", now=NOW)
    assert lease.renew_lease(machine.pk, owner="a", token=1, now=NOW + 30 * S)
    assert lease.take_lease(machine.pk, owner="b", now=NOW + 31 * S) is None


def test_a_lease_given_up_is_free_at_once_and_its_token_still_rises() -> None:
    machine = machine_row()
    lease.take_lease(machine.pk, owner="a", now=NOW)
    assert lease.give_up_lease(machine.pk, owner="a", token=1, now=NOW)
    assert lease.take_lease(machine.pk, owner="b", now=NOW) == 2


def test_only_the_owner_raises_its_token_above_what_the_keeper_saw() -> None:
    machine = machine_row()
    lease.take_lease(machine.pk, owner="a", now=NOW)
    assert not lease.raise_token(machine.pk, owner="b", token=1, to=9)
    assert lease.raise_token(machine.pk, owner="a", token=1, to=9)
    assert MachineLease.objects.get(pk=machine.pk).token == 9


def test_untended_machines_are_those_without_a_live_lease_and_not_archived() -> None:
    tended, free, archived = machine_row("a"), machine_row("b"), machine_row("c", is_archived=True)
    lease.take_lease(tended.pk, owner="x", now=NOW)
    assert lease.untended_machines(now=NOW) == [free.pk]
    assert archived.pk not in lease.untended_machines(now=NOW + 9 * S)
    assert tended.pk in lease.untended_machines(now=NOW + 3 * S)


@pytest.mark.django_db(transaction=True)
def test_of_many_takers_at_once_one_wins() -> None:
    machine = machine_row()
    tokens: list[int | None] = []
    barrier = threading.Barrier(8)

    def take(name: str) -> None:
        barrier.wait()
        try:
            tokens.append(lease.take_lease(machine.pk, owner=name, now=NOW))
        finally:
            connection.close()

    threads = [threading.Thread(target=take, args=(f"w{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(token for token in tokens if token) == [1]
    assert len(tokens) == 8
