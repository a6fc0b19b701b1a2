"""`manage.py addperson --org SLUG --user NAME --roles a,b [--new-org NAME]`: prints a new account's password alone."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.validators import UnicodeUsernameValidator
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.validators import validate_slug
from django.db import IntegrityError, transaction

from kernel import clock, ids
from kernel.models import Organization, Role
from kernel.serializers import nearest_hint
from roastops import staff

PASSWORD_CHARACTERS = 16


class Command(BaseCommand):
    help = (
        "Let a person into an organisation, with roles. A new account's password is printed once, alone; a person who "
        "is a member already only gets the roles. --new-org makes the organisation first."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--org", required=True, help="the organisation's slug")
        parser.add_argument("--user", required=True, help="user name, new or a member's")
        parser.add_argument("--roles", required=True, help=f"comma-separated: {', '.join(Role.values)}")
        parser.add_argument("--new-org", metavar="NAME", help="make the organisation, with this name")

    def handle(self, *args: Any, **options: Any) -> None:
        roles, password = _roles(options["roles"]), ids.secret()[:PASSWORD_CHARACTERS]
        _check_names(options)
        try:
            with transaction.atomic():
                organization = _organization(options["org"], options["new_org"])
                _, is_new = staff.add_person(
                    organization, options["user"], roles=roles, password=password, now=clock.now()
                )
        except staff.NotThem as error:
            raise CommandError(f"{error} Choose another name.") from error
        if is_new:
            self.stdout.write(password)
        else:
            self.stderr.write(f"{options['user']} had an account: the password stays as it is.")


def _roles(text: str) -> list[Role]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in Role.values:
            raise CommandError(f"{word!r} is no role. {nearest_hint(word, Role.values)}")
    if not words:
        raise CommandError("--roles names none.")
    return [Role(word) for word in dict.fromkeys(words)]


def _check_names(options: dict[str, Any]) -> None:
    """Names as the pages of accounts would have them."""
    try:
        UnicodeUsernameValidator()(options["user"])
        if options["new_org"] is not None:
            validate_slug(options["org"])
    except ValidationError as error:
        raise CommandError(" ".join(error.messages)) from error
    is_named = options["new_org"] is None or 0 < len(options["new_org"].strip()) <= 200
    if len(options["user"]) > 150 or len(options["org"]) > 50 or not is_named:
        raise CommandError("At most 150 characters for --user, 50 for --org, 1 to 200 for --new-org.")


def _organization(slug: str, new_name: str | None) -> Organization:
    if new_name is not None:
        try:
            return staff.open_organization(slug, new_name.strip(), now=clock.now())
        except IntegrityError:
            raise CommandError(f"There is an organisation {slug!r} already: leave --new-org out.") from None
    organization = Organization.objects.filter(slug=slug).first()
    if organization is None:
        known = Organization.objects.values_list("slug", flat=True)
        raise CommandError(f"There is no organisation {slug!r}. {nearest_hint(slug, known)} --new-org makes one.")
    return organization
