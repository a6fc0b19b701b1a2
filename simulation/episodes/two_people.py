"""An order of so much consequence that it needs two people: three say yes, or one says no meanwhile."""

from __future__ import annotations

import random

from simulation.beginning import DEADLINE_MS
from simulation.plan import Operation

MACHINES = ("grave",)
PEOPLE = ("operator", "second", "third", "other_lead")


def draw(chance: random.Random) -> list[list[Operation]]:
    """Two who say yes, and a third of another mind; sometimes the same person twice."""
    first, second = chance.choice(PEOPLE), chance.choice(PEOPLE)
    third = chance.choice(
        (
            Operation("approve", {"order": 0, "who": chance.choice(PEOPLE)}),
            Operation("approve", {"order": 0, "who": "lead"}),
            Operation("reject", {"order": 0, "who": chance.choice(PEOPLE)}),
            Operation("abort", {"order": 0, "who": "agent_a"}),
            Operation("expire", {}, DEADLINE_MS),
            Operation("stop", {"who": "third"}),
        )
    )
    return [
        [Operation("approve", {"order": 0, "who": first})],
        [Operation("approve", {"order": 0, "who": second})],
        [third],
    ]
