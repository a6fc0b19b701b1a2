"""Every page of the console, full of everything, read in German: no English word of ours is left on one."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import pytest
from django.test import Client
from django.utils import translation

from commands.commissioning import steps
from commands.console import code_words, reason_words, sentence_words
from commands.console.pages import PANELS
from commands.loop import interlocks
from commands.models import Proposal
from commands.reasons import Code
from commands.rules import policy
from commands.rules.significance import DEFAULT_TABLE
from commands.tests import console_scene, german_scene
from commands.tests.german_reader import english_in, no_english_left
from kernel import clock, preferences, principals
from roasts.formats import reading
from roasts.formats.imported import FormatError
from roasts.models import Roast
from roasts.recording import services_planned
from roasts.tests.stored_roasts import store_roast

pytestmark = pytest.mark.django_db

def test_the_reader_hears_english_and_lets_german_pass() -> None:
    assert english_in('<p aria-label="Look at it">Röstet</p><p>Nothing<br>waits</p>') == ["Look at it", "Nothing"]
    assert english_in("<p>Heizung aus heißt nicht kalt. <code>not known</code></p><script>var the = 1;</script>") == []


@pytest.fixture
def full(scene: console_scene.Scene, now: dt.datetime) -> console_scene.Scene:
    german_scene.fill(scene, now)
    return scene


def german(user: Any) -> Client:
    values = {"temperature_unit": "C", "mass_unit": "g", "time_zone": "", "language": "de"}
    preferences.save_preferences(user, **values)
    client = Client()
    client.force_login(user)
    return client


def paths_of(scene: console_scene.Scene) -> list[str]:
    machine = f"/machines/{scene.machine.pk}/"
    closed = store_roast(scene.machine, title="Jigesa", bean="Jigesa", status="finished")
    other = store_roast(scene.machine, title="Sidamo", bean="Sidamo", days=1, status="finished")
    german_scene.taste(scene, closed, clock.now())
    orders = Proposal.objects.values_list("pk", flat=True)
    return [
        "/", "/cards/", "/queue/", machine, *(f"{machine}panels/{panel}/" for panel in PANELS),
        f"{machine}commissioning/", f"{machine}drill/", f"{machine}envelope/", "/alarms/", "/analytics/",
        "/analytics/?alerts=resolved", "/governor/", "/governor/?edit=1", "/grants/?show=all", "/orders/",
        "/orders/?status=open", *(f"/orders/{pk}/" for pk in orders), "/me/", "/switch/", "/roasts/", "/roasts/?q=xyz",
        f"/roasts/{closed.pk}/", f"/roasts/compare/?ids={closed.pk},{other.pk}", "/profiles/", "/roasts/import/",
        f"/reports/{other.pk}/", f"/reports/{closed.pk}/", "/nowhere/",
    ]  # fmt: skip


def test_no_page_has_an_english_word_left(full: console_scene.Scene) -> None:
    client = german(full.lead)
    paths = paths_of(full)
    assert client.post(paths[-2]).status_code == 302  # its report is written
    no_english_left(client, paths)


def test_the_next_batch_has_no_english_word_either_planned_or_passed_over(full: console_scene.Scene) -> None:
    client, panel = german(full.lead), f"/machines/{full.machine.pk}/panels/next/"
    planned = services_planned.plan_batch(
        principals.for_user(full.lead), full.machine, said={"bean": "Sidamo", "lot": "7"}, version=None, now=clock.now()
    )
    no_english_left(client, [panel])
    Roast.objects.open().update(started_at=planned.started_at + dt.timedelta(seconds=1))
    no_english_left(client, [panel])


def test_every_reason_code_has_a_sentence_and_a_word() -> None:
    told = {code.value for code in Code}
    with translation.override("de"):
        assert {code for code in told if code_words.spoken(code) == code.replace("_", " ")} <= {"veto"}
        for code, said in reason_words.SENTENCES.items():
            for text in (said.message, said.how_to_fix):
                assert not text or translation.gettext(text) != text, code


def test_a_reasons_figures_are_those_of_the_record(scene: console_scene.Scene, now: dt.datetime) -> None:
    order = console_scene.hold_order(scene, now)
    stale = {"code": "stale_reading", "message": "The newest reading is 4.2 s old.", "value": 4.213, "bound": 3.0}
    with translation.override("de"):
        said = reason_words.reason_words(stale, order)
        assert said.message == "Der neueste Messwert ist 4.2 s alt; dafür darf er höchstens 3.0 s alt sein."
        unknown = reason_words.reason_words({"code": "of_tomorrow", "message": "Tomorrow's.", "how_to_fix": "x"}, order)
        assert (unknown.message, unknown.how_to_fix) == ("Tomorrow's.", "x")
    assert reason_words.reason_words(stale, order).message == "The newest reading is 4.2 s old."


def test_no_reason_breaks_a_page_whatever_its_value_is(scene: console_scene.Scene, now: dt.datetime) -> None:
    order = console_scene.hold_order(scene, now)
    with translation.override("de"):
        for code in Code:
            for value in (None, 0, 1.5, True, "x", [], ["a", 1], {}):
                for bound in (None, 3, "y", ["roasting"]):
                    reason = {"code": code.value, "message": "M", "value": value, "bound": bound}
                    assert reason_words.reason_words(reason, order).message


def test_what_the_machine_and_the_house_say_is_german_with_the_same_figures() -> None:
    limits, state = interlocks.Limits(), interlocks.InterlockState()
    seen = interlocks.Observation(monotonic_s=1.0, is_keeper_up=True, is_link_up=False)
    alarms = [interlocks._alarm(rule, seen, state, limits) for rule in interlocks.RULES]
    sentences = [text for alarm in alarms for text in (alarm.cause, alarm.consequence, alarm.action)]
    sentences += [row.reason for row in DEFAULT_TABLE] + [what for *_bounds, what in policy.NUMBERS.values()]
    sentences += [text for step in steps.STEPS for text in (step.title, step.instruction, step.asks_for) if text]
    sentences += [*german_scene.AGENTS_WORDS, *german_scene.ALERTS]
    with translation.override("de"):
        for sentence in sentences:
            said = sentence_words.worded(sentence)
            assert said != sentence, sentence
            assert sorted(re.findall(r"\d+(?:\.\d+)?", said)) == sorted(re.findall(r"\d+(?:\.\d+)?", sentence)), said
    assert sentence_words.worded(sentences[0]) == sentences[0]


@pytest.mark.parametrize("data", [b"nonsense", b"", b"{}", b"{'mode': 'C', ", b'{"format": "roastops-roast/1"}'])
def test_what_is_wrong_with_a_file_is_told_in_german(data: bytes) -> None:
    with pytest.raises(FormatError) as refused:
        reading.read_roast(data)
    with translation.override("de"):
        for said in (refused.value.message, refused.value.how_to_fix):
            assert sentence_words.worded(said) != said


def test_the_agents_own_word_for_what_it_saw_is_german_too() -> None:
    with translation.override("de"):
        for tag, said in (("hot", "zu heiß"), ("scorch_risk", "Gefahr von Brandstellen"), ("stall", "Stocken")):
            assert sentence_words.worded(f"[{tag}] Von Hand.") == f"[{said}] Von Hand."
        assert sentence_words.worded("[of_tomorrow] Of tomorrow.") == "[of_tomorrow] Of tomorrow."


@pytest.mark.parametrize(
    "text",
    ["", " ", "·", " · ", "{a} and {b}", "a and b and c and d and e and f", "x" * 5000, "\0", "%(x)s %s %", "; ; ;"],
)
def test_no_text_breaks_the_wording(text: str) -> None:
    with translation.override("de"):
        assert isinstance(sentence_words.worded(text), str)


def test_a_script_is_told_a_refusal_in_german(scene: console_scene.Scene, now: dt.datetime) -> None:
    client = german(scene.lead)
    said = client.get("/words/", {"t": ["Nobody approves their own order.", "Of tomorrow."]}).json()["texts"]
    assert said == ["Niemand gibt seinen eigenen Befehl frei.", "Of tomorrow."]
    refused = console_scene.advise(scene, now)
    told = client.get("/words/", {"order": refused.pk}).json()["texts"]
    assert told == [
        "roastrunner hat dafür (Lüfter) an Bench Bullet keine Vollmacht: Er darf nur empfehlen. Ein Mensch darf diesen"
        " Rat übernehmen; eine Leitung darf eine Vollmacht unterzeichnen."
    ]
    assert client.get("/words/", {"order": "prp_of_somebody_else"}).json() == {"texts": []}
    assert Client().get("/words/", headers={"X-Console-Fetch": "1"}).status_code == 401
