"""Summary, curve, comparison, notes, corrections and profiles over HTTP."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from rest_framework.test import APIClient

from kernel import clock
from kernel.models import ApiKey, AuditEntry, Organization
from roasts.models import Machine, Profile, QcNote, Roast
from roasts.tests.stored_roasts import MARKS, curve_of, machine_of, store_roast

pytestmark = pytest.mark.django_db


@pytest.fixture
def machine(organization: Organization) -> Machine:
    return machine_of(organization)


@pytest.fixture
def roast(machine: Machine) -> Roast:
    return store_roast(machine, bean="Gigesa", weight_in_g=400.0)


@pytest.fixture
def operator(people: Any, signed_in: Any) -> APIClient:
    return signed_in(people.operator)


@pytest.fixture
def lead(people: Any, signed_in: Any) -> APIClient:
    return signed_in(people.lead)


# --- what is counted


def test_the_summary_is_counted_with_the_houses_settings_and_with_others(roast: Roast, operator: APIClient) -> None:
    path = f"/v1/roasts/{roast.pk}/summary"
    answer = operator.get(path)
    body = answer.json()
    assert body["turning_point_s"] == 60 and body["dry_phase_s"] == 310 and body["dry_end_c"] == 150
    assert body["development_ratio"] == pytest.approx(90 / 540, abs=1e-4)
    assert [phase["name"] for phase in body["phases"]] == ["drying", "maillard", "development"]
    assert body["energy"]["energy_kj"] == pytest.approx(1.55 * (400 * 7 + 140 * 5) / 9, abs=1)
    assert operator.get(path, {"dry_end_c": 160}).json()["dry_phase_s"] == 360
    assert operator.get(path, {"auc_from": "first_crack_start"}).json()["auc_c_min"] < body["auc_c_min"]
    assert operator.get(path, headers={"If-None-Match": answer["ETag"]}).status_code == 304


@pytest.mark.parametrize("query", [{"auc_from": "drop"}, {"dry_end_c": "hot"}, {"dry_end_c": "0"}, {"ac_base_c": "1"}])
def test_settings_that_mean_nothing_are_refused(roast: Roast, operator: APIClient, query: dict) -> None:
    assert operator.get(f"/v1/roasts/{roast.pk}/summary", query).status_code == 400


def test_the_curve_comes_in_columns_with_both_rates_and_controls_as_moves(roast: Roast, operator: APIClient) -> None:
    body = operator.get(f"/v1/roasts/{roast.pk}/curve").json()
    columns = body["columns"]
    assert {len(column) for column in columns.values()} == {600} == {len(body["elapsed_s"])}
    assert set(columns) == {"bean_temp_c", "infrared_temp_c", "causal_rate", "centred_rate"}
    assert columns["causal_rate"][0] is None and columns["causal_rate"][300] == 12 == columns["centred_rate"][300]
    assert body["controls"] == {"heater": [[0, 7], [400, 5]], "fan": [[0, 2], [300, 3]], "drum": [[0, 9]]}


def test_a_comparison_lays_all_over_the_first(machine: Machine, roast: Roast, operator: APIClient) -> None:
    warmer = store_roast(machine, curve_of(faster=1.1), days=1)
    body = operator.get("/v1/comparison", {"ids": f"{roast.pk},{warmer.pk}"}).json()
    assert body["base_id"] == roast.pk and body["results"][0]["roast_id"] == warmer.pk
    assert body["results"][0]["whole"]["max_deviation_c"] == pytest.approx(0.02 * 480, abs=0.1)
    by_crack = operator.get("/v1/comparison", {"ids": f"{roast.pk},{warmer.pk}", "align": "first_crack_start"}).json()
    assert by_crack["align"] == "first_crack_start" and len(by_crack["results"][0]["phases"]) == 3


def test_one_that_lacks_the_event_says_so_and_the_others_are_compared(
    machine: Machine, roast: Roast, operator: APIClient
) -> None:
    silent = store_roast(machine, marks=(MARKS[0], MARKS[2]), days=1)
    query = {"ids": f"{roast.pk},{silent.pk}", "align": "first_crack_start"}
    assert operator.get("/v1/comparison", query).json()["results"][0]["refused"] == "missing_event"


@pytest.mark.parametrize(
    ("ids", "status"), [("", 400), ("{roast}", 422), ("{roast},rst_none", 404), ("{roast},{roast}", 422)]
)
def test_a_comparison_needs_two_roasts_that_are_there(roast: Roast, operator: APIClient, ids: str, status: int) -> None:
    assert operator.get("/v1/comparison", {"ids": ids.format(roast=roast.pk)}).status_code == status


# --- tasting notes


def test_a_note_is_appended_and_read_back(roast: Roast, operator: APIClient) -> None:
    path = f"/v1/roasts/{roast.pk}/qc-notes"
    note = {"cupping_score": 86.5, "attributes": {"acidity": 8}, "defects": ["tipped"], "text": "Peach."}
    made = operator.post(path, note)
    assert made.status_code == 201 and made.json()["author"] == "operator"
    assert operator.post(path, {"text": "Colder: plum."}).status_code == 201
    assert [row["text"] for row in operator.get(path).json()["results"]] == ["Peach.", "Colder: plum."]
    assert AuditEntry.objects.filter(verb="quality_noted").count() == 2


@pytest.mark.parametrize(
    ("note", "status"),
    [
        ({}, 422),
        ({"text": "  "}, 422),
        ({"cupping_score": 100.1}, 400),
        ({"cupping_score": -1}, 400),
        ({"attributes": {"colour": 3}}, 400),
        ({"attributes": {"acidity": 11}}, 400),
        ({"defects": ["burnt"]}, 400),
        ({"scor": 80}, 400),
        ({"colour_ground": False}, 400),
        ({"cupping_score": "84"}, 400),
    ],
)
def test_a_note_that_says_nothing_or_nonsense_is_refused(
    roast: Roast, operator: APIClient, note: dict, status: int
) -> None:
    assert operator.post(f"/v1/roasts/{roast.pk}/qc-notes", note).status_code == status
    assert not QcNote.objects.exists()


def test_the_same_note_sent_twice_under_one_key_stands_once(roast: Roast, operator: APIClient) -> None:
    for _ in range(2):
        operator.post(f"/v1/roasts/{roast.pk}/qc-notes", {"text": "Plum."}, headers={"Idempotency-Key": "n1"})
    assert QcNote.objects.count() == 1


# --- corrections


def test_a_closed_roast_is_corrected_with_a_reason_and_counted_again(roast: Roast, operator: APIClient) -> None:
    path = f"/v1/roasts/{roast.pk}/corrections"
    assert operator.post(path, {"weight_out_g": 350}).status_code == 200, "what was empty needs no reason"
    roast.refresh_from_db()
    assert roast.summary["weight_loss_percent"] == 12.5
    refused = operator.post(path, {"weight_out_g": 340})
    assert refused.status_code == 422 and refused.json()["error"] == "reason_needed"
    body = operator.post(path, {"weight_out_g": 340, "bean": "Gigesa G1", "reason": "scale was off"}).json()
    assert body["values"]["weight_out_g"] == 340 and body["values"]["bean"] == "Gigesa G1"
    assert sorted((made["field"], made["old_value"], made["new_value"]) for made in body["corrections"][1:]) == [
        ("bean", "Gigesa", "Gigesa G1"),
        ("weight_out_g", 350, 340),
    ]
    assert body["corrections"][0]["old_value"] is None
    assert {made["reason"] for made in body["corrections"]} == {"entered after the roast", "scale was off"}
    roast.refresh_from_db()
    assert roast.summary["weight_loss_percent"] == 15


def test_saying_the_same_again_is_no_correction(roast: Roast, operator: APIClient) -> None:
    assert operator.post(f"/v1/roasts/{roast.pk}/corrections", {"bean": "Gigesa"}).json()["corrections"] == []


def test_more_out_than_in_is_refused(roast: Roast, operator: APIClient) -> None:
    answer = operator.post(f"/v1/roasts/{roast.pk}/corrections", {"weight_out_g": 401})
    assert answer.status_code == 422 and answer.json()["error"] == "weights_disagree"


def test_an_open_roast_is_described_without_corrections(machine: Machine, operator: APIClient) -> None:
    opened = Roast.objects.create(
        organization=machine.organization, machine=machine, started_at=clock.now(), device_start_ms=0
    )
    body = operator.post(f"/v1/roasts/{opened.pk}/corrections", {"bean": "Kenya", "weight_in_g": 400}).json()
    assert body["values"]["bean"] == "Kenya" and body["corrections"] == []
    assert operator.post(f"/v1/roasts/{opened.pk}/corrections", {"bean": "Kenya AA"}).status_code == 200


def test_an_edit_of_something_older_than_what_stands_is_stale(roast: Roast, operator: APIClient) -> None:
    path = f"/v1/roasts/{roast.pk}/corrections"
    seen = operator.get(path)["ETag"]
    assert operator.post(path, {"lot": "7"}, headers={"If-Match": seen}).status_code == 200
    assert operator.post(path, {"lot": "8", "reason": "x"}, headers={"If-Match": seen}).status_code == 412


# --- profiles


def made_profile(lead: APIClient, roasts: list[Roast], name: str = "House") -> dict:
    answer = lead.post("/v1/profiles", {"name": name, "roast_ids": [roast.pk for roast in roasts]}, format="json")
    assert answer.status_code == 201, answer.content
    return answer.json()


def test_a_profile_is_made_of_roasts_and_grows_by_versions(machine: Machine, roast: Roast, lead: APIClient) -> None:
    first = made_profile(lead, [roast])
    assert first["version"] == 1 and first["document"]["sensor"] == {
        "machine": machine.pk,
        "probe": "bean_temp_c",
        "era": "2026-03-01..2026-03-01",
    }
    others = [store_roast(machine, curve_of(faster=1 + n / 20), days=n) for n in (1, 2)]
    path = f"/v1/profiles/{first['profile_id']}"
    body = {"roast_ids": [r.pk for r in (roast, *others)], "change_note": "three now"}
    second = lead.post(f"{path}/versions", body, format="json")
    assert second.status_code == 201 and second.json()["version"] == 2
    assert lead.post(f"{path}/versions", body, format="json").json()["error"] == "same_document"
    listed = lead.get(path).json()
    assert [version["version"] for version in listed["versions"]] == [2, 1]
    assert listed["versions"][0]["change_note"] == "three now" and listed["versions"][0]["created_by"] == "lead"
    assert lead.get(f"{path}/versions/1").json()["document"] == first["document"], "a version never changes"
    assert lead.get(f"{path}/versions/3").status_code == 404


def test_a_document_from_outside_makes_a_profile_and_nonsense_does_not(roast: Roast, lead: APIClient) -> None:
    document = made_profile(lead, [roast])["document"]
    again = lead.post("/v1/profiles", {"name": "Copy", "document": document}, format="json")
    assert again.status_code == 201 and again.json()["document"] == document
    broken = lead.post("/v1/profiles", {"name": "Bad", "document": {**document, "golden_c": []}}, format="json")
    assert broken.status_code == 400 and "document" in broken.json()["fields"]


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({"name": "X"}, 400, "invalid"),
        ({"name": "X", "roast_ids": []}, 422, "no_roasts"),
        ({"name": "X", "roast_ids": ["rst_nobody"]}, 404, "roast_not_found"),
        ({"roast_ids": ["{roast}"]}, 400, "invalid"),
        ({"name": "House", "roast_ids": ["{roast}"]}, 409, "profile_name_taken"),
    ],
)
def test_what_makes_no_profile_says_why(roast: Roast, lead: APIClient, body: dict, status: int, error: str) -> None:
    made_profile(lead, [roast])
    ids = {"roast_ids": [word.format(roast=roast.pk) for word in body["roast_ids"]]} if "roast_ids" in body else {}
    answer = lead.post("/v1/profiles", {**body, **ids}, format="json")
    assert (answer.status_code, answer.json()["error"]) == (status, error)


def test_roasts_without_a_drop_or_of_two_machines_make_none(
    machine: Machine, roast: Roast, organization: Organization, lead: APIClient
) -> None:
    undropped = store_roast(machine, curve_of(faster=1.1), MARKS[:2], days=1)
    elsewhere = store_roast(machine_of(organization, "Other"), days=2)
    for other, error in ((undropped, "not_golden"), (elsewhere, "different_machines")):
        body = {"name": "X", "roast_ids": [roast.pk, other.pk]}
        assert lead.post("/v1/profiles", body, format="json").json()["error"] == error


def test_a_machine_follows_a_profile_until_it_is_put_away(
    machine: Machine, roast: Roast, lead: APIClient, operator: APIClient
) -> None:
    version = made_profile(lead, [roast])
    path = f"/v1/machines/{machine.pk}/profile"
    answer = operator.post(path, {"version_id": version["version_id"]})
    assert answer.json() == {"machine_id": machine.pk, "profile_version_id": version["version_id"]}
    lead.post(f"/v1/profiles/{version['profile_id']}/archive", {"is_archived": True})
    assert operator.post(path, {"version_id": version["version_id"]}).json()["error"] == "profile_archived"
    assert operator.post(path, {"version_id": None}, format="json").json()["profile_version_id"] is None
    assert Profile.objects.get().is_archived


def test_a_profile_of_another_machines_probe_is_not_followed(
    organization: Organization, roast: Roast, lead: APIClient, operator: APIClient
) -> None:
    version = made_profile(lead, [roast])
    other = machine_of(organization, "Other")
    answer = operator.post(f"/v1/machines/{other.pk}/profile", {"version_id": version["version_id"]})
    assert answer.status_code == 422 and answer.json()["error"] == "other_machines_profile"


def test_which_profile_a_closed_roast_followed_is_a_correction(
    roast: Roast, lead: APIClient, operator: APIClient
) -> None:
    version = made_profile(lead, [roast])
    path = f"/v1/roasts/{roast.pk}/profile"
    assert operator.post(path, {"version_id": version["version_id"]}).status_code == 200
    assert operator.post(path, {"version_id": None}, format="json").json()["error"] == "reason_needed"
    gone = operator.post(path, {"version_id": None, "reason": "it did not"}, format="json")
    assert gone.json()["profile_version_id"] is None
    assert roast.corrections.filter(field="profile_version_id").count() == 2


# --- who may


ADDRESSES = ["/summary", "/curve", "/qc-notes", "/corrections"]


def test_another_organisation_finds_nothing(roast: Roast, lead: APIClient, people: Any, signed_in: Any) -> None:
    version = made_profile(lead, [roast])
    stranger = signed_in(people.stranger)
    for path in ADDRESSES:
        assert stranger.get(f"/v1/roasts/{roast.pk}{path}").status_code == 404
    for path in ("", "/versions/1"):
        assert stranger.get(f"/v1/profiles/{version['profile_id']}{path}").status_code == 404
    assert stranger.get("/v1/profiles").json()["results"] == []
    assert stranger.get("/v1/comparison", {"ids": f"{roast.pk},x"}).status_code == 404
    assert stranger.post("/v1/profiles", {"name": "T", "roast_ids": [roast.pk]}, format="json").status_code == 404
    own = machine_of(people.stranger_organization)
    body = {"version_id": version["version_id"]}
    assert stranger.post(f"/v1/machines/{own.pk}/profile", body).status_code == 404


def test_a_viewer_looks_an_operator_notes_and_a_lead_makes_profiles(
    roast: Roast, people: Any, signed_in: Any, operator: APIClient
) -> None:
    viewer = signed_in(people.viewer)
    for path in ADDRESSES:
        assert viewer.get(f"/v1/roasts/{roast.pk}{path}").status_code == 200
    assert viewer.post(f"/v1/roasts/{roast.pk}/qc-notes", {"text": "x"}).status_code == 403
    assert viewer.post(f"/v1/roasts/{roast.pk}/corrections", {"bean": "x"}).status_code == 403
    assert operator.post("/v1/profiles", {"name": "T", "roast_ids": [roast.pk]}, format="json").status_code == 403


def test_an_agent_reads_and_writes_nothing(roast: Roast, agent: Any, api_by_key: Any) -> None:
    caller = api_by_key(agent=agent, scopes=["read", "propose"])
    # A key from before agents' scopes were bounded.
    ApiKey.objects.filter(agent=agent).update(scopes=["read", "propose", "operate", "lead"])
    assert caller.get(f"/v1/roasts/{roast.pk}/summary").status_code == 200
    assert caller.post(f"/v1/roasts/{roast.pk}/qc-notes", {"text": "x"}).status_code == 403


def test_the_curve_of_a_reading_called_stale_is_no_value(roast: Roast, operator: APIClient) -> None:
    from roasts.models import Sample

    Sample.objects.create(
        roast=roast,
        elapsed_ms=599_500,
        sequence=9999,
        at=roast.started_at + dt.timedelta(seconds=600),
        state="roasting",
        bean_temp_c=5.0,
        quality={"bean_temp_c": "stale"},
    )
    body = operator.get(f"/v1/roasts/{roast.pk}/curve").json()
    assert body["elapsed_s"][-1] == 599.5 and body["columns"]["bean_temp_c"][-1] is None
