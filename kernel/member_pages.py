"""What every page of the house stands on: members of an organisation only, their preferences, and who is here."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.cache import patch_vary_headers
from django.views.decorators.cache import never_cache

from kernel import clock, operator_pins, preferences
from kernel.principals import Principal


def members_only(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponseBase]:
    """People of an organisation only: a stranger goes to the sign-in page, a fragment's request gets 401.

    The person's preferences go into `request.preferences`; times are written in their zone, words in their language.
    """

    @wraps(view)
    @never_cache
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        principal = getattr(request, "principal", None)
        if principal is None or not principal.is_person:
            if request.headers.get("HX-Request") or request.headers.get("X-Console-Fetch"):
                return HttpResponse("You are signed out.", status=401, content_type="text/plain")
            return redirect_to_login(request.get_full_path(), reverse("console:sign_in"))
        chosen = preferences.preferences_of(principal.user)
        request.preferences = chosen  # type: ignore[attr-defined]
        with translation.override(chosen.language), timezone.override(preferences.zone_of(chosen)):
            if principal.organization is None or not principal.may("view"):
                return render(request, "console/no_organization.html", {"page": ""}, status=403)
            return view(request, principal, *args, **kwargs)

    return guarded


def in_browsers_language(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """For pages shown before anybody is known: in the language the browser asks for, where we have it."""

    @wraps(view)
    def worded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        with translation.override(translation.get_language_from_request(request)):
            response = view(request, *args, **kwargs)
            if isinstance(response, TemplateResponse):
                response.render()  # now: afterwards the language is English again
        patch_vary_headers(response, ["Accept-Language"])
        return response

    return worded


def page_context(request: HttpRequest, principal: Principal, page: str) -> dict[str, Any]:
    """What `base.html` needs: who is here and what they may do. ``page`` is the current entry of the navigation."""
    now = clock.now()
    return {
        "page": page,
        "person": principal,
        "organization": principal.organization,
        "may_operate": principal.may("operate"),
        "may_lead": principal.may("lead"),
        "server_now": now,
        "preferences": request.preferences,  # type: ignore[attr-defined]
        "may_switch": principal.via == "session" and operator_pins.shift_of(request, now=now) is not None,
    }
