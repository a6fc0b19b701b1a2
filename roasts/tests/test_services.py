"""Decisions into rows: idempotent, in order, resumable; a person's marks beside the machine's."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from drivers.port import MachineState
from kernel.errors import Conflict, Unprocessable
from kernel.models import AuditEntry, Membership, Organization, Site, StreamEvent
from kernel.principals import Principal, for_user
from roasts import services
from roasts.models import Gap, Machine, MachineReading, Roast, RoastEvent, Sample
from roasts.recording import recorder
from roasts.recording.backlog import Backlog
from roasts.recording.filing import Filing
from roasts.services import LinkState
from roasts.tests.test_recorder import reading, roast

NOW = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
pytestmark = pytest.mark.django_db


@pytest.fixture
def machine() -> Machine:
    organization = Organization.objects.create(slug="demo", name="Demo", created_at=NOW)
    site = Site.objects.create(organization=organization, name="Here")
    made = Machine.objects.create(
        organization=organization, site=site, name="B", driver_kind="bullet-r1", created_at=NOW
    )
    MachineReading.objects.create(machine=made)
    return made


@pytest.fixture
def operator(machine: Machine) -> Principal:
    user = User.objects.create_user("anna", password="x")
    Membership.objects.create(organization=machine.organization, user=user, role="operator")
    return for_user(user)


def filings(readings, connection: str = "boot1", state: recorder.RecorderState | None = None, roast_id: str = ""):
    """(filings, last state): what the loop would queue for these readings."""
    state = state or recorder.RecorderState()
    found: list[Filing] = []
    for one in readings:
        taken = recorder.step(state, one, connection)
        state = taken.state
        for decision in taken.decisions:
            if isinstance(decision, recorder.OpenRoast):
                roast_id = services.new_roast_id()
            found.append(Filing(roast_id, connection, one.sequence, decision))
    return found, state


def counts() -> tuple[int, int, int, int]:
    return Roast.objects.count(), Sample.objects.count(), RoastEvent.objects.count(), Gap.objects.count()


def test_a_whole_roast_is_filed_closed_and_told(machine: Machine) -> None:
    found, _ = filings(roast())
    services.file_decisions(machine, found, now=NOW)
    row = Roast.objects.get()
    assert (row.status, row.device_start_ms, row.connection_id) == ("finished", 5000, "boot1")
    assert dict(row.events.values_list("kind", "source")) == {
        "charge": "device", "turning_point": "inferred", "drop": "device", "cool_end": "device",
    }  # fmt: skip
    assert row.samples.count() == 1751
    assert set(AuditEntry.objects.values_list("verb", flat=True)) == {"roast_opened", "roast_closed"}
    assert StreamEvent.objects.filter(kind="roast_event").count() == 4
    assert MachineReading.objects.get().filed_sequence == found[-1].sequence


def test_filing_twice_changes_nothing(machine: Machine) -> None:
    found, _ = filings(roast())
    services.file_decisions(machine, found, now=NOW)
    before = counts()
    services.file_decisions(machine, found, now=NOW)
    services.file_decisions(machine, found[400:900], now=NOW)
    assert counts() == before
    assert AuditEntry.objects.count() == 2


def test_filing_in_batches_is_filing_at_once(machine: Machine) -> None:
    found, _ = filings(roast())
    for start in range(0, len(found), 37):
        services.file_decisions(machine, found[start : start + 37], now=NOW)
    assert counts() == (1, 1751, 4, 0)


def test_a_restart_resumes_the_open_roast_and_misses_nothing(machine: Machine) -> None:
    readings = list(roast())
    first, _ = filings(readings[:900])
    services.file_decisions(machine, first, now=NOW)
    roast_id, state = services.resume_state(machine.pk)
    assert roast_id == Roast.objects.get().pk
    rest, last = filings(readings[900:], state=state, roast_id=roast_id)
    services.file_decisions(machine, rest, now=NOW)
    assert Roast.objects.get().status == "finished"
    assert list(Sample.objects.order_by("elapsed_ms").values_list("elapsed_ms", flat=True)) == list(
        range(0, 175_001, 100)
    )
    marks = dict(RoastEvent.objects.values_list("kind", "elapsed_ms"))
    assert marks["turning_point"] == pytest.approx(60_000, abs=1000)
    assert last.roast is None


def test_a_resumed_rate_of_rise_has_no_hole(machine: Machine) -> None:
    readings = list(roast())
    whole = {f.decision.elapsed_ms: f.decision.rate_of_rise_c_per_min for f in filings(readings)[0]
             if isinstance(f.decision, recorder.RecordSample)}  # fmt: skip
    services.file_decisions(machine, filings(readings[:900])[0], now=NOW)
    _, state = services.resume_state(machine.pk)
    taken = recorder.step(state, readings[900], "boot1")
    assert taken.rate_of_rise_c_per_min == pytest.approx(whole[85_000])


def test_a_resumed_roast_knows_its_beans_its_turn_and_its_drop(machine: Machine) -> None:
    services.file_decisions(machine, filings(list(roast())[:1300])[0], now=NOW)
    _, state = services.resume_state(machine.pk)
    assert state.roast is not None
    assert state.roast.are_beans_proved and state.roast.turned_ms is not None and state.roast.dropped_ms == 115_000


def test_the_first_reading_of_another_connection_rebases_the_roast(machine: Machine) -> None:
    services.file_decisions(machine, filings(list(roast())[:900])[0], now=NOW)
    roast_id, state = services.resume_state(machine.pk)
    late = reading(40, roast_clock_s=90, at=reading(0).at + dt.timedelta(seconds=95))
    found, _ = filings([late], "boot2", state, roast_id)
    services.file_decisions(machine, found, now=NOW)
    row = Roast.objects.get()
    assert row.connection_id == "boot2" and row.device_start_ms < 0
    assert Gap.objects.get().reason == "loop_lost"


def test_a_roast_left_open_by_a_lost_loop_is_aborted_when_the_next_begins(machine: Machine) -> None:
    services.file_decisions(machine, filings(list(roast())[:600])[0], now=NOW)
    services.file_decisions(machine, filings(list(roast())[:600])[0], now=NOW)
    assert sorted(Roast.objects.values_list("status", flat=True)) == ["aborted", "roasting"]


def test_latest_row_keeps_the_reading_when_only_the_link_changes(machine: Machine) -> None:
    one = reading(100, MachineState.ROASTING, 151.5)
    services.write_latest(machine.pk, LinkState("up"), one, rate_of_rise_c_per_min=9.0, are_beans_proved=True, now=NOW)
    services.write_latest(
        machine.pk,
        LinkState("down", "unplugged", "gone"),
        None,
        rate_of_rise_c_per_min=None,
        are_beans_proved=False,
        now=NOW,
    )
    row = MachineReading.objects.get()
    assert (row.bean_temp_c, row.link, row.link_code) == (151.5, "down", "unplugged")


def test_a_persons_mark_stands_beside_the_machines(machine: Machine, operator: Principal) -> None:
    services.file_decisions(machine, filings(roast())[0], now=NOW)
    row = Roast.objects.get()
    services.mark_event(operator, row, kind="charge", elapsed_ms=1000, now=NOW)
    assert sorted(row.events.filter(kind="charge").values_list("source", "elapsed_ms")) == [
        ("device", 0),
        ("person", 1000),
    ]


def test_a_correction_is_a_new_mark_and_keeps_the_old(machine: Machine, operator: Principal) -> None:
    services.file_decisions(machine, filings(roast())[0], now=NOW)
    row = Roast.objects.get()
    first = services.mark_event(operator, row, kind="first_crack_start", elapsed_ms=90_000, now=NOW)
    second = services.correct_event(operator, row, first, elapsed_ms=85_000, now=NOW)
    first.refresh_from_db()
    assert first.withdrawn_at is not None and second.elapsed_ms == 85_000 and second.pk != first.pk
    with pytest.raises(Conflict):
        services.correct_event(operator, row, first, elapsed_ms=1, now=NOW)
    assert AuditEntry.objects.filter(subject_kind="roast_event").count() == 3


def test_the_machines_own_mark_cannot_be_withdrawn_and_a_mark_needs_the_roast(
    machine: Machine, operator: Principal
) -> None:
    services.file_decisions(machine, filings(roast())[0], now=NOW)
    row = Roast.objects.get()
    with pytest.raises(Unprocessable):
        services.withdraw_event(operator, row, row.events.get(kind="drop"), now=NOW)
    services.withdraw_event(operator, row, row.events.get(kind="turning_point"), now=NOW)
    with pytest.raises(Unprocessable):
        services.mark_event(operator, row, kind="note", elapsed_ms=175_000 + 10_001, now=NOW)
    services.mark_event(operator, row, kind="note", elapsed_ms=175_000 + 10_000, text="late", now=NOW)


def test_the_backlog_keeps_order_over_memory_and_disk(tmp_path: Path, machine: Machine) -> None:
    found, _ = filings(roast())
    path = tmp_path / "journal" / "m.ndjson"
    backlog = Backlog(path, memory_max=100)
    for filing in found[:950]:
        backlog.put(filing)
    assert path.exists()
    taken: list[Filing] = []
    while batch := backlog.take(77):
        taken += batch
        backlog.done()
        if len(taken) < 800:
            for filing in found[950:1000] if len(taken) == 77 else []:
                backlog.put(filing)
    assert [f.sequence for f in taken] == [f.sequence for f in found[:1000]]
    assert taken == found[:1000], "nothing is lost in JSON"
    assert not path.exists() and len(backlog) == 0


def test_what_a_roast_turns_on_is_urgent_until_it_is_taken_and_samples_alone_are_not(tmp_path: Path) -> None:
    found, _ = filings(roast())
    backlog = Backlog(tmp_path / "m.ndjson", memory_max=10_000)
    samples = [each for each in found if isinstance(each.decision, recorder.RecordSample)]
    backlog.put(samples[0])
    assert not backlog.is_urgent
    backlog.put(next(each for each in found if not isinstance(each.decision, recorder.RecordSample)))
    backlog.put(samples[1])
    assert backlog.is_urgent
    backlog.take(2)
    assert backlog.is_urgent, "the batch did not hold all there is"
    backlog.take(3)
    backlog.done()
    assert not backlog.is_urgent


def test_a_batch_not_done_comes_again_also_to_the_next_process(tmp_path: Path) -> None:
    found, _ = filings(roast())
    path = tmp_path / "m.ndjson"
    backlog = Backlog(path, memory_max=10_000)
    for filing in found[:50]:
        backlog.put(filing)
    assert backlog.take(20) == backlog.take(20)
    backlog.spill()
    backlog.done()  # the batch moved to disk meanwhile: it stays
    assert Backlog(path).take(100) == found[:50]


def test_a_torn_line_and_a_full_journal_lose_no_more_than_they_must(tmp_path: Path) -> None:
    found, _ = filings(roast())
    path = tmp_path / "m.ndjson"
    backlog = Backlog(path, memory_max=10)
    for filing in found[:10]:
        backlog.put(filing)
    with path.open("ab") as stream:
        stream.write(b'{"roast_id": "x", "decis')
    reread = Backlog(path)
    assert reread.take(10) == found[:10]
    reread.done()
    assert reread.take(10) == [] and not path.exists(), "a torn end does not stand in the way for ever"
    full = Backlog(tmp_path / "f.ndjson", memory_max=10, file_bytes_max=10)
    for filing in found[:30]:
        full.put(filing)
    kept = full.take(100)
    assert full.dropped == 30 - len(kept) > 0
    assert kept == found[30 - len(kept) : 30], "the newest are kept"
