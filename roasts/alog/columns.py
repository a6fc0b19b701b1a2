"""The columns of an Artisan log: times, the two main temperatures, extra devices. °C, steps, NaN where missing. Pure.

Channels as in reference/bullet-and-alog.md §1.7 and §4.2: ``temp1`` is ET, ``temp2`` BT, and every extra device has two
more; for a Bullet's devices ``extratemp1`` is heater×10, BT rate, voltage, state and ``extratemp2`` fan×10, drum×10,
exhaust, fan rpm. Which main column is the infrared eye is told by its jump to 25.0 °C at the start of the roast, else
by the device's name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.port import MachineState
from roasts.alog.literal import Literal
from roasts.alog.schema import MAX_LIST, WrongType, number_of
from roasts.curve import Column, Curve
from roasts.formats.imported import (
    HIGHEST_TEMP_C,
    LOWEST_TEMP_C,
    MACHINE_RATE,
    MAX_CHANNELS,
    MAX_ROWS,
    Channel,
    Findings,
    NoCurve,
)

#: Artisan's value of a reading that did not come.
ABSENT = -1.0
#: The infrared eye shows exactly this within seconds of the start (seen in 60 of 60 roasts).
INFRARED_RESET_C = 25.0
RESET_WITHIN_S = 4.0
#: An exhaust sensor that always shows less than this is not there (−65…−45 on the V2 logged).
NOT_FITTED_BELOW_C = -20.0
MAX_SECONDS = 86_400.0
HEATER_FAN, RATE_DRUM, VOLTAGE_EXHAUST, STATE_RPM = 84, 85, 86, 87
PROBE_PAIR, INFRARED_PAIR = 83, 99
#: What Artisan's own importers call an extra device that nobody reads any more.
VIRTUAL_DEVICE = 50
#: Fields of `Curve` that Artisan has no place for: an extra channel under our own name.
BY_OUR_NAME = ("environment_temp_c", "ambient_temp_c")
#: Name of the channel that keeps state codes which share a word.
STATE_CODE = "state code"
BULLET_DEVICES = frozenset({HEATER_FAN, RATE_DRUM, VOLTAGE_EXHAUST, STATE_RPM})
#: (device, slot) → field of `Curve` and the scale of the file
STEPS_AND_COUNTS = {
    (HEATER_FAN, 1): ("heater_step", 10.0),
    (HEATER_FAN, 2): ("fan_step", 10.0),
    (RATE_DRUM, 2): ("drum_step", 10.0),
    (VOLTAGE_EXHAUST, 1): ("voltage_v", 1.0),
    (STATE_RPM, 2): ("fan_rpm", 1.0),
}
NAMES = {
    "bean_temp_c": "bean temperature",
    "infrared_temp_c": "infrared temperature",
    "environment_temp_c": "environment temperature",
    "exhaust_temp_c": "exhaust temperature",
    "ambient_temp_c": "ambient temperature",
    "heater_step": "heater",
    "fan_step": "fan",
    "drum_step": "drum",
    "fan_rpm": "fan speed",
    "voltage_v": "mains voltage",
}


@dataclass(slots=True)
class Columns:
    """Rows with strictly rising times. ``kept`` holds the file's own row number of each."""

    times_s: Column
    kept: NDArray[np.int64]
    named: dict[str, Column] = field(default_factory=dict)  # by the names of Curve's fields
    state: tuple[str, ...] | None = None
    channels: tuple[Channel, ...] = ()
    extra_times_s: list[list[float]] = field(default_factory=list)
    file_rows: int = 0
    is_swapped: bool = False  # the infrared eye was found in BT

    def time_of(self, row: int) -> float | None:
        """Seconds of a row of the file since the start of the recording; None outside it."""
        if not 0 <= row < self.file_rows:
            return None
        return float(self.times_s[min(int(np.searchsorted(self.kept, row)), len(self.kept) - 1)])

    def since(self, lead_in_s: float, *, dry_end_c: float | None) -> Curve:
        """The curve with times counted from charge. Rounded to nanoseconds: the clock's own resolution."""
        elapsed_s = np.round(self.times_s - lead_in_s, 9)
        plain = Curve(elapsed_s, self.named["bean_temp_c"], state=self.state, dry_end_c=dry_end_c)
        others: Mapping[str, Any] = self.named
        return dataclasses.replace(plain, **others)


def read_columns(
    log: Mapping[str, Literal], fields: Mapping[str, Any], found: Findings, *, is_fahrenheit: bool
) -> Columns:
    """Times, temperatures and extra devices of the log. NoCurve where there are none."""
    times_s, environment, bean = (_main_column(log, name) for name in ("timex", "temp1", "temp2"))
    check_rows(times_s, environment, bean)
    rows = min(len(times_s), len(environment), len(bean))
    if len({len(times_s), len(environment), len(bean)}) > 1:
        found.warn(f"times and temperatures have different lengths: the first {rows} rows are read")
    kept = _rising(times_s[:rows], found)
    columns = Columns(times_s=np.round(times_s[kept], 9), kept=kept, file_rows=rows)
    main = {
        "environment_temp_c": _temperature(environment[kept], is_fahrenheit, found, "ET"),
        "bean_temp_c": _temperature(bean[kept], is_fahrenheit, found, "BT"),
    }
    _read_extras(log, fields, columns, found, is_fahrenheit=is_fahrenheit)
    _place_main(main, fields, columns)
    _place_extra_eye(columns)
    _say_columns(columns, found)
    return columns


def _main_column(log: Mapping[str, Literal], name: str) -> Column:
    values = _numbers(log.get(name))
    if values is None:
        raise NoCurve(f"The file has no temperatures over time ({name} is missing or no list of numbers).")
    return values


def check_rows(*columns: Column) -> None:
    """NoCurve unless every column has at least two rows, and no more than we read."""
    if min(len(column) for column in columns) < 2:
        raise NoCurve("The recording has fewer than two readings.", "Record a roast, then export it.")
    if max(len(column) for column in columns) > MAX_ROWS:
        raise NoCurve(f"The recording has more than {MAX_ROWS} readings.", "Sample at 10 Hz at most.")


def _numbers(value: Literal) -> Column | None:
    """A list of numbers as a column; what is no number in it becomes NaN. None where it is no list."""
    if not isinstance(value, list) or len(value) > MAX_LIST:
        return None
    if set(map(type, value)) <= {int, float}:
        column = np.asarray(value, dtype=np.float64)
    else:
        column = np.array([_number_or_nan(item) for item in value], dtype=np.float64)
    return np.where(np.isfinite(column), column, np.nan)


def _number_or_nan(item: Any) -> float:
    try:
        return number_of(item)
    except WrongType:
        return float("nan")


def _rising(times_s: Column, found: Findings) -> NDArray[np.int64]:
    """Rows whose time is known, within a day, and later than every one before."""
    believed = np.where(np.isfinite(times_s) & (times_s >= 0) & (times_s <= MAX_SECONDS), times_s, -np.inf)
    before = np.concatenate([[-np.inf], np.maximum.accumulate(believed)[:-1]])
    kept = np.flatnonzero(believed > before)
    if len(kept) < 2:
        raise NoCurve("The recording's times do not rise.")
    if len(kept) < len(times_s):
        found.warn(f"{len(times_s) - len(kept)} readings whose time does not rise are left out")
    return kept


def _temperature(values: Column, is_fahrenheit: bool, found: Findings, name: str) -> Column:
    """°C, NaN where the file says missing or shows what no thermometer does."""
    is_missing = ~np.isfinite(values) | (values == ABSENT)
    with np.errstate(invalid="ignore"):
        temps_c = (values - 32.0) * 5.0 / 9.0 if is_fahrenheit else values
        is_absurd = ~is_missing & ((temps_c < LOWEST_TEMP_C) | (temps_c > HIGHEST_TEMP_C))
    if np.any(is_absurd):
        found.warn(f"{name}: {int(np.count_nonzero(is_absurd))} readings are no temperatures and count as missing")
    return np.where(is_missing | is_absurd, np.nan, temps_c)


def _read_extras(
    log: Mapping[str, Literal], fields: Mapping[str, Any], columns: Columns, found: Findings, *, is_fahrenheit: bool
) -> None:
    """Extra devices into fields of the curve, else into further channels."""
    devices = fields.get("extradevices", [])
    if len(devices) * 2 > MAX_CHANNELS:
        found.warn(f"only the first {MAX_CHANNELS // 2} of {len(devices)} extra devices are read")
        devices = devices[: MAX_CHANNELS // 2]
    for place, device in enumerate(devices):
        for slot in (1, 2):
            values = _slot_values(log, columns, slot, place, found)
            if values is not None:
                _place_extra(fields, columns, found, device, slot, place, values, is_fahrenheit)
    columns.extra_times_s = _extra_times(log, columns, len(devices), found)


def _slot_values(log: Mapping[str, Literal], columns: Columns, slot: int, place: int, found: Findings) -> Column | None:
    lists = log.get(f"extratemp{slot}")
    if not isinstance(lists, list) or place >= len(lists):
        return None
    values = _numbers(lists[place])
    if values is None or len(values) < columns.file_rows:
        if values is not None and len(values):
            where = f"extra device {place + 1}, channel {slot}"
            found.warn(f"{where}: {len(values)} readings for {columns.file_rows} rows; left out")
        return None
    return values[columns.kept]


def _place_extra(
    fields: Mapping[str, Any], columns: Columns, found: Findings,
    device: int, slot: int, place: int, values: Column, is_fahrenheit: bool,
) -> None:  # fmt: skip
    if (device, slot) in STEPS_AND_COUNTS:
        name, scale = STEPS_AND_COUNTS[device, slot]
        columns.named.setdefault(name, np.where(values == ABSENT, np.nan, values / scale))
    elif (device, slot) == (RATE_DRUM, 1):
        rates = values * 5.0 / 9.0 if is_fahrenheit else values  # a rate of exactly -1 is a rate
        columns.channels += (Channel(MACHINE_RATE, rates, "c_per_min", device, slot),)
    elif (device, slot) == (STATE_RPM, 1):
        _place_states(columns, values)
    else:
        _place_by_hint(fields, columns, found, device, slot, place, values, is_fahrenheit)


def _place_states(columns: Columns, codes: Column) -> None:
    """State codes of a Bullet as words; codes that share a word are kept beside them."""
    if np.all((codes == ABSENT) | ~np.isfinite(codes)):
        return
    distinct, places = np.unique(codes, return_inverse=True)
    words = [_state_word(code) for code in distinct.tolist()]
    columns.state = tuple(words[place] for place in places.tolist())
    if any(CODE_OF_STATE.get(word) != code for word, code in zip(words, distinct.tolist(), strict=True)):
        columns.channels += (Channel(STATE_CODE, codes, "number", STATE_RPM, 1),)


def _state_word(code: float) -> str:
    is_code = 0 <= code <= 255 and code == int(code)
    return (STATE_OF_CODE.get(int(code), MachineState.UNKNOWN) if is_code else MachineState.UNKNOWN).value


#: A Bullet's state codes (reference §1.8); 5 and 7 are short and count with their neighbour.
STATE_OF_CODE = {
    0x00: MachineState.OFF,
    0x02: MachineState.PREHEATING,
    0x03: MachineState.STABILISING,
    0x04: MachineState.CHARGE,
    0x05: MachineState.CHARGE,
    0x06: MachineState.ROASTING,
    0x07: MachineState.COOLING,
    0x08: MachineState.COOLING,
    0x09: MachineState.SHUTDOWN,
    0x23: MachineState.PREHEATING,
    0x24: MachineState.PREHEATING,
}
#: The code that stands for each state when we write one.
CODE_OF_STATE = {"off": 0, "preheating": 2, "stabilising": 3, "charge": 4, "roasting": 6, "cooling": 8, "shutdown": 9}


def _place_by_hint(
    fields: Mapping[str, Any], columns: Columns, found: Findings,
    device: int, slot: int, place: int, values: Column, is_fahrenheit: bool,
) -> None:  # fmt: skip
    """Any other channel: a rate, a bare number or a temperature, as the file's own hints say."""
    name = _nth(fields, f"extraname{slot}", place, f"channel {place + 1}.{slot}") or f"channel {place + 1}.{slot}"
    is_exhaust = (device, slot) == (VOLTAGE_EXHAUST, 2)
    if _nth(fields, f"extraDelta{slot}", place, False) and not is_exhaust:
        columns.channels += (Channel(name, values * 5.0 / 9.0 if is_fahrenheit else values, "c_per_min", device, slot),)
    elif _nth(fields, f"extraNoneTempHint{slot}", place, False) and not is_exhaust:
        columns.channels += (Channel(name, np.where(values == ABSENT, np.nan, values), "number", device, slot),)
    else:
        temps_c = _temperature(values, is_fahrenheit, found, name)
        if is_exhaust and _is_fitted(temps_c):
            columns.named["exhaust_temp_c"] = temps_c
        elif device == VIRTUAL_DEVICE and name in BY_OUR_NAME:
            columns.named[name] = temps_c
        else:
            if is_exhaust:
                found.know("exhaust temperature: no sensor fitted")
            columns.channels += (Channel(name, temps_c, "c", device, slot),)


def _is_fitted(temps_c: Column) -> bool:
    known = temps_c[np.isfinite(temps_c)]
    return len(known) > 0 and float(np.median(known)) > NOT_FITTED_BELOW_C


def _nth(fields: Mapping[str, Any], name: str, place: int, default: Any) -> Any:
    values = fields.get(name, [])
    return values[place] if place < len(values) else default


def _extra_times(log: Mapping[str, Literal], columns: Columns, devices: int, found: Findings) -> list[list[float]]:
    """The extra devices' own clocks, kept for writing the same file again; far from the main one they are named."""
    lists = log.get("extratimex")
    times: list[list[float]] = []
    for place in range(devices if isinstance(lists, list) else 0):
        own = _numbers(lists[place]) if place < len(lists) else None  # type: ignore[index, arg-type]
        if own is None or len(own) < columns.file_rows or not np.all(np.isfinite(own)):
            return []
        apart_s = float(np.max(np.abs(own[columns.kept] - columns.times_s)))
        if apart_s > 2.0:
            found.warn(f"extra device {place + 1} was read up to {apart_s:.0f} s apart from the rest")
        times.append([float(value) for value in own[columns.kept]])
    return times


def _place_main(main: dict[str, Column], fields: Mapping[str, Any], columns: Columns) -> None:
    """ET and BT into the fields of the curve, the infrared eye told apart."""
    environment, bean = main["environment_temp_c"], main["bean_temp_c"]
    infrared = _infrared_column(main, fields, columns)
    if infrared == "environment_temp_c":
        columns.named |= {"infrared_temp_c": environment, "bean_temp_c": bean}
    elif infrared == "bean_temp_c":
        columns.named |= {"infrared_temp_c": bean, "bean_temp_c": environment}
        columns.is_swapped = True
    else:
        columns.named["bean_temp_c"] = bean
        if np.any(np.isfinite(environment)):
            columns.named["environment_temp_c"] = environment
    if not np.any(np.isfinite(columns.named["bean_temp_c"])):
        raise NoCurve("The recording has no bean temperature (BT) at all.")


def _place_extra_eye(columns: Columns) -> None:
    """The infrared eye among the extra devices, where a Bullet is not the program's main device."""
    if "infrared_temp_c" in columns.named:
        return
    for channel in columns.channels:
        if channel.device in (PROBE_PAIR, INFRARED_PAIR) and channel.unit == "c" and _resets(channel.values, columns):
            columns.named["infrared_temp_c"] = channel.values
            columns.channels = tuple(other for other in columns.channels if other is not channel)
            return


def _say_columns(columns: Columns, found: Findings) -> None:
    if columns.is_swapped:
        found.know("BT is the Bullet's infrared sensor and ET the bean probe: read the other way round")
    elif "infrared_temp_c" in columns.named:
        found.know("ET is the Bullet's infrared sensor, BT the bean probe")
    known = [NAMES[name] for name in NAMES if name in columns.named]
    found.know("columns: " + ", ".join(known + (["machine state"] if columns.state else [])))
    for channel in columns.channels:
        if channel.name == MACHINE_RATE:
            found.know("the machine's own rate of rise")
        elif channel.name != STATE_CODE and (channel.device, channel.slot) != (VOLTAGE_EXHAUST, 2):
            found.know(f"further channel: {channel.name[:60]}")


def _infrared_column(main: dict[str, Column], fields: Mapping[str, Any], columns: Columns) -> str | None:
    """Which main column shows the infrared eye: by its reset at the start of the roast, else by the device's name."""
    for name in ("environment_temp_c", "bean_temp_c"):
        if _resets(main[name], columns):
            return name
    main_device = _nth(fields, "devices", 0, "")
    is_bullet = bool(BULLET_DEVICES & set(fields.get("extradevices", []))) or "Bullet" in main_device
    if is_bullet and ("IBTS" in main_device or "IBTS" in fields.get("roastertype", "")):
        return "environment_temp_c"
    return None


def _resets(temps_c: Column, columns: Columns) -> bool:
    """The column shows exactly 25.0 °C within seconds of the machine's change to roasting, and far more before."""
    if columns.state is None or MachineState.ROASTING.value not in columns.state:
        return False
    first = columns.state.index(MachineState.ROASTING.value)
    since_s = columns.times_s - columns.times_s[first]
    near = (since_s >= -1.5) & (since_s <= RESET_WITHIN_S)
    return bool(np.any(np.abs(temps_c[near] - INFRARED_RESET_C) < 0.051))
