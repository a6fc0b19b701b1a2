"""Standing work on what orders came to: breakers, alerts, sums. Tasks; rows are the truth, each may run twice."""

from __future__ import annotations

from celery import shared_task

from commands.history import alerts, services_alerts, services_breakers, watch
from commands.history import questions as order_history
from kernel import clock
from kernel.models import Organization


@shared_task(name="commands.tasks.trip_breakers", ignore_result=True)
def trip_breakers() -> int:
    """Lower the grants of agents whose breakers trip; how many. Found from rows, so no crash and no race loses one."""
    return services_breakers.trip_due(now=clock.now())


@shared_task(name="commands.tasks.watch_orders", ignore_result=True)
def watch_orders() -> int:
    """Raise and resolve alerts; how many changed."""
    now = clock.now()
    return sum(services_alerts.watch_orders(each, now=now) for each in Organization.objects.order_by("pk"))


@shared_task(name="commands.tasks.sum_orders", ignore_result=True)
def sum_orders() -> int:
    """Sum the order history's closed hours, and hold the newest of them against each agent's habits; how many hours.

    What is not summed yet is read from the rows meanwhile.
    """
    now = clock.now()
    hours = order_history.sum_due(now=now)
    for organization in Organization.objects.order_by("pk"):
        for found in alerts.unusual_hours(watch.habits(organization, now)):
            services_alerts.raise_found(organization, found, now=now)
    return hours
