"""Where the import page lives. Included before the library's own addresses: `/roasts/import/` is no roast."""

from __future__ import annotations

from django.urls import path

from roasts.files import pages as pages_files

app_name = "roast_files"
urlpatterns = [path("roasts/import/", pages_files.import_page, name="import")]
