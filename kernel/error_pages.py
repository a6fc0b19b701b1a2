"""Refusals outside DRF: JSON in the contract's shape under /v1/, a page with the same words elsewhere."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import render
from django.template import TemplateDoesNotExist
from django.utils import translation
from django.utils.translation import gettext

from kernel import preferences
from kernel.errors import ApiError, error_body

JSON_PATHS = ("/v1/", "/livez", "/readyz", "/ready", "/health", "/healthz", "/metrics")


def wants_json(request: HttpRequest) -> bool:
    """Whether this path belongs to programs."""
    return request.path.startswith(JSON_PATHS)


def answer(request: HttpRequest, status: int, code: str, message: str, how_to_fix: str, **context: Any) -> HttpResponse:
    """One refusal, as JSON or as a page."""
    body = error_body(code, message, how_to_fix, **context)
    if wants_json(request):
        return JsonResponse(body, status=status)
    try:
        with translation.override(preferences.language_of(request)):
            said = {"message": gettext(message), "how_to_fix": gettext(how_to_fix) if how_to_fix else ""}
            return render(request, "kernel/error.html", {**body, **said, "status": status}, status=status)
    except (TemplateDoesNotExist, ValueError):  # no such page here, or its static files were not collected
        return HttpResponse(f"{message} {how_to_fix}", status=status, content_type="text/plain; charset=utf-8")


def answer_api_error(request: HttpRequest, error: ApiError) -> HttpResponse:
    """An ApiError raised outside DRF."""
    return answer(request, error.status, error.code, error.message, error.how_to_fix, **error.context)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    return answer(request, 400, "malformed_request", "The request makes no sense to us.", "Go back and try again.")


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    return answer(request, 403, "not_allowed", "You may not do this.", "Ask somebody with the right role.")


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    return answer(request, 404, "not_found", "There is no such thing here.", "Check the address and your organisation.")


def server_error(request: HttpRequest) -> HttpResponseBase:
    return answer(
        request, 500, "internal_error", "Something broke on our side; it is in the log.", "Try again; tell an admin."
    )


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponseBase:
    return answer(
        request,
        403,
        "csrf_failed",
        "This form was not opened by you here, or is too old.",
        "Reload the page and repeat.",
    )
