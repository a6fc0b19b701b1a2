"""API keys: made once, shown once, kept as a digest."""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import hmac
import re
from collections.abc import Iterable

from django.contrib.auth.models import User
from django.db import DatabaseError, models

from kernel import ids, prepared
from kernel.loaded_rows import loaded
from kernel.models import Agent, ApiKey, Organization
from kernel.prepared import Prepared
from kernel.principals import AGENT_SCOPES, BOUND_SCOPES, SCOPES

PREFIX_CHARACTERS = 10
MAX_KEY_CHARACTERS = 200
_ID = re.compile(r"[a-z]{3}_[0-9a-z]{26}")
_LAST_USED_EVERY = dt.timedelta(seconds=60)


class BadScope(ValueError):
    """A scope that this key cannot have; the words say which it could."""


class UnknownScope(BadScope):
    """A scope that no key can have; names the known ones."""

    def __init__(self, scope: str) -> None:
        super().__init__(
            f"{scope!r} is not a scope. Known: {', '.join(SCOPES)}; {', '.join(BOUND_SCOPES)}:<id> for one thing alone."
        )


class ScopeOfPeople(BadScope):
    """A scope that an agent could never use; names those it may have."""

    def __init__(self, scope: str) -> None:
        bound = ", ".join(f"{name}:<id>" for name in BOUND_SCOPES)
        super().__init__(
            f"{scope!r} is for people: an agent's key may have {', '.join(AGENT_SCOPES)} and {bound}, nothing else."
        )


class BadKey(Exception):
    """A key that opens nothing. ``code`` says why: key_unknown, key_expired, key_revoked, key_disabled."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def create_key(
    organization: Organization,
    *,
    scopes: Iterable[str],
    now: dt.datetime,
    user: User | None = None,
    agent: Agent | None = None,
    expires_at: dt.datetime | None = None,
) -> tuple[ApiKey, str]:
    """A new key of one person or one agent, and its plain text ``ro_<prefix>_<secret>``, which is not kept.

    UnknownScope; ScopeOfPeople: it would promise an agent what no agent may do.
    """
    wanted = sorted({scope.strip() for scope in scopes if scope.strip()})
    for scope in wanted:
        name, colon, subject_id = scope.partition(":")
        if scope not in SCOPES and not (colon and name in BOUND_SCOPES and _ID.fullmatch(subject_id)):
            raise UnknownScope(scope)
        if agent is not None and name not in AGENT_SCOPES:
            raise ScopeOfPeople(scope)
    prefix = ids.secret()[:PREFIX_CHARACTERS]
    plain = f"ro_{prefix}_{ids.secret()}"
    key = ApiKey.objects.create(
        organization=organization,
        prefix=prefix,
        digest=digest_key(plain),
        user=user,
        agent=agent,
        scopes=wanted,
        created_at=now,
        expires_at=expires_at,
    )
    return key, plain


def digest_key(plain: str) -> str:
    """What is stored of a key. The secret has 256 random bits, so one SHA-256 is enough."""
    return hashlib.sha256(plain.encode()).hexdigest()


@functools.cache
def _columns(model: type[models.Model], path: str = "") -> tuple[str, ...]:
    return tuple(f"{path}{field.attname}" for field in model._meta.concrete_fields)


# Every request by key reads this; compiled once it costs a fourth.
_HOLDERS: tuple[tuple[str, type[models.Model]], ...] = (
    ("organization", Organization),
    ("user", User),
    ("agent", Agent),
)
_KEY = Prepared(
    lambda prefix: ApiKey.objects.filter(prefix=prefix).values_list(
        *_columns(ApiKey), *(name for path, model in _HOLDERS for name in _columns(model, f"{path}__"))
    ),
    "prefix",
)


def _read_key(prefix: str) -> ApiKey | None:
    """The key with this prefix, its organisation and its holder loaded."""
    row = _KEY.first(prefix=prefix)
    if row is None:
        return None
    end = len(_columns(ApiKey))
    key = loaded(ApiKey, _columns(ApiKey), row[:end])
    for path, model in _HOLDERS:
        begin, end = end, end + len(_columns(model))
        is_there = getattr(key, f"{path}_id") is not None
        setattr(key, path, loaded(model, _columns(model), row[begin:end]) if is_there else None)
    return key


def find_key(plain: str, *, now: dt.datetime) -> ApiKey:
    """The live key with this plain text, holder loaded; BadKey says why there is none."""
    parts = plain.split("_")
    if len(plain) > MAX_KEY_CHARACTERS or len(parts) != 3 or parts[0] != "ro" or not plain.isascii() or "\0" in plain:
        raise BadKey("key_unknown", "This API key is not known.")
    key = _read_key(parts[1])
    if key is None or not hmac.compare_digest(key.digest, digest_key(plain)):
        raise BadKey("key_unknown", "This API key is not known.")
    if key.revoked_at is not None:
        raise BadKey("key_revoked", "This API key was revoked.")
    if key.expires_at is not None and key.expires_at <= now:
        raise BadKey("key_expired", "This API key has expired.")
    holder = key.user or key.agent
    if holder is None or not holder.is_active:
        raise BadKey("key_disabled", "The holder of this API key is disabled.")
    return key


def note_use(key: ApiKey, *, now: dt.datetime) -> None:
    """Remember, at most once a minute, that the key was used; a busy database may lose this."""
    if key.last_used_at is not None and now - key.last_used_at < _LAST_USED_EVERY:
        return
    try:
        prepared.update(ApiKey, key.pk, {"last_used_at": now})
    except DatabaseError:
        return
