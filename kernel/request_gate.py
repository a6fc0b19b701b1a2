"""Request limits at the door of the API: 429 with Retry-After for whoever asks too often. Only a server has a door.

STOP is not limited: it has a way of its own (`commands.stop.asgi`) and passes here besides. A person who is over the
limit may still make safe: what is exempt passes, and an order of theirs goes on to its view, which lets less heat,
a drop and cooling through and nothing else (``turn_away``).
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

from django.conf import settings
from django.db import DatabaseError
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.request import Request

from kernel import clock, error_pages
from kernel.errors import TooMany
from kernel.principals import Principal
from kernel.request_counts import Counts, MemoryCounts, RedisCounts
from kernel.request_limits import (
    KEYS_AT_FULL_SPEED,
    WINDOW_S,
    Kind,
    Ruling,
    is_exempt,
    is_for_its_view,
    kind_of,
    limit_of,
)

logger = logging.getLogger(__name__)
GetResponse = Callable[[HttpRequest], HttpResponseBase]
#: An agent's first refusals are told to whoever listens one by one, later ones gathered so long; after so much quiet
#: they are first ones again.
TOLD_SINGLY = 3
TELL_EVERY_S = 10.0
QUIET_S = 600.0
Listener = Callable[[Principal, Kind, int], None]


@dataclass(frozen=True, slots=True)
class Door:
    """What a server limits by."""

    counts: Counts
    proposals_per_minute: int


_door: Door | None = None
_listeners: list[Listener] = []
_untold: dict[str, tuple[float, int, int]] = {}  # agent → told last (monotonic s), refusals since, told singly
_lock = threading.Lock()


def open_door(door: Door | None = None) -> None:
    """From now on this process limits requests: by ``door``, or as the settings say (0: not at all)."""
    global _door
    per_minute = settings.REQUESTS_PER_MINUTE
    if door is None and per_minute:
        door = Door(RedisCounts(settings.REDIS_URL) if settings.IS_FLEET else MemoryCounts(), per_minute)
    _door = door


def take_door_away() -> None:
    """Only for tests: nothing is limited any more, and nothing was told."""
    global _door
    _door = None
    _untold.clear()


def on_refusals(listener: Listener) -> None:
    """Call ``listener(agent's principal, kind, how many)`` when an agent's requests were turned away."""
    if listener not in _listeners:
        _listeners.append(listener)


class RequestLimitMiddleware:
    """After the one that knows who asks."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        door, principal = _door, getattr(request, "principal", None)
        if door is None or principal is None or not request.path.startswith("/v1/"):
            return self.get_response(request)
        if is_exempt(request.path, is_person=principal.is_person):
            return self.get_response(request)
        kind = kind_of(str(request.method), request.path)
        ruling, whose = _ruling(door, principal, kind)
        if not ruling.is_over:
            response = self.get_response(request)
        elif is_for_its_view(str(request.method), request.path, is_person=principal.is_person):
            request.over_limit = _too_many(ruling, kind, whose)  # type: ignore[attr-defined]
            response = self.get_response(request)
        else:
            _note(principal, kind)
            response = error_pages.answer_api_error(request, _too_many(ruling, kind, whose))
        if response.status_code == 429:
            response["Retry-After"] = str(math.ceil(ruling.retry_after_s) or 1)
        response["RateLimit-Limit"] = str(ruling.limit)
        response["RateLimit-Remaining"] = str(max(0, ruling.left - 1))
        response["RateLimit-Reset"] = str(math.ceil(ruling.retry_after_s or WINDOW_S))
        return response


def turn_away(request: Request, is_making_safe: Callable[[], bool]) -> None:
    """TooMany where a person's order came over the limit, unless it makes safe (asked only then)."""
    error = getattr(request._request, "over_limit", None)
    if error is not None and not is_making_safe():
        raise error


def _ruling(door: Door, principal: Principal, kind: Kind) -> tuple[Ruling, str]:
    """The worse of one's own limit and, for agents, the organisation's: its people are not to wait for its agents."""
    limit, now_s = limit_of(kind, door.proposals_per_minute), clock.now().timestamp()
    own = door.counts.take(f"{principal.id}:{principal.via}:{kind.value}", limit, now_s)
    if own.is_over or principal.is_person or principal.organization is None:
        return own, principal.name
    name = f"{principal.organization.pk}:{kind.value}"
    whole = door.counts.take(name, limit * KEYS_AT_FULL_SPEED, now_s)
    return (whole, "The agents of your organisation") if whole.is_over else (own, principal.name)


def _too_many(ruling: Ruling, kind: Kind, whose: str) -> TooMany:
    wait_s = max(1, math.ceil(ruling.retry_after_s))
    return TooMany(
        "too_many_requests",
        f"{whose}: {ruling.limit} requests of this kind ({kind.value}) within a minute are all there is.",
        f"Wait {wait_s} s, as Retry-After says, then ask less often. STOP is never limited.",
        retry_after_s=wait_s, limit=ruling.limit, window_s=WINDOW_S, kind=kind.value,
    )  # fmt: skip


def _note(principal: Principal, kind: Kind) -> None:
    """Tell of an agent's refusal, the first few at once, later ones by the bunch: a flood writes little."""
    if not principal.is_agent:
        return
    now_s = clock.monotonic()
    with _lock:
        told_s, count, singly = _untold.get(principal.id, (float("-inf"), 0, 0))
        singly = 0 if now_s - told_s >= QUIET_S else singly
        is_due = singly < TOLD_SINGLY or now_s - told_s >= TELL_EVERY_S
        _untold[principal.id] = (now_s, 0, min(singly + 1, TOLD_SINGLY)) if is_due else (told_s, count + 1, singly)
    if not is_due:
        return
    for listener in _listeners:
        try:
            listener(principal, kind, count + 1)
        except DatabaseError as error:
            logger.warning("request limits: %s's refusals are not recorded: %s", principal.name, error)
