"""What passes between the two sides of a machine loop: frozen values only. Pure."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

from commands.loop.interlocks import Alarm, Limits
from drivers.port import Reading
from kernel import canonical


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """What the keeper side must know of its machine without asking the store again."""

    machine_id: str
    organization_id: str
    name: str
    limits: Limits


@dataclass(frozen=True, slots=True)
class View:
    """The keeper side's picture, replaced whole at every change; anybody may read it."""

    boot_id: str = ""
    is_keeper_up: bool | None = None  # None: not spoken to yet
    is_heard: bool = False  # the keeper has taken our heartbeat: it will take our orders
    link: str = "never"  # roasts.models.MachineReading.Link
    link_code: str = ""
    link_message: str = ""
    reading: Reading | None = None
    fresh_monotonic_s: float | None = None  # when the last reading that was not stale was taken
    processed_sequence: int = 0  # every reading up to this one is recorded (or queued for it)
    rate_of_rise_c_per_min: float | None = None
    roast_id: str = ""
    elapsed_ms: int | None = None
    turned_ms: int | None = None
    are_beans_proved: bool = False
    latch: dict[str, Any] | None = None  # {stop_id, by, at, reason}
    is_heat_up_allowed: bool = False
    standing: frozenset[str] = frozenset()  # interlock codes
    identity: dict[str, Any] = field(default_factory=dict)
    is_identified: bool = False  # `identity` was asked for since the link came up: it is of what answers now
    interval_s: float | None = None  # how far apart its readings come, by its driver's word

    def age_s(self, monotonic_s: float) -> float | None:
        """Seconds since the last fresh reading was taken; None when there never was one."""
        return None if self.fresh_monotonic_s is None else monotonic_s - self.fresh_monotonic_s


@dataclass(frozen=True, slots=True)
class RaiseAlarm:
    """Tell a person."""

    alarm: Alarm
    at: dt.datetime


@dataclass(frozen=True, slots=True)
class ClearAlarm:
    """The cause is gone."""

    code: str
    at: dt.datetime


@dataclass(frozen=True, slots=True)
class PauseOrders:
    """The link was lost: no orders until a person resumes."""

    reason: str
    at: dt.datetime


@dataclass(frozen=True, slots=True)
class MovedAtMachine:
    """A control changed without our bytes: a hand, or the firmware. ``state``: the machine's, then."""

    control: str
    from_step: int | None
    to_step: int | None
    at: dt.datetime
    state: str = ""


@dataclass(frozen=True, slots=True)
class OpenedByPerson:
    """The store has a roast that a person opened, charged at this device time of this keeper boot."""

    roast_id: str
    device_start_ms: int
    connection_id: str
    at: dt.datetime


@dataclass(frozen=True, slots=True)
class ClosedByPerson:
    """The store has closed the roast that the loop goes on with."""

    roast_id: str


ByPerson = OpenedByPerson | ClosedByPerson
Note = RaiseAlarm | ClearAlarm | PauseOrders | MovedAtMachine


def last_word(
    link: str, code: str, message: str, written_at: dt.datetime, payload: dict[str, Any] | None
) -> tuple[str, str, str]:
    """(link, code, message) as the loop said last: in its row (the first four), or in what it streamed since."""
    try:
        said_at = dt.datetime.fromisoformat(payload["said_at"]) if payload else None
    except (KeyError, TypeError, ValueError):
        said_at = None
    if payload is None or said_at is None or said_at < written_at:
        return link, code, message
    return str(payload.get("link") or link), str(payload.get("link_code") or ""), str(payload.get("link_message") or "")


def live_payload(machine_id: str, view: View, now: dt.datetime) -> dict[str, Any]:
    """What viewers and the governor are shown of the newest reading, said at ``now``. JSON values, units in names."""
    reading = view.reading
    payload: dict[str, Any] = {
        "machine_id": machine_id,
        "said_at": canonical.utc_text(now),
        "link": view.link,
        "link_code": view.link_code,
        "link_message": view.link_message,
        "interval_s": view.interval_s,
        "roast_id": view.roast_id or None,
        "elapsed_ms": view.elapsed_ms,
        "rate_of_rise_c_per_min": None
        if view.rate_of_rise_c_per_min is None
        else round(view.rate_of_rise_c_per_min, 2),
        "are_beans_proved": view.are_beans_proved,
        "is_latched": view.latch is not None,
        "alarms": sorted(view.standing),
    }
    if reading is None:
        return payload
    return payload | {
        "at": reading.at.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "sequence": reading.sequence,
        "device_ms": reading.device_ms,
        "state": reading.state.value,
        "bean_temp_c": reading.bean_temp_c,
        "infrared_temp_c": reading.infrared_temp_c,
        "environment_temp_c": reading.environment_temp_c,
        "exhaust_temp_c": reading.exhaust_temp_c,
        "ambient_temp_c": reading.ambient_temp_c,
        "machine_rate_c_per_min": reading.rate_of_rise_c_per_min,
        "heater_step": reading.heater_step,
        "fan_step": reading.fan_step,
        "drum_step": reading.drum_step,
        "fan_rpm": reading.fan_rpm,
        "voltage_v": reading.voltage_v,
        "quality": {name: quality.value for name, quality in reading.quality.items()},
    }
