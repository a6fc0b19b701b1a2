"""The twin simulates, follows, predicts and says when it guesses."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from roasts import twin
from roasts.curve import Curve
from roasts.twin import Controls, Initial, Observed, Order, Setting, TwinError
from roasts.twin.memory import Remembered

DEFAULTS = twin.shipped_defaults()
START = Initial(mass_kg=0.4, probe_temp_c=157.0, preheat_temp_c=238.0)
USUAL = Controls((0.0, 250.0, 340.0, 400.0), tuple(Setting(h, f) for h, f in ((7, 1), (6, 3), (5, 3), (4, 4))))

heaters = st.lists(st.integers(0, 9), min_size=1, max_size=10)


def plan(heater_steps: list[int], fan_step: float = 2.0, voltage_v: float = 200.0) -> Controls:
    """One heater step for each minute."""
    return Controls(
        tuple(60.0 * i for i in range(len(heater_steps))),
        tuple(Setting(float(h), fan_step, 9.0, voltage_v) for h in heater_steps),
    )


def followed(until_s: int, curve: Curve, *, per_s: int = 1, **changes: float) -> twin.Estimator:
    """An estimator fed with a simulated curve's readings."""
    found = twin.Estimator(DEFAULTS, **{"mass_kg": 0.4, "probe_charge_c": 157.0, "preheat_temp_c": 238.0} | changes)
    for tick in range(until_s * per_s + 1):
        at_s = tick / per_s
        probe_c = float(np.interp(at_s, curve.elapsed_s, curve.bean_temp_c))
        infrared_c = float(np.interp(at_s, curve.elapsed_s, curve.infrared_temp_c))
        found.update(at_s, Observed(probe_c, infrared_c), twin_setting(at_s))
    return found


def twin_setting(at_s: float) -> Setting:
    return [s for t, s in zip(USUAL.elapsed_s, USUAL.settings, strict=True) if t <= at_s][-1]


def test_the_same_seed_gives_the_same_roast_to_the_bit() -> None:
    first, again = (twin.simulate(DEFAULTS, USUAL, START, duration_s=600, seed=7) for _ in range(2))
    assert first.bean_temp_c.tobytes() == again.bean_temp_c.tobytes()
    assert first.infrared_temp_c.tobytes() == again.infrared_temp_c.tobytes()


def test_another_seed_gives_another_roast() -> None:
    one, other = (twin.simulate(DEFAULTS, USUAL, START, seed=seed) for seed in (1, 2))
    assert not np.array_equal(one.bean_temp_c, other.bean_temp_c)


def test_a_usual_plan_gives_a_usual_roast() -> None:
    """Turning point near 95 °C at about a minute, first-crack temperatures at six to eight minutes."""
    made = twin.simulate(DEFAULTS, USUAL, START, duration_s=520)
    turn = int(np.argmin(made.bean_temp_c))
    assert 50 <= turn <= 75 and 90.0 < made.bean_temp_c[turn] < 105.0
    assert 180.0 < made.bean_temp_c[430] < 205.0


@settings(max_examples=60, deadline=None)
@given(heaters, st.integers(1, 4))
def test_more_heat_never_makes_probe_or_infrared_colder(steps: list[int], more: int) -> None:
    cooler = twin.simulate(DEFAULTS, plan(steps), START, duration_s=600)
    hotter = twin.simulate(DEFAULTS, plan([min(9, s + more) for s in steps]), START, duration_s=600)
    assert (hotter.bean_temp_c >= cooler.bean_temp_c - 1e-9).all()
    assert (hotter.infrared_temp_c >= cooler.infrared_temp_c - 1e-9).all()


@settings(max_examples=30, deadline=None)
@given(heaters, st.floats(150.0, 199.0))
def test_sagging_mains_never_make_anything_hotter(steps: list[int], volts: float) -> None:
    full = twin.simulate(DEFAULTS, plan(steps), START, duration_s=500)
    sagging = twin.simulate(DEFAULTS, plan(steps, voltage_v=volts), START, duration_s=500)
    assert (sagging.bean_temp_c <= full.bean_temp_c + 1e-9).all()


@settings(max_examples=40, deadline=None)
@given(heaters, st.floats(0.05, 2.0), st.floats(-20.0, 300.0), st.floats(0.0, 12.0), st.floats(0.0, 400.0))
@example([9] * 10, 0.05, 300.0, 1.0, 400.0)  # hot enough that a straight heat capacity would turn negative
def test_no_input_makes_nonsense(steps: list[int], mass_kg: float, probe_c: float, fan: float, volts: float) -> None:
    made = twin.simulate(DEFAULTS, plan(steps, fan, volts), Initial(mass_kg, probe_c), duration_s=900)
    assert np.isfinite(made.bean_temp_c).all() and np.isfinite(made.infrared_temp_c).all()
    assert made.bean_temp_c.max() < 900.0 and made.bean_temp_c.min() > -60.0


def test_a_larger_batch_heats_more_slowly() -> None:
    ends = [
        twin.simulate(DEFAULTS, USUAL, replace(START, mass_kg=kg), duration_s=400).bean_temp_c[-1]
        for kg in (0.3, 0.4, 0.6)
    ]
    assert ends[0] > ends[1] > ends[2]


def test_readings_after_ninety_seconds_are_not_looked_at() -> None:
    usual = twin.simulate(DEFAULTS, USUAL, START, duration_s=300, seed=3)
    wild = replace(usual, bean_temp_c=np.where(usual.elapsed_s > 90.0, 500.0, usual.bean_temp_c))
    made = [
        twin.simulate(DEFAULTS, USUAL, replace(START, known=known), duration_s=300).bean_temp_c
        for known in (usual, wild)
    ]
    assert np.array_equal(*made)


def test_readings_before_ninety_seconds_correct_the_rest() -> None:
    usual = twin.simulate(DEFAULTS, USUAL, START, duration_s=300)
    warmer = replace(usual, bean_temp_c=usual.bean_temp_c + 3.0)
    free, known = (
        twin.simulate(DEFAULTS, USUAL, replace(START, known=known), duration_s=300).bean_temp_c
        for known in (None, warmer)
    )
    assert known[95] > free[95] + 2.0


@pytest.mark.parametrize(
    ("initial", "duration_s"),
    [(Initial(m, p), 60.0) for m, p in ((0.0, 157.0), (2.1, 157.0), (0.4, math.nan))] + [(START, 0.5), (START, 3601.0)],
)
def test_what_cannot_be_simulated_is_refused(initial: Initial, duration_s: float) -> None:
    with pytest.raises(TwinError):
        twin.simulate(DEFAULTS, USUAL, initial, duration_s=duration_s)


def test_parameters_survive_json_to_the_bit() -> None:
    again = twin.parameters_from_json(json.loads(json.dumps(twin.parameters_to_json(DEFAULTS))))
    assert again == DEFAULTS


@pytest.mark.parametrize("damage", [{"schema": 99}, {"constants": {}}, {"gains": [[0.0]]}, {"fitted": {}}])
def test_damaged_parameters_are_refused(damage: dict) -> None:
    with pytest.raises(TwinError):
        twin.parameters_from_json(twin.parameters_to_json(DEFAULTS) | damage)


def test_shipped_defaults_say_so() -> None:
    assert DEFAULTS.is_shipped_default and "39 recorded roasts" in DEFAULTS.origin


def test_the_estimator_follows_a_roast_that_takes_up_heat_differently() -> None:
    made = twin.simulate(DEFAULTS, USUAL, replace(START, mass_kg=0.43), duration_s=500, seed=1)
    found = followed(300, made)
    truth_c = float(np.interp(found.state.elapsed_s, made.elapsed_s, made.bean_temp_c))
    assert abs(found.state.bean_temp_c - truth_c) < 0.5
    band = found.predict(120.0)
    truth = np.interp(band.times_s, made.elapsed_s, made.bean_temp_c)
    assert np.abs(band.bean_temp_c - truth)[:100].max() < 3.5


def test_readings_at_ten_hertz_say_the_same_as_at_one() -> None:
    made = twin.simulate(DEFAULTS, USUAL, START, duration_s=400, seed=1)
    slow, fast = followed(240, made), followed(240, made, per_s=10)
    assert abs(slow.state.bean_temp_c - fast.state.bean_temp_c) < 0.4


def test_the_same_readings_give_the_same_state_to_the_bit() -> None:
    made = twin.simulate(DEFAULTS, USUAL, START, duration_s=400, seed=1)
    assert followed(200, made).state.node == followed(200, made).state.node


REMEMBERED = replace(DEFAULTS, memory=(Remembered(1e9, (3.0, 0.0, 3.0, 0.0), "kenya"),))


def remembering(until_s: int, curve: Curve, parameters: twin.TwinParameters) -> twin.Estimator:
    """An estimator of a roast of the remembered bean, an hour later; readings of the probe only."""
    found = twin.Estimator(
        parameters, mass_kg=0.4, probe_charge_c=157.0, preheat_temp_c=238.0, began_s=1e9 + 3600, bean="kenya"
    )
    for second in range(until_s + 1):
        found.update(float(second), Observed(float(curve.bean_temp_c[second])), twin_setting(second))
    return found


def test_before_the_opening_the_estimator_expects_what_earlier_roasts_showed() -> None:
    made = twin.simulate(DEFAULTS, USUAL, START, duration_s=200)
    dated = replace(START, began_s=1e9 + 3600, bean="kenya")
    expected = twin.simulate(REMEMBERED, USUAL, dated, duration_s=200)
    followed_c = remembering(80, made, REMEMBERED).state.bean_temp_c
    assert followed_c == pytest.approx(expected.bean_temp_c[80], abs=1e-9)
    assert followed_c > made.bean_temp_c[80] + 1.0


def test_from_the_opening_on_readings_count_and_memory_no_more() -> None:
    made = twin.simulate(DEFAULTS, USUAL, replace(START, mass_kg=0.43), duration_s=200, seed=4)
    nodes = [remembering(120, made, parameters).state.node for parameters in (REMEMBERED, DEFAULTS)]
    assert nodes[0] == nodes[1]


def test_without_readings_in_the_opening_memory_stands() -> None:
    blind = twin.Estimator(
        REMEMBERED, mass_kg=0.4, probe_charge_c=157.0, preheat_temp_c=238.0, began_s=1e9 + 3600, bean="kenya"
    )
    for second in range(121):
        blind.update(float(second), Observed(None), twin_setting(second))
    expected = twin.simulate(REMEMBERED, USUAL, replace(START, began_s=1e9 + 3600, bean="kenya"), duration_s=120)
    assert not blind.state.is_opened
    assert blind.state.bean_temp_c == pytest.approx(expected.bean_temp_c[120], abs=1e-9)


def test_missing_and_wild_readings_do_not_move_the_twin() -> None:
    made = twin.simulate(DEFAULTS, USUAL, START, duration_s=400)
    found = followed(200, made)
    for second, probe_c in enumerate((math.nan, math.inf, -273.0, 5000.0, None), start=201):
        found.update(float(second), Observed(probe_c, None), Setting(7, 1))
    found.update(10.0, Observed(20.0, 20.0), Setting(0, 1))  # late: left out
    expected = twin.simulate(DEFAULTS, USUAL, START, duration_s=400).bean_temp_c[205]
    assert abs(found.state.bean_temp_c - expected) < 1.0


def test_silence_is_said() -> None:
    found = followed(200, twin.simulate(DEFAULTS, USUAL, START, duration_s=400))
    for second in range(201, 230):
        found.update(float(second), Observed(None, None), Setting(7, 1))
    assert any("no usable reading" in word for word in found.predict().why_extrapolating)


def test_an_order_for_more_heat_is_seen_on_the_probe_after_a_while_and_not_before() -> None:
    state = followed(240, twin.simulate(DEFAULTS, USUAL, START, duration_s=400)).state
    answer = twin.what_if(state, Order("heater", 9))
    gain_c = answer.with_c - answer.without_c
    assert abs(gain_c[3]) < 0.05 and gain_c[120] > 0.7 and (np.diff(gain_c) >= -1e-9).all()


def test_an_order_that_changes_nothing_changes_nothing() -> None:
    state = followed(240, twin.simulate(DEFAULTS, USUAL, START, duration_s=400)).state
    answer = twin.what_if(state, Order("heater", state.setting.heater_step))
    assert np.array_equal(answer.with_c, answer.without_c)


def test_an_order_for_later_acts_later() -> None:
    state = followed(240, twin.simulate(DEFAULTS, USUAL, START, duration_s=400)).state
    answer = twin.what_if(state, Order("heater", 9, at_s=300.0))
    assert np.array_equal(answer.with_c[:59], answer.without_c[:59]) and answer.with_c[-1] > answer.without_c[-1]


@pytest.mark.parametrize(
    ("order", "word"), [(Order("drum", 4), "drum"), (Order("fan", 12), "fan"), (Order("heater", 9), "heater")]
)
def test_an_order_outside_the_recorded_roasts_says_extrapolating(order: Order, word: str) -> None:
    state = followed(120, twin.simulate(DEFAULTS, USUAL, START, duration_s=400)).state
    assert not twin.what_if(state, Order("heater", 6)).is_extrapolating
    answer = twin.what_if(state, order)
    assert answer.is_extrapolating and any(w.startswith(word) for w in answer.why_extrapolating)


@pytest.mark.parametrize(("mass_kg", "expected"), [(0.4, False), (0.41, False), (0.5, True), (0.3, True)])
def test_a_batch_of_another_size_says_extrapolating(mass_kg: float, expected: bool) -> None:
    state = twin.Estimator(DEFAULTS, mass_kg=mass_kg, probe_charge_c=157.0).state
    assert any("mass" in word for word in twin.why_extrapolating(state, 60.0)) is expected


def test_the_crack_of_a_simulated_roast_is_foreseen() -> None:
    made = twin.simulate(DEFAULTS, USUAL, START, duration_s=520, seed=2)
    crack = twin.CrackTemperature(188.0, 3.0, 10)
    true_s = float(np.interp(188.0, made.bean_temp_c[100:], made.elapsed_s[100:]))
    eta = twin.first_crack(followed(int(true_s) - 120, made).state, crack, USUAL)
    assert eta.kind == "prediction" and abs(eta.elapsed_s - true_s) < 8.0
    assert eta.low_s < eta.elapsed_s and (eta.high_s is None or eta.high_s > eta.elapsed_s)


def test_a_drop_is_a_plan_and_says_so() -> None:
    state = followed(300, twin.simulate(DEFAULTS, USUAL, START, duration_s=400)).state
    by_target = twin.drop(state, target_temp_c=200.0, controls=USUAL)
    by_time = twin.drop(state, development_s=80.0, first_crack_s=290.0)
    assert by_target.kind == by_time.kind == "plan"
    assert by_time.elapsed_s == 370.0 and "200.0" in by_target.label


@pytest.mark.parametrize("aims", [{}, {"target_temp_c": 200.0, "development_s": 80.0}])
def test_a_drop_needs_exactly_one_aim(aims: dict) -> None:
    with pytest.raises(TwinError):
        twin.drop(followed(100, twin.simulate(DEFAULTS, USUAL, START)).state, **aims)


def test_a_temperature_that_never_comes_has_no_time() -> None:
    state = followed(300, twin.simulate(DEFAULTS, USUAL, START, duration_s=400)).state
    assert twin.first_crack(state, twin.CrackTemperature(400.0, 1.0)).elapsed_s is None


@pytest.mark.parametrize(
    "wrong", [((), ()), ((0.0,), ()), ((0.0, 0.0), (Setting(1, 1), Setting(2, 1))), ((5.0, 1.0), (Setting(1, 1),) * 2)]
)
def test_controls_that_do_not_rise_are_refused(wrong: tuple) -> None:
    with pytest.raises(TwinError):
        Controls(*wrong)
