"""Alarms over REST: the database sorts and sorts out as the pure table says; who may shelve what, and for how long."""

from __future__ import annotations

import datetime as dt
import random
import re

import pytest
from django.db import connection
from rest_framework.test import APIClient

from commands.alarms import rows as alarm_rows
from commands.alarms import services_alarms
from commands.alarms import states as alarm_states
from commands.alarms.states import AlarmState, state_of
from commands.models import Alarm
from commands.tests.rows import machine_row, person_row
from kernel import clock, principals
from kernel.models import AuditEntry

pytestmark = pytest.mark.django_db


@pytest.fixture
def machine():
    return machine_row()


@pytest.fixture
def operator(machine):
    return person_row("otto", "operator")


@pytest.fixture
def client(operator):
    made = APIClient()
    made.force_login(operator)
    return made


def raised(machine, code="a", **values) -> Alarm:
    given = {"cause": "It is hot.", "consequence": "It burns.", "action": "Drop.", "now": clock.now()} | values
    return services_alarms.raise_alarm(machine, code=code, **given)


def some_rows(machine, operator) -> list[Alarm]:
    """Two hundred alarms in every state; one code of each stands at most."""
    chance, now = random.Random(4), clock.now()

    def when(*minutes: float | None) -> dt.datetime | None:
        chosen = chance.choice(minutes)
        return None if chosen is None else now + dt.timedelta(minutes=chosen)

    rows = []
    for number in range(200):
        seen = when(None, -5)
        rows.append(
            Alarm(
                organization=machine.organization, machine=machine, code=f"code_{number}", cause="c", consequence="f",
                action="d", priority=chance.choice(alarm_states.PRIORITIES), raised_at=when(-10, -20, -30),
                cleared_at=when(None, -3), acknowledged_at=seen, acknowledged_by=operator if seen else None,
                shelved_until=when(None, -1, 5),
            )
        )  # fmt: skip
    return Alarm.objects.bulk_create(rows)


def test_the_database_sorts_and_sorts_out_as_the_pure_table_says(machine, operator):
    rows, now = some_rows(machine, operator), clock.now()
    looks = [alarm_rows.look_of(row) for row in rows]
    for state in AlarmState:
        found = set(Alarm.objects.filter(alarm_rows.in_state(state, now)).values_list("pk", flat=True))
        assert found == {look.alarm_id for look in looks if state_of(look, now) is state}, state
    listed = alarm_rows.with_badness(Alarm.objects.all(), now).order_by("-badness", "-raised_at", "-id")
    assert [row.pk for row in listed] == [look.alarm_id for look in alarm_states.worst_first(looks, now)]


def test_pages_of_the_list_join_without_gap_or_repeat(client, machine, operator):
    some_rows(machine, operator)
    whole, cursor = [], None
    while True:
        query = {"limit": 30, "state": "all"} | ({"cursor": cursor} if cursor else {})
        answer = client.get("/v1/alarms", query).json()
        whole += [row["alarm_id"] for row in answer["results"]]
        cursor = answer["next_cursor"]
        if cursor is None:
            break
    now = clock.now()
    looks = [alarm_rows.look_of(row) for row in Alarm.objects.all()]
    assert whole == [look.alarm_id for look in alarm_states.worst_first(looks, now)]


def test_filters_narrow_the_list_and_unknown_ones_are_refused(client, machine, operator):
    some_rows(machine, operator)
    for state in AlarmState:
        answer = client.get("/v1/alarms", {"state": state.value, "limit": 200}).json()
        assert answer["results"] and {row["state"] for row in answer["results"]} == {state.value}
    assert {row["state"] for row in client.get("/v1/alarms", {"limit": 200}).json()["results"]} == set(AlarmState) - {
        AlarmState.NORMAL
    }
    high = client.get("/v1/alarms", {"priority": "high", "machine": machine.pk, "limit": 200}).json()["results"]
    assert high and {row["priority"] for row in high} == {"high"}
    assert client.get("/v1/alarms", {"machine": "mch_other"}).json()["results"] == []
    assert client.get("/v1/alarms", {"state": "gone"}).status_code == 400
    assert client.get("/v1/alarms", {"cursor": "bm9uc2Vuc2U"}).status_code == 400


def test_the_list_asks_the_database_the_same_number_of_times_however_long_it_is(
    client, machine, operator, django_assert_max_num_queries
):
    some_rows(machine, operator)
    with django_assert_max_num_queries(9):
        assert len(client.get("/v1/alarms", {"limit": 200}).json()["results"]) > 100


def test_an_alarm_lives_through_its_states(client, machine):
    alarm = raised(machine)
    url = f"/v1/alarms/{alarm.pk}"
    assert client.get("/v1/alarms").json()["results"][0]["state"] == "unacknowledged"
    services_alarms.clear_alarm(machine, code="a", now=clock.now())
    assert client.get("/v1/alarms").json()["results"][0]["state"] == "returned"
    seen = client.post(f"{url}/acknowledge", {}, format="json").json()
    assert seen["state"] == "normal" and seen["acknowledged_by"] == "otto"
    assert client.get("/v1/alarms").json()["results"] == []
    assert client.post(f"{url}/shelve", {"minutes": 5, "reason": "x"}, format="json").status_code == 409


@pytest.mark.parametrize(
    ("priority", "body", "status", "code"),
    [
        ("high", {"minutes": 10, "reason": "fan cleaned"}, 200, None),
        ("high", {"minutes": 10.5, "reason": "fan cleaned"}, 422, "shelved_too_long"),
        ("medium", {"minutes": 60, "reason": "fan cleaned"}, 200, None),
        ("medium", {"minutes": 61, "reason": "fan cleaned"}, 400, None),
        ("medium", {"minutes": 0, "reason": "fan cleaned"}, 422, "too_short"),
        ("medium", {"minutes": 5, "reason": " "}, 400, None),
        ("medium", {"minutes": 5}, 400, None),
        ("medium", {"minutes": "5", "reason": "x"}, 400, None),
        ("medium", {"minutes": True, "reason": "x"}, 400, None),
        ("medium", {"reason": "x"}, 400, None),
        ("medium", {"minutes": 5, "reason": "x", "for": 1}, 400, None),
    ],
)
def test_what_may_be_shelved_and_for_how_long(client, machine, priority, body, status, code):
    alarm = raised(machine, priority=priority)
    answer = client.post(f"/v1/alarms/{alarm.pk}/shelve", body, format="json")
    assert answer.status_code == status, answer.json()
    assert code is None or answer.json()["error"] == code
    alarm.refresh_from_db()
    assert (alarm.shelved_until is not None) == (status == 200)


def test_a_shelved_alarm_raised_anew_shows_as_a_new_one(client, machine):
    alarm = raised(machine)
    client.post(f"/v1/alarms/{alarm.pk}/shelve", {"minutes": 5, "reason": "known"}, format="json")
    assert raised(machine).pk == alarm.pk  # it still stands: the same one, still shelved
    services_alarms.clear_alarm(machine, code="a", now=clock.now())
    anew = raised(machine)
    states = {row["alarm_id"]: row["state"] for row in client.get("/v1/alarms").json()["results"]}
    assert states == {alarm.pk: "shelved", anew.pk: "unacknowledged"}


def test_what_is_shelved_comes_back_by_hand(client, machine):
    alarm = raised(machine)
    client.post(f"/v1/alarms/{alarm.pk}/shelve", {"minutes": 5, "reason": "known"}, format="json")
    row = client.get("/v1/alarms", {"state": "shelved"}).json()["results"][0]
    assert (row["shelved_by"], row["shelve_reason"], row["longest_shelf_minutes"]) == ("otto", "known", 10)
    for _ in range(2):
        back = client.post(f"/v1/alarms/{alarm.pk}/unshelve", {}, format="json").json()
        assert (back["state"], back["shelved_until"], back["shelve_reason"]) == ("unacknowledged", None, "")
    verbs = list(AuditEntry.objects.filter(subject_id=alarm.pk).values_list("verb", flat=True))
    assert sorted(verbs) == ["alarm_raised", "alarm_shelved", "alarm_unshelved"]


@pytest.mark.parametrize("act", ["acknowledge", "shelve", "unshelve"])
def test_a_viewer_moves_no_alarm_and_a_stranger_finds_none(machine, act):
    alarm = raised(machine)
    body = {"minutes": 5, "reason": "x"} if act == "shelve" else {}
    for person, status in ((person_row("vera", "viewer"), 403), (person_row("stan", "lead", slug="other"), 404)):
        client = APIClient()
        client.force_login(person)
        assert client.post(f"/v1/alarms/{alarm.pk}/{act}", body, format="json").status_code == status


def test_the_first_of_several_is_marked(client, machine):
    first = raised(machine, "cause", now=clock.now() - dt.timedelta(seconds=2))
    raised(machine, "effect")
    marks = {row["alarm_id"]: row["is_first_out"] for row in client.get("/v1/alarms").json()["results"]}
    assert marks.pop(first.pk) is True and not any(marks.values())


def test_the_same_key_shelves_once(client, machine):
    alarm, headers = raised(machine), {"HTTP_IDEMPOTENCY_KEY": "once"}
    body = {"minutes": 5, "reason": "known"}
    answers = [client.post(f"/v1/alarms/{alarm.pk}/shelve", body, format="json", **headers).json() for _ in range(2)]
    assert answers[0] == answers[1]
    assert AuditEntry.objects.filter(subject_id=alarm.pk, verb="alarm_shelved").count() == 1


def test_acknowledging_twice_keeps_the_first(machine, operator):
    alarm, principal = raised(machine), principals.for_user(operator)
    first = services_alarms.acknowledge_alarm(principal, alarm, now=clock.now())
    other = principals.for_user(person_row("olga", "operator"))
    second = services_alarms.acknowledge_alarm(other, alarm, now=clock.now())
    assert (second.acknowledged_at, second.acknowledged_by) == (first.acknowledged_at, operator)


# --- several at once -----------------------------------------------------------------------------


def test_all_that_were_looked_at_are_acknowledged_at_once_each_in_the_trail_and_what_came_meanwhile_is_not(
    client, machine
):
    looked_at = [raised(machine, f"c{n}", priority=priority) for n, priority in enumerate(("high", "low", "medium"))]
    services_alarms.clear_alarm(machine, code="c1", now=clock.now())
    meanwhile = raised(machine, "late")
    url, body = f"/v1/machines/{machine.pk}/alarms/acknowledge", {"alarm_ids": [alarm.pk for alarm in looked_at]}
    answer = client.post(url, body, format="json")
    assert answer.status_code == 200, answer.json()
    states = {row["alarm_id"]: row["state"] for row in answer.json()["results"]}
    assert states == dict(zip(body["alarm_ids"], ("acknowledged", "normal", "acknowledged"), strict=True))
    meanwhile.refresh_from_db()
    assert meanwhile.acknowledged_at is None
    trail = AuditEntry.objects.filter(verb="alarm_acknowledged").values_list("subject_id", flat=True)
    assert sorted(trail) == sorted(body["alarm_ids"])
    assert client.post(url, body, format="json").status_code == 200  # again: the first one stays
    assert trail.count() == 3


def test_none_is_acknowledged_where_one_is_another_machines(client, machine):
    own, elsewhere = raised(machine), raised(machine_row(name="Another"))
    url = f"/v1/machines/{machine.pk}/alarms/acknowledge"
    answer = client.post(url, {"alarm_ids": [own.pk, elsewhere.pk]}, format="json")
    assert (answer.status_code, answer.json()["error"]) == (404, "alarm_not_found")
    assert not Alarm.objects.filter(acknowledged_at__isnull=False).exists()


@pytest.mark.parametrize(
    ("ids", "status"),
    [([], 400), (["alm_x"] * 100, 404), (["alm_x"] * 101, 400), ("alm_x", 400), ([1], 400), ([""], 400), (None, 400)],
)
def test_how_many_may_be_named_at_once(client, machine, ids, status):
    answer = client.post(f"/v1/machines/{machine.pk}/alarms/acknowledge", {"alarm_ids": ids}, format="json")
    assert answer.status_code == status, answer.json()


def test_several_at_once_are_an_operators_of_the_house(machine):
    alarm = raised(machine)
    for person, status in ((person_row("vera", "viewer"), 403), (person_row("stan", "lead", slug="other"), 404)):
        client = APIClient()
        client.force_login(person)
        url = f"/v1/machines/{machine.pk}/alarms/acknowledge"
        assert client.post(url, {"alarm_ids": [alarm.pk]}, format="json").status_code == status
    alarm.refresh_from_db()
    assert alarm.acknowledged_at is None


def test_the_page_offers_it_where_two_of_a_machine_are_unseen(client, machine):
    raised(machine, "one")
    assert "data-ack-all" not in client.get("/alarms/").content.decode()
    raised(machine, "two")
    page = client.get("/alarms/").content.decode()
    assert f'data-ack-all="{machine.pk}"' in page and "Acknowledge all 2 of" in page


# --- among all that ever were --------------------------------------------------------------------


def test_what_is_not_over_is_found_by_its_own_index_among_many_closed(machine):
    """By plan, not by clock: an index that holds only what is not over does not grow with history."""
    now = clock.now()
    principal = principals.system_principal("test", machine.organization)
    old = now - dt.timedelta(days=30)
    words = {"organization": machine.organization, "machine": machine, "cause": "a", "consequence": "b", "action": "c"}
    Alarm.objects.bulk_create(
        Alarm(**words, code=f"c{n}", raised_at=old, cleared_at=old, acknowledged_at=old) for n in range(3000)
    )
    Alarm.objects.bulk_create(Alarm(**words, code=f"s{n}", raised_at=now) for n in range(3))
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE commands_alarm")
    shown = Alarm.objects.for_principal(principal).filter(alarm_rows.not_over()).order_by("-raised_at", "-id")[:500]
    standing = Alarm.objects.for_principal(principal).filter(alarm_rows.unshelved(now), cleared_at__isnull=True)
    plans = shown.explain(), standing.order_by("-raised_at")[:50].explain()
    assert "alarm_not_over" in plans[0], plans
    assert re.search("alarm_standing|one_standing_alarm|alarm_not_over", plans[1]), plans
    assert len(alarm_rows.on_show(principal, now)) == 3
