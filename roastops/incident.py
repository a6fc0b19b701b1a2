"""Everything this installation knows of a stretch of time, as lines of a bundle: logs, wire, audit, orders, samples.

Rows come from the database, log and wire lines from this host's data folder. Nothing here decides or changes anything.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Max, Min, Q

from commands.models import Alarm, Execution, ExecutionStage, Halt, Proposal, ProposalTransition
from kernel import canonical
from kernel.models import AuditCheckpoint, AuditEntry
from roasts.models import Gap, Machine, MachineReading, Roast, RoastEvent, Sample

Line = dict[str, Any]
ROWS_AT_ONCE = 2000


@dataclasses.dataclass(frozen=True, slots=True)
class Window:
    """Half-open [since, until), of all machines or of one."""

    since: dt.datetime
    until: dt.datetime
    machine_id: str = ""

    def holds(self, at: dt.datetime | None) -> bool:
        return at is not None and self.since <= at < self.until

    def of_machine(self, column: str = "machine_id") -> Q:
        return Q(**{column: self.machine_id}) if self.machine_id else Q()


# --- files of this host ---


def log_lines(window: Window, gone: list[str]) -> Iterator[Line]:
    """JSON log lines of every process that keeps its words here, oldest file first; others' machines left out."""
    places = [(settings.DATA_DIR / "logs", "*.jsonl"), (settings.DATA_DIR / "logs", "*.log")]
    places.append((settings.RUN_DIR, "*.keeper.log"))
    for folder, pattern in places:
        for path in sorted(folder.glob(pattern)):
            for line in _dated(path, "at", window, gone):
                if window.machine_id and line.get("machine_id", window.machine_id) != window.machine_id:
                    continue
                yield {"file": path.name, **line}


def wire_lines(window: Window, gone: list[str]) -> Iterator[Line]:
    """What each keeper wrote down of the wire."""
    for path in sorted(settings.RUN_DIR.glob("*.wire.jsonl")):
        machine_id = path.name.removesuffix(".wire.jsonl")
        if window.machine_id in ("", machine_id):
            for line in _dated(path, "t", window, gone):
                yield {"machine_id": machine_id, **line}


def _dated(path: Path, name: str, window: Window, gone: list[str]) -> Iterator[Line]:
    """Lines of a file and of its turned-over ones whose time ``name`` lies in the window; torn ones are passed over."""
    numbered = [other for other in path.parent.glob(f"{path.name}.*") if other.suffix[1:].isdigit()]
    oldest_first = [*sorted(numbered, key=lambda other: -int(other.suffix[1:])), path]
    first: dt.datetime | None = None
    for part in oldest_first:
        for line, at in _lines_in(part, name):
            first = first or at
            if window.holds(at):
                yield line
    if numbered and first is not None and first > window.since:
        gone.append(f"{path.name}: what was written before {canonical.utc_text(first)} is no longer on disk")


def _lines_in(path: Path, name: str) -> Iterator[tuple[Line, dt.datetime]]:
    try:
        stream = path.open("rb")
    except FileNotFoundError:  # turned over just now
        return
    with stream:
        for raw in stream:
            line, at = _parsed(raw, name)
            if at is not None:
                yield line, at


def _parsed(raw: bytes, name: str) -> tuple[Line, dt.datetime | None]:
    try:
        line = json.loads(raw)
        at = dt.datetime.fromisoformat(line[name])
    except (ValueError, KeyError, TypeError):
        return {}, None
    return line, at if at.tzinfo is not None else None


# --- rows ---


def row_of(row: models.Model) -> Line:
    """Every column by its name; times as canonical UTC text."""
    return {field.attname: _value(getattr(row, field.attname)) for field in row._meta.concrete_fields}


def _value(value: Any) -> Any:
    return canonical.utc_text(value) if isinstance(value, dt.datetime) else value


def orders(window: Window) -> Iterator[Line]:
    """Orders that were alive in the window, each with every move and its attempt on the wire."""
    alive = Proposal.objects.filter(window.of_machine(), proposed_at__lt=window.until).filter(
        Q(settled_at__isnull=True) | Q(settled_at__gte=window.since)
    )
    for proposal in alive.order_by("proposed_at", "id").iterator(ROWS_AT_ONCE):
        execution = Execution.objects.filter(proposal=proposal).first()
        stages = ExecutionStage.objects.filter(execution=execution) if execution else ()
        yield {
            **row_of(proposal),
            "transitions": [row_of(move) for move in ProposalTransition.objects.filter(proposal=proposal)],
            "execution": row_of(execution) if execution else None,
            "stages": [row_of(stage) for stage in stages],
        }


def halts(window: Window) -> Iterator[Line]:
    """Halts that stood in the window."""
    stood = Halt.objects.filter(window.of_machine(), opened_at__lt=window.until)
    yield from map(row_of, stood.filter(Q(closed_at__isnull=True) | Q(closed_at__gte=window.since)))


def alarms(window: Window) -> Iterator[Line]:
    """Alarms that stood in the window."""
    stood = Alarm.objects.filter(window.of_machine(), raised_at__lt=window.until)
    yield from map(row_of, stood.filter(Q(cleared_at__isnull=True) | Q(cleared_at__gte=window.since)))


def roasts(window: Window) -> Iterator[Line]:
    """Roasts under way in the window, with their marks and gaps."""
    open_then = Roast.objects.filter(window.of_machine(), started_at__lt=window.until)
    for roast in open_then.filter(Q(ended_at__isnull=True) | Q(ended_at__gte=window.since)).order_by("started_at"):
        yield {
            **row_of(roast),
            "events": [row_of(event) for event in RoastEvent.objects.filter(roast=roast)],
            "gaps": [row_of(gap) for gap in Gap.objects.filter(roast=roast).order_by("from_ms")],
        }


def samples(window: Window) -> Iterator[Line]:
    """Recorded readings (the database keeps those of roasts)."""
    taken = Sample.objects.filter(window.of_machine("roast__machine_id"), at__gte=window.since, at__lt=window.until)
    yield from map(row_of, taken.order_by("at", "roast_id", "elapsed_ms").iterator(ROWS_AT_ONCE))


def latest_readings(window: Window) -> Iterator[Line]:
    """The newest reading and link of each machine, as they are now."""
    yield from map(row_of, MachineReading.objects.filter(window.of_machine()).order_by("machine_id"))


def audit(window: Window) -> Iterator[Line]:
    """Audit entries with their seals, and whatever was sealed between them, so that the chain can be followed.

    For one machine these are its whole organisation's: a chain with holes proves nothing.
    """
    within = Q(at__gte=window.since, at__lt=window.until)
    for organization_id in _organizations(window):
        own = AuditEntry.objects.filter(organization_id=organization_id)
        ends = own.filter(within).aggregate(low=Min("seal__sequence"), high=Max("seal__sequence"))
        between = Q(seal__sequence__gte=ends["low"], seal__sequence__lte=ends["high"]) if ends["low"] else Q()
        chosen = own.filter(within | between) if ends["low"] else own.filter(within)
        for entry in chosen.select_related("seal").order_by("seal__sequence", "at", "id").iterator(ROWS_AT_ONCE):
            seal = getattr(entry, "seal", None)
            yield {**row_of(entry), "seal": row_of(seal) if seal is not None else None}


def checkpoints(window: Window) -> Iterator[Line]:
    """Signed checkpoints of the window, and the first after it: it covers what was sealed last."""
    for organization_id in _organizations(window):
        own = AuditCheckpoint.objects.filter(organization_id=organization_id).order_by("sequence")
        yield from map(row_of, own.filter(at__gte=window.since, at__lt=window.until))
        after = own.filter(at__gte=window.until).first()
        if after is not None:
            yield row_of(after)


def _organizations(window: Window) -> Iterable[str]:
    if window.machine_id:
        return Machine.objects.filter(pk=window.machine_id).values_list("organization_id", flat=True)
    return AuditEntry.objects.order_by("organization_id").values_list("organization_id", flat=True).distinct()
