"""Standing work on the order history: sums of closed hours. Tasks; rows are the truth, each may run twice or never."""

from __future__ import annotations

from celery import shared_task

from commands import order_history
from kernel import clock


@shared_task(name="commands.tasks.sum_orders", ignore_result=True)
def sum_orders() -> int:
    """Sum the order history's closed hours; how many. What is not summed yet is read from the rows meanwhile."""
    return order_history.sum_due(now=clock.now())
