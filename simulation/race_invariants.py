"""What must hold after every commit, as SQL over the whole database: each query selects what breaks its sentence."""

from __future__ import annotations

import functools
import re

from commands.lifecycle import EXECUTED, UNSETTLED, Status, moves
from commands.models import (
    Alarm,
    Approval,
    Execution,
    Grant,
    Halt,
    MachineLease,
    Proposal,
    ProposalTransition,
    Suspension,
)
from commands.records.moves import TOLD_UNMOVED
from kernel.models import Agent, AuditEntry, AuditSeal, Membership, StreamEvent
from roasts.models import Machine, MachineReading


def _listed(words: object) -> str:
    return "(" + ", ".join(f"'{word}'" for word in sorted(str(each) for each in words)) + ")"  # type: ignore[attr-defined]


_PROPOSAL, _TRANSITION = Proposal._meta.db_table, ProposalTransition._meta.db_table
_EXECUTION, _HALT, _GRANT = Execution._meta.db_table, Halt._meta.db_table, Grant._meta.db_table
_SUSPENSION, _ALARM, _LEASE = Suspension._meta.db_table, Alarm._meta.db_table, MachineLease._meta.db_table
_AUDIT, _SEAL, _EVENT = AuditEntry._meta.db_table, AuditSeal._meta.db_table, StreamEvent._meta.db_table
_APPROVAL, _MEMBERSHIP = Approval._meta.db_table, Membership._meta.db_table
_MACHINE, _AGENT, _READING = Machine._meta.db_table, Agent._meta.db_table, MachineReading._meta.db_table

_BEYOND_HELD = _listed(EXECUTED | {Status.APPROVED})
_LEGAL = "(" + ", ".join(f"('{old}', '{new}')" for old, new in [*moves(), ("", "PROPOSED")]) + ")"

#: Where looking at every order would be long: after a commit only those of the episode's machine are looked at.
_HERE = "/* here */"

#: sentence -> SELECT of one text column: what breaks it.
INVARIANTS: dict[str, str] = {
    "no agent's held order goes on without an approver": f"""
        SELECT id FROM {_PROPOSAL} WHERE proposer_agent_id IS NOT NULL AND decision = 'HOLD'
         AND status IN {_BEYOND_HELD} AND approver_id IS NULL""",
    "an approver is neither the proposer nor the agent's owner": f"""
        SELECT p.id FROM {_PROPOSAL} p LEFT JOIN {_AGENT} a ON a.id = p.proposer_agent_id
         WHERE p.approver_id IS NOT NULL AND (p.approver_id = p.proposer_user_id OR p.approver_id = a.owner_id)""",
    "an approval names the digest of this order": f"""
        SELECT id FROM {_PROPOSAL} WHERE approver_id IS NOT NULL AND approved_digest <> digest""",
    "an order that has all its yeses is not held": f"""
        SELECT p.id FROM {_PROPOSAL} p WHERE p.status = 'PENDING_APPROVAL' AND p.approvals_needed <=
         (SELECT count(*) FROM {_APPROVAL} y WHERE y.proposal_id = p.id AND y.digest = p.digest)""",
    "an approved order has as many yeses as it needs": f"""
        SELECT p.id FROM {_PROPOSAL} p WHERE p.approver_id IS NOT NULL AND p.approvals_needed >
         (SELECT count(DISTINCT y.user_id) FROM {_APPROVAL} y WHERE y.proposal_id = p.id AND y.digest = p.digest)""",
    "an order on the wire or beyond has exactly one execution, no other has one": f"""
        SELECT p.id FROM {_PROPOSAL} p LEFT JOIN {_EXECUTION} e ON e.proposal_id = p.id
         GROUP BY p.id, p.status HAVING count(e.id) <> CASE WHEN p.status IN {_listed(EXECUTED)} THEN 1 ELSE 0 END""",
    "an order stands where its last transition says": f"""
        SELECT p.id FROM {_PROPOSAL} p LEFT JOIN LATERAL (SELECT to_status FROM {_TRANSITION} t
         WHERE t.proposal_id = p.id ORDER BY t.id DESC LIMIT 1) t ON true
         WHERE t.to_status IS DISTINCT FROM p.status {_HERE}""",
    "every transition is legal": f"""
        SELECT proposal_id FROM {_TRANSITION} WHERE (from_status, to_status) NOT IN {_LEGAL}""",
    "transitions of an order follow on each other": f"""
        SELECT proposal_id FROM (SELECT proposal_id, from_status, lag(to_status) OVER
         (PARTITION BY proposal_id ORDER BY (from_status <> ''), id) AS before FROM {_TRANSITION}) t
         WHERE before IS DISTINCT FROM NULLIF(from_status, '')""",
    "every move of an order has its audit entry": f"""
        SELECT p.id FROM {_PROPOSAL} p WHERE
         (SELECT count(*) FROM {_TRANSITION} t WHERE t.proposal_id = p.id AND t.from_status <> '')
         > (SELECT count(*) FROM {_AUDIT} a WHERE a.subject_kind = 'proposal' AND a.subject_id = p.id) {_HERE}""",
    "every move of an order has its stream event": f"""
        SELECT p.id FROM {_PROPOSAL} p WHERE
         (SELECT count(*) FROM {_TRANSITION} t WHERE t.proposal_id = p.id AND t.from_status <> '')
         <> (SELECT count(*) FROM {_EVENT} v WHERE v.kind = 'proposal' AND v.subject_id = p.id)
          - (SELECT count(*) FROM {_AUDIT} a WHERE a.subject_id = p.id AND a.verb IN {_listed(TOLD_UNMOVED)})
         {_HERE}""",
    "every halt was told and audited": f"""
        SELECT h.id FROM {_HALT} h WHERE NOT EXISTS (SELECT 1 FROM {_AUDIT} a WHERE a.subject_id = h.id)
         OR NOT EXISTS (SELECT 1 FROM {_EVENT} v WHERE v.subject_id = h.id)""",
    "every live grant was told and audited": f"""
        SELECT g.id FROM {_GRANT} g WHERE NOT EXISTS (SELECT 1 FROM {_AUDIT} a WHERE a.subject_id = g.id)
         OR NOT EXISTS (SELECT 1 FROM {_EVENT} v WHERE v.subject_id = g.id)""",
    "a revoked grant was told and audited": f"""
        SELECT g.id FROM {_GRANT} g WHERE g.revoked_at IS NOT NULL
         AND 2 <> (SELECT count(*) FROM {_AUDIT} a WHERE a.subject_id = g.id)""",
    "one open halt of a kind per machine": f"""
        SELECT machine_id FROM {_HALT} WHERE closed_at IS NULL GROUP BY machine_id, kind HAVING count(*) > 1""",
    "one live grant per agent and machine": f"""
        SELECT machine_id FROM {_GRANT} WHERE revoked_at IS NULL GROUP BY machine_id, agent_id HAVING count(*) > 1""",
    "one open suspension per machine": f"""
        SELECT machine_id FROM {_SUSPENSION} WHERE given_back_at IS NULL GROUP BY machine_id HAVING count(*) > 1""",
    "one standing alarm of a code per machine": f"""
        SELECT machine_id FROM {_ALARM} WHERE cleared_at IS NULL GROUP BY machine_id, code HAVING count(*) > 1""",
    "one unsettled order of an agent per control": f"""
        SELECT machine_id FROM {_PROPOSAL} WHERE proposer_agent_id IS NOT NULL AND status IN {_listed(UNSETTLED)}
         GROUP BY machine_id, control HAVING count(*) > 1""",
    "advice is adopted once": f"""
        SELECT adopted_from_id FROM {_PROPOSAL} WHERE adopted_from_id IS NOT NULL AND status <> 'REJECTED'
         GROUP BY adopted_from_id HAVING count(*) > 1""",
    "no execution is newer than its machine's lease": f"""
        SELECT e.id FROM {_EXECUTION} e JOIN {_LEASE} l ON l.machine_id = e.machine_id WHERE e.lease_token > l.token""",
    "an order is claimed within its time": f"""
        SELECT p.id FROM {_PROPOSAL} p JOIN {_EXECUTION} e ON e.proposal_id = p.id
         WHERE e.claimed_at >= p.expires_at""",
    "an order belongs to the organisation of its machine": f"""
        SELECT p.id FROM {_PROPOSAL} p JOIN {_MACHINE} m ON m.id = p.machine_id
         WHERE m.organization_id <> p.organization_id {_HERE}""",
    "who decides on an order belongs to its organisation": f"""
        SELECT p.id FROM {_TRANSITION} t JOIN {_PROPOSAL} p ON p.id = t.proposal_id WHERE t.actor_kind = 'person'
         AND NOT EXISTS (SELECT 1 FROM {_MEMBERSHIP} b WHERE b.organization_id = p.organization_id
          AND 'usr_' || b.user_id = t.actor_id) {_HERE}
        UNION ALL SELECT p.id FROM {_APPROVAL} y JOIN {_PROPOSAL} p ON p.id = y.proposal_id WHERE NOT EXISTS
         (SELECT 1 FROM {_MEMBERSHIP} b WHERE b.organization_id = p.organization_id AND b.user_id = y.user_id)
         {_HERE}""",
    "seals have no gaps and no doubles": f"""
        SELECT organization_id FROM {_SEAL} GROUP BY organization_id
         HAVING count(*) <> max(sequence) OR count(DISTINCT entry_id) <> count(*)
          OR count(DISTINCT sequence) <> count(*)""",
    "each seal names its predecessor's digest": f"""
        SELECT s.entry_id FROM {_SEAL} s LEFT JOIN {_SEAL} b
          ON b.organization_id = s.organization_id AND b.sequence = s.sequence - 1
         WHERE s.previous_digest <> coalesce(b.digest, repeat('0', 64))""",
    "stream numbers have no gaps and no doubles": f"""
        SELECT organization_id FROM {_EVENT} WHERE number IS NOT NULL GROUP BY organization_id
         HAVING count(*) <> max(number) OR count(DISTINCT number) <> count(*)""",
}  # fmt: skip

#: sentence -> the tables its query reads: whoever wrote to none of them cannot have broken it.
READS: dict[str, frozenset[str]] = {
    sentence: frozenset(re.findall(r"\b(?:FROM|JOIN) ([a-z_]+)", query)) for sentence, query in INVARIANTS.items()
}
#: All of them.
READ = frozenset[str]().union(*READS.values())

#: What the oracle replays of one machine, as rows (kind, a, b, c).
PICTURE = f"""
SELECT 'order' AS kind, id AS a, status AS b, concat_ws('|', coalesce(approver_id::text, ''),
 coalesce(proposer_agent_id, 'usr_' || proposer_user_id), control, extract(epoch FROM expires_at)::text,
 coalesce(extract(epoch FROM runs_at), 0)::text, approvals_needed::text, coalesce(target_step::text, '')) AS c
 FROM {_PROPOSAL} WHERE machine_id = %(machine)s
UNION ALL SELECT 'execution', proposal_id, lease_token::text,
 concat_ws('|', extract(epoch FROM claimed_at)::text, coalesce(from_step::text, ''))
 FROM {_EXECUTION} WHERE machine_id = %(machine)s
UNION ALL SELECT 'approval', y.proposal_id, y.user_id::text, ''
 FROM {_APPROVAL} y JOIN {_PROPOSAL} p ON p.id = y.proposal_id WHERE p.machine_id = %(machine)s
UNION ALL SELECT 'halt', id, kind, '' FROM {_HALT} WHERE closed_at IS NULL AND machine_id = %(machine)s
UNION ALL SELECT 'grant', id, level, agent_id FROM {_GRANT} WHERE revoked_at IS NULL AND machine_id = %(machine)s
UNION ALL SELECT 'suspension', id, '', '' FROM {_SUSPENSION} WHERE given_back_at IS NULL AND machine_id = %(machine)s
UNION ALL SELECT 'lease', machine_id, token::text, concat_ws('|', owner, extract(epoch FROM expires_at)::text)
 FROM {_LEASE} WHERE machine_id = %(machine)s
UNION ALL SELECT 'paused', machine_id, '', '' FROM {_READING} WHERE is_orders_paused AND machine_id = %(machine)s
"""  # fmt: skip


@functools.cache
def statement(written: frozenset[str] | None = None) -> str:
    """The picture of a machine (``%(machine)s``) and every breach, in one round trip: a breach is a row ('broken',
    sentence, what, ''). ``written``: only what a transaction at this machine that wrote to these tables can have
    broken."""
    parts = [PICTURE]
    for sentence, query in INVARIANTS.items():
        if written is None or READS[sentence] & written:
            quoted = sentence.replace("'", "''")
            looked = query.replace(_HERE, "" if written is None else "AND p.machine_id = %(machine)s")
            parts.append(f"UNION ALL SELECT 'broken', '{quoted}', x.*, '' FROM ({looked}) x")
    return "\n".join(parts)
