"""Lane B on a real PostgreSQL, as its user runs it: `manage.py simulate` in processes of its own.

Where there is no PostgreSQL this is skipped with the reason; with CI=true that is a failure.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from roastops.testing import servers
from simulation import sandbox
from simulation.planted_races import PLANTED, VARIABLE
from simulation.runs import LONG_S, ROOT, Run, simulate

HASH_SEEDS = ("0", "1", "99")
#: `make prove SEEDS=200`: 10,000 episodes, half of a fixed range and half fresh, and 200 seeds' digests.
SEEDS = int(os.environ.get("SEEDS") or 20)
EPISODES_PER_SEED = 50
#: The short proof looks for these, every one of them from SEEDS=200 on.
MUST_BE_FOUND = ("lost_update", "approved_late", "claimed_unreviewed", "approval_unlocked", "no_atomic_in_claim")
PLANTED_NOW = sorted(PLANTED) if SEEDS >= 200 else MUST_BE_FOUND
#: Migrating the template is most of it; generous, for a machine that is busy with other things.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="session")
def simulation_server() -> Iterator[str]:
    """A PostgreSQL with a migrated template, for many short processes."""
    with contextlib.ExitStack() as stack:
        try:
            url = stack.enter_context(sandbox.server(""))
        except servers.Missing as reason:
            if os.environ.get("CI", "").lower() in ("1", "true"):
                pytest.fail(f"cannot run here: {reason}")
            pytest.skip(f"NOT RUN: {reason}")
        made = simulate(url, "--make-template").wait_for()
        assert made.returncode == 0, made.said
        yield url


def _digests(url: str, count: int) -> list[list[str]]:
    """Digests of the first seeds in three processes with hash seeds of their own."""
    under_way = [simulate(url, "--seeds", f"0:{count}", "--digests", PYTHONHASHSEED=each) for each in HASH_SEEDS]
    ended = [run.wait_for() for run in under_way]
    for run in ended:
        assert run.returncode == 0, run.said[-4000:]
        assert len(run.digests) == count
    return [run.digests for run in ended]


def test_the_same_seed_leaves_the_same_trace_in_every_process(simulation_server: str) -> None:
    first, *others = _digests(simulation_server, 6)
    assert len({line.split()[1] for line in first}) == len(first), "every seed is an episode of its own"
    assert all(other == first for other in others)


def test_every_failure_ever_found_is_played_again(simulation_server: str) -> None:
    ran = simulate(simulation_server, "--regressions").wait_for()
    assert ran.returncode == 0, ran.said[-4000:]
    assert ran.said.count("seed ") == len(list((ROOT / "simulation" / "regressions").glob("*.json"))) > 0


def test_a_lost_update_is_found_within_ten_seeds(simulation_server: str) -> None:
    ran = _found(simulation_server, "lost_update", PLANTED["lost_update"].within)
    assert ran.returncode != 0, "the guarded update was taken away and nobody noticed"
    assert "seeds failed" in ran.said, ran.said[-2000:]


def test_every_sql_invariant_notices_rows_that_break_it(simulation_server: str) -> None:
    ran = Run(["-m", "simulation.tests.broken_rows", simulation_server], {}).wait_for()
    assert ran.returncode == 0, ran.said[-2000:]
    assert json.loads(ran.said.splitlines()[-1]) == []


def _found(url: str, name: str, seeds: int) -> Run:
    return simulate(url, "--seeds", f"0:{seeds}", "--until-failure", **{VARIABLE: name}).wait_for()


def test_two_processes_beside_each_other_play_the_seeds_of_one(simulation_server: str) -> None:
    ran = simulate(simulation_server, "--seeds", "0:12", "--processes", "2", "--json", "--episode", "halts").wait_for()
    alone = simulate(simulation_server, "--seeds", "0:12", "--json", "--episode", "halts").wait_for()
    assert ran.returncode == 0 and alone.returncode == 0, ran.said[-2000:]
    assert ran.summary is not None and alone.summary is not None
    assert (ran.summary.episodes, ran.summary.met) == (12, alone.summary.met)


@pytest.mark.prove
@pytest.mark.timeout(LONG_S)
def test_two_hundred_seeds_leave_the_same_traces_in_three_processes(simulation_server: str) -> None:
    first, *others = _digests(simulation_server, SEEDS)
    assert all(other == first for other in others)


@pytest.mark.prove
@pytest.mark.timeout(LONG_S)
def test_thousands_of_episodes_find_nothing(simulation_server: str, tmp_path: Path) -> None:
    """One process plays a fixed range, the other a fresh one; what fails is shrunk and shown as a plan."""
    count = SEEDS * EPISODES_PER_SEED // 2
    fresh = int.from_bytes(os.urandom(4), "big") + 10_000_000
    ranges = (f"0:{count}", f"{fresh}:{fresh + count}")
    sys.stdout.write(f"lane B: seeds {' and '.join(ranges)}\n")
    runs = [
        simulate(simulation_server, "--seeds", each, "--json", "--save", str(tmp_path), PYTHONHASHSEED="random")
        for each in ranges
    ]
    ended = [run.wait_for() for run in runs]
    plans = "\n".join(path.read_text() for path in sorted(tmp_path.glob("*.json")))
    for run, seeds in zip(ended, ranges, strict=True):
        sys.stdout.write(run.said[-3000:])
        assert run.returncode == 0, f"seeds {seeds}: {run.said[-3000:]}\n{plans}"


@pytest.mark.prove
@pytest.mark.timeout(LONG_S)
@pytest.mark.parametrize("name", PLANTED_NOW)
def test_a_planted_race_is_found(simulation_server: str, name: str) -> None:
    ran = _found(simulation_server, name, PLANTED[name].within)
    assert ran.returncode != 0, f"{PLANTED[name].what}: not found in {PLANTED[name].within} seeds"
    assert "seeds failed" in ran.said or "proved too little" in ran.said, ran.said[-2000:]


@pytest.mark.prove
@pytest.mark.timeout(LONG_S)
def test_a_found_race_is_shrunk_to_eight_operations_within_a_minute(simulation_server: str, tmp_path: Path) -> None:
    ran = simulate(
        simulation_server, "--seeds", "0:60", "--until-failure", "--save", str(tmp_path), **{VARIABLE: "lost_update"}
    ).wait_for()
    assert ran.returncode != 0
    [saved] = tmp_path.glob("*.json")
    operations = [each for actor in json.loads(saved.read_text())["actors"].values() for each in actor]
    assert 1 <= len(operations) <= 8
    again = simulate(simulation_server, "--plan", str(saved), **{VARIABLE: "lost_update"}).wait_for()
    assert again.returncode != 0, "the shrunk plan fails by itself"
    healthy = simulate(simulation_server, "--plan", str(saved)).wait_for()
    assert healthy.returncode == 0, healthy.said[-2000:]
