"""A finished roast as one object: canonical JSON by columns, compressed, with the digest that a dispute cites. Pure.

The digest is SHA-256 of the canonical bytes before compression, so it does not hang on a compressor's version. Packing
loses nothing: whole numbers are kept as differences (they hardly vary), times as microseconds, floats in their shortest
exact spelling. The same content gives the same bytes.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from kernel import canonical

FORMAT = "roast/1"
LEVEL = 9
MAX_PACKED_BYTES = 64_000_000
MAX_UNPACKED_BYTES = 512_000_000
EPOCH = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
MICROSECOND = dt.timedelta(microseconds=1)

#: Columns of a sample, as the table has them, each with how it is kept.
COLUMNS: dict[str, str] = {
    "elapsed_ms": "whole",
    "sequence": "whole",
    "at": "time",
    "state": "word",
    "bean_temp_c": "number",
    "infrared_temp_c": "number",
    "exhaust_temp_c": "number",
    "environment_temp_c": "number",
    "ambient_temp_c": "number",
    "rate_of_rise_c_per_min": "number",
    "machine_rate_c_per_min": "number",
    "heater_step": "whole",
    "fan_step": "whole",
    "drum_step": "whole",
    "fan_rpm": "whole",
    "voltage_v": "whole",
    "quality": "json",
    "extras": "json",
}


class CorruptPack(ValueError):
    """Bytes that are not what was packed: cut, changed, or of a format we do not know."""


@dataclass(frozen=True, slots=True)
class PackedContent:
    """What is packed. ``columns``: name → values, all of one length, None where there is none; ``roast``, ``events``,
    ``gaps`` and ``provenance`` are JSON values.
    """

    roast: Mapping[str, Any]
    columns: Mapping[str, Sequence[Any]]
    events: Sequence[Mapping[str, Any]] = ()
    gaps: Sequence[Mapping[str, Any]] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        return len(self.columns["elapsed_ms"])


@dataclass(frozen=True, slots=True)
class Pack:
    """The object: its bytes, and the digest of what they hold."""

    payload: bytes
    digest: str
    samples: int
    format: str = FORMAT


def pack(content: PackedContent) -> Pack:
    """The same content, the same bytes. ValueError: columns missing, unknown, or of different lengths."""
    if set(content.columns) != set(COLUMNS) or len({len(column) for column in content.columns.values()}) != 1:
        raise ValueError("a roast is packed with every column of its samples, all of one length")
    text = canonical.dumps(
        {
            "format": FORMAT,
            "roast": dict(content.roast),
            "columns": {name: _kept(kind, content.columns[name]) for name, kind in COLUMNS.items()},
            "events": [dict(event) for event in content.events],
            "gaps": [dict(gap) for gap in content.gaps],
            "provenance": dict(content.provenance),
        }
    ).encode()
    return Pack(zlib.compress(text, LEVEL), hashlib.sha256(text).hexdigest(), content.samples)


def unpack(payload: bytes, digest: str = "") -> PackedContent:
    """What was packed. ``digest``: what it must have. CorruptPack."""
    if len(payload) > MAX_PACKED_BYTES:
        raise CorruptPack("the pack is larger than any roast")
    try:
        machine = zlib.decompressobj()
        text = machine.decompress(payload, MAX_UNPACKED_BYTES)
        if machine.unconsumed_tail or not machine.eof or machine.unused_data:
            raise CorruptPack("the pack is cut, or holds more than a roast")
        if digest and hashlib.sha256(text).hexdigest() != digest:
            raise CorruptPack("the pack does not have its digest")
        data = json.loads(text)
        if data["format"] != FORMAT:
            raise CorruptPack(f"format {data['format']!r} is not known here")
        columns = {name: _restored(kind, data["columns"][name]) for name, kind in COLUMNS.items()}
        return PackedContent(data["roast"], columns, data["events"], data["gaps"], data["provenance"])
    except (zlib.error, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        if isinstance(error, CorruptPack):
            raise
        raise CorruptPack(f"the pack cannot be read: {error}") from error


# --- columns ---


def _kept(kind: str, values: Sequence[Any]) -> Any:
    """A column as JSON. One value throughout is kept once, with its count."""
    if kind == "time":
        values = [None if value is None else (value - EPOCH) // MICROSECOND for value in values]
    elif kind == "number":
        values = [None if value is None else float(value) for value in values]
    if values and all(value == values[0] and type(value) is type(values[0]) for value in values):
        return {"same": values[0], "count": len(values)}
    return _differences(values) if kind in ("whole", "time") else list(values)


def _differences(values: Sequence[int | None]) -> list[int | None]:
    """Each whole number less the one before it that was there."""
    before, kept = 0, list[int | None]()
    for value in values:
        kept.append(None if value is None else value - before)
        before = before if value is None else value
    return kept


def _restored(kind: str, kept: Any) -> list[Any]:
    if isinstance(kept, dict):
        values = [kept["same"]] * kept["count"]
    elif kind in ("whole", "time"):
        values = _sums(kept)
    else:
        values = kept
    if kind == "time":
        return [None if value is None else EPOCH + value * MICROSECOND for value in values]
    return values


def _sums(kept: list[int | None]) -> list[int | None]:
    if None not in kept:
        return list(accumulate(kept))  # type: ignore[arg-type]
    before, values = 0, list[int | None]()
    for step in kept:
        before += step or 0
        values.append(None if step is None else before)
    return values
