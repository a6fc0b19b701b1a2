"""Two roasts laid over each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roasts.curve import Curve, Mark
from roasts.library.comparison import MarkedCurve, NotComparable, compare
from roasts.tests.test_curve import MARKS, ROAST, line

GOLDEN = MarkedCurve(ROAST, MARKS)


def later(by_s: float, warmer_c: float = 0.0) -> MarkedCurve:
    """The same roast on a clock that runs ``by_s`` behind, ``warmer_c`` warmer."""
    marks = tuple(Mark(mark.kind, mark.elapsed_s + by_s) for mark in MARKS)
    return MarkedCurve(Curve(ROAST.elapsed_s + by_s, ROAST.bean_temp_c + warmer_c), marks)


def test_a_roast_does_not_differ_from_itself() -> None:
    found = compare(GOLDEN, GOLDEN)
    assert (found.rmse_c, found.max_deviation_c, found.shift_s) == (0, 0, 0)
    assert found.within_s == found.whole.overlap_s == 601
    assert [phase.longer_by_s for phase in found.phases] == [0, 0, 0]


@pytest.mark.parametrize(("warmer_c", "within_s"), [(3.0, 601), (3.01, 0), (-3.0, 601), (-3.01, 0)])
def test_tolerance_counts_its_own_edge_in(warmer_c: float, within_s: float) -> None:
    found = compare(GOLDEN, later(0, warmer_c))
    assert found.within_s == within_s and found.rmse_c == pytest.approx(abs(warmer_c))
    assert found.max_deviation_c == pytest.approx(warmer_c), "the sign says which way"


@settings(max_examples=60, deadline=None)
@given(st.floats(-300, 300), st.floats(-20, 20), st.sampled_from(["charge", "first_crack", "drop", "turning_point"]))
def test_a_clock_that_is_late_is_laid_back_by_the_event(by_s: float, warmer_c: float, align: str) -> None:
    found = compare(GOLDEN, later(by_s, warmer_c), align)
    assert found.shift_s == pytest.approx(-by_s)
    assert found.rmse_c == pytest.approx(abs(warmer_c), abs=1e-6)


def test_alignment_at_first_crack_compares_the_development() -> None:
    slow = line((0, 170), (60, 100), (310, 140), (560, 190), (650, 199), (660, 199))
    other = MarkedCurve(slow, (Mark("charge", 0), Mark("first_crack_start", 560), Mark("drop", 650)))
    by_charge, by_crack = compare(GOLDEN, other), compare(GOLDEN, other, "first_crack")
    assert by_crack.align == "first_crack_start" and by_crack.shift_s == -50
    development = [found.phases[2].deviation for found in (by_charge, by_crack)]
    assert development[0].rmse_c > 4 and development[1].rmse_c == pytest.approx(0, abs=1e-9)
    assert by_crack.phases[2].longer_by_s == 0 and by_crack.phases[1].longer_by_s is not None


def test_sampling_rates_do_not_weigh() -> None:
    fine = MarkedCurve(
        line((-10, 170), (0, 170), (60, 100), (310, 150), (510, 190), (600, 199), (620, 150), every_s=0.1), MARKS
    )
    assert compare(GOLDEN, fine).rmse_c == pytest.approx(0, abs=1e-9)
    assert compare(fine, later(0, 2)).rmse_c == pytest.approx(2)


def test_a_hole_in_one_curve_is_bridged_and_its_ends_are_not_guessed() -> None:
    temps_c = ROAST.bean_temp_c.copy()
    temps_c[200:230] = np.nan
    temps_c[-60:] = np.nan
    found = compare(GOLDEN, MarkedCurve(Curve(ROAST.elapsed_s, temps_c), MARKS))
    assert found.rmse_c == pytest.approx(0, abs=1e-9) and found.whole.overlap_s < 601


@pytest.mark.parametrize(
    ("other", "align", "reason"),
    [
        (MarkedCurve(ROAST, (Mark("drop", 600),)), "first_crack", "missing_event"),
        (GOLDEN, "moonrise", "unknown_event"),
        (MarkedCurve(line((0, 20), (1, 21)), (Mark("drop", 0.5),)), "charge", "no_overlap"),
        (MarkedCurve(Curve(np.arange(5.0), np.full(5, np.nan))), "charge", "missing_event"),
    ],
)
def test_what_cannot_be_compared_says_why(other: MarkedCurve, align: str, reason: str) -> None:
    with pytest.raises(NotComparable) as refused:
        compare(GOLDEN, other, align)
    assert refused.value.reason == reason and str(refused.value)
