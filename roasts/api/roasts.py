"""Roasts over REST: list, one, samples in columns, marks."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from kernel import clock
from kernel.endpoints import Endpoint, principal_of
from kernel.errors import NotFound
from kernel.etags import NOT_MODIFIED, READING, has_condition, if_match, require_match, tagged
from kernel.idempotency import idempotent
from kernel.pagination import ListFilters, paginate
from kernel.permissions import require
from kernel.principals import Principal
from kernel.schema import errors
from kernel.serializers import StrictSerializer, TextField, WholeField, nearest_hint, read_body, read_filters
from roasts import services
from roasts.models import PLANNED, EventKind, Gap, Roast, RoastEvent, RoastStatus
from roasts.store import stored_samples

#: Columns of a sample that may be asked for, in the order they are answered.
SAMPLE_FIELDS = (
    "bean_temp_c",
    "infrared_temp_c",
    "environment_temp_c",
    "exhaust_temp_c",
    "ambient_temp_c",
    "rate_of_rise_c_per_min",
    "machine_rate_c_per_min",
    "heater_step",
    "fan_step",
    "drum_step",
    "fan_rpm",
    "voltage_v",
    "state",
    "sequence",
)
MAX_SAMPLES = 20_000


def render_time(at: dt.datetime | None) -> str | None:
    """UTC, ISO 8601, with Z; null stays null."""
    return None if at is None else at.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def render_roast(roast: Roast) -> dict[str, Any]:
    """A roast without its samples."""
    return {
        "roast_id": roast.pk,
        "machine_id": roast.machine_id,
        "status": roast.status,
        "title": roast.title,
        "bean": roast.bean,
        "weight_in_g": roast.weight_in_g,
        "started_at": None if roast.status in PLANNED else render_time(roast.started_at),
        "ended_at": render_time(roast.ended_at),
    }


def render_event(event: RoastEvent) -> dict[str, Any]:
    """One mark; ``source`` is device, inferred or person."""
    return {
        "event_id": event.pk,
        "roast_id": event.roast_id,
        "kind": event.kind,
        "elapsed_ms": event.elapsed_ms,
        "source": event.source,
        "confidence": event.confidence,
        "marked_by": event.marked_by.get_username() if event.marked_by else None,
        "text": event.text,
        "at": render_time(event.at),
        "withdrawn_at": render_time(event.withdrawn_at),
    }


def effective_events(events: list[RoastEvent]) -> dict[str, int]:
    """kind → elapsed ms: a person's mark wins over the machine's, the machine's over an inference."""
    rank = {"inferred": 0, "device": 1, "person": 2}
    standing = [event for event in events if event.withdrawn_at is None and event.kind != EventKind.NOTE.value]
    ordered = sorted(standing, key=lambda event: (rank[event.source], event.at, event.pk))
    return {event.kind: event.elapsed_ms for event in ordered}


def render_gap(gap: Gap) -> dict[str, Any]:
    return {"from_ms": gap.from_ms, "to_ms": gap.to_ms, "reason": gap.reason}


def render_roast_detail(roast: Roast) -> dict[str, Any]:
    """A roast with its marks and gaps."""
    events = list(roast.events.select_related("marked_by"))
    return {
        **render_roast(roast),
        "events": [render_event(event) for event in events],
        "gaps": [render_gap(gap) for gap in roast.gaps.order_by("from_ms")],
        "marks": effective_events(events),
    }


def render_events(roast: Roast) -> dict[str, Any]:
    """All marks of a roast, withdrawn ones too."""
    return {"results": [render_event(event) for event in roast.events.select_related("marked_by")]}


class RoastSerializer(serializers.Serializer):
    roast_id = serializers.CharField()
    machine_id = serializers.CharField()
    status = serializers.ChoiceField(RoastStatus.choices)
    title = serializers.CharField(allow_blank=True)
    bean = serializers.CharField(allow_blank=True)
    weight_in_g = serializers.FloatField(allow_null=True)
    started_at = serializers.DateTimeField(allow_null=True, help_text="the charge; null while it is only planned")
    ended_at = serializers.DateTimeField(allow_null=True)


class RoastPageSerializer(serializers.Serializer):
    results = RoastSerializer(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class EventSerializer(serializers.Serializer):
    event_id = serializers.CharField()
    roast_id = serializers.CharField()
    kind = serializers.ChoiceField(EventKind.choices)
    elapsed_ms = serializers.IntegerField()
    source = serializers.CharField()  # type: ignore[assignment]
    confidence = serializers.FloatField()
    marked_by = serializers.CharField(allow_null=True)
    text = serializers.CharField(allow_blank=True)
    at = serializers.DateTimeField()
    withdrawn_at = serializers.DateTimeField(allow_null=True)


class GapSerializer(serializers.Serializer):
    from_ms = serializers.IntegerField()
    to_ms = serializers.IntegerField(allow_null=True)
    reason = serializers.CharField()


class RoastDetailSerializer(RoastSerializer):
    events = EventSerializer(many=True)
    gaps = GapSerializer(many=True)
    marks = serializers.DictField(child=serializers.IntegerField(), help_text="kind → elapsed ms, the mark that wins")


class SamplesSerializer(serializers.Serializer):
    roast_id = serializers.CharField()
    count = serializers.IntegerField()
    elapsed_ms = serializers.ListField(child=serializers.IntegerField())
    columns = serializers.DictField(child=serializers.ListField())
    gaps = GapSerializer(many=True)


class RoastFilters(ListFilters):
    machine = serializers.CharField(max_length=40, required=False)
    status = serializers.ChoiceField(RoastStatus.choices, required=False)


class SampleFilters(StrictSerializer):
    from_ms = serializers.IntegerField(required=False, min_value=0, max_value=2**31 - 1)
    to_ms = serializers.IntegerField(required=False, min_value=0, max_value=2**31 - 1)
    fields = serializers.CharField(required=False, max_length=400)  # type: ignore[assignment]
    step = serializers.IntegerField(required=False, min_value=1, max_value=1000, default=1)

    def validate_fields(self, value: str) -> list[str]:
        """The columns asked for, by comma."""
        names = [name.strip() for name in value.split(",") if name.strip()]
        for name in names:
            if name not in SAMPLE_FIELDS:
                said = _("Unknown column `{name}`.").format(name=name)
                raise serializers.ValidationError(f"{said} {nearest_hint(name, SAMPLE_FIELDS)}")
        return list(dict.fromkeys(names))


def roasts_of(principal: Any) -> QuerySet[Roast]:
    """Roasts this principal may see."""
    return Roast.objects.for_principal(principal)


def roast_or_404(request: Request, roast_id: str, *, or_planned: bool = False) -> Roast:
    """A roast of the principal's organisation; ``or_planned``: one that is only planned will do."""
    rows = Roast.with_planned.for_principal(principal_of(request)) if or_planned else roasts_of(principal_of(request))
    roast = rows.select_related("organization", "machine").filter(pk=roast_id).first()
    if roast is None:
        raise NotFound("roast_not_found", "There is no such roast here.", "List them with GET /v1/roasts.")
    return roast


class RoastList(Endpoint):
    """`GET /v1/roasts`."""

    @extend_schema(
        operation_id="list_roasts",
        description="Planned batches are listed where `status` asks for them.",
        parameters=[RoastFilters],
        responses={200: RoastPageSerializer},
    )
    def get(self, request: Request) -> Response:
        filters = read_filters(RoastFilters, request)
        is_of_planned = filters.get("status") in PLANNED
        principal = principal_of(request)
        rows = Roast.with_planned.for_principal(principal) if is_of_planned else roasts_of(principal)
        if "machine" in filters:
            rows = rows.filter(machine_id=filters["machine"])
        if "status" in filters:
            rows = rows.filter(status=filters["status"])
        return paginate(
            rows,
            order=("-started_at", "-id"),
            limit=filters["limit"],
            cursor=filters.get("cursor"),
            render=render_roast,
        )


class RoastDetail(Endpoint):
    """`GET /v1/roasts/{id}`."""

    @extend_schema(
        operation_id="get_roast", parameters=READING, responses={200: RoastDetailSerializer, 304: NOT_MODIFIED}
    )
    def get(self, request: Request, roast_id: str) -> Response:
        return tagged(request, render_roast_detail(roast_or_404(request, roast_id, or_planned=True)))


class RoastSamples(Endpoint):
    """`GET /v1/roasts/{id}/samples`: columns, as a chart wants them."""

    @extend_schema(parameters=[SampleFilters], responses={200: SamplesSerializer})
    def get(self, request: Request, roast_id: str) -> Response:
        roast = roast_or_404(request, roast_id)
        filters = read_filters(SampleFilters, request)
        names = filters.get("fields", list(SAMPLE_FIELDS))
        rows = stored_samples.read_rows(
            roast.pk,
            ("elapsed_ms", *names),
            from_ms=filters.get("from_ms"),
            to_ms=filters.get("to_ms"),
            limit=MAX_SAMPLES,
        )
        values = rows[:: filters["step"]]
        columns = list(zip(*values, strict=True)) if values else [()] * (len(names) + 1)
        return Response(
            {
                "roast_id": roast.pk,
                "count": len(values),
                "elapsed_ms": columns[0],
                "columns": dict(zip(names, columns[1:], strict=True)),
                "gaps": [render_gap(gap) for gap in roast.gaps.order_by("from_ms")],
            }
        )


class MarkBody(StrictSerializer):
    """``action`` mark (default), correct or withdraw; the last two name ``event_id``."""

    action = serializers.ChoiceField(["mark", "correct", "withdraw"], default="mark")
    event_id = TextField(max_length=40, required=False)
    kind = serializers.ChoiceField(EventKind.choices, required=False)
    elapsed_ms = WholeField(required=False, min_value=0, max_value=2**31 - 1)
    text = TextField(max_length=500, required=False, allow_blank=True, default="")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        needs = {"mark": ("kind", "elapsed_ms"), "correct": ("event_id", "elapsed_ms"), "withdraw": ("event_id",)}
        for name in needs[attrs["action"]]:
            if name not in attrs:
                raise serializers.ValidationError({name: _("`{action}` needs it.").format(action=attrs["action"])})
        return attrs


class EventListSerializer(serializers.Serializer):
    results = EventSerializer(many=True)


class RoastEvents(Endpoint):
    """`GET/POST /v1/roasts/{id}/events`: every mark; a person marks, corrects (a new mark) or withdraws."""

    @extend_schema(parameters=READING, responses={200: EventListSerializer, 304: NOT_MODIFIED})
    def get(self, request: Request, roast_id: str) -> Response:
        return tagged(request, render_events(roast_or_404(request, roast_id)))

    @extend_schema(
        description="Mark, correct (a new mark) or withdraw. 409 `mark_withdrawn`; 412 `stale` where `If-Match` is the "
        "ETag of neither this list nor the roast; 422 `outside_roast`, `device_mark`.",
        parameters=[if_match("GET /v1/roasts/{id}/events, or of GET /v1/roasts/{id}")],
        request=MarkBody,
        responses={201: EventSerializer, **errors(409, 412, 422)},
    )
    @idempotent
    def post(self, request: Request, roast_id: str) -> Response:
        principal = require(request, "operate")
        roast = roast_or_404(request, roast_id)
        body = read_body(MarkBody, request)
        with transaction.atomic():
            Roast.objects.select_for_update(of=("self",)).get(pk=roast.pk)  # two who edit come one after the other
            if has_condition(request):
                require_match(request, render_events(roast), render_roast_detail(roast_or_404(request, roast_id)))
            event = _edit(principal, roast, body, clock.now())
        return Response(render_event(event), status=201)


def _edit(principal: Principal, roast: Roast, body: dict[str, Any], now: dt.datetime) -> RoastEvent:
    """One act of a person on the marks."""
    if body["action"] == "mark":
        return services.mark_event(
            principal, roast, kind=body["kind"], elapsed_ms=body["elapsed_ms"], text=body["text"], now=now
        )
    event = _event_or_404(roast, body["event_id"])
    if body["action"] == "correct":
        return services.correct_event(principal, roast, event, elapsed_ms=body["elapsed_ms"], now=now)
    return services.withdraw_event(principal, roast, event, now=now)


def _event_or_404(roast: Roast, event_id: str) -> RoastEvent:
    event = roast.events.select_related("marked_by").filter(pk=event_id).first()
    if event is None:
        raise NotFound("event_not_found", "This roast has no such mark.", "List them with GET …/events.")
    return event
