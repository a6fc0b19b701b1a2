"""Alerts: raised while their cause stands, never twice; acknowledged, shelved and resolved by people."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F, QuerySet

from commands.history import alerts
from commands.history.alerts import Found, Kind
from commands.history.watch import Seen, gather
from commands.lifecycle import Status
from commands.models import Alert, Proposal, RequestRefusal
from kernel import audit, canonical, clock, ids, live, request_limits
from kernel.errors import Conflict, Forbidden, Malformed, NotFound
from kernel.models import Organization
from kernel.principals import Principal, person_id, system_principal
from roasts.models import Machine

MAX_SHELF = dt.timedelta(hours=24)
WITH_NAMES = ("organization", "machine", "agent", "acknowledged_by", "shelved_by", "resolved_by")


def watch_orders(organization: Organization, *, now: dt.datetime) -> int:
    """Look at the newest orders, raise what stands, resolve what has gone; how many alerts changed."""
    seen = gather(organization, now)
    found = detect(seen, now)
    raised = sum(raise_found(organization, each, now=now) is not None for each in _untold(organization, found))
    return raised + _resolve_gone(organization, found, now)


def _untold(organization: Organization, found: Sequence[Found]) -> list[Found]:
    """Of what stands now, that which no alert tells yet, nor told when somebody resolved it: two questions for all."""
    if not found:
        return []
    same = Alert.objects.filter(organization=organization, subject__in={each.subject for each in found})
    standing = same.filter(resolved_at__isnull=True).values_list("kind", "subject", "trigger__newest_at")
    told = {(kind, subject): newest_at or "" for kind, subject, newest_at in standing}
    left = [each for each in found if told.get((each.kind.value, each.subject), "") < each.newest_at.isoformat()]
    if not left:
        return []
    # What stands with older evidence is seen again; the rest may have been resolved since its evidence.
    gone = same.filter(resolved_at__gte=min(each.newest_at for each in left)).order_by("resolved_at")
    rows = gone.values_list("kind", "subject", "resolved_at")
    resolved = {(kind, subject): resolved_at for kind, subject, resolved_at in rows}
    return [each for each in left if _is_news(each, told, resolved)]


def _is_news(
    found: Found, told: Mapping[tuple[str, str], str], resolved: Mapping[tuple[str, str], dt.datetime | None]
) -> bool:
    key = (found.kind.value, found.subject)
    at = resolved.get(key)
    return key in told or at is None or found.newest_at > at


def note_requests_refused(principal: Principal, kind: request_limits.Kind, count: int) -> None:
    """Keep that an agent asked too often, as the door tells it (`kernel.request_gate`): for RATE_LIMIT_EXCEEDED."""
    if principal.organization is not None and principal.agent is not None:
        RequestRefusal.objects.create(
            organization=principal.organization, agent=principal.agent, kind=kind.value, count=count, at=clock.now()
        )


def note_moved(
    machine: Machine, *, control: str, from_step: int | None, to_step: int | None, state: str, at: dt.datetime
) -> None:
    """Keep that a control moved without our bytes, as the machine loop saw it: in the trail always; as an alert where
    it happened in a roast, for outside one the firmware sets controls by itself. Nobody is blamed."""
    actor = system_principal("machine loop", machine.organization)
    moved = {"control": control, "from_step": from_step, "to_step": to_step, "state": state}
    with transaction.atomic():
        audit.record(machine.organization, actor, "moved_at_machine", "machine", machine.pk, moved, now=at)
        if state == "roasting":
            found = alerts.moved_by_itself(machine.pk, machine.name, at, {"value": 1, **moved})
            raise_found(machine.organization, found, now=at)


def detect(seen: Seen, now: dt.datetime) -> list[Found]:
    """Everything that stands now."""
    return [
        *alerts.high_failure_rate(seen.ended, now),
        *alerts.high_latency(seen.ended, now),
        *alerts.safety_violations(seen.interlocks, seen.moved, now),
        *alerts.refused_again_and_again(seen.refusals, now),
        *alerts.execution_failures(seen.ended, seen.doubts, now),
        *alerts.approval_timeouts(seen.timeouts, now),
        *(alerts.never_used(*each) for each in seen.first_uses),
    ]


def raise_found(organization: Organization, found: Found, *, now: dt.datetime) -> Alert | None:
    """The alert, if it is new or has new evidence; None where all of it is known, or was resolved by somebody."""
    same = Alert.objects.filter(organization=organization, kind=found.kind.value, subject=found.subject)
    standing = same.filter(resolved_at__isnull=True).select_related(*WITH_NAMES).first()
    if standing is not None:
        return _seen_again(standing, found, now)
    resolved_at = same.order_by("-resolved_at").values_list("resolved_at", flat=True).first()
    if resolved_at is not None and found.newest_at <= resolved_at:
        return None
    try:
        with transaction.atomic():
            alert = Alert.objects.create(
                id=ids.new("alt"), organization=organization, kind=found.kind.value, severity=found.severity.value,
                machine_id=found.machine_id or None, agent_id=found.agent_id or None, subject=found.subject,
                message=found.message, how_to_fix=found.how_to_fix, trigger=_trigger(found), raised_at=now,
                last_seen_at=now,
            )  # fmt: skip
            _tell(alert, _watch(organization), "alert_raised", now)
            return alert
    except IntegrityError:
        return None  # another watcher was first


def _trigger(found: Found) -> dict[str, Any]:
    return {**found.trigger, "newest_at": found.newest_at.isoformat()}


def _seen_again(standing: Alert, found: Found, now: dt.datetime) -> Alert | None:
    """New evidence counts once; the message follows it."""
    if standing.trigger.get("newest_at", "") >= found.newest_at.isoformat():
        return None
    with transaction.atomic():
        unchanged = Alert.objects.filter(pk=standing.pk, resolved_at__isnull=True, times_seen=standing.times_seen)
        changed = unchanged.update(
            times_seen=F("times_seen") + 1,
            last_seen_at=now,
            message=found.message,
            severity=found.severity.value,
            trigger=_trigger(found),
        )
        if not changed:
            return None
        standing.refresh_from_db()
        _tell(standing, _watch(standing.organization), "alert_seen_again", now)
    return standing


def _resolve_gone(organization: Organization, found: Sequence[Found], now: dt.datetime) -> int:
    """Resolve what resolves itself and is not found any more; and doubts that ended as ordered."""
    stands = {(each.kind.value, each.subject) for each in found}
    own = [kind.value for kind in alerts.RESOLVES_ITSELF]
    standing = Alert.objects.filter(organization=organization, resolved_at__isnull=True).select_related(*WITH_NAMES)
    gone = [
        (alert, alerts.RESOLVES_ITSELF[Kind(alert.kind)])
        for alert in standing.filter(kind__in=own).exclude(subject__startswith="grant:")
        if (alert.kind, alert.subject) not in stands
    ]
    gone += [(alert, alerts.DOUBT_RESOLVED) for alert in _ended_doubts(standing)]
    return sum(_resolve(alert, None, text, now) for alert, text in gone)


def _ended_doubts(standing: QuerySet[Alert]) -> Iterable[Alert]:
    doubts = list(standing.filter(kind=Kind.EXECUTION_FAILURE.value, trigger__what="in_doubt")[:200])
    if not doubts:
        return []
    subjects = [alert.subject.removeprefix("order:") for alert in doubts]
    completed = set(
        Proposal.objects.filter(pk__in=subjects, status=Status.COMPLETED.value).values_list("pk", flat=True)
    )
    return [alert for alert in doubts if alert.subject.removeprefix("order:") in completed]


# --- what people do


def acknowledge_alert(principal: Principal, alert: Alert, *, now: dt.datetime) -> Alert:
    """A person has seen it; the first one stays."""
    alert = _mine(principal, alert)
    with transaction.atomic():
        seen = Alert.objects.filter(pk=alert.pk, acknowledged_at__isnull=True).update(
            acknowledged_at=now, acknowledged_by=principal.user
        )
        alert.refresh_from_db()
        if seen:
            _tell(alert, principal, "alert_acknowledged", now)
    return alert


def resolve_alert(principal: Principal, alert: Alert, *, text: str, now: dt.datetime) -> Alert:
    """A person says that it is dealt with; a resolved one stays as it is. Newer evidence raises a new one."""
    alert = _mine(principal, alert)
    _resolve(alert, principal, text, now)
    return alert


def shelve_alert(principal: Principal, alert: Alert, *, until: dt.datetime, reason: str, now: dt.datetime) -> Alert:
    """Out of sight until a time, at most a day; Conflict for a resolved one, Malformed for a time out of bounds."""
    alert = _mine(principal, alert)
    if not now < until <= now + MAX_SHELF:
        raise Malformed(
            "bad_until", "An alert is shelved until a time within the next 24 hours.", "Send such a time in `until`."
        )
    if not reason.strip():
        raise Malformed("reason_required", "Shelving needs a reason.", "Say in `reason` why it can wait.")
    with transaction.atomic():
        shelved = Alert.objects.filter(pk=alert.pk, resolved_at__isnull=True).update(
            shelved_until=until, shelved_by=principal.user, shelve_reason=reason[:500]
        )
        alert.refresh_from_db()
        if not shelved:
            raise Conflict("already_resolved", "This alert is resolved already.", "Nothing more is needed.")
        _tell(alert, principal, "alert_shelved", now)
    return alert


def _mine(principal: Principal, alert: Alert) -> Alert:
    fresh = Alert.objects.for_principal(principal).select_related(*WITH_NAMES).filter(pk=alert.pk).first()
    if fresh is None:
        raise NotFound()
    if not principal.is_person or not principal.may("operate"):
        raise Forbidden("not_allowed", "Alerts are an operator's.", "Ask somebody with the role.", needed="operate")
    return fresh


def _resolve(alert: Alert, by: Principal | None, text: str, now: dt.datetime) -> bool:
    with transaction.atomic():
        resolved = Alert.objects.filter(pk=alert.pk, resolved_at__isnull=True).update(
            resolved_at=now, resolved_by=by.user if by is not None else None, resolution=text[:500]
        )
        alert.refresh_from_db()
        if resolved:
            _tell(alert, by or _watch(alert.organization), "alert_resolved", now)
    return bool(resolved)


def state_of(alert: Alert, now: dt.datetime) -> str:
    """``resolved``, ``shelved`` (until its time), ``acknowledged`` or ``standing``."""
    if alert.resolved_at is not None:
        return "resolved"
    if alert.shelved_until is not None and alert.shelved_until > now:
        return "shelved"
    return "acknowledged" if alert.acknowledged_at is not None else "standing"


def alert_document(alert: Alert, now: dt.datetime) -> dict[str, Any]:
    """An alert as JSON, for stream, audit and API (machine, agent and people are loaded)."""

    def person(user: Any) -> dict[str, str] | None:
        return None if user is None else {"kind": "person", "id": person_id(user), "name": user.get_username()}

    def time(at: dt.datetime | None) -> str | None:
        return None if at is None else canonical.utc_text(at)

    return {
        "alert_id": alert.pk,
        "kind": alert.kind,
        "severity": alert.severity,
        "state": state_of(alert, now),
        "machine_id": alert.machine_id,
        "machine": alert.machine.name if alert.machine is not None else None,
        "agent_id": alert.agent_id,
        "agent": alert.agent.name if alert.agent is not None else None,
        "subject": alert.subject,
        "message": alert.message,
        "how_to_fix": alert.how_to_fix,
        "trigger": alert.trigger,
        "times_seen": alert.times_seen,
        "raised_at": time(alert.raised_at),
        "last_seen_at": time(alert.last_seen_at),
        "acknowledged_at": time(alert.acknowledged_at),
        "acknowledged_by": person(alert.acknowledged_by),
        "shelved_until": time(alert.shelved_until),
        "shelved_by": person(alert.shelved_by),
        "shelve_reason": alert.shelve_reason,
        "resolved_at": time(alert.resolved_at),
        "resolved_by": person(alert.resolved_by),
        "resolution": alert.resolution,
    }


def _watch(organization: Organization) -> Principal:
    return system_principal("order watch", organization)


def _tell(alert: Alert, actor: Principal, verb: str, now: dt.datetime) -> None:
    document = alert_document(alert, now)
    audit.record(alert.organization, actor, verb, "alert", alert.pk, document, now=now)
    live.publish_decision(alert.organization, "alert", alert.pk, alert.machine_id, document, now=now)
