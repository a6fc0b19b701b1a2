"""Who may STOP, known without asking the database at the moment of need.

A thread reads keys, sessions, roles and machines about every two seconds into one frozen snapshot. When the
database is frozen the last snapshot stands. Deciding (:func:`authorize`) is pure given the snapshot.
"""

from __future__ import annotations

import datetime as dt
import hmac
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.db import DatabaseError, close_old_connections, connection
from django.db.models import Q

from drivers import stop_token
from kernel import clock, draining, keys
from kernel.models import ApiKey, Membership, Organization
from kernel.principals import Principal
from roasts.models import Machine

logger = logging.getLogger(__name__)
REFRESH_S = 2.0
REFRESH_AT_MOST_EVERY_S = 0.1  # however many strangers ask
#: Of a page's STOP token; an open page asks for a fresh one every 4 minutes. The token says its end, this its begin.
TOKEN_LIFE_S = 900
MAX_SESSIONS = 5000
MAX_KEYS = 20_000


@dataclass(frozen=True, slots=True)
class Person:
    """A person's roles by organisation, and the hash their sessions must carry."""

    user_id: int
    name: str
    session_hash: str
    roles: dict[str, frozenset[str]]  # organisation id → roles, in order of the organisation's slug


@dataclass(frozen=True, slots=True)
class KeyFact:
    """A live API key."""

    digest: str
    organization_id: str
    user_id: int | None
    agent_name: str
    scopes: frozenset[str]
    expires_at: dt.datetime | None


@dataclass(frozen=True, slots=True)
class SessionFact:
    """A live session: whose, checked with which hash, in which organisation ("" is the person's first)."""

    user_id: int
    session_hash: str
    organization_id: str
    expires_at: dt.datetime


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that STOP's authority needs."""

    people: dict[int, Person] = field(default_factory=dict)
    keys: dict[str, KeyFact] = field(default_factory=dict)
    sessions: dict[str, SessionFact] = field(default_factory=dict)
    machines: dict[str, str] = field(default_factory=dict)  # id → organisation id
    session_texts: dict[str, tuple[str, SessionFact | None]] = field(default_factory=dict)  # decoded once
    taken_at: dt.datetime | None = None  # None: never read


@dataclass(frozen=True, slots=True)
class Credentials:
    """What came with a STOP request."""

    bearer: str = ""
    stop_token: str = ""
    session_key: str = ""
    is_csrf_good: bool = False

    @property
    def is_empty(self) -> bool:
        return not (self.bearer or self.stop_token or self.session_key)


class Refused(Exception):
    """Not this one. The error contract's fields; ``is_unknown``: a newer snapshot might know better."""

    def __init__(self, status: int, code: str, message: str, how_to_fix: str, *, is_unknown: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.how_to_fix = how_to_fix
        self.is_unknown = is_unknown


def _unknown() -> Refused:
    return Refused(
        401, "not_signed_in", "We do not know who you are.", "Sign in, or send `Authorization: Bearer <key>`.",
        is_unknown=True,
    )  # fmt: skip


def authorize(
    given: Credentials, machine_id: str, organization_id: str | None, *, snapshot: Snapshot, stop_key: bytes,
    now: dt.datetime,
) -> Principal:  # fmt: skip
    """The principal that may stop this machine, or Refused: 401 who are you, 404 not there for you, 403 not you."""
    principal = _principal(given, machine_id, organization_id, snapshot, stop_key, now)
    if organization_id is None or principal.organization is None or principal.organization.pk != organization_id:
        raise Refused(
            404, "machine_not_found", "There is no such machine here.", "List them with GET /v1/machines.",
            is_unknown=organization_id is None,
        )  # fmt: skip
    if not principal.may("stop"):
        advice = "Agents cannot stop a machine." if principal.is_agent else "Ask an operator, or use the panel."
        raise Refused(403, "not_allowed", f"{principal.name} may not stop here.", advice)
    return principal


def _principal(
    given: Credentials, machine_id: str, organization_id: str | None, snapshot: Snapshot, stop_key: bytes,
    now: dt.datetime,
) -> Principal:  # fmt: skip
    if given.bearer:
        return _by_key(given.bearer, snapshot, now)
    if given.stop_token:
        try:
            return _by_token(given.stop_token, machine_id, organization_id, snapshot, stop_key, now)
        except Refused:
            if not given.session_key:
                raise
    if given.session_key:  # an old page's token has expired, its session has not
        return _by_session(given, snapshot, now)
    raise Refused(401, "not_signed_in", "We do not know who you are.", "Sign in, or send a key or a STOP token.")


def _by_key(plain: str, snapshot: Snapshot, now: dt.datetime) -> Principal:
    parts = plain.split("_")
    fact = snapshot.keys.get(parts[1]) if len(parts) == 3 and len(plain) <= keys.MAX_KEY_CHARACTERS else None
    digest = keys.digest_key(plain).encode()
    if fact is None or not hmac.compare_digest(fact.digest.encode(), digest):
        raise _unknown()
    if fact.expires_at is not None and fact.expires_at <= now:
        raise Refused(401, "key_expired", "This API key has expired.", "Ask an admin for a new key.")
    organization = Organization(id=fact.organization_id)
    if fact.user_id is None:
        return Principal("agent", fact.agent_name, fact.agent_name, organization, scopes=fact.scopes, via="key")
    person = snapshot.people.get(fact.user_id)
    if person is None:
        raise _unknown()
    return _as_principal(person, fact.organization_id, via="key", scopes=fact.scopes)


def _by_token(
    text: str, machine_id: str, organization_id: str | None, snapshot: Snapshot, stop_key: bytes, now: dt.datetime
) -> Principal:
    try:
        token = stop_token.verify(stop_key, text, machine_id=machine_id, now_unix=now.timestamp())
    except stop_token.BadToken as error:
        raise Refused(401, "bad_stop_token", f"This STOP token is not good: {error}.", "Reload the page.") from None
    number = token.user_id.removeprefix("usr_")
    person = snapshot.people.get(int(number)) if number.isdigit() else None
    if person is not None and organization_id is not None:
        return _as_principal(person, organization_id, via="stop_token")
    issued_at_unix = token.expires_at_unix - TOKEN_LIFE_S
    if snapshot.taken_at is not None and issued_at_unix < snapshot.taken_at.timestamp() - REFRESH_S:
        raise Refused(401, "bad_stop_token", "This STOP token's holder is not known any more.", "Sign in again.")
    # Signed by us for somebody who might stop then; the snapshot does not know them (yet).
    return Principal(
        "person", token.user_id, token.user_id, Organization(id=organization_id) if organization_id else None,
        roles=frozenset({"operator"}), via="stop_token",
    )  # fmt: skip


def _by_session(given: Credentials, snapshot: Snapshot, now: dt.datetime) -> Principal:
    fact = snapshot.sessions.get(given.session_key)
    person = snapshot.people.get(fact.user_id) if fact is not None else None
    if fact is None or person is None or fact.expires_at <= now:
        raise _unknown()
    if not hmac.compare_digest(fact.session_hash.encode(), person.session_hash.encode()):
        raise _unknown()
    if not given.is_csrf_good:
        raise Refused(403, "csrf_failed", "The page's CSRF token is missing or wrong.", "Reload the page.")
    return _as_principal(person, fact.organization_id or next(iter(person.roles), ""), via="session")


def _as_principal(person: Person, organization_id: str, *, via: str, scopes: frozenset[str] = frozenset()) -> Principal:
    return Principal(
        kind="person",
        id=f"usr_{person.user_id}",
        name=person.name,
        organization=Organization(id=organization_id) if organization_id in person.roles else None,
        roles=person.roles.get(organization_id, frozenset()),
        scopes=scopes,
        via=via,  # type: ignore[arg-type]
    )


def load_snapshot(before: Snapshot, now: dt.datetime) -> Snapshot:
    """Read everything anew; session texts that have not changed are not decoded again. DatabaseError."""
    people = _people()
    sessions: dict[str, SessionFact] = {}
    texts: dict[str, tuple[str, SessionFact | None]] = {}
    rows = Session.objects.filter(expire_date__gt=now).order_by("-expire_date", "session_key")[:MAX_SESSIONS]
    for row in rows:
        known = before.session_texts.get(row.session_key)
        fact = known[1] if known is not None and known[0] == row.session_data else _session_fact(row)
        texts[row.session_key] = (row.session_data, fact)
        if fact is not None:
            sessions[row.session_key] = fact
    return Snapshot(
        people=people,
        keys=_keys(now),
        sessions=sessions,
        machines=dict(Machine.objects.filter(is_archived=False).values_list("pk", "organization_id")),
        session_texts=texts,
        taken_at=now,
    )


def _people() -> dict[int, Person]:
    people: dict[int, Person] = {}
    rows = Membership.objects.filter(user__is_active=True).select_related("user", "organization")
    for row in rows.order_by("organization__slug", "role"):
        person = people.get(row.user_id)
        if person is None:
            user_hash = row.user.get_session_auth_hash()  # type: ignore[attr-defined]
            person = people[row.user_id] = Person(row.user_id, row.user.get_username(), user_hash, {})
        roles = person.roles.get(row.organization_id, frozenset())
        person.roles[row.organization_id] = roles | {row.role}
    return people


def _keys(now: dt.datetime) -> dict[str, KeyFact]:
    live = ApiKey.objects.filter(Q(expires_at__isnull=True) | Q(expires_at__gt=now), revoked_at__isnull=True)
    rows = live.filter(Q(user__is_active=True) | Q(agent__is_active=True)).order_by("-created_at", "id")
    # Columns, not objects: a house with a thousand bridges has a thousand keys, and they are read every two seconds.
    names = ("prefix", "digest", "organization_id", "user_id", "agent__name", "scopes", "expires_at")
    return {
        prefix: KeyFact(
            digest=digest,
            organization_id=organization_id,
            user_id=user_id,
            agent_name=agent_name or "",
            scopes=frozenset(scopes),
            expires_at=expires_at,
        )
        for prefix, digest, organization_id, user_id, agent_name, scopes, expires_at in rows.values_list(*names)[
            :MAX_KEYS
        ]
    }


def _session_fact(row: Session) -> SessionFact | None:
    content: Mapping[str, object] = SessionStore().decode(row.session_data)  # {} for a text that is not ours
    user_id = str(content.get("_auth_user_id", ""))
    if not user_id.isdigit():
        return None
    return SessionFact(
        user_id=int(user_id),
        session_hash=str(content.get("_auth_user_hash", "")),
        organization_id=str(content.get("organization_id") or ""),
        expires_at=row.expire_date,
    )


class Authority:
    """Keeps the snapshot fresh in a thread of its own."""

    def __init__(self) -> None:
        self.snapshot = Snapshot()
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._generation = 0
        self._is_started = False
        self._wanted = threading.Event()

    def start(self) -> None:
        """Begin reading (once); the first snapshot is there a moment later."""
        with self._lock:
            if self._is_started:
                return
            self._is_started = True
        threading.Thread(target=self._run, name="stop-authority", daemon=True).start()

    def refresh(self) -> None:
        """Read now, in this thread. DatabaseError leaves the last snapshot."""
        snapshot = load_snapshot(self.snapshot, clock.now())
        with self._changed:
            self.snapshot = snapshot
            self._generation += 1
            self._changed.notify_all()

    def wait_for_newer(self, timeout_s: float) -> bool:
        """Ask the thread to read now and wait, at most ``timeout_s``, for what it finds. (Where no thread was
        started, as under a WSGI server, this one reads.)
        """
        if not self._is_started:
            return self._refresh_here()
        with self._changed:
            seen = self._generation
            self._wanted.set()
            return self._changed.wait_for(lambda: self._generation > seen, timeout_s)

    def _refresh_here(self) -> bool:
        try:
            self.refresh()
        except DatabaseError as error:
            logger.warning("STOP's authority could not be read: %s", error)
            return False
        finally:
            connection.close()
        return True

    def _run(self) -> None:
        while not draining.is_draining():
            try:
                close_old_connections()
                self.refresh()
            except DatabaseError as error:
                logger.warning("STOP's authority keeps its last snapshot: %s", error)
                connection.close()
            except Exception:  # the outermost loop: STOP must not lose its authority to one bad row
                logger.exception("STOP's authority could not be read")
            clock.sleep(REFRESH_AT_MOST_EVERY_S)
            clock.wait(self._wanted, REFRESH_S)
            self._wanted.clear()
        connection.close()


AUTHORITY = Authority()
