"""What happened in the drum: machines and their limits, roasts, samples, events."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext

from kernel import ids
from kernel.models import Organization, Site, TenantQuerySet


def machine_id() -> str:
    return ids.new("mch")


def roast_id() -> str:
    return ids.new("rst")


def event_id() -> str:
    return ids.new("evt")


class Machine(models.Model):
    """One roaster. Its envelope (limits) is the server's, never a proposer's."""

    class SilencePolicy(models.TextChoices):
        HOLD_AND_ALARM = "hold_and_alarm"
        HEAT_OFF = "heat_off"

    id = models.CharField(primary_key=True, max_length=40, default=machine_id, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="machines")
    site = models.ForeignKey(Site, on_delete=models.PROTECT, related_name="machines")
    name = models.CharField(max_length=100)
    driver_kind = models.CharField(max_length=40)  # a key of drivers.registry
    driver_options = models.JSONField(default=dict)
    host = models.CharField(max_length=100, default="", blank=True)  # which host has the device; "" is any
    #: Fed by POST /v1/telemetry (a bridge): no loop tends it, no order reaches it.
    is_remote = models.BooleanField(default=False)
    max_bean_temp_c = models.FloatField(default=225.0)
    max_infrared_temp_c = models.FloatField(default=235.0)
    max_exhaust_temp_c = models.FloatField(null=True, blank=True)  # None: nobody set one, so it is not watched
    #: Highest preheat temperature an order may ask for, where the machine takes one by wire (a Bullet R2).
    max_preheat_temp_c = models.FloatField(default=260.0)
    max_heat_time_s = models.IntegerField(default=1500)
    max_rate_of_rise_c_per_min = models.FloatField(default=45.0)
    silence_policy = models.CharField(
        max_length=20, choices=SilencePolicy.choices, default=SilencePolicy.HOLD_AND_ALARM.value
    )
    is_virtual = models.BooleanField(default=False)
    is_archived = models.BooleanField(default=False)
    #: The profile its next roasts follow, until somebody chooses another.
    profile_version = models.ForeignKey(
        "roasts.ProfileVersion", null=True, blank=True, on_delete=models.PROTECT, related_name="machines"
    )
    created_at = models.DateTimeField()

    objects = TenantQuerySet.as_manager()

    class Meta:
        ordering = ["name", "id"]
        constraints = [models.UniqueConstraint(fields=["organization", "name"], name="machine_name_once")]

    def __str__(self) -> str:
        return self.name


class ControlLimit(models.Model):
    """Envelope of one control, in native steps. `full_scale_step` is 100 percent."""

    machine = models.ForeignKey(Machine, on_delete=models.CASCADE, related_name="limits")
    control = models.CharField(max_length=10)  # heater | fan | drum
    min_step = models.IntegerField()
    max_step = models.IntegerField()
    full_scale_step = models.IntegerField()
    max_change_step = models.IntegerField()  # longest single move an agent may ask for
    min_interval_s = models.FloatField(default=0)  # between agents' orders on this control
    daily_count = models.IntegerField(default=1000)
    roast_count = models.IntegerField(default=100)
    max_ramp_step_per_s = models.FloatField(null=True, blank=True)  # agents: change ÷ time since the last

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["machine", "control"], name="control_limit_once"),
            models.CheckConstraint(condition=Q(min_step__lte=F("max_step")), name="control_limit_ordered"),
            models.CheckConstraint(condition=Q(control__in=["heater", "fan", "drum"]), name="control_known"),
        ]

    def __str__(self) -> str:
        return gettext(self.control)  # as the admin heads its row


class MachineReading(models.Model):
    """Latest reading and link of a machine: one row, rewritten by the loop that owns it (about 5 Hz)."""

    class Link(models.TextChoices):
        NEVER = "never"
        UP = "up"
        STALE = "stale"
        DOWN = "down"  # unplugged, not found, no permission, busy: see link_code
        KEEPER_LOST = "keeper_lost"

    machine = models.OneToOneField(Machine, primary_key=True, on_delete=models.CASCADE, related_name="latest")
    link = models.CharField(max_length=20, choices=Link.choices, default=Link.NEVER.value)
    link_code = models.CharField(max_length=40, default="", blank=True)
    link_message = models.TextField(default="", blank=True)
    at = models.DateTimeField(null=True)
    sequence = models.BigIntegerField(default=0)
    device_ms = models.BigIntegerField(default=0)
    state = models.CharField(max_length=20, default="unknown")
    bean_temp_c = models.FloatField(null=True)
    infrared_temp_c = models.FloatField(null=True)
    environment_temp_c = models.FloatField(null=True)  # ET of machines that have one beside or instead of infrared
    exhaust_temp_c = models.FloatField(null=True)
    ambient_temp_c = models.FloatField(null=True)
    rate_of_rise_c_per_min = models.FloatField(null=True)  # ours: causal (roasts.rate_of_rise)
    heater_step = models.IntegerField(null=True)
    fan_step = models.IntegerField(null=True)
    drum_step = models.IntegerField(null=True)
    fan_rpm = models.IntegerField(null=True)
    voltage_v = models.IntegerField(null=True)
    quality = models.JSONField(default=dict)
    are_beans_proved = models.BooleanField(default=False)  # probe fell >= 25 °C within 20 s of the start
    is_orders_paused = models.BooleanField(default=False)  # after a replug: until a person resumes
    identity = models.JSONField(default=dict)
    connection_id = models.CharField(max_length=60, default="", blank=True)  # keeper boot of `filed_sequence`
    filed_sequence = models.BigIntegerField(default=0)  # every reading up to this one is recorded or needed no record
    written_at = models.DateTimeField(null=True)
    interval_s = models.FloatField(null=True)  # how far apart its readings come, by its driver's word; null: not said


class RoastStatus(models.TextChoices):
    PLANNED = "planned"
    PREHEATING = "preheating"
    CHARGED = "charged"
    ROASTING = "roasting"
    COOLING = "cooling"
    FINISHED = "finished"
    ABORTED = "aborted"


class RoastSource(models.TextChoices):
    RECORDED = "recorded"  # by our own machine loop
    TELEMETRY = "telemetry"  # by somebody's bridge
    IMPORTED = "imported"  # from a file


#: Not in the drum yet: what somebody means to roast next. No roast to anybody who does not ask for it by name.
PLANNED = (RoastStatus.PLANNED.value, RoastStatus.PREHEATING.value)
#: In the drum: a roast that may still get samples.
OPEN = (RoastStatus.CHARGED.value, RoastStatus.ROASTING.value, RoastStatus.COOLING.value)


class RoastQuerySet(TenantQuerySet):
    def open(self):
        """Roasts that may still get samples."""
        return self.filter(status__in=OPEN)

    def planned(self):
        """Batches that are not in the drum yet: at most one of a machine."""
        return self.filter(status__in=PLANNED)


class BegunRoasts(models.Manager.from_queryset(RoastQuerySet)):  # type: ignore[misc]
    """Roasts whose beans went in: the planned are left out, so that nothing counts, lists or goes on with them."""

    def get_queryset(self):
        return super().get_queryset().exclude(status__in=PLANNED)


class Roast(models.Model):
    """One batch in one drum. `device_start_ms` is the device time of elapsed 0 (the charge).

    Of a planned one `started_at` is when it was planned, and `device_start_ms` 0: it has not begun.
    """

    id = models.CharField(primary_key=True, max_length=40, default=roast_id, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="roasts")
    machine = models.ForeignKey(Machine, on_delete=models.PROTECT, related_name="roasts")
    status = models.CharField(max_length=20, choices=RoastStatus.choices, default=RoastStatus.CHARGED.value)
    title = models.CharField(max_length=200, default="", blank=True)
    bean = models.CharField(max_length=200, default="", blank=True)
    origin = models.CharField(max_length=200, default="", blank=True)
    process = models.CharField(max_length=100, default="", blank=True)
    variety = models.CharField(max_length=100, default="", blank=True)
    lot = models.CharField(max_length=100, default="", blank=True)
    weight_in_g = models.FloatField(null=True, blank=True)
    weight_out_g = models.FloatField(null=True, blank=True)
    moisture_in_percent = models.FloatField(null=True, blank=True)
    moisture_out_percent = models.FloatField(null=True, blank=True)
    colour_whole = models.FloatField(null=True, blank=True)  # in the unit of the house's meter
    colour_ground = models.FloatField(null=True, blank=True)
    profile_version = models.ForeignKey(
        "roasts.ProfileVersion", null=True, blank=True, on_delete=models.PROTECT, related_name="roasts"
    )
    #: A person's plan for the end; None leaves it to the profile. Whichever comes first ends the roast.
    planned_drop_temp_c = models.FloatField(null=True, blank=True)
    planned_development_s = models.FloatField(null=True, blank=True)
    source = models.CharField(max_length=10, choices=RoastSource.choices, default=RoastSource.RECORDED.value)
    #: SHA-256 of the imported file, hex; "" for a roast that was watched. The same file comes in once.
    source_digest = models.CharField(max_length=64, default="", blank=True)
    started_at = models.DateTimeField()
    device_start_ms = models.BigIntegerField()
    ended_at = models.DateTimeField(null=True, blank=True)
    close_reason = models.CharField(max_length=40, default="", blank=True)
    connection_id = models.CharField(max_length=60, default="", blank=True)  # keeper boot of `device_start_ms`
    #: Signatures of the telemetry it came in by: points whose batch verified, had none, or failed.
    verified_points = models.IntegerField(default=0)
    unsigned_points = models.IntegerField(default=0)
    failed_points = models.IntegerField(default=0)
    late_points = models.IntegerField(default=0)  # filed after a later point was
    #: `curve.summarise` of the closed roast (keys of CurveSummary) and what the library sorts and searches by.
    summary = models.JSONField(null=True, blank=True)
    total_ms = models.IntegerField(null=True, blank=True)  # charge to drop
    first_crack_ms = models.IntegerField(null=True, blank=True)
    development_ratio = models.FloatField(null=True, blank=True)  # DTR, 0..1
    drop_bean_temp_c = models.FloatField(null=True, blank=True)

    objects = BegunRoasts()
    #: The planned, too.
    with_planned = RoastQuerySet.as_manager()

    class Meta:
        ordering = ["-started_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["machine"], condition=Q(status__in=OPEN), name="one_open_roast_per_machine"
            ),
            models.UniqueConstraint(
                fields=["machine"], condition=Q(status__in=PLANNED), name="one_planned_roast_per_machine"
            ),
            models.UniqueConstraint(
                fields=["organization", "source_digest"], condition=~Q(source_digest=""), name="roast_imported_once"
            ),
        ]
        indexes = [
            models.Index(fields=["organization", "-started_at", "-id"], name="roast_library"),
            models.Index(fields=["machine", "-started_at"], name="roast_of_machine"),
            models.Index(fields=["organization", "-development_ratio", "-id"], name="roast_by_ratio"),
            models.Index(fields=["organization", "-total_ms", "-id"], name="roast_by_total"),
            models.Index(fields=["organization", "-drop_bean_temp_c", "-id"], name="roast_by_drop"),
            models.Index(fields=["organization", "bean", "id"], name="roast_by_bean"),
        ]

    def __str__(self) -> str:
        return self.title or self.id


class Sample(models.Model):
    """One recorded reading of a roast, by the device's own time since charge."""

    pk = models.CompositePrimaryKey("roast_id", "elapsed_ms")
    #: No index of its own: the key leads with it.
    roast = models.ForeignKey(Roast, on_delete=models.CASCADE, related_name="samples", db_index=False)
    elapsed_ms = models.IntegerField()
    sequence = models.BigIntegerField()
    at = models.DateTimeField()
    state = models.CharField(max_length=20)
    bean_temp_c = models.FloatField(null=True)
    infrared_temp_c = models.FloatField(null=True)
    exhaust_temp_c = models.FloatField(null=True)
    environment_temp_c = models.FloatField(null=True)  # ET of machines that have one beside or instead of infrared
    ambient_temp_c = models.FloatField(null=True)
    rate_of_rise_c_per_min = models.FloatField(null=True)  # ours, causal
    machine_rate_c_per_min = models.FloatField(null=True)  # the machine's own
    heater_step = models.SmallIntegerField(null=True)
    fan_step = models.SmallIntegerField(null=True)
    drum_step = models.SmallIntegerField(null=True)
    fan_rpm = models.IntegerField(null=True)
    voltage_v = models.SmallIntegerField(null=True)
    quality = models.JSONField(default=dict)
    extras = models.JSONField(null=True)  # further named numbers and words of a source

    class Meta:
        ordering = ["roast_id", "elapsed_ms"]


class Gap(models.Model):
    """A stretch of a roast with no readings, and why."""

    roast = models.ForeignKey(Roast, on_delete=models.CASCADE, related_name="gaps")
    from_ms = models.IntegerField()
    to_ms = models.IntegerField(null=True)
    reason = models.CharField(max_length=40)  # unplugged | loop_lost | keeper_lost

    class Meta:
        constraints = [models.UniqueConstraint(fields=["roast", "from_ms"], name="gap_once")]


class EventKind(models.TextChoices):
    CHARGE = "charge"
    TURNING_POINT = "turning_point"
    DRY_END = "dry_end"
    FIRST_CRACK_START = "first_crack_start"
    FIRST_CRACK_END = "first_crack_end"
    SECOND_CRACK_START = "second_crack_start"
    DROP = "drop"
    COOL_END = "cool_end"
    NOTE = "note"


class EventSource(models.TextChoices):
    DEVICE = "device"
    INFERRED = "inferred"
    PERSON = "person"


class RoastEvent(models.Model):
    """A mark on the curve. A person's mark wins and both are kept; a withdrawn one stays as history."""

    id = models.CharField(primary_key=True, max_length=40, default=event_id, editable=False)
    roast = models.ForeignKey(Roast, on_delete=models.CASCADE, related_name="events")
    kind = models.CharField(max_length=30, choices=EventKind.choices)
    elapsed_ms = models.IntegerField()
    source = models.CharField(max_length=10, choices=EventSource.choices)
    confidence = models.FloatField(default=1.0)
    marked_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT)
    text = models.CharField(max_length=500, default="", blank=True)
    at = models.DateTimeField()
    withdrawn_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["elapsed_ms", "id"]


from roasts.models_files import ImportedFile  # noqa: F401
from roasts.models_library import (  # noqa: F401  (Django looks for models here)
    Profile,
    ProfileVersion,
    QcNote,
    RoastCorrection,
    TwinFit,
)
from roasts.models_provenance import (  # noqa: F401
    DeviceKey,
    PackedRoast,
    StreamWatch,
    TelemetryBatch,
    TelemetryPolicy,
    TelemetryStream,
)
