"""Before the shift: a machine's commissioning, step by step, and the STOP drill. Every act goes to the API."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_GET

from commands.api.serializers import render_time
from commands.commissioning import api as api_commissioning
from commands.commissioning import facts, services_commissioning
from commands.commissioning import steps as commissioning
from commands.console import gathering
from commands.console.pages import machine_or_404, page_context
from commands.models import Halt, StopDrill
from kernel.member_pages import members_only
from kernel.principals import Principal
from roasts.models import Machine

RESULT_SHAPES = {"passed": "✓", "failed": "✕", "open": "○"}
RESULT_WORDS = {"passed": _("Passed"), "failed": _("Not passed"), "open": _("To do")}
JUDGE_WORDS = {
    commissioning.Judge.READINGS.value: _("judged by readings"),
    commissioning.Judge.ORDERS.value: _("judged by your orders on the wire"),
    commissioning.Judge.EVENTS.value: _("judged by what was recorded"),
    commissioning.Judge.PERSON.value: _("you say so"),
}
ORDER_TYPES = {"heater": "SET_POWER", "fan": "SET_FAN", "drum": "SET_DRUM"}


def _wizard(machine: Machine, now: dt.datetime) -> dict[str, Any]:
    """Steps of the one under way, else of the one in force."""
    in_force, under_way = services_commissioning.in_force(machine), services_commissioning.under_way(machine)
    shown = under_way or in_force
    steps = api_commissioning.render_steps(shown, machine) if shown is not None else []
    for step in steps:
        step["shape"], step["word"] = RESULT_SHAPES[step["result"]], RESULT_WORDS[step["result"]]
        step["judge_words"], step["order_type"] = JUDGE_WORDS[step["judged_by"]], ORDER_TYPES.get(step["control"], "")
    left = [step["code"] for step in steps if step["result"] != "passed"]
    reading, link = facts.reading_of(machine, now)
    return {
        "in_force": in_force,
        "under_way": under_way,
        "steps": steps,
        "left": left,
        "next_code": left[0] if left else "",
        "limits": facts.limits_of(machine),
        "reading": reading or {},
        "link": link,
        "min_words": commissioning.MIN_WORDS_CHARACTERS,
        "sensors": {name: (reading or {}).get(name) for name in facts.SENSORS},
        "identity": _type_plate(machine),
    }


def _type_plate(machine: Machine) -> dict[str, Any]:
    """What the machine says of itself that a person can compare with its type plate: no driver's extras."""
    latest = getattr(machine, "latest", None)
    told = latest.identity if latest is not None else {}
    return {name: value for name, value in told.items() if isinstance(value, str | int | float)}


@require_GET
@members_only
def commissioning_page(request: HttpRequest, principal: Principal, machine_id: str) -> HttpResponse:
    """Is this machine fit to be moved by an agent, and who says so?"""
    machine = machine_or_404(principal, machine_id)
    context = page_context(request, principal, "machine", [machine])
    more = _wizard(machine, context["server_now"])
    template = "commissioning/_wizard.html" if request.headers.get("HX-Request") else "commissioning/page.html"
    return render(request, template, {**context, **more, "machine": machine})


@require_GET
@members_only
def drill_page(request: HttpRequest, principal: Principal, machine_id: str) -> HttpResponse:
    """Does STOP work today?"""
    machine = machine_or_404(principal, machine_id)
    context = page_context(request, principal, "machine", [machine])
    drills = StopDrill.objects.filter(machine=machine).select_related("user")[: facts.HISTORY]
    halts = list(Halt.objects.filter(machine=machine, closed_at__isnull=True))
    shown = [{**api_commissioning.render_drill(drill), "at": drill.at} for drill in drills]
    reading, link = facts.reading_of(machine, context["server_now"])
    more = {
        **gathering.gather_drill(principal, machine, context["server_now"]),
        "drills": shown,
        "halts": halts,
        # Any other halt is reset on the machine's page, where the lead says that they have looked.
        "is_drills_own": {halt.pk for halt in halts} <= {each["halt_id"] for each in shown},
        "reading": reading or {},
        "link": link,
        "asked_at": render_time(context["server_now"]),
    }
    template = "commissioning/_drills.html" if request.headers.get("HX-Request") else "commissioning/drill.html"
    return render(request, template, {**context, **more, "machine": machine})
