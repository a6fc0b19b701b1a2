"""The ground floor in Django's admin: to look at, within one's own organisation."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from kernel.models import Agent, ApiKey, AuditEntry, Membership, Site


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


@admin.register(Site)
class SiteAdmin(HouseAdmin):
    list_display = ["name", "time_zone"]


@admin.register(Membership)
class MembershipAdmin(HouseAdmin):
    list_display = ["user", "role"]
    list_select_related = ["user"]


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
