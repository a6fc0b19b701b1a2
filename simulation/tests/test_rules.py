"""Lane A: seeds are silent, alike in every process, and what they do is counted; planted bugs are found."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis.stateful import run_state_machine_as_test

from kernel.clock import SystemClock
from simulation import crew, house_compiler, mutants, oracle, planted, runs
from simulation.oracle import Asked, Grant, Limit, Look, Model, Person
from simulation.sometimes import Sometimes
from simulation.tally import Tally

SHORT = (3, 11)
#: The machine's own clock.
REAL = SystemClock()


@pytest.fixture(scope="module")
def stage(django_db_blocker: Any) -> Iterator[Any]:
    """The house, in a database of its own; everything is put back afterwards."""
    from simulation.rules import stage as made

    with django_db_blocker.unblock():
        made.house()
        try:
            yield made
        finally:
            made.pull_down()


def _silent(seeds: list[int], *, keeps_failures: bool = True) -> None:
    from simulation.rules.seeds import player

    play = player(keeps_failures=keeps_failures)
    for seed in seeds:
        outcome = play(seed)
        assert outcome.is_good, f"seed {seed}: {outcome.failure}"


def test_a_few_seeds_are_silent_and_their_statements_are_those_that_django_makes(
    stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(house_compiler.SQLCompiler, "is_compared", True)
    _silent([*SHORT])


@pytest.mark.prove
@pytest.mark.timeout(3600)
def test_seeds_fixed_and_fresh_are_silent_and_do_everything(capsys: pytest.CaptureFixture[str]) -> None:
    """By as many processes as there are cores."""
    from simulation.rules.seeds import fresh_seed

    count = int(os.environ.get("SEEDS", "200"))
    fresh = [fresh_seed() for _ in range(max(1, count // 5))]
    with capsys.disabled():
        print(f"\nlane A: seeds 0 to {count - 1}, and fresh ones: {fresh}")
    tally, begun_s = Tally(), REAL.monotonic()
    for played in crew.play([*range(count), *fresh], processes=crew.cores(), environment={"DATABASE_URL": ""}):
        tally.add(played)
    with capsys.disabled():
        print(f"{tally.met.report()}\n{tally.cost(REAL.monotonic() - begun_s)}")
    assert not tally.failures
    assert not tally.met.is_void()
    if count >= 200:
        assert not tally.met.missing()


@pytest.mark.prove
@pytest.mark.timeout(1800)
def test_hypothesis_itself_finds_nothing(stage: Any) -> None:
    """The same rules under its engine: what a seed broke is in the example database, and is shrunk here."""
    from simulation.rules.machine import HouseMachine
    from simulation.rules.seeds import settings_of

    run_state_machine_as_test(HouseMachine, settings=settings_of(20))


def test_ci_neither_makes_all_runs_alike_nor_forgets_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    from simulation.rules.seeds import settings_of

    chosen = settings_of(1)
    assert chosen.derandomize is False
    assert chosen.database is not None


@pytest.mark.prove
@pytest.mark.timeout(3600)
def test_a_seed_leaves_the_same_trace_in_every_process_and_with_every_hash_seed() -> None:
    """All 200 where so many are played; the short proof takes ten."""
    count = int(os.environ.get("SEEDS", "200"))
    count = count if count >= 200 else min(count, 10)
    asked = ["-m", "simulation.lane_a", "--digests", "--processes", "1", "--count", str(count)]
    under_way = [runs.Run(asked, {"PYTHONHASHSEED": hash_seed}) for hash_seed in ("0", "1", "99")]
    first, *others = [run.wait_for() for run in under_way]
    assert len(first.digests) == count, first.said[-2000:]
    assert len({line.split()[1] for line in first.digests}) > count * 0.9, "seeds are examples of their own"
    for other in others:
        assert other.digests == first.digests


@pytest.mark.prove
@pytest.mark.timeout(3600)
def test_a_tenth_of_the_planted_bugs_is_found() -> None:
    for name in mutants.chosen([], is_tenth=True):
        found = mutants.hunt(name, 200)
        assert found.seed is not None, f"{name} was not found in {found.played} seeds"


@pytest.mark.parametrize("name", sorted(planted.PLANTED))
def test_a_planted_bug_fits_the_product_and_still_compiles(name: str) -> None:
    sources: dict[Path, str] = {}
    for change in planted.PLANTED[name].changes:
        source = sources.get(change.path) or change.path.read_text(encoding="utf-8")
        sources[change.path] = change.applied(source)
    for path, source in sources.items():
        compile(source, str(path), "exec")


def test_at_least_sixty_bugs_are_planted_in_every_area() -> None:
    areas = {bug.area for bug in planted.PLANTED.values()}
    assert len(planted.PLANTED) >= 60
    assert areas >= {"governor", "mover", "claim", "expiry", "stop", "lease", "audit", "reconciliation"}
    assert areas >= {"plan", "way back", "breaker", "tenant", "idempotency"}


def test_the_table_of_planted_bugs_names_them_all() -> None:
    text = mutants.TABLE.read_text(encoding="utf-8")
    rows = [line.split("`")[1] for line in text.splitlines() if line.startswith("| `")]
    assert set(rows) >= set(planted.PLANTED)


def test_a_bug_whose_text_is_gone_is_an_error_not_a_pass() -> None:
    with pytest.raises(ValueError):
        planted.Change("commands.loop.lease", "this is nowhere", "x").applied("def take_lease(): ...")


def test_a_run_that_never_approved_refused_or_stopped_is_red_by_itself() -> None:
    run = Sometimes()
    assert run.is_void() == "no propose ever succeeded"
    run.op("propose", is_refused=False)
    run.op("approve", is_refused=False)
    assert run.is_void() == "no stop ever succeeded"
    run.op("stop", is_refused=False)
    assert run.is_void() == "nothing was ever refused"
    run.op("approve", is_refused=True)
    assert run.is_void() == "no order was ever carried out"
    run.met("move", "EXECUTING COMPLETED")
    assert run.is_void() == ""
    assert run.missing()


def test_more_than_a_tenth_of_idle_steps_is_red() -> None:
    run = Sometimes()
    run.steps, run.idle_steps = 100, 10
    assert not [each for each in run.missing() if "did nothing" in each]
    run.idle_steps = 11
    assert [each for each in run.missing() if "did nothing" in each]


# -- the model by itself --

LIMITS = {"heater": Limit(0, 9, 3, 2.0, 6, 4), "fan": Limit(1, 12, 4, 0.0, 99, 99), "drum": Limit(1, 9, 2, 1.2, 3, 2)}
AGENT = Person("steady", "ours", owner="owner", is_agent=True)
OPERATOR = Person("operator", "ours", frozenset({"operator"}))
LOOK = Look(0.0, "roasting", {"heater": 5, "fan": 4, "drum": 9}, 150.0, are_beans_proved=True, is_in_roast=True)


def _model(level: str = "", *, is_attended: bool = True) -> Model:
    model = Model({"steady": AGENT, "operator": OPERATOR}, LIMITS)
    if level:
        model.grants["g"] = Grant("g", "steady", level, frozenset(), None)
    if is_attended:
        model.attended_s = 0.0
    return model


@pytest.mark.parametrize(
    ("level", "order_type", "target", "decision", "needed"),
    [
        ("", "SET_FAN", 5, "REFUSE", 1), ("L1", "SET_FAN", 5, "REFUSE", 1), ("L2", "SET_FAN", 5, "REFUSE", 1),
        ("L3", "SET_FAN", 5, "HOLD", 1), ("L4", "SET_FAN", 5, "VETO", 1), ("L5", "SET_FAN", 5, "ALLOW", 1),
        ("L4", "SET_POWER", 6, "VETO", 1), ("L4", "SET_POWER", 7, "HOLD", 1), ("L5", "SET_POWER", 7, "VETO", 1),
        ("L5", "SET_POWER", 8, "VETO", 1), ("L3", "SET_POWER", 8, "HOLD", 1), ("L5", "SET_POWER", 2, "ALLOW", 1),
    ],
)  # fmt: skip
def test_the_model_grades_by_level_and_significance(
    level: str, order_type: str, target: int, decision: str, needed: int
) -> None:
    verdict = _model(level).judge(AGENT, Asked(order_type, float(target), "step"), LOOK, 0.5)
    assert (verdict.decision, verdict.needed) == (decision, needed)


def test_the_model_holds_what_nobody_attends() -> None:
    asked = Asked("SET_FAN", 5.0, "step")
    assert _model("L5", is_attended=False).judge(AGENT, asked, LOOK, 0.5).decision == "HOLD"
    assert _model("L5").judge(AGENT, asked, LOOK, 0.5).decision == "ALLOW"


def test_the_model_knows_who_may_approve() -> None:
    model = _model("L3")
    order = oracle.Order("p", "steady", Asked("SET_FAN", 5.0, "step"), "fan", 5, "PENDING_APPROVAL", 0.0, 45.0, LOOK,
                         is_by_agent=True)  # fmt: skip
    assert model.approve(OPERATOR, order, 1.0, is_digest_right=True).status == 200
    assert model.approve(OPERATOR, order, 45.0, is_digest_right=True).code == "expired"
    assert model.approve(AGENT, order, 1.0, is_digest_right=True).code == "agents_cannot_approve"
    owner = Person("owner", "ours", frozenset({"operator"}))
    assert model.approve(owner, order, 1.0, is_digest_right=True).code == "owner_cannot_approve"
    assert model.approve(OPERATOR, order, 1.0, is_digest_right=False).code == "stale_digest"


# -- the house --


def test_a_reset_leaves_nothing_of_the_example_before(stage: Any) -> None:
    house = stage.house()
    body = {"machine_id": house.names.machine_id, "order_type": "SET_FAN", "target_value": 6, "target_unit": "step",
            "reasoning": "x"}  # fmt: skip
    house.reset(1)
    first = house.post("operator", "/v1/proposals", body).body
    house.pass_time(2.0)
    assert house.get("operator", f"/v1/proposals/{first['proposal_id']}").body["status"] == "COMPLETED"
    assert house.machine.status()["fan_step"] == 6
    house.reset(1)
    assert house.machine.status()["fan_step"] == 4
    assert house.post("operator", "/v1/proposals", body).body["proposal_id"] == first["proposal_id"]
    assert len(house.get("operator", "/v1/proposals").body["results"]) == 1


def test_a_fault_that_met_no_step_strikes_nobody_later(stage: Any) -> None:
    house = stage.house()
    body = {"machine_id": house.names.machine_id, "order_type": "SET_FAN", "target_value": 6, "target_unit": "step",
            "reasoning": "x"}  # fmt: skip
    for is_armed in (True, False):
        house.reset(1)
        house.machine.act("fault", fault="dropped_step")
        if not is_armed:
            house.disarm()
        order = house.post("operator", "/v1/proposals", body).body
        house.pass_time(13.0)
        settled = house.get("operator", f"/v1/proposals/{order['proposal_id']}").body
        assert settled["status"] == ("FAILED" if is_armed else "COMPLETED")


def test_a_process_that_dies_after_its_commit_has_done_it_and_before_it_has_not(stage: Any) -> None:
    house = stage.house()
    body = {"machine_id": house.names.machine_id, "order_type": "SET_FAN", "target_value": 6, "target_unit": "step",
            "reasoning": "x"}  # fmt: skip
    for site, count in (("commit_before", 0), ("commit_after", 1)):
        house.reset(1)
        house.deaths.plan(site, 1, "web")
        assert house.post("operator", "/v1/proposals", body).status == 0
        assert len(house.get("operator", "/v1/proposals").body["results"]) == count


def test_a_keeper_killed_at_a_byte_sends_it_once_and_the_order_ends(stage: Any) -> None:
    house = stage.house()
    body = {"machine_id": house.names.machine_id, "order_type": "SET_FAN", "target_value": 6, "target_unit": "step",
            "reasoning": "x"}  # fmt: skip
    house.reset(1)
    house.deaths.plan("wire_after", 1, "keeper")
    order = house.post("operator", "/v1/proposals", body).body
    house.pass_time(13.0)
    settled = house.get("operator", f"/v1/proposals/{order['proposal_id']}").body
    assert settled["status"] == "FAILED"
    assert settled["outcome"]["actual_step"] == house.machine.status()["fan_step"] == 5


def test_what_is_found_is_told_as_one_line_of_json() -> None:
    line = json.dumps({"name": "x", "seed": 3, "played": 4, "how": "prp_" + "0" * 26 + " is | wrong"})
    found = mutants.Found(**json.loads(line))
    assert mutants._words(found.how) == "… is / wrong"
