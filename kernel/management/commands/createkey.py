"""`manage.py createkey --org demo (--agent NAME | --user NAME) --scopes a,b`: prints the key alone."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from kernel import audit, clock, keys, principals
from kernel.models import Agent, Membership, Organization
from kernel.serializers import nearest_hint

MAX_NAME = 100  # of an agent: `kernel.models.Agent`


class Command(BaseCommand):
    help = "Make an API key and print it. It is shown this once. An unknown agent is created, without a grant."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--org", required=True, help="the organisation's slug")
        holder = parser.add_mutually_exclusive_group(required=True)
        holder.add_argument("--agent", help="name of an agent")
        holder.add_argument("--user", help="user name of a member")
        parser.add_argument(
            "--scopes",
            default="read",
            help=f"comma-separated: {', '.join(principals.SCOPES)}; an agent's: {', '.join(principals.AGENT_SCOPES)}",
        )
        parser.add_argument("--expires-in-days", type=int, help="1 to 3650; never when left out")

    def handle(self, *args: Any, **options: Any) -> None:
        now = clock.now()
        days = options["expires_in_days"]
        if days is not None and not 1 <= days <= 3650:
            raise CommandError("--expires-in-days must be from 1 to 3650")
        with transaction.atomic():
            organization = _organization(options["org"])
            agent = _agent(organization, options["agent"], now) if options["agent"] is not None else None
            user = _member(organization, options["user"]) if options["user"] is not None else None
            try:
                key, plain = keys.create_key(
                    organization,
                    scopes=options["scopes"].split(","),
                    now=now,
                    user=user,
                    agent=agent,
                    expires_at=now + dt.timedelta(days=days) if days else None,
                )
            except keys.BadScope as error:
                raise CommandError(str(error)) from error
            audit.record(
                organization,
                principals.system_principal("createkey", organization),
                "api_key_created",
                "api_key",
                key.pk,
                {"agent": options["agent"], "user": options["user"], "scopes": key.scopes, "prefix": key.prefix},
                now=now,
            )
        self.stdout.write(plain)


def _organization(slug: str) -> Organization:
    organization = Organization.objects.filter(slug=slug).first()
    if organization is None:
        known = Organization.objects.values_list("slug", flat=True)
        raise CommandError(f"There is no organisation {slug!r}. {nearest_hint(slug, known)}")
    return organization


def _agent(organization: Organization, name: str, now: dt.datetime) -> Agent:
    if not name.strip():
        raise CommandError("--agent needs a name.")
    if len(name) > MAX_NAME:
        raise CommandError(f"--agent has at most {MAX_NAME} characters.")
    agent, _is_new = Agent.objects.get_or_create(organization=organization, name=name, defaults={"created_at": now})
    return agent


def _member(organization: Organization, username: str) -> Any:
    user = get_user_model().objects.filter(username=username, memberships__organization=organization).distinct().first()
    if user is None:
        names = Membership.objects.filter(organization=organization).values_list("user__username", flat=True)
        raise CommandError(f"{username!r} is not a member of {organization.slug}. {nearest_hint(username, set(names))}")
    return user
