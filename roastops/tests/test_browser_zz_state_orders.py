"""The roast is ended and the next one preheated from the console. Last of the browser's: it ends the roast."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect

from roastops.tests.stack import Stack, wait_for
from roastops.tests.test_browser import DESK, PHONE, browser, house, open_machine, visit

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(240)]
__all__ = ["browser", "house"]
PRESS = "30010000"


def test_drop_and_preheat_by_the_buttons_of_the_console(house: Stack, browser: Browser) -> None:
    wait_for(lambda: house.reading()["state"] == "roasting", "a roast", 20)
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
            stands = house.reading()["state"]
            if stands == "off":
                break
            panel.press_prs()
            wait_for(lambda stands=stands: house.reading()["state"] != stands, f"what comes after {stands}", 20)
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
