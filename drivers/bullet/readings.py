"""One decoded poll → a Reading: which sensor is which, what is absent, what time it is for the machine. Pure."""

from __future__ import annotations

import datetime as dt
import enum
from typing import Any

from drivers.bullet import codec_r1 as codec
from drivers.bullet.codec_r1 import SensorMap, Status
from drivers.bullet.codec_r2 import Temperatures
from drivers.port import Control, MachineState, Quality, Reading

FIELDS = frozenset({
    "bean_temp_c", "infrared_temp_c", "exhaust_temp_c", "ambient_temp_c", "rate_of_rise_c_per_min",
    "infrared_rate_c_per_min", "heater_step", "fan_step", "drum_step", "fan_rpm", "voltage_v",
    "preheat_target_c", "roast_clock_s", "error_codes", "state",
})
_COUNTER_MODULUS = 1 << 16
_COUNTER_JUMP_MAX = 1 << 15  # a bigger forward jump is a machine that started again
FROZEN_AFTER_S = 1.0
SENSOR_CHECK_S = 3.0


class DeviceClock(enum.StrEnum):
    """Where a reading's ``device_ms`` comes from."""

    WALL = "wall"  # our monotonic clock: a real machine runs at our speed
    COUNTER = "counter"  # the sample counter of frame A: a virtual machine may run faster


class MachineTime:
    """Unwraps the 16-bit sample counter, and notices telemetry that stands still."""

    def __init__(self, source: DeviceClock, counter_hz: float) -> None:
        self._source = source
        self._counter_hz = counter_hz
        self._counter: int | None = None
        self._ticks = 0
        self._moved_at_s = 0.0
        self._has_moved = False

    def device_ms(self, counter: int, monotonic_s: float) -> int:
        """Milliseconds of the machine's own time; never goes back, also over its restart."""
        if self._counter is None:
            self._ticks = counter
            self._moved_at_s = monotonic_s
        else:
            moved = (counter - self._counter) % _COUNTER_MODULUS
            if moved >= _COUNTER_JUMP_MAX:
                moved = max(1, round((monotonic_s - self._moved_at_s) * self._counter_hz))
            if moved:
                self._has_moved = True
                self._moved_at_s = monotonic_s
            self._ticks += moved
        self._counter = counter
        if self._source is DeviceClock.COUNTER:
            return int(self._ticks * 1000 / self._counter_hz)
        return int(monotonic_s * 1000)

    def is_frozen(self, monotonic_s: float) -> bool:
        """The counter used to move and has stood for a second: the same frame is served again and again."""
        return self._has_moved and monotonic_s - self._moved_at_s > FROZEN_AFTER_S


class SensorCheck:
    """At each start of a roast: is the field that resets to exactly 25.0 the one mapped as infrared?"""

    def __init__(self, sensor_map: SensorMap) -> None:
        self._map = sensor_map
        self._state_code: int | None = None
        self._roasting_since_s: float | None = None
        self.verdict = "not_checked"

    def see(self, status: Status | Temperatures, monotonic_s: float) -> str:
        """``not_checked``, ``ok``, ``mismatch`` or ``inconclusive`` (no reset was seen at the last start)."""
        if status.state_code == 6 and self._state_code not in (None, 6):
            self._roasting_since_s = monotonic_s
        elif status.state_code != 6:
            self._roasting_since_s = None
        self._state_code = status.state_code
        if self._roasting_since_s is None:
            return self.verdict
        found = codec.infrared_by_reset(status)
        if found is not None:
            self.verdict = "ok" if found is self._map else "mismatch"
            self._roasting_since_s = None
        elif monotonic_s - self._roasting_since_s > SENSOR_CHECK_S:
            self.verdict = "inconclusive" if self.verdict == "not_checked" else self.verdict
            self._roasting_since_s = None
        return self.verdict


def make_reading(
    status: Status, *, sequence: int, at: dt.datetime, monotonic_s: float, device_ms: int,
    sensor_map: SensorMap, sensor_check: str, is_frozen: bool,
) -> Reading:
    """Judge each field: what cannot be a temperature or a step is None and ``absent``."""
    bean, infrared = codec.bean_and_infrared(status, sensor_map)
    values: dict[str, Any] = {
        "bean_temp_c": codec.plausible_temp_c(bean),
        "infrared_temp_c": codec.plausible_temp_c(infrared),
        "exhaust_temp_c": codec.plausible_temp_c(status.exhaust_temp_c) if status.is_exhaust_fitted else None,
        "ambient_temp_c": codec.plausible_temp_c(status.ambient_temp_c),
        "rate_of_rise_c_per_min": _plausible_rate(status.rate_a_c_per_min),
        "infrared_rate_c_per_min": _plausible_rate(status.rate_b_c_per_min),
        "heater_step": codec.plausible_step(Control.HEATER, status.heater_step),
        "fan_step": codec.plausible_step(Control.FAN, status.fan_step),
        "drum_step": codec.plausible_step(Control.DRUM, status.drum_step),
    }
    quality = {name: Quality.ABSENT for name, value in values.items() if value is None}
    if status.state is MachineState.UNKNOWN:
        quality["state"] = Quality.ABSENT
    if is_frozen:
        quality = {name: quality.get(name, Quality.STALE) for name in FIELDS}
    return Reading(
        sequence=sequence, at=at, monotonic_s=monotonic_s, device_ms=device_ms,
        state=status.state, state_code=status.state_code,
        fan_rpm=status.fan_rpm, voltage_v=status.voltage_v, preheat_target_c=float(status.preheat_target_c),
        roast_clock_s=status.roast_clock_s, error_codes=status.error_codes,
        quality=quality, extras=_extras(status, sensor_map, sensor_check), **values,
    )


def _plausible_rate(value: float) -> float | None:
    """°C/min within what a roaster can show, else None (NaN too)."""
    return value if -5000.0 < value < 5000.0 else None


def _extras(status: Status, sensor_map: SensorMap, sensor_check: str) -> dict[str, Any]:
    """What only this model has."""
    extras: dict[str, Any] = {
        "sample_counter": status.sample_counter,
        "samples_queued": status.samples_queued,
        "coil_fan_rpm": status.coil_fan_rpm,
        "coil_fan_2_rpm": status.coil_fan_2_rpm,
        "infrared_fan_rpm": status.infrared_fan_rpm,
        "igbt_temp_c": [status.igbt_1_temp_c, status.igbt_2_temp_c],
        "error_flags": status.error_flags,
        "error_values": [status.error_1_value, status.error_2_value],
        "is_crack_button_pressed": status.is_crack_button_pressed,
        "sensor_map": sensor_map.value,
        "sensor_check": sensor_check,
    }
    if sensor_check == "mismatch":
        extras["sensor_advice"] = (
            "At the roast's start the field configured as bean probe reset to 25.0, which only the infrared "
            "sensor does: change the machine's sensor_map."
        )
    return extras
