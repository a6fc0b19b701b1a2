"""The laws of the house, asked of the database after every step, of the wire as it happens, of the chain at the end.

Every law is one SELECT that finds its breaches (nothing found: kept), all of them in one statement. What can be seen
only over time (moves, lease tokens, the wire) is followed row by row. Each law also says how often it had something to
look at, so that `simulation/sometimes.py` can tell a law that was kept from one that was never put to the test.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import hashlib
import json
import re
from collections.abc import Callable
from typing import Any

from django.db import connection, models

from commands.models import (
    Approval,
    Attendance,
    Execution,
    Grant,
    Halt,
    MachineLease,
    Plan,
    Proposal,
    ProposalTransition,
    Suspension,
)
from kernel.models import Agent, AuditEntry, AuditSeal, StreamEvent
from roasts.models import Machine, MachineReading
from simulation import oracle
from simulation.house import House
from simulation.sometimes import Sometimes
from simulation.virtual_clock import BEGIN

HEATER_UP = bytes.fromhex("3401aaaa")


def _table(model: type[models.Model]) -> str:
    return f'"{model._meta.db_table}"'


_P, _E, _T, _H = _table(Proposal), _table(Execution), _table(ProposalTransition), _table(Halt)
_G, _S, _A, _M = _table(Grant), _table(Suspension), _table(Agent), _table(Machine)
_AUDIT, _STREAM = _table(AuditEntry), _table(StreamEvent)
_UNSETTLED = "('PENDING_APPROVAL', 'APPROVED', 'EXECUTING', 'IN_DOUBT')"
_IS_LESS_HEAT = "(p.proposer_user_id IS NOT NULL AND p.control = 'heater' AND p.target_step < e.from_step)"
#: law → SELECT of the ids that break it.
LAWS: dict[str, str] = {
    "one execution per order": f"SELECT proposal_id FROM {_E} GROUP BY proposal_id HAVING COUNT(*) > 1",
    "no effect without consent": (
        f"SELECT p.id FROM {_E} e JOIN {_P} p ON p.id = e.proposal_id "
        "WHERE p.proposer_agent_id IS NOT NULL AND p.decision = 'HOLD' AND (p.approver_id IS NULL OR NOT EXISTS "
        f"(SELECT 1 FROM {_T} t WHERE t.proposal_id = p.id AND t.to_status = 'APPROVED' AND t.actor_kind = 'person'))"
    ),
    "an order that was refused moves nothing": (
        f"SELECT p.id FROM {_E} e JOIN {_P} p ON p.id = e.proposal_id WHERE p.decision = 'REFUSE'"
    ),
    "nobody approves their own order": (
        f"SELECT p.id FROM {_P} p LEFT JOIN {_A} a ON a.id = p.proposer_agent_id "
        "WHERE p.approver_id IS NOT NULL AND (p.approver_id = p.proposer_user_id OR p.approver_id = a.owner_id)"
    ),
    "exactly what was approved": (
        f"SELECT id FROM {_P} WHERE approver_id IS NOT NULL AND approved_digest <> digest"
    ),
    "no claim after the deadline": (
        f"SELECT p.id FROM {_E} e JOIN {_P} p ON p.id = e.proposal_id WHERE e.claimed_at >= p.expires_at"
    ),
    "a halted machine is left alone": (
        f"SELECT p.id FROM {_E} e JOIN {_P} p ON p.id = e.proposal_id JOIN {_H} h ON h.machine_id = e.machine_id "
        "WHERE e.claimed_at > h.opened_at AND (h.closed_at IS NULL OR e.claimed_at < h.closed_at) "
        f"AND NOT {_IS_LESS_HEAT}"
    ),
    "agents keep off a machine that a person has": (
        f"SELECT p.id FROM {_E} e JOIN {_P} p ON p.id = e.proposal_id JOIN {_S} s ON s.machine_id = e.machine_id "
        "WHERE p.proposer_agent_id IS NOT NULL AND e.claimed_at > s.taken_at "
        "AND (s.given_back_at IS NULL OR e.claimed_at < s.given_back_at)"
    ),
    "an agent's order is sent from where it was proposed": (
        f"SELECT p.id FROM {_E} e JOIN {_P} p ON p.id = e.proposal_id "
        "WHERE p.proposer_agent_id IS NOT NULL AND e.from_step <> p.from_step"
    ),
    "on the wire means executed": (
        f"SELECT p.id FROM {_P} p WHERE p.status IN ('EXECUTING', 'COMPLETED', 'FAILED', 'IN_DOUBT') "
        f"AND NOT EXISTS (SELECT 1 FROM {_E} e WHERE e.proposal_id = p.id)"
    ),
    "before the wire means not executed": (
        f"SELECT p.id FROM {_P} p JOIN {_E} e ON e.proposal_id = p.id "
        "WHERE p.status IN ('PROPOSED', 'PENDING_APPROVAL', 'APPROVED', 'REJECTED', 'TIMEOUT')"
    ),
    "as many yeses as are needed": (
        f"SELECT p.id FROM {_E} e JOIN {_P} p ON p.id = e.proposal_id WHERE p.decision = 'HOLD' "
        f"AND (SELECT COUNT(*) FROM {_table(Approval)} y WHERE y.proposal_id = p.id) < p.approvals_needed"
    ),
    "done is read back": (
        f"SELECT id FROM {_P} WHERE status = 'COMPLETED' AND control <> '' "
        "AND (actual_step IS NULL OR actual_step <> target_step)"
    ),
    "settled has a time": (
        f"SELECT id FROM {_P} WHERE (status IN ('REJECTED', 'COMPLETED', 'FAILED', 'ABORTED', 'TIMEOUT')) "
        "<> (settled_at IS NOT NULL)"
    ),
    "one unsettled agent's order per control": (
        f"SELECT MIN(id) FROM {_P} WHERE proposer_agent_id IS NOT NULL AND status IN {_UNSETTLED} "
        "AND plan_id IS NULL GROUP BY machine_id, control HAVING COUNT(*) > 1"
    ),
    "advice is adopted once": (
        f"SELECT MIN(id) FROM {_P} WHERE adopted_from_id IS NOT NULL AND status <> 'REJECTED' "
        "GROUP BY adopted_from_id HAVING COUNT(*) > 1"
    ),
    "one open halt of a kind": (
        f"SELECT MIN(id) FROM {_H} WHERE closed_at IS NULL GROUP BY machine_id, kind HAVING COUNT(*) > 1"
    ),
    "one live grant": (
        f"SELECT MIN(id) FROM {_G} WHERE revoked_at IS NULL GROUP BY agent_id, machine_id HAVING COUNT(*) > 1"
    ),
    "one suspension": (
        f"SELECT MIN(id) FROM {_S} WHERE given_back_at IS NULL GROUP BY machine_id HAVING COUNT(*) > 1"
    ),
    "orders stay in their organisation": (
        f"SELECT p.id FROM {_P} p JOIN {_M} m ON m.id = p.machine_id LEFT JOIN {_A} a ON a.id = p.proposer_agent_id "
        "WHERE p.organization_id <> m.organization_id OR a.organization_id <> p.organization_id"
    ),
    "grants stay in their organisation": (
        f"SELECT g.id FROM {_G} g JOIN {_M} m ON m.id = g.machine_id JOIN {_A} a ON a.id = g.agent_id "
        "WHERE g.organization_id <> m.organization_id OR g.organization_id <> a.organization_id"
    ),
    "every move is in the audit trail": (
        f"SELECT p.id FROM {_P} p WHERE (SELECT COUNT(*) FROM {_T} t WHERE t.proposal_id = p.id "
        "AND t.from_status <> '') "
        f"> (SELECT COUNT(*) FROM {_AUDIT} a WHERE a.subject_kind = 'proposal' AND a.subject_id = p.id)"
    ),
    "every move is in the stream": (
        f"SELECT p.id FROM {_P} p WHERE (SELECT COUNT(*) FROM {_T} t WHERE t.proposal_id = p.id "
        "AND t.from_status <> '') "
        f"> (SELECT COUNT(*) FROM {_STREAM} s WHERE s.kind = 'proposal' AND s.subject_id = p.id)"
    ),
    "audit and stream name the right organisation": (
        f"SELECT p.id FROM {_P} p JOIN {_AUDIT} a ON a.subject_kind = 'proposal' AND a.subject_id = p.id "
        "WHERE a.organization_id <> p.organization_id "
        f"UNION ALL SELECT p.id FROM {_P} p JOIN {_STREAM} s ON s.kind = 'proposal' AND s.subject_id = p.id "
        "WHERE s.organization_id <> p.organization_id"
    ),
    "every grant is in the audit trail": (
        f"SELECT g.id FROM {_G} g WHERE (CASE WHEN g.revoked_at IS NULL THEN 1 ELSE 2 END) "
        f"> (SELECT COUNT(*) FROM {_AUDIT} a WHERE a.subject_kind = 'grant' AND a.subject_id = g.id)"
    ),
    "every halt is in the audit trail": (
        f"SELECT h.id FROM {_H} h WHERE (CASE WHEN h.closed_at IS NULL THEN 1 ELSE 2 END) "
        f"> (SELECT COUNT(*) FROM {_AUDIT} a WHERE a.subject_kind = 'halt' AND a.subject_id = h.id)"
    ),
    "every suspension is in the audit trail": (
        f"SELECT s.id FROM {_S} s WHERE (CASE WHEN s.given_back_at IS NULL THEN 1 ELSE 2 END) "
        f"> (SELECT COUNT(*) FROM {_AUDIT} a WHERE a.subject_kind = 'suspension' AND a.subject_id = s.id)"
    ),
    "a plan's orders go in turn": (
        f"SELECT p.id FROM {_E} e JOIN {_P} p ON p.id = e.proposal_id JOIN {_P} q ON q.plan_id = p.plan_id "
        "WHERE q.plan_position < p.plan_position AND (q.status <> 'COMPLETED' OR q.settled_at > e.claimed_at)"
    ),
    "part of a plan is decided as the whole": (
        f"SELECT p.id FROM {_P} p JOIN {_table(Plan)} n ON n.id = p.plan_id WHERE p.decision <> n.decision "
        "OR p.significance <> n.significance "
        "OR (p.approver_id IS NOT NULL AND (n.approver_id IS NULL OR n.approver_id <> p.approver_id))"
    ),
    "a lease token only rises": (
        f"SELECT e.proposal_id FROM {_E} e JOIN {_E} f ON f.machine_id = e.machine_id AND f.claimed_at > e.claimed_at "
        "WHERE f.lease_token < e.lease_token"
    ),
}
_NAMES = list(LAWS)
#: law → the tables it speaks of: what it finds changes only where one of them was written.
SPEAKS_OF = {law: tuple(sorted(set(re.findall(r'"(\w+)"', query)))) for law, query in LAWS.items()}


@functools.lru_cache(maxsize=500)
def _asking(places: tuple[int, ...]) -> str:
    """Those laws in one statement."""
    queries = list(LAWS.values())
    return " UNION ALL ".join(f"SELECT {place}, found.* FROM ({queries[place]}) found" for place in places)


_ORDERS = (
    "SELECT id, status, decision, reasons, digest, expires_at, outcome_code, rejection_code, seen_rate_c_per_min, "
    "decided_at, settled_at, target_step, approvals_needed, actual_step, plan_id, plan_position "
    f"FROM {_P} WHERE organization_id = %s ORDER BY id"
)
_ORDER_NAMES = (
    "id", "status", "decision", "reasons", "digest", "expires_s", "outcome_code", "rejection_code", "seen_rate",
    "decided_s", "settled_s", "target_step", "approvals_needed", "actual_step", "plan_id", "plan_position",
)  # fmt: skip
_FACTS = (
    f"SELECT 'halt', kind || ' ' || code FROM {_H} WHERE closed_at IS NULL AND machine_id = %s "
    f"UNION ALL SELECT 'suspended', id FROM {_S} WHERE given_back_at IS NULL AND machine_id = %s "
    f"UNION ALL SELECT 'paused', machine_id FROM {_table(MachineReading)} WHERE is_orders_paused AND machine_id = %s "
    "UNION ALL SELECT 'grant ' || COALESCE(NULLIF(lowered_to, ''), level), id "
    f"FROM {_G} WHERE revoked_at IS NULL AND machine_id = %s"
)
_COUNTS = {
    "executions": f"SELECT COUNT(*) FROM {_E}",
    "approved executions": f"SELECT COUNT(*) FROM {_E} e JOIN {_P} p ON p.id = e.proposal_id "
    "WHERE p.approver_id IS NOT NULL",
    "halts": f"SELECT COUNT(*) FROM {_H}",
    "audit of moves": f"SELECT COUNT(*) FROM {_AUDIT} WHERE subject_kind = 'proposal'",
    "stream of moves": f"SELECT COUNT(*) FROM {_STREAM} WHERE kind = 'proposal'",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """What stands over the machine. ``levels``: live grants and what they are worth."""

    halts: frozenset[str]
    halt_words: str
    is_paused: bool
    is_suspended: bool
    levels: dict[str, str]


class Watch:
    """The laws of one example."""

    def __init__(self, house: House, sometimes: Sometimes) -> None:
        self._house = house
        self._sometimes = sometimes
        self._last_transition = self._scalar(f"SELECT COALESCE(MAX(id), 0) FROM {_T}")
        self._statuses: dict[str, str] = {}
        self._token = 0
        self._breaches: list[str] = []
        self._asked_at: dict[str, int] = {}  # law → what was written to its tables when it was asked last
        self._read_at, self._rows_by_id = -1, dict[str, tuple[Any, ...]]()
        self._orders: list[dict[str, Any]] = []
        self._plans_at, self._plans = -1, dict[str, dict[str, str]]()
        self._commands = 0
        self._seen_writes: dict[str, int] = {}
        house.on_command = self._on_command

    # -- what the database holds --

    def orders(self) -> list[dict[str, Any]]:
        """Our organisation's orders, by id; times in seconds since the house began. (What was not written to since
        the last look is not read again.)"""
        version = self._house.store.writes.of((Proposal._meta.db_table,))
        if version == self._read_at:
            return self._orders
        known = {order["id"]: order for order in self._orders}
        self._orders, self._read_at = [], version
        for row in _rows(_ORDERS, [self._house.names.organization_id]):
            if self._rows_by_id.get(row[0]) != row:
                self._rows_by_id[row[0]], known[row[0]] = row, _order_of(row)
            self._orders.append(known[row[0]])
        return self._orders

    def plans(self) -> dict[str, dict[str, str]]:
        """Every plan's status, digest and significance."""
        version = self._house.store.writes.of((Plan._meta.db_table,))
        if version != self._plans_at:
            rows = _rows(f"SELECT id, status, digest, significance FROM {_table(Plan)}", [])
            names = ("status", "digest", "significance")
            self._plans = {row[0]: dict(zip(names, row[1:], strict=True)) for row in rows}
            self._plans_at = version
        return self._plans

    def was_in_doubt(self, order_id: str) -> bool:
        return bool(_rows(f"SELECT 1 FROM {_T} WHERE proposal_id = %s AND to_status = 'IN_DOUBT'", [order_id]))

    def status_of(self, order_id: str) -> str:
        return str(self._scalar(f"SELECT status FROM {_P} WHERE id = %s", order_id))

    def is_reviewed(self, order_id: str) -> bool:
        return self._scalar(f"SELECT reviewed_at FROM {_P} WHERE id = %s", order_id) is not None

    def attendances(self) -> int:
        return int(self._scalar(f"SELECT COUNT(*) FROM {_table(Attendance)}"))

    def approvers(self, order_id: str) -> list[str]:
        """Names of who approved it, whether or not that was enough."""
        given = {row[0] for row in _rows(f"SELECT user_id FROM {_table(Approval)} WHERE proposal_id = %s", [order_id])}
        return [name for name, pk in self._house.names.people.items() if pk in given]

    def ran_from(self, order_id: str) -> int | None:
        """Where its control was read just before its first byte; None where nothing was claimed or read."""
        rows = _rows(f"SELECT from_step, receipt FROM {_E} WHERE proposal_id = %s", [order_id])
        if not rows:
            return None
        receipt = json.loads(rows[0][1]) if isinstance(rows[0][1], str) else rows[0][1]
        return (receipt or {}).get("value_before", rows[0][0])

    def claimed_s(self, order_id: str) -> float | None:
        """When it was claimed for the wire."""
        return seconds(self._scalar(f"SELECT claimed_at FROM {_E} WHERE proposal_id = %s", order_id))

    def halted_s(self, kind: str) -> float | None:
        """When the open halt of this kind began: by the keeper, however late it was written down."""
        statement = f"SELECT opened_at FROM {_H} WHERE closed_at IS NULL AND kind = %s ORDER BY opened_at DESC LIMIT 1"
        return seconds(self._scalar(statement, kind))

    def writes_of(self, order_id: str) -> int:
        """Bytes of this order that may have left, by the keeper's wire log."""
        keeper = self._house.keeper
        trace = keeper.keeper.wire_log.trace(order_id) if keeper is not None else None
        return len(trace.writes) if trace is not None else 0

    def machine_facts(self) -> Facts:
        rows = _rows(_FACTS, [self._house.names.machine_id] * 4)
        return Facts(
            frozenset(str(what).partition(" ")[0] for kind, what in rows if kind == "halt"),
            ", ".join(sorted(str(what) for kind, what in rows if kind == "halt")),
            any(kind == "paused" for kind, _ in rows),
            any(kind == "suspended" for kind, _ in rows),
            {str(what): kind.removeprefix("grant ") for kind, what in rows if kind.startswith("grant ")},
        )

    def _scalar(self, query: str, *values: Any) -> Any:
        rows = _rows(query, list(values))
        return rows[0][0] if rows else None

    # -- after every step --

    def check(self) -> None:
        """AssertionError names the law that is broken."""
        self._follow_moves()
        self._follow_lease()
        self._follow_wire()
        due = self.due()
        if due:  # any other law would find what it found
            places = tuple(_NAMES.index(law) for law in due)
            self._breaches += [f"{_NAMES[place]}: {found}" for place, found in _rows(_asking(places), [])]
            self._asked_at.update(due)
        self.raise_breaches()

    def due(self) -> dict[str, int]:
        """Laws that speak of anything that was written since they were asked last, and how much was written by now."""
        written = {law: self._house.store.writes.of(tables) for law, tables in SPEAKS_OF.items()}
        return {law: count for law, count in written.items() if self._asked_at.get(law) != count}

    def raise_breaches(self) -> None:
        if self._breaches:
            raise AssertionError("; ".join(self._breaches[:5]))

    def _follow_moves(self) -> None:
        query = f"SELECT id, proposal_id, from_status, to_status, actor_kind FROM {_T} WHERE id > %s ORDER BY id"
        new = _rows(query, [self._last_transition])
        for number, order_id, old, to, actor in new:
            self._last_transition = number
            allowed = oracle.MOVES.get((old, to), frozenset())
            if actor not in allowed:
                self._breaches.append(f"only legal moves: {order_id} {old} to {to} by {actor}")
            was = self._statuses.get(order_id, "")
            if old and was != old:
                self._breaches.append(f"moves follow each other: {order_id} was {was}, not {old}")
            self._statuses[order_id] = to
            self._sometimes.met("move", f"{old} {to}")
        if not new:
            return
        self._sometimes.met("law", "moves", len(new))
        for order_id, status in _rows(f"SELECT id, status FROM {_P}", []):
            if self._statuses.get(order_id, status) != status:
                self._breaches.append(f"the last move says where it stands: {order_id} {status}")

    def _follow_lease(self) -> None:
        query = f"SELECT token FROM {_table(MachineLease)} WHERE machine_id = %s"
        token = self._scalar(query, self._house.names.machine_id) or 0
        if token < self._token:
            self._breaches.append(f"a lease token only rises: {token} after {self._token}")
        elif token > self._token:
            self._sometimes.met("law", "leases")
        self._token = token

    # -- the wire --

    def _on_command(self, data: bytes) -> None:
        """A command reaches the machine: called as it happens, by the machine itself."""
        self._commands += 1
        keeper = self._house.keeper
        latch = keeper.keeper.latches.latch if keeper is not None else None
        if latch is not None:
            self._sometimes.met("law", "latched writes")
        if latch is not None and data == HEATER_UP:
            self._breaches.append("a halted machine never heats: heater +1 while latched")

    def _follow_wire(self) -> None:
        """The keeper's wire log, the machine's own count and the executions tell the same story."""
        keeper = self._house.keeper
        if keeper is None:
            return
        traces = dict(keeper.keeper.wire_log._orders)
        written = sum(len(trace.writes) for trace in traces.values())
        done = sum(write["is_done"] for trace in traces.values() for write in trace.writes)
        if not done <= self._commands <= written:
            self._breaches.append(f"wire ledger: {self._commands} commands came, {done} to {written} were written down")
        fresh = {key: trace for key, trace in traces.items() if len(trace.writes) > self._seen_writes.get(key, 0)}
        if not fresh:
            return
        self._sometimes.met("law", "wire writes", len(fresh))
        executed = {
            row[0]: row[1:] for row in _rows(
                f"SELECT p.id, p.target_step, e.from_step FROM {_E} e JOIN {_P} p ON p.id = e.proposal_id", [])
        }
        for order_id, trace in fresh.items():
            self._seen_writes[order_id] = len(trace.writes)
            if not order_id.startswith("prp_"):
                continue  # a stop: at least once, by design
            steps = [write["step"] for write in trace.writes]
            if order_id not in executed:
                self._breaches.append(f"no byte without an execution: {order_id}")
            elif steps != list(range(1, len(steps) + 1)):
                self._breaches.append(f"no step is sent twice: {order_id} {steps}")
            else:
                target, start = executed[order_id]
                if target is not None and start is not None and len(steps) > abs(target - start):
                    self._breaches.append(f"no more steps than it takes: {order_id} {steps} from {start} to {target}")

    # -- at the end --

    def finish(self) -> None:
        """The chain and the stream, once everything is sealed; and how much the laws had to look at."""
        self._house.seal()
        self._breaches += [f"no key leads nowhere: {found}" for found in self._house.store.dangling()]
        self._asked_at.clear()
        self.check()
        self._check_chain()
        self._check_numbers()
        for law, query in _COUNTS.items():
            self._sometimes.met("law", law, int(self._scalar(query)))
        self.raise_breaches()

    def _check_chain(self) -> None:
        """Gap-free, each link naming the one before it, every entry in it, every payload as it was written."""
        seals = _table(AuditSeal)
        unsealed = self._scalar(
            f"SELECT COUNT(*) FROM {_AUDIT} a WHERE NOT EXISTS (SELECT 1 FROM {seals} s WHERE s.entry_id = a.id)"
        )
        if unsealed:
            self._breaches.append(f"everything is sealed: {unsealed} entries are not")
        last: dict[str, tuple[int, str]] = {}
        rows = _rows(
            f"SELECT s.organization_id, s.sequence, s.previous_digest, s.digest, a.payload, a.payload_digest, "
            f"a.organization_id FROM {seals} s JOIN {_AUDIT} a ON a.id = s.entry_id "
            "ORDER BY s.organization_id, s.sequence", [],
        )  # fmt: skip
        for place, sequence, previous, digest, payload, payload_digest, of in rows:
            number, before = last.get(place, (0, "0" * 64))
            if sequence != number + 1 or previous != before or of != place:
                self._breaches.append(f"the chain has no gap: {place} {sequence} after {number}")
            if hashlib.sha256(payload.encode()).hexdigest() != payload_digest:
                self._breaches.append(f"a payload is what it was: {place} {sequence}")
            last[place] = (sequence, digest)
        self._sometimes.met("law", "seals", len(rows))

    def _check_numbers(self) -> None:
        rows = _rows(
            f"SELECT organization_id, COUNT(*), COUNT(number), MIN(number), MAX(number) FROM {_STREAM} "
            "GROUP BY organization_id", [],
        )  # fmt: skip
        for place, count, numbered, least, most in rows:
            if count != numbered or least != 1 or most != count:
                self._breaches.append(f"the stream has no gap: {place} {count} {numbered} {least} {most}")


def _order_of(row: tuple[Any, ...]) -> dict[str, Any]:
    order = dict(zip(_ORDER_NAMES, row, strict=True))
    order["reasons"] = json.loads(row[3]) if isinstance(row[3], str) else row[3]
    for name in ("expires_s", "decided_s", "settled_s"):
        order[name] = seconds(order[name])
    return order


def seconds(value: Any) -> float | None:
    """A stored time as seconds since the house began."""
    if value is None:
        return None
    at = dt.datetime.fromisoformat(value) if isinstance(value, str) else value
    if at.tzinfo is None:
        at = at.replace(tzinfo=dt.UTC)
    return (at - BEGIN).total_seconds()


def _rows(query: str, values: list[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return list(cursor.fetchall())


CommandWatcher = Callable[[bytes], None]
