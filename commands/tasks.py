"""Standing work of this room: the sweeper of deadlines, and (from `tending`) the machine loops."""

from __future__ import annotations

from celery import shared_task

from commands import services
from commands.history.standing_watch import sum_orders, trip_breakers, watch_orders
from commands.loop.tending import ensure_machines_tended, tend_machine
from commands.records import effects
from kernel import clock

__all__ = [
    "ensure_machines_tended", "note_effects", "sum_orders", "sweep", "tend_machine", "trip_breakers", "watch_orders",
]  # fmt: skip


@shared_task(name="commands.tasks.sweep", ignore_result=True)
def sweep() -> int:
    """Time out orders whose deadline has come, release those whose veto window ended; how many. Approval and dispatch
    check both themselves, and a machine's loop releases its own sooner."""
    now = clock.now()
    return services.expire_due(now=now) + services.release_due(now=now)


@shared_task(name="commands.tasks.note_effects", ignore_result=True)
def note_effects() -> int:
    """Note what verified settings did to the beans, 60 to 90 s after; how many."""
    return effects.note_due_effects(now=clock.now())
