"""Standing work of the ground floor."""

from __future__ import annotations

import datetime as dt

from celery import shared_task
from django.conf import settings
from django.contrib.sessions.models import Session

from kernel import clock, idempotency
from kernel.models import Heartbeat, IdempotencyRecord, StreamEvent

STREAM_KEPT = dt.timedelta(days=7)


@shared_task(name="kernel.tasks.prune")
def prune() -> None:
    """Forget what need not be kept: idempotency records, old stream events (but the newest), dead sessions."""
    forget_old(clock.now())


def forget_old(now: dt.datetime) -> None:
    """The rows behind `prune`. The newest number of an organisation stays: numbers go on from it."""
    IdempotencyRecord.objects.filter(created_at__lte=now - idempotency.KEPT).delete()
    Session.objects.filter(expire_date__lt=now).delete()
    organizations = StreamEvent.objects.filter(number__isnull=False).values_list("organization_id", flat=True)
    for organization_id in organizations.distinct().order_by("organization_id"):
        numbered = StreamEvent.objects.filter(organization_id=organization_id, number__isnull=False)
        newest = numbered.order_by("-number").values_list("number", flat=True).first() or 0
        numbered.filter(at__lt=now - STREAM_KEPT, number__lt=newest).delete()


@shared_task(name="kernel.tasks.note_beat")
def note_beat() -> None:
    """The beat's message came through the broker, and this worker took it."""
    now = clock.now()
    for name in ("beat", f"worker:{settings.HOST_NAME}"):
        Heartbeat.objects.update_or_create(name=name, defaults={"at": now})
