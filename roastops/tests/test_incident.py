"""`manage.py incident`: what is in the bundle, what is not, and how it refuses."""

from __future__ import annotations

import datetime as dt
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import OperationalError, transaction

from commands import services
from commands.models import Alarm, Halt, Proposal
from commands.tests.rows import machine_row, organization_row, person_row
from kernel import audit, canonical, chain, clock, keys, sealer
from kernel.models import AuditEntry
from kernel.principals import for_user
from roastops.scrubbing import REMOVED, Scrubber
from roasts.models import Machine, Roast, RoastEvent, Sample

START = dt.datetime(2026, 11, 21, 7, 0, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)
SINCE, UNTIL = START + 10 * MINUTE, START + 20 * MINUTE
TIMES = {"since": "2026-11-21T07:10:00Z", "until": "2026-11-21T08:20:00+01:00"}


def bundle_of(out: Path, **options: Any) -> dict[str, Any]:
    """The bundle's files: name → lines (the manifest: as it is)."""
    call_command("incident", **{**TIMES, **options}, out=str(out), stdout=io.StringIO(), stderr=io.StringIO())
    with zipfile.ZipFile(out) as bundle:
        assert bundle.testzip() is None
        texts = {name: bundle.read(name).decode() for name in bundle.namelist()}
    files = {name: [json.loads(line) for line in text.splitlines()] for name, text in texts.items() if "jsonl" in name}
    return {**files, "manifest": json.loads(texts["manifest.json"]), "all": "".join(texts.values())}


def write_lines(path: Path, *lines: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))


def log_line(at: dt.datetime, message: str, **more: str) -> dict[str, str]:
    return {"at": at.isoformat(), "level": "INFO", "message": message, **more}


@pytest.fixture
def world(db: None, tmp_path: Path, settings: Any) -> dict[str, Any]:
    """Two machines of two organisations; before, in and after the window the same things happen to each."""
    settings.DATA_DIR, settings.RUN_DIR = tmp_path / "data", tmp_path / "data" / "run"
    settings.AUDIT_KEY_FILE = tmp_path / "data" / "audit-ed25519.key"
    settings.RUN_DIR.mkdir(parents=True)
    anna = person_row("anna", "operator")
    made: dict[str, Any] = {}
    for name, slug in (("Ours", "demo"), ("Theirs", "other")):
        machine = machine_row(name, slug)
        made[slug] = machine
        for minutes in (5, 15, 25):
            happen(machine, START + minutes * MINUTE, minutes)
        write_lines(
            settings.RUN_DIR / f"{machine.pk}.wire.jsonl",
            *({"t": canonical.utc_text(START + m * MINUTE), "dir": "out", "hex": f"34{m}"} for m in (5, 15, 25)),
            '{"t": "torn',
        )
    write_lines(
        settings.DATA_DIR / "logs" / "roastops.jsonl.1", log_line(START, "early"), log_line(SINCE, "first moment")
    )
    write_lines(
        settings.DATA_DIR / "logs" / "roastops.jsonl",
        log_line(SINCE + MINUTE, "of ours", machine_id=made["demo"].pk),
        "no JSON at all", '{"at": 5}', '["at"]',
        log_line(SINCE + MINUTE, "of theirs", machine_id=made["other"].pk),
        log_line(UNTIL, "too late"),
    )  # fmt: skip
    write_lines(settings.RUN_DIR / f"{made['demo'].pk}.keeper.log", log_line(SINCE, "holding"), "Traceback …")
    one = sealer.Sealer()
    while one.tick(START + 26 * MINUTE):
        continue
    return {**made, "anna": anna, "folder": tmp_path}


def happen(machine: Machine, at: dt.datetime, number: int) -> None:
    """An audit entry, an order that is refused, a roast with a sample and a mark, a halt and an alarm, all closed."""
    principal = for_user(
        person_row(f"p{number}{machine.organization.slug}", "operator", slug=machine.organization.slug)
    )
    services.propose_order(
        principal, machine=machine, order_type="SET_FAN", target_value=99, target_unit="step", reasoning=f"r{number}",
        now=at,
    )  # fmt: skip
    with transaction.atomic():
        audit.record(machine.organization, principal, "noted", "note", f"n{number}", {"minute": number}, now=at)
    whole = {"organization": machine.organization, "machine": machine}
    roast = Roast.objects.create(**whole, started_at=at, device_start_ms=0, status="finished", ended_at=at + MINUTE)
    Sample.objects.create(roast=roast, elapsed_ms=number, sequence=number, at=at, state="roasting")
    RoastEvent.objects.create(roast=roast, kind="note", elapsed_ms=number, source="person", at=at)
    Halt.objects.create(
        **whole, kind="stop", opened_at=at, opened_by_kind="person", opened_by_id="x", opened_by_name="x",
        closed_at=at + MINUTE,
    )  # fmt: skip
    Alarm.objects.create(
        **whole, code="test", cause="c", consequence="c", action="a", raised_at=at, cleared_at=at + MINUTE
    )


def test_the_bundle_has_what_happened_then_and_nothing_else(world: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "incident.zip"
    files = bundle_of(out)
    assert out.stat().st_mode & 0o077 == 0 and not list(tmp_path.glob(".*part"))
    assert [line["message"] for line in files["logs.jsonl"]] == ["first moment", "of ours", "of theirs", "holding"]
    assert [line["hex"] for line in files["wire.jsonl"]] == ["3415", "3415"]
    assert [order["reasoning"] for order in files["orders.jsonl"]] == ["r15", "r15"]
    assert [move["to_status"] for move in files["orders.jsonl"][0]["transitions"]] == ["PROPOSED", "REJECTED"]
    assert [sample["elapsed_ms"] for sample in files["samples.jsonl"]] == [15, 15]
    assert [roast["events"][0]["elapsed_ms"] for roast in files["roasts.jsonl"]] == [15, 15]
    assert len(files["halts.jsonl"]) == len(files["alarms.jsonl"]) == len(files["latest_readings.jsonl"]) == 2
    assert {entry["subject_id"] for entry in files["audit.jsonl"] if entry["verb"] == "noted"} == {"n15"}
    manifest = files["manifest"]
    assert (manifest["from"], manifest["to"]) == (canonical.utc_text(SINCE), canonical.utc_text(UNTIL))
    assert manifest["files"]["samples.jsonl"]["lines"] == 2 and manifest["problems"] == []


def test_what_still_stood_in_the_window_belongs_to_it(world: dict[str, Any], tmp_path: Path) -> None:
    Halt.objects.filter(opened_at=START + 5 * MINUTE).update(closed_at=SINCE)
    Alarm.objects.filter(raised_at=START + 5 * MINUTE, machine=world["demo"]).update(cleared_at=None)
    Proposal.objects.filter(proposed_at=START + 5 * MINUTE, machine=world["demo"]).update(settled_at=SINCE + MINUTE)
    files = bundle_of(tmp_path / "i.zip")
    assert [len(files[name]) for name in ("halts.jsonl", "alarms.jsonl", "orders.jsonl")] == [4, 3, 3]


def test_of_one_machine_only(world: dict[str, Any], tmp_path: Path) -> None:
    ours, theirs = world["demo"], world["other"]
    files = bundle_of(tmp_path / "i.zip", machine=ours.pk)
    assert [line["message"] for line in files["logs.jsonl"]] == ["first moment", "of ours", "holding"]
    for name in ("wire.jsonl", "orders.jsonl", "samples.jsonl", "roasts.jsonl", "halts.jsonl", "alarms.jsonl"):
        assert len(files[name]) == 1, name
    assert {entry["organization_id"] for entry in files["audit.jsonl"]} == {ours.organization_id}
    assert theirs.pk not in files["all"] and theirs.organization_id not in files["all"]


def test_the_audit_slice_can_be_followed_and_is_signed(world: dict[str, Any], tmp_path: Path) -> None:
    files = bundle_of(tmp_path / "i.zip", machine=world["demo"].pk)
    entries = files["audit.jsonl"]
    sequences = [entry["seal"]["sequence"] for entry in entries]
    assert len(entries) >= 2 and sequences == list(range(sequences[0], sequences[-1] + 1))
    previous = entries[0]["seal"]["previous_digest"]
    for entry in entries:
        fields = [entry[name] for name in (
            "organization_id", "id", "at", "actor_kind", "actor_id", "actor_name", "verb", "subject_kind",
            "subject_id", "payload_digest",
        )]  # fmt: skip
        assert canonical.digest_text(entry["payload"]) == entry["payload_digest"]
        assert entry["seal"]["previous_digest"] == previous
        assert chain.link_digest(entry["seal"]["sequence"], previous, chain.Link(*fields)) == entry["seal"]["digest"]
        previous = entry["seal"]["digest"]
    covering = files["checkpoints.jsonl"][-1]
    assert covering["sequence"] >= sequences[-1]
    statement = chain.checkpoint_statement(
        covering["organization_id"], covering["sequence"], covering["digest"], covering["at"]
    )
    assert chain.is_signed(covering["public_key"], covering["signature"], statement)


def test_no_secret_is_inside(world: dict[str, Any], tmp_path: Path, settings: Any) -> None:
    _key, plain = keys.create_key(organization_row(), scopes=["stop"], user=world["anna"], now=clock.now())
    (settings.RUN_DIR / "stop.key").write_text("ab" * 32)
    (settings.DATA_DIR / "secret.key").write_text("correct-horse-battery-staple")
    token = f"v1.{world['demo'].pk}.usr_1.1795000000.{'0f' * 32}"
    secrets = [plain, "ab" * 32, "correct-horse-battery-staple", token, "hunter2hunter2", settings.SECRET_KEY]
    secrets += ["s3cr3t-database", "sk-" + "ant-" + "x1" * 12, settings.AUDIT_KEY_FILE.read_bytes().hex()]
    told = [f"said {secret}" for secret in secrets] + [
        "postgresql://roast:s3cr3t-database@db/roastops", "Authorization: Bearer hunter2hunter2",
        "sessionid=hunter2hunter2;", f"-----BEGIN PRIVATE KEY-----\n{'MC4CAQ' * 5}\n", '{"password": "hunter2hunter2"}',
    ]  # fmt: skip
    told.remove("said hunter2hunter2")
    told.remove("said s3cr3t-database")
    write_lines(
        settings.DATA_DIR / "logs" / "roastops.jsonl",
        *(log_line(SINCE, text, machine_id=f"x {text}") for text in told),
        {**log_line(SINCE, "nested"), "detail": {"password": "hunter2hunter2", "token": 7, "list": [token]}},
    )
    write_lines(settings.RUN_DIR / f"{world['demo'].pk}.wire.jsonl", {"t": SINCE.isoformat(), "by": plain})
    services.propose_order(
        for_user(world["anna"]), machine=world["demo"], order_type="SET_FAN", target_value=99, target_unit="step",
        reasoning=f"my key is {plain}", now=SINCE,
    )  # fmt: skip
    files = bundle_of(tmp_path / "i.zip")
    for secret in [*secrets, "MC4CAQ"]:
        assert secret not in files["all"], secret
    assert files["all"].count(REMOVED) >= len(told)
    nested = next(line for line in files["logs.jsonl"] if line["message"] == "nested")
    assert nested["detail"] == {"password": REMOVED, "token": 7, "list": [REMOVED]}
    assert any(line["message"].startswith("postgresql://" + REMOVED + "@db") for line in files["logs.jsonl"])


def test_ordinary_words_are_left_alone() -> None:
    text = "order prp_01jd0000000000000000000000 of mch_test to 5: ro_ast, v1.0.2, bearer of news, https://a.b/c:d"
    assert Scrubber([]).text(text) == text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"since": "yesterday"}, "--from 'yesterday' is no ISO 8601 time"),
        ({"until": "2026-13-01T00:00:00Z"}, "--to '2026-13-01T00:00:00Z' is no ISO"),
        ({"since": "2026-11-21T07:10:00"}, "names no zone. Write 2026-11-21T07:10:00Z"),
        ({"since": TIMES["until"]}, "--from must lie before --to"),
        ({"since": "2026-01-01T00:00:00Z"}, "More than 31 days"),
        ({"machine": "mch_nobody"}, "There is no machine 'mch_nobody'. Known: mch_"),
        ({"machine": "Ours"}, "Did you mean mch_"),
        ({"since": "2020-01-01T00:00:00Z", "until": "2020-01-02T00:00:00Z"}, "Nothing is known from 2020-01-01T"),
    ],
)
def test_what_makes_no_sense_is_refused_and_leaves_no_file(
    world: dict[str, Any], tmp_path: Path, change: dict[str, str], words: str
) -> None:
    with pytest.raises(CommandError) as refused:
        bundle_of(tmp_path / "i.zip", **change)
    assert words in str(refused.value)
    assert refused.value.returncode == (1 if "Nothing" in words else 2)
    assert not list(tmp_path.glob("*.zip")) and not list(tmp_path.glob(".*.part"))


def test_a_file_that_exists_is_not_touched(world: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "i.zip"
    out.write_text("mine")
    with pytest.raises(CommandError, match="is there already"):
        bundle_of(out)
    assert out.read_text() == "mine"
    with pytest.raises(CommandError, match="is no folder"):
        bundle_of(tmp_path / "nowhere" / "i.zip")


def test_a_database_that_is_away_is_told_and_files_are_bundled_all_the_same(
    world: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db.models.sql.compiler import SQLCompiler

    def away(*_args: Any, **_more: Any) -> None:
        raise OperationalError("connection refused")

    with monkeypatch.context() as patch:
        patch.setattr(SQLCompiler, "execute_sql", away)
        files = bundle_of(tmp_path / "i.zip", machine=world["demo"].pk)
    assert [line["hex"] for line in files["wire.jsonl"]] == ["3415"] and files["orders.jsonl"] == []
    assert any("the database does not answer" in problem for problem in files["manifest"]["problems"])
    assert any("orders.jsonl is not whole: connection refused" in words for words in files["manifest"]["problems"])


def test_what_is_no_longer_on_disk_is_said(world: dict[str, Any], tmp_path: Path, settings: Any) -> None:
    (settings.DATA_DIR / "logs" / "roastops.jsonl.1").unlink()
    write_lines(settings.DATA_DIR / "logs" / "roastops.jsonl.9", log_line(SINCE + MINUTE, "oldest left"))
    files = bundle_of(tmp_path / "i.zip")
    assert files["logs.jsonl"][0]["message"] == "oldest left"
    assert files["manifest"]["problems"] == [
        f"roastops.jsonl: what was written before {canonical.utc_text(SINCE + MINUTE)} is no longer on disk"
    ]
    assert AuditEntry.objects.exists()
