"""The report of a roast as a page that prints: every version, its figure, its QR code."""

from __future__ import annotations

import io

import segno
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext
from django.views.decorators.http import require_http_methods

from commands.console.pages import members_only, page_context
from evals import material, report_figure, services
from evals.models import RoastReport
from kernel import clock
from kernel.principals import Principal
from roasts.models import Roast


@require_http_methods(["GET", "HEAD", "POST"])
@members_only
def report(request: HttpRequest, principal: Principal, roast_id: str) -> HttpResponse:
    """How did this roast go, on paper? ``?version=`` shows an older version, marked as such; POST writes a new one."""
    roast = Roast.objects.for_principal(principal).select_related("machine", "organization").filter(pk=roast_id).first()
    if roast is None:
        raise Http404("No such roast in your organisation.")
    if request.method == "POST":
        return _write(request, principal, roast)
    versions = list(RoastReport.objects.filter(roast=roast).order_by("-version"))
    wanted = request.GET.get("version", "")
    if wanted and not (wanted.isascii() and wanted.isdigit() and len(wanted) < 9):
        raise Http404("A version is a whole number.")
    shown = next((row for row in versions if str(row.version) == wanted or not wanted), None)
    if wanted and shown is None:
        raise Http404("This report has no such version.")
    context = page_context(request, principal, "roasts", [])
    if shown is not None:
        address = request.build_absolute_uri(f"{request.path}?version={shown.version}")
        context |= {
            "shown": shown,
            "document": shown.document,
            "figure": mark_safe(report_figure.draw(shown.document, gettext)),  # every text in it is escaped
            "qr": qr_of(address),
            "address": address,
        }
    return render(request, "evals/report.html", {**context, "roast": roast, "versions": versions})


def _write(request: HttpRequest, principal: Principal, roast: Roast) -> HttpResponse:
    """Bring the report up to date, then show it. An open roast has none yet: the page says so."""
    if not principal.may("operate"):
        raise PermissionDenied("Only who may operate writes a report.")
    if roast.status in services.CLOSED:
        services.write_report(
            principal,
            roast,
            material=material.gather(roast),
            reason=f"asked for by {principal.name}",
            now=clock.now(),
        )
    return HttpResponseRedirect(reverse("reports:report", args=[roast.pk]))


def qr_of(address: str) -> SafeString:
    """The address as an inline SVG QR code (error correction M)."""
    out = io.BytesIO()
    segno.make(address, error="m", micro=False).save(
        out, kind="svg", xmldecl=False, svgns=True, svgclass="qr", lineclass="qr-line", omitsize=True, border=2
    )
    return mark_safe(out.getvalue().decode("utf-8"))  # made of the code's own squares
