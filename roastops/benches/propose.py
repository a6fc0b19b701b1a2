"""From `POST /v1/proposals` to the recorded verdict, over HTTP against a real server with the embedded database."""

from __future__ import annotations

from typing import Any

from kernel import clock
from roastops.benches.figures import Figure, Outcome, quantile
from roastops.benches.house import House, check, running_house

FULL, SHORT, WARM_UP = 400, 40, 20
SPACING_S = 0.02  # a person or an agent now and then, not a flood: latency, not throughput


def run(*, is_short: bool) -> Outcome:
    """p50 and p99 of an agent's proposals, most held, some refused; the yardstick is the cheapest authenticated
    request (`GET /v1/me`) of the same server, turn about."""
    count = SHORT if is_short else FULL
    with running_house(machine=True) as house:
        _measure(house, WARM_UP)
        propose_ms, me_ms, statuses = _measure(house, count)
    p50, p99, me = quantile(propose_ms, 0.5), quantile(propose_ms, 0.99), quantile(me_ms, 0.5)
    return Outcome(
        "propose",
        (
            Figure("request → recorded verdict, p50", p50, "ms", at_most=10.0),
            Figure("request → recorded verdict, p99", p99, "ms", at_most=40.0),
            Figure("yardstick: GET /v1/me, p50", me, "ms"),
            Figure("ratio of p50 to the yardstick", p50 / me, "×"),
        ),
        "GET /v1/me on the same connection, turn about",
        is_short,
        (f"{count} proposals: {', '.join(f'{n} {status}' for status, n in sorted(statuses.items()))}",),
    )


def _measure(house: House, count: int) -> tuple[list[float], list[float], dict[str, int]]:
    agent = house.client("agent")
    fan_step = int((house.look().get("reading") or {})["fan_step"])
    propose_ms: list[float] = []
    me_ms: list[float] = []
    statuses: dict[str, int] = {}
    for number in range(count):
        clock.sleep(SPACING_S)
        body = _order(house.machine_id, fan_step, number)
        started_s = clock.monotonic()
        answer = agent.post("/v1/proposals", json=body)
        propose_ms.append((clock.monotonic() - started_s) * 1000)
        check(answer)
        proposal = answer.json()
        statuses[proposal["status"]] = statuses.get(proposal["status"], 0) + 1
        if proposal["status"] == "PENDING_APPROVAL":  # make room for the next one; not measured
            reject = f"/v1/proposals/{proposal['proposal_id']}/reject"
            check(house.client("operator").post(reject, json={"code": "WRONG_TIMING"}))
        started_s = clock.monotonic()
        check(agent.get("/v1/me"))
        me_ms.append((clock.monotonic() - started_s) * 1000)
    return propose_ms, me_ms, statuses


def _order(machine_id: str, fan_step: int, number: int) -> dict[str, Any]:
    """Three of four are one step up or down and held; every fourth is too long a move and refused."""
    change = 3 if number % 4 == 3 else 1
    return {
        "machine_id": machine_id,
        "order_type": "SET_FAN",
        "target_value": fan_step + change if fan_step + change <= 12 else fan_step - change,
        "target_unit": "step",
        "reasoning": "bench: how long does a verdict take?",
        "evidence": [{"kind": "bench", "number": number}],
    }
