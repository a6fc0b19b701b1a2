"""The roast is ended and the next one preheated from the console. Last of the browser's: it ends the roast."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect

from roastops.tests.stack import Stack, wait_for
from roastops.tests.test_browser import DESK, PHONE, browser, healthy_roast, house, open_machine, visit

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(420)]
__all__ = ["browser", "healthy_roast", "house"]
STATES = {6: "roasting", 7: "roasting", 8: "cooling", 9: "shutdown", 0: "off"}  # of the virtual machine's truth
PRESS = "30010000"


def test_drop_and_preheat_by_the_buttons_of_the_console(house: Stack, browser: Browser) -> None:
    with visit(browser, house, PHONE) as seen:
        page = seen.page
        open_machine(page)
        assert page.locator("header.top").bounding_box()["height"] <= 100, "two rows, not three"  # type: ignore[index]
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        before = len(house.sent(PRESS))
        page.locator("#act-DROP").click()  # the box is not ticked: the browser asks for it
        assert len(house.sent(PRESS)) == before
        page.locator("#act-seen-DROP").check()
        page.locator("#act-DROP").click()
        order = page.locator("#orders .order").first
        expect(order.locator('[data-status="COMPLETED"]')).to_have_count(1, timeout=12_000)
        expect(order).to_contain_text("Drop the beans")
        expect(page.locator('[data-show="state_word"]').first).to_have_text("Cooling", timeout=6000)
        expect(page.locator("#act-DROP")).to_have_count(0, timeout=6000)
        assert len(house.sent(PRESS)) == before + 1
    assert seen.complaints == []

    with house.panel() as panel:  # the person steps through the ring to off, looking after each press
        for _ in range(4):
            if panel.status()["state"] == 0:
                break
            stands = STATES[panel.press_prs()["state"]]
            wait_for(lambda stands=stands: house.reading()["state"] == stands, f"{stands}, as the panel shows it", 20)
    wait_for(lambda: house.reading()["state"] == "off", "off", 20)

    with visit(browser, house, DESK) as seen:
        page = seen.page
        open_machine(page)
        before = len(house.sent(PRESS))
        page.locator("#act-seen-PREHEAT").check()
        page.locator("#act-PREHEAT").click()
        order = page.locator("#orders .order").first
        expect(order.locator('[data-status="COMPLETED"]')).to_have_count(1, timeout=12_000)
        expect(page.locator('[data-show="state_word"]').first).to_have_text("Preheating", timeout=6000)
        assert len(house.sent(PRESS)) == before + 1
    assert seen.complaints == []


def test_after_a_roast_that_ended_in_a_stop_the_next_test_finds_a_healthy_one(house: Stack) -> None:
    assert house.reading()["state"] == "roasting", "the fixture found the machine preheating"
    stopped = house.post(f"/v1/machines/{house.machine_id}/stop", {}).json()
    assert stopped["result"] == "heat_off"
    house.make_roasting()
    machine = house.get(f"/v1/machines/{house.machine_id}").json()
    assert machine["halts"] == []
    assert machine["reading"]["heater_step"] == 4
    assert machine["roast_id"] is not None
