"""PostgreSQL and Redis stopped (SIGSTOP): interlocks still take heat down, STOP's first byte still leaves in time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import closing
from unittest import mock

import pytest

from commands.tests.real_machine import wait_for
from roastops.benches import house as bench_house
from roastops.benches import stop
from roastops.benches.house import House, running_house
from roastops.testing import processes, servers

pytestmark = [pytest.mark.fleet, pytest.mark.prove, pytest.mark.timeout(300)]
FIRST_BYTE_MAX_MS = 250.0
STOPS = 5
START_WAIT_S = 90.0  # a busy machine: the worker may take its time to come


@contextlib.contextmanager
def frozen(*running: servers.Server) -> Iterator[None]:
    """None of these answers anybody."""
    for server in running:
        server.freeze()
    try:
        yield
    finally:
        for server in running:
            server.thaw()


@pytest.fixture(scope="module")
def cellar() -> Iterator[tuple[House, servers.Server, servers.Server]]:
    """A fleet whose PostgreSQL and Redis can be stopped."""
    with contextlib.ExitStack() as held:
        held.enter_context(mock.patch.object(bench_house, "START_WAIT_S", START_WAIT_S))
        held.enter_context(mock.patch.object(processes, "START_TIMEOUT_S", START_WAIT_S))
        postgres = held.enter_context(servers.running(servers.start_brief_postgres))
        redis = held.enter_context(servers.running(servers.start_redis))
        house = held.enter_context(running_house(database_url=postgres.url, redis_url=redis.url))
        yield house, postgres, redis


def machine_says(house: House) -> dict:
    answer = house.client("operator").get(f"/v1/machines/{house.machine_id}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_an_interlock_takes_heat_down_while_database_and_broker_are_stopped(cellar) -> None:
    house, postgres, redis = cellar
    with closing(stop._Round(house)) as hands:
        hands.heat()
        with frozen(postgres, redis):
            hands.panel.fault("over_temperature@0+20:sensor=probe:temp_c=240")
            wait_for(lambda: hands.panel.status()["heater_step"] == 0, 20, "heat taken down with nothing to ask")
            status = wait_for(
                lambda: (
                    (found := hands.keeper.status()) and found["latched"] and found["latched"]["is_proved"] and found
                ),
                10,
                "its proof",
            )
            assert status["latched"]["reason"] in ("bean_over_temperature", "bean_above_maximum")
            assert hands.panel.status()["fan_step"] >= 7
        # The store is back: what happened is filed, with its alarm, and stands until a lead resets it.
        machine = wait_for(
            lambda: (seen := machine_says(house)) and seen["halts"] and seen["alarms"] and seen, 60, "halt and alarm"
        )
        assert {halt["kind"] for halt in machine["halts"]} == {"interlock"}
        assert "bean_over_temperature" in {alarm["code"] for alarm in machine["alarms"]}
        hands.panel.fault("over_temperature@0+0.1:sensor=probe:temp_c=150")
        wait_for(lambda: hands._reading().get("bean_temp_c", 999) < 220, 40, "the probe to be well again")
        hands.reset()


def test_stops_first_byte_leaves_within_its_bar_while_database_and_broker_are_stopped(cellar) -> None:
    house, postgres, redis = cellar
    with closing(stop._Round(house)) as hands:
        stop._one(hands, stop.Stops(), hands.reset)  # the first one warms up
        measured = stop.Stops()
        with frozen(postgres, redis):
            for _ in range(STOPS):
                stop._one(hands, measured, hands.release)
    assert measured.results == {"heat_off": STOPS}
    assert max(measured.first_ms) <= FIRST_BYTE_MAX_MS, measured.first_ms
