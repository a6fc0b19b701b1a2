"""Orders in the Django admin: held ones are approved or rejected through the same services; the rest is for reading.

What is shown is in the reader's language; what is written stays English, like every record.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import translation
from django.utils.text import Truncator, format_lazy
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from commands import services
from commands.console import code_words, sentence_words
from commands.console.admin_columns import OwnMachines, SpokenChoices, SpokenValues, shown
from commands.console.order_words import REJECTION_WORDS, STATUS_WORDS
from commands.models import Alarm, Execution, Grant, Halt, Proposal, Status, Suspension
from commands.reasons import RejectCode
from kernel import clock
from kernel.errors import ApiError
from kernel.principals import Principal

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

BY_MACHINE = ("machine", OwnMachines)


def principal_of(request: HttpRequest) -> Principal | None:
    """Who is signed in, in their organisation; None for a stranger."""
    principal = getattr(request, "principal", None)
    return principal if principal is not None and principal.organization is not None else None


class ReadingRoom(admin.ModelAdmin):
    """Rows of the principal's own organisation, shown and never edited. Roles decide, not Django's permissions."""

    organization_path = "organization_id"
    list_per_page = 50
    show_full_result_count = False

    def get_list_display(self, request: HttpRequest) -> Any:
        return [shown(name, self.model) for name in super().get_list_display(request)]

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        """All of the row; codes by their words."""
        return [shown(field.name, self.model) for field in self.model._meta.local_fields]

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return self.get_fields(request, obj)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        principal = principal_of(request)
        if principal is None or principal.organization is None:
            return super().get_queryset(request).none()
        return super().get_queryset(request).filter(**{self.organization_path: principal.organization.pk})

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        principal = principal_of(request)
        return principal is not None and principal.is_person and principal.may("view")

    def has_add_permission(self, request: HttpRequest, *_args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class WhereItStands(admin.SimpleListFilter):
    """Held orders first: that is what the list is for."""

    title = _("status")
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, StrOrPromise]]:
        others = [(code, word) for code, (word, _icon) in STATUS_WORDS.items() if code != Status.PENDING_APPROVAL]
        return [("all", _("All")), *others]

    def choices(self, changelist: Any) -> Any:
        unfiltered, *others = super().choices(changelist)
        yield {**unfiltered, "display": STATUS_WORDS[Status.PENDING_APPROVAL.value][0]}
        yield from others

    def queryset(self, request: HttpRequest, queryset: QuerySet[Proposal]) -> QuerySet[Proposal]:
        if self.value() is None:
            return queryset.awaiting_decision()  # type: ignore[attr-defined]
        return queryset if self.value() == "all" else queryset.filter(status=self.value())


def _rejection(code: RejectCode) -> Callable[..., None]:
    def reject(modeladmin: Any, request: HttpRequest, queryset: QuerySet[Proposal]) -> None:
        done = format_lazy(_("rejected ({reason})"), reason=REJECTION_WORDS[code.value])
        _act(request, queryset, done, lambda principal, proposal: services.reject_proposal(
            principal, proposal, code=code.value, text="", now=clock.now()))  # fmt: skip

    reject.__name__ = f"reject_{code.value.lower()}"
    described = format_lazy(_("Reject: {reason}"), reason=REJECTION_WORDS[code.value])
    reject.short_description = described  # type: ignore[attr-defined]
    return reject


@admin.action(description=_("Approve the digests shown"))
def approve(modeladmin: Any, request: HttpRequest, queryset: QuerySet[Proposal]) -> None:
    """Approve each selected order, by the digest it has: an order cannot be edited, so it is the one shown."""
    _act(request, queryset, _("approved"), lambda principal, proposal: services.approve_proposal(
        principal, proposal, digest=proposal.digest, now=clock.now()))  # fmt: skip


@admin.action(description=_("Veto before their window ends"))
def veto(modeladmin: Any, request: HttpRequest, queryset: QuerySet[Proposal]) -> None:
    """Stop each selected order that would run by itself."""
    _act(request, queryset, _("vetoed"), lambda principal, proposal: services.veto_proposal(
        principal, proposal, now=clock.now()))  # fmt: skip


def _act(
    request: HttpRequest,
    queryset: QuerySet[Proposal],
    done: StrOrPromise,
    act: Callable[[Principal, Proposal], Proposal],
) -> None:
    """One service call per order; each refusal is told with its cure."""
    principal = principal_of(request)
    if principal is None:
        messages.error(request, gettext("You are not a member of an organisation."))
        return
    for proposal in queryset.order_by("expires_at", "id"):
        try:
            with translation.override(settings.LANGUAGE_CODE):  # what is recorded is English
                moved = act(principal, proposal)
        except ApiError as error:
            told = " ".join(sentence_words.worded(text) for text in (error.message, error.how_to_fix) if text)
            messages.error(request, gettext("Order {id}: {what}").format(id=proposal.pk, what=told))
        else:
            is_half = moved.approvals_needed > 1 and _is_held(moved)
            what = gettext("one yes more is needed.") if is_half else f"{done}."
            messages.success(request, gettext("Order {id}: {what}").format(id=proposal.pk, what=what))


def _is_held(proposal: Proposal) -> bool:
    return Proposal.objects.awaiting_decision().filter(pk=proposal.pk).exists()


@admin.register(Proposal)
class ProposalAdmin(ReadingRoom):
    list_display = (
        "order",
        "machine",
        "expires_at",
        "status",
        "proposer",
        "why",
        "decision",
        "runs_at",
        "yeses",
        "short_digest",
        "id",
    )
    list_filter = (WhereItStands, ("order_type", SpokenChoices), BY_MACHINE)
    search_fields = ("id", "reasoning")
    list_select_related = ("machine", "proposer_agent", "proposer_user")
    actions = [approve, veto, *(_rejection(code) for code in RejectCode if code is not RejectCode.OTHER)]

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        principal = principal_of(request)
        if principal is None or not principal.may("approve"):
            return {}
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    def view_on_site(self, proposal: Proposal) -> str:
        """Its whole story, on its page of the console."""
        return reverse("console:order", args=[proposal.pk])

    @admin.display(description=_("order"), ordering="order_type")
    def order(self, proposal: Proposal) -> str:
        kind = code_words.order_type_word(proposal.order_type)
        if proposal.target_step is None:
            return kind
        return f"{kind} {'?' if proposal.from_step is None else proposal.from_step} → {proposal.target_step}"

    @admin.display(description=_("by"))
    def proposer(self, proposal: Proposal) -> str:
        return proposal.proposer_name

    @admin.display(description=_("why"))
    def why(self, proposal: Proposal) -> str:
        return Truncator(sentence_words.worded(proposal.reasoning)).chars(120)

    @admin.display(description=_("yes"))
    def yeses(self, proposal: Proposal) -> str:
        given = int(proposal.approver_id is not None)
        if proposal.approvals_needed > 1:
            given = proposal.given_approvals.count()
        return gettext("{count} of {all}").format(count=given, all=proposal.approvals_needed)

    @admin.display(description=_("digest"))
    def short_digest(self, proposal: Proposal) -> str:
        return proposal.digest[:12]


@admin.register(Execution)
class ExecutionAdmin(ReadingRoom):
    organization_path = "proposal__organization_id"
    list_display = ("id", "proposal", "machine", "outcome", "claimed_at", "concluded_at", "lease_token")
    list_filter = (("outcome", SpokenValues), BY_MACHINE)
    list_select_related = ("proposal", "machine")


@admin.register(Halt)
class HaltAdmin(ReadingRoom):
    list_display = ("id", "machine", "kind", "code", "result", "opened_at", "opened_by_name", "closed_at")
    list_filter = (("kind", SpokenChoices), ("result", SpokenValues), BY_MACHINE)
    list_select_related = ("machine",)


@admin.register(Grant)
class GrantAdmin(ReadingRoom):
    list_display = (
        "id",
        "agent",
        "machine",
        "level",
        "lowered_to",
        "granted_by",
        "granted_at",
        "expires_at",
        "revoked_at",
    )
    list_filter = ("level", BY_MACHINE)
    list_select_related = ("agent", "machine", "granted_by")


@admin.register(Alarm)
class AlarmAdmin(ReadingRoom):
    list_display = ("id", "machine", "code", "priority", "raised_at", "cleared_at", "acknowledged_at")
    list_filter = (("priority", SpokenValues), BY_MACHINE)
    list_select_related = ("machine",)


@admin.register(Suspension)
class SuspensionAdmin(ReadingRoom):
    list_display = ("id", "machine", "taken_by", "taken_at", "given_back_by", "given_back_at")
    list_select_related = ("machine", "taken_by", "given_back_by")
