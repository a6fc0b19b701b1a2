"""Device keys and the policy of signatures, over REST."""

from __future__ import annotations

import datetime as dt
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kernel import clock
from kernel.errors import NotFound
from kernel.idempotency import idempotent
from kernel.pagination import ListFilters, paginate
from kernel.permissions import MemberOnly, Requires, require
from kernel.schema import errors
from kernel.serializers import StrictSerializer, TextField, read_body, read_filters
from roasts.api.roasts import render_time
from roasts.models import DeviceKey, TelemetryPolicy
from roasts.telemetry import device_keys
from roasts.telemetry.api import remote_machine_or_404


def render_key(key: DeviceKey) -> dict[str, Any]:
    return {
        "device_key_id": key.pk,
        "machine_id": key.machine_id,
        "public_key": key.public_key,
        "note": key.note,
        "valid_from": render_time(key.valid_from),
        "valid_until": render_time(key.valid_until),
        "revoked_at": render_time(key.revoked_at),
        "created_at": render_time(key.created_at),
    }


class DeviceKeySerializer(serializers.Serializer):
    device_key_id = serializers.CharField(help_text="the `kid` of an envelope")
    machine_id = serializers.CharField()
    public_key = serializers.CharField(help_text="Ed25519, 32 bytes, hex")
    note = serializers.CharField(allow_blank=True)
    valid_from = serializers.DateTimeField(help_text="by the envelope's own time")
    valid_until = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()


class DeviceKeyPageSerializer(serializers.Serializer):
    results = DeviceKeySerializer(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class KeyFilters(ListFilters):
    machine = serializers.CharField(max_length=40, required=False)


class KeyBody(StrictSerializer):
    machine_id = TextField(max_length=40)
    public_key = TextField(max_length=64, help_text="Ed25519, 32 bytes, hex; keep the private half")
    note = TextField(max_length=200, required=False, allow_blank=True, default="")
    valid_from = serializers.DateTimeField(required=False)
    valid_until = serializers.DateTimeField(required=False)


class KeyRevocationBody(StrictSerializer):
    reason = TextField(max_length=500)


class RotationBody(StrictSerializer):
    public_key = TextField(max_length=64)
    overlap_s = serializers.IntegerField(
        required=False, min_value=0, max_value=30 * 86_400, default=int(device_keys.OVERLAP.total_seconds())
    )


class PolicyBody(StrictSerializer):
    signing = serializers.ChoiceField(TelemetryPolicy.Signing.choices)


class PolicySerializer(serializers.Serializer):
    signing = serializers.ChoiceField(TelemetryPolicy.Signing.choices)


def key_or_404(request: Request, device_key_id: str) -> DeviceKey:
    keys = DeviceKey.objects.for_principal(request.principal)  # type: ignore[attr-defined]
    key = keys.select_related("machine", "organization").filter(pk=device_key_id).first()
    if key is None:
        raise NotFound("device_key_not_found", "There is no such key here.", "List them with GET /v1/device-keys.")
    return key


class DeviceKeyList(APIView):
    """`GET/POST /v1/device-keys`."""

    permission_classes = [MemberOnly]

    @extend_schema(operation_id="list_device_keys", parameters=[KeyFilters], responses={200: DeviceKeyPageSerializer})
    def get(self, request: Request) -> Response:
        filters = read_filters(KeyFilters, request)
        keys = DeviceKey.objects.for_principal(request.principal)  # type: ignore[attr-defined]
        if "machine" in filters:
            keys = keys.filter(machine_id=filters["machine"])
        return paginate(
            keys,
            order=("-created_at", "-id"),
            limit=filters["limit"],
            cursor=filters.get("cursor"),
            render=render_key,
        )

    @extend_schema(
        operation_id="add_device_key",
        description="Make a public key known. 409 `key_known`; 422 `bad_public_key`, `bad_window`.",
        request=KeyBody,
        responses={201: DeviceKeySerializer, **errors(409, 422)},
    )
    @idempotent
    def post(self, request: Request) -> Response:
        principal = require(request, "lead")
        body = read_body(KeyBody, request)
        machine = remote_machine_or_404(request, body.pop("machine_id"))
        return Response(render_key(device_keys.add_key(principal, machine, **body, now=clock.now())), status=201)


class DeviceKeyRevoking(APIView):
    """`POST /v1/device-keys/{id}/revoke`."""

    permission_classes = [Requires("lead")]

    @extend_schema(
        operation_id="revoke_device_key",
        request=KeyRevocationBody,
        responses={200: DeviceKeySerializer, **errors(409)},
    )
    @idempotent
    def post(self, request: Request, device_key_id: str) -> Response:
        key = key_or_404(request, device_key_id)
        reason = read_body(KeyRevocationBody, request)["reason"]
        revoked = device_keys.revoke_key(require(request, "lead"), key, reason=reason, now=clock.now())
        return Response(render_key(revoked))


class DeviceKeyRotation(APIView):
    """`POST /v1/device-keys/{id}/rotate`: the new key; the old one vouches for ``overlap_s`` longer."""

    permission_classes = [Requires("lead")]

    @extend_schema(
        operation_id="rotate_device_key",
        request=RotationBody,
        responses={201: DeviceKeySerializer, **errors(409, 422)},
    )
    @idempotent
    def post(self, request: Request, device_key_id: str) -> Response:
        key = key_or_404(request, device_key_id)
        body = read_body(RotationBody, request)
        new = device_keys.rotate_key(
            require(request, "lead"),
            key,
            public_key=body["public_key"],
            overlap=dt.timedelta(seconds=body["overlap_s"]),
            now=clock.now(),
        )
        return Response(render_key(new), status=201)


class TelemetryPolicyView(APIView):
    """`GET/PUT /v1/telemetry-policy`: what the organisation does with signatures."""

    permission_classes = [MemberOnly]

    @extend_schema(operation_id="get_telemetry_policy", responses={200: PolicySerializer})
    def get(self, request: Request) -> Response:
        policy = device_keys.policy_of(require(request, "view").organization)
        return Response({"signing": policy.signing})

    @extend_schema(operation_id="set_telemetry_policy", request=PolicyBody, responses={200: PolicySerializer})
    def put(self, request: Request) -> Response:
        principal = require(request, "lead")
        policy = device_keys.set_policy(principal, read_body(PolicyBody, request)["signing"], now=clock.now())
        return Response({"signing": policy.signing})
