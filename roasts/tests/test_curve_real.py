"""What we count of a real log is what Artisan wrote beside it (reference "Bullet and alog" §4.3).

The definitions are tried on every log there is, so that others put into the folder are held to them too.
"""

from __future__ import annotations

import pytest

from roasts.curve import CurveSettings, area_c_min, summarise
from roasts.tests import real_logs
from roasts.tests.real_curves import all_roasts

NAMES = [path.stem for path in real_logs.paths()]


def settled() -> list:
    """The logs with a drop: Artisan counts phases for these alone."""
    real_logs.need_logs()
    return [roast for roast in all_roasts() if "dryphasetime" in roast[3]]


@pytest.mark.parametrize("number", range(len(NAMES)), ids=NAMES)
def test_turning_point_and_phases_equal_artisans_to_its_last_digit(number: int) -> None:
    _, curve, marks, computed = all_roasts()[number]
    summary = summarise(curve, marks)
    if "dryphasetime" not in computed:
        assert summary.development_ratio is None, "without a drop there is no ratio"
        return
    assert round(summary.turning_point_s, 1) == computed["TP_time"]
    assert summary.landmark("turning_point").bean_temp_c == computed["TP_BT"]
    assert round(summary.dry_phase_s, 3) == computed["dryphasetime"]
    assert round(summary.phase("maillard").duration_s, 3) == pytest.approx(computed["midphasetime"], abs=0.0011)
    assert round(summary.phase("development").duration_s, 3) == pytest.approx(computed["finishphasetime"], abs=0.0011)
    assert round(summary.total_s, 3) == pytest.approx(computed["totaltime"], abs=0.0011)
    assert summary.landmark("first_crack_start").bean_temp_c == computed["FCs_BT"]
    assert summary.landmark("drop").bean_temp_c == computed["DROP_BT"]


def test_area_is_artisans_to_its_last_digit_on_nearly_every_log() -> None:
    """Where the file shows that a timer stood in for the turning point, the area begins there, as Artisan's does."""
    differ = [
        name
        for name, curve, marks, computed in settled()
        if round(summarise(curve, marks).auc_c_min) != pytest.approx(computed["AUC"], abs=1)
    ]
    assert len(differ) <= 0.05 * len(settled()), differ


def test_the_definition_alone_explains_the_areas_of_the_others_only() -> None:
    """So that the rule stays worth its lines: without it about three of ten areas are too large by up to 12."""
    by_timer = [roast for roast in settled() if roast[1].area_from_s is not None]
    defined = CurveSettings(auc_from="turning_point")
    too_large = [summarise(curve, marks, defined).auc_c_min - computed["AUC"] for _, curve, marks, computed in by_timer]
    assert 0.1 * len(settled()) <= len(by_timer) <= 0.5 * len(settled())
    assert sum(more > 1 for more in too_large) >= 0.8 * len(by_timer) and max(too_large) < 15


def test_areas_of_maillard_and_development_equal_artisans() -> None:
    """With dry end unmarked Artisan's mid phase begins where its area does (and its dry one is the whole roast)."""
    for name, curve, marks, computed in settled():
        summary = summarise(curve, marks)
        crack_s, drop_s = summary.landmark("first_crack_start").elapsed_s, summary.landmark("drop").elapsed_s
        begin_s = curve.area_from_s or summary.landmark("turning_point").elapsed_s
        assert area_c_min(curve, begin_s, crack_s) == pytest.approx(computed["mid_phase_AUC"], abs=1), name
        assert summary.phase("development").auc_c_min == pytest.approx(computed["finish_phase_AUC"], abs=1), name
        assert area_c_min(curve, 0, drop_s) == pytest.approx(computed["dry_phase_AUC"], abs=1), name


def test_highest_environment_equals_artisans_met_where_the_ends_agree() -> None:
    roasts = settled()
    near = [abs(summarise(c, m).highest_environment_c - computed["MET"]) <= 2 for _, c, m, computed in roasts]
    assert sum(near) >= 0.9 * len(near)


def test_the_house_ends_drying_at_150_where_the_source_is_overruled() -> None:
    for name, curve, marks, _ in settled():
        summary = summarise(curve, marks, CurveSettings(dry_end_c=150.0))
        assert summary.landmark("dry_end").bean_temp_c == pytest.approx(150, abs=0.4), name
        assert 130 < summary.dry_phase_s < 300, name


def test_crash_is_rare_in_roasts_people_kept() -> None:
    crashed = [name for name, curve, marks, _ in settled() if summarise(curve, marks).crashes]
    assert 1 <= len(crashed) <= 0.2 * len(settled()), crashed
