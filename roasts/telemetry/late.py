"""Points and marks that come after later ones: placed by their own time, into the roast that ran then.

The rule: a point belongs to the roast of its machine that was on at its time (charge to close, both ends included).
An open or closed roast takes it; a closed one is not reopened, its status and end stay. A packed one takes nothing.
Its place in the roast is its device time where that agrees with its neighbours by wall time, else it lies between
them in proportion. A point of a moment that is recorded already changes nothing.
"""

from __future__ import annotations

import bisect
import datetime as dt
from dataclasses import dataclass, field
from typing import Any

from roasts import services as roast_services
from roasts.models import EventSource, Gap, Roast, Sample, TelemetryBatch
from roasts.recording import recorder
from roasts.recording.filing import Filing
from roasts.recording.recorder import MarkEvent
from roasts.store import stored_samples
from roasts.telemetry import rows
from roasts.telemetry.envelope import Event, Point, Refusal
from roasts.telemetry.following import StreamState, Taken
from roasts.telemetry.steady import INDEX_BITS, NewSample

#: Holes that late points may fill, and be measured anew.
FILLABLE = ("missing_batches", "silent", "charge_told_late")
#: Late stretches this near each other are told as one.
JOIN_WITHIN_MS = 15_000


@dataclass(slots=True)
class Placed:
    """What came of the late points of one envelope."""

    by_roast: dict[str, int] = field(default_factory=dict)
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)  # roast → first and last elapsed ms
    refused: list[Refusal] = field(default_factory=list)
    repeated: int = 0
    outside: int = 0

    @property
    def filed(self) -> int:
        return sum(self.by_roast.values())


def place(machine_id: str, taken: Taken, *, now: dt.datetime) -> Placed:
    """File the late points and marks of an envelope. Call in its transaction."""
    placed = Placed()
    if not taken.late and not taken.late_events:
        return placed
    for roast, points in _by_roast(machine_id, taken.late, placed).items():
        _place_points(roast, points, taken, placed)
    for event in taken.late_events:
        _place_event(machine_id, event, now)
    return placed


def _roast_at(machine_id: str, at: dt.datetime) -> Roast | None:
    """The roast that was on at this time; the newest where two meet."""
    found = (
        Roast.objects.filter(machine_id=machine_id, started_at__lte=at)
        .select_related("machine__organization")
        .order_by("-started_at", "-pk")
        .first()
    )
    return found if found is not None and (found.ended_at is None or at <= found.ended_at) else None


def _by_roast(machine_id: str, points: list[Point], placed: Placed) -> dict[Roast, list[Point]]:
    sorted_out: dict[Roast, list[Point]] = {}
    roast: Roast | None = None
    for point in points:
        if roast is None or not (
            roast.started_at <= point.at and (roast.ended_at is None or point.at <= roast.ended_at)
        ):
            roast = _roast_at(machine_id, point.at)
        if roast is None:
            placed.outside += 1
        else:
            sorted_out.setdefault(roast, []).append(point)
    return sorted_out


def _place_points(roast: Roast, points: list[Point], taken: Taken, placed: Placed) -> None:
    if is_packed(roast.pk):
        message = "the roast of this moment is packed: its digest is what a dispute cites, so nothing is added"
        placed.refused += [Refusal(point.index, "roast_packed", message) for point in points]
        return
    known = sorted(Sample.objects.filter(roast=roast).values_list("at", "elapsed_ms"))
    samples = [
        NewSample(
            roast.pk,
            _elapsed_ms(roast, point, known),
            (taken.sequence << INDEX_BITS) | point.index,
            str(point.values.get("state") or taken.state.word),
            point,
            None,  # a rate is causal: nothing was decided from this point when it was due
        )
        for point in points
    ]
    new = rows.insert_samples(samples)
    placed.repeated += len(samples) - new
    if not new:
        return
    span = (min(each.elapsed_ms for each in samples), max(each.elapsed_ms for each in samples))
    placed.by_roast[roast.pk] = placed.by_roast.get(roast.pk, 0) + new
    placed.spans[roast.pk] = span
    _measure_gaps(roast.pk, span, taken.state)


def is_packed(roast_id: str) -> bool:
    """Whether the roast is in its final object."""
    return Roast.objects.filter(pk=roast_id, packed__isnull=False).exists()


def _elapsed_ms(roast: Roast, point: Point, known: list[tuple[dt.datetime, int]]) -> int:
    """Device time since charge: the point's own where it lies between its neighbours, else in proportion."""
    own_ms = point.device_ms - roast.device_start_ms
    place = bisect.bisect_left(known, (point.at, -1))
    before = known[place - 1] if place > 0 else (roast.started_at, -1)
    after = known[place] if place < len(known) else None
    if before[1] < own_ms < (recorder.LONGEST_MS if after is None else after[1]):
        return own_ms
    if after is not None and after[0] == point.at:
        return after[1]  # the same moment: it is recorded
    if after is None:
        return max(0, before[1]) + max(1, round((point.at - before[0]).total_seconds() * 1000))
    share = (point.at - before[0]) / (after[0] - before[0])
    return max(0, before[1]) + round(share * (after[1] - max(0, before[1])))


def _measure_gaps(roast_id: str, span: tuple[int, int], state: StreamState) -> None:
    """Holes that the late points fell into are measured anew."""
    longest_ms = max(recorder.GAP_S * 1000, 3 * (state.interval_ms or 0))
    touched = Gap.objects.filter(
        roast_id=roast_id, reason__in=FILLABLE, from_ms__lte=span[1], to_ms__isnull=False, to_ms__gte=span[0]
    )
    for gap in touched:
        inside = Sample.objects.filter(roast_id=roast_id, elapsed_ms__gt=gap.from_ms, elapsed_ms__lt=gap.to_ms)
        edges = [gap.from_ms, *inside.order_by("elapsed_ms").values_list("elapsed_ms", flat=True), gap.to_ms or 0]
        gap.delete()
        for low, high in zip(edges, edges[1:], strict=False):
            if high - low > longest_ms:
                roast_services.record_gap(roast_id, from_ms=low, to_ms=high, reason=gap.reason)


def _place_event(machine_id: str, event: Event, now: dt.datetime) -> None:
    """A mark by its own time; one without a roast marks nothing."""
    roast = _roast_at(machine_id, event.at)
    if roast is None or is_packed(roast.pk):
        return
    known = sorted(Sample.objects.filter(roast=roast).values_list("at", "elapsed_ms"))
    device_ms = event.device_ms if event.device_ms is not None else -1
    as_point = Point(0, event.at, device_ms, {})
    elapsed_ms = _elapsed_ms(roast, as_point, known)
    source = event.source or EventSource.DEVICE.value
    mark = MarkEvent(event.kind, elapsed_ms, source, event.confidence, event.at, event.text)
    roast_services.file_decisions(roast.machine, [Filing(roast.pk, "", 0, mark)], now=now)


def stretches(taken: Taken, placed: Placed, *, is_late: bool) -> list[dict[str, Any]]:
    """Which part of which roast this envelope filled, and whether it came late. ``device_start_ms``: the device time
    of elapsed 0 (null where points have none); ``is_placed``: by the late rule, one by one.
    """
    found: dict[str, dict[str, Any]] = {}
    for sample in taken.samples:
        stretch = found.get(sample.roast_id)
        if stretch is None:
            is_counted = "device_ms" in sample.point.values
            found[sample.roast_id] = {
                "roast_id": sample.roast_id,
                "from_ms": sample.elapsed_ms,
                "to_ms": sample.elapsed_ms,
                "is_late": is_late,
                "is_placed": False,
                "device_start_ms": sample.point.device_ms - sample.elapsed_ms if is_counted else None,
            }
        else:
            stretch["to_ms"] = sample.elapsed_ms
    return [*found.values()] + [
        {"roast_id": roast_id, "from_ms": low, "to_ms": high, "is_late": True, "is_placed": True}
        for roast_id, (low, high) in placed.spans.items()
    ]


def came_late(roast: Roast) -> list[dict[str, Any]]:
    """Where the roast came late: stretches of elapsed ms, with when they reached us. Neighbours are told as one."""
    if not roast.late_points:
        return []
    sequences = [sequence >> INDEX_BITS for (sequence,) in stored_samples.read_rows(roast.pk, ("sequence",))]
    if not sequences:
        return []
    batches = TelemetryBatch.objects.filter(
        machine_id=roast.machine_id, points_late__gt=0, sequence__range=(min(sequences), max(sequences))
    )
    told: list[dict[str, Any]] = []
    for batch in batches.order_by("sequence").only("received_at", "response"):
        for each in batch.response.get("stretches", []):
            if each["roast_id"] == roast.pk and each["is_late"]:
                told.append({"from_ms": each["from_ms"], "to_ms": each["to_ms"], "received_at": batch.received_at})
    return _joined(sorted(told, key=lambda each: each["from_ms"]))


def _joined(stretches: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Stretches with nothing between them, as one that came when its last part did."""
    joined: list[dict[str, Any]] = []
    for each in stretches:
        if joined and each["from_ms"] - joined[-1]["to_ms"] <= JOIN_WITHIN_MS:
            joined[-1]["to_ms"] = max(joined[-1]["to_ms"], each["to_ms"])
            joined[-1]["received_at"] = max(joined[-1]["received_at"], each["received_at"])
        else:
            joined.append(dict(each))
    return joined
