"""RoasTime's two exports: the roast as JSON (2 Hz arrays) and as CSV (a report with a timeline). Pure.

Facts: reference/bullet-and-alog.md §4.4. ``drumTemperature`` is the infrared sensor, ``beanTemperature`` the probe.
Indices of milestones count samples from one at ``sampleRate``, 0 is unset. In the CSV the same indices stand beside
rows of one second: there the times are believed.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from roasts.alog.columns import check_rows
from roasts.alog.literal import BadLiteral, Literal, parse_literal
from roasts.alog.metadata import EARLIEST_EPOCH_S, LATEST_EPOCH_S
from roasts.alog.schema import WrongType, number_of, text_of
from roasts.curve import Column, Curve, Mark, Marks, first_of
from roasts.formats.imported import (
    HIGHEST_TEMP_C,
    LOWEST_TEMP_C,
    MACHINE_RATE,
    MAX_ROWS,
    Channel,
    Findings,
    ImportedRoast,
    Metadata,
    NoCurve,
    NotThisFormat,
    check_size,
    clock_words,
)

SAMPLE_RATE_HZ = 2.0
INFRARED_RATE = "infrared_rate_c_per_min"
CONTROLS = ("heater_step", "fan_step", "drum_step")  # ctrlType 0 power, 1 fan, 2 drum
MILESTONES = {
    "dry_end": "indexYellowingStart",
    "first_crack_start": "indexFirstCrackStart",
    "first_crack_end": "indexFirstCrackEnd",
    "second_crack_start": "indexSecondCrackStart",
}
SECOND_CRACK_END = "second crack end"
MAX_ACTIONS = 2_000
#: Numbers and words that we take over; what else a roast holds is named as dropped.
KNOWN = frozenset(
    """sampleRate beanTemperature drumTemperature beanDerivative ibtsDerivative drumDerivative exitTemperature
    roastStartIndex roastEndIndex indexYellowingStart indexFirstCrackStart indexFirstCrackEnd indexSecondCrackStart
    indexSecondCrackEnd actions weightGreen weightRoasted dateTime preheatTemperature roastNumber serialNumber firmware
    roastName beanName beanId uid guid ambient ambientTemp humidity roomHumidity comments totalRoastTime
    IRSensor""".split()
)


def is_roastime_json(head: str) -> bool:
    """Whether a file that begins like a dictionary is RoasTime's."""
    return any(
        f'"{name}"' in head for name in ("beanTemperature", "drumTemperature", "roastStartIndex", "beanDerivative")
    )


def read_roastime_json(data: bytes) -> ImportedRoast:
    """The roast in the file. FormatError where there is none."""
    check_size(data)
    try:
        roast = parse_literal(data.decode("utf-8-sig", errors="replace"))
    except BadLiteral as error:
        raise NotThisFormat(f"The file is damaged or no RoasTime roast: {error}.") from error
    if not isinstance(roast, dict):
        raise NotThisFormat("The file does not hold one roast.")
    return roast_of(roast, Findings(), format_name="roastime-json")


@dataclass(frozen=True, slots=True)
class Clock:
    """How RoasTime counts: ``start_row`` is the charge."""

    rate_hz: float
    start_row: int
    rows: int

    def elapsed_s(self, row: int) -> float:
        return round((row - self.start_row) / self.rate_hz, 6)


def roast_of(roast: Mapping[str, Literal], found: Findings, *, format_name: str) -> ImportedRoast:
    """The roast of RoasTime's dictionary."""
    bean, infrared = _temperatures(roast, "beanTemperature", found), _temperatures(roast, "drumTemperature", found)
    if bean is None and infrared is None:
        raise NoCurve("The roast has neither beanTemperature nor drumTemperature.")
    columns = [column for column in (bean, infrared) if column is not None]
    check_rows(*columns)
    rows = min(len(column) for column in columns)
    start = _index(roast, "roastStartIndex", rows)
    clock = Clock(_rate_hz(roast, found), start - 1 if start else 0, rows)
    elapsed_s = np.round((np.arange(rows) - clock.start_row) / clock.rate_hz, 6)
    is_infrared = _number(roast, "IRSensor") in (None, 2.0)
    curve = Curve(
        elapsed_s=elapsed_s,
        bean_temp_c=bean[:rows] if bean is not None else np.full(rows, np.nan),
        infrared_temp_c=infrared[:rows] if infrared is not None and is_infrared else None,
        environment_temp_c=infrared[:rows] if infrared is not None and not is_infrared else None,
        exhaust_temp_c=_fitted(_temperatures(roast, "exitTemperature", found), rows, found),
        **_controls(roast, clock, found),  # type: ignore[arg-type]
    )
    marks = _marks(roast, clock, found)
    _say(roast, curve, marks, found)
    return ImportedRoast(
        format=format_name,
        curve=curve,
        marks=marks,
        metadata=_metadata(roast, clock, found),
        understood=tuple(found.understood),
        dropped=tuple(found.dropped),
        warnings=tuple(found.warnings),
        channels=_rates(roast, rows),
    )


def _say(roast: Mapping[str, Literal], curve: Curve, marks: Marks, found: Findings) -> None:
    length_s = float(curve.elapsed_s[-1] - curve.elapsed_s[0])
    found.understood.insert(0, f"{len(curve)} readings over {clock_words(length_s)} min")
    found.know(f"marks: {', '.join(f'{mark.text or mark.kind} {clock_words(mark.elapsed_s)}' for mark in marks)}")
    others = sorted(name[:40] for name in roast if name not in KNOWN and name.isprintable())
    if others:
        found.drop("fields of RoasTime alone: " + ", ".join(others)[:250])


def _column(roast: Mapping[str, Literal], name: str) -> Column | None:
    value = roast.get(name)
    if not isinstance(value, list) or not value:
        return None
    if set(map(type, value)) <= {int, float}:
        return np.asarray(value, dtype=np.float64)
    return np.array([_or_nan(item) for item in value], dtype=np.float64)


def _or_nan(value: Literal) -> float:
    try:
        return number_of(value)
    except WrongType:
        return math.nan


def _temperatures(roast: Mapping[str, Literal], name: str, found: Findings) -> Column | None:
    values = _column(roast, name)
    if values is None:
        return None
    with np.errstate(invalid="ignore"):
        is_missing = ~np.isfinite(values) | (values < LOWEST_TEMP_C) | (values > HIGHEST_TEMP_C)
    if np.any(is_missing & np.isfinite(values)):
        found.warn(f"{name}: some readings are no temperatures and count as missing")
    return np.where(is_missing, np.nan, values)


def _fitted(exhaust: Column | None, rows: int, found: Findings) -> Column | None:
    """The exhaust, unless the sensor is not there (always far below zero)."""
    if exhaust is None or len(exhaust) < rows or not np.any(exhaust > -20.0):
        if exhaust is not None:
            found.know("exhaust temperature: no sensor fitted")
        return None
    return exhaust[:rows]


def _rates(roast: Mapping[str, Literal], rows: int) -> tuple[Channel, ...]:
    named = ((MACHINE_RATE, ("beanDerivative",)), (INFRARED_RATE, ("ibtsDerivative", "drumDerivative")))
    found = []
    for name, sources in named:
        values = next((column for source in sources if (column := _column(roast, source)) is not None), None)
        if values is not None and len(values) >= rows:
            found.append(Channel(name, np.where(np.isfinite(values[:rows]), values[:rows], np.nan), "c_per_min"))
    return tuple(found)


def _number(roast: Mapping[str, Literal], *names: str) -> float | None:
    for name in names:
        try:
            return number_of(roast.get(name))
        except WrongType:
            continue
    return None


def _text(roast: Mapping[str, Literal], *names: str) -> str:
    for name in names:
        try:
            text = text_of(roast.get(name))
        except WrongType:
            continue
        if text:
            return text
    return ""


def _positive(roast: Mapping[str, Literal], *names: str) -> float | None:
    value = _number(roast, *names)
    return value if value is not None and 0 < value < 1e6 else None


def _rate_hz(roast: Mapping[str, Literal], found: Findings) -> float:
    rate_hz = _number(roast, "sampleRate")
    if rate_hz is None or not 0.1 <= rate_hz <= 20:
        found.warn("the sample rate is not given: 2 readings per second, as RoasTime records")
        return SAMPLE_RATE_HZ
    return rate_hz


def _index(roast: Mapping[str, Literal], name: str, rows: int) -> int:
    """An index that counts from one; 0 where it is unset or points nowhere."""
    value = _number(roast, name)
    return int(value) if value is not None and value == int(value) and 0 < value <= rows else 0


def _marks(roast: Mapping[str, Literal], clock: Clock, found: Findings) -> Marks:
    marks = [Mark("charge", 0.0)]
    places = {kind: _index(roast, name, clock.rows) for kind, name in MILESTONES.items()}
    for kind, index in places.items():
        if index and clock.elapsed_s(index - 1) > 0:
            marks.append(Mark(kind, clock.elapsed_s(index - 1)))
        elif _number(roast, MILESTONES[kind]) not in (None, 0.0):
            found.warn(f"{MILESTONES[kind]} points outside the roast and is left out")
    second_end = _index(roast, "indexSecondCrackEnd", clock.rows)
    if second_end:
        marks.append(Mark("note", clock.elapsed_s(second_end - 1), text=SECOND_CRACK_END))
    drop = _index(roast, "roastEndIndex", clock.rows)
    if drop and clock.elapsed_s(drop - 1) > 0:
        marks.append(Mark("drop", clock.elapsed_s(drop - 1)))
    else:
        found.warn("the end of the roast is not given: no drop is marked")
    return tuple(sorted(marks, key=lambda mark: mark.elapsed_s))


def _controls(roast: Mapping[str, Literal], clock: Clock, found: Findings) -> dict[str, Column]:
    """Power, fan and drum as steps over time, from the list of changes."""
    actions = roast.get("actions")
    changes = actions.get("actionTimeList") if isinstance(actions, dict) else None
    columns = {name: np.full(clock.rows, np.nan) for name in CONTROLS}
    ordered: list[tuple[int, int, float]] = []
    for change in changes[:MAX_ACTIONS] if isinstance(changes, list) else []:
        if not isinstance(change, dict):
            continue
        kind, index, value = _number(change, "ctrlType"), _number(change, "index"), _number(change, "value")
        if kind in (0.0, 1.0, 2.0) and index is not None and 0 <= index <= clock.rows and value is not None:
            if 0 <= value <= 20:
                ordered.append((int(index), int(kind), value))
    for index, kind, value in sorted(ordered, key=lambda change: change[0]):
        columns[CONTROLS[kind]][max(0, index - 1) :] = value
    if ordered:
        found.know(f"{len(ordered)} settings of power, fan and drum")
    return {name: column for name, column in columns.items() if np.any(np.isfinite(column))}


def _metadata(roast: Mapping[str, Literal], clock: Clock, found: Findings) -> Metadata:
    at_ms = _number(roast, "dateTime")
    at = None
    if at_ms is not None and EARLIEST_EPOCH_S <= at_ms / 1000 <= LATEST_EPOCH_S:
        at = dt.datetime.fromtimestamp(round(at_ms) / 1000, dt.UTC)
        found.know(f"roasted {at:%Y-%m-%d %H:%M} UTC")
    number = _number(roast, "roastNumber")
    return Metadata(
        title=_text(roast, "roastName"),
        bean=_text(roast, "beanName"),
        roasted_at=at,
        machine_name="Aillio Bullet",
        batch=str(int(number)) if number and number > 0 else "",
        source_id=_text(roast, "uid", "guid"),
        source_version="RoasTime",
        weight_in_g=_positive(roast, "weightGreen"),
        weight_out_g=_positive(roast, "weightRoasted"),
        ambient_temp_c=_number(roast, "ambient", "ambientTemp") or None,
        ambient_humidity_percent=_positive(roast, "humidity", "roomHumidity"),
        preheat_temp_c=_positive(roast, "preheatTemperature"),
        roasting_notes=_text(roast, "comments"),
        sampling_interval_s=1.0 / clock.rate_hz,
        lead_in_s=clock.start_row / clock.rate_hz,
    )


def write_roastime_json(roast: ImportedRoast) -> bytes:
    """The roast at 2 Hz from the start of the recording to its end, as RoasTime keeps it."""
    return (json.dumps(dictionary_of(roast), allow_nan=False, separators=(",", ":")) + "\n").encode("utf-8")


def dictionary_of(roast: ImportedRoast, rate_hz: float = SAMPLE_RATE_HZ) -> dict[str, Any]:
    """RoasTime's fields. Temperatures between readings lie on the line, settings keep the last one."""
    curve, metadata = roast.curve, roast.metadata
    lead_in_s = max(0.0, -float(curve.elapsed_s[0]))
    start_row = round(lead_in_s * rate_hz)
    rows = min(MAX_ROWS, start_row + math.floor(float(curve.elapsed_s[-1]) * rate_hz + 1e-6) + 1)
    elapsed_s = (np.arange(max(rows, 2)) - start_row) / rate_hz
    environment = curve.infrared_temp_c if curve.infrared_temp_c is not None else curve.environment_temp_c
    fields: dict[str, Any] = {
        "sampleRate": rate_hz,
        "beanTemperature": _resampled(curve, curve.bean_temp_c, elapsed_s),
        "drumTemperature": _resampled(curve, environment, elapsed_s),
        "beanDerivative": _resampled(curve, roast.channel(MACHINE_RATE), elapsed_s),
        "ibtsDerivative": _resampled(curve, roast.channel(INFRARED_RATE), elapsed_s),
        "exitTemperature": _resampled(curve, curve.exhaust_temp_c, elapsed_s),
        "roastStartIndex": start_row + 1,
        "IRSensor": 2 if curve.infrared_temp_c is not None else 0,
        "actions": {"actionTimeList": _actions(curve, elapsed_s)},
        "roastName": metadata.title or metadata.bean,
        "beanName": metadata.bean,
        "uid": metadata.source_id,
        "weightGreen": metadata.weight_in_g or 0,
        "weightRoasted": metadata.weight_out_g or 0,
        "ambient": metadata.ambient_temp_c,
        "humidity": metadata.ambient_humidity_percent,
        "preheatTemperature": metadata.preheat_temp_c,
        "comments": metadata.roasting_notes,
        "dateTime": round(metadata.roasted_at.timestamp() * 1000) if metadata.roasted_at else None,
    }
    digits = metadata.batch[len(metadata.batch.rstrip("0123456789")) :][-9:]
    fields["roastNumber"] = int(digits) if digits else None
    fields |= _milestones(roast.marks, start_row, rate_hz)
    return {name: value for name, value in fields.items() if value not in (None, "", [])}


def _milestones(marks: Marks, start_row: int, rate_hz: float) -> dict[str, int]:
    def index(elapsed_s: float | None) -> int:
        return 0 if elapsed_s is None else start_row + round(elapsed_s * rate_hz) + 1

    found = {name: index(first_of(marks, kind)) for kind, name in MILESTONES.items()}
    second_end = next((m.elapsed_s for m in marks if m.kind == "note" and m.text == SECOND_CRACK_END), None)
    return found | {"indexSecondCrackEnd": index(second_end), "roastEndIndex": index(first_of(marks, "drop"))}


def _resampled(curve: Curve, column: Column | None, elapsed_s: Column) -> list[float | None] | None:
    if column is None:
        return None
    is_known = np.isfinite(column)
    if not np.any(is_known):
        return None
    values = np.interp(elapsed_s, curve.elapsed_s[is_known], column[is_known])
    return [round(float(value), 3) for value in values]


def _actions(curve: Curve, elapsed_s: Sequence[float] | Column) -> list[dict[str, float]]:
    rows = np.clip(np.searchsorted(curve.elapsed_s, np.asarray(elapsed_s) + 1e-9, side="right") - 1, 0, None)
    actions: list[dict[str, float]] = []
    for kind, name in enumerate(CONTROLS):
        column: Column | None = getattr(curve, name)
        if column is None:
            continue
        held = column[rows]
        previous = math.nan
        for row, value in enumerate(held):
            if np.isfinite(value) and value != previous:
                actions.append({"ctrlType": kind, "index": row + 1, "value": float(value)})
                previous = value
    return sorted(actions, key=lambda action: (action["index"], action["ctrlType"]))
