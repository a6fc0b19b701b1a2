"""Envelopes are read strictly: the whole refused, or point by point with its reason; one canonical form."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roasts.telemetry import envelope as reading
from roasts.telemetry.envelope import BadEnvelope, Envelope, read_json, read_lines
from roasts.tests.telemetry_senders import BEGUN, envelope, point, span

NOW = BEGUN + dt.timedelta(hours=1)


def read(body: Any) -> Envelope:
    return read_json(json.dumps(body).encode(), received_at=NOW)


def bad(body: Any) -> str:
    with pytest.raises(BadEnvelope) as caught:
        read(body)
    return caught.value.code


def refused(value: Any, *, neighbours: bool = True) -> str:
    """The code with which one point is refused; its neighbours are kept."""
    points = [point(1), value, point(3)] if neighbours else [value]
    seen = read(envelope("mch_a", 1, [point(1), point(3)]) | {"points": points})
    assert [p.index for p in seen.points] == [0, 2]
    assert [r.index for r in seen.refused_points] == [1]
    return seen.refused_points[0].code


def test_a_good_envelope_is_read_whole() -> None:
    seen = read(envelope("mch_a", 7, span(0, 5), events=[{"kind": "charge", "at": point(1)["at"]}]))
    assert (seen.machine_id, seen.sequence, len(seen.points), len(seen.events)) == ("mch_a", 7, 5, 1)
    assert seen.points[2].at == BEGUN + dt.timedelta(seconds=2) and seen.points[2].device_ms == 2000
    assert not seen.refused_points and not seen.refused_events


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"schema": "roastops-telemetry/2"}, "unknown_schema"),
        ({"schema": None}, "unknown_schema"),
        ({"machine_id": ""}, "bad_field"),
        ({"machine_id": 5}, "bad_field"),
        ({"machine_id": "x" * 41}, "bad_field"),
        ({"machine_id": "mch\x00"}, "bad_field"),
        ({"sequence": 0}, "bad_field"),
        ({"sequence": -1}, "bad_field"),
        ({"sequence": True}, "bad_field"),
        ({"sequence": 1.5}, "bad_field"),
        ({"sequence": 2**40 + 1}, "bad_field"),
        ({"at": "yesterday"}, "bad_field"),
        ({"at": "2026-11-21T08:00:00"}, "bad_field"),
        ({"at": "1970-01-01T00:00:00Z"}, "bad_field"),
        ({"points": {}}, "malformed_body"),
        ({"points": [point(1)] * 2001}, "too_many_points"),
        ({"events": [{}] * 51}, "too_many_events"),
        ({"signature": "zz"}, "bad_field"),
        ({"signature": "AB" * 64}, "bad_field"),
        ({"previous_digest": "ab"}, "bad_field"),
        ({"piont": []}, "unknown_field"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_with_the_envelope_refuses_all_of_it(change: dict[str, Any], code: str) -> None:
    assert bad(envelope("mch_a", 1, [point(1)]) | change) == code


def test_the_bounds_of_an_envelope_are_inside() -> None:
    most = envelope("x" * 40, 2**40, [point(n / 100) for n in range(2000)])
    assert len(read(most).points) == 2000


def test_an_unknown_field_names_the_nearest() -> None:
    with pytest.raises(BadEnvelope, match="did you mean `points`"):
        read(envelope("mch_a", 1, []) | {"pionts": []})


@pytest.mark.parametrize("raw", [b"", b"[]", b"5", b"{", b"\xff\xfe", b"null", b"[" * 100_000, b'{"a":NaN}'])
def test_what_is_no_object_is_refused(raw: bytes) -> None:
    with pytest.raises(BadEnvelope):
        read_json(raw, received_at=NOW)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (5, "not_an_object"),
        (point(2, at=None), "bad_time"),
        (point(2, at=5), "bad_time"),
        (point(2, at="2026-11-21T08:00:02"), "bad_time"),
        (point(2, at="2026-11-21T09:10:00.001Z"), "in_the_future"),
        (point(2, at="1999-12-31T23:59:59Z"), "too_old"),
        (point(2, bean_temp_c="200"), "not_a_number"),
        (point(2, bean_temp_c=True), "not_a_number"),
        (point(2, bean_temp_c=1000.001), "out_of_range"),
        (point(2, bean_temp_c=-100.001), "out_of_range"),
        (point(2, bean_temp_c=1e308), "out_of_range"),
        (point(2, heater_step=1.5), "not_a_number"),
        (point(2, heater_step=-1), "out_of_range"),
        (point(2, heater_step=1001), "out_of_range"),
        (point(2, state="roastin"), "unknown_state"),
        (point(2, state=6), "unknown_state"),
        (point(2, quality={"bean_temp_c": "rotten"}), "bad_quality"),
        (point(2, quality={"beans": "stale"}), "bad_quality"),
        (point(2, quality=[]), "bad_quality"),
        (point(2, extras={"a": [1]}), "bad_extras"),
        (point(2, extras={"a": True}), "bad_extras"),
        (point(2, extras={"a": "x" * 201}), "bad_extras"),
        (point(2, extras={"": 1}), "bad_extras"),
        (point(2, extras={"a\x00": 1}), "bad_extras"),
        (point(2, extras={"a": "\ud800"}), "bad_extras"),
        (point(2, extras={"a": 10**400}), "bad_extras"),
        (point(2, extras={"bean_temp_c": 1}), "bad_extras"),
        (point(2, extras={str(n): n for n in range(17)}), "bad_extras"),
        (point(2, bean_temp=5), "unknown_field"),
        (point(2, device_ms=None), "mixed_times"),
        (point(2, device_ms=2**53 + 1), "out_of_range"),
        ({"at": point(2)["at"], "device_ms": 2000}, "empty_point"),
        ({"at": point(2)["at"], "device_ms": 2000, "bean_temp_c": None}, "empty_point"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_bad_point_is_refused_with_its_index_and_the_rest_is_kept(value: Any, code: str) -> None:
    assert refused(value) == code


@pytest.mark.parametrize(
    "values",
    [
        {"bean_temp_c": 1000},
        {"bean_temp_c": -100.0},
        {"heater_step": 1000},
        {"heater_step": 0},
        {"heater_step": 5.0},
        {"at": "2026-11-21T09:10:00.000Z"},
        {"at": "2026-11-21T10:00:02.5+02:00"},
        {"extras": {str(n): n for n in range(16)}},
        {"extras": {"name": "x" * 200, "n": 1.5}},
        {"quality": {"bean_temp_c": "stale"}},
        {"device_ms": 2**53},
    ],
    ids=lambda value: str(value)[:50],
)
def test_the_bounds_of_a_point_are_inside(values: dict[str, Any]) -> None:
    assert len(read(envelope("mch_a", 1, []) | {"points": [point(2, **values)]}).points) == 1


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (7, "not_an_object"),
        ({"kind": "explosion", "at": point(1)["at"]}, "unknown_kind"),
        ({"kind": ["drop"], "at": point(1)["at"]}, "unknown_kind"),
        ({"kind": "drop", "at": "soon, very soon"}, "bad_time"),
        ({"kind": "drop", "at": point(1)["at"], "source": "person"}, "unknown_source"),
        ({"kind": "drop", "at": point(1)["at"], "confidence": 1.01}, "out_of_range"),
        ({"kind": "drop", "at": point(1)["at"], "text": 5}, "bad_text"),
        ({"kind": "drop", "at": point(1)["at"], "elapsed": 5}, "unknown_field"),
        ({"kind": "drop", "at": point(1)["at"], "device_ms": -1}, "out_of_range"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_bad_event_is_refused_alone(value: Any, code: str) -> None:
    good = {"kind": "charge", "at": point(1)["at"]}
    seen = read(envelope("mch_a", 1, [point(1)], events=[good, value]))
    assert [r.code for r in seen.refused_events] == [code] and len(seen.events) == 1 and len(seen.points) == 1


def test_lines_say_the_same_as_one_object() -> None:
    body = envelope("mch_a", 3, span(0, 20), events=[{"kind": "drop", "at": point(5)["at"]}])
    header = {name: value for name, value in body.items() if name != "points"}
    lines = "\n".join(json.dumps(line) for line in [header, *body["points"]]) + "\n\n"
    assert read_lines(lines.encode(), received_at=NOW) == read(body)


def test_a_line_that_is_no_json_is_a_refused_point() -> None:
    header = json.dumps({k: v for k, v in envelope("mch_a", 3, []).items() if k != "points"})
    raw = "\n".join([header, json.dumps(point(1)), '{"at": "2026', json.dumps(point(2))]).encode()
    seen = read_lines(raw, received_at=NOW)
    assert [(r.index, r.code) for r in seen.refused_points] == [(1, "not_json")] and len(seen.points) == 2


def raw_envelope(*points: str, header: str = "") -> bytes:
    """An envelope as text, so that names may stand twice in it."""
    at = point(1)["at"]
    known = f'"schema":"roastops-telemetry/1","machine_id":"mch_a","sequence":1,"at":"{at}"'
    return ("{" + known + header + ',"points":[' + ",".join(points) + "]}").encode()


def raw_point(more: str = "") -> str:
    return json.dumps(point(1), separators=(",", ":"))[:-1] + more + "}"


@pytest.mark.parametrize(
    "more",
    [
        ',"bean_temp_c":1.0',
        ',"bean_temp_c" :1.0',
        ',"bean_temp_\\u0063":1.0',
        ',"extras":{"a":1,"a":2}',
        ',"extras":{"a":1, "a" : 2}',
        ',"extras":{"a":{"b":{"c":1,"c":1}}}',
        ',"extras":{"word":"\\":","a":1,"a":2}',  # the pair inside a word hides nothing
        ',"quality":{"bean_temp_c":"stale","bean_temp_c":"stale"}',
    ],
)
def test_a_point_with_a_name_twice_is_refused_alone(more: str) -> None:
    one, bad_one = raw_point(), raw_point(more)
    seen = read_json(raw_envelope(one, bad_one, one), received_at=NOW)
    assert [(r.index, r.code) for r in seen.refused_points] == [(1, "name_twice")] and len(seen.points) == 2
    lines = raw_envelope().replace(b',"points":[]', b"") + f"\n{one}\n{bad_one}\n{one}\n".encode()
    told = read_lines(lines, received_at=NOW)
    assert [(r.index, r.code) for r in told.refused_points] == [(1, "name_twice")]
    assert told.points_digest == seen.points_digest


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("header", [',"sequence":2', ',"sequence" :2', ',"kid":"","kid":""', ',"kid":{"a":1,"a":1}'])
def test_an_envelope_with_a_name_twice_is_refused_whole(header: str, encoding: str) -> None:
    with pytest.raises(BadEnvelope) as caught:
        read_json(raw_envelope(raw_point(), header=header).decode().encode(encoding), received_at=NOW)
    assert caught.value.code == "name_twice" and "stands twice" in caught.value.message
    with pytest.raises(BadEnvelope) as caught:
        read_lines(raw_envelope(header=header).replace(b',"points":[]', b""), received_at=NOW)
    assert caught.value.code == "name_twice"


@pytest.mark.parametrize("first", ["5", "null", '{"at":"now","at":"then"}'])
def test_a_first_point_that_is_none_does_not_take_the_others_with_it(first: str) -> None:
    seen = read_json(raw_envelope(first, raw_point(), raw_point()), received_at=NOW)
    assert [refusal.index for refusal in seen.refused_points] == [0] and len(seen.points) == 2


def test_a_name_twice_deep_inside_a_list_refuses_its_point_too() -> None:
    seen = read_json(raw_envelope(raw_point(), raw_point(',"extras":{"a":[{"c":1,"c":2}]}')), received_at=NOW)
    assert [(r.index, r.code) for r in seen.refused_points] == [(1, "bad_extras")] and len(seen.points) == 1


def test_what_two_names_said_is_in_the_digest() -> None:
    one, other = (raw_envelope(raw_point(f',"bean_temp_c":{value}')) for value in ("1.0", "2.0"))
    digests = {read_json(raw, received_at=NOW).points_digest for raw in (one, other)}
    assert len(digests) == 2


NAMES = st.dictionaries(st.text(max_size=8), st.text(max_size=8) | st.integers(), max_size=6)


@settings(max_examples=200, deadline=None)
@given(data=NAMES, points=st.lists(NAMES, max_size=4), twice=st.booleans(), style=st.sampled_from([",:", "indent", ""]))
def test_a_name_twice_is_always_seen_and_nothing_else_is_taken_for_one(data, points, twice, style) -> None:
    whole = data | {"points": points}
    told = {",:": {"separators": (",", ":")}, "indent": {"indent": 1}, "": {}}[style]
    text = json.dumps(whole, **told)
    if twice:
        text = text[: text.rindex("}")] + ',"points":[]}'
    found = reading._loads(text.encode())
    assert isinstance(found, reading._NamedTwice) is twice
    assert twice or found == whole


@pytest.mark.parametrize("raw", [b"", b"\n\n", b"x\n", b'{"schema":"roastops-telemetry/1","points":[]}\n'])
def test_lines_without_a_header_are_refused(raw: bytes) -> None:
    with pytest.raises(BadEnvelope):
        read_lines(raw, received_at=NOW)


def test_the_canonical_form_is_of_what_is_meant_not_how_it_is_written() -> None:
    plain = {"at": "2026-11-21T08:00:02.000Z", "device_ms": 2000, "bean_temp_c": 200.0, "heater_step": 5}
    other = {
        "heater_step": 5.0,
        "bean_temp_c": 200,
        "device_ms": 2000,
        "fan_step": None,
        "at": "2026-11-21T10:00:02+02:00",
    }
    one, two = (read(envelope("mch_a", 1, []) | {"points": [p]}) for p in (plain, other))
    assert one.points_digest == two.points_digest


@pytest.mark.parametrize("name", ["at", "device_ms", "bean_temp_c", "heater_step", "state", "extras", "quality"])
def test_every_value_is_in_the_digest(name: str) -> None:
    changed = {
        "at": "2026-11-21T08:00:02.001Z", "device_ms": 2001, "bean_temp_c": 150.0, "heater_step": 6,
        "state": "cooling", "extras": {"a": 1}, "quality": {"bean_temp_c": "stale"},
    }  # fmt: skip
    one = read(envelope("mch_a", 1, []) | {"points": [point(2)]})
    two = read(envelope("mch_a", 1, []) | {"points": [point(2) | {name: changed[name]}]})
    assert one.points_digest != two.points_digest


def test_a_refused_point_is_in_the_digest_too() -> None:
    one, two = (read(envelope("mch_a", 1, [point(1)]) | {"points": [point(1), bad]}) for bad in (5, 6))
    assert one.points_digest != two.points_digest


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
_names = sorted(reading.POINT_FIELDS | set(reading.ENVELOPE_FIELDS) | set(reading.EVENT_FIELDS))


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.sampled_from(reading.ENVELOPE_FIELDS), _json, max_size=9),
    st.lists(st.dictionaries(st.sampled_from(_names), _json, max_size=8), max_size=4),
)
def test_nonsense_is_refused_never_broken_by(header: dict[str, Any], points: list[Any]) -> None:
    for body in (header, envelope("mch_a", 1, []) | {"points": points}, envelope("m", 1, []) | {"events": points}):
        try:
            seen = reading.read(body, received_at=NOW)
        except BadEnvelope as error:
            assert error.code and error.message
        else:
            total = len(seen.points) + len(seen.refused_points)
            assert total == len(body.get("points") or []) and len(seen.points_digest) == 64


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_bytes_are_refused_never_broken_by(raw: bytes) -> None:
    for read_it in (read_json, read_lines):
        with pytest.raises(BadEnvelope):
            read_it(raw, received_at=NOW)
