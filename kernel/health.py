"""Health, readiness, detail and metrics.

Shapes follow the expired draft-inadarei-api-health-check where it helps: `checks` with a status pass, warn or fail.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import shutil
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from django_prometheus.exports import ExportToDjangoView

from kernel import clock, draining, fan_out, live, metrics, permissions
from kernel.models import AuditCheckpoint, AuditEntry, Heartbeat
from kernel.principals import Principal

_are_migrations_applied = False
BEAT_LATE_S = 20.0
DISK_WARN = 0.10
DISK_FAIL = 0.02


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """One component's state: pass, warn (we still serve) or fail."""

    status: str
    output: str = ""
    observed: float | int | str | None = None
    unit: str = ""


CheckFunction = Callable[[Principal, dt.datetime], dict[str, Check]]
_checks: list[CheckFunction] = []


def add_checks(function: CheckFunction) -> None:
    """A room's checks for `/healthz`, seen by a principal: name → Check."""
    if function not in _checks:
        _checks.append(function)


@require_safe
@never_cache
def livez(request: HttpRequest) -> JsonResponse:
    """The process turns. No dependencies."""
    return JsonResponse({"status": "ok"})


def readiness_reasons() -> list[str]:
    """Why no traffic should come here now; empty when it may."""
    global _are_migrations_applied
    if draining.is_draining():
        return ["draining"]
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        if not _are_migrations_applied:
            executor = MigrationExecutor(connection)
            if executor.migration_plan(executor.loader.graph.leaf_nodes()):
                return ["migrations_missing"]
            _are_migrations_applied = True
    except DatabaseError:
        return ["database_unavailable"]
    return []


@require_safe
@never_cache
def readyz(request: HttpRequest) -> JsonResponse:
    """503 with reasons while the database is away, migrations are missing or the process is leaving."""
    reasons = readiness_reasons()
    return JsonResponse(
        {"status": "not_ready" if reasons else "ok", "reasons": reasons}, status=503 if reasons else 200
    )


@require_safe
@never_cache
def health(request: HttpRequest) -> JsonResponse:
    """Public: what runs here."""
    return JsonResponse(
        {
            "status": "ok",
            "service": "roastops",
            "version": settings.VERSION,
            "build": settings.ENVIRONMENT.build,
            "environment": settings.ENVIRONMENT.name,
        }
    )


@require_safe
@never_cache
def healthz(request: HttpRequest) -> JsonResponse:
    """For members: every component. 503 when one fails; a warning (Redis away, beat late) still serves."""
    principal = permissions.require(request, "view")
    now = clock.now()
    checks: dict[str, Check] = {}
    for function in (_own_checks, *_checks):
        try:
            checks.update(function(principal, now))
        except DatabaseError as error:
            checks.setdefault("database", Check("fail", str(error).splitlines()[0] if str(error) else "no answer"))
    worst = max((check.status for check in checks.values()), key=["pass", "warn", "fail"].index)
    body: dict[str, Any] = {
        "status": worst,
        "version": settings.VERSION,
        "build": settings.ENVIRONMENT.build,
        "checks": {name: dataclasses.asdict(check) for name, check in sorted(checks.items())},
    }
    return JsonResponse(body, status=503 if worst == "fail" else 200)


@require_safe
def metrics_page(request: HttpRequest) -> HttpResponse:
    """For Prometheus: counts and times of the whole installation, naming nobody."""
    metrics.measure_now()
    return ExportToDjangoView(request)


def _own_checks(principal: Principal, now: dt.datetime) -> dict[str, Check]:
    started_s = clock.monotonic()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    answered_ms = round((clock.monotonic() - started_s) * 1000, 2)
    return {
        "database": Check("pass", connection.vendor, answered_ms, "ms"),
        "broker": _broker_check(),
        "beat": _beat_check(now),
        "disk": _disk_check(),
        **_audit_checks(principal, now),
    }


def _broker_check() -> Check:
    if not settings.IS_FLEET:
        return Check("pass", "in this process")
    fan_out.bridge().start_listening(live.hear)
    if fan_out.bridge().is_connected:
        return Check("pass", "Redis answers")
    return Check("warn", "Redis does not answer; STOP and the console still work, other processes hear of things late")


def _beat_check(now: dt.datetime) -> Check:
    last = Heartbeat.objects.filter(name="beat").values_list("at", flat=True).first()
    if last is None:
        return Check("warn", "no worker has taken the beat's pulse yet")
    age_s = round((now - last).total_seconds(), 1)
    is_late = age_s > BEAT_LATE_S
    return Check("warn" if is_late else "pass", "no worker, or no beat, is at work" if is_late else "", age_s, "s")


def _disk_check() -> Check:
    usage = shutil.disk_usage(settings.DATA_DIR)
    free = usage.free / usage.total
    status = "fail" if free < DISK_FAIL else "warn" if free < DISK_WARN else "pass"
    return Check(status, "free in the data folder", round(free * 100, 1), "%")


def _audit_checks(principal: Principal, now: dt.datetime) -> dict[str, Check]:
    organization = principal.organization
    unsealed = AuditEntry.objects.filter(organization=organization, seal__isnull=True).order_by("at")
    waiting = unsealed.values_list("at", flat=True).first()
    waits_s = round((now - waiting).total_seconds(), 1) if waiting else 0.0
    last = AuditCheckpoint.objects.filter(organization=organization).order_by("-sequence").first()
    return {
        "audit_tail": Check("warn" if waits_s > 5 else "pass", "age of the oldest unsealed entry", waits_s, "s"),
        "audit_checkpoint": Check("pass", "sealed up to", last.sequence if last else 0, "entries"),
    }
