"""What the house looks up to spare its parts a look that would find nothing: plain questions to the store."""

from __future__ import annotations

from django.db import connection

from commands.models import Halt, Proposal

_MOST = 3
_ORDERS, _HALTS = f'"{Proposal._meta.db_table}"', f'"{Halt._meta.db_table}"'
_ANY_ORDER = f"SELECT EXISTS (SELECT 1 FROM {_ORDERS} WHERE machine_id = %s AND status IN (%s, %s, %s))"
_ANY_HALT = f"SELECT EXISTS (SELECT 1 FROM {_HALTS} WHERE machine_id = %s AND closed_at IS NULL)"
_ANY_INCIDENT = (
    f"SELECT EXISTS (SELECT 1 FROM {_ORDERS} WHERE status = 'FAILED' AND proposer_agent_id IS NOT NULL) "
    f"OR EXISTS (SELECT 1 FROM {_HALTS} WHERE kind = 'interlock')"
)


def has_orders(machine_id: str, *statuses: str) -> bool:
    """Any order of this machine that stands there. Three statuses at most."""
    return _any(_ANY_ORDER, machine_id, *statuses, *[""] * (_MOST - len(statuses)))


def has_halts(machine_id: str) -> bool:
    """Any open halt."""
    return _any(_ANY_HALT, machine_id)


def has_incidents() -> bool:
    """With no failed order of an agent and no interlock, breakers find nothing."""
    return _any(_ANY_INCIDENT)


def _any(query: str, *values: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return bool(cursor.fetchone()[0])
