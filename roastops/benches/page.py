"""A long roast in a real browser: fifteen minutes at 10 Hz on the machine page, with readings coming in."""

from __future__ import annotations

import json
import sys
from typing import Any

from playwright.sync_api import Page, sync_playwright

from kernel import clock
from roastops.benches.figures import Figure, Outcome
from roastops.benches.house import House, running_house
from roastops.testing import servers

FULL_S, SHORT_S = 900, 60
WATCHED_FULL_S, WATCHED_SHORT_S = 20, 3
LONG_TASK_MS = 100.0
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip

_ROAST = """
import datetime as dt, math, django
django.setup()
from kernel import clock
from roasts.models import Machine, Roast, Sample
machine = Machine.objects.get(pk=%r)
now = clock.now()
roast = Roast.objects.create(organization=machine.organization, machine=machine, status="roasting",
    started_at=now - dt.timedelta(seconds=%d), device_start_ms=0, profile_version=machine.profile_version)
rows = []
for n in range(%d * 10):
    t = n / 10
    bean = 156 - t if t < 55 else 101 + 110 * (1 - math.exp(-(t - 55) / 420)) + 0.2 * math.sin(t * 7)
    rows.append(Sample(roast=roast, elapsed_ms=n * 100, sequence=n + 1, at=roast.started_at + dt.timedelta(seconds=t),
        state="roasting", bean_temp_c=round(bean, 1), infrared_temp_c=round(bean + 20, 1),
        rate_of_rise_c_per_min=round(20 * math.exp(-t / 300), 1), heater_step=max(2, 8 - int(t / 120)),
        fan_step=2 + int(t / 200), drum_step=9))
Sample.objects.bulk_create(rows, batch_size=500)
print("roast", roast.pk)
"""
#: Counts tasks of the main thread that took longer than 50 ms (the browser reports no shorter ones).
_WATCH = """
window.longTasks = [];
new PerformanceObserver(function (list) {
  list.getEntries().forEach(function (task) { window.longTasks.push(task.duration); });
}).observe({ type: "longtask", buffered: true });
"""
#: Four readings a second, as the stream brings them, through the page's own listeners.
_FEED = """
(fromMs) => {
  var machine = document.getElementById("console").dataset.machine, roast = window.roastops.live.roast(), n = 0;
  window.feeding = setInterval(function () {
    n += 1;
    var reading = { at: new Date(window.roastops.now()).toISOString(), state: "roasting", roast_id: roast.roast_id,
      elapsed_ms: fromMs + n * 250, device_ms: fromMs + n * 250, bean_temp_c: 205 + n / 50, infrared_temp_c: 220,
      rate_of_rise_c_per_min: 6, heater_step: 3, fan_step: 5, drum_step: 9 };
    window.roastops.latest[machine] = reading;
    window.roastops.readingListeners.forEach(function (listener) { listener(machine, reading); });
  }, 250);
}
"""


def run(*, is_short: bool) -> Outcome:
    """The longest task of the page's main thread: loading the roast, then drawing it live. The yardstick is the same
    page before a roast is on it."""
    seconds = SHORT_S if is_short else FULL_S
    watched_s = WATCHED_SHORT_S if is_short else WATCHED_FULL_S
    with running_house(machine=False) as house, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=servers.require_program("chromium"), args=FLAGS)
        try:
            page = _signed_in(browser.new_page(viewport={"width": 1440, "height": 900}), house)
            empty_ms = _longest(page, house, 2)
            _make_roast(house, seconds)
            shown_ms, points = _loaded(page, house)
            page.evaluate(_FEED, seconds * 1000)
            page.wait_for_timeout(watched_s * 1000)
            live_ms = _worst(page)
        finally:
            browser.close()
    return Outcome(
        "page",
        (
            Figure("samples on the page", float(points), "", at_least=seconds * 10 * 0.99),
            Figure("longest task while the roast is loaded", shown_ms, "ms", at_most=LONG_TASK_MS),
            Figure("longest task while it is drawn live", live_ms, "ms", at_most=LONG_TASK_MS),
            Figure("yardstick: the page without this roast", empty_ms, "ms"),
        ),
        "the same page before the long roast is on it",
        is_short,
        (f"{seconds} s at 10 Hz, then {watched_s} s of readings; 50 ms means that no task was longer",),
    )


def _signed_in(page: Page, house: House) -> Page:
    logins: dict[str, Any] = json.loads((house.fleet.data_dir / "demo-logins.json").read_text())
    page.add_init_script(_WATCH)
    page.goto(f"{house.web.url}/sign-in/")
    page.get_by_label("Name").fill("operator")
    page.get_by_label("Password").fill(logins["operator"])
    page.get_by_label("Password").press("Enter")
    page.locator("#cards .card").wait_for()
    return page


def _make_roast(house: House, seconds: int) -> None:
    program = _ROAST % (house.machine_id, seconds, seconds)
    running = house.fleet.start("long-roast", sys.executable, "-c", program)
    running.process.wait(120)
    if "roast rst_" not in running.log():
        raise RuntimeError(f"the long roast could not be made:\n{running.log()[-2000:]}")


def _longest(page: Page, house: House, for_s: float) -> float:
    page.goto(f"{house.web.url}/machines/{house.machine_id}/")
    page.locator("#curve").wait_for(state="attached")
    page.wait_for_timeout(for_s * 1000)
    return _worst(page)


def _loaded(page: Page, house: House) -> tuple[float, int]:
    """(longest task until the whole curve stands, points on it)."""
    page.goto(f"{house.web.url}/machines/{house.machine_id}/")
    deadline_s = clock.monotonic() + 20
    points = 0
    while clock.monotonic() < deadline_s and points < 100:
        page.wait_for_timeout(250)
        points = int(page.locator("#curve").get_attribute("data-points") or 0)
    page.wait_for_timeout(1500)
    return _worst(page), int(page.locator("#curve").get_attribute("data-points") or 0)


def _worst(page: Page) -> float:
    """The longest task since the last look, ms; 50 where the browser saw none."""
    tasks = page.evaluate("() => { var seen = window.longTasks; window.longTasks = []; return seen; }")
    return max([50.0, *(float(task) for task in tasks)])
