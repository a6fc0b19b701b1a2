"""What a roast is measured against and what people say of it: profiles, cupping, corrections, the fitted twin."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from kernel import ids
from kernel.models import Organization, TenantQuerySet


def profile_id() -> str:
    return ids.new("prf")


def profile_version_id() -> str:
    return ids.new("prv")


def note_id() -> str:
    return ids.new("qcn")


def correction_id() -> str:
    return ids.new("cor")


def twin_fit_id() -> str:
    return ids.new("twf")


class Profile(models.Model):
    """A golden curve by name; what it says stands in its versions."""

    id = models.CharField(primary_key=True, max_length=40, default=profile_id, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="profiles")
    name = models.CharField(max_length=200)
    bean = models.CharField(max_length=200, default="", blank=True)
    is_archived = models.BooleanField(default=False)
    created_at = models.DateTimeField()

    objects = TenantQuerySet.as_manager()

    class Meta:
        ordering = ["name", "id"]
        constraints = [models.UniqueConstraint(fields=["organization", "name"], name="profile_name_once")]

    def __str__(self) -> str:
        return self.name


class ProfileVersion(models.Model):
    """One immutable version: curve, corridor, development and control plan as `roasts.library.profile` reads them."""

    id = models.CharField(primary_key=True, max_length=40, default=profile_version_id, editable=False)
    profile = models.ForeignKey(Profile, on_delete=models.PROTECT, related_name="versions")
    version = models.IntegerField()
    document = models.JSONField()  # roasts.library.profile.ProfileDocument as JSON
    digest = models.CharField(max_length=64)  # of the canonical document
    change_note = models.CharField(max_length=500, default="", blank=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["profile_id", "-version"]
        constraints = [
            models.UniqueConstraint(fields=["profile", "version"], name="profile_version_once"),
            models.CheckConstraint(condition=Q(version__gte=1), name="profile_version_from_one"),
        ]


class QcNote(models.Model):
    """What somebody tasted and saw: appended, never rewritten."""

    id = models.CharField(primary_key=True, max_length=40, default=note_id, editable=False)
    roast = models.ForeignKey("roasts.Roast", on_delete=models.PROTECT, related_name="qc_notes")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    cupping_score = models.FloatField(null=True, blank=True)  # 0..100
    attributes = models.JSONField(default=dict)  # name -> 0..10: sweetness, acidity, body, ...
    defects = models.JSONField(default=list)  # words of roasts.library.quality.DEFECTS
    colour_whole = models.FloatField(null=True, blank=True)
    colour_ground = models.FloatField(null=True, blank=True)
    text = models.TextField(default="", blank=True)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["created_at", "id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(cupping_score__isnull=True) | Q(cupping_score__gte=0, cupping_score__lte=100),
                name="qc_score_in_range",
            )
        ]


class RoastCorrection(models.Model):
    """A closed roast is not rewritten: who changed which field, from what to what, and why."""

    id = models.CharField(primary_key=True, max_length=40, default=correction_id, editable=False)
    roast = models.ForeignKey("roasts.Roast", on_delete=models.PROTECT, related_name="corrections")
    field = models.CharField(max_length=40)
    old_value = models.JSONField(null=True)
    new_value = models.JSONField(null=True)
    corrected_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    reason = models.CharField(max_length=500)
    at = models.DateTimeField()

    class Meta:
        ordering = ["at", "id"]


class TwinFit(models.Model):
    """Parameters of one machine's heat model, and the held-out error they were published with."""

    id = models.CharField(primary_key=True, max_length=40, default=twin_fit_id, editable=False)
    machine = models.ForeignKey("roasts.Machine", on_delete=models.PROTECT, related_name="twin_fits")
    parameters = models.JSONField()  # roasts.twin.TwinParameters as JSON
    data_digest = models.CharField(max_length=64)  # over the digests of the roasts it was fitted on
    roast_count = models.IntegerField()
    report = models.JSONField(default=dict)  # held-out errors, fold by fold
    is_current = models.BooleanField(default=False)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["-created_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["machine"], condition=Q(is_current=True), name="one_current_twin_fit")
        ]
