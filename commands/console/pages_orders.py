"""The orders' pages: what was asked, by whom, and what came of it. Every act goes to the API."""

from __future__ import annotations

import csv
import datetime as dt
from collections.abc import Iterator
from typing import Any

from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import render
from django.utils.http import urlencode
from django.views.decorators.http import require_GET

from commands.console import order_story, order_words
from commands.console.gathering import full_scales
from commands.console.order_words import OrderView
from commands.history import search as order_search
from commands.history.search import OrderSearch
from commands.lifecycle import Status
from commands.models import Proposal, SavedView
from commands.rules.conversion import OrderType
from drivers.port import MachineState
from kernel import clock
from kernel.errors import ApiError
from kernel.member_pages import members_only, page_context
from kernel.models import Agent
from kernel.principals import Principal
from roasts.models import Machine, Roast

ROASTS_OFFERED = 30
AGENTS_OFFERED = 100
ROWS_AGAIN_MAX = order_search.PAGE_ROWS
CSV_ROWS_MAX = 10_000
CSV_COLUMNS = (
    "order_id", "machine", "roast_id", "order_type", "from_step", "target_step", "asked_value", "asked_unit",
    "proposer_kind", "proposer", "status", "decision", "significance", "reason_codes", "proposed_at", "decided_at",
    "approver", "settled_at", "outcome_code", "actual_step",
)  # fmt: skip
_STATES = [state.value for state in MachineState if state is not MachineState.UNKNOWN]
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def _now(context: dict[str, Any]) -> dt.datetime:
    now: dt.datetime = context["server_now"]
    return now


def _row_views(principal: Principal, rows: list[Proposal]) -> list[OrderView]:
    scales = full_scales(sorted({row.machine_id for row in rows}))
    return [order_words.order_view(row, principal, scales, has_steps=False) for row in rows]


def _kept(request: HttpRequest) -> dict[str, str]:
    """The search as it stands in the address, without the place in the list."""
    asked = request.GET.dict()
    return {name: str(value) for name, value in asked.items() if name not in ("cursor", "after", "ids") and value}


@require_GET
@members_only
def order_list(request: HttpRequest, principal: Principal) -> HttpResponse:
    """What was asked, by whom, and what came of it?"""
    search = order_search.read_search(request.GET)
    context = page_context(request, principal, "orders")
    now, fault = _now(context), ""
    try:
        rows, next_cursor = order_search.page_of(principal, search, request.GET.get("cursor", "")[:400], now)
    except ApiError as error:
        fault = error.message
        rows, next_cursor = order_search.page_of(principal, search, "", now)
    kept = _kept(request)
    context |= {
        "search": search,
        "asked": request.GET,
        "fault": fault,
        "rows": _row_views(principal, rows),
        "newest_id": rows[0].pk if rows else "",
        "query": urlencode(kept),
        "next_page": urlencode({**kept, "cursor": next_cursor}) if next_cursor else "",
        "is_further": bool(request.GET.get("cursor")),
        **_choices(principal, search),
        **_saved_views(principal, urlencode(kept)),
    }
    return render(request, "orders/list.html", context)


def _choices(principal: Principal, search: OrderSearch) -> dict[str, Any]:
    """What the filters offer: names of this organisation's machines, agents and latest roasts."""
    roasts = list(
        Roast.objects.for_principal(principal)
        .select_related("machine")
        .order_by("-started_at", "-id")
        .only("id", "title", "bean", "started_at", "machine__name")[:ROASTS_OFFERED]
    )
    return {
        "statuses": [(status.value, order_words.STATUS_WORDS[status.value][0]) for status in Status],
        "groups": order_search.GROUP_WORDS,
        "types": [(kind.value, order_words.ORDER_WORDS.get(kind.value, kind.value)) for kind in OrderType],
        "periods": order_search.PERIOD_WORDS,
        "machines": Machine.objects.for_principal(principal).only("id", "name"),
        "agents": Agent.objects.for_principal(principal).order_by("name").only("id", "name")[:AGENTS_OFFERED],
        "roasts": roasts,
        "is_roast_unlisted": bool(search.roast_id) and search.roast_id not in {roast.pk for roast in roasts},
    }


def _saved_views(principal: Principal, query: str) -> dict[str, Any]:
    """The person's own views and those shared with the organisation."""
    views = list(
        SavedView.objects.for_principal(principal)
        .filter(Q(user=principal.user) | Q(is_shared=True))
        .select_related("user")
    )
    user_id = principal.user.pk if principal.user else None
    return {"views": [(view, view.user_id == user_id, view.query == query) for view in views]}


@require_GET
@members_only
def order_rows(request: HttpRequest, principal: Principal) -> HttpResponse:
    """Rows that are on the page already, as they stand now (`ids`, with commas)."""
    ids = [key[:40] for key in request.GET.get("ids", "").replace("\0", "").split(",")[:ROWS_AGAIN_MAX]]
    rows = list(Proposal.objects.for_principal(principal).filter(pk__in=ids).select_related(*order_search.WITH_NAMES))
    context = page_context(request, principal, "orders")
    return render(request, "orders/_rows.html", {**context, "rows": _row_views(principal, rows)})


@require_GET
@members_only
def order_news(request: HttpRequest, principal: Principal) -> HttpResponse:
    """How many orders that answer the search came after `after`, and what the newest is."""
    search = order_search.read_search(request.GET)
    after = request.GET.get("after", "")[:40].replace("\0", "")
    found = order_search.newer_than(principal, search, after, clock.now())
    newest = found[0] if found else None
    words = f"{order_words.order_title(newest)}, {order_words.proposer_name(newest)}" if newest else ""
    is_more = len(found) > order_search.MAX_NEWS
    return JsonResponse({"count": min(len(found), order_search.MAX_NEWS), "is_more": is_more, "newest": words})


@require_GET
@members_only  # type: ignore[arg-type]  # it passes on whatever answer it is given
def order_export(request: HttpRequest, principal: Principal) -> StreamingHttpResponse:
    """The orders of a search as CSV, newest first, at most CSV_ROWS_MAX; times in UTC."""
    search = order_search.read_search(request.GET)
    rows = order_search.orders_found(principal, search, clock.now()).select_related(*order_search.WITH_NAMES)
    newest = rows.order_by(*order_search.NEWEST_FIRST)[:CSV_ROWS_MAX]
    response = StreamingHttpResponse(csv_lines(newest.iterator(chunk_size=500)), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="orders.csv"'
    return response


class _Echo:
    """A file for the csv writer that hands back what it is given."""

    def write(self, text: str) -> str:
        return text


def csv_lines(rows: Iterator[Proposal]) -> Iterator[str]:
    """The head and one line per order. A cell that a spreadsheet would take for a formula is quoted with '."""
    writer = csv.writer(_Echo())
    yield writer.writerow(CSV_COLUMNS)
    for row in rows:
        yield writer.writerow([_cell(value) for value in _csv_values(row)])


def _csv_values(row: Proposal) -> tuple[Any, ...]:
    codes = " ".join(str(reason.get("code", "")) for reason in row.reasons if isinstance(reason, dict))
    return (
        row.pk, row.machine.name, row.roast_id, row.order_type, row.from_step, row.target_step, row.asked_value,
        row.asked_unit, "agent" if row.proposer_agent_id else "person", row.proposer_name, row.status, row.decision,
        row.significance, codes, row.proposed_at, row.decided_at, row.approver.get_username() if row.approver else "",
        row.settled_at, row.outcome_code, row.actual_step,
    )  # fmt: skip


def _cell(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, str) and value.startswith(_FORMULA):
        return "'" + value
    return "" if value is None else value


@require_GET
@members_only
def order(request: HttpRequest, principal: Principal, proposal_id: str) -> HttpResponse:
    """One order's whole story."""
    return _story_page(request, principal, proposal_id, "orders/order.html")


@require_GET
@members_only
def order_again(request: HttpRequest, principal: Principal, proposal_id: str) -> HttpResponse:
    """The story again, after something happened to the order."""
    return _story_page(request, principal, proposal_id, "orders/_story.html")


def _story_page(request: HttpRequest, principal: Principal, proposal_id: str, template: str) -> HttpResponse:
    story = order_story.story_of(principal, proposal_id)
    if story is None:
        raise Http404("No such order in your organisation.")
    context = page_context(request, principal, "orders")
    return render(
        request, template,
        {**context, "story": story, "rejections": order_words.REJECTION_WORDS, "order": story.view, "states": _STATES},
    )  # fmt: skip
