"""Rows of text files, split within bounds. Pure."""

from __future__ import annotations

import csv
import math
import re

from roasts.formats.imported import MAX_ROWS, NoCurve, NotThisFormat

MAX_CELLS = 200
MAX_LINE_CHARS = 20_000
#: Lines of metadata and marks above and below the readings.
MAX_OTHER_LINES = 1_000
_CLOCK = re.compile(r"(-)?(?:(\d{1,3}):)?(\d{1,4}):(\d{1,2}(?:\.\d{1,6})?)")
_NUMBER = re.compile(r"[+-]?(?:\d{1,15}(?:\.\d{0,15})?|\.\d{1,15})(?:[eE][+-]?\d{1,2})?")


def text_lines(data: bytes) -> list[str]:
    """The file's lines; NotThisFormat where one is longer, or there are more of them, than any export writes."""
    text = data.decode("utf-8-sig", errors="replace")
    if text.count("\n") + text.count("\r") > 2 * (MAX_ROWS + MAX_OTHER_LINES):
        raise NoCurve(f"The file has more than {MAX_ROWS} rows.", "Sample at 10 Hz at most.")
    lines = re.split(r"\r\n|\n|\r", text)
    if any(len(line) > MAX_LINE_CHARS for line in lines):
        raise NotThisFormat(f"A line has more than {MAX_LINE_CHARS} characters.")
    return lines


def cells_of(line: str, delimiter: str) -> list[str]:
    """One line's cells, quotes undone."""
    if line.count(delimiter) > MAX_CELLS:
        raise NotThisFormat(f"A line has more than {MAX_CELLS} cells.")
    if '"' not in line:
        return [cell.strip() for cell in line.split(delimiter)]
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter))]
    except (csv.Error, StopIteration):
        return [cell.strip(' "') for cell in line.split(delimiter)]


def number_in(cell: str) -> float:
    """The cell's number, NaN where it holds none."""
    return float(cell) if _NUMBER.fullmatch(cell) else math.nan


def seconds_in(cell: str) -> float | None:
    """``8:26``, ``1:08:26``, ``-0:30`` or plain seconds; None for anything else."""
    found = _CLOCK.fullmatch(cell)
    if found is None:
        number = number_in(cell)
        return None if math.isnan(number) else number
    sign, hours, minutes, seconds = found.groups()
    total_s = int(hours or 0) * 3600 + int(minutes) * 60 + float(seconds)
    return -total_s if sign else total_s


def clock(seconds: float) -> str:
    """``08:26`` as Artisan writes it; ``-00:30`` before zero."""
    whole = math.floor(abs(seconds) + 0.5)
    return f"{'-' if seconds < 0 and whole else ''}{whole // 60:02d}:{whole % 60:02d}"


def plain(text: str) -> str:
    """Text that stays in its cell."""
    return " ".join(text.replace("\t", " ").split())
