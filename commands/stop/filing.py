"""Halts into the store: from STOP right after the wire, from the loop as last resort. Idempotent by stop."""

from __future__ import annotations

import datetime as dt

from commands import services
from commands.models import Halt
from commands.stop.journal import HaltNote
from kernel.models import Organization
from kernel.prepared import PreparedObjects
from kernel.principals import Principal
from roasts.models import Machine


class UnknownMachine(Exception):
    """The note names a machine that the store does not have (another data folder's, or a reset demo's)."""


_MACHINE = PreparedObjects(
    lambda machine: Machine.objects.select_related("organization").filter(pk=machine).order_by(), "machine"
)
_HALT = PreparedObjects(lambda halt: Halt.objects.select_related("organization").filter(pk=halt).order_by(), "halt")


def file_note(note: HaltNote, *, now: dt.datetime) -> Halt:
    """Open the halt if none of its kind is open, and record what came of it. UnknownMachine, DatabaseError."""
    machine = _MACHINE.first(machine=note.machine_id)
    if machine is None:
        raise UnknownMachine(note.machine_id)
    known = _HALT.first(halt=note.halt_id)
    halt = known or services.open_halt(
        machine,
        kind=note.kind,
        code=note.code,
        by=_principal(note, machine.organization),
        stop_id=note.halt_id,
        halt_id=note.halt_id,
        now=_opened_at(note) or now,
    )
    if note.result and halt.closed_at is None and _says_more(note, halt):
        halt = services.update_halt_result(
            halt,
            result=note.result,
            first_byte_ms=note.first_byte_ms,
            proved_ms=note.proved_ms,
            by_hand=note.by_hand,
            proof=note.proof,
            now=now,
        )
    return halt


def _opened_at(note: HaltNote) -> dt.datetime | None:
    """When the note says; None where it says nothing that is a moment: one broken note must not block the rest."""
    try:
        at = dt.datetime.fromisoformat(note.opened_at)
    except ValueError:
        return None
    return at if at.tzinfo is not None else None


def _says_more(note: HaltNote, halt: Halt) -> bool:
    """A second press does not overwrite the first one's proof, unless heat is unproved now. Of one press a proof
    stands: its "not proved yet" may arrive late, from the journal."""
    if halt.pk == note.stop_id and halt.result == "heat_off" and note.result == "unproved":
        return False
    return halt.pk == note.stop_id or halt.result in ("", "unproved") or note.result == "unproved"


def _principal(note: HaltNote, organization: Organization) -> Principal:
    return Principal(
        kind="person" if note.by_kind == "person" else "system",
        id=note.by_id,
        name=note.by_name,
        organization=organization,
        via="system",
    )
