"""Where a roast came from; and a remote machine's, opened and closed by a person where its points do not say."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kernel import clock
from kernel.idempotency import idempotent
from kernel.permissions import MemberOnly, Requires, require
from kernel.schema import errors
from kernel.serializers import StrictSerializer, TextField, read_body
from roasts.api.roasts import RoastSerializer, render_roast, render_time, roast_or_404
from roasts.models import PackedRoast
from roasts.telemetry import late, services
from roasts.telemetry.api import remote_machine_or_404


class LateSerializer(serializers.Serializer):
    from_ms = serializers.IntegerField()
    to_ms = serializers.IntegerField()
    received_at = serializers.DateTimeField()


class ProvenanceSerializer(serializers.Serializer):
    roast_id = serializers.CharField()
    source = serializers.CharField(help_text="recorded, telemetry or imported")  # type: ignore[assignment]
    close_reason = serializers.CharField(allow_blank=True)
    verified_points = serializers.IntegerField(help_text="whose envelope's signature verified")
    unsigned_points = serializers.IntegerField()
    failed_points = serializers.IntegerField()
    late_points = serializers.IntegerField()
    late = LateSerializer(many=True, help_text="where points came late, as stretches of elapsed time")
    packed_digest = serializers.CharField(allow_null=True, help_text="of the packed roast: what a dispute cites")
    is_thinned = serializers.BooleanField(help_text="the packed object alone is the record")


class RoastProvenance(APIView):
    """`GET /v1/roasts/{id}/provenance`."""

    permission_classes = [MemberOnly]

    @extend_schema(operation_id="get_roast_provenance", responses={200: ProvenanceSerializer})
    def get(self, request: Request, roast_id: str) -> Response:
        roast = roast_or_404(request, roast_id)
        packed = PackedRoast.objects.filter(pk=roast.pk).values_list("digest", "thinned_at").first()
        counts = ("verified_points", "unsigned_points", "failed_points", "late_points")
        return Response(
            {
                "roast_id": roast.pk,
                "source": roast.source,
                "close_reason": roast.close_reason,
                **{name: getattr(roast, name) for name in counts},
                "late": [
                    {**stretch, "received_at": render_time(stretch["received_at"])} for stretch in late.came_late(roast)
                ],
                "packed_digest": packed[0] if packed else None,
                "is_thinned": bool(packed and packed[1]),
            }
        )


class RoastOpeningBody(StrictSerializer):
    pass


class ClosingBody(StrictSerializer):
    is_aborted = serializers.BooleanField(required=False, default=False)
    reason = TextField(max_length=500)


class RoastOpening(APIView):
    """`POST /v1/telemetry/{machine_id}/open-roast`."""

    permission_classes = [Requires("operate")]

    @extend_schema(
        operation_id="open_remote_roast",
        description="Open a roast as of the newest point. 409 `roast_open`, `machine_says_itself`.",
        request=RoastOpeningBody,
        responses={201: RoastSerializer, **errors(409)},
    )
    @idempotent
    def post(self, request: Request, machine_id: str) -> Response:
        machine = remote_machine_or_404(request, machine_id)
        read_body(RoastOpeningBody, request)
        roast = services.open_by_person(require(request, "operate"), machine, now=clock.now())
        return Response(render_roast(roast), status=201)


class RoastClosing(APIView):
    """`POST /v1/telemetry/{machine_id}/close-roast`."""

    permission_classes = [Requires("operate")]

    @extend_schema(
        operation_id="close_remote_roast",
        description="Close the open roast as of its newest point. 409 `no_roast`.",
        request=ClosingBody,
        responses={200: RoastSerializer, **errors(409)},
    )
    @idempotent
    def post(self, request: Request, machine_id: str) -> Response:
        machine = remote_machine_or_404(request, machine_id)
        body = read_body(ClosingBody, request)
        roast = services.close_by_person(require(request, "operate"), machine, **body, now=clock.now())
        return Response(render_roast(roast))
