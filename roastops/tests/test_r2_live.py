"""A Bullet R2 in the living product: `manage.py up`, keeper, pushed frames, an order, a STOP, a pulled cable."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from roastops.tests.stack import wait_for
from roastops.tests.test_faults_live import House, served_house

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]
HEATER_UP, HEATER_DOWN, FAN_UP = "3401aaaa90e5e4f1", "3402aaaa19108df3", "3101aaaa22337c51"


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with served_house(ROASTOPS_DEMO_MACHINE="bullet-r2") as running:
        yield running


def hexes(moves: list[dict[str, Any]]) -> list[str]:
    return [move["hex"] for move in moves]


def test_the_console_and_the_api_know_fourteen_steps(house: House) -> None:
    limits = house.machine()["envelope"]["controls"]["heater"]
    assert (limits["min_step"], limits["max_step"], limits["full_scale_step"]) == (0, 14, 14)
    page = house.operator.get(f"/machines/{house.stack.machine_id}/").text
    heater = page[page.index('data-control="heater"'):][:400]
    assert 'data-max="14"' in heater and 'data-full="14"' in heater
    assert "Bullet R2" in page


def test_heater_fourteen_is_reached_from_three_in_one_order(house: House) -> None:
    house.await_no_alarm("lost_device", 20)  # of the start: the loop looks once it has read what came before it
    house.let_orders_through()
    assert house.order("SET_POWER", 3)["status"] == "COMPLETED"
    mark = house.mark()
    done = house.order("SET_POWER", 14)
    assert done["status"] == "COMPLETED", (done["status"], done.get("outcome"), done)
    assert house.truth()["heater_step"] == 14
    assert hexes(house.moves(mark)) == [HEATER_UP] * 11
    reading = house.await_fresh()["reading"]
    assert reading["heater_step"] == 14 and reading["bean_temp_c"] > 50
    refused = house.operator.post("/v1/proposals", json={
        "machine_id": house.stack.machine_id, "order_type": "SET_POWER", "target_value": 15, "target_unit": "step",
        "reasoning": "one too hot"}).json()
    assert refused["status"] == "REJECTED", refused


def test_stop_brings_fourteen_down_within_its_bar_and_says_so(house: House) -> None:
    house.await_no_alarm("lost_device", 20)
    house.let_orders_through()
    if house.truth()["heater_step"] != 14:
        assert house.order("SET_POWER", 14)["status"] == "COMPLETED"
    mark = house.mark()
    answer = house.operator.post(f"{house.path}/stop", json={"reason": "drill"}).json()
    assert answer["result"] == "heat_off", answer
    assert answer["first_byte_ms"] < 250 and answer["proved_ms"] <= 3000, answer
    assert house.truth()["heater_step"] == 0
    moves = hexes(house.moves(mark))
    assert moves[:14] == [HEATER_DOWN] * 14 and set(moves[14:]) <= {FAN_UP}
    house.let_orders_through()


def test_a_pulled_cable_is_said_and_the_roast_goes_on_after(house: House) -> None:
    house.await_fresh()
    with house.stack.panel() as panel:
        panel.unplug()
    seen = house.seen(lambda machine: machine["link"] == "down", "the link to go down", 3)
    assert seen["link_code"] in ("unplugged", "not_found")
    with house.stack.panel() as panel:
        panel.replug()
    assert wait_for(lambda: house.machine()["link"] == "up", "the link to come back", 6) < 6
    house.await_fresh()
    house.await_recording()
