"""Telemetry, under /v1/."""

from __future__ import annotations

from django.urls import path

from roasts.telemetry import api, api_keys, api_roasts

urlpatterns = [
    path("telemetry", api.TelemetryFiling.as_view(), name="telemetry"),
    path("telemetry/<str:machine_id>", api.TelemetryStanding.as_view(), name="telemetry-stream"),
    path("telemetry/<str:machine_id>/open-roast", api_roasts.RoastOpening.as_view(), name="telemetry-open-roast"),
    path("telemetry/<str:machine_id>/close-roast", api_roasts.RoastClosing.as_view(), name="telemetry-close-roast"),
    path("roasts/<str:roast_id>/provenance", api_roasts.RoastProvenance.as_view(), name="roast-provenance"),
    path("telemetry-policy", api_keys.TelemetryPolicyView.as_view(), name="telemetry-policy"),
    path("device-keys", api_keys.DeviceKeyList.as_view(), name="device-keys"),
    path("device-keys/<str:device_key_id>/revoke", api_keys.DeviceKeyRevoking.as_view(), name="device-key-revoke"),
    path("device-keys/<str:device_key_id>/rotate", api_keys.DeviceKeyRotation.as_view(), name="device-key-rotate"),
]
