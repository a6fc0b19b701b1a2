"""The fleet under attack: real PostgreSQL, Redis, worker processes, keeper and virtual machine, killed and frozen.

The number of random moments is the variable MOMENTS: two in `make test`, the rest of fifty in `make prove`.
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from roastops.tests.stack import HEATER_DOWN, HEATER_UP, Stack, fleet, wait_for

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(900)]
SETTLED = {"COMPLETED", "FAILED", "REJECTED", "TIMEOUT", "ABORTED"}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with fleet(workers=2) as running:
        yield running


def heater(stack: Stack) -> int:
    """What the machine itself says, past everything of ours."""
    with stack.panel() as panel:
        return int(panel.status()["heater_step"])


def owned(stack: Stack) -> bool:
    """A live lease whose loop the keeper hears, and a fresh reading."""
    rows = stack.sql("SELECT token, expires_at > now() FROM commands_machinelease")
    status = stack.keeper_status()
    if not rows or not rows[0][1] or status is None or status["token"] != rows[0][0]:
        return False
    return status["loop_silent_s"] is not None and status["loop_silent_s"] < 1.0 and status["link"]["state"] == "up"


def settle(stack: Stack, proposal_id: str, timeout_s: float = 15) -> dict[str, Any]:
    wait_for(lambda: stack.proposal(proposal_id)["status"] in SETTLED, f"{proposal_id} to settle", timeout_s)
    return stack.proposal(proposal_id)


def clear_halts(stack: Stack) -> None:
    """A lead resets what earlier tests latched."""
    if stack.sql("SELECT 1 FROM commands_halt WHERE closed_at IS NULL"):
        answer = stack.post(f"/v1/machines/{stack.machine_id}/reset", {"reason": "next test"}, "lead")
        assert answer.status_code == 200, answer.text
    if stack.sql("SELECT 1 FROM roasts_machinereading WHERE is_orders_paused"):
        stack.post(f"/v1/machines/{stack.machine_id}/resume-orders", {"reason": "looked"}, "operator")


def wait_owned(stack: Stack, timeout_s: float = 10) -> float:
    return wait_for(lambda: owned(stack), "an owner", timeout_s)


def test_a_persons_order_reaches_the_wire_once_and_is_read_back(stack: Stack) -> None:
    wait_owned(stack, 30)
    clear_halts(stack)
    before, mark = heater(stack), len(stack.sent())
    target = before + 1 if before < 8 else before - 1
    done = settle(stack, stack.order("SET_POWER", target)["proposal_id"])
    assert done["status"] == "COMPLETED", done
    assert heater(stack) == target
    assert len(stack.sent()) - mark == 1


def test_two_workers_never_own_one_machine(stack: Stack) -> None:
    wait_owned(stack)
    tokens = []
    for _ in range(20):
        rows = stack.sql("SELECT owner, token FROM commands_machinelease")
        assert len(rows) == 1
        status = stack.keeper_status()
        assert status is not None and status["token"] == rows[0][1]
        tokens.append(rows[0])
        time.sleep(0.25)
    assert len(set(tokens)) == 1, "the lease changed hands with nobody killed"


MOMENTS = [
    pytest.param(number, marks=pytest.mark.prove) if number >= 2 else number
    for number in range(int(os.environ.get("MOMENTS", "8")))
]


@pytest.mark.parametrize("moment", MOMENTS)
def test_kill_9_at_a_random_moment_of_an_order(stack: Stack, moment: int) -> None:
    """The loop (even) or the keeper (odd) dies while a heater order is on the wire: one effect, owned in 5 s."""
    chance = random.Random(f"moment {moment}")
    clear_halts(stack)
    wait_owned(stack, 20)
    before, mark = heater(stack), len(stack.sent())
    target = before - 4 if before >= 5 else before + 4
    steps = abs(target - before)
    proposal_id = stack.order("SET_POWER", target)["proposal_id"]
    time.sleep(chance.uniform(0.0, 0.6))
    killed_s = time.monotonic()
    if moment % 2:
        status = stack.keeper_status()
        assert status is not None
        os.kill(int(status["pid"]), signal.SIGKILL)
    else:
        owner = stack.sql("SELECT owner FROM commands_machinelease")[0][0]
        name = next(
            each for each, process in stack.processes.items()
            if each.startswith("worker") and f":{process.pid}:" in f":{owner.replace('@', ':').replace('/', ':')}:"
        )
        stack.kill(name)
        stack.start_worker(name)
    wait_for(lambda: owned(stack) or says_unproved(stack), "owned again, or said to be unproved", 5.5)
    assert time.monotonic() - killed_s < 6.5
    wait_owned(stack, 20)
    done = settle(stack, proposal_id, 20)
    sent = stack.sent()[mark:]
    assert len(sent) <= steps, f"{len(sent)} steps for an order of {steps}: {done}"
    assert {entry["hex"].lower() for entry in sent} <= {HEATER_UP if target > before else HEATER_DOWN}
    if done["status"] == "COMPLETED":
        assert heater(stack) == target
    rows = stack.sql("SELECT count(*) FROM commands_execution WHERE proposal_id = %s", proposal_id)
    assert rows[0][0] <= 1


def says_unproved(stack: Stack) -> bool:
    rows = stack.sql("SELECT link FROM roasts_machinereading")
    return bool(rows) and rows[0][0] == "keeper_lost"


def test_unplugged_and_replugged(stack: Stack) -> None:
    """A gap is marked, recording goes on by itself, orders wait for a person."""
    clear_halts(stack)
    wait_owned(stack, 20)
    gaps = stack.sql("SELECT count(*) FROM roasts_gap")[0][0]
    mark = len(stack.sent())
    with stack.panel() as panel:
        panel.unplug()
        took_s = wait_for(lambda: stack.sql("SELECT 1 FROM roasts_machinereading WHERE link = 'down'"), "link down", 5)
        assert took_s < 3
        time.sleep(4)
        panel.replug()
    wait_for(lambda: stack.sql("SELECT 1 FROM roasts_machinereading WHERE link = 'up'"), "link up", 6)
    wait_for(lambda: stack.sql("SELECT count(*) FROM roasts_gap")[0][0] > gaps, "the gap", 6)
    count = stack.sql("SELECT count(*) FROM roasts_sample")[0][0]
    wait_for(lambda: stack.sql("SELECT count(*) FROM roasts_sample")[0][0] > count + 5, "samples again", 6)
    refused = stack.order("SET_FAN", 6, "operator")  # (less heat a person may always ask for)
    assert refused["status"] == "REJECTED", refused
    assert len(stack.sent()) == mark, "a control was moved unasked"
    clear_halts(stack)
    wait_for(lambda: not stack.sql("SELECT 1 FROM roasts_machinereading WHERE is_orders_paused"), "orders again", 5)


def test_200_at_once_on_one_proposal_are_one_effect(stack: Stack) -> None:
    """Approve, reject and stop over HTTP from 200 at once: one effect; the rest are told why."""
    clear_halts(stack)
    wait_owned(stack, 20)
    before = heater(stack)
    proposal = stack.order("SET_POWER", before - 1, "agent")
    assert proposal["status"] == "PENDING_APPROVAL", proposal
    path = f"/v1/proposals/{proposal['proposal_id']}"

    def act(number: int) -> tuple[str, int, str]:
        if number == 120:
            answer = stack.post(f"/v1/machines/{stack.machine_id}/stop", {}, "operator", timeout=60)
            return "stop", answer.status_code, answer.text
        if number % 2:
            answer = stack.post(f"{path}/approve", {"digest": proposal["digest"]}, "operator", timeout=60)
            return "approve", answer.status_code, answer.text
        answer = stack.post(f"{path}/reject", {"code": "WRONG_TIMING"}, "operator", timeout=60)
        return "reject", answer.status_code, answer.text

    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(act, range(200)))
    counts = Counter((what, status) for what, status, _ in answers)
    won = sum(count for (what, status), count in counts.items() if what != "stop" and status == 200)
    assert won <= 1, counts
    assert counts[("stop", 200)] == 1, counts
    for what, status, text in answers:
        if status != 200:
            body = json.loads(text)
            assert status in (409, 412), (what, status, text)
            assert body["error"] and body["message"] and body["how_to_fix"]
    executions = stack.sql("SELECT count(*) FROM commands_execution WHERE proposal_id = %s", proposal["proposal_id"])
    assert executions[0][0] <= 1
    settle(stack, proposal["proposal_id"], 20)
    clear_halts(stack)


@pytest.mark.parametrize("outage_s", [6, pytest.param(30, marks=pytest.mark.prove)])
def test_a_database_outage_costs_no_sample_and_heats_nothing(stack: Stack, outage_s: float) -> None:
    assert stack.postgres is not None
    clear_halts(stack)
    wait_owned(stack, 20)
    before = heater(stack)
    mark = len(stack.sent(HEATER_UP))
    newest = "SELECT roast_id, max(elapsed_ms) FROM roasts_sample GROUP BY roast_id ORDER BY 1 DESC LIMIT 1"
    first = stack.sql(newest)[0]
    stack.postgres.freeze()
    try:
        time.sleep(outage_s)
    finally:
        stack.postgres.thaw()
    wait_owned(stack, 20)
    newest_ms = first[1] + 1000 * outage_s
    wait_for(lambda: stack.sql(newest)[0][1] > newest_ms + 1000, "what was journalled, on record", 20)
    rows = stack.sql(
        "SELECT elapsed_ms FROM roasts_sample WHERE roast_id = %s AND elapsed_ms >= %s ORDER BY 1", *first
    )
    elapsed = [row[0] for row in rows]
    assert elapsed[-1] - elapsed[0] > 1000 * outage_s
    holes = [(a, b) for a, b in zip(elapsed, elapsed[1:], strict=False) if b - a > 600]
    assert not holes, holes
    assert heater(stack) <= before
    assert len(stack.sent(HEATER_UP)) == mark


def test_stop_with_database_and_redis_frozen(stack: Stack) -> None:
    """STOP needs neither: first heat-down byte within 250 ms, proved, and filed once they are back."""
    assert stack.postgres is not None and stack.redis is not None
    clear_halts(stack)
    wait_owned(stack, 20)
    settle(stack, stack.order("SET_POWER", 8)["proposal_id"])
    mark = len(stack.sent())
    stack.postgres.freeze()
    stack.redis.freeze()
    try:
        time.sleep(1)
        answer = stack.post(f"/v1/machines/{stack.machine_id}/stop", {}, "operator", timeout=20)
    finally:
        stack.redis.thaw()
        stack.postgres.thaw()
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["result"] == "heat_off", body
    assert body["first_byte_ms"] <= 250 and body["proved_ms"] <= 2250, body
    assert heater(stack) == 0
    assert {entry["hex"].lower() for entry in stack.sent()[mark:]} == {HEATER_DOWN}
    wait_for(
        lambda: stack.sql("SELECT 1 FROM commands_halt WHERE id = %s", body["halt_id"]), "the halt on record", 15
    )
    wait_owned(stack, 20)
    clear_halts(stack)


def test_no_redis_no_trouble(stack: Stack) -> None:
    """With the broker frozen the loop goes on and a person's order is carried out."""
    assert stack.redis is not None
    wait_owned(stack, 20)
    stack.redis.freeze()
    try:
        time.sleep(1)
        done = settle(stack, stack.order("SET_FAN", 4)["proposal_id"], 15)
    finally:
        stack.redis.thaw()
    assert done["status"] == "COMPLETED", done


def test_zz_manage_stop_with_everything_but_the_machine_killed(stack: Stack) -> None:
    """Last: it kills them all."""
    assert stack.postgres is not None and stack.redis is not None
    clear_halts(stack)
    wait_owned(stack, 20)
    settle(stack, stack.order("SET_POWER", 7)["proposal_id"])
    keeper = stack.keeper_status()
    assert keeper is not None
    for name in ("beat", "worker-a", "worker-b", "web"):
        stack.kill(name)
    os.kill(int(keeper["pid"]), signal.SIGKILL)
    stack.postgres.freeze()
    stack.redis.freeze()
    done = stack.manage("stop", "--machine", stack.machine_id, "--json", check=False, timeout_s=20)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["result"] == "heat_off"
    assert heater(stack) == 0
    assert list((Path(stack.environment["ROASTOPS_DATA_DIR"]) / "journal").iterdir()), "the halt is journalled"
