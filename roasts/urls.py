"""Roasts, under /v1/ (Machines are shown by commands/api_machines.py: they need halts.)"""

from __future__ import annotations

from django.urls import path

from roasts import api, api_outlook

urlpatterns = [
    path("roasts", api.RoastList.as_view(), name="roasts"),
    path("roasts/<str:roast_id>", api.RoastDetail.as_view(), name="roast"),
    path("roasts/<str:roast_id>/samples", api.RoastSamples.as_view(), name="roast-samples"),
    path("roasts/<str:roast_id>/events", api.RoastEvents.as_view(), name="roast-events"),
    path("roasts/<str:roast_id>/golden", api_outlook.RoastGolden.as_view(), name="roast-golden"),
    path("roasts/<str:roast_id>/plan", api_outlook.RoastPlan.as_view(), name="roast-plan"),
]
