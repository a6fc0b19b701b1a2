"""Profiles over REST: golden curves with versions, and who follows which."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from kernel import clock
from kernel.endpoints import Endpoint, one_page, principal_of
from kernel.errors import NotFound, Unprocessable
from kernel.etags import NOT_MODIFIED, READING, tagged
from kernel.idempotency import idempotent
from kernel.pagination import ListFilters
from kernel.permissions import require
from kernel.principals import Principal
from kernel.schema import errors
from kernel.serializers import FlagField, StrictSerializer, TextField, read_body, read_filters
from roasts.api.roasts import render_time, roast_or_404
from roasts.library import profile, services_library
from roasts.library.profile import BadProfile, ProfileDocument
from roasts.models import Machine, Profile, ProfileVersion, Roast


class ProfileSerializer(serializers.Serializer):
    profile_id = serializers.CharField()
    name = serializers.CharField()
    bean = serializers.CharField(allow_blank=True)
    is_archived = serializers.BooleanField()
    created_at = serializers.DateTimeField()


class ProfilePageSerializer(serializers.Serializer):
    results = ProfileSerializer(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class VersionSerializer(serializers.Serializer):
    version_id = serializers.CharField()
    profile_id = serializers.CharField()
    version = serializers.IntegerField()
    digest = serializers.CharField(help_text="SHA-256 of the canonical document, hex")
    change_note = serializers.CharField(allow_blank=True)
    created_by = serializers.CharField(allow_null=True)
    created_at = serializers.DateTimeField()


class WholeVersionSerializer(VersionSerializer):
    document = serializers.DictField(help_text="`profile/1`: docs/curve.md")


class ProfileDetailSerializer(ProfileSerializer):
    versions = VersionSerializer(many=True)


class ProfileFilters(ListFilters):
    is_archived = serializers.BooleanField(required=False)


class VersionBody(StrictSerializer):
    """Of roasts (their ids, the leading one first), or a document of the schema ``profile/1``."""

    roast_ids = serializers.ListField(
        child=serializers.CharField(max_length=40), required=False, max_length=services_library.MAX_PROFILE_ROASTS
    )
    document = serializers.JSONField(required=False)
    change_note = TextField(max_length=500, required=False, allow_blank=True, default="")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("roast_ids" in attrs) == ("document" in attrs):
            raise serializers.ValidationError({"roast_ids": _("Send `roast_ids` or `document`, one of them.")})
        return attrs


class ProfileBody(VersionBody):
    name = TextField(max_length=200)
    bean = TextField(max_length=200, required=False, allow_blank=True, default="")


class ArchiveBody(StrictSerializer):
    is_archived = FlagField()


class FollowBody(StrictSerializer):
    """``version_id`` null: no profile. ``reason`` where a closed roast's profile is changed."""

    version_id = serializers.CharField(max_length=40, allow_null=True)
    reason = TextField(max_length=500, required=False, allow_blank=True, default="")


class FollowSerializer(serializers.Serializer):
    machine_id = serializers.CharField(required=False)
    roast_id = serializers.CharField(required=False)
    profile_version_id = serializers.CharField(allow_null=True)


def render_profile(made: Profile) -> dict[str, Any]:
    """A profile without its versions."""
    return {
        "profile_id": made.pk,
        "name": made.name,
        "bean": made.bean,
        "is_archived": made.is_archived,
        "created_at": render_time(made.created_at),
    }


def render_version(version: ProfileVersion, *, is_whole: bool = False) -> dict[str, Any]:
    """A version; with ``is_whole`` its document too."""
    return {
        "version_id": version.pk,
        "profile_id": version.profile_id,
        "version": version.version,
        "digest": version.digest,
        "change_note": version.change_note,
        "created_by": version.created_by.get_username() if version.created_by else None,
        "created_at": render_time(version.created_at),
        **({"document": version.document} if is_whole else {}),
    }


def profile_or_404(principal: Principal, profile_id: str) -> Profile:
    """A profile of the principal's organisation."""
    made = Profile.objects.for_principal(principal).select_related("organization").filter(pk=profile_id).first()
    if made is None:
        raise NotFound("profile_not_found", "There is no such profile here.", "List them with GET /v1/profiles.")
    return made


def machine_or_404(principal: Principal, machine_id: str) -> Machine:
    """A machine of the principal's organisation that is in use."""
    machines = Machine.objects.for_principal(principal).select_related("organization")
    machine = machines.filter(pk=machine_id, is_archived=False).first()
    if machine is None:
        raise NotFound("machine_not_found", "There is no such machine here.", "List them with GET /v1/machines.")
    return machine


def version_for(principal: Principal, machine_id: str, version_id: str | None) -> ProfileVersion | None:
    """The version somebody chose for this machine, None for none; NotFound where it is not theirs.

    Unprocessable `other_machines_profile`: a curve is of one machine's probe; one that names no machine of ours (a
    document from outside) may be tried.
    """
    if version_id is None:
        return None
    rows = ProfileVersion.objects.filter(pk=version_id, profile__organization=principal.organization)
    version = rows.select_related("profile").first()
    if version is None:
        raise NotFound("version_not_found", "There is no such version here.", "Look at GET /v1/profiles/{id}.")
    of_machine = version.document.get("sensor", {}).get("machine", "")
    if of_machine.startswith("mch_") and of_machine != machine_id:
        raise Unprocessable(
            "other_machines_profile",
            "This profile was read by another machine's probe.",
            "Make one of this machine's own roasts.",
        )
    return version


def document_of_body(principal: Principal, body: dict[str, Any]) -> ProfileDocument:
    """The document a body asks for: of roasts, or the one it brings."""
    if "document" in body:
        try:
            return profile.from_json(body["document"])
        except BadProfile as error:
            raise serializers.ValidationError({"document": f"{error}."}) from error
    ids = list(dict.fromkeys(body["roast_ids"]))
    found = Roast.objects.for_principal(principal).in_bulk(ids)
    if len(found) < len(ids):
        raise NotFound("roast_not_found", "One of these roasts is not here.", "List them with GET /v1/roasts.")
    return services_library.document_of([found[roast_id] for roast_id in ids])


class ProfileList(Endpoint):
    """`GET/POST /v1/profiles`."""

    @extend_schema(operation_id="list_profiles", parameters=[ProfileFilters], responses={200: ProfilePageSerializer})
    def get(self, request: Request) -> Response:
        rows, filters = Profile.objects.for_principal(principal_of(request)), read_filters(ProfileFilters, request)
        columns, order = {"is_archived": "is_archived"}, ("name", "id")
        return one_page(rows, filters, columns=columns, order=order, render=render_profile)

    @extend_schema(
        operation_id="create_profile",
        description="409 `profile_name_taken`; 422 `not_golden`, `different_machines`, `no_roasts`.",
        request=ProfileBody,
        responses={201: WholeVersionSerializer, **errors(404, 409, 422)},
    )
    @idempotent
    def post(self, request: Request) -> Response:
        principal = require(request, "lead")
        body = read_body(ProfileBody, request)
        version = services_library.create_profile(
            principal,
            document_of_body(principal, body),
            name=body["name"],
            bean=body["bean"],
            change_note=body["change_note"],
            now=clock.now(),
        )
        return Response(render_version(version, is_whole=True), status=201)


class ProfileDetail(Endpoint):
    """`GET /v1/profiles/{id}`: with its versions, newest first."""

    @extend_schema(
        operation_id="get_profile", parameters=READING, responses={200: ProfileDetailSerializer, 304: NOT_MODIFIED}
    )
    def get(self, request: Request, profile_id: str) -> Response:
        made = profile_or_404(principal_of(request), profile_id)
        versions = made.versions.defer("document").select_related("created_by").order_by("-version")
        return tagged(request, {**render_profile(made), "versions": [render_version(version) for version in versions]})


class ProfileVersions(Endpoint):
    """`POST /v1/profiles/{id}/versions`."""

    @extend_schema(
        operation_id="add_profile_version",
        description="409 `same_document`; 422 as when a profile is created.",
        request=VersionBody,
        responses={201: WholeVersionSerializer, **errors(404, 409, 422)},
    )
    @idempotent
    def post(self, request: Request, profile_id: str) -> Response:
        principal = require(request, "lead")
        made = profile_or_404(principal, profile_id)
        body = read_body(VersionBody, request)
        version = services_library.add_version(
            principal, made, document_of_body(principal, body), change_note=body["change_note"], now=clock.now()
        )
        return Response(render_version(version, is_whole=True), status=201)


class ProfileVersionDetail(Endpoint):
    """`GET /v1/profiles/{id}/versions/{number}`: the whole document."""

    @extend_schema(
        operation_id="get_profile_version",
        parameters=READING,
        responses={200: WholeVersionSerializer, 304: NOT_MODIFIED},
    )
    def get(self, request: Request, profile_id: str, number: int) -> Response:
        made = profile_or_404(principal_of(request), profile_id)
        version = made.versions.select_related("created_by").filter(version=min(number, 2**31 - 1)).first()
        if version is None:
            raise NotFound("version_not_found", "This profile has no such version.", "Look at GET /v1/profiles/{id}.")
        return tagged(request, render_version(version, is_whole=True))


class ProfileArchive(Endpoint):
    """`POST /v1/profiles/{id}/archive`."""

    @extend_schema(operation_id="archive_profile", request=ArchiveBody, responses={200: ProfileSerializer})
    @idempotent
    def post(self, request: Request, profile_id: str) -> Response:
        principal = require(request, "lead")
        made = profile_or_404(principal, profile_id)
        body = read_body(ArchiveBody, request)
        return Response(render_profile(services_library.archive_profile(principal, made, **body, now=clock.now())))


class MachineProfile(Endpoint):
    """`POST /v1/machines/{id}/profile`: what its next roasts follow."""

    @extend_schema(
        operation_id="choose_machine_profile",
        description="409 `profile_archived`; 422 `other_machines_profile`: another probe read its curve.",
        request=FollowBody,
        responses={200: FollowSerializer, **errors(404, 409, 422)},
    )
    @idempotent
    def post(self, request: Request, machine_id: str) -> Response:
        principal = require(request, "operate")
        machine = machine_or_404(principal, machine_id)
        version = version_for(principal, machine.pk, read_body(FollowBody, request)["version_id"])
        services_library.follow_profile(principal, machine, version, now=clock.now())
        return Response({"machine_id": machine.pk, "profile_version_id": machine.profile_version_id})


class RoastProfile(Endpoint):
    """`POST /v1/roasts/{id}/profile`."""

    @extend_schema(
        operation_id="choose_roast_profile",
        description="409 `profile_archived`; 422 `reason_needed` for a closed roast, `other_machines_profile`.",
        request=FollowBody,
        responses={200: FollowSerializer, **errors(404, 409, 422)},
    )
    @idempotent
    def post(self, request: Request, roast_id: str) -> Response:
        principal = require(request, "operate")
        roast = roast_or_404(request, roast_id, or_planned=True)
        body = read_body(FollowBody, request)
        version = version_for(principal, roast.machine_id, body["version_id"])
        services_library.assign_profile(principal, roast, version, reason=body["reason"], now=clock.now())
        return Response({"roast_id": roast.pk, "profile_version_id": version.pk if version else None})
