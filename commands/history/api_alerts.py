"""Alerts over REST: listed, acknowledged, resolved, shelved. Their triggers: docs/analytics.md."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db.models import Q, QuerySet
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from commands.api.serializers import WholeField
from commands.history import services_alerts
from commands.history.alerts import Kind, Severity
from commands.models import Alert
from kernel import clock
from kernel.endpoints import Endpoint, RowAct, acts, principal_of
from kernel.errors import NotFound
from kernel.pagination import ListFilters, paginate
from kernel.principals import Principal
from kernel.serializers import StrictSerializer, TextField, read_filters


def _words(enumeration: Any) -> list[str]:
    return [word.value for word in enumeration]


class AlertFilters(ListFilters):
    """``state`` open is everything not resolved and not shelved. ``from`` and ``to`` bound when it was raised."""

    state = serializers.ChoiceField(["open", "shelved", "resolved", "all"], default="open")
    kind = serializers.ChoiceField(_words(Kind), required=False)
    machine = serializers.CharField(max_length=40, required=False)
    agent = serializers.CharField(max_length=100, required=False)
    to = serializers.DateTimeField(required=False)

    def get_fields(self) -> dict[str, serializers.Field]:
        """`from` is a Python keyword, so it is added here."""
        fields = super().get_fields()
        fields["from"] = serializers.DateTimeField(required=False)
        return fields


class SeenAlertBody(StrictSerializer):
    """An empty object."""


class ResolveAlertBody(StrictSerializer):
    """What was done, if you like."""

    text = TextField(max_length=500, required=False, allow_blank=True, default="")


class ShelveAlertBody(StrictSerializer):
    """For how long it is out of sight (at most a day), and why it can wait."""

    minutes = WholeField(min_value=1, max_value=24 * 60)
    reason = TextField(max_length=500)


class AlertPersonSerializer(serializers.Serializer):
    kind = serializers.CharField()
    id = serializers.CharField()
    name = serializers.CharField()


class AlertSerializer(serializers.Serializer):
    alert_id = serializers.CharField()
    kind = serializers.ChoiceField(_words(Kind))
    severity = serializers.ChoiceField(_words(Severity))
    state = serializers.ChoiceField(["standing", "acknowledged", "shelved", "resolved"])
    machine_id = serializers.CharField(allow_null=True)
    machine = serializers.CharField(allow_null=True)
    agent_id = serializers.CharField(allow_null=True)
    agent = serializers.CharField(allow_null=True)
    subject = serializers.CharField()
    message = serializers.CharField()
    how_to_fix = serializers.CharField(allow_blank=True)
    trigger = serializers.DictField()
    times_seen = serializers.IntegerField()
    raised_at = serializers.DateTimeField()
    last_seen_at = serializers.DateTimeField()
    acknowledged_at = serializers.DateTimeField(allow_null=True)
    acknowledged_by = AlertPersonSerializer(allow_null=True)
    shelved_until = serializers.DateTimeField(allow_null=True)
    shelved_by = AlertPersonSerializer(allow_null=True)
    shelve_reason = serializers.CharField(allow_blank=True)
    resolved_at = serializers.DateTimeField(allow_null=True)
    resolved_by = AlertPersonSerializer(allow_null=True)
    resolution = serializers.CharField(allow_blank=True)


class AlertPageSerializer(serializers.Serializer):
    results = AlertSerializer(many=True)
    next_cursor = serializers.CharField(allow_null=True)


def in_state(rows: QuerySet[Alert], state: str, now: dt.datetime) -> QuerySet[Alert]:
    """Those of `open`, `shelved`, `resolved` or `all`."""
    shelved = Q(resolved_at__isnull=True, shelved_until__gt=now)
    return {
        "open": rows.filter(resolved_at__isnull=True).exclude(shelved),
        "shelved": rows.filter(shelved),
        "resolved": rows.filter(resolved_at__isnull=False),
        "all": rows,
    }[state]


def alerts_of(principal: Principal, filters: dict[str, Any], now: dt.datetime) -> QuerySet[Alert]:
    """Alerts of the principal's organisation, as filtered, with the names that are shown."""
    columns = {"kind": "kind", "machine": "machine_id", "from": "raised_at__gte", "to": "raised_at__lt"}
    rows = Alert.objects.for_principal(principal).select_related(*services_alerts.WITH_NAMES)
    rows = rows.filter(**{column: filters[name] for name, column in columns.items() if name in filters})
    if "agent" in filters:
        rows = rows.filter(Q(agent_id=filters["agent"]) | Q(agent__name=filters["agent"]))
    return in_state(rows, filters["state"], now)


class AlertList(Endpoint):
    """`GET /v1/analytics/alerts`."""

    @extend_schema(
        operation_id="list_alerts",
        description="Alerts, newest first; those that are open unless another state is asked for.",
        parameters=[AlertFilters],
        responses={200: AlertPageSerializer},
    )
    def get(self, request: Request) -> Response:
        filters = read_filters(AlertFilters, request)
        now = clock.now()
        return paginate(
            alerts_of(principal_of(request), filters, now),
            order=("-raised_at", "-id"),
            limit=filters["limit"],
            cursor=filters.get("cursor"),
            render=lambda row: services_alerts.alert_document(row, now),
        )


def alert_or_404(request: Request, alert_id: str) -> Alert:
    """The organisation's alert; another's is not there."""
    alert = Alert.objects.for_principal(principal_of(request)).filter(pk=alert_id).first()
    if alert is None:
        raise NotFound("alert_not_found", "There is no such alert here.", "List them with GET /v1/analytics/alerts.")
    return alert


class AlertAct(RowAct):
    """One thing done to an alert, by an operator."""

    needs = {"POST": "operate"}

    def find(self, request: Request, row_id: str) -> Alert:
        return alert_or_404(request, row_id)

    def show(self, request: Request, row: Alert) -> Response:
        return Response(services_alerts.alert_document(row, clock.now()))


@acts(
    "acknowledge_alert", "A person has seen it; the first one stays.", SeenAlertBody, AlertSerializer,
    service=services_alerts.acknowledge_alert,
)  # fmt: skip
class AlertAcknowledge(AlertAct):
    """`POST /v1/alerts/{id}/acknowledge`."""


@acts(
    "resolve_alert", "It is dealt with; a resolved one stays as it is. Newer evidence raises a new alert.",
    ResolveAlertBody, AlertSerializer, service=services_alerts.resolve_alert,
)  # fmt: skip
class AlertResolve(AlertAct):
    """`POST /v1/alerts/{id}/resolve`."""


@acts(
    "shelve_alert", "Out of sight for so many minutes, with a reason; then it is back. 409 `already_resolved`.",
    ShelveAlertBody, AlertSerializer,
)  # fmt: skip
class AlertShelve(AlertAct):
    """`POST /v1/alerts/{id}/shelve`."""

    def act(self, who: Principal, alert: Alert, body: dict[str, Any], now: dt.datetime) -> Alert:
        until = now + dt.timedelta(minutes=body["minutes"])
        return services_alerts.shelve_alert(who, alert, until=until, reason=body["reason"], now=now)


alert_urlpatterns = [
    path("analytics/alerts", AlertList.as_view(), name="analytics-alerts"),
    path("alerts/<str:alert_id>/acknowledge", AlertAcknowledge.as_view(), name="alert-acknowledge"),
    path("alerts/<str:alert_id>/resolve", AlertResolve.as_view(), name="alert-resolve"),
    path("alerts/<str:alert_id>/shelve", AlertShelve.as_view(), name="alert-shelve"),
]
