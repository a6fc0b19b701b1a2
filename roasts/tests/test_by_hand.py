"""A person opens and closes the roast of a machine without states; what the loop still files of it afterwards."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.contrib.auth.models import User

from drivers.port import Quality
from kernel.errors import Conflict, Forbidden
from kernel.models import AuditEntry, Membership, Organization, Site
from kernel.principals import Principal, for_user
from roasts import services
from roasts.models import Machine, MachineReading, Roast, RoastEvent, Sample
from roasts.recording import recorder, sample_extras, services_by_hand
from roasts.recording.filing import Filing
from roasts.tests.event_roasts import START, at

NOW = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
SECOND = dt.timedelta(seconds=1)
pytestmark = pytest.mark.django_db


@pytest.fixture
def machine() -> Machine:
    organization = Organization.objects.create(slug="demo", name="Demo", created_at=NOW)
    site = Site.objects.create(organization=organization, name="Here")
    made = Machine.objects.create(
        organization=organization, site=site, name="L", driver_kind="tcp-line", created_at=NOW
    )
    MachineReading.objects.create(
        machine=made, at=NOW - SECOND, device_ms=50_000, state="unknown", connection_id="boot1", written_at=NOW
    )
    return made


def person(machine: Machine, role: str) -> Principal:
    user = User.objects.create_user(role, password="x")
    Membership.objects.create(organization=machine.organization, user=user, role=role)
    return for_user(user)


@pytest.fixture
def operator(machine: Machine) -> Principal:
    return person(machine, "operator")


def refused(act: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(Conflict) as error:
        act(*args, **kwargs)
    return error.value.code


def close(who: Principal, machine: Machine, **more: Any) -> Roast:
    values = {"is_aborted": False, "reason": "over", "now": NOW} | more
    return services_by_hand.close_by_person(who, machine, **values)


def test_a_person_opens_a_roast_as_of_the_newest_reading(machine: Machine, operator: Principal) -> None:
    roast = services_by_hand.open_by_person(operator, machine, now=NOW)
    assert (roast.status, roast.device_start_ms, roast.started_at) == ("charged", 50_000, NOW - SECOND)
    mark = RoastEvent.objects.get(roast=roast)
    assert (mark.kind, mark.source, mark.elapsed_ms, mark.marked_by_id) == ("charge", "person", 0, operator.user.pk)
    verbs = set(AuditEntry.objects.values_list("verb", flat=True))
    assert {"roast_opened", "roast_opened_by_hand", "roast_event_marked"} <= verbs
    assert AuditEntry.objects.get(verb="roast_opened_by_hand").actor_id == operator.id


def test_one_roast_at_a_time(machine: Machine, operator: Principal) -> None:
    services_by_hand.open_by_person(operator, machine, now=NOW)
    assert refused(services_by_hand.open_by_person, operator, machine, now=NOW) == "roast_open"
    assert Roast.objects.count() == 1


def test_the_next_charge_finishes_a_roast_that_dropped(machine: Machine, operator: Principal) -> None:
    first = services_by_hand.open_by_person(operator, machine, now=NOW)
    Roast.objects.filter(pk=first.pk).update(status="cooling")
    second = services_by_hand.open_by_person(operator, machine, now=NOW)
    first.refresh_from_db()
    assert (first.status, first.close_reason) == ("finished", "person") and second.status == "charged"


@pytest.mark.parametrize("state", ["roasting", "charge", "cooling", "off"])
def test_a_machine_with_states_opens_and_closes_its_own_roasts(
    machine: Machine, operator: Principal, state: str
) -> None:
    MachineReading.objects.update(state=state)
    assert refused(services_by_hand.open_by_person, operator, machine, now=NOW) == "machine_says_itself"
    assert refused(close, operator, machine) == "machine_says_itself"


def test_a_roast_with_states_is_not_closed_by_a_person_while_its_machine_says_nothing(
    machine: Machine, operator: Principal
) -> None:
    roast = services_by_hand.open_by_person(operator, machine, now=NOW)
    Sample.objects.create(roast=roast, elapsed_ms=0, sequence=1, at=NOW, state="roasting")
    assert refused(close, operator, machine) == "machine_says_itself"


@pytest.mark.parametrize(("age_s", "code"), [(5.0, ""), (5.1, "machine_not_read"), (3600, "machine_not_read")])
def test_a_charge_needs_a_machine_that_is_read_now(
    machine: Machine, operator: Principal, age_s: float, code: str
) -> None:
    MachineReading.objects.update(at=NOW - dt.timedelta(seconds=age_s))
    if code:
        assert refused(services_by_hand.open_by_person, operator, machine, now=NOW) == code
    else:
        services_by_hand.open_by_person(operator, machine, now=NOW)


@pytest.mark.parametrize(("is_aborted", "status"), [(False, "finished"), (True, "aborted")])
def test_a_person_closes_a_roast_as_of_the_newest_reading(
    machine: Machine, operator: Principal, is_aborted: bool, status: str
) -> None:
    services_by_hand.open_by_person(operator, machine, now=NOW)
    MachineReading.objects.update(at=NOW + 600 * SECOND)
    roast = close(operator, machine, is_aborted=is_aborted, now=NOW + 610 * SECOND)
    assert (roast.status, roast.ended_at, roast.close_reason) == (status, NOW + 600 * SECOND, "person")
    assert AuditEntry.objects.get(verb="roast_closed_by_hand").payload.count('"reason":"over"') == 1
    assert refused(close, operator, machine) == "no_roast"


def test_a_viewer_opens_and_closes_nothing(machine: Machine, operator: Principal) -> None:
    viewer = person(machine, "viewer")
    with pytest.raises(Forbidden):
        services_by_hand.open_by_person(viewer, machine, now=NOW)
    services_by_hand.open_by_person(operator, machine, now=NOW)
    with pytest.raises(Forbidden):
        close(viewer, machine)


def test_what_the_loop_still_has_of_a_roast_that_a_person_closed_holds_nothing_up(
    machine: Machine, operator: Principal
) -> None:
    roast = services_by_hand.open_by_person(operator, machine, now=NOW)
    crack = recorder.MarkEvent("first_crack_start", 400_000, "inferred", 0.5, NOW)
    services.file_decisions(machine, [Filing(roast.pk, "boot1", 1, crack)], now=NOW)
    close(operator, machine)
    late = [
        recorder.RecordSample(500_000, at(550_000, 200.0), 5.0),
        recorder.ConfirmMark("first_crack_start", 400_000, 0.9, NOW),
        recorder.WithdrawMark("first_crack_start", 400_000, NOW),
        recorder.SetStatus("cooling"),
        recorder.CloseRoast("finished", NOW),
    ]
    services.file_decisions(machine, [Filing(roast.pk, "boot1", 2, one) for one in late], now=NOW)
    roast.refresh_from_db()
    mark = RoastEvent.objects.get(kind="first_crack_start")
    assert roast.status == "finished" and (mark.confidence, mark.withdrawn_at) == (0.5, None)


def test_a_loop_that_restarts_right_after_a_persons_charge_goes_on_with_it(
    machine: Machine, operator: Principal
) -> None:
    roast = services_by_hand.open_by_person(operator, machine, now=NOW)
    roast_id, state = services.resume_state(machine.pk)
    assert roast_id == roast.pk and state.roast is not None and state.roast.is_inferred
    assert not state.roast.are_beans_proved, "nobody saw the probe fall"
    moment = NOW + 2 * SECOND
    for boot, device_ms, elapsed_ms in (("boot1", 53_000, 3000), ("boot2", 700, 3000)):
        _, state = services.resume_state(machine.pk)
        taken = recorder.step(state, at(device_ms, 160.0, at=moment), boot)
        samples = [one.elapsed_ms for one in taken.decisions if isinstance(one, recorder.RecordSample)]
        assert samples == [elapsed_ms], boot


def test_the_newest_reading_and_the_sample_keep_environment_ambient_and_extras(
    machine: Machine, operator: Principal
) -> None:
    roast = services_by_hand.open_by_person(operator, machine, now=NOW)
    reading = at(
        51_000, 160.0, environment_temp_c=214.5, ambient_temp_c=21.5, at=START, quality={"state": Quality.ABSENT},
        extras={"drum_rpm": 42.5, "gas": "low", "is_lit": True, "igbt": [1, 2], "advice": "x" * 41},
    )  # fmt: skip
    services.write_latest(
        machine.pk, services.LinkState("up"), reading, rate_of_rise_c_per_min=None, are_beans_proved=False, now=NOW
    )
    latest = MachineReading.objects.get()
    assert (latest.environment_temp_c, latest.ambient_temp_c) == (214.5, 21.5)
    services.file_decisions(machine, [Filing(roast.pk, "b", 1, recorder.RecordSample(1000, reading, None))], now=NOW)
    sample = Sample.objects.get()
    assert (sample.environment_temp_c, sample.ambient_temp_c) == (214.5, 21.5)
    assert sample.extras == {"drum_rpm": 42.5, "gas": "low", "is_lit": 1}


@pytest.mark.parametrize(("count", "kept"), [(0, 0), (1, 1), (16, 16), (17, 16), (500, 16)])
def test_extras_of_a_sample_are_bounded(count: int, kept: int) -> None:
    found = sample_extras.kept({f"name{place}": place for place in range(count)})
    assert (len(found) if found else 0) == kept


@pytest.mark.parametrize(
    "value", [None, [1], {"a": 1}, "", "x" * 41, "a\0b", float("inf"), float("-inf"), float("nan"), 2**63, -(2**63)]
)
def test_an_extra_that_no_sample_keeps(value: object) -> None:
    assert sample_extras.kept({"name": value}) is None
    assert sample_extras.kept({"": 1, "x" * 41: 1}) is None


@pytest.mark.parametrize("value", [0, -1.5, 2**63 - 1025, "x", "x" * 40])
def test_an_extra_that_a_sample_keeps(value: object) -> None:
    assert sample_extras.kept({"name": value}) == {"name": value}
