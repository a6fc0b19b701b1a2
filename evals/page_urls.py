"""The report's page."""

from __future__ import annotations

from django.urls import path

from evals import pages

app_name = "reports"
urlpatterns = [path("reports/<str:roast_id>/", pages.report, name="report")]
