"""Pages in the language of who looks; the API, the record and everybody else's pages stay as they were."""

from __future__ import annotations

import html
import json
import re
from typing import Any

import polib
import pytest
from django.test import Client
from django.utils import translation

from commands.records import halts
from commands.tests import console_scene
from kernel import preferences
from kernel.models import Membership, Preferences

pytestmark = pytest.mark.django_db


def looking(user: Any, language: str = "", **more: str) -> Client:
    """A signed-in browser of this person, who chose ``language``."""
    if language:
        values = {"temperature_unit": "C", "mass_unit": "g", "time_zone": "", "language": language, **more}
        preferences.save_preferences(user, **values)
    client = Client(headers={"Accept-Language": "fr"})
    client.force_login(user)
    return client


def seen(client: Client, path: str) -> str:
    """The page as text: entities as characters."""
    answer = client.get(path)
    assert answer.status_code == 200, path
    return html.unescape(answer.content.decode())


def machine_page(scene: console_scene.Scene) -> str:
    return f"/machines/{scene.machine.pk}/"


def test_who_chose_german_reads_german_and_nobody_else_does(scene, now):
    console_scene.hold_order(scene, now)
    german, english = looking(scene.operator, "de"), looking(scene.viewer)
    body = seen(german, machine_page(scene))
    assert '<html lang="de">' in body
    for words in ("Wartet auf Sie", "Freigeben", "Heizung 7\u00a0→\u00a06", "Röstet", "Feuer in der Trommel"):
        assert words in body
    other = seen(english, machine_page(scene))
    assert '<html lang="en">' in other and "data-words" not in other
    for words in ("Waiting for an operator", "Heater 7\u00a0→\u00a06", "Roasting", "Fire in the drum"):
        assert words in other
    assert "Heizung" not in other and translation.get_language() == "en"


def test_the_first_page_and_its_fragments_are_german_too(scene, now):
    console_scene.hold_order(scene, now)
    client = looking(scene.operator, "de")
    assert "1 Befehl wartet auf Sie" in seen(client, "/")
    assert "1 Befehl wartet auf Sie" in seen(client, "/cards/")
    console_scene.hold_order(scene, now, control="fan")
    assert "2 Befehle warten auf Sie" in seen(client, "/cards/")
    for panel, words in {
        "queue": "Warum er zurückgehalten wird", "orders": "Urteil des Governors:", "hands": "Ihre Hände",
        "roast": "Trocknung", "grants": "Verantwortlich",
    }.items():  # fmt: skip
        assert words in seen(client, f"{machine_page(scene)}panels/{panel}/"), panel
    for path, words in {"/alarms/": "Jeder bestehende Alarm", "/me/": "Wie Sie es sehen"}.items():
        assert words in seen(client, path)


def test_an_unproved_stop_says_so_in_german(scene, now):
    console_scene.stop_machine(scene, now, result="unproved")
    body = seen(looking(scene.operator, "de"), machine_page(scene))
    assert (
        "<strong>NICHT NACHGEWIESEN: Die Heizung kann noch an sein. Jetzt am Bedienfeld abschalten oder vom Netz"
        " trennen.</strong>" in body
    )
    assert "Heizung aus heißt nicht kalt. Die Bohnen sind noch heiß: von Hand auswerfen." in body


def test_no_sentence_that_has_a_german_one_is_left_in_english(scene, now, settings):
    console_scene.hold_order(scene, now)
    console_scene.stop_machine(scene, now, result="unproved")
    catalog = polib.pofile(str(settings.LOCALE_PATHS[0] / "de" / "LC_MESSAGES" / "django.po"))
    client = looking(scene.lead, "de")
    for path in ("/", machine_page(scene), "/alarms/", "/me/", "/switch/"):
        raw = client.get(path).content.decode()
        body = html.unescape(re.sub(r' (data-words|value)="[^"]*"', "", raw))
        left = [e.msgid for e in catalog if len(e.msgid) > 20 and e.msgid != e.msgstr and e.msgid in body]
        assert left == [], path


def test_a_proved_stop_says_heat_off_and_not_cold(scene, now):
    console_scene.stop_machine(scene, now, result="heat_off")
    body = seen(looking(scene.operator, "de"), machine_page(scene))
    assert "<strong>Heizung aus</strong>" in body
    assert "Heizung aus heißt nicht kalt." in body


def test_the_fire_steps_stand_whole_and_in_order(scene):
    body = seen(looking(scene.operator, "de"), machine_page(scene))
    fire = body[body.index('id="fire-title"') :]
    steps = re.findall(r"<li>(.*?)</li>", fire[: fire.index("</section>")], re.S)
    assert steps == [
        "<strong>Menschen zuerst.</strong> Alle aus dem Gefahrenbereich; beim geringsten Zweifel die Feuerwehr rufen.",
        "Heizung aus: STOP und das Bedienfeld der Maschine. <strong>Den Lüfter lassen, wie er ist.</strong>",
        "<strong>Klappe geschlossen halten</strong>: Bohnen nicht auswerfen, keine Luft zuführen.",
        "<strong>Netzstrom abschalten</strong>, an der Wand.",
    ]


def test_the_scripts_get_their_words_as_data_and_nothing_runs_inline(scene):
    answer = looking(scene.operator, "de").get(machine_page(scene))
    body = answer.content.decode()
    table = json.loads(html.unescape(re.search(r'<body[^>]* data-words="([^"]*)"', body)[1]))
    assert table["NOT PROVED"] == "NICHT NACHGEWIESEN"
    assert table["Beans still hot: drop them by hand."] == "Die Bohnen sind noch heiß: von Hand auswerfen."
    assert not re.search(r"<script(?![^>]*\bsrc=)[^>]*>", body)


def test_what_a_stored_sentence_says_is_shown_in_german_and_escaped(scene, now):
    halts.raise_alarm(
        scene.machine, code="over_temperature", cause="<b>Hot</b>: 240 °C.", consequence="<i>x</i>",
        action="Drop the beans by hand. Watch for smoke.", now=now,
    )  # fmt: skip
    client = looking(scene.operator, "de", temperature_unit="F")
    body = client.get("/alarms/").content.decode()
    assert "Bohnen von Hand auswerfen. Auf Rauch achten." in body
    assert "&lt;b&gt;Hot&lt;/b&gt;: 240 °C (464 °F)." in body and "&lt;i&gt;x&lt;/i&gt;" in body


def test_figures_keep_their_point_so_that_scripts_can_read_them(scene, now):
    console_scene.set_latest(scene.machine, now, bean_temp_c=1178.4)
    body = seen(looking(scene.operator, "de"), machine_page(scene))
    assert ">1178.4<" in body and "1.178" not in body and "178,4" not in body


def test_the_api_and_the_record_stay_english(scene, now):
    client = looking(scene.operator, "de")
    order = client.post(
        "/v1/proposals",
        json.dumps({"machine_id": scene.machine.pk, "order_type": "SET_POWER", "target_value": 99,
                    "target_unit": "step", "reasoning": "x"}),
        content_type="application/json",
        headers={"Idempotency-Key": "german", "Accept-Language": "de"},
    )  # fmt: skip
    assert order.status_code in (201, 422)
    assert "Verweigert" not in order.content.decode() and "Heizung" not in order.content.decode()
    assert client.get("/v1/nothing", headers={"Accept-Language": "de"}).json()["message"].isascii()


@pytest.mark.parametrize(
    ("asked", "language", "words"),
    [
        ("de", "de", "Anmelden"), ("de-AT,de;q=0.9,en;q=0.5", "de", "Anmelden"), ("fr,de;q=0.5", "de", "Anmelden"),
        ("en-GB,de;q=0.5", "en", "Sign in"), ("fr", "en", "Sign in"), ("", "en", "Sign in"),
        ("*;q=x,\x7f", "en", "Sign in"),
    ],
)  # fmt: skip
def test_the_sign_in_page_speaks_the_browsers_language(asked, language, words):
    answer = Client().get("/sign-in/", headers={"Accept-Language": asked})
    body = answer.content.decode()
    assert f'<html lang="{language}">' in body
    assert f"<h1>{words}</h1>" in body
    assert "Accept-Language" in answer["Vary"]
    assert translation.get_language() == "en"


def test_a_wrong_password_is_refused_in_german(scene):
    answer = Client(headers={"Accept-Language": "de"}).post("/sign-in/", {"username": "operator", "password": "wrong"})
    assert "Name und Passwort passen nicht zusammen." in answer.content.decode()


def test_choosing_german_on_ones_page_shows_it_at_once(scene):
    client = looking(scene.operator, "en")
    answer = client.post("/me/", {"temperature_unit": "C", "mass_unit": "g", "time_zone": "", "language": "de"})
    assert answer.status_code == 302
    body = seen(client, answer["Location"])
    assert "Gespeichert. Die Seiten zeigen es ab jetzt so." in body
    assert '<option value="de" selected>Deutsch</option>' in body
    assert Preferences.objects.get(user=scene.operator).language == "de"


def test_no_page_calls_itself_english_any_more(scene):
    for path in ("/roasts/", "/orders/", "/analytics/", "/governor/", "/grants/"):
        assert '<html lang="de">' in (body := seen(looking(scene.lead, "de"), path))
        assert ' lang="en"' not in body, path


def test_somebody_without_organisation_is_told_in_their_language(scene):
    Membership.objects.filter(user=scene.viewer).delete()
    answer = looking(scene.viewer, "de").get("/")
    assert answer.status_code == 403
    assert "gehören aber zu keiner Organisation" in answer.content.decode()
