"""Counting a roast: landmarks, phases, area, energy, on curves whose numbers are known by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from roasts.curve import (
    BULLET_R1_HEATER,
    Curve,
    CurveSettings,
    Mark,
    Weights,
    area_c_min,
    first_of,
    row_at,
    summarise,
)


def line(*points: tuple[float, float], every_s: float = 1.0, **columns: object) -> Curve:
    """A curve along straight lines through (seconds, °C)."""
    times_s = np.arange(points[0][0], points[-1][0] + 1e-9, every_s)
    temps_c = np.interp(times_s, [p[0] for p in points], [p[1] for p in points])
    return Curve(times_s, temps_c, **columns)  # type: ignore[arg-type]


#: 100 °C at 60 s, then 12 °C/min to 150 at 310 s and to 190 at 510 s, 6 °C/min to 199 at 600 s.
ROAST = line((-10, 170), (0, 170), (60, 100), (310, 150), (510, 190), (600, 199), (620, 150))
MARKS = (Mark("charge", 0.0), Mark("first_crack_start", 510.0), Mark("drop", 600.0))


def test_phases_are_counted_in_seconds_and_percent() -> None:
    summary = summarise(ROAST, MARKS)
    assert [(p.name, p.from_s, p.to_s) for p in summary.phases] == [
        ("drying", 0, 310),
        ("maillard", 310, 510),
        ("development", 510, 600),
    ]
    assert [round(p.percent, 1) for p in summary.phases] == [51.7, 33.3, 15.0]
    assert summary.development_ratio == pytest.approx(0.15)
    assert (summary.turning_point_s, summary.dry_phase_s, summary.first_crack_s) == (60, 310, 510)


def test_rates_of_phases_go_end_to_end_and_drying_from_the_turning_point() -> None:
    summary = summarise(ROAST, MARKS)
    assert [round(p.rate_c_per_min, 3) for p in summary.phases] == [12, 12, 6]
    assert summary.total_rate_c_per_min == pytest.approx(60 * 99 / 540)
    assert summary.phase("maillard").slope_c_per_min2 == pytest.approx(0, abs=1e-6)


def test_slope_of_a_falling_rate_is_degrees_per_minute_per_minute() -> None:
    times_s = np.arange(0.0, 601.0)
    temps_c = 100 + 20 * (times_s / 60) - 0.75 * (times_s / 60) ** 2  # rate 20 - 1.5 per minute
    summary = summarise(Curve(times_s, temps_c), (Mark("first_crack_start", 400), Mark("drop", 600)))
    assert summary.phase("development").slope_c_per_min2 == pytest.approx(-1.5, abs=0.01)


def test_area_counts_only_what_is_above_the_base() -> None:
    curve = line((0, 90), (60, 110), (120, 110))
    assert area_c_min(curve, 0, 121) == pytest.approx(10 * 0.5 * 0.5 + 10, abs=0.2)
    assert area_c_min(curve, 0, 121, base_c=110) == 0
    assert area_c_min(curve, 0, 30) == 0


def test_area_may_begin_elsewhere_and_on_another_base() -> None:
    from_crack = summarise(ROAST, MARKS, CurveSettings(auc_from="first_crack_start"))
    assert from_crack.auc_c_min == pytest.approx(94.5 * 1.5, abs=2)
    hotter = summarise(ROAST, MARKS, CurveSettings(auc_base_c=150))
    assert hotter.auc_c_min == pytest.approx(20 * 200 / 60 + 44.5 * 1.5, abs=2) and hotter.auc_base_c == 150
    assert summarise(ROAST, MARKS, CurveSettings(auc_from="nonsense")).auc_c_min is None


def test_area_begins_where_the_source_began_unless_a_person_chooses() -> None:
    told = Curve(ROAST.elapsed_s, ROAST.bean_temp_c, area_from_s=300.0)
    counted = summarise(told, MARKS)
    assert counted.auc_from == "where_the_source_began"
    assert counted.auc_c_min == area_c_min(told, 300, counted.landmark("drop").elapsed_s)
    assert counted.turning_point_s == summarise(ROAST, MARKS).turning_point_s, "the beans turned where they turned"
    chosen = summarise(told, MARKS, CurveSettings(auc_from="turning_point"))
    assert chosen.auc_from == summarise(ROAST, MARKS).auc_from == "turning_point"
    assert chosen.auc_c_min == summarise(ROAST, MARKS).auc_c_min > counted.auc_c_min


def test_of_equally_low_readings_the_latest_is_the_turning_point() -> None:
    curve = Curve(np.arange(6.0), np.array([120.0, 100, 90, 90, 91, 95]))
    assert summarise(curve, (Mark("drop", 5),)).turning_point_s == 3


def test_a_sensor_that_answers_nothing_is_no_turning_point() -> None:
    curve = Curve(np.arange(6.0), np.array([120.0, np.nan, -1, 0, 91, 95]))
    assert summarise(curve, (Mark("drop", 5),)).landmark("turning_point").bean_temp_c == 91


def test_dry_end_is_the_reading_nearest_to_its_temperature_between_turning_point_and_crack() -> None:
    curve = Curve(np.arange(7.0), np.array([150.0, 100, 140, 148, 153, 170, 180]))
    marks = (Mark("first_crack_start", 5), Mark("drop", 6))
    assert summarise(curve, marks).dry_phase_s == 3
    assert summarise(curve, marks, CurveSettings(dry_end_c=152)).dry_phase_s == 4
    cold = summarise(curve, marks, CurveSettings(dry_end_c=18))
    assert cold.dry_phase_s == 1, "nearest of all is the turning point"
    assert "18 °C" in cold.remarks[0] and summarise(curve, marks).remarks == ()


def test_what_the_source_says_of_dry_end_holds_unless_overruled() -> None:
    curve = Curve(ROAST.elapsed_s, ROAST.bean_temp_c, dry_end_c=149.0)
    assert summarise(curve, MARKS).dry_end_c == 149
    assert summarise(curve, MARKS).dry_phase_s == 305
    assert summarise(curve, MARKS, CurveSettings(dry_end_c=150.0)).dry_phase_s == 310


def test_a_persons_mark_wins_and_an_inferred_turning_point_gives_way_to_the_curve() -> None:
    marks = (
        *MARKS,
        Mark("dry_end", 300, "person"),
        Mark("dry_end", 280, "inferred"),
        Mark("turning_point", 70, "inferred"),
    )
    summary = summarise(ROAST, marks)
    assert summary.dry_phase_s == 300 and summary.landmark("dry_end").source == "person"
    assert summary.turning_point_s == 60 and summary.landmark("turning_point").source == "curve"
    assert summarise(ROAST, (*MARKS, Mark("turning_point", 63, "person"))).turning_point_s == 63


def test_first_crack_of_an_inference_counts_until_a_person_says_otherwise() -> None:
    inferred = (Mark("first_crack_start", 480, "inferred"), Mark("drop", 600, "device"))
    assert summarise(ROAST, inferred).first_crack_s == 480
    assert summarise(ROAST, (*inferred, Mark("first_crack_start", 500, "person"))).first_crack_s == 500
    assert first_of(inferred, "charge") is None


def test_a_charge_a_person_moved_moves_every_duration() -> None:
    summary = summarise(ROAST, (Mark("charge", 4.0, "person"), *MARKS[1:]))
    assert summary.total_s == 596 and summary.turning_point_s == 56 and summary.phases[0].duration_s == 306


@pytest.mark.parametrize(
    ("marks", "word"),
    [((Mark("drop", -5.0),), "drop"), ((Mark("drop", 600), Mark("first_crack_start", 605)), "first crack")],
)
def test_a_mark_that_cannot_be_is_left_out_and_said(marks: tuple[Mark, ...], word: str) -> None:
    summary = summarise(ROAST, marks)
    assert summary.development_ratio is None and any(word in remark for remark in summary.remarks)


def test_while_it_roasts_the_last_phase_is_open_and_there_is_no_ratio() -> None:
    so_far = line((0, 170), (60, 100), (310, 150), (400, 168))
    summary = summarise(so_far, (Mark("charge", 0.0),))
    assert not summary.is_dropped and summary.development_ratio is None
    assert [(p.name, p.to_s) for p in summary.phases] == [("drying", 310), ("maillard", 400)]
    developing = summarise(so_far, (Mark("first_crack_start", 380),))
    assert developing.phase("development").duration_s == 20 and developing.development_ratio is None


def test_before_the_beans_turn_there_is_no_turning_point_and_before_150_no_dry_end() -> None:
    falling = summarise(line((0, 170), (50, 110)))
    assert falling.turning_point_s is None and [p.name for p in falling.phases] == ["drying"]
    rising = summarise(line((0, 170), (60, 100), (200, 140)))
    assert rising.turning_point_s == 60 and rising.landmark("dry_end") is None and rising.dry_phase_s is None


def test_infrared_minus_bean_stands_at_every_landmark_and_phase() -> None:
    curve = Curve(ROAST.elapsed_s, ROAST.bean_temp_c, infrared_temp_c=ROAST.bean_temp_c + 12)
    summary = summarise(curve, MARKS)
    assert {landmark.difference_c for landmark in summary.landmarks} == {12}
    assert {phase.mean_difference_c for phase in summary.phases} == {12}
    with_environment = Curve(curve.elapsed_s, curve.bean_temp_c, curve.infrared_temp_c, curve.bean_temp_c + 30)
    assert summarise(with_environment, MARKS).phases[0].mean_difference_c == 30
    assert summarise(ROAST, MARKS).phases[0].mean_difference_c is None


def test_energy_is_step_times_rating_times_voltage_squared_and_says_so() -> None:
    steps = np.full(len(ROAST), 9.0)
    model = CurveSettings(heater=BULLET_R1_HEATER)
    full = summarise(Curve(ROAST.elapsed_s, ROAST.bean_temp_c, heater_step=steps), MARKS, model)
    assert full.energy.energy_kj == pytest.approx(1.55 * 600)
    assert "assumed" in full.energy.assumption
    low = Curve(ROAST.elapsed_s, ROAST.bean_temp_c, heater_step=steps / 9, voltage_v=np.full(len(ROAST), 115.0))
    assert summarise(low, MARKS, model).energy.energy_kj == pytest.approx(1.55 * 600 / 9 / 4)
    assert summarise(ROAST, MARKS, model).energy is None and summarise(low, MARKS).energy is None


@pytest.mark.parametrize(
    ("weights", "loss"), [((400, 350), 12.5), ((400, None), None), ((0, 10), None), ((400, 0), None)]
)
def test_weight_loss_is_percent_of_green(weights: tuple[float, float], loss: float | None) -> None:
    assert summarise(ROAST, MARKS, weights=Weights(*weights)).weight_loss_percent == loss


@pytest.mark.parametrize("temps", [[], [math.nan] * 5], ids=["no row", "no value"])
def test_a_curve_of_nothing_counts_to_nothing(temps: list[float]) -> None:
    summary = summarise(Curve(np.arange(float(len(temps))), np.array(temps)), MARKS)
    assert summary.total_s is None and summary.phases == () and summary.remarks == ("no bean temperature",)


def test_row_at_takes_the_nearest_row() -> None:
    curve = Curve(np.array([0.0, 1.0, 3.0]), np.zeros(3))
    assert [row_at(curve, at_s) for at_s in (-5, 0.4, 0.6, 1.9, 2.1, 99)] == [0, 0, 1, 1, 2, 2]


KINDS = ["charge", "turning_point", "dry_end", "first_crack_start", "first_crack_end", "drop", "cool_end", "note"]
MARK_VALUES = st.builds(
    Mark, st.sampled_from(KINDS), st.floats(-60, 900), st.sampled_from(["person", "device", "inferred"])
)


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 60).flatmap(
        lambda rows: st.tuples(
            hnp.arrays(float, rows, elements=st.floats(0.05, 30)),
            hnp.arrays(float, rows, elements=st.one_of(st.floats(-10, 400), st.just(math.nan))),
        )
    ),
    st.lists(MARK_VALUES, max_size=8),
)
def test_whatever_the_curve_and_marks_the_sums_hold(columns: tuple, marks: list[Mark]) -> None:
    steps_s, temps_c = columns
    curve = Curve(np.cumsum(steps_s) - 30, temps_c, infrared_temp_c=temps_c + 5, heater_step=np.round(temps_c / 50))
    summary = summarise(curve, tuple(marks), CurveSettings(heater=BULLET_R1_HEATER))
    if summary.total_s is None:
        return
    assert summary.total_s >= 0
    assert sum(phase.duration_s for phase in summary.phases) == pytest.approx(summary.total_s)
    assert all(phase.duration_s >= 0 for phase in summary.phases)
    assert [landmark.elapsed_s for landmark in summary.landmarks] == sorted(m.elapsed_s for m in summary.landmarks)
    assert summary.development_ratio is None or 0 <= summary.development_ratio <= 1
    assert summary.auc_c_min is None or summary.auc_c_min >= 0
