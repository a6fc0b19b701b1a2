"""Machines over REST: what they read, who has them, and the acts that need no proposal."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any

from django.db.models import Exists, OuterRef, Prefetch, QuerySet
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from commands import services
from commands.console import machine_state
from commands.loop import waiting
from commands.models import Alarm, Halt, Suspension
from commands.records import halts as services_halts
from commands.stop import asgi, wire
from drivers.keeper_client import KeeperRefused
from drivers.port import DriverError
from kernel import clock
from kernel.endpoints import Endpoint, principal_of
from kernel.errors import Conflict, NotFound, NotNow
from kernel.idempotency import idempotent
from kernel.pagination import ListFilters, paginate
from kernel.prepared import Prepared, PreparedObjects
from kernel.schema import errors
from kernel.serializers import StrictSerializer, TextField, read_body, read_filters
from roasts.models import Machine, Roast


class ControlSerializer(serializers.Serializer):
    min_step = serializers.IntegerField()
    max_step = serializers.IntegerField()
    full_scale_step = serializers.IntegerField()
    max_change_step = serializers.IntegerField()
    min_interval_s = serializers.FloatField()


class MachineEnvelopeSerializer(serializers.Serializer):
    controls = serializers.DictField(child=ControlSerializer())
    max_bean_temp_c = serializers.FloatField()
    max_infrared_temp_c = serializers.FloatField()
    max_rate_of_rise_c_per_min = serializers.FloatField()
    max_heat_time_s = serializers.IntegerField()


class ReadingSerializer(serializers.Serializer):
    at = serializers.DateTimeField()
    age_ms = serializers.IntegerField(help_text="computed when this was answered")
    sequence = serializers.IntegerField()
    device_ms = serializers.IntegerField()
    state = serializers.CharField()
    bean_temp_c = serializers.FloatField(allow_null=True)
    infrared_temp_c = serializers.FloatField(allow_null=True)
    environment_temp_c = serializers.FloatField(
        allow_null=True, help_text="ET of machines that have such a probe, beside or instead of infrared"
    )
    exhaust_temp_c = serializers.FloatField(allow_null=True)
    ambient_temp_c = serializers.FloatField(allow_null=True)
    rate_of_rise_c_per_min = serializers.FloatField(allow_null=True)
    heater_step = serializers.IntegerField(allow_null=True)
    fan_step = serializers.IntegerField(allow_null=True)
    drum_step = serializers.IntegerField(allow_null=True)
    fan_rpm = serializers.IntegerField(allow_null=True)
    voltage_v = serializers.IntegerField(allow_null=True)
    quality = serializers.DictField(child=serializers.CharField())
    interval_s = serializers.FloatField(
        allow_null=True, help_text="how far apart its readings come, by its driver's word; null: not said"
    )


class HaltSerializer(serializers.Serializer):
    halt_id = serializers.CharField()
    kind = serializers.CharField()
    code = serializers.CharField(allow_blank=True)
    opened_at = serializers.DateTimeField()
    opened_by = serializers.DictField(child=serializers.CharField())
    result = serializers.CharField(allow_blank=True)
    first_byte_ms = serializers.FloatField(allow_null=True)
    proved_ms = serializers.FloatField(allow_null=True)
    by_hand = serializers.ListField(child=serializers.CharField())
    cooling_observed_at = serializers.DateTimeField(allow_null=True)
    may_hold_hot_beans = serializers.BooleanField(help_text="beans may be in a hot drum: drop by hand")


class MachineSerializer(serializers.Serializer):
    machine_id = serializers.CharField()
    name = serializers.CharField()
    link = serializers.CharField(help_text="never, up, stale, down, keeper_lost or untended")
    link_code = serializers.CharField(allow_blank=True)
    link_message = serializers.CharField(allow_blank=True)
    state = serializers.CharField()
    reading = ReadingSerializer(allow_null=True)
    envelope = MachineEnvelopeSerializer()
    roast_id = serializers.CharField(allow_null=True)
    halts = HaltSerializer(many=True)
    alarms = serializers.ListField(child=serializers.DictField())
    suspension = serializers.DictField(allow_null=True)
    is_orders_paused = serializers.BooleanField()
    are_beans_proved = serializers.BooleanField()
    is_virtual = serializers.BooleanField()


class MachinePageSerializer(serializers.Serializer):
    results = MachineSerializer(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class StopBody(serializers.Serializer):
    stop_token = serializers.CharField(required=False, help_text="a console STOP token, instead of key or session")


class StopSerializer(serializers.Serializer):
    result = serializers.ChoiceField(["heat_off", "unproved"])
    halt_id = serializers.CharField()
    first_byte_ms = serializers.FloatField(allow_null=True, help_text="null: heat was off already, or nothing left")
    proved_ms = serializers.FloatField(allow_null=True)
    by_hand = serializers.ListField(child=serializers.CharField())
    proof = serializers.DictField()
    recorded = serializers.BooleanField(help_text="false: journalled, filed when the store is back")


class ReasonBody(StrictSerializer):
    reason = TextField(max_length=500)


class ResumeBody(StrictSerializer):
    """``agents``: give the machine back. ``orders``: the operator looked after a lost link."""

    what = serializers.ChoiceField(["agents", "orders"], default="agents")
    reason = TextField(max_length=500, required=False, default="The operator looked at the machine.")


class LookedBody(StrictSerializer):
    reason = TextField(max_length=500, required=False, default="The operator looked at the machine.")


class NoBody(StrictSerializer):
    pass


class ResetSerializer(serializers.Serializer):
    machine_id = serializers.CharField()
    halts = serializers.ListField(child=serializers.CharField(), help_text="halts that were closed by this")


class SuspensionSerializer(serializers.Serializer):
    machine_id = serializers.CharField()
    is_suspended = serializers.BooleanField()
    is_orders_paused = serializers.BooleanField()


def machines_of(principal: Any) -> QuerySet[Machine]:
    """Machines this principal may see, with all that is shown of them: six queries for a page."""
    halts = Halt.objects.filter(closed_at__isnull=True).select_related("organization")
    suspended = Suspension.objects.filter(given_back_at__isnull=True).select_related("taken_by")
    return (
        _in_use(principal)
        .select_related("latest", "lease", "organization")
        .prefetch_related(
            "limits",
            Prefetch("halts", queryset=halts, to_attr="open_halts"),
            Prefetch("suspensions", queryset=suspended, to_attr="open_suspensions"),
            Prefetch("alarms", queryset=Alarm.objects.filter(cleared_at__isnull=True), to_attr="standing_alarms"),
            Prefetch("roasts", queryset=Roast.objects.open(), to_attr="open_roasts"),
        )
    )


def _in_use(principal: Any) -> QuerySet[Machine]:
    return (
        Machine.objects.for_principal(principal)
        .filter(is_archived=False)
        .select_related("organization")
    )  # fmt: skip


_IN_USE = PreparedObjects(
    lambda machine, organization: (
        Machine.objects.filter(pk=machine, organization_id=organization, is_archived=False)
        .select_related("organization")
        .order_by()
    ),
    "machine",
    "organization",
)


def machine_or_404(request: Request, machine_id: str, *, is_shown: bool = False) -> Machine:
    """The principal's organisation's machine; ``is_shown``: with all that a page or an answer says of it."""
    principal = principal_of(request)
    if is_shown:
        machine = machines_of(principal).filter(pk=machine_id).first()
    else:
        own = principal.organization
        machine = None if own is None else _IN_USE.first(machine=machine_id, organization=own.pk)
    if machine is None:
        raise NotFound("machine_not_found", "There is no such machine here.", "List them with GET /v1/machines.")
    return machine


class MachineList(Endpoint):
    """`GET /v1/machines`."""

    @extend_schema(operation_id="list_machines", parameters=[ListFilters], responses={200: MachinePageSerializer})
    def get(self, request: Request) -> Response:
        filters = read_filters(ListFilters, request)
        now = clock.now()
        return paginate(
            machines_of(principal_of(request)),
            order=("name", "id"),
            limit=filters["limit"],
            cursor=filters.get("cursor"),
            render=lambda machine: machine_state.render_machine(machine, now),
        )


class MachineDetail(Endpoint):
    """`GET /v1/machines/{id}`: newest reading with its age at the moment of the answer."""

    @extend_schema(operation_id="get_machine", responses={200: MachineSerializer})
    def get(self, request: Request, machine_id: str) -> Response:
        return Response(machine_state.render_machine(machine_or_404(request, machine_id, is_shown=True), clock.now()))


class MachineStop(Endpoint):
    """`POST /v1/machines/{id}/stop`. Under the ASGI server this path never comes here: `commands.stop.asgi` answers."""

    needs = {"POST": "stop"}

    @extend_schema(request=StopBody, responses={200: StopSerializer})
    def post(self, request: Request, machine_id: str) -> Response:
        begun_s = clock.monotonic()
        machine = machine_or_404(request, machine_id)
        config = asgi.known_config(machine.pk)
        principal = principal_of(request)
        return Response(asyncio.run(asgi.stop_machine(machine.pk, principal, config, begun_s=begun_s)))


class MachineReset(Endpoint):
    """`POST /v1/machines/{id}/reset`: a lead takes the halts back, with a reason."""

    needs = {"POST": "lead"}

    @extend_schema(request=ReasonBody, responses={200: ResetSerializer, **errors(409)})
    @idempotent
    def post(self, request: Request, machine_id: str) -> Response:
        machine = machine_or_404(request, machine_id)
        reason = read_body(ReasonBody, request)["reason"]
        principal = principal_of(request)
        release_keeper(machine, by=f"{principal.name} ({principal.id})")
        now = clock.now()
        closed = [
            services.reset_halt(principal, halt, reason=reason, now=now).pk
            for halt in waiting.open_halts(machine.pk)
        ]
        return Response({"machine_id": machine.pk, "halts": closed})


def release_keeper(machine: Machine, *, by: str) -> None:
    """Clear the keeper's latch first: a halt that is only closed in the store would latch again. NotNow, Conflict."""
    config = asgi.known_config(machine.pk)
    if config is None:
        return  # no keeper ever held it: there is no latch
    try:
        wire.release_latch(config, by=by)
    except KeeperRefused as error:
        raise Conflict(error.code, error.message, error.how_to_fix or "Try again in a moment.") from error
    except (DriverError, OSError) as error:
        raise NotNow(
            "keeper_unreachable",
            f"The process that holds {machine.name} does not answer, so its latch cannot be released.",
            "Wait until the machine's link is up again, then reset.",
        ) from error


class MachineSuspend(Endpoint):
    """`POST /v1/machines/{id}/suspend`: "I have it". The roast goes on, no agent acts."""

    needs = {"POST": "operate"}

    @extend_schema(request=NoBody, responses={200: SuspensionSerializer})
    @idempotent
    def post(self, request: Request, machine_id: str) -> Response:
        machine = machine_or_404(request, machine_id)
        read_body(NoBody, request)
        services.suspend_agents(principal_of(request), machine, now=clock.now())
        return _access(machine)


class MachineResume(Endpoint):
    """`POST /v1/machines/{id}/resume` {what: agents | orders}: give it back, or let orders through after a replug."""

    needs = {"POST": "operate"}

    @extend_schema(request=ResumeBody, responses={200: SuspensionSerializer})
    @idempotent
    def post(self, request: Request, machine_id: str) -> Response:
        machine = machine_or_404(request, machine_id)
        body = read_body(ResumeBody, request)
        if body["what"] == "agents":
            services.resume_agents(principal_of(request), machine, now=clock.now())
        else:
            resume_orders(principal_of(request), machine, reason=body["reason"], now=clock.now())
        return _access(machine)


class MachineResumeOrders(Endpoint):
    """`POST /v1/machines/{id}/resume-orders`: the operator looked after a lost link (same as resume, what: orders)."""

    needs = {"POST": "operate"}

    @extend_schema(request=LookedBody, responses={200: SuspensionSerializer})
    @idempotent
    def post(self, request: Request, machine_id: str) -> Response:
        machine = machine_or_404(request, machine_id)
        body = read_body(LookedBody, request)
        resume_orders(principal_of(request), machine, reason=body["reason"], now=clock.now())
        return _access(machine)


def resume_orders(principal: Any, machine: Machine, *, reason: str, now: dt.datetime) -> None:
    """Let orders through again, and clear the halt that the lost link opened. STOP and interlocks stay a lead's."""
    services_halts.require_link(machine)
    for halt in waiting.open_halts(machine.pk):
        if halt.kind != Halt.Kind.LINK_LOST.value:
            continue
        services.reset_halt(principal, halt, reason=reason, now=now)
    services.resume_orders(principal, machine, now=now)


def _access(machine: Machine) -> Response:
    ((is_suspended, is_paused),) = _ACCESS.rows(machine=machine.pk)
    access = {"is_suspended": bool(is_suspended), "is_orders_paused": bool(is_paused)}
    return Response({"machine_id": machine.pk, **access})


_ACCESS = Prepared(
    lambda machine: (
        Machine.objects.filter(pk=machine)
        .order_by()
        .values_list(
            Exists(Suspension.objects.filter(machine_id=OuterRef("pk"), given_back_at__isnull=True)),
            "latest__is_orders_paused",
        )
    ),
    "machine",
)


machine_urlpatterns = [
    path("machines", MachineList.as_view(), name="machines"),
    path("machines/<str:machine_id>", MachineDetail.as_view(), name="machine"),
    path("machines/<str:machine_id>/stop", MachineStop.as_view(), name="machine-stop"),
    path("machines/<str:machine_id>/reset", MachineReset.as_view(), name="machine-reset"),
    path("machines/<str:machine_id>/suspend", MachineSuspend.as_view(), name="machine-suspend"),
    path("machines/<str:machine_id>/resume", MachineResume.as_view(), name="machine-resume"),
    path("machines/<str:machine_id>/resume-orders", MachineResumeOrders.as_view(), name="machine-resume-orders"),
]
