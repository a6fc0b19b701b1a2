"""Beat and workers over the broker: a message only wakes, however often it comes, or never."""

from __future__ import annotations

import random

from simulation.beginning import LEASE_ENDS_MS
from simulation.plan import Operation

MACHINES = ("ready", "flying")


def draw(chance: random.Random) -> list[list[Operation]]:
    """A beat (perhaps two), and workers who take what comes."""
    at_ms = LEASE_ENDS_MS + chance.choice((0, 1, 200))
    beats = [Operation("beat", {}, at_ms)] * chance.choice((1, 1, 2))
    work = Operation("work", {}, at_ms + chance.choice((0, 1, 900)))
    return [beats, [work], [Operation("work", {}, at_ms + chance.choice((0, 1, 900)))]]
