"""The ground floor in Django's admin: to look at, within one's own organisation."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Group, User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop

from kernel import audit, clock, principals
from kernel.models import Agent, ApiKey, AuditEntry, Membership, Organization, Role, Site

#: Said by Django's page of accounts, and in no German catalog of Django's.
LEFT_BY_DJANGO = (
    gettext_noop("Raw passwords are not stored, so there is no way to see the user’s password."),
    gettext_noop("Enable password-based authentication for this user by setting a password."),
)
ROLE_WORDS = {
    Role.VIEWER.value: _("viewer"),
    Role.OPERATOR.value: _("operator"),
    Role.LEAD.value: _("lead"),
    Role.JUDGE.value: _("judge"),
    Role.AUDITOR.value: _("auditor"),
    Role.ADMIN.value: _("admin"),
}


class HouseAdmin(admin.ModelAdmin):
    """Rows of the principal's organisation alone; nothing is added, changed or deleted here.

    Keys are made by `manage.py createkey`, agents with them; the trail is written by what happens.
    """

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).for_principal(getattr(request, "principal", None))  # type: ignore[attr-defined]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


admin.site.unregister(Group)  # roles are memberships; a group would grant what nobody audits
admin.site.unregister(User)


@admin.register(User)
class AuditedUserAdmin(UserAdmin):
    """Django's own page of accounts, for superusers; what they do there is in the trail of everybody it concerns."""

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        self._record(request, obj, "user_added", message)
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        self._record(request, obj, "user_changed", message)
        return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        for user in queryset:
            self._record(request, user, "user_deleted", "")
        return super().log_deletions(request, queryset)

    def _record(self, request: HttpRequest, user: User, verb: str, message: Any) -> None:
        """In the trails of the user's organisations, else in the actor's own. ``message`` names fields, not values."""
        actor = getattr(request, "principal", None)
        if actor is None:
            raise PermissionDenied("nobody whose act could be written down")
        concerned = list(Organization.objects.filter(memberships__user=user).distinct())
        if not concerned and actor.organization is not None:
            concerned = [actor.organization]
        payload = {"username": user.get_username(), "changes": message}
        with transaction.atomic():
            for organization in concerned:
                audit.record(organization, actor, verb, "user", principals.person_id(user), payload, now=clock.now())


@admin.register(Site)
class SiteAdmin(HouseAdmin):
    list_display = ["name", "time_zone"]


@admin.register(Membership)
class MembershipAdmin(HouseAdmin):
    list_display = ["user", "role_said"]
    list_select_related = ["user"]
    fields = ("organization", "user", "role_said")
    readonly_fields = ("organization", "user", "role_said")

    @admin.display(description=_("role"), ordering="role")
    def role_said(self, membership: Membership) -> str:
        return str(ROLE_WORDS.get(membership.role, membership.role))


@admin.register(Agent)
class AgentAdmin(HouseAdmin):
    list_display = ["name", "release", "owner", "is_active"]
    list_select_related = ["owner"]


@admin.register(ApiKey)
class ApiKeyAdmin(HouseAdmin):
    list_display = ["prefix", "user", "agent", "expires_at", "revoked_at", "last_used_at"]
    list_select_related = ["user", "agent"]
    exclude = ["digest"]


@admin.register(AuditEntry)
class AuditEntryAdmin(HouseAdmin):
    list_display = ["at", "actor_name", "verb", "subject_kind", "subject_id"]
    list_filter = ["verb", "subject_kind"]
    search_fields = ["subject_id", "actor_name"]
    ordering = ["-at", "-id"]
