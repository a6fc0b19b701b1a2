"""STOP, interlocks, suspensions and pauses against whatever is being asked for or approved at that moment."""

from __future__ import annotations

import random

from simulation.plan import Operation

MACHINES = ("held", "held", "ready", "shared", "shared", "free")
#: How often somebody goes on working as soon as it is stopped.
AFTER_SHARE = 0.5
APPROVING_SHARE = 0.5


def draw(chance: random.Random) -> list[list[Operation]]:
    """One who stops, one who goes on working, one who does either or takes it back; perhaps the first works on, too."""
    first = chance.choice(
        (
            Operation("stop", {"who": "operator"}),
            Operation("stop", {"kind": "interlock"}),
            Operation("suspend", {"who": "operator"}),
            Operation("pause_orders", {}),
        )
    )
    second = chance.choice(
        (
            *([Operation(first.verb, dict(first.arguments))] for _ in range(3)),
            [Operation("stop", {"who": "second"})],
            [Operation("suspend", {"who": "second"})],
            [Operation("reset", {"who": chance.choice(("lead", "operator"))})],
            [Operation("resume", {"who": "second"})],
            [Operation("resume_orders", {"who": "second"})],
            *(_work(chance) for _ in range(4)),
        )
    )
    after = _work(chance) if chance.random() < AFTER_SHARE else []
    return [[first, *after], second, _work(chance)]


def _work(chance: random.Random) -> list[Operation]:
    """Half of it is somebody's yes, at the moment of the stop."""
    if chance.random() < APPROVING_SHARE:
        approve = Operation("approve", {"order": chance.choice((0, 1, 1)), "who": "third"})
        return [approve, Operation("tick", {"token": 1})] if chance.random() < 0.3 else [approve]
    return chance.choice(
        (
            [Operation("propose", {"who": "agent_b", "order_type": "SET_DRUM", "target": 6})],
            [Operation("propose", {"who": "third", "order_type": "SET_FAN", "target": 5})],
            [
                Operation("propose", {"who": "third", "order_type": "SET_FAN", "target": 5}),
                Operation("tick", {"token": 1}),
            ],
            [Operation("adopt", {"order": 0, "who": "third"})],
        )
    )
