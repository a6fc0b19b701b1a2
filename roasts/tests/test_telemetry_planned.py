"""A planned batch on a machine that a bridge feeds."""

from __future__ import annotations

import datetime as dt

import pytest

from kernel.principals import for_user
from roasts.models import Machine, Roast
from roasts.recording import services_planned
from roasts.tests import test_telemetry_filing
from roasts.tests.telemetry_senders import BEGUN, CHARGE_S, COOLED_S, DROP_S, span
from roasts.tests.test_telemetry_filing import Send, told

pytestmark = pytest.mark.django_db
machine, send, wall = test_telemetry_filing.machine, test_telemetry_filing.send, test_telemetry_filing.wall


def plan(machine: Machine, people, at: dt.datetime, bean: str = "Guji") -> Roast:
    who = for_user(people.operator)
    return services_planned.plan_batch(who, machine, said={"bean": bean}, version=None, now=at)


def test_it_preheats_with_the_machine_and_is_the_roast_at_the_charge(send: Send, machine: Machine, people) -> None:
    planned = plan(machine, people, BEGUN)
    told(send(1, span(0, 5, state="preheating")))
    assert Roast.with_planned.get().status == "preheating" and not Roast.objects.exists()
    told(send(2, span(5, 30)))
    roast = Roast.objects.get()
    assert (roast.pk, roast.status, roast.bean, roast.source) == (planned.pk, "roasting", "Guji", "telemetry")
    told(send(3, span(30, COOLED_S + 5)))
    assert Roast.objects.get().status == "finished" and not Roast.with_planned.planned().exists()


def test_a_plan_made_after_the_charge_stays_for_the_next_batch(send: Send, machine: Machine, people) -> None:
    planned = plan(machine, people, BEGUN + dt.timedelta(seconds=DROP_S))
    told(send(1, span(0, CHARGE_S + 20)))
    assert Roast.objects.get().pk != planned.pk and Roast.objects.get().bean == ""
    assert Roast.with_planned.planned().get().pk == planned.pk


def test_planning_in_mid_roast_changes_nothing_of_the_open_one(send: Send, machine: Machine, people) -> None:
    told(send(1, span(0, 60)))
    planned = plan(machine, people, BEGUN + dt.timedelta(seconds=60))
    told(send(2, span(60, 120)))
    roast = Roast.objects.get()
    assert (roast.status, roast.samples.count()) == ("roasting", 110)
    told(send(3, span(120, COOLED_S + 5)))
    told(send(4, span(COOLED_S + 5, COOLED_S + 10, state="charge")))
    assert Roast.with_planned.get(pk=planned.pk).status == "preheating"


def test_an_envelope_sent_twice_opens_it_once(send: Send, machine: Machine, people) -> None:
    planned = plan(machine, people, BEGUN)
    told(send(1, span(0, 30)))
    told(send(1, span(0, 30)))  # answered as before
    assert Roast.objects.get().pk == planned.pk


def test_opened_by_hand_where_the_points_say_nothing_it_is_the_planned_batch(
    send: Send, machine: Machine, people, signed_in
) -> None:
    silent = [{k: v for k, v in each.items() if k != "state"} for each in span(0, 60, bean_temp_c=180.0)]
    told(send(1, silent[:20]))
    planned = plan(machine, people, BEGUN + dt.timedelta(seconds=15))
    operator, path = signed_in(people.operator), f"/v1/telemetry/{machine.pk}"
    assert told(operator.post(f"{path}/open-roast", {}))["roast_id"] == planned.pk
    told(send(2, silent[20:50]))
    roast = Roast.objects.get()
    assert (roast.pk, roast.bean, roast.source, roast.samples.count()) == (planned.pk, "Guji", "telemetry", 30)
    told(operator.post(f"{path}/close-roast", {"reason": "beans are out"}), 200)
    after = plan(machine, people, BEGUN + dt.timedelta(seconds=50), bean="Sidamo")
    told(send(3, silent[50:]))
    assert told(operator.post(f"{path}/open-roast", {}))["roast_id"] == after.pk
    assert [row.bean for row in Roast.objects.order_by("started_at")] == ["Guji", "Sidamo"]
