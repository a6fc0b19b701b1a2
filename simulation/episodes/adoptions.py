"""Two people make one held order their own at the same moment, and somebody settles it meanwhile."""

from __future__ import annotations

import random

from simulation.beginning import DEADLINE_MS
from simulation.plan import Operation

MACHINES = ("held", "held", "shared")


def draw(chance: random.Random) -> list[list[Operation]]:
    """Two who adopt the same order, and a third of another mind."""
    order = chance.choice((0, 0, 1))
    adopters = [Operation("adopt", {"order": order, "who": who}) for who in ("operator", "second")]
    return [[adopters[0]], [adopters[1]], [_third(chance, order)]]


def _third(chance: random.Random, order: int) -> Operation:
    return chance.choice(
        (
            Operation("adopt", {"order": order, "who": "third"}),
            Operation("approve", {"order": order, "who": "third"}),
            Operation("reject", {"order": order, "who": "lead"}),
            Operation("abort", {"order": order, "who": "agent_a" if order == 0 else "agent_b"}),
            Operation("propose", {"who": "third", "order_type": "SET_POWER", "target": 5}),
            Operation("expire", {}, DEADLINE_MS),
            Operation("stop", {"who": "third"}),
        )
    )
