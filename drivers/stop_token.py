"""The two proofs that let somebody stop a machine at its keeper, without any database. Pure.

* a signature over one request, by whoever holds the STOP key (the web process, `manage.py stop`);
* a console STOP token ``v1.<machine_id>.<user_id>.<exp_unix>.<hmac>``: short-lived, for one machine.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass

_TOKEN_CHARS_MAX = 512
_PART = re.compile(r"[A-Za-z0-9_\-:@+]{1,128}\Z")
_EXPIRY = re.compile(r"[0-9]{1,12}\Z")


@dataclass(frozen=True, slots=True)
class StopToken:
    """What a good token says."""

    machine_id: str
    user_id: str
    expires_at_unix: int


class BadToken(ValueError):
    """Not a token for this machine and moment; the text says why."""


def sign_request(key: bytes, op: str, machine_id: str, stop_id: str) -> str:
    """The ``auth`` of a stop or release request: HMAC-SHA256 over op|machine|stop, hex."""
    return _mac(key, f"{op}|{machine_id}|{stop_id}")


def is_signed(key: bytes, op: str, machine_id: str, stop_id: str, auth: str) -> bool:
    """Was this request signed with the key? In constant time."""
    return hmac.compare_digest(sign_request(key, op, machine_id, stop_id).encode(), auth.encode("utf-8", "replace"))


def sign(key: bytes, machine_id: str, user_id: str, expires_at_unix: int) -> str:
    """A console STOP token. ValueError where a part has characters that a token cannot carry."""
    if not _PART.match(machine_id) or not _PART.match(user_id):
        raise ValueError("machine and user ids in a token are plain words")
    body = f"v1.{machine_id}.{user_id}.{int(expires_at_unix)}"
    return f"{body}.{_mac(key, body)}"


def verify(key: bytes, token: str, *, machine_id: str, now_unix: float) -> StopToken:
    """The token's content, or BadToken."""
    if not isinstance(token, str) or len(token) > _TOKEN_CHARS_MAX or not token.isascii():
        raise BadToken("not a token")
    body, _, mac = token.rpartition(".")
    parts = body.split(".")
    if len(parts) != 4 or parts[0] != "v1" or not _EXPIRY.match(parts[3]):
        raise BadToken("not a token")
    if not hmac.compare_digest(_mac(key, body).encode(), mac.encode("utf-8", "replace")):
        raise BadToken("the token is not signed with this machine's STOP key")
    if parts[1] != machine_id:
        raise BadToken("the token is for another machine")
    if now_unix >= int(parts[3]):
        raise BadToken("the token has expired: reload the page")
    return StopToken(machine_id=parts[1], user_id=parts[2], expires_at_unix=int(parts[3]))


def _mac(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
