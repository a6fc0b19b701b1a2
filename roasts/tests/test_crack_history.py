"""What earlier first cracks say of the next: habit, bean, era, and how unsure it is."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roasts.curve import Curve
from roasts.events.crack_history import (
    MAX_HISTORY,
    UNKNOWN_BEAN_C,
    EarlierCrack,
    bean_key,
    crack_temperature,
    earlier_crack,
    heat_cuts_s,
    is_heat_cut,
    points_of,
    prior_of,
)
from roasts.events.crack_shape import Point, bends_at, slope_c_per_min
from roasts.events.crack_track import student_share

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def crack(at_c: float, bean: str = "", **more: object) -> EarlierCrack:
    values: dict = {"at_c": at_c, "elapsed_s": 430.0, "at": START, "bean": bean}
    return EarlierCrack(**(values | more))


def test_without_history_it_is_somewhere_and_says_so() -> None:
    found = crack_temperature(())
    assert found.mean_c == pytest.approx(UNKNOWN_BEAN_C) and found.sd_c > 5 and found.roasts == 0


def test_a_few_roasts_are_enough_to_move_the_mean_and_narrow_the_spread() -> None:
    one, five = crack_temperature([crack(203.1)]), crack_temperature([crack(203.1 + n / 7) for n in range(5)])
    assert one.mean_c > 198
    assert five.mean_c == pytest.approx(203.3, abs=1.0) and five.sd_c < one.sd_c < crack_temperature(()).sd_c


def test_the_newest_roasts_weigh_most_for_a_probe_drifts() -> None:
    old, new = [crack(193.3)] * 12, [crack(185.7)] * 6
    assert crack_temperature([*old, *new]).mean_c < 189.5 < crack_temperature([*new, *old]).mean_c


def test_roasts_of_the_same_bean_weigh_more() -> None:
    mixed = [crack(183.3, "Sidra"), *[crack(188.7, "Gigesa")] * 4] * 2
    of_bean, of_other = crack_temperature(mixed, "sidra"), crack_temperature(mixed, "gigesa")
    assert of_bean.heard_c < crack_temperature(mixed).heard_c < of_other.heard_c


def test_a_habit_of_a_round_temperature_is_learnt_from_the_marks() -> None:
    habit = crack_temperature([crack(190.0), crack(189.9), crack(186.4), crack(190.2), crack(190.0)])
    assert habit.habit_c == 190.0 and habit.habit_share > 0.4
    assert crack_temperature([crack(188.3), crack(187.1), crack(191.4), crack(186.7)]).habit_c is None
    assert crack_temperature([crack(190.0), crack(187.1), crack(191.4)]).habit_c is None, "once is no habit"


def test_a_habit_that_was_given_up_is_forgotten() -> None:
    kept = [crack(190.0)] * 8
    given_up = [*kept, *[crack(186.0 + n / 3.1) for n in range(16)]]
    assert crack_temperature(given_up).habit_share < 0.3 < crack_temperature(kept).habit_share


def test_the_spread_over_both_kinds_of_mark_is_wider_than_either() -> None:
    found = crack_temperature([crack(190.0), crack(183.7), crack(190.0), crack(183.3), crack(190.1), crack(183.2)])
    assert found.habit_c == 190.0
    between_c = found.habit_c - found.heard_c
    assert found.mean_c == pytest.approx(found.heard_c + found.habit_share * between_c)
    assert found.sd_c**2 == pytest.approx(
        (1 - found.habit_share) * found.heard_sd_c**2 + found.habit_share * (1 - found.habit_share) * between_c**2
    )


@pytest.mark.parametrize(
    ("first", "second"), [("Sidra 2", "sidra"), ("suica1", "Suica2"), ("Magarrissa-Tulise_1", "magarrissa-tulise")]
)
def test_a_beans_name_is_the_same_bean_with_a_number_or_a_capital(first: str, second: str) -> None:
    assert bean_key(first) == bean_key(second) != bean_key("kenya")


def test_a_clear_step_down_is_a_cut_and_a_regulators_twitch_or_a_stop_is_none() -> None:
    assert is_heat_cut(5, 4, 9) and not is_heat_cut(4, 5, 9) and not is_heat_cut(2, 0, 9)
    assert is_heat_cut(60, 52, 100) and not is_heat_cut(60, 53, 100)


def curve(heater: list[float] | None = None, *, step_s: float = 1.0, eye: bool = True) -> Curve:
    """Ten degrees a minute up to 400 s, five from then on."""
    times_s = np.arange(0, 600, step_s)
    bean_c = 120 + times_s / 6 - np.clip(times_s - 400, 0, None) / 12
    steps = None if heater is None else np.interp(times_s, [0, 350, 350.1, 446, 446.1, 599], heater)
    return Curve(times_s, bean_c, infrared_temp_c=bean_c + 12 if eye else None, heater_step=steps)


def test_a_marked_crack_is_read_off_its_curve() -> None:
    found = earlier_crack(curve([6, 6, 5, 5, 4, 4]), 400.0, at=START, bean="Sidra", drop_s=480.0)
    assert found is not None
    assert found.at_c == pytest.approx(120 + 400 / 6, abs=0.1)
    assert found.infrared_c == pytest.approx(found.at_c + 12, abs=0.5)
    assert found.rate_of_rise_c_per_min == pytest.approx(10.0, abs=0.1)
    assert found.heat_cut_after_s == pytest.approx(47, abs=1.1)
    assert found.heat_cut_before_s == pytest.approx(49, abs=1.1)
    assert found.development_s == 80
    assert found.bean_bend == pytest.approx(np.log(0.5), abs=0.1)


def test_what_the_curve_does_not_have_is_none_and_no_probe_is_no_history() -> None:
    found = earlier_crack(curve(eye=False), 400.0, at=START)
    assert found is not None
    assert (found.infrared_c, found.infrared_bend, found.heat_cut_after_s, found.development_s) == (None,) * 4
    assert earlier_crack(curve(), 700.0, at=START) is None
    blind = replace(curve(), bean_temp_c=np.full(600, np.nan))
    assert earlier_crack(blind, 400.0, at=START) is None


def test_ten_readings_a_second_say_what_one_says() -> None:
    slow, fast = (earlier_crack(curve([6, 6, 5, 5, 4, 4], step_s=s), 400.0, at=START) for s in (1.0, 0.1))
    assert slow is not None and fast is not None
    assert fast.at_c == pytest.approx(slow.at_c, abs=0.2)
    assert fast.bean_bend == pytest.approx(slow.bean_bend, abs=0.05)
    assert len(points_of(curve(step_s=0.1))) <= 800
    assert len(heat_cuts_s(curve([6, 6, 5, 5, 4, 4], step_s=0.1))) == len(heat_cuts_s(curve([6, 6, 5, 5, 4, 4])))


def test_a_bend_needs_its_windows_filled() -> None:
    points = [Point(float(s), 100 + s / 6) for s in range(100)]
    assert bends_at(points, 40.0).bean == pytest.approx(0.0, abs=1e-6)
    assert bends_at(points, 40.0).infrared is None
    assert bends_at(points[:60], 40.0).bean is None
    assert slope_c_per_min([(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]) is None
    assert slope_c_per_min([(0.0, 1.0)] * 5) is None


def test_students_distribution_is_half_at_nought_and_as_the_tables_say() -> None:
    assert student_share(0.0) == 0.5
    assert student_share(2.015) == pytest.approx(0.95, abs=2e-4)
    assert student_share(-2.571) == pytest.approx(0.025, abs=2e-4)


CRACKS = st.lists(
    st.builds(
        crack, st.floats(150, 240), st.sampled_from(["", "a", "b"]), infrared_c=st.none() | st.floats(150, 260),
        heat_cut_after_s=st.none() | st.floats(3, 400), heat_cut_before_s=st.none() | st.floats(0, 400),
        bean_bend=st.none() | st.floats(-4, 4), development_s=st.none() | st.floats(1, 400),
    ),
    max_size=90,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(history=CRACKS, bean=st.sampled_from(["", "a", "c"]))
def test_any_history_gives_a_usable_expectation(history: list[EarlierCrack], bean: str) -> None:
    prior = prior_of(history, bean)
    found = prior.temperature
    assert 150 <= found.mean_c <= 240 and 0 < found.sd_c < 60 and 0 <= found.habit_share < 1
    assert prior.blend_sd_c > 0 and prior.bean_bend.sd > 0
    assert found.roasts <= MAX_HISTORY and len(prior.cuts_after) <= 30
    assert prior == prior_of(history[-MAX_HISTORY:], bean), "older ones are not looked at"
