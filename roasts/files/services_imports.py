"""The record of an imported roast: the roast, its samples by one COPY, its marks and its file, in one transaction."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction

from kernel import audit, ids, live
from kernel.errors import Forbidden
from kernel.models import Organization, Site
from kernel.principals import Principal
from roasts import inference
from roasts.curve import Column, CurveSummary, Mark, summarise
from roasts.events import crack_store
from roasts.files.import_rows import TEMPERATURES, ReadyRoast, charge_time, ready_of
from roasts.formats.imported import ImportedRoast
from roasts.models import (
    EventKind,
    EventSource,
    ImportedFile,
    Machine,
    Roast,
    RoastEvent,
    RoastSource,
    RoastStatus,
    Sample,
)
from roasts.recording import sample_rows
from roasts.recording.sample_rows import SampleColumns
from roasts.store import stored_curve, summaries

#: Where roasts go whose machine nobody named.
IMPORTED_MACHINE = "Imported"
#: Of what only the source's program knows, lists by the reading are not kept: the rows have them.
MAX_CARRIED_LIST = 200
MAX_NOTES = 100
#: Text columns of a roast that a file may fill, and how much they hold.
TEXTS = {"title": 200, "bean": 200, "origin": 200, "process": 100, "variety": 100, "lot": 100}
NUMBERS = (
    "weight_in_g", "weight_out_g", "moisture_in_percent", "moisture_out_percent", "colour_whole", "colour_ground",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Filed:
    """What came of one file. ``roast`` is the one it became, or the one it already was."""

    roast: Roast
    file: ImportedFile
    is_duplicate: bool
    samples: int


def find_duplicate(organization: Organization, digest: str) -> Filed | None:
    """The roast that this very file became before."""
    roast = Roast.objects.filter(organization=organization, source_digest=digest).select_related("machine").first()
    if roast is None:
        return None
    return Filed(roast, ImportedFile.objects.get(pk=roast.pk), is_duplicate=True, samples=0)


def organization_of(principal: Principal) -> Organization:
    if principal.organization is None or not (principal.may("operate") or principal.kind == "system"):
        raise Forbidden("not_allowed", "Importing roasts needs the role operator, lead or admin.", "Ask a lead.")
    return principal.organization


def file_roast(
    principal: Principal,
    imported: ImportedRoast,
    *,
    digest: str,
    file_name: str,
    size_bytes: int,
    machine: Machine | None,
    now: dt.datetime,
    ready: ReadyRoast | None = None,
) -> Filed:
    """The roast with its samples, marks and summary, in one transaction; audited. ``ready``: its rows, where
    somebody made them already.
    """
    organization = organization_of(principal)
    with transaction.atomic():
        _one_at_a_time(organization)
        known = find_duplicate(organization, digest)
        if known is not None:
            return known
        machine = machine or imported_machine(principal, now=now)
        warnings = list(imported.warnings) + _warnings(organization, imported)
        ready = ready or ready_of(imported, ids.new("rst"), now=now, is_copied=is_copied())
        roast = _create_roast(organization, machine, ready, digest=digest, file_name=file_name)
        columns = ready.columns
        insert_samples(columns, ready.copied)
        marks = _marks_of(roast, imported)
        _create_events(roast, marks, now=now)
        file = _create_file(roast, imported, warnings, principal, file_name=file_name, size_bytes=size_bytes, now=now)
        summaries.summarise_roast(roast, now=now, counted=_counted(roast, imported, marks, columns))
        payload = {"file_name": file.file_name, "digest": digest, "machine_id": machine.pk, "samples": len(columns)}
        audit.record(organization, principal, "roast_imported", "roast", roast.pk, payload, now=now)
        live.publish_decision(organization, "roast", roast.pk, machine.pk, {"verb": "roast_imported"}, now=now)
    return Filed(roast, file, is_duplicate=False, samples=len(columns))


def _one_at_a_time(organization: Organization) -> None:
    """Two who bring the same file: the second finds the first's. Nobody else waits: rows that name the organisation
    (a roast under way files many) lock its key alone.
    """
    Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)


def _warnings(organization: Organization, imported: ImportedRoast) -> list[str]:
    """What only the house can say of a file."""
    at = imported.metadata.roasted_at
    if at is None:
        return ["the file does not say when it was roasted: the time of the import stands for it"]
    charge_at = charge_time(imported, at)
    twin = Roast.objects.filter(
        organization=organization, source=RoastSource.IMPORTED.value, started_at=charge_at
    ).first()
    if twin is None:
        return []
    name = twin.title or twin.bean or twin.pk
    return [f"another imported roast began at the very same moment ({name[:60]}, {twin.pk}): the same roast, edited?"]


def imported_machine(principal: Principal, *, now: dt.datetime) -> Machine:
    """The organisation's machine for roasts whose own is not in the house. It is archived from the beginning: it has
    no card and no STOP, no loop tends it and no order reaches it.
    """
    organization = organization_of(principal)
    machine = Machine.objects.filter(organization=organization, name=IMPORTED_MACHINE).first()
    if machine is not None:
        return machine
    site = Site.objects.filter(organization=organization).order_by("name").first()
    site = site or Site.objects.create(organization=organization, name="Elsewhere")
    machine = Machine.objects.create(
        organization=organization,
        site=site,
        name=IMPORTED_MACHINE,
        driver_kind="bullet-r1",
        is_remote=True,
        is_archived=True,
        created_at=now,
    )
    audit.record(organization, principal, "machine_added", "machine", machine.pk, {"name": machine.name}, now=now)
    return machine


def borrowed_title(batch: str, bean: str, file_name: str) -> str:
    """Of a roast that nobody named: its batch beside the bean; without a bean what its file is called, for people put
    into that what they know a roast by.
    """
    words = "" if bean else " ".join(shown_name(file_name).rpartition(".")[0].replace("_", " ").split())
    return (words or batch)[: TEXTS["title"]]


def _create_roast(
    organization: Organization, machine: Machine, ready: ReadyRoast, *, digest: str, file_name: str
) -> Roast:
    metadata, curve, started_at = ready.imported.metadata, ready.imported.curve, ready.columns.started_at
    texts = {name: getattr(metadata, name)[:length] for name, length in TEXTS.items()}
    texts["title"] = texts["title"] or borrowed_title(metadata.batch, metadata.bean, file_name)
    return Roast.objects.create(
        id=ready.roast_id,
        organization=organization,
        machine=machine,
        status=RoastStatus.FINISHED.value,
        source=RoastSource.IMPORTED.value,
        source_digest=digest,
        started_at=started_at,
        device_start_ms=0,
        ended_at=started_at + dt.timedelta(seconds=float(curve.elapsed_s[-1])),
        close_reason="imported",
        **texts,
        **{name: getattr(metadata, name) for name in NUMBERS},
    )


def _counted(roast: Roast, imported: ImportedRoast, marks: Sequence[Mark], columns: SampleColumns) -> CurveSummary:
    """The summary of what was just stored, without reading it back."""
    named = {name: columns.temperatures[name] for name in TEMPERATURES}
    named |= {name: sample_rows.within(values, sample_rows.SMALL) for name, values in columns.smalls.items()}
    named |= {name: sample_rows.within(values, sample_rows.WHOLE) for name, values in columns.wholes.items()}
    curve = stored_curve.curve_of(columns.elapsed_ms / 1000, named, columns.state)
    stored_marks = tuple(dataclasses.replace(mark, elapsed_s=round(mark.elapsed_s * 1000) / 1000) for mark in marks)
    said = imported.curve
    stored = dataclasses.replace(curve, dry_end_c=said.dry_end_c, area_from_s=said.area_from_s)
    return summarise(stored, stored_marks, summaries.settings_of(roast), summaries.weights_of(roast))


def is_copied() -> bool:
    """Whether this database takes rows as one binary COPY."""
    return connection.vendor == "postgresql"


def insert_samples(columns: SampleColumns, copied: bytes | None) -> None:
    """All rows at once: one binary COPY on PostgreSQL, bulk inserts elsewhere."""
    if copied is None:
        Sample.objects.bulk_create(_rows(columns), batch_size=500)
        return
    names = ", ".join(connection.ops.quote_name(name) for name in sample_rows.column_names(columns))
    table = connection.ops.quote_name(Sample._meta.db_table)
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY {table} ({names}) FROM STDIN (FORMAT BINARY)") as copy,
    ):
        copy.write(copied)


def _rows(columns: SampleColumns) -> list[Sample]:
    numbers = {name: _plain(values) for name, values in columns.temperatures.items()}
    for named, limit in ((columns.smalls, sample_rows.SMALL), (columns.wholes, sample_rows.WHOLE)):
        numbers |= {name: _plain(sample_rows.within(values, limit), whole=True) for name, values in named.items()}
    extras = columns.extras
    return [
        Sample(
            roast_id=columns.roast_id,
            elapsed_ms=elapsed_ms,
            sequence=row + 1,
            at=columns.started_at + dt.timedelta(milliseconds=elapsed_ms),
            state=columns.state[row],
            extras=json.loads(extras[row]) if extras is not None and extras[row] else None,
            **{name: values[row] for name, values in numbers.items()},
        )
        for row, elapsed_ms in enumerate(columns.elapsed_ms.tolist())
    ]


def _plain(values: Column, *, whole: bool = False) -> list[Any]:
    return [None if not math.isfinite(value) else int(value) if whole else value for value in values.tolist()]


def _create_events(roast: Roast, marks: Sequence[Mark], *, now: dt.datetime) -> None:
    RoastEvent.objects.bulk_create(
        RoastEvent(
            roast=roast,
            kind=mark.kind,
            elapsed_ms=round(mark.elapsed_s * 1000),
            source=mark.source if mark.source in EventSource.values else EventSource.PERSON.value,
            confidence=mark.confidence,
            text=mark.text[:500],
            at=now,
        )
        for mark in marks
    )


def _marks_of(roast: Roast, imported: ImportedRoast) -> list[Mark]:
    """The file's marks, and what somebody wrote on an untyped button as notes; where the file marks nothing but the
    charge, what inference reads off the curve.
    """
    buttons = [
        Mark(EventKind.NOTE.value, event.elapsed_s, text=event.text)
        for event in imported.special_events
        if not event.kind and event.text
    ]
    notes = buttons[:MAX_NOTES]
    known = {mark.kind for mark in imported.marks}
    if known - {EventKind.CHARGE.value, EventKind.NOTE.value}:
        return [*imported.marks, *notes]
    expectation = crack_store.expectation_of(roast.machine_id, roast.bean)
    found = inference.infer_roast(imported.curve, expectation)
    return [*imported.marks, *(mark for mark in found if mark.kind not in known), *notes]


def _create_file(
    roast: Roast,
    imported: ImportedRoast,
    warnings: Sequence[str],
    principal: Principal,
    *,
    file_name: str,
    size_bytes: int,
    now: dt.datetime,
) -> ImportedFile:
    return ImportedFile.objects.create(
        roast=roast,
        file_name=shown_name(file_name),
        format=imported.format,
        size_bytes=size_bytes,
        imported_by=principal.user,
        imported_at=now,
        understood=list(imported.understood),
        dropped=list(imported.dropped),
        warnings=list(warnings),
        metadata=metadata_to_json(imported),
        channels=[
            {"name": each.name, "unit": each.unit, "device": each.device, "slot": each.slot}
            for each in imported.channels
        ],
        special_events=_storable([dataclasses.asdict(event) for event in imported.special_events]),
        computed=_storable(dict(imported.computed)),
        carried=_storable({name: value for name, value in imported.carried.items() if not _is_long(value)}),
        dry_end_c=imported.curve.dry_end_c,
        area_from_s=imported.curve.area_from_s,
    )


def _storable(value: Any) -> Any:
    """JSON as a database takes it: without NUL in its texts, and null for numbers that are none."""
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {_storable(name): _storable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(item) for item in value]
    return value


def _is_long(value: Any) -> bool:
    return isinstance(value, list) and (
        len(value) > MAX_CARRIED_LIST or any(isinstance(item, list) and len(item) > MAX_CARRIED_LIST for item in value)
    )


def shown_name(file_name: str) -> str:
    """A file's name without its folders and without what no page can show."""
    last = file_name.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(letter for letter in last if letter.isprintable())[:255] or "a file without a name"


def metadata_to_json(imported: ImportedRoast) -> dict[str, Any]:
    """What the file says of the batch; empty things are left out."""
    fields = {name: value for name, value in dataclasses.asdict(imported.metadata).items() if value not in ("", None)}
    if imported.metadata.roasted_at is not None:
        fields["roasted_at"] = imported.metadata.roasted_at.isoformat()
    return fields
