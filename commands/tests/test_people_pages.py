"""One's own units and PIN, and changing hands at a shared tablet."""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.db import IntegrityError, transaction
from django.test import Client

from commands import services
from commands.tests import console_scene
from kernel import clock, operator_pins, preferences, principals
from kernel.models import AuditEntry, Membership, OperatorPin, PinAttempt, Preferences

pytestmark = pytest.mark.django_db
PIN, OTHER_PIN = "420917", "731504"


@pytest.fixture(autouse=True)
def nobodys_digest() -> None:
    """Made anew, of this test's hasher."""
    operator_pins._digest_of_nobody.cache_clear()


@pytest.fixture
def second(scene: console_scene.Scene) -> Any:
    """Another operator of the same roastery, who has a PIN."""
    user = get_user_model().objects.create_user("second", password=console_scene.PASSWORD)
    Membership.objects.create(organization=scene.organization, user=user, role="operator")
    give_pin(user)
    return user


def give_pin(user: Any, pin: str = PIN) -> None:
    operator_pins.set_pin(principals.for_user(user), pin, now=clock.now())


def with_password(user: Any) -> Client:
    """A browser in which this person has signed in with their password."""
    client = Client()
    answer = client.post("/sign-in/", {"username": user.username, "password": console_scene.PASSWORD})
    assert answer.status_code == 302
    return client


def who_is(client: Client) -> str:
    return str(client.get("/v1/me").json()["name"])


def switch(client: Client, user: Any, pin: str = PIN, **more: str) -> Any:
    return client.post("/switch/", {"person": str(user.pk), "pin": pin, **more})


def text_of(answer: Any) -> str:
    return str(answer.content.decode())


def prefer(user: Any, **changes: str) -> Preferences:
    values = {"temperature_unit": "C", "mass_unit": "g", "time_zone": "", "language": "en", **changes}
    return preferences.save_preferences(user, **values)


# --- units and time zone -------------------------------------------------------------------------


def test_the_page_keeps_what_was_chosen(scene: Any) -> None:
    client = with_password(scene.operator)
    assert 'value="C" checked' in text_of(client.get("/me/"))
    answer = client.post(
        "/me/", {"temperature_unit": "F", "mass_unit": "lb", "time_zone": "Europe/Vienna", "language": "en"}
    )
    assert answer["Location"] == "/me/?saved=units"
    body = text_of(client.get(answer["Location"]))
    assert 'value="F" checked' in body and 'value="lb" checked' in body
    assert "<option selected>Europe/Vienna</option>" in body
    assert "Saved." in body
    row = Preferences.objects.get(user=scene.operator)
    assert (row.temperature_unit, row.mass_unit, row.time_zone, row.language) == ("F", "lb", "Europe/Vienna", "en")
    assert not Preferences.objects.exclude(user=scene.operator).exists()


@pytest.mark.parametrize(
    "wrong",
    [{"time_zone": "Mars/Olympus"}, {"time_zone": "../etc/passwd"}, {"temperature_unit": "K"}, {"mass_unit": "oz"},
     {"language": "fr"}, {"time_zone": "x" * 65}],
)  # fmt: skip
def test_a_choice_that_does_not_exist_is_refused_and_nothing_saved(scene: Any, wrong: dict[str, str]) -> None:
    good = {"temperature_unit": "F", "mass_unit": "g", "time_zone": "UTC", "language": "en"}
    answer = with_password(scene.operator).post("/me/", {**good, **wrong})
    assert answer.status_code == 400
    assert "Nothing was saved." in text_of(answer)
    assert not Preferences.objects.exists()


def test_the_service_and_the_database_refuse_them_too(scene: Any) -> None:
    with pytest.raises(preferences.UnknownTimeZone):
        prefer(scene.operator, time_zone="Mars/Olympus")
    for wrong in ({"temperature_unit": "K"}, {"mass_unit": "oz"}, {"language": "fr"}):
        with pytest.raises(IntegrityError), transaction.atomic():
            prefer(scene.operator, **wrong)


def test_fahrenheit_is_shown_in_every_fragment_and_a_rate_has_no_offset(scene: Any, now: dt.datetime) -> None:
    prefer(scene.operator, temperature_unit="F")
    client = with_password(scene.operator)
    for path in ("/", f"/machines/{scene.machine.pk}/"):
        body = text_of(client.get(path))
        assert 'data-temperature-unit="F"' in body
        for figure in ("353.1", "20.3", "°F", "°F/min"):  # 178.4 °C, 11.3 °C/min
            assert figure in body, (path, figure)
        assert "178.4" not in body and "11.3" not in body
        assert "°C" not in body, path
    machine = text_of(client.get(f"/machines/{scene.machine.pk}/"))
    assert "394.2" in machine  # infrared, 201.2 °C
    assert '<th scope="col">RoR °F/min</th>' in machine


def test_celsius_is_shown_to_everybody_else(scene: Any) -> None:
    prefer(scene.lead, temperature_unit="F")
    body = text_of(with_password(scene.operator).get(f"/machines/{scene.machine.pk}/"))
    assert "178.4" in body and "11.3" in body and "°F" not in body


def test_what_somebody_wrote_keeps_its_words_and_gets_fahrenheit_beside_them(scene: Any, now: dt.datetime) -> None:
    console_scene.hold_order(scene, now)
    console_scene.raise_alarm(scene, now)
    prefer(scene.operator, temperature_unit="F")
    body = text_of(with_password(scene.operator).get(f"/machines/{scene.machine.pk}/"))
    assert "Rate of rise 16.8 °C/min (30.2 °F/min) is above" in body
    assert "at 178 °C (352 °F);" in body
    assert "Bean temperature 226 °C (439 °F) is above its limit of 225 °C (437 °F)" in body


def test_the_api_stays_in_celsius_and_utc(scene: Any) -> None:
    prefer(scene.operator, temperature_unit="F", time_zone="Asia/Tokyo")
    reading = with_password(scene.operator).get(f"/v1/machines/{scene.machine.pk}").json()["reading"]
    assert reading["bean_temp_c"] == 178.4
    assert reading["at"].endswith("Z")


def test_times_are_written_in_the_persons_zone_and_only_for_them(scene: Any, now: dt.datetime) -> None:
    at = dt.datetime(2026, 11, 21, 8, 15, 30, tzinfo=dt.UTC)
    console_scene.stop_machine(scene, at)
    prefer(scene.operator, time_zone="Asia/Tokyo")
    path = f"/machines/{scene.machine.pk}/panels/halts/"
    assert "17:15:30 JST" in text_of(with_password(scene.operator).get(path))
    assert "08:15:30 UTC" in text_of(with_password(scene.lead).get(path))


def test_mass_is_shown_in_pounds(scene: Any) -> None:
    scene.roast.weight_in_g = 1000
    scene.roast.save()
    path = f"/machines/{scene.machine.pk}/panels/roast/"
    assert "1000 g" in text_of(with_password(scene.operator).get(path))
    prefer(scene.operator, mass_unit="lb")
    assert "2.20 lb" in text_of(with_password(scene.operator).get(path))


# --- setting a PIN -------------------------------------------------------------------------------


def test_a_pin_is_set_with_the_password_hashed_and_audited(scene: Any) -> None:
    client = with_password(scene.operator)
    form = {"act": "set", "pin": PIN, "pin_again": PIN, "password": console_scene.PASSWORD}
    assert client.post("/me/pin/", form)["Location"] == "/me/?saved=pin-set"
    row = OperatorPin.objects.get(user=scene.operator)
    assert row.digest.startswith("md5$") and PIN not in row.digest
    entry = AuditEntry.objects.get(verb="operator_pin_set")
    assert entry.actor_name == "operator" and PIN not in entry.payload
    assert "You have a PIN." in text_of(client.get("/me/"))
    form = {"act": "remove", "password": console_scene.PASSWORD}
    assert client.post("/me/pin/", form).status_code == 302
    assert not OperatorPin.objects.exists()
    assert AuditEntry.objects.filter(verb="operator_pin_removed").count() == 1


@pytest.mark.parametrize(
    "changes",
    [{"password": "not my password"}, {"password": ""}, {"pin_again": OTHER_PIN},
     *({"pin": pin, "pin_again": pin} for pin in ("12345", "٤٢٠٩١٧", "111111", "234567", "987654"))],
)  # fmt: skip
def test_a_pin_is_not_set(scene: Any, changes: dict[str, str]) -> None:
    form = {"act": "set", "pin": PIN, "pin_again": PIN, "password": console_scene.PASSWORD, **changes}
    answer = with_password(scene.operator).post("/me/pin/", form)
    assert answer.status_code == 400
    assert "Nothing has changed" in text_of(answer)
    assert not OperatorPin.objects.exists()


def test_the_password_on_that_page_is_asked_for_slowly_too(scene: Any) -> None:
    client = with_password(scene.operator)
    form = {"act": "set", "pin": PIN, "pin_again": PIN}
    for _ in range(10):
        client.post("/me/pin/", {**form, "password": "a guess"})
    assert client.post("/me/pin/", {**form, "password": console_scene.PASSWORD}).status_code == 400
    assert not OperatorPin.objects.exists()


# --- switching -----------------------------------------------------------------------------------


def test_a_right_pin_makes_the_session_theirs_on_the_same_page_with_a_new_key(scene: Any, second: Any) -> None:
    client = with_password(scene.operator)
    page = f"/machines/{scene.machine.pk}/"
    assert f'href="/switch/?next={page}"' in text_of(client.get(page))
    offered = text_of(client.get(f"/switch/?next={page}"))
    assert f'name="person" value="{second.pk}"' in offered
    assert f'name="next" value="{page}"' in offered
    before = client.cookies["sessionid"].value
    assert switch(client, second, next=page)["Location"] == page
    assert who_is(client) == "second"
    assert client.cookies["sessionid"].value != before
    assert not Session.objects.filter(session_key=before).exists()
    stolen = Client()
    stolen.cookies["sessionid"] = before
    assert stolen.get("/").status_code == 302


def test_it_is_audited_with_from_and_to(scene: Any, second: Any) -> None:
    switch(with_password(scene.operator), second)
    entry = AuditEntry.objects.get(verb="operator_switched")
    told = json.loads(entry.payload)
    assert told["from"] == {"id": f"usr_{scene.operator.pk}", "name": "operator"}
    assert told["to"] == {"id": f"usr_{second.pk}", "name": "second"}
    assert told["shift_began_by"] == f"usr_{scene.operator.pk}"
    assert entry.organization_id == scene.organization.pk
    assert (entry.actor_name, entry.subject_id) == ("operator", f"usr_{second.pk}")


def test_an_approval_is_then_theirs(scene: Any, second: Any, now: dt.datetime) -> None:
    """The lead owns the agent and may not approve; the operator who takes over may, and is named."""
    agent = principals.Principal(
        kind="agent", id=scene.agent.pk, name="roastrunner", organization=scene.organization, agent=scene.agent,
        scopes=frozenset({"propose"}), via="key",
    )  # fmt: skip
    console_scene.grant(scene, now)
    order = services.propose_order(
        agent, machine=scene.machine, order_type="SET_POWER", target_value=6, target_unit="step", reasoning="hot",
        now=now,
    )  # fmt: skip
    assert order.status == "PENDING_APPROVAL", order.reasons
    client = with_password(scene.lead)
    path = f"/v1/proposals/{order.pk}/approve"
    body = json.dumps({"digest": order.digest})
    assert client.post(path, body, content_type="application/json").status_code == 403
    switch(client, second)
    assert client.post(path, body, content_type="application/json").status_code == 200
    order.refresh_from_db()
    assert order.approver == second


@pytest.mark.parametrize("pin", ["000000", OTHER_PIN, "", "420917 ", "٤٢٠٩١٧", "4209170", PIN[:5], "\0", "x" * 5000])
def test_a_wrong_pin_changes_nothing_and_is_audited(scene: Any, second: Any, pin: str) -> None:
    client = with_password(scene.operator)
    before = client.cookies["sessionid"].value
    answer = switch(client, second, pin)
    assert answer.status_code == 403
    assert "does not open this" in text_of(answer)
    assert who_is(client) == "operator" and client.cookies["sessionid"].value == before
    entry = AuditEntry.objects.get(verb="operator_switch_refused")
    assert (entry.actor_name, entry.subject_id) == ("operator", f"usr_{second.pk}")
    assert not AuditEntry.objects.filter(verb="operator_switched").exists()


def test_another_organisations_member_is_neither_offered_nor_opened(scene: Any, second: Any, now: dt.datetime) -> None:
    other = console_scene.build(now, slug="other")
    give_pin(other.operator, OTHER_PIN)
    client = with_password(scene.operator)
    offered = text_of(client.get("/switch/"))
    assert "operator-other" not in offered and f'value="{other.operator.pk}"' not in offered
    answer = switch(client, other.operator, OTHER_PIN)
    assert answer.status_code == 403
    assert who_is(client) == "operator"
    assert not AuditEntry.objects.filter(organization=other.organization, verb__startswith="operator_switch").exists()
    assert not PinAttempt.objects.filter(target=other.operator).exists()  # nor can one lock them out at home


def test_nobody_a_person_without_a_pin_and_a_wrong_pin_are_told_alike(scene: Any, second: Any, now: Any) -> None:
    other = console_scene.build(now, slug="other")
    give_pin(other.operator, OTHER_PIN)
    client = with_password(scene.operator)
    answers = [
        client.post("/switch/", {"person": person, "pin": OTHER_PIN})
        for person in (str(second.pk), str(scene.viewer.pk), str(other.operator.pk), "999999999", "nonsense")
    ]
    said = {re.sub(r'csrf[^>]+>|content="[^"]+"|data-server-now="[^"]+"| checked', "", text_of(a)) for a in answers}
    assert {a.status_code for a in answers} == {403}
    assert len(said) == 1


def test_a_stranger_learns_nothing(scene: Any, second: Any) -> None:
    for answer in (Client().get("/switch/"), switch(Client(), second), Client().get("/me/"), Client().post("/me/pin/")):
        assert answer.status_code == 302 and answer["Location"].startswith("/sign-in/")
        assert "second" not in text_of(answer)
    assert not PinAttempt.objects.exists()


def test_a_key_opens_neither_page(scene: Any, second: Any, now: dt.datetime) -> None:
    from kernel.keys import create_key

    _, plain_key = create_key(scene.organization, user=scene.lead, scopes=["admin"], now=now)
    client = Client(headers={"Authorization": f"Bearer {plain_key}"})
    for answer in (client.get("/switch/"), switch(client, second), client.get("/me/"), client.post("/me/pin/", {})):
        assert answer.status_code == 302


def test_five_wrong_pins_for_a_person_close_that_door_for_every_session(scene: Any, second: Any, now: Any) -> None:
    third = get_user_model().objects.create_user("third", password=console_scene.PASSWORD)
    Membership.objects.create(organization=scene.organization, user=third, role="operator")
    give_pin(third, OTHER_PIN)
    for starter in (scene.operator, scene.lead):  # 2 + 3 tries, from two sessions
        client = with_password(starter)
        for _ in range(2 if starter == scene.operator else 3):
            assert switch(client, second, "000000").status_code == 403
    fresh = with_password(scene.viewer)
    answer = switch(fresh, second)
    assert answer.status_code == 429
    assert "only a password" in text_of(answer)
    assert who_is(fresh) == "viewer"
    assert with_password(second).get("/").status_code == 200  # the password still opens
    assert switch(fresh, third, OTHER_PIN).status_code == 302  # and nobody else's door is shut
    later = now + dt.timedelta(seconds=operator_pins.WINDOW_S + 60)
    assert PinAttempt.objects.filter(at__gt=later - dt.timedelta(seconds=operator_pins.WINDOW_S)).count() == 0
    PinAttempt.objects.update(at=now - dt.timedelta(seconds=operator_pins.WINDOW_S + 1))
    assert switch(fresh, second).status_code == 302


def test_five_wrong_pins_from_a_session_close_it_for_every_person(scene: Any, second: Any) -> None:
    give_pin(scene.lead, OTHER_PIN)
    client = with_password(scene.operator)
    for person in ("999999", "999999", "999998", "nonsense"):
        assert client.post("/switch/", {"person": person, "pin": PIN}).status_code == 403
    assert switch(client, second, "000000").status_code == 403
    assert switch(client, scene.lead, OTHER_PIN).status_code == 429
    assert AuditEntry.objects.filter(verb="operator_switch_refused").count() == 5  # a closed door writes no more
    assert switch(with_password(scene.viewer), scene.lead, OTHER_PIN).status_code == 302


def test_four_wrong_and_one_right_open(scene: Any, second: Any) -> None:
    client = with_password(scene.operator)
    for _ in range(4):
        switch(client, second, "000000")
    assert switch(client, second).status_code == 302
    assert PinAttempt.objects.count() == 4  # a right one does not wipe out the wrong ones


# --- the shift -----------------------------------------------------------------------------------


def set_shift_end(client: Client, at: dt.datetime) -> None:
    session = client.session
    session[operator_pins.SHIFT_KEY] = {**session[operator_pins.SHIFT_KEY], "ends_at_unix": int(at.timestamp())}
    session.save()


def test_only_a_device_with_a_password_sign_in_changes_hands(scene: Any, second: Any) -> None:
    client = Client()
    client.force_login(scene.operator)  # a session, but no password was given in it
    assert "/switch/" not in text_of(client.get("/"))
    assert f'value="{second.pk}"' not in text_of(client.get("/switch/"))
    assert switch(client, second).status_code == 403
    assert who_is(client) == "operator"


def test_twelve_hours_after_the_password_it_is_over(scene: Any, second: Any, now: dt.datetime) -> None:
    client = with_password(scene.operator)
    shift = client.session[operator_pins.SHIFT_KEY]
    assert abs(shift["ends_at_unix"] - now.timestamp() - 12 * 3600) < 10
    set_shift_end(client, now - dt.timedelta(seconds=1))
    assert "/switch/" not in text_of(client.get("/"))
    assert switch(client, second).status_code == 403
    assert who_is(client) == "operator"


def test_a_switched_session_ends_with_the_shift_however_often_it_is_switched_or_saved(
    scene: Any, second: Any, now: dt.datetime
) -> None:
    give_pin(scene.operator, OTHER_PIN)
    client = with_password(scene.operator)
    ends_at = now + dt.timedelta(minutes=40)
    set_shift_end(client, ends_at)
    assert switch(client, second).status_code == 302
    assert switch(client, scene.operator, OTHER_PIN).status_code == 302
    assert switch(client, second).status_code == 302
    session = client.session
    session["touched"] = 1
    session.save()
    row = Session.objects.get(session_key=client.cookies["sessionid"].value)
    assert abs((row.expire_date - ends_at).total_seconds()) < 2
    assert 0 < int(client.cookies["sessionid"]["max-age"]) <= 40 * 60
    row.expire_date = now - dt.timedelta(seconds=1)
    row.save()
    assert client.get("/").status_code == 302


def test_the_shift_ends_when_whoever_began_it_leaves_or_changes_their_password(scene: Any, second: Any) -> None:
    give_pin(scene.lead, OTHER_PIN)
    client = with_password(scene.operator)
    assert switch(client, second).status_code == 302
    scene.operator.set_password("another long password")
    scene.operator.save()
    assert switch(client, scene.lead, OTHER_PIN).status_code == 403
    assert who_is(client) == "second"


@pytest.mark.parametrize("how", ["inactive", "no longer a member", "a new password"])
def test_a_pin_dies_with_what_it_stood_on(scene: Any, second: Any, how: str) -> None:
    client = with_password(scene.operator)
    if how == "inactive":
        second.is_active = False
        second.save()
    elif how == "no longer a member":
        Membership.objects.filter(user=second).delete()
    else:
        second.set_password("another long password")
        second.save()
    assert f'value="{second.pk}"' not in text_of(client.get("/switch/"))
    assert switch(client, second).status_code == 403


def test_a_person_of_two_organisations_stays_in_this_one(scene: Any, second: Any, now: dt.datetime) -> None:
    first = console_scene.build(now, slug="alpha")  # sorts before: their session's default
    Membership.objects.create(organization=first.organization, user=second, role="lead")
    client = with_password(scene.operator)
    assert switch(client, second).status_code == 302
    assert client.get("/v1/me").json()["organization"] == scene.organization.slug


@pytest.mark.parametrize(
    "away", ["https://elsewhere.example/", "//elsewhere.example/", "/\\elsewhere", "/x?y=/", "\n/"]
)
def test_it_never_leads_off_site(scene: Any, second: Any, away: str) -> None:
    assert switch(with_password(scene.operator), second, next=away)["Location"] == "/"


def test_an_open_page_of_the_one_before_is_refused(scene: Any, second: Any) -> None:
    client = Client(enforce_csrf_checks=True)
    client.get("/sign-in/")
    form = {"username": "operator", "password": console_scene.PASSWORD}
    client.post("/sign-in/", {**form, "csrfmiddlewaretoken": client.cookies["csrftoken"].value})
    stale = re.search(r'name="csrf" content="(\w+)"', text_of(client.get("/")))
    assert stale
    good = {"person": str(second.pk), "pin": PIN, "csrfmiddlewaretoken": stale.group(1)}
    assert client.post("/switch/", {**good, "csrfmiddlewaretoken": ""}).status_code == 403
    assert client.post("/switch/", good).status_code == 302
    path = f"/v1/machines/{scene.machine.pk}/suspend"
    refused = client.post(path, "{}", content_type="application/json", headers={"X-CSRFToken": stale.group(1)})
    assert refused.status_code == 403


@pytest.mark.parametrize("address", ["/me/", "/switch/"])
def test_no_inline_script_or_style(scene: Any, second: Any, address: str) -> None:
    answer = with_password(scene.operator).get(address)
    body = text_of(answer)
    assert not re.search(r"<script(?![^>]*\bsrc=)[^>]*>", body)
    assert not re.search(r"<[^>]+\s(style|on[a-z]+)=", body)
    assert "unsafe" not in answer["Content-Security-Policy"]


def test_a_pin_does_not_open_the_admin_and_a_password_does(scene: Any, second: Any) -> None:
    for user in (second, scene.operator):
        user.is_staff = True
        user.save(update_fields=["is_staff"])
    client = with_password(scene.operator)
    assert client.get("/admin/").status_code == 200
    assert "Admin</a>" in text_of(client.get("/"))
    switch(client, second)
    for path in ("/admin/", "/admin/commands/proposal/", "/admin/password_change/"):
        answer = client.get(path)
        assert answer.status_code == 403 and "password" in text_of(answer), path
        assert client.post(path).status_code == 403
    assert "Admin</a>" not in text_of(client.get("/"))
    assert client.get("/").status_code == 200


def test_what_a_superuser_does_to_accounts_is_in_the_trail_and_groups_are_not_offered(scene: Any) -> None:
    scene.lead.is_staff = scene.lead.is_superuser = True
    scene.lead.save(update_fields=["is_staff", "is_superuser"])
    client = Client()
    client.force_login(scene.lead)
    assert client.get("/admin/auth/group/").status_code == 404
    page = f"/admin/auth/user/{scene.operator.pk}/change/"
    form = client.get(page).context["adminform"].form
    values = {name: value for name, value in form.initial.items() if isinstance(value, str | int) and value != ""}
    values |= {"first_name": "Anna", "is_active": "on", "date_joined_0": "2026-01-01", "date_joined_1": "10:00:00"}
    answer = client.post(page, {name: value for name, value in values.items() if name != "password"})
    assert answer.status_code == 302, answer.context["adminform"].form.errors if answer.context else answer
    entry = AuditEntry.objects.get(verb="user_changed")
    assert entry.subject_id == f"usr_{scene.operator.pk}" and entry.actor_name == scene.lead.username
    assert "Anna" not in entry.payload and "First name" in entry.payload
