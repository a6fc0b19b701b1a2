"""Changing hands at a shared tablet: a PIN, asked for slowly, within a shift that a password began.

A shift is 12 h from a sign-in with a password at this device. Within it, a member of the same organisation who has
set a PIN may take over. A switched session ends with the shift. Five wrong PINs within 5 minutes, for one person or
from one session, and only a password opens the door until they have passed.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import hmac
import re
from dataclasses import dataclass

from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, login
from django.contrib.auth.hashers import check_password, make_password
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from kernel import audit, principals
from kernel.models import OperatorPin, Organization, PinAttempt
from kernel.principals import Principal

SHIFT_S = 12 * 3600
MAX_WRONG = 5
WINDOW_S = 5 * 60
_PIN = re.compile(r"[0-9]{6}")
_RUNS = ("0123456789", "9876543210")
#: what a session knows of its shift: when it ends, who began it and under which password, whether it was switched
SHIFT_KEY = "shift"
SWITCHED_KEY = "switched_at"


class PinRefused(Exception):
    """Not with this PIN now; the text says why to the person who asked."""


class WeakPin(PinRefused):
    """A PIN nobody should set."""


class WrongPin(PinRefused):
    """The PIN does not open this. Said alike for a wrong PIN, for somebody without one and for nobody at all."""


class TooManyTries(PinRefused):
    """Only a password opens this door for some minutes."""


class NoShift(PinRefused):
    """Nobody signed in here with a password in the last 12 h."""


@dataclass(frozen=True, slots=True)
class Shift:
    """Since whose sign-in with a password this device may change hands, and until when (Unix seconds)."""

    ends_at_unix: int
    began_by: int
    session_hash: str

    @property
    def ends_at(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self.ends_at_unix, dt.UTC)


# --- a person's own PIN --------------------------------------------------------------------------


def _password_mark(user: User) -> str:
    return hashlib.sha256(user.password.encode()).hexdigest()  # of the stored, salted hash


def set_pin(actor: Principal, pin: str, *, now: dt.datetime) -> OperatorPin:
    """Keep the actor's own PIN (six digits), hashed; WeakPin. The caller has asked for the password."""
    if not _PIN.fullmatch(pin):
        raise WeakPin("A PIN is six digits.")
    if len(set(pin)) == 1 or any(pin in run for run in _RUNS):
        raise WeakPin("That PIN is among the first anybody tries. Choose another.")
    digest = make_password(pin)  # slow by design: before the transaction
    user, organization = _person_of(actor)
    with transaction.atomic():
        row, _ = OperatorPin.objects.update_or_create(
            user=user, defaults={"digest": digest, "password_mark": _password_mark(user), "set_at": now}
        )
        audit.record(organization, actor, "operator_pin_set", "user", actor.id, {}, now=now)
    return row


def remove_pin(actor: Principal, *, now: dt.datetime) -> bool:
    """Forget the actor's own PIN; whether there was one."""
    user, organization = _person_of(actor)
    with transaction.atomic():
        count, _ = OperatorPin.objects.filter(user=user).delete()
        if count:
            audit.record(organization, actor, "operator_pin_removed", "user", actor.id, {}, now=now)
    return bool(count)


def has_pin(user: User) -> bool:
    """Whether a PIN of this person opens anything."""
    row = OperatorPin.objects.filter(user=user).first()
    return row is not None and hmac.compare_digest(row.password_mark, _password_mark(user))


def _person_of(actor: Principal) -> tuple[User, Organization]:
    if actor.user is None or actor.organization is None:
        raise PinRefused("Only a person of an organisation has a PIN.")
    return actor.user, actor.organization


# --- the shift -----------------------------------------------------------------------------------


def begin_shift(request: HttpRequest, *, now: dt.datetime) -> None:
    """Note in the session that somebody has just signed in here with their password."""
    request.session.set_expiry(None)
    request.session.pop(SWITCHED_KEY, None)
    request.session[SHIFT_KEY] = {
        "ends_at_unix": int(now.timestamp()) + SHIFT_S,
        "began_by": request.user.pk,
        "session_hash": request.session.get(HASH_SESSION_KEY, ""),
    }


def shift_of(request: HttpRequest, *, now: dt.datetime) -> Shift | None:
    """The shift this session belongs to, while it lasts."""
    kept = request.session.get(SHIFT_KEY)
    if not isinstance(kept, dict):
        return None
    shift = Shift(int(kept["ends_at_unix"]), int(kept["began_by"]), str(kept["session_hash"]))
    return shift if now.timestamp() < shift.ends_at_unix else None


def is_switched(request: HttpRequest) -> bool:
    """Whether this session came about by a PIN."""
    return SWITCHED_KEY in request.session


def _is_backed(shift: Shift, organization: Organization) -> bool:
    """Whoever began the shift is still a member, active, and has the password it was begun with."""
    user = User.objects.filter(pk=shift.began_by, is_active=True, memberships__organization=organization).first()
    return user is not None and hmac.compare_digest(user.get_session_auth_hash(), shift.session_hash)


# --- changing hands ------------------------------------------------------------------------------


def people_to_switch_to(actor: Principal) -> list[User]:
    """Active members of the actor's organisation, but the actor, whose PIN holds; by name."""
    rows = _candidates(actor).select_related("operator_pin").order_by("username")
    return [user for user in rows if hmac.compare_digest(user.operator_pin.password_mark, _password_mark(user))]


def _candidates(actor: Principal) -> QuerySet[User]:
    user, organization = _person_of(actor)
    members = User.objects.filter(Q(memberships__organization=organization), is_active=True, operator_pin__isnull=False)
    return members.exclude(pk=user.pk).distinct()


def switch_operator(request: HttpRequest, actor: Principal, *, user_id: int, pin: str, now: dt.datetime) -> User:
    """Make this session that person's: a new key, the same shift. NoShift, TooManyTries, WrongPin.

    The try is written down and committed first, then the PIN is checked (slowly, outside any transaction).
    """
    _, organization = _person_of(actor)
    shift = shift_of(request, now=now)
    if shift is None or not _is_backed(shift, organization):
        raise NoShift(
            "Nobody has signed in here with a password in the last 12 hours. Sign out, and sign in with yours."
        )
    target = next((user for user in people_to_switch_to(actor) if user.pk == user_id), None)
    attempt = _write_attempt(request, target, now=now)
    digest = target.operator_pin.digest if target is not None else _digest_of_nobody()  # type: ignore[attr-defined]
    is_right = check_password(pin, digest) and target is not None
    if target is None or not is_right:
        _record_refusal(organization, actor, target, now=now)
        raise WrongPin("That PIN does not open this. Nothing has changed.")
    _hand_over(request, actor, target, organization, shift, attempt, now=now)
    return target


@functools.cache
def _digest_of_nobody() -> str:
    """What a try for nobody is checked against, so that it takes as long."""
    return make_password("nobody")


def _session_digest(request: HttpRequest) -> str:
    return hashlib.sha256((request.session.session_key or "").encode()).hexdigest()


def _write_attempt(request: HttpRequest, target: User | None, *, now: dt.datetime) -> PinAttempt:
    """Reserve one try, or TooManyTries. The session's and the target's rows are locked while it is counted."""
    digest, since = _session_digest(request), now - dt.timedelta(seconds=WINDOW_S)
    with transaction.atomic():
        list(Session.objects.select_for_update().filter(session_key=request.session.session_key).values_list("pk"))
        recent = PinAttempt.objects.filter(at__gt=since)
        is_closed = recent.filter(session_digest=digest).count() >= MAX_WRONG
        if target is not None:
            list(OperatorPin.objects.select_for_update().filter(pk=target.pk).values_list("pk"))
            is_closed = is_closed or recent.filter(target=target).count() >= MAX_WRONG
        if is_closed:
            raise TooManyTries(
                "Too many wrong PINs. For five minutes only a password opens this: sign out and sign in."
            )
        PinAttempt.objects.filter(at__lte=since).delete()
        return PinAttempt.objects.create(session_digest=digest, target=target, at=now)


def _record_refusal(organization: Organization, actor: Principal, target: User | None, *, now: dt.datetime) -> None:
    subject = principals.person_id(target) if target is not None else "nobody"
    with transaction.atomic():
        audit.record(organization, actor, "operator_switch_refused", "user", subject, {"reason": "wrong_pin"}, now=now)


def _hand_over(
    request: HttpRequest, actor: Principal, target: User, organization: Organization, shift: Shift,
    attempt: PinAttempt, *, now: dt.datetime,
) -> None:  # fmt: skip
    """The old session ends and the new one begins in one transaction with the record of it."""
    backend = request.session.get(BACKEND_SESSION_KEY)
    with transaction.atomic():
        attempt.delete()
        audit.record(
            organization,
            actor,
            "operator_switched",
            "user",
            principals.person_id(target),
            {
                "from": {"id": actor.id, "name": actor.name},
                "to": {"id": principals.person_id(target), "name": target.get_username()},
                "shift_began_by": f"usr_{shift.began_by}",
                "shift_ends_at": shift.ends_at,
            },
            now=now,
        )
        login(request, target, backend=backend)  # another person: Django ends the session and makes a new one
        request.session[SHIFT_KEY] = {
            "ends_at_unix": shift.ends_at_unix,
            "began_by": shift.began_by,
            "session_hash": shift.session_hash,
        }
        request.session[SWITCHED_KEY] = int(now.timestamp())
        request.session["organization_id"] = organization.pk
        request.session.set_expiry(shift.ends_at)
        request.session.save()
