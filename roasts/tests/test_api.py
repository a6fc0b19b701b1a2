"""Roasts over HTTP: scoped, columnar, marks with their rights and refusals."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

from kernel import clock, keys
from kernel.models import Agent, ApiKey, Membership, Organization, Site
from roasts import services
from roasts.models import Machine, MachineReading, Roast
from roasts.tests.test_recorder import roast
from roasts.tests.test_services import filings

pytestmark = pytest.mark.django_db


@pytest.fixture
def filed() -> Roast:
    now = clock.now()
    organization = Organization.objects.create(slug="demo", name="Demo", created_at=now)
    site = Site.objects.create(organization=organization, name="Here")
    machine = Machine.objects.create(
        organization=organization, site=site, name="B", driver_kind="bullet-r1", created_at=now
    )
    MachineReading.objects.create(machine=machine)
    services.file_decisions(machine, filings(roast())[0], now=now)
    return Roast.objects.get()


class Caller:
    """A key's holder."""

    def __init__(self, organization: Organization, role: str | None, name: str = "anna") -> None:
        now = clock.now()
        if role is None:
            agent = Agent.objects.create(organization=organization, name=name, created_at=now)
            self.key = keys.create_key(organization, scopes=["propose"], agent=agent, now=now)[1]
            # A key from before agents' scopes were bounded.
            ApiKey.objects.filter(agent=agent).update(scopes=["propose", "operate"])
        else:
            user = User.objects.create_user(name, password="x")
            Membership.objects.create(organization=organization, user=user, role=role)
            self.key = keys.create_key(organization, scopes=["operate"], user=user, now=now)[1]
        self.client = Client(headers={"Authorization": f"Bearer {self.key}"})

    def get(self, path: str, **query):
        return self.client.get(path, query)

    def post(self, path: str, body: dict):
        return self.client.post(path, body, content_type="application/json")


def test_list_detail_and_marks(filed: Roast) -> None:
    anna = Caller(filed.organization, "viewer")
    listed = anna.get("/v1/roasts", machine=filed.machine_id, status="finished").json()
    assert [row["roast_id"] for row in listed["results"]] == [filed.pk] and listed["next_cursor"] is None
    assert anna.get("/v1/roasts", status="cooling").json()["results"] == []
    detail = anna.get(f"/v1/roasts/{filed.pk}").json()
    turned_ms = detail["marks"].pop("turning_point")
    assert abs(turned_ms - 60_000) <= 3_000, "inferred from the curve, not from its lowest tenth of a degree"
    assert detail["marks"] == {"charge": 0, "drop": 115_000, "cool_end": 175_000}
    assert {event["source"] for event in detail["events"]} == {"device", "inferred"}


def test_samples_come_in_columns_of_equal_length(filed: Roast) -> None:
    anna = Caller(filed.organization, "viewer")
    whole = anna.get(f"/v1/roasts/{filed.pk}/samples").json()
    assert whole["count"] == 1751 == len(whole["elapsed_ms"]) == len(whole["columns"]["bean_temp_c"])
    part = anna.get(f"/v1/roasts/{filed.pk}/samples", from_ms=1000, to_ms=2000, fields="heater_step", step=5).json()
    assert part["elapsed_ms"] == [1000, 1500, 2000] and part["columns"] == {"heater_step": [5, 5, 5]}
    empty = anna.get(f"/v1/roasts/{filed.pk}/samples", from_ms=999_999).json()
    assert empty["count"] == 0 and empty["columns"]["state"] == []


@pytest.mark.parametrize(
    "query", [{"fields": "haeter_step"}, {"step": "0"}, {"from_ms": "-1"}, {"limit": "5"}, {"to_ms": "9" * 30}]
)
def test_nonsense_filters_are_refused_by_name(filed: Roast, query: dict) -> None:
    answer = Caller(filed.organization, "viewer").get(f"/v1/roasts/{filed.pk}/samples", **query)
    assert answer.status_code == 400 and answer.json()["how_to_fix"]


def test_a_neighbour_and_a_stranger_see_nothing(filed: Roast) -> None:
    other = Organization.objects.create(slug="other", name="Other", created_at=clock.now())
    neighbour = Caller(other, "admin", "nils")
    for path in ("", "/samples", "/events"):
        assert neighbour.get(f"/v1/roasts/{filed.pk}{path}").status_code == 404
        assert Client().get(f"/v1/roasts/{filed.pk}{path}").status_code == 401
    assert neighbour.get("/v1/roasts").json()["results"] == []
    answer = neighbour.post(f"/v1/roasts/{filed.pk}/events", {"kind": "note", "elapsed_ms": 1})
    assert answer.status_code == 404


def test_an_operator_marks_corrects_and_withdraws(filed: Roast) -> None:
    anna = Caller(filed.organization, "operator")
    path = f"/v1/roasts/{filed.pk}/events"
    made = anna.post(path, {"kind": "first_crack_start", "elapsed_ms": 90_000})
    assert made.status_code == 201 and made.json()["marked_by"] == "anna"
    corrected = anna.post(path, {"action": "correct", "event_id": made.json()["event_id"], "elapsed_ms": 85_000})
    assert corrected.json()["elapsed_ms"] == 85_000
    assert anna.get(f"/v1/roasts/{filed.pk}").json()["marks"]["first_crack_start"] == 85_000
    gone = anna.post(path, {"action": "withdraw", "event_id": corrected.json()["event_id"]})
    assert gone.json()["withdrawn_at"] is not None
    assert "first_crack_start" not in anna.get(f"/v1/roasts/{filed.pk}").json()["marks"]
    assert anna.post(path, {"action": "withdraw", "event_id": made.json()["event_id"]}).status_code == 409


def test_a_persons_drop_wins_over_the_machines(filed: Roast) -> None:
    anna = Caller(filed.organization, "lead")
    anna.post(f"/v1/roasts/{filed.pk}/events", {"kind": "drop", "elapsed_ms": 114_000})
    assert anna.get(f"/v1/roasts/{filed.pk}").json()["marks"]["drop"] == 114_000


@pytest.mark.parametrize("role", ["viewer", "judge", None])
def test_who_may_not_operate_may_not_mark(filed: Roast, role: str | None) -> None:
    answer = Caller(filed.organization, role).post(
        f"/v1/roasts/{filed.pk}/events", {"kind": "drop", "elapsed_ms": 1000}
    )
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"kind": "first_crak", "elapsed_ms": 1}, 400),
        ({"kind": "drop"}, 400),
        ({"kind": "drop", "elapsed_ms": 1, "when": 2}, 400),
        ({"action": "correct", "elapsed_ms": 5}, 400),
        ({"action": "withdraw", "event_id": "evt_nobody"}, 404),
        ({"kind": "drop", "elapsed_ms": 2_000_000_000}, 422),
    ],
)
def test_nonsense_marks_are_refused(filed: Roast, body: dict, status: int) -> None:
    answer = Caller(filed.organization, "operator").post(f"/v1/roasts/{filed.pk}/events", body)
    assert answer.status_code == status, answer.content


def test_a_roast_and_its_marks_have_etags(filed: Roast) -> None:
    anna = Caller(filed.organization, "operator")
    for path in (f"/v1/roasts/{filed.pk}", f"/v1/roasts/{filed.pk}/events"):
        first = anna.get(path)
        same = anna.client.get(path, headers={"If-None-Match": f'"other", W/{first["ETag"]}'})
        assert (same.status_code, same.content, same["ETag"]) == (304, b"", first["ETag"])
    anna.post(f"/v1/roasts/{filed.pk}/events", {"kind": "note", "elapsed_ms": 1, "text": "hot"})
    changed = anna.client.get(path, headers={"If-None-Match": first["ETag"]})
    assert changed.status_code == 200 and changed["ETag"] != first["ETag"]


@pytest.mark.parametrize("seen", ["/events", ""])
def test_of_two_who_edit_what_they_saw_the_second_is_told_that_it_is_stale(filed: Roast, seen: str) -> None:
    anna, bert = Caller(filed.organization, "operator"), Caller(filed.organization, "lead", "bert")
    path = f"/v1/roasts/{filed.pk}/events"
    made = anna.post(path, {"kind": "first_crack_start", "elapsed_ms": 90_000}).json()
    etag = anna.get(f"/v1/roasts/{filed.pk}{seen}")["ETag"]

    def edit(caller: Caller, body: dict, if_match: str):
        asked = {"event_id": made["event_id"], **body}
        return caller.client.post(path, asked, content_type="application/json", headers={"If-Match": if_match})

    before = filed.events.count()
    for nonsense in ("", "x", '"0"', f"W/{etag}"):
        assert edit(anna, {"action": "withdraw"}, nonsense).status_code == 412
    assert filed.events.count() == before and filed.events.get(pk=made["event_id"]).withdrawn_at is None
    assert edit(anna, {"action": "correct", "elapsed_ms": 85_000}, f'"0", {etag}').status_code == 201
    late = edit(bert, {"action": "withdraw"}, etag)
    assert (late.status_code, late.json()["error"]) == (412, "stale")
    assert {"error", "message", "how_to_fix"} <= set(late.json())
    newer = bert.get(path)
    standing = next(mark for mark in newer.json()["results"] if mark["elapsed_ms"] == 85_000)
    assert standing["withdrawn_at"] is None, "the stale withdrawal had no effect"
    again = edit(bert, {"action": "withdraw", "event_id": standing["event_id"]}, newer["ETag"])
    assert again.status_code == 201
    assert edit(bert, {"action": "correct", "elapsed_ms": 1}, "*").status_code == 409
