"""Units, time zone and changing hands in a real Chromium: what the page's own script shows."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from roastops.tests.stack import Stack, wait_for
from roastops.tests.test_browser import DESK, PHONE, browser, healthy_roast, house, open_machine, points, visit

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(420)]
__all__ = ["browser", "healthy_roast", "house"]  # fixtures of the shift's tests
PIN = "420917"


def choose(page: Page, house: Stack, *, unit: str, zone: str) -> None:
    page.goto(house.url("/me/"))
    page.locator(f'input[name="temperature_unit"][value="{unit}"]').check()
    page.get_by_label("Time zone").select_option(zone)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved.")).to_be_visible()


#: Keep every reading that arrives by its number, and what the large bean figure showed right after it.
WATCH = """() => {
  window.arrived = {};
  const id = document.getElementById('console').dataset.machine;
  window.roastops.readingListeners.push((machine, reading) => {
    if (machine === id) window.arrived[reading.sequence] = reading.bean_temp_c;
  });
}"""
#: The large figure is the newest reading in °F, within the quarter of a second in which it is not drawn again.
IS_SHOWN_IN_F = """() => {
  const id = document.getElementById('console').dataset.machine, newest = window.roastops.latest[id];
  const box = document.querySelector('.readouts [data-reading="bean_temp_c"]');
  return Math.abs(Number(box.textContent) - (newest.bean_temp_c * 1.8 + 32)) <= 3;
}"""


def same_reading(page: Page, house: Stack) -> tuple[float, float]:
    """Bean temperature of one and the same reading, °C: (as the page got it, as the API gives it)."""
    pair: list[float] = []

    def has_met() -> bool:
        told = house.reading()
        came = page.evaluate("number => window.arrived[number] ?? null", told["sequence"])
        if came is not None:
            pair[:] = [came, told["bean_temp_c"]]
        return came is not None

    wait_for(has_met, "a reading that page and API both have", 15)
    return pair[0], pair[1]


def test_live_figures_axis_table_summary_and_times_follow_the_person(house: Stack, browser: Browser) -> None:
    with visit(browser, house, DESK) as seen:
        page = seen.page
        choose(page, house, unit="F", zone="Asia/Tokyo")
        page.goto(house.url("/"))
        open_machine(page)
        wait_for(lambda: page.evaluate("Object.keys(window.roastops.latest).length") == 1, "a first reading", 10)
        shown = page.evaluate(
            """() => {
              const id = document.getElementById('console').dataset.machine, reading = window.roastops.latest[id];
              const names = ['bean_temp_c', 'infrared_temp_c', 'rate_of_rise_c_per_min', 'heater_step'];
              return names.map(name => [name, reading[name], window.roastops.shown(name, reading[name])]);
            }"""
        )
        for name, celsius, figure in shown:
            if celsius is not None:
                factor, offset = (1, 0) if name.endswith("_step") else (1.8, 32 if name.endswith("_temp_c") else 0)
                assert figure == pytest.approx(celsius * factor + offset), name
        bean = page.locator('.readouts [data-reading="bean_temp_c"]')
        expect(bean).to_have_text(re.compile(r"^\d+\.\d$"))
        page.evaluate(WATCH)
        came, told = same_reading(page, house)
        assert came == pytest.approx(told, abs=0.1)
        page.wait_for_function(IS_SHOWN_IN_F, timeout=10_000)
        wait_for(lambda: points(page) > 0, "a first point", 10)
        expect(page.locator("#curve-summary")).to_contain_text(re.compile(r"\d °F.*°F/min"), timeout=12_000)
        page.locator("#curve-table summary").click()
        expect(page.locator("#curve-table thead")).to_contain_text("RoR °F/min")
        newest = page.locator("#curve-table tbody tr").first.locator("td").first
        assert float(newest.inner_text()) > 200, "°F: no roast is as hot as this in °C at this point"
        time = page.locator("#roast time").first
        utc_hour = int((time.get_attribute("title") or "")[11:13])
        assert int(time.inner_text()[:2]) == (utc_hour + 9) % 24
        assert "°C" not in page.locator(".readouts").inner_text()
        choose(page, house, unit="C", zone="")
        expect(page.locator('input[value="C"]')).to_be_checked()
    assert seen.complaints == []


def test_a_colleague_takes_over_by_pin_on_a_phone(house: Stack, browser: Browser) -> None:
    with visit(browser, house, PHONE, who="operator2") as seen:
        page = seen.page
        page.goto(house.url("/me/"))
        page.get_by_label("New PIN, six digits").fill(PIN)
        page.get_by_label("The same PIN again").fill(PIN)
        page.get_by_label("Your password").fill(house.demo["users"]["operator2"]["password"])
        page.keyboard.press("Enter")
        expect(page.get_by_text("Your PIN is set.")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    with visit(browser, house, PHONE) as seen:
        page = seen.page
        open_machine(page)
        here = page.url
        page.get_by_role("link", name="Switch operator").click()
        expect(page.get_by_label("operator2")).to_be_checked()
        page.get_by_label("PIN", exact=True).fill(PIN)
        page.keyboard.press("Enter")
        expect(page.locator("#curve canvas")).to_be_visible()
        assert page.url == here
        expect(page.locator(".person")).to_contain_text("operator2")
        page.keyboard.press("h")
        expect(page.locator("#suspension")).to_contain_text("operator2 has it", timeout=4000)
        page.locator("#have-it").click()
        expect(page.locator("#suspension")).to_contain_text("Agents may act here", timeout=4000)
    assert seen.complaints == []


@pytest.mark.prove
def test_every_page_fits_a_phone_and_complains_of_nothing(house: Stack, browser: Browser) -> None:
    """Also the API's own page, which the browser draws from the schema."""
    machine, order = f"/machines/{house.machine_id}/", house.get("/v1/proposals?limit=1").json()["results"]
    pages = [
        "/", machine, f"{machine}envelope/", f"{machine}commissioning/", f"{machine}drill/", "/orders/", "/alarms/",
        "/analytics/", "/grants/", "/governor/", "/roasts/", "/profiles/", "/roasts/import/", "/me/", "/switch/",
        "/v1/docs",
        *(f"/orders/{each['proposal_id']}/" for each in order),
    ]  # fmt: skip
    narrow = {"width": 360, "height": 740}
    with visit(browser, house, narrow, who="lead") as seen:
        for path in pages:
            answer = seen.page.goto(house.url(path))
            assert answer is not None and answer.status == 200, path
            seen.page.wait_for_timeout(600)  # its scripts have drawn; a complaint of theirs is waited for, not met
            assert seen.page.evaluate("document.documentElement.scrollWidth") <= narrow["width"], path
            assert seen.complaints == [], path
