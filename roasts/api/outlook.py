"""The golden curve behind a roast, and a person's plan for its end."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from kernel import clock
from kernel.endpoints import Endpoint
from kernel.etags import NOT_MODIFIED, READING, tagged
from kernel.idempotency import idempotent
from kernel.permissions import require
from kernel.schema import errors
from kernel.serializers import NumberField, StrictSerializer, read_body
from roasts.api.roasts import roast_or_404
from roasts.library import planning
from roasts.models import Roast

MAX_DROP_C, MAX_DEVELOPMENT_S = 260.0, 1200.0


class GoldenSerializer(serializers.Serializer):
    """Empty columns and an empty name where the roast follows no profile."""

    profile_name = serializers.CharField(allow_blank=True)
    version = serializers.IntegerField(allow_null=True)
    elapsed_s = serializers.ListField(child=serializers.FloatField())
    golden_c = serializers.ListField(child=serializers.FloatField())
    low_c = serializers.ListField(child=serializers.FloatField())
    high_c = serializers.ListField(child=serializers.FloatField())
    corridor_bean_c = serializers.ListField(child=serializers.FloatField())
    corridor_low = serializers.ListField(child=serializers.FloatField())
    corridor_high = serializers.ListField(child=serializers.FloatField())
    turning_point_s = serializers.FloatField()


class PlanBody(StrictSerializer):
    """Null takes the plan back; whichever comes first ends the roast."""

    drop_temp_c = NumberField(min_value=100.0, max_value=MAX_DROP_C, allow_null=True)
    development_s = NumberField(min_value=0.0, max_value=MAX_DEVELOPMENT_S, allow_null=True)


class PlanSerializer(serializers.Serializer):
    drop_temp_c = serializers.FloatField(allow_null=True)
    development_s = serializers.FloatField(allow_null=True)
    source = serializers.CharField(help_text="person | profile | none")  # type: ignore[assignment]


def render_plan(roast: Roast) -> dict[str, Any]:
    """The plan that stands: a person's, else the profile's."""
    plan = planning.plan_of(roast)
    return {"drop_temp_c": plan.drop_temp_c, "development_s": plan.development_s, "source": plan.source}


class RoastGolden(Endpoint):
    """`GET /v1/roasts/{id}/golden`: the golden curve with its tolerance, and the corridor of the rate of rise."""

    @extend_schema(parameters=READING, responses={200: GoldenSerializer, 304: NOT_MODIFIED})
    def get(self, request: Request, roast_id: str) -> Response:
        return tagged(request, planning.golden_of(roast_or_404(request, roast_id)))


class RoastPlan(Endpoint):
    """`POST /v1/roasts/{id}/plan`."""

    @extend_schema(
        description="Plan the drop by temperature, by development time, or both. 409 `roast_closed`.",
        request=PlanBody,
        responses={200: PlanSerializer, **errors(409)},
    )
    @idempotent
    def post(self, request: Request, roast_id: str) -> Response:
        principal = require(request, "operate")
        roast = roast_or_404(request, roast_id)
        body = read_body(PlanBody, request)
        planning.plan_end(principal, roast, **body, now=clock.now())
        return Response(render_plan(roast))
