"""What waits in the store for one machine's loop: asked several times a second, so one statement each, planned once.

Most looks find nothing. Only where one finds something are the rows themselves read.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Exists, FilteredRelation, OuterRef, Q

from commands.models import Halt, Proposal, Status
from kernel.prepared import Prepared, PreparedObjects
from roasts.models import PLANNED, Machine, RoastStatus
from roasts.recording.planned import PlannedBatch

#: The bounds of a machine that its loop and keeper make safe by.
BOUNDS = (
    "max_bean_temp_c", "max_infrared_temp_c", "max_exhaust_temp_c", "max_rate_of_rise_c_per_min", "max_heat_time_s",
)  # fmt: skip
#: What only the executor can bring to an end.
TO_CARRY_OUT = (Status.APPROVED.value, Status.EXECUTING.value, Status.IN_DOUBT.value)

_ORDERS = Prepared(
    lambda machine: (
        Proposal.objects.filter(machine_id=machine, status__in=TO_CARRY_OUT)
        .order_by()
        .values_list("status")
        .distinct()
    ),
    "machine",
)
_HELD = Proposal.objects.filter(machine_id=OuterRef("pk"), status=Status.PENDING_APPROVAL.value)
_HALTS = Halt.objects.filter(machine_id=OuterRef("pk"), closed_at__isnull=True)
_MACHINE = Prepared(
    lambda machine: (
        Machine.objects.filter(pk=machine)
        .order_by()
        .annotate(
            has_held=Exists(_HELD),
            is_halted=Exists(_HALTS),
            planned=FilteredRelation("roasts", condition=Q(roasts__status__in=PLANNED)),  # at most one
        )
        .values_list(
            "is_archived", "is_remote", "has_held", "is_halted",
            "planned__id", "planned__started_at", "planned__status", *BOUNDS,
        )
    ),
    "machine",
)  # fmt: skip


_OPEN_HALTS = PreparedObjects(
    lambda machine: Halt.objects.filter(machine_id=machine, closed_at__isnull=True).select_related("organization"),
    "machine",
)


def open_halts(machine_id: str) -> list[Halt]:
    """What halts it, the newest first. DatabaseError."""
    return _OPEN_HALTS.rows(machine=machine_id)


@dataclass(frozen=True, slots=True)
class AtMachine:
    """What the store says of a machine now. ``bounds``: the values of `BOUNDS`, in °C, °C/min and s."""

    is_ours: bool  # there, not archived, and not fed by a bridge
    has_held_orders: bool
    is_halted: bool
    bounds: tuple[float | None, ...]
    planned: PlannedBatch | None = None


def orders_to_carry_out(machine_id: str) -> frozenset[str]:
    """The statuses of `TO_CARRY_OUT` that orders of this machine stand at. DatabaseError."""
    return frozenset(status for (status,) in _ORDERS.rows(machine=machine_id))


def at_machine(machine_id: str) -> AtMachine | None:
    """None: the machine is gone. DatabaseError."""
    row = _MACHINE.first(machine=machine_id)
    if row is None:
        return None
    is_archived, is_remote, has_held, is_halted, planned_id, planned_at, planned_status, *bounds = row
    is_preheating = planned_status == RoastStatus.PREHEATING.value
    planned = None if planned_id is None else PlannedBatch(planned_id, planned_at, is_preheating)
    return AtMachine(not is_archived and not is_remote, bool(has_held), bool(is_halted), tuple(bounds), planned)
