"""What is counted and said of a roast: summary, curve, comparison, tasting notes, corrections."""

from __future__ import annotations

from typing import Any

import numpy as np
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from kernel import clock
from kernel.endpoints import Endpoint, principal_of
from kernel.errors import NotFound, Unprocessable
from kernel.etags import NOT_MODIFIED, READING, if_match, require_match, tagged
from kernel.idempotency import idempotent
from kernel.pagination import ListFilters, paginate
from kernel.permissions import require
from kernel.schema import errors
from kernel.serializers import NumberField, StrictSerializer, TextField, read_body, read_filters
from roasts import curve_rates
from roasts.api.roasts import render_gap, render_time, roast_or_404
from roasts.curve import Column, Curve
from roasts.library import comparison, quality, services_library
from roasts.library import questions as library
from roasts.library.comparison import ALIGNMENTS, MarkedCurve, NotComparable
from roasts.models import QcNote, Roast, RoastCorrection
from roasts.store import stored_curve, summaries

AREA_FROM = ("charge", "turning_point", "dry_end", "first_crack_start")
MAX_TOLERANCE_C = 50.0


# --- summary ----------------------------------------------------------------------------------------


class SummaryFilters(StrictSerializer):
    """Left out: the house's settings, as the roast was counted at its close."""

    dry_end_c = serializers.FloatField(required=False, min_value=1, max_value=300)
    auc_base_c = serializers.FloatField(required=False, min_value=0, max_value=300)
    auc_from = serializers.ChoiceField(AREA_FROM, required=False)


class SummarySerializer(serializers.Serializer):
    """Seconds, °C, °C/min. Fields of landmarks, phases, crashes, flicks and energy: docs/curve.md."""

    roast_id = serializers.CharField()
    landmarks = serializers.ListField(child=serializers.DictField())
    phases = serializers.ListField(child=serializers.DictField())
    is_dropped = serializers.BooleanField()
    total_s = serializers.FloatField(allow_null=True)
    development_ratio = serializers.FloatField(allow_null=True)
    turning_point_s = serializers.FloatField(allow_null=True)
    dry_phase_s = serializers.FloatField(allow_null=True)
    first_crack_s = serializers.FloatField(allow_null=True)
    auc_c_min = serializers.FloatField(allow_null=True)
    auc_base_c = serializers.FloatField()
    auc_from = serializers.CharField()
    total_rate_c_per_min = serializers.FloatField(allow_null=True)
    highest_environment_c = serializers.FloatField(allow_null=True)
    crashes = serializers.ListField(child=serializers.DictField())
    flicks = serializers.ListField(child=serializers.DictField())
    energy = serializers.DictField(allow_null=True)
    weight_loss_percent = serializers.FloatField(allow_null=True)
    dry_end_c = serializers.FloatField()
    remarks = serializers.ListField(child=serializers.CharField())


class RoastSummary(Endpoint):
    """`GET /v1/roasts/{id}/summary`: counted now, of an open roast too."""

    @extend_schema(
        operation_id="get_roast_summary",
        parameters=[SummaryFilters, *READING],
        responses={200: SummarySerializer, 304: NOT_MODIFIED},
    )
    def get(self, request: Request, roast_id: str) -> Response:
        roast = roast_or_404(request, roast_id)
        settings = summaries.settings_of(roast, **read_filters(SummaryFilters, request))
        counted = summaries.summary_to_json(summaries.count(roast, settings))
        return tagged(request, {"roast_id": roast.pk, **counted})


# --- curve ------------------------------------------------------------------------------------------


class CurveSerializer(serializers.Serializer):
    """Columns of equal length (null: no value), and controls as [elapsed_s, step] where they change."""

    roast_id = serializers.CharField()
    elapsed_s = serializers.ListField(child=serializers.FloatField())
    columns = serializers.DictField(
        child=serializers.ListField(),
        help_text="temperatures in °C; causal_rate and centred_rate in °C/min (the centred one looks ahead)",
    )
    controls = serializers.DictField(child=serializers.ListField())
    gaps = serializers.ListField(child=serializers.DictField())


def render_curve(roast: Roast, curve: Curve) -> dict[str, Any]:
    """A roast as a chart wants it."""
    marks = stored_curve.load_marks(roast)
    charge_s = next((mark.elapsed_s for mark in marks if mark.kind == "charge"), 0.0)
    rates = {
        "causal_rate": curve_rates.causal_rate(curve.elapsed_s, curve.bean_temp_c, from_s=charge_s),
        "centred_rate": curve_rates.centred_rate(curve.elapsed_s, curve.bean_temp_c),
    }
    temps = {name: getattr(curve, name) for name in stored_curve.TEMPERATURES}
    columns = {name: plain(column) for name, column in (temps | rates).items() if column is not None}
    controls = {name: moves(curve, getattr(curve, f"{name}_step")) for name in ("heater", "fan", "drum")}
    return {
        "roast_id": roast.pk,
        "elapsed_s": [round(at_s, 3) for at_s in curve.elapsed_s.tolist()],
        "columns": columns,
        "controls": {name: steps for name, steps in controls.items() if steps},
        "gaps": [render_gap(gap) for gap in roast.gaps.order_by("from_ms")],
    }


def plain(column: Column) -> list[float | None]:
    """To two digits, NaN as null."""
    found: list[float | None] = np.round(column, 2).tolist()
    for row in np.flatnonzero(~np.isfinite(column)).tolist():
        found[row] = None
    return found


def moves(curve: Curve, steps: Column | None) -> list[list[float]]:
    """[elapsed_s, step]: where it began and every change."""
    if steps is None:
        return []
    known = np.flatnonzero(np.isfinite(steps))
    if not len(known):
        return []
    changed = known[np.concatenate(([True], np.diff(steps[known]) != 0))]
    return [[round(float(curve.elapsed_s[row]), 3), float(steps[row])] for row in changed]


class RoastCurve(Endpoint):
    """`GET /v1/roasts/{id}/curve`."""

    @extend_schema(operation_id="get_roast_curve", responses={200: CurveSerializer})
    def get(self, request: Request, roast_id: str) -> Response:
        roast = roast_or_404(request, roast_id)
        return Response(render_curve(roast, stored_curve.load_curve(roast)))


# --- comparison -------------------------------------------------------------------------------------


class ComparisonFilters(StrictSerializer):
    """``ids`` by comma, at most 6; all are laid over the first."""

    ids = serializers.CharField(max_length=300)
    align = serializers.ChoiceField(ALIGNMENTS, default="charge")
    tolerance_c = serializers.FloatField(min_value=0, max_value=MAX_TOLERANCE_C, default=comparison.TOLERANCE_C)


class ComparisonSerializer(serializers.Serializer):
    """Deviations are of the other roast from the base, °C; ``refused`` says why one cannot be compared."""

    base_id = serializers.CharField()
    align = serializers.CharField()
    tolerance_c = serializers.FloatField()
    results = serializers.ListField(child=serializers.DictField())


def compare_roasts(roasts: list[Roast], align: str, tolerance_c: float) -> list[dict[str, Any]]:
    """Every roast but the first against the first."""
    laid = [MarkedCurve(stored_curve.load_curve(roast), stored_curve.load_marks(roast)) for roast in roasts]
    found = []
    for roast, other in zip(roasts[1:], laid[1:], strict=True):
        try:
            compared = comparison.compare(laid[0], other, align, tolerance_c=tolerance_c)
        except NotComparable as refused:
            found.append({"roast_id": roast.pk, "refused": refused.reason, "message": str(refused)})
        else:
            found.append({"roast_id": roast.pk, **summaries.to_plain(compared)})
    return found


class Comparison(Endpoint):
    """`GET /v1/comparison?ids=a,b&align=charge`."""

    @extend_schema(
        operation_id="compare_roasts",
        parameters=[ComparisonFilters],
        responses={200: ComparisonSerializer, **errors(404, 422)},
    )
    def get(self, request: Request) -> Response:
        filters = read_filters(ComparisonFilters, request)
        ids = [word.strip() for word in filters["ids"].split(",") if word.strip()]
        found = library.chosen(principal_of(request), ids)
        if len(found) < len(dict.fromkeys(ids)):
            raise NotFound("roast_not_found", "One of these roasts is not here.", "List them with GET /v1/roasts.")
        if len(found) < 2:
            raise Unprocessable("two_needed", "A comparison needs two roasts.", "Name 2 to 6 ids, by comma.")
        results = compare_roasts(found, filters["align"], filters["tolerance_c"])
        return Response(
            {
                "base_id": found[0].pk,
                "align": filters["align"],
                "tolerance_c": filters["tolerance_c"],
                "results": results,
            }
        )


# --- tasting notes ----------------------------------------------------------------------------------


class QcNoteBody(StrictSerializer):
    """At least one of them says something."""

    cupping_score = NumberField(min_value=0, max_value=quality.HIGHEST_SCORE, allow_null=True, default=None)
    attributes = serializers.DictField(
        child=NumberField(min_value=quality.LOWEST, max_value=quality.HIGHEST),
        default=dict,
        help_text=f"0 to 10 each: {', '.join(quality.ATTRIBUTES)}",
    )
    defects = serializers.ListField(
        child=serializers.ChoiceField(quality.DEFECTS), default=list, max_length=len(quality.DEFECTS)
    )
    colour_whole = NumberField(min_value=0, max_value=1000, allow_null=True, default=None)
    colour_ground = NumberField(min_value=0, max_value=1000, allow_null=True, default=None)
    text = TextField(max_length=4000, allow_blank=True, default="")

    def validate_attributes(self, value: dict[str, float]) -> dict[str, float]:
        for name in value:
            if name not in quality.ATTRIBUTES:
                known = _("Known: {names}.").format(names=", ".join(quality.ATTRIBUTES))
                raise serializers.ValidationError(f"{_('Unknown attribute.')} {known}")
        return value


class QcNoteSerializer(serializers.Serializer):
    note_id = serializers.CharField()
    roast_id = serializers.CharField()
    author = serializers.CharField()
    cupping_score = serializers.FloatField(allow_null=True)
    attributes = serializers.DictField(child=serializers.FloatField())
    defects = serializers.ListField(child=serializers.CharField())
    colour_whole = serializers.FloatField(allow_null=True)
    colour_ground = serializers.FloatField(allow_null=True)
    text = serializers.CharField(allow_blank=True)
    created_at = serializers.DateTimeField()


class QcNotePageSerializer(serializers.Serializer):
    results = QcNoteSerializer(many=True)
    next_cursor = serializers.CharField(allow_null=True)


def render_note(note: QcNote) -> dict[str, Any]:
    """One tasting note."""
    return {
        "note_id": note.pk,
        "roast_id": note.roast_id,
        "author": note.author.get_username(),
        "cupping_score": note.cupping_score,
        "attributes": note.attributes,
        "defects": note.defects,
        "colour_whole": note.colour_whole,
        "colour_ground": note.colour_ground,
        "text": note.text,
        "created_at": render_time(note.created_at),
    }


class RoastNotes(Endpoint):
    """`GET/POST /v1/roasts/{id}/qc-notes`: appended, never rewritten."""

    @extend_schema(operation_id="list_qc_notes", parameters=[ListFilters], responses={200: QcNotePageSerializer})
    def get(self, request: Request, roast_id: str) -> Response:
        roast = roast_or_404(request, roast_id)
        filters = read_filters(ListFilters, request)
        rows = roast.qc_notes.select_related("author")
        return paginate(
            rows,
            order=("created_at", "id"),
            limit=filters["limit"],
            cursor=filters.get("cursor"),
            render=render_note,
        )

    @extend_schema(
        operation_id="add_qc_note",
        description="422 `empty_note`.",
        request=QcNoteBody,
        responses={201: QcNoteSerializer, **errors(422)},
    )
    @idempotent
    def post(self, request: Request, roast_id: str) -> Response:
        principal = require(request, "operate")
        roast = roast_or_404(request, roast_id)
        note = services_library.note_quality(principal, roast, **read_body(QcNoteBody, request), now=clock.now())
        return Response(render_note(note), status=201)


# --- what people say of it --------------------------------------------------------------------------


class BatchFields(StrictSerializer):
    """What can be said of a batch before it is roasted."""

    title = TextField(max_length=200, required=False, allow_blank=True)
    bean = TextField(max_length=200, required=False, allow_blank=True)
    origin = TextField(max_length=200, required=False, allow_blank=True)
    process = TextField(max_length=100, required=False, allow_blank=True)
    variety = TextField(max_length=100, required=False, allow_blank=True)
    lot = TextField(max_length=100, required=False, allow_blank=True)
    weight_in_g = NumberField(required=False, allow_null=True, min_value=0.1, max_value=1_000_000)
    moisture_in_percent = NumberField(required=False, allow_null=True, min_value=0, max_value=100)


class DescriptionBody(BatchFields):
    """Any of the fields; null empties a number. ``reason`` is needed where a closed roast's field stands already."""

    weight_out_g = NumberField(required=False, allow_null=True, min_value=0.1, max_value=1_000_000)
    moisture_out_percent = NumberField(required=False, allow_null=True, min_value=0, max_value=100)
    colour_whole = NumberField(required=False, allow_null=True, min_value=0, max_value=1000)
    colour_ground = NumberField(required=False, allow_null=True, min_value=0, max_value=1000)
    reason = TextField(max_length=500, required=False, allow_blank=True, default="")


class CorrectionSerializer(serializers.Serializer):
    correction_id = serializers.CharField()
    field = serializers.CharField()
    old_value = serializers.JSONField(allow_null=True)
    new_value = serializers.JSONField(allow_null=True)
    corrected_by = serializers.CharField()
    reason = serializers.CharField()
    at = serializers.DateTimeField()


class DescriptionSerializer(serializers.Serializer):
    """What is said of the roast now, and every correction since it closed."""

    roast_id = serializers.CharField()
    values = serializers.DictField(help_text="by field")
    profile_version_id = serializers.CharField(allow_null=True)
    corrections = CorrectionSerializer(many=True)


def render_correction(made: RoastCorrection) -> dict[str, Any]:
    """One correction: who, what, from what to what, why."""
    return {
        "correction_id": made.pk,
        "field": made.field,
        "old_value": made.old_value,
        "new_value": made.new_value,
        "corrected_by": made.corrected_by.get_username(),
        "reason": made.reason,
        "at": render_time(made.at),
    }


def render_description(roast: Roast) -> dict[str, Any]:
    """The describing fields and their corrections, oldest first."""
    return {
        "roast_id": roast.pk,
        "values": {name: getattr(roast, name) for name in (*services_library.TEXTS, *services_library.NUMBERS)},
        "profile_version_id": roast.profile_version_id,
        "corrections": [render_correction(made) for made in roast.corrections.select_related("corrected_by")],
    }


class RoastCorrections(Endpoint):
    """`GET/POST /v1/roasts/{id}/corrections`: what people say of a roast; once it is closed, with the reason."""

    @extend_schema(
        operation_id="get_roast_description",
        parameters=READING,
        responses={200: DescriptionSerializer, 304: NOT_MODIFIED},
    )
    def get(self, request: Request, roast_id: str) -> Response:
        return tagged(request, render_description(roast_or_404(request, roast_id, or_planned=True)))

    @extend_schema(
        operation_id="correct_roast",
        description="412 `stale`; 422 `reason_needed`, `weights_disagree`.",
        parameters=[if_match("GET /v1/roasts/{id}/corrections")],
        request=DescriptionBody,
        responses={200: DescriptionSerializer, **errors(412, 422)},
    )
    @idempotent
    def post(self, request: Request, roast_id: str) -> Response:
        principal = require(request, "operate")
        roast = roast_or_404(request, roast_id, or_planned=True)
        changes = dict(read_body(DescriptionBody, request))
        reason = changes.pop("reason").strip()
        require_match(request, render_description(roast))
        services_library.describe_roast(principal, roast, changes=changes, reason=reason, now=clock.now())
        return Response(render_description(roast_or_404(request, roast_id, or_planned=True)))
