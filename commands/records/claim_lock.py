"""A claim and what forbids it (a halt, "I have it", a pause) never pass each other unseen: both lock the lease.

Whoever forbids commits before a claim, and the claim sees it; or after it, and finds the order on the wire. A machine's
lease is locked before a plan and before orders, by everybody.
"""

from __future__ import annotations

from django.db.models import Exists, OuterRef

from commands.models import Halt, MachineLease, Suspension
from commands.rules.values import Situation
from kernel.prepared import Prepared
from roasts.models import MachineReading


class OutOfDate(Exception):
    """The governor's picture is older than something that forbids the order now: take a new one and ask again."""


def hold_claims(machine_id: str) -> int | None:
    """Until this transaction ends nobody claims an order of the machine, and nobody forbids it or takes the machine
    over. Its lease's token; None where nobody ever tended it."""
    row = _LEASE.first(machine=machine_id)
    return None if row is None else row[0]


_LEASE = Prepared(
    lambda machine: MachineLease.objects.select_for_update().filter(pk=machine).order_by().values_list("token"),
    "machine",
)
_FORBIDDING = Prepared(
    lambda machine: (
        MachineReading.objects.filter(pk=machine)
        .order_by()
        .values_list(
            "is_orders_paused",
            Exists(Halt.objects.filter(machine_id=OuterRef("pk"), closed_at__isnull=True)),
            Exists(Suspension.objects.filter(machine_id=OuterRef("pk"), given_back_at__isnull=True)),
        )
    ),
    "machine",
)


def is_forbidden_since(situation: Situation, machine_id: str) -> bool:
    """Whether a halt, a pause or (for an agent's order) "I have it" stands that was not there when the governor's
    picture was taken. Asked with `hold_claims` held."""
    row = _FORBIDDING.first(machine=machine_id)
    if row is None:
        return False
    is_paused, is_halted, is_taken = row
    return (
        (is_paused and not situation.is_orders_paused)
        or (is_halted and not situation.halts)
        or (is_taken and situation.order.is_by_agent and situation.suspended_by is None)
    )
