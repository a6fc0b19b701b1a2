"""Roasts, under /v1/ (Machines are shown by commands/api_machines.py: they need halts.)"""

from __future__ import annotations

from django.urls import path

from roasts import api

urlpatterns = [
    path("roasts", api.RoastList.as_view(), name="roasts"),
    path("roasts/<str:roast_id>", api.RoastDetail.as_view(), name="roast"),
    path("roasts/<str:roast_id>/samples", api.RoastSamples.as_view(), name="roast-samples"),
    path("roasts/<str:roast_id>/events", api.RoastEvents.as_view(), name="roast-events"),
]
