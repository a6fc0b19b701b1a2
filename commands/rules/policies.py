"""The policy in force, read from its stored version. What cannot be read trusts no agent."""

from __future__ import annotations

import dataclasses
import functools
import logging
from typing import Any

from commands.models import GovernorPolicy
from commands.rules import policy
from commands.rules.values import DEFAULT_POLICY, Policy
from kernel import canonical
from kernel.prepared import Prepared

logger = logging.getLogger(__name__)


def newest(organization_id: str) -> GovernorPolicy | None:
    """The version in force; None while the house's own stands."""
    return GovernorPolicy.objects.filter(organization_id=organization_id).order_by("-version").first()


def policy_of(organization_id: str) -> Policy:
    """The policy in force in this organisation."""
    row = _NEWEST_DIGEST.first(organization=organization_id)
    return policy_in_force(organization_id, row[0] if row is not None else None)


#: Asked for every held order that a loop looks at.
_NEWEST_DIGEST = Prepared(
    lambda organization: (
        GovernorPolicy.objects.filter(organization_id=organization).order_by("-version").values_list("digest")[:1]
    ),
    "organization",
)


def policy_in_force(organization_id: str, digest: str | None) -> Policy:
    """The policy of that digest (the newest version's), read once per process: a version is never edited."""
    if digest is None:
        return DEFAULT_POLICY
    try:
        return _stored(organization_id, digest)
    except LookupError as error:
        logger.error("the governor's policy of %s cannot be read: %s", organization_id, error)
        return dataclasses.replace(DEFAULT_POLICY, version=-1, fault=str(error))


def digest_of(organization_id: str, version: int, document: Any) -> str:
    """What a lead signs: this document as this version of this organisation's policy."""
    return canonical.digest({"organization_id": organization_id, "version": version, "document": document})


@functools.lru_cache(maxsize=64)
def _stored(organization_id: str, digest: str) -> Policy:
    """LookupError: it is not there, was changed since it was signed, or is no policy (that is not remembered)."""
    row = GovernorPolicy.objects.filter(organization_id=organization_id, digest=digest).order_by("-version").first()
    if row is None:
        raise LookupError("its version is not there")
    if digest_of(organization_id, row.version, row.document) != row.digest:
        raise LookupError(f"version {row.version} is not what was signed")
    try:
        return policy.parse(row.document, version=row.version)
    except policy.PolicyRefused as error:
        raise LookupError(f"version {row.version}: {error}") from error
