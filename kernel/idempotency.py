"""`Idempotency-Key`: the same request twice has one effect and one answer."""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import json
from collections.abc import Callable
from typing import Any

from django.db import IntegrityError, OperationalError, connection, transaction
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.encoders import JSONEncoder

from kernel import canonical, clock, errors
from kernel.models import IdempotencyRecord

HEADER = "Idempotency-Key"
MAX_KEY_CHARACTERS = 200
KEPT = dt.timedelta(hours=24)
TWIN_WAIT = "2s"

View = Callable[..., Response]


def idempotent(view: View) -> View:
    """Decorates a DRF ``post``: with the header, key, effect and answer are one transaction.

    A twin that comes while the first still runs waits for its commit (at most TWIN_WAIT, else 409 `in_progress`) and
    gets the first answer with `Idempotent-Replay: true`; another body under the same key is 422. A 5xx or a 429 keeps
    nothing.
    """

    @functools.wraps(view)
    def once(self: Any, request: Request, *args: Any, **kwargs: Any) -> Response:
        key = request.headers.get(HEADER)
        if key is None:
            return view(self, request, *args, **kwargs)
        if not 0 < len(key) <= MAX_KEY_CHARACTERS or not key.isprintable():
            raise errors.Malformed(
                "bad_idempotency_key",
                f"{HEADER} must be 1 to {MAX_KEY_CHARACTERS} printable characters.",
                "Send a UUID.",
            )
        return _answer_once(key, request, lambda: view(self, request, *args, **kwargs))

    return once


def _answer_once(key: str, request: Request, act: Callable[[], Response]) -> Response:
    identity = _identity(key, request)
    digest = _request_digest(request)
    found = IdempotencyRecord.objects.filter(**identity, created_at__gt=clock.now() - KEPT).first()
    if found is not None:
        return _replay(found, digest)
    try:
        with transaction.atomic():
            _bound_waiting()
            record = _claim(identity, digest)
            response = _captured(act, request)
            record.is_done = True
            record.response_status = response.status_code
            record.response_body = json.dumps(response.data, cls=JSONEncoder)
            record.save(update_fields=["is_done", "response_status", "response_body"])
            return response
    except _Taken:
        found = IdempotencyRecord.objects.filter(**identity).first()
        if found is None:
            raise _in_progress() from None
        return _replay(found, digest)


class _Taken(Exception):
    """The key has a record already."""


def _claim(identity: dict[str, str], digest: str) -> IdempotencyRecord:
    now = clock.now()
    IdempotencyRecord.objects.filter(**identity, created_at__lte=now - KEPT).delete()
    try:
        with transaction.atomic():
            return IdempotencyRecord.objects.create(**identity, request_digest=digest, created_at=now)
    except IntegrityError:
        raise _Taken from None
    except OperationalError as error:
        if "lock timeout" in str(error):
            raise _in_progress() from None
        raise


def _captured(act: Callable[[], Response], request: Request) -> Response:
    """The view's answer, refusals included: what a service committed before refusing must stay committed."""
    try:
        return act()
    except (errors.ApiError, APIException) as error:
        response = errors.answer_exception(error, {"request": request})
        if response is None or response.status_code >= 500 or response.status_code == errors.TooMany.status:
            raise
        return response


def _identity(key: str, request: Request) -> dict[str, str]:
    principal = request.principal  # type: ignore[attr-defined]
    organization = principal.organization.pk if principal.organization else ""
    path = request.path
    if len(path) > 120:
        path = hashlib.sha256(path.encode()).hexdigest()
    return {"principal": f"{organization}:{principal.id}"[:80], "route": f"{request.method} {path}"[:200], "key": key}


def _request_digest(request: Request) -> str:
    return canonical.digest({"query": request.META.get("QUERY_STRING", ""), "body": _plain_body(request)})


def _plain_body(request: Request) -> Any:
    data = request.data
    return data if isinstance(data, dict | list | str | int | float | bool | None) else dict(data)


def _bound_waiting() -> None:
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [TWIN_WAIT])


def _replay(record: IdempotencyRecord, digest: str) -> Response:
    if record.request_digest != digest:
        raise errors.Unprocessable(
            "idempotency_key_reused",
            "This Idempotency-Key was used with another request.",
            "Use a fresh key for a different request.",
        )
    if not record.is_done:
        raise _in_progress()
    response = Response(json.loads(record.response_body), status=record.response_status)
    response["Idempotent-Replay"] = "true"
    return response


def _in_progress() -> errors.Conflict:
    return errors.Conflict("in_progress", "The same request is being worked on.", "Ask again in a moment.")
