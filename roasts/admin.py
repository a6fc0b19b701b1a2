"""Machines and their envelopes in Django's admin: a lead adds and edits, others of the organisation look."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from kernel import clock
from kernel.models import Site
from kernel.principals import Principal
from roasts import machines
from roasts.models import ControlLimit, Machine


def _principal(request: HttpRequest) -> Principal | None:
    principal = getattr(request, "principal", None)
    return principal if principal is not None and principal.organization is not None else None


def _is_lead(request: HttpRequest) -> bool:
    principal = _principal(request)
    return principal is not None and principal.is_person and principal.may("lead")


def _may_look(request: HttpRequest) -> bool:
    principal = _principal(request)
    return principal is not None and principal.is_person and principal.may("view")


CONTROL_WORDS = {"heater": _("Heater"), "fan": _("Fan"), "drum": _("Drum")}
SILENCE_WORDS = {
    Machine.SilencePolicy.HOLD_AND_ALARM.value: _("hold the settings and raise an alarm"),
    Machine.SilencePolicy.HEAT_OFF.value: _("turn the heat off"),
}


class MachineForm(forms.ModelForm):
    """Refuses options of which no driver can be made, in the driver's own words."""

    driver_kind = forms.ChoiceField(label=_("driver kind"), choices=[(kind, kind) for kind in machines.known_kinds()])
    silence_policy = forms.ChoiceField(
        label=_("silence policy"),
        choices=list(SILENCE_WORDS.items()),
        initial=Machine.SilencePolicy.HOLD_AND_ALARM.value,
        help_text=_("What the keeper does when nobody speaks to it for 2 seconds."),
    )
    driver_options = forms.JSONField(
        label=_("driver options"),
        required=False,  # {} is the usual answer, and counts as empty
        initial=dict,
        help_text=_("{} for a Bullet on USB. What is changed here holds from the keeper's next start."),
    )

    class Meta:
        model = Machine
        fields = [
            "name", "site", "driver_kind", "driver_options", "host", "silence_policy", "max_bean_temp_c",
            "max_infrared_temp_c", "max_exhaust_temp_c", "max_rate_of_rise_c_per_min", "max_heat_time_s",
            "is_remote", "is_virtual", "is_archived",
        ]  # fmt: skip
        help_texts = {
            "host": _("The host the cable is plugged into (its ROASTOPS_HOST_NAME); empty: any."),
            "max_exhaust_temp_c": _("Empty: the exhaust is not watched."),
            "is_remote": _("Fed by a bridge (manage.py bridge): watched here, and no order reaches it."),
        }

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        options = cleaned.get("driver_options") or {}
        if not isinstance(options, dict):
            self.add_error("driver_options", gettext("Write a JSON object, such as {}."))
        elif cleaned.get("driver_kind"):
            cleaned["driver_options"] = options
            fault = machines.check_driver(cleaned["driver_kind"], options)
            if fault:
                self.add_error("driver_options", fault)
        if not self.instance._state.adding and "is_remote" in self.changed_data:
            # Its loop may be tending it right now: it would go on, and carry out what is held.
            self.add_error("is_remote", gettext("Stays as it was made: archive this machine, and add another."))
        for name in ("max_bean_temp_c", "max_infrared_temp_c", "max_exhaust_temp_c", "max_rate_of_rise_c_per_min",
                     "max_heat_time_s"):  # fmt: skip
            if cleaned.get(name) is not None and cleaned[name] <= 0:
                self.add_error(name, gettext("Must be above 0."))
        self._refuse_a_name_twice(cleaned)
        return cleaned

    def _refuse_a_name_twice(self, cleaned: dict[str, Any]) -> None:
        """Django's own check leaves it out: the organisation is no field here."""
        site, name = cleaned.get("site"), cleaned.get("name")
        if site is None or not name:
            return
        others = Machine.objects.filter(organization=site.organization_id, name=name).exclude(pk=self.instance.pk)
        if others.exists():
            self.add_error("name", gettext("Another machine has this name; an archived one keeps its own."))


class LimitForm(forms.ModelForm):
    """An envelope that holds together."""

    class Meta:
        model = ControlLimit
        exclude = ["machine"]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        low, high, full = (cleaned.get(name) for name in ("min_step", "max_step", "full_scale_step"))
        if low is not None and high is not None and low > high:
            self.add_error("max_step", gettext("Must not be below the lowest step."))
        if full is not None and full < 1:
            self.add_error("full_scale_step", gettext("100 percent is at least one step."))
        for name in ("max_change_step", "min_interval_s", "daily_count", "roast_count", "max_ramp_step_per_s"):
            if cleaned.get(name) is not None and cleaned[name] < 0:
                self.add_error(name, gettext("Must not be negative."))
        return cleaned


class LimitInline(admin.TabularInline):
    model = ControlLimit
    form = LimitForm
    extra = 0
    can_delete = False
    exclude = ["control"]
    readonly_fields = ["control_said"]
    fields = ["control_said", *(field.name for field in ControlLimit._meta.local_fields if "step" in field.name),
              "min_interval_s", "daily_count", "roast_count"]  # fmt: skip

    @admin.display(description=_("control"))
    def control_said(self, limit: ControlLimit) -> str:
        return str(CONTROL_WORDS.get(limit.control, limit.control))

    def has_add_permission(self, request: HttpRequest, *_args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_lead(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _may_look(request)


@admin.register(Machine)
class MachineAdmin(admin.ModelAdmin):
    """Roles decide, not Django's permissions. A machine is archived, never deleted."""

    form = MachineForm
    inlines = [LimitInline]
    list_display = ["name", "site", "driver_kind", "host", "when_silent", "is_archived"]
    list_select_related = ["site"]
    search_fields = ["name"]

    @admin.display(description=_("silence policy"), ordering="silence_policy")
    def when_silent(self, machine: Machine) -> str:
        return str(SILENCE_WORDS.get(machine.silence_policy, machine.silence_policy))

    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        """A new machine gets its kind's limits; they can be narrowed afterwards."""
        return self.inlines if obj is not None else []

    def get_queryset(self, request: HttpRequest) -> QuerySet[Machine]:
        rows: QuerySet[Machine] = super().get_queryset(request)
        return rows.for_principal(_principal(request))  # type: ignore[attr-defined]

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "site":
            kwargs["queryset"] = Site.objects.for_principal(_principal(request))
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def save_model(self, request: HttpRequest, obj: Machine, form: forms.ModelForm, change: bool) -> None:
        principal = _principal(request)
        if principal is None:
            return
        if not change:
            machines.add_machine(principal, obj, now=clock.now())
            return
        changed = {name: str(form.cleaned_data[name]) for name in form.changed_data}
        machines.change_machine(principal, obj, changed=changed, now=clock.now())

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        principal = _principal(request)
        formset.save(commit=False)
        for limit, names in formset.changed_objects:
            if principal is not None:
                changed = {name: getattr(limit, name) for name in names}
                machines.change_limit(principal, limit, changed=changed, now=clock.now())

    def has_module_permission(self, request: HttpRequest) -> bool:
        return _may_look(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _may_look(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return _is_lead(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_lead(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


from roasts.telemetry import admin as admin_telemetry  # noqa: F401  (Django looks for admin classes here)
