"""Who tends the machine: take-overs at the very moment a lease ends, and what a dead loop left on the wire."""

from __future__ import annotations

import random

from simulation.beginning import LEASE_ENDS_MS
from simulation.plan import Operation

MACHINES = ("flying", "doubt", "ready")
RESOLVABLE_MS = 10_000
#: How often two reach for the lease at the very moment it ends.
RUSH_SHARE = 0.4


def draw(chance: random.Random) -> list[list[Operation]]:
    """Three processes that could all be the loop."""
    rush = 2 if chance.random() < RUSH_SHARE else 0
    rushing = [[Operation("take_over", {"times": 1}, LEASE_ENDS_MS)] for _ in range(rush)]
    return rushing + [[_one(chance, index)] for index in range(rush, 3)]


def _one(chance: random.Random, index: int) -> Operation:
    at_ms = chance.choice((0, LEASE_ENDS_MS - 1, LEASE_ENDS_MS, LEASE_ENDS_MS, RESOLVABLE_MS))
    return chance.choice(
        (
            Operation("take_over", {"times": 1}, at_ms),
            Operation("take_over", {"times": 1}, LEASE_ENDS_MS),
            Operation("take_over", {"times": 1}, LEASE_ENDS_MS - 1),
            Operation("reconcile", {}, chance.choice((0, RESOLVABLE_MS))),
            Operation("reconcile", {}, RESOLVABLE_MS),
            Operation("renew", {}, at_ms),
            Operation("give_up", {}, 0),
            Operation("tick", {"token": 1}) if index == 0 else Operation("reconcile", {}, RESOLVABLE_MS),
        )
    )
