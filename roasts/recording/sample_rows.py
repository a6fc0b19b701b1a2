"""Columns of a roast as rows of the sample table: values for any database, or one binary COPY for PostgreSQL. Pure.

The bytes follow PostgreSQL's binary COPY (documentation of COPY, "Binary Format"): a header, for each row the number of
fields and each field's length (−1: null) and value, a trailer. All rows are laid into one matrix of the widest row and
what is not used is cut out, so that a row costs no Python.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
HEADER = b"PGCOPY\n\xff\r\n\x00" + b"\x00" * 8
TRAILER = b"\xff\xff"
POSTGRES_EPOCH = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
JSONB_VERSION = b"\x01"
LENGTH_BYTES = 4
#: Beyond so many changes of layout a cell-by-cell mask is cheaper.
MAX_RUNS = 60
SMALL, WHOLE = 32_767, 2_147_483_647


@dataclass(frozen=True, slots=True)
class SampleColumns:
    """Rows of one roast. Numbers are NaN where null; ``extras`` JSON text, "" where null. All of one length."""

    roast_id: str
    started_at: dt.datetime
    elapsed_ms: NDArray[np.int64]
    state: Sequence[str]
    temperatures: dict[str, NDArray[np.float64]]  # also rates: double precision columns by name
    smalls: dict[str, NDArray[np.float64]]  # smallint columns
    wholes: dict[str, NDArray[np.float64]]  # integer columns
    extras: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.elapsed_ms)


def column_names(columns: SampleColumns) -> list[str]:
    """The table's columns in the order of the bytes."""
    fixed = ["roast_id", "elapsed_ms", "sequence", "at", "state", "quality", "extras"]
    return [*fixed, *columns.temperatures, *columns.smalls, *columns.wholes]


def binary_copy(columns: SampleColumns) -> bytes:
    """The rows as one binary COPY, in the order of `column_names`."""
    rows = len(columns)
    start_us = round((columns.started_at - POSTGRES_EPOCH) / dt.timedelta(microseconds=1))
    at_us = start_us + columns.elapsed_ms * 1000
    fields = [
        _constant(columns.roast_id.encode(), rows),
        _numbers(columns.elapsed_ms, ">i4"),
        _numbers(np.arange(1, rows + 1), ">i8"),
        _numbers(at_us, ">i8"),
        _texts(_encoded(columns.state)),
        _constant(JSONB_VERSION + b"{}", rows),
        _json(columns.extras, rows),
        *(_nullable(column, ">f8") for column in columns.temperatures.values()),
        *(_nullable(within(column, SMALL), ">i2") for column in columns.smalls.values()),
        *(_nullable(within(column, WHOLE), ">i4") for column in columns.wholes.values()),
    ]
    count = np.full((rows, 1), len(fields), dtype=">i2").view(np.uint8)
    matrix = np.hstack([count, *(part for field in fields for part in (field.length, field.value))])
    return b"".join([HEADER, *_cut(matrix, fields), TRAILER])


def _cut(matrix: Bytes, fields: Sequence[_Field]) -> list[bytes]:
    """What counts of the matrix. Rows of one layout that follow each other are cut at once: layouts change rarely."""
    lengths = np.stack([field.length.view(">i4")[:, 0] for field in fields], axis=1)
    ends = np.concatenate((np.flatnonzero(np.any(lengths[1:] != lengths[:-1], axis=1)) + 1, [len(matrix)]))
    if len(ends) > MAX_RUNS:
        always = np.ones((len(matrix), LENGTH_BYTES), dtype=bool)
        kept = [always[:, :2], *(part for field in fields for part in (always, field.is_kept))]
        return [matrix[np.hstack(kept)].tobytes()]
    parts, begin = [], 0
    for end in ends.tolist():
        kept_here = [np.ones(2, dtype=bool)]
        for field in fields:
            kept_here += [np.ones(LENGTH_BYTES, dtype=bool), field.is_kept[begin]]
        parts.append(matrix[begin:end][:, np.concatenate(kept_here)].tobytes())
        begin = end
    return parts


@dataclass(frozen=True, slots=True)
class _Field:
    """One field of every row: its length, its bytes padded to the widest, and which of them count."""

    length: Bytes  # (rows, 4)
    value: Bytes  # (rows, widest)
    is_kept: NDArray[np.bool_]


def _field(lengths: NDArray[np.int64], value: Bytes) -> _Field:
    is_kept = np.arange(value.shape[1]) < lengths[:, None]
    return _Field(lengths.astype(">i4").view(np.uint8).reshape(-1, LENGTH_BYTES), value, is_kept)


def _constant(text: bytes, rows: int) -> _Field:
    value = np.tile(np.frombuffer(text, dtype=np.uint8), (rows, 1))
    return _field(np.full(rows, len(text)), value)


def _numbers(values: NDArray[np.int64], kind: str) -> _Field:
    value = _bytes_of(values.astype(kind), len(values))
    return _field(np.full(len(values), value.shape[1]), value)


def _nullable(values: NDArray[np.float64], kind: str) -> _Field:
    is_known = np.isfinite(values)
    value = _bytes_of(np.where(is_known, values, 0.0).astype(kind), len(values))
    return _field(np.where(is_known, value.shape[1], -1), value)


def _bytes_of(values: NDArray[np.generic], rows: int) -> Bytes:
    return np.ascontiguousarray(values).view(np.uint8).reshape(rows, values.dtype.itemsize)


def _texts(texts: Sequence[bytes]) -> _Field:
    """Texts of different lengths. No NUL may stand in them: no database text holds one."""
    array = np.array(texts, dtype=np.bytes_)
    return _field(np.array([len(text) for text in texts], dtype=np.int64), _bytes_of(array, len(texts)))


def _encoded(texts: Sequence[str], begin: bytes = b"") -> list[bytes]:
    """Each text as bytes, ``begin`` before it; nothing for an empty one. The same text is encoded once."""
    known = {text: begin + text.encode() if text else b"" for text in set(texts)}
    return [known[text] for text in texts]


def _json(texts: Sequence[str] | None, rows: int) -> _Field:
    if texts is None:
        return _field(np.full(rows, -1), np.empty((rows, 0), dtype=np.uint8))
    encoded = _encoded(texts, JSONB_VERSION)
    field = _texts(encoded)
    lengths = np.array([len(text) if text else -1 for text in encoded], dtype=np.int64)
    return _field(lengths, field.value)


def within(values: NDArray[np.float64], limit: int) -> NDArray[np.float64]:
    """Rounded; NaN where the column of the table could not hold it."""
    with np.errstate(invalid="ignore"):
        return np.where(np.abs(values) <= limit, np.round(values), np.nan)
