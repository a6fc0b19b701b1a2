"""The states of an alarm (ISA-18.2), what moves it, and which is shown first. Pure.

Two things move an alarm: its cause (stands, or has gone) and a person (has seen it, or not). Shelving hides one
alarm for a while, by name and with a reason; its cause may return as a *new* alarm, and that one shows.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Iterable
from dataclasses import dataclass


class AlarmState(enum.StrEnum):
    """Where an alarm is. The words are what the API says."""

    UNACKNOWLEDGED = "unacknowledged"  # its cause stands, nobody has said that they know
    ACKNOWLEDGED = "acknowledged"  # its cause stands, somebody knows
    RETURNED = "returned"  # its cause has gone, nobody has seen it
    SHELVED = "shelved"  # set aside for a while by a person
    NORMAL = "normal"  # gone, and seen


#: State → words for a page, and the shape beside them (`static/src/icons.svg`).
WORDS: dict[AlarmState, str] = {
    AlarmState.UNACKNOWLEDGED: "Stands, not acknowledged",
    AlarmState.ACKNOWLEDGED: "Stands, acknowledged",
    AlarmState.RETURNED: "Gone, not seen yet",
    AlarmState.SHELVED: "Shelved",
    AlarmState.NORMAL: "Over",
}
SHAPES: dict[AlarmState, str] = {
    AlarmState.UNACKNOWLEDGED: "◆",
    AlarmState.ACKNOWLEDGED: "◇",
    AlarmState.RETURNED: "○",
    AlarmState.SHELVED: "▭",
    AlarmState.NORMAL: "·",
}
PRIORITIES = ("high", "medium", "low")  # worst first
_STATE_RANK = {state: rank for rank, state in enumerate(AlarmState)}
MAX_SHELVED = dt.timedelta(minutes=60)
MAX_SHELVED_HIGH = dt.timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class AlarmLook:
    """What decides an alarm's state."""

    alarm_id: str
    machine_id: str
    priority: str
    raised_at: dt.datetime
    cleared_at: dt.datetime | None = None
    acknowledged_at: dt.datetime | None = None
    shelved_until: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an alarm may not be shelved."""

    code: str
    message: str
    how_to_fix: str


def state_of(alarm: AlarmLook, now: dt.datetime) -> AlarmState:
    """The state at ``now``. What is gone and seen is over, whatever was shelved; a shelf ends at its moment."""
    is_seen = alarm.acknowledged_at is not None
    if alarm.cleared_at is not None and is_seen:
        return AlarmState.NORMAL
    if alarm.shelved_until is not None and now < alarm.shelved_until:
        return AlarmState.SHELVED
    if alarm.cleared_at is not None:
        return AlarmState.RETURNED
    return AlarmState.ACKNOWLEDGED if is_seen else AlarmState.UNACKNOWLEDGED


def longest_shelf(priority: str) -> dt.timedelta:
    """How long an alarm of this priority may be shelved at most; an unknown priority counts as high."""
    return MAX_SHELVED if priority in PRIORITIES[1:] else MAX_SHELVED_HIGH


def refuse_shelf(alarm: AlarmLook, *, lasting: dt.timedelta, reason: str, now: dt.datetime) -> Refusal | None:
    """Why it may not be shelved for so long; None where it may. The bound itself is allowed."""
    if state_of(alarm, now) is AlarmState.NORMAL:
        return Refusal("alarm_over", "This alarm is over.", "There is nothing to shelve.")
    if not reason.strip():
        return Refusal("reason_required", "Shelving needs a reason.", "Say why in `reason`.")
    if lasting <= dt.timedelta(0):
        return Refusal("too_short", "An alarm is shelved for some time.", "Give `minutes` above 0.")
    longest = longest_shelf(alarm.priority)
    if lasting > longest:
        minutes = int(longest.total_seconds() // 60)
        kind = "a high alarm" if longest == MAX_SHELVED_HIGH else "an alarm"
        return Refusal(
            "shelved_too_long", f"{kind.capitalize()} is shelved for {minutes} min at most.", "Give fewer `minutes`."
        )
    return None


def worst_first(alarms: Iterable[AlarmLook], now: dt.datetime) -> list[AlarmLook]:
    """Shelved last; then by priority, then what stands unseen before what is known or gone, newest first."""
    newest_first = sorted(alarms, key=lambda alarm: (alarm.raised_at, alarm.alarm_id), reverse=True)
    return sorted(newest_first, key=lambda alarm: _rank(alarm, now))


def _rank(alarm: AlarmLook, now: dt.datetime) -> tuple[bool, int, int]:
    state = state_of(alarm, now)
    priority = PRIORITIES.index(alarm.priority) if alarm.priority in PRIORITIES else 0
    return state is AlarmState.SHELVED, priority, _STATE_RANK[state]


def sounds(alarm: AlarmLook, now: dt.datetime) -> bool:
    """Whether a page makes itself heard: a high alarm that stands and that nobody has seen."""
    return state_of(alarm, now) is AlarmState.UNACKNOWLEDGED and alarm.priority not in PRIORITIES[1:]


def first_outs(alarms: Iterable[AlarmLook]) -> frozenset[str]:
    """Ids of first-outs: of alarms on one machine that stood together, the one that came first (it may have caused
    the others). An alarm that stood alone is none."""
    found = set()
    first: dict[str, AlarmLook] = {}  # machine → first alarm of the group that stands
    until: dict[str, dt.datetime | None] = {}  # machine → when the last of the group cleared; None: one stands
    for alarm in sorted(alarms, key=lambda each: (each.raised_at, each.alarm_id)):
        machine = alarm.machine_id
        if machine in first and ((end := until[machine]) is None or alarm.raised_at < end):
            found.add(first[machine].alarm_id)
            until[machine] = None if end is None or alarm.cleared_at is None else max(end, alarm.cleared_at)
        else:
            first[machine], until[machine] = alarm, alarm.cleared_at
    return frozenset(found)
