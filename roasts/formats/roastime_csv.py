"""RoasTime's CSV report: metadata, milestones, then one row per second. Pure.

Milestone indices count at the machine's 2 Hz while the rows are one second apart (index 1012 stands beside 8:26): the
times are believed, the indices are not (reference/bullet-and-alog.md §4.4).
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roasts.formats.imported import MAX_ROWS, Findings, ImportedRoast, NoCurve, NotThisFormat, check_size
from roasts.formats.roastime import CONTROLS, dictionary_of, roast_of
from roasts.formats.tables import cells_of, clock, number_in, plain, seconds_in, text_lines

HEADER = (
    "Timeline", "Index", "Time", "IBTS Temp", "Bean Probe Temp", "IBTS ROR", "Bean Probe ROR",
    "Power Setting", "Drum Setting", "Fan Setting",
)  # fmt: skip
#: Our name of a column → what its heading begins with, in small letters.
COLUMNS = {
    "drumTemperature": "ibts temp", "beanTemperature": "bean probe temp", "ibtsDerivative": "ibts ror",
    "beanDerivative": "bean probe ror", "power": "power", "drum": "drum", "fan": "fan", "time": "time",
}  # fmt: skip
ACTIONS = {"power": 0, "fan": 1, "drum": 2}
#: What a milestone's row begins with → fields of its start and its end.
BLOCKS = (
    (("1st crack", "first crack"), "indexFirstCrackStart", "indexFirstCrackEnd"),
    (("2nd crack", "second crack"), "indexSecondCrackStart", "indexSecondCrackEnd"),
    (("yellowing", "drying"), "indexYellowingStart", ""),
)
LABELS = {
    "green weight": "weightGreen", "weight green": "weightGreen", "roasted weight": "weightRoasted",
    "weight roasted": "weightRoasted", "ambient": "ambient", "humidity": "humidity", "preheat": "preheatTemperature",
    "roast number": "roastNumber",
}  # fmt: skip
_DATE = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})")


def is_roastime_csv(head: str) -> bool:
    """Whether a text with this beginning is one."""
    return "Timeline," in head and ("IBTS" in head or "Bean Probe" in head)


def read_roastime_csv(data: bytes) -> ImportedRoast:
    """The roast in the report. FormatError where there is none."""
    check_size(data)
    found = Findings()
    lines = text_lines(data)
    header = next((row for row, line in enumerate(lines) if line.lower().startswith("timeline,")), None)
    if header is None:
        raise NotThisFormat("The report has no Timeline.")
    above = [cells_of(line, ",") for line in lines[:header][:500]]
    roast = _timeline(cells_of(lines[header], ","), lines[header + 1 :])
    rate_hz = roast["sampleRate"]
    for name, seconds in _milestones(above).items():
        roast[name] = round(seconds * rate_hz) + 1
    found.know("milestones by their times: their indices count twice a second, the rows do not")
    roast["roastStartIndex"] = 1
    roast["roastEndIndex"] = len(roast.pop("time"))
    for name in ACTIONS:
        roast.pop(name, None)
    roast |= _described(above, found)
    return roast_of(roast, found, format_name="roastime-csv")


def _timeline(header: Sequence[str], lines: Sequence[str]) -> dict[str, Any]:
    """Columns of the rows up to the first empty line, and the settings as changes."""
    places = {
        name: next((column for column, title in enumerate(header) if column and title.lower().startswith(start)), None)
        for name, start in COLUMNS.items()
    }
    at = places["time"]
    if at is None:
        raise NoCurve("The timeline has no column Time.")
    rows = []
    for line in lines[: MAX_ROWS + 1]:
        cells = cells_of(line, ",")
        if at >= len(cells) or seconds_in(cells[at]) is None:
            break
        rows.append(cells)
    if len(rows) < 2:
        raise NoCurve("The timeline has fewer than two rows.")
    roast: dict[str, Any] = {
        name: [number_in(cells[column]) if column < len(cells) else math.nan for cells in rows]
        for name, column in places.items()
        if column is not None and name != "time"
    }
    roast["time"] = [seconds_in(cells[at]) for cells in rows]
    steps = np.diff(np.array(roast["time"], dtype=np.float64))
    step_s = float(np.median(steps[steps > 0])) if np.any(steps > 0) else 1.0
    roast["sampleRate"] = 1.0 / step_s
    roast["actions"] = {"actionTimeList": _changes(roast)}
    return roast


def _changes(roast: dict[str, Any]) -> list[dict[str, float]]:
    changes = []
    for name, kind in ACTIONS.items():
        previous = math.nan
        for row, value in enumerate(roast.get(name, [])):
            if not math.isnan(value) and value != previous:
                changes.append({"ctrlType": kind, "index": row + 1, "value": value})
                previous = value
    return changes


def _milestones(above: Sequence[Sequence[str]]) -> dict[str, float]:
    """Seconds since charge by field: below a block's title stand headings, below them the values."""
    found: dict[str, float] = {}
    for row, cells in enumerate(above):
        block = next((block for block in BLOCKS if cells and cells[0].lower().startswith(block[0])), None)
        if block is None:
            continue
        for heading_row in range(row, min(row + 2, len(above))):
            columns = [column for column, cell in enumerate(above[heading_row]) if "time" in cell.lower()]
            if columns:
                values = above[heading_row + 1] if heading_row + 1 < len(above) else []
                for field, column in zip(block[1:], columns, strict=False):
                    seconds = seconds_in(values[column]) if column < len(values) else None
                    if field and seconds is not None and 0 < seconds < 86_400:
                        found[field] = seconds
                break
    return found


def _described(above: Sequence[Sequence[str]], found: Findings) -> dict[str, Any]:
    """Title, date and bean stand alone in the first rows; further values beside their label."""
    fields: dict[str, Any] = {}
    alone: list[str] = []
    for cells in above:
        label = cells[0].strip(": ").lower() if cells else ""
        name = next((field for start, field in LABELS.items() if label.startswith(start)), None)
        values = [value for value in map(number_in, cells[1:]) if not math.isnan(value)]
        if name and values:
            fields[name] = values[0]
        elif cells and cells[0] and not any(cells[1:]) and label != "milestones" and not label.startswith("timeline"):
            alone.append(cells[0])
    dates = [text for text in alone if _DATE.fullmatch(text)]
    words = [text for text in alone if not _DATE.fullmatch(text)]
    if words:
        fields["roastName"] = words[0]
        fields["beanName"] = words[1] if len(words) > 1 else ""
    if dates:
        day, month, year = (int(part) for part in _DATE.fullmatch(dates[0]).groups())  # type: ignore[union-attr]
        try:
            fields["dateTime"] = dt.datetime(year, month, day, tzinfo=dt.UTC).timestamp() * 1000
        except ValueError:
            found.warn("the date of the roast cannot be read")
    return fields


def write_roastime_csv(roast: ImportedRoast) -> bytes:
    """The report, one row per second from charge to drop, even where that is marked after the last reading."""
    fields = dictionary_of(roast, rate_hz=1.0)
    start = fields["roastStartIndex"] - 1
    end = fields["roastEndIndex"] or len(fields.get("beanTemperature", fields.get("drumTemperature", [])))
    figures = [fields.get(name, []) for name in list(COLUMNS)[:4]]
    steps = _held_steps(fields)
    rows = _head(roast, fields, start)
    for row in range(start, end):
        cells = [f"{column[row]:.2f}" if row < len(column) else "" for column in figures]
        held = steps[:, row] if row < steps.shape[1] else np.full(len(steps), np.nan)
        settings = [f"{held[kind]:g}" if np.isfinite(held[kind]) else "" for kind in (0, 2, 1)]
        rows.append(["", str(row - start), _short(row - start), *cells, *settings])
    return "".join(",".join(_quoted(cell) for cell in row) + "\n" for row in rows).encode("utf-8")


def _head(roast: ImportedRoast, fields: dict[str, Any], start: int) -> list[list[str]]:
    """Metadata, milestones, and the heading of the timeline."""
    metadata = roast.metadata
    rows = [[plain(metadata.title) or "Roast"], [f"{metadata.roasted_at:%d/%m/%Y}" if metadata.roasted_at else ""]]
    rows.append([plain(metadata.bean)])
    weights = (("Green Weight", metadata.weight_in_g), ("Roasted Weight", metadata.weight_out_g))
    rows += [[label, f"{grams:g}"] for label, grams in weights if grams]
    rows += [[], ["Milestones"]]
    for title, first, last in (("1st Crack", *BLOCKS[0][1:]), ("2nd Crack", *BLOCKS[1][1:])):
        rows += [[title, "Start", "", "", "End"], ["", "Index", "Time", "", "Index", "Time"]]
        rows += [["", *_milestone(fields[first], start), "", *_milestone(fields[last], start)], []]
    rows += [["Yellowing", "Start index", "Start time"], ["", *_milestone(fields["indexYellowingStart"], start)]]
    return [*rows, [], list(HEADER)]


def _quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if any(letter in cell for letter in ',"') else cell


def _short(seconds: int) -> str:
    return clock(seconds).removeprefix("0")


def _milestone(index: int, start: int) -> list[str]:
    """Index at 2 Hz and time, or dashes."""
    seconds = index - 1 - start
    return [str(seconds * 2), _short(seconds)] if index else ["-", "-"]


def _held_steps(fields: dict[str, Any]) -> NDArray[np.float64]:
    """Power, fan and drum at each row: what was set last."""
    rows = len(fields.get("beanTemperature", fields.get("drumTemperature", [])))
    held = np.full((len(CONTROLS), rows), np.nan)
    for action in fields.get("actions", {}).get("actionTimeList", []):
        held[int(action["ctrlType"]), int(action["index"]) - 1 :] = action["value"]
    return held
