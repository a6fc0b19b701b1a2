"""Who may walk a machine through, what stands in the record, and what is never written for a real machine."""

from __future__ import annotations

import datetime as dt

import pytest
from django.db import IntegrityError, transaction

from commands.commissioning import services_commissioning, steps
from commands.commissioning.steps import Finding, Result
from commands.models import Commissioning, StopDrill
from commands.tests.rows import FULL, machine_row, organization_row, person_row
from kernel import principals
from kernel.errors import Conflict, Forbidden, Malformed, NotFound
from kernel.models import AuditEntry, Site
from roasts.models import ControlLimit, Machine

NOW = dt.datetime(2026, 11, 21, 8, 0, tzinfo=dt.UTC)
LIMITS = {"max_bean_temp_c": 225.0}
pytestmark = pytest.mark.django_db


@pytest.fixture
def lead():
    return principals.for_user(person_row("lena", "lead"))


@pytest.fixture
def operator():
    return principals.for_user(person_row("otto", "operator"))


def new_machine(*, is_virtual: bool = False) -> Machine:
    """A machine nobody has looked at yet."""
    organization = organization_row()
    site, _ = Site.objects.get_or_create(organization=organization, name="Here")
    machine = Machine.objects.create(
        organization=organization, site=site, name="New", driver_kind="bullet-r1", created_at=NOW, is_virtual=is_virtual
    )
    for control, (low, high, full) in FULL.items():
        ControlLimit.objects.create(
            machine=machine, control=control, min_step=low, max_step=high, full_scale_step=full, max_change_step=9
        )
    return machine


def all_passed(principal, row: Commissioning) -> Commissioning:
    for step in steps.STEPS:
        evidence = {"limits": LIMITS} if step.code == "limits" else {}
        finding = Finding(Result.PASSED, "seen", evidence)
        row = services_commissioning.record_step(principal, row, code=step.code, finding=finding, now=NOW)
    return row


def test_a_virtual_machine_is_recorded_as_not_walked_through(lead):
    machine = new_machine(is_virtual=True)
    row = services_commissioning.record_for_virtual(machine, by=lead, now=NOW)
    assert services_commissioning.in_force(machine) == row
    assert {entry["message"] for entry in row.steps} == {services_commissioning.VIRTUAL_NOTE}
    drill = StopDrill.objects.get(machine=machine)
    assert (drill.is_passed, drill.result, drill.first_byte_ms) == (True, "not_pressed", None)
    assert drill.note == services_commissioning.VIRTUAL_NOTE


def test_a_real_machine_is_never_recorded_as_done(lead):
    machine = new_machine()
    with pytest.raises(Malformed, match="real machine"):
        services_commissioning.record_for_virtual(machine, by=lead, now=NOW)
    assert not Commissioning.objects.exists() and not StopDrill.objects.exists()


def test_recording_a_virtual_machine_twice_leaves_one_record(lead):
    machine = new_machine(is_virtual=True)
    for _ in range(2):
        services_commissioning.record_for_virtual(machine, by=lead, now=NOW)
    assert (Commissioning.objects.count(), StopDrill.objects.count()) == (1, 1)


@pytest.mark.parametrize(("later_s", "drills"), [(8 * 3600, 1), (8 * 3600 + 1, 2)])
def test_a_virtual_drill_is_written_anew_once_it_is_too_old(lead, later_s, drills):
    machine = new_machine(is_virtual=True)
    services_commissioning.record_for_virtual(machine, by=lead, now=NOW)
    services_commissioning.record_for_virtual(machine, by=lead, now=NOW + dt.timedelta(seconds=later_s))
    assert StopDrill.objects.filter(machine=machine).count() == drills


def test_beginning_twice_finds_the_same_one(operator):
    machine = new_machine()
    first = services_commissioning.begin_commissioning(operator, machine, now=NOW)
    assert services_commissioning.begin_commissioning(operator, machine, now=NOW) == first


def test_a_viewer_begins_nothing():
    viewer = principals.for_user(person_row("vera", "viewer"))
    with pytest.raises(Forbidden):
        services_commissioning.begin_commissioning(viewer, new_machine(), now=NOW)


def test_another_organisations_machine_is_not_there():
    stranger = principals.for_user(person_row("stan", "lead", slug="other"))
    with pytest.raises(NotFound):
        services_commissioning.begin_commissioning(stranger, new_machine(), now=NOW)


def test_only_a_lead_signs(operator, lead):
    row = all_passed(operator, services_commissioning.begin_commissioning(operator, new_machine(), now=NOW))
    with pytest.raises(Forbidden):
        services_commissioning.complete_commissioning(operator, row, limits=LIMITS, now=NOW)
    done = services_commissioning.complete_commissioning(lead, row, limits=LIMITS, now=NOW)
    assert done.completed_by == lead.user and services_commissioning.in_force(row.machine) == done


@pytest.mark.parametrize("code", [step.code for step in steps.STEPS])
def test_a_step_that_failed_last_keeps_it_from_being_signed(operator, lead, code):
    row = all_passed(operator, services_commissioning.begin_commissioning(operator, new_machine(), now=NOW))
    row = services_commissioning.record_step(
        operator, row, code=code, finding=Finding(Result.FAILED, "no", {}), now=NOW
    )
    with pytest.raises(Conflict) as refused:
        services_commissioning.complete_commissioning(lead, row, limits=LIMITS, now=NOW)
    assert refused.value.code == "steps_open" and code in refused.value.message


def test_limits_changed_since_the_review_keep_it_from_being_signed(operator, lead):
    row = all_passed(operator, services_commissioning.begin_commissioning(operator, new_machine(), now=NOW))
    with pytest.raises(Conflict) as refused:
        services_commissioning.complete_commissioning(lead, row, limits={"max_bean_temp_c": 230.0}, now=NOW)
    assert refused.value.code == "limits_changed"


def test_a_later_commissioning_replaces_the_former(operator, lead):
    machine = new_machine()
    former = all_passed(operator, services_commissioning.begin_commissioning(operator, machine, now=NOW))
    services_commissioning.complete_commissioning(lead, former, limits=LIMITS, now=NOW)
    later = all_passed(operator, services_commissioning.begin_commissioning(operator, machine, now=NOW))
    services_commissioning.complete_commissioning(lead, later, limits=LIMITS, now=NOW)
    former.refresh_from_db()
    assert former.end_reason and services_commissioning.in_force(machine) == later


def test_a_completed_one_takes_no_more_steps(operator, lead):
    row = all_passed(operator, services_commissioning.begin_commissioning(operator, new_machine(), now=NOW))
    services_commissioning.complete_commissioning(lead, row, limits=LIMITS, now=NOW)
    with pytest.raises(Conflict):
        services_commissioning.record_step(operator, row, code="fan", finding=Finding(Result.PASSED, "", {}), now=NOW)


def test_the_database_itself_keeps_one_under_way_and_one_in_force(lead):
    machine = machine_row()
    values = {"organization": machine.organization, "machine": machine, "begun_by": lead.user, "begun_at": NOW}
    Commissioning.objects.create(**values)
    for more in ({}, {"completed_by": lead.user, "completed_at": NOW}):
        with pytest.raises(IntegrityError), transaction.atomic():
            Commissioning.objects.create(**values, **more)


def test_every_act_stands_in_the_audit_trail(operator, lead):
    row = services_commissioning.begin_commissioning(operator, new_machine(), now=NOW)
    row = all_passed(operator, row)
    services_commissioning.complete_commissioning(lead, row, limits=LIMITS, now=NOW)
    verbs = list(AuditEntry.objects.filter(subject_id=row.pk).values_list("verb", flat=True))
    assert verbs.count("commissioning_step") == len(steps.STEPS)
    assert {"commissioning_begun", "commissioning_completed"} <= set(verbs)


@pytest.mark.parametrize(
    ("result", "first_ms", "proved_ms", "is_passed"),
    [("heat_off", 250.0, 2000.0, True), ("heat_off", 250.1, 900.0, False), ("heat_off", 4.0, 2000.1, False),
     ("heat_off", None, 300.0, True), ("unproved", 4.0, None, False)],
)  # fmt: skip
def test_a_drill_is_judged_by_the_bars(operator, result, first_ms, proved_ms, is_passed):
    answer = {"result": result, "first_byte_ms": first_ms, "proved_ms": proved_ms, "halt_id": "hlt_1"}
    drill = services_commissioning.record_drill(operator, new_machine(), answer=answer, now=NOW)
    assert drill.is_passed is is_passed
    assert drill.proof["has_heat_gone_down"] is (first_ms is not None and result == "heat_off")


def test_a_drill_is_never_rewritten(operator):
    answer = {"result": "heat_off", "first_byte_ms": 4.0, "proved_ms": 900.0}
    drill = services_commissioning.record_drill(operator, new_machine(), answer=answer, now=NOW)
    with pytest.raises(Exception, match="append-only"), transaction.atomic():
        StopDrill.objects.filter(pk=drill.pk).update(is_passed=False)
