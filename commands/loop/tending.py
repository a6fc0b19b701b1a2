"""The tasks that keep every machine tended. A message only wakes; the lease decides."""

from __future__ import annotations

import logging

from celery import shared_task
from django.conf import settings
from django.db import connection

from commands.loop import lease
from commands.machine_loop import MachineLoop
from kernel import clock, draining, work
from roasts.models import Machine

logger = logging.getLogger(__name__)
TEND = "commands.tasks.tend_machine"
MESSAGE_LIFE_S = 3.0


@shared_task(name=TEND, ignore_result=True)
def tend_machine(machine_id: str) -> str:
    """Hold one machine's lease and work its loop until it is lost or this process leaves."""
    if draining.is_draining():
        return "leaving"
    try:
        loop = MachineLoop.begin(machine_id)
        if loop is None:
            return "not_ours"
        logger.info("tending %s with token %d", machine_id, loop.token)
        why = loop.run(draining.is_draining)
        logger.info("let go of %s: %s", machine_id, why)
        return why
    finally:
        connection.close()


@shared_task(name="commands.tasks.ensure_machines_tended", ignore_result=True)
def ensure_machines_tended() -> int:
    """Wake a loop for every machine nobody tends; how many. Its own host's workers take it."""
    now = clock.now()
    untended = lease.untended_machines(now=now)
    for machine in Machine.objects.filter(pk__in=untended).order_by("pk"):
        host = machine.host or settings.HOST_NAME
        queue = f"machines.{host}" if settings.IS_FLEET else None
        work.publish(TEND, [machine.pk], queue=queue, expires_s=MESSAGE_LIFE_S)
    return len(untended)
