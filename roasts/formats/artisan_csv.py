"""Artisan's tab-separated export: mm:ss rows, ET and BT, marks in the first row, extra channels by name. Pure.

Row 1 ``Date:dd.MM.yyyy, Unit:, CHARGE: … COOL:, Time:``; row 2 ``Time1, Time2, ET, BT, Event`` and further names;
Time1 counts from the start of the recording, Time2 from charge, and there is one row per second, so that what was
sampled faster loses its fractions. A Bullet's channels carry Artisan's names and scale (settings times ten).
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from roasts.alog.columns import HEATER_FAN, RATE_DRUM, STATE_RPM, VIRTUAL_DEVICE, VOLTAGE_EXHAUST
from roasts.alog.literal import Literal
from roasts.alog.marks import KINDS
from roasts.alog.reading import roast_of
from roasts.alog.writing import log_of
from roasts.formats.imported import MAX_ROWS, Findings, ImportedRoast, NoCurve, NotThisFormat, check_size
from roasts.formats.tables import cells_of, clock, number_in, plain, seconds_in, text_lines

#: Artisan's names of the eight marks in row 1 and in the Event column (TP is counted, not marked).
MARKS = ("CHARGE", "DRYe", "FCs", "FCe", "SCs", "SCe", "DROP", "COOL")
EVENT_WORDS = ("Charge", "Dry End", "FCs", "FCe", "SCs", "SCe", "Drop", "Cool End")
FIXED = ("Time1", "Time2", "ET", "BT", "Event")
#: A Bullet's channels by Artisan's names: where they stand in a log.
BULLET = {
    "heater": (HEATER_FAN, 1), "fan": (HEATER_FAN, 2), "bt ror": (RATE_DRUM, 1), "drum": (RATE_DRUM, 2),
    "voltage": (VOLTAGE_EXHAUST, 1), "exhaust": (VOLTAGE_EXHAUST, 2),
    "state": (STATE_RPM, 1), "fan rpm": (STATE_RPM, 2),
}  # fmt: skip
#: So many of these names together make the machine a Bullet.
BULLET_AT_LEAST = 4
HEADER_WITHIN = 5


def is_artisan_csv(head: str) -> bool:
    """Whether a file that begins so is one."""
    return "Time1\tTime2" in head


def read_artisan_csv(data: bytes) -> ImportedRoast:
    """The roast in the table. FormatError where there is none."""
    check_size(data)
    found = Findings()
    lines = text_lines(data)
    header_row = next((row for row, line in enumerate(lines[:HEADER_WITHIN]) if line.startswith("Time1\t")), None)
    if header_row is None:
        raise NotThisFormat("The file has no row 'Time1 … Time2 … ET … BT', as Artisan's CSV has.")
    names = cells_of(lines[header_row], "\t")
    first = dict(_pair(cell) for cell in cells_of(lines[header_row - 1], "\t")) if header_row else {}
    rows = [cells_of(line, "\t") for line in lines[header_row + 1 :] if line.strip()]
    log = _log(names, first, rows, found)
    return roast_of(log, found, format_name="artisan-csv")


def _pair(cell: str) -> tuple[str, str]:
    name, _, value = cell.partition(":")
    return name.strip(), value.strip()


def _log(names: Sequence[str], first: dict[str, str], rows: Sequence[list[str]], found: Findings) -> dict[str, Literal]:
    """The table as a log's dictionary."""
    place = {name: column for column, name in reversed(list(enumerate(names)))}
    if "BT" not in place:
        raise NoCurve("The table has no column BT.")
    kept = [row for row in rows if len(row) > place["BT"] and seconds_in(row[0]) is not None]
    if len(kept) < len(rows):
        found.warn(f"{len(rows) - len(kept)} rows without a time are left out")
    if len(kept) > MAX_ROWS:
        raise NoCurve(f"The table has more than {MAX_ROWS} rows.", "Sample at 10 Hz at most.")
    times_s = [float(seconds_in(row[0]) or 0.0) for row in kept]
    log: dict[str, Any] = {
        "mode": "F" if first.get("Unit", "C").upper().startswith("F") else "C",
        "timex": times_s,
        "temp1": _column(kept, place["ET"]) if "ET" in place else [-1.0] * len(kept),
        "temp2": _column(kept, place["BT"]),
        "timeindex": _time_index(first, kept, place.get("Event"), times_s),
    }
    log |= _date(first, found)
    return log | _extras(names, kept, times_s)


def _column(rows: Sequence[list[str]], column: int) -> list[float]:
    return [number_in(row[column]) if column < len(row) else math.nan for row in rows]


def _time_index(
    first: dict[str, str], rows: Sequence[list[str]], event_column: int | None, times_s: Sequence[float]
) -> list[int]:
    """Marks by the Event column, else by row 1's times since the start of the recording."""
    indices = [-1] + [0] * (len(KINDS) - 1)
    words = {word.lower(): place for place, word in enumerate(EVENT_WORDS)}
    if event_column is not None:
        for row, cells in enumerate(rows):
            place = words.get(cells[event_column].lower()) if event_column < len(cells) else None
            if place is not None:
                indices[place] = row
    for place, name in enumerate(MARKS):
        seconds = seconds_in(first.get(name, ""))
        is_unset = indices[place] == (-1 if place == 0 else 0)
        if is_unset and seconds is not None and (seconds > 0 or place == 0) and times_s:
            indices[place] = int(np.argmin(np.abs(np.asarray(times_s) - seconds)))
    return indices


def _date(first: dict[str, str], found: Findings) -> dict[str, Any]:
    """Day and time of the roast; the zone is not in the file."""
    if not first.get("Date"):
        return {}
    try:
        day = dt.datetime.strptime(first["Date"], "%d.%m.%Y").replace(tzinfo=dt.UTC).date()
    except ValueError:
        found.warn("the date of the roast cannot be read")
        return {}
    return {"roastisodate": day.isoformat(), "roasttime": first.get("Time", "")}


def _extras(names: Sequence[str], rows: Sequence[list[str]], times_s: Sequence[float]) -> dict[str, Any]:
    """Columns after Event as extra devices; a Bullet's by their names."""
    further = [(column, name) for column, name in enumerate(names) if column > 3 and name not in FIXED]
    is_bullet = sum(name.lower() in BULLET for _, name in further) >= BULLET_AT_LEAST
    absent = [-1.0] * len(rows)
    devices: dict[int, dict[int, tuple[str, list[float]]]] = {}
    others: list[tuple[str, list[float]]] = []
    for column, name in further:
        values = _column(rows, column)
        if is_bullet and name.lower() in BULLET:
            device, slot = BULLET[name.lower()]
            devices.setdefault(device, {})[slot] = (name, values)
        else:
            others.append((name, values))
    listed = [(device, slots.get(1), slots.get(2)) for device, slots in devices.items()]
    listed += [(VIRTUAL_DEVICE, other, None) for other in others]
    fields: dict[str, Any] = {"extradevices": [device for device, _, _ in listed]}
    for which in (1, 2):
        slots = [entry[which] for entry in listed]
        fields[f"extraname{which}"] = [slot[0] if slot else "" for slot in slots]  # type: ignore[index]
        fields[f"extratemp{which}"] = [slot[1] if slot else absent for slot in slots]  # type: ignore[index]
    return fields | {"extratimex": [list(times_s)] * len(listed)}


def write_artisan_csv(roast: ImportedRoast) -> bytes:
    """The table that Artisan imports. One row per second: the format holds no more."""
    log = log_of(roast)
    times_s = log["timex"]
    charge = log["timeindex"][0]
    charge_s = times_s[charge] if charge >= 0 else 0.0
    shown = _distinct_seconds(times_s, set(log["timeindex"]))
    extras = [
        (name, column)
        for names, columns in zip(_by_device(log, "extraname"), _by_device(log, "extratemp"), strict=True)
        for name, column in zip(names, columns, strict=True)
        if name
    ]
    lines = ["\t".join(_first_row(roast, log, times_s)), "\t".join([*FIXED, *(plain(name) for name, _ in extras)])]
    words = {
        row: EVENT_WORDS[place] for place, row in enumerate(log["timeindex"]) if row > 0 or (place == 0 and row == 0)
    }
    for row in shown:
        time2 = clock(times_s[row] - charge_s) if charge >= 0 and times_s[row] >= charge_s else ""
        cells = [clock(times_s[row]), time2, _figure(log["temp1"][row]), _figure(log["temp2"][row]), words.get(row, "")]
        lines.append("\t".join(cells + [_figure(column[row]) for _, column in extras]))
    return ("\n".join(lines) + "\n").encode("utf-8")


def _by_device(log: dict[str, Any], name: str) -> list[tuple[Any, Any]]:
    count = len(log.get("extradevices", []))
    ones, twos = log.get(f"{name}1", [""] * count), log.get(f"{name}2", [""] * count)
    own = _OWN_NAMES if name == "extraname" else {}
    return [
        own.get(device, (one, two)) for device, one, two in zip(log.get("extradevices", []), ones, twos, strict=True)
    ]


#: Names in Artisan's table; the log's own may hold its placeholders ({3} for the fourth slider).
_OWN_NAMES = {
    HEATER_FAN: ("Heater", "Fan"), RATE_DRUM: ("BT RoR", "Drum"),
    VOLTAGE_EXHAUST: ("Voltage", "Exhaust"), STATE_RPM: ("State", "Fan RPM"),
}  # fmt: skip


def _first_row(roast: ImportedRoast, log: dict[str, Any], times_s: Sequence[float]) -> list[str]:
    at = roast.metadata.roasted_at
    marks = [
        f"{name}:{clock(times_s[row]) if row > 0 or row == place else ''}"
        for place, (name, row) in enumerate(zip(MARKS, log["timeindex"], strict=True))
    ]
    date = f"Date:{at:%d.%m.%Y}" if at else "Date:"
    return [date, "Unit:C", marks[0], "TP:", *marks[1:], f"Time:{at:%H:%M:%S}" if at else "Time:"]


def _distinct_seconds(times_s: Sequence[float], marked: set[int]) -> list[int]:
    """One row per whole second: a marked one where there is one, else the first."""
    chosen: dict[int, int] = {}
    for row, time_s in enumerate(times_s):
        second = math.floor(time_s + 0.5)
        if second not in chosen or (row in marked and chosen[second] not in marked):
            chosen[second] = row
    return sorted(chosen.values())


def _figure(value: float) -> str:
    """A number with as many places as it has; Artisan's −1 for a missing one."""
    return f"{value:.6f}".rstrip("0").rstrip(".") if value != -1.0 else "-1"
