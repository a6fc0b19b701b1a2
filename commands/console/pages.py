"""The console's pages and their fragments: authorise, gather, render. Every act goes to the API."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView, LogoutView
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_GET

from commands.console import gathering, next_batch
from commands.console.order_words import REJECTION_WORDS
from commands.stop.authority import TOKEN_LIFE_S
from drivers import keeper_config, stop_token
from kernel import clock, member_pages, operator_pins
from kernel.member_pages import in_browsers_language, members_only
from kernel.principals import Principal
from roasts.models import Machine

#: Fragment name → how its data is gathered. The template is `console/_<name>.html`.
PANELS: dict[str, Callable[..., dict[str, Any]]] = {
    "queue": gathering.gather_queue,
    "orders": gathering.gather_orders,
    "halts": gathering.gather_halts,
    "hands": gathering.gather_hands,
    "drill": gathering.gather_drill,
    "roast": gathering.gather_roast,
    "next": next_batch.gather_next,
    "alarms": gathering.gather_alarms,
    "grants": gathering.gather_grants,
}


def machine_or_404(principal: Principal, machine_id: str) -> Machine:
    """A machine of the principal's organisation; another's is not there."""
    machine = gathering.machines_on_show(principal).filter(pk=machine_id).first()
    if machine is None:
        raise Http404("No such machine in your organisation.")
    return machine


def page_context(request: HttpRequest, principal: Principal, page: str, machines: list[Machine]) -> dict[str, Any]:
    """What every page needs: who is here, what they may do, and a STOP token for each machine shown."""
    tokens = issue_stop_tokens(principal, machines)
    return {**member_pages.page_context(request, principal, page), "stop_tokens": json.dumps(tokens)}


def issue_stop_tokens(principal: Principal, machines: list[Machine]) -> dict[str, str]:
    """machine id → a short-lived signed token with which this person's page stops it without a database."""
    if not principal.may("stop") or not machines:
        return {}
    key = keeper_config.ensure_stop_key(settings.RUN_DIR)
    expires_at_unix = int(clock.now().timestamp()) + TOKEN_LIFE_S
    return {m.pk: stop_token.sign(key, m.pk, principal.id, expires_at_unix) for m in machines}


@require_GET
@members_only
def home(request: HttpRequest, principal: Principal) -> HttpResponse:
    """Is everything all right?"""
    overview = gathering.gather_overview(principal, clock.now())
    context = page_context(request, principal, "home", [card.machine for card in overview.cards])
    shown = {"overview": overview, "queue": overview.queue, "rejections": REJECTION_WORDS}
    return render(request, "console/home.html", {**context, **shown})


@require_GET
@members_only
def home_cards(request: HttpRequest, principal: Principal) -> HttpResponse:
    """The machine cards and alarms again, after a decision."""
    overview = gathering.gather_overview(principal, clock.now())
    context = page_context(request, principal, "home", [])
    return render(request, "console/_cards.html", {**context, "overview": overview})


@require_GET
@members_only
def home_queue(request: HttpRequest, principal: Principal) -> HttpResponse:
    """What asks for a person on any machine, again, after a decision."""
    context = page_context(request, principal, "home", [])
    ids = [machine.pk for machine in gathering.machines_on_show(principal)]
    queue = gathering.queue_of(principal, ids, gathering.full_scales(ids), context["server_now"])
    return render(request, "console/_queue_all.html", {**context, "queue": queue, "rejections": REJECTION_WORDS})


@require_GET
@members_only
def machine(request: HttpRequest, principal: Principal, machine_id: str) -> HttpResponse:
    """What is this roast doing, and what is asked of me?"""
    shown = machine_or_404(principal, machine_id)
    context = page_context(request, principal, "machine", [shown])
    panels = {name: gather(principal, shown, context["server_now"]) for name, gather in PANELS.items()}
    merged: dict[str, Any] = {}
    for values in panels.values():
        merged.update(values)
    return render(request, "console/machine.html", {**context, **merged, "machine": shown})


@require_GET
@members_only
def machine_panel(request: HttpRequest, principal: Principal, machine_id: str, panel: str) -> HttpResponse:
    """One panel of the machine page again, after a decision."""
    if panel not in PANELS:
        raise Http404("No such panel.")
    shown = machine_or_404(principal, machine_id)
    context = page_context(request, principal, "machine", [])
    data = PANELS[panel](principal, shown, context["server_now"])
    return render(request, f"console/_{panel}.html", {**context, **data, "machine": shown})


@require_GET
@members_only
def stop_tokens(request: HttpRequest, principal: Principal) -> HttpResponse:
    """Fresh STOP tokens for an open page (asked for every few minutes), and the server's time."""
    tokens = issue_stop_tokens(principal, list(gathering.machines_on_show(principal)))
    return JsonResponse({"tokens": tokens, "server_now": clock.now().isoformat()})


@method_decorator(in_browsers_language, name="dispatch")
class SignIn(LoginView):
    """Name and password; the form keeps what was typed and says kindly what was wrong."""

    template_name = "registration/login.html"
    redirect_authenticated_user = True

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        """A password begins a shift: until it ends, this device may change hands by PIN."""
        answer = super().form_valid(form)
        operator_pins.begin_shift(self.request, now=clock.now())
        return answer


class SignOut(LogoutView):
    """Signs out (POST only) and shows the sign-in page."""
