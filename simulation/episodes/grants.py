"""Two leads sign at once; one takes back what the other gives; an agent asks meanwhile."""

from __future__ import annotations

import random

from simulation.plan import Operation

MACHINES = ("free", "held")


def draw(chance: random.Random) -> list[list[Operation]]:
    """Two who sign or revoke, and one who leans on the grant."""
    return [[_sign(chance, "lead")], [_sign(chance, "other_lead")], [_lean(chance)]]


def _sign(chance: random.Random, who: str) -> Operation:
    if chance.random() < 0.35:
        return Operation("revoke", {"who": who, "agent": "agent_a"})
    signer = who if chance.random() < 0.9 else "operator"
    return Operation("grant", {"who": signer, "agent": "agent_a", "level": chance.choice(("L2", "L3"))})


def _lean(chance: random.Random) -> Operation:
    return chance.choice(
        (
            Operation("propose", {"who": "agent_a", "order_type": "SET_DRUM", "target": 6}),
            Operation("grant", {"who": "lead", "agent": "agent_a", "level": "L3"}),
            Operation("suspend", {"who": "operator"}),
        )
    )
