"""Any roast file: told apart by what is in it, never by its name. Pure."""

from __future__ import annotations

from roasts.alog.reading import read_alog
from roasts.formats import artisan_csv, own, roastime, roastime_csv
from roasts.formats.imported import ImportedRoast, NotThisFormat, check_size

#: So much of a file tells what it is: our own name stands first, RoasTime's arrays may stand after its metadata.
HEAD_BYTES = 4_000
HOW_TO_FIX = (
    "Files that can be read: Artisan .alog and CSV, RoasTime JSON and CSV, RoastOps JSON and NDJSON. "
    "Save the roast in one of them."
)
NAMES = {
    "alog": "Artisan log",
    "artisan-csv": "Artisan CSV",
    "roastime-json": "RoasTime JSON",
    "roastime-csv": "RoasTime CSV",
    "json": "RoastOps JSON",
    "ndjson": "RoastOps NDJSON",
}


def read_roast(data: bytes) -> ImportedRoast:
    """The roast in a file of any format we read. FormatError, and nothing else, for any bytes that hold none."""
    check_size(data)
    head = data[:HEAD_BYTES].decode("utf-8-sig", errors="replace").lstrip()
    if head.startswith("{"):
        return _read_dictionary(data, head)
    if artisan_csv.is_artisan_csv(head):
        return artisan_csv.read_artisan_csv(data)
    if roastime_csv.is_roastime_csv(data[: 16 * HEAD_BYTES].decode("utf-8", errors="replace")):
        return roastime_csv.read_roastime_csv(data)
    raise NotThisFormat("This is no roast file that RoastOps knows.", HOW_TO_FIX)


def _read_dictionary(data: bytes, head: str) -> ImportedRoast:
    if own.is_own(head):
        return own.read_lines(data) if own.LINES_FORMAT in head else own.read_json(data)
    if '"timex"' not in head and "'timex'" not in head:
        whole = data.decode("utf-8", errors="replace")
        if roastime.is_roastime_json(whole):
            return roastime.read_roastime_json(data)
    return read_alog(data)
