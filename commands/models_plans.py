"""Several orders proposed as one: approved as one digest, run in order, stopped at the first that is not confirmed."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from kernel import ids
from kernel.models import Agent, Organization, TenantQuerySet
from roasts.models import Machine, Roast

#: A plan in one of these may still move a control.
OPEN = ("PENDING_APPROVAL", "APPROVED", "EXECUTING")


def plan_id() -> str:
    return ids.new("pln")


class Plan(models.Model):
    """The orders are its Proposals (``plan``, ``plan_position`` from 0). ``status`` is written by the services alone.

    PENDING_APPROVAL, APPROVED, REJECTED, EXECUTING, COMPLETED, FAILED (an order was not confirmed), ABORTED, TIMEOUT.
    """

    id = models.CharField(primary_key=True, max_length=40, default=plan_id, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="order_plans")
    machine = models.ForeignKey(Machine, on_delete=models.PROTECT, related_name="order_plans")
    roast = models.ForeignKey(Roast, null=True, blank=True, on_delete=models.PROTECT, related_name="order_plans")
    title = models.CharField(max_length=200)
    reasoning = models.TextField()
    proposer_agent = models.ForeignKey(
        Agent, null=True, blank=True, on_delete=models.PROTECT, related_name="order_plans"
    )
    proposer_user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="order_plans"
    )
    compensates = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="compensations"
    )
    status = models.CharField(max_length=20, default="PENDING_APPROVAL")
    decision = models.CharField(max_length=10)
    reasons = models.JSONField(default=list)
    significance = models.CharField(max_length=10, default="", blank=True)  # the highest it contains
    digest = models.CharField(max_length=64)  # over the digests of its orders, in order
    proposed_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    approver = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="plan_approvals"
    )
    decided_at = models.DateTimeField(null=True, blank=True)
    settled_at = models.DateTimeField(null=True, blank=True)
    outcome_code = models.CharField(max_length=40, default="", blank=True)
    outcome_message = models.TextField(default="", blank=True)

    objects = TenantQuerySet.as_manager()

    class Meta:
        ordering = ["-proposed_at", "-id"]
        indexes = [models.Index(fields=["machine", "status"], name="plan_by_machine")]
        constraints = [
            models.CheckConstraint(
                condition=(Q(proposer_agent__isnull=False) & Q(proposer_user__isnull=True))
                | (Q(proposer_agent__isnull=True) & Q(proposer_user__isnull=False)),
                name="plan_one_proposer",
            ),
            models.CheckConstraint(
                condition=Q(approver__isnull=True) | Q(proposer_user__isnull=True) | ~Q(approver=F("proposer_user")),
                name="plan_proposer_is_not_approver",
            ),
            models.UniqueConstraint(
                fields=["machine"], condition=Q(status__in=OPEN, proposer_agent__isnull=False), name="one_open_plan"
            ),
        ]
