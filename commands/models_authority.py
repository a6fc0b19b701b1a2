"""By what authority an order runs: the governor's policy, presence, second approvals, broken trust, a fit machine."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from kernel import ids
from kernel.models import Agent, Organization, TenantQuerySet
from roasts.models import Machine


def policy_id() -> str:
    return ids.new("gpo")


def attendance_id() -> str:
    return ids.new("att")


def approval_id() -> str:
    return ids.new("apv")


def trip_id() -> str:
    return ids.new("brk")


def commissioning_id() -> str:
    return ids.new("cms")


def drill_id() -> str:
    return ids.new("drl")


class GovernorPolicy(models.Model):
    """One version of an organisation's policy: numbers, significance table and matrix. The newest is in force.

    Only grows (a trigger): a change is a new version, signed by a lead. ``document``: see ``commands.rules.policy``.
    """

    id = models.CharField(primary_key=True, max_length=40, default=policy_id, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="governor_policies")
    version = models.IntegerField()
    document = models.JSONField()
    digest = models.CharField(max_length=64)
    reason = models.CharField(max_length=500)
    signed_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="policies_signed")
    signed_at = models.DateTimeField()

    objects = TenantQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "governor policies"
        ordering = ["-version", "-id"]
        constraints = [models.UniqueConstraint(fields=["organization", "version"], name="policy_version_once")]


class Attendance(models.Model):
    """A person said "I am at this machine". Only grows; counts for the policy's minutes."""

    id = models.CharField(primary_key=True, max_length=40, default=attendance_id, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="attendances")
    machine = models.ForeignKey(Machine, on_delete=models.PROTECT, related_name="attendances")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="attendances")
    at = models.DateTimeField()

    objects = TenantQuerySet.as_manager()

    class Meta:
        ordering = ["-at", "-id"]
        indexes = [models.Index(fields=["machine", "-at"], name="attendance_by_machine")]


class Approval(models.Model):
    """One person's yes to exactly one order. An order that needs two has two, of different people. Only grows."""

    id = models.CharField(primary_key=True, max_length=40, default=approval_id, editable=False)
    proposal = models.ForeignKey("commands.Proposal", on_delete=models.PROTECT, related_name="given_approvals")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="given_approvals")
    digest = models.CharField(max_length=64)
    at = models.DateTimeField()

    class Meta:
        ordering = ["at", "id"]
        constraints = [models.UniqueConstraint(fields=["proposal", "user"], name="approves_once")]


class BreakerTrip(models.Model):
    """An agent lost trust on a machine by itself: why, on what evidence, and what became of its grant."""

    id = models.CharField(primary_key=True, max_length=40, default=trip_id, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="breaker_trips")
    machine = models.ForeignKey(Machine, on_delete=models.PROTECT, related_name="breaker_trips")
    agent = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="breaker_trips")
    grant = models.ForeignKey("commands.Grant", on_delete=models.PROTECT, related_name="breaker_trips")
    kind = models.CharField(max_length=40)  # error_rate | failures_of_type | contradicted | critical_incident
    order_type = models.CharField(max_length=12, default="", blank=True)
    from_level = models.CharField(max_length=2)
    to_level = models.CharField(max_length=2)
    evidence = models.JSONField(default=dict)
    at = models.DateTimeField()
    seen_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    seen_at = models.DateTimeField(null=True, blank=True)

    objects = TenantQuerySet.as_manager()

    class Meta:
        ordering = ["-at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["grant", "kind", "order_type"], name="grant_broken_once_of_a_kind")
        ]


class Commissioning(models.Model):
    """A machine is walked through, step by step, before any agent may act on it; the completed one in force counts."""

    id = models.CharField(primary_key=True, max_length=40, default=commissioning_id, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="commissionings")
    machine = models.ForeignKey(Machine, on_delete=models.PROTECT, related_name="commissionings")
    begun_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    begun_at = models.DateTimeField()
    steps = models.JSONField(default=list)  # [{code, result, evidence, by, at}], see commands.commissioning.steps
    completed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    completed_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)  # abandoned, or replaced by a later one
    end_reason = models.CharField(max_length=500, default="", blank=True)

    objects = TenantQuerySet.as_manager()

    class Meta:
        ordering = ["-begun_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["machine"],
                condition=Q(completed_at__isnull=True, ended_at__isnull=True),
                name="one_commissioning_under_way",
            ),
            models.UniqueConstraint(
                fields=["machine"],
                condition=Q(completed_at__isnull=False, ended_at__isnull=True),
                name="one_commissioning_in_force",
            ),
        ]


class StopDrill(models.Model):
    """A STOP pressed to see that it works, timed and kept. Only grows."""

    id = models.CharField(primary_key=True, max_length=40, default=drill_id, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="stop_drills")
    machine = models.ForeignKey(Machine, on_delete=models.PROTECT, related_name="stop_drills")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="stop_drills")
    at = models.DateTimeField()
    is_passed = models.BooleanField()
    result = models.CharField(max_length=20)  # heat_off | unproved, as STOP answered
    first_byte_ms = models.FloatField(null=True, blank=True)
    proved_ms = models.FloatField(null=True, blank=True)
    proof = models.JSONField(default=dict)
    note = models.CharField(max_length=500, default="", blank=True)

    objects = TenantQuerySet.as_manager()

    class Meta:
        ordering = ["-at", "-id"]
        indexes = [models.Index(fields=["machine", "-at"], name="drill_by_machine")]
