"""Orders that meet on one control: two agents, two people, and one who adopts."""

from __future__ import annotations

import random

from simulation.plan import Operation

MACHINES = ("free", "free", "held", "shared")
TARGETS = {"SET_POWER": (4, 5, 7), "SET_FAN": (3, 5), "SET_DRUM": (6, 8)}


def draw(chance: random.Random) -> list[list[Operation]]:
    """Proposals on few controls, so that they meet."""
    order_type = chance.choice(sorted(TARGETS))
    return [[_one(chance, order_type)] for _ in range(2)] + [[_third(chance, order_type)]]


def _one(chance: random.Random, order_type: str) -> Operation:
    who = chance.choice(("agent_a", "agent_a", "agent_b", "agent_b", "operator", "viewer"))
    return Operation("propose", {"who": who, "order_type": order_type, "target": chance.choice(TARGETS[order_type])})


def _third(chance: random.Random, order_type: str) -> Operation:
    return chance.choice(
        (
            _one(chance, order_type),
            Operation("adopt", {"order": 0, "who": "second"}),
            Operation("revoke", {"who": "lead", "agent": "agent_a"}),
            Operation("stop", {"who": "second"}),
            Operation("approve", {"order": 0, "who": "operator"}),
        )
    )
