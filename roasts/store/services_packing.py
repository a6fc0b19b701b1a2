"""Packing closed roasts, and thinning their rows to the pack: the record moves, it is never lost on the way."""

from __future__ import annotations

import datetime as dt
import logging
from typing import Any

from django.db import transaction

from kernel import audit, canonical
from kernel.errors import Conflict
from kernel.principals import system_principal
from roasts.models import Gap, PackedRoast, Roast, RoastEvent, RoastStatus, Sample, TelemetryBatch
from roasts.store import packing
from roasts.store.packing import CorruptPack, PackedContent
from roasts.telemetry.steady import INDEX_BITS

logger = logging.getLogger(__name__)
#: After its close a roast waits this long for points that come late; a packed one takes no more.
PACK_AFTER = dt.timedelta(hours=1)
BATCH = 50
_ROAST_FIELDS = (
    "id", "organization_id", "machine_id", "status", "title", "bean", "origin", "process", "variety", "lot",
    "weight_in_g", "weight_out_g", "moisture_in_percent", "moisture_out_percent", "colour_whole", "colour_ground",
    "profile_version_id", "source", "source_digest", "started_at", "device_start_ms", "ended_at", "close_reason",
    "verified_points", "unsigned_points", "failed_points", "late_points",
)  # fmt: skip
_EVENT_FIELDS = ("id", "kind", "elapsed_ms", "source", "confidence", "text", "at", "withdrawn_at", "marked_by_id")


def pack_roast(roast: Roast, *, now: dt.datetime) -> PackedRoast:
    """Pack a closed roast, once. Conflict: `roast_open`, `nothing_to_pack`."""
    with transaction.atomic():
        held = Roast.objects.select_for_update(of=("self",)).select_related("organization").get(pk=roast.pk)
        before = PackedRoast.objects.filter(pk=roast.pk).first()
        if before is not None:
            return before
        if held.status not in (RoastStatus.FINISHED.value, RoastStatus.ABORTED.value):
            raise Conflict("roast_open", "This roast is not closed yet.", "Wait for its end.")
        content = gather(held)
        if not content.samples:
            raise Conflict("nothing_to_pack", "Nothing was recorded of this roast.", "Leave it as it is.")
        made = packing.pack(content)
        packed = PackedRoast.objects.create(
            roast=held,
            format=made.format,
            payload=made.payload,
            digest=made.digest,
            samples=made.samples,
            packed_at=now,
        )
        facts = {"digest": made.digest, "samples": made.samples, "bytes": len(made.payload)}
        house = system_principal("packing", held.organization)
        audit.record(held.organization, house, "roast_packed", "roast", held.pk, facts, now=now)
    return packed


def thin_roast(roast: Roast, *, now: dt.datetime) -> int:
    """Delete the rows of a packed roast once the pack was read back and holds every one of them; how many.

    Conflict: `not_packed`, `pack_differs` (nothing is deleted then).
    """
    with transaction.atomic():
        packed = PackedRoast.objects.select_for_update().filter(pk=roast.pk).first()
        if packed is None:
            raise Conflict("not_packed", "This roast is not packed.", "Pack it first.")
        if packed.thinned_at is not None:
            return 0
        try:
            content = packing.unpack(bytes(packed.payload), packed.digest)
        except CorruptPack as error:
            raise Conflict("pack_differs", f"The pack cannot be read back: {error}.", "Keep the rows.") from error
        if {name: list(column) for name, column in content.columns.items()} != _columns(roast.pk):
            raise Conflict("pack_differs", "The pack does not hold what the rows say.", "Keep the rows.")
        packed.thinned_at = now  # first: the database lets samples of a closed roast go by this alone
        packed.save(update_fields=["thinned_at"])
        gone = Sample.objects.filter(roast_id=roast.pk)._raw_delete("default")
        house = system_principal("packing", roast.organization)
        facts = {"digest": packed.digest, "samples": gone}
        audit.record(roast.organization, house, "roast_thinned", "roast", roast.pk, facts, now=now)
    return int(gone)


def pack_due(*, now: dt.datetime, limit: int = BATCH) -> int:
    """Pack what closed long enough ago; how many. One that cannot be packed is logged and left."""
    due = Roast.objects.filter(
        status__in=[RoastStatus.FINISHED.value, RoastStatus.ABORTED.value],
        ended_at__lte=now - PACK_AFTER,
        packed__isnull=True,
        samples__isnull=False,
    )
    count = 0
    for roast in due.distinct().order_by("ended_at")[:limit]:
        try:
            pack_roast(roast, now=now)
            count += 1
        except (Conflict, ValueError) as error:
            logger.error("roast %s cannot be packed: %s", roast.pk, error)
    return count


def gather(roast: Roast) -> PackedContent:
    """Everything that stands of a roast, as it is packed."""
    events = RoastEvent.objects.filter(roast=roast).order_by("elapsed_ms", "id").values(*_EVENT_FIELDS)
    gaps = Gap.objects.filter(roast=roast).order_by("from_ms").values("from_ms", "to_ms", "reason")
    columns = _columns(roast.pk)
    return PackedContent(
        roast={name: _plain(getattr(roast, name)) for name in _ROAST_FIELDS},
        columns=columns,
        events=[{name: _plain(value) for name, value in event.items()} for event in events],
        gaps=list(gaps),
        provenance=_provenance(roast, columns["sequence"]),
    )


def _columns(roast_id: str) -> dict[str, list[Any]]:
    names = tuple(packing.COLUMNS)
    rows = list(Sample.objects.filter(roast_id=roast_id).order_by("elapsed_ms").values_list(*names))
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def _provenance(roast: Roast, sequences: list[int]) -> dict[str, Any]:
    """The envelopes the samples came by, with what vouches for each."""
    if roast.source != "telemetry" or not sequences:
        return {}
    came_by = sorted({sequence >> INDEX_BITS for sequence in sequences})
    batches = TelemetryBatch.objects.filter(machine_id=roast.machine_id, sequence__in=came_by).order_by("sequence")
    return {
        "envelopes": [
            {
                "sequence": batch.sequence,
                "digest": batch.digest,
                "verdict": batch.verdict,
                "device_key_id": batch.device_key_id,
                "signature": batch.signature,
            }
            for batch in batches
        ]
    }


def _plain(value: Any) -> Any:
    return canonical.utc_text(value) if isinstance(value, dt.datetime) else value
