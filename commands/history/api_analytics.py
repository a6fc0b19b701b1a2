"""Analytics over REST (alerts: `commands.history.api_alerts`). Definitions: docs/analytics.md."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db.models import Count, Q
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from commands.api.serializers import render_time
from commands.history import questions as order_history
from commands.history import services_alerts
from commands.history.analytics import DAY_S, HOUR_S, WEEK_S, Bucket, Figures, Metrics
from commands.history.api_alerts import AlertSerializer, alert_urlpatterns, in_state
from commands.history.questions import Filter
from commands.lifecycle import ON_THE_WIRE, Status
from commands.models import Alert, Proposal, ProposalQuerySet
from commands.rules.conversion import OrderType
from kernel import clock
from kernel.endpoints import Endpoint, principal_of
from kernel.errors import Malformed
from kernel.models import Agent
from kernel.principals import Principal
from kernel.serializers import StrictSerializer, read_filters
from roasts.models import Machine

DEFAULT_WINDOW, MAX_WINDOW = dt.timedelta(hours=24), dt.timedelta(days=5 * 366)
#: Bucket lengths, and the longest window of each.
BUCKETS_S = {
    300: dt.timedelta(days=1), 900: dt.timedelta(days=2), HOUR_S: dt.timedelta(days=7),
    DAY_S: dt.timedelta(days=100), WEEK_S: MAX_WINDOW,
}  # fmt: skip
PEOPLE = "people"
RECENT = dt.timedelta(hours=1)
MAX_LISTED = 10


def _words(enumeration: Any) -> list[str]:
    return [word.value for word in enumeration]


# --- shapes


class WindowFilters(StrictSerializer):
    """``from`` and ``to`` bound the time of proposal, half-open [from, to); left out: the last 24 hours."""

    machine = serializers.CharField(max_length=40, required=False)
    agent = serializers.CharField(
        max_length=100, required=False, help_text="id or name of an agent; `people` for people's own orders"
    )
    order_type = serializers.ChoiceField(_words(OrderType), required=False)
    to = serializers.DateTimeField(required=False)

    def get_fields(self) -> dict[str, serializers.Field]:
        """`from` is a Python keyword, so it is added here."""
        fields = super().get_fields()
        fields["from"] = serializers.DateTimeField(required=False)
        return fields


class SeriesFilters(WindowFilters):
    bucket_s = serializers.ChoiceField(
        list(BUCKETS_S), required=False, help_text="left out: the shortest that the window allows from an hour on"
    )


class SummaryFilters(StrictSerializer):
    machine = serializers.CharField(max_length=40, required=False)
    agent = serializers.CharField(max_length=100, required=False)
    order_type = serializers.ChoiceField(_words(OrderType), required=False)


class LatencySerializer(serializers.Serializer):
    count = serializers.IntegerField()
    mean_ms = serializers.FloatField(allow_null=True)
    p50_ms = serializers.FloatField(allow_null=True)
    p95_ms = serializers.FloatField(allow_null=True)
    p99_ms = serializers.FloatField(allow_null=True)
    max_ms = serializers.FloatField(allow_null=True)


class RefusalCountSerializer(serializers.Serializer):
    code = serializers.CharField()
    count = serializers.IntegerField()
    rate = serializers.FloatField(allow_null=True)


class FiguresSerializer(serializers.Serializer):
    orders = serializers.IntegerField(help_text="proposed in the window")
    by_status = serializers.DictField(child=serializers.IntegerField())
    settled_executions = serializers.IntegerField(help_text="completed and failed")
    success_rate = serializers.FloatField(allow_null=True, help_text="completed of settled executions")
    failure_rate = serializers.FloatField(allow_null=True)
    approved_by_person = serializers.IntegerField()
    rejected_by_person = serializers.IntegerField()
    rejection_rate = serializers.FloatField(allow_null=True, help_text="of what a person approved or rejected")
    refused = serializers.IntegerField(help_text="by the governor")
    refusal_rate = serializers.FloatField(allow_null=True, help_text="of all orders")
    refusals = RefusalCountSerializer(many=True)
    human_interventions = serializers.IntegerField()
    human_intervention_rate = serializers.FloatField(
        allow_null=True,
        help_text="of agents' settled orders that the governor let through: a person rejected, vetoed, replaced, "
        "called off or cut short",
    )
    approval_latency = LatencySerializer()
    execution_duration = LatencySerializer()


class KeyedFiguresSerializer(FiguresSerializer):
    key = serializers.CharField(help_text="order type, or id of a machine or agent; `people`")
    name = serializers.CharField()


class WindowSerializer(FiguresSerializer):
    to = serializers.DateTimeField()
    latency_method = serializers.ChoiceField(["exact", "histogram"])
    latency_error = serializers.FloatField(help_text="0 where exact, else the largest relative error")
    by_order_type = KeyedFiguresSerializer(many=True)
    by_machine = KeyedFiguresSerializer(
        many=True, allow_null=True, help_text="null: more than 7 days of one agent or type, not kept by machine"
    )
    by_agent = KeyedFiguresSerializer(many=True)

    def get_fields(self) -> dict[str, serializers.Field]:
        """`from` is a Python keyword, so it is added here."""
        fields = super().get_fields()
        fields["from"] = serializers.DateTimeField()
        return fields


class BucketSerializer(FiguresSerializer):
    to = serializers.DateTimeField()

    def get_fields(self) -> dict[str, serializers.Field]:
        """`from` is a Python keyword, so it is added here."""
        fields = super().get_fields()
        fields["from"] = serializers.DateTimeField()
        return fields


class SeriesSerializer(serializers.Serializer):
    bucket_s = serializers.IntegerField()
    has_percentiles = serializers.BooleanField(help_text="false over more than 7 days: counts, rates and means")
    buckets = BucketSerializer(many=True)


class RecentFailureSerializer(serializers.Serializer):
    proposal_id = serializers.CharField()
    machine_id = serializers.CharField()
    machine = serializers.CharField()
    order_type = serializers.CharField()
    outcome_code = serializers.CharField(allow_blank=True)
    settled_at = serializers.DateTimeField()


class AnalyticsSummarySerializer(serializers.Serializer):
    generated_at = serializers.DateTimeField()
    pending = serializers.IntegerField(help_text="held orders that may still be approved")
    executing = serializers.IntegerField(help_text="on the wire, or in doubt")
    recent_failures = serializers.IntegerField(help_text="executions that failed in the last hour")
    newest_failures = RecentFailureSerializer(many=True)
    last_24_h = WindowSerializer()
    last_7_days = WindowSerializer()
    alerts = AlertSerializer(many=True)
    open_alerts = serializers.IntegerField()


# --- windows


def organization_id(principal: Principal) -> str:
    """Whose orders are looked at."""
    return principal.organization.pk if principal.organization is not None else ""


def window_of(filters: dict[str, Any], now: dt.datetime) -> tuple[dt.datetime, dt.datetime]:
    """[from, to) as asked; Malformed names what is wrong with it."""
    end = filters.get("to") or now
    try:
        begin = filters.get("from") or end - DEFAULT_WINDOW
        is_too_long = end - begin > MAX_WINDOW
    except OverflowError:
        raise _bad_window("`to` is too far from here.") from None
    if begin > end:
        raise _bad_window("`from` is later than `to`.")
    if is_too_long:
        raise _bad_window("The window is longer than five years.")
    if begin.year < 1971 or end.year > 9000:
        raise _bad_window("Windows begin after 1970.")
    return begin.astimezone(dt.UTC), end.astimezone(dt.UTC)


def _bad_window(message: str) -> Malformed:
    return Malformed("bad_window", message, "Send `from` and `to` as ISO 8601 times, at most five years apart.")


def filter_of(principal: Principal, filters: dict[str, Any]) -> Filter:
    """Filters as the history takes them; an agent may be named. What is not ours is like what is not there."""
    agent = filters.get("agent")
    if agent is not None and agent != PEOPLE:
        known = Agent.objects.for_principal(principal).filter(Q(pk=agent) | Q(name=agent)).order_by("pk").first()
        agent = known.pk if known is not None else "agt_unknown"
    return Filter(filters.get("machine", ""), "" if agent == PEOPLE else agent, filters.get("order_type", ""))


def _named(principal: Principal) -> tuple[dict[str, str], dict[str, str]]:
    """Names of the machines and of the agents, by id."""
    machines = Machine.objects.for_principal(principal).values_list("pk", "name")
    agents = Agent.objects.for_principal(principal).values_list("pk", "name")
    return dict(machines), dict(agents)


def _names(principal: Principal) -> dict[str, str]:
    machines, agents = _named(principal)
    return {**machines, **agents}


def _keyed(parts: dict[str, Figures] | Any, names: dict[str, str]) -> list[dict[str, Any]]:
    """The busiest first."""
    rows = sorted(parts.items(), key=lambda pair: (-pair[1].orders, pair[0]))
    return [{"key": key or PEOPLE, "name": names.get(key, key or PEOPLE), **figures.to_json()} for key, figures in rows]


def render_window(metrics: Metrics, begin: dt.datetime, end: dt.datetime, names: dict[str, str]) -> dict[str, Any]:
    """A window's figures, whole and apart."""
    return {
        "from": render_time(begin),
        "to": render_time(end),
        "latency_method": metrics.method,
        "latency_error": 0.0 if metrics.method == "exact" else 0.02,
        **metrics.total.to_json(),
        "by_order_type": _keyed(metrics.by_order_type, {}),
        "by_machine": None if metrics.by_machine is None else _keyed(metrics.by_machine, names),
        "by_agent": _keyed(metrics.by_agent, names),
    }


def render_bucket(bucket: Bucket) -> dict[str, Any]:
    """One stretch of a series."""
    return {"from": render_time(bucket.begin), "to": render_time(bucket.end), **bucket.figures.to_json()}


class AnalyticsMetrics(Endpoint):
    """`GET /v1/analytics/metrics`."""

    @extend_schema(
        operation_id="analytics_metrics",
        description="Counts, rates and latencies of the orders proposed in [from, to), whole and by type, machine and "
        "agent. A rate is null where there was nothing it could be of. 400 `bad_window`.",
        parameters=[WindowFilters],
        responses={200: WindowSerializer},
    )
    def get(self, request: Request) -> Response:
        filters = read_filters(WindowFilters, request)
        principal = principal_of(request)
        begin, end = window_of(filters, clock.now())
        metrics = order_history.metrics_of(organization_id(principal), begin, end, filter_of(principal, filters))
        return Response(render_window(metrics, begin, end, _names(principal)))


class AnalyticsSeries(Endpoint):
    """`GET /v1/analytics/metrics/timeseries`."""

    @extend_schema(
        operation_id="analytics_timeseries",
        description="The same figures over time. Buckets are multiples of `bucket_s` in UTC (weeks begin on Monday), "
        "the first and the last cut by the window; where nothing was proposed they hold zeros. 400 `bad_window`, "
        "`bucket_too_short`.",
        parameters=[SeriesFilters],
        responses={200: SeriesSerializer},
    )
    def get(self, request: Request) -> Response:
        filters = read_filters(SeriesFilters, request)
        principal = principal_of(request)
        begin, end = window_of(filters, clock.now())
        bucket_s = bucket_of(filters.get("bucket_s"), end - begin)
        buckets = order_history.series_of(
            organization_id(principal), begin, end, bucket_s, filter_of(principal, filters)
        )
        return Response(
            {
                "bucket_s": bucket_s,
                "has_percentiles": order_history.is_exact(begin, end),
                "buckets": [render_bucket(bucket) for bucket in buckets],
            }
        )


def bucket_of(asked_s: int | None, window: dt.timedelta) -> int:
    """The bucket's length; Malformed for one too short for the window."""
    if asked_s is None:
        return next(length for length, longest in BUCKETS_S.items() if length >= HOUR_S and window <= longest)
    if window > BUCKETS_S[asked_s]:
        raise Malformed(
            "bucket_too_short",
            f"Buckets of {asked_s} s are for windows of up to {BUCKETS_S[asked_s].days} days.",
            "Send a longer `bucket_s`, or leave it out.",
        )
    return asked_s


class AnalyticsSummary(Endpoint):
    """`GET /v1/analytics/summary`."""

    @extend_schema(
        operation_id="analytics_summary",
        description="What is going on now, the last 24 hours and 7 days, and the alerts that stand.",
        parameters=[SummaryFilters],
        responses={200: AnalyticsSummarySerializer},
    )
    def get(self, request: Request) -> Response:
        filters = read_filters(SummaryFilters, request)
        principal = principal_of(request)
        return Response(summary_of(principal, filter_of(principal, filters), clock.now()))


def summary_of(principal: Principal, only: Filter, now: dt.datetime) -> dict[str, Any]:
    """The summary; one reading of the week's orders serves both windows."""
    machines, agents = _named(principal)
    names = {**machines, **agents}
    day, week = order_history.recent_metrics(organization_id(principal), now, only)
    mine = _orders_of(principal, only)
    # The index of what is not settled is by machine, that of what ended by time.
    unsettled = mine.unsettled() if only.machine else mine.unsettled().filter(machine__in=list(machines))
    failures = mine.filter(status=Status.FAILED.value, settled_at__gt=now - RECENT).order_by("-settled_at", "-id")
    newest = list(failures.values(*_FAILURE_COLUMNS)[: MAX_LISTED + 1])
    is_pending = Q(status=Status.PENDING_APPROVAL.value, expires_at__gt=now)
    is_on_the_wire = Q(status__in=[status.value for status in ON_THE_WIRE])
    open_alerts = in_state(Alert.objects.for_principal(principal), "open", now)
    # Nobody has resolved an open one, and its organisation is not shown.
    rows = open_alerts.select_related("machine", "agent", "acknowledged_by", "shelved_by")
    return {
        "generated_at": render_time(now),
        **unsettled.aggregate(pending=Count("pk", filter=is_pending), executing=Count("pk", filter=is_on_the_wire)),
        "recent_failures": len(newest) if len(newest) <= MAX_LISTED else failures.count(),
        "newest_failures": [_render_failure(row, names) for row in newest[:MAX_LISTED]],
        "last_24_h": render_window(day, now - dt.timedelta(hours=24), now, names),
        "last_7_days": render_window(week, now - dt.timedelta(days=7), now, names),
        "alerts": [services_alerts.alert_document(row, now) for row in rows.order_by("-raised_at", "-id")[:MAX_LISTED]],
        "open_alerts": open_alerts.count(),
    }


def _orders_of(principal: Principal, only: Filter) -> ProposalQuerySet:
    rows = Proposal.objects.for_principal(principal)
    if only.machine:
        rows = rows.filter(machine=only.machine)
    if only.agent is not None:
        rows = rows.filter(proposer_agent=only.agent or None)
    return rows.filter(order_type=only.order_type) if only.order_type else rows


_FAILURE_COLUMNS = ("id", "machine_id", "order_type", "outcome_code", "settled_at")


def _render_failure(row: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {
        "proposal_id": row["id"],
        "machine_id": row["machine_id"],
        "machine": names[row["machine_id"]],
        "order_type": row["order_type"],
        "outcome_code": row["outcome_code"],
        "settled_at": render_time(row["settled_at"]),
    }


analytics_urlpatterns = [
    *alert_urlpatterns,
    path("analytics/metrics", AnalyticsMetrics.as_view(), name="analytics-metrics"),
    path("analytics/metrics/timeseries", AnalyticsSeries.as_view(), name="analytics-timeseries"),
    path("analytics/summary", AnalyticsSummary.as_view(), name="analytics-summary"),
]
