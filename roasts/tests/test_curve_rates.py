"""The causal rate over a whole roast, the centred one, crash and flick."""

from __future__ import annotations

import random

import numpy as np
import pytest

from roasts.curve import Curve, Mark, summarise
from roasts.curve_rates import causal_rate, centred_rate, changes_s
from roasts.rate_of_rise import RateOfRise


@pytest.mark.parametrize("every_s", [0.1, 1.0, 2.0])
def test_the_causal_rate_is_the_one_the_recorder_steps(every_s: float) -> None:
    times_s = np.arange(-5, 120, every_s)
    temps_c = 100 + 10 * np.sin(times_s / 20)
    stepped, rate = [], RateOfRise()
    for time_s, temp_c in zip(times_s, temps_c, strict=True):
        if time_s >= 0:
            stepped.append(rate.step(round(float(time_s) * 1000), float(temp_c)))
    rates = causal_rate(times_s, temps_c, from_s=0.0)
    assert np.all(np.isnan(rates[times_s < 0]))
    np.testing.assert_allclose(rates[times_s >= 0], np.array(stepped, dtype=float), rtol=0, atol=1e-7)


@pytest.mark.parametrize("seed", range(40))
def test_the_causal_rate_steps_over_gaps_silences_and_repeated_moments_as_the_recorder_does(seed: int) -> None:
    chance = random.Random(seed)
    lengths_s = [0.0004, 0.1, 0.1, 1.0, 1.003, 3.0, 5.0, 5.001, 30.0]
    times_s = np.cumsum([chance.choice(lengths_s) for _ in range(chance.randint(1, 300))])
    temps_c = np.array([np.nan if chance.random() < 0.1 else 100 + at_s / 3 + chance.gauss(0, 1) for at_s in times_s])
    from_s = chance.choice([-np.inf, 0.0, 50.0])
    rate, stepped = RateOfRise(), np.full(len(times_s), np.nan)
    for row in range(int(np.searchsorted(times_s, from_s)), len(times_s)):
        value = rate.step(round(float(times_s[row]) * 1000), float(temps_c[row]))
        stepped[row] = np.nan if value is None else value
    np.testing.assert_allclose(causal_rate(times_s, temps_c, from_s=from_s), stepped, rtol=0, atol=1e-7)


def test_the_causal_rate_knows_nothing_of_the_future() -> None:
    times_s, temps_c = np.arange(0.0, 200.0), np.linspace(100, 150, 200)
    changed_c = temps_c.copy()
    changed_c[120:] += 40
    before, after = causal_rate(times_s, temps_c), causal_rate(times_s, changed_c)
    np.testing.assert_array_equal(before[:120], after[:120])
    assert after[120] > before[120] + 5


@pytest.mark.parametrize("every_s", [0.1, 1.0, 3.0])
def test_the_centred_rate_is_the_fitted_slope_around_its_moment(every_s: float) -> None:
    times_s = np.arange(0, 300, every_s)
    temps_c = 100 + 0.2 * times_s - 0.0002 * times_s**2 + 0.3 * np.sin(times_s * 7)
    rates = centred_rate(times_s, temps_c)
    for row in range(len(times_s) // 4, len(times_s) // 2, 7):
        near = np.abs(times_s - times_s[row]) <= 10
        assert rates[row] == pytest.approx(60 * np.polyfit(times_s[near], temps_c[near], 1)[0], abs=1e-6)


def test_the_centred_rate_does_not_lag_a_bend_and_the_causal_one_does() -> None:
    times_s = np.arange(0.0, 600.0)
    temps_c = 100 + 20 * (times_s / 60) - 0.8 * (times_s / 60) ** 2
    true = 20 - 1.6 * times_s / 60
    assert centred_rate(times_s, temps_c)[300] == pytest.approx(true[300], abs=1e-6)
    assert causal_rate(times_s, temps_c)[300] == pytest.approx(true[290], abs=1e-3)


def test_the_centred_rate_is_silent_at_the_ends_and_over_holes() -> None:
    times_s = np.arange(0.0, 100.0)
    temps_c = np.linspace(100, 130, 100)
    temps_c[40:70] = np.nan
    rates = centred_rate(times_s, temps_c)
    assert np.isnan(rates[:7]).all() and np.isnan(rates[-7:]).all() and np.isnan(rates[40:70]).all()
    assert rates[20] == pytest.approx(60 * 30 / 99) and np.isnan(rates[39])
    assert np.isnan(centred_rate(times_s[:2], temps_c[:2])).all()


def test_control_changes_are_seen_through_missing_values() -> None:
    times_s = np.arange(6.0)
    heater = np.array([7, 7, np.nan, 6, 6, 5])
    fan = np.array([np.nan, 2, 2, 2, 3, 3])
    assert list(changes_s(times_s, heater, None, fan)) == [3, 4, 5]
    assert list(changes_s(times_s, None)) == []


def developing(rate_of: list[tuple[float, float]], every_s: float = 1.0, moved_at_s: float | None = None) -> Curve:
    """A roast whose true rate after charge follows the given (s, °C/min), with one heater step at ``moved_at_s``."""
    times_s = np.arange(0, 700, every_s)
    rate = np.interp(times_s, [p[0] for p in rate_of], [p[1] for p in rate_of])
    temps_c = 100 + np.cumsum(rate) * every_s / 60
    heater = np.where(times_s < (moved_at_s if moved_at_s is not None else 1e9), 7.0, 6.0)
    return Curve(times_s, temps_c, heater_step=heater)


MARKS = (Mark("charge", 0), Mark("first_crack_start", 500), Mark("drop", 680))


@pytest.mark.parametrize("every_s", [0.1, 1.0])
@pytest.mark.parametrize(("fall", "is_crash"), [(3.8, False), (4.6, True)])
def test_a_crash_is_a_fall_of_more_than_four_within_thirty_seconds(fall: float, is_crash: bool, every_s: float) -> None:
    curve = developing([(0, 9), (560, 9), (561, 9 - fall), (700, 9 - fall)], every_s)
    summary = summarise(curve, MARKS)
    assert bool(summary.crashes) is is_crash
    if is_crash:
        crash = summary.crashes[0]
        assert 555 <= crash.from_s <= 572 and 585 <= crash.bottom_s <= 600
        assert crash.fall_c_per_min == pytest.approx(fall, abs=0.2) and summary.flicks == ()


def test_a_slow_fall_is_none_however_deep() -> None:
    summary = summarise(developing([(0, 12), (500, 12), (680, 2)]), MARKS)
    assert summary.crashes == ()


def test_a_fall_after_a_control_change_is_no_crash() -> None:
    falls = [(0, 9), (560, 9), (561, 3), (700, 3)]
    assert summarise(developing(falls, moved_at_s=575), MARKS).crashes == ()
    assert summarise(developing(falls, moved_at_s=300), MARKS).crashes


def test_a_fall_before_first_crack_is_none() -> None:
    summary = summarise(developing([(0, 15), (420, 15), (421, 6), (700, 6)]), MARKS)
    assert summary.crashes == ()


@pytest.mark.parametrize(("up_for_s", "is_flick"), [(20, False), (60, True)])
def test_a_flick_stands_two_above_the_low_for_fifteen_seconds(up_for_s: float, is_flick: bool) -> None:
    end_s = 600 + up_for_s
    curve = developing([(0, 9), (540, 9), (541, 3), (599, 3), (600, 6.2), (end_s, 6.2), (end_s + 1, 2.5), (700, 2.5)])
    summary = summarise(curve, MARKS)
    assert len(summary.crashes) >= 1
    assert bool(summary.flicks) is is_flick
    if is_flick:
        assert summary.flicks[0].for_s >= 15 and 2 <= summary.flicks[0].rise_c_per_min <= 3.5
