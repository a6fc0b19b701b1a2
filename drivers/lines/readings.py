"""One line of values → a Reading: what is absent, which step a percentage is, what was said beside. Pure."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable
from typing import Any

from drivers.port import MachineState, Quality, Reading

FIELDS = frozenset({
    "bean_temp_c", "environment_temp_c", "infrared_temp_c", "exhaust_temp_c", "ambient_temp_c",
    "rate_of_rise_c_per_min", "heater_step", "fan_step", "drum_step", "fan_rpm", "voltage_v", "state",
})
_TEMPERATURES = ("bean_temp_c", "environment_temp_c", "infrared_temp_c", "exhaust_temp_c", "ambient_temp_c")
_STEPS = {"heater_step": "heater_pct", "fan_step": "fan_pct", "drum_step": "drum_pct"}


def step_of_percent(percent: float) -> int:
    """The native step (whole percent) nearest to a percentage; a heater at 0.4 % is not off: it reads 1."""
    return max(1, math.floor(percent + 0.5)) if percent > 0.0 else 0


def make_reading(
    values: dict[str, float], *, state: MachineState, at: dt.datetime, monotonic_s: float, device_ms: int,
    extras: dict[str, Any], expected: Iterable[str] = FIELDS,
) -> Reading:
    """``values``: names of :data:`drivers.lines.parsing.RANGES`. Fields in ``expected`` without a value are absent."""
    found: dict[str, Any] = {name: values.get(name) for name in _TEMPERATURES}
    found["rate_of_rise_c_per_min"] = values.get("rate_of_rise_c_per_min")
    kept: dict[str, Any] = dict(extras)
    for field, name in _STEPS.items():
        percent = values.get(name)
        found[field] = None if percent is None else step_of_percent(percent)
        if percent is not None and percent != found[field]:
            kept[name] = percent  # the peer knows finer steps than ours
    for name in ("fan_rpm", "voltage_v"):
        found[name] = round(values[name]) if name in values else None
    if "drum_rpm" in values:
        kept["drum_rpm"] = values["drum_rpm"]
    quality = {name: Quality.ABSENT for name in expected if name != "state" and found.get(name) is None}
    if state is MachineState.UNKNOWN:
        quality["state"] = Quality.ABSENT
    return Reading(
        sequence=0, at=at, monotonic_s=monotonic_s, device_ms=device_ms, state=state, quality=quality, extras=kept,
        **found,
    )
