"""Lane A's plans: written down, played again without hypothesis, shrunk to what a failure needs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from simulation import planted
from simulation.rules.saved import MAX_REPLAYS, Replayed, Saved, kind_of, shrink

ROOT = Path(__file__).resolve().parent.parent.parent
OPENED = {"seed": 7, "level": "L3", "is_attended": True}


def _plan(*names: str) -> Saved:
    return Saved(OPENED, tuple((name, {"index": place}) for place, name in enumerate(names)))


def test_a_plan_comes_back_from_its_text_as_it_was() -> None:
    plan = _plan("time_passes", "somebody_presses_stop")
    assert Saved.from_json(plan.to_json()) == plan
    assert Saved.from_json(_plan().to_json()) == _plan()


def test_what_is_no_plan_is_an_error() -> None:
    with pytest.raises(ValueError):
        Saved.from_json("nothing")
    with pytest.raises(KeyError):
        Saved.from_json("{}")


def _needs(*needed: str) -> tuple[list[int], object]:
    """A play that fails at the last of those acts, once all of them came in this order; and how often it was asked."""
    asked: list[int] = []

    def play(plan: Saved) -> Replayed:
        asked.append(len(plan.acts))
        left = list(needed)
        for place, (name, _) in enumerate(plan.acts, start=1):
            if left and name == left[0]:
                left.pop(0)
            if not left:
                return Replayed(f"prp_{'0' * 26} is wrong since {place} s", place)
        return Replayed("", len(plan.acts))

    return asked, play


def test_a_plan_shrinks_to_the_acts_that_its_failure_needs() -> None:
    names = [f"act{place}" for place in range(40)]
    asked, play = _needs("act3", "act20", "act31")
    found = shrink(_plan(*names), play=play)  # type: ignore[arg-type]
    assert [name for name, _ in found.acts] == ["act3", "act20", "act31"]
    assert len(asked) <= MAX_REPLAYS + 1


def test_shrinking_ends_after_so_many_replays() -> None:
    asked, play = _needs("act39")
    shrink(_plan(*(f"act{place}" for place in range(40))), most=5, play=play)  # type: ignore[arg-type]
    assert len(asked) == 6


def test_a_plan_that_does_not_fail_stays_as_it_is() -> None:
    _, play = _needs("never")
    plan = _plan("a", "b")
    assert shrink(plan, play=play) == plan  # type: ignore[arg-type]


def test_another_failure_is_not_the_same_one() -> None:
    def play(plan: Saved) -> Replayed:
        has_first = any(name == "first" for name, _ in plan.acts)
        return Replayed("the order is lost" if has_first else "the chain has a gap", len(plan.acts))

    assert [name for name, _ in shrink(_plan("first", "second"), play=play).acts] == ["first"]


def test_failures_are_alike_without_names_and_numbers() -> None:
    assert kind_of(f"prp_{'0' * 26} is EXECUTING since 15 s") == kind_of(f"prp_{'1' * 26} is EXECUTING since 9.5 s")
    assert kind_of("approve: expected 1") != kind_of("reject: expected 1")


@pytest.mark.prove
@pytest.mark.skipif(int(os.environ.get("SEEDS", "200")) < 100, reason="the short proof leaves out what takes a minute")
@pytest.mark.timeout(900)
def test_the_failure_of_a_planted_bug_shrinks_to_eight_acts_within_a_minute(tmp_path: Path) -> None:
    """Found, shrunk and played again, each in a process with the bug planted; without it the plan is silent."""
    plain = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    planted_too = {**plain, planted.VARIABLE: "stop_does_not_latch"}
    command = [sys.executable, "-m", "simulation.lane_a"]
    seed = next(
        seed for seed in range(20)
        if subprocess.run([*command, "--seed", str(seed)], cwd=ROOT, env=planted_too, capture_output=True, check=False)
        .returncode == 1
    )  # fmt: skip
    begun_s = time.monotonic()
    done = subprocess.run(
        [*command, "--seed", str(seed), "--shrink"], cwd=ROOT, env=planted_too, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    took_s = time.monotonic() - begun_s
    assert len(Saved.from_json(done.stdout).acts) <= 8, done.stderr
    assert took_s < 300  # a minute on a machine that does nothing else
    path = tmp_path / "plan.json"
    path.write_text(done.stdout, encoding="utf-8")
    again = subprocess.run([*command, "--plan", str(path)], cwd=ROOT, env=planted_too, check=False)
    assert again.returncode == 1
    assert subprocess.run([*command, "--plan", str(path)], cwd=ROOT, env=plain, check=False).returncode == 0
