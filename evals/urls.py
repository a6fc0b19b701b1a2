"""Reports, under /v1/."""

from __future__ import annotations

from django.urls import path

from evals import api

urlpatterns = [
    path("roasts/<str:roast_id>/reports", api.RoastReports.as_view(), name="roast-reports"),
    path("reports/<str:report_id>", api.ReportDetail.as_view(), name="report"),
]
