"""Roasts, under /v1/ (Machines are shown by commands/api/machines.py: they need halts.)"""

from __future__ import annotations

from django.urls import path

from roasts.api import library, outlook, planned, profiles, roasts
from roasts.files import api as api_files

urlpatterns = [
    path("roasts", planned.RoastsAndPlans.as_view(), name="roasts"),
    path("roasts/<str:roast_id>", roasts.RoastDetail.as_view(), name="roast"),
    path("roasts/<str:roast_id>/withdraw", planned.RoastWithdrawal.as_view(), name="roast-withdraw"),
    path("roasts/<str:roast_id>/samples", roasts.RoastSamples.as_view(), name="roast-samples"),
    path("roasts/<str:roast_id>/events", roasts.RoastEvents.as_view(), name="roast-events"),
    path("roasts/<str:roast_id>/golden", outlook.RoastGolden.as_view(), name="roast-golden"),
    path("roasts/<str:roast_id>/plan", outlook.RoastPlan.as_view(), name="roast-plan"),
    path("roasts/<str:roast_id>/summary", library.RoastSummary.as_view(), name="roast-summary"),
    path("roasts/<str:roast_id>/curve", library.RoastCurve.as_view(), name="roast-curve"),
    path("roasts/<str:roast_id>/export", api_files.RoastExport.as_view(), name="roast-export"),
    path("imports", api_files.Imports.as_view(), name="imports"),
    path("roasts/<str:roast_id>/qc-notes", library.RoastNotes.as_view(), name="roast-qc-notes"),
    path("roasts/<str:roast_id>/corrections", library.RoastCorrections.as_view(), name="roast-corrections"),
    path("roasts/<str:roast_id>/profile", profiles.RoastProfile.as_view(), name="roast-profile"),
    path("comparison", library.Comparison.as_view(), name="comparison"),
    path("profiles", profiles.ProfileList.as_view(), name="profiles"),
    path("profiles/<str:profile_id>", profiles.ProfileDetail.as_view(), name="profile"),
    path("profiles/<str:profile_id>/versions", profiles.ProfileVersions.as_view(), name="profile-versions"),
    path(
        "profiles/<str:profile_id>/versions/<int:number>",
        profiles.ProfileVersionDetail.as_view(),
        name="profile-version",
    ),
    path("profiles/<str:profile_id>/archive", profiles.ProfileArchive.as_view(), name="profile-archive"),
    path("machines/<str:machine_id>/profile", profiles.MachineProfile.as_view(), name="machine-profile"),
]
