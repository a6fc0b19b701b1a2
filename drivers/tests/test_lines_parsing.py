"""Lines → values: every rule of docs/line-protocols.md, and whatever bytes come, no exception and no wrong number."""

from __future__ import annotations

import json
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.lines import greeting, tc4_codec
from drivers.lines.fuzzing import fuzz_lines
from drivers.lines.greeting import Ack, Hello
from drivers.lines.parsing import (
    RANGES,
    Fault,
    Format,
    Ignored,
    LineFormat,
    LineParser,
    LineSplitter,
    Sample,
    Scale,
    parse_ts,
)
from drivers.lines.readings import make_reading, step_of_percent
from drivers.lines.timing import Backoff, LineClock, Pacer
from drivers.port import Control, MachineState, ProtocolError

JSONL = LineParser(LineFormat())


def said(text: str | bytes, line_format: LineFormat | None = None) -> object:
    parser = LineParser(line_format) if line_format else JSONL
    return parser.parse(text.encode() if isinstance(text, str) else text)


def sample(text: str, line_format: LineFormat | None = None) -> Sample:
    found = said(text, line_format)
    assert isinstance(found, Sample), found
    return found


def code(text: str | bytes, line_format: LineFormat | None = None) -> str:
    found = said(text, line_format)
    assert isinstance(found, Fault), found
    return found.code


CSV = LineFormat(format=Format.CSV)


def test_the_predecessors_names_and_ours_both_stand() -> None:
    ours = sample('{"bean_temp_c":201.5,"heater_pct":70,"state":"roasting"}')
    theirs = sample('{"btC":201.5,"powerPct":70,"state":"Roasting"}')
    assert ours.values == theirs.values == {"bean_temp_c": 201.5, "heater_pct": 70.0}
    assert ours.state is theirs.state is MachineState.ROASTING


def test_other_numbers_and_texts_are_extras_and_the_rest_is_dropped_by_name() -> None:
    found = sample('{"btC":1,"humidity":40.5,"note":"ok","list":[1],"deep":{},"flag":true,"none":null}')
    assert found.extras == {"humidity": 40.5, "note": "ok"}
    assert found.faults == ("extra_dropped",) * 3


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_what_is_not_finite_is_refused_by_name_and_the_rest_of_the_line_stands(literal: str) -> None:
    found = sample(f'{{"btC":{literal},"powerPct":70,"x":{literal}}}')
    assert found.values == {"heater_pct": 70.0} and found.extras == {}
    assert found.faults == ("not_finite", "not_finite")


@pytest.mark.parametrize("cell", ["nan", "NaN", "inf", "-inf", "INFINITY", "1e999"])
def test_a_csv_cell_that_is_not_finite_is_refused_by_name(cell: str) -> None:
    found = sample(f"2026-01-01T00:00:00Z,{cell},180,70,30,42", CSV)
    assert "bean_temp_c" not in found.values and found.faults == ("not_finite",)
    assert found.values["environment_temp_c"] == 180.0


@pytest.mark.parametrize("name", sorted(RANGES))
def test_the_range_of_each_value_is_inclusive_on_both_sides(name: str) -> None:
    low, high = RANGES[name]
    for inside in (low, high):
        assert sample(json.dumps({name: inside, "voltage_v": 1})).values[name] in (inside, 1.0)
    for outside in (low - 0.1, high + 0.1):
        assert code(json.dumps({name: outside})) == "out_of_range"


@pytest.mark.parametrize(("line", "name"), [
    ("[1]", "not_an_object"), ("1", "not_an_object"), ("null", "not_an_object"), ("{", "bad_json"),
    ("[" * 8000, "bad_json"), ('{"btC":' + "1" * 6000 + "}", "bad_json"), ('{"btC":"201"}', "not_a_number"),
    ('{"btC":true}', "not_a_number"), ('{"ts":"yesterday","btC":1}', "bad_ts"), ('{"btC":1e400}', "not_finite"),
    ('{"btC":1} x', "bad_json"), ("HELLO", "bad_hello"), ("ACK a", "bad_ack"), ("ACK a maybe", "bad_ack"),
])
def test_a_line_that_cannot_be_understood_is_refused_by_a_name(line: str, name: str) -> None:
    assert code(line) == name


def test_bytes_that_are_no_text_are_refused() -> None:
    assert code(b'{"btC":\xff}') == "not_utf8"


@pytest.mark.parametrize(("line", "why"), [
    ("", "blank"), ("   ", "blank"), ("# remark", "comment"), ("{}", "no_channel"), ('{"x":1}', "no_channel"),
    ('{"btC":null}', "no_channel"),
])
def test_lines_without_telemetry_are_no_errors(line: str, why: str) -> None:
    assert said(line) == Ignored(why)


@pytest.mark.parametrize(("text", "seconds"), [
    ("1970-01-01T00:00:00Z", 0.0), ("1970-01-01T01:00:00+01:00", 0.0), ("1969-12-31T23:00:00-01:00", 0.0),
    ("1970-01-01t00:00:01.25z", 1.25), ("1970-01-01 00:00:01Z", 1.0), ("1970-01-01T00:00:60Z", 60.0),
    ("2026-01-01T00:00:00.123456789Z", 1767225600.123456789),
])
def test_rfc_3339_times_are_read(text: str, seconds: float) -> None:
    assert parse_ts(text) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize("text", [
    "", "1970-01-01", "1970-01-01T00:00:00", "1970-13-01T00:00:00Z", "1970-01-01T24:00:00Z", "1970-01-01T00:00:61Z",
    "1970-01-01T00:00:00+24:00", "1970-01-01T00:00:00+01", "19700101T000000Z", "１970-01-01T00:00:00Z", "now",
])
def test_other_times_are_refused(text: str) -> None:
    assert parse_ts(text) is None


def test_a_ts_that_is_no_text_falls_back_to_receipt_and_is_counted() -> None:
    found = sample('{"ts":1767225600,"btC":1}')
    assert found.ts_s is None and found.faults == ("ts_not_text",)


def test_fahrenheit_and_offsets_are_applied_in_that_order() -> None:
    line_format = LineFormat(scale=Scale.FAHRENHEIT, offsets_c={"bean_temp_c": -1.5})
    found = sample('{"btC":392,"etC":212,"powerPct":50}', line_format)
    assert found.values == pytest.approx({"bean_temp_c": 198.5, "environment_temp_c": 100.0, "heater_pct": 50.0})


def test_states_by_the_peers_own_words_and_numbers() -> None:
    line_format = LineFormat(states={"3": MachineState.ROASTING, "Kühlen": MachineState.COOLING})
    assert sample('{"state":3}', line_format).state is MachineState.ROASTING
    assert sample('{"state":"Kühlen"}', line_format).state is MachineState.COOLING
    unknown = sample('{"state":"burning"}', line_format)
    assert unknown.state is MachineState.UNKNOWN and unknown.faults == ("unknown_state",)
    csv = LineFormat(format=Format.CSV, columns=("btC", "state"), states=line_format.states)
    assert sample("200,3", csv).state is MachineState.ROASTING


def test_csv_with_a_header_follows_it_and_a_new_connection_brings_a_new_one() -> None:
    parser = LineParser(LineFormat(format=Format.CSV, has_header=True, delimiter=";"))
    assert parser.parse(b"etC;btC;lot") == Ignored("header")
    first = parser.parse(b'180,5;201.5;"Kenya; AA"')
    assert isinstance(first, Sample) and first.values == {"bean_temp_c": 201.5}
    assert first.extras == {"lot": "Kenya; AA"} and first.faults == ("not_a_number",)
    assert parser.parse(b"etC;btC;lot") == Ignored("header"), "sent again in mid-stream"
    parser.reset()
    assert parser.parse(b"btC;etC") == Ignored("header")
    second = parser.parse(b"201.5;180")
    assert isinstance(second, Sample) and second.values["bean_temp_c"] == 201.5


def test_a_row_with_too_few_or_too_many_values_is_refused_as_a_whole() -> None:
    assert code("2026-01-01T00:00:00Z,201.5,19", CSV) == "too_few_columns", "a row cut in the middle of a number"
    assert code("2026-01-01T00:00:00Z,1,2,3,4,5,6", CSV) == "too_many_columns"
    assert code("a,a", LineFormat(format=Format.CSV, has_header=True)) == "bad_header"


@given(st.lists(st.binary(max_size=50), max_size=20), st.integers(1, 60))
def test_a_splitter_gives_the_same_lines_however_the_bytes_come(pieces: list[bytes], cut: int) -> None:
    data = b"".join(pieces)
    whole = LineSplitter(40).feed(data)
    splitter, found = LineSplitter(40), []
    for start in range(0, len(data), cut):
        found += splitter.feed(data[start : start + cut])
    assert found == whole
    lines = data.split(b"\n")[:-1]
    assert whole == [None if len(line) > 40 else line.removesuffix(b"\r") for line in lines]


def test_a_splitter_holds_no_more_than_one_line_of_its_cap() -> None:
    splitter = LineSplitter(100)
    for _ in range(1000):
        assert splitter.feed(b"9" * 1000) == []
        assert len(splitter._rest) <= 100
    assert splitter.feed(b"\n{}\n") == [None, b"{}"]
    splitter.feed(b"half")
    assert splitter.reset() and not splitter.reset()


@given(st.binary(max_size=300))
@settings(max_examples=300)
def test_any_bytes_give_a_value_and_never_an_exception(line: bytes) -> None:
    for line_format in (LineFormat(), CSV, LineFormat(format=Format.CSV, has_header=True, delimiter="\t")):
        found = LineParser(line_format).parse(line)
        assert isinstance(found, (Sample, Hello, Ack, Ignored, Fault))


_json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=8)
_keys = st.sampled_from([*RANGES, "btC", "powerPct", "ts", "state"]) | st.text(max_size=8)


@given(st.dictionaries(_keys, _json, max_size=8))
@settings(max_examples=60)
def test_every_number_that_is_kept_is_finite_in_range_and_was_said(line: dict[str, object]) -> None:
    found = JSONL.parse(json.dumps(line).encode())
    assert isinstance(found, (Sample, Ignored, Fault))
    if isinstance(found, Sample):
        for name, value in found.values.items():
            assert RANGES[name][0] <= value <= RANGES[name][1] and math.isfinite(value)
        assert all(math.isfinite(v) for v in found.extras.values() if isinstance(v, float))
        assert "\x00" not in json.dumps(found.extras, ensure_ascii=False)
        json.dumps(found.extras, ensure_ascii=False).encode()


def test_twenty_thousand_mutated_lines_raise_nothing_and_move_nothing() -> None:
    figures = fuzz_lines(seed=4, count=20_000)
    assert figures.lines == 20_000 and figures.samples > 1000 and figures.faults > 1000 and figures.rows > 100


# -- greetings ------------------------------------------------------------------------------------


def hello(**changed: object) -> str:
    good: dict[str, object] = {"version": 1, "controls": {"heater": {"min": 0, "max": 100, "safe": 0}}}
    return "HELLO " + json.dumps({**good, **changed})


def test_a_greeting_that_holds_declares_controls_and_states() -> None:
    found = said(hello(model="Huky", interval_ms=250, states=["cooling"]))
    assert isinstance(found, Hello)
    assert found.controls[Control.HEATER].safe_step == 0 and found.states == {MachineState.COOLING}


@pytest.mark.parametrize("changed", [
    {"version": 2}, {"version": None}, {"extra": 1}, {"controls": []}, {"controls": {"flap": {}}},
    {"controls": {"heater": {}}}, {"controls": {"heater": {"safe": True}}}, {"controls": {"heater": {"safe": 0.5}}},
    {"controls": {"heater": {"safe": 0, "min": 50, "max": 50}}}, {"controls": {"heater": {"safe": 0, "max": 101}}},
    {"controls": {"heater": {"safe": 101}}}, {"controls": {"heater": {"safe": 0, "step": 5}}},
    {"controls": {"heater": 5}}, {"states": ["burning"]}, {"states": ["unknown"]}, {"states": "cooling"},
    {"interval_ms": 19}, {"interval_ms": 10_001}, {"interval_ms": "fast"}, {"model": "x" * 81}, {"model": "a\nb"},
    {"serial": 7},
])
def test_a_greeting_that_does_not_hold_is_refused_as_a_whole(changed: dict[str, object]) -> None:
    assert code(hello(**changed)) == "bad_hello"


def test_acknowledgements_are_read_by_id() -> None:
    assert said("ACK prp_1/2 ok") == Ack("prp_1/2", True)
    assert said("ACK x declined Too_Hot") == Ack("x", False, "too_hot")
    assert said("ACK x declined <script>") == Ack("x", False, "")


def test_commands_are_one_line_of_plain_words() -> None:
    assert greeting.set_line("prp_1", Control.HEATER, 70) == b"SET prp_1 heater 70\n"
    assert greeting.state_line("prp_1", MachineState.COOLING) == b"STATE prp_1 cooling\n"
    assert not greeting.is_id("a b") and not greeting.is_id("a\n") and not greeting.is_id("")
    assert greeting.set_meaning(Control.HEATER, 70, 30).startswith("heater -")
    assert not greeting.set_meaning(Control.HEATER, 30, 70).startswith("heater -")


# -- TC4 ------------------------------------------------------------------------------------------


def test_a_tc4_row_is_read_by_the_inputs_that_are_on() -> None:
    row = tc4_codec.parse_row(b"24.1,185.2,201.5\r", 2)
    assert row.temps_c == {"ambient": 24.1, "ch1": 185.2, "ch2": 201.5} and not row.has_outputs
    row = tc4_codec.parse_row(b"24.1,185.2,201.5,70,30,0.0", 2)
    assert (row.heater, row.fan, row.set_value_c, row.has_outputs) == (70.0, 30.0, 0.0, True)
    row = tc4_codec.parse_row(b"24.1,,201.5,,,70,30,210", 4)
    assert row.temps_c == {"ambient": 24.1, "ch2": 201.5} and row.heater == 70.0
    row = tc4_codec.parse_row(b"24.1,185,nan,3,4", 4)
    assert "ch2" not in row.temps_c and row.faults == ("not_finite",)


@pytest.mark.parametrize("line", [b"", b"24.1", b"24,1,2,3,4,5,6,7,8", b"24.1,x,3", b"\xff,1,2", b"1" * 300])
def test_what_is_no_tc4_row_is_a_protocol_error(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        tc4_codec.parse_row(line, 2)


@pytest.mark.parametrize("full_scale", [100, 128, 255, 1000, 1023])
def test_every_percent_comes_back_from_an_outputs_own_count_and_heat_never_rounds_up(full_scale: int) -> None:
    for percent in range(101):
        count = int(tc4_codec.output_line("OT1", percent, full_scale).split(b";")[1])
        assert count <= percent * full_scale / 100
        assert step_of_percent(tc4_codec.percent_of(count, full_scale)) == percent


def test_only_three_outputs_can_ever_be_written() -> None:
    for output in ("PID", "DCFAN", "OT3", "OT1;5\nOT2"):
        with pytest.raises(ProtocolError):
            tc4_codec.output_line(output, 50, 100)


# -- readings and time ----------------------------------------------------------------------------


@pytest.mark.parametrize(("percent", "step"), [(0.0, 0), (0.1, 1), (0.4, 1), (1.4, 1), (1.5, 2), (99.5, 100)])
def test_a_heater_that_is_not_quite_off_does_not_read_off(percent: float, step: int) -> None:
    assert step_of_percent(percent) == step


def test_a_finer_setting_than_ours_is_kept_beside_it() -> None:
    import datetime as dt

    reading = make_reading({"heater_pct": 42.5}, state=MachineState.ROASTING, at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
                           monotonic_s=1.0, device_ms=1, extras={})
    assert reading.heater_step == 43 and reading.extras == {"heater_pct": 42.5}


@given(st.lists(st.tuples(st.none() | st.floats(-1e6, 2e9), st.floats(0.0, 100.0)), min_size=1, max_size=30))
def test_a_machines_time_never_goes_back_and_no_line_comes_from_the_future(
    lines: list[tuple[float | None, float]],
) -> None:
    line_clock, now_s, before_ms = LineClock(), 500.0, 0
    for ts_s, passed_s in lines:
        now_s += passed_s
        moment = line_clock.see(ts_s, now_s)
        assert moment.device_ms >= before_ms and moment.lag_s >= 0.0
        before_ms = moment.device_ms


def test_drift_of_a_peers_clock_is_not_lateness() -> None:
    line_clock, lag_s = LineClock(), 0.0
    for second in range(8 * 3600):
        lag_s = max(lag_s, line_clock.see(second * 0.9995, float(second)).lag_s)  # half a per mille slow
    assert lag_s < 0.01


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 2)), min_size=1, max_size=60), st.integers(0, 200))
def test_the_newest_line_is_never_lost_to_the_pacer(lines: list[tuple[int, int]], window_ms: int) -> None:
    pacer, at_ms, newest, emitted = Pacer(window_ms / 1000), 0, 0, -1
    for passed_ms, key in lines:
        at_ms += passed_ms
        newest += 1
        if pacer.is_due(at_ms, key, at_ms / 1000):
            emitted = newest
    assert emitted == newest or pacer.is_pending_due(at_ms / 1000 + window_ms / 1000 + 0.001)


def test_backoff_doubles_to_its_bound_and_only_a_good_connection_resets_it() -> None:
    backoff, now_s, waits = Backoff(0.25, 5.0), 0.0, []
    for _ in range(8):
        backoff.failed(now_s)
        waits.append(backoff.left_s(now_s))
        now_s += waits[-1]
    assert waits == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0]
    backoff.worked()
    assert backoff.left_s(now_s) <= 0


def test_the_fuzzer_is_deterministic() -> None:
    assert fuzz_lines(seed=random.Random(1).randrange(100), count=500) == fuzz_lines(
        seed=random.Random(1).randrange(100), count=500)
