"""The only writer of profiles, tasting notes and corrections. A closed roast is never rewritten."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import Max

from kernel import audit, canonical, live
from kernel.errors import Conflict, Forbidden, NotFound, Unprocessable
from kernel.principals import Principal
from roasts.library import profile as profiles
from roasts.library.profile import BadProfile, GoodRoast, ProfileDocument, Sensor
from roasts.models import Machine, Profile, ProfileVersion, QcNote, Roast, RoastCorrection
from roasts.store import stored_curve, summaries

MAX_PROFILE_ROASTS = 40
#: What a person may say of a roast, before it closes freely, afterwards by a correction.
TEXTS = {"title": 200, "bean": 200, "origin": 200, "process": 100, "variety": 100, "lot": 100}
NUMBERS = {
    "weight_in_g": 1_000_000.0,
    "weight_out_g": 1_000_000.0,
    "moisture_in_percent": 100.0,
    "moisture_out_percent": 100.0,
    "colour_whole": 1000.0,
    "colour_ground": 1000.0,
}
REASON_OF_FIRST_ENTRY = "entered after the roast"


def _author(principal: Principal) -> User:
    """The person who writes; an agent writes nothing here."""
    if principal.user is None:
        raise Forbidden("people_only", "Only a person writes this.", "Sign in, or use a person's key.")
    return principal.user


# --- profiles ---------------------------------------------------------------------------------------


def document_of(roasts: Sequence[Roast]) -> ProfileDocument:
    """The golden document of these roasts of one machine, the first leading. Unprocessable where they make none."""
    if not 1 <= len(roasts) <= MAX_PROFILE_ROASTS:
        raise Unprocessable(
            "too_many_roasts" if roasts else "no_roasts",
            f"A profile is made of 1 to {MAX_PROFILE_ROASTS} roasts.",
            "Choose the ones you would repeat.",
        )
    machines = {roast.machine_id for roast in roasts}
    if len(machines) > 1:
        raise Unprocessable(
            "different_machines",
            "These roasts are of different machines: their probes do not read alike.",
            "Make one profile for each machine.",
        )
    good = [GoodRoast(roast.pk, stored_curve.load_curve(roast), stored_curve.load_marks(roast)) for roast in roasts]
    days = sorted(roast.started_at.date().isoformat() for roast in roasts)
    try:
        return profiles.from_roasts(good, Sensor(roasts[0].machine_id, era=f"{days[0]}..{days[-1]}"))
    except BadProfile as error:
        raise Unprocessable("not_golden", f"{error}.", "Mark first crack and drop, or choose other roasts.") from error


def create_profile(
    principal: Principal, document: ProfileDocument, *, name: str, bean: str, change_note: str, now: dt.datetime
) -> ProfileVersion:
    """A new profile with its first version. Conflict `profile_name_taken`."""
    organization = principal.organization
    if organization is None:
        raise Forbidden("no_membership", "You are not a member of an organisation.", "Ask an admin to add you.")
    try:
        with transaction.atomic():
            made = Profile.objects.create(organization=organization, name=name, bean=bean, created_at=now)
            version = _add_version(principal, made, document, change_note, now)
            audit.record(organization, principal, "profile_created", "profile", made.pk, {"name": name}, now=now)
    except IntegrityError as error:
        raise Conflict(
            "profile_name_taken", f"There is a profile named {name!r}.", "Add a version to it, or take another name."
        ) from error
    return version


def add_version(
    principal: Principal, made: Profile, document: ProfileDocument, *, change_note: str, now: dt.datetime
) -> ProfileVersion:
    """One more version; what machines and roasts follow stays until somebody chooses it. Conflict `same_document`."""
    with transaction.atomic():
        Profile.objects.select_for_update().get(pk=made.pk)
        newest = made.versions.order_by("-version").first()
        if newest is not None and newest.digest == canonical.digest(profiles.to_json(document)):
            raise Conflict("same_document", f"Version {newest.version} says exactly this.", "There is nothing to add.")
        return _add_version(principal, made, document, change_note, now)


def _add_version(
    principal: Principal, made: Profile, document: ProfileDocument, change_note: str, now: dt.datetime
) -> ProfileVersion:
    raw = profiles.to_json(document)
    number = (made.versions.aggregate(newest=Max("version"))["newest"] or 0) + 1
    version = ProfileVersion.objects.create(
        profile=made,
        version=number,
        document=raw,
        digest=canonical.digest(raw),
        change_note=change_note,
        created_by=_author(principal),
        created_at=now,
    )
    payload = {"version": number, "digest": version.digest, "roast_ids": list(document.roast_ids)}
    audit.record(made.organization, principal, "profile_version_added", "profile", made.pk, payload, now=now)
    live.publish_decision(made.organization, "profile", made.pk, "", {"verb": "profile_version_added"}, now=now)
    return version


def archive_profile(principal: Principal, made: Profile, *, is_archived: bool, now: dt.datetime) -> Profile:
    """Put a profile away, or take it out again. What roasts followed stays known; no next roast follows it."""
    with transaction.atomic():
        Profile.objects.filter(pk=made.pk).update(is_archived=is_archived)
        made.is_archived = is_archived
        verb = "profile_archived" if is_archived else "profile_unarchived"
        audit.record(made.organization, principal, verb, "profile", made.pk, {}, now=now)
    return made


def follow_profile(
    principal: Principal, machine: Machine, version: ProfileVersion | None, *, now: dt.datetime
) -> Machine:
    """What the machine's next roasts follow, until somebody chooses another; None: nothing. 409 `profile_archived`."""
    _check_usable(version)
    with transaction.atomic():
        Machine.objects.filter(pk=machine.pk).update(profile_version=version)
        machine.profile_version = version
        payload = {"profile_version_id": version.pk if version else None}
        audit.record(machine.organization, principal, "profile_chosen", "machine", machine.pk, payload, now=now)
        live.publish_decision(
            machine.organization, "machine", machine.pk, machine.pk, {"verb": "profile_chosen", **payload}, now=now
        )
    return machine


def _check_usable(version: ProfileVersion | None) -> None:
    if version is not None and version.profile.is_archived:
        raise Conflict("profile_archived", "This profile is put away.", "Take it out again, or choose another.")


# --- what people say of a roast ---------------------------------------------------------------------


def describe_roast(
    principal: Principal, roast: Roast, *, changes: Mapping[str, Any], reason: str, now: dt.datetime
) -> list[RoastCorrection]:
    """Change what people say of a roast (TEXTS, NUMBERS, ``profile_version_id``).

    An open one is simply changed; a closed one by corrections, each with its reason, which come back. Where a field
    was empty, entering it needs no reason. Unprocessable `reason_needed`, `weights_disagree`.
    """
    with transaction.atomic():
        rows = Roast.with_planned.select_for_update(of=("self",)).select_related("organization", "machine")
        locked = rows.filter(pk=roast.pk).first()
        if locked is None:  # a plan that was withdrawn in that very moment
            raise NotFound("roast_not_found", "There is no such roast here.", "List them with GET /v1/roasts.")
        changed = {name: value for name, value in changes.items() if getattr(locked, name) != value}
        _check_weights(locked, changed)
        if not changed:
            return []
        made: list[RoastCorrection] = []
        if locked.status in summaries.CLOSED:
            made = [_correction(principal, locked, name, value, reason, now) for name, value in changed.items()]
        Roast.with_planned.filter(pk=locked.pk).update(**changed)
        if locked.status in summaries.CLOSED:
            _count_again(locked.pk, now)
        verb = "roast_corrected" if made else "roast_described"
        payload = {"fields": sorted(changed), "reason": reason}
        audit.record(locked.organization, principal, verb, "roast", locked.pk, payload, now=now)
        live.publish_decision(
            locked.organization, "roast", locked.pk, locked.machine_id, {"verb": verb, **payload}, now=now
        )
    return made


def _check_weights(roast: Roast, changed: Mapping[str, Any]) -> None:
    weight_in_g = changed.get("weight_in_g", roast.weight_in_g)
    weight_out_g = changed.get("weight_out_g", roast.weight_out_g)
    if weight_in_g is not None and weight_out_g is not None and weight_out_g > weight_in_g:
        raise Unprocessable(
            "weights_disagree",
            f"{weight_out_g:g} g came out of {weight_in_g:g} g: roasting makes beans lighter.",
            "Weigh again.",
        )


def _correction(
    principal: Principal, roast: Roast, field: str, value: Any, reason: str, now: dt.datetime
) -> RoastCorrection:
    old_value = getattr(roast, field)
    if not reason and old_value not in (None, ""):
        raise Unprocessable(
            "reason_needed", f"This roast is closed and its {field} stands.", "Say why you change it.", field=field
        )
    return RoastCorrection.objects.create(
        roast=roast,
        field=field,
        old_value=old_value,
        new_value=value,
        corrected_by=_author(principal),
        reason=reason or REASON_OF_FIRST_ENTRY,
        at=now,
    )


def _count_again(roast_id: str, now: dt.datetime) -> None:
    summaries.summarise_roast(Roast.objects.select_related("machine").get(pk=roast_id), now=now)


def assign_profile(
    principal: Principal, roast: Roast, version: ProfileVersion | None, *, reason: str = "", now: dt.datetime
) -> list[RoastCorrection]:
    """Which profile a roast follows, or followed: once it is closed, a correction with its reason."""
    _check_usable(version)
    changes = {"profile_version_id": version.pk if version else None}
    return describe_roast(principal, roast, changes=changes, reason=reason, now=now)


def note_quality(
    principal: Principal,
    roast: Roast,
    *,
    cupping_score: float | None,
    attributes: Mapping[str, float],
    defects: Sequence[str],
    colour_whole: float | None,
    colour_ground: float | None,
    text: str,
    now: dt.datetime,
) -> QcNote:
    """Append what somebody tasted and saw. Unprocessable `empty_note` where nothing is said."""
    if not (attributes or defects or text.strip()) and {cupping_score, colour_whole, colour_ground} == {None}:
        raise Unprocessable("empty_note", "This note says nothing.", "Give a score, a colour, a defect or some words.")
    with transaction.atomic():
        note = QcNote.objects.create(
            roast=roast,
            author=_author(principal),
            cupping_score=cupping_score,
            attributes=dict(attributes),
            defects=list(dict.fromkeys(defects)),
            colour_whole=colour_whole,
            colour_ground=colour_ground,
            text=text,
            created_at=now,
        )
        payload = {"roast_id": roast.pk, "cupping_score": cupping_score}
        audit.record(roast.organization, principal, "quality_noted", "qc_note", note.pk, payload, now=now)
        live.publish_decision(
            roast.organization, "roast", roast.pk, roast.machine_id, {"verb": "quality_noted"}, now=now
        )
    return note
