"""The analytics page: is the automation earning its trust? Every act on an alert goes to the API."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_GET

from commands.console.order_words import ORDER_WORDS
from commands.history import questions as order_history
from commands.history import services_alerts
from commands.history.analytics import ORDER_TYPES, Bucket, Figures, Metrics
from commands.history.api_alerts import in_state
from commands.history.api_analytics import PEOPLE, bucket_of, filter_of, organization_id, render_bucket, window_of
from commands.models import Alert, BreakerTrip
from kernel import clock
from kernel.errors import ApiError
from kernel.member_pages import members_only, page_context
from kernel.models import Agent
from kernel.principals import Principal
from roasts.models import Machine

RANGES = {
    "24h": (_("Last 24 hours"), 1),
    "7d": (_("Last 7 days"), 7),
    "30d": (_("Last 30 days"), 30),
    "90d": (_("Last 90 days"), 90),
}
BUCKET_WORDS = {300: _("5 minutes"), 3600: _("hour"), 86_400: _("day")}
DEFAULT_RANGE = "7d"
ALERTS_SHOWN, TRIPS_SHOWN, OFFERED = 50, 10, 100
STATES = {"open": _("Standing"), "shelved": _("Shelved"), "resolved": _("Resolved")}


@dataclass(frozen=True, slots=True)
class Question:
    """What the page was asked: a window and what it is limited to, as text for the form and as values."""

    range: str
    begin: dt.datetime
    end: dt.datetime
    filters: dict[str, str]
    from_day: str = ""
    to_day: str = ""
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: whose, and how it fares."""

    name: str
    figures: Figures
    shown: dict[str, Any]
    share_percent: float


def question_of(request: HttpRequest, now: dt.datetime) -> Question:
    """What was asked; what cannot be read is said, and the last week shown."""
    asked = {
        name: request.GET.get(name, "")[:100] for name in ("range", "from", "to", "machine", "agent", "order_type")
    }
    filters = {name: asked[name] for name in ("machine", "agent") if asked[name]}
    if asked["order_type"] in ORDER_TYPES:
        filters["order_type"] = asked["order_type"]
    if asked["from"] or asked["to"]:
        try:
            begin, end = window_of(_days(asked["from"], asked["to"], now), now)
            return Question("days", begin, end, filters, asked["from"], asked["to"])
        except (ValueError, OverflowError):
            fault = gettext("These days cannot be read.")
        except ApiError as refusal:
            fault = refusal.message
        return Question(DEFAULT_RANGE, now - dt.timedelta(days=7), now, filters, fault=fault)
    chosen = asked["range"] if asked["range"] in RANGES else DEFAULT_RANGE
    return Question(chosen, now - dt.timedelta(days=RANGES[chosen][1]), now, filters)


def _days(first: str, last: str, now: dt.datetime) -> dict[str, dt.datetime]:
    """From the beginning of the first day to the end of the last, in the person's zone; ValueError."""
    zone = timezone.get_current_timezone()

    def midnight(day: dt.date) -> dt.datetime:
        return dt.datetime.combine(day, dt.time(), tzinfo=zone)

    end = min(midnight(dt.date.fromisoformat(last) + dt.timedelta(days=1)), now) if last else now
    window = {"to": end}
    if first:
        window["from"] = midnight(dt.date.fromisoformat(first))
    return window


@require_GET
@members_only
def analytics(request: HttpRequest, principal: Principal) -> HttpResponse:
    """Is the automation earning its trust?"""
    now = clock.now()
    asked = question_of(request, now)
    only = filter_of(principal, dict(asked.filters))
    house = organization_id(principal)
    bucket_s = bucket_of(None, asked.end - asked.begin)
    metrics = order_history.metrics_of(house, asked.begin, asked.end, only)
    buckets = order_history.series_of(house, asked.begin, asked.end, bucket_s, only)
    context = {
        **page_context(request, principal, "analytics"),
        **_choices(principal),
        **_alerts(request, principal, now),
        **_shown(metrics, principal),
        "asked": asked,
        "ranges": [(code, words) for code, (words, _days) in RANGES.items()],
        "metrics": metrics,
        "total": metrics.total.to_json(),
        "buckets": [(bucket, bucket.figures.to_json()) for bucket in buckets],
        "bucket_words": BUCKET_WORDS.get(bucket_s, _("week")),
        "series_json": json.dumps(_series(buckets, has_percentiles=order_history.is_exact(asked.begin, asked.end))),
        "trips": BreakerTrip.objects.for_principal(principal).select_related("agent", "machine")[:TRIPS_SHOWN],
    }
    return render(request, "analytics/page.html", context)


@require_GET
@members_only
def alert_list(request: HttpRequest, principal: Principal) -> HttpResponse:
    """The alerts again, after one of them changed."""
    now = clock.now()
    context = {**page_context(request, principal, "analytics"), **_alerts(request, principal, now)}
    return render(request, "analytics/_alerts.html", context)


def _alerts(request: HttpRequest, principal: Principal, now: dt.datetime) -> dict[str, Any]:
    asked = request.GET.get("alerts", "")
    state = asked if asked in STATES else "open"
    rows = in_state(Alert.objects.for_principal(principal), state, now).select_related(*services_alerts.WITH_NAMES)
    newest = list(rows.order_by("-raised_at", "-id")[: ALERTS_SHOWN + 1])
    worst_first = sorted(newest[:ALERTS_SHOWN], key=lambda row: ("high", "medium", "low").index(row.severity))
    return {
        "alerts": [(row, services_alerts.state_of(row, now)) for row in worst_first],
        "alert_state": state,
        "alert_states": STATES.items(),
        "has_more_alerts": len(newest) > ALERTS_SHOWN,
    }


def _choices(principal: Principal) -> dict[str, Any]:
    return {
        "machines": Machine.objects.for_principal(principal).order_by("name")[:OFFERED],
        "agents": Agent.objects.for_principal(principal).order_by("name")[:OFFERED],
        "order_types": ORDER_TYPES,
        "people_key": PEOPLE,
    }


def _shown(metrics: Metrics, principal: Principal) -> dict[str, Any]:
    """The tables apart, the busiest first."""
    machines = dict(Machine.objects.for_principal(principal).values_list("pk", "name"))
    agents = dict(Agent.objects.for_principal(principal).values_list("pk", "name")) | {"": gettext("people")}
    parts = [
        (gettext("By agent"), gettext("Agent"), metrics.by_agent, agents),
        (gettext("By machine"), gettext("Machine"), metrics.by_machine, machines),
        (gettext("By order type"), gettext("Order type"), metrics.by_order_type, dict(ORDER_WORDS)),
    ]
    return {"parts": [(title, word, _rows(part, names)) for title, word, part, names in parts if part is not None]}


def _rows(part: Any, names: dict[str, str]) -> list[Row]:
    most = max((figures.orders for figures in part.values()), default=1)
    rows = [
        Row(names.get(key, key), figures, figures.to_json(), 100 * figures.orders / most)
        for key, figures in part.items()
    ]
    return sorted(rows, key=lambda row: (-row.figures.orders, row.name))


def _series(buckets: list[Bucket], *, has_percentiles: bool) -> dict[str, Any]:
    """What the charts draw: one list for each line."""
    documents = [render_bucket(bucket) for bucket in buckets]
    # A cut first bucket is drawn where it begins, so that the lines do not leave the chart.
    columns: dict[str, Any] = {
        "at_s": [bucket.begin.timestamp() for bucket in buckets],
        "has_percentiles": has_percentiles,
        "orders": [document["orders"] for document in documents],
        "completed": [document["by_status"]["COMPLETED"] for document in documents],
        "failed": [document["by_status"]["FAILED"] for document in documents],
        "refused": [document["refused"] for document in documents],
    }
    for rate in ("success_rate", "refusal_rate", "rejection_rate", "human_intervention_rate"):
        columns[rate] = [None if document[rate] is None else 100 * document[rate] for document in documents]
    for name in ("approval_latency", "execution_duration"):
        for figure in ("mean_ms", "p95_ms"):
            values = [document[name][figure] for document in documents]
            columns[f"{name}_{figure}"] = [None if value is None else value / 1000 for value in values]
    return columns
