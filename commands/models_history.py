"""What the order history says: spans summed once, alerts, and people's saved views."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from kernel import ids
from kernel.models import Agent, Organization, TenantQuerySet
from roasts.models import Machine


def alert_id() -> str:
    return ids.new("alt")


def view_id() -> str:
    return ids.new("vw")


class OrderHour(models.Model):
    """One closed span of orders (an hour; or a day, a week, eight weeks of hours), summed once; may be built again.

    An order belongs to the span it was proposed in, whatever becomes of it later. An hour holds one record per order
    (``commands.history.analytics.RECORD``); a longer span holds sums and histograms (``commands.history.sums.SUM``).
    """

    id = models.BigAutoField(primary_key=True)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="order_hours")
    span_s = models.IntegerField(default=3600)
    hour_at = models.DateTimeField()  # where the span begins
    machine_key = models.CharField(max_length=40, default="", blank=True)  # "": all machines
    names = models.JSONField(default=list)  # what the numbers in the records stand for
    counts = models.BinaryField(default=bytes)
    latencies = models.BinaryField(default=bytes)  # of a longer span: its histograms
    open_orders = models.IntegerField(default=0)  # not settled when it was summed: to be summed again
    summed_at = models.DateTimeField()

    class Meta:
        indexes = [
            models.Index(fields=["summed_at"], condition=Q(open_orders__gt=0), name="order_hour_open"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "machine_key", "span_s", "hour_at"], name="order_hour_once"
            )
        ]


class RequestRefusal(models.Model):
    """Requests of an agent that came over its limit and were turned away: some rows a minute at most."""

    id = models.BigAutoField(primary_key=True)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="+")
    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="+")
    kind = models.CharField(max_length=10)  # kernel.request_limits.Kind
    count = models.IntegerField()  # with those since the row before
    at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["organization", "-at"], name="request_refusal_recent")]

    def __str__(self) -> str:
        return f"{self.count} {self.kind}"


class Alert(models.Model):
    """The order history shows something a person should look at: de-duplicated while it stands, never deleted.

    State: standing (not resolved), acknowledged, shelved until a time, resolved. ``subject`` names what it is of.
    """

    id = models.CharField(primary_key=True, max_length=40, default=alert_id, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="alerts")
    kind = models.CharField(max_length=30)  # commands.history.alerts.Kind
    severity = models.CharField(max_length=10)  # high | medium | low
    machine = models.ForeignKey(Machine, null=True, blank=True, on_delete=models.PROTECT, related_name="alerts")
    agent = models.ForeignKey(Agent, null=True, blank=True, on_delete=models.PROTECT, related_name="alerts")
    subject = models.CharField(max_length=120)
    message = models.TextField()
    how_to_fix = models.TextField(default="", blank=True)
    trigger = models.JSONField(default=dict)  # value, bound, window, order ids
    raised_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()
    times_seen = models.IntegerField(default=1)
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    acknowledged_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    shelved_until = models.DateTimeField(null=True, blank=True)
    shelved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    shelve_reason = models.CharField(max_length=500, default="", blank=True)
    resolved_at = models.DateTimeField(null=True, blank=True)
    resolved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    resolution = models.CharField(max_length=500, default="", blank=True)

    objects = TenantQuerySet.as_manager()

    class Meta:
        ordering = ["-raised_at", "-id"]
        indexes = [models.Index(fields=["organization", "-raised_at", "-id"], name="alert_by_time")]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "kind", "subject"],
                condition=Q(resolved_at__isnull=True),
                name="one_standing_alert",
            )
        ]


class SavedView(models.Model):
    """A person's named set of filters on the orders page; may be shared with the organisation."""

    id = models.CharField(primary_key=True, max_length=40, default=view_id, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="saved_views")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="saved_views")
    name = models.CharField(max_length=80)
    query = models.CharField(max_length=1000)
    is_shared = models.BooleanField(default=False)
    created_at = models.DateTimeField()

    objects = TenantQuerySet.as_manager()

    class Meta:
        ordering = ["name", "id"]
        constraints = [models.UniqueConstraint(fields=["user", "organization", "name"], name="view_name_once")]
