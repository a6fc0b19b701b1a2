"""The demo organisation: people, one virtual Bullet with its limits, one agent, two roasts of the past.

Everything is made once; a second call finds it. Orders, roasts and marks go through the rooms' own services.
"""

from __future__ import annotations

import datetime as dt
import json
import os
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction

from commands import services as command_services
from commands.commissioning import services_commissioning
from commands.models import Grant
from drivers import keeper_config
from kernel import audit, ids, principals
from kernel.models import Agent, Organization, Role, Site
from roastops import demo_roasts, staff
from roasts import services as roast_services
from roasts.library import services_library
from roasts.machines import START_LIMITS
from roasts.models import ControlLimit, Machine, MachineReading, Profile, Roast

ORGANIZATION = "demo"
AGENT = "roastrunner"
#: kind of driver → the demo machine's name; ROASTOPS_DEMO_MACHINE chooses
MACHINES = {"bullet-r1": "Bullet R1 (virtual)", "bullet-r2": "Bullet R2 (virtual)"}
GOLDEN = "Yirgacheffe, house"
LOGINS_FILE = "demo-logins.json"
PEOPLE: dict[str, tuple[Role, bool]] = {  # user name → role, may enter the admin
    "operator": (Role.OPERATOR, True),
    "operator2": (Role.OPERATOR, True),
    "lead": (Role.LEAD, True),
    "judge": (Role.JUDGE, True),
}


class NotOurs(Exception):
    """Something of the demo's name belongs to somebody else."""


def ensure(*, now: dt.datetime, machine_id: str | None = None) -> dict[str, Any]:
    """Make what is missing; returns what `manage.py demo --json` prints. ``machine_id`` is the id a new machine
    is to have (after a reset, the old one's)."""
    logins = _ensure_logins(settings.DATA_DIR / LOGINS_FILE)
    with transaction.atomic():
        organization = _ensure_organization(now)
        site, _ = Site.objects.get_or_create(organization=organization, name="Demo roastery")
        people = {name: _ensure_person(organization, name, password) for name, password in logins.items()}
        machine = _ensure_machine(organization, site, machine_id, now)
        MachineReading.objects.get_or_create(machine=machine)
        agent = _ensure_agent(organization, people["lead"], now)
    services_commissioning.record_for_virtual(machine, by=principals.for_user(people["lead"]), now=now)
    if machine.driver_kind == "bullet-r1":  # the agent and the roasts of the past count an R1's nine steps
        _ensure_grant(agent, machine, people["lead"], now)
        _ensure_past(machine, people["operator"], now)
        _ensure_golden(machine, people["lead"], now)
    write_run_file(machine)
    users = {name: {"username": name, "password": password} for name, password in logins.items()}
    return {
        "organization": organization.slug,
        "organization_id": organization.pk,
        "users": users,
        "machine_id": machine.pk,
        "machine": machine.name,
        "agent": agent.name,
        "agent_id": agent.pk,
    }


def machine_name() -> str:
    """Of the demo machine this environment asks for."""
    return MACHINES[settings.ENVIRONMENT.demo_machine]


def write_run_file(machine: Machine) -> Path:
    """What the machine's keeper needs to know, where it looks for it."""
    config = keeper_config.make(
        settings.RUN_DIR,
        machine_id=machine.pk,
        name=machine.name,
        driver_kind=machine.driver_kind,
        driver_options=machine.driver_options,
        silence_policy=machine.silence_policy,
        limits=keeper_config.Limits(
            machine.max_bean_temp_c,
            machine.max_infrared_temp_c,
            float(machine.max_heat_time_s),
            machine.max_exhaust_temp_c,
        ),
        organization_id=machine.organization_id,
    )
    return keeper_config.write(settings.RUN_DIR, config)


def _ensure_logins(path: Path) -> dict[str, str]:
    """User name → password, generated once and readable by the owner alone."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    logins = {name: str(known.get(name) or ids.secret()[:16]) for name in PEOPLE}
    if logins != known:
        temporary = path.with_suffix(".new")
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            json.dump(logins, stream, indent=1)
        temporary.replace(path)
    return logins


def _ensure_organization(now: dt.datetime) -> Organization:
    organization, is_new = Organization.objects.get_or_create(
        slug=ORGANIZATION, defaults={"name": "Demo roastery", "created_at": now}
    )
    if is_new:
        actor = principals.system_principal("demo", organization)
        audit.record(organization, actor, "organization_created", "organization", organization.pk, {}, now=now)
    return organization


def _ensure_person(organization: Organization, username: str, password: str) -> User:
    role, is_staff = PEOPLE[username]
    user, is_new = User.objects.get_or_create(username=username, defaults={"is_staff": is_staff})
    if is_new:
        user.set_password(password)
        user.save()
    elif not user.memberships.filter(organization=organization).exists():  # type: ignore[attr-defined]
        raise NotOurs(f"There is a user {username!r} already who is not a member of the demo organisation.")
    staff.give_role(organization, user, role)
    return user


def _ensure_machine(organization: Organization, site: Site, machine_id: str | None, now: dt.datetime) -> Machine:
    kind, name = settings.ENVIRONMENT.demo_machine, machine_name()
    machine = Machine.objects.filter(organization=organization, name=name).first()
    if machine is None:
        machine = Machine(organization=organization, site=site, name=name, created_at=now)
        machine.pk = machine_id or machine.pk
    folder = settings.DATA_DIR / "virtual"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = str(keeper_config.socket_path(folder, machine.pk))
    machine.driver_kind = kind
    machine.driver_options = {"backend": {"kind": "virtual-socket", "path": path}, "device_clock": "counter"}
    machine.is_virtual = True
    machine.save()
    for each in START_LIMITS[kind]:
        defaults: dict[str, float] = {"min_step": each.min_step, "max_step": each.max_step}
        defaults |= {"full_scale_step": each.max_step, "max_change_step": each.max_change_step}
        defaults |= {"min_interval_s": each.min_interval_s}
        ControlLimit.objects.get_or_create(machine=machine, control=each.control, defaults=defaults)
    return machine


def _ensure_agent(organization: Organization, owner: User, now: dt.datetime) -> Agent:
    agent, _ = Agent.objects.get_or_create(
        organization=organization, name=AGENT, defaults={"owner": owner, "release": "1", "created_at": now}
    )
    if agent.owner_id is None:
        agent.owner = owner
        agent.save(update_fields=["owner"])
    return agent


def _ensure_grant(agent: Agent, machine: Machine, lead: User, now: dt.datetime) -> None:
    """L3, signed by the lead. A grant somebody changed or revoked since is left as it is."""
    if Grant.objects.filter(agent=agent, machine=machine).exists():
        return
    command_services.grant_autonomy(
        principals.for_user(lead),
        agent=agent,
        machine=machine,
        level="L3",
        reason="Demo: it may propose, a person decides.",
        now=now,
    )


def _ensure_past(machine: Machine, operator: User, now: dt.datetime) -> None:
    """Two finished roasts, so that there is something to look back at."""
    if Roast.objects.filter(machine=machine).exists():
        return
    for batch in demo_roasts.BATCHES:
        demo_roasts.file_batch(machine, batch, principals.for_user(operator), now=now)
    roast_services.note_filed(machine.pk, connection_id="", sequence=0)  # the machine itself said none of it


def _ensure_golden(machine: Machine, lead: User, now: dt.datetime) -> None:
    """The lead made a golden curve of the first roast; the machine's next roasts follow it."""
    golden = demo_roasts.BATCHES[0]
    if machine.profile_version_id is not None or Profile.objects.filter(organization=machine.organization).exists():
        return
    roasts = list(Roast.objects.filter(machine=machine, title=golden.title).select_related("machine")[:1])
    if not roasts:
        return
    principal = principals.for_user(lead)
    document = services_library.document_of(roasts)
    version = services_library.create_profile(
        principal, document, name=GOLDEN, bean=golden.bean, change_note=f"made of {golden.title}", now=now
    )
    services_library.follow_profile(principal, machine, version, now=now)
