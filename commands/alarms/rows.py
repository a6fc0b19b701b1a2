"""Alarms as rows: in which state, worst first, for lists and pages. The words of the states: `alarms.states`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Case, IntegerField, Q, QuerySet, Value, When

from commands.alarms import states
from commands.alarms.states import PRIORITIES, AlarmLook, AlarmState
from commands.models import Alarm
from kernel.principals import Principal

GROUP_LIMIT = 500
WITH_NAMES = ("machine", "acknowledged_by", "shelved_by", "organization")


@dataclass(frozen=True, slots=True)
class AlarmRow:
    """One alarm as a page shows it."""

    alarm: Alarm
    state: AlarmState
    is_first_out: bool
    longest_shelf_minutes: int
    is_heard: bool

    @property
    def state_words(self) -> str:
        return states.WORDS[self.state]

    @property
    def shape(self) -> str:
        return states.SHAPES[self.state]


def look_of(alarm: Alarm) -> AlarmLook:
    """What decides the row's state."""
    return AlarmLook(
        alarm.pk, alarm.machine_id, alarm.priority, alarm.raised_at, alarm.cleared_at, alarm.acknowledged_at,
        alarm.shelved_until,
    )  # fmt: skip


def not_over() -> Q:
    """Every state but normal."""
    return Q(cleared_at__isnull=True) | Q(acknowledged_at__isnull=True)


def unshelved(now: dt.datetime) -> Q:
    """Nobody has set it aside, or the time is up."""
    return Q(shelved_until__isnull=True) | Q(shelved_until__lte=now)


def in_state(state: AlarmState, now: dt.datetime) -> Q:
    """Rows in that state at ``now`` (the same table as `states.state_of`)."""
    is_shelved = Q(shelved_until__gt=now)
    is_on_show = unshelved(now)
    stands, is_seen = Q(cleared_at__isnull=True), Q(acknowledged_at__isnull=False)
    return {
        AlarmState.NORMAL: ~stands & is_seen,
        AlarmState.SHELVED: is_shelved & not_over(),
        AlarmState.RETURNED: is_on_show & ~stands & ~is_seen,
        AlarmState.ACKNOWLEDGED: is_on_show & stands & is_seen,
        AlarmState.UNACKNOWLEDGED: is_on_show & stands & ~is_seen,
    }[state]


def with_badness(rows: QuerySet[Alarm], now: dt.datetime) -> QuerySet[Alarm]:
    """``badness`` as a column, higher is worse: `states.worst_first` as the database sorts it."""
    shelf = Case(When(shelved_until__gt=now, then=Value(0)), default=Value(100), output_field=IntegerField())
    # What is over is not shelved any more, whatever its shelf says.
    shelf = Case(When(in_state(AlarmState.NORMAL, now), then=Value(100)), default=shelf)
    priority = Case(
        When(priority=PRIORITIES[1], then=Value(20)), When(priority=PRIORITIES[2], then=Value(10)), default=Value(30)
    )
    state = Case(
        When(in_state(AlarmState.UNACKNOWLEDGED, now), then=Value(4)),
        When(in_state(AlarmState.ACKNOWLEDGED, now), then=Value(3)),
        When(in_state(AlarmState.RETURNED, now), then=Value(2)),
        When(in_state(AlarmState.SHELVED, now), then=Value(1)),
        default=Value(0),
    )
    return rows.annotate(badness=shelf + priority + state)


def rows_of(alarms: Sequence[Alarm], group: Iterable[Alarm], now: dt.datetime) -> list[AlarmRow]:
    """``alarms`` as shown; ``group``: all that is not over on their machines, to find what came first."""
    firsts = states.first_outs([look_of(alarm) for alarm in group])
    return [row_of(alarm, firsts, now) for alarm in alarms]


def row_of(alarm: Alarm, firsts: frozenset[str], now: dt.datetime) -> AlarmRow:
    look = look_of(alarm)
    minutes = int(states.longest_shelf(alarm.priority).total_seconds() // 60)
    is_heard = states.sounds(look, now)
    return AlarmRow(alarm, states.state_of(look, now), alarm.pk in firsts, minutes, is_heard)


def on_show(principal: Principal, now: dt.datetime) -> list[AlarmRow]:
    """Everything that is not over, worst first, at most GROUP_LIMIT."""
    rows = Alarm.objects.for_principal(principal).filter(not_over()).select_related(*WITH_NAMES)
    found = list(rows.order_by("-raised_at", "-id")[:GROUP_LIMIT])
    by_id = {row.alarm.pk: row for row in rows_of(found, found, now)}
    return [by_id[look.alarm_id] for look in states.worst_first([look_of(alarm) for alarm in found], now)]


def alarm_document(row: AlarmRow) -> dict[str, Any]:
    """An alarm as the API gives it; times are datetimes."""
    alarm = row.alarm
    return {
        "alarm_id": alarm.pk,
        "machine_id": alarm.machine_id,
        "code": alarm.code,
        "priority": alarm.priority,
        "state": row.state.value,
        "is_first_out": row.is_first_out,
        "cause": alarm.cause,
        "consequence": alarm.consequence,
        "action": alarm.action,
        "raised_at": alarm.raised_at,
        "cleared_at": alarm.cleared_at,
        "acknowledged_at": alarm.acknowledged_at,
        "acknowledged_by": alarm.acknowledged_by.get_username() if alarm.acknowledged_by else None,
        "shelved_until": alarm.shelved_until if row.state is AlarmState.SHELVED else None,
        "shelved_by": _shelver(row),
        "shelve_reason": alarm.shelve_reason if row.state is AlarmState.SHELVED else "",
        "longest_shelf_minutes": row.longest_shelf_minutes,
    }


def _shelver(row: AlarmRow) -> str | None:
    by = row.alarm.shelved_by
    return by.get_username() if by is not None and row.state is AlarmState.SHELVED else None
