"""Files of every format: told apart by content, read back as written, drawn the same each time, never a crash."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from roasts.alog import ImportedRoast, read_alog
from roasts.curve import Curve, Mark, first_of
from roasts.formats import artisan_csv, own, roastime, roastime_csv, tables
from roasts.formats.imported import (
    MACHINE_RATE,
    MAX_FILE_BYTES,
    FormatError,
    Metadata,
    NoCurve,
    NotThisFormat,
    TooLarge,
)
from roasts.formats.reading import read_roast
from roasts.formats.writing import FORMATS, write_roast
from roasts.tests import real_logs
from roasts.tests.test_alog import real, roasts

TEXT_FORMATS = [name for name in FORMATS if name not in ("png", "svg")]


def assert_equal_curves(mine: Curve, theirs: Curve) -> None:
    for field in dataclasses.fields(Curve):
        one, other = getattr(mine, field.name), getattr(theirs, field.name)
        if isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one, other, err_msg=field.name)
        else:
            assert one == other, field.name


# --- our own: lossless


@settings(max_examples=80, deadline=None)
@given(roasts())
def test_our_own_formats_lose_nothing(roast: ImportedRoast) -> None:
    for name in ("json", "ndjson"):
        again = read_roast(write_roast(roast, name))
        assert again.format == name
        assert_equal_curves(again.curve, roast.curve)
        assert again.marks == roast.marks
        assert again.metadata == roast.metadata
        assert again.special_events == roast.special_events
        for mine, theirs in zip(again.channels, roast.channels, strict=True):
            assert (mine.name, mine.unit, mine.slot) == (theirs.name, theirs.unit, theirs.slot)
            assert mine.device == theirs.device
            np.testing.assert_array_equal(mine.values, theirs.values)


def test_a_real_log_comes_through_our_own_formats_to_the_bit_and_back_into_an_alog() -> None:
    roast = read_alog(real("26-07-15_gotiti_no63"))
    for name in ("json", "ndjson"):
        again = read_roast(write_roast(roast, name))
        assert_equal_curves(again.curve, roast.curve)
        assert again.computed == roast.computed
        assert write_roast(again, "alog") == write_roast(roast, "alog")


def test_marks_keep_who_set_them_and_how_sure() -> None:
    marks = (Mark("charge", 0.0), Mark("first_crack_start", 8.0, "inferred", 0.62), Mark("note", 3.0, text="smoke"))
    roast = ImportedRoast("json", Curve(np.arange(10.0), np.arange(10.0) + 100), marks)
    assert read_roast(write_roast(roast, "json")).marks == marks
    assert read_roast(write_roast(roast, "ndjson")).marks == marks


@pytest.mark.parametrize(
    "changes",
    [
        {"columns": {"elapsed_s": [0, 1, 1], "bean_temp_c": [1, 2, 3]}},
        {"columns": {"elapsed_s": [0, 1, 2], "bean_temp_c": [1, 2]}},
        {"columns": {"elapsed_s": [0, 1, 2], "bean_temp_c": ["1", 2, 3]}},
        {"columns": {"elapsed_s": [0, 1, None], "bean_temp_c": [1, 2, 3]}},
        {"columns": {"elapsed_s": [0, 1, 200_000], "bean_temp_c": [1, 2, 3]}},
        {"columns": {"bean_temp_c": [1, 2, 3]}},
        {"columns": []},
        {"columns": {"elapsed_s": [0], "bean_temp_c": [1]}},
    ],
)
def test_our_json_with_columns_that_are_no_curve_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(NoCurve):
        read_roast(json.dumps({"format": own.JSON_FORMAT} | changes).encode())


# --- Artisan CSV


def test_artisan_csv_of_real_logs_keeps_each_second_and_every_mark() -> None:
    for path in real_logs.need_logs()[:8]:
        roast = read_alog(path.read_bytes())
        data = write_roast(roast, "artisan-csv")
        again = read_roast(data)
        assert again.warnings == () and again.format == "artisan-csv"
        assert again.curve.infrared_temp_c is not None and again.curve.heater_step is not None
        assert [mark.kind for mark in again.marks] == [mark.kind for mark in roast.marks]
        for mine, theirs in zip(again.marks, roast.marks, strict=True):
            assert abs(mine.elapsed_s - theirs.elapsed_s) <= 1.0
            row, other = np.searchsorted(again.curve.elapsed_s, mine.elapsed_s), _row(roast.curve, theirs.elapsed_s)
            assert again.curve.bean_temp_c[row] == roast.curve.bean_temp_c[other]
            assert again.curve.heater_step[row] == roast.curve.heater_step[other]  # type: ignore[index]
        assert write_roast(again, "artisan-csv") == data


def _row(curve: Curve, elapsed_s: float) -> int:
    return int(np.argmin(np.abs(curve.elapsed_s - elapsed_s)))


def test_artisan_csv_marks_come_from_the_first_row_where_the_events_are_not_named() -> None:
    rows = "\n".join(f"00:{second:02d}\t\t{200 + second}\t{100 + second}\t" for second in range(20))
    marks = "CHARGE:00:05\tTP:\tDRYe:\tFCs:00:12\tFCe:\tSCs:\tSCe:\tDROP:00:18\tCOOL:"
    head = f"Date:08.03.2026\tUnit:F\t{marks}\tTime:10:44"
    roast = artisan_csv.read_artisan_csv(f"{head}\nTime1\tTime2\tET\tBT\tEvent\n{rows}\n".encode())
    assert first_of(roast.marks, "first_crack_start") == 7.0
    assert first_of(roast.marks, "drop") == 13.0
    assert roast.curve.bean_temp_c[0] == pytest.approx((100 - 32) * 5 / 9)
    assert roast.metadata.roasted_at is not None and roast.metadata.roasted_at.hour == 10


def test_artisan_csv_skips_rows_without_a_time_and_takes_further_columns_by_name() -> None:
    table = (
        "Date:\tUnit:C\tCHARGE:00:00\nTime1\tTime2\tET\tBT\tEvent\tSV\n"
        "00:00\t00:00\t200\t100\tCharge\t7\nrubbish\n00:01\t00:01\t201\t-1\t\t8\n00:02\t00:02\t202\t102\t\t-1\n"
    )
    roast = read_roast(table.encode())
    assert list(np.isnan(roast.curve.bean_temp_c)) == [False, True, False]
    assert roast.channels[0].name == "SV" and roast.channels[0].values[1] == 8.0
    assert any("1 rows" in line for line in roast.warnings)


# --- RoasTime


def test_roastime_json_indices_count_from_one_and_zero_is_unset() -> None:
    rows = 40
    fields = {
        "sampleRate": 2, "beanTemperature": [100.0 + row for row in range(rows)], "drumTemperature": [200.0] * rows,
        "roastStartIndex": 5, "roastEndIndex": 39, "indexFirstCrackStart": 25, "indexYellowingStart": 0,
        "actions": {"actionTimeList": [{"ctrlType": 0, "index": 5, "value": 9}]},
        "weightGreen": 400, "weightRoasted": 0, "dateTime": 1_772_934_297_000, "beanDerivative": [5.0] * rows,
        "roastNumber": 12, "unknown": {"a": 1},
    }  # fmt: skip
    roast = read_roast(json.dumps(fields).encode())
    assert roast.curve.elapsed_s[0] == -2.0 and roast.curve.elapsed_s[4] == 0.0
    assert first_of(roast.marks, "first_crack_start") == 10.0
    assert first_of(roast.marks, "dry_end") is None
    assert first_of(roast.marks, "drop") == 17.0
    assert roast.curve.heater_step is not None
    assert np.isnan(roast.curve.heater_step[3]) and roast.curve.heater_step[4] == 9
    assert roast.metadata.weight_in_g == 400 and roast.metadata.weight_out_g is None
    assert any("unknown" in line for line in roast.dropped)
    assert roast.channel(MACHINE_RATE) is not None


def test_roastime_formats_come_back_as_they_were_written() -> None:
    for path in real_logs.need_logs()[:6]:
        roast = read_alog(path.read_bytes())
        for name, tolerance_s in (("roastime-json", 0.26), ("roastime-csv", 0.51)):
            data = write_roast(roast, name)
            again = read_roast(data)
            assert again.format == name and again.warnings == ()
            assert write_roast(again, name) == data
            for kind in ("first_crack_start", "drop"):
                mine, theirs = first_of(again.marks, kind), first_of(roast.marks, kind)
                assert (mine is None) == (theirs is None)
                assert mine is None or theirs is None or abs(mine - theirs) <= tolerance_s
            at_s = np.linspace(30, 400, 50)
            np.testing.assert_allclose(
                np.interp(at_s, again.curve.elapsed_s, again.curve.bean_temp_c),
                np.interp(at_s, roast.curve.elapsed_s, roast.curve.bean_temp_c),
                atol=0.3,
            )


def test_roastime_csv_believes_the_times_of_milestones_and_not_their_indices() -> None:
    rows = "\n".join(
        f",{second},{second // 60}:{second % 60:02d},{200 + second / 10},{100 + second / 10},1.0,2.0,"
        f"{9 if second < 100 else 5},9,2"
        for second in range(600)
    )
    report = (
        "CRT Aug 22\n22/08/2026\nCosta Rica La Minita\n\nMilestones\n1st Crack,Start,,,End\n,Index,Time,,Index,Time\n"
        ",1012,8:26,,-,-\n\nYellowing,Start index,Start time\n,526,4:23\n\n"
        "Timeline,Index,Time,IBTS Temp,Bean Probe Temp,IBTS ROR,Bean Probe ROR,Power Setting,Drum Setting,Fan Setting\n"
    )
    roast = roastime_csv.read_roastime_csv((report + rows + "\n").encode())
    assert first_of(roast.marks, "first_crack_start") == 506.0
    assert first_of(roast.marks, "dry_end") == 263.0
    assert first_of(roast.marks, "drop") == 599.0
    assert roast.metadata.title == "CRT Aug 22" and roast.metadata.bean == "Costa Rica La Minita"
    assert roast.metadata.roasted_at is not None and roast.metadata.roasted_at.day == 22
    assert roast.curve.heater_step is not None and list(roast.curve.heater_step[98:102]) == [9, 9, 5, 5]
    assert roast.curve.infrared_temp_c is not None and roast.curve.infrared_temp_c[10] == 201.0


# --- pictures


def test_pictures_are_the_same_bytes_each_time_and_hold_no_trace_of_the_machine() -> None:
    roast = read_alog(real("26-03-08_gotiti_no24"))
    svg = write_roast(roast, "svg")
    assert svg == write_roast(roast, "svg")
    assert svg.startswith(b"<?xml") and b"<script" not in svg and b"/work" not in svg and b"2026-11" not in svg
    png = write_roast(roast, "png")
    assert png.startswith(b"\x89PNG") and png == write_roast(roast, "png")


def test_a_picture_is_drawn_of_the_barest_roast_and_of_text_that_looks_like_a_formula() -> None:
    curve = Curve(np.array([0.0, 1.0]), np.array([np.nan, 100.0]))
    bare = ImportedRoast("json", curve, metadata=Metadata(title="$\\frac{"))
    assert write_roast(bare, "png").startswith(b"\x89PNG")


# --- any bytes


@pytest.mark.parametrize("name", TEXT_FORMATS)
def test_every_format_is_told_by_its_content(name: str) -> None:
    roast = read_alog(real("26-03-08_gotiti_no24"))
    assert read_roast(write_roast(roast, name)).format == name
    assert read_roast(b"\xef\xbb\xbf" + write_roast(roast, name)).format == name


@pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG\r\n", b"a,b,c\n1,2,3\n", b"PK\x03\x04", b"<svg/>"])
def test_what_is_no_roast_is_refused_with_the_formats_that_are(data: bytes) -> None:
    with pytest.raises(NotThisFormat) as caught:
        read_roast(data)
    assert caught.value.how_to_fix


def test_a_file_beyond_the_limit_is_refused_whatever_it_is() -> None:
    for begin in (b"{", b"Time1\tTime2\n", b"Timeline,"):
        with pytest.raises(TooLarge):
            read_roast(begin + b" " * MAX_FILE_BYTES)


@pytest.mark.parametrize(
    ("cell", "seconds"),
    [("8:26", 506.0), ("08:26", 506.0), ("1:08:26", 4106.0), ("-0:30", -30.0), ("12", 12.0), ("", None), ("-", None),
     ("1:2:3:4", None), ("9999999999999:00", None), ("nan", None)],
)  # fmt: skip
def test_clocks_in_cells(cell: str, seconds: float | None) -> None:
    assert tables.seconds_in(cell) == seconds


def _fuzz(count: int, seed: int) -> dict[str, Any]:
    """Mutated files in a process of their own, which shows its memory."""
    command = [sys.executable, "-m", "roasts.tests.fuzz_files", str(count), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1_500, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _assert_within_bounds(found: dict[str, Any], count: int) -> None:
    assert found["read"] + found["refused"] == count
    assert found["read"] > count / 20 and found["refused"] > count / 20  # both ways are tried
    assert found["slowest_s"] < 2.0
    assert found["peak_mb"] < 200.0


def test_mutated_files_never_crash_hang_or_fill_the_memory() -> None:
    _assert_within_bounds(_fuzz(300, 20_260_321), 300)


@pytest.mark.prove
@pytest.mark.timeout(1_600)
def test_ten_thousand_mutated_files_never_crash_hang_or_fill_the_memory() -> None:
    _assert_within_bounds(_fuzz(10_000, 42), 10_000)


@pytest.mark.parametrize("number", ["1e999", "-1e999"])
@pytest.mark.parametrize("place", ["carried", "computed"])
def test_a_number_beyond_all_numbers_in_our_own_file_is_not_carried_into_others(number: str, place: str) -> None:
    """JSON spells it, no format can hold it: Artisan would refuse the whole log."""
    roast = read_roast(real("26-03-09_gigesa_no26"))
    odd = dataclasses.replace(roast, **{place: {"extratimex": [[0.5, 987654.25]], "flavors": [1.0]}})
    damaged = write_roast(odd, "json").replace(b"987654.25", number.encode())
    found = read_roast(damaged)
    assert dict(getattr(found, place)) == {"flavors": [1.0]}
    for name in ("alog", "artisan-csv", "json", "ndjson", "roastime-json", "roastime-csv"):
        assert len(read_roast(write_roast(found, name)).curve) > 400


def test_a_drop_marked_after_the_last_reading_is_written_all_the_same() -> None:
    """The report's rows go on to the drop, with nothing in them."""
    log = {
        "mode": "C", "timex": [float(s) for s in range(60)], "temp1": [200.0] * 60, "temp2": [150.0] * 60,
        "timeindex": [2, 0, 0, 0, 0, 0, 50, 0], "extradevices": [84], "extratimex": [[float(s) for s in range(60)]],
        "extratemp1": [[70.0] * 60], "extratemp2": [[20.0] * 60],
    }  # fmt: skip
    roast = read_alog(repr(log).encode())
    late = dataclasses.replace(roast, marks=(*roast.marks[:-1], dataclasses.replace(roast.marks[-1], elapsed_s=65.0)))
    written = roastime_csv.write_roastime_csv(late)
    assert written.splitlines()[-1].split(b",")[1] == b"65"
    again = roastime_csv.read_roastime_csv(written)
    assert len(again.curve) == 66 and first_of(again.marks, "drop") == 65.0
    assert np.isnan(again.curve.bean_temp_c[58:]).all() and not np.isnan(again.curve.bean_temp_c[:58]).any()


def test_the_errors_of_all_formats_are_one_tree() -> None:
    assert issubclass(TooLarge, FormatError) and issubclass(NoCurve, FormatError)
    assert roastime.is_roastime_json('{"beanTemperature": []}')
