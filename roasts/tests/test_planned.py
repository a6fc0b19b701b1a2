"""The next batch: planned before its beans are in, heated up for, charged under the same id, or withdrawn."""

from __future__ import annotations

import dataclasses
import datetime as dt
import threading
from typing import Any

import pytest
from django.db import IntegrityError, connections

from kernel import clock
from kernel.errors import Conflict, Forbidden, NotFound
from kernel.models import AuditEntry, Organization, Site
from kernel.principals import Principal, for_user
from roasts import machines, services
from roasts.library import services_library
from roasts.models import OPEN, PLANNED, Machine, MachineReading, Roast, RoastStatus
from roasts.recording import recorder, services_by_hand, services_planned
from roasts.recording.filing import Filing
from roasts.recording.planned import PlannedBatch
from roasts.tests import test_by_hand
from roasts.tests.test_by_hand import NOW, person

pytestmark = pytest.mark.django_db
machine, operator = test_by_hand.machine, test_by_hand.operator
SECOND = dt.timedelta(seconds=1)
SAID = {"bean": "Guji", "lot": "L-7", "weight_in_g": 400.0}


def plan(who: Principal, on: Machine, **more: Any) -> Roast:
    values: dict[str, Any] = {"said": SAID, "version": None, "now": NOW} | more
    return services_planned.plan_batch(who, on, **values)


def opening(roast_id: str, at: dt.datetime = NOW + SECOND, start_ms: int = 60_000) -> Filing:
    return Filing(roast_id, "boot1", 10, recorder.OpenRoast(start_ms, at, is_late=False, is_spurious=False))


def status_of(roast_id: str) -> str | None:
    return Roast.with_planned.filter(pk=roast_id).values_list("status", flat=True).first()


def verbs(of: Machine) -> list[str]:
    rows = AuditEntry.objects.filter(organization=of.organization, subject_kind="roast")
    return list(rows.order_by("id").values_list("verb", flat=True))


def test_every_status_is_planned_open_or_closed() -> None:
    assert {*PLANNED, *OPEN, "finished", "aborted"} == set(RoastStatus.values)


def test_a_planned_batch_is_no_roast_to_whoever_does_not_ask_for_it(machine: Machine, operator: Principal) -> None:
    planned = plan(operator, machine)
    assert planned.status == "planned" and status_of(planned.pk) == "planned"
    assert not Roast.objects.exists() and not Roast.objects.open().exists() and machine.roasts.count() == 0
    assert services.resume_state(machine.pk)[0] == ""
    assert verbs(machine) == ["roast_planned"]


def test_one_batch_at_a_time_is_planned(machine: Machine, operator: Principal) -> None:
    planned = plan(operator, machine)
    with pytest.raises(Conflict) as refused:
        plan(operator, machine)
    assert refused.value.code == "batch_planned" and refused.value.context["roast_id"] == planned.pk
    with pytest.raises(IntegrityError):
        Roast.objects.create(
            organization=machine.organization, machine=machine, status="preheating", started_at=NOW, device_start_ms=0
        )


def test_who_may_not_operate_plans_and_withdraws_nothing(machine: Machine, operator: Principal) -> None:
    planned, viewer = plan(operator, machine), person(machine, "viewer")
    for act in (lambda: plan(viewer, machine), lambda: services_planned.withdraw_batch(viewer, planned, now=NOW)):
        with pytest.raises(Forbidden):
            act()


def test_the_charge_makes_the_planned_batch_the_open_roast(machine: Machine, operator: Principal) -> None:
    planned = plan(operator, machine)
    for _again in range(2):  # the second time: a crash between commit and journal
        services.file_decisions(machine, [opening(planned.pk)], now=NOW)
    roast = Roast.objects.get()
    assert (roast.pk, roast.status, roast.bean, roast.lot) == (planned.pk, "charged", "Guji", "L-7")
    assert (roast.weight_in_g, roast.started_at, roast.device_start_ms) == (400.0, NOW + SECOND, 60_000)
    assert verbs(machine) == ["roast_planned", "roast_opened"]
    assert plan(operator, machine).pk != roast.pk, "the one after it may be planned now"


def test_a_roast_of_another_id_leaves_the_plan_for_the_next_batch(machine: Machine, operator: Principal) -> None:
    planned = plan(operator, machine)
    services.file_decisions(machine, [opening("rst_other")], now=NOW)
    assert Roast.objects.get().pk == "rst_other" and Roast.objects.get().bean == ""
    assert status_of(planned.pk) == "planned"


def test_a_plan_withdrawn_in_the_moment_of_the_charge_leaves_a_bare_roast(
    machine: Machine, operator: Principal
) -> None:
    planned = plan(operator, machine)
    services_planned.withdraw_batch(operator, planned, now=NOW)
    assert status_of(planned.pk) is None and verbs(machine) == ["roast_planned", "roast_plan_withdrawn"]
    services.file_decisions(machine, [opening(planned.pk)], now=NOW)
    assert (Roast.objects.get().pk, Roast.objects.get().bean) == (planned.pk, "")


def test_once_charged_it_is_not_withdrawn(machine: Machine, operator: Principal) -> None:
    planned = plan(operator, machine)
    services.file_decisions(machine, [opening(planned.pk)], now=NOW)
    with pytest.raises(Conflict) as refused:
        services_planned.withdraw_batch(operator, planned, now=NOW)
    assert refused.value.code == "roast_begun" and Roast.objects.get().bean == "Guji"


def test_withdrawn_twice_it_is_not_there(machine: Machine, operator: Principal) -> None:
    planned = plan(operator, machine)
    services_planned.withdraw_batch(operator, planned, now=NOW)
    for act in (
        lambda: services_planned.withdraw_batch(operator, planned, now=NOW),
        lambda: services_library.describe_roast(operator, planned, changes={"bean": "x"}, reason="", now=NOW),
    ):
        with pytest.raises(NotFound):
            act()


def test_it_preheats_once_and_never_goes_back(machine: Machine, operator: Principal) -> None:
    assert not services_planned.heat_up(machine.pk, now=NOW), "nothing is planned"
    planned = plan(operator, machine)
    assert services_planned.heat_up(machine.pk, now=NOW) and status_of(planned.pk) == "preheating"
    assert not services_planned.heat_up(machine.pk, now=NOW)
    services_library.describe_roast(operator, planned, changes={"bean": "Sidamo"}, reason="", now=NOW)
    assert status_of(planned.pk) == "preheating"
    services.file_decisions(machine, [opening(planned.pk)], now=NOW)
    assert not services_planned.heat_up(machine.pk, now=NOW)
    assert (Roast.objects.get().status, Roast.objects.get().bean) == ("charged", "Sidamo")


def test_planned_on_a_machine_that_heats_up_it_preheats_at_once(machine: Machine, operator: Principal) -> None:
    MachineReading.objects.filter(pk=machine.pk).update(state="preheating", link="up")
    assert plan(operator, machine).status == "preheating"


@pytest.mark.parametrize(("after_s", "is_taken"), [(-1, False), (0, True), (1, True)])
def test_a_charge_before_the_plan_is_not_its_own(after_s: int, is_taken: bool) -> None:
    assert PlannedBatch("rst_1", NOW).is_for(NOW + after_s * SECOND) is is_taken


def test_of_two_roasts_that_open_the_first_alone_takes_the_planned_id(machine: Machine, operator: Principal) -> None:
    planned = plan(operator, machine)
    name = services_planned.ids_for(machine.pk, NOW)
    assert name() == planned.pk and name() != planned.pk
    assert services_planned.ids_for(machine.pk, NOW - SECOND)() != planned.pk


def test_a_person_who_says_charged_now_opens_the_planned_batch(machine: Machine, operator: Principal) -> None:
    planned = plan(operator, machine)
    opened = services_by_hand.open_by_person(operator, machine, now=NOW)
    assert (opened.pk, opened.bean) == (planned.pk, "Guji")
    services.file_decisions(machine, [opening(planned.pk, start_ms=49_000)], now=NOW)  # the loop understood it, too
    assert Roast.objects.get().device_start_ms == 49_000, "what the loop files is told from its own begin"


def test_a_closed_roast_stays_whatever_is_planned_after_it(machine: Machine, operator: Principal) -> None:
    first = plan(operator, machine)
    closing = dataclasses.replace(opening(first.pk), decision=recorder.CloseRoast("finished", NOW + 60 * SECOND))
    services.file_decisions(machine, [opening(first.pk), closing], now=NOW)
    second = plan(operator, machine, said={"bean": "Other"})
    services.file_decisions(machine, [opening(first.pk)], now=NOW)
    assert status_of(first.pk) == "finished" and status_of(second.pk) == "planned"


def test_a_machine_that_is_put_away_takes_its_plan_along(machine: Machine, operator: Principal) -> None:
    lead, planned = person(machine, "lead"), plan(operator, machine)
    machine.name = "Another name"
    machines.change_machine(lead, machine, changed={"name": machine.name}, now=NOW)
    assert status_of(planned.pk) == "planned", "any other change leaves it"
    machine.is_archived = True
    machines.change_machine(lead, machine, changed={"is_archived": "True"}, now=NOW)
    assert status_of(planned.pk) is None and verbs(machine) == ["roast_planned", "roast_plan_withdrawn"]
    assert AuditEntry.objects.get(verb="roast_plan_withdrawn").actor_id == lead.id


def test_a_machine_put_away_in_that_very_moment_takes_no_plan(machine: Machine, operator: Principal) -> None:
    Machine.objects.filter(pk=machine.pk).update(is_archived=True)
    with pytest.raises(NotFound):
        plan(operator, machine)
    assert not Roast.with_planned.exists()


@pytest.mark.django_db(transaction=True)
def test_of_two_people_who_plan_at_once_one_is_told(machine: Machine, operator: Principal) -> None:
    ends, gate = [], threading.Barrier(2)

    def work() -> None:
        gate.wait(timeout=30)
        try:
            plan(operator, machine)
            ends.append("planned")
        except Conflict as error:
            ends.append(error.code)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sorted(ends) == ["batch_planned", "planned"]


@pytest.mark.django_db(transaction=True)
def test_a_withdrawal_and_the_charge_at_once_leave_one_roast(machine: Machine, operator: Principal) -> None:
    for turn in range(3):
        Roast.objects.open().update(status="aborted")
        planned, gate, ends = plan(operator, machine), threading.Barrier(2), []

        def withdraw(planned: Roast = planned, gate: threading.Barrier = gate, ends: list[str] = ends) -> None:
            gate.wait(timeout=30)
            try:
                services_planned.withdraw_batch(operator, planned, now=NOW)
                ends.append("withdrawn")
            except Conflict as error:
                ends.append(error.code)
            finally:
                connections.close_all()

        thread = threading.Thread(target=withdraw)
        thread.start()
        gate.wait(timeout=30)
        services.file_decisions(machine, [opening(planned.pk)], now=NOW)
        thread.join(timeout=60)
        roast = Roast.objects.open().get()
        assert roast.pk == planned.pk, turn
        assert (ends, roast.bean) in ((["withdrawn"], ""), (["roast_begun"], "Guji"))


# --- over REST -------------------------------------------------------------------------------------


@pytest.fixture
def site_machine(organization: Organization, site: Site) -> Machine:
    return Machine.objects.create(
        organization=organization, site=site, name="B", driver_kind="bullet-r1", created_at=clock.now()
    )


def test_over_rest_a_batch_is_planned_changed_listed_and_withdrawn(site_machine: Machine, people, api_by_key) -> None:
    caller = api_by_key(user=people.operator, scopes=["operate"])
    body = {"machine_id": site_machine.pk, **SAID}
    made = caller.post("/v1/roasts", body, format="json", headers={"Idempotency-Key": "k1"})
    assert made.status_code == 201, made.content
    shown = made.json()
    assert (shown["status"], shown["bean"], shown["started_at"]) == ("planned", "Guji", None)
    again = caller.post("/v1/roasts", body, format="json", headers={"Idempotency-Key": "k1"})
    assert again.status_code == 201 and again.json() == shown
    other = caller.post("/v1/roasts", body, format="json")
    assert (other.status_code, other.json()["error"]) == (409, "batch_planned")
    path = f"/v1/roasts/{shown['roast_id']}"
    changed = caller.post(f"{path}/corrections", {"lot": "L-8"}, format="json")
    assert changed.status_code == 200 and changed.json()["values"]["lot"] == "L-8"
    assert caller.get(path).json()["status"] == "planned"
    assert caller.get("/v1/roasts").json()["results"] == []
    assert [row["roast_id"] for row in caller.get("/v1/roasts?status=planned").json()["results"]] == [shown["roast_id"]]
    assert caller.get(f"{path}/samples").status_code == 404, "it has none: it is no roast yet"
    gone = caller.post(f"{path}/withdraw", {}, format="json")
    assert (gone.status_code, gone.json()["roast_id"]) == (200, shown["roast_id"])
    assert caller.get(path).status_code == 404
    assert caller.post(f"{path}/withdraw", {}, format="json").status_code == 404


@pytest.mark.parametrize("body", [{}, {"machine_id": "mch_none"}, {"bean": 7}, {"weight_in_g": 0}, {"colour": 1}])
def test_over_rest_nonsense_is_refused(site_machine: Machine, people, api_by_key, body: dict[str, Any]) -> None:
    caller = api_by_key(user=people.operator, scopes=["operate"])
    whole = body if "machine_id" in body or not body else {"machine_id": site_machine.pk, **body}
    assert caller.post("/v1/roasts", whole, format="json").status_code in (400, 404)
    assert not Roast.with_planned.exists()


def test_over_rest_a_viewer_and_a_stranger_plan_nothing(site_machine: Machine, people, api_by_key) -> None:
    viewer = api_by_key(user=people.viewer, scopes=["read"])
    assert viewer.post("/v1/roasts", {"machine_id": site_machine.pk}, format="json").status_code == 403
    planned = plan(for_user(people.operator), site_machine)
    caller = api_by_key(user=people.stranger, scopes=["operate"], organization=people.stranger_organization)
    assert caller.get(f"/v1/roasts/{planned.pk}").status_code == 404
    assert caller.post(f"/v1/roasts/{planned.pk}/withdraw", {}, format="json").status_code == 404
    assert caller.post("/v1/roasts", {"machine_id": site_machine.pk}, format="json").status_code == 404
    assert caller.get("/v1/roasts?status=planned").json()["results"] == []
