"""What an Artisan log says of the batch, in our units, and back. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from roasts.formats.imported import Findings, Metadata

GRAMS = {"g": 1.0, "kg": 1000.0, "lb": 453.59237, "oz": 28.349523125}
EARLIEST_EPOCH_S, LATEST_EPOCH_S = 315_532_800, 4_102_444_800  # 1980 to 2100
MAX_OFFSET_S = 14 * 3600
#: What Artisan calls every roast that nobody named.
UNNAMED = "Roaster Scope"


def read_metadata(fields: Mapping[str, Any], found: Findings, *, lead_in_s: float, is_fahrenheit: bool) -> Metadata:
    """Batch, beans, weights, place and time. What is not filled in stays empty: a weight of 0 is no weight."""
    weight_in_g, weight_out_g = _weights_g(fields, found)
    ambient = fields.get("ambientTemp")
    metadata = Metadata(
        title=_title(fields),
        bean=fields.get("beans", ""),
        roasted_at=roasted_at(fields, found),
        machine_name=fields.get("roastertype", "") or fields.get("machinesetup", ""),
        operator=fields.get("operator", ""),
        batch=_batch(fields),
        source_id=fields.get("roastUUID", ""),
        source_version=" ".join(["Artisan", fields.get("recording_version") or fields.get("version", "")]).strip(),
        weight_in_g=weight_in_g,
        weight_out_g=weight_out_g,
        moisture_in_percent=_positive(fields, "moisture_greens"),
        moisture_out_percent=_positive(fields, "moisture_roasted"),
        colour_whole=_positive(fields, "whole_color"),
        colour_ground=_positive(fields, "ground_color"),
        ambient_temp_c=_celsius(ambient, is_fahrenheit) if ambient else None,
        ambient_humidity_percent=_positive(fields, "ambient_humidity"),
        ambient_pressure_hpa=_positive(fields, "ambient_pressure"),
        roasting_notes=fields.get("roastingnotes", ""),
        cupping_notes=fields.get("cuppingnotes", ""),
        sampling_interval_s=_positive(fields, "samplinginterval"),
        lead_in_s=lead_in_s,
    )
    _say(metadata, found)
    return metadata


def _title(fields: Mapping[str, Any]) -> str:
    """What a person called the roast; Artisan's own word for any is none."""
    title = str(fields.get("title", ""))
    return "" if title.strip() == UNNAMED else title


def _say(metadata: Metadata, found: Findings) -> None:
    if metadata.roasted_at:
        found.know(f"roasted {metadata.roasted_at:%Y-%m-%d %H:%M}")
    if metadata.weight_in_g and metadata.weight_out_g:
        found.know(f"weight {metadata.weight_in_g:.1f} g in, {metadata.weight_out_g:.1f} g out")
    elif metadata.weight_in_g:
        found.know(f"weight {metadata.weight_in_g:.1f} g in")


#: Fields that hold degrees of the file's own unit.
IN_DEGREES = frozenset(
    """phases ymax ymin zmax zmin svValues greens_temp bbp_dropbt bbp_dropet bbp_endevents bbp_dropevents anno_positions
    flag_positions""".split()
)


def computed_in_celsius(computed: Mapping[str, Any], *, is_fahrenheit: bool) -> dict[str, Any]:
    """Artisan's own summary with its temperatures, differences and rates in °C; its areas are in °C already."""
    if not is_fahrenheit:
        return dict(computed)
    return {name: _computed_in_celsius(name, value) for name, value in computed.items()}


def _computed_in_celsius(name: str, value: Any) -> Any:
    if isinstance(value, str):
        return value
    if (name.endswith(("_ET", "_BT", "_temp", "_temperature")) and not name.endswith("delta_temp")) or name == "MET":
        return value if name.startswith("total_ts") else _celsius(value, is_fahrenheit=True)
    if name.endswith(("_ror", "delta_temp")) or name in ("det", "dbt"):
        return value * 5.0 / 9.0
    return value


def dry_end_c(fields: Mapping[str, Any], *, is_fahrenheit: bool) -> float | None:
    """Where the file itself lets drying end where nobody marked it: ``phases[1]``."""
    phases = fields.get("phases", [])
    return _celsius(float(phases[1]), is_fahrenheit) if len(phases) > 1 else None


def _celsius(value: float, is_fahrenheit: bool) -> float:
    return (value - 32.0) * 5.0 / 9.0 if is_fahrenheit else value


def _positive(fields: Mapping[str, Any], name: str) -> float | None:
    value = fields.get(name)
    return float(value) if value and value > 0 else None


def _batch(fields: Mapping[str, Any]) -> str:
    number = fields.get("roastbatchnr", 0)
    return f"{fields.get('roastbatchprefix', '')}{number}" if number and number > 0 else ""


def _weights_g(fields: Mapping[str, Any], found: Findings) -> tuple[float | None, float | None]:
    """``[in, out, unit]`` in grams; numbers may come as text."""
    weight = fields.get("weight", [])
    if len(weight) != 3:
        return None, None
    scale = GRAMS.get(str(weight[2]).strip().lower())
    if scale is None:
        found.warn(f"the unit of the weight is not known ({str(weight[2])[:20]!r}): weights are left out")
        return None, None
    return _grams(weight[0], scale), _grams(weight[1], scale)


def _grams(value: float | str, scale: float) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number * scale if 0 < number < 1e7 else None


def roasted_at(fields: Mapping[str, Any], found: Findings) -> dt.datetime | None:
    """Start of the recording: the epoch with the zone (seconds west of Greenwich), else the ISO date and time."""
    west_s = fields.get("roasttzoffset", 0)
    offset_s = -west_s if abs(west_s) <= MAX_OFFSET_S else 0
    zone = dt.timezone(dt.timedelta(minutes=round(offset_s / 60)))
    epoch_s = fields.get("roastepoch", 0)
    if EARLIEST_EPOCH_S <= epoch_s <= LATEST_EPOCH_S:
        return dt.datetime.fromtimestamp(epoch_s, zone)
    iso = fields.get("roastisodate", "")
    if not iso:
        return None
    try:
        parsed = dt.datetime.fromisoformat(f"{iso[:10]}T{(fields.get('roasttime') or '00:00:00')[:8]}")
    except ValueError:
        found.warn("the date of the roast cannot be read")
        return None
    return parsed.replace(tzinfo=zone) if 1980 <= parsed.year < 2100 else None


def write_metadata(metadata: Metadata) -> dict[str, Any]:
    """The same, as the format's fields. Empty things are left out."""
    fields: dict[str, Any] = {
        "title": metadata.title or UNNAMED,
        "beans": metadata.bean,
        "roastertype": metadata.machine_name,
        "operator": metadata.operator,
        "roastUUID": metadata.source_id,
        "moisture_greens": metadata.moisture_in_percent,
        "moisture_roasted": metadata.moisture_out_percent,
        "whole_color": metadata.colour_whole,
        "ground_color": metadata.colour_ground,
        "ambientTemp": metadata.ambient_temp_c,
        "ambient_humidity": metadata.ambient_humidity_percent,
        "ambient_pressure": metadata.ambient_pressure_hpa,
        "roastingnotes": metadata.roasting_notes,
        "cuppingnotes": metadata.cupping_notes,
        "samplinginterval": metadata.sampling_interval_s,
    }
    fields = {name: value for name, value in fields.items() if value not in ("", None)}
    if metadata.weight_in_g or metadata.weight_out_g:
        fields["weight"] = [metadata.weight_in_g or 0.0, metadata.weight_out_g or 0.0, "g"]
    return fields | _written_time(metadata.roasted_at)


def _written_time(at: dt.datetime | None) -> dict[str, Any]:
    if at is None:
        return {}
    offset = at.utcoffset() or dt.timedelta()
    return {
        "roastisodate": f"{at:%Y-%m-%d}",
        "roasttime": f"{at:%H:%M:%S}",
        "roastdate": f"{at:%a %b} {at.day} {at.year}",
        "roastepoch": int(at.timestamp()),
        "roasttzoffset": -int(offset.total_seconds()),
    }
