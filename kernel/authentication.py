"""Two ways in: `Authorization: Bearer` API keys, and the console's session with CSRF."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication
from rest_framework.authentication import SessionAuthentication as DrfSessionAuthentication
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request

from kernel import clock, keys, principals
from kernel.errors import Unauthenticated
from kernel.principals import Principal

_BEARER = "bearer "


def principal_of_key(header: str) -> Principal:
    """Who an `Authorization` header stands for; raises keys.BadKey."""
    now = clock.now()
    key = keys.find_key(header[len(_BEARER) :].strip(), now=now)
    principal = principals.for_key(key)
    if principal.is_person and principal.organization is None:
        raise keys.BadKey("key_disabled", "The holder of this API key is no longer a member of its organisation.")
    keys.note_use(key, now=now)
    return principal


def has_bearer(request: HttpRequest) -> bool:
    """Whether the request names a key (a session beside it is then ignored)."""
    return request.headers.get("Authorization", "")[: len(_BEARER)].lower() == _BEARER


def resolve_principal(request: HttpRequest) -> Principal | None:
    """Who is asking, by key or by session; None for a stranger; raises keys.BadKey for a key that opens nothing."""
    if has_bearer(request):
        return principal_of_key(request.headers["Authorization"])
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return None
    return principals.for_user(user, organization_id=request.session.get("organization_id"))


def _resolved(request: Request) -> Principal | None:
    """The middleware's answer, or our own where a view is called without it."""
    django_request = request._request
    if not hasattr(django_request, "principal"):
        django_request.principal = resolve_principal(django_request)  # type: ignore[attr-defined]
    error = getattr(django_request, "principal_error", None)
    if error is not None:
        raise Unauthenticated(error.code, error.message, "Ask an admin for a new key (`manage.py createkey`).")
    return django_request.principal  # type: ignore[attr-defined]


class KeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer ro_…`. First in the list, so that a stranger is told 401 and not 403."""

    def authenticate(self, request: Request) -> tuple[Any, Principal] | None:
        if not has_bearer(request._request):
            return None
        try:
            principal = _resolved(request)
        except keys.BadKey as error:
            raise Unauthenticated(error.code, error.message, "Ask an admin for a new key.") from None
        if principal is None:
            return None
        return principal.user or principal.agent, principal

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class SessionAuthentication(DrfSessionAuthentication):
    """The signed-in console: Django's session, and a CSRF token with every unsafe method."""

    def authenticate(self, request: Request) -> tuple[Any, Principal] | None:
        user = getattr(request._request, "user", None)
        if user is None or not user.is_active:
            return None
        principal = _resolved(request)
        if principal is None:
            return None
        self.enforce_csrf(request)
        return user, principal

    def enforce_csrf(self, request: Request) -> None:
        try:
            super().enforce_csrf(request)
        except PermissionDenied as error:
            raise PermissionDenied(str(error.detail), code="csrf_failed") from None
