"""Telemetry over REST, as documented: envelopes in, and where a machine's stream stands."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiTypes, extend_schema
from rest_framework import serializers
from rest_framework.parsers import BaseParser, JSONParser
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kernel.errors import NotFound
from kernel.permissions import MemberOnly
from kernel.schema import errors
from kernel.serializers import StrictSerializer
from roasts.api.roasts import render_time
from roasts.models import Machine, TelemetryStream
from roasts.telemetry import door
from roasts.telemetry.envelope import EVENT_KINDS, SCHEMA, STATES


class PointSerializer(serializers.Serializer):
    at = serializers.DateTimeField(help_text="event time, with its zone")
    device_ms = serializers.IntegerField(required=False, help_text="the machine's own time: all or none have it")
    state = serializers.ChoiceField(sorted(STATES), required=False)
    bean_temp_c = serializers.FloatField(required=False)
    infrared_temp_c = serializers.FloatField(required=False)
    exhaust_temp_c = serializers.FloatField(required=False)
    environment_temp_c = serializers.FloatField(required=False)
    ambient_temp_c = serializers.FloatField(required=False)
    rate_of_rise_c_per_min = serializers.FloatField(required=False, help_text="the machine's own; ours is computed")
    heater_step = serializers.IntegerField(required=False)
    fan_step = serializers.IntegerField(required=False)
    drum_step = serializers.IntegerField(required=False)
    fan_rpm = serializers.IntegerField(required=False)
    voltage_v = serializers.IntegerField(required=False)
    roast_clock_s = serializers.IntegerField(required=False, help_text="the machine's own count since charge")
    quality = serializers.DictField(child=serializers.CharField(), required=False, help_text="fields stale or absent")
    extras = serializers.DictField(required=False, help_text="further named numbers and words")


class MarkSerializer(serializers.Serializer):
    kind = serializers.ChoiceField(sorted(EVENT_KINDS))
    at = serializers.DateTimeField()
    device_ms = serializers.IntegerField(required=False)
    source = serializers.ChoiceField(["device", "inferred"], required=False)  # type: ignore[assignment]
    confidence = serializers.FloatField(required=False, min_value=0, max_value=1)
    text = serializers.CharField(required=False, allow_blank=True)


class EnvelopeSerializer(StrictSerializer):
    schema = serializers.ChoiceField([SCHEMA])
    machine_id = serializers.CharField(max_length=40)
    sequence = serializers.IntegerField(min_value=1, help_text="rises by one with every envelope of this machine")
    at = serializers.DateTimeField(help_text="when the envelope was made")
    points = serializers.ListField(child=PointSerializer(), required=False)
    events = serializers.ListField(child=MarkSerializer(), required=False)
    previous_digest = serializers.CharField(required=False, help_text="`digest` of the envelope before this one")
    kid = serializers.CharField(required=False, help_text="id of the device key that signed")
    signature = serializers.CharField(required=False, help_text="Ed25519 over the canonical statement, hex")


class RefusalSerializer(serializers.Serializer):
    index = serializers.IntegerField()
    code = serializers.CharField()
    message = serializers.CharField()


class StretchSerializer(serializers.Serializer):
    roast_id = serializers.CharField()
    from_ms = serializers.IntegerField()
    to_ms = serializers.IntegerField()
    is_late = serializers.BooleanField()
    is_placed = serializers.BooleanField(help_text="after later points: each by its own time")
    device_start_ms = serializers.IntegerField(required=False, allow_null=True, help_text="device time of elapsed 0")


class FiledSerializer(serializers.Serializer):
    machine_id = serializers.CharField()
    sequence = serializers.IntegerField()
    digest = serializers.CharField(help_text="of the canonical statement; the next envelope's `previous_digest`")
    points_digest = serializers.CharField()
    events_digest = serializers.CharField()
    verdict = serializers.ChoiceField(["verified", "unsigned", "failed"])
    verdict_reason = serializers.CharField(allow_blank=True)
    points_received = serializers.IntegerField()
    points_filed = serializers.IntegerField(help_text="new samples of a roast")
    points_refused = serializers.IntegerField()
    points_late = serializers.IntegerField(
        help_text="of those filed: after a later one, or 15 s after their time, or 5 s on their way"
    )
    points_repeated = serializers.IntegerField(help_text="of a moment that is recorded already")
    points_outside = serializers.IntegerField(help_text="while no roast was on: shown, not recorded")
    refused = RefusalSerializer(many=True)
    refused_events = RefusalSerializer(many=True)
    stretches = StretchSerializer(many=True)
    missing = serializers.ListField(
        child=serializers.ListField(child=serializers.IntegerField()), help_text="sequences that never came, as ranges"
    )


class _Untouched(BaseParser):
    """For the schema alone: the body is read by `door`."""

    media_type = door.LINES

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        return None


class TelemetryFiling(APIView):
    """`POST /v1/telemetry`. Under the ASGI server this path never comes here: `roasts.telemetry.asgi` answers alike."""

    authentication_classes = []
    permission_classes = [AllowAny]
    metadata_class = None  # OPTIONS tells a stranger nothing: 405
    parser_classes = [JSONParser, _Untouched]

    @extend_schema(
        operation_id="file_telemetry",
        description="One envelope, as a JSON object, or as lines (`application/x-ndjson`): the envelope without "
        "`points` first, then one point a line. By key alone, with the scope `telemetry` or `telemetry:<machine_id>`. "
        "The same envelope again has the first answer (`Idempotent-Replay: true`). A bad point is refused with its "
        "index and reason, the rest is kept. 409 `sequence_reused`, `machine_not_remote`; 422 `signature_required`, "
        "`signature_failed` where the organisation's policy is `require`. See docs/telemetry.md.",
        request={door.JSON: EnvelopeSerializer, door.LINES: OpenApiTypes.STR},
        responses={201: FiledSerializer, **errors(400, 401, 403, 404, 409, 413, 415, 422, 503)},
        auth=[{"key": []}],  # type: ignore[list-item]  # it takes requirements too
    )
    def post(self, request: Request) -> HttpResponse:
        headers = request._request.headers
        told = door.answer(headers.get("Authorization", ""), headers.get("Content-Type", ""), request._request.body)
        return HttpResponse(told.body, status=told.status, content_type=door.JSON, headers=dict(told.headers))


class StreamSerializer(serializers.Serializer):
    machine_id = serializers.CharField()
    last_sequence = serializers.IntegerField(help_text="the next envelope is one more")
    last_digest = serializers.CharField(allow_blank=True, help_text="the next envelope's `previous_digest`")
    last_event_at = serializers.DateTimeField(allow_null=True)
    missing = serializers.ListField(child=serializers.ListField(child=serializers.IntegerField()))


class TelemetryStanding(APIView):
    """`GET /v1/telemetry/{machine_id}`."""

    permission_classes = [MemberOnly]

    @extend_schema(operation_id="get_telemetry_stream", responses={200: StreamSerializer})
    def get(self, request: Request, machine_id: str) -> Response:
        machine = remote_machine_or_404(request, machine_id)
        stream = TelemetryStream.objects.filter(machine=machine).first() or TelemetryStream(machine=machine)
        kept = stream.state.get("stream", {}) if isinstance(stream.state, dict) else {}
        return Response(
            {
                "machine_id": machine.pk,
                "last_sequence": stream.last_sequence,
                "last_digest": stream.last_digest,
                "last_event_at": render_time(stream.last_event_at),
                "missing": kept.get("missing", []),
            }
        )


def remote_machine_or_404(request: Request, machine_id: str) -> Machine:
    """A remote machine of the asker's organisation."""
    principal = request.principal  # type: ignore[attr-defined]
    machine = Machine.objects.for_principal(principal).filter(pk=machine_id, is_archived=False, is_remote=True).first()
    if machine is None:
        raise NotFound(
            "machine_not_found", "There is no such remote machine here.", "List machines with GET /v1/machines."
        )
    return machine
