"""The life of an order: which status may follow which, and who may move it. Pure.

The same table stands in the database as a trigger (``migrations/0002_guards.py``); a test compares them.
"""

from __future__ import annotations

import enum


class Status(enum.StrEnum):
    """Where an order stands."""

    PROPOSED = "PROPOSED"  # being judged: only inside the transaction that files it
    PENDING_APPROVAL = "PENDING_APPROVAL"  # held for a person
    APPROVED = "APPROVED"  # may go on the wire, has not
    REJECTED = "REJECTED"  # refused by the governor, or rejected by a person
    EXECUTING = "EXECUTING"  # claimed: bytes may be leaving
    COMPLETED = "COMPLETED"  # read back at the target
    FAILED = "FAILED"  # ended elsewhere, or nothing left
    ABORTED = "ABORTED"  # called off before the wire (superseded, void, halted, withdrawn), or on it by a person
    TIMEOUT = "TIMEOUT"  # its time ran out before the wire
    IN_DOUBT = "IN_DOUBT"  # bytes may have left; resolved by reading, never by sending again


class Actor(enum.StrEnum):
    """Who may make a move."""

    PERSON = "person"
    AGENT = "agent"
    SYSTEM = "system"  # governor, sweeper, machine loop


#: Statuses nothing follows.
SETTLED = frozenset({Status.REJECTED, Status.COMPLETED, Status.FAILED, Status.ABORTED, Status.TIMEOUT})
#: Orders that may still move a control.
UNSETTLED = frozenset(Status) - SETTLED
#: Not yet claimed: may be called off without touching the machine.
BEFORE_THE_WIRE = frozenset({Status.PROPOSED, Status.PENDING_APPROVAL, Status.APPROVED})
#: Bytes may have left, the end is not known yet.
ON_THE_WIRE = frozenset({Status.EXECUTING, Status.IN_DOUBT})
#: Counted against intervals and counts: moved a control, or is about to.
COUNTED = frozenset({Status.APPROVED, Status.EXECUTING, Status.COMPLETED, Status.FAILED, Status.IN_DOUBT})
#: An order in one of these has an Execution. (One that was stopped in mid-execution is ABORTED and has one, too.)
EXECUTED = frozenset({Status.EXECUTING, Status.COMPLETED, Status.FAILED, Status.IN_DOUBT})

_SYSTEM = frozenset({Actor.SYSTEM})
_PERSON = frozenset({Actor.PERSON})
_PERSON_OR_SYSTEM = _PERSON | _SYSTEM
_ANYBODY = frozenset(Actor)

#: status -> {following status: who may move it there}
NEXT: dict[Status, dict[Status, frozenset[Actor]]] = {
    Status.PROPOSED: {
        Status.PENDING_APPROVAL: _SYSTEM,
        Status.APPROVED: _SYSTEM,
        Status.REJECTED: _SYSTEM,
    },
    Status.PENDING_APPROVAL: {
        Status.APPROVED: _PERSON_OR_SYSTEM,  # the system: only where a veto window ended (a trigger holds it to that)
        Status.REJECTED: _PERSON,
        Status.ABORTED: _ANYBODY,  # an agent may withdraw its own
        Status.TIMEOUT: _SYSTEM,
    },
    Status.APPROVED: {
        Status.EXECUTING: _SYSTEM,
        Status.REJECTED: _SYSTEM,  # refused at the last moment
        Status.ABORTED: _PERSON_OR_SYSTEM,
        Status.TIMEOUT: _SYSTEM,
    },
    Status.EXECUTING: {
        Status.COMPLETED: _SYSTEM,
        Status.FAILED: _SYSTEM,
        Status.ABORTED: _SYSTEM,  # a person asked; nothing more was sent, and the control was read back
        Status.IN_DOUBT: _SYSTEM,
    },
    Status.IN_DOUBT: {
        Status.COMPLETED: _PERSON_OR_SYSTEM,
        Status.FAILED: _PERSON_OR_SYSTEM,
    },
    Status.REJECTED: {},
    Status.COMPLETED: {},
    Status.FAILED: {},
    Status.ABORTED: {},
    Status.TIMEOUT: {},
}


def may_move(old: str, new: str, actor: str) -> bool:
    """True when the table lets ``actor`` take an order from ``old`` to ``new``; unknown words never do."""
    try:
        return Actor(actor) in NEXT[Status(old)].get(Status(new), frozenset())
    except ValueError:
        return False


def moves() -> list[tuple[str, str]]:
    """Every allowed (from, to), sorted: what the database's trigger must say too."""
    return sorted((old.value, new.value) for old, followers in NEXT.items() for new in followers)
