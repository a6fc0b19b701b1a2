"""An `ImportedRoast` as an Artisan ``.alog``: every field of the types that Artisan checks. Pure.

No signature is written, and an older version is stated, so that Artisan asks nobody whether the file is genuine (files
of 4.2.0 and later must be signed). Nothing that names a program, a path or an alarm's action is ever written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from roasts.alog.columns import (
    ABSENT,
    BY_OUR_NAME,
    CODE_OF_STATE,
    HEATER_FAN,
    RATE_DRUM,
    STATE_RPM,
    STEPS_AND_COUNTS,
    VIRTUAL_DEVICE,
    VOLTAGE_EXHAUST,
)
from roasts.alog.literal import well_formed
from roasts.alog.marks import DEFAULT_TYPES, KINDS, SECOND_CRACK_END, UNTYPED, inner_value
from roasts.alog.metadata import write_metadata
from roasts.alog.schema import ALARM_FIELDS, FIELDS, NEVER_HONOURED, SIGNED_FIELDS, is_of_kind, text_of
from roasts.curve import Column, Curve, Mark, Marks
from roasts.formats.imported import MACHINE_RATE, Channel, ImportedRoast, SpecialEvent

#: The newest version whose files need no signature is older than 4.2.0.
STATED_VERSION = "4.0.2"
BULLET_TYPES = ("Fan", "Drum", "Damper", "Heater", "--")
BULLET_MAIN = "Aillio Bullet R1 IBTS/BT"
UNKNOWN_STATE_CODE = 255
BULLET_NAMES = {
    HEATER_FAN: ("Heater", "Fan"), RATE_DRUM: ("BT RoR", "Drum"),
    VOLTAGE_EXHAUST: ("Voltage", "Exhaust"), STATE_RPM: ("State", "Fan RPM"),
}  # fmt: skip
FLAGS = 10  # Artisan's visibility lists have ten entries, however many devices there are


@dataclass(frozen=True, slots=True)
class Slot:
    """One channel of an extra device as it goes into the file."""

    values: list[float]
    name: str
    is_rate: bool = False
    is_temperature: bool = False


def write_alog(roast: ImportedRoast) -> bytes:
    """The file. Everything that the format can hold is in it; the order of fields is the roast's own, then ours."""
    return (repr(log_of(roast)) + "\n").encode("utf-8")


def log_of(roast: ImportedRoast) -> dict[str, Any]:
    """The log's dictionary, as Artisan checks it."""
    times_s = np.round(roast.curve.elapsed_s + _lead_in_s(roast), 9)
    fields: dict[str, Any] = {"version": STATED_VERSION, "mode": "C"}
    fields |= _kept(roast.carried)
    fields |= {"version": _version(fields.get("version", "")), "mode": "C"}
    fields |= write_metadata(roast.metadata)
    fields |= _batch(roast.metadata.batch, fields)
    fields["timeindex"] = time_index(roast.marks, roast.curve)
    fields["timex"] = _numbers(times_s)
    environment = roast.curve.infrared_temp_c if _has_infrared(roast.curve) else roast.curve.environment_temp_c
    fields["temp1"] = _present(environment, len(times_s))
    fields["temp2"] = _present(roast.curve.bean_temp_c, len(times_s))
    fields |= _extra_fields(roast, times_s)
    fields |= _event_fields(roast.special_events, roast.curve, fields.get("etypes"))
    if roast.computed:
        fields["computed"] = dict(roast.computed)
    return {name: value for name, value in fields.items() if _may_stand(name, value)}


def _may_stand(name: str, value: Any) -> bool:
    return name in ("timex", "temp1", "temp2", "extratimex", "extratemp1", "extratemp2") or is_of_kind(name, value)


def _kept(carried: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of the source that are of Artisan's types and harmless."""
    forbidden = ALARM_FIELDS | SIGNED_FIELDS | NEVER_HONOURED.keys()
    return {name: value for name, value in carried.items() if name in FIELDS and name not in forbidden}


def _version(version: str) -> str:
    """The source's own version where no signature is asked for it, else an older one."""
    parts = version.split(".")
    if len(parts) == 3 and all(part.isdigit() and len(part) < 4 for part in parts) and [*map(int, parts)] < [4, 2, 0]:
        return version
    return STATED_VERSION


def _batch(batch: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    if not batch or fields.get("roastbatchnr"):
        return {}
    digits = batch[len(batch.rstrip("0123456789")) :][-9:]
    return {"roastbatchprefix": batch[: len(batch) - len(digits)], "roastbatchnr": int(digits)} if digits else {}


def _lead_in_s(roast: ImportedRoast) -> float:
    """File time of the charge: as it was, or more where the curve begins earlier. Never a negative time."""
    return max(roast.metadata.lead_in_s, -float(roast.curve.elapsed_s[0]))


def _has_infrared(curve: Curve) -> bool:
    return curve.infrared_temp_c is not None


def _numbers(column: Column) -> list[float]:
    return [float(value) for value in column]


def _present(column: Column | None, rows: int) -> list[float]:
    """The column with Artisan's −1 where a value is missing."""
    if column is None:
        return [ABSENT] * rows
    return _numbers(np.where(np.isfinite(column), column, ABSENT))


def time_index(marks: Marks, curve: Curve) -> list[int]:
    """Row numbers of the eight marks. Unset is −1 for the charge, 0 for the others, which so can never be row 0."""
    indices = [-1] + [0] * (len(KINDS) - 1)
    last = 0
    for place, kind in enumerate(KINDS):
        elapsed_s = _elapsed_of(marks, kind)
        if elapsed_s is None:
            continue
        row = int(np.argmin(np.abs(curve.elapsed_s - elapsed_s)))
        row = row if place == 0 else max(1, row)
        if row >= last:
            indices[place] = last = row
    return indices


def _elapsed_of(marks: Marks, kind: str) -> float | None:
    """The mark that counts: a person's before the machine's before an inferred one."""
    rank = {"person": 0, "device": 1, "inferred": 2}

    def is_it(mark: Mark) -> bool:
        return mark.kind == kind or (kind == SECOND_CRACK_END and mark.kind == "note" and mark.text == kind)

    found = sorted((mark for mark in marks if is_it(mark)), key=lambda mark: (rank.get(mark.source, 3), mark.elapsed_s))
    return found[0].elapsed_s if found else None


def _extra_fields(roast: ImportedRoast, times_s: Column) -> dict[str, Any]:
    """Extra devices with two channels each, and every list that Artisan wants beside them."""
    devices = _devices(roast)
    if not devices and not _has_infrared(roast.curve):
        return {}
    numbers = [number for number, _, _ in devices]
    carried_numbers = list(roast.carried.get("extradevices", []))
    is_as_carried = sorted(numbers) == sorted(carried_numbers) and len(numbers) == len(set(numbers))
    if is_as_carried:
        devices.sort(key=lambda device: carried_numbers.index(device[0]))
    rows = len(times_s)
    fields: dict[str, Any] = {} if is_as_carried else _device_lists(devices)
    own_times = roast.carried.get("extratimex", [])
    is_own = is_as_carried and len(own_times) == len(devices) and all(len(own) == rows for own in own_times)
    fields["extradevices"] = [number for number, _, _ in devices]
    fields["extratimex"] = own_times if is_own else [_numbers(times_s) for _ in devices]
    fields["extratemp1"] = [one.values if one else [ABSENT] * rows for _, one, _ in devices]
    fields["extratemp2"] = [two.values if two else [ABSENT] * rows for _, _, two in devices]
    if "devices" not in roast.carried or not is_as_carried:
        main = BULLET_MAIN if _has_infrared(roast.curve) else "RoastOps"
        fields["devices"] = [main, *(f"+{'/'.join(BULLET_NAMES.get(number, ('RoastOps',)))}" for number in numbers)]
    return fields


Device = tuple[int, Slot | None, Slot | None]


def _devices(roast: ImportedRoast) -> list[Device]:
    """Bullet devices from the curve's columns, then every further channel."""
    curve, rows = roast.curve, len(roast.curve)
    found: list[Device] = []
    for number, names in BULLET_NAMES.items():
        slots = [_bullet_slot(roast, number, slot, name) for slot, name in zip((1, 2), names, strict=True)]
        if any(slots):
            found.append((number, slots[0], slots[1]))
    for name in BY_OUR_NAME:
        column = getattr(curve, name)
        if column is not None and (name != "environment_temp_c" or _has_infrared(curve)):
            found.append((VIRTUAL_DEVICE, Slot(_present(column, rows), name, is_temperature=True), None))
    for channel in roast.channels:
        if _is_bullet_channel(channel):
            continue
        slot = _channel_slot(channel, rows)
        number = channel.device if channel.device is not None else VIRTUAL_DEVICE
        if channel.slot == 2 and found and found[-1][0] == number and found[-1][2] is None:
            found[-1] = (number, found[-1][1], slot)
        else:
            found.append((number, slot, None) if channel.slot != 2 else (number, None, slot))
    return found


def _is_bullet_channel(channel: Channel) -> bool:
    return channel.name == MACHINE_RATE or (channel.device in BULLET_NAMES)


def _channel_slot(channel: Channel, rows: int) -> Slot:
    is_rate, is_temperature = channel.unit == "c_per_min", channel.unit == "c"
    return Slot(_present(channel.values, rows), channel.name, is_rate, is_temperature)


def _bullet_slot(roast: ImportedRoast, number: int, slot: int, name: str) -> Slot | None:
    """What a Bullet's device shows in this slot, from the curve or from the channel that was kept for it."""
    curve, rows = roast.curve, len(roast.curve)
    kept = next((one for one in roast.channels if one.device == number and one.slot == slot), None)
    if kept is not None and kept.name != MACHINE_RATE:
        return Slot(_present(kept.values, rows), name)
    if (number, slot) == (RATE_DRUM, 1):
        rate = roast.channel(MACHINE_RATE)
        return None if rate is None else Slot(_present(rate, rows), name, is_rate=True)
    if (number, slot) == (STATE_RPM, 1):
        return None if curve.state is None else Slot(_codes(curve.state), name)
    if (number, slot) == (VOLTAGE_EXHAUST, 2):
        exhaust = curve.exhaust_temp_c
        return None if exhaust is None else Slot(_present(exhaust, rows), name, is_temperature=True)
    field, scale = STEPS_AND_COUNTS[number, slot]
    column = getattr(curve, field)
    return None if column is None else Slot(_present(np.round(column * scale, 9), rows), name)


def _codes(states: Sequence[str]) -> list[float]:
    return [float(CODE_OF_STATE.get(state, UNKNOWN_STATE_CODE)) for state in states]


def _device_lists(devices: Sequence[Device]) -> dict[str, Any]:
    """Names, hints and looks of devices that the source did not describe."""
    count = len(devices)
    fields: dict[str, Any] = {}
    for which in (1, 2):
        slots = [device[which] for device in devices]
        fields[f"extraname{which}"] = [slot.name if slot else "" for slot in slots]  # type: ignore[union-attr]
        fields[f"extramathexpression{which}"] = [""] * count
        fields[f"extradevicecolor{which}"] = ["black"] * count
        fields[f"extramarkersizes{which}"] = [6.0] * count
        fields[f"extramarkers{which}"] = ["None"] * count
        fields[f"extralinewidths{which}"] = [1.0] * count
        fields[f"extralinestyles{which}"] = ["-"] * count
        fields[f"extradrawstyles{which}"] = ["default"] * count
        fields[f"extraFill{which}"] = [0] * FLAGS
        fields[f"extraLCDvisibility{which}"] = [False] * FLAGS
        fields[f"extraCurveVisibility{which}"] = [False] * FLAGS
        fields[f"extraNoneTempHint{which}"] = [slot is None or not slot.is_temperature for slot in slots]  # type: ignore[union-attr]
        rates = [slot is not None and slot.is_rate for slot in slots]  # type: ignore[union-attr]
        fields[f"extraDelta{which}"] = rates + [False] * (FLAGS - count)
    return fields


def _event_fields(events: Sequence[SpecialEvent], curve: Curve, etypes: list[str] | None) -> dict[str, Any]:
    """Button events by row, or nothing where there are none."""
    if not events:
        return {}
    names = _event_types(events, etypes)
    typed = [names.index(event.kind) if event.kind in names[:UNTYPED] else UNTYPED for event in events]
    texts = [
        event.text if place < UNTYPED or not event.kind else f"{event.kind}: {event.text}"
        for event, place in zip(events, typed, strict=True)
    ]
    return {
        "etypes": names,
        "specialevents": [int(np.argmin(np.abs(curve.elapsed_s - event.elapsed_s))) for event in events],
        "specialeventstype": typed,
        "specialeventsvalue": [inner_value(event.value) for event in events],
        "specialeventsStrings": [text_of(well_formed(text)) for text in texts],
    }


def _event_types(events: Sequence[SpecialEvent], etypes: list[str] | None) -> list[str]:
    """Five names, the last for the untyped: the source's own, else those that fit what was pressed."""
    kinds = list(dict.fromkeys(event.kind for event in events if event.kind))
    for names in (etypes or [], DEFAULT_TYPES, BULLET_TYPES):
        if len(names) == len(DEFAULT_TYPES) and set(kinds) <= set(names[:UNTYPED]):
            return list(names)
    return [*kinds[:UNTYPED], *DEFAULT_TYPES[len(kinds[:UNTYPED]) : UNTYPED], "--"]
