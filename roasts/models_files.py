"""What came with an imported roast: the file's name and format, what was understood of it, and what only it knows."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class ImportedFile(models.Model):
    """One imported file. The bytes are not kept (`Roast.source_digest` names them); what they said is.

    ``carried`` holds fields that only the source's own program knows, for writing them again; none is acted upon.
    """

    roast = models.OneToOneField(
        "roasts.Roast", primary_key=True, on_delete=models.PROTECT, related_name="imported_file"
    )
    file_name = models.CharField(max_length=255)
    format = models.CharField(max_length=20)  # of roasts.formats.reading.NAMES
    size_bytes = models.IntegerField()
    imported_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    imported_at = models.DateTimeField()
    understood = models.JSONField(default=list)
    dropped = models.JSONField(default=list)
    warnings = models.JSONField(default=list)
    metadata = models.JSONField(default=dict)  # roasts.formats.imported.Metadata as JSON
    channels = models.JSONField(default=list)  # name, unit, device, slot of what Sample.extras holds by row
    special_events = models.JSONField(default=list)
    computed = models.JSONField(default=dict)  # the source program's own summary
    carried = models.JSONField(default=dict)
    dry_end_c = models.FloatField(null=True)  # where the source lets drying end
    area_from_s = models.FloatField(null=True)  # where the source's area begins, if not at the turning point

    class Meta:
        ordering = ["-imported_at", "roast_id"]
