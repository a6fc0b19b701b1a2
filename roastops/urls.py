"""Every address of the house, room by room."""

from __future__ import annotations

import logging

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

urlpatterns: list[URLPattern | URLResolver] = [
    path("", include("kernel.urls")),
    path("admin/", admin.site.urls),
]
for room in ("roasts.urls", "commands.urls", "commands.page_urls"):
    # While the rooms are being built: a room that is not whole yet is left out, and said so.
    try:
        routes = include(room)
    except ImportError as error:
        logging.getLogger(__name__).warning("%s is not there yet: %s", room, error)
        continue
    urlpatterns.append(path("v1/" if room.endswith(".urls") else "", routes))

handler400 = "kernel.error_pages.bad_request"
handler403 = "kernel.error_pages.permission_denied"
handler404 = "kernel.error_pages.page_not_found"
handler500 = "kernel.error_pages.server_error"
