"""Pages about the people at the console: one's own units and PIN (`/me/`), and changing hands (`/switch/`)."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from typing import Any

from django import forms
from django.contrib.auth import authenticate
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods

from commands.console.pages import members_only, page_context
from kernel import clock, operator_pins, preferences
from kernel.models import Language, MassUnit, TemperatureUnit
from kernel.principals import Principal

_OWN_PAGE = re.compile(r"/(?:[A-Za-z0-9_-]+/)*")
_NUMBER = re.compile(r"[0-9]{1,9}")
SAVED_WORDS = {
    "units": _("Saved. Pages show it from now on."),
    "pin-set": _("Your PIN is set."),
    "pin-removed": _("Your PIN is gone: nobody switches to you at a shared tablet."),
}


class PreferencesForm(forms.Form):
    """Units, time zone, language."""

    temperature_unit = forms.ChoiceField(choices=TemperatureUnit.choices)
    mass_unit = forms.ChoiceField(choices=MassUnit.choices)
    time_zone = forms.CharField(required=False, max_length=64)
    language = forms.ChoiceField(choices=Language.choices)

    def clean_time_zone(self) -> str:
        name: str = self.cleaned_data["time_zone"]
        if name and name not in preferences.known_time_zones():
            raise forms.ValidationError(_("No such time zone. Choose one from the list, or the device's own."))
        return name


def by_session_only(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponseBase]:
    """These pages belong to a signed-in browser: a key has no tablet and no PIN."""

    @wraps(view)
    @members_only
    def guarded(request: HttpRequest, principal: Principal, *args: Any, **kwargs: Any) -> HttpResponse:
        if principal.via != "session":
            return redirect("console:sign_in")
        return view(request, principal, *args, **kwargs)

    return guarded


def _person_context(request: HttpRequest, principal: Principal, **more: Any) -> dict[str, Any]:
    """What `me.html` needs, with a form's own values where one was refused."""
    now = clock.now()
    return {
        **page_context(request, principal, "me", []),
        "temperature_units": TemperatureUnit.choices,
        "mass_units": MassUnit.choices,
        "languages": Language.choices,
        "time_zones": preferences.offered_time_zones(),
        "has_pin": principal.user is not None and operator_pins.has_pin(principal.user),
        "shift": operator_pins.shift_of(request, now=now),
        "is_switched": operator_pins.is_switched(request),
        "saved": SAVED_WORDS.get(request.GET.get("saved", ""), ""),
        **more,
    }


def _saved(word: str) -> HttpResponse:
    return redirect(f"{reverse('console:me')}?saved={word}")


@require_http_methods(["GET", "HEAD", "POST"])
@by_session_only
def me(request: HttpRequest, principal: Principal) -> HttpResponse:
    """How do I want to see things?"""
    if request.method != "POST":
        return render(request, "console/me.html", _person_context(request, principal))
    form = PreferencesForm(request.POST)
    if not form.is_valid():
        context = _person_context(request, principal, form_errors=form.errors)
        return render(request, "console/me.html", context, status=400)
    if principal.user is not None:
        preferences.save_preferences(principal.user, **form.cleaned_data)
    return _saved("units")


@require_http_methods(["GET", "HEAD", "POST"])
@by_session_only
def me_pin(request: HttpRequest, principal: Principal) -> HttpResponse:
    """Set my PIN, or remove it; either needs my password."""
    if request.method != "POST":
        return redirect("console:me")  # somebody reloaded the page after a refusal
    now = clock.now()
    known = authenticate(request, username=principal.name, password=request.POST.get("password", ""))
    pin, again = request.POST.get("pin", ""), request.POST.get("pin_again", "")
    error = ""
    if known is None or principal.user is None or known.pk != principal.user.pk:
        error = gettext(
            "That is not your password. Nothing has changed. (After ten wrong tries it is refused for five minutes.)"
        )
    elif request.POST.get("act") == "remove":
        operator_pins.remove_pin(principal, now=now)
        return _saved("pin-removed")
    elif pin != again:
        error = gettext("The two PINs differ. Nothing has changed.")
    else:
        try:
            operator_pins.set_pin(principal, pin, now=now)
        except operator_pins.WeakPin as refusal:
            error = f"{gettext(str(refusal))} " + gettext("Nothing has changed.")
    if error:
        return render(request, "console/me.html", _person_context(request, principal, pin_error=error), status=400)
    return _saved("pin-set")


def _next_page(request: HttpRequest) -> str:
    """Where to go on: a page of this console, else the first one."""
    given = request.POST.get("next") or request.GET.get("next") or "/"
    return given if len(given) <= 200 and _OWN_PAGE.fullmatch(given) else "/"


@require_http_methods(["GET", "HEAD", "POST"])
@by_session_only
def switch(request: HttpRequest, principal: Principal) -> HttpResponse:
    """Who takes over at this tablet?"""
    status, error = 200, ""
    chosen = request.POST.get("person", "")
    if request.method == "POST":
        user_id = int(chosen) if _NUMBER.fullmatch(chosen) else 0
        try:
            operator_pins.switch_operator(
                request, principal, user_id=user_id, pin=request.POST.get("pin", "")[:32], now=clock.now()
            )
            return redirect(_next_page(request))
        except operator_pins.TooManyTries as refusal:
            status, error = 429, gettext(str(refusal))
        except operator_pins.PinRefused as refusal:
            status, error = 403, gettext(str(refusal))
    context = {**page_context(request, principal, "switch", []), "next": _next_page(request), "error": error}
    people = operator_pins.people_to_switch_to(principal) if context["may_switch"] else []
    return render(request, "console/switch.html", {**context, "people": people, "chosen": chosen}, status=status)
