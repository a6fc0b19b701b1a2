"""How often a key may ask, and its whole organisation: which limit a request counts against, and what is left. Pure.

A minute slides: what came in the minute before this one counts by the part of it that is not yet a minute old.
"""

from __future__ import annotations

import enum
import math
import re
from dataclasses import dataclass

WINDOW_S = 60.0
#: An organisation's keys together may ask so many times as often as one of them.
KEYS_AT_FULL_SPEED = 4
_PROPOSING = re.compile(r"^/v1/(proposals|plans)/?$")
#: What a person does to make safe is never turned away: STOP, "I have it", a no to an order, and the alarm's bell.
_MAKING_SAFE = re.compile(
    r"^/v1/(machines/[^/]+/(stop|suspend)|(proposals|plans)/[^/]+/(reject|veto|abort)|alarms/[^/]+/acknowledge)/?$"
)
#: A person's order may be less heat: that is for its view to see.
_ORDER = re.compile(r"^/v1/proposals/?$")
_STOP = re.compile(r"^/v1/machines/[^/]+/stop/?$")


class Kind(enum.StrEnum):
    """Requests that are counted together."""

    READ = "read"
    WRITE = "write"
    PROPOSE = "propose"  # POST of an order or a plan: each is judged, recorded and shown


#: Of each kind, how many times the limit of proposals.
_TIMES = {Kind.PROPOSE: 1, Kind.WRITE: 2, Kind.READ: 5}


def kind_of(method: str, path: str) -> Kind:
    """What a request counts as."""
    if method in ("GET", "HEAD", "OPTIONS"):
        return Kind.READ
    return Kind.PROPOSE if _PROPOSING.match(path) else Kind.WRITE


def limit_of(kind: Kind, proposals_per_minute: int) -> int:
    """Requests of this kind a minute of one key, where it may propose so often."""
    return _TIMES[kind] * proposals_per_minute


def is_exempt(path: str, *, is_person: bool) -> bool:
    """STOP is nobody's to limit; what else makes safe is not limited for people."""
    return _STOP.match(path) is not None or (is_person and _MAKING_SAFE.match(path) is not None)


def is_for_its_view(method: str, path: str, *, is_person: bool) -> bool:
    """Whether a request over the limit goes on to its view, which lets through what makes safe."""
    return is_person and method == "POST" and _ORDER.match(path) is not None


@dataclass(frozen=True, slots=True)
class Ruling:
    """May this request pass? ``left``: how many more now. ``retry_after_s``: until one more may; 0 where one may."""

    is_over: bool
    limit: int
    left: int
    retry_after_s: float


def rule(limit: int, *, before: int, now: int, into_s: float) -> Ruling:
    """``before``, ``now``: what was let through in the minute before this one and in this one, ``into_s`` s old."""
    used = before * (1 - into_s / WINDOW_S) + now
    left = max(0, math.floor(limit - used + 1e-9))
    return Ruling(left < 1, limit, left, 0.0 if left else _wait_s(limit, before, now, into_s))


def _wait_s(limit: int, before: int, now: int, into_s: float) -> float:
    """Seconds until one more fits, if nobody asks meanwhile. Bounded by two windows."""
    rest_s = WINDOW_S - into_s
    if limit < 1:
        return 2 * WINDOW_S
    if now + 1 <= limit and before > 0:  # in this minute, as the one before it slides out
        return max(0.0, min(rest_s, WINDOW_S * (1 - (limit - 1 - now) / before) - into_s))
    return rest_s + max(0.0, WINDOW_S * (1 - (limit - 1) / now)) if now else rest_s
