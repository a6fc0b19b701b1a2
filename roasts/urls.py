"""Roasts, under /v1/ (Machines are shown by commands/api_machines.py: they need halts.)"""

from __future__ import annotations

from django.urls import path

from roasts import api, api_files, api_library, api_outlook, api_profiles

urlpatterns = [
    path("roasts", api.RoastList.as_view(), name="roasts"),
    path("roasts/<str:roast_id>", api.RoastDetail.as_view(), name="roast"),
    path("roasts/<str:roast_id>/samples", api.RoastSamples.as_view(), name="roast-samples"),
    path("roasts/<str:roast_id>/events", api.RoastEvents.as_view(), name="roast-events"),
    path("roasts/<str:roast_id>/golden", api_outlook.RoastGolden.as_view(), name="roast-golden"),
    path("roasts/<str:roast_id>/plan", api_outlook.RoastPlan.as_view(), name="roast-plan"),
    path("roasts/<str:roast_id>/summary", api_library.RoastSummary.as_view(), name="roast-summary"),
    path("roasts/<str:roast_id>/curve", api_library.RoastCurve.as_view(), name="roast-curve"),
    path("roasts/<str:roast_id>/export", api_files.RoastExport.as_view(), name="roast-export"),
    path("imports", api_files.Imports.as_view(), name="imports"),
    path("roasts/<str:roast_id>/qc-notes", api_library.RoastNotes.as_view(), name="roast-qc-notes"),
    path("roasts/<str:roast_id>/corrections", api_library.RoastCorrections.as_view(), name="roast-corrections"),
    path("roasts/<str:roast_id>/profile", api_profiles.RoastProfile.as_view(), name="roast-profile"),
    path("comparison", api_library.Comparison.as_view(), name="comparison"),
    path("profiles", api_profiles.ProfileList.as_view(), name="profiles"),
    path("profiles/<str:profile_id>", api_profiles.ProfileDetail.as_view(), name="profile"),
    path("profiles/<str:profile_id>/versions", api_profiles.ProfileVersions.as_view(), name="profile-versions"),
    path(
        "profiles/<str:profile_id>/versions/<int:number>",
        api_profiles.ProfileVersionDetail.as_view(),
        name="profile-version",
    ),
    path("profiles/<str:profile_id>/archive", api_profiles.ProfileArchive.as_view(), name="profile-archive"),
    path("machines/<str:machine_id>/profile", api_profiles.MachineProfile.as_view(), name="machine-profile"),
]
