"""Seeds of lane A by several processes: one tally, the same digests, and nobody left behind."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kernel.clock import SystemClock
from simulation import crew, lane_a
from simulation.sometimes import Sometimes
from simulation.tally import Played, Tally

ROOT = Path(__file__).resolve().parents[2]


def _met(*, stops: int = 1, idle: int = 0) -> dict[str, Any]:
    run = Sometimes()
    for name in ("propose", "approve"):
        run.op(name, is_refused=False)
    for _ in range(stops):
        run.op("stop", is_refused=False)
    run.op("approve", is_refused=True)
    run.met("move", "EXECUTING COMPLETED", 2)
    run.steps, run.idle_steps, run.examples = 30, idle, 1
    return run.take()


def _played(seed: int, failure: str = "", **more: Any) -> Played:
    return Played(seed, f"{seed:064x}", failure, 0.5, (8.0, 10.0), _met(**more))


def test_what_was_played_crosses_as_one_line_and_is_the_same_there() -> None:
    line = _played(7, "expected 200\nand got 500").to_json()
    assert "\n" not in line
    assert Played.from_json(line) == _played(7, "expected 200\nand got 500")


@pytest.mark.parametrize("chance", range(20))
def test_it_makes_no_difference_who_played_a_seed_and_when(chance: int) -> None:
    seeds = [_played(seed, idle=seed % 3) for seed in range(12)]
    first, second = Tally(), Tally()
    for played in seeds:
        first.add(played)
    for played in random.Random(chance).sample(seeds, len(seeds)):
        second.add(Played.from_json(played.to_json()))
    assert first.digest() == second.digest()
    assert first.met.report() == second.met.report()
    assert first.cost(3.0) == second.cost(3.0)


def test_another_trace_of_one_seed_is_another_digest_of_all() -> None:
    first, second = Tally(), Tally()
    first.add(Played(1, "a" * 64, ""))
    second.add(Played(1, "b" * 64, ""))
    assert first.digest() != second.digest()


def test_what_two_processes_met_adds_up_and_one_that_did_nothing_is_red() -> None:
    tally = Tally()
    tally.add(_played(1, stops=0))
    assert tally.met.is_void() == "no stop ever succeeded"
    assert not tally.is_good
    tally.add(_played(2, stops=3))
    assert tally.met.successes["stop"] == 3
    assert tally.met.seen["move", "EXECUTING COMPLETED"] == 4
    assert tally.met.examples == 2
    assert tally.is_good
    tally.add(_played(3, "Broken: …"))
    assert not tally.is_good


def test_what_was_taken_is_counted_anew() -> None:
    run = Sometimes()
    run.op("propose", is_refused=True)
    assert run.take()["refusals"] == {"propose": 1}
    assert run.take() == Sometimes().take()


def test_the_figures_stand_beside_their_aims() -> None:
    tally = Tally()
    for seed in range(10):
        tally.add(_played(seed, idle=3))
    words = tally.cost(6.0)
    assert "100 a minute by the clock (aim: 400 on two cores), 120 a minute of CPU" in words
    assert "reset 9.0 ms of CPU (aim: 10)" in words
    assert "10.0 % of 300 steps idle (aim: 10)" in words


@pytest.mark.parametrize(("asked", "count", "expected"), [(3, 100, 3), (3, 2, 2), (None, 1, 1), (1, 100, 1)])
def test_no_more_processes_than_seeds(asked: int | None, count: int, expected: int) -> None:
    assert lane_a._processes(asked, count) == expected
    assert lane_a._processes(None, 10_000) == crew.cores()


def test_on_postgresql_where_all_would_share_one_database_one_process_plays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://somewhere/else")
    assert lane_a._processes(4, 100) == 1


# -- real processes --


@pytest.mark.prove
@pytest.mark.timeout(600)
def test_two_processes_play_what_one_does() -> None:
    environment = {"DATABASE_URL": "", "PYTHONHASHSEED": "random"}
    alone, both = Tally(), Tally()
    for played in crew.play(range(2, 8), processes=1, environment=environment):
        alone.add(played)
    for played in crew.play(range(2, 8), processes=2, environment=environment):
        both.add(played)
    assert both.digests == alone.digests
    assert both.met.report() == alone.met.report()
    assert len(set(both.digests.values())) == 6


@pytest.mark.prove
@pytest.mark.timeout(600)
def test_seeds_whose_processes_die_have_failed_those_that_nobody_played_as_well() -> None:
    """(`SIMULATION_PLANTED` names a bug that is not there: a member cannot even begin.)"""
    found = list(crew.play([1, 2, 3], processes=2, environment={"SIMULATION_PLANTED": "nowhere"}))
    assert sorted(played.seed for played in found) == [1, 2, 3]
    assert [played.failure for played in found[:2]] == ["its process ended with 1"] * 2
    assert found[2].failure == "all processes had ended before it was played"


@pytest.mark.prove
@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nobody_stays_behind(how: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C is told to all of them, a kill only to the one who asked."""
    asked = [sys.executable, "-m", "simulation.lane_a", "--digests", "--processes", "2", "--count", "5000"]
    running = subprocess.Popen(
        asked, cwd=ROOT, env={**os.environ, "DATABASE_URL": ""}, stdout=subprocess.PIPE, text=True,
        start_new_session=True, preexec_fn=_hear_ctrl_c,  # noqa: PLW1509  (one system call, no lock)
    )  # fmt: skip
    try:
        assert running.stdout is not None
        assert len(running.stdout.readline().split()) == 2  # they are at work
        if how is signal.SIGINT:
            os.killpg(running.pid, how)
        else:
            running.send_signal(how)
        assert running.wait(120) != 0
        running.stdout.read()  # ends when nobody holds it any more
        _wait_until_gone(running.pid)
    finally:
        _end(running.pid)


def _hear_ctrl_c() -> None:
    """Who starts the suite in a shell's background hands on that Ctrl-C is not heard."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _wait_until_gone(group: int) -> None:
    """Until nobody of that process group is there; the test's own time limit is the limit."""
    with contextlib.suppress(ProcessLookupError):
        while True:
            os.killpg(group, 0)
            SystemClock().sleep(0.05)


def _end(group: int) -> None:
    """Only what this test has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
