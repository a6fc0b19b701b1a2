"""The work an order belongs to: told by its proposer, part of what is approved, and never changed."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import DatabaseError, transaction

from commands import services
from commands.models import Proposal
from commands.records.moves import order_digest
from kernel import clock

pytestmark = pytest.mark.django_db


def test_an_order_names_its_mission_and_everybody_reads_it(machine: Any, people: Any, signed_in: Any) -> None:
    console = signed_in(people.operator)
    body = {"machine_id": machine.pk, "order_type": "SET_POWER", "target_value": 5, "target_unit": "step",
            "reasoning": "test", "mission": "msn_42"}  # fmt: skip
    filed = console.post("/v1/proposals", body, format="json").json()
    assert filed["mission"] == "msn_42"
    page = console.get(f"/orders/{filed['proposal_id']}/").content.decode()
    assert "msn_42" in page
    without = console.post("/v1/proposals", body | {"mission": None, "target_value": 4}, format="json").json()
    assert without["mission"] is None


@pytest.mark.parametrize("mission", ["x" * 101, 5, ["a"], "a\0b", {}])
def test_a_mission_is_a_short_text(machine: Any, people: Any, signed_in: Any, mission: Any) -> None:
    body = {"machine_id": machine.pk, "order_type": "COOL", "reasoning": "test", "mission": mission}
    assert signed_in(people.operator).post("/v1/proposals", body, format="json").status_code == 400


def test_the_digest_names_the_mission_and_an_order_without_one_keeps_its_digest(
    held: Proposal, propose: Any, agent_principal: Any
) -> None:
    assert order_digest(held) == held.digest
    held.mission = "msn_other"
    assert order_digest(held) != held.digest
    held.mission = None
    assert order_digest(held) == held.digest


def test_the_database_keeps_the_mission_as_it_was(held: Proposal) -> None:
    with pytest.raises(DatabaseError), transaction.atomic():
        Proposal.objects.filter(pk=held.pk).update(mission="msn_other")


def test_adopted_advice_keeps_its_mission(propose: Any, agent_principal: Any, people: Any) -> None:
    advice = propose(agent_principal, mission="msn_7")
    adopted = services.adopt_proposal(people.principal("operator"), advice, now=clock.now())
    assert adopted.mission == "msn_7"
