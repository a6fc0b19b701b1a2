"""A report is composed from plain values: what it says, in which order, and what it admits not to know."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals import report, report_figure
from evals.report import Material, OrderLine
from kernel import canonical

CURVE: dict[str, list[float | None]] = {
    "elapsed_s": [0.0, 60.0, 120.0, 300.0, 480.0],
    "bean_temp_c": [150.0, 95.0, None, 160.0, 205.0],
    "rate_of_rise_c_per_min": [None, 2.0, 12.0, 14.0, 8.0],
    "heater_step": [7.0, 7.0, 7.0, 6.0, 4.0],
}
CRACK = {"kind": "first_crack_start", "elapsed_ms": 400_000, "source": "person", "is_standing": True}
DROP = {"kind": "drop", "elapsed_ms": 480_000, "source": "device", "is_standing": True}


def material(**changes: Any) -> Material:
    values: dict[str, Any] = {
        "roast": {"roast_id": "rst_1", "title": "Kenya <b>", "bean": "Kenya", "weight_in_g": 400, "weight_out_g": 345},
        "curve": CURVE,
        "summary": {"development_ratio": 0.2, "crashes": [], "flicks": []},
        "events": (CRACK, DROP),
        "qc": ({"text": "clean"},),
        "deviation": {"in_tolerance_s": 450.0, "compared_s": 480.0},
    }
    return Material(**{**values, **changes})


def codes(found: Material) -> list[str]:
    return [action.code for action in report.next_actions(found)]


def test_a_good_roast_asks_for_nothing_and_misses_nothing() -> None:
    assert codes(material()) == []
    assert report.missing(material()) == []


@pytest.mark.parametrize(
    ("ratio", "said"),
    [(0.159, ["extend_development"]), (0.16, []), (0.28, []), (0.281, ["shorten_development"]), (None, [])],
)
def test_development_is_spoken_of_outside_its_bounds_only(ratio: float | None, said: list[str]) -> None:
    assert codes(material(summary={"development_ratio": ratio})) == said


@pytest.mark.parametrize(("within_s", "said"), [(384.0, []), (383.0, ["follow_the_profile"])])
def test_leaving_the_tolerance_for_more_than_a_fifth_is_said(within_s: float, said: list[str]) -> None:
    assert codes(material(deviation={"in_tolerance_s": within_s, "compared_s": 480.0})) == said


def test_what_breaks_trust_comes_before_the_curve_and_the_plan() -> None:
    found = material(
        summary={
            "development_ratio": 0.1,
            "crashes": [{"from_s": 410.0, "bottom_s": 430.0, "fall_c_per_min": 5.5}],
            "flicks": [{"from_s": 440.0, "for_s": 20.0, "rise_c_per_min": 3.0}],
        },
        trust={"failed_points": 3},
        gaps=({"from_ms": 1000, "to_ms": 9000, "reason": "unplugged"},),
        orders=(OrderLine("prp_1", 1000, "Heater 7 → 6", "IN_DOUBT", "HOLD", "roastrunner", True, "ann"),),
    )
    assert codes(found) == [
        "check_signatures",
        "mend_the_link",
        "settle_orders_in_doubt",
        "avoid_crash",
        "avoid_flick",
    ]  # five at most: development waits
    assert "5.5 °C/min after 6:50" in report.compose(found)["next_actions"][3]["evidence"]


@pytest.mark.parametrize(("to_ms", "said"), [(5999, []), (6000, ["mend_the_link"]), (None, ["mend_the_link"])])
def test_a_hole_in_the_record_counts_from_five_seconds(to_ms: int | None, said: list[str]) -> None:
    assert codes(material(gaps=({"from_ms": 1000, "to_ms": to_ms, "reason": "unplugged"},))) == said


def test_what_is_not_known_is_listed() -> None:
    bare = material(events=(), deviation=None, qc=(), roast={"roast_id": "rst_1"})
    assert len(report.missing(bare)) == 5


def test_the_same_material_gives_the_same_digest_and_another_another() -> None:
    first, again = report.compose(material()), report.compose(material())
    assert canonical.digest(first) == canonical.digest(again)
    assert canonical.digest(report.compose(material(qc=()))) != canonical.digest(first)


def test_the_figure_is_wellformed_escapes_names_and_breaks_where_values_are_missing() -> None:
    drawn = report_figure.draw(report.compose(material()))
    root = ElementTree.fromstring(drawn)
    assert "<b>" not in drawn.replace("&lt;b&gt;", "")
    bean = next(e for e in root.iter() if e.get("class") == "line line-bean")
    assert (bean.get("d") or "").count("M") == 2
    assert "style" not in drawn  # the Content-Security-Policy would drop it


def test_without_a_curve_words_are_drawn() -> None:
    assert "No curve" in report_figure.draw(report.compose(material(curve={"elapsed_s": []})))


number = st.one_of(st.none(), st.floats(min_value=-1000, max_value=1000, allow_nan=False))


@given(
    times=st.lists(st.floats(min_value=-100, max_value=5000, allow_nan=False), max_size=12, unique=True),
    values=st.lists(number, max_size=12),
)
def test_any_curve_is_drawn_as_wellformed_xml(times: list[float], values: list[float | None]) -> None:
    curve: dict[str, list[float | None]] = {"elapsed_s": sorted(times), "bean_temp_c": values}
    curve["heater_step"] = values
    ElementTree.fromstring(report_figure.draw(report.compose(material(curve=curve))))


@pytest.mark.parametrize(("seconds", "words"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (-5, "−0:05")])
def test_times_are_written_as_roasters_do(seconds: float, words: str) -> None:
    assert report.clock_words(seconds) == words
