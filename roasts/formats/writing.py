"""A roast in any format that we write: by name, with its suffix and type. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from roasts.alog.writing import write_alog
from roasts.formats import own
from roasts.formats.artisan_csv import write_artisan_csv
from roasts.formats.imported import ImportedRoast
from roasts.formats.roastime import write_roastime_json
from roasts.formats.roastime_csv import write_roastime_csv


@dataclass(frozen=True, slots=True)
class Format:
    """One way to write a roast."""

    name: str
    title: str
    suffix: str
    content_type: str
    write: Callable[[ImportedRoast], bytes]


def _write_png(roast: ImportedRoast) -> bytes:
    from roasts.formats.picture import write_png  # matplotlib costs half a second and 40 MB: only who draws pays

    return write_png(roast)


def _write_svg(roast: ImportedRoast) -> bytes:
    from roasts.formats.picture import write_svg

    return write_svg(roast)


FORMATS: dict[str, Format] = {
    one.name: one
    for one in (
        Format("alog", "Artisan log", ".alog", "application/octet-stream", write_alog),
        Format("artisan-csv", "Artisan CSV", ".csv", "text/csv; charset=utf-8", write_artisan_csv),
        Format("json", "RoastOps JSON (everything)", ".json", "application/json", own.write_json),
        Format("ndjson", "RoastOps NDJSON (a line per reading)", ".ndjson", "application/x-ndjson", own.write_lines),
        Format("roastime-json", "RoasTime JSON", ".roastime.json", "application/json", write_roastime_json),
        Format("roastime-csv", "RoasTime CSV", ".roastime.csv", "text/csv; charset=utf-8", write_roastime_csv),
        Format("png", "Picture of the curve (PNG)", ".png", "image/png", _write_png),
        Format("svg", "Picture of the curve (SVG)", ".svg", "image/svg+xml", _write_svg),
    )
}


def write_roast(roast: ImportedRoast, format_name: str) -> bytes:
    """The roast in the format of this name (a key of FORMATS; KeyError otherwise)."""
    return FORMATS[format_name].write(roast)
