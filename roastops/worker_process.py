"""What a Celery worker process of the fleet does beside its tasks: seal, log, show figures, say when it is leaving."""

from __future__ import annotations

import logging
import sys
from typing import Any

from celery import signals
from django.conf import settings
from django.db import close_old_connections

from kernel import draining, garbage, log_files, metrics
from kernel.sealer import SealerThread

logger = logging.getLogger(__name__)
#: Twenty machines' loops are eighty threads that mostly wait; with Python's 5 ms a busy one holds each of them up (s).
SWITCH_EVERY_S = 0.001
_sealers: list[SealerThread] = []


@signals.worker_shutting_down.connect
def _begin_draining(**_kwargs: Any) -> None:
    """Machine loops look at the flag and hand over; the warm shutdown then finds nothing long under way."""
    draining.begin()


@signals.celeryd_init.connect
def _seal_beside(**_kwargs: Any) -> None:
    """Only `celery worker` sends this signal, not the embedded worker."""
    sys.setswitchinterval(SWITCH_EVERY_S)
    log_files.keep(settings.DATA_DIR)
    _show_figures()

    @signals.worker_ready.connect(weak=False)
    def _start(**_more: Any) -> None:
        garbage.settle()
        sealer = SealerThread()
        sealer.start()
        _sealers.append(sealer)

    @signals.worker_shutdown.connect(weak=False)
    def _stop(**_more: Any) -> None:
        while _sealers:
            _sealers.pop().stop()
        log_files.close()


@signals.beat_init.connect
def _keep_log(**_kwargs: Any) -> None:
    """`celery beat`, a process of its own."""
    log_files.keep(settings.DATA_DIR)


def _show_figures() -> None:
    """A worker has no web server: its `/metrics` is a port of its own, where one is given. Work goes on without."""
    port = settings.ENVIRONMENT.metrics_port
    if not port:
        return
    try:
        metrics.serve(port, settings.ENVIRONMENT.bind)
    except OSError as error:
        logger.error("no /metrics on port %d: %s. Give every worker a ROASTOPS_METRICS_PORT of its own.", port, error)


@signals.task_prerun.connect
@signals.task_postrun.connect
def _fresh_connections(**_kwargs: Any) -> None:
    """A pool's thread keeps its connection from task to task, unless it died or is too old."""
    close_old_connections()
