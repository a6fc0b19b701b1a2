"""The newest frames an R2 pushed → a Reading: what is absent, what stands still. Pure."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from typing import Any

from drivers.bullet import codec_r1, codec_r2
from drivers.bullet.codec_r1 import SensorMap
from drivers.bullet.codec_r2 import Fans, Power, Temperatures
from drivers.port import MachineState, Quality, Reading

FIELDS = frozenset({
    "bean_temp_c", "infrared_temp_c", "exhaust_temp_c", "ambient_temp_c", "rate_of_rise_c_per_min",
    "infrared_rate_c_per_min", "heater_step", "fan_step", "drum_step", "fan_rpm", "voltage_v", "roast_clock_s",
    "error_codes", "state",
})
SIDE_MAX_AGE_S = 1.0  # frames A1 and A2 come with each A0; older ones say nothing about now
FROZEN_AFTER_S = 2.0


class StandstillWatch:
    """Notices telemetry whose bytes do not change at all: a program that hangs behind a USB side that goes on."""

    def __init__(self) -> None:
        self._content: bytes | None = None
        self._changed_at_s = 0.0

    def see(self, content: bytes, monotonic_s: float) -> bool:
        """Has ``content`` (all frames of one moment) been the same for FROZEN_AFTER_S?"""
        if content != self._content:
            self._content, self._changed_at_s = content, monotonic_s
        return monotonic_s - self._changed_at_s > FROZEN_AFTER_S


@dataclass(frozen=True, slots=True)
class PushedSet:
    """What is known at one moment. ``fans`` and ``power`` are None where none came lately."""

    temperatures: Temperatures
    fans: Fans | None
    power: Power | None


def make_reading(
    seen: PushedSet, *, sequence: int, at: dt.datetime, monotonic_s: float, device_ms: int, sensor_map: SensorMap,
    sensor_check: str, is_frozen: bool, seal_rule: str | None,
) -> Reading:
    """Judge each field: what cannot be is None and ``absent``."""
    frame, power = seen.temperatures, seen.power
    bean, infrared = codec_r1.bean_and_infrared(frame, sensor_map)
    is_probe_b = sensor_map is SensorMap.PROBE_B
    rates = (frame.rate_b_c_per_min, frame.rate_a_c_per_min)
    rate, infrared_rate = rates if is_probe_b else rates[::-1]
    values: dict[str, Any] = {
        "bean_temp_c": codec_r2.plausible_temp_c(bean),
        "infrared_temp_c": codec_r2.plausible_temp_c(infrared),
        "exhaust_temp_c": _believable_tenths_c(frame.exhaust_tenths_c),
        "ambient_temp_c": _believable_tenths_c(frame.humidity_tenths_c),
        "rate_of_rise_c_per_min": _plausible_rate(rate),
        "infrared_rate_c_per_min": _plausible_rate(infrared_rate),
        "voltage_v": round(power.voltage_tenths_v / 10) if power is not None else None,
    }
    quality = {name: Quality.ABSENT for name, value in values.items() if value is None}
    if frame.state is MachineState.UNKNOWN:
        quality["state"] = Quality.ABSENT
    if seen.fans is None:
        quality["error_codes"] = Quality.ABSENT
    if is_frozen:
        quality = {name: quality.get(name, Quality.STALE) for name in FIELDS}
    return Reading(
        sequence=sequence, at=at, monotonic_s=monotonic_s, device_ms=device_ms,
        state=frame.state, state_code=frame.state_code,
        heater_step=frame.heater_step, fan_step=frame.fan_step, drum_step=frame.drum_step,
        fan_rpm=frame.fan_rpm, roast_clock_s=frame.roast_clock_s,
        error_codes=seen.fans.error_codes if seen.fans is not None else (),
        quality=quality, extras=_extras(seen, sensor_map, sensor_check, seal_rule), **values,
    )


def _believable_tenths_c(value: int) -> float | None:
    """°C of a u16 in tenths, where it can be one."""
    in_c = codec_r2.tenths(value)
    return None if in_c is None else codec_r2.plausible_temp_c(in_c)


def _plausible_rate(value: float) -> float | None:
    """°C/min within what a roaster can show, else None (NaN too)."""
    return value if -5000.0 < value < 5000.0 else None


def _finite(value: float) -> float | None:
    """None for NaN and infinities: JSON has no word for them."""
    return round(value, 3) if math.isfinite(value) else None


def _extras(seen: PushedSet, sensor_map: SensorMap, sensor_check: str, seal_rule: str | None) -> dict[str, Any]:
    """What only this model has."""
    frame, fans, power = seen.temperatures, seen.fans, seen.power
    extras: dict[str, Any] = {
        "energy": _finite(frame.energy),
        "air_pressure_difference": _finite(frame.pressure_difference),
        "inlet_temp_c": codec_r2.tenths(frame.inlet_tenths_c),
        "hot_air_temp_c": codec_r2.tenths(frame.hot_air_tenths_c),
        "pressure_hpa": codec_r2.tenths(frame.pressure_tenths),
        "humidity_percent": codec_r2.tenths(frame.humidity_tenths),
        "hot_air_setting": frame.hot_air_setting,
        "roast_counter": frame.roast_counter,
        "crack_count": frame.crack_count,
        "is_crack_button_pressed": bool(frame.crack_button),
        "sensor_map": sensor_map.value,
        "sensor_check": sensor_check,
        "frame_seal": seal_rule,
    }
    if fans is not None:
        extras |= {
            "errors": [list(error) for error in fans.errors],
            "coil_fan_rpm": fans.coil_fan_1_rpm,
            "coil_fan_2_rpm": fans.coil_fan_2_rpm,
            "infrared_fan_rpm": fans.infrared_fan_rpm,
            "drum_rpm": fans.drum_rpm,
        }
    if power is not None:
        extras |= {
            "setpoint_w": power.setpoint_w,
            "active_power_w": power.active_tenths / 10,
            "current_a": power.current_ma / 1000,
            "line_hz": power.line_hundredths_hz / 100,
            "igbt_temp_c": [power.igbt_1_tenths_c / 10, power.igbt_2_tenths_c / 10],
            "igbt_error": power.igbt_error,
        }
    if sensor_check == "mismatch":
        extras["sensor_advice"] = (
            "At the roast's start the field configured as bean probe reset to 25.0, which only the infrared "
            "sensor does: change the machine's sensor_map."
        )
    return extras
