"""A roast of a remote machine opened and closed by a person, where its points do not say."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kernel import clock
from kernel.idempotency import idempotent
from kernel.permissions import Requires, require
from kernel.schema import errors
from kernel.serializers import StrictSerializer, TextField, read_body
from roasts.api import RoastSerializer, render_roast
from roasts.telemetry import services
from roasts.telemetry.api import remote_machine_or_404


class NoBody(StrictSerializer):
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
        request=NoBody,
        responses={201: RoastSerializer, **errors(409)},
    )
    @idempotent
    def post(self, request: Request, machine_id: str) -> Response:
        machine = remote_machine_or_404(request, machine_id)
        read_body(NoBody, request)
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
