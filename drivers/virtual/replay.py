"""A recorded roast on the wire: an Artisan ``.alog``'s channels as a Bullet's frames.

Device time is log time: row *i* is shown from ``timex[i]`` until ``timex[i+1]`` (row 0 from the start); ten
seconds after the last row the machine is off. A value the log lacks (−1) is not-a-number on the wire for
temperatures and rates, and the last known value for whole numbers. Orders are heard and logged but move
nothing: history cannot be steered. Channels as in ``reference/bullet-and-alog.md`` §4.2: temp1 is the
infrared sensor, temp2 the probe; extra devices 84-87 carry the rest.
"""

from __future__ import annotations

import ast
import bisect
import itertools
import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from drivers.virtual.firmware import CHARGE, OFF, ROASTING, TICKS_PER_S
from drivers.virtual.firmware_r1 import FirmwareR1
from drivers.virtual.heat import HeatState
from drivers.virtual.settings import R1Settings
from drivers.virtual.wire_values import WireValues

MAX_FILE_BYTES = 8_000_000
MAX_ROWS = 100_000
OFF_AFTER_S = 10.0
ABSENT = -1.0
NAN = math.nan


@dataclass(frozen=True, slots=True)
class ReplayRow:
    """One row of the log in wire values; temperatures °C as 32-bit floats hold them."""

    at_s: float
    infrared_temp_c: float
    probe_temp_c: float
    rate_c_per_min: float
    exhaust_temp_c: float
    heater_step: int
    fan_step: int
    drum_step: int
    state: int
    voltage_v: int
    fan_rpm: int


class UnreadableLog(ValueError):
    """The file is no roast log we can play; the message says why."""


def read_log(path: str | Path) -> dict[str, Any]:
    """The log's dictionary. Nothing in the file is executed; its size is bounded before it is parsed."""
    file = Path(path)
    try:
        size_bytes = file.stat().st_size
        if not file.is_file():
            raise UnreadableLog(f"{file.name} is not a file")
        if size_bytes > MAX_FILE_BYTES:
            raise UnreadableLog(f"{file.name} has {size_bytes} bytes, more than {MAX_FILE_BYTES}")
        text = file.read_text(encoding="utf-8-sig", errors="replace").strip()
    except OSError as error:
        raise UnreadableLog(f"{file} cannot be read: {error.strerror}") from error
    if not text.startswith("{"):
        raise UnreadableLog(f"{file.name} does not begin like an .alog (a dictionary)")
    for parse in (ast.literal_eval, json.loads):
        try:
            parsed = parse(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, OverflowError):
            continue
        if isinstance(parsed, dict):
            return parsed
    raise UnreadableLog(f"{file.name} is neither a Python literal nor JSON")


def expected_rows(path: str | Path) -> list[ReplayRow]:
    """What the wire will show for each row of the log, in order."""
    log = read_log(path)
    times_s = _numbers(log, "timex")
    infrared, probe = _numbers(log, "temp1"), _numbers(log, "temp2")
    count = min(len(times_s), len(infrared), len(probe), MAX_ROWS)
    if count == 0 or any(not a <= b for a, b in itertools.pairwise(times_s[:count])):
        raise UnreadableLog(f"{Path(path).name} has no rising times (timex) with temp1 and temp2")
    extras = _extra_channels(log, times_s[:count])
    is_fahrenheit = log.get("mode") == "F"
    floats = {
        name: [_temperature(value, is_fahrenheit) for value in values[:count]]
        for name, values in (("infrared", infrared), ("probe", probe), ("exhaust", extras["exhaust"]))
    }
    rates = [NAN if math.isnan(rate) else rate * (5 / 9 if is_fahrenheit else 1) for rate in extras["rate"]]
    whole = {name: _whole(extras[name], *bounds) for name, bounds in _WHOLE.items()}
    return [
        ReplayRow(
            at_s=times_s[i],
            infrared_temp_c=_f32(floats["infrared"][i]),
            probe_temp_c=_f32(floats["probe"][i]),
            rate_c_per_min=_f32(rates[i]),
            exhaust_temp_c=_f32(floats["exhaust"][i]),
            **{name: values[i] for name, values in whole.items()},
        )
        for i in range(count)
    ]


#: field → (scale on the log, lowest, highest, value before the first known one)
_WHOLE: dict[str, tuple[float, int, int, int]] = {
    "heater_step": (0.1, 0, 9, 0),
    "fan_step": (0.1, 0, 12, 1),
    "drum_step": (0.1, 0, 9, 0),
    "state": (1.0, 0, 255, 0),
    "voltage_v": (1.0, 0, 400, 0),
    "fan_rpm": (1.0, 0, 32767, 0),
}
#: extra device → names of its first and second channel
_DEVICES = {84: ("heater_step", "fan_step"), 85: ("rate", "drum_step"), 86: ("voltage_v", "exhaust"),
            87: ("state", "fan_rpm")}  # fmt: skip


def _extra_channels(log: dict[str, Any], times_s: Sequence[float]) -> dict[str, list[float]]:
    """Named channels, one value per row; NaN where the log has none."""
    channels = {name: [NAN] * len(times_s) for pair in _DEVICES.values() for name in pair}
    devices = log.get("extradevices")
    for place, device in enumerate(devices if isinstance(devices, list) else []):
        for name, key in zip(_DEVICES.get(device, ()), ("extratemp1", "extratemp2"), strict=False):
            values = _nth(log, key, place)
            for i in range(min(len(values), len(times_s))):
                # a rate of exactly -1 is a rate: only temperatures and whole numbers say "missing" so
                channels[name][i] = NAN if values[i] == ABSENT and name != "rate" else values[i]
    return channels


def _nth(log: dict[str, Any], key: str, place: int) -> list[float]:
    lists = log.get(key)
    if not isinstance(lists, list) or place >= len(lists):
        return []
    return _numbers({key: lists[place]}, key)


def _numbers(log: dict[str, Any], key: str) -> list[float]:
    values = log.get(key)
    if not isinstance(values, list):
        raise UnreadableLog(f"the log's {key} is not a list")
    return [
        float(value) if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9 else NAN
        for value in values
    ]


def _temperature(value: float, is_fahrenheit: bool) -> float:
    if math.isnan(value) or value == ABSENT:
        return NAN
    return (value - 32.0) * 5.0 / 9.0 if is_fahrenheit else value


def _whole(values: Sequence[float], scale: float, low: int, high: int, first: int) -> list[int]:
    whole, last = [], first
    for value in values:
        if not math.isnan(value) and value >= 0:
            last = min(high, max(low, round(value * scale)))
        whole.append(last)
    return whole


def _f32(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


class ReplayFirmware(FirmwareR1):
    """A machine that shows a recorded roast. It answers every question and follows no order.

    For ``lead_s`` device seconds the first row stands; a log that begins in the roast waits for its beans then.
    """

    def __init__(
        self, path: str | Path, settings: R1Settings | None = None, *, seed: int, lead_s: float = 0.0
    ) -> None:
        self._lead_ticks = round(lead_s * TICKS_PER_S)
        self._rows = expected_rows(path)
        self._times_s = [row.at_s for row in self._rows]
        self._roast_from_s = next((row.at_s for row in self._rows if row.state == ROASTING), None)
        self._row = self._rows[0]
        super().__init__(settings, seed=seed)
        self._show()

    def tick(self) -> None:
        """A tenth of a second of log time passes."""
        self.ticks += 1
        self.sample_counter = (self.sample_counter + 1) & 0xFFFF
        self._show()

    def power_on(self) -> None:
        """A reboot forgets the firmware's own state; the log plays on."""
        super().power_on()
        self._show()

    @property
    def at_s(self) -> float:
        """Log time; negative while the first row stands."""
        return (self.ticks - self._lead_ticks) / TICKS_PER_S

    @property
    def left_s(self) -> float:
        """Device seconds until the machine is off."""
        return max(0.0, self._times_s[-1] + OFF_AFTER_S - self.at_s)

    @property
    def is_over(self) -> bool:
        """The last row has been shown for its time: the machine is off."""
        return self.at_s > self._times_s[-1] + OFF_AFTER_S

    def _show(self) -> None:
        at_s = self.at_s
        self._row = self._rows[max(0, bisect.bisect_right(self._times_s, at_s + 1e-9) - 1)]
        if at_s < 0 and self._row.state == ROASTING:
            self._row = replace(self._row, state=CHARGE)
        if self.is_over:
            self._row = replace(self._row, state=OFF, heater_step=0, fan_step=1, drum_step=0)
        row = self._row
        if row.state != self.state:
            self.note("state", f"{self.state} -> {row.state}")
        self.state = row.state
        self.heater_step, self.fan_step, self.drum_step = row.heater_step, row.fan_step, row.drum_step
        if row.state == ROASTING and self._roast_from_s is not None:
            self.roast_ticks = max(0, round((at_s - self._roast_from_s) * TICKS_PER_S))
        self.warmth = HeatState(row.infrared_temp_c, row.probe_temp_c, row.probe_temp_c, row.infrared_temp_c)

    def press_prs(self) -> int:
        """Nobody can press a button in the past."""
        self.note("prs_ignored", "a replay follows its log")
        return self.state

    def start_roast_by_itself(self) -> None:
        """Nor can a fault."""
        self.note("prs_ignored", "a replay follows its log")

    def charge_beans(self, mass_kg: float, bean_temp_c: float | None = None) -> None:
        """No beans fall into the past."""

    def pour_out(self) -> None:
        """Nor out of it."""

    def turn_knob(self, control: str, target_step: int) -> int:
        """Knobs neither."""
        return self._step_of(control)

    def _accepts(self, control: str) -> bool:
        return False

    def wire_values(self) -> WireValues:
        """The present row as the firmware would have sent it."""
        row = self._row
        shown = super().wire_values()
        infrared_c, probe_c = self._sensed("infrared", row.infrared_temp_c), self._sensed("probe", row.probe_temp_c)
        is_probe_b = self.settings.sensor_map == "probe_b"
        return replace(
            shown,
            temp_a_c=infrared_c if is_probe_b else probe_c,
            temp_b_c=probe_c if is_probe_b else infrared_c,
            rate_c_per_min=row.rate_c_per_min,
            infrared_rate_c_per_min=0.0,
            exhaust_c=row.exhaust_temp_c,
            ambient_c=self.settings.ambient_temp_c,
            board_c=self.settings.ambient_temp_c,
            error_codes=(),
            fan_rpm=row.fan_rpm,
            voltage_v=row.voltage_v,
        )
