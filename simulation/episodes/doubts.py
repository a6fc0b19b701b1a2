"""An order in doubt: a person at the machine says what it reads, while loops read it themselves."""

from __future__ import annotations

import random

from simulation.beginning import STEPS
from simulation.plan import Operation

MACHINES = ("doubt", "doubt", "flying")
#: From then on it may be settled: nothing of it can be leaving any more.
RESOLVABLE_MS = 10_000
#: The lead has said that they are at the machine; nobody else has.
PEOPLE = ("lead", "lead", "operator", "second", "third", "viewer")


def draw(chance: random.Random) -> list[list[Operation]]:
    """A loop that reads, a person who looked, and a third of either kind."""
    loop = Operation("reconcile", {}, RESOLVABLE_MS)
    third = chance.choice(
        (
            loop,
            _look(chance),
            _look(chance),
            Operation("take_over", {"times": 1}, RESOLVABLE_MS),
            Operation("abort", {"order": 0, "who": "operator"}, RESOLVABLE_MS),
        )
    )
    return [[loop], [_look(chance)], [third]]


def _look(chance: random.Random) -> Operation:
    """What the person says the heater reads: as ordered, or as before."""
    arguments = {"order": 0, "who": chance.choice(PEOPLE), "reads": STEPS["heater"] - chance.choice((0, 1))}
    return Operation("resolve", arguments, chance.choice((0, RESOLVABLE_MS - 600, *(RESOLVABLE_MS,) * 6)))
