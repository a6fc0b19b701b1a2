"""The measuring itself: earlier roasts only, each roast once, the definitions of the reference."""

from __future__ import annotations

import datetime as dt
import io
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from django.core.management import CommandError, call_command

from roasts.curve import Curve, Mark
from roasts.events.walk_forward import MarkedRoast, figures, is_on_round, turning_point_s, walk
from roasts.tests import real_logs
from roasts.tests.event_roasts import DROP_S, TURN_S, probe_c

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def roast(day: int, crack_s: float = 424.0, hotter_c: float = 0.0) -> MarkedRoast:
    times_s = np.arange(-20.0, 600.0)
    bean_c = np.array([round(probe_c(at_s) + (hotter_c if at_s > 0 else 0.0), 1) for at_s in times_s])
    marks = (Mark("charge", 0.0), Mark("first_crack_start", crack_s), Mark("drop", DROP_S))
    return MarkedRoast(f"no{day}", START + dt.timedelta(days=day), Curve(times_s, bean_c), marks)


def roasts() -> list[MarkedRoast]:
    return [roast(day, crack_s=400.0 + 5 * day, hotter_c=day / 10) for day in range(6)]


def test_each_roast_is_judged_by_the_marks_its_person_made() -> None:
    outcomes = walk(roasts())
    assert [one.name for one in outcomes] == [f"no{day}" for day in range(6)]
    for one in outcomes:
        assert abs(one.late_s["charge"]) <= 3 and abs(one.late_s["drop"]) <= 3
        assert one.late_s["turning_point"] == 0
    assert abs(outcomes[-1].late_s["first_crack_start"]) < 60


def test_a_later_mark_changes_nothing_that_was_said_before_it() -> None:
    changed = roasts()
    changed[4] = replace(changed[4], marks=(Mark("charge", 0.0), Mark("first_crack_start", 300.0)))
    before, after = walk(roasts()), walk(changed)
    assert before[:4] == after[:4] and before[5] != after[5]


def test_a_roast_that_is_there_twice_counts_once_and_order_of_files_does_not_matter() -> None:
    twice = [*reversed(roasts()), replace(roasts()[2], name="the same again")]
    assert [one.late_s for one in walk(twice)] == [one.late_s for one in walk(roasts())]


def test_a_mark_that_is_missing_counts_as_wrong() -> None:
    late_s = (1.0, 2.0, 3.0, math.nan)
    outcomes = [replace(one, late_s={"drop": late}) for one, late in zip(walk(roasts())[:4], late_s, strict=True)]
    found = figures(outcomes, "drop")
    assert (found.count, found.missing, found.within_3_s, found.median_s) == (4, 1, 0.75, 2.5)
    assert math.isinf(found.p90_s)
    assert figures(outcomes, "charge").count == 0


def test_the_turning_point_is_the_latest_of_the_lowest_before_crack() -> None:
    one = roast(0)
    flat = one.curve.bean_temp_c.copy()
    flat[(one.curve.elapsed_s >= TURN_S) & (one.curve.elapsed_s <= TURN_S + 3)] = flat.min()
    assert turning_point_s(replace(one, curve=replace(one.curve, bean_temp_c=flat))) == TURN_S + 3
    assert turning_point_s(replace(one, marks=(Mark("charge", 0.0),))) is None


@pytest.mark.parametrize(("apart_s", "is_on"), [(0.0, True), (2.0, True), (3.0, False), (-3.0, False)])
def test_a_mark_is_on_the_round_where_190_is_first_crossed(apart_s: float, is_on: bool) -> None:
    one = roast(0)
    crossed_s = float(one.curve.elapsed_s[(one.curve.elapsed_s > TURN_S) & (one.curve.bean_temp_c >= 189.95)][0])
    assert is_on_round(roast(0, crack_s=crossed_s + apart_s)) is is_on


def test_the_command_says_it_for_files_and_names_what_it_cannot_read(tmp_path: Path) -> None:
    for path in real_logs.need_logs()[:3]:
        shutil.copy(path, tmp_path)
    (tmp_path / "torn.alog").write_text("{", encoding="utf-8")
    out, complaints = io.StringIO(), io.StringIO()
    call_command("checkevents", str(tmp_path), "--each", stdout=out, stderr=complaints)
    assert "all channels: 3 roasts" in out.getvalue() and "not on 190.0 °C" in out.getvalue()
    assert "temperatures only: 3 roasts" in out.getvalue()
    assert "torn.alog" in complaints.getvalue()
    with pytest.raises(CommandError, match="not there"):
        call_command("checkevents", str(tmp_path / "nowhere"))
