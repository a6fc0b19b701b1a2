"""The library's pages: find roasts, look at one, lay some over each other. Every act goes to the API."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

from django.db.models import Count, Max
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.http import urlencode
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_GET

from kernel.errors import ApiError
from kernel.member_pages import members_only, page_context
from kernel.principals import Principal
from roasts.api import library as api_library
from roasts.library import comparison, page_words, quality, services_library
from roasts.library import questions as library
from roasts.library.page_words import KIND_WORDS
from roasts.library.questions import Search
from roasts.models import Machine, Profile, ProfileVersion, Roast
from roasts.store import summaries

ALIGN_WORDS = {
    "charge": _("charge"),
    "first_crack_start": _("first crack"),
    "turning_point": _("turning point"),
    "drop": _("drop"),
}
ORDER_WORDS = {
    "newest": _("newest first"),
    "oldest": _("oldest first"),
    "bean": _("by bean"),
    "ratio": _("highest DTR"),
    "total": _("longest"),
    "drop": _("hottest drop"),
}
MAX_TEXT = 200


def read_search(request: HttpRequest) -> Search:
    """The search of an address; what makes no sense there is left out, as if it had not been typed."""
    asked = request.GET
    order = asked.get("order", "newest")
    return Search(
        words=asked.get("q", "")[:MAX_TEXT].replace("\0", ""),
        machine_id=asked.get("machine", "")[:40].replace("\0", ""),
        from_day=_day(asked.get("from", "")),
        to_day=_day(asked.get("to", "")),
        ratio_from=_share(asked.get("dtr_from", "")),
        ratio_to=_share(asked.get("dtr_to", "")),
        order=order if order in library.ORDERS else "newest",
    )


def _day(text: str) -> dt.date | None:
    """A day of the calendar's middle: near its ends, the day after or another zone's hour does not exist."""
    try:
        day = dt.date.fromisoformat(text)
    except ValueError:
        return None
    return day if dt.MINYEAR < day.year < dt.MAXYEAR else None


def _share(text: str) -> float | None:
    """Percent as people write it, as a share."""
    try:
        percent = float(text.replace(",", "."))
    except ValueError:
        return None
    return percent / 100 if 0 <= percent <= 100 else None


@require_GET
@members_only
def roast_library(request: HttpRequest, principal: Principal) -> HttpResponse:
    """How did this compare?"""
    search = read_search(request)
    fault = ""
    try:
        page = library.page_of(principal, search, request.GET.get("cursor", "")[:400])
    except ApiError as error:
        page, fault = library.page_of(principal, search), error.message
    kept: dict[str, Any] = {name: value for name, value in request.GET.items() if name != "cursor" and value}
    context = {
        **page_context(request, principal, "roasts"),
        "search": search,
        "asked": request.GET,
        "fault": fault,
        "rows": [(roast, _row_words(roast)) for roast in page.rows],
        "next_page": urlencode({**kept, "cursor": page.next_cursor}) if page.next_cursor else "",
        "first_page": urlencode(kept),
        "is_further": bool(request.GET.get("cursor")),
        "machines": Machine.objects.for_principal(principal).only("id", "name"),
        "profiles": Profile.objects.for_principal(principal).filter(is_archived=False).only("id", "name"),
        "orders": ORDER_WORDS,
        "left_out": library.MEASURES.get(search.order),
    }
    return render(request, "roasts/library.html", context)


def _row_words(roast: Roast) -> dict[str, Any]:
    in_g, out_g = roast.weight_in_g, roast.weight_out_g
    return {
        "title": page_words.title_of(roast),
        "total": page_words.clock_words(None if roast.total_ms is None else roast.total_ms / 1000),
        "crack": page_words.clock_words(None if roast.first_crack_ms is None else roast.first_crack_ms / 1000),
        "ratio": None if roast.development_ratio is None else 100 * roast.development_ratio,
        "loss": 100 * (in_g - out_g) / in_g if in_g and out_g else None,
        "version": roast.profile_version,
    }


def roast_or_404(principal: Principal, roast_id: str) -> Roast:
    """A roast of the principal's organisation, with what its page shows of others."""
    rows = Roast.objects.for_principal(principal).select_related("machine", "profile_version__profile", "packed")
    roast = rows.defer("packed__payload").filter(pk=roast_id).first()
    if roast is None:
        raise Http404("No such roast in your organisation.")
    return roast


@require_GET
@members_only
def roast(request: HttpRequest, principal: Principal, roast_id: str) -> HttpResponse:
    """What happened, what do people say of it, and who vouches for it?"""
    shown = roast_or_404(principal, roast_id)
    summary = shown.summary or summaries.summary_to_json(summaries.count(shown))
    events = list(shown.events.select_related("marked_by"))
    limits = {limit.control: limit.full_scale_step for limit in shown.machine.limits.all()}
    context = {
        **page_context(request, principal, "roasts"),
        "roast": shown,
        "title": page_words.title_of(shown),
        "origin_word": page_words.ORIGIN_WORDS.get(shown.source, shown.source),
        "is_closed": shown.status in summaries.CLOSED,
        "summary": summary,
        "total": page_words.clock_words(summary.get("total_s")),
        "ratio": None if summary.get("development_ratio") is None else 100 * summary["development_ratio"],
        "phases": page_words.phase_rows(summary),
        "landmarks": page_words.landmark_rows(summary),
        "warnings": page_words.warnings_of(summary),
        "marks": page_words.mark_rows(events),
        "chart_marks": _chart_marks(page_words.mark_rows(events)),
        "kinds": [(kind, word) for kind, word in KIND_WORDS.items() if kind != "turning_point"],
        "full_scale": json.dumps(limits),
        **_said(principal, shown),
    }
    return render(request, "roasts/roast.html", context)


def _chart_marks(rows: list[page_words.MarkRow]) -> str:
    """The marks that count, as the chart draws them."""
    shown = [{"word": row.word, "elapsed_ms": row.elapsed_ms, "source": row.source} for row in rows if row.counts]
    return json.dumps(shown)


def _said(principal: Principal, shown: Roast) -> dict[str, Any]:
    """What people say of a roast, and what they may say."""
    of_house = ProfileVersion.objects.filter(profile__organization=principal.organization)
    versions = list(of_house.select_related("profile").defer("document").order_by("profile__name", "-version")[:200])
    names = {
        row.pk: gettext("%(name)s, version %(version)s") % {"name": row.profile.name, "version": row.version}
        for row in versions
    }
    corrections = [
        (
            page_words.FIELD_WORDS.get(row.field, row.field),
            row,
            *(names.get(str(value), value) for value in (row.old_value, row.new_value)),
        )
        for row in shown.corrections.select_related("corrected_by")
    ]
    return {
        "gaps": [
            (page_words.clock_words(gap.from_ms / 1000), _end_words(gap.to_ms), gap.reason)
            for gap in shown.gaps.order_by("from_ms")
        ],
        "notes": shown.qc_notes.select_related("author"),
        "corrections": corrections,
        "fields": [
            (name, word, getattr(shown, name), name in services_library.NUMBERS)
            for name, word in page_words.FIELD_WORDS.items()
            if name != "profile_version_id"
        ],
        "attributes": quality.ATTRIBUTES,
        "defects": quality.DEFECTS,
        "versions": [row for row in versions if not row.profile.is_archived],
    }


def _end_words(to_ms: int | None) -> str:
    return gettext("the end") if to_ms is None else page_words.clock_words(to_ms / 1000)


@require_GET
@members_only
def compare(request: HttpRequest, principal: Principal) -> HttpResponse:
    """Some roasts over each other, aligned by an event, and how far apart they are."""
    ids = [word for text in request.GET.getlist("ids") for word in text.split(",")][:20]
    align = request.GET.get("align", "charge")
    align = comparison.ALIGNMENT_WORDS.get(align, align)
    align = align if align in ALIGN_WORDS else "charge"
    chosen = library.chosen(principal, [word.replace("\0", "") for word in ids])
    compared = {row["roast_id"]: row for row in api_library.compare_roasts(chosen, align, comparison.TOLERANCE_C)}
    rows = [
        {
            "roast": row,
            "title": page_words.title_of(row),
            "summary": row.summary or {},
            "phases": page_words.phase_rows(row.summary or {}),
            "total": page_words.clock_words((row.summary or {}).get("total_s")),
            "ratio": None if row.development_ratio is None else 100 * row.development_ratio,
            "compared": compared.get(row.pk),
        }
        for row in chosen
    ]
    context = {
        **page_context(request, principal, "roasts"),
        "rows": rows,
        "ids": ",".join(row.pk for row in chosen),
        "align": align,
        "aligns": ALIGN_WORDS,
        "tolerance_c": comparison.TOLERANCE_C,
        "laid": json.dumps([_laid(row, align) for row in rows]),
    }
    return render(request, "roasts/compare.html", context)


def _laid(row: dict[str, Any], align: str) -> dict[str, Any]:
    """One line of the overlay: whose curve, and the moment that is laid on 0 (null: it has no such event)."""
    landmarks = {mark["kind"]: mark["elapsed_s"] for mark in row["summary"].get("landmarks", [])}
    return {
        "roast_id": row["roast"].pk,
        "title": row["title"],
        "zero_s": landmarks.get(align),
        "end_s": landmarks.get("drop"),
    }


@require_GET
@members_only
def profiles(request: HttpRequest, principal: Principal) -> HttpResponse:
    """Which roasts are worth repeating?"""
    rows = Profile.objects.for_principal(principal).annotate(
        newest=Max("versions__version"),
        changed_at=Max("versions__created_at"),
        used=Count("versions__roasts", distinct=True),
    )
    is_archived = request.GET.get("archived") == "yes"
    context = {
        **page_context(request, principal, "profiles"),
        "profiles": rows.filter(is_archived=is_archived).order_by("name")[:200],
        "is_archived": is_archived,
    }
    return render(request, "roasts/profiles.html", context)


@require_GET
@members_only
def profile(request: HttpRequest, principal: Principal, profile_id: str) -> HttpResponse:
    """A golden curve: what it asks for, how it came to be, and who follows it."""
    made = Profile.objects.for_principal(principal).filter(pk=profile_id).first()
    if made is None:
        raise Http404("No such profile in your organisation.")
    versions = list(made.versions.defer("document").select_related("created_by").order_by("-version"))
    number = request.GET.get("version", "")
    wanted = [row for row in versions if str(row.version) == number] or versions[:1]
    document = wanted[0].document if wanted else {}
    machines = Machine.objects.for_principal(principal).filter(is_archived=False)
    of_machine = [row for row in machines if row.pk == document.get("sensor", {}).get("machine")]
    context = {
        **page_context(request, principal, "profiles"),
        "profile": made,
        "versions": versions,
        "shown": wanted[0] if wanted else None,
        "document": document,
        "landmarks": [
            (KIND_WORDS.get(kind, kind), page_words.clock_words(at_s))
            for kind, at_s in sorted(document.get("landmarks_s", {}).items(), key=lambda item: item[1])
        ],
        "plan": [(page_words.clock_words(move["elapsed_s"]), move) for move in document.get("plan", [])],
        "roasts": library.chosen_of(principal, document.get("roast_ids", [])),
        "machines": of_machine or list(machines),
        "chart": json.dumps(document),
    }
    return render(request, "roasts/profile.html", context)
