"""Worker and beat as threads of the one process (`manage.py up`). The fleet runs Celery's own commands instead."""

from __future__ import annotations

import logging
import threading
from typing import Any

from celery import beat
from celery.worker import state as worker_state
from django.conf import settings

from roastops.celery import app

logger = logging.getLogger(__name__)
POLL_S = 0.1


def queues() -> list[str]:
    """Queues a worker of this host serves: everybody's, and that of the machines plugged in here."""
    return ["default", f"machines.{settings.HOST_NAME}"]


class EmbeddedWorker:
    """A Celery worker with a pool of threads, in a thread."""

    def __init__(self, threads: int) -> None:
        self._worker = app.WorkController(
            hostname=f"embedded@{settings.HOST_NAME}",
            pool="threads",
            concurrency=threads,
            queues=queues(),
            without_heartbeat=True,
            without_mingle=True,
            without_gossip=True,
        )
        self._thread = threading.Thread(target=self._worker.start, name="worker", daemon=True)

    def start(self) -> None:
        worker_state.should_stop = None
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Take nothing more, let running tasks end; False when some did not within ``timeout_s``."""
        worker_state.should_stop = 0
        app.send_task("kernel.tasks.note_beat", expires=timeout_s)  # a message wakes its loop, which else sleeps 2 s
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()


class EmbeddedBeat:
    """The clock that publishes standing work, in a thread; its schedule lives in memory."""

    def __init__(self) -> None:
        self._service: Any = beat.Service(app, max_interval=1, scheduler_cls=beat.Scheduler)
        self._thread = threading.Thread(target=self._run, name="beat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        self._service.stop()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._service.start()
        except Exception:  # the outermost loop of this thread: the process goes on, readiness tells of the beat's age
            logger.exception("beat ended")
