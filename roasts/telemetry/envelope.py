"""What a bridge sends: one versioned envelope of points and events, read strictly, refused point by point. Pure.

``{schema, machine_id, sequence, at, points[], events[], previous_digest?, kid?, signature?}`` as one JSON object,
or as lines: the envelope without ``points`` first, then one point a line. What is wrong with the envelope refuses
all of it (:class:`BadEnvelope`); what is wrong with one point refuses that point, and the rest is kept.

Every point and event has one canonical form: known fields only, null left out, temperatures and rates as floats,
counts as integers, times in UTC with six digits, keys sorted. The digests, and so the signatures, are of that form.
"""

from __future__ import annotations

import datetime as dt
import difflib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from drivers.port import MachineState, Quality
from kernel import canonical

SCHEMA = "roastops-telemetry/1"
MAX_BODY_BYTES = 1_000_000
MAX_POINTS = 2000
MAX_EVENTS = 50
MAX_EXTRAS = 16
MAX_EXTRA_CHARACTERS = 200
MAX_NAME_CHARACTERS = 40
MAX_TEXT_CHARACTERS = 500
MAX_SEQUENCE = 2**40
MAX_DEVICE_MS = 2**53
#: Of many refused points the first are told one by one; all are counted.
MAX_REFUSALS_TOLD = 20
#: A sender's clock may run this far ahead of ours; a time beyond it would make all that follows look late.
AHEAD_MAX = dt.timedelta(minutes=10)
EARLIEST = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)

ENVELOPE_FIELDS = ("schema", "machine_id", "sequence", "at", "points", "events", "previous_digest", "kid", "signature")
STATES = frozenset(state.value for state in MachineState)
QUALITIES = frozenset(quality.value for quality in Quality)
EVENT_KINDS = frozenset(
    "charge turning_point dry_end first_crack_start first_crack_end second_crack_start drop cool_end".split()
)
EVENT_SOURCES = frozenset({"device", "inferred"})

#: name → (lowest, highest); °C, °C/min.
NUMBERS: dict[str, tuple[float, float]] = {
    "bean_temp_c": (-100.0, 1000.0),
    "infrared_temp_c": (-100.0, 1000.0),
    "exhaust_temp_c": (-100.0, 1500.0),
    "environment_temp_c": (-100.0, 1500.0),
    "ambient_temp_c": (-100.0, 200.0),
    "rate_of_rise_c_per_min": (-2000.0, 2000.0),
}
#: name → (lowest, highest); native steps, rpm, V, s, ms.
COUNTS: dict[str, tuple[int, int]] = {
    "heater_step": (0, 1000),
    "fan_step": (0, 1000),
    "drum_step": (0, 1000),
    "fan_rpm": (0, 100_000),
    "voltage_v": (0, 1000),
    "roast_clock_s": (0, 86_400),
    "device_ms": (0, MAX_DEVICE_MS),
}
POINT_FIELDS = frozenset({"at", "state", "quality", "extras", *NUMBERS, *COUNTS})
EVENT_FIELDS = ("kind", "at", "device_ms", "source", "confidence", "text")
_SAYS_NOTHING = frozenset({"at", "device_ms", "quality"})


class BadEnvelope(ValueError):
    """The envelope as a whole cannot be read: ``code``, what is wrong, what to do."""

    def __init__(self, code: str, message: str, how_to_fix: str = "See POST /v1/telemetry at /v1/docs.") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.how_to_fix = how_to_fix


class _Refused(ValueError):
    """One point or event cannot be taken."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Refusal:
    """A point (or event) that was not taken: where it stood, a stable code, and why."""

    index: int
    code: str
    message: str


@dataclass(slots=True)
class Point:
    """One reading of a remote machine. ``values`` is its canonical form; ``index`` its place in the envelope.

    Not frozen, for there are ten thousand a second, and that doubles the price; nobody changes one all the same.
    """

    index: int
    at: dt.datetime
    device_ms: int
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """A mark the sender's machine (or its own inference) made. ``device_ms`` None: by ``at`` alone."""

    kind: str
    at: dt.datetime
    device_ms: int | None
    source: str
    confidence: float
    text: str


@dataclass(frozen=True, slots=True)
class Envelope:
    """A read envelope: what can be taken, what was refused, and the digests of all of it."""

    machine_id: str
    sequence: int
    at: dt.datetime
    points: tuple[Point, ...]
    events: tuple[Event, ...]
    refused_points: tuple[Refusal, ...]
    refused_events: tuple[Refusal, ...]
    points_digest: str
    events_digest: str
    previous_digest: str = ""
    kid: str = ""
    signature: str = ""


@dataclass(slots=True)
class _Reader:
    """Reads items one by one, keeping the canonical form of each, refused ones as they came."""

    received_at: dt.datetime
    forms: list[Any] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)

    def read(self, items: Iterable[Any], take: Callable[[int, Any], tuple[Any, Any]]) -> list[Any]:
        taken = []
        for index, item in enumerate(items):
            try:
                value, form = take(index, item)
            except _Refused as refusal:
                self.refusals.append(Refusal(index, refusal.code, refusal.message))
                self.forms.append(_as_it_came(item))
                continue
            taken.append(value)
            self.forms.append(form)
        return taken


def _as_it_came(item: Any) -> Any:
    """A refused item for the digest; one that JSON cannot spell (a number past all floats) as text."""
    try:
        item = _spelt(item)
        canonical.dumps(item)
    except RecursionError:
        return "nested too deeply"
    except ValueError:
        return json.dumps(item, sort_keys=True)
    return item


# --- bytes to envelope ---


def read_json(body: bytes, *, received_at: dt.datetime) -> Envelope:
    """An envelope as one JSON object. BadEnvelope."""
    _bounded(body)
    return read(_object(_loads(body), "The body must be one JSON object."), received_at=received_at)


def read_lines(body: bytes, *, received_at: dt.datetime) -> Envelope:
    """An envelope as lines: the header first, then one point a line (empty lines are skipped). BadEnvelope.

    A line that is no JSON is a refused point; a header that is none refuses all.
    """
    _bounded(body)
    lines = [line for line in body.split(b"\n") if line.strip()]
    if not lines:
        raise BadEnvelope("malformed_body", "There is no header line.")
    header = _object(_loads(lines[0]), "The first line must be the envelope, one JSON object.")
    if "points" in header:
        raise BadEnvelope("points_in_header", "In lines, points follow the header, one a line.", "Leave `points` out.")
    if len(lines) - 1 > MAX_POINTS:
        raise _too_many(len(lines) - 1)
    return read({**header, "points": [_line(line) for line in lines[1:]]}, received_at=received_at)


class _NotJson(str):
    """A line that could not be read, as text."""


@dataclass(frozen=True, slots=True)
class _NamedTwice:
    """An object in which ``name`` stands twice, or an object inside it; all its pairs, for the digest.

    Two readers of such an object may see two values: it is refused, never guessed at.
    """

    name: str
    pairs: list[tuple[str, Any]]


def _line(line: bytes) -> Any:
    try:
        return _loads(line)
    except BadEnvelope:
        return _NotJson(line[:200].decode("utf-8", "replace"))


def _bounded(body: bytes) -> None:
    if len(body) > MAX_BODY_BYTES:
        raise BadEnvelope("body_too_large", "The body is larger than 1 MB.", "Send fewer points at once.")


def _object(data: Any, message: str) -> dict[str, Any]:
    if isinstance(data, _NamedTwice):
        raise BadEnvelope(
            "name_twice", f"The name `{data.name}` stands twice in the envelope.", "Send every name once."
        )
    if not isinstance(data, dict):
        raise BadEnvelope("malformed_body", message)
    return data


def _loads(raw: bytes) -> Any:
    """The JSON; an object in which a name stands twice, or that holds such a one, is a `_NamedTwice`."""
    try:
        data = json.loads(raw, parse_constant=_no_constant)
        if _is_each_name_once(raw, data):
            return data
        return json.loads(raw, parse_constant=_no_constant, object_pairs_hook=_each_once)
    except RecursionError:
        raise BadEnvelope("malformed_body", "The body is nested too deeply.") from None
    except ValueError as error:
        raise BadEnvelope("malformed_body", f"The body is not JSON: {error}"[:200]) from None


def _is_each_name_once(raw: bytes, data: Any) -> bool:
    """Whether it is certain, at the price of a search or two, that no name stands twice in one object of this text.

    A name ends with a quote and a colon; without the spaces nothing stands between those two. So the text has no fewer
    such pairs than names, and no fewer names than were read: where pairs and names read are equally many, each name
    stands once. False is not the contrary (a pair may stand inside a word): then names are read one by one, which
    costs as much again as reading the JSON.
    """
    if b"\0" in raw:  # two bytes a letter: UTF-16
        return False
    return _without_spaces(raw).count(b'":') == _names_read(data)


def _without_spaces(raw: bytes) -> bytes:
    return raw.translate(None, _SPACES) if any(space in raw for space in (b" ", b"\t", b"\n", b"\r")) else raw


_SPACES = b" \t\n\r"


def _names_read(data: Any) -> int:
    """Names in an envelope, or in a point, and one level further down."""
    if not isinstance(data, dict):
        return 0
    found = len(data) + _names_inside(data)
    for name in ("points", "events"):
        items = data.get(name)
        for item in items if isinstance(items, list) else ():
            if isinstance(item, dict):
                found += len(item) + _names_inside(item)
    return found


def _names_inside(item: dict[str, Any]) -> int:
    quality, extras = item.get("quality"), item.get("extras")
    inside = len(quality) if isinstance(quality, dict) else 0
    return inside + len(extras) if isinstance(extras, dict) else inside


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any] | _NamedTwice:
    """An object's pairs as the object they make, for json."""
    found = dict(pairs)
    twice = next((value.name for _, value in pairs if isinstance(value, _NamedTwice)), None)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)[:60]
    if twice is None:
        return found
    return _NamedTwice(twice, pairs)


def _spelt(value: Any) -> Any:
    """A refused item as canonical JSON can spell it: an object in which a name stands twice as a list of its pairs."""
    if isinstance(value, _NamedTwice):
        return [[name, _spelt(inner)] for name, inner in value.pairs]
    if isinstance(value, dict):
        return {name: _spelt(inner) for name, inner in value.items()}
    return [_spelt(inner) for inner in value] if isinstance(value, list) else value


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no number")


def _too_many(count: int) -> BadEnvelope:
    return BadEnvelope(
        "too_many_points", f"{count} points are more than {MAX_POINTS}.", "Send batches of a few seconds."
    )


def read(data: Mapping[str, Any], *, received_at: dt.datetime) -> Envelope:
    """An envelope as plain values. BadEnvelope names what is wrong with the whole."""
    for name in data:
        if name not in ENVELOPE_FIELDS:
            raise BadEnvelope("unknown_field", f"`{name[:60]}` is no field of an envelope{_nearest(name) or '.'}")
    if data.get("schema") != SCHEMA:
        raise BadEnvelope("unknown_schema", f"`schema` must be {SCHEMA!r}.", "Send the version that is documented.")
    points, events = _list(data, "points", MAX_POINTS), _list(data, "events", MAX_EVENTS)
    point_reader, event_reader = _Reader(received_at), _Reader(received_at)
    first = next((item for item in points if isinstance(item, dict)), {})  # a thing that is no point decides nothing
    is_counted = first.get("device_ms") is not None
    taken = point_reader.read(points, lambda index, item: _point(index, item, is_counted, received_at))
    marks = event_reader.read(events, lambda index, item: _event(item, received_at))
    return Envelope(
        machine_id=_text(data, "machine_id", 40, is_needed=True),
        sequence=_sequence(data.get("sequence")),
        at=_envelope_time(data.get("at"), received_at),
        points=tuple(taken),
        events=tuple(marks),
        refused_points=tuple(point_reader.refusals),
        refused_events=tuple(event_reader.refusals),
        points_digest=canonical.digest(point_reader.forms),
        events_digest=canonical.digest(event_reader.forms),
        previous_digest=_digest(data, "previous_digest", 64),
        kid=_text(data, "kid", 40),
        signature=_digest(data, "signature", 128),
    )


def _nearest(name: str, known: Iterable[str] = ENVELOPE_FIELDS) -> str:
    found = difflib.get_close_matches(name[:60], sorted(known), n=1)
    return f"; did you mean `{found[0]}`?" if found else ""


def _list(data: Mapping[str, Any], name: str, most: int) -> list[Any]:
    value = data.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadEnvelope("malformed_body", f"`{name}` must be a list.")
    if len(value) > most:
        if name == "points":
            raise _too_many(len(value))
        raise BadEnvelope("too_many_events", f"{len(value)} events are more than {most}.")
    return value


def _text(data: Mapping[str, Any], name: str, most: int, *, is_needed: bool = False) -> str:
    value = data.get(name)
    if value is None and not is_needed:
        return ""
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or not len(value) <= most:
        raise BadEnvelope("bad_field", f"`{name}` must be text of at most {most} plain characters.")
    if is_needed and not value:
        raise BadEnvelope("bad_field", f"`{name}` is missing.")
    return value


def _digest(data: Mapping[str, Any], name: str, length: int) -> str:
    value = _text(data, name, length)
    if value and (len(value) != length or any(c not in "0123456789abcdef" for c in value)):
        raise BadEnvelope("bad_field", f"`{name}` must be {length} hex digits in lower case.")
    return value


def _sequence(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_SEQUENCE:
        raise BadEnvelope("bad_field", "`sequence` must be a whole number from 1, rising by one with every envelope.")
    return value


def _envelope_time(value: Any, received_at: dt.datetime) -> dt.datetime:
    try:
        return _time(value, received_at)[0]
    except _Refused as refusal:
        raise BadEnvelope("bad_field", f"`at`: {refusal.message}") from None


# --- points and events ---


def _time(value: Any, received_at: dt.datetime) -> tuple[dt.datetime, str]:
    """A time as UTC and in its canonical spelling."""
    if not isinstance(value, str) or not 16 <= len(value) <= 40:
        raise _Refused("bad_time", "a time is text such as 2026-11-21T07:30:00.250Z")
    try:
        at = dt.datetime.fromisoformat(value)
    except ValueError:
        raise _Refused("bad_time", f"{value!r} is not a time") from None
    if at.tzinfo is None:
        raise _Refused("bad_time", "a time needs its zone: end it with Z")
    try:
        at = at if at.tzinfo is dt.UTC else at.astimezone(dt.UTC)
    except (OverflowError, ValueError):
        raise _Refused("bad_time", f"{value!r} is out of range") from None
    if at < EARLIEST:
        raise _Refused("too_old", "a time before the year 2000 is a clock that was never set")
    if at > received_at + AHEAD_MAX:
        raise _Refused("in_the_future", "the time lies more than 10 minutes ahead of this server's clock")
    return at, at.isoformat(timespec="microseconds")[:-6] + "Z"


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Refused("not_a_number", f"{name} must be a number")
    low, high = NUMBERS[name]
    if not low <= value <= high:  # NaN is in no range
        raise _Refused("out_of_range", f"{name} must be from {low:g} to {high:g}")
    return float(value)


def _count(name: str, value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _Refused("not_a_number", f"{name} must be a whole number")
    low, high = COUNTS[name]
    if not low <= value <= high:
        raise _Refused("out_of_range", f"{name} must be from {low} to {high}")
    return value


def _point(index: int, item: Any, is_counted: bool, received_at: dt.datetime) -> tuple[Point, dict[str, Any]]:
    """One point and its canonical form. ``is_counted``: this envelope's points carry the device's own time."""
    if not isinstance(item, dict):
        if isinstance(item, _NotJson):
            raise _Refused("not_json", "the line is not JSON")
        _refuse_named_twice(item)
        raise _Refused("not_an_object", "a point must be an object")
    at, spelling = _time(item.get("at"), received_at)
    form: dict[str, Any] = {"at": spelling}
    for name, value in item.items():
        if value is None or name == "at":
            continue
        if name in NUMBERS:
            low, high = NUMBERS[name]
            # The plain case without a call: this runs ten thousand times a second.
            form[name] = value if type(value) is float and low <= value <= high else _number(name, value)
        elif name in COUNTS:
            low, high = COUNTS[name]
            form[name] = value if type(value) is int and low <= value <= high else _count(name, value)
        else:
            form[name] = _word(name, value)
    if form.keys() <= _SAYS_NOTHING:
        raise _Refused("empty_point", "the point says nothing but its time")
    device_ms = form.get("device_ms")
    if (device_ms is not None) is not is_counted:
        raise _Refused("mixed_times", "either all points of an envelope have device_ms, or none")
    if device_ms is None:
        device_ms = epoch_ms(at)
    return Point(index, at, device_ms, form), form


def _refuse_named_twice(item: Any) -> None:
    if isinstance(item, _NamedTwice):
        raise _Refused("name_twice", f"the name {item.name!r} stands twice in one object")


def epoch_ms(at: dt.datetime) -> int:
    """Milliseconds since 1970: device time where the sender has none of its own."""
    return round(at.timestamp() * 1000)


def _word(name: str, value: Any) -> Any:
    if name == "state":
        if not isinstance(value, str) or value not in STATES:
            raise _Refused("unknown_state", f"state must be one of {', '.join(sorted(STATES))}")
        return value
    if name == "quality":
        return _qualities(value)
    if name == "extras":
        return _extras(value)
    raise _Refused("unknown_field", f"{str(name)[:60]!r} is no field of a point{_nearest(str(name), POINT_FIELDS)}")


def _qualities(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > len(POINT_FIELDS):
        raise _Refused("bad_quality", "quality names fields that are stale or absent")
    for name, word in value.items():
        if name not in POINT_FIELDS or not isinstance(word, str) or word not in QUALITIES:
            raise _Refused("bad_quality", f"quality of a field is one of {', '.join(sorted(QUALITIES))}")
    return value


def _extras(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or len(value) > MAX_EXTRAS:
        raise _Refused("bad_extras", f"extras are at most {MAX_EXTRAS} named numbers and words")
    for name, extra in value.items():
        if not 1 <= len(name) <= MAX_NAME_CHARACTERS or not _is_clean(name) or name in POINT_FIELDS:
            raise _Refused("bad_extras", f"a name in extras has 1 to {MAX_NAME_CHARACTERS} characters and is no field")
        if isinstance(extra, str):
            if len(extra) > MAX_EXTRA_CHARACTERS or not _is_clean(extra):
                raise _Refused("bad_extras", f"a word in extras has at most {MAX_EXTRA_CHARACTERS} characters")
        elif isinstance(extra, bool) or not isinstance(extra, int | float):
            raise _Refused("bad_extras", "extras are numbers and words")
        elif abs(extra) >= 2**63 or not math.isfinite(extra):
            raise _Refused("bad_extras", "a number in extras is too large")
    return value


def _is_clean(text: str) -> bool:
    """No NUL and no half characters: a database takes neither."""
    return "\0" not in text and (text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text))


def _event(item: Any, received_at: dt.datetime) -> tuple[Event, dict[str, Any]]:
    """One event and its canonical form."""
    _refuse_named_twice(item)
    if not isinstance(item, dict):
        raise _Refused("not_an_object", "an event must be an object")
    for name in item:
        if name not in EVENT_FIELDS:
            raise _Refused("unknown_field", f"{name[:60]!r} is no field of an event{_nearest(name, EVENT_FIELDS)}")
    kind = item.get("kind")
    if not isinstance(kind, str) or kind not in EVENT_KINDS:
        raise _Refused("unknown_kind", f"kind must be one of {', '.join(sorted(EVENT_KINDS))}")
    source, text = item.get("source", "device"), item.get("text") or ""
    if not isinstance(source, str) or source not in EVENT_SOURCES:
        raise _Refused(
            "unknown_source", "source is device or inferred; a person marks with POST /v1/roasts/{id}/events"
        )
    if not isinstance(text, str) or len(text) > MAX_TEXT_CHARACTERS or not _is_clean(text):
        raise _Refused("bad_text", f"text has at most {MAX_TEXT_CHARACTERS} characters")
    confidence = item.get("confidence", 1.0)
    if isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0 <= confidence <= 1:
        raise _Refused("out_of_range", "confidence must be from 0 to 1")
    at, spelling = _time(item.get("at"), received_at)
    device_ms = None if item.get("device_ms") is None else _count("device_ms", item["device_ms"])
    form = {"kind": kind, "at": spelling, "source": source, "confidence": float(confidence)}
    if device_ms is not None:
        form["device_ms"] = device_ms
    if text:
        form["text"] = text
    return Event(kind, at, device_ms, source, float(confidence), text), form
