"""Walking a machine through its commissioning, and drilling its STOP, over REST. People only."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any

from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from commands.api.machines import machine_or_404
from commands.api.serializers import NothingBody, render_time
from commands.commissioning import facts, services_commissioning
from commands.commissioning import steps as commissioning
from commands.models import Commissioning, Halt, StopDrill
from commands.stop import asgi
from kernel import clock
from kernel.endpoints import Endpoint, principal_of
from kernel.errors import Conflict, Forbidden, Malformed, NotFound
from kernel.idempotency import idempotent
from kernel.principals import Principal
from kernel.schema import errors
from kernel.serializers import FlagField, StrictSerializer, TextField, read_body
from roasts.models import Machine

#: A second press of the same person while its halt stands is answered with the first one's drill.
SAME_DRILL_WITHIN = dt.timedelta(seconds=60)
CODES = [step.code for step in commissioning.STEPS]


class WizardStepSerializer(serializers.Serializer):
    code = serializers.ChoiceField(CODES)
    title = serializers.CharField()
    instruction = serializers.CharField()
    judged_by = serializers.ChoiceField([judge.value for judge in commissioning.Judge])
    asks_for = serializers.CharField(allow_blank=True)
    control = serializers.CharField(allow_blank=True)
    result = serializers.ChoiceField(["open", "passed", "failed"])
    message = serializers.CharField(allow_blank=True)
    evidence = serializers.DictField()
    by = serializers.CharField(allow_null=True)
    at = serializers.DateTimeField(allow_null=True)


class CommissioningSerializer(serializers.Serializer):
    commissioning_id = serializers.CharField()
    begun_by = serializers.CharField()
    begun_at = serializers.DateTimeField()
    completed_by = serializers.CharField(allow_null=True)
    completed_at = serializers.DateTimeField(allow_null=True)
    steps = WizardStepSerializer(many=True)


class DrillSerializer(serializers.Serializer):
    drill_id = serializers.CharField()
    machine_id = serializers.CharField()
    at = serializers.DateTimeField()
    by = serializers.CharField()
    is_passed = serializers.BooleanField()
    result = serializers.CharField(help_text="heat_off, unproved, or not_pressed (a virtual machine's record)")
    first_byte_ms = serializers.FloatField(allow_null=True)
    proved_ms = serializers.FloatField(allow_null=True)
    has_heat_gone_down = serializers.BooleanField(help_text="false: heat was at 0, only the way to it was tried")
    message = serializers.CharField(allow_blank=True)
    proves = serializers.ListField(child=serializers.CharField())
    does_not_prove = serializers.ListField(child=serializers.CharField())
    by_hand = serializers.ListField(child=serializers.CharField())
    halt_id = serializers.CharField(allow_null=True)
    note = serializers.CharField(allow_blank=True)


class CommissionedSerializer(serializers.Serializer):
    machine_id = serializers.CharField()
    is_commissioned = serializers.BooleanField(help_text="false: no agent may act on this machine")
    in_force = CommissioningSerializer(allow_null=True)
    under_way = CommissioningSerializer(allow_null=True)


class DrillsSerializer(serializers.Serializer):
    machine_id = serializers.CharField()
    is_due = serializers.BooleanField(help_text="true: no agent may act until one has passed")
    counts_until = serializers.DateTimeField(allow_null=True)
    max_age_s = serializers.FloatField()
    drills = DrillSerializer(many=True)


class StepBody(StrictSerializer):
    """``is_confirmed``: you looked. ``words``: where the step asks for something to be written down."""

    code = serializers.ChoiceField(CODES)
    is_confirmed = FlagField()
    words = TextField(max_length=1000, required=False, allow_blank=True, default="")


class EndBody(StrictSerializer):
    reason = TextField(max_length=500)


class DrillBody(StrictSerializer):
    """``is_drum_empty``: you looked into the drum; STOP takes heat away."""

    is_drum_empty = FlagField()
    note = TextField(max_length=500, required=False, allow_blank=True, default="")


def render_steps(row: Commissioning | None, machine: Machine) -> list[dict[str, Any]]:
    """Every step of this machine with what came of it last."""
    said = commissioning.latest(row.steps) if row is not None else {}
    steps = []
    for step in commissioning.steps_for(services_commissioning.controls_of(machine)):
        entry = said.get(step.code, {})
        steps.append(
            {
                "code": step.code,
                "title": step.title,
                "instruction": step.instruction,
                "judged_by": step.judge.value,
                "asks_for": step.asks_for,
                "control": step.control,
                "result": entry.get("result", "open"),
                "message": entry.get("message", ""),
                "evidence": entry.get("evidence", {}),
                "by": entry.get("by"),
                "at": entry.get("at"),
            }
        )
    return steps


def render_commissioning(row: Commissioning | None, machine: Machine) -> dict[str, Any] | None:
    if row is None:
        return None
    return {
        "commissioning_id": row.pk,
        "begun_by": row.begun_by.get_username(),
        "begun_at": render_time(row.begun_at),
        "completed_by": row.completed_by.get_username() if row.completed_by else None,
        "completed_at": render_time(row.completed_at),
        "steps": render_steps(row, machine),
    }


def render_drill(drill: StopDrill) -> dict[str, Any]:
    return {**services_commissioning.drill_document(drill), "by": drill.user.get_username()}


def _state(machine: Machine) -> Response:
    in_force, under_way = services_commissioning.in_force(machine), services_commissioning.under_way(machine)
    return Response(
        {
            "machine_id": machine.pk,
            "is_commissioned": in_force is not None,
            "in_force": render_commissioning(in_force, machine),
            "under_way": render_commissioning(under_way, machine),
        }
    )


def _under_way(machine: Machine) -> Commissioning:
    row = services_commissioning.under_way(machine)
    if row is None:
        raise Conflict("not_begun", "No commissioning of this machine is under way.", "Begin one first.")
    return row


class CommissioningDetail(Endpoint):
    """`GET /v1/machines/{id}/commissioning`."""

    @extend_schema(operation_id="get_commissioning", responses={200: CommissionedSerializer})
    def get(self, request: Request, machine_id: str) -> Response:
        return _state(machine_or_404(request, machine_id))


class CommissioningBegin(Endpoint):
    """`POST /v1/machines/{id}/commissioning/begin`: the one under way where there is one."""

    needs = {"POST": "operate"}

    @extend_schema(operation_id="begin_commissioning", request=NothingBody, responses={200: CommissionedSerializer})
    @idempotent
    def post(self, request: Request, machine_id: str) -> Response:
        machine = machine_or_404(request, machine_id)
        read_body(NothingBody, request)
        services_commissioning.begin_commissioning(principal_of(request), machine, now=clock.now())
        return _state(machine)


class CommissioningStep(Endpoint):
    """`POST /v1/machines/{id}/commissioning/step`: judged now, by readings, orders and events where they can."""

    needs = {"POST": "operate"}

    @extend_schema(
        operation_id="judge_commissioning_step",
        description="A step that fails is kept as failed; it may be done again.",
        request=StepBody,
        responses={200: CommissionedSerializer, **errors(409, 422)},
    )
    @idempotent
    def post(self, request: Request, machine_id: str) -> Response:
        machine = machine_or_404(request, machine_id)
        body, now = read_body(StepBody, request), clock.now()
        step = commissioning.step_of(body["code"])
        row = _under_way(machine)
        if step is None or step not in commissioning.steps_for(services_commissioning.controls_of(machine)):
            raise NotFound("no_such_step", "This machine has no such step.", "See GET …/commissioning.")
        said = commissioning.Said(body["is_confirmed"], body["words"])
        finding = commissioning.judge(step, facts.facts_of(machine, row.begun_at, now), said)
        services_commissioning.record_step(principal_of(request), row, code=step.code, finding=finding, now=now)
        return _state(machine)


class CommissioningComplete(Endpoint):
    """`POST /v1/machines/{id}/commissioning/complete`: a lead signs; the former one ends."""

    needs = {"POST": "lead"}

    @extend_schema(
        operation_id="complete_commissioning",
        request=NothingBody,
        responses={200: CommissionedSerializer, **errors(409, 422)},
    )
    @idempotent
    def post(self, request: Request, machine_id: str) -> Response:
        machine = machine_or_404(request, machine_id)
        read_body(NothingBody, request)
        limits = facts.limits_of(machine)
        services_commissioning.complete_commissioning(
            principal_of(request), _under_way(machine), limits=limits, now=clock.now()
        )
        return _state(machine)


class CommissioningEnd(Endpoint):
    """`POST /v1/machines/{id}/commissioning/end`: abandon the one under way, else take the one in force back."""

    needs = {"POST": "operate"}

    @extend_schema(
        operation_id="end_commissioning",
        description="An operator abandons one that is under way; taking one in force back needs a lead.",
        request=EndBody,
        responses={200: CommissionedSerializer, **errors(409, 422)},
    )
    @idempotent
    def post(self, request: Request, machine_id: str) -> Response:
        machine = machine_or_404(request, machine_id)
        reason = read_body(EndBody, request)["reason"]
        row = services_commissioning.under_way(machine) or services_commissioning.in_force(machine)
        if row is None:
            raise Conflict("not_begun", "This machine has no commissioning to end.", "There is nothing to do.")
        services_commissioning.end_commissioning(principal_of(request), row, reason=reason, now=clock.now())
        return _state(machine)


class MachineDrills(Endpoint):
    """`GET /v1/machines/{id}/drill`: the newest drills; `POST`: press the real STOP, timed."""

    @extend_schema(operation_id="list_drills", responses={200: DrillsSerializer})
    def get(self, request: Request, machine_id: str) -> Response:
        machine = machine_or_404(request, machine_id)
        state = facts.drill_state(machine, clock.now())
        drills = StopDrill.objects.filter(machine=machine).select_related("user")[: facts.HISTORY]
        return Response(
            {
                "machine_id": machine.pk,
                "is_due": state["is_due"],
                "counts_until": render_time(state["counts_until"]),
                "max_age_s": state["max_age_s"],
                "drills": [render_drill(drill) for drill in drills],
            }
        )

    @extend_schema(
        operation_id="drill_stop",
        description="Presses the real STOP: heat goes off and a halt latches, which a lead resets as after any STOP. "
        "Pressed again while that halt stands, it answers with the same drill.",
        request=DrillBody,
        responses={200: DrillSerializer, **errors(409, 422)},
    )
    def post(self, request: Request, machine_id: str) -> Response:
        begun_s = clock.monotonic()
        machine = machine_or_404(request, machine_id)
        body = read_body(DrillBody, request)
        principal = principal_of(request)
        if not principal.is_person or not principal.may("operate"):
            raise Forbidden("not_allowed", "A drill is pressed by an operator at the machine.", "Ask an operator.")
        if not body["is_drum_empty"]:
            raise Malformed(
                "drum_not_empty", "A drill takes heat away from what is in the drum.", "Do it with an empty drum."
            )
        again = _drill_of_standing_halt(principal, machine)
        if again is not None:
            return Response(render_drill(again))
        _refuse_drill(machine)
        answer = asyncio.run(
            asgi.stop_machine(machine.pk, principal, asgi.known_config(machine.pk), begun_s=begun_s)
        )
        drill = services_commissioning.record_drill(
            principal, machine, answer=answer, note=body["note"], now=clock.now()
        )
        return Response(render_drill(StopDrill.objects.select_related("user").get(pk=drill.pk)))


def _drill_of_standing_halt(principal: Principal, machine: Machine) -> StopDrill | None:
    """The drill this person pressed a moment ago and whose halt still stands."""
    since = clock.now() - SAME_DRILL_WITHIN
    last = StopDrill.objects.filter(machine=machine, user=principal.user, at__gte=since).select_related("user").first()
    if last is None or not last.proof.get("halt_id"):
        return None
    stands = Halt.objects.filter(pk=last.proof["halt_id"], machine=machine, closed_at__isnull=True).exists()
    return last if stands else None


def _refuse_drill(machine: Machine) -> None:
    """A drill on a machine that is halted already would time nothing; one with beans in the drum would burn them."""
    if Halt.objects.filter(machine=machine, closed_at__isnull=True).exists():
        raise Conflict("already_halted", f"{machine.name} is halted already.", "Have a lead reset it, then drill.")
    latest = getattr(machine, "latest", None)
    if latest is not None and latest.are_beans_proved:
        raise Conflict("beans_in_drum", f"Beans are in {machine.name}'s drum.", "Drop them first. STOP itself works.")


commissioning_urlpatterns = [
    path("machines/<str:machine_id>/commissioning", CommissioningDetail.as_view(), name="commissioning"),
    path("machines/<str:machine_id>/commissioning/begin", CommissioningBegin.as_view(), name="commissioning-begin"),
    path("machines/<str:machine_id>/commissioning/step", CommissioningStep.as_view(), name="commissioning-step"),
    path(
        "machines/<str:machine_id>/commissioning/complete",
        CommissioningComplete.as_view(),
        name="commissioning-complete",
    ),
    path("machines/<str:machine_id>/commissioning/end", CommissioningEnd.as_view(), name="commissioning-end"),
    path("machines/<str:machine_id>/drill", MachineDrills.as_view(), name="machine-drill"),
]
