"""Our own formats: one JSON object, or one line for the roast and one for each reading (NDJSON). Lossless. Pure.

``{"format": "roastops-roast/1", "metadata": …, "marks": […], "columns": {"elapsed_s": […], …}, …}``. Missing numbers
are null, times seconds since charge, temperatures °C. The lines' first object has everything but the columns, and the
format ``roastops-roast-lines/1``.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from roasts.alog.columns import check_rows
from roasts.alog.literal import BadLiteral, Literal, parse_literal, well_formed
from roasts.alog.schema import WrongType, number_of, text_of
from roasts.curve import Column, Curve, Mark
from roasts.formats.imported import (
    MAX_CHANNELS,
    MAX_ROWS,
    MAX_SPECIAL_EVENTS,
    Channel,
    Findings,
    ImportedRoast,
    Metadata,
    NoCurve,
    NotThisFormat,
    SpecialEvent,
    check_size,
    clock_words,
)

JSON_FORMAT = "roastops-roast/1"
LINES_FORMAT = "roastops-roast-lines/1"
MAX_LINE_CHARS = 20_000
MAX_MARKS = 500
COLUMNS = tuple(
    field.name
    for field in dataclasses.fields(Curve)
    if field.name not in ("elapsed_s", "state", "dry_end_c", "area_from_s")
)
KINDS = frozenset(
    """charge turning_point dry_end first_crack_start first_crack_end second_crack_start drop cool_end note""".split()
)
SOURCES = frozenset({"device", "inferred", "person"})
STATES = frozenset("off preheating stabilising charge roasting cooling shutdown unknown".split())
UNITS = frozenset({"c", "c_per_min", "number"})
#: What a number about a batch may be; what lies outside is a slip of whoever wrote the file, and is left out.
BOUNDS: dict[str, tuple[float, float]] = {
    "lead_in_s": (0.0, 86_400.0),
    "weight_in_g": (0.1, 1_000_000.0),
    "weight_out_g": (0.1, 1_000_000.0),
    "moisture_in_percent": (0.0, 100.0),
    "moisture_out_percent": (0.0, 100.0),
    "colour_whole": (0.0, 1000.0),
    "colour_ground": (0.0, 1000.0),
}
#: Of what Artisan alone knows only plain values come back; a file cannot make us hold more of them than this.
MAX_CARRIED = 400


def is_own(head: str) -> bool:
    """Whether a file with this beginning is one of ours, either kind."""
    return '"roastops-roast/' in head or '"roastops-roast-lines/' in head


def write_json(roast: ImportedRoast) -> bytes:
    """Everything, as one object."""
    columns = {"elapsed_s": _listed(roast.curve.elapsed_s)}
    for name in COLUMNS:
        column = getattr(roast.curve, name)
        if column is not None:
            columns[name] = _listed(column)
    whole = {"format": JSON_FORMAT, **_described(roast), "columns": columns}
    if roast.curve.state is not None:
        whole["states"] = list(roast.curve.state)
    whole["channels"] = [{**_channel(channel), "values": _listed(channel.values)} for channel in roast.channels]
    return _dumped(whole)


def write_lines(roast: ImportedRoast) -> bytes:
    """Everything, a line for the roast and one for each reading."""
    names = [name for name in COLUMNS if getattr(roast.curve, name) is not None]
    head = {"format": LINES_FORMAT, **_described(roast), "columns": names}
    head["channels"] = [_channel(channel) for channel in roast.channels]
    listed = {name: _listed(getattr(roast.curve, name)) for name in names}
    others = [_listed(channel.values) for channel in roast.channels]
    parts = [_dumped(head)]
    for row, elapsed_s in enumerate(_listed(roast.curve.elapsed_s)):
        line: dict[str, Any] = {"elapsed_s": elapsed_s}
        line |= {name: values[row] for name, values in listed.items() if values[row] is not None}
        if roast.curve.state is not None:
            line["state"] = roast.curve.state[row]
        if others:
            line["channels"] = [values[row] for values in others]
        parts.append(_dumped(line))
    return b"".join(parts)


def _dumped(value: Any) -> bytes:
    return (json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")) + "\n").encode("utf-8")


def _listed(column: Column) -> list[float | None]:
    return [float(value) if math.isfinite(value) else None for value in column]


def _channel(channel: Channel) -> dict[str, Any]:
    return {"name": channel.name, "unit": channel.unit, "device": channel.device, "slot": channel.slot}


def _described(roast: ImportedRoast) -> dict[str, Any]:
    """Metadata, marks and the rest; empty things are left out."""
    metadata = {name: value for name, value in dataclasses.asdict(roast.metadata).items() if value not in ("", None)}
    if roast.metadata.roasted_at is not None:
        metadata["roasted_at"] = roast.metadata.roasted_at.isoformat()
    described: dict[str, Any] = {
        "metadata": {name: well_formed(value) if isinstance(value, str) else value for name, value in metadata.items()},
        "marks": [dataclasses.asdict(mark) for mark in roast.marks],
        "special_events": [dataclasses.asdict(event) for event in roast.special_events],
        "computed": dict(roast.computed),
        "carried": dict(roast.carried),
        "dry_end_c": roast.curve.dry_end_c,
        "area_from_s": roast.curve.area_from_s,
    }
    return {name: value for name, value in described.items() if value not in (None, [], {})}


def read_json(data: bytes) -> ImportedRoast:
    """The roast in one object. FormatError where there is none."""
    check_size(data)
    whole = _parsed(data.decode("utf-8-sig", errors="replace"))
    if whole.get("format") != JSON_FORMAT:
        raise NotThisFormat(f"The file's format is not {JSON_FORMAT}.")
    columns = whole.get("columns")
    if not isinstance(columns, dict):
        raise NoCurve("The file has no columns.")
    listed = {name: _column(columns[name]) for name in ("elapsed_s", *COLUMNS) if name in columns}
    channels = [
        (entry, _column(entry.get("values")))
        for entry in _list(whole, "channels")[:MAX_CHANNELS]
        if isinstance(entry, dict)
    ]
    return _roast(whole, "json", listed, whole.get("states"), channels)


def _parsed(text: str) -> dict[str, Literal]:
    try:
        whole = parse_literal(text)
    except BadLiteral as error:
        raise NotThisFormat(f"The file is damaged: {error}.") from error
    if not isinstance(whole, dict):
        raise NotThisFormat("The file does not hold one roast.")
    return whole


def _list(whole: Mapping[str, Literal], name: str) -> list[Literal]:
    value = whole.get(name)
    return value if isinstance(value, list) else []


def _column(value: Literal) -> Column:
    """Numbers, null as missing; NoCurve for anything else."""
    if not isinstance(value, list) or len(value) > MAX_ROWS:
        raise NoCurve(f"A column is no list of at most {MAX_ROWS} numbers.", "Sample at 10 Hz at most.")
    if not set(map(type, value)) <= {int, float, type(None)}:
        raise NoCurve("A column holds something else than numbers and null.")
    column = np.array([math.nan if item is None else float(item) for item in value], dtype=np.float64)  # type: ignore[arg-type]
    return np.where(np.abs(column) < 1e12, column, np.nan)


def read_lines(data: bytes) -> ImportedRoast:
    """The roast in lines. FormatError where there is none."""
    check_size(data)
    lines = data.decode("utf-8-sig", errors="replace").split("\n")
    if len(lines) > MAX_ROWS + 2:
        raise NoCurve(f"The file has more than {MAX_ROWS} readings.", "Sample at 10 Hz at most.")
    head = _parsed(lines[0])
    if head.get("format") != LINES_FORMAT:
        raise NotThisFormat(f"The first line's format is not {LINES_FORMAT}.")
    rows = [_line(line, number) for number, line in enumerate(lines[1:], start=2) if line.strip()]
    names = [name for name in _list(head, "columns") if name in COLUMNS]
    listed = {str(name): _column([row.get(name) for row in rows]) for name in ("elapsed_s", *names)}
    states = [row.get("state") for row in rows]
    entries = [entry for entry in _list(head, "channels")[:MAX_CHANNELS] if isinstance(entry, dict)]
    channels = [
        (entry, _column([_nth(row.get("channels"), place) for row in rows])) for place, entry in enumerate(entries)
    ]
    return _roast(head, "ndjson", listed, states if any(states) else None, channels)


def _nth(values: Any, place: int) -> Any:
    return values[place] if isinstance(values, list) and place < len(values) else None


def _line(line: str, number: int) -> dict[str, Any]:
    """One reading. Lines are short, so that the library's own parser is bounded too."""
    if len(line) > MAX_LINE_CHARS:
        raise NotThisFormat(f"Line {number} has more than {MAX_LINE_CHARS} characters.")
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise NotThisFormat(f"Line {number} is not JSON.", "Every line is one JSON object.") from None
    if not isinstance(row, dict):
        raise NotThisFormat(f"Line {number} is not a JSON object.")
    return row


def _roast(
    whole: Mapping[str, Literal],
    format_name: str,
    listed: Mapping[str, Column],
    states: Literal,
    channels: Sequence[tuple[Mapping[str, Literal], Column]],
) -> ImportedRoast:
    """Columns of one length, rising times, and everything about them of its type."""
    found = Findings()
    if "elapsed_s" not in listed or "bean_temp_c" not in listed:
        raise NoCurve("The file has no elapsed_s or no bean_temp_c.")
    columns = [*listed.values(), *(values for _, values in channels)]
    check_rows(*columns)
    elapsed_s = listed["elapsed_s"]
    if len({len(column) for column in columns}) > 1:
        raise NoCurve("The columns have different lengths.")
    if not np.all(np.isfinite(elapsed_s)) or not np.all(np.diff(elapsed_s) > 0) or np.max(np.abs(elapsed_s)) > 86_400:
        raise NoCurve("The times do not rise, or leave the day.")
    named: Mapping[str, Any] = {name: listed[name] for name in COLUMNS if name in listed}
    curve = Curve(
        elapsed_s=elapsed_s,
        state=_states(states, len(elapsed_s)),
        dry_end_c=_number(whole, "dry_end_c"),
        area_from_s=_number(whole, "area_from_s"),
        **named,
    )
    found.know(f"{len(curve)} readings over {clock_words(float(elapsed_s[-1] - elapsed_s[0]))} min")
    found.know("columns: " + ", ".join(name.removesuffix("_c").replace("_", " ") for name in named))
    marks = tuple(mark for entry in _list(whole, "marks")[:MAX_MARKS] if (mark := _mark(entry, found)))
    found.know("marks: " + ", ".join(f"{mark.kind.replace('_', ' ')} {clock_words(mark.elapsed_s)}" for mark in marks))
    return ImportedRoast(
        format=format_name,
        curve=curve,
        marks=marks,
        metadata=_metadata(whole.get("metadata"), found),
        understood=tuple(found.understood),
        dropped=tuple(found.dropped),
        warnings=tuple(found.warnings),
        computed=_plain_values(whole.get("computed")),
        special_events=_events(whole, found),
        channels=tuple(_channel_of(entry, values) for entry, values in channels),
        carried=_plain_values(whole.get("carried")),
    )


def _states(states: Literal, rows: int) -> tuple[str, ...] | None:
    if not isinstance(states, list) or len(states) != rows:
        return None
    return tuple(state if isinstance(state, str) and state in STATES else "unknown" for state in states)


def _number(whole: Mapping[str, Literal], name: str) -> float | None:
    try:
        return number_of(whole.get(name))
    except WrongType:
        return None


def _text(entry: Mapping[str, Literal], name: str, length: int) -> str:
    try:
        return text_of(entry.get(name))[:length]
    except WrongType:
        return ""


def _mark(entry: Literal, found: Findings) -> Mark | None:
    if not isinstance(entry, dict):
        return None
    elapsed_s, confidence = _number(entry, "elapsed_s"), _number(entry, "confidence")
    kind, source = _text(entry, "kind", 30), _text(entry, "source", 10)
    if kind not in KINDS or source not in SOURCES or elapsed_s is None or abs(elapsed_s) > 86_400:
        found.warn("a mark that makes no sense is left out")
        return None
    confidence = 1.0 if confidence is None else min(1.0, max(0.0, confidence))
    return Mark(kind, elapsed_s, source, confidence, _text(entry, "text", 500))


def _events(whole: Mapping[str, Literal], found: Findings) -> tuple[SpecialEvent, ...]:
    events = []
    for entry in _list(whole, "special_events")[:MAX_SPECIAL_EVENTS]:
        elapsed_s = _number(entry, "elapsed_s") if isinstance(entry, dict) else None
        if isinstance(entry, dict) and elapsed_s is not None and abs(elapsed_s) <= 86_400:
            events.append(
                SpecialEvent(elapsed_s, _text(entry, "kind", 100), _number(entry, "value"), _text(entry, "text", 500))
            )
    if events:
        found.know(f"{len(events)} button and slider events")
    return tuple(events)


def _channel_of(entry: Mapping[str, Literal], values: Column) -> Channel:
    unit, device, slot = _text(entry, "unit", 20), _number(entry, "device"), _number(entry, "slot")
    return Channel(
        name=_text(entry, "name", 100) or "channel",
        values=values,
        unit=unit if unit in UNITS else "number",
        device=int(device) if device is not None and abs(device) < 10_000 else None,
        slot=2 if slot == 2 else 1,
    )


def _metadata(value: Literal, found: Findings) -> Metadata:
    """Known fields of the right type."""
    if not isinstance(value, dict):
        return Metadata()
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(Metadata):
        if field.name not in value:
            continue
        if field.name == "roasted_at":
            fields["roasted_at"] = _moment(value["roasted_at"], found)
            continue
        try:
            read = text_of if isinstance(field.default, str) else number_of
            fields[field.name] = _bounded(field.name, read(value[field.name]))
        except WrongType as error:
            found.drop(f"{field.name}: {error}")
    return Metadata(**fields)


def _bounded(name: str, value: str | float) -> str | float:
    """The value; WrongType for a number that no batch can have."""
    low, high = BOUNDS.get(name, (-math.inf, math.inf))
    if not isinstance(value, str) and not low <= value <= high:
        raise WrongType("a number out of range")
    return value


def _moment(value: Literal, found: Findings) -> dt.datetime | None:
    try:
        at = dt.datetime.fromisoformat(str(value)[:40])
    except ValueError:
        found.warn("the date of the roast cannot be read")
        return None
    at = at if at.tzinfo else at.replace(tzinfo=dt.UTC)
    return at if 1980 <= at.year < 2100 else None


def _plain_values(value: Literal) -> dict[str, Any]:
    """Numbers, text, and lists of them, by name: what a writer may put back."""
    if not isinstance(value, dict):
        return {}
    items = list(value.items())[:MAX_CARRIED]
    return {name: item for name, item in items if not isinstance(item, dict) and _may_be_written(item)}


def _may_be_written(item: Literal) -> bool:
    """Whether every number in it is one: JSON spells 1e999, and neither JSON nor a Python literal can give it back."""
    if isinstance(item, list):
        return all(map(_may_be_written, item))
    if isinstance(item, dict):
        return all(map(_may_be_written, item.values()))
    return not isinstance(item, float) or math.isfinite(item)
