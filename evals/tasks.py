"""Standing work of this room: a closed roast gets its report by itself."""

from __future__ import annotations

import datetime as dt

from celery import shared_task
from django.db.models import Exists, OuterRef

from evals import material, services
from evals.models import RoastReport
from kernel import clock
from kernel.principals import system_principal
from roasts.models import Roast

#: Roasts that closed longer ago than this and have no report get one only when somebody asks (imports, old stock).
FRESH = dt.timedelta(hours=6)
AT_ONCE = 5


@shared_task(name="evals.tasks.write_due_reports", ignore_result=True)
def write_due_reports() -> int:
    """Write the first report of roasts that closed lately; how many."""
    return sum(1 for roast in due_roasts(clock.now()) if _write(roast))


def due_roasts(now: dt.datetime) -> list[Roast]:
    """Roasts that were watched here, closed lately and have no report yet; oldest first, a few at once."""
    reported = RoastReport.objects.filter(roast=OuterRef("pk"))
    closed = Roast.objects.filter(status__in=services.CLOSED, ended_at__gt=now - FRESH, source_digest="")
    unreported = closed.filter(~Exists(reported)).select_related("organization", "machine")
    return list(unreported.order_by("ended_at")[:AT_ONCE])


def _write(roast: Roast) -> bool:
    actor = system_principal("report_writer", roast.organization)
    _, is_new = services.write_report(
        actor, roast, material=material.gather(roast), reason="the roast closed", now=clock.now()
    )
    return is_new
