"""Orders of a stretch of time as records, straight from their rows: one statement, its columns text and whole numbers.

Written by hand: an hour's five hundred orders took the ORM 15 ms, most of it making times and documents of which a
difference and one word are told.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
from django.db import connection

from commands.history import analytics
from commands.history.analytics import (
    APPROVED,
    BY_AGENT,
    INTERVENED,
    MAX_MS,
    NOTHING_MS,
    RECORD,
    REFUSED,
    REJECTED,
    STATUSES,
    Orders,
)
from commands.lifecycle import Actor, Status
from commands.models import Execution, Proposal, ProposalTransition
from commands.reasons import Code, Decision
from kernel import prepared

#: Rows at once, when the running hour is read: 90 minutes at 250 orders a second.
MAX_ROWS = 1_500_000
_MICROSECONDS = {
    "postgresql": "(extract(epoch FROM {0}) * 1000000)::bigint",
    # Text in UTC, its fraction of a second left out where it is nought.
    "sqlite": "(CAST(strftime('%%s', {0}) AS integer) * 1000000 + CASE WHEN length({0}) > 19 "
    "THEN CAST(substr({0} || '000000', 21, 6) AS integer) ELSE 0 END)",
}
#: Of the first reason that refused.
_REFUSING_CODE = {
    "postgresql": f"jsonb_path_query_first(p.reasons, '$[*] ? (@.decision == \"{Decision.REFUSE.value}\")') ->> 'code'",
    "sqlite": "(SELECT json_extract(value, '$.code') FROM json_each(p.reasons) "
    f"WHERE json_extract(value, '$.decision') = '{Decision.REFUSE.value}' LIMIT 1)",
}
_ENDED = f"('{Status.REJECTED.value}', '{Status.ABORTED.value}')"
_BY_PERSON = (
    f"EXISTS (SELECT 1 FROM {ProposalTransition._meta.db_table} t WHERE t.proposal_id = p.id "
    f"AND t.to_status IN {_ENDED} AND t.actor_kind = '{Actor.PERSON.value}')"
)
_IS_REFUSED_AT_ONCE = f"p.decision = '{Decision.REFUSE.value}'"
_NOTHING = -(2**62)  # microseconds that nobody waits
_COLUMNS = (
    "p.machine_id",
    "coalesce(p.proposer_agent_id, '')",
    "p.order_type",
    "p.status",
    f"CASE WHEN NOT {_IS_REFUSED_AT_ONCE} AND p.status IN {_ENDED} AND {_BY_PERSON} THEN 1 ELSE 0 END",
    f"CASE WHEN {_IS_REFUSED_AT_ONCE} THEN {{refusing_code}} END",
    "p.rejection_code",
    f"CASE WHEN p.outcome_code = '{Code.SUSPENDED.value}' THEN 1 ELSE 0 END",
    "CASE WHEN p.approver_id IS NULL THEN 0 ELSE 1 END",
    "CASE WHEN p.abort_requested_by_id IS NULL THEN 0 ELSE 1 END",
    "{proposed}",
    f"coalesce({{decided}}, {_NOTHING})",
    f"coalesce({{concluded}} - {{claimed}}, {_NOTHING})",
)


def read(
    organization_id: str, begin: dt.datetime, end: dt.datetime, *, machine: str, agent: str | None, order_type: str
) -> Orders:
    """Orders proposed in [begin, end), of a machine and a type ("": all) and an agent ("": people; None: everybody)."""
    at = connection.ops.adapt_datetimefield_value
    values: dict[str, Any] = {"organization": organization_id, "begin": at(begin), "end": at(end)}
    asked = ["p.organization_id = %(organization)s", "p.proposed_at >= %(begin)s", "p.proposed_at < %(end)s"]
    for column, value in (("machine_id", machine), ("proposer_agent_id", agent), ("order_type", order_type)):
        if value:
            asked.append(f"p.{column} = %({column})s")
            values[column] = value
    if agent == "":
        asked.append("p.proposer_agent_id IS NULL")
    return _as_orders(prepared.run(_statement(asked), values))


def _statement(asked: list[str]) -> str:
    vendor = connection.vendor
    times = {"proposed": "p.proposed_at", "decided": "p.decided_at", "claimed": "e.claimed_at"}
    times["concluded"] = "e.concluded_at"
    microseconds = {name: _MICROSECONDS[vendor].format(column) for name, column in times.items()}
    columns = ", ".join(_COLUMNS).format(refusing_code=_REFUSING_CODE[vendor], **microseconds)
    return (
        f"SELECT {columns} FROM {Proposal._meta.db_table} p "
        f"LEFT JOIN {Execution._meta.db_table} e ON e.proposal_id = p.id WHERE {' AND '.join(asked)} LIMIT {MAX_ROWS}"
    )


def _as_orders(rows: list[tuple[Any, ...]]) -> Orders:
    """The rows as records; what happened to an order is told as docs/analytics.md defines it."""
    if not rows:
        return Orders(np.empty(0, dtype=RECORD))
    names: dict[str, int] = {"": 0}
    found = [_record(row, names) for row in rows]
    records = np.empty(len(rows), dtype=RECORD)
    columns = ("machine", "agent", "code", "order_type", "status", "flags")
    for name, column in zip(columns, zip(*found, strict=True), strict=True):
        records[name] = column
    proposed_us, decided_us, executed_us = (
        np.array(column, dtype=np.int64) for column in zip(*(row[-3:] for row in rows), strict=True)
    )
    is_approved = (records["flags"] & APPROVED != 0) & (decided_us != _NOTHING)
    is_ended = np.isin(records["status"], _ENDED_INDICES) & (executed_us != _NOTHING)
    records["at_us"] = proposed_us
    records["approval_ms"] = np.where(is_approved, _ms(decided_us - proposed_us), NOTHING_MS)
    records["execution_ms"] = np.where(is_ended, _ms(executed_us), NOTHING_MS)
    return Orders(records, tuple(names))


_ENDED_INDICES = [STATUSES.index(status.value) for status in (Status.COMPLETED, Status.FAILED)]


def _record(row: tuple[Any, ...], names: dict[str, int]) -> tuple[int, ...]:
    """Machine, agent and code by their place among the names, then type, status and flags."""
    (machine, agent, order_type, status, is_by_person, refusing, rejected_for, is_suspended, is_approved, is_aborted,
     *_times) = row  # fmt: skip
    flags, code = (APPROVED if is_approved else 0) | (BY_AGENT if agent else 0), ""
    is_cut_short = is_aborted or (status == Status.ABORTED and (is_by_person or is_suspended))
    if status == Status.REJECTED and is_by_person:
        flags |= REJECTED
        is_cut_short = True
    elif status == Status.REJECTED:
        flags |= REFUSED
        code = refusing or rejected_for or Code.NO_RULES.value
    if agent and is_cut_short:
        flags |= INTERVENED
    return (
        names.setdefault(machine, len(names)),
        names.setdefault(agent, len(names)),
        names.setdefault(code, len(names)),
        analytics.TYPE_INDEX[order_type],
        analytics.STATUS_INDEX[status],
        flags,
    )


def _ms(microseconds: np.ndarray) -> np.ndarray:
    """Whole milliseconds, as ``round(timedelta.total_seconds() * 1000)`` has them, within what a record holds."""
    return np.clip(np.rint(microseconds / 1e6 * 1000.0), 0, MAX_MS)
