"""`manage.py grant --agent NAME --machine ID --level L3 --by lead`: a lead signs how far an agent may go."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser

from commands import services
from commands.rules.values import Level
from kernel import clock, principals
from kernel.errors import ApiError
from kernel.models import Agent
from kernel.serializers import nearest_hint
from roasts.models import Machine


class Command(BaseCommand):
    help = "Grant an agent a level on a machine, signed by a lead; the live grant there is replaced."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--agent", required=True, help="name or id")
        parser.add_argument("--machine", required=True, help="id or name")
        parser.add_argument("--level", required=True, choices=[level.value for level in Level])
        parser.add_argument("--by", required=True, help="user name of a lead of that organisation")
        parser.add_argument("--order-types", default="", help="comma-separated; empty: all settings")
        parser.add_argument("--reason", default="")
        parser.add_argument("--release", default="", help="only orders of this release of the agent; empty: any")
        parser.add_argument("--evidence", action="append", default=[], help="what the lead relied on; may be repeated")
        parser.add_argument("--expires-in-days", type=int, help="1 to 3650; never when left out")

    def handle(self, *args: Any, **options: Any) -> None:
        now = clock.now()
        days = options["expires_in_days"]
        if days is not None and not 1 <= days <= 3650:
            raise CommandError("--expires-in-days must be from 1 to 3650")
        machine = _machine(options["machine"])
        agent = _agent(options["agent"], machine)
        try:
            grant = services.grant_autonomy(
                _signer(options["by"], machine),
                agent=agent,
                machine=machine,
                level=options["level"],
                order_types=[name.strip() for name in options["order_types"].split(",") if name.strip()],
                reason=options["reason"],
                agent_release=options["release"],
                evidence=options["evidence"],
                expires_at=now + dt.timedelta(days=days) if days else None,
                now=now,
            )
        except ApiError as error:
            raise CommandError(f"{error.message} {error.how_to_fix}") from error
        if grant.level in (Level.L4, Level.L5):
            self.stderr.write(
                f"{grant.level} needs an operator's presence confirmed at {machine.name}; without it, orders are held."
            )
        self.stdout.write(f"{grant.pk}: {agent.name} is granted {grant.level} on {machine.name}")


def _machine(word: str) -> Machine:
    rows = Machine.objects.select_related("organization")
    found = rows.filter(pk=word).first()
    if found is not None:
        return found
    named = list(rows.filter(name=word)[:2])
    if len(named) == 1:
        return named[0]
    problem = "is the name of several machines; give the id" if named else "is no machine"
    raise CommandError(f"{word!r} {problem}. {nearest_hint(word, Machine.objects.values_list('name', flat=True))}")


def _agent(word: str, machine: Machine) -> Agent:
    rows = Agent.objects.filter(organization_id=machine.organization_id)
    agent = rows.filter(name=word).first() or rows.filter(pk=word).first()
    if agent is None:
        raise CommandError(f"{word!r} is no agent there. {nearest_hint(word, rows.values_list('name', flat=True))}")
    return agent


def _signer(username: str, machine: Machine) -> principals.Principal:
    user = get_user_model().objects.filter(username=username, is_active=True).first()
    if user is None:
        raise CommandError(f"There is no active user {username!r}.")
    return principals.for_user(user, organization_id=machine.organization_id, via="system")
