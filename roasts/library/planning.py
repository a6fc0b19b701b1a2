"""What a roast is held against while it runs: its golden curve, and the plan for its end."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from kernel import audit, live
from kernel.errors import Conflict
from kernel.principals import Principal
from roasts.curve import Mark, first_of
from roasts.library import profile
from roasts.models import EventKind, Roast
from roasts.store import stored_samples

#: Points of a golden curve that a page is sent.
GOLDEN_POINTS = 400


@dataclass(frozen=True, slots=True)
class EndPlan:
    """Where somebody means to stop. ``source`` is person, profile or none; whichever comes first ends the roast."""

    drop_temp_c: float | None
    development_s: float | None
    source: str


def document_of(roast: Roast) -> profile.ProfileDocument | None:
    """The profile this roast follows, or None."""
    version = roast.profile_version
    return None if version is None else profile.from_json(version.document)


def plan_of(roast: Roast, document: profile.ProfileDocument | None = None) -> EndPlan:
    """A person's plan wins; what they left open is not taken from the profile."""
    if roast.planned_drop_temp_c is not None or roast.planned_development_s is not None:
        return EndPlan(roast.planned_drop_temp_c, roast.planned_development_s, "person")
    document = document or document_of(roast)
    if document is None:
        return EndPlan(None, None, "none")
    crack_s, drop_s = document.landmarks_s.get("first_crack_start"), document.landmarks_s.get("drop")
    development_s = drop_s - crack_s if crack_s is not None and drop_s is not None else None
    return EndPlan(document.drop_c, development_s, "profile")


def plan_end(
    principal: Principal,
    roast: Roast,
    *,
    drop_temp_c: float | None,
    development_s: float | None,
    now: dt.datetime,
) -> Roast:
    """Set a person's plan on an open roast; both None takes it back. Conflict `roast_closed`."""
    with transaction.atomic():
        values = {"planned_drop_temp_c": drop_temp_c, "planned_development_s": development_s}
        if Roast.objects.open().filter(pk=roast.pk).update(**values) != 1:
            raise Conflict("roast_closed", "This roast has ended.", "Plan the next one.")
        roast.planned_drop_temp_c, roast.planned_development_s = drop_temp_c, development_s
        audit.record(roast.organization, principal, "roast_end_planned", "roast", roast.pk, values, now=now)
        live.publish_decision(
            roast.organization, "roast", roast.pk, roast.machine_id, {"verb": "roast_end_planned", **values}, now=now
        )
    return roast


def first_crack_of(roast: Roast) -> float | None:
    """Seconds since charge of the first crack that stands: a person's, else the machine's, else the inferred one."""
    events = roast.events.filter(kind=EventKind.FIRST_CRACK_START.value, withdrawn_at__isnull=True)
    marks = tuple(
        Mark(kind, elapsed_ms / 1000, source)
        for kind, elapsed_ms, source in events.order_by("at").values_list("kind", "elapsed_ms", "source")
    )
    return first_of(marks, EventKind.FIRST_CRACK_START.value)


def golden_of(roast: Roast) -> dict[str, Any]:
    """The golden curve and its corridor as columns for a chart; empty ones where there is no profile.

    Once first crack is marked, the development counts from it, in seconds and in degrees.
    """
    document = document_of(roast)
    corridor = ("corridor_bean_c", "corridor_low", "corridor_high")
    if document is None or roast.profile_version is None:
        empty: dict[str, Any] = {name: [] for name in ("elapsed_s", "golden_c", "low_c", "high_c", *corridor)}
        return {"profile_name": "", "version": None, **empty, "turning_point_s": 0.0}
    crack_s = first_crack_of(roast)
    crack_c = None
    if crack_s is not None:
        crack_c = stored_samples.newest_value(roast.pk, "bean_temp_c", until_ms=round(crack_s * 1000))
    return {
        "profile_name": roast.profile_version.profile.name,
        "version": roast.profile_version.version,
        **laid_out(document, crack_s, crack_c),
        **{name: list(getattr(document, name)) for name in corridor},
        "turning_point_s": document.landmarks_s.get("turning_point", 0.0),
    }


def laid_out(
    document: profile.ProfileDocument, first_crack_s: float | None, first_crack_c: float | None
) -> dict[str, list[float]]:
    """elapsed_s, golden_c, low_c, high_c: to first crack by the clock, from there by the development.

    ``first_crack_s``, ``first_crack_c``: when it really came, and what the probe read then (None: the golden one's).
    """
    step = max(1, len(document.elapsed_s) // GOLDEN_POINTS)
    rows = [
        (at_s, document.golden_c[i], document.low_c[i], document.high_c[i])
        for i, at_s in enumerate(document.elapsed_s)
        if i % step == 0
    ]
    crack_c = document.first_crack_c if first_crack_c is None else first_crack_c
    if first_crack_s is not None and crack_c is not None and document.development_s:
        half_c = profile.BAND_HALF_C
        rows = [row for row in rows if row[0] < first_crack_s]
        for after_s, rise_c in zip(document.development_s, document.development_rise_c, strict=True):
            rows.append(
                (first_crack_s + after_s, crack_c + rise_c, crack_c + rise_c - half_c, crack_c + rise_c + half_c)
            )
    names = ("elapsed_s", "golden_c", "low_c", "high_c")
    return {name: [round(row[i], 2) for row in rows] for i, name in enumerate(names)}
