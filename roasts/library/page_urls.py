"""Where the library's pages live. Included at the root of the site."""

from __future__ import annotations

from django.urls import path

from roasts.library import pages

app_name = "library"
urlpatterns = [
    path("roasts/", pages.roast_library, name="roasts"),
    path("roasts/compare/", pages.compare, name="compare"),
    path("roasts/<str:roast_id>/", pages.roast, name="roast"),
    path("profiles/", pages.profiles, name="profiles"),
    path("profiles/<str:profile_id>/", pages.profile, name="profile"),
]
