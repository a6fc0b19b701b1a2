"""How far machines and agents may go: a machine's envelope, and every grant. Leads change them through the API."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_GET

from commands.console import gathering, order_words
from commands.console.pages import machine_or_404, page_context
from commands.console.words import CONTROL_WORDS, LEVEL_WORDS
from commands.models import BreakerTrip, Grant
from commands.rules import envelopes
from commands.rules.states import table_of
from kernel.etags import etag_of
from kernel.member_pages import members_only
from kernel.models import Agent
from kernel.principals import Principal
from roasts.models import ControlLimit

GRANTS_SHOWN = 200
AGENTS_OFFERED = 200
GRANT_DAYS = (1, 7, 30, 90)


@dataclass(frozen=True, slots=True)
class LimitView:
    """One control's limits, with what this kind of machine has at all."""

    limit: ControlLimit
    word: str
    kind_range: tuple[int, int] | None

    @property
    def low(self) -> int:
        return self.kind_range[0] if self.kind_range else 0

    @property
    def high(self) -> int:
        return self.kind_range[1] if self.kind_range else 100_000


@require_GET
@members_only
def envelope(request: HttpRequest, principal: Principal, machine_id: str) -> HttpResponse:
    """What may be asked of this machine at all?"""
    machine = machine_or_404(principal, machine_id)
    limits = [
        LimitView(row, str(CONTROL_WORDS.get(row.control, row.control)), envelopes.kind_range(machine, row.control))
        for row in envelopes.limits_of(machine)
    ]
    context = page_context(request, principal, "envelope", [])
    template = "console/_envelope.html" if request.headers.get("HX-Request") else "console/envelope.html"
    takes_preheat = table_of(machine.driver_kind).preheat_range_c is not None
    shown = {"limits": limits, "takes_preheat": takes_preheat, "etag": etag_of(envelopes.render_envelope(machine))}
    return render(request, template, {**context, **shown, "machine": machine})


@dataclass(frozen=True, slots=True)
class GrantView:
    """One grant in words: what it still counts for."""

    grant: Grant
    state: str  # live | lowered | expired | revoked
    word: str
    trips: tuple[BreakerTrip, ...]
    evidence: tuple[str, ...]


STATE_WORDS = {
    "live": _("In force"),
    "lowered": _("Lowered by a breaker"),
    "expired": _("Expired"),
    "revoked": _("Taken back"),
}
STATE_ICONS = {"live": "check", "lowered": "warning", "expired": "clock", "revoked": "cross"}


def grant_state(grant: Grant, now: dt.datetime) -> str:
    """live, lowered, expired or revoked."""
    if grant.revoked_at is not None:
        return "revoked"
    if grant.expires_at is not None and grant.expires_at <= now:
        return "expired"
    return "lowered" if grant.lowered_to else "live"


def gather_grants(principal: Principal, now: dt.datetime, *, is_all: bool) -> dict[str, Any]:
    """Grants in force first; with ``is_all`` also those that ended. Four queries."""
    rows = Grant.objects.for_principal(principal).select_related("agent", "machine", "granted_by")
    if not is_all:
        rows = rows.filter(revoked_at__isnull=True)
    grants = list(rows.order_by("-granted_at", "-id")[:GRANTS_SHOWN])
    trips: dict[str, list[BreakerTrip]] = {}
    for trip in BreakerTrip.objects.filter(grant__in=grants).order_by("at", "id"):
        trips.setdefault(trip.grant_id, []).append(trip)
    views = []
    for grant in grants:
        state = grant_state(grant, now)
        told, evidence = tuple(trips.get(grant.pk, ())), order_words.evidence_lines(grant.evidence)
        views.append((GrantView(grant, state, str(STATE_WORDS[state]), told, evidence), STATE_ICONS[state]))
    in_force = {"live": 0, "lowered": 0, "expired": 1, "revoked": 2}
    views.sort(key=lambda pair: in_force[pair[0].state])
    return {
        "grants": views,
        "is_all": is_all,
        "agents": list(Agent.objects.for_principal(principal).filter(is_active=True).order_by("name")[:AGENTS_OFFERED]),
        "machines": list(gathering.machines_on_show(principal)),
        "levels": LEVEL_WORDS,
        "days": GRANT_DAYS,
        "order_types": [(code, word) for code, word in order_words.ORDER_WORDS.items() if code.startswith("SET_")],
    }


@require_GET
@members_only
def grants(request: HttpRequest, principal: Principal) -> HttpResponse:
    """Which agent may go how far, and who signed it?"""
    context = page_context(request, principal, "grants", [])
    shown = gather_grants(principal, context["server_now"], is_all=request.GET.get("show") == "all")
    template = "console/_grant_list.html" if request.headers.get("HX-Request") else "console/grants.html"
    return render(request, template, {**context, **shown})
