"""Artisan's logs: every real one is read whole, nothing in a file is followed, and what we write Artisan accepts."""

from __future__ import annotations

import ast
import dataclasses
import datetime as dt
import functools
import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from roasts.alog import AlogError, ImportedRoast, read_alog, write_alog
from roasts.alog.literal import BadLiteral, parse_literal
from roasts.alog.marks import KINDS, inner_value, outer_value
from roasts.alog.schema import FIELDS
from roasts.curve import Curve, Mark, first_of
from roasts.formats.imported import MACHINE_RATE, MAX_FILE_BYTES, Channel, Metadata, SpecialEvent
from roasts.tests import real_logs

KALEIDO = real_logs.FOLDER.parent / "kaleido"


@functools.cache
def real_roasts() -> list[tuple[str, dict[str, Any], ImportedRoast]]:
    """Every real log: its name, its dictionary as Python reads it, and as we do."""
    return [
        (path.name, ast.literal_eval(path.read_text(encoding="utf-8")), read_alog(path.read_bytes()))
        for path in real_logs.need_logs()
    ]


def real(name: str) -> bytes:
    """One real log by its name, or a skip."""
    return next(path for path in real_logs.need_logs() if path.stem == name).read_bytes()


def kaleido() -> list[Path]:
    found = sorted(KALEIDO.glob("*.alog"))
    if not found:
        if os.environ.get("CI") == "true":
            raise FileNotFoundError("the Kaleido templates must be there in CI")
        pytest.skip("../shared/data holds no Kaleido templates here")
    return found


def small(**changes: Any) -> dict[str, Any]:
    """A log of ten seconds; ``changes`` replace fields, None takes one out."""
    log: dict[str, Any] = {
        "mode": "C",
        "timex": [float(second) for second in range(10)],
        "temp1": [200.0 + second for second in range(10)],
        "temp2": [100.0 + second for second in range(10)],
        "timeindex": [2, 0, 6, 0, 0, 0, 8, 0],
    }
    log |= changes
    return {name: value for name, value in log.items() if value is not None}


def read(log: dict[str, Any]) -> ImportedRoast:
    return read_alog(repr(log).encode())


def assert_same(one: ImportedRoast, other: ImportedRoast, *, but: tuple[str, ...] = ()) -> None:
    """Everything that matters is equal, to the bit."""
    for field in dataclasses.fields(Curve):
        mine, theirs = getattr(one.curve, field.name), getattr(other.curve, field.name)
        if isinstance(mine, np.ndarray):
            np.testing.assert_array_equal(mine, theirs, err_msg=field.name)
        else:
            assert mine == theirs, field.name
    for name in ("marks", "metadata", "special_events", "computed"):
        if name not in but:
            assert getattr(one, name) == getattr(other, name), name
    assert [(c.name, c.unit, c.device, c.slot) for c in one.channels] == [
        (c.name, c.unit, c.device, c.slot) for c in other.channels
    ]
    for mine, theirs in zip(one.channels, other.channels, strict=True):
        np.testing.assert_array_equal(mine.values, theirs.values, err_msg=mine.name)


# --- real logs


def test_every_real_log_is_read_without_a_warning() -> None:
    for name, raw, roast in real_roasts():
        assert roast.warnings == (), name
        assert len(roast.curve) == len(raw["timex"])
        np.testing.assert_allclose(roast.curve.elapsed_s + roast.metadata.lead_in_s, raw["timex"], atol=1e-8)
        np.testing.assert_array_equal(roast.curve.bean_temp_c, raw["temp2"])
        assert roast.computed == raw["computed"]


def test_a_real_log_gives_the_bullets_channels_as_steps_and_words() -> None:
    for file, raw, roast in real_roasts():
        log, curve = real_logs.Log(file, raw), roast.curve
        for name, column in (
            ("heater", curve.heater_step), ("fan", curve.fan_step), ("drum", curve.drum_step),
            ("et", curve.infrared_temp_c), ("voltage", curve.voltage_v), ("fan_rpm", curve.fan_rpm),
            ("ror", roast.channel(MACHINE_RATE)),
        ):  # fmt: skip
            np.testing.assert_array_equal(column, log.channel(name), err_msg=f"{file} {name}")
        assert curve.environment_temp_c is None
        assert curve.state is not None and "roasting" in curve.state
        assert curve.exhaust_temp_c is None  # no sensor on this machine: −65…−45 °C all the time
        assert "exhaust temperature: no sensor fitted" in roast.understood


def test_marks_of_real_logs_stand_at_their_rows() -> None:
    for _, raw, roast in real_roasts():
        for kind, index in zip(KINDS, raw["timeindex"], strict=True):
            expected = raw["timex"][index] - raw["timex"][raw["timeindex"][0]] if index > 0 else None
            if kind == "charge":
                expected = 0.0
            found = first_of(roast.marks, kind)
            assert (found is None) == (expected is None)
            assert found is None or expected is None or abs(found - expected) < 1e-6


def test_real_metadata_is_in_our_units() -> None:
    roast = read_alog(real("26-03-09_gigesa_no26"))
    assert roast.metadata.weight_in_g == 400.0
    assert roast.metadata.weight_out_g == 347.6
    assert roast.metadata.batch == "no26"
    assert roast.metadata.machine_name == "Aillio Bullet R1 IBTS"
    assert roast.metadata.roasted_at == dt.datetime(2026, 3, 9, 19, 6, 38, tzinfo=dt.timezone(dt.timedelta(hours=9)))
    assert roast.metadata.source_id and roast.metadata.source_version == "Artisan 3.4.0"


def test_programs_and_alarms_of_a_real_log_are_dropped_and_said() -> None:
    data = real("26-03-08_gotiti_no24")
    assert b"test.py" in data
    roast = read_alog(data)
    said = "\n".join(roast.dropped)
    assert "externalprogram" in said and "alarms" in said
    kept = repr(dict(roast.carried)) + repr(roast.metadata) + write_alog(roast).decode()
    assert "test.py" not in kept and "externalprogram" not in kept and "alarmaction" not in kept


def test_every_real_log_survives_writing_and_reading() -> None:
    templates = [read_alog(path.read_bytes()) for path in kaleido()]
    for once in [*(roast for _, _, roast in real_roasts()), *templates]:
        again = read_alog(write_alog(once))
        assert_same(once, again)
        assert {n: v for n, v in once.carried.items() if n != "version"} == {
            n: v for n, v in again.carried.items() if n != "version"
        }
        assert write_alog(again) == write_alog(once)


def test_kaleido_templates_are_read_with_their_marks_in_seconds() -> None:
    for path in kaleido():
        raw, roast = json.loads(path.read_text(encoding="utf-8")), read_alog(path.read_bytes())
        seconds = dict(zip(KINDS, raw["timeindex"], strict=True))
        assert first_of(roast.marks, "charge") == 0.0
        assert first_of(roast.marks, "drop") == seconds["drop"] - seconds["charge"]
        assert first_of(roast.marks, "first_crack_start") == seconds["first_crack_start"] - seconds["charge"]
        assert any("seconds instead of row numbers" in line for line in roast.warnings)
        assert roast.curve.environment_temp_c is not None and roast.curve.infrared_temp_c is None


# --- what we write, by Artisan's own rules

_PYTHON_TYPES: dict[str, Any] = {
    "text": str, "number": float, "whole": int, "yes_no": bool, "list of text": list[str],
    "list of number": list[float], "list of whole": list[int], "list of yes_no": list[bool],
    "list of number or text": list[float | str],
    "list of list of number": list[list[float]], "list of list of number or none": list[list[float | None]],
    "summary": dict[str, float | int | str],
}  # fmt: skip
ARTISAN = TypeAdapter(TypedDict("Log", {name: _PYTHON_TYPES[kind] for name, kind in FIELDS.items()}, total=False))  # type: ignore[operator, misc]


def accepted_by_artisan(data: bytes) -> dict[str, Any]:
    """As Artisan loads a file: the first character, the literal, the types, the lengths."""
    text = data.decode("utf-8")
    assert text[0] == "{"
    log = ARTISAN.validate_python(ast.literal_eval(text))
    assert set(ast.literal_eval(text)) <= set(FIELDS)
    rows = len(log["timex"])
    assert len(log["temp1"]) == len(log["temp2"]) == rows and len(log["timeindex"]) == 8
    devices = len(log.get("extradevices", []))
    for name in ("extratimex", "extratemp1", "extratemp2", "extraname1", "extraname2", "extramathexpression1"):
        assert len(log.get(name, [])) == devices, name
    assert all(
        len(column) == rows for name in ("extratimex", "extratemp1", "extratemp2") for column in log.get(name, [])
    )
    assert (
        len(log.get("specialevents", []))
        == len(log.get("specialeventstype", []))
        == len(log.get("specialeventsvalue", []))
    )
    return dict(log)


def test_what_we_write_artisan_accepts_without_asking() -> None:
    templates = [read_alog(path.read_bytes()) for path in kaleido()]
    for roast in [*(roast for _, _, roast in real_roasts()), *templates]:
        log = accepted_by_artisan(write_alog(roast))
        assert "signature" not in log and "hash" not in log
        assert [int(part) for part in log["version"].split(".")] < [4, 2, 0]


@st.composite
def roasts(draw: st.DrawFn) -> ImportedRoast:
    """Roasts as any of our sources could make them."""
    rows = draw(st.integers(2, 30))
    rng = random.Random(draw(st.integers(0, 2**32)))
    steps = [rng.choice([0.1, 0.25, 1.0, 1.003, 7.5]) for _ in range(rows)]
    lead_in_s = rng.choice([0.0, 5.25, 31.0])
    elapsed = np.round(np.cumsum(steps) - steps[0] - lead_in_s, 3)

    def column(low: float, high: float, missing: float = 0.1) -> np.ndarray:
        return np.array([np.nan if rng.random() < missing else round(rng.uniform(low, high), 2) for _ in range(rows)])

    def maybe(low: float, high: float) -> np.ndarray | None:
        return column(low, high) if rng.random() < 0.6 else None

    def whole(high: int) -> np.ndarray | None:
        return np.array([float(rng.randint(0, high)) for _ in range(rows)]) if rng.random() < 0.6 else None

    bean = column(20, 230)
    bean[0] = 150.5
    states = ["off", "preheating", "stabilising", "charge", "roasting", "cooling", "shutdown", "unknown"]
    curve = Curve(
        elapsed_s=elapsed, bean_temp_c=bean, infrared_temp_c=maybe(30, 260), environment_temp_c=maybe(30, 260),
        exhaust_temp_c=maybe(30, 200), ambient_temp_c=maybe(10, 40), heater_step=whole(14), fan_step=whole(12),
        drum_step=whole(9), fan_rpm=whole(3000), voltage_v=whole(250),
        state=tuple(rng.choice(states) for _ in range(rows)) if rng.random() < 0.6 else None,
    )  # fmt: skip
    charge_row = int(np.argmin(np.abs(elapsed)))
    later = sorted(rng.sample(range(charge_row + 1, rows), min(rng.randint(0, 7), rows - charge_row - 1)))
    marks = [Mark("charge", float(elapsed[charge_row]))] if elapsed[charge_row] == 0 else []
    for kind, row in zip(KINDS[1:], later, strict=False):
        if marks and rng.random() < 0.7:
            at_s = float(elapsed[row])
            marks.append(Mark("note", at_s, text=kind) if kind == KINDS[5] else Mark(kind, at_s))
    text = draw(st.text(max_size=30).map(lambda t: "".join(c for c in t if c.isprintable())))
    metadata = Metadata(
        title=text,
        bean=rng.choice(["", "Gesha 'Elida'", 'a "quoted" bean', "ゲイシャ"]),
        weight_in_g=rng.choice([None, 400.0, 0.25]),
        weight_out_g=rng.choice([None, 344.4]),
        batch=rng.choice(["", "no26", "7"]),
        roasted_at=rng.choice([None, dt.datetime(2026, 3, 9, 19, 6, 38, tzinfo=dt.timezone(dt.timedelta(hours=-3)))]),
        moisture_in_percent=rng.choice([None, 10.5]),
        lead_in_s=float(-elapsed[0]) if marks else 0.0,
    )
    events = tuple(
        SpecialEvent(float(elapsed[row]), rng.choice(["Fan", "Heater", ""]), rng.choice([None, 0.0, 70.0, 55.0]), text)
        for row in sorted(rng.sample(range(rows), min(3, rows)))
    )
    return ImportedRoast(
        "alog", curve, tuple(marks), metadata, special_events=events, channels=_channels(rng, column, curve)
    )


def _channels(rng: random.Random, column: Any, curve: Curve) -> tuple[Channel, ...]:
    found = []
    if rng.random() < 0.5:
        found.append(Channel(MACHINE_RATE, column(-20, 40, missing=0), "c_per_min", 85, 1))
    if rng.random() < 0.5:
        found += [Channel("Inlet", column(20, 300), "c", 50, 1), Channel("Pressure", column(1, 5), "number", 50, 2)]
    return tuple(found)


@settings(max_examples=150, deadline=None)
@given(roasts())
def test_a_round_trip_loses_nothing_that_the_format_can_hold(roast: ImportedRoast) -> None:
    data = write_alog(roast)
    accepted_by_artisan(data)
    again = read_alog(data)
    origin_s = 0.0 if roast.marks else float(roast.curve.elapsed_s[0])
    np.testing.assert_allclose(again.curve.elapsed_s, roast.curve.elapsed_s - origin_s, atol=2e-9)
    for field in dataclasses.fields(Curve):
        mine, theirs = getattr(roast.curve, field.name), getattr(again.curve, field.name)
        if field.name == "elapsed_s":
            continue
        if isinstance(mine, np.ndarray):
            if not np.any(np.isfinite(mine)):
                assert theirs is None or not np.any(np.isfinite(theirs))
            else:
                np.testing.assert_array_equal(theirs, mine, err_msg=field.name)
        elif field.name == "state":
            assert theirs == mine
    assert [(m.kind, m.text) for m in again.marks] == [(m.kind, m.text) for m in roast.marks]
    np.testing.assert_allclose([m.elapsed_s for m in again.marks], [m.elapsed_s for m in roast.marks], atol=2e-9)
    assert dataclasses.replace(again.metadata, lead_in_s=0, source_version="") == dataclasses.replace(
        roast.metadata, lead_in_s=0
    )
    assert [(e.kind, e.value, e.text) for e in again.special_events] == [
        (e.kind, e.value, e.text) for e in roast.special_events
    ]
    mine_by_name = {channel.name: channel for channel in again.channels}
    for channel in roast.channels:
        np.testing.assert_array_equal(mine_by_name[channel.name].values, channel.values)
        assert mine_by_name[channel.name].unit == channel.unit


# --- units, missing values, marks


def test_a_log_in_fahrenheit_becomes_celsius_with_its_extra_channels() -> None:
    rows = 10
    log = small(
        mode="F",
        temp1=[392.0] * rows,
        temp2=[-1.0, *[212.0] * (rows - 1)],
        phases=[302, 302, 392, 446],
        computed={"TP_BT": 212.0, "total_ror": 18.0, "AUC": 200, "totaltime": 500.0},
        extradevices=[50, 86],
        extraname1=["Inlet", "Voltage"],
        extraname2=["Pressure", "Exhaust"],
        extratimex=[[float(s) for s in range(rows)]] * 2,
        extratemp1=[[32.0] * rows, [230.0] * rows],
        extratemp2=[[50.0] * rows, [302.0] * rows],
        extraNoneTempHint1=[False, True],
        extraNoneTempHint2=[True, False],
    )
    roast = read(log)
    assert np.isnan(roast.curve.bean_temp_c[0]) and roast.curve.bean_temp_c[1] == 100.0
    assert roast.curve.environment_temp_c is not None and roast.curve.environment_temp_c[0] == pytest.approx(200.0)
    assert roast.channel("Inlet") == pytest.approx(np.zeros(rows))
    assert roast.channel("Pressure") == pytest.approx(np.full(rows, 50.0))  # no temperature: stays
    assert roast.curve.voltage_v is not None and roast.curve.voltage_v[0] == 230.0
    assert roast.curve.exhaust_temp_c is not None and roast.curve.exhaust_temp_c[0] == pytest.approx(150.0)
    assert roast.curve.dry_end_c == pytest.approx(150.0)
    assert roast.computed == {"TP_BT": 100.0, "total_ror": 10.0, "AUC": 200, "totaltime": 500.0}
    again = read_alog(write_alog(roast))
    np.testing.assert_array_equal(again.curve.bean_temp_c, roast.curve.bean_temp_c)
    assert again.computed == roast.computed


def test_missing_readings_are_nan_however_they_are_written() -> None:
    text = (
        repr(small()).replace("100.0", "nan").replace("101.0", "-1").replace("102.0", "None").replace("103.0", "1e999")
    )
    bean = read_alog(text.encode()).curve.bean_temp_c
    assert list(np.isnan(bean)) == [True] * 4 + [False] * 6


def test_a_charge_at_row_zero_is_a_charge_and_a_zero_elsewhere_is_none() -> None:
    marks = read(small(timeindex=[0, 0, 0, 0, 0, 0, 8, 0])).marks
    assert [(mark.kind, mark.elapsed_s) for mark in marks] == [("charge", 0.0), ("drop", 8.0)]


def test_without_a_charge_times_count_from_the_start_and_it_is_said() -> None:
    roast = read(small(timeindex=[-1, 0, 6, 0, 0, 0, 8, 0]))
    assert roast.curve.elapsed_s[0] == 0.0
    assert any("no charge" in line for line in roast.warnings)
    assert read_alog(write_alog(roast)).marks == roast.marks


def test_a_mark_before_an_earlier_one_is_left_out_and_said() -> None:
    roast = read(small(timeindex=[2, 7, 4, 0, 0, 0, 8, 0]))
    assert [mark.kind for mark in roast.marks] == ["charge", "dry_end", "drop"]
    assert any("first crack start" in line for line in roast.warnings)


def test_marks_beyond_the_recording_are_left_out_where_seconds_make_no_sense_either() -> None:
    roast = read(small(timeindex=[2, 0, 6, 0, 0, 0, 5000, 0]))
    assert [mark.kind for mark in roast.marks] == ["charge", "first_crack_start"]
    assert any("beyond" in line for line in roast.warnings)


def drawn(*keys: int) -> list[list[float]]:
    """``anno_positions`` whose words were drawn in this order."""
    return [[float(key), 0.0, 0.0, 0.0, 0.0] for key in keys]


def long_log(**changes: Any) -> dict[str, Any]:
    """A log of 200 s with its charge at 2 s and its drop at 190 s."""
    columns = {name: [100.0 + second for second in range(200)] for name in ("timex", "temp1", "temp2")}
    return small(**columns, timeindex=[2, 0, 180, 0, 0, 0, 190, 0], **changes) | {
        "timex": [float(s) for s in range(200)]
    }


@pytest.mark.parametrize(
    ("order", "begin_s"),
    [
        ((0, 2, 6, -1), 121.0),  # drawn last: nobody saw it turn, a timer stood in
        ((0, 6, -1), 121.0),
        ((0, -1, 2, 6), None),  # seen while it roasted, or loaded and saved again
        ((0, 2, -1, 6), None),  # the drop was marked anew
        ((2, 6, 0, -1), None),  # the charge was marked anew
        ((0, 2, 6), None),
        ((-1,), None),
        ((), None),
    ],
)
def test_the_area_begins_at_the_timer_where_the_word_of_the_turning_point_was_drawn_last(
    order: tuple[int, ...], begin_s: float | None
) -> None:
    assert read(long_log(anno_positions=drawn(*order))).curve.area_from_s == begin_s


def test_a_timer_needs_two_minutes_of_roast_and_an_area_from_the_turning_point() -> None:
    last = drawn(0, 2, 6, -1)
    assert read(small(anno_positions=last)).curve.area_from_s is None
    assert read(long_log(anno_positions=last, computed={"AUCbegin": "CHARGE"})).curve.area_from_s is None
    assert read(long_log(anno_positions=last, computed={"AUCbegin": "TP"})).curve.area_from_s == 121.0
    assert read(long_log(anno_positions=[[], [6.0], [-1.0]])).curve.area_from_s == 121.0


def test_readings_whose_time_does_not_rise_are_left_out_and_marks_still_stand_at_theirs() -> None:
    times = [0.0, 1.0, 2.0, 2.0, 1.5, 5.0, 6.0, float("nan"), 8.0, 9.0]
    roast = read_alog(repr(small(timex=times)).encode())
    assert list(roast.curve.elapsed_s + 2.0) == [0.0, 1.0, 2.0, 5.0, 6.0, 8.0, 9.0]
    assert first_of(roast.marks, "drop") == 6.0
    assert any("3 readings" in line for line in roast.warnings)


def test_an_infrared_eye_in_bt_is_told_by_its_reset_and_the_columns_change_places() -> None:
    probe = [150.0] * 10
    eye = [240.0] * 3 + [25.0, 25.0, 30.0, 40.0, 50.0, 60.0, 70.0]
    bullet = {
        "temp1": probe, "temp2": eye, "extradevices": [87], "extratimex": [[float(s) for s in range(10)]],
        "extratemp1": [[4.0] * 3 + [6.0] * 7], "extratemp2": [[900.0] * 10], "devices": ["Aillio Bullet R1 BT/DT"],
    }  # fmt: skip
    roast = read(small(**bullet))
    assert roast.curve.infrared_temp_c is not None and list(roast.curve.infrared_temp_c) == eye
    assert list(roast.curve.bean_temp_c) == probe
    without = read(small(**(bullet | {"temp2": [240.0] * 10})))
    assert without.curve.infrared_temp_c is None  # nothing proves it: as the file names them


def test_sliders_keep_their_value_through_artisans_inner_scale() -> None:
    assert outer_value(8.0) == 70.0 and inner_value(70.0) == 8.0
    assert outer_value(0.0) is None and inner_value(None) == 0.0
    assert outer_value(inner_value(-30.0)) == -30.0 and outer_value(inner_value(0.0)) == 0.0


def test_weights_come_in_any_of_artisans_units_and_as_text() -> None:
    assert read(small(weight=["1", "0.9", "Kg"])).metadata.weight_in_g == 1000.0
    assert read(small(weight=[1.0, 0, "lb"])).metadata.weight_in_g == pytest.approx(453.592, abs=0.001)
    assert read(small(weight=[1.0, 0, "lb"])).metadata.weight_out_g is None
    strange = read(small(weight=[1.0, 0.8, "stone"]))
    assert strange.metadata.weight_in_g is None and any("unit" in line for line in strange.warnings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("extradevices", {"a": 1}), ("specialevents", [1, None]), ("title", 7), ("timeindex", "abc"), ("phases", [1.5]),
        ("etypes", ["a"]), ("computed", [1]), ("weight", [[]]), ("roastepoch", 10**14), ("roastisodate", "2026-99-99"),
        ("roasttzoffset", 10**9), ("samplinginterval", None), ("specialeventstype", [99]), ("mode", ["F"]),
    ],
)  # fmt: skip
def test_a_field_of_the_wrong_type_falls_away_and_the_roast_is_read(name: str, value: Any) -> None:
    log = small()
    log[name] = value
    assert len(read(log).curve) == 10


# --- bytes that are no log


@pytest.mark.parametrize(
    "data",
    [
        b"", b"   ", b"\x00" * 100, b"[]", b"{", b"{}", b"{'timex': [1, 2]}", b"PK\x03\x04", b"\xff\xfe{}", b"{1, 2}",
        b"{'a': __import__('os').system('true')}", b"{'timex': {}}", repr(small(timex=[1.0])).encode(),
        repr(small(temp2=[-1.0] * 10)).encode(), repr(small(timex=[5.0] * 10)).encode(), b"{" * 1000, b"{'a':" * 1000,
        b"{'a': " + b"-" * 100_000 + b"1}", b"{'a': " + b"[" * 100_000, b"{'a': " + b"9" * 100_000 + b"}",
        b"{'a': b'x'}", b"{'a': 1j}", b"{'a': {1}}", b"{'a': 1+1}", b"{'a': nan nan}", b"{'a': 'b' 'c'}",
        b"{'a': u'b'}", b"{'a': " + b"[0," * 20 + b"]" * 20, b"{'a': [" + b"0," * 3_000_000 + b"]}", b"{'\\ud800': 1}",
    ],
)  # fmt: skip
def test_bytes_that_are_no_log_raise_alog_error_alone(data: bytes) -> None:
    with pytest.raises(AlogError) as caught:
        read_alog(data)
    assert caught.value.message and caught.value.how_to_fix


def test_a_file_beyond_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(AlogError) as caught:
        read_alog(b"{" + b" " * MAX_FILE_BYTES)
    assert caught.value.code == "file_too_large"


def test_text_that_no_database_can_hold_is_cleaned() -> None:
    roast = read_alog(repr(small(title="x")).encode().replace(b"'x'", b"'a\\x00b\\ud800c\\x1bd'"))
    assert roast.metadata.title == "ab\ufffdcd"


# --- the literal parser against Python's own

LITERALS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=20), inner),
    max_leaves=30,
)


@settings(max_examples=300, deadline=None)
@given(LITERALS)
def test_literals_read_as_python_and_json_read_them(value: Any) -> None:
    assert parse_literal(repr(value)) == value
    assert parse_literal(json.dumps(value)) == value
    assert parse_literal(json.dumps(value, ensure_ascii=False)) == value


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="{}[]()'\":,-+.0123456789eEnaifTruFlsNo \\x", max_size=60))
def test_any_text_is_a_literal_or_refused(text: str) -> None:
    try:
        mine = parse_literal(text)
    except BadLiteral:
        return
    try:
        python = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        return  # JSON's words, or a number with leading zeros: harmless
    if "(" not in text and "'" not in text:
        assert mine == python or "nan" in text
