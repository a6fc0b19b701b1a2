"""What passes a drill, on both sides of every bar, and what it never claims."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.commissioning.drill import Pressed, is_due, judge


@pytest.mark.parametrize(
    ("first_ms", "proved_ms", "kind", "is_passed"),
    [
        (250.0, 2000.0, "bullet-r1", True),
        (250.01, 2000.0, "bullet-r1", False),
        (250.0, 2000.01, "bullet-r1", False),
        (250.0, 3000.0, "bullet-r2", True),
        (250.0, 3000.01, "bullet-r2", False),
        (4.0, 2500.0, "bullet-r1", False),
        (4.0, 2500.0, "tcp-line", False),
    ],
)
def test_heat_must_go_down_within_the_bars(first_ms, proved_ms, kind, is_passed):
    finding = judge(Pressed("heat_off", first_ms, proved_ms, kind))
    assert finding.is_passed is is_passed and finding.has_heat_gone_down


def test_with_heat_at_zero_only_the_way_to_the_machine_passes_and_it_says_so():
    finding = judge(Pressed("heat_off", None, 300.0, "bullet-r1"))
    assert finding.is_passed and not finding.has_heat_gone_down
    assert "way to the machine only" in finding.message
    assert any("heater obeys" in words for words in finding.does_not_prove)


def test_a_slow_proof_of_nothing_to_turn_down_does_not_pass():
    assert not judge(Pressed("heat_off", None, 2000.1, "bullet-r1")).is_passed


@pytest.mark.parametrize(
    ("result", "proved_ms"), [("unproved", None), ("unproved", 3.0), ("heat_off", None), ("", 3.0)]
)
def test_what_is_not_proved_does_not_pass(result, proved_ms):
    finding = judge(Pressed(result, 4.0, proved_ms, "bullet-r1"))
    assert not finding.is_passed and finding.proves == () and "That STOP works." in finding.does_not_prove


@given(
    st.sampled_from(["heat_off", "unproved"]),
    st.none() | st.floats(0, 10_000),
    st.none() | st.floats(0, 10_000),
    st.sampled_from(["bullet-r1", "bullet-r2", "tcp-line"]),
)
def test_nothing_passes_without_proof_and_no_drill_speaks_for_a_dead_computer(result, first_ms, proved_ms, kind):
    finding = judge(Pressed(result, first_ms, proved_ms, kind))
    assert not finding.is_passed or (result == "heat_off" and proved_ms is not None)
    assert any("dead computer" in words for words in finding.does_not_prove)


@pytest.mark.parametrize(("age_s", "due"), [(None, True), (0.0, False), (100.0, False), (100.1, True)])
def test_a_drill_is_due_when_none_passed_or_the_last_is_too_old(age_s, due):
    assert is_due(last_passed_age_s=age_s, max_age_s=100.0) is due
