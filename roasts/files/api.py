"""Roasts as files over REST: one in (`POST /v1/imports`), one out (`GET /v1/roasts/{id}/export`)."""

from __future__ import annotations

import io
import re
from typing import Any

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.parsers import BaseParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kernel import clock
from kernel.errors import ApiError, Malformed
from kernel.permissions import MemberOnly, require
from kernel.principals import Principal
from kernel.schema import errors
from kernel.serializers import StrictSerializer, nearest_hint, read_filters
from roasts.api.roasts import roast_or_404
from roasts.files import exporting, importing
from roasts.formats.imported import MAX_FILE_BYTES
from roasts.formats.writing import FORMATS
from roasts.models import Machine, Roast

#: Parts of a form around the file.
FORM_BYTES = 20_000
FIELDS = ("file", "machine_id")


class RawFileParser(BaseParser):
    """The file itself as the body."""

    media_type = "application/octet-stream"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        """The body, bounded; whoever reads it closes it: the request lives on in a circle with its context."""
        return io.BytesIO(stream.read(MAX_FILE_BYTES + 1))


#: What an export may come as.
CONTENT_TYPES = sorted({chosen.content_type.partition(";")[0] for chosen in FORMATS.values()})


def _schema_of(content_type: str) -> OpenApiTypes:
    return OpenApiTypes.OBJECT if content_type == "application/json" else OpenApiTypes.BINARY


class ImportForm(serializers.Serializer):
    """A form with the file and, if it is in the house, the machine it was roasted on."""

    file = serializers.FileField()
    machine_id = serializers.CharField(required=False)


class ImportFilters(StrictSerializer):
    """Of a file sent as the body itself."""

    file_name = serializers.CharField(required=False, max_length=255)
    machine_id = serializers.CharField(required=False, max_length=40)


class ImportedSerializer(serializers.Serializer):
    """What came of the file."""

    status = serializers.ChoiceField(["imported", "duplicate"])
    roast_id = serializers.CharField()
    machine_id = serializers.CharField()
    title = serializers.CharField(allow_blank=True)
    file_name = serializers.CharField()
    format = serializers.CharField()
    digest = serializers.CharField(help_text="SHA-256 of the file")
    started_at = serializers.DateTimeField()
    length = serializers.CharField(allow_blank=True, help_text="charge to drop, m:ss")
    samples = serializers.IntegerField(help_text="rows written now; 0 for a duplicate")
    understood = serializers.ListField(child=serializers.CharField())
    dropped = serializers.ListField(child=serializers.CharField())
    warnings = serializers.ListField(child=serializers.CharField())


class Imports(APIView):
    """`POST /v1/imports`: one file becomes one roast; the same file again is answered with the roast it became."""

    permission_classes = [MemberOnly]
    parser_classes = [MultiPartParser, RawFileParser]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Before anything of the body is read: how long is it?"""
        length = str(request.META.get("CONTENT_LENGTH") or "0")
        if length.isdigit() and int(length) > MAX_FILE_BYTES + FORM_BYTES:
            raise ApiError(
                "file_too_large",
                f"The file has {int(length) / 1e6:.1f} MB; at most {MAX_FILE_BYTES / 1e6:.0f} MB are taken.",
                "Send one roast per file, sampled at 10 Hz at most.",
                status=413,
            )
        super().initial(request, *args, **kwargs)

    @extend_schema(
        operation_id="import_roast",
        description="One file: Artisan .alog or CSV, RoasTime JSON or CSV, RoastOps JSON or NDJSON, at most 8 MB; told "
        "apart by what is in it. Nothing in a file is executed or followed. 201 for a new roast, 200 for a file that "
        "came before; 413 `file_too_large`; 422 `unreadable_alog`, `unknown_format`, `no_curve`, `unreadable_file`.",
        request={"multipart/form-data": ImportForm, "application/octet-stream": OpenApiTypes.BINARY},
        parameters=[ImportFilters],
        responses={201: ImportedSerializer, 200: ImportedSerializer, **errors(413, 422)},
    )
    def post(self, request: Request) -> Response:
        principal = require(request, "operate")
        data, file_name, machine_id = _sent(request)
        machine = machine_or_refuse(principal, machine_id) if machine_id else None
        filed = importing.import_file(principal, data, file_name=file_name, machine=machine, now=clock.now())
        return Response(importing.describe(filed), status=200 if filed.is_duplicate else 201)


def _sent(request: Request) -> tuple[bytes, str, str]:
    """The file's bytes, its name and the machine's id, from a form or from the body and the address."""
    if isinstance(request.data, io.BytesIO):
        with request.data as sent:
            data = sent.getvalue()
        asked = read_filters(ImportFilters, request)
        return data, asked.get("file_name", "upload"), asked.get("machine_id", "")
    form: Any = request.data
    for name in form:
        if name not in FIELDS:
            raise Malformed("unknown_field", f"`{name[:40]}` is no field of this form. {nearest_hint(name, FIELDS)}")
    files = request.FILES.getlist("file")
    if len(files) != 1 or len(request.FILES) != 1:
        raise Malformed("one_file_wanted", "Exactly one `file` belongs into the form.", "Send each file by itself.")
    return files[0].read(), files[0].name or "", str(form.get("machine_id", ""))[:40]


def machine_or_refuse(principal: Principal, machine_id: str) -> Machine:
    """A machine of the principal's organisation; 400 for any other."""
    machine = Machine.objects.for_principal(principal).filter(pk=machine_id.replace("\0", "")).first()
    if machine is None:
        raise Malformed("machine_not_found", "There is no such machine here.", "List them with GET /v1/machines.")
    return machine


class ExportFilters(StrictSerializer):
    format = serializers.ChoiceField(list(FORMATS), default="json")


class RoastExport(APIView):
    """`GET /v1/roasts/{id}/export?format=`: the roast as a file."""

    permission_classes = [MemberOnly]

    @extend_schema(
        operation_id="export_roast",
        description="`json` and `ndjson` hold everything; the others what their format can hold. 422 "
        "`nothing_to_export` where no curve was kept.",
        parameters=[OpenApiParameter("format", str, enum=list(FORMATS), description="`json` when left out")],
        responses={
            **{(200, kind): OpenApiResponse(_schema_of(kind)) for kind in CONTENT_TYPES},
            **errors(422),
        },
    )
    def get(self, request: Request, roast_id: str) -> HttpResponse:
        roast = roast_or_404(request, roast_id)
        return export_response(roast, read_filters(ExportFilters, request)["format"])


def export_response(roast: Roast, format_name: str) -> HttpResponse:
    """The roast as a download, under a name that says what it is."""
    chosen = FORMATS[format_name]
    answer = HttpResponse(chosen.write(exporting.load_roast(roast)), content_type=chosen.content_type)
    answer["Content-Disposition"] = f'attachment; filename="{export_name(roast)}{chosen.suffix}"'
    answer["X-Content-Type-Options"] = "nosniff"
    answer["Cache-Control"] = "private, no-store"
    return answer


def export_name(roast: Roast) -> str:
    """``2026-03-08_1044_gesha``: letters, digits and dashes alone."""
    words = re.sub(r"[^A-Za-z0-9]+", "-", roast.title or roast.bean)[:40].strip("-").lower()
    return "_".join(part for part in (f"{roast.started_at:%Y-%m-%d_%H%M}", words or roast.pk) if part)
