"""A person's shift in a real Chromium against the whole house: `manage.py up`, a keeper, a virtual Bullet R1."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import signal
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from roastops.tests.stack import Stack, wait_for

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(420)]

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
DESK, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def house(roasting_house: Stack) -> Stack:
    """One for every module with a browser."""
    return roasting_house


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """Chromium; opened and closed around this module alone, for its event loop stands in Django's way."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(autouse=True)
def healthy_roast(house: Stack) -> None:
    """A roast as at the start, whatever the test before left of it."""
    house.make_roasting()


@dataclasses.dataclass
class Visit:
    """One person's browser, and everything it complained about."""

    page: Page
    complaints: list[str]


@contextlib.contextmanager
def visit(browser: Browser, house: Stack, size: dict[str, int], who: str = "operator") -> Iterator[Visit]:
    """Signed in at the first page; fails on any script error, refused policy or request to another origin."""
    origin = house.url("")
    context = browser.new_context(viewport=size)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(f"script error: {error}"))
    page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    page.on("request", lambda request: None if request.url.startswith(origin) else complaints.append(request.url))
    try:
        page.goto(house.url("/"))
        login = house.demo["users"][who]
        page.get_by_label("Name").fill(login["username"])
        page.get_by_label("Password").fill(login["password"])
        page.get_by_label("Password").press("Enter")
        expect(page.locator("#cards .card")).to_be_visible()
        yield Visit(page, complaints)
    finally:
        context.close()


def open_machine(page: Page) -> None:
    page.locator("#cards .card-foot a").click()
    expect(page.locator("#curve canvas")).to_be_visible()
    expect(page.locator("#stream-state")).to_have_attribute("data-state", "live", timeout=10_000)


def points(page: Page) -> int:
    return int(page.locator("#curve").get_attribute("data-points") or 0)


def reset(house: Stack) -> None:
    """The lead lets orders reach the machine again, once the keeper has done making it safe."""
    path, body = f"/v1/machines/{house.machine_id}/reset", {"reason": "the test has looked"}
    wait_for(lambda: house.post(path, body, "lead").status_code == 200, "a reset", 10, every_s=0.5)


def made_safe(house: Stack) -> None:
    """Heat off and the air up: before, the keeper takes no reset."""

    def is_done() -> bool:
        reading = house.reading()
        return reading["heater_step"] == 0 and reading["fan_step"] >= 7

    wait_for(is_done, "the machine made safe", 10)
    wait_for(lambda: (house.keeper_status() or {})["stops"][-1]["receipt"], "the keeper's receipt", 5)


@dataclasses.dataclass(frozen=True)
class Shift:
    """What one person sees and does: which screen, how long they watch, which control the agent asks for."""

    size: dict[str, int]
    watch_s: float
    order_type: str
    control: str


SHIFTS = [
    pytest.param(Shift(DESK, 8, "SET_POWER", "heater"), id="desk"),
    pytest.param(Shift(PHONE, 4, "SET_FAN", "fan"), id="phone"),
    pytest.param(Shift(DESK, 20, "SET_POWER", "heater"), id="desk-20-s", marks=pytest.mark.prove),
]


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_shift_sign_in_watch_approve_by_key_see_it_completed_stop(
    house: Stack, browser: Browser, shift: Shift
) -> None:
    size, watch_s, control = shift.size, shift.watch_s, shift.control
    with visit(browser, house, size) as seen:
        page = seen.page
        open_machine(page)
        wait_for(lambda: points(page) > 0, "a first point", 10)

        before, temperature = points(page), page.locator('.readouts [data-reading="bean_temp_c"]').inner_text()
        page.wait_for_timeout(1000 * watch_s)
        assert points(page) >= before + 2 * watch_s
        assert page.locator('.readouts [data-reading="bean_temp_c"]').inner_text() != temperature
        assert page.locator(".machine-head [data-age]").get_attribute("data-age-state") == "fresh"

        page.evaluate("window.stillTheSamePage = true")
        step = int(house.reading()[f"{control}_step"])
        order = house.order(shift.order_type, step - 1, "agent")
        assert order["status"] == "PENDING_APPROVAL", order
        held = page.locator(f'[data-held="{order["proposal_id"]}"]')
        expect(held).to_be_visible(timeout=3000)
        expect(held.locator("[data-countdown]")).to_have_text(time_left())
        assert page.title().startswith("(1) ")
        page.wait_for_timeout(1000)  # a key does not approve what has only just appeared
        page.keyboard.press("a")
        line = page.locator(f'#order-{order["proposal_id"]} [data-status="COMPLETED"]')
        expect(line).to_be_visible(timeout=8000)
        expect(page.locator(f'[data-control="{control}"] [data-reading]')).to_have_text(str(step - 1), timeout=3000)
        assert page.evaluate("window.stillTheSamePage") is True
        assert not page.title().startswith("(")

        button = page.locator("#stop")
        box = button.bounding_box()
        assert box is not None and box["height"] >= 64 and box["width"] >= 64
        assert box["y"] + box["height"] <= size["height"]  # in reach without scrolling
        button.click()
        expect(page.locator("[data-halt]")).to_contain_text("Heat off", timeout=6000)
        expect(page.locator("[data-halt]")).to_contain_text("ms")
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        assert house.reading()["heater_step"] == 0
    reset(house)
    assert seen.complaints == []


def time_left() -> re.Pattern[str]:

    return re.compile(r"^\d+:\d\d$")


def test_the_stop_key_works_and_a_held_escape_works_while_typing(house: Stack, browser: Browser) -> None:
    with visit(browser, house, DESK, who="lead") as seen:
        page = seen.page
        open_machine(page)
        page.keyboard.press("Shift+S")
        expect(page.locator("[data-halt]")).to_contain_text("Heat off", timeout=6000)
        page.locator('[data-halt] input[name="reason"]').fill("the test has looked")
        page.locator('[data-halt] input[type="checkbox"]').check()
        made_safe(house)
        page.locator("[data-halt] form button").click()
        expect(page.locator(".notice").last).to_contain_text("Reset.")
        expect(page.locator("[data-halt]")).to_have_count(0, timeout=5000)

        reason = page.locator('#grants input[name="reason"]').first
        reason.click()
        page.keyboard.type("S")  # a letter in a field, not STOP
        page.keyboard.down("Escape")
        page.wait_for_timeout(900)
        page.keyboard.up("Escape")
        expect(page.locator("[data-halt]")).to_contain_text("STOPPED by lead", timeout=6000)
    reset(house)


def test_a_stop_that_nobody_answers_is_said_loudly(house: Stack, browser: Browser) -> None:
    with visit(browser, house, PHONE) as seen:
        page = seen.page
        open_machine(page)
        page.route("**/stop", lambda route: route.abort())
        page.locator("#stop").click()
        expect(page.locator("#loud")).to_contain_text("STOP not confirmed: use the panel or the mains")
        page.unroute("**/stop")


#: What of these lies, at its middle, under something else.
COVERED = """pressed => [...document.querySelectorAll(pressed)].filter(each => {
  const box = each.getBoundingClientRect();
  const at = box.width && document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
  return each.checkVisibility() && !(at && (each.contains(at) || at.contains(each)));
}).map(each => each.textContent.trim())"""


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_what_is_said_of_a_lost_connection_covers_nothing(house: Stack, browser: Browser, size: dict[str, int]) -> None:
    with visit(browser, house, size) as seen:
        page = seen.page
        open_machine(page)
        pressed = ".top a, .top button, .top summary, #stop, #have-it"
        assert page.evaluate(COVERED, pressed) == []
        page.context.set_offline(True)
        lost = page.locator("#lost")
        expect(lost).to_be_visible(timeout=15_000)
        assert page.evaluate(COVERED, pressed) == []
        said, main = lost.bounding_box(), page.locator("#main").bounding_box()
        assert said is not None and main is not None and said["y"] + said["height"] <= main["y"]
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        page.locator("details.more > summary").click()
        expect(page.locator(".more-pages")).to_be_visible()
        assert page.evaluate(COVERED, ".more-pages a") == [], "an opened menu lies over it"
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        stuck = lost.bounding_box()
        assert stuck is not None and stuck["y"] == 0, "it stays in sight"
        page.context.set_offline(False)
        expect(lost).to_be_hidden(timeout=15_000)


def test_data_that_stops_coming_is_shown_as_old(house: Stack, browser: Browser) -> None:
    with visit(browser, house, DESK) as seen:
        page = seen.page
        open_machine(page)
        expect(page.locator(".machine-head [data-age]")).to_have_attribute("data-age-state", "fresh")
        age = page.locator(".machine-head [data-age]")
        with frozen(house, "up"):
            expect(age).to_have_attribute("data-age-state", "very-old", timeout=6000)
            expect(age).to_contain_text("DATA IS OLD")
            page.locator("#stop").click()  # nobody answers now
            expect(page.locator(".stop-bar [data-stop-result]")).to_contain_text("no proof yet", timeout=3000)
        expect(page.locator("[data-halt]", has_text="STOPPED by").first).to_contain_text("Heat off", timeout=20_000)
        # The page tries again until it has an answer: a press still under way would stop the next test's machine.
        expect(page.locator(".stop-bar [data-stop-result]")).to_contain_text("Heat off, proved", timeout=20_000)
        expect(age).to_have_attribute("data-age-state", "fresh", timeout=20_000)
    reset(house)


@contextlib.contextmanager
def frozen(house: Stack, name: str) -> Iterator[None]:
    """The process stands still, and goes on afterwards."""
    process = house.processes[name]
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def test_i_have_it_and_own_orders_and_marks_by_key(house: Stack, browser: Browser) -> None:
    with visit(browser, house, DESK) as seen:
        page = seen.page
        open_machine(page)
        page.keyboard.press("h")
        expect(page.locator("#suspension")).to_contain_text("operator has it", timeout=4000)
        refused = house.order("SET_FAN", int(house.reading()["fan_step"]) - 1, "agent")
        assert refused["status"] == "REJECTED"
        assert "suspended" in [reason["code"] for reason in refused["verdict"]["reasons"]]
        page.locator("#have-it").click()
        expect(page.locator("#suspension")).to_contain_text("Agents may act here", timeout=4000)

        fan, shown = int(house.reading()["fan_step"]), page.locator('[data-control="fan"] [data-reading]')
        expect(shown).to_have_text(str(fan))  # a press counts from what the page shows
        page.locator("#fan-down").evaluate("button => { button.click(); button.click(); }")  # two presses, one order
        expect(shown).to_have_text(str(fan - 2), timeout=8000)

        page.keyboard.press("f")
        mark = page.locator(".mark-list li", has_text="First crack")
        expect(mark).to_be_visible(timeout=4000)
        first = mark.locator("[data-mmss]").get_attribute("data-mmss")
        page.keyboard.press("-")
        earlier = str(max(0, int(first or 0) - 5000))
        expect(mark.locator("[data-mmss]")).to_have_attribute("data-mmss", earlier, timeout=4000)
        expect(page.locator("[data-development]").first).not_to_have_text("–")
        mark.get_by_role("button", name="Withdraw").click()
        expect(mark).to_have_count(0, timeout=4000)
    assert seen.complaints == []


def test_the_words_of_the_curve_are_there_for_those_who_cannot_see_it(house: Stack, browser: Browser) -> None:
    with visit(browser, house, DESK) as seen:
        page = seen.page
        open_machine(page)
        wait_for(lambda: points(page) > 0, "a first point", 10)
        expect(page.locator("#curve-summary")).to_contain_text("after charge: bean temperature", timeout=12_000)
        page.locator("#curve-table summary").click()
        expect(page.locator("#curve-table tbody tr").first).to_be_visible()
        started_s = time.monotonic()
        page.keyboard.press("?")
        expect(page.get_by_role("dialog")).to_contain_text("STOP this machine")
        assert time.monotonic() - started_s < 2
    assert seen.complaints == []


def test_a_held_order_is_rejected_by_key_with_its_reason(house: Stack, browser: Browser) -> None:
    with visit(browser, house, PHONE) as seen:
        page = seen.page
        open_machine(page)
        order = house.order("SET_DRUM", int(house.reading()["drum_step"]) - 1, "agent")
        expect(page.locator(f'[data-held="{order["proposal_id"]}"]')).to_be_visible(timeout=3000)
        page.keyboard.press("r")
        page.keyboard.press("2")
        expect(page.locator(f'[data-held="{order["proposal_id"]}"]')).to_have_count(0, timeout=4000)
        line = page.locator(f"#order-{order['proposal_id']}")
        expect(line.locator('[data-status="REJECTED"]')).to_be_visible(timeout=4000)
        settled = house.proposal(order["proposal_id"])
        assert settled["status"] == "REJECTED"
        assert settled["rejection"]["code"] == "WRONG_TIMING"
    assert seen.complaints == []


def test_a_lead_lowers_an_agent_and_its_order_becomes_advice_that_is_adopted(house: Stack, browser: Browser) -> None:
    with visit(browser, house, DESK, who="lead") as seen:
        page = seen.page
        open_machine(page)
        give_level(page, "L2")
        drum = int(house.reading()["drum_step"])
        order = house.order("SET_DRUM", drum - 1, "agent")
        assert order["status"] == "REJECTED", order
        adopt = page.locator(f"#adopt-{order['proposal_id']}")
        expect(adopt).to_be_visible(timeout=4000)
        adopt.click()
        expect(page.locator('[data-control="drum"] [data-reading]')).to_have_text(str(drum - 1), timeout=8000)
        expect(adopt).to_have_count(0, timeout=4000)
        give_level(page, "L3")
    assert seen.complaints == []


def give_level(page: Page, level: str) -> None:
    """The lead grants roastrunner this level on the open page."""
    row = page.locator("#grants tr", has_text="roastrunner")
    row.locator("select").focus()  # as a hand would: a panel is not drawn anew under it
    row.locator("select").select_option(level)
    row.get_by_label("Reason").fill(f"the test wants {level}")
    row.get_by_role("button", name="Grant").click()
    expect(row.locator("td[data-label='Level here']")).to_contain_text(level, timeout=5000)


def test_a_pulled_cable_is_said_and_orders_wait_until_a_person_has_looked(house: Stack, browser: Browser) -> None:
    with visit(browser, house, DESK) as seen:
        page = seen.page
        open_machine(page)
        with house.panel() as panel:
            panel.unplug()
            expect(page.locator("#halts")).to_contain_text("Link down", timeout=8000)
            expect(page.locator(".machine-head [data-age]")).to_contain_text("DATA IS OLD", timeout=8000)
            panel.replug()
        expect(page.locator(".machine-head [data-age]")).to_have_attribute("data-age-state", "fresh", timeout=15_000)
        form = page.locator('#halts form:has([name="what"][value="orders"])').first
        expect(form).to_be_visible(timeout=8000)
        reason = form.locator('[name="reason"]')
        if reason.count():
            reason.fill("the cable is in again")
        form.locator('input[type="checkbox"]').check()
        form.get_by_role("button").click()
        expect(page.locator("#halts form")).to_have_count(0, timeout=8000)
        assert house.get(f"/v1/machines/{house.machine_id}").json()["is_orders_paused"] is False
    assert seen.complaints == []


def test_the_last_seconds_are_large_keep_their_places_and_ask_whether_the_beans_are_out(
    house: Stack, browser: Browser
) -> None:
    with visit(browser, house, PHONE) as seen:
        page = seen.page
        open_machine(page)
        ending = page.locator("#ending")
        expect(ending).to_be_hidden()
        page.locator("#plan summary").click()
        page.get_by_label("or after development of (m:ss)").fill("1:20")
        page.get_by_role("button", name="Set the plan").click()
        page.locator("body").press("f")
        expect(ending).to_be_visible(timeout=8000)
        expect(page.locator('[data-ending="by-time-plan"]')).to_have_text("after 1:20 of development", timeout=8000)
        expect(page.locator('[data-ending="by-time"]')).to_have_text(re.compile(r"^\+?\d:\d\d$"))
        before = places(page)
        page.wait_for_timeout(1500)
        assert places(page) == before, "something moved"
        expect(page.locator("#stop")).to_be_in_viewport()
        crack = page.locator('[data-ending="crack"]').inner_text()
        page.locator("#ending-back10").click()
        expect(page.locator('[data-ending="crack"]')).not_to_have_text(crack, timeout=5000)
        page.locator("body").press("w")
        expect(ending).to_be_hidden()
        page.locator("body").press("w")
        expect(ending).to_be_visible()
        page.locator("body").press("w")
        page.locator("body").press("o")
        page.locator("body").press("w")
        expect(page.locator("#ending-out")).to_be_visible(timeout=8000)
        page.locator("#beans-out").click()
        expect(ending).to_be_hidden(timeout=5000)
        roast_id = house.get(f"/v1/machines/{house.machine_id}").json()["roast_id"]
        marks = house.get(f"/v1/roasts/{roast_id}/events").json()["results"]
        assert [m["text"] for m in marks if m["kind"] == "note"] == ["Beans out: seen at the machine."]
    assert seen.complaints == []


def places(page: Page) -> list[tuple[float, float]]:
    """Where every figure and button of the last seconds stands."""
    return page.evaluate(
        "Array.from(document.querySelectorAll('#ending dd, #ending button'), function (e) {"
        " var r = e.getBoundingClientRect(); return [Math.round(r.x), Math.round(r.y)]; })"
    )
