"""What every request passes: an id, sane bytes, the drain gate, and who is asking."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone, translation
from django.utils.cache import patch_vary_headers

from kernel import authentication, draining, error_pages, ids, keys, operator_pins, preferences
from kernel.errors import ApiError
from kernel.log_lines import add_log_ids, log_context

logger = logging.getLogger(__name__)
GetResponse = Callable[[HttpRequest], HttpResponseBase]
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
#: Parameter of an address → the id that log lines of its request carry.
_LOG_IDS = {"machine_id": "machine_id", "proposal_id": "order_id", "roast_id": "roast_id"}
ADMIN_PATH = "/admin/"
_STOP_PATH = re.compile(r"^/v1/machines/[^/]+/stop/?$")


class RequestContextMiddleware:
    """Gives the request an id (the caller's `X-Request-ID` if it is one) for logs and the answer; adds headers."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        given = request.headers.get("X-Request-ID", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else ids.new("req")
        request.request_id = request_id  # type: ignore[attr-defined]
        with log_context(request_id=request_id):
            response = self.get_response(request)
        response["X-Request-ID"] = request_id
        response.setdefault("Permissions-Policy", "camera=(), microphone=(), geolocation=(), usb=()")
        if request.path.startswith("/v1/"):
            response.setdefault("Cache-Control", "no-store")
        return response

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: dict[str, Any]) -> None:
        """What the address names, log lines name."""
        add_log_ids(**{name: str(kwargs[word])[:64] for word, name in _LOG_IDS.items() if word in kwargs})


class WellFormedMiddleware:
    """Refuses NUL bytes and half characters in addresses before a database meets them."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        query = request.META.get("QUERY_STRING", "")
        if "\0" in request.path_info or "\0" in query or "%00" in query:
            return error_pages.answer(
                request, 400, "nul_character", "An address may not hold a NUL character.", "Remove it."
            )
        if "\ufffd" in request.path_info:
            return error_pages.answer(request, 400, "not_utf8", "The address is not UTF-8.", "Encode it as UTF-8.")
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Our refusals, raised by plain Django views."""
        if isinstance(exception, ApiError):
            return error_pages.answer_api_error(request, exception)
        if isinstance(exception, DatabaseError) and error_pages.wants_json(request):
            logger.error("database error", exc_info=exception)
            return error_pages.answer(
                request, 503, "database_unavailable", "The database does not answer now.", "Try again in a moment."
            )
        return None


class DrainMiddleware:
    """A process that is leaving takes nothing new; what is being read may still be read, and STOP always works."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        is_write = request.method not in ("GET", "HEAD", "OPTIONS")
        if is_write and draining.is_draining() and not _STOP_PATH.match(request.path):
            response = error_pages.answer(
                request, 503, "draining", "This server is shutting down.", "Try again in a few seconds."
            )
            response["Retry-After"] = "2"
            return response
        return self.get_response(request)


class AdminByPasswordMiddleware:
    """A PIN on a shared tablet opens the console, not the admin: for that the person signs in with the password."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path.startswith(ADMIN_PATH) and operator_pins.is_switched(request):
            return error_pages.answer(
                request, 403, "password_needed", "The admin opens with a password, not with a PIN.",
                "Sign out, sign in with your password, and come back.",
            )  # fmt: skip
        return self.get_response(request)


class PrincipalMiddleware:
    """Puts a Principal, or None for a stranger, into ``request.principal``; a dead key's error beside it."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request.principal = None  # type: ignore[attr-defined]
        request.principal_error = None  # type: ignore[attr-defined]
        if authentication.has_bearer(request) or settings.SESSION_COOKIE_NAME in request.COOKIES:
            try:
                request.principal = authentication.resolve_principal(request)  # type: ignore[attr-defined]
            except keys.BadKey as error:
                request.principal_error = error  # type: ignore[attr-defined]
            except DatabaseError as error:
                logger.error("cannot tell who is asking", exc_info=error)
                return error_pages.answer(
                    request, 503, "database_unavailable", "The database does not answer now.", "Try again in a moment."
                )
        return self.get_response(request)


class AdminLanguageMiddleware:
    """The admin in the language and time zone of who is signed in; its sign-in page as the browser asks.

    Django's LocaleMiddleware would do this for every address: the API and the record stay English.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not request.path.startswith(ADMIN_PATH):
            return self.get_response(request)
        chosen = preferences.of_request(request)
        language = chosen.language if chosen is not None else translation.get_language_from_request(request)
        zone = preferences.zone_of(chosen) if chosen is not None else timezone.get_default_timezone()
        with translation.override(language), timezone.override(zone):
            response = self.get_response(request)
        patch_vary_headers(response, ["Accept-Language"])
        return response
