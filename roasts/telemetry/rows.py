"""The rows of telemetry, written in bulk: one statement for the samples of an envelope, on both databases."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import connection

from roasts.models import Sample
from roasts.telemetry.steady import NewSample

#: Column of a sample → PostgreSQL's type of it.
COLUMNS: tuple[tuple[str, str], ...] = (
    ("roast_id", "varchar"),
    ("elapsed_ms", "integer"),
    ("sequence", "bigint"),
    ("at", "timestamptz"),
    ("state", "varchar"),
    ("rate_of_rise_c_per_min", "float8"),
    ("bean_temp_c", "float8"),
    ("infrared_temp_c", "float8"),
    ("exhaust_temp_c", "float8"),
    ("environment_temp_c", "float8"),
    ("ambient_temp_c", "float8"),
    ("machine_rate_c_per_min", "float8"),
    ("heater_step", "smallint"),
    ("fan_step", "smallint"),
    ("drum_step", "smallint"),
    ("fan_rpm", "integer"),
    ("voltage_v", "smallint"),
    ("quality", "jsonb"),
    ("extras", "jsonb"),
)
#: Column of a sample → the point's own name for it.
POINT_VALUES: dict[str, str] = {
    "bean_temp_c": "bean_temp_c",
    "infrared_temp_c": "infrared_temp_c",
    "exhaust_temp_c": "exhaust_temp_c",
    "environment_temp_c": "environment_temp_c",
    "ambient_temp_c": "ambient_temp_c",
    "machine_rate_c_per_min": "rate_of_rise_c_per_min",
    "heater_step": "heater_step",
    "fan_step": "fan_step",
    "drum_step": "drum_step",
    "fan_rpm": "fan_rpm",
    "voltage_v": "voltage_v",
}
_NUMBERS = frozenset({"float8", "integer", "bigint", "smallint"})


def insert_samples(samples: Sequence[NewSample]) -> int:
    """Write what is not there yet; how many were new."""
    if not samples:
        return 0
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(insert_sql() + " ON CONFLICT DO NOTHING", arrays(samples))
            return int(cursor.rowcount)
    return _insert_portably(samples)


def arrays(samples: Sequence[NewSample]) -> dict[str, str]:
    """The samples by column, each as one text: a tenth of the cost of a value at a time. Parameters of the insert."""
    columns = _columns(samples)
    return {f"s_{name}": _array(columns[name], kind) for name, kind in COLUMNS}


def _columns(samples: Sequence[NewSample]) -> dict[str, list[Any]]:
    """Column of a sample → its values; JSON columns as text."""
    values = [each.point.values for each in samples]
    return {
        "roast_id": [each.roast_id for each in samples],
        "elapsed_ms": [each.elapsed_ms for each in samples],
        "sequence": [each.sequence for each in samples],
        "at": [each["at"] for each in values],
        "state": [each.state for each in samples],
        "rate_of_rise_c_per_min": [each.rate_of_rise_c_per_min for each in samples],
        **{column: [each.get(name) for each in values] for column, name in POINT_VALUES.items()},
        "quality": [json.dumps(quality) if (quality := each.get("quality")) else "{}" for each in values],
        "extras": [json.dumps(extras) if (extras := extras_of(each)) else None for each in values],
    }


def insert_sql(source: str = "") -> str:
    """INSERT … SELECT … FROM unnest(…) with the parameters of :func:`arrays`. ``source``: joined first."""
    names = ", ".join(f'"{name}"' for name, _ in COLUMNS)
    given = ", ".join(f"%(s_{name})s::{kind}[]" for name, kind in COLUMNS)
    table = connection.ops.quote_name(Sample._meta.db_table)
    return f"INSERT INTO {table} ({names}) SELECT u.* FROM {source}unnest({given}) AS u"


def extras_of(values: Mapping[str, Any]) -> dict[str, Any] | None:
    """A point's extras, with the one reading of its that has no column."""
    extras = values.get("extras")
    if "roast_clock_s" in values:
        return {**(extras or {}), "roast_clock_s": values["roast_clock_s"]}
    return extras or None


def _array(values: list[Any], kind: str) -> str:
    """PostgreSQL's text of an array. Our texts are ids, words, times and JSON: all quoted, all escaped."""
    first = values[0]
    if type(first) is not float and values.count(first) == len(values):
        return "{" + ",".join([_element(first)] * len(values)) + "}"  # ids, words and settings hardly change
    if kind in _NUMBERS and None not in values:
        return "{" + ",".join(map(repr, values)) + "}"
    return "{" + ",".join([_element(value) for value in values]) + "}"


def _element(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)


def _insert_portably(samples: Sequence[NewSample]) -> int:
    """By Django, for the embedded database: counted before, for it does not say how many were new."""
    rows = [_sample(each) for each in samples]
    roast_ids = {each.roast_id for each in samples}
    span = [each.elapsed_ms for each in samples]
    there = Sample.objects.filter(roast_id__in=roast_ids, elapsed_ms__gte=min(span), elapsed_ms__lte=max(span))
    before = there.count()
    Sample.objects.bulk_create(rows, ignore_conflicts=True)
    return there.count() - before


def _sample(each: NewSample) -> Sample:
    values = each.point.values
    return Sample(
        roast_id=each.roast_id,
        elapsed_ms=each.elapsed_ms,
        sequence=each.sequence,
        at=each.point.at,
        state=each.state,
        rate_of_rise_c_per_min=each.rate_of_rise_c_per_min,
        quality=values.get("quality") or {},
        extras=extras_of(values),
        **{column: values.get(name) for column, name in POINT_VALUES.items()},
    )
