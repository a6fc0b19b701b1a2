"""Telemetry, under /v1/."""

from __future__ import annotations

from django.urls import path

from roasts.telemetry import api

urlpatterns = [
    path("telemetry", api.TelemetryFiling.as_view(), name="telemetry"),
    path("telemetry/<str:machine_id>", api.TelemetryStanding.as_view(), name="telemetry-stream"),
]
