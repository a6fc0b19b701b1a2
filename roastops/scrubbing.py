"""Taking secrets out of text that leaves the house: those we know by value, and those we know by shape."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from django.conf import settings

REMOVED = "[removed]"
MIN_CHARACTERS = 8  # a shorter "secret" would take ordinary words with it
MAX_FILE_BYTES = 4096
_SHAPES = (
    re.compile(r"()\bro_[A-Za-z0-9]+_[A-Za-z0-9]{8,}"),  # our API keys
    re.compile(r"()\bv1\.[\w-]+\.[\w-]+\.\d+\.[0-9a-fA-F]{16,}"),  # console STOP tokens
    re.compile(r"()\bsk-[A-Za-z0-9_-]{16,}"),  # a model provider's keys
    re.compile(r"()\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+"),  # JWTs
    re.compile(r"()-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    re.compile(r"(?i)(\bbearer\s+)[^\s\"',\\]{8,}"),
    re.compile(r"(://)[^\s/:@\"]*:[^\s/@\"]+(?=@)"),  # user:password@host
    re.compile(r"(?i)(\b(?:sessionid|csrftoken|password|passwd|secret|api_key)=)[^\s&;\"',\\]+"),
    re.compile(r"(?i)(\\?[\"'](?:password|secret|api_key|stop_token)\\?[\"']\s*:\s*\\?[\"'])[^\"'\\]+"),
)
#: Whatever such a field says is not told.
_FIELDS = frozenset({"password", "secret", "secret_key", "api_key", "stop_token", "authorization", "cookie"})


def known_secrets() -> list[str]:
    """What this installation keeps secret, by value; longest first."""
    environment = settings.ENVIRONMENT
    values = [settings.SECRET_KEY, environment.secret_key]
    for url in (environment.database_url, environment.redis_url):
        password = urllib.parse.urlsplit(url).password or ""
        values += [password, urllib.parse.unquote(password)]
    for path in _secret_files():
        values += _texts(path)
    return sorted({value for value in values if len(value) >= MIN_CHARACTERS}, key=len, reverse=True)


def _secret_files() -> Iterable[Path]:
    yield settings.AUDIT_KEY_FILE
    for folder in (settings.DATA_DIR, settings.RUN_DIR):
        yield from sorted(folder.glob("*.key"))


def _texts(path: Path) -> list[str]:
    """A secret file's words, and its bytes in hex (a key may be kept raw)."""
    try:
        raw = path.read_bytes()[:MAX_FILE_BYTES]
    except OSError:
        return []
    text = raw.decode("utf-8", "ignore").strip()
    return [*text.splitlines(), raw.hex()]


class Scrubber:
    """Replaces every secret in a text, or in all texts of a JSON value."""

    def __init__(self, known: Iterable[str]) -> None:
        self._known = tuple(known)

    def text(self, text: str) -> str:
        """The text without secrets."""
        for value in self._known:
            text = text.replace(value, REMOVED)
        for shape in _SHAPES:
            text = shape.sub(rf"\1{REMOVED}", text)
        return text

    def value(self, value: Any) -> Any:
        """The JSON value, its shape kept, without secrets."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {
                self.text(str(key)): REMOVED if str(key).lower() in _FIELDS and inner else self.value(inner)
                for key, inner in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.value(inner) for inner in value]
        return value
