"""Files become roasts of the record: once each, whole, known again, exported as they came."""

from __future__ import annotations

import dataclasses
import datetime as dt
import io
import json
import multiprocessing
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from rest_framework.test import APIClient

from conftest import People
from kernel.errors import ApiError, Forbidden
from kernel.models import AuditEntry, Organization
from roasts.alog import read_alog
from roasts.curve import first_of
from roasts.files import exporting, import_rows, importing, services_imports
from roasts.formats.imported import MAX_FILE_BYTES, Metadata
from roasts.formats.reading import read_roast
from roasts.formats.writing import FORMATS, write_roast
from roasts.management.commands import exportroast
from roasts.models import ImportedFile, Machine, Roast, RoastEvent, Sample
from roasts.recording import sample_rows
from roasts.recording.sample_rows import SampleColumns
from roasts.store import stored_curve, summaries
from roasts.tests import real_logs
from roasts.tests.test_alog import small

pytestmark = pytest.mark.django_db
NOW = dt.datetime(2026, 11, 21, 12, 0, tzinfo=dt.UTC)


def file_of(**changes: Any) -> bytes:
    """A small Bullet's log."""
    rows = 10
    log: dict[str, Any] = {
        "title": "Gesha", "roastepoch": 1_772_934_297, "roasttzoffset": -32_400, "weight": [400.0, 344.0, "g"],
        "extradevices": [84, 85, 87, 50], "extratimex": [[float(s) for s in range(rows)]] * 4,
        "extratemp1": [[70.0] * rows, [1.5] * rows, [6.0] * rows, [300.0] * rows],
        "extratemp2": [[20.0] * rows, [90.0] * rows, [900.0] * rows, [-1.0] * rows],
        "extraname1": ["", "", "", "Inlet"], "specialevents": [4], "specialeventstype": [4],
        "specialeventsvalue": [0.0], "specialeventsStrings": ["smoke"], "externalprogram": "/bin/sh",
    }  # fmt: skip
    return repr(small(**(log | changes))).encode()


def import_one(people: People, data: bytes, **changes: Any) -> importing.Filed:
    given: dict[str, Any] = {"file_name": "one.alog", "now": NOW} | changes
    return importing.import_file(people.principal("operator"), data, **given)


def test_a_file_becomes_a_finished_roast_with_samples_marks_and_summary(people: People) -> None:
    filed = import_one(people, file_of())
    roast = Roast.objects.get(pk=filed.roast.pk)
    assert (roast.status, roast.source, roast.title, roast.weight_in_g) == ("finished", "imported", "Gesha", 400.0)
    assert roast.source_digest == importing.digest_of(file_of())
    assert roast.started_at == dt.datetime.fromtimestamp(1_772_934_297 + 2, dt.UTC)  # the charge, not the recording
    assert roast.summary is not None and roast.total_ms == 6_000
    samples = list(roast.samples.order_by("elapsed_ms"))
    assert [sample.elapsed_ms for sample in samples] == [-2_000 + 1_000 * row for row in range(10)]
    assert (samples[0].bean_temp_c, samples[0].environment_temp_c, samples[0].heater_step) == (100.0, 200.0, 7)
    assert (samples[3].machine_rate_c_per_min, samples[3].drum_step, samples[3].fan_rpm) == (1.5, 9, 900)
    assert samples[3].state == "roasting" and samples[3].voltage_v is None
    assert samples[3].at == roast.started_at + dt.timedelta(seconds=1)
    marks = {(event.kind, event.elapsed_ms, event.text) for event in roast.events.all()}
    assert marks == {("charge", 0, ""), ("first_crack_start", 4_000, ""), ("drop", 6_000, ""), ("note", 2_000, "smoke")}
    assert AuditEntry.objects.filter(verb="roast_imported", subject_id=roast.pk).count() == 1
    assert any("externalprogram" in line for line in filed.file.dropped)


def test_the_summary_is_what_counting_the_stored_roast_again_gives(people: People) -> None:
    for data in (file_of(), file_of(mode="F"), real_logs.need_logs()[3].read_bytes()):
        roast = Roast.objects.get(pk=import_one(people, data).roast.pk)
        again = summaries.summary_to_json(summaries.count(roast))
        assert {name: value for name, value in (roast.summary or {}).items() if name != "counted_at"} == again


def test_the_same_bytes_come_in_once_and_the_first_is_named(people: People) -> None:
    first = import_one(people, file_of())
    again = import_one(people, file_of(), file_name="copy.alog")
    assert again.is_duplicate and again.roast.pk == first.roast.pk and again.file.file_name == "one.alog"
    assert Roast.objects.count() == 1 and Sample.objects.count() == 10


def test_two_organisations_may_hold_the_same_file(people: People) -> None:
    import_one(people, file_of())
    other = importing.import_file(people.principal("stranger"), file_of(), file_name="x", now=NOW)
    assert not other.is_duplicate and other.roast.organization == people.stranger_organization


def test_an_edited_copy_of_a_roast_comes_in_with_a_warning(people: People) -> None:
    import_one(people, file_of())
    edited = import_one(people, file_of(title="Gesha, edited"))
    assert any("very same moment" in line for line in edited.file.warnings)


def test_a_file_without_a_date_takes_the_time_of_the_import_and_says_so(people: People) -> None:
    filed = import_one(people, file_of(roastepoch=None, roasttzoffset=None))
    assert filed.roast.started_at == NOW
    assert any("time of the import" in line for line in filed.file.warnings)


def test_an_unreadable_file_leaves_nothing_behind(people: People) -> None:
    with pytest.raises(ApiError) as caught:
        import_one(people, b"{'timex': [1,")
    assert caught.value.status == 422 and caught.value.how_to_fix
    assert not Roast.objects.exists() and not Machine.objects.exists()


def test_who_may_not_operate_imports_nothing(people: People) -> None:
    with pytest.raises(Forbidden):
        importing.import_file(people.principal("viewer"), file_of(), file_name="x", now=NOW)


def test_roasts_of_no_machine_here_go_to_one_that_nobody_tends(people: People) -> None:
    filed = import_one(people, file_of())
    machine = filed.roast.machine
    assert (machine.name, machine.is_remote, machine.is_archived) == ("Imported", True, True)
    assert import_one(people, file_of(title="b")).roast.machine_id == filed.roast.machine_id


def test_what_came_with_a_file_is_written_once(people: People) -> None:
    filed = import_one(people, file_of())
    with pytest.raises(IntegrityError), transaction.atomic():
        ImportedFile.objects.filter(pk=filed.roast.pk).update(file_name="other")


def test_a_stored_roast_is_exported_as_it_came(people: People) -> None:
    data = file_of(flavors=[7.0, 8.0], alarmaction=[1], alarmstrings=["rm"])
    came = read_alog(data)
    back = exporting.load_roast(import_one(people, data).roast)
    assert back.metadata == came.metadata
    for name in ("elapsed_s", "bean_temp_c", "environment_temp_c", "heater_step", "fan_step", "drum_step", "fan_rpm"):
        np.testing.assert_array_equal(getattr(back.curve, name), getattr(came.curve, name), err_msg=name)
    assert back.curve.state == came.curve.state
    assert back.special_events == came.special_events and back.computed == came.computed
    assert back.carried["flavors"] == [7.0, 8.0] and "alarmaction" not in back.carried
    by_name = {channel.name: channel.values for channel in back.channels}
    for channel in came.channels:
        np.testing.assert_array_equal(by_name[channel.name], channel.values, err_msg=channel.name)
    for name in FORMATS:
        assert write_roast(back, name)


def test_a_real_roast_comes_out_of_the_store_as_it_went_in(people: People) -> None:
    path = real_logs.need_logs()[10]
    came = read_alog(path.read_bytes())
    roast = import_one(people, path.read_bytes(), file_name=path.name).roast
    back = read_roast(write_roast(exporting.load_roast(roast), "alog"))
    np.testing.assert_allclose(back.curve.elapsed_s, came.curve.elapsed_s, atol=0.0005)
    np.testing.assert_array_equal(back.curve.bean_temp_c, came.curve.bean_temp_c)
    np.testing.assert_array_equal(back.curve.infrared_temp_c, came.curve.infrared_temp_c)
    assert back.curve.dry_end_c == came.curve.dry_end_c == stored_curve.load_curve(roast).dry_end_c
    assert [mark.kind for mark in back.marks] == [mark.kind for mark in came.marks]
    assert first_of(back.marks, "drop") == pytest.approx(first_of(came.marks, "drop"), abs=0.001)
    assert back.metadata == came.metadata


def test_an_area_that_began_at_a_timer_is_artisans_wherever_the_roast_is_shown(people: People) -> None:
    logs = ((path, read_alog(path.read_bytes())) for path in real_logs.need_logs())
    path, came = next((path, log) for path, log in logs if log.curve.area_from_s is not None)
    roast = import_one(people, path.read_bytes(), file_name=path.name).roast
    assert round(roast.summary["auc_c_min"]) == came.computed["AUC"]
    assert roast.summary["auc_from"] == "where_the_source_began"
    lead = client(people, "lead")
    address = f"/v1/roasts/{roast.pk}/summary"
    assert lead.get(address).json()["auc_c_min"] == roast.summary["auc_c_min"]
    turned = lead.get(address, {"auc_from": "turning_point"}).json()
    assert turned["auc_from"] == "turning_point" and turned["auc_c_min"] > roast.summary["auc_c_min"]
    assert "from: where the source began" in lead.get(f"/roasts/{roast.pk}/").content.decode()
    for name in ("alog", "json", "ndjson"):
        back = read_roast(write_roast(exporting.load_roast(roast), name))
        assert back.curve.area_from_s == pytest.approx(came.curve.area_from_s, abs=0.001), name


def test_a_title_that_somebody_corrected_is_exported_and_a_cut_one_is_whole(people: People) -> None:
    filed = import_one(people, file_of(title="long " * 100))
    assert exporting.load_roast(filed.roast).metadata.title == ("long " * 100)
    filed.roast.title = "Corrected"
    assert exporting.load_roast(filed.roast).metadata.title == "Corrected"


# --- rows


def test_rows_beyond_what_a_column_holds_become_null_and_no_error(people: People) -> None:
    data = file_of(
        extratemp1=[[1e9] * 10, [1.5] * 10, [6.0] * 10, [300.0] * 10],
        extratemp2=[[20.0] * 10, [90.0] * 10, [1e14] * 10, [-1.0] * 10],
    )
    sample = import_one(people, data).roast.samples.first()
    assert sample is not None and sample.heater_step is None and sample.fan_rpm is None


def test_readings_within_one_millisecond_are_one_row(people: People) -> None:
    filed = import_one(people, file_of(timex=[0.0, 0.0001, 0.0002, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]))
    assert filed.samples == 8 and Sample.objects.count() == 8


def test_a_binary_copy_holds_what_rows_inserted_one_by_one_hold(people: People) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("COPY is PostgreSQL's; the suite runs this a second time there")
    filed = import_one(people, file_of())
    roast = filed.roast
    columns = import_rows.sample_columns(roast.pk, roast.started_at, read_alog(file_of()))
    copied: list[Any] = list(roast.samples.order_by("elapsed_ms").values())
    for mine, theirs in zip(copied, services_imports._rows(columns), strict=True):
        assert {name: getattr(theirs, name) for name in mine} == mine


@pytest.mark.parametrize("missing_share", [0.0, 0.01, 0.5])
def test_rows_cut_in_runs_are_the_rows_cut_cell_by_cell(missing_share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = np.random.default_rng(7)
    temps = np.where(chance.random(500) < missing_share, np.nan, 100.5)
    columns = SampleColumns(
        "rst_1", NOW, np.arange(500), ["off"] * 100 + ["roasting"] * 400, {"bean_temp_c": temps}, {}, {}, None
    )
    by_runs = sample_rows.binary_copy(columns)
    monkeypatch.setattr(sample_rows, "MAX_RUNS", 0)
    assert sample_rows.binary_copy(columns) == by_runs
    monkeypatch.setattr(sample_rows, "MAX_RUNS", 1_000)
    assert sample_rows.binary_copy(columns) == by_runs


def test_a_bulk_import_files_what_it_can_and_answers_each_in_order(people: People) -> None:
    files = [(f"{n}.alog", file_of(title=f"roast {n}")) for n in range(importing.BATCH_FILES + 2)]
    files[3] = ("bad.alog", b"rubbish")
    files[9] = ("again.alog", files[0][1])
    found = list(importing.import_files(people.principal("operator"), files, now=NOW))
    assert len(found) == len(files) and isinstance(found[3], ApiError)
    filed = [each for each in found if not isinstance(each, ApiError)]
    assert [each.is_duplicate for each in filed] == [False] * 8 + [True]
    assert Roast.objects.count() == 8 and Sample.objects.count() == 80


def test_what_a_process_reads_ahead_is_told_as_if_it_were_read_here(people: People) -> None:
    files = [(f"{n}.alog", file_of(title=f"roast {n}")) for n in range(importing.BATCH_FILES + 3)]
    files[importing.BATCH_FILES] = ("bad.alog", b"rubbish")
    found = list(importing.import_files(people.principal("operator"), files, now=NOW))
    with pytest.raises(ApiError) as here:
        importing.read_file(b"rubbish")
    told = found[importing.BATCH_FILES]
    assert isinstance(told, ApiError) and told.body() == here.value.body()
    kinds = [importing.describe(each) for each in found if not isinstance(each, ApiError)]
    assert kinds[0]["understood"] == kinds[-1]["understood"] and kinds[0]["samples"] == kinds[-1]["samples"] == 10
    assert not multiprocessing.active_children()


def test_files_are_read_here_where_the_process_that_reads_ahead_is_gone(people: People) -> None:
    files = [(f"{n}.alog", file_of(title=f"roast {n}")) for n in range(3 * importing.BATCH_FILES)]
    outcomes = importing.import_files(people.principal("operator"), files, now=NOW)
    found = [next(outcomes)]
    for child in multiprocessing.active_children():
        child.kill()
    found += outcomes
    assert [isinstance(each, ApiError) for each in found] == [False] * len(files)
    assert Roast.objects.count() == len(files)


def test_the_binary_copy_is_postgresqls_format_to_the_byte() -> None:
    columns = SampleColumns(
        roast_id="r", started_at=sample_rows.POSTGRES_EPOCH, elapsed_ms=np.array([1, 2]), state=["off", "é"],
        temperatures={"bean_temp_c": np.array([1.5, np.nan])}, smalls={"fan_step": np.array([3.0, 40_000.0])},
        wholes={"fan_rpm": np.array([np.nan, 7.0])}, extras=['{"0":1}', ""],
    )  # fmt: skip
    first = bytes.fromhex(
        "000a" "00000001" "72" "00000004" "00000001" "00000008" "0000000000000001" "00000008" "00000000000003e8"
        "00000003" "6f6666" "00000003" "017b7d" "00000008" "017b2230223a317d" "00000008" "3ff8000000000000"
        "00000002" "0003" "ffffffff"
    )  # fmt: skip
    second = bytes.fromhex(
        "000a" "00000001" "72" "00000004" "00000002" "00000008" "0000000000000002" "00000008" "00000000000007d0"
        "00000002" "c3a9" "00000003" "017b7d" "ffffffff" "ffffffff" "ffffffff" "00000004" "00000007"
    )  # fmt: skip
    assert sample_rows.binary_copy(columns) == sample_rows.HEADER + first + second + sample_rows.TRAILER


# --- API and page


def client(people: People, name: str) -> APIClient:
    made = APIClient()
    made.force_login(getattr(people, name))
    return made


def upload(data: bytes, name: str = "one.alog") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, data)


def test_the_api_takes_a_form_and_answers_a_second_time_with_the_first(people: People) -> None:
    api = client(people, "operator")
    answer = api.post("/v1/imports", {"file": upload(file_of())}, format="multipart")
    assert answer.status_code == 201, answer.content
    told = answer.json()
    assert told["status"] == "imported" and told["samples"] == 10 and told["format"] == "alog"
    again = api.post("/v1/imports", {"file": upload(file_of(), "other.alog")}, format="multipart")
    assert again.status_code == 200 and again.json()["status"] == "duplicate"
    assert again.json()["roast_id"] == told["roast_id"] and again.json()["file_name"] == "one.alog"


def test_the_api_takes_the_bytes_themselves_and_the_machine_by_name_of_the_address(people: People, site: Any) -> None:
    machine = Machine.objects.create(
        organization=site.organization, site=site, name="Mine", driver_kind="bullet-r1", created_at=NOW
    )
    api = client(people, "operator")
    answer = api.post(
        f"/v1/imports?file_name=a.alog&machine_id={machine.pk}", file_of(), content_type="application/octet-stream"
    )
    assert answer.status_code == 201 and answer.json()["machine_id"] == machine.pk
    assert answer.json()["file_name"] == "a.alog"


@pytest.mark.parametrize(
    ("form", "status", "code"),
    [
        ({}, 400, "one_file_wanted"),
        ({"file": b"rubbish"}, 422, "unknown_format"),
        ({"file": b"{'timex': [1,"}, 422, "unreadable_alog"),
        ({"file": repr(small(timex=[1.0])).encode()}, 422, "no_curve"),
        ({"file": b"{}", "machine_id": "mch_none"}, 400, "machine_not_found"),
        ({"file": b"{}", "colour": "red"}, 400, "unknown_field"),
    ],
)
def test_refusals_say_what_to_do(people: People, form: dict[str, Any], status: int, code: str) -> None:
    sent = {name: upload(value) if isinstance(value, bytes) else value for name, value in form.items()}
    answer = client(people, "operator").post("/v1/imports", sent, format="multipart")
    assert (answer.status_code, answer.json()["error"]) == (status, code)
    assert answer.json()["message"]


def test_a_body_beyond_the_limit_is_refused_by_its_length(people: People) -> None:
    api = client(people, "operator")
    answer = api.post("/v1/imports", b"x", content_type="application/octet-stream", CONTENT_LENGTH=MAX_FILE_BYTES * 2)
    assert (answer.status_code, answer.json()["error"]) == (413, "file_too_large")
    whole = api.post("/v1/imports", b"{" + b" " * MAX_FILE_BYTES, content_type="application/octet-stream")
    assert whole.status_code == 413


def test_viewers_strangers_and_the_signed_out_import_and_export_nothing(people: People) -> None:
    roast = import_one(people, file_of()).roast
    sent = {"file": upload(file_of(title="b"))}
    assert client(people, "viewer").post("/v1/imports", sent, format="multipart").status_code == 403
    assert APIClient().post("/v1/imports", {"file": upload(b"{}")}, format="multipart").status_code == 401
    assert client(people, "viewer").get(f"/v1/roasts/{roast.pk}/export?format=alog").status_code == 200
    assert client(people, "stranger").get(f"/v1/roasts/{roast.pk}/export?format=alog").status_code == 404
    assert APIClient().get(f"/v1/roasts/{roast.pk}/export").status_code == 401


@pytest.mark.parametrize("name", list(FORMATS))
def test_every_export_is_a_download_that_cannot_be_taken_for_a_page(people: People, name: str) -> None:
    roast = import_one(people, file_of(title="<script>é/../x\r\nSet-Cookie: a=b")).roast
    answer = client(people, "viewer").get(f"/v1/roasts/{roast.pk}/export?format={name}")
    assert answer.status_code == 200 and len(answer.content) > 100
    assert (
        answer["Content-Disposition"]
        == f'attachment; filename="2026-03-08_0144_script-x-set-cookie-a-b{FORMATS[name].suffix}"'
    )
    assert answer["X-Content-Type-Options"] == "nosniff"


def test_an_unknown_format_names_those_there_are(people: People) -> None:
    roast = import_one(people, file_of()).roast
    answer = client(people, "viewer").get(f"/v1/roasts/{roast.pk}/export?format=xls")
    assert answer.status_code == 400


def test_a_roast_without_readings_exports_nothing_and_says_so(people: People, site: Any) -> None:
    machine = Machine.objects.create(
        organization=site.organization, site=site, name="Mine", driver_kind="bullet-r1", created_at=NOW
    )
    roast = Roast.objects.create(
        organization=site.organization, machine=machine, status="finished", started_at=NOW, device_start_ms=0
    )
    answer = client(people, "viewer").get(f"/v1/roasts/{roast.pk}/export")
    assert (answer.status_code, answer.json()["error"]) == (422, "nothing_to_export")


def test_the_import_page_shows_what_came_and_lets_only_operators_drop(people: People) -> None:
    import_one(people, file_of(), file_name="<b>x</b>.alog")
    page = client(people, "operator").get("/roasts/import/")
    assert page.status_code == 200
    text = page.content.decode()
    assert 'id="drop"' in text and "b&gt;.alog" in text and "<b>x" not in text
    assert 'id="drop"' not in client(people, "viewer").get("/roasts/import/").content.decode()
    assert APIClient().get("/roasts/import/").status_code == 302


# --- commands


def test_the_command_imports_a_folder_and_names_what_came_before(
    people: People, organization: Organization, tmp_path: Path
) -> None:
    (tmp_path / "a.alog").write_bytes(file_of())
    (tmp_path / "b.ALOG").write_bytes(file_of(title="b"))
    (tmp_path / "readme.txt").write_text("no roast")
    out = io.StringIO()
    call_command("importroasts", str(tmp_path), "--organization", organization.slug, stdout=out)
    assert "2 imported, 0 came before, 0 refused" in out.getvalue()
    again = io.StringIO()
    call_command("importroasts", str(tmp_path / "a.alog"), "--organization", organization.slug, stdout=again)
    assert "came before" in again.getvalue() and Roast.objects.count() == 2
    assert RoastEvent.objects.filter(kind="drop").count() == 2


def test_the_command_goes_on_after_a_bad_file_and_ends_with_an_error(
    organization: Organization, people: People, tmp_path: Path
) -> None:
    (tmp_path / "a.alog").write_bytes(b"rubbish")
    (tmp_path / "b.alog").write_bytes(file_of())
    words = ["importroasts", str(tmp_path), "--organization", organization.slug]
    with pytest.raises(CommandError, match="1 files"):
        call_command(*words, stdout=io.StringIO(), stderr=io.StringIO())
    assert Roast.objects.count() == 1


def test_commands_refuse_wrong_words(organization: Organization, people: People, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="no organisation"):
        call_command("importroasts", str(tmp_path), "--organization", "dem")
    with pytest.raises(CommandError, match="no machine"):
        call_command("importroasts", str(tmp_path), "--organization", organization.slug, "--machine", "x")
    with pytest.raises(CommandError, match="There is no"):
        call_command("importroasts", str(tmp_path / "none"), "--organization", organization.slug)
    with pytest.raises(CommandError, match="no roast"):
        call_command("exportroast", "rst_none")


def test_exportroast_leaves_no_half_file_and_says_where_it_cannot_write(people: People, tmp_path: Path) -> None:
    roast = import_one(people, file_of()).roast
    for target in ("", str(tmp_path), str(tmp_path / "none" / "a.json")):
        with pytest.raises(CommandError, match="cannot be written"):
            call_command("exportroast", roast.pk, "--to", target)
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(OSError, match="No space"):
        (tmp_path / "half").write_bytes(b"")
        exportroast._write_whole(full, b"x" * 10, tmp_path / "half")
    assert not (tmp_path / "half").exists()


def test_exportroast_writes_a_new_file_and_never_over_an_old_one(people: People, tmp_path: Path) -> None:
    roast = import_one(people, file_of()).roast
    target = tmp_path / "out.alog"
    call_command("exportroast", roast.pk, "--format", "alog", "--to", str(target), stderr=io.StringIO())
    assert read_alog(target.read_bytes()).metadata.title == "Gesha"
    with pytest.raises(CommandError, match="cannot be written"):
        call_command("exportroast", roast.pk, "--to", str(target))


HOSTILE = {"a\0b": "\0c", "no number": float("nan"), "deep": [["\0", float("inf")], [{"\0": "\0"}]]}


def test_what_no_database_takes_is_left_out_of_what_came_with_an_artisan_log(people: People) -> None:
    filed = import_one(people, file_of(computed=HOSTILE | {"AUC": 3, "x\0": 1.5}, flavors=[float("nan")]))
    stored = ImportedFile.objects.get(pk=filed.roast.pk)
    assert "\\u0000" not in json.dumps([stored.computed, stored.carried], allow_nan=False)
    assert write_roast(exporting.load_roast(Roast.objects.get()), "json")


def test_what_no_database_takes_is_left_out_of_our_own_format_too(people: People) -> None:
    whole = json.loads(write_roast(read_roast(file_of()), "json"))
    whole |= {"computed": HOSTILE, "carried": HOSTILE, "special_events": [
        {"elapsed_s": 5.0, "kind": "\0", "value": float("nan"), "text": "\0"}]}  # fmt: skip
    whole["metadata"] |= {"title": "\0", "machine_name": "\0", "source_id": "\0", "roasting_notes": "a\0b"}
    whole["marks"] = [{**mark, "text": "\0"} for mark in whole["marks"]]
    filed = import_one(people, json.dumps(whole).encode())
    stored = ImportedFile.objects.get(pk=filed.roast.pk)
    told = [stored.computed, stored.carried, stored.special_events, stored.metadata]
    assert "\\u0000" not in json.dumps(told, allow_nan=False)
    assert write_roast(exporting.load_roast(Roast.objects.get()), "ndjson")


NASTY = ("a\0b", "\ud800", "x" * 5_000, "é🫘" * 300, -1.0, 0, 1e-9, 1e11, 1e15, True, "7", [])
WRITTEN_AS = sorted(set(FORMATS) - {"png", "svg"})


@pytest.mark.parametrize("value", NASTY, ids=lambda value: repr(value)[:20])
def test_whatever_stands_in_the_metadata_the_roast_is_filed_shown_and_written_again(people: People, value: Any) -> None:
    whole = json.loads(write_roast(read_alog(file_of()), "json"))
    names = [field.name for field in dataclasses.fields(Metadata)]
    whole["metadata"] = dict.fromkeys(names, value) | {"roasted_at": "2026-03-08T10:44:57+09:00"}
    roast = Roast.objects.get(pk=import_one(people, json.dumps(whole).encode(), file_name=f"{value}.json").roast.pk)
    assert roast.started_at.year == 2026
    for name in ("weight_in_g", "weight_out_g", "moisture_in_percent", "colour_whole"):
        assert getattr(roast, name) is None or 0 <= getattr(roast, name) <= 1_000_000
    for name in WRITTEN_AS:
        assert FORMATS[name].write(exporting.load_roast(roast))


@pytest.mark.parametrize("begin_s", [-1e14, -1e6, 1e6, 1e11, 1e14])
def test_a_log_whose_clock_begins_anywhere_is_filed_or_refused_in_words(people: People, begin_s: float) -> None:
    data = file_of(timex=[begin_s + second for second in range(10)])
    try:
        roast = import_one(people, data).roast
    except ApiError as error:
        assert error.status == 422 and error.how_to_fix
    else:
        assert 1979 < roast.started_at.year < 2101


@pytest.mark.parametrize(
    ("changes", "file_name", "title"),
    [
        ({"title": "Gesha"}, "26-03-08_gotiti_no24.alog", "Gesha"),
        ({"title": "Roaster Scope"}, "26-03-08_gotiti_no24.alog", "26-03-08 gotiti no24"),
        ({"title": ""}, "C:\\roasts\\sidamo.v2.alog", "sidamo.v2"),
        ({"title": "Roaster Scope", "roastbatchnr": 7, "roastbatchprefix": "no"}, "", "no7"),
        ({"title": "Roaster Scope", "beans": "Kenya", "roastbatchnr": 7, "roastbatchprefix": "no"}, "x.alog", "no7"),
        ({"title": "Roaster Scope", "beans": "Kenya"}, "x.alog", ""),
    ],
)
def test_a_roast_that_nobody_named_is_called_as_its_file_is(
    people: People, changes: dict[str, Any], file_name: str, title: str
) -> None:
    roast = Roast.objects.get(pk=import_one(people, file_of(**changes), file_name=file_name).roast.pk)
    assert roast.title == title
    written = read_alog(FORMATS["alog"].write(exporting.load_roast(roast)))
    assert written.metadata.title == ("Gesha" if title == "Gesha" else ""), "a borrowed name is not the file's own"


READER = """
import multiprocessing, os, sys, time
from concurrent.futures import ProcessPoolExecutor
from roasts.files.reader_process import end_with_parent
if __name__ == "__main__":
    spawned = multiprocessing.get_context("spawn")
    reader = ProcessPoolExecutor(max_workers=1, mp_context=spawned, initializer=end_with_parent)
    print(reader.submit(os.getpid).result(), flush=True)
    time.sleep(60)
"""


def test_the_process_that_reads_ahead_ends_with_an_importer_that_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "importer.py"
    program.write_text(READER)
    root = str(Path(importing.__file__).parents[2])
    importer = subprocess.Popen(
        [sys.executable, str(program)], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root}
    )
    assert importer.stdout is not None
    reader = int(importer.stdout.readline())
    importer.kill()
    # Its end of our pipe is the reader's, too: it closes when both are gone.
    selected, _, _ = select.select([importer.stdout], [], [], 20)
    assert selected and importer.stdout.read() == b""
    importer.wait()
    assert not Path(f"/proc/{reader}/cmdline").exists() or Path(f"/proc/{reader}/cmdline").read_bytes() == b""


def test_a_file_that_is_too_large_is_told_its_own_size(
    people: People, organization: Organization, tmp_path: Path
) -> None:
    with (tmp_path / "video.alog").open("wb") as file:
        file.truncate(50_000_000)
    told = io.StringIO()
    with pytest.raises(CommandError):
        call_command("importroasts", str(tmp_path), "--organization", organization.slug, stderr=told)
    assert "50.0 MB" in told.getvalue()
