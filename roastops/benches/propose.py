"""From `POST /v1/proposals` to the recorded verdict: how long one takes with the embedded database, how many a second
there are on PostgreSQL. Both over HTTP against real servers.
"""

from __future__ import annotations

from typing import Any

from kernel import clock
from roastops.benches import propose_rate
from roastops.benches.figures import Figure, Outcome, quantile
from roastops.benches.house import House, check, running_house

FULL, SHORT, WARM_UP = 400, 40, 20
RATE, RATE_SHORT = 5_000, 240  # proposals for the throughput
SPACING_S = 0.02  # a person or an agent now and then, not a flood: latency, not throughput


def run(*, is_short: bool) -> Outcome:
    """p50 and p99 of an agent's proposals, most held, some refused; the yardstick is the cheapest authenticated
    request (`GET /v1/me`) of the same server, turn about."""
    count = SHORT if is_short else FULL
    with running_house(machine=True) as house:
        _measure(house, WARM_UP)
        propose_ms, me_ms, statuses = _measure(house, count)
    rate = propose_rate.measure(RATE_SHORT if is_short else RATE)
    p50, p99, me = quantile(propose_ms, 0.5), quantile(propose_ms, 0.99), quantile(me_ms, 0.5)
    return Outcome(
        "propose",
        (
            Figure("request → recorded verdict, p50", p50, "ms", at_most=10.0),
            Figure("request → recorded verdict, p99", p99, "ms", at_most=40.0),
            Figure("yardstick: GET /v1/me, p50", me, "ms"),
            Figure("ratio of p50 to the yardstick", p50 / me, "×"),
            *_rate_figures(rate),
        ),
        "GET /v1/me on the same connection, turn about; for the rate, over the same connections",
        is_short,
        (f"{count} proposals: {_listed(statuses)}", f"for the rate {rate.asked}: {_listed(rate.statuses)}"),
    )


def _rate_figures(rate: propose_rate.Rate) -> tuple[Figure, ...]:
    per_s = rate.asked / rate.sealed_s
    return (
        Figure("PostgreSQL: proposals a second, sealed", per_s, "/s", at_least=250.0),
        Figure("PostgreSQL: answered a second", rate.asked / rate.answered_s, "/s"),
        Figure("PostgreSQL: answer, p50", quantile(rate.latencies_ms, 0.5), "ms"),
        Figure("PostgreSQL: answer, p99", quantile(rate.latencies_ms, 0.99), "ms"),
        Figure("proposals lost or doubled", float(abs(rate.asked - rate.filed)), "", at_most=0.0),
        Figure("audit entries sealed for each", rate.seals / rate.asked, "", at_least=1.0),
        Figure("stream events numbered for each", rate.numbered / rate.asked, "", at_least=1.0),
        Figure("yardstick: GET /v1/me a second", rate.me_per_s, "/s"),
        Figure("ratio of the rate to the yardstick", per_s / rate.me_per_s, "×"),
    )


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))


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
