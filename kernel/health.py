"""Health, readiness, detail and metrics."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django_prometheus.exports import ExportToDjangoView

from kernel import draining

_are_migrations_applied = False


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


def readyz(request: HttpRequest) -> JsonResponse:
    """503 with reasons while the database is away, migrations are missing or the process is leaving."""
    reasons = readiness_reasons()
    return JsonResponse({"status": "not_ready" if reasons else "ok", "reasons": reasons}, status=503 if reasons else 200)


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


def healthz(request: HttpRequest) -> JsonResponse:
    body: dict[str, Any] = {"status": "ok", "checks": {}}
    return JsonResponse(body)


def metrics(request: HttpRequest) -> HttpResponse:
    return ExportToDjangoView(request)
