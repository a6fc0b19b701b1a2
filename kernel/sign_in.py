"""Passwords, tried slowly: ten wrong ones for a name from an address close that door for five minutes."""

from __future__ import annotations

import hashlib
from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

MAX_FAILURES = 10
WINDOW_S = 300


def _door(request: HttpRequest | None, username: str | None) -> str:
    address = request.META.get("REMOTE_ADDR", "") if request is not None else ""
    return "sign-in:" + hashlib.sha256(f"{address}|{username}".encode("utf-8", "replace")).hexdigest()


class ThrottledBackend(ModelBackend):
    """Django's own, with a count of failures per name and address (in this process's memory)."""

    def authenticate(  # type: ignore[override]
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **kwargs: Any
    ) -> User | None:
        door = _door(request, username)
        if cache.get(door, 0) >= MAX_FAILURES:
            raise PermissionDenied("too many wrong passwords")
        if username and "\0" in username:
            return None
        user: User | None = super().authenticate(request, username=username, password=password, **kwargs)
        if user is None and username is not None:
            cache.add(door, 0, WINDOW_S)
            cache.incr(door)
        elif user is not None:
            cache.delete(door)
        return user
