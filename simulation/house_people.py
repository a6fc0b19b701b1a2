"""Who works in the simulated house, and on what: rows made once per process."""

from __future__ import annotations

import dataclasses
import datetime as dt

from django.contrib.auth.models import User

from commands.commissioning import services_commissioning
from kernel import keys, principals
from kernel.models import Agent, Membership, Organization, Role, Site
from roasts.models import ControlLimit, Machine, MachineReading

#: name → (organisation, roles)
PEOPLE: dict[str, tuple[str, tuple[Role, ...]]] = {
    "operator": ("ours", (Role.OPERATOR,)),
    "second": ("ours", (Role.OPERATOR,)),
    "owner": ("ours", (Role.OPERATOR,)),
    "lead": ("ours", (Role.LEAD,)),
    "viewer": ("ours", (Role.VIEWER,)),
    "stranger": ("theirs", (Role.LEAD, Role.OPERATOR)),
}
#: name → (organisation, owner)
AGENTS: dict[str, tuple[str, str]] = {
    "steady": ("ours", "owner"),
    "eager": ("ours", "second"),
    "foreign": ("theirs", "stranger"),
}
PERSON_SCOPES = ("read", "propose", "approve", "stop", "operate", "lead")
AGENT_SCOPES = ("read", "propose")
#: control → (lowest, highest, longest move of an agent, seconds between agents' orders, a day, a roast, an agent's
#: steps per second)
LIMITS: dict[str, tuple[int, int, int, float, int, int, float | None]] = {
    "heater": (0, 9, 4, 2.0, 12, 6, 1.0),
    "fan": (1, 12, 4, 0.0, 1000, 100, 2.0),
    "drum": (1, 9, 2, 1.2, 3, 2, None),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Names:
    """Ids and keys, by the names above."""

    organization_id: str
    machine_id: str
    bridged_machine_id: str  # fed by a bridge: watched, not steered
    foreign_machine_id: str
    people: dict[str, int]
    agents: dict[str, str]
    keys: dict[str, str]


def make(*, now: dt.datetime) -> Names:
    """Make every row."""
    organizations = {
        slug: Organization.objects.create(slug=slug, name=slug.title(), created_at=now) for slug in ("ours", "theirs")
    }
    people = {name: _person(name, organizations[place], roles) for name, (place, roles) in PEOPLE.items()}
    agents = {
        name: Agent.objects.create(
            organization=organizations[place], name=name, owner=people[owner], release="1", created_at=now
        )
        for name, (place, owner) in AGENTS.items()
    }
    plain = {
        name: keys.create_key(organizations[PEOPLE[name][0]], user=user, scopes=PERSON_SCOPES, now=now)[1]
        for name, user in people.items()
    }
    plain |= {
        name: keys.create_key(agent.organization, agent=agent, scopes=AGENT_SCOPES, now=now)[1]
        for name, agent in agents.items()
    }
    ours = _machine(organizations["ours"], "Bullet", now)
    services_commissioning.record_for_virtual(ours, by=principals.for_user(people["lead"]), now=now)
    bridged = _machine(organizations["ours"], "Far away", now, is_remote=True)
    foreign = _machine(organizations["theirs"], "Theirs", now)
    return Names(
        organization_id=organizations["ours"].pk, machine_id=ours.pk, bridged_machine_id=bridged.pk,
        foreign_machine_id=foreign.pk, people={name: user.pk for name, user in people.items()},
        agents={name: agent.pk for name, agent in agents.items()}, keys=plain,
    )  # fmt: skip


def _person(name: str, organization: Organization, roles: tuple[Role, ...]) -> User:
    user = User(username=name)
    user.set_unusable_password()
    user.save()
    for role in roles:
        Membership.objects.create(organization=organization, user=user, role=role.value)
    return user


def _machine(organization: Organization, name: str, now: dt.datetime, *, is_remote: bool = False) -> Machine:
    site, _ = Site.objects.get_or_create(organization=organization, name="Here")
    machine = Machine.objects.create(
        organization=organization, site=site, name=name, driver_kind="bullet-r1", is_virtual=True, is_remote=is_remote,
        driver_options={}, created_at=now, host="" if name == "Bullet" else "elsewhere",
    )  # fmt: skip
    for control, (low, high, longest, interval_s, daily, per_roast, ramp) in LIMITS.items():
        ControlLimit.objects.create(
            machine=machine, control=control, min_step=low, max_step=high, full_scale_step=high,
            max_change_step=longest, min_interval_s=interval_s, daily_count=daily, roast_count=per_roast,
            max_ramp_step_per_s=ramp,
        )  # fmt: skip
    MachineReading.objects.create(machine=machine)
    return machine
