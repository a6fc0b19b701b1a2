"""STOP beside a full house: twenty machines, a hundred orders a minute, three hundred viewers, PostgreSQL and Redis.

Orders are an operator's own, one step of the fan at machine after machine; each viewer watches one machine's stream.
Every stop: a person turns the heater to 9 at the next machine, STOP is posted, the first heat-down byte is read from
that machine's own log, a lead takes the halt back. LANES of them go on beside each other, each over machines of its
own. The run ends after Size.at_most_s whatever happens, and says what it did not come to.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from drivers.virtual.panel import Panel
from kernel import clock, ids, priority
from roastops.benches.figures import Figure, Outcome, quantile
from roastops.benches.floor import ELSEWHERE, Floor, FloorMachine, running_floor
from roastops.benches.house import NotReady, check
from roastops.benches.stop import HEATER_DOWN_HEX, HEATER_STEP, SEEN_WITHIN_S
from roastops.benches.wire_tail import ROUNDING_MS, WireTail

ORDERS_PER_MIN = 100.0
JOIN_WAIT_S, END_WAIT_S = 90.0, 30.0
LANES = 4
LOOK_EVERY_S = 0.1
#: Whoever presses STOP sits at a computer of their own: the lanes' threads hand over to each other quickly (s).
SWITCH_EVERY_S = 0.0005


@dataclass(frozen=True, slots=True)
class Size:
    """How many machines, viewers and stops, and how long the stops may take (s)."""

    machines: int
    viewers: int
    stops: int
    at_most_s: float


FULL, SHORT = Size(20, 300, 200, 420.0), Size(3, 40, 3, 60.0)


@dataclass
class Found:
    """What was measured."""

    first_ms: list[float] = field(default_factory=list)
    livez_ms: list[float] = field(default_factory=list)
    order_ms: list[float] = field(default_factory=list)
    order_words: dict[str, int] = field(default_factory=dict)
    results: dict[str, int] = field(default_factory=dict)
    seen: dict[str, Any] = field(default_factory=dict)
    lasted_s: float = float("nan")
    unmeasured: dict[str, int] = field(default_factory=dict)  # why a stop was not measured, and how often


class _Turns:
    """Which machine a lane stops next: every LANES-th, until the run's stops are given out or its time is over."""

    def __init__(self, size: Size, machines: list[FloorMachine]) -> None:
        self._size, self._machines = size, machines
        self._until_s = clock.monotonic() + size.at_most_s
        self._lock = threading.Lock()
        self._given = 0

    def of_lane(self, lane: int) -> Iterator[FloorMachine]:
        """The lane's machines, again and again."""
        for machine in itertools.cycle(self._machines[lane::LANES]):
            with self._lock:
                if self._given >= self._size.stops or clock.monotonic() > self._until_s:
                    return
                self._given += 1
            yield machine


def run(*, is_short: bool) -> Outcome:
    """p99 of the first heat-down byte beside the load; the yardstick is `GET /livez` just before each stop."""
    size, found = SHORT if is_short else FULL, Found()
    sys.setswitchinterval(SWITCH_EVERY_S)
    with running_floor(size.machines) as floor, _crowd(floor, size.viewers, found) as begin:
        halted: set[str] = set()
        _stop(floor, floor.machines[0], Found(), halted, "operator")  # the first one warms up
        begin()
        begun_s, over = clock.monotonic(), threading.Event()
        orders = threading.Thread(target=_order_on, args=(floor, halted, over, found), daemon=True)
        orders.start()
        try:
            _stop_on(floor, _Turns(size, floor.machines), found, halted)
        finally:
            over.set()
            orders.join(END_WAIT_S)
        found.lasted_s = clock.monotonic() - begun_s
    return _outcome(size, found, is_short)


def _stop_on(floor: Floor, turns: _Turns, found: Found, halted: set[str]) -> None:
    """All lanes, to their end. A stop that cannot be measured is counted with its reason, and the lane goes on."""

    def lane(number: int) -> None:
        for machine in turns.of_lane(number):
            try:
                _stop(floor, machine, found, halted, f"operator/lane-{number}")
            except (NotReady, RuntimeError, httpx.HTTPError, OSError) as error:
                words = f"{type(error).__name__}: {error}"[:80]
                found.unmeasured[words] = found.unmeasured.get(words, 0) + 1

    lanes = [threading.Thread(target=lane, args=(number,), daemon=True) for number in range(LANES)]
    for each in lanes:
        each.start()
    for each in lanes:
        each.join()


def _outcome(size: Size, found: Found, is_short: bool) -> Outcome:
    livez, p50 = quantile(found.livez_ms, 0.5), quantile(found.first_ms, 0.5)
    nothing = float("nan")
    return Outcome(
        "fanout",
        (
            Figure("STOP → first heat-down byte, p50", p50, "ms"),
            Figure("STOP → first heat-down byte, p99", quantile(found.first_ms, 0.99), "ms", at_most=100.0),
            Figure("STOP → first heat-down byte, max", max(found.first_ms, default=nothing), "ms"),
            Figure("stops measured", float(len(found.first_ms)), "", at_least=float(size.stops)),
            Figure("orders a minute", 60 * len(found.order_ms) / found.lasted_s, "/min", at_least=0.9 * ORDERS_PER_MIN),
            Figure("order → answer, p99", quantile(found.order_ms, 0.99), "ms"),
            Figure("reading → viewer, p50", found.seen.get("p50", nothing), "ms"),
            Figure("reading → viewer, p99", found.seen.get("p99", nothing), "ms"),
            Figure("frames to viewers a second", found.seen.get("readings", nothing) / found.lasted_s, "/s"),
            Figure("viewers lost", float(found.seen.get("lost", nothing)), "", at_most=0.0),
            Figure("yardstick: GET /livez, p50", livez, "ms"),
            Figure("ratio of p50 to the yardstick", p50 / livez, "×"),
        ),
        "GET /livez on the same connection, before each stop",
        is_short,
        (
            f"{size.machines} machines, {size.viewers} viewers, {len(found.order_ms)} orders in {found.lasted_s:.0f} s"
            f" ({_listed(found.order_words)})",
            f"{len(found.first_ms)} stops from heater {HEATER_STEP}: {_listed(found.results)}",
            f"not measured of {size.stops} stops: {_left_out(size, found)}",
        ),
    )


def _left_out(size: Size, found: Found) -> str:
    """What the run did not come to, and why."""
    late = size.stops - len(found.first_ms) - sum(found.unmeasured.values())
    counts = {**found.unmeasured, **({f"not begun within {size.at_most_s:.0f} s": late} if late > 0 else {})}
    return _listed(counts) or "none"


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))


@contextmanager
def _crowd(floor: Floor, viewers: int, found: Found) -> Iterator[Any]:
    """The viewers' process; what is yielded begins the count, the block's end ends it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "roastops.benches.crowd"],
        env=floor.fleet.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    priority.lift(process.pid, ELSEWHERE)
    try:
        asked = {
            "url": floor.web.url,
            "key": floor.keys["operator"],
            "machines": [each.machine_id for each in floor.machines],
            "viewers": viewers,
        }
        words = _words_of(process)
        _say(process, json.dumps(asked))
        _await_word(words, "JOINED", JOIN_WAIT_S)
        yield lambda: _say(process, "begin")
        if process.stdin is not None:
            process.stdin.close()
        found.seen = json.loads(_await_word(words, "SEEN ", END_WAIT_S)[5:])
    finally:
        process.kill()
        process.wait()


def _words_of(process: subprocess.Popen[str]) -> list[str]:
    """Its lines as they come, read by a thread."""
    lines: list[str] = []

    def read() -> None:
        for line in process.stdout or ():
            lines.append(line)

    threading.Thread(target=read, daemon=True).start()
    return lines


def _say(process: subprocess.Popen[str], line: str) -> None:
    if process.stdin is not None:
        process.stdin.write(line + "\n")
        process.stdin.flush()


def _await_word(lines: list[str], begin: str, within_s: float) -> str:
    deadline_s = clock.monotonic() + within_s
    while clock.monotonic() < deadline_s:
        for line in lines:
            if line.startswith(begin):
                return line
        clock.sleep(0.05)
    raise NotReady(f"the viewers did not say {begin!r} in {within_s:.0f} s")


def _order_on(floor: Floor, halted: set[str], over: threading.Event, found: Found) -> None:
    """ORDERS_PER_MIN fan orders over the machines that are not being stopped."""
    client, steps, number = floor.client("operator/orders"), dict[str, int](), 0
    begun_s = clock.monotonic()
    while not clock.wait(over, max(0.0, begun_s + number * 60 / ORDERS_PER_MIN - clock.monotonic())):
        machine_id = _next_free(floor, number, halted)
        number += 1
        steps[machine_id] = 6 if steps.get(machine_id, 6) == 5 else 5
        body = {
            "machine_id": machine_id,
            "order_type": "SET_FAN",
            "target_value": steps[machine_id],
            "target_unit": "step",
            "reasoning": "bench: a busy floor",
        }
        began_s = clock.monotonic()
        answer = client.post("/v1/proposals", json=body)
        found.order_ms.append((clock.monotonic() - began_s) * 1000)
        word = _word(answer)
        found.order_words[word] = found.order_words.get(word, 0) + 1


def _next_free(floor: Floor, number: int, halted: set[str]) -> str:
    """The machine whose turn it is, or the next one that is not being stopped just now."""
    count = len(floor.machines)
    in_turn = [floor.machines[(number + ahead) % count].machine_id for ahead in range(count)]
    return next((each for each in in_turn if each not in halted), in_turn[0])


def _word(answer: httpx.Response) -> str:
    """What became of an order: its status, and why it was refused."""
    told = answer.json()
    if not answer.is_success:
        return f"{answer.status_code} {told.get('error')}"
    reasons = told["verdict"]["reasons"]
    codes = sorted({reason["code"] for reason in reasons if reason["decision"] == "REFUSE"})
    return " ".join([str(told["status"]), *codes])


def _stop(floor: Floor, machine: FloorMachine, found: Found, halted: set[str], who: str) -> None:
    """One STOP of one machine, measured. NotReady, RuntimeError, httpx.HTTPError where it could not be."""
    client, log = floor.client(who), WireTail(machine.log)
    _heat(client, machine)
    halted.add(machine.machine_id)
    try:
        clock.sleep(ids.random_bytes(1)[0] / 255 * 0.1)  # so that a stop meets every phase of the poll
        began_s = clock.monotonic()
        check(client.get("/livez"))
        found.livez_ms.append((clock.monotonic() - began_s) * 1000)
        log.skip()
        asked_at = clock.now()
        body = check(client.post(f"/v1/machines/{machine.machine_id}/stop", json={})).json()
        found.results[body["result"]] = found.results.get(body["result"], 0) + 1
        downs_ms = [(at - asked_at).total_seconds() * 1000 + ROUNDING_MS for at in log.moments(HEATER_DOWN_HEX)]
        reset = {"reason": "bench: next one"}
        check(floor.client(f"lead/{who}").post(f"/v1/machines/{machine.machine_id}/reset", json=reset))
    finally:
        halted.discard(machine.machine_id)
    if not downs_ms:
        raise RuntimeError(f"no heat-down byte in the machine's log: {body}")
    found.first_ms.append(downs_ms[0])


def _heat(client: httpx.Client, machine: FloorMachine) -> None:
    """A person turns the heater to 9, and the house has seen it."""
    with closing(Panel(machine.socket)) as panel:
        panel.turn_knob("heater", HEATER_STEP)
    deadline_s = clock.monotonic() + SEEN_WITHIN_S
    while clock.monotonic() < deadline_s:
        found = check(client.get(f"/v1/machines/{machine.machine_id}")).json()
        if (found.get("reading") or {}).get("heater_step") == HEATER_STEP:
            return
        clock.sleep(LOOK_EVERY_S)
    raise NotReady(f"the heater's {HEATER_STEP} was not seen in {SEEN_WITHIN_S:.0f} s")
