"""Who may move a control, and what came of it."""

from __future__ import annotations

import enum

from django.conf import settings
from django.db import models
from django.db.models import Exists, F, OuterRef, Q

from commands.lifecycle import UNSETTLED, Status
from commands.models_authority import Approval, Attendance, BreakerTrip, Commissioning, GovernorPolicy, StopDrill
from commands.models_history import Alert, OrderHour, RequestRefusal, SavedView
from commands.models_plans import Plan
from commands.rules.conversion import OrderType
from commands.rules.values import Level
from kernel import ids
from kernel.models import Agent, Organization, TenantQuerySet
from roasts.models import Machine, Roast

__all__ = [
    "Alert", "Approval", "Attendance", "BreakerTrip", "Commissioning", "GovernorPolicy", "Level", "OrderHour",
    "OrderType", "Plan", "RequestRefusal", "SavedView", "Status", "StopDrill",
]  # fmt: skip


def _choices(words: type[enum.StrEnum]) -> list[tuple[str, str]]:
    return [(word.value, word.value) for word in words]


def proposal_id() -> str:
    return ids.new("prp")


def execution_id() -> str:
    return ids.new("exe")


def halt_id() -> str:
    return ids.new("hlt")


def grant_id() -> str:
    return ids.new("grt")


def suspension_id() -> str:
    return ids.new("sus")


def alarm_id() -> str:
    return ids.new("alm")


class Grant(models.Model):
    """How far one agent is trusted on one machine: signed by a lead, dated, revocable."""

    id = models.CharField(primary_key=True, max_length=40, default=grant_id, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="grants")
    agent = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="grants")
    machine = models.ForeignKey(Machine, on_delete=models.PROTECT, related_name="grants")
    level = models.CharField(max_length=2, choices=_choices(Level))
    order_types = models.JSONField(default=list)  # empty: all settings
    granted_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="grants_signed")
    reason = models.CharField(max_length=500, default="", blank=True)
    granted_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    agent_release = models.CharField(max_length=100, default="", blank=True)  # only this release; "": any
    evidence = models.JSONField(default=list)  # what the lead relied on: references
    lowered_to = models.CharField(max_length=2, default="", blank=True)  # by a circuit breaker; never raised again
    lowered_at = models.DateTimeField(null=True, blank=True)
    lowered_reason = models.CharField(max_length=500, default="", blank=True)

    objects = TenantQuerySet.as_manager()

    @property
    def effective_level(self) -> str:
        """The signed level, or what a circuit breaker lowered it to."""
        return str(self.lowered_to or self.level)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["agent", "machine"], condition=Q(revoked_at__isnull=True), name="one_live_grant"
            ),
        ]

    def __str__(self) -> str:
        return str(self.pk)


class ProposalQuerySet(TenantQuerySet):
    def awaiting_decision(self):
        """Held orders, oldest deadline first."""
        return self.filter(status=Status.PENDING_APPROVAL.value).order_by("expires_at", "id")

    def unsettled(self):
        """Orders that may still move a control."""
        return self.filter(status__in=[status.value for status in UNSETTLED])

    def ready_to_claim(self):
        """Approved and not yet on the wire, oldest first; of a plan only the order whose turn it is."""
        unconfirmed_before = Proposal.objects.filter(
            plan_id=OuterRef("plan_id"), plan_position__lt=OuterRef("plan_position")
        ).exclude(status=Status.COMPLETED.value)
        return (
            self.filter(Q(plan__isnull=True) | Q(plan__status__in=["APPROVED", "EXECUTING"]))
            .filter(~Exists(unconfirmed_before), status=Status.APPROVED.value)
            .order_by("decided_at", "plan_position", "id")
        )


class Proposal(models.Model):
    """One order asked for, with its verdict. `status` is written by commands/services.py alone."""

    id = models.CharField(primary_key=True, max_length=40, default=proposal_id, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="proposals")
    machine = models.ForeignKey(Machine, on_delete=models.PROTECT, related_name="proposals")
    roast = models.ForeignKey(Roast, null=True, blank=True, on_delete=models.PROTECT, related_name="proposals")
    order_type = models.CharField(max_length=12, choices=_choices(OrderType))
    control = models.CharField(max_length=10, default="", blank=True)  # heater | fan | drum | "" (a state)
    asked_value = models.FloatField(null=True, blank=True)
    asked_unit = models.CharField(max_length=10, default="", blank=True)  # step | percent | rpm | celsius
    target_step = models.IntegerField(null=True, blank=True)  # native, after conversion
    from_step = models.IntegerField(null=True, blank=True)  # the control's reading when proposed
    seen_state = models.CharField(max_length=20, default="", blank=True)  # the reading the order was judged by
    seen_heater_step = models.IntegerField(null=True, blank=True)
    seen_fan_step = models.IntegerField(null=True, blank=True)
    seen_drum_step = models.IntegerField(null=True, blank=True)
    seen_bean_temp_c = models.FloatField(null=True, blank=True)
    seen_rate_c_per_min = models.FloatField(null=True, blank=True)  # ours, causal
    seen_device_ms = models.BigIntegerField(null=True, blank=True)
    constraints = models.JSONField(default=dict)
    reasoning = models.TextField()
    evidence = models.JSONField(default=list)
    mission = models.CharField(max_length=100, null=True, blank=True)  # the work it belongs to, as its proposer says
    proposer_agent = models.ForeignKey(Agent, null=True, blank=True, on_delete=models.PROTECT, related_name="proposals")
    proposer_user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="proposals"
    )
    agent_release = models.CharField(max_length=100, default="", blank=True)
    adopted_from = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    plan = models.ForeignKey(Plan, null=True, blank=True, on_delete=models.PROTECT, related_name="orders")
    plan_position = models.IntegerField(null=True, blank=True)  # from 0
    rolls_back = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="rollbacks")
    significance = models.CharField(max_length=10, default="", blank=True)  # none … severe
    significance_reason = models.CharField(max_length=300, default="", blank=True)
    approvals_needed = models.IntegerField(default=1)  # by different people
    runs_at = models.DateTimeField(null=True, blank=True)  # end of its veto window: then it runs, unless vetoed
    status = models.CharField(max_length=20, choices=_choices(Status), default=Status.PROPOSED.value)
    decision = models.CharField(max_length=10)  # ALLOW | VETO | HOLD | REFUSE
    reasons = models.JSONField(default=list)  # [{code, message, value?, bound?, how_to_fix?, legacy_code?}]
    digest = models.CharField(max_length=64)  # of exactly this order; approval must name it
    proposed_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    decided_at = models.DateTimeField(null=True, blank=True)
    approver = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="approvals"
    )
    approved_digest = models.CharField(max_length=64, default="", blank=True)
    rejection_code = models.CharField(max_length=40, default="", blank=True)
    rejection_text = models.CharField(max_length=500, default="", blank=True)
    settled_at = models.DateTimeField(null=True, blank=True)
    outcome_code = models.CharField(max_length=40, default="", blank=True)
    outcome_message = models.TextField(default="", blank=True)
    actual_step = models.IntegerField(null=True, blank=True)
    abort_requested_at = models.DateTimeField(null=True, blank=True)  # in mid-execution: stop sending
    abort_requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    reviewed_at = models.DateTimeField(null=True, blank=True)  # an order that ran at once (L5), looked at after
    reviewed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    review_finding = models.CharField(max_length=20, default="", blank=True)  # in_order | not_in_order
    review_text = models.CharField(max_length=500, default="", blank=True)

    objects = ProposalQuerySet.as_manager()

    class Meta:
        ordering = ["-proposed_at", "-id"]
        indexes = [
            models.Index(fields=["machine", "status"], name="proposal_by_machine"),
            models.Index(fields=["organization", "-proposed_at", "-id"], name="proposal_by_time"),
            models.Index(fields=["machine", "-proposed_at"], name="proposal_recent"),
            models.Index(
                fields=["expires_at"], condition=Q(status__in=["PENDING_APPROVAL", "APPROVED"]), name="proposal_due"
            ),
            models.Index(
                fields=["settled_at"], condition=Q(status__in=["COMPLETED", "FAILED", "TIMEOUT"]), name="proposal_ended"
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=(Q(proposer_agent__isnull=False) & Q(proposer_user__isnull=True))
                | (Q(proposer_agent__isnull=True) & Q(proposer_user__isnull=False)),
                name="proposal_one_proposer",
            ),
            models.CheckConstraint(
                condition=Q(approver__isnull=True) | Q(proposer_user__isnull=True) | ~Q(approver=F("proposer_user")),
                name="proposer_is_not_approver",
            ),
            models.CheckConstraint(
                condition=Q(approver__isnull=True) | Q(approved_digest=F("digest")),
                name="approved_exactly_this_order",
            ),
            models.CheckConstraint(
                condition=Q(proposer_agent__isnull=True)
                | Q(status__in=["PROPOSED", "PENDING_APPROVAL", "REJECTED", "TIMEOUT", "ABORTED"])
                | Q(approver__isnull=False)
                | Q(decision__in=["ALLOW", "VETO"]),
                name="held_agent_order_needs_approver",
            ),
            models.UniqueConstraint(
                fields=["machine", "control"],
                condition=Q(proposer_agent__isnull=False, plan__isnull=True)
                & Q(status__in=["PENDING_APPROVAL", "APPROVED", "EXECUTING", "IN_DOUBT"]),
                name="one_unsettled_agent_order",
            ),
            models.UniqueConstraint(  # a plan's orders too: whatever was filed side by side, one is on the wire
                fields=["machine", "control"],
                condition=Q(proposer_agent__isnull=False, status__in=["EXECUTING", "IN_DOUBT"]),
                name="one_agent_order_on_the_wire",
            ),
            models.UniqueConstraint(fields=["adopted_from"], condition=~Q(status="REJECTED"), name="adopted_once"),
            models.UniqueConstraint(fields=["plan", "plan_position"], name="plan_position_once"),
        ]

    @property
    def proposer_name(self) -> str:
        """Who proposed: exactly one of agent and person, by constraint."""
        if self.proposer_agent is not None:
            return self.proposer_agent.name
        return self.proposer_user.get_username() if self.proposer_user is not None else ""

    def __str__(self) -> str:
        return str(self.pk)


class ProposalTransition(models.Model):
    """Append-only history of a proposal's status."""

    proposal = models.ForeignKey(Proposal, on_delete=models.PROTECT, related_name="transitions")
    from_status = models.CharField(max_length=20, default="", blank=True)
    to_status = models.CharField(max_length=20)
    actor_kind = models.CharField(max_length=20)
    actor_id = models.CharField(max_length=64)
    actor_name = models.CharField(max_length=150)
    at = models.DateTimeField()
    detail = models.JSONField(default=dict)

    class Meta:
        ordering = ["at", "id"]


class Execution(models.Model):
    """The one attempt on the wire. One-to-one with its proposal: at most once is an index."""

    id = models.CharField(primary_key=True, max_length=40, default=execution_id, editable=False)
    proposal = models.OneToOneField(Proposal, on_delete=models.PROTECT, related_name="execution")
    machine = models.ForeignKey(Machine, on_delete=models.PROTECT, related_name="executions")
    lease_token = models.BigIntegerField()
    from_step = models.IntegerField(null=True)
    claimed_at = models.DateTimeField()
    first_byte_at = models.DateTimeField(null=True)
    concluded_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=20, default="", blank=True)  # drivers.port.Outcome or ""
    receipt = models.JSONField(default=dict)
    effect = models.JSONField(default=dict)  # against the twin's no-action curve, 60–90 s after; shown, never judged by

    def __str__(self) -> str:
        return str(self.pk)


class ExecutionStage(models.Model):
    """Flight recorder: queued, released, sent, acknowledged, read_back, verified | contradicted | in_doubt."""

    execution = models.ForeignKey(Execution, on_delete=models.PROTECT, related_name="stages")
    stage = models.CharField(max_length=20)
    at = models.DateTimeField()
    detail = models.JSONField(default=dict)

    class Meta:
        ordering = ["at", "id"]


class Halt(models.Model):
    """A latched stop. While one is open, nothing but making safe reaches the machine."""

    class Kind(models.TextChoices):
        STOP = "stop"  # a person pressed STOP
        INTERLOCK = "interlock"
        LINK_LOST = "link_lost"

    id = models.CharField(primary_key=True, max_length=40, default=halt_id, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="halts")
    machine = models.ForeignKey(Machine, on_delete=models.PROTECT, related_name="halts")
    kind = models.CharField(max_length=20, choices=Kind.choices)
    code = models.CharField(max_length=60, default="", blank=True)  # interlock's name
    stop_id = models.CharField(max_length=60, default="", blank=True)  # the keeper's name of this stop
    opened_at = models.DateTimeField()
    opened_by_kind = models.CharField(max_length=20)
    opened_by_id = models.CharField(max_length=64)
    opened_by_name = models.CharField(max_length=150)
    result = models.CharField(max_length=20, default="", blank=True)  # heat_off | unproved | "" while under way
    first_byte_ms = models.FloatField(null=True)
    proved_ms = models.FloatField(null=True)
    by_hand = models.JSONField(default=list)
    proof = models.JSONField(default=dict)
    cooling_observed_at = models.DateTimeField(null=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    closed_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT)
    close_reason = models.CharField(max_length=500, default="", blank=True)

    objects = TenantQuerySet.as_manager()

    class Meta:
        ordering = ["-opened_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["machine", "kind"], condition=Q(closed_at__isnull=True), name="one_open_halt_of_a_kind"
            )
        ]

    def __str__(self) -> str:
        return str(self.pk)


class Suspension(models.Model):
    """ "I have it": no agent may act on this machine until a person gives it back."""

    id = models.CharField(primary_key=True, max_length=40, default=suspension_id, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="suspensions")
    machine = models.ForeignKey(Machine, on_delete=models.PROTECT, related_name="suspensions")
    taken_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    taken_at = models.DateTimeField()
    given_back_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    given_back_at = models.DateTimeField(null=True, blank=True)

    objects = TenantQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["machine"], condition=Q(given_back_at__isnull=True), name="one_open_suspension"
            )
        ]

    def __str__(self) -> str:
        return str(self.pk)


class Alarm(models.Model):
    """Something a person must act on: cause, consequence, action; in the states of ISA-18.2."""

    id = models.CharField(primary_key=True, max_length=40, default=alarm_id, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="alarms")
    machine = models.ForeignKey(Machine, on_delete=models.PROTECT, related_name="alarms")
    code = models.CharField(max_length=60)
    priority = models.CharField(max_length=10, default="high")  # high | medium | low
    cause = models.TextField()
    consequence = models.TextField()
    action = models.TextField()
    raised_at = models.DateTimeField()
    cleared_at = models.DateTimeField(null=True, blank=True)
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    acknowledged_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT)
    shelved_until = models.DateTimeField(null=True, blank=True)
    shelved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    shelve_reason = models.CharField(max_length=500, default="", blank=True)

    objects = TenantQuerySet.as_manager()

    class Meta:
        ordering = ["-raised_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["machine", "code"], condition=Q(cleared_at__isnull=True), name="one_standing_alarm"
            )
        ]
        indexes = [  # the few that matter now, among all that ever were
            models.Index(
                fields=["organization", "-raised_at"], condition=Q(cleared_at__isnull=True), name="alarm_standing"
            ),
            models.Index(
                fields=["organization", "-raised_at"],
                condition=Q(cleared_at__isnull=True) | Q(acknowledged_at__isnull=True),
                name="alarm_not_over",
            ),
        ]

    def __str__(self) -> str:
        return str(self.pk)


class MachineLease(models.Model):
    """Who tends this machine now. The token only rises; the keeper refuses a lower one."""

    machine = models.OneToOneField(Machine, primary_key=True, on_delete=models.CASCADE, related_name="lease")
    owner = models.CharField(max_length=150, default="", blank=True)
    token = models.BigIntegerField(default=0)
    expires_at = models.DateTimeField()
    heartbeat_at = models.DateTimeField()
