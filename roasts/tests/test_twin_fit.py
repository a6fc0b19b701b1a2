"""Fitting finds a machine again, judges itself on what it did not see, and reads the real logs."""

from __future__ import annotations

import datetime as dt
import json
import math
from dataclasses import replace
from functools import cache
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.models import Organization, Site
from kernel.principals import system_principal
from roasts import twin
from roasts.alog import read_alog, write_alog
from roasts.curve import Mark
from roasts.formats.imported import ImportedRoast, Metadata
from roasts.management.commands import fittwin
from roasts.models import Machine
from roasts.models_library import TwinFit
from roasts.tests import real_logs
from roasts.twin import Controls, Initial, Setting, TwinError, TwinRoast, calibration, fitting, judging, lanes
from roasts.twin import services as services_twin
from roasts.twin.memory import Remembered, expected_from
from roasts.twin.parameters import constants_of, pack, prior_vector
from roasts.twin.recorded import roast_of_curve, roast_of_file

DEFAULTS = twin.shipped_defaults()
NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


def made_roast(number: int) -> TwinRoast:
    """A roast of the shipped twin: every number another mass, preheat and plan."""
    times = (0.0, 200.0 + 10 * number, 300.0, 380.0)
    plan = Controls(times, tuple(Setting(h, f) for h, f in ((7 - number % 2, 1), (6, 2), (5, 3), (4, 3 + number % 2))))
    initial = Initial(0.4, 152.0 + 2 * number, 230.0 + 3 * number)
    made = twin.simulate(DEFAULTS, plan, initial, duration_s=440, seed=number)
    eye = np.where(made.elapsed_s < 1, initial.preheat_temp_c or 0.0, made.infrared_temp_c)
    return TwinRoast(
        replace(made, infrared_temp_c=eye),
        0.4,
        435.0,
        name=f"made {number}",
        began_s=1e9 + 3600.0 * number,
        crack_s=400.0,
    )


MADE = [made_roast(number) for number in range(5)]


@pytest.fixture
def machine() -> Machine:
    organization = Organization.objects.create(slug="twins", name="Twins", created_at=NOW)
    site = Site.objects.create(organization=organization, name="Attic")
    return Machine.objects.create(
        organization=organization, site=site, name="Bullet", driver_kind="bullet-r1", created_at=NOW
    )


@pytest.fixture
def logs_of_made(tmp_path: Path) -> Path:
    """Three made roasts as .alog files, and one file that is none."""
    folder = tmp_path / "logs"
    folder.mkdir()
    for number, roast in enumerate(MADE[:3]):
        marks = (Mark("charge", 0.0), Mark("first_crack_start", 400.0), Mark("drop", 435.0))
        whole = ImportedRoast("alog", roast.curve, marks, Metadata(weight_in_g=400.0 + number))
        (folder / f"{number}.alog").write_bytes(write_alog(whole))
    (folder / "broken.alog").write_bytes(b"no log")
    return folder


@cache
def real_roasts() -> tuple[TwinRoast, ...]:
    found = [roast_of_file(read_alog(path.read_bytes()), path.stem) for path in real_logs.need_logs()]
    return tuple(sorted(lanes.unique(found), key=lambda roast: roast.began_s or 0.0))


def test_the_same_roast_under_two_names_counts_once() -> None:
    assert len(lanes.unique([*MADE, replace(MADE[0], name="again")])) == len(MADE)


def test_another_mass_is_another_roast() -> None:
    assert len(lanes.unique([MADE[0], replace(MADE[0], mass_kg=0.35)])) == 2


def test_the_digest_does_not_depend_on_the_order() -> None:
    assert calibration.data_digest(MADE) == calibration.data_digest(MADE[::-1])
    assert calibration.data_digest(MADE) != calibration.data_digest(MADE[:-1])


def test_lanes_and_the_plain_simulation_are_one_model() -> None:
    """Hundreds of lanes at once, and one roast in floats: the same temperatures within rounding."""
    grid = lanes.lay_out(MADE)
    vectors = np.repeat(pack(DEFAULTS.constants, DEFAULTS.gains)[None], len(MADE), axis=0)
    probe, infrared = lanes.run(grid, vectors, np.arange(len(MADE)), is_corrected=True)
    for number, roast in enumerate(MADE):
        start_c = float(roast.curve.bean_temp_c[0])
        initial = Initial(0.4, start_c, lanes.preheat_of(roast.curve), roast.curve)
        alone = twin.simulate(DEFAULTS, twin.controls_of(roast.curve), initial, duration_s=435)
        np.testing.assert_allclose(alone.bean_temp_c, probe[:436, number], atol=1e-6)
        np.testing.assert_allclose(alone.infrared_temp_c, infrared[:436, number], atol=1e-6)


def test_the_vector_and_the_constants_are_the_same_numbers() -> None:
    constants, gains = constants_of(pack(DEFAULTS.constants, DEFAULTS.gains))
    assert all(
        math.isclose(getattr(constants, name), getattr(DEFAULTS.constants, name), rel_tol=1e-12)
        for name in constants.__slots__
    )
    np.testing.assert_allclose(gains, DEFAULTS.gains)


def test_the_jacobian_is_the_slope_of_the_residuals() -> None:
    problem = fitting.Problem(lanes.lay_out(MADE[:2]), np.arange(2))
    at = prior_vector()
    slope = problem.jacobian(at)
    for entry in (0, 8, 21, 40):
        step = np.zeros_like(at)
        step[entry] = 2e-3 * problem.spread[entry]
        measured = (problem.residuals(at + step) - problem.residuals(at - step)) / (2 * step[entry])
        assert np.abs(measured - slope[:, entry]).max() <= 2e-2 * max(1.0, np.abs(measured).max())


def test_a_fit_brings_a_made_machine_close() -> None:
    """From the priors to the machine that made the roasts: the open-loop error shrinks to the noise's order."""
    grid = lanes.lay_out(MADE[:3])
    before = fitting.errors_of(grid, prior_vector(), range(3))
    found = fitting.fit_vector(grid, most=5)
    after = fitting.errors_of(grid, found.vector, range(3))
    assert np.median([e.known_probe_c for e in before]) > 3.0
    assert np.median([e.known_probe_c for e in after]) < 1.0


def test_folds_hold_every_roast_out_once_and_the_same_seed_gives_the_same_folds() -> None:
    found = fitting.folds(39, 10, 3)
    assert sorted(number for fold in found for number in fold) == list(range(39))
    assert found == fitting.folds(39, 10, 3) != fitting.folds(39, 10, 4)
    assert {len(fold) for fold in found} == {3, 4}


def test_soft_residuals_keep_small_ones_and_bend_large_ones() -> None:
    np.testing.assert_allclose(fitting.soft(np.array([0.0, 0.1, -0.1])), [0.0, 0.1, -0.1], atol=1e-4)
    assert 5.0 < fitting.soft(np.array([30.0]))[0] < 15.0


def test_too_few_different_roasts_are_refused() -> None:
    with pytest.raises(TwinError, match="3 different"):
        twin.fit([MADE[0], MADE[1], replace(MADE[1], name="copy")])


@pytest.mark.parametrize("drop_s", [119.0, 3601.0])
def test_a_roast_of_an_odd_length_is_refused(drop_s: float) -> None:
    with pytest.raises(TwinError, match="2 to 60 minutes"):
        lanes.lay_out([replace(MADE[0], drop_s=drop_s)])


def test_a_curve_without_heater_is_refused() -> None:
    with pytest.raises(TwinError, match="heater"):
        twin.controls_of(replace(MADE[0].curve, heater_step=None))


def test_a_roast_without_a_drop_ends_with_its_state() -> None:
    states = tuple("roasting" if t <= 430 else "cooling" for t in MADE[0].curve.elapsed_s)
    found = roast_of_curve(replace(MADE[0].curve, state=states), (), mass_g=400.0, began_s=None, name="x")
    assert found.drop_s == 430.0
    with pytest.raises(TwinError, match="where it ended"):
        roast_of_curve(MADE[0].curve, (Mark("charge", 0.0),), mass_g=400.0, began_s=None, name="x")


def told(began_s: float, found_c: float, bean: str = "") -> Remembered:
    return Remembered(began_s, (found_c,) * 4, bean)


DAY_S = 86400.0


def test_a_memory_fades_and_looks_back_only() -> None:
    memory = [told(DAY_S, 3.0), told(0.0, 1.0), told(math.nan, 50.0)]
    none, first, both, late = (expected_from(memory, at_s)[0] for at_s in (-1.0, 1.0, DAY_S + 1.0, 3000 * DAY_S))
    assert none == 0.0 and 0.0 < first < 1.0 < both < 3.0 and abs(late) < 1e-3


def test_a_roast_at_the_same_moment_does_not_count() -> None:
    assert not expected_from([told(5.0, 3.0)], 5.0).any() and expected_from([told(5.0, 3.0)], 5.1).all()


@pytest.mark.parametrize("at_s", [math.nan, -math.inf])
def test_without_a_time_nothing_is_expected(at_s: float) -> None:
    assert not expected_from([told(0.0, 3.0)], at_s).any()


def test_a_bean_is_remembered_when_the_era_is_forgotten() -> None:
    memory = [told(0.0, 4.0, "Sidamo 1"), told(DAY_S, -4.0, "gotiti")]
    same, other, nameless = (expected_from(memory, 1000 * DAY_S, bean)[0] for bean in ("sidamo2", "kenya", ""))
    assert same > 1.0 and abs(other) < 1e-3 and abs(nameless) < 1e-3


def test_two_roasts_without_a_bean_are_not_of_one_bean() -> None:
    assert abs(expected_from([told(0.0, 4.0)], 1000 * DAY_S, "")[0]) < 1e-3


def test_more_roasts_than_are_asked_cost_nothing_more_and_the_newest_count() -> None:
    crowd = [told(number * 60.0, float(number >= 300)) for number in range(400)]
    assert np.array_equal(expected_from(crowd, 1e6), expected_from(crowd[300:], 1e6))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1e8), st.floats(-20, 20), st.sampled_from(["", "a", "b"])), max_size=30),
    st.floats(0, 2e8),
    st.sampled_from(["", "a", "c"]),
)
def test_what_is_expected_stays_near_what_was_seen(
    rows: list[tuple[float, float, str]], at_s: float, bean: str
) -> None:
    """Whatever the order of the memory: finite, and not far beyond the largest that was seen."""
    memory = [told(*row) for row in rows]
    found = expected_from(memory, at_s, bean)
    assert np.allclose(found, expected_from(memory[::-1], at_s, bean), atol=1e-6)
    assert np.abs(found).max() <= 2.0 * max((abs(row[1]) for row in rows), default=0.0) + 1e-9


def test_memories_kept_before_beans_were_remembered_are_read() -> None:
    record = twin.parameters_to_json(replace(DEFAULTS, memory=(told(1.0, 2.0, "kenya"),)))
    assert twin.parameters_from_json(record).memory == (told(1.0, 2.0, "kenya"),)
    del record["memory"][0]["bean"]
    assert twin.parameters_from_json(record).memory == (told(1.0, 2.0),)


def test_a_log_that_names_no_bean_has_the_one_of_its_name() -> None:
    whole = ImportedRoast("alog", MADE[0].curve, (Mark("drop", 435.0),), Metadata())
    named = replace(whole, metadata=Metadata(bean="Kenya AA"))
    assert roast_of_file(whole, "26-03-08_gotiti_no24").bean == "gotiti"
    assert roast_of_file(whole, "26-02-05_1909_Magarrissa-Tulise_1_no8").bean == "Magarrissa-Tulise"
    assert roast_of_file(named, "26-03-08_gotiti_no24").bean == "Kenya AA"


def test_a_machines_memory_moves_a_roast_that_nobody_has_seen_yet() -> None:
    memory = (Remembered(1e9, (3.0, 0.0, 3.0, 0.0)),)
    learnt = replace(DEFAULTS, memory=memory)
    plan = twin.controls_of(MADE[0].curve)
    dated = Initial(0.4, 157.0, 238.0, began_s=1e9 + 3600)
    usual, moved = (twin.simulate(p, plan, dated, duration_s=200).bean_temp_c for p in (DEFAULTS, learnt))
    undated = twin.simulate(learnt, plan, replace(dated, began_s=None), duration_s=200).bean_temp_c
    assert moved[100] > usual[100] + 1.0 and np.array_equal(usual, undated)


def test_cracks_are_foretold_from_earlier_roasts_only() -> None:
    """The first roast has no history; a wild mark of the last one changes no earlier prediction."""
    wild = [*MADE[:-1], replace(MADE[-1], crack_s=250.0)]
    usual, changed = (judging.crack_errors(roasts, [DEFAULTS] * len(MADE)) for roasts in (MADE, wild))
    assert [error.history_count for error in usual] == [0, 1, 2, 3, 4]
    assert usual[:4] == changed[:4] and usual[4] != changed[4]


def test_real_logs_are_read_whole_and_once() -> None:
    roasts = real_roasts()
    assert len(roasts) == 39
    assert all(440.0 < roast.drop_s < 600.0 and 0.37 < roast.mass_kg < 0.42 for roast in roasts)
    assert all(roast.crack_s is not None and roast.began_s is not None for roast in roasts)


def test_the_shipped_twin_holds_on_the_logs_it_was_fitted_on() -> None:
    """In sample, so only a guard against a broken file; the held-out figures are in docs/twin.md."""
    grid = lanes.lay_out(real_roasts())
    told = calibration.summary(fitting.errors_of(grid, pack(DEFAULTS.constants, DEFAULTS.gains), range(len(grid))))
    assert told["known_probe_c"]["median"] < 1.6 and told["known_probe_c"]["p90"] < 2.8
    assert told["known_infrared_c"]["median"] < 1.7


def test_knowing_the_bean_brings_the_blind_run_nearer() -> None:
    """Memory says more with the names of beans than by time alone, and by time more than nothing."""
    grid = lanes.lay_out(real_roasts())
    vector = pack(DEFAULTS.constants, DEFAULTS.gains)
    nameless = replace(grid, beans=("",) * len(grid))
    named, timed = (calibration.summary(fitting.errors_of(one, vector, range(len(grid)))) for one in (grid, nameless))
    for figure in ("median", "p90"):
        blind_c, by_time_c = named["blind_probe_c"][figure], timed["blind_probe_c"][figure]
        assert blind_c < by_time_c < timed["alone_probe_c"][figure], figure


@pytest.mark.prove
def test_the_shipped_twin_is_what_the_documented_command_finds_in_the_logs() -> None:
    """To the errors it makes, not to the last bit of its numbers: another processor sums in another order."""
    grid = lanes.lay_out(real_roasts())
    every = range(len(grid))
    assert calibration.data_digest(real_roasts()) == DEFAULTS.data_digest
    shipped = fitting.errors_of(grid, pack(DEFAULTS.constants, DEFAULTS.gains), every)
    found = fitting.errors_of(grid, fitting.fit_vector(grid).vector, every)
    apart_c = [abs(a.known_probe_c - b.known_probe_c) for a, b in zip(shipped, found, strict=True)]
    assert max(apart_c) < 0.05


@pytest.mark.prove
def test_real_roasts_held_out_keep_the_bars_in_one_fold() -> None:
    """Eight roasts that the fit never saw, few steps: the full ten folds are in docs/twin.md."""
    grid = lanes.lay_out(real_roasts())
    held_out = list(range(2, len(grid), 5))
    known = [number for number in range(len(grid)) if number not in held_out]
    found = fitting.fit_vector(grid, known, most=5)
    told = calibration.summary(fitting.errors_of(grid, found.vector, held_out))
    assert told["known_probe_c"]["median"] <= 2.3 and told["known_probe_c"]["p90"] <= 4.2


@pytest.mark.django_db
def test_fittwin_keeps_a_machines_twin_and_the_one_before(tmp_path: Path, machine: Machine, logs_of_made: Path) -> None:
    system = system_principal("test", machine.organization)
    services_twin.record_fit(system, machine=machine, parameters=DEFAULTS, now=NOW)
    call_command(
        "fittwin", machine=machine.name, logs=[str(logs_of_made)], folds=0, out=str(tmp_path / "out"), ship=True
    )
    fits = TwinFit.objects.filter(machine=machine)
    current = fits.get(is_current=True)
    assert fits.count() == 2 and current.roast_count == 3 and len(current.data_digest) == 64
    again = twin.parameters_from_json(current.parameters)
    assert not again.is_shipped_default and again.roast_count == 3
    assert json.loads((tmp_path / "out" / "twin.json").read_text())["data_digest"] == current.data_digest
    shipped = twin.parameters_from_json(json.loads((tmp_path / "out" / "bullet_r1.json").read_text()))
    assert shipped.is_shipped_default and shipped.memory == () and shipped.constants == again.constants


@pytest.mark.django_db
def test_fittwin_judges_what_it_did_not_see_and_leaves_out_what_it_did(tmp_path: Path, logs_of_made: Path) -> None:
    """One log put aside and one that was fitted on, under another name: the report is of the first alone."""
    aside = tmp_path / "aside"
    aside.mkdir()
    new = replace(MADE[3].curve, state=None)
    marks = (Mark("charge", 0.0), Mark("first_crack_start", 400.0), Mark("drop", 435.0))
    (aside / "new.alog").write_bytes(write_alog(ImportedRoast("alog", new, marks, Metadata(weight_in_g=410.0))))
    (aside / "copy.alog").write_bytes((logs_of_made / "1.alog").read_bytes())
    told, complained = StringIO(), StringIO()
    out = tmp_path / "out"
    call_command(
        "fittwin",
        logs=[str(logs_of_made)],
        held_out=[str(aside)],
        folds=0,
        out=str(out),
        stdout=told,
        stderr=complained,
    )
    report = json.loads((out / "report.json").read_text())["judged"]
    assert [row["name"] for row in report["roasts"]] == ["new"] and report["errors"]["blind_probe_c"]["median"] < 10.0
    assert report["first_crack"]["count"] == 1
    assert "On 1 roasts" in told.getvalue() and "copy: the twin was fitted" in complained.getvalue()
    assert all((out / f"judged-{name}.png").stat().st_size > 5000 for name in ("overlays", "errors"))


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "nothing to fit"),
        ({"machine": "nobody"}, "no machine"),
        ({"logs": ["/nowhere"]}, "There is no"),
        ({"held_out": ["/nowhere"]}, "There is no"),
        ({"out": "/dev/null"}, "Nothing can be written"),
    ],
)
def test_fittwin_says_what_is_missing(options: dict, words: str) -> None:
    with pytest.raises(CommandError, match=words):
        call_command("fittwin", **options)


def test_a_roast_that_was_not_watched_from_its_charge_is_left_out_and_the_others_stay(
    tmp_path: Path, logs_of_made: Path
) -> None:
    whole = MADE[3].curve
    late = replace(whole, state=None, bean_temp_c=np.where(whole.elapsed_s < 200.0, np.nan, whole.bean_temp_c))
    marks = (Mark("charge", 0.0), Mark("drop", 435.0))
    folder = tmp_path / "late"
    folder.mkdir()
    (folder / "late.alog").write_bytes(write_alog(ImportedRoast("alog", late, marks, Metadata(weight_in_g=410.0))))
    (folder / "good.alog").write_bytes((logs_of_made / "1.alog").read_bytes())
    complained = StringIO()
    kept = list(fittwin.Command(stderr=complained)._logged([str(folder)]))
    assert [roast.name for roast in kept] == ["good"]
    assert "late.alog" in complained.getvalue() and "probe reading at charge" in complained.getvalue()
