"""A roast out of a file: its curve, marks and metadata, and what the reader understood, dropped and warns of. Pure.

Every reader of a format gives an `ImportedRoast`, every writer takes one. Temperatures are °C, rates °C/min, times
seconds since charge (negative before it), whatever the file's own units were.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from roasts.curve import Column, Curve, Marks

#: Larger files are refused before anything of them is read.
MAX_FILE_BYTES = 8_000_000
MAX_ROWS = 60_000
MAX_CHANNELS = 100
MAX_SPECIAL_EVENTS = 2_000
#: Lists for a person, in the order of the file; what is beyond is counted, not listed.
MAX_LINES = 60
#: No thermometer of a roaster shows less or more: such a value is missing.
LOWEST_TEMP_C, HIGHEST_TEMP_C = -100.0, 1_500.0


class FormatError(ValueError):
    """The file cannot be read as a roast. ``code`` is stable, ``how_to_fix`` says what a person can do."""

    code = "unreadable_file"

    def __init__(self, message: str, how_to_fix: str = "Export the roast again from the program that made it.") -> None:
        super().__init__(message)
        self.message = message
        self.how_to_fix = how_to_fix


class TooLarge(FormatError):
    """More than we read of one file."""

    code = "file_too_large"


class NotThisFormat(FormatError):
    """The bytes are no file of this format at all."""

    code = "unknown_format"


class NoCurve(FormatError):
    """The format is right, but there are no temperatures over time in it."""

    code = "no_curve"


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a file says of the batch. Missing is ``""`` or None, never 0 for a weight nobody weighed."""

    title: str = ""
    bean: str = ""
    origin: str = ""
    process: str = ""
    variety: str = ""
    lot: str = ""
    roasted_at: dt.datetime | None = None  # start of the recording, with the zone of the place
    machine_name: str = ""
    operator: str = ""
    batch: str = ""  # prefix and number, as people say it: no24
    source_id: str = ""  # the program's own id of the roast
    source_version: str = ""  # program that recorded it
    weight_in_g: float | None = None
    weight_out_g: float | None = None
    moisture_in_percent: float | None = None
    moisture_out_percent: float | None = None
    colour_whole: float | None = None
    colour_ground: float | None = None
    ambient_temp_c: float | None = None
    ambient_humidity_percent: float | None = None
    ambient_pressure_hpa: float | None = None
    preheat_temp_c: float | None = None
    roasting_notes: str = ""
    cupping_notes: str = ""
    sampling_interval_s: float | None = None
    lead_in_s: float = 0.0  # from the start of the recording to the charge: file time = elapsed + this


@dataclass(frozen=True, slots=True)
class SpecialEvent:
    """A button or slider pressed during the roast. ``value`` in the program's own scale (Artisan: 0–100)."""

    elapsed_s: float
    kind: str  # the program's name for it: Heater, Fan, ...; "" when untyped
    value: float | None = None
    text: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Channel:
    """A further column that no field of `Curve` stands for. ``unit``: c | c_per_min | number."""

    name: str
    values: Column
    unit: str = "number"
    device: int | None = None  # Artisan's number of the device it came from
    slot: int = 1  # first or second channel of that device


#: Name of the channel that holds the machine's own rate of rise of the bean probe.
MACHINE_RATE = "machine_rate_c_per_min"


@dataclass(frozen=True, slots=True, eq=False)
class ImportedRoast:
    """One roast as a file holds it. ``computed`` is the program's own summary, in the file's own units.

    ``carried`` keeps fields that only this format knows (colours of lines, cupping wheels), so that writing it
    again loses nothing; nothing in it is acted upon.
    """

    format: str
    curve: Curve
    marks: Marks = ()
    metadata: Metadata = Metadata()
    understood: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    computed: Mapping[str, float | int | str] = field(default_factory=dict)
    special_events: tuple[SpecialEvent, ...] = ()
    channels: tuple[Channel, ...] = ()
    carried: Mapping[str, Any] = field(default_factory=dict)

    def channel(self, name: str) -> Column | None:
        """The further column of this name."""
        return next((channel.values for channel in self.channels if channel.name == name), None)


@dataclass(slots=True)
class Findings:
    """What a reader tells a person while it reads: bounded, each line once."""

    understood: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def know(self, line: str) -> None:
        _note(self.understood, line)

    def drop(self, line: str) -> None:
        _note(self.dropped, line)

    def warn(self, line: str) -> None:
        _note(self.warnings, line)


def _note(lines: list[str], line: str) -> None:
    if line in lines:
        return
    if len(lines) < MAX_LINES:
        lines.append(line[:300])
    elif len(lines) == MAX_LINES:
        lines.append("and more of the same")


def check_length(size_bytes: int) -> None:
    """Raise TooLarge for a file of this length."""
    if size_bytes > MAX_FILE_BYTES:
        raise TooLarge(
            f"The file has {size_bytes / 1e6:.1f} MB; at most {MAX_FILE_BYTES / 1e6:.0f} MB are read.",
            "Export one roast per file, sampled at 10 Hz at most.",
        )


def check_size(data: bytes) -> None:
    """Raise TooLarge before anything is read; NotThisFormat for nothing at all."""
    check_length(len(data))
    if not data.strip():
        raise NotThisFormat("The file is empty.")


def clock_words(seconds: float) -> str:
    """``8:57``, ``-0:30``."""
    whole = round(abs(seconds))
    return f"{'-' if seconds < 0 and whole else ''}{whole // 60}:{whole % 60:02d}"
