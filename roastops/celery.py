"""The Celery application: in memory inside one process, Redis in the fleet. Messages only wake; rows are the truth."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "roastops.settings")  # `celery -A roastops` starts here
app = Celery("roastops", set_as_current=True)


def broker_settings(redis_url: str) -> dict[str, Any]:
    """Broker and its bounds. A frozen Redis costs a second, not a request (see kernel.work)."""
    if not redis_url:
        return {"broker_url": "memory://localhost", "broker_transport_options": {"polling_interval": 0.02}}
    return {
        "broker_url": redis_url,
        "broker_transport_options": {
            # Redelivery is a convenience: leases and sweepers are what safety rests on. Without these two
            # a task of a killed worker came back only after minutes.
            "visibility_timeout": 60,
            "unacked_restore_interval": 2,
            "unacked_restore_throttle": 1,
            "polling_interval": 0.2,
            "socket_timeout": 5,
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
            "health_check_interval": 5,
            "retry_on_timeout": False,
        },
    }


BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    "tend-machines": {
        "task": "commands.tasks.ensure_machines_tended",
        "schedule": 1.0,
        "options": {"expires": 3},
    },
    "sweep": {"task": "commands.tasks.sweep", "schedule": 1.0, "options": {"expires": 3}},
    "trip-breakers": {"task": "commands.tasks.trip_breakers", "schedule": 1.0, "options": {"expires": 3}},
    "watch-orders": {"task": "commands.tasks.watch_orders", "schedule": 5.0, "options": {"expires": 10}},
    "sum-orders": {"task": "commands.tasks.sum_orders", "schedule": 60.0, "options": {"expires": 60}},
    "effects": {"task": "commands.tasks.note_effects", "schedule": 15.0, "options": {"expires": 15}},
    "reports": {"task": "evals.tasks.write_due_reports", "schedule": 5.0, "options": {"expires": 10}},
    "beat-pulse": {"task": "kernel.tasks.note_beat", "schedule": 5.0, "options": {"expires": 10}},
    "pack": {"task": "roasts.tasks.pack_closed", "schedule": 300.0, "options": {"expires": 300}},
    "prune": {"task": "kernel.tasks.prune", "schedule": 600.0, "options": {"expires": 600}},
}

app.conf.update(
    **broker_settings(settings.REDIS_URL),
    task_serializer="json",
    accept_content=["json"],
    result_backend=None,
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    task_default_queue="default",
    task_create_missing_queues=True,
    worker_prefetch_multiplier=1,
    task_acks_late=False,
    broker_connection_retry_on_startup=True,
    broker_connection_retry=True,
    broker_connection_max_retries=None,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_hijack_root_logger=False,
    worker_send_task_events=False,
    worker_enable_remote_control=False,
    enable_utc=True,
    timezone="UTC",
    beat_schedule=BEAT_SCHEDULE,
    beat_max_loop_interval=1,
)
app.set_default()
app.autodiscover_tasks(["kernel", "roasts", "commands", "evals", "trials", "agents"])
