"""Device keys in Django's admin: a lead adds the public half and revokes; others of the organisation look."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from kernel import clock
from kernel.errors import Conflict
from kernel.principals import Principal
from roasts.models import DeviceKey, Machine, TelemetryBatch
from roasts.telemetry import device_keys, signing


def _principal(request: HttpRequest) -> Principal | None:
    principal = getattr(request, "principal", None)
    return principal if principal is not None and principal.organization is not None else None


def _may(request: HttpRequest, capability: str) -> bool:
    principal = _principal(request)
    return principal is not None and principal.is_person and principal.may(capability)


VERDICT_WORDS = {
    TelemetryBatch.Verdict.VERIFIED.value: _("signed and verified"),
    TelemetryBatch.Verdict.UNSIGNED.value: _("not signed"),
    TelemetryBatch.Verdict.FAILED.value: _("signature not verified"),
}


class DeviceKeyForm(forms.ModelForm):
    """The public half alone; the private one is made where the bridge runs (`manage.py devicekey`)."""

    class Meta:
        model = DeviceKey
        fields = ["machine", "public_key", "note", "valid_from", "valid_until"]
        help_texts = {"public_key": _("Ed25519: 32 bytes as 64 hex digits.")}

    def clean_public_key(self) -> str:
        text = str(self.cleaned_data["public_key"]).strip().lower()
        if not signing.is_public_key(text):
            raise forms.ValidationError(gettext("This is no Ed25519 public key: 32 bytes as 64 hex digits."))
        return text

    def clean(self) -> dict[str, Any]:
        """What the service would refuse, said at its field."""
        cleaned = super().clean() or {}
        since, until = cleaned.get("valid_from"), cleaned.get("valid_until")
        if since is not None and until is not None and until <= since:
            self.add_error("valid_until", gettext("The key would be valid at no time: end it after its begin."))
        machine, public_key = cleaned.get("machine"), cleaned.get("public_key")
        if machine is not None and DeviceKey.objects.filter(machine=machine, public_key=public_key).exists():
            self.add_error("public_key", gettext("This machine has that key already."))
        return cleaned


@admin.register(DeviceKey)
class DeviceKeyAdmin(admin.ModelAdmin):
    """Roles decide, not Django's permissions. A key is revoked, never changed or deleted."""

    form = DeviceKeyForm
    list_display = ["id", "machine", "note", "valid_from", "valid_until", "revoked_at"]
    list_select_related = ["machine"]
    search_fields = ["id", "machine__name", "note"]
    actions = ["revoke"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[DeviceKey]:
        return super().get_queryset(request).for_principal(_principal(request))  # type: ignore[attr-defined]

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "machine":
            kwargs["queryset"] = Machine.objects.for_principal(_principal(request)).filter(is_remote=True)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def save_model(self, request: HttpRequest, obj: DeviceKey, form: forms.ModelForm, change: bool) -> None:
        principal = _principal(request)
        if principal is None or change:
            return
        made = device_keys.add_key(
            principal,
            obj.machine,
            public_key=obj.public_key,
            note=obj.note,
            valid_from=obj.valid_from,
            valid_until=obj.valid_until,
            now=clock.now(),
        )
        obj.pk = made.pk

    @admin.action(description=_("Revoke: nothing it signs is believed from now on"))
    def revoke(self, request: HttpRequest, queryset: QuerySet[DeviceKey]) -> None:
        principal = _principal(request)
        for key in queryset.select_related("organization"):
            try:
                if principal is not None:
                    device_keys.revoke_key(principal, key, reason="revoked in the admin", now=clock.now())
            except Conflict:
                told = gettext("Key {id} was revoked already.").format(id=key.pk)
                messages.warning(request, told)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        found = super().get_actions(request)
        return {name: act for name, act in found.items() if name == "revoke" and _may(request, "lead")}

    def has_module_permission(self, request: HttpRequest) -> bool:
        return _may(request, "view")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _may(request, "view")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return _may(request, "lead")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class SaidVerdicts(admin.ChoicesFieldListFilter):
    """Verdicts in words."""

    def choices(self, changelist: Any) -> Any:
        words = {str(label): VERDICT_WORDS[value] for value, label in TelemetryBatch.Verdict.choices}
        for choice in super().choices(changelist):
            yield {**choice, "display": words.get(str(choice["display"]), choice["display"])}


@admin.register(TelemetryBatch)
class TelemetryBatchAdmin(admin.ModelAdmin):
    """What bridges sent, to look at."""

    list_display = [
        "machine",
        "sequence",
        "at",
        "received_at",
        "told",
        "verdict_reason",
        "points_filed",
        "points_late",
    ]
    list_filter = [("verdict", SaidVerdicts)]
    list_select_related = ["machine"]
    show_full_result_count = False

    @admin.display(description=_("verdict"), ordering="verdict")
    def told(self, batch: TelemetryBatch) -> str:
        return str(VERDICT_WORDS.get(batch.verdict, batch.verdict))

    def get_queryset(self, request: HttpRequest) -> QuerySet[TelemetryBatch]:
        principal = _principal(request)
        rows: QuerySet[TelemetryBatch] = super().get_queryset(request)
        return rows.filter(machine__organization=principal.organization) if principal is not None else rows.none()

    def has_module_permission(self, request: HttpRequest) -> bool:
        return _may(request, "view")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _may(request, "view")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
