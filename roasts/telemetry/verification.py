"""A roast's word against its signatures, from what is stored alone: no network, no private key.

For every envelope that brought points: its statement is put together again from the batch, its signature checked
with the device key's public half, and its place in the chain. Where all its points are rows of this roast, their
canonical form is put together too, and must have the digest that was signed: a changed row is found.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from kernel import canonical
from roasts.models import Roast, TelemetryBatch
from roasts.telemetry import signing
from roasts.telemetry.device_keys import as_public_half
from roasts.telemetry.rows import POINT_VALUES
from roasts.telemetry.steady import INDEX_BITS

_INDEX = (1 << INDEX_BITS) - 1


@dataclass(slots=True)
class Finding:
    """What a roast's envelopes are worth now. Counts are envelopes; ``problems`` name them."""

    envelopes: int = 0
    verified: int = 0
    unsigned: int = 0
    failed: int = 0
    rows_agree: int = 0  # all points of the envelope are rows here, and have the digest that was stated
    rows_apart: int = 0  # some of its points are not of this roast, or were refused: nothing to compare
    problems: list[str] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """No signature failed and no row differs. (Unsigned envelopes vouch for nothing, and break nothing.)"""
        return not self.problems


def verify_roast(roast: Roast, rows: Iterable[dict[str, Any]]) -> Finding:
    """Check every envelope of the roast. ``rows``: its samples as values, from the table or from its pack."""
    by_batch: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        by_batch.setdefault(row["sequence"] >> INDEX_BITS, []).append(row)
    finding = Finding()
    batches = TelemetryBatch.objects.filter(machine_id=roast.machine_id, sequence__in=by_batch)
    before: TelemetryBatch | None = None
    for batch in batches.select_related("device_key").order_by("sequence").iterator():
        finding.envelopes += 1
        _check_signature(roast, batch, before, finding)
        _check_rows(roast, batch, by_batch.pop(batch.sequence), finding)
        before = batch
    finding.problems += [f"envelope {sequence}: its batch is gone" for sequence in sorted(by_batch)]
    return finding


def statement_of(roast: Roast, batch: TelemetryBatch) -> signing.Statement:
    """What the envelope's signature was over."""
    return signing.Statement(
        roast.organization_id,
        batch.machine_id,
        batch.sequence,
        batch.at,
        str(batch.response.get("points_digest", "")),
        str(batch.response.get("events_digest", "")),
        batch.previous_digest,
    )


def _check_signature(roast: Roast, batch: TelemetryBatch, before: TelemetryBatch | None, finding: Finding) -> None:
    statement = statement_of(roast, batch)
    if statement.digest() != batch.digest:
        finding.failed += 1
        finding.problems.append(f"envelope {batch.sequence}: its digest is not of what is stored")
        return
    key = as_public_half(batch.device_key) if batch.device_key is not None else None
    kid = "" if not batch.signature else batch.device_key_id or "unknown"
    verdict = signing.verify(statement, batch.signature, kid, key, received_at=batch.received_at)
    if before is not None and before.sequence == batch.sequence - 1:
        verdict = signing.check_chain(verdict, batch.previous_digest, before.digest)
    if verdict.is_verified:
        finding.verified += 1
    elif verdict.verdict == signing.UNSIGNED:
        finding.unsigned += 1
    else:
        finding.failed += 1
        finding.problems.append(f"envelope {batch.sequence}: {verdict.reason}")


def _check_rows(roast: Roast, batch: TelemetryBatch, rows: list[dict[str, Any]], finding: Finding) -> None:
    told = batch.response
    rows = sorted(rows, key=lambda row: row["sequence"])
    is_whole = [row["sequence"] & _INDEX for row in rows] == list(range(int(told.get("points_received", -1))))
    stretches = [each for each in told.get("stretches", []) if each.get("roast_id") == roast.pk]
    if not is_whole or told.get("points_refused") or len(stretches) != 1 or stretches[0].get("is_placed"):
        finding.rows_apart += 1
        return
    offset_ms = stretches[0].get("device_start_ms")
    forms = ([_form(row, offset_ms, has_state=has_state) for row in rows] for has_state in (True, False))
    if any(canonical.digest(form) == told.get("points_digest") for form in forms):
        finding.rows_agree += 1
    else:
        finding.problems.append(f"envelope {batch.sequence}: its rows are not what was sent")


def _form(row: dict[str, Any], device_start_ms: int | None, *, has_state: bool) -> dict[str, Any]:
    """The canonical point of a row (see `envelope`)."""
    at: dt.datetime = row["at"]
    form: dict[str, Any] = {"at": at}
    if device_start_ms is not None:
        form["device_ms"] = row["elapsed_ms"] + device_start_ms
    if has_state:
        form["state"] = row["state"]
    for column, name in POINT_VALUES.items():
        if row[column] is not None:
            form[name] = row[column]
    extras = dict(row["extras"] or {})
    if "roast_clock_s" in extras:
        form["roast_clock_s"] = extras.pop("roast_clock_s")
    return form | ({"quality": row["quality"]} if row["quality"] else {}) | ({"extras": extras} if extras else {})
