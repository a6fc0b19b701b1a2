"""Two sealers, and entries being written meanwhile: no number twice, no gap."""

from __future__ import annotations

import random

from simulation.plan import Operation

MACHINES = ("held", "free")


def draw(chance: random.Random) -> list[list[Operation]]:
    """Two candidates for the sealer's lease, the second perhaps when the first one's has run out."""
    second = Operation("seal", {"owner": "sealer-2"}, chance.choice((0, 0, 3_000, 3_001)))
    writer = chance.choice(
        (
            Operation("approve", {"order": 0, "who": "operator"}),
            Operation("suspend", {"who": "operator"}),
            Operation("propose", {"who": "operator", "order_type": "SET_FAN", "target": 5}),
        )
    )
    third = Operation("grant", {"who": "lead", "agent": "agent_a", "level": "L3"})
    first = [Operation("seal", {"owner": "sealer-1"})]
    return [
        [writer, *first],
        [second],
        [Operation("seal", {"owner": "sealer-3"})] if chance.random() < 0.3 else [third],
    ]
