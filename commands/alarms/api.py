"""Alarms over REST: what stands, worst first; acknowledging, shelving, taking back from the shelf."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db.models import QuerySet
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from commands.alarms import rows as alarm_rows
from commands.alarms import services_alarms
from commands.alarms.states import PRIORITIES, AlarmState, first_outs
from commands.api.machines import machine_or_404
from commands.api.serializers import NothingBody, NumberField, render_time
from commands.models import Alarm
from kernel import clock
from kernel.endpoints import Endpoint, RowAct, acts, principal_of
from kernel.errors import NotFound
from kernel.idempotency import idempotent
from kernel.pagination import ListFilters, paginate
from kernel.principals import Principal
from kernel.schema import errors
from kernel.serializers import StrictSerializer, TextField, read_body, read_filters

OPEN = "open"  # every state but normal
ALL = "all"
MAX_AT_ONCE = 100


class AlarmRowSerializer(serializers.Serializer):
    """One alarm, in one of the states of ISA-18.2."""

    alarm_id = serializers.CharField()
    machine_id = serializers.CharField()
    code = serializers.CharField()
    priority = serializers.ChoiceField(PRIORITIES)
    state = serializers.ChoiceField([state.value for state in AlarmState])
    is_first_out = serializers.BooleanField(help_text="of several that stood together on a machine, the first")
    cause = serializers.CharField()
    consequence = serializers.CharField()
    action = serializers.CharField()
    raised_at = serializers.DateTimeField()
    cleared_at = serializers.DateTimeField(allow_null=True)
    acknowledged_at = serializers.DateTimeField(allow_null=True)
    acknowledged_by = serializers.CharField(allow_null=True)
    shelved_until = serializers.DateTimeField(allow_null=True)
    shelved_by = serializers.CharField(allow_null=True)
    shelve_reason = serializers.CharField(allow_blank=True)
    longest_shelf_minutes = serializers.IntegerField()


class AlarmPageSerializer(serializers.Serializer):
    results = AlarmRowSerializer(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class AlarmFilters(ListFilters):
    """``state``: one state, or ``open`` (all but normal, the default), or ``all``."""

    machine = serializers.CharField(max_length=40, required=False)
    priority = serializers.ChoiceField(PRIORITIES, required=False)
    code = serializers.CharField(max_length=60, required=False)
    state = serializers.ChoiceField([OPEN, ALL, *(state.value for state in AlarmState)], default=OPEN)


class ShelveBody(StrictSerializer):
    """For how long, and why. A high alarm: 10 min at most; any other: 60."""

    minutes = NumberField(min_value=0, max_value=60)
    reason = TextField(max_length=500)


class AcknowledgeAlarmsBody(StrictSerializer):
    """The alarms that were looked at, each by its id."""

    alarm_ids = serializers.ListField(child=TextField(max_length=40), min_length=1, max_length=MAX_AT_ONCE)


class AcknowledgedSerializer(serializers.Serializer):
    results = AlarmRowSerializer(many=True)


def alarms_of(principal: Principal) -> QuerySet[Alarm]:
    return Alarm.objects.for_principal(principal).select_related(*alarm_rows.WITH_NAMES)


def alarm_or_404(request: Request, alarm_id: str) -> Alarm:
    alarm = alarms_of(principal_of(request)).filter(pk=alarm_id).first()
    if alarm is None:
        raise NotFound("alarm_not_found", "There is no such alarm here.", "List them with GET /v1/alarms.")
    return alarm


def _render(alarm: Alarm, firsts: frozenset[str], now: dt.datetime) -> dict[str, Any]:
    document = alarm_rows.alarm_document(alarm_rows.row_of(alarm, firsts, now))
    return {key: render_time(value) if isinstance(value, dt.datetime) else value for key, value in document.items()}


def _firsts(principal: Principal) -> frozenset[str]:
    """What came first among all that is not over: one query of bounded size."""
    standing = Alarm.objects.for_principal(principal).filter(alarm_rows.not_over())
    rows = standing.order_by("-raised_at", "-id")[: alarm_rows.GROUP_LIMIT]
    return first_outs([alarm_rows.look_of(alarm) for alarm in rows])


def _answer(alarm: Alarm, principal: Principal, now: dt.datetime) -> Response:
    fresh = alarms_of(principal).get(pk=alarm.pk)
    return Response(_render(fresh, _firsts(principal), now))


class AlarmList(Endpoint):
    """`GET /v1/alarms`."""

    @extend_schema(
        operation_id="list_alarms",
        description="Worst first: shelved ones last, then by priority, then what stands unseen before what is known.",
        parameters=[AlarmFilters],
        responses={200: AlarmPageSerializer},
    )
    def get(self, request: Request) -> Response:
        filters = read_filters(AlarmFilters, request)
        principal, now = principal_of(request), clock.now()
        rows = alarms_of(principal)
        names = {"machine": "machine_id", "priority": "priority", "code": "code"}
        rows = rows.filter(**{column: filters[name] for name, column in names.items() if name in filters})
        if filters["state"] == OPEN:
            rows = rows.filter(alarm_rows.not_over())
        elif filters["state"] != ALL:
            rows = rows.filter(alarm_rows.in_state(AlarmState(filters["state"]), now))
        firsts = _firsts(principal)
        return paginate(
            alarm_rows.with_badness(rows, now),
            order=("-badness", "-raised_at", "-id"),
            limit=filters["limit"],
            cursor=filters.get("cursor"),
            render=lambda alarm: _render(alarm, firsts, now),
        )


class AlarmAcknowledge(Endpoint):
    """`POST /v1/alarms/{id}/acknowledge`."""

    needs = {"POST": "operate"}

    @extend_schema(
        operation_id="acknowledge_alarm",
        description="A person has seen it; the first one stays.",
        request=NothingBody,
        responses={200: AlarmRowSerializer, **errors(409, 422)},
    )
    @idempotent
    def post(self, request: Request, alarm_id: str) -> Response:
        read_body(NothingBody, request)
        principal, now = principal_of(request), clock.now()
        alarm = services_alarms.acknowledge_alarm(principal, alarm_or_404(request, alarm_id), now=now)
        return _answer(alarm, principal, now)


class AlarmAct(RowAct):
    """One thing done to an alarm, by an operator."""

    needs = {"POST": "operate"}

    def find(self, request: Request, row_id: str) -> Alarm:
        return alarm_or_404(request, row_id)

    def show(self, request: Request, row: Alarm) -> Response:
        return _answer(row, principal_of(request), clock.now())


class AlarmsAcknowledge(Endpoint):
    """`POST /v1/machines/{id}/alarms/acknowledge` {alarm_ids}."""

    needs = {"POST": "operate"}

    @extend_schema(
        operation_id="acknowledge_alarms",
        description="A person has seen these alarms of one machine, each named: whatever came meanwhile stays unseen. "
        f"At most {MAX_AT_ONCE}; none is acknowledged where one is not this machine's (404).",
        request=AcknowledgeAlarmsBody,
        responses={200: AcknowledgedSerializer, **errors(409, 422)},
    )
    @idempotent
    def post(self, request: Request, machine_id: str) -> Response:
        machine, principal, now = machine_or_404(request, machine_id), principal_of(request), clock.now()
        asked = read_body(AcknowledgeAlarmsBody, request)["alarm_ids"]
        seen = services_alarms.acknowledge_alarms(principal, machine, alarm_ids=asked, now=now)
        rows = alarms_of(principal).filter(pk__in=[alarm.pk for alarm in seen]).order_by("raised_at", "id")
        firsts = _firsts(principal)
        return Response({"results": [_render(alarm, firsts, now) for alarm in rows]})


@acts(
    "shelve_alarm",
    "Set one alarm aside: a high one for 10 min at most, any other for 60. Raised anew, it shows.",
    ShelveBody, AlarmRowSerializer, service=services_alarms.shelve_alarm,
)  # fmt: skip
class AlarmShelve(AlarmAct):
    """`POST /v1/alarms/{id}/shelve` {minutes, reason}."""


@acts(
    "unshelve_alarm", "It shows again; one that is not shelved stays as it is.", NothingBody, AlarmRowSerializer,
    service=services_alarms.unshelve_alarm,
)
class AlarmUnshelve(AlarmAct):
    """`POST /v1/alarms/{id}/unshelve`."""


alarm_urlpatterns = [
    path("alarms", AlarmList.as_view(), name="alarms"),
    path("machines/<str:machine_id>/alarms/acknowledge", AlarmsAcknowledge.as_view(), name="alarms-acknowledge"),
    path("alarms/<str:alarm_id>/acknowledge", AlarmAcknowledge.as_view(), name="alarm-acknowledge"),
    path("alarms/<str:alarm_id>/shelve", AlarmShelve.as_view(), name="alarm-shelve"),
    path("alarms/<str:alarm_id>/unshelve", AlarmUnshelve.as_view(), name="alarm-unshelve"),
]
