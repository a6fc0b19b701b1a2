"""One shape for every refusal: {"error", "message", "how_to_fix", …context}, and the one handler that writes it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import BadRequest, PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import DatabaseError, DataError, InterfaceError, OperationalError
from django.http import Http404
from django.utils import translation
from django.utils.translation import gettext
from rest_framework import exceptions as drf
from rest_framework.response import Response

from kernel.languages import browsers_language

logger = logging.getLogger(__name__)


class ApiError(Exception):
    """A refusal with a stable ``code``; rooms raise a subclass that says what the caller may do next."""

    status = 400

    def __init__(
        self, code: str, message: str, how_to_fix: str = "", status: int | None = None, **context: Any
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.how_to_fix = how_to_fix
        self.context = context
        if status is not None:
            self.status = status

    def body(self) -> dict[str, Any]:
        return error_body(self.code, self.message, self.how_to_fix, **self.context)


class Malformed(ApiError):
    """400: we could not read it. Correct the request."""

    status = 400


class Unauthenticated(ApiError):
    """401: who are you?"""

    status = 401


class Forbidden(ApiError):
    """403: not you."""

    status = 403


class NotFound(ApiError):
    """404: not there, for you."""

    status = 404

    def __init__(self, code: str = "not_found", message: str = "", how_to_fix: str = "", **context: Any) -> None:
        super().__init__(
            code,
            message or "There is no such thing here.",
            how_to_fix or "Check the id and your organisation.",
            **context,
        )


class Conflict(ApiError):
    """409: the world has moved. Look again, then decide."""

    status = 409


class Stale(ApiError):
    """412: you decided on something older than what stands now."""

    status = 412


class Unprocessable(ApiError):
    """422: understood, but impossible."""

    status = 422


class TooMany(ApiError):
    """429: slow down."""

    status = 429


class NotNow(ApiError):
    """503: try again shortly."""

    status = 503


def error_body(code: str, message: str, how_to_fix: str = "", **context: Any) -> dict[str, Any]:
    """The contract's shape as a dict."""
    return {"error": code, "message": message, "how_to_fix": how_to_fix, **context}


_DRF_ANSWERS: dict[type[Exception], tuple[int, str, str]] = {
    drf.NotAuthenticated: (401, "not_signed_in", "Sign in, or send `Authorization: Bearer <key>`."),
    drf.AuthenticationFailed: (401, "not_signed_in", "Sign in, or send `Authorization: Bearer <key>`."),
    drf.PermissionDenied: (403, "not_allowed", "Ask somebody with the right role."),
    drf.ParseError: (400, "malformed_body", "Send one JSON object."),
    drf.MethodNotAllowed: (405, "method_not_allowed", "Use a method that the Allow header names."),
    drf.NotAcceptable: (406, "not_acceptable", "Accept application/json."),
    drf.UnsupportedMediaType: (415, "unsupported_media_type", "Send `Content-Type: application/json`."),
    drf.Throttled: (429, "too_many_requests", "Wait as long as Retry-After says."),
    drf.NotFound: (404, "not_found", "Check the id and your organisation."),
}

#: Of refusals that DRF words as another one.
_WAYS_OUT = {
    "csrf_failed": "Reload the page and repeat. A program uses an API key, or sends the token as `X-CSRFToken`."
}


def answer_exception(exc: Exception, context: Mapping[str, Any]) -> Response | None:
    """DRF's exception handler: our refusals, DRF's, Django's and the database's, all in one shape.

    What nobody foresaw is logged and answered by the 500 page (`kernel.error_pages.server_error`).
    """
    if isinstance(exc, ApiError):
        response = Response(exc.body(), status=exc.status)
        if exc.status == 401:
            response["WWW-Authenticate"] = "Bearer"
        if exc.status in (429, 503):
            response["Retry-After"] = str(exc.context.get("retry_after_s", 1))
        return response
    if isinstance(exc, drf.ValidationError):
        with translation.override(browsers_language(context.get("request"))):
            return Response(_invalid_body(exc), status=400, headers={"Vary": "Accept-Language"})
    if isinstance(exc, drf.APIException):
        return _answer_drf(exc)
    return _answer_platform(exc)


def _answer_drf(exc: drf.APIException) -> Response:
    status, code, how_to_fix = _DRF_ANSWERS.get(
        type(exc), (exc.status_code, str(exc.default_code), "See /v1/docs for what this endpoint takes.")
    )
    own_code = getattr(exc.detail, "code", None)
    how_to_fix = _WAYS_OUT.get(str(own_code), how_to_fix)
    if isinstance(exc, drf.AuthenticationFailed | drf.PermissionDenied) and own_code and own_code != exc.default_code:
        code = own_code
    response = Response(error_body(code, str(exc.detail), how_to_fix), status=exc.status_code or status)
    if header := getattr(exc, "auth_header", None):
        response["WWW-Authenticate"] = header
    if wait := getattr(exc, "wait", None):
        response["Retry-After"] = str(int(wait) + 1)
    return response


def _answer_platform(exc: Exception) -> Response | None:
    if isinstance(exc, Http404):
        return Response(NotFound().body(), status=404)
    if isinstance(exc, PermissionDenied):
        return Response(error_body("not_allowed", "You may not do this.", "Ask somebody with the right role."), 403)
    if isinstance(exc, RequestDataTooBig):
        return Response(error_body("body_too_large", "The body is larger than 1 MB.", "Send less at once."), 413)
    if isinstance(exc, SuspiciousOperation | BadRequest):
        return Response(error_body("malformed_request", "The request makes no sense to us.", "Correct it."), 400)
    if isinstance(exc, DataError | OverflowError | UnicodeError | RecursionError):
        # A value no column can hold (a giant integer, a lone surrogate, NUL): the caller's, not ours.
        logger.warning("value out of range", exc_info=exc)
        return Response(
            error_body("value_out_of_range", "A value is too large, too deep or not text.", "Send a sensible value."),
            400,
        )
    if isinstance(exc, OperationalError | InterfaceError):
        logger.error("database unavailable", exc_info=exc)
        return Response(
            error_body("database_unavailable", "The database does not answer now.", "Try again in a moment."),
            status=503,
            headers={"Retry-After": "1"},
        )
    if isinstance(exc, DatabaseError | ValueError) and "NUL" in str(exc):
        return Response(error_body("nul_character", "Text may not hold a NUL character.", "Remove it."), 400)
    return None


def _invalid_body(exc: drf.ValidationError) -> dict[str, Any]:
    """Field errors, flattened to ``fields: {name: [messages]}``; the first one is the message."""
    detail = exc.detail
    fields: dict[str, list[str]] = {}
    _flatten("", detail, fields)
    name, messages = next(iter(fields.items()), ("", [gettext("The request is not valid.")]))
    message = f"{name}: {messages[0]}" if name else messages[0]
    code = "unknown_field" if _has_code(detail, "unknown_field") else "invalid"
    return error_body(code, message, gettext("Correct the named fields; /v1/docs describes them."), fields=fields)


def _flatten(path: str, detail: Any, fields: dict[str, list[str]]) -> None:
    if isinstance(detail, Mapping):
        for key, inner in detail.items():
            own = "" if key == "non_field_errors" else str(key)
            _flatten(".".join(part for part in (path, own) if part), inner, fields)
    elif isinstance(detail, list | tuple):
        for number, inner in enumerate(detail):
            _flatten(path if isinstance(inner, str) else f"{path}[{number}]", inner, fields)
    else:
        fields.setdefault(path, []).append(str(detail))


def _has_code(detail: Any, code: str) -> bool:
    if isinstance(detail, Mapping):
        return any(_has_code(inner, code) for inner in detail.values())
    if isinstance(detail, list | tuple):
        return any(_has_code(inner, code) for inner in detail)
    return getattr(detail, "code", None) == code
