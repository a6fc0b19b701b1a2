"""A machine as it is shown: the newest reading anybody has, its age now, and what stands against orders."""

from __future__ import annotations

import datetime as dt
from typing import Any

from commands.loop.notes import last_word
from commands.models import Alarm, Halt
from commands.records.halts import halt_document
from drivers.port import MachineState, longest_age_s
from kernel import live
from roasts.api.roasts import render_time
from roasts.models import Machine, MachineReading

READING_FIELDS = (
    "sequence",
    "device_ms",
    "state",
    "bean_temp_c",
    "infrared_temp_c",
    "environment_temp_c",
    "exhaust_temp_c",
    "ambient_temp_c",
    "rate_of_rise_c_per_min",
    "heater_step",
    "fan_step",
    "drum_step",
    "fan_rpm",
    "voltage_v",
    "quality",
    "interval_s",
)
#: A link that says "up" but has not been written for this long is nobody's word.
UNTENDED_AFTER = dt.timedelta(seconds=5)
STALE_AFTER_S = 3.0  # a source slower than ours: 2.5 of its intervals
#: A bridge's envelopes hold up to 5 s: so far apart is what it says.
BRIDGE_INTERVAL_S = 5.0
#: One envelope may have to be sent again.
BRIDGE_SILENT_AFTER_MS = 20_000
COLD_C = 60.0


def render_machine(machine: Machine, now: dt.datetime) -> dict[str, Any]:
    """For the API. The machine comes from ``api.machines.machines_of`` (everything prefetched)."""
    latest: MachineReading | None = getattr(machine, "latest", None)
    payload = live.latest_reading(machine.organization_id, machine.pk)
    reading = newest_reading(latest, payload, now)
    link, code, message = link_of(machine, latest, payload, reading, now)
    return {
        "machine_id": machine.pk,
        "name": machine.name,
        "link": link,
        "link_code": code,
        "link_message": message,
        "state": reading["state"] if reading else MachineState.UNKNOWN.value,
        "reading": reading,
        "envelope": render_envelope(machine),
        "roast_id": next((roast.pk for roast in machine.open_roasts), None),  # type: ignore[attr-defined]
        "halts": [render_halt(halt, reading) for halt in machine.open_halts],  # type: ignore[attr-defined]
        "alarms": [render_alarm(alarm) for alarm in machine.standing_alarms],  # type: ignore[attr-defined]
        "suspension": next(
            (
                {"taken_by": one.taken_by.get_username(), "taken_at": render_time(one.taken_at)}
                for one in machine.open_suspensions  # type: ignore[attr-defined]
            ),
            None,
        ),
        "is_orders_paused": bool(latest and latest.is_orders_paused),
        "are_beans_proved": bool(latest and latest.are_beans_proved),
        "is_virtual": machine.is_virtual,
    }


def newest_reading(
    latest: MachineReading | None, payload: dict[str, Any] | None, now: dt.datetime
) -> dict[str, Any] | None:
    """The newer of the latest row and what the loop streamed, with ``age_ms`` at ``now``."""
    streamed_at = _time(payload.get("at")) if payload else None
    row_at = latest.at if latest is not None else None
    if streamed_at is not None and payload is not None and (row_at is None or streamed_at >= row_at):
        at, values = streamed_at, {name: payload.get(name) for name in READING_FIELDS}
    elif row_at is not None:
        at, values = row_at, {name: getattr(latest, name) for name in READING_FIELDS}
    else:
        return None
    return {"at": render_time(at), "age_ms": max(0, round((now - at).total_seconds() * 1000)), **values}


def _time(text: Any) -> dt.datetime | None:
    try:
        return dt.datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None


def link_of(
    machine: Machine,
    latest: MachineReading | None,
    payload: dict[str, Any] | None,
    reading: dict[str, Any] | None,
    now: dt.datetime,
) -> tuple[str, str, str]:
    """(link, code, message), by the loop's last word: its row, or what it streamed since (``payload``).

    A loop that is gone cannot vouch for the link it spoke of last.
    """
    if latest is None or latest.written_at is None:
        return MachineReading.Link.NEVER.value, "", "Nobody has spoken to this machine yet."
    if machine.is_remote:
        return _link_of_remote(latest, reading)
    lease = getattr(machine, "lease", None)
    is_tended = lease is not None and now - lease.expires_at < UNTENDED_AFTER
    if not is_tended:
        return "untended", "untended", "No machine loop tends this machine: unproved, use the panel."
    link, code, message = last_word(latest.link, latest.link_code, latest.link_message, latest.written_at, payload)
    if link == MachineReading.Link.UP.value and reading is not None and _is_old(reading):
        return MachineReading.Link.STALE.value, "stale_reading", "The newest reading is old."
    return link, code, message


def _is_old(reading: dict[str, Any]) -> bool:
    return bool(reading["age_ms"] > longest_age_s(STALE_AFTER_S, reading["interval_s"]) * 1000)


def interval_of(machine: Machine, latest: MachineReading | None) -> float:
    """How far apart the machine's readings come, in seconds; 0 where nobody said: fast."""
    if machine.is_remote:
        return BRIDGE_INTERVAL_S
    return (latest.interval_s if latest is not None else None) or 0.0


def _link_of_remote(latest: MachineReading, reading: dict[str, Any] | None) -> tuple[str, str, str]:
    """A bridge sends every few seconds; when it is silent, nobody here knows more."""
    if reading is None or reading["age_ms"] > BRIDGE_SILENT_AFTER_MS:
        return MachineReading.Link.STALE.value, "bridge_silent", "The bridge of this machine is silent."
    return latest.link, latest.link_code, latest.link_message


def render_envelope(machine: Machine) -> dict[str, Any]:
    """Limits in native steps per control, and the machine's own maxima."""
    controls = {
        limit.control: {
            "min_step": limit.min_step,
            "max_step": limit.max_step,
            "full_scale_step": limit.full_scale_step,
            "max_change_step": limit.max_change_step,
            "min_interval_s": limit.min_interval_s,
        }
        for limit in machine.limits.all()  # type: ignore[attr-defined]
    }
    return {
        "controls": controls,
        "max_bean_temp_c": machine.max_bean_temp_c,
        "max_infrared_temp_c": machine.max_infrared_temp_c,
        "max_rate_of_rise_c_per_min": machine.max_rate_of_rise_c_per_min,
        "max_heat_time_s": machine.max_heat_time_s,
    }


def render_halt(halt: Halt, reading: dict[str, Any] | None) -> dict[str, Any]:
    """A halt, and whether beans may still lie in a hot drum."""
    return {**halt_document(halt), "may_hold_hot_beans": may_hold_hot_beans(halt, reading)}


def may_hold_hot_beans(halt: Halt, reading: dict[str, Any] | None) -> bool:
    """Heat off is not cold: until cooling was observed, a machine that roasts, went off or is not seen may hold."""
    if halt.cooling_observed_at is not None:
        return False
    if reading is None:
        return True
    may_hold = reading["state"] in (MachineState.ROASTING.value, MachineState.OFF.value, MachineState.UNKNOWN.value)
    temp_c = reading["bean_temp_c"]
    return may_hold and (temp_c is None or temp_c > COLD_C)


def render_alarm(alarm: Alarm) -> dict[str, Any]:
    return {
        "alarm_id": alarm.pk,
        "code": alarm.code,
        "priority": alarm.priority,
        "cause": alarm.cause,
        "consequence": alarm.consequence,
        "action": alarm.action,
        "raised_at": render_time(alarm.raised_at),
        "acknowledged_at": render_time(alarm.acknowledged_at),
    }
