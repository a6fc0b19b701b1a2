"""An imported roast as rows of the sample table, made where its file is read: perhaps in another process. Pure."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass

import numpy as np

from roasts import curve_rates
from roasts.curve import Column, first_of
from roasts.formats.imported import MACHINE_RATE, ImportedRoast
from roasts.formats.reading import read_roast
from roasts.recording import sample_rows
from roasts.recording.sample_rows import SampleColumns

TEMPERATURES = ("bean_temp_c", "infrared_temp_c", "exhaust_temp_c", "environment_temp_c", "ambient_temp_c")
SMALLS = ("heater_step", "fan_step", "drum_step", "voltage_v")


@dataclass(frozen=True, slots=True)
class ReadyRoast:
    """A roast, the id it is to have, and its rows. ``copied``: them as PostgreSQL's binary COPY, if asked for."""

    imported: ImportedRoast
    roast_id: str
    columns: SampleColumns
    copied: bytes | None


def read_ready(data: bytes, roast_id: str, now: dt.datetime, is_copied: bool) -> ReadyRoast:
    """Read a file and make its rows. FormatError. ``now``: of a file that does not say when it was."""
    return ready_of(read_roast(data), roast_id, now=now, is_copied=is_copied)


def ready_of(imported: ImportedRoast, roast_id: str, *, now: dt.datetime, is_copied: bool) -> ReadyRoast:
    """The rows of a roast that was read."""
    columns = sample_columns(roast_id, started_at(imported, now), imported)
    return ReadyRoast(imported, roast_id, columns, sample_rows.binary_copy(columns) if is_copied else None)


def started_at(imported: ImportedRoast, now: dt.datetime) -> dt.datetime:
    """The moment of elapsed 0; ``now`` where the file does not say when it was roasted."""
    at = imported.metadata.roasted_at
    return charge_time(imported, at) if at is not None else now


def charge_time(imported: ImportedRoast, at: dt.datetime) -> dt.datetime:
    """The moment of elapsed 0: the recording began at ``at``."""
    return at + dt.timedelta(seconds=imported.metadata.lead_in_s)


def sample_columns(roast_id: str, started_at: dt.datetime, imported: ImportedRoast) -> SampleColumns:
    """The curve as rows, by whole milliseconds; of readings in the same one the first."""
    curve = imported.curve
    elapsed_ms, kept = np.unique(np.round(curve.elapsed_s * 1000).astype(np.int64), return_index=True)
    charge_s = first_of(imported.marks, "charge") or 0.0
    absent = np.full(len(curve), np.nan)
    floats: dict[str, Column] = {name: getattr(curve, name) for name in TEMPERATURES}
    floats["rate_of_rise_c_per_min"] = curve_rates.causal_rate(curve.elapsed_s, curve.bean_temp_c, from_s=charge_s)
    rate = imported.channel(MACHINE_RATE)
    if rate is not None:
        floats["machine_rate_c_per_min"] = rate
    smalls = {name: getattr(curve, name) for name in SMALLS}
    state = curve.state or ("unknown",) * len(curve)
    extras = _extras(imported)
    return SampleColumns(
        roast_id=roast_id,
        started_at=started_at,
        elapsed_ms=elapsed_ms,
        state=[state[row] for row in kept],
        temperatures={name: (absent if column is None else column)[kept] for name, column in floats.items()},
        smalls={name: (absent if column is None else column)[kept] for name, column in smalls.items()},
        wholes={"fan_rpm": (absent if curve.fan_rpm is None else curve.fan_rpm)[kept]},
        extras=None if extras is None else [extras[row] for row in kept],
    )


def _extras(imported: ImportedRoast) -> list[str] | None:
    """Further channels of each row as JSON: ``{"0": 21.5}`` by their place in `ImportedFile.channels`.

    A channel has few different values: each is written once, and each row picks its own.
    """
    named = [(place, channel) for place, channel in enumerate(imported.channels) if channel.name != MACHINE_RATE]
    if not named:
        return None
    listed = []
    for place, channel in named:
        distinct, rows = np.unique(channel.values, return_inverse=True)
        texts = [f'"{place}":{value!r}' if math.isfinite(value) else "" for value in distinct.tolist()]
        listed.append([texts[row] for row in rows.tolist()])
    if len(listed) == 1:
        return [f"{{{text}}}" if text else "" for text in listed[0]]
    joined = (",".join(filter(None, parts)) for parts in zip(*listed, strict=True))
    return [f"{{{text}}}" if text else "" for text in joined]
