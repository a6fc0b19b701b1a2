"""`python -m simulation.tests.broken_rows SERVER`: each SQL invariant is shown rows that break it, by hand.

Prints as JSON the sentences that did not notice. Not a test itself: it needs a database of its own, so a test runs it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from typing import Any

import django

#: sentence -> statements that break it ({p} proposals, {t} transitions, {e} executions, …). {one}: a held order.
BREAK: dict[str, str] = {
    "no agent's held order goes on without an approver": "UPDATE {p} SET status = 'APPROVED' WHERE id = {one}",
    "an approver is neither the proposer nor the agent's owner": (
        "UPDATE {p} SET approver_id = (SELECT owner_id FROM {a} WHERE id = proposer_agent_id) WHERE id = {one}"
    ),
    "an approval names the digest of this order": (
        "UPDATE {p} SET approved_digest = 'x' WHERE approver_id IS NOT NULL"
    ),
    "an order that has all its yeses is not held": (
        "INSERT INTO {y} (id, proposal_id, user_id, digest, at) SELECT 'apr_1', id, (SELECT min(id) FROM {w}), digest, "
        "proposed_at FROM {p} WHERE id = {one}"
    ),
    "an approved order has as many yeses as it needs": "DELETE FROM {y}",
    "an order on the wire or beyond has exactly one execution, no other has one": "DELETE FROM {e}",
    "an order stands where its last transition says": "UPDATE {p} SET status = 'ABORTED' WHERE id = {one}",
    "every transition is legal": "UPDATE {t} SET from_status = 'TIMEOUT' WHERE from_status = 'PROPOSED'",
    "transitions of an order follow on each other": "DELETE FROM {t} WHERE to_status = 'APPROVED'",
    "every move of an order has its audit entry": "DELETE FROM {u} WHERE subject_id = {one}",
    "every move of an order has its stream event": "DELETE FROM {v} WHERE subject_id = {one}",
    "every halt was told and audited": (
        "INSERT INTO {h} (id, organization_id, machine_id, kind, code, stop_id, opened_at, opened_by_kind, "
        "opened_by_id, opened_by_name, result, by_hand, proof, close_reason) "
        "SELECT 'hlt_1', organization_id, id, 'stop', '', '', "
        "created_at, '', '', '', '', '[]', '{{}}', '' FROM {m} LIMIT 1"
    ),
    "every live grant was told and audited": "DELETE FROM {v} WHERE kind = 'grant'",
    "a revoked grant was told and audited": "UPDATE {g} SET revoked_at = granted_at",
    "one open halt of a kind per machine": (
        "INSERT INTO {h} (id, organization_id, machine_id, kind, code, stop_id, "
        "opened_at, opened_by_kind, opened_by_id, opened_by_name, result, by_hand, proof, close_reason) "
        "SELECT 'hlt_' || n || right(id, 20), organization_id, id, 'stop', '', '', created_at, '', '', '', '', '[]', "
        "'{{}}', '' FROM {m}, generate_series(1, 2) n"
    ),
    "one live grant per agent and machine": ("UPDATE {g} SET machine_id = (SELECT min(machine_id) FROM {g})"),
    "one open suspension per machine": (
        "INSERT INTO {s} (id, organization_id, machine_id, taken_by_id, taken_at) "
        "SELECT 'sus_' || n || right(id, 20), organization_id, id, (SELECT min(id) FROM {w}), created_at "
        "FROM {m}, generate_series(1, 2) n"
    ),
    "one standing alarm of a code per machine": (
        "CREATE TEMP TABLE twin AS SELECT * FROM {l}; UPDATE twin SET id = 'alm_2'; INSERT INTO {l} SELECT * FROM twin"
    ),
    "one unsettled order of an agent per control": (
        "UPDATE {p} SET machine_id = (SELECT min(machine_id) FROM {p}), control = 'fan'"
    ),
    "advice is adopted once": ("UPDATE {p} SET adopted_from_id = {one} WHERE id <> {one}"),
    "no execution is newer than its machine's lease": "UPDATE {e} SET lease_token = 99",
    "an order is claimed within its time": "UPDATE {e} SET claimed_at = claimed_at + interval '9 days'",
    "an order belongs to the organisation of its machine": (
        "UPDATE {p} SET organization_id = (SELECT id FROM {o} WHERE slug = 'other') WHERE id = {one}"
    ),
    "who decides on an order belongs to its organisation": (
        "UPDATE {t} SET actor_kind = 'person', actor_id = 'usr_0' WHERE proposal_id = {one}"
    ),
    "seals have no gaps and no doubles": "UPDATE {k} SET sequence = sequence + 1000 WHERE sequence > 2",
    "each seal names its predecessor's digest": "UPDATE {k} SET previous_digest = 'x' WHERE sequence = 2",
    "stream numbers have no gaps and no doubles": "UPDATE {v} SET number = number + 1000 WHERE number > 2",
}


def _unguard(control: Any, table: str) -> None:
    """The database's own constraints would refuse what is to be shown: they are taken down."""
    for (name,) in control.execute(
        "SELECT conname FROM pg_constraint WHERE contype IN ('c', 'u') AND conrelid = %s::regclass", [table]
    ).fetchall():
        control.execute(f'ALTER TABLE {table} DROP CONSTRAINT "{name}" CASCADE')
    for (name,) in control.execute(
        "SELECT indexrelid::regclass::text FROM pg_index WHERE indisunique AND NOT indisprimary "
        "AND indrelid = %s::regclass", [table],
    ).fetchall():  # fmt: skip
        control.execute(f"DROP INDEX IF EXISTS {name}")


def main(server: str) -> list[str]:
    """The sentences that did not notice."""
    from django.contrib.auth.models import User
    from django.db import transaction

    from commands import services
    from commands.models import Alarm, Approval, Execution, Grant, Halt, Proposal, ProposalTransition, Suspension
    from kernel.models import Agent, AuditEntry, AuditSeal, Organization, StreamEvent
    from kernel.sealer import Sealer
    from roasts.models import Machine
    from simulation import race_invariants, sandbox
    from simulation.world import World

    models = {
        "p": Proposal, "t": ProposalTransition, "e": Execution, "h": Halt, "g": Grant, "s": Suspension, "a": Agent,
        "u": AuditEntry, "v": StreamEvent, "k": AuditSeal, "o": Organization, "m": Machine, "w": User,
        "l": Alarm, "y": Approval,
    }  # fmt: skip
    tables = {name: model._meta.db_table for name, model in models.items()}
    unnoticed = []
    with sandbox.server(server) as url, sandbox.database(url) as place:
        world = World(place)
        Sealer("by hand").tick(world.clock.now())
        with transaction.atomic():
            services.raise_alarm(
                world.cast.machines["free"], code="test", cause="c", consequence="c", action="a", now=world.clock.now()
            )
        for table in tables.values():
            _unguard(world.control, table)
        sound = world.look()[1]
        one = f"'{world.cast.orders['held'][0]}'"
        world.machine = world.cast.machines["held"]
        for sentence in race_invariants.INVARIANTS:
            world.control.execute("BEGIN")
            broken = BREAK.get(sentence, "").format(one=one, **tables)
            world.control.execute(broken)  # type: ignore[arg-type]
            written = frozenset(re.findall(r"\b(?:UPDATE|INTO|DELETE FROM) ([a-z_]+)", broken))
            for looked in (world.look(), world.look(written)):
                if not any(each == sentence for each, _what in looked[1]):
                    unnoticed.append(sentence)
            world.control.execute("ROLLBACK")
        world.close()
    return [f"broken from the beginning: {each}" for each in sound] + unnoticed


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "roastops.test_settings")
    django.setup()
    logging.disable(logging.CRITICAL)
    sys.stdout.write(json.dumps(main(sys.argv[1] if len(sys.argv) > 1 else "")))
