"""The causal rate of rise: its formula, its window, its gaps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roasts.rate_of_rise import MAX_POINTS, RateOfRise

STEP_MS = 100


def test_steady_line_gives_its_slope_per_minute() -> None:
    rate = RateOfRise()
    answers = [rate.step(ms, 100 + 0.2 * ms / 1000) for ms in range(0, 60_000, STEP_MS)]
    assert answers[-1] == pytest.approx(12.0)


def test_nothing_is_said_until_the_window_is_full() -> None:
    rate = RateOfRise()
    answers = {ms: rate.step(ms, 100.0 + ms / 1000) for ms in range(0, 30_000, STEP_MS)}
    assert answers[18_900] is None
    assert answers[19_000] == pytest.approx(60.0)


def test_a_gap_starts_over() -> None:
    rate = RateOfRise()
    for ms in range(0, 30_000, STEP_MS):
        rate.step(ms, 100.0)
    assert rate.step(34_900, 100.0) is not None, "5 s is bridged"
    assert rate.step(39_901, 100.0) is None, "more than 5 s is not"


def test_time_going_back_starts_over_and_a_repeat_changes_nothing() -> None:
    rate = RateOfRise()
    for ms in range(0, 30_000, STEP_MS):
        rate.step(ms, 100 + ms / 1000)
    before = rate.rate
    assert rate.step(29_900, 500.0) == before
    assert rate.step(10, 100.0) is None


def test_missing_and_impossible_values_do_not_enter() -> None:
    rate = RateOfRise()
    for ms in range(0, 30_000, STEP_MS):
        rate.step(ms, None if ms % 700 == 0 else float("nan") if ms % 1100 == 0 else 50.0)
    assert rate.rate == pytest.approx(0.0, abs=1e-9)


def test_a_sensor_silent_for_longer_than_a_gap_has_no_rate() -> None:
    rate = RateOfRise()
    for ms in range(0, 30_000, STEP_MS):
        rate.step(ms, 50.0)
    assert rate.step(36_000, None) is None


def test_it_is_causal() -> None:
    """What comes later changes nothing that was said before."""
    temps = [100 + 5 * np.sin(ms / 7000) for ms in range(0, 60_000, STEP_MS)]
    first, second = RateOfRise(), RateOfRise()
    said = [first.step(n * STEP_MS, t) for n, t in enumerate(temps[:400])]
    again = [second.step(n * STEP_MS, t) for n, t in enumerate([*temps[:400], *([999.0] * 100)])]
    assert said == again[:400]


@settings(max_examples=60, deadline=None)
@given(
    steps_ms=st.lists(st.integers(20, 2000), min_size=60, max_size=200),
    temps_c=st.data(),
    start_ms=st.integers(0, 2**40),
)
def test_the_running_sums_equal_a_fit_of_the_window(steps_ms: list[int], temps_c: st.DataObject, start_ms: int) -> None:
    rate = RateOfRise()
    points: list[tuple[int, float]] = []
    now_ms = start_ms
    for step_ms in steps_ms:
        now_ms += step_ms
        points.append((now_ms, temps_c.draw(st.floats(-20, 400))))
        answer = rate.step(*points[-1])
    window = [(ms, t) for ms, t in points if ms >= now_ms - 20_000][-MAX_POINTS:]
    if answer is None:
        assert now_ms - window[0][0] < 19_000
        return
    slope = np.polyfit([(ms - now_ms) / 1000 for ms, _ in window], [t for _, t in window], 1)[0]
    assert answer == pytest.approx(60 * slope, rel=1e-6, abs=1e-5)
