"""One held order, and everybody who would settle it: approve, reject, withdraw, expire, adopt, void."""

from __future__ import annotations

import copy
import random

from simulation.beginning import DEADLINE_MS
from simulation.plan import Operation

MACHINES = ("held", "shared")
PEOPLE = ("operator", "second", "third", "lead", "other_lead", "viewer", "stranger")
#: Who owns the agent of which order: they may not approve it, and try.
OWNERS = ("lead", "second")
OWNERS_SHARE = 0.2
#: How often an approval names another digest than the order's.
WRONG_SHARE = 0.15
#: How often somebody of another organisation tries, with the order's own id.
STRANGERS_SHARE = 0.15


def draw(chance: random.Random) -> list[list[Operation]]:
    """One list of operations per actor."""
    actors = [[_one(chance)] for _ in range(3)]
    aside = copy.copy(chance)  # what is drawn after this stays what it was
    if aside.random() < STRANGERS_SHARE:
        verb = aside.choice(("approve", "approve", "reject"))
        actors[2] = [Operation(verb, {"order": 0, "who": "stranger"})]
    return actors


def _one(chance: random.Random) -> Operation:
    who, order = chance.choice(PEOPLE[:5] if chance.random() < 0.8 else PEOPLE), 1 if chance.random() < 0.2 else 0
    at_ms = chance.choice((0, 0, 0, DEADLINE_MS - 1, DEADLINE_MS))
    verb = chance.choices(("approve", "reject", "abort", "withdraw", "expire", "adopt", "void"), (8, 3, 2, 2, 4, 1, 1))[
        0
    ]
    if verb == "expire":
        return Operation("expire", {}, chance.choice((0, DEADLINE_MS - 1, DEADLINE_MS - 1, DEADLINE_MS, DEADLINE_MS)))
    if verb == "void":
        return Operation("void", {})
    if verb == "withdraw":
        return Operation("abort", {"order": order, "who": "agent_b" if order == 1 else "agent_a"}, at_ms)
    if verb == "approve" and chance.random() < OWNERS_SHARE:
        who = OWNERS[order]
    arguments: dict[str, object] = {"order": order, "who": who}
    if verb == "approve" and chance.random() < WRONG_SHARE:
        arguments["is_right"] = False
    return Operation(verb, arguments, at_ms)
