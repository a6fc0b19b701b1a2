"""Every address of the house, room by room."""

from __future__ import annotations

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

urlpatterns: list[URLPattern | URLResolver] = [
    path("v1/", include("commands.urls")),  # first: agents ask here, and addresses are tried in their order
    path("", include("kernel.urls")),
    path("v1/", include("roasts.urls")),
    path("v1/", include("roasts.telemetry.urls")),
    path("v1/", include("evals.urls")),
    path("", include("commands.console.page_urls")),
    path("", include("evals.page_urls")),
    path("", include("roasts.files.page_urls")),
    path("", include("roasts.library.page_urls")),
    path("admin/", admin.site.urls),
]
handler400 = "kernel.error_pages.bad_request"
handler403 = "kernel.error_pages.permission_denied"
handler404 = "kernel.error_pages.page_not_found"
handler500 = "kernel.error_pages.server_error"
