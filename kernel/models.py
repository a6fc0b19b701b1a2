"""What every room stands on: organisations, people's roles, agents, keys, audit, idempotency, stream."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from kernel import ids


def organization_id() -> str:
    return ids.new("org")


def site_id() -> str:
    return ids.new("sit")


def agent_id() -> str:
    return ids.new("agt")


def key_id() -> str:
    return ids.new("key")


def audit_id() -> str:
    return ids.new("aud")


class TenantQuerySet(models.QuerySet):
    """Every row of an organisation is reached through this: another organisation's row is not there."""

    def for_principal(self, principal):
        """Only rows of the principal's organisation; none for a stranger."""
        if principal is None or principal.organization is None:
            return self.none()
        return self.filter(organization_id=principal.organization.pk)


class Organization(models.Model):
    id = models.CharField(primary_key=True, max_length=40, default=organization_id, editable=False)
    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=200)
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name


class Site(models.Model):
    id = models.CharField(primary_key=True, max_length=40, default=site_id, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="sites")
    name = models.CharField(max_length=200)
    time_zone = models.CharField(max_length=64, default="UTC")

    objects = TenantQuerySet.as_manager()

    def __str__(self) -> str:
        return self.name


class Role(models.TextChoices):
    VIEWER = "viewer"
    OPERATOR = "operator"
    LEAD = "lead"
    JUDGE = "judge"
    AUDITOR = "auditor"
    ADMIN = "admin"


class Membership(models.Model):
    """One role of one person in one organisation. A lead and an admin may do what an operator may."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=20, choices=Role.choices)

    objects = TenantQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "user", "role"], name="membership_once"),
            models.CheckConstraint(
                condition=Q(role__in=["viewer", "operator", "lead", "judge", "auditor", "admin"]),
                name="membership_known_role",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} · {self.role}"


class TemperatureUnit(models.TextChoices):
    CELSIUS = "C", "°C"
    FAHRENHEIT = "F", "°F"


class MassUnit(models.TextChoices):
    GRAM = "g", "g"
    POUND = "lb", "lb"


class Language(models.TextChoices):
    """Of the console's pages; each named in itself. The catalogs are in `locale/`, settings.LANGUAGES says the same."""

    ENGLISH = "en", "English"
    GERMAN = "de", "Deutsch"


class Preferences(models.Model):
    """How one person is shown figures and times in the console. What is stored and sent stays °C, g and UTC.

    An empty ``time_zone`` means the zone of the device (UTC until its script has run).
    """

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, primary_key=True, on_delete=models.CASCADE, related_name="preferences"
    )
    temperature_unit = models.CharField(
        max_length=1, choices=TemperatureUnit.choices, default=TemperatureUnit.CELSIUS.value
    )
    mass_unit = models.CharField(max_length=2, choices=MassUnit.choices, default=MassUnit.GRAM.value)
    time_zone = models.CharField(max_length=64, blank=True, default="")  # IANA name, checked in kernel/preferences.py
    language = models.CharField(max_length=8, choices=Language.choices, default=Language.ENGLISH.value)

    class Meta:
        verbose_name = verbose_name_plural = "preferences"
        constraints = [
            models.CheckConstraint(condition=Q(temperature_unit__in=["C", "F"]), name="preferences_known_temperature"),
            models.CheckConstraint(condition=Q(mass_unit__in=["g", "lb"]), name="preferences_known_mass"),
            models.CheckConstraint(condition=Q(language__in=["en", "de"]), name="preferences_known_language"),
        ]


class OperatorPin(models.Model):
    """A person's PIN for a shared tablet, hashed as passwords are. It dies with the password it was set under."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, primary_key=True, on_delete=models.CASCADE, related_name="operator_pin"
    )
    digest = models.CharField(max_length=128)
    password_mark = models.CharField(max_length=64)  # of the password at the time; see kernel/operator_pins.py
    set_at = models.DateTimeField()


class PinAttempt(models.Model):
    """One try of a PIN, written before it is checked so that no two at once share a count. A right one is removed."""

    session_digest = models.CharField(max_length=64)
    target = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE, related_name="pin_attempts"
    )  # None: nobody who could be chosen there
    at = models.DateTimeField()

    class Meta:
        indexes = [
            models.Index(fields=["target", "at"], name="pin_attempt_by_target"),
            models.Index(fields=["session_digest", "at"], name="pin_attempt_by_session"),
            models.Index(fields=["at"], name="pin_attempt_by_age"),
        ]


class Agent(models.Model):
    """A software agent: an identity of its own, never a person, with an owner who answers for it."""

    id = models.CharField(primary_key=True, max_length=40, default=agent_id, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="agents")
    name = models.CharField(max_length=100)
    release = models.CharField(max_length=100, default="", blank=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="owned_agents"
    )
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField()

    objects = TenantQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization", "name"], name="agent_name_once")]

    def __str__(self) -> str:
        return self.name


class ApiKey(models.Model):
    """A bearer key of one person or one agent. Only its SHA-256 is kept; ``prefix`` finds it."""

    id = models.CharField(primary_key=True, max_length=40, default=key_id, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="api_keys")
    prefix = models.CharField(max_length=12, unique=True)
    digest = models.CharField(max_length=64)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.CASCADE, related_name="api_keys"
    )
    agent = models.ForeignKey(Agent, null=True, blank=True, on_delete=models.CASCADE, related_name="api_keys")
    scopes = models.JSONField(default=list)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    objects = TenantQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=(Q(user__isnull=False) & Q(agent__isnull=True))
                | (Q(user__isnull=True) & Q(agent__isnull=False)),
                name="api_key_one_holder",
            )
        ]

    def __str__(self) -> str:
        return self.prefix


class AuditEntry(models.Model):
    """One fact, written in the transaction of what it records. Never changed: the database refuses."""

    id = models.CharField(primary_key=True, max_length=40, default=audit_id, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="audit_entries")
    at = models.DateTimeField()
    actor_kind = models.CharField(max_length=20)  # person | agent | system
    actor_id = models.CharField(max_length=64)
    actor_name = models.CharField(max_length=150)
    verb = models.CharField(max_length=64)  # lower_snake, e.g. proposal_approved
    subject_kind = models.CharField(max_length=40)
    subject_id = models.CharField(max_length=64)
    payload = models.TextField()  # canonical JSON
    payload_digest = models.CharField(max_length=64)

    objects = TenantQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "audit entries"
        indexes = [models.Index(fields=["organization", "subject_kind", "subject_id", "at"], name="audit_by_subject")]
        ordering = ["at", "id"]

    def __str__(self) -> str:
        return self.id


class AuditSeal(models.Model):
    """An entry's place in its organisation's chain; written by the one sealer, after the commit."""

    entry = models.OneToOneField(AuditEntry, primary_key=True, on_delete=models.PROTECT, related_name="seal")
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="audit_seals")
    sequence = models.BigIntegerField()
    previous_digest = models.CharField(max_length=64)
    digest = models.CharField(max_length=64)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization", "sequence"], name="audit_sequence_once")]


class AuditCheckpoint(models.Model):
    """A signed statement that the chain reached ``sequence`` with ``digest``: truncation becomes visible."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="audit_checkpoints")
    sequence = models.BigIntegerField()
    digest = models.CharField(max_length=64)
    at = models.DateTimeField()
    public_key = models.CharField(max_length=64)  # hex, Ed25519
    signature = models.CharField(max_length=128)  # hex

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization", "sequence"], name="audit_checkpoint_once")]


class StreamEvent(models.Model):
    """A durable decision for the live stream, numbered when sealed so that no late commit is skipped."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="stream_events")
    machine_id = models.CharField(max_length=40, blank=True, default="")
    kind = models.CharField(
        max_length=40
    )  # proposal | halt | alarm | roast | roast_event | machine | suspension | grant
    subject_id = models.CharField(max_length=64)
    payload = models.JSONField(default=dict)
    at = models.DateTimeField()
    number = models.BigIntegerField(null=True, blank=True)

    objects = TenantQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization", "number"], name="stream_number_once")]
        indexes = [
            models.Index(fields=["id"], condition=Q(number__isnull=True), name="stream_unsealed"),
        ]


class IdempotencyRecord(models.Model):
    """First answer to a keyed request, kept 24 h."""

    principal = models.CharField(max_length=80)
    route = models.CharField(max_length=200)
    key = models.CharField(max_length=200)
    request_digest = models.CharField(max_length=64)
    is_done = models.BooleanField(default=False)
    response_status = models.IntegerField(null=True)
    response_body = models.TextField(default="")
    created_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["principal", "route", "key"], name="idempotency_once")]
        indexes = [models.Index(fields=["created_at"], name="idempotency_by_age")]


class WorkLease(models.Model):
    """One holder at a time of a named piece of standing work (the sealer); the token only rises."""

    name = models.CharField(primary_key=True, max_length=80)
    owner = models.CharField(max_length=120, default="", blank=True)
    token = models.BigIntegerField(default=0)
    expires_at = models.DateTimeField()


class Heartbeat(models.Model):
    """When a standing part of the house was last seen at work: `beat`, `worker:<host>`."""

    name = models.CharField(primary_key=True, max_length=120)
    at = models.DateTimeField()
