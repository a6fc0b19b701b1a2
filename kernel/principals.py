"""Who is asking: one frozen value for a person, an agent or the system itself."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

from kernel.models import Agent, Membership, Organization, Role
from kernel.prepared import PreparedObjects

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from kernel.models import ApiKey

SCOPES = ("read", "propose", "approve", "stop", "operate", "lead", "judge", "audit", "telemetry", "admin")
CAPABILITIES = ("view", "propose", "approve", "stop", "operate", "lead", "judge", "audit", "telemetry", "admin")
#: Scopes that a colon and an id narrow to one thing: `telemetry:mch_…` sends for that machine alone.
BOUND_SCOPES = ("telemetry",)

_OPERATING = frozenset({Role.OPERATOR.value, Role.LEAD.value, Role.ADMIN.value})
_LEADING = frozenset({Role.LEAD.value, Role.ADMIN.value})
# Which roles give a person a capability. `view` needs membership alone.
ROLES_FOR = {
    "propose": _OPERATING,
    "approve": _OPERATING,
    "stop": _OPERATING,
    "operate": _OPERATING,
    "lead": _LEADING,
    "judge": frozenset({Role.JUDGE.value}),
    "audit": _LEADING | {Role.AUDITOR.value},
    "telemetry": _OPERATING,
    "admin": frozenset({Role.ADMIN.value}),
}
# Which scopes of a key let that capability through. A wider scope holds the narrower ones.
SCOPES_FOR = {
    "propose": frozenset({"propose", "operate", "lead", "admin"}),
    "approve": frozenset({"approve", "operate", "lead", "admin"}),
    "stop": frozenset({"stop", "approve", "operate", "lead", "admin"}),
    "operate": frozenset({"operate", "lead", "admin"}),
    "lead": frozenset({"lead", "admin"}),
    "judge": frozenset({"judge"}),
    "audit": frozenset({"audit", "admin"}),
    "telemetry": frozenset({"telemetry"}),
    "admin": frozenset({"admin"}),
}
AGENT_CAPABILITIES = frozenset({"view", "propose", "telemetry"})  # telemetry: a bridge is an agent, too
#: Scopes a key of an agent may have: looking, and what an agent can do at all.
AGENT_SCOPES = tuple(scope for scope in SCOPES if scope == "read" or scope in AGENT_CAPABILITIES)

Kind = Literal["person", "agent", "system"]
Via = Literal["session", "key", "stop_token", "system"]


@dataclasses.dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who acts. ``roles`` are a person's in ``organization``; ``scopes`` are the key's they came with."""

    kind: Kind
    id: str  # usr_<pk> for a person, the agent's id, or a word for the system
    name: str
    organization: Organization | None
    user: User | None = None
    agent: Agent | None = None
    roles: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    via: Via = "session"

    @property
    def is_person(self) -> bool:
        return self.kind == "person"

    @property
    def is_agent(self) -> bool:
        return self.kind == "agent"

    def may(self, capability: str) -> bool:
        """Whether this principal has ``capability`` (one of CAPABILITIES) in its organisation.

        A person needs the role, and by key the scope too; an agent may look and, with the scope, propose;
        the system acts by its own code and never through here. An unknown capability is a bug: KeyError.
        """
        if capability not in CAPABILITIES:
            raise KeyError(capability)
        if self.organization is None:
            return False
        if self.is_agent:
            return capability == "view" or (
                capability in AGENT_CAPABILITIES and bool(self.scopes & SCOPES_FOR[capability])
            )
        if not self.is_person:
            return capability == "view"
        if capability == "view":
            return bool(self.roles)
        has_role = bool(self.roles & ROLES_FOR[capability])
        return has_role and (self.via != "key" or bool(self.scopes & SCOPES_FOR[capability]))

    def may_for(self, capability: str, subject_id: str) -> bool:
        """Whether this principal has ``capability`` for one thing: by it all, or by a scope bound to ``subject_id``."""
        if self.may(capability):
            return True
        if capability not in BOUND_SCOPES or f"{capability}:{subject_id}" not in self.scopes:
            return False
        return dataclasses.replace(self, scopes=self.scopes | {capability}).may(capability)


def system_principal(name: str, organization: Organization | None = None) -> Principal:
    """The house itself acting, e.g. ``system_principal("sweeper", organization)``."""
    return Principal(kind="system", id=name, name=name, organization=organization, via="system")


def person_id(user: User) -> str:
    """A person's stable id in audit rows and digests."""
    return f"usr_{user.pk}"


#: Asked with every request of a person.
_MEMBERSHIPS = PreparedObjects(
    lambda user: (
        Membership.objects.filter(user_id=user).select_related("organization").order_by("organization__slug", "role")
    ),
    "user",
    numbers=["user"],
)


def for_user(user: User, *, organization_id: str | None = None, via: Via = "session") -> Principal:
    """The person in the organisation asked for, else in their first by name; no membership: no organisation."""
    rows = [row for row in _MEMBERSHIPS.rows(user=user.pk) if organization_id in (None, row.organization_id)]
    organization = rows[0].organization if rows else None
    roles = frozenset(row.role for row in rows if organization is not None and row.organization_id == organization.pk)
    return Principal(
        kind="person",
        id=person_id(user),
        name=user.get_username(),
        organization=organization,
        user=user,
        roles=roles,
        via=via,
    )


def for_key(key: ApiKey) -> Principal:
    """The holder of ``key`` (its user, agent and organization are loaded), narrowed to its scopes."""
    scopes = frozenset(key.scopes)
    if key.agent is not None:
        return Principal(
            kind="agent",
            id=key.agent.pk,
            name=key.agent.name,
            organization=key.organization,
            agent=key.agent,
            scopes=scopes,
            via="key",
        )
    if key.user is None:  # the database has a constraint; a row without a holder is nobody
        return Principal(kind="system", id="nobody", name="nobody", organization=None, via="key")
    person = for_user(key.user, organization_id=key.organization_id, via="key")
    return dataclasses.replace(person, scopes=scopes)
