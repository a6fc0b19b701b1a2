"""Endpoints of the ground floor."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kernel import schema
from kernel.errors import NotNow
from kernel.principals import CAPABILITIES, Principal


class MeSerializer(serializers.Serializer):
    """Who we think you are."""

    id = serializers.CharField()
    kind = serializers.CharField()
    name = serializers.CharField()
    organization = serializers.CharField(help_text="slug")
    roles = serializers.ListField(child=serializers.CharField())
    scopes = serializers.ListField(child=serializers.CharField())
    may = serializers.ListField(child=serializers.CharField(), help_text="capabilities")


class MeView(APIView):
    """GET /v1/me."""

    @extend_schema(operation_id="me", responses={200: MeSerializer})
    def get(self, request: Request) -> Response:
        principal: Principal = request.principal  # type: ignore[attr-defined]
        body: dict[str, Any] = {
            "id": principal.id,
            "kind": principal.kind,
            "name": principal.name,
            "organization": principal.organization.slug if principal.organization else "",
            "roles": sorted(principal.roles),
            "scopes": sorted(principal.scopes),
            "may": [capability for capability in CAPABILITIES if principal.may(capability)],
        }
        return Response(body)


class StreamView(APIView):
    """Describes GET /v1/stream; `kernel.stream` serves it beside Django (roastops/asgi.py)."""

    @extend_schema(
        operation_id="stream",
        parameters=[
            OpenApiParameter("machine", str, description="only this machine"),
            OpenApiParameter("kind", str, description="`readings`, `decisions` or both, with a comma"),
            OpenApiParameter("last_event_id", int, description="resume after this number (or header Last-Event-ID)"),
        ],
        responses={
            (200, "text/event-stream"): OpenApiResponse(str, description="Server-sent events, until you leave"),
            **schema.errors(400, 503),
        },
    )
    def get(self, request: Request) -> Response:
        raise NotNow("no_stream_here", "This server process does not stream.", "Ask the ASGI server.")
