"""The wizard as its user meets it: API and pages, resumed, judged, signed; drills refused where they must be."""

from __future__ import annotations

import datetime as dt

import pytest
from django.test import Client
from rest_framework.test import APIClient

from commands.alarms import services_alarms
from commands.commissioning import services_commissioning, steps
from commands.models import Alarm, Commissioning, Execution, ExecutionStage, Halt, MachineLease, Proposal, StopDrill
from commands.tests.conftest import set_reading
from commands.tests.rows import person_row
from commands.tests.test_services_commissioning import new_machine
from kernel import clock, principals
from roasts.models import Machine, MachineReading

pytestmark = pytest.mark.django_db
WORDS = "behind the roaster, at knee height"


@pytest.fixture
def machine() -> Machine:
    """New, tended, its reading fresh."""
    row, now = new_machine(), clock.now()
    # (Of a minute ahead: however slow this machine is, the reading is never old in here.)
    set_reading(row, now + dt.timedelta(minutes=1), identity={"serial": "17"}, are_beans_proved=False, voltage_v=230)
    MachineLease.objects.create(
        machine=row, owner="loop", token=1, expires_at=now + dt.timedelta(hours=1), heartbeat_at=now
    )
    return row


def signed_in(name: str, role: str, slug: str = "demo") -> APIClient:
    client = APIClient()
    client.force_login(person_row(name, role, slug=slug))
    return client


@pytest.fixture
def operator() -> APIClient:
    return signed_in("otto", "operator")


def url(machine: Machine, act: str = "") -> str:
    return f"/v1/machines/{machine.pk}/commissioning{'/' + act if act else ''}"


def step(client: APIClient, machine: Machine, code: str, **body):
    given = {"code": code, "is_confirmed": True, "words": WORDS} | body
    return client.post(url(machine, "step"), given, format="json")


def result_of(answer, code: str) -> str:
    return next(each["result"] for each in answer.json()["under_way"]["steps"] if each["code"] == code)


def moved(machine: Machine, user, control: str, before: int, after: int, at: dt.datetime, ended: str) -> None:
    """A person's order that was sent and read back."""
    order = Proposal.objects.create(
        organization=machine.organization, machine=machine, order_type="SET_POWER", control=control, reasoning="x",
        target_step=after, from_step=before, proposer_user=user, decision="ALLOW", digest="d", proposed_at=at,
        expires_at=at + dt.timedelta(minutes=5),
    )  # fmt: skip
    row = Proposal.objects.filter(pk=order.pk)
    row.update(status="APPROVED", decided_at=at)
    execution = Execution.objects.create(
        proposal=order, machine=machine, lease_token=1, from_step=before, claimed_at=at, outcome="proved"
    )
    detail = {"writes": [{"meaning": "a step", "data_hex": "3402aaaa"}]}
    ExecutionStage.objects.create(execution=execution, stage="sent", at=at, detail=detail)
    row.update(status="EXECUTING")
    row.update(status=ended, actual_step=after, settled_at=at)


def all_evidence(machine: Machine, user, *, ago_s: float = 0.0, heater_ended: str = "COMPLETED") -> None:
    """What the orders', the drill's and the cable's steps look for."""
    at = clock.now() - dt.timedelta(seconds=ago_s)
    for control in ("heater", "fan", "drum"):
        ended = heater_ended if control == "heater" else "COMPLETED"
        moved(machine, user, control, 5, 6, at, ended)
        moved(machine, user, control, 6, 5, at, ended)
    StopDrill.objects.create(
        organization=machine.organization, machine=machine, user=user, at=at, is_passed=True,
        result="heat_off", first_byte_ms=4.0, proved_ms=900.0, proof={"has_heat_gone_down": True},
    )  # fmt: skip
    services_alarms.raise_alarm(machine, code="lost_device", cause="c", consequence="c", action="a", now=at)
    services_alarms.clear_alarm(machine, code="lost_device", now=at)


def test_a_machine_is_walked_through_and_signed(machine, operator):
    lead = signed_in("lena", "lead")
    assert operator.get(url(machine)).json()["is_commissioned"] is False
    operator.post(url(machine, "begin"), {}, format="json")
    user = Commissioning.objects.get().begun_by
    all_evidence(machine, user)
    for each in steps.STEPS:
        answer = step(operator, machine, each.code)
        assert answer.status_code == 200 and result_of(answer, each.code) == "passed", answer.json()
    assert operator.post(url(machine, "complete"), {}, format="json").status_code == 403
    done = lead.post(url(machine, "complete"), {}, format="json").json()
    assert done["is_commissioned"] and done["under_way"] is None and done["in_force"]["completed_by"] == "lena"


def test_what_happened_before_it_began_is_no_evidence(machine, operator):
    user = person_row("early", "operator")
    all_evidence(machine, user, ago_s=300)
    operator.post(url(machine, "begin"), {}, format="json")
    for code in ("heater", "fan", "drum", "cable_pull", "stop_drill"):
        assert result_of(step(operator, machine, code), code) == "failed", code


def test_an_order_that_failed_is_no_evidence(machine, operator):
    operator.post(url(machine, "begin"), {}, format="json")
    user = Commissioning.objects.get().begun_by
    all_evidence(machine, user, heater_ended="FAILED")
    assert result_of(step(operator, machine, "heater"), "heater") == "failed"
    assert result_of(step(operator, machine, "fan"), "fan") == "passed"


def test_it_is_resumed_where_it_was_left(machine, operator):
    for _ in range(2):
        operator.post(url(machine, "begin"), {}, format="json")
        assert result_of(step(operator, machine, "mains_switch"), "mains_switch") == "passed"
    again = operator.get(url(machine)).json()["under_way"]["steps"]
    assert next(each for each in again if each["code"] == "mains_switch")["evidence"]["words"] == WORDS
    assert Commissioning.objects.count() == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"code": "identity"}, 400),
        ({"code": "identity", "is_confirmed": "yes"}, 400),
        ({"code": "identity", "is_confirmed": 1}, 400),
        ({"code": "nonsense", "is_confirmed": True}, 400),
        ({"code": "identity", "is_confirmed": True, "words": 5}, 400),
        ({"code": "identity", "is_confirmed": True, "result": "passed"}, 400),
        ({"code": "identity", "is_confirmed": False}, 200),
    ],
)
def test_a_step_says_what_it_is_and_nothing_else(machine, operator, body, status):
    operator.post(url(machine, "begin"), {}, format="json")
    answer = operator.post(url(machine, "step"), body, format="json")
    assert answer.status_code == status, answer.json()
    if status == 200:
        assert result_of(answer, "identity") == "failed"


@pytest.mark.parametrize("act", ["step", "complete", "end"])
def test_nothing_is_done_before_it_began(machine, act):
    lead = signed_in("lena", "lead")
    bodies = {"step": {"code": "fire", "is_confirmed": True, "words": WORDS}, "complete": {}, "end": {"reason": "x"}}
    assert lead.post(url(machine, act), bodies[act], format="json").status_code == 409


def test_a_commissioning_in_force_is_taken_back_by_a_lead_alone(machine, operator):
    lead = signed_in("lena", "lead")
    now = clock.now()
    user = person_row("x", "lead")
    Commissioning.objects.create(
        organization=machine.organization, machine=machine, begun_by=user, begun_at=now, completed_by=user,
        completed_at=now,
    )  # fmt: skip
    assert operator.post(url(machine, "end"), {"reason": "moved"}, format="json").status_code == 403
    assert lead.post(url(machine, "end"), {"reason": "moved"}, format="json").json()["is_commissioned"] is False
    assert Commissioning.objects.get().end_reason == "moved"


@pytest.mark.parametrize("act", ["begin", "step", "complete", "end"])
def test_neither_viewer_nor_stranger_does_anything(machine, act):
    bodies = {"step": {"code": "fire", "is_confirmed": True}, "end": {"reason": "x"}}
    for client, status in ((signed_in("vera", "viewer"), 403), (signed_in("stan", "lead", "other"), 404)):
        assert client.post(url(machine, act), bodies.get(act, {}), format="json").status_code == status
    assert not Commissioning.objects.exists()


# --- drills ---


def drill(client: APIClient, machine: Machine, **body):
    return client.post(f"/v1/machines/{machine.pk}/drill", {"is_drum_empty": True} | body, format="json")


def test_a_drill_needs_an_empty_drum_said_by_a_person_who_may_operate(machine, operator):
    assert drill(operator, machine, is_drum_empty=False).status_code == 400
    assert operator.post(f"/v1/machines/{machine.pk}/drill", {}, format="json").status_code == 400
    assert drill(signed_in("vera", "viewer"), machine).status_code == 403
    assert drill(signed_in("stan", "lead", "other"), machine).status_code == 404
    assert not StopDrill.objects.exists() and not Halt.objects.exists()


def test_a_drill_with_beans_in_the_drum_is_refused(machine, operator):
    set_reading(machine, clock.now(), are_beans_proved=True)
    answer = drill(operator, machine)
    assert (answer.status_code, answer.json()["error"]) == (409, "beans_in_drum")


def test_a_drill_of_a_halted_machine_is_refused(machine, operator):
    Halt.objects.create(
        organization=machine.organization, machine=machine, kind="stop", opened_at=clock.now(),
        opened_by_kind="person", opened_by_id="usr_1", opened_by_name="x",
    )  # fmt: skip
    answer = drill(operator, machine)
    assert (answer.status_code, answer.json()["error"]) == (409, "already_halted")


@pytest.mark.parametrize(("kind", "is_drilled", "is_offered"), [("stop", True, True), ("interlock", False, False)])
def test_the_drills_page_resets_the_drills_own_halt_and_no_other(machine, kind, is_drilled, is_offered):
    """“STOP drill” stands there as the reason already: it must not become the reason why an interlock was reset."""
    halt = Halt.objects.create(
        organization=machine.organization, machine=machine, kind=kind, opened_at=clock.now(),
        opened_by_kind="person", opened_by_id="usr_1", opened_by_name="x",
    )  # fmt: skip
    if is_drilled:
        StopDrill.objects.create(
            organization=machine.organization, machine=machine, user=person_row("x", "operator"), is_passed=True,
            result="heat_off", at=clock.now(), proof={"halt_id": halt.pk},
        )  # fmt: skip
    body = page("lena", "lead", f"/machines/{machine.pk}/drill/")
    assert ('id="reset-drill"' in body) == is_offered
    assert f'<a href="/machines/{machine.pk}/">' in body


def test_a_failed_drill_voids_the_one_that_passed_before(machine, operator):
    user = person_row("x", "operator")
    for is_passed, ago_s in ((True, 60), (False, 10)):
        StopDrill.objects.create(
            organization=machine.organization, machine=machine, user=user, is_passed=is_passed, result="heat_off",
            at=clock.now() - dt.timedelta(seconds=ago_s),
        )  # fmt: skip
    listed = operator.get(f"/v1/machines/{machine.pk}/drill").json()
    assert [each["is_passed"] for each in listed["drills"]] == [False, True]
    assert listed["is_due"] is True and listed["counts_until"] is None


# --- pages ---


def page(name: str, role: str, path: str) -> str:
    browser = Client()
    browser.force_login(person_row(name, role))
    answer = browser.get(path)
    assert answer.status_code == 200
    return answer.content.decode()


def test_the_wizard_shows_a_type_plate_and_no_drivers_extras(machine, operator):
    identity = {"serial": "1183", "hours_on": 412.0, "extras": {"drum_motor_h": 206.0}}
    MachineReading.objects.filter(machine=machine).update(identity=identity)
    operator.post(url(machine, "begin"), {}, format="json")
    body = page("olga", "operator", f"/machines/{machine.pk}/commissioning/")
    assert "1183" in body and "drum_motor_h" not in body


def test_the_wizard_shows_every_step_in_words_and_shapes(machine, operator):
    operator.post(url(machine, "begin"), {}, format="json")
    step(operator, machine, "mains_switch")
    step(operator, machine, "heater")
    body = page("olga", "operator", f"/machines/{machine.pk}/commissioning/")
    for each in steps.STEPS:
        assert each.title in body and f'id="step-{each.code}"' in body
    assert "Not commissioned." in body and "11 of 12" in body and WORDS in body
    assert body.count("✓") == 1 and body.count('<span aria-hidden="true">✕</span>') == 1
    assert 'data-stop="' in body, "STOP is in reach"
    assert "Sign: this machine" not in body


def test_the_drill_page_says_what_passes_and_what_is_due(machine):
    body = page("olga", "operator", f"/machines/{machine.pk}/drill/")
    for words in ("STOP drill due:", "250 ms", "None yet.", "Press STOP now, as a drill", "Not commissioned"):
        assert words in body


def test_a_viewer_reads_and_presses_nothing(machine):
    for path in ("commissioning", "drill"):
        body = page(f"vera-{path}", "viewer", f"/machines/{machine.pk}/{path}/")
        assert "data-json" not in body


def test_a_virtual_machines_record_says_that_nobody_walked_through_it():
    machine = new_machine(is_virtual=True)
    lead = principals.for_user(person_row("lena", "lead"))
    services_commissioning.record_for_virtual(machine, by=lead, now=clock.now())
    body = page("olga", "operator", f"/machines/{machine.pk}/commissioning/")
    assert "nobody walked through it" in body and "In force" in body
    assert "counts until" in page("olaf", "operator", f"/machines/{machine.pk}/drill/")


def test_the_alarms_page_says_states_in_words_and_shapes(machine, operator):
    for code in ("one", "two", "three"):
        services_alarms.raise_alarm(
            machine, code=code, cause="It is hot.", consequence="c", action="a", now=clock.now()
        )
    rows = {alarm.code: alarm for alarm in Alarm.objects.all()}
    operator.post(f"/v1/alarms/{rows['one'].pk}/shelve", {"minutes": 5, "reason": "fan <b>"}, format="json")
    services_alarms.clear_alarm(machine, code="two", now=clock.now())
    body = page("olga", "operator", "/alarms/")
    for words in ("Stands, not acknowledged", "Gone, not seen yet", "Shelved by otto", "fan &lt;b&gt;", "◆", "○", "▭"):
        assert words in body
    assert body.count("data-heard") == 1 and "10 min</option>" in body and "30 min</option>" not in body
