"""Reports over REST: every version of one roast, one version, and writing one on demand."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from evals import material, services
from evals.models import RoastReport
from kernel import clock
from kernel.endpoints import Endpoint
from kernel.errors import NotFound
from kernel.etags import NOT_MODIFIED, READING, tagged
from kernel.idempotency import idempotent
from kernel.permissions import require
from kernel.schema import errors
from kernel.serializers import StrictSerializer, TextField, read_body
from roasts.api.roasts import roast_or_404


class ReportHeadSerializer(serializers.Serializer):
    report_id = serializers.CharField()
    roast_id = serializers.CharField()
    version = serializers.IntegerField()
    digest = serializers.CharField(help_text="SHA-256 of the canonical document, hex")
    reason = serializers.CharField()
    written_by = serializers.CharField()
    written_at = serializers.DateTimeField()


class ReportSerializer(ReportHeadSerializer):
    document = serializers.DictField(
        help_text="schema `roast-report/1`: roast, curve (columns), summary, events, gaps, orders, deviation, trust, "
        "qc, corrections, next_actions (ordered), missing"
    )


class ReportListSerializer(serializers.Serializer):
    results = ReportHeadSerializer(many=True)


class ReportBody(StrictSerializer):
    reason = TextField(max_length=200, required=False, allow_blank=True, default="")


class RoastReports(Endpoint):
    """`GET/POST /v1/roasts/{id}/reports`."""

    @extend_schema(parameters=READING, responses={200: ReportListSerializer, 304: NOT_MODIFIED})
    def get(self, request: Request, roast_id: str) -> Response:
        roast = roast_or_404(request, roast_id)
        versions = RoastReport.objects.filter(roast=roast).order_by("-version")
        heads = [
            {name: value for name, value in services.rendered(row).items() if name != "document"} for row in versions
        ]
        return tagged(request, {"results": heads})

    @extend_schema(
        description="Write the report of a closed roast: 201 with a new version, 200 with the last one where nothing "
        "has changed since. 409 `roast_open`.",
        request=ReportBody,
        responses={200: ReportSerializer, 201: ReportSerializer, **errors(409)},
    )
    @idempotent
    def post(self, request: Request, roast_id: str) -> Response:
        principal = require(request, "operate")
        roast = roast_or_404(request, roast_id)
        body = read_body(ReportBody, request)
        written, is_new = services.write_report(
            principal,
            roast,
            material=material.gather(roast),
            reason=body["reason"] or f"asked for by {principal.name}",
            now=clock.now(),
        )
        return Response(services.rendered(written), status=201 if is_new else 200)


class ReportDetail(Endpoint):
    """`GET /v1/reports/{id}`: one version; it never changes."""

    @extend_schema(parameters=READING, responses={200: ReportSerializer, 304: NOT_MODIFIED})
    def get(self, request: Request, report_id: str) -> Response:
        principal = require(request, "view")
        found = RoastReport.objects.for_principal(principal).filter(pk=report_id).first()
        if found is None:
            raise NotFound("report_not_found", "There is no such report here.", "List them by roast.")
        return tagged(request, services.rendered(found))
