"""Inferred marks in the store: filed, withdrawn, confirmed, resumed; the history they rest on."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from drivers.port import MachineState, Reading
from kernel.models import Membership, Organization, Site, StreamEvent
from kernel.principals import Principal, for_user
from roasts import inference, services
from roasts.api.roasts import effective_events
from roasts.curve import Curve, Mark
from roasts.events import crack_store
from roasts.files import services_imports
from roasts.formats.imported import ImportedRoast
from roasts.models import Machine, MachineReading, Roast, RoastEvent, Sample
from roasts.recording import recorder
from roasts.recording.filing import Filing
from roasts.tests.event_roasts import DROP_S, made_up, probe_c

NOW = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
CRACK_S = 424.0
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


def readings(day: int = 0, *, step_ms: int = 1000) -> list[Reading]:
    """The made-up roast of a machine with states, on a day of its own; the heater goes down after the crack."""
    found = []
    for one in made_up(charge_ms=5000, end_s=580, step_ms=step_ms):
        since_s = (one.device_ms - 5000) / 1000
        state = MachineState.CHARGE if since_s < 0 else MachineState.ROASTING
        if since_s >= DROP_S:
            state = MachineState.COOLING if since_s <= 570 else MachineState.OFF
        heater = 5 if since_s < CRACK_S - 40 else 4 if since_s < CRACK_S + 46 else 3
        found.append(replace(one, state=state, heater_step=heater, at=one.at + dt.timedelta(days=day)))
    return found


def file(
    machine: Machine, some: Iterable[Reading], state: recorder.RecorderState | None = None, roast_id: str = ""
) -> tuple[list[Filing], recorder.RecorderState]:
    state = state or recorder.RecorderState()
    found: list[Filing] = []
    for one in some:
        taken = recorder.step(state, one, "boot1")
        state = taken.state
        for decision in taken.decisions:
            roast_id = services.new_roast_id() if isinstance(decision, recorder.OpenRoast) else roast_id
            found.append(Filing(roast_id, "boot1", one.sequence, decision))
    services.file_decisions(machine, found, now=NOW)
    return found, state


def mark(kind: str, elapsed_ms: int, at_s: int) -> recorder.MarkEvent:
    return recorder.MarkEvent(kind, elapsed_ms, "inferred", 0.5, NOW + dt.timedelta(seconds=at_s))


def open_roast(machine: Machine) -> Roast:
    file(machine, readings()[:200])
    return Roast.objects.get()


def rows() -> list[tuple[Any, ...]]:
    return list(RoastEvent.objects.order_by("at", "pk").values_list("kind", "elapsed_ms", "confidence", "withdrawn_at"))


def test_a_mark_that_moves_leaves_its_history_and_one_that_stands(machine: Machine) -> None:
    roast = open_roast(machine)
    kind = "first_crack_start"
    decisions = [
        mark(kind, 400_000, 1),
        recorder.WithdrawMark(kind, 400_000, NOW + dt.timedelta(seconds=2)),
        mark(kind, 410_000, 2),
        recorder.WithdrawMark(kind, 410_000, NOW + dt.timedelta(seconds=3)),
        mark(kind, 400_000, 3),
        recorder.ConfirmMark(kind, 400_000, 0.9, NOW + dt.timedelta(seconds=4)),
    ]
    filings = [Filing(roast.pk, "boot1", n, decision) for n, decision in enumerate(decisions)]
    services.file_decisions(machine, filings, now=NOW)
    before = rows()
    cracks = RoastEvent.objects.filter(kind=kind)
    assert cracks.count() == 3
    standing = cracks.get(withdrawn_at__isnull=True)
    assert (standing.elapsed_ms, standing.confidence, standing.at) == (400_000, 0.9, NOW + dt.timedelta(seconds=3))
    services.file_decisions(machine, filings, now=NOW)
    services.file_decisions(machine, filings[2:5], now=NOW)
    assert rows() == before, "filing twice changes nothing"


def test_viewers_are_told_of_a_mark_and_of_its_withdrawal(machine: Machine) -> None:
    roast = open_roast(machine)
    StreamEvent.objects.all().delete()
    gone = recorder.WithdrawMark("dry_end", 240_000, NOW + dt.timedelta(seconds=2))
    filings = [Filing(roast.pk, "boot1", 1, mark("dry_end", 240_000, 1)), Filing(roast.pk, "boot1", 2, gone)]
    services.file_decisions(machine, filings, now=NOW)
    told = [event.payload for event in StreamEvent.objects.filter(kind="roast_event").order_by("pk")]
    assert [(one["kind"], one["source"], one["is_withdrawn"]) for one in told] == [
        ("dry_end", "inferred", False), ("dry_end", "inferred", True),
    ]  # fmt: skip


def test_a_withdrawal_never_touches_a_persons_or_the_machines_mark(machine: Machine, operator: Principal) -> None:
    roast = open_roast(machine)
    services.mark_event(operator, roast, kind="first_crack_start", elapsed_ms=100_000, now=NOW)
    gone = recorder.WithdrawMark("first_crack_start", 100_000, NOW + dt.timedelta(seconds=2))
    services.file_decisions(machine, [Filing(roast.pk, "boot1", 1, gone)], now=NOW)
    assert RoastEvent.objects.get(source="person").withdrawn_at is None


def test_a_whole_roast_gets_inferred_marks_and_the_persons_wins(machine: Machine, operator: Principal) -> None:
    file(machine, readings())
    roast = Roast.objects.get()
    standing = {event.kind: event for event in roast.events.filter(withdrawn_at__isnull=True)}
    assert set(standing) == {"charge", "turning_point", "dry_end", "first_crack_start", "drop", "cool_end"}
    assert {kind for kind, event in standing.items() if event.source == "inferred"} == {
        "turning_point", "dry_end", "first_crack_start",
    }  # fmt: skip
    assert 0 < standing["first_crack_start"].confidence < 1
    services.mark_event(operator, roast, kind="first_crack_start", elapsed_ms=424_000, now=NOW)
    events = list(roast.events.all())
    assert effective_events(events)["first_crack_start"] == 424_000
    assert roast.events.filter(kind="first_crack_start", source="inferred", withdrawn_at__isnull=True).count() == 1


@pytest.mark.parametrize("cut", [30, 62, 120, 300, 450, 480, 520, 547, 560])
def test_a_restart_anywhere_ends_with_the_marks_of_an_unbroken_roast(machine: Machine, cut: int) -> None:
    whole = readings()
    first, _ = file(machine, whole[:cut])
    roast_id, state = services.resume_state(machine.pk)
    file(machine, whole[cut:], state, roast_id)
    broken = RoastEvent.objects.filter(roast_id=roast_id, withdrawn_at__isnull=True)
    found = dict(broken.values_list("kind", "elapsed_ms"))
    unbroken: dict[str, int] = {}
    state = recorder.RecorderState()
    for one in whole:
        taken = recorder.step(state, one, "boot1")
        state = taken.state
        for decision in taken.decisions:
            if isinstance(decision, recorder.MarkEvent):
                unbroken[decision.kind] = decision.elapsed_ms
            elif isinstance(decision, recorder.WithdrawMark):
                unbroken.pop(decision.kind)
    assert set(found) == set(unbroken)
    assert all(abs(found[kind] - unbroken[kind]) <= 1000 for kind in unbroken), (found, unbroken)
    assert first


def test_a_machine_without_states_resumes_its_roast_too(machine: Machine) -> None:
    whole = [replace(one, state=MachineState.UNKNOWN) for one in readings()]
    file(machine, whole[:300])
    roast_id, state = services.resume_state(machine.pk)
    assert state.roast is not None and state.roast.is_inferred and state.roast.turned_ms is not None
    file(machine, whole[300:], state, roast_id)
    found = dict(RoastEvent.objects.filter(withdrawn_at__isnull=True).values_list("kind", "source"))
    assert found["drop"] == "inferred" and Roast.objects.count() == 1


def test_a_file_without_marks_gets_inferred_ones_and_one_with_marks_keeps_its_own(
    machine: Machine, operator: Principal
) -> None:
    times_s = np.arange(-5.0, 580.0)
    curve = Curve(times_s, np.array([round(probe_c(at_s), 1) for at_s in times_s]))
    bare = ImportedRoast("alog", curve, marks=(Mark("charge", 0.0),))
    told = ImportedRoast("alog", curve, marks=(Mark("charge", 0.0), Mark("first_crack_start", 400.0)))
    for number, imported in enumerate((bare, told)):
        services_imports.file_roast(
            operator, imported, digest=f"{number}" * 64, file_name="a", size_bytes=1, machine=machine, now=NOW
        )
    first, second = Roast.objects.filter(source="imported").order_by("source_digest")
    found = dict(first.events.values_list("kind", "source"))
    assert found["charge"] == "person" and found["drop"] == found["turning_point"] == "inferred"
    assert set(second.events.values_list("kind", flat=True)) == {"charge", "first_crack_start"}


# --- history ---


def marked_roast(machine: Machine, operator: Principal, day: int, crack_s: float = CRACK_S, bean: str = "") -> Roast:
    file(machine, readings(day))
    roast = Roast.objects.order_by("-started_at").first()
    assert roast is not None and roast.status == "finished"
    if bean:
        Roast.objects.filter(pk=roast.pk).update(bean=bean, summary=None)
    services.mark_event(operator, roast, kind="first_crack_start", elapsed_ms=round(1000 * crack_s), now=NOW)
    return roast


def test_history_is_what_people_marked_in_finished_roasts_oldest_first(machine: Machine, operator: Principal) -> None:
    marked_roast(machine, operator, 0, 400.0)
    marked_roast(machine, operator, 1, CRACK_S)
    file(machine, readings(2))  # nobody marked it: what inference thinks is no history
    file(machine, readings(3)[:450])  # under way
    services.mark_event(operator, Roast.objects.open().get(), kind="first_crack_start", elapsed_ms=420_000, now=NOW)
    found = crack_store.crack_history(machine.pk)
    assert [crack.elapsed_s for crack in found] == [400.0, CRACK_S]
    assert found[1].at_c == pytest.approx(probe_c(CRACK_S), abs=0.3)
    assert found[1].heat_cut_after_s == pytest.approx(46, abs=1.5)
    assert found[1].heat_cut_before_s == pytest.approx(40, abs=1.5)
    assert found[1].development_s == pytest.approx(DROP_S - CRACK_S, abs=1)
    assert found[1].marked_by == "anna" and found[1].infrared_c is None


def test_a_corrected_mark_counts_once_and_a_withdrawn_one_not_at_all(machine: Machine, operator: Principal) -> None:
    roast = marked_roast(machine, operator, 0, 400.0)
    before = crack_store.basis_of(machine.pk)
    event = services.mark_event(operator, roast, kind="first_crack_start", elapsed_ms=410_000, now=NOW)
    assert [crack.elapsed_s for crack in crack_store.crack_history(machine.pk)] == [410.0]
    assert crack_store.basis_of(machine.pk) != before
    services.withdraw_event(operator, roast, event, now=NOW)
    assert crack_store.crack_history(machine.pk) == ()


def test_another_machines_cracks_are_not_its_history(machine: Machine, operator: Principal) -> None:
    marked_roast(machine, operator, 0)
    other = Machine.objects.create(
        organization=machine.organization, site=machine.site, name="C", driver_kind="bullet-r1", created_at=NOW
    )
    assert crack_store.crack_history(other.pk) == ()
    assert crack_store.basis_of(other.pk) == crack_store.Basis("", "", None)


def test_history_is_read_once_and_asked_for_with_few_queries(machine: Machine, operator: Principal) -> None:
    for day in range(3):
        marked_roast(machine, operator, day)
    with CaptureQueriesContext(connection) as first:
        crack_store.expectation_of(machine.pk)
    with CaptureQueriesContext(connection) as again:
        crack_store.expectation_of(machine.pk)
    assert len(first) <= 2 + 2 * 3 and len(again) <= 2


def test_the_next_roast_is_expected_where_the_last_ones_cracked(machine: Machine, operator: Principal) -> None:
    for day in range(3):
        marked_roast(machine, operator, day, 380.0)
    file(machine, readings(3)[:450])
    _, state = services.resume_state(machine.pk)
    expected = state.expectation.crack.temperature
    assert expected.roasts == 3 and expected.mean_c == pytest.approx(probe_c(380.0), abs=1.5)
    assert state.watch.known.expectation == state.expectation
    unknown = inference.Expectation().crack.temperature
    assert expected.sd_c < unknown.sd_c


def test_dry_end_is_expected_where_people_mark_it(machine: Machine, operator: Principal) -> None:
    for day in range(3):
        roast = marked_roast(machine, operator, day)
        assert crack_store.expectation_of(machine.pk).dry_end_c == 150.0
        services.mark_event(operator, roast, kind="dry_end", elapsed_ms=230_000, now=NOW)
    here = Sample.objects.filter(elapsed_ms__lte=230_000).order_by("-elapsed_ms").first()
    assert here is not None
    assert crack_store.expectation_of(machine.pk).dry_end_c == here.bean_temp_c != 150.0
