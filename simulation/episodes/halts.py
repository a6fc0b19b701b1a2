"""STOP, interlocks, suspensions and pauses against whatever is being asked for or approved at that moment."""

from __future__ import annotations

import random

from simulation.plan import Operation

MACHINES = ("held", "ready", "shared", "free")


def draw(chance: random.Random) -> list[list[Operation]]:
    """One who stops, one who stops too or takes it back, one who goes on working."""
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
            [Operation(first.verb, dict(first.arguments))],
            [Operation("stop", {"who": "second"})],
            [Operation("suspend", {"who": "second"})],
            [Operation("reset", {"who": chance.choice(("lead", "operator"))})],
            [Operation("resume", {"who": "second"})],
            [Operation("resume_orders", {"who": "second"})],
        )
    )
    return [[first], second, _work(chance)]


def _work(chance: random.Random) -> list[Operation]:
    return chance.choice(
        (
            [Operation("approve", {"order": 0, "who": "third"})],
            [Operation("approve", {"order": 0, "who": "third"}), Operation("tick", {"token": 1})],
            [Operation("propose", {"who": "agent_b", "order_type": "SET_DRUM", "target": 6})],
            [Operation("propose", {"who": "third", "order_type": "SET_FAN", "target": 5})],
            [
                Operation("propose", {"who": "third", "order_type": "SET_FAN", "target": 5}),
                Operation("tick", {"token": 1}),
            ],
            [Operation("adopt", {"order": 0, "who": "third"})],
        )
    )
