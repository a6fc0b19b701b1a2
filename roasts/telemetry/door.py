"""`POST /v1/telemetry`, from bytes to bytes: who sends, what they send, what they are told. No DRF on this path.

Ten thousand points a second come this way, so it is one function that any server may call: the ASGI application
beside Django (`roasts.telemetry.asgi`) and the documented view (`roasts.telemetry.api`) both do. What takes long
(a key or a stream that this process does not know) can be left for later by who has many to answer. Errors have the
house's one shape. A key's holder is remembered for KEY_KEPT_S, so a revoked key is refused within that time; an agent's
for longer where the statement that files asks whether the key still stands (`roasts.telemetry.swift`).
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from django.db import DatabaseError, close_old_connections

from kernel import authentication, canonical, clock, draining, keys
from kernel.errors import ApiError, Forbidden, Malformed, NotNow, Unauthenticated
from kernel.models import Organization
from kernel.principals import Principal
from roasts.telemetry import services, swift
from roasts.telemetry.envelope import MAX_BODY_BYTES, BadEnvelope, Envelope, read_json, read_lines

logger = logging.getLogger(__name__)
JSON = "application/json"
LINES = "application/x-ndjson"
KEY_KEPT_S = 2.0
#: After this a key is looked up whatever happens, and its use is noted (a thousand bridges have a thousand keys).
KEY_REMEMBERED_S = 300.0
KEYS_KEPT = 4096


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back: a status, a JSON body, and headers beside the content's own."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


#: What is left to do for an answer, where that takes as long as a handful of others.
Later = Callable[[], Answer]
Told = TypeVar("Told", bound="Answer | Callable[[], Answer]")


@dataclass(frozen=True, slots=True)
class _Sender:
    """Who a key stood for when it was looked up. ``api_key``: an agent's, which the statement can ask about."""

    principal: Principal
    looked_up_s: float
    api_key: swift.KeyGround | None

    def is_fresh(self, now_s: float) -> bool:
        return now_s - self.looked_up_s < KEY_KEPT_S


class _Senders:
    """Who keys stand for. Refusals are not remembered."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, _Sender] = {}

    def known(self, header: str) -> _Sender | None:
        """The sender of an `Authorization` header, perhaps as it stood KEY_REMEMBERED_S ago; None: look it up."""
        kept = self._kept.get(header)
        if kept is None:
            return None
        kept_s = KEY_REMEMBERED_S if kept.api_key is not None else KEY_KEPT_S
        return kept if clock.monotonic() - kept.looked_up_s < kept_s else None

    def look_up(self, header: str) -> _Sender:
        """The same as it stands now. keys.BadKey."""
        now_s = clock.monotonic()
        with self._lock:
            self._kept.pop(header, None)
        principal = authentication.principal_of_key(header)
        sender = _Sender(principal, now_s, _key_ground(header) if principal.is_agent else None)
        with self._lock:
            if len(self._kept) >= KEYS_KEPT:
                self._kept.clear()
            self._kept[header] = sender
        return sender

    def forget(self) -> None:
        with self._lock:
            self._kept.clear()


def _key_ground(header: str) -> swift.KeyGround:
    """Of a header that opened something: `Bearer ro_<prefix>_<secret>`."""
    plain = header.partition(" ")[2].strip()
    return swift.KeyGround(plain.split("_")[1], keys.digest_key(plain))


_senders = _Senders()
forget_senders = _senders.forget


def answer(authorization: str, content_type: str, body: bytes) -> Answer:
    """One request's answer, whatever it was. Blocking: call it in a thread."""
    begun = begin(authorization, content_type, body)
    return begun if isinstance(begun, Answer) else begun()


def begin(authorization: str, content_type: str, body: bytes) -> Answer | Later:
    """The answer; or what is left to do, where this process does not know the key or how the stream stands, and must
    read that from the store. Blocking, like what it gives.
    """
    request = _Request(authorization, content_type, body, clock.now())
    return _said(partial(_begun, request))


@dataclass(frozen=True, slots=True)
class _Request:
    """What came, and when."""

    authorization: str
    content_type: str
    body: bytes
    received_at: dt.datetime


def _said(act: Callable[[], Told]) -> Told | Answer:
    """What ``act`` comes to; errors as the answers they are."""
    try:
        return act()
    except ApiError as error:
        return _refusal(error)
    except keys.BadKey as error:
        return _refusal(Unauthenticated(error.code, error.message, "Ask an admin for a new key."))
    except DatabaseError as error:
        logger.error("telemetry: the database refused", exc_info=error)
        close_old_connections()
        return _refusal(NotNow("database_unavailable", "The database does not answer now.", "Send the same again."))


def _refusal(error: ApiError) -> Answer:
    headers: tuple[tuple[str, str], ...] = ()
    if error.status == 401:
        headers = (("WWW-Authenticate", "Bearer"),)
    elif error.status in (429, 503):
        headers = (("Retry-After", "1"),)
    elif error.status == 413:
        headers = (("Connection", "close"),)  # the rest of the body is not read
    return Answer(error.status, json.dumps(error.body()).encode(), headers)


def _begun(request: _Request) -> Answer | Later:
    if draining.is_draining():
        raise NotNow("draining", "This server is shutting down.", "Send the same again in a few seconds.")
    if request.authorization[:7].lower() != "bearer ":
        raise Unauthenticated("not_signed_in", "We do not know who you are.", "Send `Authorization: Bearer <key>`.")
    sender = _senders.known(request.authorization)
    if sender is None:
        return partial(_said, partial(_of_stranger, request))
    envelope = _read_of(sender, request)
    if services.is_known(_organization_of(sender.principal).pk, envelope):
        return _filed(sender, request, envelope)
    return partial(_said, partial(_filed, sender, request, envelope))


def _of_stranger(request: _Request) -> Answer:
    sender = _senders.look_up(request.authorization)
    return _filed(sender, request, _read_of(sender, request))


def _read_of(sender: _Sender, request: _Request) -> Envelope:
    """The envelope, of a machine that its sender may speak for."""
    _organization_of(sender.principal)
    envelope = _read(request.content_type, request.body, request.received_at)
    _require_telemetry(sender.principal, envelope.machine_id)
    return envelope


def _filed(sender: _Sender, request: _Request, envelope: Envelope) -> Answer:
    def look_again() -> None:
        _require_telemetry(_senders.look_up(request.authorization).principal, envelope.machine_id)

    is_fresh = sender.is_fresh(clock.monotonic())
    filed = services.file_envelope(
        _organization_of(sender.principal).pk,
        envelope,
        received_at=request.received_at,
        api_key=None if is_fresh else sender.api_key,
        look_again=None if is_fresh else look_again,
    )
    headers = (("Idempotent-Replay", "true"),) if filed.is_replay else ()
    return Answer(201, canonical.dumps(filed.answer).encode(), headers)


def _organization_of(principal: Principal) -> Organization:
    if principal.organization is None:
        raise Forbidden("no_membership", "You are not a member of an organisation.", "Ask an admin to add you.")
    return principal.organization


def _require_telemetry(principal: Principal, machine_id: str) -> None:
    if not principal.may_for("telemetry", machine_id):
        raise Forbidden(
            "not_allowed",
            f"{principal.name} may not send telemetry of this machine.",
            "Use a key with the scope `telemetry`, or `telemetry:<machine_id>`.",
            needed="telemetry",
        )


def _read(content_type: str, body: bytes, now: dt.datetime) -> Envelope:
    kind = content_type.partition(";")[0].strip().lower()
    if len(body) > MAX_BODY_BYTES:
        raise ApiError("body_too_large", "The body is larger than 1 MB.", "Send fewer points at once.", status=413)
    try:
        if kind == LINES:
            return read_lines(body, received_at=now)
        if kind in (JSON, ""):
            return read_json(body, received_at=now)
    except BadEnvelope as error:
        raise Malformed(error.code, error.message, error.how_to_fix) from None
    raise ApiError(
        "unsupported_media_type", f"{kind[:60]!r} is not taken here.", f"Send {JSON} or {LINES}.", status=415
    )
