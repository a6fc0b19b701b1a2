"""Where samples came from, and who vouches for them: device keys, telemetry batches, packed roasts."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from kernel import ids
from kernel.models import Organization, TenantQuerySet


def device_key_id() -> str:
    return ids.new("dvk")


class DeviceKey(models.Model):
    """The public half of an Ed25519 key that a bridge signs with. The private half never comes here."""

    id = models.CharField(primary_key=True, max_length=40, default=device_key_id, editable=False)  # the "kid"
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="device_keys")
    machine = models.ForeignKey("roasts.Machine", on_delete=models.PROTECT, related_name="device_keys")
    public_key = models.CharField(max_length=64)  # 32 bytes, hex
    note = models.CharField(max_length=200, default="", blank=True)
    valid_from = models.DateTimeField()
    valid_until = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT)
    created_at = models.DateTimeField()

    objects = TenantQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["machine", "public_key"], name="device_key_once"),
        ]

    def __str__(self) -> str:
        return self.id


class TelemetryPolicy(models.Model):
    """What an organisation does with signatures: nothing, note them, or refuse what does not verify."""

    class Signing(models.TextChoices):
        OFF = "off"
        RECORD = "record"
        REQUIRE = "require"

    organization = models.OneToOneField(
        Organization, primary_key=True, on_delete=models.PROTECT, related_name="telemetry_policy"
    )
    signing = models.CharField(max_length=10, choices=Signing.choices, default=Signing.RECORD.value)


class TelemetryStream(models.Model):
    """How far a remote machine's telemetry came: one row a machine, locked while a batch is filed."""

    machine = models.OneToOneField(
        "roasts.Machine", primary_key=True, on_delete=models.CASCADE, related_name="telemetry_stream"
    )
    last_sequence = models.BigIntegerField(default=0)
    last_digest = models.CharField(max_length=64, default="", blank=True)
    last_event_at = models.DateTimeField(null=True, blank=True)  # newest point, by event time
    state = models.JSONField(default=dict)  # of the recorder, between batches


class StreamWatch(models.Model):
    """What inference knew of a remote machine's open roast at one of its samples, written now and then: a process that
    takes the machine over reads the samples since, not all of them. Not the record: without it, all are read.
    """

    machine = models.OneToOneField(
        "roasts.Machine", primary_key=True, on_delete=models.CASCADE, related_name="stream_watch"
    )
    roast_id = models.CharField(max_length=40)
    elapsed_ms = models.IntegerField()  # of the newest sample that is in it
    content = models.TextField()  # JSON of roasts.telemetry.stream_state; as text, for nobody asks into it


class TelemetryBatch(models.Model):
    """One accepted envelope: (machine, sequence) comes in once."""

    class Verdict(models.TextChoices):
        VERIFIED = "verified"
        UNSIGNED = "unsigned"
        FAILED = "failed"

    machine = models.ForeignKey("roasts.Machine", on_delete=models.PROTECT, related_name="telemetry_batches")
    sequence = models.BigIntegerField()
    at = models.DateTimeField()  # the sender's
    received_at = models.DateTimeField()
    digest = models.CharField(max_length=64)  # of the canonical envelope without signature
    previous_digest = models.CharField(max_length=64, default="", blank=True)
    signature = models.CharField(max_length=128, default="", blank=True)
    device_key = models.ForeignKey(DeviceKey, null=True, on_delete=models.PROTECT)
    verdict = models.CharField(max_length=10, choices=Verdict.choices)
    verdict_reason = models.CharField(max_length=60, default="", blank=True)
    points_filed = models.IntegerField(default=0)
    points_refused = models.IntegerField(default=0)
    points_late = models.IntegerField(default=0)
    response = models.JSONField(default=dict)  # said again to a repeat

    class Meta:
        ordering = ["machine_id", "sequence"]
        constraints = [
            models.UniqueConstraint(fields=["machine", "sequence"], name="telemetry_batch_once"),
            models.CheckConstraint(condition=Q(sequence__gte=1), name="telemetry_sequence_from_one"),
        ]

    def __str__(self) -> str:
        return f"{self.machine_id} {self.sequence}"


class PackedRoast(models.Model):
    """A finished roast in one compressed object; its digest is what a dispute cites."""

    roast = models.OneToOneField("roasts.Roast", primary_key=True, on_delete=models.PROTECT, related_name="packed")
    format = models.CharField(max_length=20)  # of roasts.store.packing, e.g. "roast/1"
    payload = models.BinaryField()
    digest = models.CharField(max_length=64)  # SHA-256 of the unpacked canonical bytes, hex
    samples = models.IntegerField()
    packed_at = models.DateTimeField()
    thinned_at = models.DateTimeField(null=True, blank=True)  # since then the rows are gone; this is the record
