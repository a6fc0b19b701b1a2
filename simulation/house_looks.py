"""What the house looks up to spare its parts a look that would find nothing: plain questions to the store."""

from __future__ import annotations

import os
from pathlib import Path

from django.db import connection

from commands.models import BreakerTrip, Execution, Grant, Halt, Proposal
from roasts.models import OPEN as OPEN_ROAST
from roasts.models import EventKind, Roast, RoastEvent
from simulation.house_store import Store

_MOST = 3
_ORDERS, _HALTS = f'"{Proposal._meta.db_table}"', f'"{Halt._meta.db_table}"'
_ANY_ORDER = f"SELECT EXISTS (SELECT 1 FROM {_ORDERS} WHERE machine_id = %s AND status IN (%s, %s, %s))"
_ANY_HALT = f"SELECT EXISTS (SELECT 1 FROM {_HALTS} WHERE machine_id = %s AND closed_at IS NULL)"
_ANY_INCIDENT = (
    f"SELECT EXISTS (SELECT 1 FROM {_ORDERS} WHERE status = 'FAILED' AND proposer_agent_id IS NOT NULL) "
    f"OR EXISTS (SELECT 1 FROM {_HALTS} WHERE kind = 'interlock')"
)


_EVENTS, _ROASTS = f'"{RoastEvent._meta.db_table}"', f'"{Roast._meta.db_table}"'
_IN_DRUM = ", ".join(f"'{status}'" for status in OPEN_ROAST)
_ANY_CRACK = (
    f"SELECT EXISTS (SELECT 1 FROM {_EVENTS} e JOIN {_ROASTS} r ON r.id = e.roast_id "
    f"WHERE r.machine_id = %s AND r.status IN ({_IN_DRUM}) "
    f"AND e.kind = '{EventKind.FIRST_CRACK_START.value}' AND e.withdrawn_at IS NULL)"
)


#: What a breaker looks at (`commands/history/services_breakers.py`): it finds from rows, and never for time alone.
_OF_BREAKERS = tuple(model._meta.db_table for model in (Proposal, Execution, Halt, Grant, BreakerTrip))
_OF_ORDERS, _OF_HALTS = (Proposal._meta.db_table,), (Halt._meta.db_table,)
_OF_CRACKS = (RoastEvent._meta.db_table, Roast._meta.db_table)


class Looks:
    """The answers, kept until one of the tables they come from is written to."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._answers: dict[tuple[str, ...], tuple[int, bool]] = {}
        self._tripped_at = -1

    def has_orders(self, machine_id: str, *statuses: str) -> bool:
        """Any order of this machine that stands there. Three statuses at most."""
        return self._any(_OF_ORDERS, _ANY_ORDER, machine_id, *statuses, *[""] * (_MOST - len(statuses)))

    def has_halts(self, machine_id: str) -> bool:
        """Any open halt."""
        return self._any(_OF_HALTS, _ANY_HALT, machine_id)

    def has_new_incidents(self) -> bool:
        """With no failed order of an agent and no interlock, breakers find nothing; nor where, since this was asked
        last, nothing of what they look at was written."""
        version = self._store.writes.of(_OF_BREAKERS)
        if version == self._tripped_at:
            return False
        self._tripped_at = version
        return self._any((*_OF_ORDERS, *_OF_HALTS), _ANY_INCIDENT)

    def has_cracked(self, machine_id: str) -> bool:
        """The open roast is past its first crack, as far as the record says."""
        return self._any(_OF_CRACKS, _ANY_CRACK, machine_id)

    def _any(self, tables: tuple[str, ...], query: str, *values: str) -> bool:
        question, version = (query, *values), self._store.writes.of(tables)
        known = self._answers.get(question)
        if known is None or known[0] != version:
            with connection.cursor() as cursor:
                cursor.execute(query, values)
                known = self._answers[question] = (version, bool(cursor.fetchone()[0]))
        return known[1]


def has_json(folder: Path) -> bool:
    """Whether anything is written down there."""
    try:
        return any(name.endswith(".json") for name in os.listdir(folder))
    except FileNotFoundError:
        return False
