"""What we count of a real log is what Artisan wrote beside it (reference "Bullet and alog" §4.3).

The definitions are tried on every log there is, so that others put into the folder are held to them too.
"""

from __future__ import annotations

import pytest

from roasts.curve import CurveSettings, area_c_min, summarise
from roasts.tests import real_logs
from roasts.tests.real_curves import all_roasts

#: A live program that saw no turning point lets the area begin here (all of the logs that differ agree on it).
LATCHED_AFTER_S = 120.0
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


def test_area_is_within_one_wherever_the_turning_point_was_not_latched_live() -> None:
    latched = []
    for name, curve, marks, computed in settled():
        summary = summarise(curve, marks)
        if abs(summary.auc_c_min - computed["AUC"]) <= 1:
            continue
        since_latch = area_c_min(curve, LATCHED_AFTER_S, summary.landmark("drop").elapsed_s)
        assert round(since_latch) == pytest.approx(computed["AUC"], abs=1), f"{name}: neither begin explains the area"
        assert summary.auc_c_min > computed["AUC"], f"{name}: a later begin can only make it smaller"
        latched.append(name)
    assert len(latched) <= 0.3 * len(settled())


def test_areas_of_maillard_and_development_equal_artisans() -> None:
    """With dry end unmarked Artisan's mid phase begins at the turning point (and its dry one is the whole roast)."""
    for name, curve, marks, computed in settled():
        summary = summarise(curve, marks)
        turning_s, crack_s = (
            summary.landmark("turning_point").elapsed_s,
            summary.landmark("first_crack_start").elapsed_s,
        )
        drop_s = summary.landmark("drop").elapsed_s
        begins = (turning_s, LATCHED_AFTER_S)
        assert any(abs(area_c_min(curve, from_s, crack_s) - computed["mid_phase_AUC"]) <= 1 for from_s in begins), name
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
