"""The governor over REST: veto and review of an order, presence at a machine, the policy and its history."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.urls import path
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from commands import services
from commands.api import serializers as shapes
from commands.api.orders import OrderAct, machine_or_404
from commands.models import BreakerTrip, GovernorPolicy
from commands.records import attendance, grants
from commands.records.approvals import FINDINGS
from commands.rules import policies, policy
from kernel import clock
from kernel.endpoints import Endpoint, RowAct, acts, one_page, principal_of
from kernel.errors import NotFound
from kernel.etags import NOT_MODIFIED, READING, tagged
from kernel.idempotency import idempotent
from kernel.pagination import ListFilters
from kernel.schema import errors
from kernel.serializers import StrictSerializer, TextField, read_body, read_filters


class VetoBody(StrictSerializer):
    """Why, if there is time to say it."""

    text = TextField(max_length=500, required=False, allow_blank=True, default="")


class ReviewBody(StrictSerializer):
    """What you found; ``not_in_order`` needs a text."""

    finding = serializers.ChoiceField(list(FINDINGS))
    text = TextField(max_length=500, required=False, allow_blank=True, default="")


@extend_schema_field({"type": "object", "additionalProperties": True, "description": "see GET /v1/governor-policy"})
class PolicyField(serializers.JSONField):
    """A whole policy; `commands.rules.policy` names its faults."""


class GovernorPolicyBody(StrictSerializer):
    """The next version, whole. ``based_on``: the version you looked at; another one meanwhile is a 409."""

    document = PolicyField()
    reason = TextField(max_length=500)
    based_on = shapes.WholeField(required=False, allow_null=True, default=None, min_value=0, max_value=2**31 - 1)


class PolicyFilters(StrictSerializer):
    version = serializers.IntegerField(
        required=False, min_value=0, max_value=2**31 - 1, help_text="0: the house's own; left out: the one in force"
    )


class AttendanceSerializer(serializers.Serializer):
    machine_id = serializers.CharField()
    attended_by = serializers.CharField(allow_null=True)
    attended_at = serializers.DateTimeField(allow_null=True)
    counts_until = serializers.DateTimeField(allow_null=True, help_text="L4, L5 and heat-ups need it in the future")


class GovernorPolicySerializer(serializers.Serializer):
    version = serializers.IntegerField(help_text="0: the house's own, which nobody signed")
    is_in_force = serializers.BooleanField()
    document = serializers.DictField()
    digest = serializers.CharField(allow_null=True)
    reason = serializers.CharField(allow_blank=True)
    signed_by = serializers.CharField(allow_null=True)
    signed_at = serializers.DateTimeField(allow_null=True)


class PolicyPageSerializer(serializers.Serializer):
    results = GovernorPolicySerializer(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class TripFilters(ListFilters):
    machine = serializers.CharField(max_length=40, required=False)
    agent = serializers.CharField(max_length=40, required=False)


class TripSerializer(serializers.Serializer):
    trip_id = serializers.CharField()
    grant_id = serializers.CharField()
    machine_id = serializers.CharField()
    agent = shapes.ActorSerializer()
    kind = serializers.CharField(help_text="error_rate, failures_of_type, contradicted or critical_incident")
    order_type = serializers.CharField(allow_blank=True)
    from_level = serializers.CharField()
    to_level = serializers.CharField()
    evidence = serializers.DictField()
    at = serializers.DateTimeField()
    seen_at = serializers.DateTimeField(allow_null=True)
    seen_by = serializers.CharField(allow_null=True)


class TripPageSerializer(serializers.Serializer):
    results = TripSerializer(many=True)
    next_cursor = serializers.CharField(allow_null=True)


@acts(
    "veto_proposal",
    "Stop an order that would run by itself (L4). 403 `role_required`; 409 `not_open_to_veto`, "
    "`too_late` (on the wire, or settled).",
    VetoBody, shapes.ProposalSerializer, service=services.veto_proposal,
)
class ProposalVeto(OrderAct):
    """`POST /v1/proposals/{id}/veto`."""


@acts(
    "review_proposal",
    "Say what you found of an agent's order that ran without anybody's yes (L5, or L4 unvetoed). "
    "403 `role_required`, `owner_cannot_review`; 409 `not_for_review`, `reviewed_already`.",
    ReviewBody, shapes.ProposalSerializer, service=services.review_proposal,
)
class ProposalReview(OrderAct):
    """`POST /v1/proposals/{id}/review`."""


class MachineAttend(Endpoint):
    """`GET/POST /v1/machines/{id}/attend`."""

    needs = {"POST": "operate"}

    @extend_schema(
        operation_id="machine_attendance",
        description="Who confirmed last that they are at the machine, and until when that counts.",
        responses={200: AttendanceSerializer},
    )
    def get(self, request: Request, machine_id: str) -> Response:
        machine = machine_or_404(request, machine_id)
        return Response(
            attendance.attendance_document(machine, attendance.latest_attendance(machine))
        )

    @extend_schema(
        operation_id="attend_machine",
        description="“I am here”: an operator confirms that they are at the machine. Agents at L4 and L5, and heat-ups "
        "of any agent, need it; it counts for the policy's `attendance_max_age_s`.",
        request=shapes.NothingBody,
        responses={200: AttendanceSerializer, **errors(409, 422)},
    )
    @idempotent
    def post(self, request: Request, machine_id: str) -> Response:
        machine = machine_or_404(request, machine_id)
        read_body(shapes.NothingBody, request)
        row = services.attend_machine(principal_of(request), machine, now=clock.now())
        return Response(attendance.attendance_document(machine, row))


class GovernorPolicyView(Endpoint):
    """`GET/POST /v1/governor-policy`."""

    needs = {"POST": "lead"}

    @extend_schema(
        operation_id="get_governor_policy",
        description="The policy in force, or one of its versions: numbers, significance table, matrix.",
        parameters=[PolicyFilters, *READING],
        responses={200: GovernorPolicySerializer, 304: NOT_MODIFIED},
    )
    def get(self, request: Request) -> Response:
        version = read_filters(PolicyFilters, request).get("version")
        organization = principal_of(request).organization
        newest = policies.newest(organization.pk) if organization is not None else None
        if version == 0 or (version is None and newest is None):
            return tagged(request, _house_policy(is_in_force=newest is None))
        rows = GovernorPolicy.objects.for_principal(principal_of(request)).select_related("signed_by")
        row = rows.filter(version=newest.version if newest is not None and version is None else version).first()
        if row is None:
            raise NotFound(
                "policy_not_found", "There is no such version.", "List them with GET /v1/governor-policy/history."
            )
        return tagged(request, render_policy(row, newest))

    @extend_schema(
        operation_id="set_governor_policy",
        description="A lead puts the next version in force. 400 `policy_faulty` names every fault with its place; "
        "409 `policy_moved_on` where another lead was first.",
        request=GovernorPolicyBody,
        responses={201: GovernorPolicySerializer, **errors(409, 422)},
    )
    @idempotent
    def post(self, request: Request) -> Response:
        body = read_body(GovernorPolicyBody, request)
        row = services.set_policy(
            principal_of(request), document=body["document"], reason=body["reason"], based_on=body["based_on"],
            now=clock.now(),
        )  # fmt: skip
        return tagged(request, render_policy(row, row), status=201)


class GovernorPolicyHistory(Endpoint):
    """`GET /v1/governor-policy/history`."""

    @extend_schema(
        operation_id="list_governor_policies",
        description="Every version that a lead signed, newest first.",
        parameters=[ListFilters],
        responses={200: PolicyPageSerializer},
    )
    def get(self, request: Request) -> Response:
        filters = read_filters(ListFilters, request)
        rows = GovernorPolicy.objects.for_principal(principal_of(request)).select_related("signed_by")
        newest = rows.order_by("-version").first()
        return one_page(
            rows, filters, columns={}, order=("-version", "-id"), render=lambda row: render_policy(row, newest)
        )


class BreakerTripList(Endpoint):
    """`GET /v1/breaker-trips`."""

    @extend_schema(
        operation_id="list_breaker_trips",
        description="Grants that a circuit breaker lowered, newest first: why, on what evidence, who has seen it.",
        parameters=[TripFilters],
        responses={200: TripPageSerializer},
    )
    def get(self, request: Request) -> Response:
        columns = {"machine": "machine_id", "agent": "agent_id"}
        filters = read_filters(TripFilters, request)
        return one_page(_trips_of(request), filters, columns=columns, order=("-at", "-id"), render=render_trip)


@acts(
    "see_breaker_trip",
    "An operator has seen that an agent is trusted less here; the first one stays. It raises nothing: "
    "only a lead's new grant does.",
    shapes.NothingBody, TripSerializer, service=grants.see_lowering,
)
class BreakerTripSeen(RowAct):
    """`POST /v1/breaker-trips/{id}/seen`."""

    needs = {"POST": "operate"}

    def find(self, request: Request, row_id: str) -> BreakerTrip:
        trip = _trips_of(request).filter(pk=row_id).first()
        if trip is None:
            raise NotFound("trip_not_found", "There is no such trip here.", "List them with GET /v1/breaker-trips.")
        return trip

    def show(self, request: Request, row: BreakerTrip) -> Response:
        return Response(render_trip(row))


def _trips_of(request: Request) -> QuerySet[BreakerTrip]:
    return BreakerTrip.objects.for_principal(principal_of(request)).select_related("agent", "seen_by", "organization")


def render_trip(trip: BreakerTrip) -> dict[str, Any]:
    """A breaker's trip (its agent and who saw it are loaded)."""
    return {
        "trip_id": trip.pk,
        "grant_id": trip.grant_id,
        "machine_id": trip.machine_id,
        "agent": {"kind": "agent", "id": trip.agent_id, "name": trip.agent.name},
        "kind": trip.kind,
        "order_type": trip.order_type,
        "from_level": trip.from_level,
        "to_level": trip.to_level,
        "evidence": trip.evidence,
        "at": shapes.render_time(trip.at),
        "seen_at": shapes.render_time(trip.seen_at),
        "seen_by": trip.seen_by.get_username() if trip.seen_by is not None else None,
    }


def render_policy(row: GovernorPolicy, newest: GovernorPolicy | None) -> dict[str, Any]:
    """A version as shown (its signer is loaded)."""
    return {
        "version": row.version,
        "is_in_force": newest is not None and row.version == newest.version,
        "document": row.document,
        "digest": row.digest,
        "reason": row.reason,
        "signed_by": row.signed_by.get_username(),
        "signed_at": shapes.render_time(row.signed_at),
    }


def _house_policy(*, is_in_force: bool) -> dict[str, Any]:
    return {
        "version": 0,
        "is_in_force": is_in_force,
        "document": policy.DEFAULT_DOCUMENT,
        "digest": None,
        "reason": "The house's own.",
        "signed_by": None,
        "signed_at": None,
    }


governor_urlpatterns = [
    path("proposals/<str:proposal_id>/veto", ProposalVeto.as_view(), name="proposal-veto"),
    path("proposals/<str:proposal_id>/review", ProposalReview.as_view(), name="proposal-review"),
    path("machines/<str:machine_id>/attend", MachineAttend.as_view(), name="machine-attend"),
    path("breaker-trips", BreakerTripList.as_view(), name="breaker-trips"),
    path("breaker-trips/<str:trip_id>/seen", BreakerTripSeen.as_view(), name="breaker-trip-seen"),
    path("governor-policy", GovernorPolicyView.as_view(), name="governor-policy"),
    path("governor-policy/history", GovernorPolicyHistory.as_view(), name="governor-policy-history"),
]
