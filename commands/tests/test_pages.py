"""The console's pages: who sees what, what they say, and how many queries it takes to say it."""

from __future__ import annotations

import datetime as dt
import json
import re

import pytest
from django.test import Client

from commands.models import Proposal
from commands.stop.authority import TOKEN_LIFE_S
from commands.tests import console_scene
from drivers import keeper_config, stop_token
from roasts.models import MachineReading, Roast

pytestmark = pytest.mark.django_db

HOME_PAGE_QUERIES = 14  # session, person, memberships, preferences, then 10 for any number of machines
MACHINE_PAGE_QUERIES = 30  # for any number of orders


def signed_in(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


def text_of(response) -> str:
    return response.content.decode()


# --- who sees what -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/alarms/", "/machines/mch_1/", "/machines/mch_1/panels/queue/", "/cards/"])
def test_a_stranger_is_sent_to_sign_in_and_back(path):
    response = Client().get(path)
    assert response.status_code == 302
    assert response["Location"] == f"/sign-in/?next={path}"


def test_a_fragment_asked_for_after_signing_out_is_401_not_a_page():
    assert Client().get("/cards/", headers={"HX-Request": "true"}).status_code == 401
    assert Client().get("/stop-tokens/", headers={"X-Console-Fetch": "1"}).status_code == 401


def test_another_organisations_machine_is_not_there(scene, now):
    other = console_scene.build(now, slug="other")
    client = signed_in(scene.operator)
    for path in (f"/machines/{other.machine.pk}/", f"/machines/{other.machine.pk}/panels/queue/"):
        assert client.get(path).status_code == 404
    assert other.machine.pk not in text_of(client.get("/"))


def test_an_unknown_panel_is_404(scene):
    assert signed_in(scene.operator).get(f"/machines/{scene.machine.pk}/panels/secrets/").status_code == 404


def test_a_person_of_no_organisation_is_told_so(django_user_model):
    person = django_user_model.objects.create_user("lost", password=console_scene.PASSWORD)
    response = signed_in(person).get("/")
    assert response.status_code == 403
    assert "belong to no organisation" in text_of(response)


def test_an_agents_key_opens_no_page(scene, now):
    from kernel.keys import create_key

    _, plain = create_key(organization=scene.organization, agent=scene.agent, scopes=["read", "propose"], now=now)
    response = Client().get("/", headers={"Authorization": f"Bearer {plain}"})
    assert response.status_code == 302


def test_a_viewer_sees_the_machine_but_no_stop_no_decisions_and_no_token(scene, now):
    console_scene.hold_order(scene, now)
    body = text_of(signed_in(scene.viewer).get(f"/machines/{scene.machine.pk}/"))
    assert "data-stop=" not in body
    assert "/approve" not in body
    assert "v1." + scene.machine.pk not in body
    assert "Only an operator decides" in body


# --- signing in ----------------------------------------------------------------------------------


def test_a_wrong_password_is_said_kindly_and_keeps_the_name(scene):
    response = Client().post("/sign-in/", {"username": "operator", "password": "nonsense"})
    assert response.status_code == 200
    assert "do not match" in text_of(response)
    assert 'value="operator"' in text_of(response)


def test_signing_in_goes_on_to_the_page_asked_for_and_never_off_site(scene):
    good = {"username": "operator", "password": console_scene.PASSWORD}
    assert Client().post("/sign-in/", {**good, "next": "/alarms/"})["Location"] == "/alarms/"
    assert Client().post("/sign-in/", {**good, "next": "https://elsewhere.example/"})["Location"] == "/"


def test_signing_out_needs_a_post(scene):
    client = signed_in(scene.operator)
    assert client.get("/sign-out/").status_code == 405
    assert client.post("/sign-out/").status_code == 302
    assert client.get("/").status_code == 302


# --- the first page ------------------------------------------------------------------------------


def test_an_empty_bench_says_what_to_do(scene):
    scene.machine.is_archived = True
    scene.machine.save()
    assert "No machines yet" in text_of(signed_in(scene.operator).get("/"))


def test_a_card_shows_state_figures_and_quiet(scene):
    body = text_of(signed_in(scene.operator).get("/"))
    for words in ("Bench Bullet", "Roasting", "178.4", "11.3", "Link up", "No orders waiting", "No alarms"):
        assert words in body
    assert "card-abnormal" not in body


def test_a_card_shows_held_orders_halts_link_and_suspension(scene, now):
    console_scene.hold_order(scene, now)
    console_scene.stop_machine(scene, now, result="unproved")
    console_scene.suspend(scene, now)
    console_scene.set_latest(scene.machine, now, link="keeper_lost")
    body = text_of(signed_in(scene.operator).get("/"))
    assert "card-abnormal" in body
    assert "1 order waiting for you" in body
    assert "not proved: use the panel or the mains" in body
    assert "operator has it" in body
    assert "STOP cannot be proved from here: use the panel or the mains" in body


def test_alarms_stand_worst_first(scene, now):
    console_scene.raise_alarm(scene, now, code="a", priority="low")
    console_scene.raise_alarm(scene, now, code="b", priority="high")
    console_scene.raise_alarm(scene, now, code="c", priority="medium")
    body = text_of(signed_in(scene.operator).get("/"))
    assert re.findall(r"alarm alarm-(\w+)", body) == ["high", "medium", "low"]
    for words in ("Bean temperature 226", "The beans may catch fire", "Drop the beans by hand now"):
        assert words in body


def test_the_title_counts_the_held_orders(scene, now):
    client = signed_in(scene.operator)
    assert "<title>Console" in text_of(client.get("/"))
    console_scene.hold_order(scene, now)
    assert "<title>(1) Console" in text_of(client.get("/"))
    assert "<title>(1) Bench Bullet" in text_of(client.get(f"/machines/{scene.machine.pk}/"))


def count_queries(client: Client, path: str) -> int:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    client.get(path)  # sessions and content types warm
    with CaptureQueriesContext(connection) as captured:
        assert client.get(path).status_code == 200
    return len(captured)


def test_the_first_page_takes_as_many_queries_for_four_machines_as_for_one(scene, now):
    client = signed_in(scene.operator)
    console_scene.hold_order(scene, now)
    one = count_queries(client, "/")
    for number in range(3):
        machine = console_scene.Machine.objects.create(
            organization=scene.organization, site=scene.machine.site, name=f"Bench {number}", driver_kind="bullet-r1",
            created_at=now,
        )  # fmt: skip
        console_scene.set_latest(machine, now)
        console_scene.tend(machine, now)
    assert count_queries(client, "/") == one
    assert one == HOME_PAGE_QUERIES, one


# --- the machine page ----------------------------------------------------------------------------


def test_the_machine_page_takes_a_fixed_number_of_queries(scene, now):
    client = signed_in(scene.lead)
    path = f"/machines/{scene.machine.pk}/"
    console_scene.complete_order(scene, now)
    few = count_queries(client, path)
    for _ in range(4):
        console_scene.complete_order(scene, now)
    for control in ("heater", "fan", "drum"):
        console_scene.hold_order(scene, now, control=control)
    assert count_queries(client, path) == few
    assert few == MACHINE_PAGE_QUERIES, few


def test_a_held_order_shows_change_reasons_evidence_digest_and_its_deadline(scene, now):
    proposal = console_scene.hold_order(scene, now)
    body = text_of(signed_in(scene.operator).get(f"/machines/{scene.machine.pk}/panels/queue/"))
    assert "Heater 7\u00a0→\u00a06" in body
    assert "78 % → 67 %" in body
    assert "asked 67 %" in body
    assert proposal.reasoning in body
    assert "rate of rise 16.8 °C/min" in body
    assert "may act here with approval" in body
    assert f'name="digest" value="{proposal.digest}"' in body
    assert f"/v1/proposals/{proposal.pk}/approve" in body
    for code in ("SAFETY_CONCERN", "WRONG_TIMING", "INCORRECT_TARGET", "MACHINE_UNAVAILABLE", "SESSION_MISMATCH",
                 "OPERATOR_OVERRIDE", "OTHER"):  # fmt: skip
        assert f'value="{code}"' in body


def test_the_queue_is_in_order_of_deadline(scene, now):
    late = console_scene.hold_order(scene, now, expires_in_s=40)
    soon = console_scene.hold_order(scene, now, control="fan", expires_in_s=10)
    body = text_of(signed_in(scene.operator).get(f"/machines/{scene.machine.pk}/panels/queue/"))
    assert body.index(f"held-{soon.pk}") < body.index(f"held-{late.pk}")


def test_the_agents_owner_is_not_offered_approve_and_is_told_why(scene, now):
    console_scene.hold_order(scene, now)
    body = text_of(signed_in(scene.lead).get(f"/machines/{scene.machine.pk}/panels/queue/"))
    assert "/approve" not in body
    assert "You own this agent" in body


def test_advice_may_be_adopted_until_it_is(scene, now):
    advice = console_scene.advise(scene, now)
    client, path = signed_in(scene.operator), f"/machines/{scene.machine.pk}/panels/queue/"
    assert f"/v1/proposals/{advice.pk}/adopt" in text_of(client.get(path))
    console_scene.adopt(scene, advice, now)
    assert "adopt" not in text_of(client.get(path))


def test_advice_grows_old(scene, now):
    console_scene.advise(scene, now - dt.timedelta(seconds=121))
    assert "Advice" not in text_of(signed_in(scene.operator).get(f"/machines/{scene.machine.pk}/panels/queue/"))


def test_the_timeline_tells_the_whole_life_of_an_order_in_order(scene, now):
    console_scene.complete_order(scene, now)
    body = text_of(signed_in(scene.operator).get(f"/machines/{scene.machine.pk}/panels/orders/"))
    words = ["Proposed", "Held for", "Approved", "Taken up", "Sent</strong>", "Read back", "Completed</strong>"]
    places = [body.index(word) for word in words]
    assert places == sorted(places)
    assert "1 write: heater −1" in body and "3402aaaa" not in body
    assert "step 6" in body
    assert 'data-status="COMPLETED"' in body


def test_a_proved_stop_says_its_milliseconds_and_that_beans_are_hot(scene, now):
    console_scene.stop_machine(scene, now)
    body = text_of(signed_in(scene.operator).get(f"/machines/{scene.machine.pk}/panels/halts/"))
    assert "STOPPED by operator" in body
    assert "812 ms" in body
    assert "Beans still hot: drop by hand" in body
    assert "/reset" not in body  # an operator may not reset a STOP


def test_an_unproved_stop_says_what_hands_must_do(scene, now):
    console_scene.stop_machine(scene, now, result="unproved")
    body = text_of(signed_in(scene.operator).get(f"/machines/{scene.machine.pk}/panels/halts/"))
    assert "NOT PROVED" in body
    assert "Press PRS on the panel" in body


def test_cooling_observed_replaces_beans_still_hot(scene, now):
    halt = console_scene.stop_machine(scene, now)
    halt.cooling_observed_at = now
    halt.save()
    body = text_of(signed_in(scene.operator).get(f"/machines/{scene.machine.pk}/panels/halts/"))
    assert "Cooling observed" in body
    assert "Beans still hot" not in body


def test_only_a_lead_is_offered_the_reset_of_a_stop_and_must_confirm_and_give_a_reason(scene, now):
    console_scene.stop_machine(scene, now)
    body = text_of(signed_in(scene.lead).get(f"/machines/{scene.machine.pk}/panels/halts/"))
    assert f"/v1/machines/{scene.machine.pk}/reset" in body
    assert 'name="reason" required' in body
    assert 'type="checkbox" required' in body


def test_a_replugged_machine_waits_for_a_person(scene, now):
    console_scene.set_latest(scene.machine, now, is_orders_paused=True)
    body = text_of(signed_in(scene.operator).get(f"/machines/{scene.machine.pk}/panels/halts/"))
    assert "orders wait for you" in body
    assert "Resume orders" in body


def test_the_link_says_what_is_wrong_and_what_to_do(scene, now):
    lost = {"link": "down", "link_code": "no_permission", "link_message": "Add the udev rule."}
    console_scene.set_latest(scene.machine, now, **lost)
    body = text_of(signed_in(scene.operator).get(f"/machines/{scene.machine.pk}/panels/halts/"))
    assert "Link down: no permission" in body
    assert "Add the udev rule." in body


def test_a_machine_without_a_loop_is_said_to_be_untended(scene, now):
    console_scene.MachineLease.objects.filter(machine=scene.machine).update(expires_at=now - dt.timedelta(seconds=6))
    body = text_of(signed_in(scene.operator).get(f"/machines/{scene.machine.pk}/panels/halts/"))
    assert "Nobody tends this machine" in body
    assert "unproved, use the panel" in body


def test_a_lost_links_halt_is_cleared_by_the_operator_who_looked(scene, now):
    halt = console_scene.stop_machine(scene, now, result="unproved")
    halt.kind = "link_lost"
    halt.save()
    body = text_of(signed_in(scene.operator).get(f"/machines/{scene.machine.pk}/panels/halts/"))
    assert f"/v1/machines/{scene.machine.pk}/resume" in body
    assert 'name="what" value="orders"' in body


def test_the_turning_point_cannot_be_pressed_and_crack_can(scene, now):
    console_scene.mark(scene, now, "turning_point", 78_000)
    body = text_of(signed_in(scene.operator).get(f"/machines/{scene.machine.pk}/panels/roast/"))
    assert 'data-mark="first_crack_start"' in body
    assert 'data-mark="turning_point"' not in body
    assert "Turning point" in body


def test_a_persons_mark_wins_and_can_be_set_back_and_withdrawn(scene, now):
    console_scene.mark(scene, now, "first_crack_start", 380_000)
    mine = console_scene.mark(scene, now, "first_crack_start", 390_000, by=scene.operator)
    body = text_of(signed_in(scene.operator).get(f"/machines/{scene.machine.pk}/panels/roast/"))
    assert body.count("First crack</span>") == 1
    assert f'data-withdraw="{mine.pk}"' in body
    assert 'data-back="5" data-last="yes"' in body
    assert 'data-back="10"' in body


def test_a_withdrawn_mark_is_gone_from_the_curve(scene, now):
    mine = console_scene.mark(scene, now, "dry_end", 250_000, by=scene.operator)
    mine.withdrawn_at = now
    mine.save()
    assert mine.pk not in text_of(signed_in(scene.operator).get(f"/machines/{scene.machine.pk}/panels/roast/"))


def test_only_a_lead_is_offered_grants_of_any_level(scene, now):
    path = f"/machines/{scene.machine.pk}/panels/grants/"
    granted = console_scene.grant(scene, now)
    lead, operator = text_of(signed_in(scene.lead).get(path)), text_of(signed_in(scene.operator).get(path))
    assert re.findall(r'<option value="(\w+)"', lead) == ["L1", "L2", "L3", "L4", "L5"]
    assert f"/v1/grants/{granted.pk}/revoke" in lead
    assert "<option" not in operator
    assert "L3" in operator


def test_an_expired_grant_is_no_grant(scene, now):
    console_scene.grant(scene, now, expires_at=now - dt.timedelta(seconds=1))
    body = text_of(signed_in(scene.operator).get(f"/machines/{scene.machine.pk}/panels/grants/"))
    assert "no grant: advice only" in body


def test_the_page_says_that_there_is_no_watchdog_and_what_to_do_in_a_fire(scene):
    body = text_of(signed_in(scene.operator).get(f"/machines/{scene.machine.pk}/"))
    for words in ("no known watchdog", "Keep the flap shut", "Mains off", "People first", "Leave the fan as it is"):
        assert words in body


def test_what_an_agent_writes_is_text_never_markup(scene, now):
    proposal = console_scene.hold_order(scene, now)
    Proposal.objects.filter(pk=proposal.pk).update(
        reasoning="<script>alert(1)</script>", evidence=[{"<b>": "<img src=x onerror=alert(1)>"}]
    )
    body = text_of(signed_in(scene.operator).get(f"/machines/{scene.machine.pk}/"))
    assert "<script>alert" not in body
    assert "<img" not in body


# --- the STOP token ------------------------------------------------------------------------------


def test_the_page_carries_a_stop_token_that_the_keeper_will_take_for_a_quarter_of_an_hour(scene, now, tmp_path):
    body = signed_in(scene.operator).get("/stop-tokens/", headers={"X-Console-Fetch": "1"}).json()
    token = body["tokens"][scene.machine.pk]
    key = keeper_config.ensure_stop_key(tmp_path)
    good = stop_token.verify(key, token, machine_id=scene.machine.pk, now_unix=now.timestamp())
    assert 0 < good.expires_at_unix - now.timestamp() <= TOKEN_LIFE_S + 5
    with pytest.raises(stop_token.BadToken):
        stop_token.verify(key, token, machine_id=scene.machine.pk, now_unix=now.timestamp() + 16 * 60)
    assert token.rsplit(".", 1)[0].split(".")[1] == scene.machine.pk


def test_stop_tokens_are_only_for_the_machines_of_ones_own_organisation(scene, now):
    other = console_scene.build(now, slug="other")
    tokens = signed_in(scene.operator).get("/stop-tokens/").json()["tokens"]
    assert set(tokens) == {scene.machine.pk}
    assert signed_in(other.operator).get("/stop-tokens/").json()["tokens"].keys() == {other.machine.pk}


def test_a_viewer_gets_no_stop_token(scene):
    assert signed_in(scene.viewer).get("/stop-tokens/").json()["tokens"] == {}


# --- the policy of the page ----------------------------------------------------------------------


@pytest.mark.parametrize("address", ["/", "/alarms/", "/sign-in/", "machine"])
def test_no_page_has_inline_script_or_style_or_another_origin(scene, now, address):
    console_scene.hold_order(scene, now)
    console_scene.stop_machine(scene, now)
    console_scene.raise_alarm(scene, now)
    client = Client() if address == "/sign-in/" else signed_in(scene.lead)
    response = client.get(f"/machines/{scene.machine.pk}/" if address == "machine" else address)
    body = text_of(response)
    assert not re.search(r"<script(?![^>]*\bsrc=)[^>]*>", body)
    assert not re.search(r"<[^>]+\sstyle=", body)
    assert not re.search(r"<[^>]+\son[a-z]+=", body)
    assert "<style" not in body
    assert not re.search(r"(src|href|action)=\"(https?:)?//", body)
    policy = response["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "script-src 'self'" in policy


def test_pages_are_never_kept_by_a_cache(scene):
    assert "no-store" in signed_in(scene.operator).get("/")["Cache-Control"]


def test_htmx_may_not_evaluate_and_adds_no_styles(scene):
    body = text_of(signed_in(scene.operator).get("/"))
    config = json.loads(re.search(r"name=\"htmx-config\" content='([^']+)'", body).group(1))
    assert config["allowEval"] is False
    assert config["includeIndicatorStyles"] is False
    assert "django_htmx/htmx-2.min.js" in body


# --- a machine that tells no state ---------------------------------------------------------------


def test_a_machine_without_states_offers_charged_now_and_shows_its_environment_probe(scene, now):
    MachineReading.objects.filter(pk=scene.machine.pk).update(
        state="unknown", at=now, infrared_temp_c=None, environment_temp_c=214.5, ambient_temp_c=21.5
    )
    Roast.objects.filter(machine=scene.machine).update(status="finished")
    page = text_of(signed_in(scene.operator).get(f"/machines/{scene.machine.pk}/"))
    assert 'data-by-hand="open"' in page and "Charged now" in page
    assert 'data-reading="environment_temp_c"' in page and "214.5" in page and "21.5" in page
    assert 'data-reading="infrared_temp_c"' not in page
    assert "data-by-hand" not in text_of(signed_in(scene.viewer).get(f"/machines/{scene.machine.pk}/"))


@pytest.mark.parametrize(("status", "may_open"), [("charged", False), ("roasting", False), ("cooling", True)])
def test_an_open_roast_of_a_machine_without_states_is_closed_by_a_person(scene, now, status, may_open):
    MachineReading.objects.filter(pk=scene.machine.pk).update(state="unknown", at=now)
    Roast.objects.filter(machine=scene.machine).update(status=status)
    page = text_of(signed_in(scene.operator).get(f"/machines/{scene.machine.pk}/"))
    assert 'data-by-hand="close"' in page and ('data-by-hand="open"' in page) is may_open


def test_a_machine_with_states_offers_neither(scene):
    page = text_of(signed_in(scene.operator).get(f"/machines/{scene.machine.pk}/"))
    assert "data-by-hand" not in page and 'data-reading="infrared_temp_c"' in page
