"""What every page of the house stands on: members of an organisation only, their preferences, and who is here."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache

from kernel import clock, operator_pins, preferences
from kernel.principals import Principal


def members_only(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponseBase]:
    """People of an organisation only: a stranger goes to the sign-in page, a fragment's request gets 401.

    The person's preferences go into `request.preferences`, and times are written in their zone.
    """

    @wraps(view)
    @never_cache
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        principal = getattr(request, "principal", None)
        if principal is None or not principal.is_person:
            if request.headers.get("HX-Request") or request.headers.get("X-Console-Fetch"):
                return HttpResponse("You are signed out.", status=401, content_type="text/plain")
            return redirect_to_login(request.get_full_path(), reverse("console:sign_in"))
        if principal.organization is None or not principal.may("view"):
            return render(request, "console/no_organization.html", {"page": ""}, status=403)
        request.preferences = preferences.preferences_of(principal.user)  # type: ignore[attr-defined]
        with timezone.override(preferences.zone_of(request.preferences)):  # type: ignore[attr-defined]
            return view(request, principal, *args, **kwargs)

    return guarded


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
