"""The alarms page: what stands, what has gone unseen, what is shelved; worst first."""

from __future__ import annotations

from collections import Counter

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from commands.alarms import rows as alarm_rows
from commands.alarms.rows import AlarmRow
from commands.alarms.states import AlarmState
from commands.console.pages import page_context
from kernel.member_pages import members_only
from kernel.principals import Principal
from roasts.models import Machine

UNSEEN = (AlarmState.UNACKNOWLEDGED, AlarmState.RETURNED)
SHELF_MINUTES = (2, 5, 10, 30, 60)  # what the page offers; a high alarm gets those up to its bound


@require_GET
@members_only
def alarms(request: HttpRequest, principal: Principal) -> HttpResponse:
    """What is wrong, who knows, and what was set aside?"""
    context = page_context(request, principal, "alarms", [])
    rows = alarm_rows.on_show(principal, context["server_now"])
    counts = {state.value: sum(1 for row in rows if row.state is state) for state in AlarmState}
    template = "alarms/_list.html" if request.headers.get("HX-Request") else "alarms/page.html"
    more = {"counts": counts, "unseen": unseen_of_machines(rows), "shelf_minutes": SHELF_MINUTES}
    return render(request, template, {**context, **more, "rows": rows, "is_full": len(rows) >= 500})


def unseen_of_machines(rows: list[AlarmRow]) -> list[tuple[Machine, int]]:
    """Machines with two and more alarms on show that nobody has seen, and how many; in the order of their worst."""
    machines = {row.alarm.machine_id: row.alarm.machine for row in rows}
    counts = Counter(row.alarm.machine_id for row in rows if row.state in UNSEEN)
    return [(machine, counts[pk]) for pk, machine in machines.items() if counts[pk] > 1]
