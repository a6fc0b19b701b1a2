"""ETags of single resources: 304 where the caller has this very state, 412 where they edit an older one."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from rest_framework.request import Request
from rest_framework.response import Response

from kernel.errors import Stale

NOT_MODIFIED = OpenApiResponse(description="You have this state (`If-None-Match`)")
ETAG_HEADER = OpenApiParameter(
    "ETag", str, OpenApiParameter.HEADER, response=[200, 201, 304], description="names exactly this state"
)
IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match", str, OpenApiParameter.HEADER, description="an ETag you have: 304 while it still stands"
)
#: Parameters of a GET of one resource.
READING = [IF_NONE_MATCH, ETAG_HEADER]


def if_match(source: str) -> OpenApiParameter:
    """The header of an edit; ``source`` says which GET gives the ETag."""
    return OpenApiParameter(
        "If-Match",
        str,
        OpenApiParameter.HEADER,
        description=f"the ETag of {source}: 412 `stale` when something changed since. Left out: no such check",
    )


def etag_of(body: dict[str, Any]) -> str:
    """The strong ETag of a rendered resource."""
    text = json.dumps(body, sort_keys=True, default=str)
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def tagged(request: Request, body: dict[str, Any], status: int = 200) -> Response:
    """One resource with its ETag; 304 where the caller has this very state."""
    etag = etag_of(body)
    known = {word.removeprefix("W/") for word in _listed(request, "If-None-Match")}
    if request.method == "GET" and (etag in known or "*" in known):
        return Response(status=304, headers={"ETag": etag})
    return Response(body, status=status, headers={"ETag": etag})


def has_condition(request: Request) -> bool:
    """Whether the caller said what their edit was decided on."""
    return "If-Match" in request.headers


def require_match(request: Request, *bodies: dict[str, Any]) -> None:
    """Raise Stale (412 `stale`) unless `If-Match` is absent, `*`, or names the state of one of ``bodies``.

    Call it in the transaction of the edit, with the rows locked: between look and write nothing may change.
    A weak ETag never matches (RFC 9110, 13.1.1).
    """
    if not has_condition(request):
        return
    given = _listed(request, "If-Match")
    standing = [etag_of(body) for body in bodies]
    if given == ["*"] or set(given) & set(standing):
        return
    raise Stale(
        "stale",
        "This has changed since you looked.",
        "Get it again, decide anew, and send its new ETag.",
        etag=standing[0],
    )


def _listed(request: Request, header: str) -> list[str]:
    return [word.strip() for word in request.headers.get(header, "").split(",") if word.strip()]
