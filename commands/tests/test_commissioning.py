"""The wizard's steps: what passes each, and that nothing unknown ever does."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.commissioning.steps import (
    STEPS,
    DrillSeen,
    Facts,
    Finding,
    Judge,
    Loss,
    Move,
    Result,
    Said,
    is_same_machine,
    judge,
    latest,
    limits_changed,
    step_of,
    steps_for,
    still_open,
)

WELL = Facts(
    is_link_up=True,
    age_s=0.4,
    identity={"serial": "17"},
    readings={"bean_temp_c": 21.5, "infrared_temp_c": 24.0, "exhaust_temp_c": -47.0, "voltage_v": 230.0},
    limits={"max_bean_temp_c": 225.0},
    moves=tuple(
        Move(f"prp_{control}{to}", control, 5, to, to, ("3401aaaa",))
        for control in ("fan", "drum", "heater")
        for to in (6, 4)
    ),
    losses=(Loss("alm_1", "2026-11-21T08:00:00Z", "2026-11-21T08:00:09Z"),),
    drills=(DrillSeen("drl_1", True, True, 4.0, 900.0),),
)
SAID = Said(True, "behind the roaster, at knee height")


def came_to(code: str, facts: Facts = WELL, said: Said = SAID) -> Finding:
    step = step_of(code)
    assert step is not None
    return judge(step, facts, said)


def with_(**changes) -> Facts:
    return dataclasses.replace(WELL, **changes)


@pytest.mark.parametrize("code", [step.code for step in STEPS])
def test_each_step_passes_on_a_machine_that_is_well(code):
    assert came_to(code).result is Result.PASSED


@pytest.mark.parametrize("code", [step.code for step in STEPS])
def test_no_step_passes_without_a_person_who_looked(code):
    assert came_to(code, said=Said(False, SAID.words)).result is Result.FAILED


@pytest.mark.parametrize("code", [step.code for step in STEPS if step.asks_for])
@pytest.mark.parametrize(
    ("words", "result"), [("123456789", "failed"), ("1234567890", "passed"), ("    a    ", "failed")]
)
def test_what_must_be_written_down_needs_ten_characters(code, words, result):
    assert came_to(code, said=Said(True, words)).result == result


@pytest.mark.parametrize("code", [step.code for step in STEPS if step.judge is not Judge.PERSON])
def test_what_readings_orders_and_events_judge_never_passes_on_nothing(code):
    assert came_to(code, Facts()).result is Result.FAILED


@pytest.mark.parametrize("code", ["identity", "sensors"])
@pytest.mark.parametrize(("age_s", "result"), [(3.0, "passed"), (3.01, "failed"), (None, "failed")])
def test_an_old_reading_proves_nothing(code, age_s, result):
    assert came_to(code, with_(age_s=age_s)).result == result


@pytest.mark.parametrize(
    ("readings", "quality", "result"),
    [
        ({"bean_temp_c": None}, {}, "failed"),
        ({"bean_temp_c": -1.0}, {}, "passed"),
        ({"bean_temp_c": -1.1}, {}, "failed"),
        ({"bean_temp_c": 400.0}, {}, "passed"),
        ({"bean_temp_c": 400.1}, {}, "failed"),
        ({"bean_temp_c": 21.0}, {"bean_temp_c": "stale"}, "failed"),
        ({"bean_temp_c": 21.0, "infrared_temp_c": None}, {}, "passed"),
        ({"bean_temp_c": 21.0, "infrared_temp_c": -5.0}, {}, "failed"),
        ({"bean_temp_c": 21.0, "exhaust_temp_c": -20.1}, {}, "passed"),  # not fitted
        ({"bean_temp_c": 21.0, "exhaust_temp_c": -19.9}, {}, "failed"),  # fitted, and wrong
        ({"bean_temp_c": 21.0, "voltage_v": 84.0}, {}, "failed"),
        ({"bean_temp_c": 21.0, "voltage_v": 85.0}, {}, "passed"),
        ({"bean_temp_c": 21.0, "voltage_v": 266.0}, {}, "failed"),
    ],
)
def test_sensors_must_say_what_a_roaster_can_have(readings, quality, result):
    assert came_to("sensors", with_(readings=readings, quality=quality)).result == result


@pytest.mark.parametrize("control", ["fan", "drum", "heater"])
@pytest.mark.parametrize(
    ("moves", "result"),
    [
        ([(5, 6, 6, True), (6, 5, 5, True)], "passed"),
        ([(5, 6, 6, True)], "failed"),
        ([(6, 5, 5, True)], "failed"),
        ([(5, 6, 6, True), (6, 5, 5, False)], "failed"),  # no bytes: it was there already
        ([(5, 6, 6, True), (6, 5, None, True)], "failed"),  # not read back
        ([(5, 6, 6, True), (6, 5, 6, True)], "failed"),  # contradicted
        ([(5, 5, 5, True), (5, 5, 5, True)], "failed"),
    ],
)
def test_a_control_follows_when_up_and_down_were_sent_and_read_back(control, moves, result):
    seen = tuple(
        Move("prp", control, before, to, back, ("3401aaaa",) if sent else ()) for before, to, back, sent in moves
    )
    assert came_to(control, with_(moves=seen)).result == result


def test_another_controls_moves_prove_nothing():
    moves = tuple(move for move in WELL.moves if move.control != "heater")
    assert came_to("heater", with_(moves=moves)).result is Result.FAILED


@pytest.mark.parametrize(
    ("drills", "words"),
    [((), "No STOP drill"), ((DrillSeen("d", False, True),), "No STOP drill"),
     ((DrillSeen("d", True, False),), "at 0 already")],
)  # fmt: skip
def test_a_drill_must_have_turned_heat_down(drills, words):
    finding = came_to("stop_drill", with_(drills=drills))
    assert finding.result is Result.FAILED and words in finding.message


def test_a_cable_that_is_still_out_is_not_back():
    finding = came_to("cable_pull", with_(losses=(Loss("alm_1", "2026-11-21T08:00:00Z", ""),)))
    assert finding.result is Result.FAILED and "not back" in finding.message


def test_the_evidence_names_orders_alarm_and_drill():
    assert [order["proposal_id"] for order in came_to("heater").evidence["orders"]] == ["prp_heater6", "prp_heater4"]
    assert came_to("cable_pull").evidence["alarm_id"] == "alm_1"
    assert came_to("stop_drill").evidence["drill_id"] == "drl_1"
    assert came_to("mains_switch").evidence["words"] == SAID.words


def test_a_machine_without_a_drum_control_skips_that_step():
    assert "drum" not in [step.code for step in steps_for(["heater", "fan"])]


entries = st.lists(
    st.fixed_dictionaries(
        {"code": st.sampled_from([step.code for step in STEPS]), "result": st.sampled_from(["passed", "failed"])}
    ),
    max_size=40,
)


@given(entries)
def test_the_newest_word_on_a_step_counts(rows):
    missing = still_open(rows, ["heater", "fan", "drum"])
    for step in STEPS:
        said = [row["result"] for row in rows if row["code"] == step.code]
        assert (step.code in missing) == (not said or said[-1] != "passed")
    assert set(latest(rows)) == {row["code"] for row in rows}


def test_limits_that_differ_from_the_reviewed_ones_are_named():
    rows = [{"code": "limits", "result": "passed", "evidence": {"limits": {"a": 1, "b": 2}}}]
    assert limits_changed(rows, {"a": 1, "b": 2}) == ()
    assert limits_changed(rows, {"a": 1, "b": 3, "c": 4}) == ("b", "c")
    assert limits_changed([], {"a": 1}) == ("a",)


@pytest.mark.parametrize(
    ("now_says", "is_same"), [({"serial": "17"}, True), ({"serial": "18"}, False), ({}, True), ({"serial": None}, True)]
)
def test_another_serial_number_is_another_machine(now_says, is_same):
    rows = [{"code": "identity", "result": "passed", "evidence": {"identity": {"serial": "17"}}}]
    assert is_same_machine(rows, now_says) is is_same
