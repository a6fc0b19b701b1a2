"""What an operator must do now and then, in a real Chromium: the STOP drill, a second yes, a doubt, a plan that is
called off and taken back, a file dropped on the page. By keyboard, on a phone's width where a hand is at the machine.
"""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from roastops.tests.stack import Stack, end_holder, wait_for
from roastops.tests.test_browser import (
    DESK,
    PHONE,
    browser,
    healthy_roast,
    house,
    made_safe,
    open_machine,
    visit,
)
from roastops.tests.test_browser_day import APPROVE_AFTER_MS, fits, hold, settled, tab_to

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(420)]
__all__ = ["browser", "healthy_roast", "house"]
#: No byte of an order leaves later than this after its claim (commands.records.doubts): before, nobody can say.
DOUBT_SETTLES_AFTER_S = 9.5


def drills(house: Stack) -> list[dict[str, Any]]:
    return list(house.get(f"/v1/machines/{house.machine_id}/drill").json()["drills"])


def test_the_stop_drill_is_pressed_timed_and_kept(house: Stack, browser: Browser) -> None:
    before = len(drills(house))
    with visit(browser, house, PHONE) as seen:
        page = seen.page
        page.goto(house.url(f"/machines/{house.machine_id}/drill/"))
        expect(page.locator("#stream-state")).to_have_attribute("data-state", "live", timeout=10_000)
        tab_to(page, '#drills input[name="is_drum_empty"]')
        page.keyboard.press("Space")
        tab_to(page, "#press-drill")
        page.keyboard.press("Enter")
        wait_for(lambda: len(drills(house)) == before + 1, "the drill in the record", 20)
        newest = drills(house)[0]
        assert newest["is_passed"] and newest["has_heat_gone_down"], newest
        assert newest["first_byte_ms"] < 250 and newest["proved_ms"] < 2000, newest
        expect(page.locator(".drill-history li").first).to_contain_text("Passed", timeout=8000)
        expect(page.locator(".drill-history li").first).to_contain_text("first byte")
        expect(page.locator("#drills")).to_contain_text("is halted")
        fits(page)
    assert seen.complaints == []
    made_safe(house)


@contextlib.contextmanager
def two_people_from(house: Stack, significance: str) -> Iterator[None]:
    """A lead's policy: held agents' orders of this significance need two people's yes; then as it was."""
    document = house.get("/v1/governor-policy", "lead").json()["document"]
    for said in (significance, document["two_person_from"]):
        body = {"document": {**document, "two_person_from": said}, "reason": "the test"}
        assert house.post("/v1/governor-policy", body, "lead").status_code == 201
        if said == significance:
            try:
                yield
            except BaseException:
                house.post("/v1/governor-policy", {"document": document, "reason": "the test"}, "lead")
                raise


def test_what_one_person_types_stays_while_another_records_a_step(house: Stack, browser: Browser) -> None:
    path, words = f"/v1/machines/{house.machine_id}/commissioning", "the red lever behind the machine"
    assert house.post(f"{path}/begin", {}).status_code == 200
    try:
        with visit(browser, house, DESK) as seen:
            page = seen.page
            page.goto(house.url(f"/machines/{house.machine_id}/commissioning/"))
            expect(page.locator("#stream-state")).to_have_attribute("data-state", "live", timeout=10_000)
            page.locator("#step-mains_switch summary").click()
            page.locator("#step-mains_switch textarea").fill(words)
            page.locator("h1").click()
            step = {"code": "identity", "is_confirmed": True}
            assert house.post(f"{path}/step", step, "lead").status_code == 200
            expect(page.locator("li:has(#step-identity)")).to_have_class(re.compile("is-passed"), timeout=8000)
            expect(page.locator("#step-mains_switch textarea")).to_have_value(words)
            page.locator("#step-mains_switch input[name=is_confirmed]").check()
            page.locator("#do-mains_switch").click()
            expect(page.locator("#step-mains_switch")).to_contain_text(f"Written down: {words}", timeout=8000)
            expect(page.locator("#step-mains_switch textarea")).to_have_value("")  # sent: it is the record's now
        assert seen.complaints == []
    finally:
        house.post(f"{path}/end", {"reason": "the test is over"}, "lead")


def test_two_people_say_yes_to_one_order_each_in_a_browser_of_their_own(house: Stack, browser: Browser) -> None:
    with (
        two_people_from(house, "none"),
        visit(browser, house, PHONE) as first,
        visit(browser, house, PHONE, who="operator2") as second,
    ):
        for seen in (first, second):
            open_machine(seen.page)
        order = hold(house, first.page, "fan", +1)
        card = f'[data-held="{order}"]'
        expect(first.page.locator(card)).to_contain_text("Needs 2 different people; 0 said yes so far.")
        expect(second.page.locator(card)).to_be_visible(timeout=6000)
        yes(first.page, card)
        expect(first.page.locator("#notices")).to_contain_text("It needs another person's, too", timeout=8000)
        expect(first.page.locator(card)).to_contain_text("You said yes.", timeout=8000)
        assert first.page.locator(f"{card} [data-approve]").count() == 0
        expect(second.page.locator(card)).to_contain_text("1 said yes so far. (operator)", timeout=8000)
        assert house.proposal(order)["status"] == "PENDING_APPROVAL"
        second.page.wait_for_timeout(APPROVE_AFTER_MS)
        yes(second.page, card)
        settled(house, order, "COMPLETED")
        assert [person["name"] for person in house.proposal(order)["approvals"]] == ["operator", "operator2"]
        fits(first.page)
        fits(second.page)
    assert first.complaints == [] and second.complaints == []


def yes(page: Page, card: str) -> None:
    """Approve by keyboard; with the tick, where the order asks for one."""
    tick = page.locator(f'{card} input[type="checkbox"]')
    if tick.count():
        tick.check()
    page.locator(f'{card} [data-approve] button').focus()
    page.keyboard.press("Enter")


@pytest.mark.prove
def test_an_order_in_doubt_is_settled_by_the_operator_who_looked(house: Stack, browser: Browser) -> None:
    """Keeper and cable go while the fan steps: some bytes left, nothing was read back, and nothing can be read."""
    at = int(house.reading()["fan_step"])
    with visit(browser, house, PHONE) as seen, house.panel() as panel:
        page = seen.page
        open_machine(page)
        page.keyboard.press("p")
        expect(page.locator("#attendance")).to_contain_text("operator is at this machine", timeout=6000)
        order = house.order("SET_FAN", 12)["proposal_id"]
        wait_for(lambda: panel.status()["fan_step"] > at, "a first step", 10, every_s=0.01)
        end_holder(Path(house.config.lock_file))
        panel.unplug()
        try:
            settled(house, order, "IN_DOUBT")
            page.wait_for_timeout(1000 * DOUBT_SETTLES_AFTER_S)
            page.goto(house.url(f"/orders/{order}/"))
            expect(page.locator(".flag-block")).to_contain_text("In doubt: sent, and not proved")
            stood = int(panel.status()["fan_step"])
            tab_to(page, "#doubt-reads")
            page.keyboard.type(str(stood))
            tab_to(page, "#doubt-evidence")
            page.keyboard.type("The panel, from the front.")
            page.keyboard.press("Enter")
            settled(house, order, "FAILED" if stood != 12 else "COMPLETED")
            assert house.proposal(order)["outcome"]["actual_step"] == stood
            expect(page.locator(".flag-block")).to_have_count(0, timeout=8000)
            expect(page.locator("#story")).to_contain_text("The panel, from the front.")
            fits(page)
        finally:
            panel.replug()
    assert seen.complaints == []


def held_plan(house: Stack, body: dict[str, Any]) -> dict[str, Any]:
    """An agent's plan that waits for a yes; proposed again while its last order on a control is too near."""
    found: dict[str, Any] = {}

    def is_held() -> bool:
        answer = house.post("/v1/plans", body, "agent")
        assert answer.status_code == 201, answer.text
        found.update(answer.json())
        refusals = {reason["code"] for reason in found["reasons"] if reason["decision"] == "REFUSE"}
        assert found["status"] == "PENDING_APPROVAL" or "too_soon" in refusals, found["reasons"]
        return bool(found["status"] == "PENDING_APPROVAL")

    wait_for(is_held, "a held plan", 40)
    return found


def test_a_running_plan_is_called_off_and_taken_back_by_key_on_a_phone(house: Stack, browser: Browser) -> None:
    fan, drum = int(house.reading()["fan_step"]), int(house.reading()["drum_step"])
    body = {
        "machine_id": house.machine_id, "title": "More air, slowly", "reasoning": "the test", "orders": [
            {"order_type": "SET_FAN", "target_value": fan + 1, "target_unit": "step"},
            {"order_type": "SET_DRUM", "target_value": drum - 1, "target_unit": "step"},
            {"order_type": "SET_FAN", "target_value": fan + 2, "target_unit": "step",
             "constraints": {"min_interval_s": 300}},
        ],
    }  # fmt: skip
    with visit(browser, house, PHONE) as seen:
        page = seen.page
        open_machine(page)
        plan = held_plan(house, body)
        expect(page.locator(f'[data-held="{plan["orders"][0]["proposal_id"]}"]')).to_be_visible(timeout=6000)
        page.wait_for_timeout(APPROVE_AFTER_MS)
        page.keyboard.press("a")
        settled(house, plan["orders"][1]["proposal_id"], "COMPLETED")
        box = page.locator(f'[data-plan="{plan["plan_id"]}"]')
        expect(box).to_contain_text("2 of 3 confirmed", timeout=8000)
        page.keyboard.press("c")
        wait_for(lambda: house.get(f"/v1/plans/{plan['plan_id']}").json()["status"] == "ABORTED", "its end", 10)
        expect(box.locator("[data-compensate-plan]")).to_be_visible(timeout=8000)
        expect(box.locator("[data-abort-plan]")).to_have_count(0)
        fits(page)
        page.keyboard.press("t")
        wait_for(lambda: house.reading()["fan_step"] == fan, "the fan back", 20)
        wait_for(lambda: house.reading()["drum_step"] == drum, "the drum back", 20)
        expect(box).to_have_count(0, timeout=8000)
        # its orders' pages tell the plan, too
        page.goto(house.url(f"/orders/{plan['orders'][2]['proposal_id']}/"))
        expect(page.locator(f'[data-plan="{plan["plan_id"]}"] [aria-current="true"]')).to_contain_text("Fan")
        fits(page)
    assert seen.complaints == []


DROP = """([name, base64]) => {
  const bytes = Uint8Array.from(atob(base64), c => c.charCodeAt(0)), bag = new DataTransfer();
  bag.items.add(new File([bytes], name));
  const over = new DragEvent("dragover", {bubbles: true, cancelable: true, dataTransfer: bag});
  const drop = new DragEvent("drop", {bubbles: true, cancelable: true, dataTransfer: bag});
  document.querySelector("h1").dispatchEvent(over);
  return [over.defaultPrevented, document.querySelector("h1").dispatchEvent(drop)];
}"""


@pytest.mark.prove
def test_a_file_dropped_anywhere_on_the_page_comes_in_once(house: Stack, browser: Browser) -> None:
    roasts = house.get("/v1/roasts?limit=20").json()["results"]
    done = next(roast for roast in roasts if roast["status"] == "finished")
    exported = house.get(f"/v1/roasts/{done['roast_id']}/export?format=alog", timeout=30)
    assert exported.status_code == 200, exported.text[:300]
    file = ["Dropped.alog", base64.b64encode(exported.content).decode()]
    with visit(browser, house, DESK) as seen:
        page = seen.page
        page.goto(house.url("/roasts/import/"))
        page.locator("#results").wait_for(state="attached")
        is_caught, was_let_through = page.evaluate(DROP, file)
        assert is_caught and not was_let_through, "else the browser would open the file and leave the page"
        first = page.locator(".import-result").first
        expect(first).to_have_attribute("data-state", re.compile("imported|warned"), timeout=30_000)
        expect(first.locator("[data-name]")).to_have_text("Dropped.alog")
        page.evaluate(DROP, file)
        expect(page.locator(".import-result[data-state=duplicate]")).to_contain_text("came before", timeout=30_000)
        page.locator("[data-open]").first.click()
        page.wait_for_url(re.compile(r"/roasts/rst_"))
        expect(page.locator("h1")).to_be_visible()
        page.goto(house.url(f"/reports/{page.url.rstrip('/').rpartition('/')[2]}/"))
        page.get_by_role("button", name="Write the report").click()
        expect(page.locator(".report-qr svg")).to_be_visible()
        page.emulate_media(media="print", color_scheme="dark")
        for table in page.locator(".report .scroll").all():
            expect(table).to_have_css("max-height", "none")  # paper does not scroll
        expect(page.locator(".report .panel").first).to_have_css("background-color", "rgb(255, 255, 255)")
        expect(page.locator(".report .line-bean").first).to_have_css("stroke", "rgb(20, 24, 27)")
    assert seen.complaints == []
