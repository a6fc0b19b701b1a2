"""A veto window at its end: released, vetoed, approved, stopped, all at that moment."""

from __future__ import annotations

import random

from simulation.beginning import WINDOW_ENDS_MS
from simulation.plan import Operation

MACHINES = ("window",)


def draw(chance: random.Random) -> list[list[Operation]]:
    """The sweeper releases; one vetoes; one does something else."""
    order = chance.choice((0, 0, 1))
    release = Operation("release", {}, WINDOW_ENDS_MS + chance.choice((-1, 0, 0, 1)))
    veto = Operation("veto", {"order": order, "who": chance.choice(("operator", "second", "viewer"))}, _about(chance))
    return [[release], [veto], [_third(chance, order)]]


def _about(chance: random.Random) -> int:
    return chance.choice((0, WINDOW_ENDS_MS - 1, WINDOW_ENDS_MS, WINDOW_ENDS_MS))


def _third(chance: random.Random, order: int) -> Operation:
    return chance.choice(
        (
            Operation("release", {}, WINDOW_ENDS_MS),
            Operation("veto", {"order": order, "who": "third"}, _about(chance)),
            Operation("approve", {"order": order, "who": "third"}, _about(chance)),
            Operation("stop", {"who": "third"}, _about(chance)),
            Operation("suspend", {"who": "third"}, _about(chance)),
            Operation("abort", {"order": order, "who": "agent_a" if order == 0 else "agent_b"}, _about(chance)),
        )
    )
