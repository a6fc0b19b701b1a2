"""The console's import page: drop files, see what was understood of each, and what was left out."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from kernel.member_pages import members_only, page_context
from kernel.principals import Principal
from roasts.formats.imported import MAX_FILE_BYTES
from roasts.formats.reading import NAMES
from roasts.models import ImportedFile, Machine

LATEST = 20


@require_GET
@members_only
def import_page(request: HttpRequest, principal: Principal) -> HttpResponse:
    """How do my roasts from elsewhere come in?"""
    files = ImportedFile.objects.filter(roast__organization=principal.organization).select_related(
        "roast__machine", "imported_by"
    )
    context = {
        **page_context(request, principal, "roasts"),
        "machines": Machine.objects.for_principal(principal).filter(is_archived=False).only("id", "name"),
        "files": files[:LATEST],
        "format_names": NAMES,
        "max_bytes": MAX_FILE_BYTES,
        "max_megabytes": MAX_FILE_BYTES // 1_000_000,
    }
    return render(request, "roasts/import.html", context)
