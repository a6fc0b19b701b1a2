"""A seed's plan: the same everywhere, saved and read back, and no part of it moves another."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest

from simulation import drawing, plan
from simulation.race_oracle import MAKERS, MOVES
from simulation.scheduler import FAULTS
from simulation.verbs import VERBS

SEEDS = range(2_000)


def test_a_plan_is_read_back_as_it_was_saved() -> None:
    for seed in SEEDS:
        drawn = drawing.draw(seed)
        assert plan.loads(drawn.dumps()) == drawn


def test_every_plan_is_within_bounds_and_of_known_words() -> None:
    for seed in SEEDS:
        drawn = drawing.draw(seed)
        assert 2 <= len(drawn.actors) <= plan.MAX_ACTORS
        assert drawn.operation_count <= plan.MAX_OPERATIONS
        for operations in drawn.actors.values():
            assert {operation.verb for operation in operations} <= set(VERBS)
        for fault in drawn.faults:
            assert fault.site in FAULTS.get(fault.kind, {"message"})


def test_every_kind_of_episode_and_of_fault_is_drawn() -> None:
    drawn = [drawing.draw(seed) for seed in SEEDS]
    assert {each.episode for each in drawn} == set(drawing.EPISODES)
    kinds = {(fault.kind, fault.site) for each in drawn for fault in each.faults}
    assert kinds == {(kind, site) for kind, site, _ in (*drawing.FAULTS, *drawing.WIRE_FAULTS)} | {
        (kind, "message") for kind in drawing.MESSAGE_FAULTS
    }
    assert 0.2 < sum(bool(each.faults) for each in drawn) / len(drawn) < 0.5


def test_only_who_sends_to_the_wire_is_struck_at_the_wire() -> None:
    struck = [(each, fault) for seed in SEEDS for each in [drawing.draw(seed)] for fault in each.faults]
    at_the_wire = [(each, fault) for each, fault in struck if fault.site in ("wire", "wired")]
    assert len([fault for _, fault in at_the_wire if fault.site == "wired"]) >= 30, "often enough that some are met"
    for drawn, fault in at_the_wire:
        assert {operation.verb for operation in drawn.actors[fault.actor]} & drawing.SENDING


def test_about_a_quarter_of_the_plans_break_nothing_and_heal_nothing_or_more() -> None:
    drawn = [drawing.draw(seed) for seed in SEEDS]
    assert all(each.is_healed for each in drawn if each.faults), "what broke is healed, always"
    assert 0.4 < sum(each.is_healed for each in drawn) / len(drawn) < 0.8


def test_streams_of_one_seed_do_not_move_each_other() -> None:
    first = [plan.stream(7, "schedule").random() for _ in range(3)]
    other = plan.stream(7, "faults")
    assert [other.random() for _ in range(50)]
    assert [plan.stream(7, "schedule").random() for _ in range(3)] == first
    assert plan.stream(7, "schedule").random() != plan.stream(8, "schedule").random()


def test_a_seed_gives_the_same_plan_under_every_hash_seed() -> None:
    program = "from simulation import drawing; print(''.join(drawing.draw(seed).dumps() for seed in range(40)))"
    texts = set()
    for hash_seed in ("0", "1", "99"):
        ran = subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": hash_seed, "PATH": ""}, capture_output=True,
            text=True, check=True, timeout=60,
        )  # fmt: skip
        texts.add(ran.stdout)
    assert len(texts) == 1


def test_what_is_no_plan_is_refused_with_its_reason() -> None:
    good = json.loads(drawing.draw(3).dumps())
    for bad in ("", "{}", "[]", "null", json.dumps({**good, "version": 2}), json.dumps({**good, "actors": 3})):
        with pytest.raises(plan.BadPlan):
            plan.loads(bad)
    many = {f"actor{index}": good["actors"]["actor0"] for index in range(plan.MAX_ACTORS + 1)}
    with pytest.raises(plan.BadPlan, match="at most"):
        plan.loads(json.dumps({**good, "actors": many}))


def test_taking_an_operation_away_leaves_schedule_and_faults_alone() -> None:
    drawn = drawing.draw(11)
    smaller = dataclasses.replace(drawn, actors=dict(list(drawn.actors.items())[1:]))
    assert (smaller.schedule, smaller.faults) == (drawn.schedule, drawn.faults)


def test_the_oracle_knows_every_verb_that_changes_something() -> None:
    changing = set(MOVES) | {verb for verbs in MAKERS.values() for verb in verbs} | {"renew", "seal", "beat"}
    assert set(VERBS) <= changing
