"""The admin in the reader's language: every page of it, full of everything; what is recorded stays English."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.test import Client
from django.utils import translation

from commands.models import Execution, Grant, Proposal, Suspension
from commands.reasons import RejectCode
from commands.tests import console_scene, german_scene
from commands.tests.german_reader import Reader, english_in, no_english_left
from kernel import keys, preferences, principals
from kernel.models import AuditEntry, Organization, Preferences, Site
from roasts.models import DeviceKey, Machine, TelemetryBatch
from roasts.telemetry import device_keys

pytestmark = pytest.mark.django_db
ORDERS = "/admin/commands/proposal/"
#: What is shown as the record has it: identifiers, a payload, a proof.
RECORD = re.compile(r'<div class="readonly">(?:\{|\[).*?</div>|<pre>.*?</pre>', re.S)
#: Names of permissions: Django writes them into the database in English.
PERMISSIONS = re.compile(r'<select name="user_permissions".*?</select>', re.S)


def at_desk(user: Any, *, language: str = "de", **flags: bool) -> Client:
    """A browser that wants English, of a person who chose a language."""
    for name, value in {"is_staff": True, **flags}.items():
        setattr(user, name, value)
    user.save()
    Preferences.objects.update_or_create(user=user, defaults={"language": language})
    client = Client(headers={"Accept-Language": "en"})
    client.force_login(user, backend="kernel.sign_in.ThrottledBackend")
    return client


@pytest.fixture
def full(scene: console_scene.Scene, now: dt.datetime) -> console_scene.Scene:
    """A scene with at least one row of all that the admin shows."""
    german_scene.fill(scene, now)
    lead = principals.for_user(scene.lead)
    remote = Machine.objects.create(
        organization=scene.organization, site=scene.machine.site, name="Ferner", driver_kind="bullet-r1",
        is_remote=True, created_at=now,
    )  # fmt: skip
    device_keys.add_key(lead, remote, public_key="ab" * 32, note="Waage", valid_from=now, valid_until=None, now=now)
    for n, verdict in enumerate(TelemetryBatch.Verdict.values):
        TelemetryBatch.objects.create(
            machine=remote, sequence=n + 1, at=now, received_at=now, digest="0" * 64, verdict=verdict
        )
    Suspension.objects.create(
        organization=scene.organization, machine=scene.machine, taken_by=scene.operator, taken_at=now
    )
    keys.create_key(scene.organization, agent=scene.agent, scopes=["read"], now=now)
    return scene


def pages_of(model: type, client: Client) -> list[str]:
    path = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
    found = [path]
    rows = admin.site._registry[model].get_queryset(client.get(path).wsgi_request)[: 9 if model is Proposal else 3]
    found += [f"{path}{quote(row.pk)}/change/" for row in rows]
    return found + [each.replace("/change/", "/history/") for each in found[1:2]]


def test_no_page_of_the_admin_has_an_english_word_left(full: console_scene.Scene) -> None:
    client = at_desk(full.lead, is_superuser=True)
    paths = ["/admin/", "/admin/commands/", "/admin/kernel/", "/admin/roasts/", f"{ORDERS}?status=all"]
    paths += ["/admin/roasts/machine/add/", "/admin/roasts/devicekey/add/", "/admin/password_change/"]
    for model in admin.site._registry:
        found = pages_of(model, client)
        assert len(found) > 1, f"no row of {model.__name__} to look at"
        paths += found
    no_english_left(client, paths, of=lambda body: PERMISSIONS.sub("", RECORD.sub("", body)))


def test_every_field_of_a_form_and_every_column_is_named_in_german(full: console_scene.Scene) -> None:
    client = at_desk(full.lead)
    page = client.get("/admin/roasts/machine/add/").content.decode()
    for words in ("Höchste Bohnentemperatur (°C)", "Art des Treibers", "die Heizung ausschalten", "Maschine"):
        assert words in page, words
    columns = client.get(f"{ORDERS}?status=all").content.decode()
    for words in ("Befehl", "Entscheidung", "Läuft ab am", "Alle", "Ausgeführt", "Freigegeben"):
        assert words in columns, words


def test_its_sign_in_page_follows_the_browser(scene: console_scene.Scene) -> None:
    german = Client(headers={"Accept-Language": "de-AT,de;q=0.9"}).get("/admin/login/")
    assert "Passwort" in german.content.decode()
    assert "Accept-Language" in german["Vary"]
    assert "Password" in Client().get("/admin/login/").content.decode()


def test_a_person_who_chose_english_gets_it_whatever_the_browser_asks(scene: console_scene.Scene) -> None:
    client = at_desk(scene.lead, language="en")
    page = client.get("/admin/", headers={"Accept-Language": "de"}).content.decode()
    assert "Befehle" not in page
    assert "Orders" in page


def test_times_are_those_of_the_persons_zone(scene: console_scene.Scene, now: dt.datetime) -> None:
    order = console_scene.hold_order(scene, now)
    client = at_desk(scene.lead)
    preferences.save_preferences(scene.lead, temperature_unit="C", mass_unit="g", time_zone="Asia/Tokyo", language="de")
    page = client.get(f"{ORDERS}{order.pk}/change/").content.decode()
    assert (order.expires_at + dt.timedelta(hours=9)).strftime("%H:%M") in page


# --- acting ------------------------------------------------------------------------------------------


def act(client: Client, action: str, *orders: Proposal) -> str:
    chosen = {"action": action, "_selected_action": [row.pk for row in orders]}
    return client.post(f"{ORDERS}?status=all", chosen, follow=True).content.decode()


def test_what_came_of_an_action_is_told_in_german(held: Proposal, people: Any) -> None:
    operator = at_desk(people.operator)
    assert f"Befehl {held.pk}: abgelehnt (Falscher Zeitpunkt)." in act(operator, "reject_wrong_timing", held)
    again = act(operator, "approve", held)
    assert re.search(f'class="error">Befehl {held.pk}: [A-ZÄÖÜ]', again)
    assert english_in(again) == [held.reasoning]


def test_an_owner_is_refused_in_german(held: Proposal, people: Any) -> None:
    page = act(at_desk(people.lead), "approve", held)
    assert re.search(f'class="error">Befehl {held.pk}: [A-ZÄÖÜ]', page)
    assert english_in(page) == [held.reasoning]


def test_every_reason_to_reject_is_offered_in_german(held: Proposal, people: Any) -> None:
    page = at_desk(people.operator).get(ORDERS).content.decode()
    offered = re.findall(r'<option value="(\w+)"[^>]*>([^<]+)</option>', page)
    said = {name: words for name, words in offered if name.startswith("reject_")}
    assert len(said) == len(RejectCode) - 1  # `other` needs a text
    assert all(words.startswith("Ablehnen: ") for words in said.values()), said
    assert dict(offered)["approve"] == "Die gezeigten Prüfsummen freigeben"


@pytest.mark.parametrize("action", ["approve", "veto", "reject_wrong_timing"])
def test_the_record_is_english_whatever_language_it_was_made_in(action: str, held: Proposal, people: Any) -> None:
    act(at_desk(people.operator), action, held)
    held.refresh_from_db()
    entries = AuditEntry.objects.filter(subject_id=held.pk)
    written = " ".join(entry.payload for entry in entries) + held.rejection_text + held.outcome_message
    assert not re.search("[äöüßÄÖÜ]|frei|abgelehnt", written)
    assert held.status == {"approve": "APPROVED", "veto": "PENDING_APPROVAL"}.get(action, "REJECTED")


def test_the_language_ends_with_the_page(scene: console_scene.Scene) -> None:
    at_desk(scene.lead).get("/admin/")
    assert translation.get_language() == "en"


# --- what a filter may name --------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["proposal", "execution", "halt", "grant", "alarm"])
def test_a_filter_by_machine_names_those_of_the_readers_organisation_alone(
    model: str, scene: console_scene.Scene, now: dt.datetime
) -> None:
    other = console_scene.build(now, slug="other", machine_name="Secret Bullet")
    for own in (scene, other):
        Machine.objects.create(
            organization=own.organization, site=own.machine.site, name=f"{own.machine.name} two",
            driver_kind="bullet-r1", created_at=now,
        )  # fmt: skip
    page = at_desk(scene.lead, language="en").get(f"/admin/commands/{model}/").content.decode()
    assert "Secret Bullet" not in page
    assert "Bench Bullet two" in page


# --- wrong input: said at its field, nothing lost -----------------------------------------------------


FORM = {
    "name": "Bullet two", "driver_kind": "bullet-r1", "driver_options": "{}", "host": "werkbank",
    "silence_policy": "heat_off", "max_bean_temp_c": "225", "max_infrared_temp_c": "235",
    "max_rate_of_rise_c_per_min": "45", "max_heat_time_s": "1500",
}  # fmt: skip


def test_a_machines_name_twice_is_said_at_the_field(scene: console_scene.Scene) -> None:
    client, site = at_desk(scene.lead), Site.objects.get(organization=scene.organization)
    answer = client.post("/admin/roasts/machine/add/", {**FORM, "site": site.pk, "name": scene.machine.name})
    assert answer.status_code == 200
    page = answer.content.decode()
    assert "Eine andere Maschine heißt schon so" in page
    assert 'value="werkbank"' in page
    assert Machine.objects.filter(name=scene.machine.name).count() == 1


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("bullet-r1", {"sensor_mop": 1}, "Bullet R1 hat keine Option 'sensor_mop'; meinten Sie 'sensor_map'? Bekannt"),
        ("bullet-r1", {"read_timeout_ms": True}, "read_timeout_ms muss eine ganze Zahl von 10 bis 5000 sein, nicht T"),
        ("tcp-line", {}, "tcp-line braucht die Option port."),
        ("tc4-tcp", {"port": 1, "controls": {"heater": {"output": "OT9"}}}, "controls.heater.output kann nicht 'OT9'"),
        ("tc4-tcp", {"port": 1, "offsets": {"{bean}": 1}}, "Eine Temperatur '{bean}' gibt es nicht; meinten Sie"),
    ],
)
def test_an_option_that_its_driver_does_not_take_is_said_in_german(
    scene: console_scene.Scene, kind: str, options: dict[str, Any], words: str
) -> None:
    site = Site.objects.get(organization=scene.organization)
    form = {**FORM, "site": site.pk, "driver_kind": kind, "driver_options": json.dumps(options)}
    answer = at_desk(scene.lead).post("/admin/roasts/machine/add/", form)
    assert answer.status_code == 200
    said = [str(each) for each in answer.context["adminform"].form.errors["driver_options"]]
    assert len(said) == 1 and said[0].startswith(words), said


def test_the_same_name_in_another_organisation_is_free(scene: console_scene.Scene, now: dt.datetime) -> None:
    console_scene.build(now, slug="other", machine_name="Bullet two")
    site = Site.objects.get(organization=scene.organization)
    answer = at_desk(scene.lead).post("/admin/roasts/machine/add/", {**FORM, "site": site.pk})
    assert answer.status_code == 302, english_in(answer.content.decode())


@pytest.fixture
def key_form(scene: console_scene.Scene, now: dt.datetime) -> Callable[..., Any]:
    remote = Machine.objects.create(
        organization=scene.organization, site=scene.machine.site, name="Ferner", driver_kind="bullet-r1",
        is_remote=True, created_at=now,
    )  # fmt: skip

    def send(**changes: str) -> Any:
        form = {
            "machine": remote.pk, "public_key": "ab" * 32, "note": "Waage",
            "valid_from_0": "2026-11-21", "valid_from_1": "08:00:00",
        }  # fmt: skip
        return at_desk(scene.lead).post("/admin/roasts/devicekey/add/", {**form, **changes})

    return send


def test_a_device_key_twice_is_said_at_the_field(key_form: Callable[..., Any]) -> None:
    assert key_form().status_code == 302
    again = key_form(note="Noch einmal")
    assert again.status_code == 200
    assert "Diese Maschine hat diesen Schlüssel schon." in again.content.decode()
    assert 'value="Noch einmal"' in again.content.decode()
    assert DeviceKey.objects.count() == 1


def test_a_device_key_valid_at_no_time_is_said_at_the_field(key_form: Callable[..., Any]) -> None:
    answer = key_form(valid_until_0="2026-11-21", valid_until_1="08:00:00")
    assert answer.status_code == 200
    assert "zu keiner Zeit gültig" in answer.content.decode()
    assert key_form(valid_until_0="2026-11-21", valid_until_1="08:00:01").status_code == 302


def test_rows_are_called_by_their_own_names(full: console_scene.Scene) -> None:
    for model in (Proposal, Execution, Grant, DeviceKey):
        row = model.objects.first()
        assert str(row) == row.pk
    assert str(AuditEntry.objects.first()).startswith("aud_")
    assert Organization.objects.exists()


def test_a_reader_hears_what_the_admin_says() -> None:
    """The walk would find an English word where there is one."""
    reader = Reader()
    reader.feed('<label for="x">The machine:</label><input title="Look at it">')
    assert reader.said == ["The machine:", "Look at it"]
