"""From a person's approval over HTTP to the first byte in the machine's own wire log: PostgreSQL, Redis, a web process,
a worker with the machine's loop, a keeper, a virtual R1, each a process.

An agent proposes one step of the fan, it is held, an operator approves it at a random moment of the poll. Rounds of
ROUND approvals, each in a house of its own: no agent may give more than sixty orders in one roast.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

from kernel import clock, ids
from roastops.benches.figures import Figure, Outcome, quantile
from roastops.benches.house import House, NotReady, check, running_house
from roastops.benches.wire_tail import ROUNDING_MS, WireTail
from roastops.testing import servers

ROUND, ROUNDS, SHORT = 50, 4, 5
WARM_UP = 2
FAN_HEX = ("3101aaaa", "3102aaaa")  # up, down: drivers/bullet/codec_r1.py
SETTLED_WITHIN_S = 8.0
SETTLED = frozenset({"COMPLETED", "FAILED", "REJECTED", "TIMEOUT", "ABORTED"})

#: The envelope's pace is not what is measured: orders may follow each other at once here.
_UNPACED = """
import django
django.setup()
from roasts.models import ControlLimit
ControlLimit.objects.filter(machine_id=%r).update(min_interval_s=0)
"""


@dataclass(slots=True)
class Approvals:
    """What was measured, in the order of the approvals."""

    wire_ms: list[float] = field(default_factory=list)
    answer_ms: list[float] = field(default_factory=list)
    settled_ms: list[float] = field(default_factory=list)
    me_ms: list[float] = field(default_factory=list)
    endings: dict[str, int] = field(default_factory=dict)


def run(*, is_short: bool) -> Outcome:
    """p99 of 200; the yardstick is the cheapest authenticated request (`GET /v1/me`) just before each approval."""
    found = Approvals()
    for _ in range(1 if is_short else ROUNDS):
        with (
            servers.running(servers.start_postgres) as postgres,
            servers.running(servers.start_redis) as redis,
            running_house(database_url=postgres.url, redis_url=redis.url) as house,
        ):
            _unpace(house)
            _approve(house, Approvals(), WARM_UP)
            _approve(house, found, SHORT if is_short else ROUND)
    me = quantile(found.me_ms, 0.5)
    p50, p99 = quantile(found.wire_ms, 0.5), quantile(found.wire_ms, 0.99)
    return Outcome(
        "approve",
        (
            Figure("approval → first byte on the wire, p50", p50, "ms"),
            Figure("approval → first byte on the wire, p99", p99, "ms", at_most=200.0),
            Figure("approval → first byte on the wire, max", max(found.wire_ms, default=float("nan")), "ms"),
            Figure("approval → answer, p50", quantile(found.answer_ms, 0.5), "ms"),
            Figure("approval → settled (read back), p50", quantile(found.settled_ms, 0.5), "ms"),
            Figure("yardstick: GET /v1/me, p50", me, "ms"),
            Figure("ratio of p50 to the yardstick", p50 / me, "×"),
        ),
        "GET /v1/me on the same connection, before each approval",
        is_short,
        (
            f"{len(found.wire_ms)} approvals of one fan step: "
            + ", ".join(f"{count} {ending}" for ending, count in sorted(found.endings.items())),
            "times of bytes are the virtual machine's own log's, rounded up to the next millisecond",
        ),
    )


def _unpace(house: House) -> None:
    running = house.fleet.start("unpace", sys.executable, "-c", _UNPACED % house.machine_id)
    if running.process.wait(30):
        raise NotReady(f"the envelope could not be widened:\n{running.log()[-2000:]}")


def _approve(house: House, found: Approvals, count: int) -> None:
    log = WireTail(house.machine_log)
    fan_step = int((house.look().get("reading") or {})["fan_step"])
    change = -1 if fan_step > 6 else 1
    for _ in range(count):
        fan_step, change = fan_step + change, -change
        _one(house, found, log, fan_step)


def _one(house: House, found: Approvals, log: WireTail, fan_step: int) -> None:
    operator = house.client("operator")
    proposal = check(house.client("agent").post("/v1/proposals", json=_order(house.machine_id, fan_step))).json()
    if proposal["status"] != "PENDING_APPROVAL":
        raise RuntimeError(f"the order was not held: {proposal['status']} {proposal.get('reasons')}")
    clock.sleep(ids.random_bytes(1)[0] / 255 * 0.1)  # so that an approval meets every phase of the poll
    began_s = clock.monotonic()
    check(operator.get("/v1/me"))
    found.me_ms.append((clock.monotonic() - began_s) * 1000)
    log.skip()
    asked_at, asked_s = clock.now(), clock.monotonic()
    approve = f"/v1/proposals/{proposal['proposal_id']}/approve"
    check(operator.post(approve, json={"digest": proposal["digest"]}))
    found.answer_ms.append((clock.monotonic() - asked_s) * 1000)
    ending = _settled(house, proposal["proposal_id"])
    found.settled_ms.append((clock.monotonic() - asked_s) * 1000)
    found.endings[ending] = found.endings.get(ending, 0) + 1
    moments = log.moments(*FAN_HEX)
    if len(moments) != 1:
        why = check(operator.get(f"/v1/proposals/{proposal['proposal_id']}")).json().get("rejection")
        raise RuntimeError(f"{len(moments)} fan commands in the machine's log, not 1; the order ended {ending}: {why}")
    found.wire_ms.append((moments[0] - asked_at).total_seconds() * 1000 + ROUNDING_MS)


def _order(machine_id: str, fan_step: int) -> dict[str, Any]:
    return {
        "machine_id": machine_id,
        "order_type": "SET_FAN",
        "target_value": fan_step,
        "target_unit": "step",
        "reasoning": "bench: how long from the approval to the wire?",
        "evidence": [{"kind": "bench"}],
    }


def _settled(house: House, proposal_id: str) -> str:
    """Its last status."""
    deadline_s = clock.monotonic() + SETTLED_WITHIN_S
    status = ""
    while clock.monotonic() < deadline_s:
        status = check(house.client("operator").get(f"/v1/proposals/{proposal_id}")).json()["status"]
        if status in SETTLED:
            return status
        clock.sleep(0.05)
    raise NotReady(f"the order was still {status} after {SETTLED_WITHIN_S:.0f} s")
