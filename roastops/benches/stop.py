"""From the STOP request over HTTP to the first heat-down byte in the machine's own wire log.

Each stop: a person turns the heater to 9 at the machine, STOP is posted, the answer is awaited, the halt is taken
back. With ``run_frozen`` PostgreSQL and Redis are stopped (SIGSTOP) before the first request and until the last.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from drivers import keeper_config, stop_token
from drivers.keeper_client import KeeperClient
from drivers.keeper_config import KeeperConfig
from drivers.virtual.panel import Panel
from kernel import clock, ids
from roastops.benches.figures import Figure, Outcome, quantile
from roastops.benches.house import House, NotReady, check, running_house
from roastops.benches.wire_tail import ROUNDING_MS, WireTail
from roastops.testing import servers

FULL, SHORT = 200, 5
FULL_FROZEN, SHORT_FROZEN = 60, 4
HEATER_STEP = 9
HEATER_DOWN_HEX = "3402aaaa"
COOL_ENOUGH_C, TOO_HOT_C = 190.0, 215.0
SEEN_WITHIN_S, COOLED_WITHIN_S = 5.0, 120.0


@dataclass(slots=True)
class Stops:
    """What was measured, in the order of the stops."""

    first_ms: list[float] = field(default_factory=list)
    written_s: list[float] = field(default_factory=list)
    answered_s: list[float] = field(default_factory=list)
    proved_s: list[float] = field(default_factory=list)
    livez_ms: list[float] = field(default_factory=list)
    results: dict[str, int] = field(default_factory=dict)


def run(*, is_short: bool) -> Outcome:
    """With everything alive: embedded server, keeper, virtual machine."""
    with running_house() as house:
        with closing(_Round(house)) as rounds:
            _one(rounds, Stops(), rounds.reset)  # the first one warms up
            stops = Stops()
            for _ in range(SHORT if is_short else FULL):
                _one(rounds, stops, rounds.reset)
    return _outcome("stop", stops, 50.0, is_short)


def run_frozen(*, is_short: bool) -> Outcome:
    """With the fleet's database and Redis frozen."""
    postgres = servers.start_postgres()
    redis = None
    try:
        redis = servers.start_redis()
        with running_house(database_url=postgres.url, redis_url=redis.url) as house, closing(_Round(house)) as rounds:
            _one(rounds, Stops(), rounds.reset)
            stops = Stops()
            postgres.freeze()
            redis.freeze()
            try:
                for _ in range(SHORT_FROZEN if is_short else FULL_FROZEN):
                    _one(rounds, stops, rounds.release)
            finally:
                postgres.thaw()
                redis.thaw()
    finally:
        postgres.stop()
        if redis is not None:
            redis.stop()
    return _outcome("stop with database and Redis frozen", stops, 250.0, is_short)


def _outcome(name: str, stops: Stops, bar_ms: float, is_short: bool) -> Outcome:
    livez = quantile(stops.livez_ms, 0.5)
    p50, p99 = quantile(stops.first_ms, 0.5), quantile(stops.first_ms, 0.99)
    return Outcome(
        name,
        (
            Figure("request → first heat-down byte, p50", p50, "ms"),
            Figure("request → first heat-down byte, p99", p99, "ms", at_most=bar_ms),
            Figure("request → first heat-down byte, max", max(stops.first_ms, default=float("nan")), "ms"),
            Figure("request → nine steps written, max", max(stops.written_s, default=float("nan")), "s", at_most=1.2),
            Figure("request → proved, max", max(stops.proved_s, default=float("nan")), "s", at_most=2.0),
            Figure("request → answer, p50", quantile(stops.answered_s, 0.5), "s"),
            Figure("yardstick: GET /livez, p50", livez, "ms"),
            Figure("ratio of p50 to the yardstick", p50 / livez, "×"),
        ),
        "GET /livez on the same connection, before each stop",
        is_short,
        (f"{len(stops.first_ms)} stops from heater {HEATER_STEP}: "
         + ", ".join(f"{count} {result}" for result, count in sorted(stops.results.items())),
         "times of bytes are the virtual machine's own log's, rounded up to the next millisecond"),
    )  # fmt: skip


class _Round:
    """The hands of one bench: the person at the machine, the keeper's ear, the log's tail."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.panel: Panel = house.panel()
        self.config: KeeperConfig = keeper_config.read(
            keeper_config.config_path(house.fleet.data_dir / "run", house.machine_id)
        )
        self.keeper = KeeperClient(self.config.socket, timeout_s=5.0)
        self.log = WireTail(house.machine_log)

    def close(self) -> None:
        self.panel.close()
        self.keeper.close()

    def heat(self) -> None:
        """Heater to 9, and the keeper has seen it; cooler first where the drum is too hot to go on."""
        if self._hottest_c() > TOO_HOT_C:
            self._await(lambda: self._hottest_c() < COOL_ENOUGH_C, COOLED_WITHIN_S, "the drum to cool")
        self.panel.turn_knob("heater", HEATER_STEP)
        self._await(lambda: self._reading().get("heater_step") == HEATER_STEP, SEEN_WITHIN_S, "the keeper to see it")

    def reset(self) -> None:
        """A lead takes the halt back."""
        answer = self.house.client("lead").post(
            f"/v1/machines/{self.house.machine_id}/reset", json={"reason": "bench: next round"}
        )
        check(answer)

    def release(self) -> None:
        """The keeper's latch alone: there is no database to take the halt back in."""
        auth = stop_token.sign_request(self.config.stop_key(), "release", self.config.machine_id, "*")
        self.keeper.release(stop_id="*", by="bench", auth=auth)

    def _reading(self) -> dict[str, Any]:
        return self.keeper.status().get("reading") or {}

    def _hottest_c(self) -> float:
        reading = self._reading()
        return max(reading.get("bean_temp_c") or 0.0, reading.get("infrared_temp_c") or 0.0)

    def _await(self, is_so: Callable[[], bool], within_s: float, what: str) -> None:
        deadline_s = clock.monotonic() + within_s
        while not is_so():
            if clock.monotonic() > deadline_s:
                raise NotReady(f"waited {within_s:.0f} s for {what}: {self._reading()}")
            clock.sleep(0.02)


def _one(rounds: _Round, stops: Stops, take_back: Callable[[], None]) -> None:
    client, machine_id = rounds.house.client("operator"), rounds.house.machine_id
    rounds.heat()
    clock.sleep(ids.random_bytes(1)[0] / 255 * 0.1)  # so that a stop meets every phase of the poll
    started_s = clock.monotonic()
    check(client.get("/livez"))
    stops.livez_ms.append((clock.monotonic() - started_s) * 1000)
    rounds.log.skip()
    asked_at, asked_s = clock.now(), clock.monotonic()
    answer = client.post(f"/v1/machines/{machine_id}/stop", json={})
    stops.answered_s.append(clock.monotonic() - asked_s)
    check(answer)
    body = answer.json()
    stops.results[body["result"]] = stops.results.get(body["result"], 0) + 1
    downs_ms = [(at - asked_at).total_seconds() * 1000 + ROUNDING_MS for at in rounds.log.moments(HEATER_DOWN_HEX)]
    if len(downs_ms) < HEATER_STEP:
        raise RuntimeError(f"{len(downs_ms)} heat-down bytes in the machine's log, not {HEATER_STEP}: {body}")
    stops.first_ms.append(downs_ms[0])
    stops.written_s.append(downs_ms[HEATER_STEP - 1] / 1000)
    if body.get("proved_ms") is not None:
        stops.proved_s.append(body["proved_ms"] / 1000)
    take_back()
