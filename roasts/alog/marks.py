"""Marks and button events of an Artisan log: row numbers in, seconds since charge out, and back. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from roasts.alog.columns import Columns
from roasts.curve import Mark, Marks
from roasts.formats.imported import MAX_SPECIAL_EVENTS, Findings, SpecialEvent

#: Artisan's eight marks in order; a second crack's end is a note with these words here.
SECOND_CRACK_END = "second crack end"
KINDS = (
    "charge",
    "dry_end",
    "first_crack_start",
    "first_crack_end",
    "second_crack_start",
    SECOND_CRACK_END,
    "drop",
    "cool_end",
)
#: Keys of ``anno_positions``: the places of the words Artisan drew at its marks, in the order it drew them first.
CHARGE_DRAWN, TURNING_POINT_DRAWN, DROP_DRAWN = 0, -1, 6
#: Where Artisan saw no turning point for so long after charge, its area (AUC) begins with the next reading.
UNSEEN_FOR_S = 120.0
DEFAULT_TYPES = ("Air", "Drum", "Damper", "Burner", "--")
UNTYPED = 4


@dataclass(frozen=True, slots=True)
class ReadMarks:
    """Marks by seconds since charge, and where the charge lies in the recording."""

    marks: Marks
    lead_in_s: float


def read_marks(fields: Mapping[str, Any], columns: Columns, found: Findings) -> ReadMarks:
    """The marks of ``timeindex``. Unset is −1 for the charge and 0 for the others; what is out of order falls away."""
    indices = (list(fields.get("timeindex", [])) + [-1] + [0] * 8)[: len(KINDS)] if fields.get("timeindex") else [-1]
    indices += [0] * (len(KINDS) - len(indices))
    is_set = [indices[0] >= 0] + [index > 0 for index in indices[1:]]
    times_s = _mark_times(indices, is_set, columns, found)
    lead_in_s = times_s[0]
    if lead_in_s is None:
        lead_in_s = 0.0
        found.warn("no charge is marked: times count from the start of the recording")
    marks: list[Mark] = []
    latest_s = -np.inf
    for kind, time_s in zip(KINDS, times_s, strict=True):
        if time_s is None:
            continue
        if time_s < latest_s or time_s < lead_in_s:
            found.warn(f"the mark {kind.replace('_', ' ')} lies before an earlier one and is left out")
            continue
        latest_s = time_s
        marks.append(_mark(kind, round(time_s - lead_in_s, 9)))
    if is_set[0] and not any(mark.kind == "drop" for mark in marks):
        found.know("no drop is marked")
    return ReadMarks(tuple(marks), lead_in_s)


def _mark(kind: str, elapsed_s: float) -> Mark:
    if kind == SECOND_CRACK_END:
        return Mark("note", elapsed_s, text=SECOND_CRACK_END)
    return Mark(kind, elapsed_s)


def _mark_times(
    indices: Sequence[int], is_set: Sequence[bool], columns: Columns, found: Findings
) -> list[float | None]:
    """Seconds since the start of the recording for each mark that is set."""
    chosen = [index for index, is_one in zip(indices, is_set, strict=True) if is_one]
    if chosen and max(chosen) >= columns.file_rows:
        return _marks_in_seconds(indices, is_set, columns, found)
    return [columns.time_of(index) if is_one else None for index, is_one in zip(indices, is_set, strict=True)]


def _marks_in_seconds(
    indices: Sequence[int], is_set: Sequence[bool], columns: Columns, found: Findings
) -> list[float | None]:
    """Some programs (Kaleido's templates) write seconds where row numbers belong: the nearest reading is meant."""
    first_s, last_s = float(columns.times_s[0]), float(columns.times_s[-1])
    chosen = [index for index, is_one in zip(indices, is_set, strict=True) if is_one]
    slack_s = float(np.max(np.diff(columns.times_s)))
    if any(not first_s - slack_s <= second <= last_s + slack_s for second in chosen):
        found.warn("some marks point beyond the recording and are left out")
        return [columns.time_of(index) if is_one else None for index, is_one in zip(indices, is_set, strict=True)]
    found.warn("the marks are given in seconds instead of row numbers: each is set to the nearest reading")
    return [
        float(columns.times_s[int(np.argmin(np.abs(columns.times_s - index)))]) if is_one else None
        for index, is_one in zip(indices, is_set, strict=True)
    ]


def area_begin_s(fields: Mapping[str, Any], columns: Columns, lead_in_s: float) -> float | None:
    """Seconds since charge at which the file's own AUC begins, where that is not its turning point; else None.

    Artisan names a turning point at once when it sees one while recording, and draws its word then. Where it sees none
    within two minutes a timer takes the reading of that moment instead (for roasters whose beans never turn), without a
    word; the word comes last, after the drop's, when the whole picture is drawn anew. Saved like that, the area counts
    from the timer's reading although `computed` names the true turning point (Artisan's published behaviour; 39 of 39
    real logs agree to the last digit of their areas: docs/curve.md). A file that was loaded and saved again has the
    word in its place, and its area counts from the turning point.
    """
    if fields.get("computed", {}).get("AUCbegin", "TP") != "TP":
        return None
    drawn = [entry[0] for entry in fields.get("anno_positions", []) if entry]
    if TURNING_POINT_DRAWN not in drawn or DROP_DRAWN not in drawn:
        return None
    turned, dropped = drawn.index(TURNING_POINT_DRAWN), drawn.index(DROP_DRAWN)
    # a charge that was marked anew draws both words again: then their order says nothing
    is_charge_moved = CHARGE_DRAWN in drawn and drawn.index(CHARGE_DRAWN) > dropped
    if turned < dropped or is_charge_moved:
        return None
    later_s = columns.times_s[columns.times_s - lead_in_s > UNSEEN_FOR_S]
    return round(float(later_s[0]) - lead_in_s, 9) if len(later_s) else None


def read_special_events(
    fields: Mapping[str, Any], columns: Columns, lead_in_s: float, found: Findings
) -> tuple[SpecialEvent, ...]:
    """Buttons and sliders pressed, by seconds since charge; values in Artisan's outer scale (0–100)."""
    rows, kinds = fields.get("specialevents", []), fields.get("specialeventstype", [])
    values, texts = fields.get("specialeventsvalue", []), fields.get("specialeventsStrings", [])
    names = fields.get("etypes") or DEFAULT_TYPES
    events: list[SpecialEvent] = []
    for place, row in enumerate(rows[:MAX_SPECIAL_EVENTS]):
        time_s = columns.time_of(row)
        if time_s is None:
            found.warn("some button events point beyond the recording and are left out")
            continue
        kind = kinds[place] if place < len(kinds) else UNTYPED
        events.append(
            SpecialEvent(
                elapsed_s=round(time_s - lead_in_s, 9),
                kind=names[kind] if 0 <= kind < min(UNTYPED, len(names)) else "",
                value=outer_value(values[place]) if place < len(values) else None,
                text=texts[place][:500] if place < len(texts) else "",
            )
        )
    if len(rows) > MAX_SPECIAL_EVENTS:
        found.warn(f"only the first {MAX_SPECIAL_EVENTS} of {len(rows)} button events are read")
    if events:
        found.know(f"{len(events)} button and slider events")
    return tuple(events)


def outer_value(inner: float) -> float | None:
    """Artisan keeps a slider's 70 as 8.0 (a tenth, plus one); 0 is no value."""
    if inner == 0:
        return None
    return round((inner - 1.0) * 10.0 if inner > 0 else (inner + 1.0) * 10.0, 6)


def inner_value(outer: float | None) -> float:
    """The inverse of `outer_value`."""
    if outer is None:
        return 0.0
    return outer / 10.0 + 1.0 if outer >= 0 else outer / 10.0 - 1.0
