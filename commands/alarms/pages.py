"""The alarms page: what stands, what has gone unseen, what is shelved; worst first."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from commands.alarms import rows as alarm_rows
from commands.alarms.states import AlarmState
from commands.console.pages import page_context
from kernel.member_pages import members_only
from kernel.principals import Principal

SHELF_MINUTES = (2, 5, 10, 30, 60)  # what the page offers; a high alarm gets those up to its bound


@require_GET
@members_only
def alarms(request: HttpRequest, principal: Principal) -> HttpResponse:
    """What is wrong, who knows, and what was set aside?"""
    context = page_context(request, principal, "alarms", [])
    rows = alarm_rows.on_show(principal, context["server_now"])
    counts = {state.value: sum(1 for row in rows if row.state is state) for state in AlarmState}
    template = "alarms/_list.html" if request.headers.get("HX-Request") else "alarms/page.html"
    more = {"rows": rows, "counts": counts, "shelf_minutes": SHELF_MINUTES, "is_full": len(rows) >= 500}
    return render(request, template, {**context, **more})
