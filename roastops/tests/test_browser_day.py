"""An operator's day in a real Chromium, by keyboard alone, on a phone's width, with the network cut in between.

`TAKE_PICTURES=1` also takes the pictures of the operator's guide.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from roastops.tests.cuttable import Cable, cable
from roastops.tests.stack import ROOT, Stack, wait_for
from roastops.tests.test_browser import (
    DESK,
    PHONE,
    browser,
    healthy_roast,
    house,
    made_safe,
    open_machine,
    points,
    visit,
)

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(420)]
__all__ = ["browser", "healthy_roast", "house"]
PICTURES = ROOT / "docs" / "pictures"
OF_THE_CUT = re.compile(r"net::ERR_[A-Z_]+|^htmx:")  # what Chromium and htmx say of each request meanwhile
APPROVE_AFTER_MS = 900  # a key does not approve what has only just appeared
FAN_DOWN, FAN_UP = "3102aaaa", "3101aaaa"


@pytest.fixture
def trusted(house: Stack) -> Iterator[None]:
    """Whatever level a test gives the agent, the next one finds L3."""
    yield
    grant(house, "L3")


def grant(house: Stack, level: str) -> None:
    body = {"agent_id": house.demo["agent_id"], "machine_id": house.machine_id, "level": level, "reason": "the day"}
    assert house.post("/v1/grants", body, "lead").status_code == 201


def take_picture(page: Page, name: str) -> None:
    if os.environ.get("TAKE_PICTURES"):
        page.wait_for_timeout(600)
        page.screenshot(path=str(Path(PICTURES, f"{name}.png")))


def tab_to(page: Page, selector: str, *, at_most: int = 120) -> None:
    """Walk there with the Tab key alone; a place no key reaches fails."""
    for _ in range(at_most):
        page.keyboard.press("Tab")
        if page.evaluate("selector => !!document.activeElement.closest(selector)", selector):
            return
    raise AssertionError(f"{selector} is not reached in {at_most} presses of Tab")


def go_to(page: Page, link: str) -> None:
    """Follow a link by keyboard, and wait for its page."""
    before = page.url
    tab_to(page, link)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: url != before, timeout=10_000)


def asked(house: Stack, control: str, by: int) -> dict[str, Any]:
    """The agent asks for a step, as soon as it may after what the test before asked for this control."""
    order_type = {"heater": "SET_POWER", "fan": "SET_FAN", "drum": "SET_DRUM"}[control]
    order: dict[str, Any] = {}

    def is_taken() -> bool:
        order.update(house.order(order_type, int(house.reading()[f"{control}_step"]) + by, "agent"))
        codes = {reason["code"] for reason in order["verdict"]["reasons"] if reason["decision"] == "REFUSE"}
        assert codes <= {"too_soon"}, order["verdict"]
        return not codes

    wait_for(is_taken, f"an order on the {control}", 25, every_s=1.5)
    return order


def hold(house: Stack, page: Page, control: str, by: int) -> str:
    """The agent asks for a step; the page shows it, long enough for a key to count."""
    order = asked(house, control, by)
    assert order["status"] == "PENDING_APPROVAL", order["verdict"]
    expect(page.locator(f'[data-held="{order["proposal_id"]}"]')).to_be_visible(timeout=6000)
    page.wait_for_timeout(APPROVE_AFTER_MS)
    return str(order["proposal_id"])


def settled(house: Stack, order_id: str, status: str) -> None:
    wait_for(lambda: house.proposal(order_id)["status"] == status, f"{order_id} {status}", 15)


def fits(page: Page) -> None:
    """Nothing is wider than the phone."""
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]  # type: ignore[index]


def test_a_day_by_keyboard_on_a_phone(house: Stack, browser: Browser, trusted: None) -> None:
    with visit(browser, house, PHONE) as seen:
        page = seen.page
        fits(page)
        # at the machine: watch it, say that one is there
        go_to(page, "#cards .card-foot a")
        wait_for(lambda: points(page) > 0, "a first point", 15)
        page.keyboard.press("p")
        expect(page.locator("#attendance")).to_contain_text("operator is at this machine", timeout=6000)
        expect(page.locator("[data-attendance]")).to_have_text(re.compile(r"^[45]:\d\d$"), timeout=6000)
        fits(page)
        # back home: the queue of all machines; approve, then reject with a reason
        go_to(page, "a.brand")
        expect(page.locator("#stream-state")).to_have_attribute("data-state", "live", timeout=10_000)
        fan = hold(house, page, "fan", +1)
        take_picture(page, "queue-phone")
        page.keyboard.press("a")
        settled(house, fan, "COMPLETED")
        drum = hold(house, page, "drum", -1)
        page.keyboard.press("r")
        page.keyboard.press("2")
        settled(house, drum, "REJECTED")
        assert house.proposal(drum)["rejection"]["code"] == "WRONG_TIMING"
        expect(page.locator("[data-held]")).to_have_count(0, timeout=6000)
        # L4: it runs by itself unless vetoed
        grant(house, "L4")
        heater = hold(house, page, "heater", -1)
        card = page.locator(f'[data-held="{heater}"]')
        expect(card).to_have_attribute("data-kind", "veto")
        expect(card.locator("[data-countdown]")).to_have_text(re.compile(r"^0:\d\d$"))
        take_picture(page, "veto-phone")
        page.keyboard.press("v")
        settled(house, heater, "REJECTED")
        expect(page.locator("#notices")).to_contain_text("Vetoed: Heater", timeout=6000)
        expect(page.locator("#notices")).not_to_contain_text("Refused")
        assert house.proposal(heater)["rejection"]["code"] == "vetoed"
        # the history: find it by keyboard, read why
        go_to(page, 'nav a[href="/orders/"]')
        page.keyboard.press("j")
        expect(page.locator("#order-rows th a").first).to_be_focused()
        take_picture(page, "orders-phone")
        page.keyboard.press("Enter")
        expect(page.locator(".order-head h1")).to_contain_text("Heater")
        expect(page.locator("#story")).to_contain_text("vetoed")
        fits(page)
        go_to(page, 'nav a[href="/alarms/"]')
        expect(page.locator("h1")).to_contain_text("Alarms")
        fits(page)
    assert seen.complaints == []


def test_what_ran_at_once_is_reviewed_and_an_order_is_taken_back_by_key(
    house: Stack, browser: Browser, trusted: None
) -> None:
    assert house.post(f"/v1/machines/{house.machine_id}/attend", {}).status_code == 200
    grant(house, "L5")
    with visit(browser, house, DESK) as seen:
        page = seen.page
        expect(page.locator("#stream-state")).to_have_attribute("data-state", "live", timeout=10_000)
        order = house.order("SET_DRUM", int(house.reading()["drum_step"]) - 1, "agent")
        assert order["verdict"]["decision"] == "ALLOW", order["verdict"]
        settled(house, order["proposal_id"], "COMPLETED")
        expect(page.locator(f'[data-review="{order["proposal_id"]}"]')).to_be_visible(timeout=6000)
        take_picture(page, "review")
        page.keyboard.press("y")
        wait_for(lambda: house.proposal(order["proposal_id"])["review"], "a review", 10)
        assert house.proposal(order["proposal_id"])["review"]["finding"] == "in_order"
        expect(page.locator("[data-review]")).to_have_count(0, timeout=6000)

        # one's own order at the machine, and the way back from its page
        open_machine(page)
        fan = int(house.reading()["fan_step"])
        tab_to(page, "#fan-up")
        page.keyboard.press("Enter")
        expect(page.locator('[data-control="fan"] [data-reading]')).to_have_text(str(fan + 1), timeout=10_000)
        newest = house.get("/v1/proposals?limit=1").json()["results"][0]
        settled(house, newest["proposal_id"], "COMPLETED")
        page.goto(house.url(f"/orders/{newest['proposal_id']}/"))
        expect(page.locator("#story")).to_contain_text("31 01 aa aa")
        take_picture(page, "order")
        page.keyboard.press("b")
        wait_for(lambda: house.reading()["fan_step"] == fan, "the fan back", 15)
        expect(page.locator("#story")).to_contain_text("Taken back by", timeout=6000)
    assert seen.complaints == []


def test_no_key_decides_on_what_the_page_does_not_show(house: Stack, browser: Browser, trusted: None) -> None:
    """The last seconds before the drop hide the queue: a key must not approve what nobody can read there."""
    with visit(browser, house, DESK) as seen:
        page = seen.page
        open_machine(page)
        held = hold(house, page, "fan", 1)
        page.evaluate("document.getElementById('queue').hidden = true")
        page.keyboard.press("a")
        page.keyboard.press("r")
        page.keyboard.press("1")
        expect(page.locator("#say")).to_have_text("No order to reject.")
        assert house.proposal(held)["status"] == "PENDING_APPROVAL"
        page.evaluate("document.getElementById('queue').hidden = false")
        page.keyboard.press("a")
        settled(house, held, "COMPLETED")

        assert house.post(f"/v1/machines/{house.machine_id}/attend", {}).status_code == 200
        grant(house, "L5")
        order = asked(house, "drum", -1)
        assert order["verdict"]["decision"] == "ALLOW", order["verdict"]
        expect(page.locator(f'[data-review="{order["proposal_id"]}"]')).to_be_visible(timeout=6000)
        page.evaluate("document.getElementById('queue').hidden = true")
        for key, said in (("n", "No order to review."), ("y", "No order to review.")):
            page.evaluate("document.getElementById('say').textContent = ''")
            page.keyboard.press(key)
            expect(page.locator("#say")).to_have_text(said)
        assert house.proposal(order["proposal_id"])["review"] is None
        page.evaluate("document.getElementById('queue').hidden = false")
        page.keyboard.press("n")
        page.keyboard.press("Enter")  # without a word it is not taken
        assert house.proposal(order["proposal_id"])["review"] is None
        page.keyboard.type("The drum was slow enough.")
        page.keyboard.press("Enter")
        wait_for(lambda: house.proposal(order["proposal_id"])["review"], "a review", 10)
        review = house.proposal(order["proposal_id"])["review"]
        assert (review["finding"], review["text"]) == ("not_in_order", "The drum was slow enough.")
        page.goto(house.url(f"/orders/{order['proposal_id']}/"))
        expect(page.locator("#story")).to_contain_text("The drum was slow enough.")
    assert seen.complaints == []


def test_new_orders_are_announced_and_the_list_stays_where_it_is(house: Stack, browser: Browser) -> None:
    with visit(browser, house, DESK) as seen:
        page = seen.page
        page.goto(house.url("/orders/?actor=agent"))
        expect(page.locator("#stream-state")).to_have_attribute("data-state", "live", timeout=10_000)
        shown = page.locator("#order-rows tr").count()
        order = house.order("SET_POWER", int(house.reading()["heater_step"]) - 1, "agent")  # not asked for just now
        assert order["status"] == "PENDING_APPROVAL", order["verdict"]
        expect(page.locator("[data-news-words]")).to_contain_text("1 new order: ", timeout=8000)
        assert page.locator("#order-rows tr").count() == shown
        page.keyboard.press("n")
        row = page.locator(f'[data-order="{order["proposal_id"]}"]')
        expect(row.locator("[data-status]")).to_have_attribute("data-status", "PENDING_APPROVAL", timeout=8000)
        body = {"code": "OTHER", "text": "seen"}
        assert house.post(f"/v1/proposals/{order['proposal_id']}/reject", body).status_code == 200
        expect(row.locator("[data-status]")).to_have_attribute("data-status", "REJECTED", timeout=8000)
        # the search is kept under a name, shared, and deleted
        tab_to(page, "#view-name")
        page.keyboard.type("Agents")
        page.keyboard.press("Enter")
        view = page.locator(".view", has_text="Agents")
        expect(view).to_be_visible(timeout=8000)
        expect(view).to_have_attribute("aria-current", "true")
        take_picture(page, "orders")
        page.get_by_label("Share or delete Agents").click()
        page.get_by_role("button", name="Delete").click()
        expect(view).to_have_count(0, timeout=8000)
    assert seen.complaints == []


def test_a_lead_sets_a_limit_and_signs_a_grant(house: Stack, browser: Browser, trusted: None) -> None:
    with visit(browser, house, DESK, who="lead") as seen:
        page = seen.page
        page.goto(house.url(f"/machines/{house.machine_id}/envelope/"))
        take_picture(page, "envelope")
        for ramp in ("0.5", ""):
            page.locator("#heater-ramp").fill(ramp)
            page.locator("#heater-reason").fill("the test wants it so")
            page.keyboard.press("Enter")
            said = float(ramp) if ramp else None
            wait_for(lambda said=said: heater_ramp(house) == said, f"a ramp of {said}", 10)
            expect(page.locator("#heater-reason")).to_have_value("", timeout=8000)
        page.goto(house.url("/grants/"))
        page.locator("#grant-level").select_option("L4")
        page.locator("#grant-why").fill("ran well for a week")
        page.keyboard.press("Enter")
        expect(page.locator("#grant-list")).to_contain_text("ran well for a week", timeout=8000)
        expect(page.locator("#grant-list")).to_contain_text("L4")
        expect(page.locator("#grant-why")).to_have_value("")  # a second Enter signs nothing again
        take_picture(page, "grants")
    assert seen.complaints == []


def test_a_limit_that_another_lead_set_meanwhile_is_not_set_back_by_an_older_form(
    house: Stack, browser: Browser
) -> None:
    path = f"/v1/envelopes/{house.machine_id}"

    def highest_heat() -> int:
        limits = house.get(path).json()["limits"]
        return int(next(row["max_step"] for row in limits if row["control"] == "heater"))

    before = highest_heat()
    with visit(browser, house, DESK, "lead") as seen:
        page = seen.page
        page.goto(house.url(f"/machines/{house.machine_id}/envelope/"))
        page.locator("#heater-reason").fill("begun before the other lead")
        page.locator("#heater-interval").fill("11")  # and is still typing when the other one signs
        body = {"limit": {"control": "heater", "max_step": before - 1}, "reason": "the other lead's"}
        assert house.post(path, body, "lead").status_code == 200
        try:
            page.locator("#heater-reason").press("Enter")
            expect(page.locator("#notices")).to_contain_text("Somebody changed this while you wrote", timeout=8000)
            assert highest_heat() == before - 1
            expect(page.locator("#heater-max")).to_have_value(str(before - 1), timeout=8000)
        finally:
            body = {"limit": {"control": "heater", "max_step": before}, "reason": "as before"}
            assert house.post(path, body, "lead").status_code == 200
    assert [line for line in seen.complaints if "412" not in line] == []


def heater_ramp(house: Stack) -> float | None:
    limits = house.get(f"/v1/envelopes/{house.machine_id}").json()["limits"]
    ramp: float | None = next(row for row in limits if row["control"] == "heater")["max_ramp_step_per_s"]
    return ramp


CUTS = [
    pytest.param("silent", 9, id="silent"),
    pytest.param("refused", 20, id="refused-20-s", marks=pytest.mark.prove),
    pytest.param("silent", 20, id="silent-20-s", marks=pytest.mark.prove),
]


@pytest.mark.parametrize(("how", "cut_s"), CUTS)
def test_the_network_is_cut_and_nothing_pressed_is_lost_or_done_twice(
    house: Stack, browser: Browser, how: str, cut_s: int
) -> None:
    with cable(house.port) as network, visit(browser, behind(network, house), PHONE) as seen:
        page = seen.page
        open_machine(page)
        order = hold(house, page, "fan", +1)
        fan, before = int(house.reading()["fan_step"]), len(house.sent(FAN_UP))
        network.cut(how)
        page.keyboard.press("a")
        expect(page.locator("#lost")).to_be_visible(timeout=15_000)
        expect(page.locator("#lost")).to_contain_text("Not known since then: readings, new orders, halts.")
        expect(page.locator("#lost")).to_contain_text("STOP cannot be confirmed from here")
        expect(page.locator(".machine-head [data-age]")).to_contain_text("DATA IS OLD", timeout=8000)
        expect(page.locator(".notice-unsent")).to_contain_text("Approve", timeout=12_000)
        take_picture(page, "cut-off-phone")
        page.wait_for_timeout(max(0, 1000 * (cut_s - 9)))
        assert house.proposal(order)["status"] == "PENDING_APPROVAL"
        fits(page)
        network.mend()
        settled(house, order, "COMPLETED")
        expect(page.locator("#lost")).to_be_hidden(timeout=15_000)
        expect(page.locator(".notice-unsent")).to_have_count(0, timeout=12_000)
        expect(page.locator(".machine-head [data-age]")).to_have_attribute("data-age-state", "fresh", timeout=15_000)
        assert house.reading()["fan_step"] == fan + 1
        assert len(house.sent(FAN_UP)) == before + 1
    assert [line for line in seen.complaints if not OF_THE_CUT.search(line)] == []


def behind(network: Cable, house: Stack) -> Stack:
    """The same house, at the far end of the cable."""
    return dataclasses.replace(house, port=network.port)


def test_a_stop_pressed_while_cut_off_says_so_loudly_and_stops_when_the_network_is_back(
    house: Stack, browser: Browser
) -> None:
    with cable(house.port) as network, visit(browser, behind(network, house), PHONE) as seen:
        page = seen.page
        open_machine(page)
        network.cut("refused")
        page.keyboard.press("Shift+S")
        expect(page.locator("#loud")).to_contain_text("STOP not confirmed: use the panel or the mains", timeout=4000)
        expect(page.locator("#loud")).to_contain_text("still trying")
        network.mend()
        expect(page.locator("[data-halt]")).to_contain_text("Heat off", timeout=20_000)
        expect(page.locator("#loud")).to_be_empty(timeout=8000)
    assert [line for line in seen.complaints if not OF_THE_CUT.search(line)] == []
    with visit(browser, house, PHONE, who="lead") as seen:  # the lead resets it, by keyboard
        page = seen.page
        open_machine(page)
        made_safe(house)
        tab_to(page, '[data-halt] input[name="reason"]')
        page.keyboard.type("looked at it")
        tab_to(page, '[data-halt] input[type="checkbox"]')
        page.keyboard.press("Space")
        tab_to(page, "[data-halt] form button")
        page.keyboard.press("Enter")
        expect(page.locator("[data-halt]")).to_have_count(0, timeout=10_000)
    assert seen.complaints == []


def test_the_keys_are_told_on_every_page_of_the_day(house: Stack, browser: Browser) -> None:
    with visit(browser, house, DESK) as seen:
        page = seen.page
        for path in (f"/machines/{house.machine_id}/", "/orders/", "/roasts/"):
            page.goto(house.url(path))
            page.locator("main").wait_for()
            page.keyboard.press("?")
            dialog = page.get_by_role("dialog")
            for words in ("Approve the top held order", "Veto the first order", "I am at this machine"):
                expect(dialog).to_contain_text(words)
            page.keyboard.press("Escape")
            expect(dialog).to_be_hidden()
    assert seen.complaints == []


def test_an_open_dialog_shuts_out_neither_stop_nor_what_is_said(house: Stack, browser: Browser) -> None:
    with visit(browser, house, DESK) as seen:
        page = seen.page
        page.goto(house.url(f"/machines/{house.machine_id}/"))
        page.locator("#stop").wait_for()
        page.keyboard.press("?")
        expect(page.get_by_role("dialog")).to_be_visible()
        page.evaluate("roastops.notice('Said beside it.')")
        page.locator("#stop").click(trial=True, timeout=3000)  # it would take the press: nothing lies over it
        page.get_by_role("button", name="Close this message").click(timeout=3000)
        expect(page.get_by_role("dialog")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_be_hidden()
    assert seen.complaints == []
