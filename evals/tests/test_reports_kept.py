"""Reports as they are kept: written when a roast closes, versioned when something changes, never rewritten."""

from __future__ import annotations

import datetime as dt

import pytest
from django.db import DatabaseError, transaction
from django.test import Client

from commands.tests.rows import AT, machine_row, organization_row, person_row
from commands.tests.test_outlook import golden
from evals import material, services, tasks
from evals.models import RoastReport
from kernel import clock, keys
from kernel.principals import for_user
from roasts.library import profile
from roasts.models import Profile, ProfileVersion, QcNote, Roast, RoastCorrection, RoastEvent, Sample

pytestmark = pytest.mark.django_db


def closed_roast(
    name: str = "Bullet", slug: str = "demo", ended_ago_s: float = 60.0, status: str = "finished"
) -> Roast:
    """Eight minutes with a turning point, a person's first crack and the machine's drop."""
    now = clock.now()
    machine = machine_row(name, slug)
    roast = Roast.objects.create(
        organization=machine.organization,
        machine=machine,
        title="Kenya <i>AA</i>",
        started_at=now - dt.timedelta(seconds=600 + ended_ago_s),
        device_start_ms=0,
        weight_in_g=400,
    )
    Sample.objects.bulk_create(
        Sample(
            roast=roast,
            elapsed_ms=second * 1000,
            sequence=second + 1,
            at=AT + dt.timedelta(seconds=second),
            state="roasting",
            bean_temp_c=150.0 - second if second < 50 else 100.0 + 0.23 * (second - 50),
            infrared_temp_c=180.0,
            heater_step=7 if second < 300 else 5,
            fan_step=2,
            drum_step=9,
        )
        for second in range(0, 500, 2)
    )
    for kind, at_s, source in (("charge", 0, "device"), ("first_crack_start", 400, "person"), ("drop", 490, "device")):
        RoastEvent.objects.create(roast=roast, kind=kind, elapsed_ms=at_s * 1000, source=source, at=AT)
    Roast.objects.filter(pk=roast.pk).update(status=status, ended_at=now - dt.timedelta(seconds=ended_ago_s))
    return Roast.objects.select_related("machine", "organization").get(pk=roast.pk)


def write(roast: Roast, reason: str = "test") -> tuple[RoastReport, bool]:
    principal = for_user(person_row(f"op{RoastReport.objects.count()}-{clock.now().timestamp()}", "operator"))
    return services.write_report(principal, roast, material=material.gather(roast), reason=reason, now=clock.now())


def session(role: str = "operator", slug: str = "demo") -> Client:
    client = Client()
    client.force_login(person_row(f"{role}-{slug}", role, slug=slug))
    return client


def test_a_closed_roast_gets_its_report_by_itself_and_only_once() -> None:
    roast = closed_roast()
    assert tasks.write_due_reports() == 1
    assert tasks.write_due_reports() == 0
    document = RoastReport.objects.get().document
    assert document["summary"]["development_ratio"] == pytest.approx(90 / 490, abs=0.001)
    assert document["roast"]["roast_id"] == roast.pk
    assert [e["kind"] for e in document["events"]] == ["charge", "first_crack_start", "drop"]
    assert len(document["curve"]["elapsed_s"]) == 250


@pytest.mark.parametrize(("ended_ago_s", "status", "written"), [(6 * 3600 + 60, "finished", 0), (60, "roasting", 0)])
def test_old_stock_and_open_roasts_are_left_alone(ended_ago_s: float, status: str, written: int) -> None:
    closed_roast(ended_ago_s=ended_ago_s, status=status)
    assert tasks.write_due_reports() == written


def test_nothing_new_is_no_new_version_and_a_note_is_one() -> None:
    roast = closed_roast()
    first, is_new = write(roast)
    assert is_new and first.version == 1
    assert write(roast) == (first, False)
    QcNote.objects.create(roast=roast, author=person_row("cupper", "operator"), text="bright", created_at=AT)
    second, is_new = write(roast)
    assert is_new and second.version == 2
    assert first.document["qc"] == [] and second.document["qc"][0]["text"] == "bright"


def test_the_database_itself_keeps_a_report_as_it_was_written() -> None:
    written, _ = write(closed_roast())
    for attempt in (
        lambda: RoastReport.objects.filter(pk=written.pk).update(reason="other"),
        lambda: RoastReport.objects.filter(pk=written.pk).delete(),
    ):
        with pytest.raises(DatabaseError), transaction.atomic():
            attempt()
    assert RoastReport.objects.get().reason == "test"


def test_the_api_writes_lists_and_reads_reports_of_ones_own_organisation_alone() -> None:
    roast = closed_roast()
    plain = keys.create_key(
        organization_row(), scopes=["operate"], user=person_row("anna", "operator"), now=clock.now()
    )[1]
    anna = Client(headers={"Authorization": f"Bearer {plain}"})
    path = f"/v1/roasts/{roast.pk}/reports"
    written = anna.post(path, {}, content_type="application/json")
    assert written.status_code == 201 and written.json()["version"] == 1
    assert anna.post(path, {}, content_type="application/json").status_code == 200
    report_id = written.json()["report_id"]
    assert [row["report_id"] for row in anna.get(path).json()["results"]] == [report_id]
    assert anna.get(f"/v1/reports/{report_id}").json()["digest"] == written.json()["digest"]
    other = keys.create_key(
        organization_row("other"), scopes=["operate"], user=person_row("eve", "lead", slug="other"), now=clock.now()
    )[1]
    eve = Client(headers={"Authorization": f"Bearer {other}"})
    assert eve.get(path).status_code == eve.get(f"/v1/reports/{report_id}").status_code == 404
    assert eve.post(path, {}, content_type="application/json").status_code == 404


def test_a_printed_report_says_what_was_tasted_measured_and_corrected_in_words() -> None:
    roast = closed_roast()
    anna = person_row("anna", "operator")
    made = Profile.objects.create(organization=roast.organization, name="House gold", created_at=AT)
    document = profile.to_json(golden())
    version = ProfileVersion.objects.create(profile=made, version=3, document=document, digest="d", created_at=AT)
    for field, value in (("colour_whole", 78.4), ("profile_version_id", version.pk)):
        RoastCorrection.objects.create(
            roast=roast, field=field, old_value=None, new_value=value, corrected_by=anna, reason="later", at=AT
        )
        Roast.objects.filter(pk=roast.pk).update(**{field: value})
    QcNote.objects.create(roast=roast, author=anna, attributes={"sweetness": 8.5}, colour_ground=91.5, created_at=AT)
    roast.refresh_from_db()
    write(roast)
    client = Client()
    client.force_login(anna)
    page = client.get(f"/reports/{roast.pk}/").content.decode()
    for words in ("Sweetness 8.5", "91.5", "78.4", "Colour, whole: nothing", "House gold, version 3"):
        assert words in page
    assert version.pk not in page


def test_an_open_roast_has_no_report_yet() -> None:
    roast = closed_roast(status="roasting")
    plain = keys.create_key(
        organization_row(), scopes=["operate"], user=person_row("anna", "operator"), now=clock.now()
    )[1]
    answer = Client(headers={"Authorization": f"Bearer {plain}"}).post(
        f"/v1/roasts/{roast.pk}/reports", {}, content_type="application/json"
    )
    assert (answer.status_code, answer.json()["error"]) == (409, "roast_open")


def test_the_page_shows_the_report_escapes_names_and_prints_a_qr_code() -> None:
    roast = closed_roast()
    client = session()
    assert "No report has been written" in client.get(f"/reports/{roast.pk}/").content.decode()
    shown = client.post(f"/reports/{roast.pk}/", follow=True)
    page = shown.content.decode()
    assert "Kenya &lt;i&gt;AA&lt;/i&gt;" in page and "<i>AA</i>" not in page
    assert 'class="qr"' in page and "report-curve" in page and "8:10" in page
    assert "style=" not in page


def test_an_older_version_says_that_it_is_not_the_newest() -> None:
    roast = closed_roast()
    write(roast)
    QcNote.objects.create(roast=roast, author=person_row("cupper", "operator"), text="bright", created_at=AT)
    write(roast)
    client = session()
    assert "not the newest" in client.get(f"/reports/{roast.pk}/?version=1").content.decode()
    assert "not the newest" not in client.get(f"/reports/{roast.pk}/").content.decode()


@pytest.mark.parametrize("version", ["3", "0", "x", "1e9", "-1", "²", "99999999999999999999"])
def test_a_version_that_is_not_there_is_a_page_not_found(version: str) -> None:
    roast = closed_roast()
    write(roast)
    assert session().get(f"/reports/{roast.pk}/", {"version": version}).status_code == 404


def test_the_page_of_another_organisation_is_not_there_and_a_viewer_writes_none() -> None:
    roast = closed_roast()
    assert session("lead", "other").get(f"/reports/{roast.pk}/").status_code == 404
    assert session("viewer").post(f"/reports/{roast.pk}/").status_code == 403
