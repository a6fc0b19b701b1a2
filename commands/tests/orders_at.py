"""Orders of the past, written where they ended: for tests and figures of history. The guards are not in the way."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db import connection

from commands.models import Execution, Proposal, ProposalTransition
from commands.records import order_guards
from kernel import ids
from kernel.models import Agent
from roasts.models import Machine


def order_at(
    machine: Machine, at: dt.datetime, status: str = "COMPLETED", *, agent: Agent | None = None, **changes: Any
) -> Proposal:
    """One order proposed at ``at``; ``took_s`` gives it an execution, ``by_person`` a person's last move."""
    took_s, by_person = changes.pop("took_s", 1.0), changes.pop("by_person", False)
    proposal = Proposal(
        id=ids.new("prp"), organization=machine.organization, machine=machine, order_type="SET_POWER",
        control="heater", reasoning="r", proposer_agent=agent, decision="ALLOW", digest="d" * 64, proposed_at=at,
        expires_at=at + dt.timedelta(seconds=300), status=status,
    )  # fmt: skip
    if status not in ("PENDING_APPROVAL", "EXECUTING", "IN_DOUBT", "APPROVED"):
        proposal.settled_at = at + dt.timedelta(seconds=took_s)
    for name, value in changes.items():
        setattr(proposal, name, value)
    with GuardsAside():
        proposal.save(force_insert=True)
        if status in ("COMPLETED", "FAILED", "EXECUTING", "IN_DOUBT"):
            Execution.objects.create(
                proposal=proposal, machine=machine, lease_token=1, claimed_at=at,
                concluded_at=proposal.settled_at,
            )  # fmt: skip
        if by_person:
            ProposalTransition.objects.create(
                proposal=proposal, from_status="PENDING_APPROVAL", to_status=status, actor_kind="person",
                actor_id="usr_1", actor_name="somebody", at=at,
            )  # fmt: skip
    return proposal


def refused_at(machine: Machine, at: dt.datetime, agent: Agent, code: str = "too_soon", legacy: str = "") -> Proposal:
    """An order the governor refused."""
    reasons = [
        {"code": "approval_required", "decision": "HOLD"},
        {"code": code, "decision": "REFUSE", **({"legacy_code": legacy} if legacy else {})},
    ]
    return order_at(
        machine, at, "REJECTED", agent=agent, decision="REFUSE", reasons=reasons, rejection_code=legacy or code
    )


class GuardsAside:
    """The order guards, out of the way within a test's own transaction; may be entered again inside itself."""

    depth = 0

    def __enter__(self) -> None:
        GuardsAside.depth += 1
        if GuardsAside.depth > 1:
            return
        with connection.cursor() as cursor:
            for guard in order_guards.guards(connection.vendor):
                on = f" ON {guard.table}" if connection.vendor == "postgresql" else ""
                cursor.execute(f"DROP TRIGGER IF EXISTS {order_guards._name(guard)}{on}")

    def __exit__(self, *_exception: object) -> None:
        GuardsAside.depth -= 1
        if GuardsAside.depth or connection.needs_rollback:
            return
        with connection.cursor() as cursor:
            for statement in order_guards.statements(connection.vendor):
                cursor.execute(statement)
