"""Is this agent good enough? Here so far: the report of a roast, which needs its orders and scores."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from kernel import ids
from kernel.models import Organization, TenantQuerySet
from roasts.models import Roast


def report_id() -> str:
    return ids.new("rep")


class RoastReport(models.Model):
    """One version of what is said of a closed roast. Never rewritten (triggers): a change makes a new version."""

    id = models.CharField(primary_key=True, max_length=40, default=report_id, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="roast_reports")
    roast = models.ForeignKey(Roast, on_delete=models.PROTECT, related_name="reports")
    version = models.IntegerField()
    document = models.JSONField()  # evals.report.compose
    digest = models.CharField(max_length=64)  # of the canonical document
    reason = models.CharField(max_length=200)  # why this version was written
    written_by = models.CharField(max_length=200)  # name of the principal
    written_at = models.DateTimeField()

    objects = TenantQuerySet.as_manager()

    class Meta:
        ordering = ["roast_id", "-version"]
        constraints = [
            models.UniqueConstraint(fields=["roast", "version"], name="roast_report_version_once"),
            models.CheckConstraint(condition=Q(version__gte=1), name="roast_report_from_one"),
        ]
