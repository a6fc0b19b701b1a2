"""The golden roast as a document: made of roasts, asked while roasting, written and read back."""

from __future__ import annotations

import json

import numpy as np
import pytest

from roasts.curve import Curve, Mark
from roasts.library import planning
from roasts.library.profile import (
    BadProfile,
    GoodRoast,
    PlannedSetting,
    ProfileDocument,
    Sensor,
    from_json,
    from_roasts,
    to_json,
)
from roasts.tests import real_logs
from roasts.tests.real_curves import all_roasts
from roasts.tests.test_curve import MARKS, ROAST

SENSOR = Sensor("mch_1", era="2026")


def roast_of(number: int, *, faster: float = 1.0, crack_late_s: float = 0.0) -> GoodRoast:
    """A roast that rises ``faster`` times as fast after its turning point, with heater 7 → 5 at 400 s."""
    times_s = np.arange(0.0, 660.0)
    rise_c = np.maximum(0, times_s - 60) * 0.2 * faster
    temps_c = np.where(times_s < 60, 170 - times_s * 70 / 60, 100 + rise_c)
    heater = np.where(times_s < 400, 7.0, 5.0)
    crack_s = 450.0 + crack_late_s
    marks = (Mark("charge", 0), Mark("first_crack_start", crack_s), Mark("drop", crack_s + 90))
    return GoodRoast(f"rst_{number}", Curve(times_s, temps_c, heater_step=heater), marks)


def test_one_roast_is_its_own_golden_curve_with_a_width_around_it() -> None:
    document = from_roasts([GoodRoast("rst_1", ROAST, MARKS)], SENSOR)
    assert document.golden_at(0) == 170 and document.golden_at(310) == pytest.approx(150, abs=0.05)
    assert document.golden_at(600) == pytest.approx(199, abs=0.05) and document.golden_at(601) is None
    assert document.band_at(310) == pytest.approx((147, 153), abs=0.05)
    assert not document.is_corridor_measured and document.development_ratio == pytest.approx(0.15)


@pytest.mark.parametrize(("bean_c", "half"), [(120, 2.5), (169.9, 2.5), (170.1, 1.5), (180, 1.5)])
def test_fewer_than_three_roasts_give_the_width_of_the_spec(bean_c: float, half: float) -> None:
    for roasts in ([roast_of(1)], [roast_of(1), roast_of(2, faster=1.2)]):
        corridor = from_roasts(roasts, SENSOR).corridor_at(bean_c)
        assert corridor is not None
        assert corridor.high_c_per_min - corridor.middle_c_per_min == pytest.approx(half, abs=0.06)
        assert corridor.middle_c_per_min - corridor.low_c_per_min == pytest.approx(half, abs=0.06)


def test_three_roasts_give_their_own_tenth_to_ninetieth_percentile() -> None:
    document = from_roasts([roast_of(n, faster=faster) for n, faster in enumerate((0.9, 1.0, 1.3))], SENSOR)
    corridor = document.corridor_at(150)
    assert corridor is not None and document.is_corridor_measured
    expected = np.percentile([10.8, 12.0, 15.6], [10, 50, 90])
    got = (corridor.low_c_per_min, corridor.middle_c_per_min, corridor.high_c_per_min)
    assert got == pytest.approx(expected, abs=0.05)


def test_the_corridor_is_silent_where_no_roast_has_been() -> None:
    document = from_roasts([roast_of(1)], SENSOR)
    assert document.corridor_at(90) is None and document.corridor_at(230) is None
    assert document.corridor_at(document.corridor_bean_c[0]) is not None


def test_the_same_file_twice_counts_once() -> None:
    document = from_roasts([roast_of(1), roast_of(2), roast_of(3)], SENSOR)
    assert document.roast_ids == ("rst_1",) and not document.is_corridor_measured


def test_the_development_is_laid_down_from_each_roasts_own_crack() -> None:
    roasts = [roast_of(n, faster=1 + n / 1000, crack_late_s=late_s) for n, late_s in enumerate((-30, 0, 60))]
    document = from_roasts(roasts, SENSOR)
    assert document.landmarks_s["first_crack_start"] == 450 and document.landmarks_s["drop"] == 540
    assert document.development_s[-1] == 90
    assert document.development_rise_c[-1] == pytest.approx(18, abs=0.1), "0.2 °C/s for 90 s, whenever it cracked"


def test_a_crack_that_comes_late_does_not_make_the_development_late() -> None:
    document = from_roasts([roast_of(1)], SENSOR)
    on_time = document.golden_at(480)
    assert document.golden_at(540, first_crack_s=510) == pytest.approx(on_time, abs=0.05)
    assert document.golden_at(500, first_crack_s=510) == document.golden_at(500)
    assert document.golden_at(601, first_crack_s=510) is None, "90 s after the crack the golden roast is dropped"


def test_the_degrees_of_the_development_count_from_the_crack_as_it_came() -> None:
    document = from_roasts([roast_of(1)], SENSOR)
    assert document.first_crack_c is not None
    on_time_c = document.golden_at(480)
    assert on_time_c is not None
    colder = document.golden_at(540, first_crack_s=510, first_crack_c=document.first_crack_c - 4)
    assert colder == pytest.approx(on_time_c - 4, abs=0.05)
    for crack_c, shift_c in ((document.first_crack_c + 3, 3.0), (None, 0.0)):
        laid = planning.laid_out(document, 510, crack_c)
        at = laid["elapsed_s"].index(540.0)
        assert laid["golden_c"][at] == pytest.approx(on_time_c + shift_c, abs=0.05)
        assert laid["high_c"][at] - laid["low_c"][at] == pytest.approx(6.0, abs=0.05)
        before = laid["elapsed_s"].index(500.0)
        assert laid["golden_c"][before] == pytest.approx(document.golden_at(500), abs=0.05), "until then by the clock"


def test_one_dry_end_holds_for_all_whatever_a_file_was_set_to() -> None:
    roast = roast_of(1)
    cold = Curve(roast.curve.elapsed_s, roast.curve.bean_temp_c, dry_end_c=18.0)
    document = from_roasts([GoodRoast("rst_1", cold, roast.marks)], SENSOR)
    assert document.landmarks_s["dry_end"] == 310, "150 °C"


def test_the_control_plan_is_the_leading_roasts_in_native_steps() -> None:
    document = from_roasts([roast_of(1), roast_of(2, faster=1.1)], SENSOR)
    assert document.plan == (PlannedSetting(0.0, "heater", 7), PlannedSetting(400.0, "heater", 5))


@pytest.mark.parametrize("marks", [(), (Mark("charge", 0), Mark("first_crack_start", 400))])
def test_a_roast_without_a_drop_is_no_golden_one(marks: tuple[Mark, ...]) -> None:
    with pytest.raises(BadProfile, match="rst_9: a golden roast needs"):
        from_roasts([GoodRoast("rst_9", ROAST, marks)], SENSOR)
    with pytest.raises(BadProfile, match="at least one"):
        from_roasts([], SENSOR)


def test_a_roast_without_a_crack_still_gives_a_curve() -> None:
    document = from_roasts([GoodRoast("rst_1", ROAST, (Mark("drop", 600),))], SENSOR)
    assert document.development_s == () and document.first_crack_c is None and document.development_ratio is None
    assert document.golden_at(500, first_crack_s=480) == document.golden_at(500)


def test_ten_real_roasts_make_a_profile_they_lie_in() -> None:
    real_logs.need_logs()
    good = [GoodRoast(name, curve, marks) for name, curve, marks, computed in all_roasts() if "totaltime" in computed]
    sidamo = [roast for roast in good if "gigesa" in roast.roast_id or "Jigesa" in roast.roast_id]
    document = from_roasts(sidamo, SENSOR)
    assert document.roast_count >= 6 and document.is_corridor_measured
    inside = [
        low <= temp_c <= high
        for roast in sidamo
        for at_s, temp_c in zip(roast.curve.elapsed_s, roast.curve.bean_temp_c, strict=True)
        if 60 < at_s < 350 and (band := document.band_at(float(at_s))) is not None
        for low, high in [band]
    ]
    assert 0.75 * len(inside) <= sum(inside) < len(inside), (
        "four in five by definition, a little more where it is widened"
    )
    assert list(document.corridor_bean_c) == sorted(document.corridor_bean_c)
    assert all(
        low <= mid <= high
        for low, mid, high in zip(document.corridor_low, document.corridor_middle, document.corridor_high, strict=True)
    )


def test_a_document_reads_back_as_it_was() -> None:
    document = from_roasts([roast_of(n, faster=1 + n / 10) for n in range(3)], SENSOR)
    assert from_json(json.loads(json.dumps(to_json(document)))) == document
    assert isinstance(document, ProfileDocument)


def broken(**changes: object) -> dict:
    return {**to_json(from_roasts([roast_of(1)], SENSOR)), **changes}


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        ([], "must be an object"),
        (broken(schema="profile/9"), "schema"),
        (broken(extra=1), "unknown field 'extra'"),
        (broken(golden_c=[1.0]), "equally long"),
        (broken(golden_c="hot"), "golden_c: must be a list"),
        (broken(golden_c=[None, 1]), "golden_c: must be a number"),
        (broken(elapsed_s=[0, 1, 1]), "elapsed_s: must rise"),
        (broken(elapsed_s=[1e9]), "elapsed_s: must be a number"),
        (broken(drop_c=True), "drop_c"),
        (broken(drop_c=float("nan")), "drop_c"),
        (broken(landmarks_s={"moonrise": 1}), "moonrise"),
        (broken(plan=[{"elapsed_s": 0, "control": "door", "step": 1}]), "control must be"),
        (broken(plan=[{"elapsed_s": 0, "control": "fan", "step": 1.5}]), "step must be"),
        (broken(plan=[{"elapsed_s": 0, "control": "fan", "step": 1}] * 501), "at most 500"),
        (broken(sensor={"machine": 5}), "sensor.machine"),
        (broken(sensor=None), "sensor"),
        (broken(roast_ids=[7]), "roast_ids"),
    ],
)
def test_what_is_no_profile_is_refused_by_field(raw: object, word: str) -> None:
    with pytest.raises(BadProfile, match=word):
        from_json(raw)


def test_a_band_the_wrong_way_round_is_refused() -> None:
    raw = to_json(from_roasts([roast_of(1)], SENSOR))
    with pytest.raises(BadProfile, match="must not exceed"):
        from_json({**raw, "low_c": raw["high_c"], "high_c": raw["low_c"]})
    with pytest.raises(BadProfile, match="must not exceed"):
        from_json({**raw, "corridor_low": raw["corridor_high"], "corridor_high": raw["corridor_low"]})
