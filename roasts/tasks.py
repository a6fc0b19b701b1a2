"""Standing work of the room. A message only wakes; the rows say what is due."""

from __future__ import annotations

from celery import shared_task

from kernel import clock
from roasts.store import services_packing


@shared_task(name="roasts.tasks.pack_closed", ignore_result=True)
def pack_closed() -> int:
    """Pack what closed long enough ago; how many."""
    return services_packing.pack_due(now=clock.now())
