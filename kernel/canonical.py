"""One spelling of a value as JSON, so that its digest means something."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from typing import Any


def _plain(value: Any) -> str:
    if isinstance(value, dt.datetime):
        return utc_text(value)
    raise TypeError(f"{type(value).__name__} has no canonical JSON form")


def utc_text(at: dt.datetime) -> str:
    """`2026-11-21T07:30:00.123456Z`: always UTC, always six digits."""
    if at.tzinfo is None:
        raise ValueError("a naive time has no canonical form")
    return at.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def dumps(value: Any) -> str:
    """Canonical JSON: sorted keys, no spaces, UTF-8 as it is, no NaN; datetimes as UTC with Z."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_plain)


def digest(value: Any) -> str:
    """SHA-256, in hex, of the canonical JSON."""
    return digest_text(dumps(value))


def digest_text(text: str) -> str:
    """SHA-256, in hex, of a text's UTF-8."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
