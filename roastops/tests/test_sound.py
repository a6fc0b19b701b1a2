"""What can be heard, in Chromium: nothing before a touch and no error for it; alarms again and again; mute is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from roastops.benches.page import FLAGS
from roastops.testing import servers

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]
SCRIPT = Path(__file__).parents[2] / "static" / "src" / "sound.js"
WAIT_MS = 60_000
PAGE = """<!doctype html><body>
<header class="top"><div class="who"><button id="help-open">Keys</button>
<span class="person"><a href="#"><span>You: </span>otto</a></span></div></header>
<main><p data-heard>An alarm.</p></main>
<script>window.roastops = { refreshListeners: [], keys: {}, say: function () {}, t: function (text) { return text; } };
document.addEventListener("keydown", function (event) { var act = roastops.keys[event.key]; if (act) act(); });</script>
<script src="/sound.js"></script></body>"""


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=servers.require_program("chromium"), args=FLAGS)
        opened = browser.new_page()
        opened.route("**/*", lambda route: route.fulfill(body=PAGE, content_type="text/html"))
        opened.route("**/sound.js", lambda route: route.fulfill(path=SCRIPT, content_type="text/javascript"))
        opened.troubles = []  # type: ignore[attr-defined]
        opened.on("console", lambda message: opened.troubles.append(message.text))  # type: ignore[attr-defined]
        opened.on("pageerror", lambda error: opened.troubles.append(str(error)))  # type: ignore[attr-defined]
        opened.goto("http://sound.test/")
        yield opened
        browser.close()


def sounded(page: Page) -> list[int]:
    """How often an alarm and a new order were heard."""
    text = page.locator("#sound-toggle").get_attribute("data-sounded") or "0,0"
    return [int(part) for part in text.split(",")]


def until(page: Page, condition: str) -> None:
    page.wait_for_function(condition, timeout=WAIT_MS)


HEARD_TWICE = "Number((document.getElementById('sound-toggle').dataset.sounded || '0').split(',')[0]) >= 2"


def test_an_alarm_is_heard_again_and_again_once_the_page_was_touched(page: Page) -> None:
    assert page.locator("#sound-toggle").inner_text() == "Sound waits" and sounded(page) == [0, 0]
    page.keyboard.press("Shift")
    until(page, HEARD_TWICE)
    assert page.locator("#sound-toggle").inner_text() == "Sound on"
    assert page.troubles == [], "no complaint about autoplay"  # type: ignore[attr-defined]


def test_what_is_muted_stays_silent_and_is_remembered_for_this_person(page: Page) -> None:
    page.keyboard.press("m")
    assert page.locator("#sound-toggle").inner_text() == "Sound off"
    assert page.evaluate("localStorage.getItem('roastops.sound.otto')") == "off"
    page.reload()
    assert page.locator("#sound-toggle").inner_text() == "Sound off"
    assert page.locator("#sound-toggle").get_attribute("aria-pressed") == "false"
    page.keyboard.press("Shift")
    page.evaluate("roastops.refreshListeners.forEach(function (listener) { listener(document.body); })")
    assert sounded(page) == [0, 0]
    page.locator("#sound-toggle").click()
    until(page, HEARD_TWICE)


def test_a_new_held_order_chimes_once_and_an_acknowledged_alarm_is_quiet(page: Page) -> None:
    page.keyboard.press("Shift")
    until(page, HEARD_TWICE)
    page.evaluate("document.querySelector('[data-heard]').remove()")
    look = "roastops.refreshListeners.forEach(function (listener) { listener(document.body); })"
    page.evaluate(look)
    alarms = sounded(page)[0]
    page.evaluate("document.querySelector('main').innerHTML = '<p data-held=prp_1>An order.</p>'")
    until(page, f"({look}, (document.getElementById('sound-toggle').dataset.sounded || '').endsWith(',1'))")
    page.evaluate(look)
    assert sounded(page) == [alarms, 1]
