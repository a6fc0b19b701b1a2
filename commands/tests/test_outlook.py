"""What the page is told of the near future: the golden curve, the plan for the end, the twin, an order's effect."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from commands.api import outlook as api_outlook
from commands.models import Proposal
from commands.tests.rows import AT, machine_row, organization_row, person_row
from kernel import clock, keys, principals
from kernel.models import AuditEntry
from roasts import outlook, services, twin
from roasts.library import planning, profile
from roasts.library.profile import ProfileDocument
from roasts.models import Machine, Profile, ProfileVersion, Roast, RoastEvent, Sample, TwinFit
from roasts.recording import recorder, services_planned
from roasts.recording.filing import Filing

pytestmark = pytest.mark.django_db
FC_S = 400.0


@pytest.fixture(autouse=True)
def nothing_is_kept():
    outlook.forget_all()
    api_outlook.forget_answers()
    yield
    outlook.forget_all()
    api_outlook.forget_answers()


def caller(role: str = "operator", slug: str = "demo") -> Client:
    user = person_row(f"{role}-{slug}", role, slug=slug)
    plain = keys.create_key(organization_row(slug), scopes=["operate", "read"], user=user, now=clock.now())[1]
    return Client(headers={"Authorization": f"Bearer {plain}"})


def golden() -> ProfileDocument:
    times = tuple(float(t) for t in range(0, 501, 10))
    temps = tuple(100.0 + 0.2 * t for t in times)
    return ProfileDocument(
        elapsed_s=times,
        golden_c=temps,
        low_c=tuple(t - 3 for t in temps),
        high_c=tuple(t + 3 for t in temps),
        corridor_bean_c=(100.0, 200.0),
        corridor_low=(8.0, 4.0),
        corridor_middle=(12.0, 8.0),
        corridor_high=(16.0, 12.0),
        development_s=(0.0, 50.0, 100.0),
        development_rise_c=(0.0, 8.0, 14.0),
        landmarks_s={"turning_point": 60.0, "first_crack_start": FC_S, "drop": 500.0},
        first_crack_c=180.0,
        drop_c=200.0,
        plan=(profile.PlannedSetting(120.0, "heater", 6), profile.PlannedSetting(300.0, "heater", 4)),
        sensor=profile.Sensor("mch_1"),
        roast_ids=("rst_1",),
    )


def open_roast(machine: Machine, *, follows: bool = False, seconds: int = 0, **values: Any) -> Roast:
    version = None
    if follows:
        named = Profile.objects.create(organization=machine.organization, name="Kenya", created_at=AT)
        version = ProfileVersion.objects.create(
            profile=named, version=2, document=profile.to_json(golden()), digest="d", created_at=AT
        )
    roast = Roast.objects.create(
        organization=machine.organization,
        machine=machine,
        started_at=AT,
        device_start_ms=0,
        profile_version=version,
        **values,
    )
    sample_roast(roast, seconds)
    return roast


def sample_roast(roast: Roast, seconds: int) -> None:
    for second in range(seconds):
        bean_c = 156.0 - 1.0 * second if second < 55 else 101.0 + 0.23 * (second - 55)
        Sample.objects.create(
            roast=roast,
            elapsed_ms=second * 1000,
            sequence=second + 1,
            at=AT + dt.timedelta(seconds=second),
            state="roasting",
            bean_temp_c=bean_c,
            infrared_temp_c=25.0 + min(second, 150) if second < 150 else 175.0,
            heater_step=7,
            fan_step=2,
            drum_step=9,
            voltage_v=200,
        )


def test_without_a_profile_there_is_no_golden_curve_and_no_plan() -> None:
    roast = open_roast(machine_row())
    answer = caller().get(f"/v1/roasts/{roast.pk}/golden").json()
    assert answer["profile_name"] == "" and answer["elapsed_s"] == []
    assert planning.plan_of(roast) == planning.EndPlan(None, None, "none")


def test_the_golden_curve_comes_with_its_band_and_corridor() -> None:
    roast = open_roast(machine_row(), follows=True)
    answer = caller().get(f"/v1/roasts/{roast.pk}/golden").json()
    assert (answer["profile_name"], answer["version"]) == ("Kenya", 2)
    assert answer["high_c"][0] - answer["low_c"][0] == pytest.approx(6.0)
    assert answer["corridor_low"] == [8.0, 4.0]


def test_once_first_crack_is_marked_the_development_counts_from_it() -> None:
    roast = open_roast(machine_row(), follows=True)
    RoastEvent.objects.create(roast=roast, kind="first_crack_start", elapsed_ms=350_000, source="person", at=AT)
    laid = planning.golden_of(roast)
    at_s = dict(zip(laid["elapsed_s"], laid["golden_c"], strict=True))
    assert at_s[350.0] == 180.0 and at_s[450.0] == 194.0
    assert max(t for t in at_s if t < 350.0) == 340.0


def test_the_development_counts_its_degrees_from_the_crack_as_the_probe_read_it() -> None:
    roast = open_roast(machine_row(), follows=True, seconds=380)
    mark = {"kind": "first_crack_start", "source": "person", "at": AT}
    RoastEvent.objects.create(roast=roast, elapsed_ms=350_500, **mark)  # between two samples
    read_c = Sample.objects.get(roast=roast, elapsed_ms=350_000).bean_temp_c
    laid = planning.golden_of(roast)
    at_s = dict(zip(laid["elapsed_s"], laid["golden_c"], strict=True))
    assert read_c < 170.0, "the golden one cracked at 180 °C"
    assert at_s[350.5] == pytest.approx(read_c) and at_s[450.5] == pytest.approx(read_c + 14.0)


def test_a_persons_plan_wins_over_the_profiles_and_is_audited() -> None:
    roast = open_roast(machine_row(), follows=True)
    assert planning.plan_of(roast) == planning.EndPlan(200.0, 100.0, "profile")
    answer = caller().post(
        f"/v1/roasts/{roast.pk}/plan",
        {"drop_temp_c": 205.0, "development_s": None},
        content_type="application/json",
    )
    assert answer.json() == {"drop_temp_c": 205.0, "development_s": None, "source": "person"}
    assert AuditEntry.objects.filter(verb="roast_end_planned").count() == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"drop_temp_c": 260.1, "development_s": None}, 400),
        ({"drop_temp_c": 99.9, "development_s": None}, 400),
        ({"drop_temp_c": 260.0, "development_s": 1200.0}, 200),
        ({"drop_temp_c": "hot", "development_s": None}, 400),
        ({"drop_temp_c": None}, 400),
    ],
)
def test_a_plan_has_bounds(body: dict[str, Any], status: int) -> None:
    roast = open_roast(machine_row())
    answer = caller().post(f"/v1/roasts/{roast.pk}/plan", body, content_type="application/json")
    assert answer.status_code == status, answer.content


def test_a_closed_roast_takes_no_plan() -> None:
    roast = open_roast(machine_row(), status="finished")
    body = {"drop_temp_c": 205.0, "development_s": None}
    answer = caller().post(f"/v1/roasts/{roast.pk}/plan", body, content_type="application/json")
    assert (answer.status_code, answer.json()["error"]) == (409, "roast_closed")


@pytest.mark.parametrize("path", ["roasts/{roast}/golden", "machines/{machine}/outlook"])
def test_another_organisation_sees_nothing(path: str) -> None:
    machine = machine_row()
    roast = open_roast(machine)
    stranger = caller("lead", slug="other")
    assert stranger.get("/v1/" + path.format(roast=roast.pk, machine=machine.pk)).status_code == 404


def test_without_an_open_roast_the_outlook_says_so() -> None:
    machine = machine_row()
    answer = caller().get(f"/v1/machines/{machine.pk}/outlook").json()
    assert answer["roast_id"] is None and "No roast" in answer["says"]


def test_before_the_first_reading_the_outlook_waits() -> None:
    machine = machine_row()
    open_roast(machine)
    assert "first readings" in caller().get(f"/v1/machines/{machine.pk}/outlook").json()["says"]


def test_a_machine_that_no_twin_was_fitted_for_has_no_outlook() -> None:
    machine = machine_row()
    Machine.objects.filter(pk=machine.pk).update(driver_kind="tcp-line")
    open_roast(machine, seconds=5)
    assert "fittwin" in caller().get(f"/v1/machines/{machine.pk}/outlook").json()["says"]


def test_a_live_roast_is_looked_ahead_with_a_band_and_a_plan() -> None:
    machine = machine_row()
    open_roast(machine, follows=True, seconds=200)
    answer = caller().get(f"/v1/machines/{machine.pk}/outlook").json()
    assert answer["elapsed_s"] == pytest.approx(199.0, abs=1.0)
    band = answer["prediction"]
    assert len(band["times_s"]) == 37 and band["times_s"][-1] - band["times_s"][0] == 180.0
    assert all(low <= c <= high for low, c, high in zip(band["low_c"], band["bean_c"], band["high_c"], strict=True))
    assert answer["drop"]["kind"] == "plan" and answer["first_crack"]["kind"] == "prediction"
    assert answer["next"] == {"heater": {"elapsed_s": 300.0, "step": 4}}
    assert "400 g assumed" in answer["says"]


def test_the_estimator_catches_up_and_ends_where_one_that_saw_all_at_once_ends() -> None:
    machine = machine_row()
    roast = open_roast(machine, seconds=120)
    outlook.outlook_of(machine)
    later = [
        Sample(
            roast=roast, elapsed_ms=s * 1000, sequence=s + 1, at=AT, state="roasting",
            bean_temp_c=115.0 + 0.2 * (s - 120), infrared_temp_c=150.0, heater_step=7, fan_step=2, drum_step=9,
        )
        for s in range(120, 160)
    ]  # fmt: skip
    Sample.objects.bulk_create(later)
    caught_up = outlook.outlook_of(machine).state
    outlook.forget_all()
    at_once = outlook.outlook_of(machine).state
    assert caught_up.node == at_once.node and caught_up.elapsed_s == at_once.elapsed_s


def hold(machine: Machine, roast: Roast, *, by: User) -> None:
    Proposal.objects.create(
        organization=machine.organization,
        machine=machine,
        roast=roast,
        order_type="SET_POWER",
        control="heater",
        target_step=4,
        reasoning="less",
        status="PENDING_APPROVAL",
        decision="HOLD",
        digest="x",
        proposer_user=by,
        proposed_at=clock.now(),
        expires_at=clock.now() + dt.timedelta(seconds=60),
    )


def test_a_held_order_shows_both_futures_and_less_heat_ends_cooler() -> None:
    machine = machine_row()
    roast = open_roast(machine, seconds=200)
    hold(machine, roast, by=person_row("anna", "operator"))
    answer = caller().get(f"/v1/machines/{machine.pk}/outlook").json()
    (effect,) = answer["orders"].values()
    assert effect["with_c"][0] == effect["without_c"][0]
    assert effect["with_c"][-1] < effect["without_c"][-1] - 1.0
    assert effect["within_c"] > 0


def test_a_batch_that_is_weighed_during_the_roast_is_followed_with_its_weight_from_then_on() -> None:
    machine = machine_row()
    roast = open_roast(machine, seconds=120)
    assert outlook.outlook_of(machine).state.mass_kg == 0.4
    Roast.objects.filter(pk=roast.pk).update(weight_in_g=700.0)
    later = outlook.outlook_of(machine)
    assert later.state.mass_kg == 0.7 and not later.is_mass_assumed
    outlook.forget_all()
    assert later.state.node == outlook.outlook_of(machine).state.node


def test_what_was_planned_before_the_charge_is_what_twin_curve_and_what_if_go_by() -> None:
    machine, anna, browser = machine_row(), person_row("anna", "operator"), caller()
    named = Profile.objects.create(organization=machine.organization, name="Kenya", created_at=AT)
    version = ProfileVersion.objects.create(
        profile=named, version=2, document=profile.to_json(golden()), digest="d", created_at=AT
    )
    said = {"bean": "Guji", "weight_in_g": 700.0}
    planned = services_planned.plan_batch(principals.for_user(anna), machine, said=said, version=version, now=AT)
    before = browser.get(f"/v1/machines/{machine.pk}/outlook").json()
    assert before["roast_id"] is None, "a plan is no roast: nothing is looked ahead yet"
    charged = recorder.OpenRoast(0, AT, is_late=False, is_spurious=False)
    services.file_decisions(machine, [Filing(planned.pk, "boot1", 1, charged)], now=AT)
    sample_roast(Roast.objects.get(), 200)
    hold(machine, Roast.objects.get(), by=anna)
    api_outlook.forget_answers()
    answer = browser.get(f"/v1/machines/{machine.pk}/outlook").json()
    assert answer["roast_id"] == planned.pk and "0.7 kg" in answer["says"] and "assumed" not in answer["says"]
    assert (answer["plan"]["drop_temp_c"], answer["plan"]["source"]) == (200.0, "profile")
    assert answer["next"] == {"heater": {"elapsed_s": 300.0, "step": 4}}
    assert browser.get(f"/v1/roasts/{planned.pk}/golden").json()["profile_name"] == "Kenya"
    assert outlook.outlook_of(machine).state.mass_kg == 0.7
    (heavy,) = answer["orders"].values()
    Roast.objects.update(weight_in_g=400.0)
    api_outlook.forget_answers()
    (usual,) = browser.get(f"/v1/machines/{machine.pk}/outlook").json()["orders"].values()
    assert heavy["with_c"] != usual["with_c"], "an order's effect is of this batch, not of the usual one"


@pytest.mark.parametrize("weight_in_g", [0.1, 19.9, 2000.1, 1_000_000.0])
def test_a_batch_of_a_weight_that_no_drum_takes_has_no_outlook_and_no_fault(weight_in_g: float) -> None:
    machine = machine_row()
    open_roast(machine, seconds=120, weight_in_g=weight_in_g)
    answer = caller().get(f"/v1/machines/{machine.pk}/outlook")
    assert answer.status_code == 200
    assert answer.json()["prediction"] is None and "weight" in answer.json()["says"]


@pytest.mark.parametrize("weight_in_g", [20.0, 2000.0])
def test_the_lightest_and_the_heaviest_batch_are_followed_and_said_to_be_unusual(weight_in_g: float) -> None:
    machine = machine_row()
    open_roast(machine, seconds=120, weight_in_g=weight_in_g)
    answer = caller().get(f"/v1/machines/{machine.pk}/outlook").json()
    assert answer["prediction"]["is_extrapolating"] and "batch mass" in answer["says"]


def test_a_twin_that_was_fitted_by_an_older_version_has_no_outlook_and_no_fault() -> None:
    machine = machine_row()
    open_roast(machine, seconds=120)
    TwinFit.objects.create(
        machine=machine,
        parameters={"schema": "twin/0"},
        data_digest="d",
        roast_count=3,
        is_current=True,
        created_at=AT,
    )
    answer = caller().get(f"/v1/machines/{machine.pk}/outlook")
    assert answer.status_code == 200 and "fittwin" in answer.json()["says"]


def test_samples_without_controls_or_probe_do_not_break_the_outlook() -> None:
    machine = machine_row()
    roast = open_roast(machine, seconds=100)
    Sample.objects.create(roast=roast, elapsed_ms=100_500, sequence=500, at=AT, state="roasting")
    state = outlook.outlook_of(machine).state
    assert isinstance(state, twin.TwinState)


def test_nobody_waits_while_another_page_has_the_outlook_worked_out(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = machine_row()
    open_roast(machine, seconds=5)
    meanwhile: list[dict[str, Any]] = []
    work_out = outlook.outlook_of

    def asked_again(asked: Machine) -> outlook.Outlook:
        if not meanwhile:
            meanwhile.append(api_outlook.answer_for(asked))
        return work_out(asked)

    monkeypatch.setattr(outlook, "outlook_of", asked_again)
    first = api_outlook.answer_for(machine)
    assert meanwhile[0]["roast_id"] is None and meanwhile[0]["says"] == api_outlook.CATCHING_UP
    assert first["roast_id"] is not None and api_outlook.answer_for(machine) == first


def test_rows_without_a_probe_are_read_once() -> None:
    machine = machine_row()
    roast = open_roast(machine, seconds=5)
    Sample.objects.filter(roast=roast).update(bean_temp_c=None)
    with pytest.raises(outlook.NoOutlook):
        outlook.outlook_of(machine)
    assert outlook._followed[roast.pk].last_ms == 4000


def marked_roasts(machine: Machine, crack_temps_c: list[float]) -> None:
    """Finished roasts, a day apart, with first cracks that a person marked at these temperatures of the probe."""
    for day, crack_c in enumerate(crack_temps_c):
        began_at = AT - dt.timedelta(days=30 - day)
        roast = Roast.objects.create(
            organization=machine.organization,
            machine=machine,
            started_at=began_at,
            device_start_ms=0,
            status="finished",
        )
        for second in range(350, 460, 5):
            at = began_at + dt.timedelta(seconds=second)
            Sample.objects.create(
                roast=roast,
                elapsed_ms=second * 1000,
                sequence=second,
                at=at,
                bean_temp_c=crack_c + 0.2 * (second - 400),
            )
        RoastEvent.objects.create(
            roast=roast, kind="first_crack_start", elapsed_ms=400_000, source="person", at=began_at
        )


def test_the_twin_expects_the_crack_where_it_is_heard_and_where_people_mark_by_habit() -> None:
    """The two kinds of mark stay apart, as they were when the twin's foresight was judged."""
    machine = machine_row()
    marked_roasts(machine, [190.0, 186.0, 190.0, 187.0, 190.0])
    found = outlook.crack_temperature_of(open_roast(machine))
    assert found is not None and found.count == 5
    assert found.habit_c == 190.0 and 0.2 < found.habit_share < 0.8
    assert 185.0 < found.mean_c < 190.0


def test_three_marked_cracks_are_needed_before_the_twins_own_temperature_gives_way() -> None:
    machine = machine_row()
    marked_roasts(machine, [186.0, 187.0])
    assert outlook.crack_temperature_of(open_roast(machine)) is None
