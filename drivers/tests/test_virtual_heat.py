"""The heat model behaves like a drum: bounded, monotone, and near the recorded roasts."""

from __future__ import annotations

import math
import os
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.virtual import heat
from drivers.virtual.replay import ReplayRow, expected_rows

LOGS = Path(__file__).resolve().parents[3] / "shared" / "data" / "bullet-r1-roasts"

steps = st.tuples(st.integers(0, 9), st.integers(1, 12), st.integers(1, 9))
plans = st.lists(steps, min_size=1, max_size=12)


def some_logs(every: int) -> list[Path]:
    """A few real logs; absent data skips, except in CI."""
    found = sorted(LOGS.glob("*.alog"))[::every]
    if not found and os.environ.get("CI") == "true":
        pytest.fail(f"no recorded roasts at {LOGS}")
    if not found:
        pytest.skip("no recorded roasts beside this checkout")
    return found


def played(plan: list[tuple[int, int, int]], *, more_heat: int = 0, volts: float = 200.0) -> heat.HeatState:
    """A 400 g batch under a plan of 30-second blocks."""
    state = heat.charge(heat.preheated(heat.BULLET_R1), heat.BULLET_R1, 0.4, 24.0)
    for heater, fan, drum in plan:
        inputs = heat.HeatInputs(min(9, heater + more_heat), fan, drum, volts)
        for _ in range(30):
            state = heat.step(state, inputs, heat.BULLET_R1, 1.0)
    return state


def temperatures(state: heat.HeatState) -> tuple[float, ...]:
    return (state.drum_temp_c, state.bean_temp_c, state.probe_temp_c, state.infrared_temp_c)


@settings(max_examples=60, deadline=None)
@given(plans, st.integers(1, 4))
def test_more_heat_never_makes_anything_colder(plan: list[tuple[int, int, int]], more: int) -> None:
    for cooler, hotter in zip(temperatures(played(plan)), temperatures(played(plan, more_heat=more)), strict=True):
        assert hotter >= cooler - 1e-9


@settings(max_examples=40, deadline=None)
@given(plans)
def test_sagging_mains_never_make_anything_hotter(plan: list[tuple[int, int, int]]) -> None:
    for full, sagging in zip(temperatures(played(plan)), temperatures(played(plan, volts=150.0)), strict=True):
        assert sagging <= full + 1e-9


@settings(max_examples=80, deadline=None)
@given(
    st.integers(-5, 20), st.integers(-5, 40), st.integers(-5, 20),
    st.floats(0.0, 500.0), st.floats(-40.0, 60.0), st.floats(0.001, 2.0), st.floats(-40.0, 500.0),
)  # fmt: skip
def test_no_input_makes_nonsense(heater, fan, drum, volts, ambient_c, mass_kg, bean_c) -> None:
    state = heat.charge(heat.preheated(heat.BULLET_R1, 300.0), heat.BULLET_R1, mass_kg, bean_c)
    inputs = heat.HeatInputs(heater, fan, drum, volts, ambient_c)
    for _ in range(60):
        state = heat.step(state, inputs, heat.BULLET_R1, 0.5)
    assert all(math.isfinite(t) and heat.COLDEST_C <= t <= heat.HOTTEST_C for t in temperatures(state))
    assert 0.0 <= state.water_kg <= mass_kg


def test_an_idle_machine_cools_to_the_room() -> None:
    state = heat.preheated(heat.BULLET_R1)
    for _ in range(3 * 3600):
        state = heat.step(state, heat.HeatInputs(0, 7, 1, ambient_temp_c=24.0), heat.BULLET_R1, 1.0)
    assert all(abs(t - 24.0) < 1.0 for t in temperatures(state))


def test_a_small_batch_heats_faster_than_a_large_one() -> None:
    ends = []
    for mass_kg in (0.3, 0.4, 0.8):
        state = heat.charge(heat.preheated(heat.BULLET_R1), heat.BULLET_R1, mass_kg, 24.0)
        for _ in range(300):
            state = heat.step(state, heat.HeatInputs(6, 2, 9), heat.BULLET_R1, 1.0)
        ends.append(state.bean_temp_c)
    assert ends[0] > ends[1] > ends[2]


def test_the_probe_answers_heat_within_a_minute_but_not_at_once() -> None:
    """Heater 6 → 9 mid-roast: nothing to see on the probe after 3 s, a degree after 60 s."""
    state = played([(6, 2, 9)] * 6)
    calm = bold = state
    gains = []
    for second in range(1, 61):
        calm = heat.step(calm, heat.HeatInputs(6, 2, 9), heat.BULLET_R1, 1.0)
        bold = heat.step(bold, heat.HeatInputs(9, 2, 9), heat.BULLET_R1, 1.0)
        if second in (3, 30, 60):
            gains.append(bold.probe_temp_c - calm.probe_temp_c)
    assert gains[0] < 0.02
    assert gains[2] > 3 * gains[1] / 2 > 0.15


def test_more_air_takes_heat_away() -> None:
    still, windy = played([(6, 2, 9)] * 8), played([(6, 8, 9)] * 8)
    assert windy.bean_temp_c < still.bean_temp_c - 3.0


def replayed_error(rows: list[ReplayRow]) -> tuple[float, float, float]:
    """(probe RMSE, infrared RMSE after the first 20 s, lowest probe) from charge to drop, open loop."""
    first = next(i for i, row in enumerate(rows) if row.state == 6 and row.infrared_temp_c < 60)
    roast = [row for row in rows[first:] if row.state == 6]
    before_c = max((row.infrared_temp_c for row in rows[:first]), default=239.0)
    state = replace(heat.preheated(heat.BULLET_R1, before_c), probe_temp_c=roast[0].probe_temp_c)
    probe, infrared, lowest_c = [], [], 999.0
    for second, row in enumerate(roast):
        if second == 1:
            state = heat.charge(state, heat.BULLET_R1, 0.4, 25.0)
        if second < 6:
            state = replace(state, infrared_temp_c=25.0)
        probe.append((state.probe_temp_c - row.probe_temp_c) ** 2)
        infrared.append((state.infrared_temp_c - row.infrared_temp_c) ** 2)
        lowest_c = min(lowest_c, state.probe_temp_c)
        inputs = heat.HeatInputs(row.heater_step, row.fan_step, row.drum_step, float(row.voltage_v))
        state = heat.step(state, inputs, heat.BULLET_R1, 1.0)
    return math.sqrt(statistics.fmean(probe)), math.sqrt(statistics.fmean(infrared[20:])), lowest_c


def test_the_model_follows_recorded_roasts() -> None:
    """All 40 logs: median as stated in heat.py, the worst below 11.5 °C, turning points 88-108 °C."""
    errors = [replayed_error(expected_rows(path)) for path in some_logs(1)]
    assert statistics.median(e[0] for e in errors) <= heat.FIT_RMSE_PROBE_C + 0.05
    assert statistics.median(e[1] for e in errors) <= heat.FIT_RMSE_INFRARED_C + 0.05
    assert max(e[0] for e in errors) < 11.5
    assert all(88.0 < e[2] < 108.0 for e in errors)
