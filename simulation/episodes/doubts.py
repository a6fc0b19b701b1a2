"""An order in doubt: a person at the machine says what it reads, while loops read it themselves."""

from __future__ import annotations

import random

from simulation.beginning import STEPS
from simulation.plan import Operation

MACHINES = ("doubt", "doubt", "doubt", "flying")
#: From then on it may be settled: nothing of it can be leaving any more.
RESOLVABLE_MS = 10_000
#: The lead has said that they are at the machine; nobody else has.
PEOPLE = ("lead", "lead", "lead", "lead", "operator", "second", "viewer")


def draw(chance: random.Random) -> list[list[Operation]]:
    """A loop that reads, a person who looked, and a third of either kind."""
    loop = Operation("reconcile", {}, RESOLVABLE_MS + chance.choice((0, 1_000, 2_000)))
    third = chance.choice(
        (
            [loop],
            _look(chance),
            _look(chance),
            [Operation("take_over", {"times": 1}, RESOLVABLE_MS)],
            [Operation("abort", {"order": 0, "who": "operator"}, RESOLVABLE_MS)],
        )
    )
    return [[loop], _look(chance), third]


def _look(chance: random.Random) -> list[Operation]:
    """What the person says the heater reads, as ordered or as before; told that it reads otherwise, they look again."""
    who, at_ms = chance.choice(PEOPLE), chance.choice((0, RESOLVABLE_MS - 600, *(RESOLVABLE_MS,) * 6))
    seen = [STEPS["heater"], STEPS["heater"] - 1]
    chance.shuffle(seen)
    return [Operation("resolve", {"order": 0, "who": who, "reads": reads}, at_ms) for reads in seen]
