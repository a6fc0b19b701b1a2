"""Artisan's ``.alog``: a dictionary literal (or JSON) in, an `ImportedRoast` out, and back. Pure.

Facts of the format: reference/bullet-and-alog.md §4. Nothing in a file is executed or followed: programs, paths and
alarms fall away and are named. Temperatures become °C, seconds count from charge; a Bullet's channels (devices 84–87,
settings times ten) become steps, and its infrared eye is recognised whichever column holds it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from roasts.alog import marks as alog_marks
from roasts.alog import metadata as alog_metadata
from roasts.alog.columns import Columns, read_columns
from roasts.alog.literal import BadLiteral, Literal, parse_literal
from roasts.alog.schema import ALARM_FIELDS, FIELDS, NEVER_HONOURED, SIGNED_FIELDS, WrongType, checked
from roasts.formats.imported import (
    Findings,
    FormatError,
    ImportedRoast,
    NoCurve,
    NotThisFormat,
    TooLarge,
    check_size,
    clock_words,
)


class AlogError(FormatError):
    """The bytes are no roast that Artisan could have written. The only error of `read_alog`."""

    code = "unreadable_alog"


#: Read into curve, marks and metadata: everything else of the right type is carried along.
_READ_ELSEWHERE = frozenset(
    """timex temp1 temp2 extratemp1 extratemp2 timeindex specialevents specialeventstype specialeventsvalue
    specialeventsStrings computed mode""".split()
)


def read_alog(data: bytes) -> ImportedRoast:
    """The roast in the file. AlogError, and nothing else, for any bytes that hold none."""
    try:
        return _read(data)
    except AlogError:
        raise
    except (TooLarge, NotThisFormat, NoCurve) as error:
        wrapped = AlogError(error.message, error.how_to_fix)
        wrapped.code = error.code
        raise wrapped from error


def _read(data: bytes) -> ImportedRoast:
    check_size(data)
    found = Findings()
    return roast_of(_dictionary(data, found), found, format_name="alog")


def roast_of(log: Mapping[str, Literal], found: Findings, *, format_name: str) -> ImportedRoast:
    """The roast of a log's dictionary, whichever file it was written in. NoCurve where it holds none."""
    fields = _typed(log, found)
    is_fahrenheit = fields.get("mode") == "F"
    if is_fahrenheit:
        found.know("temperatures in °F, converted to °C")
    columns = read_columns(log, fields, found, is_fahrenheit=is_fahrenheit)
    marks = alog_marks.read_marks(fields, columns, found)
    curve = dataclasses.replace(
        columns.since(marks.lead_in_s, dry_end_c=alog_metadata.dry_end_c(fields, is_fahrenheit=is_fahrenheit)),
        area_from_s=alog_marks.area_begin_s(fields, columns, marks.lead_in_s),
    )
    events = alog_marks.read_special_events(fields, columns, marks.lead_in_s, found)
    metadata = alog_metadata.read_metadata(fields, found, lead_in_s=marks.lead_in_s, is_fahrenheit=is_fahrenheit)
    _say_what_was_read(found, columns, marks)
    return ImportedRoast(
        format=format_name,
        curve=curve,
        marks=marks.marks,
        metadata=metadata,
        understood=tuple(found.understood),
        dropped=tuple(found.dropped),
        warnings=tuple(found.warnings),
        computed=alog_metadata.computed_in_celsius(fields.get("computed", {}), is_fahrenheit=is_fahrenheit),
        special_events=events,
        channels=columns.channels,
        carried=_carried(fields, columns, is_fahrenheit=is_fahrenheit),
    )


def _dictionary(data: bytes, found: Findings) -> dict[str, Literal]:
    """The file's one dictionary. As in Artisan, the first character decides whether it is a log at all."""
    text = data.decode("utf-8-sig", errors="replace")
    if "\ufffd" in text and b"\xef\xbf\xbd" not in data:
        found.warn("some letters are not UTF-8 and are shown as \ufffd")
    if not text.lstrip().startswith("{"):
        raise NotThisFormat("The file does not begin like an Artisan log (a dictionary).")
    try:
        parsed = parse_literal(text)
    except BadLiteral as error:
        raise AlogError(f"The file is damaged or no Artisan log: {error}.") from error
    if not isinstance(parsed, dict):
        raise NotThisFormat("The file does not hold one dictionary.")
    return parsed


def _typed(log: Mapping[str, Literal], found: Findings) -> dict[str, Any]:
    """The fields that are of the format's types, and may be honoured. What falls away is named."""
    fields: dict[str, Any] = {}
    for name, value in log.items():
        if name in NEVER_HONOURED:
            if value:
                found.drop(f"{name} ({NEVER_HONOURED[name]}): never taken from a file")
        elif name in ALARM_FIELDS or name in SIGNED_FIELDS:
            continue
        elif name not in FIELDS:
            found.drop(f"{_shown(name)}: not a field of Artisan's format")
        elif name in ("timex", "temp1", "temp2", "extratimex", "extratemp1", "extratemp2"):
            continue  # columns: read by themselves, entry by entry
        else:
            try:
                fields[name] = checked(name, value)
            except WrongType as error:
                found.drop(f"{name}: {error}")
    if any(log.get(name) for name in ALARM_FIELDS):
        found.drop("alarms: they would act on a machine")
    if any(log.get(name) for name in SIGNED_FIELDS):
        found.drop("signature and hash: true of Artisan's own file only")
    return fields


def _shown(name: str) -> str:
    return "".join(letter for letter in name[:40] if letter.isprintable()) or "a nameless field"


def _carried(fields: Mapping[str, Any], columns: Columns, *, is_fahrenheit: bool) -> dict[str, Any]:
    """Fields that only Artisan knows. What is laid out in °F would be wrong beside temperatures in °C."""
    left = _READ_ELSEWHERE | (alog_metadata.IN_DEGREES if is_fahrenheit else frozenset())
    kept = {name: value for name, value in fields.items() if name not in left}
    if is_fahrenheit and len(fields.get("phases", [])) == 4:
        kept["phases"] = [round((entry - 32) * 5 / 9) for entry in fields["phases"]]
    if columns.extra_times_s:
        kept["extratimex"] = columns.extra_times_s
    return kept


def _say_what_was_read(found: Findings, columns: Columns, marks: alog_marks.ReadMarks) -> None:
    times_s = columns.times_s
    rows = len(times_s)
    length = clock_words(float(times_s[-1] - times_s[0]))
    every_s = float(np.median(np.diff(times_s))) if rows > 1 else 0.0
    found.understood.insert(0, f"{rows} readings over {length} min, one every {every_s:.1f} s")
    if marks.marks:
        named = [f"{mark.text or mark.kind.replace('_', ' ')} {clock_words(mark.elapsed_s)}" for mark in marks.marks]
        found.know(f"marks: {', '.join(named)}")
