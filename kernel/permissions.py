"""What a principal must be able to do before a view runs: 401 who are you, 403 not you."""

from __future__ import annotations

import functools
from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from kernel.errors import Forbidden, Unauthenticated
from kernel.principals import CAPABILITIES, Principal


def principal_or_refuse(request: Any) -> Principal:
    """The request's principal; Unauthenticated for a stranger, Forbidden for a person without an organisation."""
    principal = getattr(request, "principal", None)
    if principal is None:
        raise Unauthenticated(
            "not_signed_in", "We do not know who you are.", "Sign in, or send `Authorization: Bearer <key>`."
        )
    if principal.organization is None:
        raise Forbidden("no_membership", "You are not a member of an organisation.", "Ask an admin to add you.")
    return principal


def require(request: Any, capability: str) -> Principal:
    """The principal, if it may do ``capability``; for plain views and services' callers."""
    principal = principal_or_refuse(request)
    if not principal.may(capability):
        raise Forbidden(
            "not_allowed",
            f"{principal.name} may not {capability} here.",
            _advice(principal, capability),
            needed=capability,
        )
    return principal


def _advice(principal: Principal, capability: str) -> str:
    if principal.is_agent and capability != "propose":
        return "Agents may look and propose; a person must do this."
    if principal.via == "key":
        return f"Use a key whose scopes and whose holder's role allow `{capability}`."
    return "Ask somebody with the right role."


class MemberOnly(BasePermission):
    """Any member, or agent, of an organisation."""

    capability = "view"

    def has_permission(self, request: Request, view: Any) -> bool:
        if not hasattr(view, str(request.method).lower()):
            principal_or_refuse(request)
            return True  # nobody may: the view answers 405
        require(request, self.capability)
        return True


@functools.cache
def Requires(capability: str) -> type[MemberOnly]:
    """A permission class: `permission_classes = [Requires("operate")]`."""
    if capability not in CAPABILITIES:
        raise KeyError(capability)
    return type(f"Requires{capability.title()}", (MemberOnly,), {"capability": capability})
