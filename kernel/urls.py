"""Addresses of the ground floor: who am I, health, metrics, the API's own description."""

from __future__ import annotations

from django.urls import path
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerSplitView

from kernel import api, health

urlpatterns = [
    path("v1/me", api.MeView.as_view(), name="me"),
    path("v1/stream", api.StreamView.as_view(), name="stream"),
    path("v1/openapi.json", SpectacularJSONAPIView.as_view(), name="openapi"),
    path(
        "v1/docs",
        SpectacularSwaggerSplitView.as_view(url_name="openapi", http_method_names=["get", "head"]),
        name="docs",
    ),
    path("livez", health.livez, name="livez"),
    path("readyz", health.readyz, name="readyz"),
    path("ready", health.readyz, name="ready"),
    path("health", health.health, name="health"),
    path("healthz", health.healthz, name="healthz"),
    path("metrics", health.metrics_page, name="metrics"),
]
