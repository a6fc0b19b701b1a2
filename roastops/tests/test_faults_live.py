"""Every fault of the virtual roaster against the living product: `manage.py up` on SQLite, a keeper, a roast under way.

Two questions after each: was a control moved that nobody asked for (the machine's own wire log answers), and does
the console say in words what is wrong? Then the machine is well again, records again, and takes an order.
"""

from __future__ import annotations

import contextlib
import dataclasses
import html
import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from roastops.testing import servers
from roastops.tests.stack import HEATER_DOWN, HEATER_UP, PYTHON, Stack, base_environment, tell, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]
SPEED = 4.0  # as `make run` starts the demo; durations of faults are the machine's own seconds
FAN_UP, FAN_DOWN = "3101aaaa", "3102aaaa"
QUESTIONS = {"3001", "3003", "3002", "8901", "3005"}
FAN_SAFE_STEP = 7
SETTLED = {"COMPLETED", "FAILED", "REJECTED", "TIMEOUT", "ABORTED"}


@dataclasses.dataclass
class House:
    """The product, its machine, and an operator and a lead signed in to its console."""

    stack: Stack
    operator: httpx.Client
    lead: httpx.Client

    @property
    def path(self) -> str:
        return f"/v1/machines/{self.stack.machine_id}"

    def machine(self) -> dict[str, Any]:
        """What the API says of the machine now."""
        return dict(self.operator.get(self.path).raise_for_status().json())

    def words(self) -> str:
        """What an operator reads on the machine's page, tags taken off."""
        page = self.operator.get(f"/machines/{self.stack.machine_id}/").raise_for_status().text
        return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())

    def inject(self, fault: str, *, wall_s: float = 0.0) -> None:
        """A fault now; ``wall_s`` its length in our seconds."""
        with self.stack.panel() as panel:
            panel.fault(f"{fault.partition(':')[0]}@0+{wall_s * SPEED:g}{''.join(fault.partition(':')[1:])}")

    def truth(self) -> dict[str, Any]:
        """The machine itself, past everything of ours."""
        with self.stack.panel() as panel:
            return dict(panel.status())

    def mark(self) -> int:
        return len(self.stack.wire())

    def moves(self, mark: int) -> list[dict[str, Any]]:
        """Everything the machine was told since ``mark`` but questions. Nothing dangerous may be among it."""
        entries = self.stack.wire()[mark:]
        assert not [entry for entry in entries if entry["dir"] == "alarm"]
        return [entry for entry in entries if entry["dir"] == "out" and entry["hex"] not in QUESTIONS]

    def seen(self, is_there: Callable[[dict[str, Any]], Any], what: str, timeout_s: float) -> dict[str, Any]:
        """The machine's document once ``is_there``."""
        found: dict[str, Any] = {}

        def look() -> bool:
            found.update(self.machine())
            return bool(is_there(found))

        wait_for(look, what, timeout_s)
        return found

    def await_alarm(self, code: str, timeout_s: float) -> dict[str, Any]:
        """The standing alarm; cause, consequence and action are words, and on the page."""
        machine = self.seen(lambda seen: code in codes(seen), f"the alarm {code}", timeout_s)
        alarm = next(each for each in machine["alarms"] if each["code"] == code)
        page = self.words()
        was_standing = code in codes(self.machine())  # else it cleared between two looks, and its page with it
        for part in ("cause", "consequence", "action"):
            assert len(alarm[part].split()) >= 3, alarm
            assert not was_standing or " ".join(alarm[part].split()) in page, (part, alarm, page[:1500])
        return machine

    def await_no_alarm(self, code: str, timeout_s: float = 8) -> None:
        self.seen(lambda seen: code not in codes(seen), f"{code} to clear", timeout_s)

    def await_fresh(self, timeout_s: float = 8) -> dict[str, Any]:
        """Link up and a reading that is young."""
        return self.seen(is_fresh, "a fresh reading", timeout_s)

    def samples(self) -> dict[str, Any]:
        """What is recorded of the open roast (bean temperature only)."""
        roast_id = self.seen(lambda seen: seen["roast_id"], "an open roast", 5)["roast_id"]
        answer = self.operator.get(f"/v1/roasts/{roast_id}/samples", params={"fields": "bean_temp_c"})
        return dict(answer.raise_for_status().json())

    def await_recording(self, timeout_s: float = 6) -> None:
        """More samples than there were."""
        last_ms = (self.samples()["elapsed_ms"] or [-1])[-1]
        wait_for(lambda: self.samples()["elapsed_ms"][-1] > last_ms + 500 * SPEED, "recording goes on", timeout_s)

    def order(self, order_type: str, target: int) -> dict[str, Any]:
        """An operator's order at the console, to its end."""
        body = {"machine_id": self.stack.machine_id, "order_type": order_type, "target_value": target,
                "target_unit": "step", "reasoning": "test of faults"}  # fmt: skip
        answer = self.operator.post("/v1/proposals", json=body)
        assert answer.status_code == 201, answer.text
        path = f"/v1/proposals/{answer.json()['proposal_id']}"
        wait_for(lambda: self.operator.get(path).json()["status"] in SETTLED, f"{order_type} {target} to settle", 12)
        return dict(self.operator.get(path).json())

    def let_orders_through(self) -> None:
        """What people do once they looked: the operator after a lost link, the lead after a STOP or an interlock."""
        machine = self.machine()
        kinds = {halt["kind"] for halt in machine["halts"]}
        if machine["is_orders_paused"] or "link_lost" in kinds:
            self.operator.post(f"{self.path}/resume-orders", json={"reason": "looked"}).raise_for_status()
        if kinds - {"link_lost"}:
            self.lead.post(f"{self.path}/reset", json={"reason": "looked, all well"}).raise_for_status()

    def assert_well_again(self) -> None:
        """Fresh, recording, and an operator's order does its one step."""
        self.await_fresh()
        self.await_recording()
        self.let_orders_through()
        before, mark = self.truth()["fan_step"], self.mark()
        target = before + 1 if before < 9 else before - 1
        done = self.order("SET_FAN", target)
        assert done["status"] == "COMPLETED", done
        assert self.truth()["fan_step"] == target
        assert [move["hex"] for move in self.moves(mark)] == [FAN_UP if target > before else FAN_DOWN]


def codes(machine: dict[str, Any]) -> set[str]:
    return {alarm["code"] for alarm in machine["alarms"]}


def is_fresh(machine: dict[str, Any]) -> bool:
    reading = machine["reading"]
    return machine["link"] == "up" and reading is not None and reading["age_ms"] < 1500


def assert_made_safe(moves: list[dict[str, Any]]) -> None:
    """Only what STOP may do: heater down, then fan up to 7 at most, and a standing drum turned."""
    for move in moves:
        data = move["hex"]
        assert data in (HEATER_DOWN, FAN_UP) or data.startswith("3201"), move
        if data == FAN_UP:
            assert move["after"][1] <= FAN_SAFE_STEP and move["before"][0] == 0, move
        if data.startswith("3201"):
            assert move["before"][2] == 0, move


def signed_in(stack: Stack, who: str) -> httpx.Client:
    """A browser's session by the sign-in page; its CSRF token goes with everything."""
    login = stack.demo["users"][who]
    browser = httpx.Client(base_url=stack.url(""), timeout=15)
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', browser.get("/sign-in/").text)
    assert token is not None
    fields = {"username": login["username"], "password": login["password"], "csrfmiddlewaretoken": token[1]}
    assert browser.post("/sign-in/", data=fields).status_code == 302
    browser.headers["X-CSRFToken"] = browser.cookies["csrftoken"]
    return browser


@contextlib.contextmanager
def served_house(**more: str) -> Iterator[House]:
    """`manage.py up` and a machine beside it; ``more`` goes into its environment."""
    with tempfile.TemporaryDirectory(prefix="ro-", ignore_cleanup_errors=True) as name:
        port = servers.free_port()
        stack = Stack(Path(name), base_environment(Path(name), port) | more, None, None, port)
        try:
            # Its own machine and agent stay out: the machine is ours, and no agent may order meanwhile.
            stack.spawn("web", PYTHON, "manage.py", "up", "--without-demo", "--port", str(port))
            wait_for(lambda: stack.get("/readyz", timeout=1).status_code == 200, "the house", 180)
            stack.demo = json.loads(stack.manage("demo", "--json").stdout)
            stack.start_machine(speed=SPEED)
            with (
                contextlib.closing(signed_in(stack, "operator")) as operator,
                contextlib.closing(signed_in(stack, "lead")) as lead,
            ):
                house = House(stack, operator, lead)
                house.await_fresh(30)
                house.await_recording()
                yield house
        except BaseException:
            tell(stack)
            raise
        finally:
            stack.close()


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with served_house() as running:
        yield running


@pytest.fixture(autouse=True)
def ready(house: House) -> None:
    """Each fault meets a machine that is well and may be ordered."""
    house.await_fresh(10)
    house.let_orders_through()


@pytest.mark.parametrize(
    ("fault", "wall_s", "said"),
    [
        ("nak", 2.7, "does not take"),
        ("late_reply:delay_s=2.7", 0.0, "does not answer"),
        pytest.param("short_read:count=75", 0.0, "cannot be read", marks=pytest.mark.prove),
        pytest.param("garbage:count=160", 0.0, "cannot be read", marks=pytest.mark.prove),
    ],
)
def test_a_wire_that_goes_bad_is_said_and_moves_nothing(house: House, fault: str, wall_s: float, said: str) -> None:
    """Less than 5 s without a reading: heat is left alone, and the page says why nothing comes."""
    mark = house.mark()
    house.inject(fault, wall_s=wall_s)
    machine = house.seen(lambda seen: seen["link"] == "stale", "stale readings", 4)
    page = house.words()
    assert said in machine["link_message"] and machine["link_code"], machine
    assert "Readings stopped" in page and machine["link_message"] in page, page[:1500]
    house.await_fresh()
    assert house.moves(mark) == []
    assert not [halt for halt in house.machine()["halts"] if halt["kind"] != "link_lost"]
    house.assert_well_again()


@pytest.mark.parametrize(
    "fault",
    ["slipped_frame", *(pytest.param(each, marks=pytest.mark.prove) for each in ("short_read", "garbage:count=1"))],
)
def test_one_bad_transfer_is_healed_before_anybody_must_know(house: House, fault: str) -> None:
    """The driver resynchronises within two polls: no hole, no strange value, nothing moved."""
    before, mark = house.samples(), house.mark()
    house.inject(fault)
    house.await_recording()
    after = house.samples()
    count = before["count"]
    temps_c = before["columns"]["bean_temp_c"][-5:] + after["columns"]["bean_temp_c"][count:]
    assert all(temp_c is not None for temp_c in temps_c)
    assert all(abs(b - a) < 3.0 for a, b in zip(temps_c, temps_c[1:], strict=False)), temps_c
    times_ms = after["elapsed_ms"][count - 1 :]
    assert max(b - a for a, b in zip(times_ms, times_ms[1:], strict=False)) <= 1500 * SPEED, times_ms
    assert len(after["gaps"]) == len(before["gaps"])
    assert house.moves(mark) == [] and house.machine()["link"] == "up"


def test_a_machine_silent_for_seven_seconds_is_made_safe_and_said(house: House) -> None:
    """time_out: agents halted after 3 s, heat down after 5 s, blind; proved once it answers again."""
    assert house.truth()["heater_step"] > 0
    mark = house.mark()
    house.inject("time_out", wall_s=6.5)
    machine = house.seen(lambda seen: seen["link"] == "stale", "stale readings", 4)
    assert "does not answer" in machine["link_message"], machine
    house.await_alarm("stale_reading", 5)
    wait_for(lambda: house.truth()["heater_step"] == 0, "heat down", 6)
    house.seen(lambda seen: any(halt["kind"] == "interlock" for halt in seen["halts"]), "a halt", 6)
    assert "INTERLOCK" in house.words()
    house.seen(
        lambda seen: any(halt["kind"] == "interlock" and halt["result"] == "heat_off" for halt in seen["halts"]),
        "heat off, proved later", 15,
    )  # fmt: skip
    house.await_fresh()
    wait_for(lambda: house.truth()["fan_step"] == FAN_SAFE_STEP, "the air up", 5)
    moves = house.moves(mark)
    assert HEATER_DOWN in {move["hex"] for move in moves}
    assert_made_safe(moves)
    refused = house.order("SET_FAN", 8)
    assert refused["status"] == "REJECTED", refused
    house.assert_well_again()


def test_sensors_that_say_no_number_and_mains_that_sag_are_said(house: House) -> None:
    """nan and brown_out at once: absent, never 0; both in words; nobody may heat up meanwhile."""
    mark = house.mark()
    house.inject("brown_out", wall_s=4.6)
    house.inject("nan:sensor=probe", wall_s=4.6)
    house.inject("nan:sensor=infrared", wall_s=4.6)
    machine = house.await_alarm("bean_sensor_lost", 6)
    assert machine["reading"]["bean_temp_c"] is None and machine["reading"]["quality"]["bean_temp_c"] == "absent"
    house.await_alarm("infrared_sensor_lost", 4)
    machine = house.await_alarm("mains_low", 4)
    assert machine["reading"]["voltage_v"] == 150
    assert "150 V" in house.words()
    refused = house.order("SET_POWER", house.truth()["heater_step"] + 1)
    assert refused["status"] == "REJECTED", refused
    house.await_no_alarm("bean_sensor_lost", 12)
    house.await_no_alarm("mains_low")
    assert house.moves(mark) == []
    house.assert_well_again()


def test_a_probe_that_stands_still_is_said(house: House) -> None:
    mark = house.mark()
    house.inject("stuck_sensor:sensor=probe", wall_s=3.2)
    house.await_alarm("bean_sensor_stuck", 6)
    house.await_no_alarm("bean_sensor_stuck", 10)
    assert house.moves(mark) == []
    house.assert_well_again()


@pytest.mark.parametrize(
    ("fault", "target", "sent", "reads", "code"),
    [
        ("dropped_step", 5, 2, 4, "partial"),
        ("doubled_step", 5, 1, 5, "contradicted"),
        pytest.param("doubled_step", 4, 1, 5, "contradicted", marks=pytest.mark.prove),
    ],
)
def test_steps_that_are_dropped_or_doubled_end_honestly(
    house: House, fault: str, target: int, sent: int, reads: int, code: str
) -> None:
    """From fan 3: the order says what was read, never sends a step more than it planned, and is never tried again."""
    assert house.order("SET_FAN", 3)["status"] == "COMPLETED"
    mark = house.mark()
    house.inject(fault)
    done = house.order("SET_FAN", target)
    time.sleep(0.6)  # a second try would come now
    moves = house.moves(mark)
    assert [move["hex"] for move in moves] == [FAN_UP] * sent
    assert house.truth()["fan_step"] == reads == done["outcome"]["actual_step"], done
    assert (done["status"], done["outcome"]["code"]) == ("FAILED", code), done
    assert f"fan reads {reads}" in done["outcome"]["message"] and done["outcome"]["message"] in house.words()
    assert is_fresh(house.machine())


def test_too_hot_is_made_safe_at_once_and_a_lead_resets(house: House) -> None:
    house.order("SET_POWER", 5)
    mark = house.mark()
    house.inject("over_temperature", wall_s=2.5)
    wait_for(lambda: house.truth()["heater_step"] == 0, "heat down", 5)
    machine = house.await_alarm("bean_over_temperature", 4)
    assert "265.0 °C" in next(each["cause"] for each in machine["alarms"] if each["code"] == "bean_over_temperature")
    machine = house.seen(lambda seen: any(halt["kind"] == "interlock" for halt in seen["halts"]), "a halt", 5)
    house.seen(lambda seen: all(halt["result"] == "heat_off" for halt in seen["halts"]), "the proof", 6)
    assert "INTERLOCK" in house.words() and "Heat off" in house.words()
    wait_for(lambda: house.truth()["fan_step"] == FAN_SAFE_STEP, "the air up", 5)
    assert_made_safe(house.moves(mark))
    assert house.order("SET_FAN", 8)["status"] == "REJECTED"
    house.await_no_alarm("bean_over_temperature")
    house.assert_well_again()


def test_unplugged_for_ten_seconds(house: House) -> None:
    """Said within a moment; after the replug recording resumes by itself, orders only when the operator resumes."""
    gaps, mark = len(house.samples()["gaps"]), house.mark()
    house.inject("unplug", wall_s=10)
    machine = house.seen(lambda seen: seen["link"] == "down", "link down", 4)
    assert "unplugged" in machine["link_message"] or "plugged in" in machine["link_message"], machine
    machine = house.await_alarm("lost_device", 4)
    page = house.words()
    assert "Link down" in page and "use the panel" in page.lower() and machine["link_message"] in page
    house.await_fresh(14)
    house.await_recording()
    wait_for(lambda: len(house.samples()["gaps"]) == gaps + 1, "the gap", 6)
    gap = house.samples()["gaps"][-1]
    assert gap["reason"] == "unplugged" and 8_000 * SPEED < gap["to_ms"] - gap["from_ms"] < 15_000 * SPEED
    assert house.machine()["is_orders_paused"]
    assert "orders wait for you" in house.words()
    assert house.order("SET_FAN", 6)["status"] == "REJECTED"
    assert house.moves(mark) == []
    house.assert_well_again()


def test_zz_a_firmware_that_restarts_and_then_roasts_by_itself(house: House) -> None:
    """Last: it ends the roast. The machine goes to off with beans in it; then the wind starts a roast of its own."""
    mark = house.mark()
    house.inject("firmware_reboot", wall_s=2)
    house.await_alarm("lost_device", 4)
    house.await_fresh(8)
    machine = house.await_alarm("roast_broken_off", 8)
    assert machine["state"] == "off" and machine["reading"]["heater_step"] == 0
    assert house.moves(mark) == []
    house.let_orders_through()
    house.inject("spurious_charge")
    house.seen(lambda seen: seen["state"] == "roasting" and seen["roast_id"], "a roast nobody began", 4)
    house.await_alarm("no_beans_seen", 12)
    assert house.moves(mark) == []
    house.assert_well_again()
    moved = house.moves(mark)
    assert HEATER_UP not in {move["hex"] for move in moved}
    done = house.order("SET_POWER", 2)
    assert done["status"] == "COMPLETED" and house.truth()["heater_step"] == 2, done
