"""The only writer of roast reports. One transaction each."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db import IntegrityError, transaction

from evals import report
from evals.models import RoastReport
from kernel import audit, canonical
from kernel.errors import Conflict
from kernel.principals import Principal
from roasts.models import Roast, RoastStatus

CLOSED = frozenset({RoastStatus.FINISHED.value, RoastStatus.ABORTED.value})


def write_report(
    principal: Principal, roast: Roast, *, material: report.Material, reason: str, now: dt.datetime
) -> tuple[RoastReport, bool]:
    """The report of this material: a new version, or (False) the last one where nothing has changed since.

    Conflict `roast_open`: a report is of a closed roast. Two who write at once get the same version.
    """
    if roast.status not in CLOSED:
        raise Conflict("roast_open", "This roast is still under way.", "Its report is written when it closes.")
    document = report.compose(material)
    digest = canonical.digest(document)
    last = newest_report(roast)
    if last is not None and last.digest == digest:
        return last, False
    try:
        with transaction.atomic():
            written = RoastReport.objects.create(
                organization_id=roast.organization_id,
                roast=roast,
                version=last.version + 1 if last else 1,
                document=document,
                digest=digest,
                reason=reason[:200],
                written_by=principal.name[:200],
                written_at=now,
            )
            audit.record(
                roast.organization,
                principal,
                "roast_report_written",
                "roast_report",
                written.pk,
                {"roast_id": roast.pk, "version": written.version, "digest": digest, "reason": reason[:200]},
                now=now,
            )
    except IntegrityError:
        twin = newest_report(roast)
        if twin is None or (last is not None and twin.pk == last.pk):
            raise
        return twin, False
    return written, True


def newest_report(roast: Roast) -> RoastReport | None:
    """The version that stands now, or None."""
    return RoastReport.objects.filter(roast=roast).order_by("-version").first()


def rendered(written: RoastReport) -> dict[str, Any]:
    """One version as the API and the page give it."""
    return {
        "report_id": written.pk,
        "roast_id": written.roast_id,
        "version": written.version,
        "digest": written.digest,
        "reason": written.reason,
        "written_by": written.written_by,
        "written_at": canonical.utc_text(written.written_at),
        "document": written.document,
    }
