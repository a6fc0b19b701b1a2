"""An approved order on its way to the wire, and whoever gets between: another loop, STOP, a lead, the clock."""

from __future__ import annotations

import random

from simulation.beginning import DEADLINE_MS, LEASE_ENDS_MS
from simulation.plan import Operation

MACHINES = ("ready", "shared")
LATE_SHARE = 0.3


def draw(chance: random.Random) -> list[list[Operation]]:
    """The loop that holds the machine, another process, and somebody who objects; or a loop that comes late."""
    second = chance.choice(
        (
            Operation("tick", {"token": 1}),
            Operation("claim_again", {"order": 0, "token": 1}),
            Operation("take_over", {}, LEASE_ENDS_MS),
            Operation("take_over", {"times": 2}, LEASE_ENDS_MS),
        )
    )
    objection = _objection(chance)
    if chance.random() < LATE_SHARE:  # its time is over, and the sweeper comes at that moment or not at all
        late = chance.choice((Operation("expire", {}, DEADLINE_MS), Operation("reconcile", {})))
        return [[Operation("tick", {"token": 1}, DEADLINE_MS)], [late]]
    return [[Operation("tick", {"token": 1})], [second], [objection]]


def _objection(chance: random.Random) -> Operation:
    return chance.choice(
        (
            Operation("stop", {"who": "second"}),
            Operation("stop", {"kind": "interlock", "is_wired": False}),
            Operation("stop", {"who": "viewer"}),
            Operation("suspend", {"who": "second"}),
            Operation("pause_orders", {}),
            Operation("revoke", {"who": "lead"}),
            Operation("abort", {"order": 0, "who": "third"}),
            Operation("expire", {}, DEADLINE_MS),
            Operation("propose", {"who": "third", "order_type": "SET_POWER", "target": 4}),
            Operation("reconcile", {}),
        )
    )
