"""People and their roles: what the admin lets each role do, and how somebody joins an organisation."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from django.contrib.auth.models import Permission, User
from django.db import transaction

from kernel import audit, principals
from kernel.models import Membership, Organization, Role, Site

#: role → what the admin lets them do; `change` on a proposal shows its approve and reject actions
PERMISSIONS: dict[Role, tuple[str, ...]] = {
    Role.OPERATOR: ("view_proposal", "change_proposal", "view_execution", "view_halt", "view_machine", "view_roast"),
    Role.LEAD: (
        "view_proposal", "change_proposal", "view_execution", "view_halt", "view_alarm", "view_suspension",
        "view_machine", "add_machine", "change_machine", "view_controllimit", "change_controllimit", "add_controllimit",
        "view_grant", "add_grant", "change_grant", "view_agent", "change_agent", "view_apikey", "view_roast",
        "view_roastevent", "view_auditentry", "view_membership", "view_site", "view_proposaltransition",
    ),
    Role.JUDGE: (
        "view_proposal", "view_proposaltransition", "view_execution", "view_halt", "view_roast", "view_roastevent",
        "view_machine", "view_auditentry",
    ),
}  # fmt: skip
_ROOMS = ("kernel", "roasts", "commands")


class NotThem(ValueError):
    """The user name belongs to somebody who is not a member here."""


def open_organization(slug: str, name: str, *, now: dt.datetime) -> Organization:
    """A new organisation with a site of the same name, in its own trail. IntegrityError where the slug is taken."""
    with transaction.atomic():
        organization = Organization.objects.create(slug=slug, name=name, created_at=now)
        Site.objects.create(organization=organization, name=name)
        actor = principals.system_principal("addperson", organization)
        audit.record(organization, actor, "organization_created", "organization", organization.pk, {}, now=now)
    return organization


def add_person(
    organization: Organization, username: str, *, roles: Iterable[Role], password: str, now: dt.datetime
) -> tuple[User, bool]:
    """Give a person roles here, in the trail; the account is made with ``password`` where there is none of that name
    (True). NotThem where the name is somebody's who has nothing to do with this organisation."""
    with transaction.atomic():
        user, is_new = User.objects.get_or_create(username=username)
        if is_new:
            user.set_password(password)
        elif not user.is_superuser and not Membership.objects.filter(organization=organization, user=user).exists():
            raise NotThem(f"There is a user {username!r} already who is not a member of {organization.slug}.")
        given = [role for role in roles if give_role(organization, user, role)]
        user.is_staff = user.is_staff or any(role in PERMISSIONS for role in given)
        user.save()
        if given:
            payload = {"username": username, "roles": [role.value for role in given], "is_new": is_new}
            actor = principals.system_principal("addperson", organization)
            audit.record(organization, actor, "membership_added", "user", principals.person_id(user), payload, now=now)
    return user, is_new


def give_role(organization: Organization, user: User, role: Role) -> bool:
    """The membership, and what goes with it in the admin; False where they had it."""
    _, is_new = Membership.objects.get_or_create(organization=organization, user=user, role=role.value)
    wanted = Permission.objects.filter(content_type__app_label__in=_ROOMS, codename__in=PERMISSIONS.get(role, ()))
    user.user_permissions.add(*wanted)
    return is_new
