"""What the rooms have to tell `/healthz` and `/metrics`: wiring, because the ground floor knows no rooms."""

from __future__ import annotations

import datetime as dt

from celery import signals
from django.db.models import Count, Min

from commands.history.alerts import Severity
from commands.models import Alarm, Alert, Halt, MachineLease, Proposal
from kernel import clock, health, metrics
from kernel.health import Check
from kernel.models import AuditEntry, Heartbeat
from kernel.principals import Principal
from roasts.models import Machine, MachineReading

_task_started_s: dict[str, float] = {}
MAX_REMEMBERED_TASKS = 1000


def start() -> None:
    """Register everything; once per process."""
    health.add_checks(machine_checks)
    metrics.before_scrape(measure_rows)
    signals.task_prerun.connect(_task_starts)
    signals.task_postrun.connect(_task_ends)


def machine_checks(principal: Principal, now: dt.datetime) -> dict[str, Check]:
    """Links, leases and the oldest held order of the principal's organisation."""
    machines = Machine.objects.for_principal(principal).filter(is_archived=False)
    by_link = dict(
        MachineReading.objects.filter(machine__in=machines)
        .order_by("link")
        .values_list("link")
        .annotate(count=Count("machine_id"))
    )
    up = by_link.pop(MachineReading.Link.UP.value, 0)
    leases = MachineLease.objects.filter(machine__in=machines, expires_at__gt=now).count()
    total = machines.count()
    held = Proposal.objects.for_principal(principal).awaiting_decision().aggregate(oldest=Min("proposed_at"))["oldest"]
    held_s = round((now - held).total_seconds(), 1) if held else 0.0
    others = ", ".join(f"{count} {link}" for link, count in sorted(by_link.items()))
    return {
        "machine_links": Check("warn" if others else "pass", others or "all up", up, "up"),
        "machine_leases": Check("pass" if leases >= total else "warn", f"of {total} machines", leases, "owned"),
        "oldest_held_order": Check("pass", "waits for a person", held_s, "s"),
    }


def measure_rows() -> None:
    """Set the gauges that are questions to the database."""
    now = clock.now()
    counts = dict(MachineReading.objects.order_by("link").values_list("link").annotate(count=Count("machine_id")))
    for link in MachineReading.Link.values:
        metrics.MACHINES.labels(link=link).set(counts.get(link, 0))
    oldest = MachineReading.objects.filter(link=MachineReading.Link.UP.value).aggregate(at=Min("at"))["at"]
    metrics.READING_AGE_SECONDS.set(_age_s(oldest, now))
    metrics.MACHINE_LEASES.set(MachineLease.objects.filter(expires_at__gt=now).count())
    held = Proposal.objects.awaiting_decision().aggregate(count=Count("id"), oldest=Min("proposed_at"))
    metrics.HELD_ORDERS.set(held["count"])
    metrics.OLDEST_HELD_SECONDS.set(_age_s(held["oldest"], now))
    metrics.OPEN_HALTS.set(Halt.objects.filter(closed_at__isnull=True).count())
    metrics.ALARMS.set(Alarm.objects.filter(cleared_at__isnull=True).count())
    alerts = dict(
        Alert.objects.filter(resolved_at__isnull=True).order_by().values_list("severity").annotate(Count("id"))
    )
    for severity in Severity:
        metrics.ALERTS.labels(severity=severity.value).set(alerts.get(severity.value, 0))
    metrics.UNSEALED.set(AuditEntry.objects.filter(seal__isnull=True).count())
    metrics.BEAT_AGE_SECONDS.set(
        _age_s(Heartbeat.objects.filter(name="beat").values_list("at", flat=True).first(), now)
    )


def _age_s(at: dt.datetime | None, now: dt.datetime) -> float:
    return max(0.0, (now - at).total_seconds()) if at else 0.0


def _task_starts(task_id: str, **_kwargs: object) -> None:
    if len(_task_started_s) < MAX_REMEMBERED_TASKS:
        _task_started_s[task_id] = clock.monotonic()


def _task_ends(task_id: str, task: object, **_kwargs: object) -> None:
    started_s = _task_started_s.pop(task_id, None)
    if started_s is not None:
        metrics.TASK_SECONDS.labels(task=getattr(task, "name", "unknown")).observe(clock.monotonic() - started_s)
