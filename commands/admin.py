"""Orders in the Django admin: held ones are approved or rejected through the same services; the rest is for reading."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from commands import services
from commands.models import Alarm, Execution, Grant, Halt, Proposal, Suspension
from commands.reasons import RejectCode
from kernel import clock
from kernel.errors import ApiError
from kernel.principals import Principal


def principal_of(request: HttpRequest) -> Principal | None:
    """Who is signed in, in their organisation; None for a stranger."""
    principal = getattr(request, "principal", None)
    return principal if principal is not None and principal.organization is not None else None


class ReadingRoom(admin.ModelAdmin):
    """Rows of the principal's own organisation, shown and never edited. Roles decide, not Django's permissions."""

    organization_path = "organization_id"
    list_per_page = 50
    show_full_result_count = False

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

    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("all", "All"), *((word, word) for word, _ in Proposal._meta.get_field("status").choices or ())]

    def choices(self, changelist: Any) -> Any:
        for choice in super().choices(changelist):
            yield {
                **choice,
                "display": "Held"
                if choice["display"] == "All" and "status" not in choice["query_string"]
                else choice["display"],
            }

    def queryset(self, request: HttpRequest, queryset: QuerySet[Proposal]) -> QuerySet[Proposal]:
        if self.value() is None:
            return queryset.awaiting_decision()  # type: ignore[attr-defined]
        return queryset if self.value() == "all" else queryset.filter(status=self.value())


def _rejection(code: RejectCode) -> Callable[..., None]:
    def reject(modeladmin: Any, request: HttpRequest, queryset: QuerySet[Proposal]) -> None:
        _act(request, queryset, f"rejected ({code.value})", lambda principal, proposal: services.reject_proposal(
            principal, proposal, code=code.value, text="", now=clock.now()))  # fmt: skip

    reject.__name__ = f"reject_{code.value.lower()}"
    reject.short_description = f"Reject: {code.value.replace('_', ' ').lower()}"  # type: ignore[attr-defined]
    return reject


@admin.action(description="Approve the digests shown")
def approve(modeladmin: Any, request: HttpRequest, queryset: QuerySet[Proposal]) -> None:
    """Approve each selected order, by the digest it has: an order cannot be edited, so it is the one shown."""
    _act(request, queryset, "approved", lambda principal, proposal: services.approve_proposal(
        principal, proposal, digest=proposal.digest, now=clock.now()))  # fmt: skip


@admin.action(description="Veto before their window ends")
def veto(modeladmin: Any, request: HttpRequest, queryset: QuerySet[Proposal]) -> None:
    """Stop each selected order that would run by itself."""
    _act(request, queryset, "vetoed", lambda principal, proposal: services.veto_proposal(
        principal, proposal, now=clock.now()))  # fmt: skip


def _act(
    request: HttpRequest,
    queryset: QuerySet[Proposal],
    done: str,
    act: Callable[[Principal, Proposal], Proposal],
) -> None:
    """One service call per order; each refusal is told with its cure."""
    principal = principal_of(request)
    if principal is None:
        messages.error(request, "You are not a member of an organisation.")
        return
    for proposal in queryset.order_by("expires_at", "id"):
        try:
            act(principal, proposal)
        except ApiError as error:
            messages.error(request, f"{proposal.pk}: {error.message} {error.how_to_fix}")
        else:
            is_half = done == "approved" and proposal.approvals_needed > 1 and _is_held(proposal)
            messages.success(request, f"{proposal.pk}: {'one yes more is needed' if is_half else done}.")


def _is_held(proposal: Proposal) -> bool:
    return Proposal.objects.awaiting_decision().filter(pk=proposal.pk).exists()


@admin.register(Proposal)
class ProposalAdmin(ReadingRoom):
    list_display = (
        "id",
        "machine",
        "order",
        "proposer",
        "status",
        "decision",
        "why",
        "runs_at",
        "expires_at",
        "yeses",
        "short_digest",
    )
    list_filter = (WhereItStands, "order_type", "machine")
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

    @admin.display(description="order")
    def order(self, proposal: Proposal) -> str:
        if proposal.target_step is None:
            return str(proposal.order_type)
        return f"{proposal.order_type} {proposal.from_step} → {proposal.target_step}"

    @admin.display(description="by")
    def proposer(self, proposal: Proposal) -> str:
        return proposal.proposer_name

    @admin.display(description="why")
    def why(self, proposal: Proposal) -> str:
        return proposal.reasoning[:120]

    @admin.display(description="yes")
    def yeses(self, proposal: Proposal) -> str:
        if proposal.approvals_needed == 1:
            return "1 of 1" if proposal.approver_id is not None else "0 of 1"
        return f"{proposal.given_approvals.count()} of {proposal.approvals_needed}"

    @admin.display(description="digest")
    def short_digest(self, proposal: Proposal) -> str:
        return proposal.digest[:12]


@admin.register(Execution)
class ExecutionAdmin(ReadingRoom):
    organization_path = "proposal__organization_id"
    list_display = ("id", "proposal", "machine", "outcome", "claimed_at", "concluded_at", "lease_token")
    list_filter = ("outcome", "machine")
    list_select_related = ("proposal", "machine")


@admin.register(Halt)
class HaltAdmin(ReadingRoom):
    list_display = ("id", "machine", "kind", "code", "result", "opened_at", "opened_by_name", "closed_at")
    list_filter = ("kind", "result", "machine")
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
    list_filter = ("level", "machine")
    list_select_related = ("agent", "machine", "granted_by")


@admin.register(Alarm)
class AlarmAdmin(ReadingRoom):
    list_display = ("id", "machine", "code", "priority", "raised_at", "cleared_at", "acknowledged_at")
    list_filter = ("priority", "machine")
    list_select_related = ("machine",)


@admin.register(Suspension)
class SuspensionAdmin(ReadingRoom):
    list_display = ("id", "machine", "taken_by", "taken_at", "given_back_by", "given_back_at")
    list_select_related = ("machine", "taken_by", "given_back_by")
