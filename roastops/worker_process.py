"""What a Celery worker process of the fleet does beside its tasks: seal, and say when it is leaving."""

from __future__ import annotations

from typing import Any

from celery import signals
from django.db import close_old_connections

from kernel import draining
from kernel.sealer import SealerThread

_sealers: list[SealerThread] = []


@signals.worker_shutting_down.connect
def _begin_draining(**_kwargs: Any) -> None:
    """Machine loops look at the flag and hand over; the warm shutdown then finds nothing long under way."""
    draining.begin()


@signals.celeryd_init.connect
def _seal_beside(**_kwargs: Any) -> None:
    """Only `celery worker` sends this signal, not the embedded worker."""

    @signals.worker_ready.connect(weak=False)
    def _start(**_more: Any) -> None:
        sealer = SealerThread()
        sealer.start()
        _sealers.append(sealer)

    @signals.worker_shutdown.connect(weak=False)
    def _stop(**_more: Any) -> None:
        while _sealers:
            _sealers.pop().stop()


@signals.task_prerun.connect
@signals.task_postrun.connect
def _fresh_connections(**_kwargs: Any) -> None:
    """A pool's thread keeps its connection from task to task, unless it died or is too old."""
    close_old_connections()
