"""A stored roast as an `ImportedRoast` again, for every writer of a format."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import numpy as np

from kernel.errors import Unprocessable
from roasts.curve import Column, Curve
from roasts.files.services_imports import NUMBERS, TEXTS, borrowed_title
from roasts.formats.imported import MACHINE_RATE, Channel, ImportedRoast, Metadata, SpecialEvent
from roasts.models import ImportedFile, Roast
from roasts.store import stored_curve, stored_samples

#: A setting's change as a person would have pressed it in Artisan: the slider's name, and its scale of a step.
SLIDERS = (("Fan", "fan_step"), ("Drum", "drum_step"), ("Heater", "heater_step"))
MAX_CHANGES = 2_000


def load_roast(roast: Roast) -> ImportedRoast:
    """The roast as its file said it, with what people corrected since. 422 where nothing was recorded of it."""
    curve = stored_curve.load_curve(roast)
    if len(curve) < 2:
        raise Unprocessable(
            "nothing_to_export", "Fewer than two readings of this roast were kept.", "Export a roast with a curve."
        )
    file = ImportedFile.objects.filter(pk=roast.pk).first()
    marks = stored_curve.load_marks(roast)
    return ImportedRoast(
        format=file.format if file else "json",
        curve=curve,
        marks=tuple(sorted(marks, key=lambda mark: mark.elapsed_s)),
        metadata=_metadata(roast, file, curve),
        special_events=_special_events(file, curve),
        computed=file.computed if file else {},
        channels=_channels(roast, file, curve),
        carried=file.carried if file else {},
    )


def _metadata(roast: Roast, file: ImportedFile | None, curve: Curve) -> Metadata:
    said: dict[str, Any] = dict(file.metadata) if file else {}
    if "roasted_at" in said:
        said["roasted_at"] = dt.datetime.fromisoformat(said["roasted_at"])
    else:
        lead_in_s = max(0.0, -float(curve.elapsed_s[0]))
        said |= {"roasted_at": roast.started_at - dt.timedelta(seconds=lead_in_s), "lead_in_s": lead_in_s}
    ours = {name: getattr(roast, name) for name in (*TEXTS, *NUMBERS)}
    kept = {field.name for field in dataclasses.fields(Metadata)}
    known = {name: value for name, value in said.items() if name in kept}
    # a title cut to our column, or borrowed from batch or file, gives way to the file's own words
    borrowed = borrowed_title(said.get("batch", ""), said.get("bean", ""), file.file_name) if file else ""
    corrected = {name: value for name, value in ours.items() if not _is_same(name, value, known, borrowed)}
    own = {} if file else {"machine_name": roast.machine.name, "source_version": "RoastOps"}
    return Metadata(**own | known | corrected)


def _is_same(name: str, value: Any, said: dict[str, Any], borrowed_title: str) -> bool:
    if name not in TEXTS:
        return bool(value == said.get(name))
    return value == str(said.get(name, ""))[: TEXTS[name]] or (name == "title" and value == borrowed_title)


def _special_events(file: ImportedFile | None, curve: Curve) -> tuple[SpecialEvent, ...]:
    if file is not None:
        return tuple(SpecialEvent(**event) for event in file.special_events)
    return _changes(curve)


def _changes(curve: Curve) -> tuple[SpecialEvent, ...]:
    """Every change of a setting in a roast of ours."""
    events: list[SpecialEvent] = []
    for kind, name in SLIDERS:
        column: Column | None = getattr(curve, name)
        if column is None:
            continue
        known = np.flatnonzero(np.isfinite(column))
        values = column[known]
        moved = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
        for place in moved[:MAX_CHANGES]:
            events.append(SpecialEvent(float(curve.elapsed_s[known[place]]), kind, float(values[place]) * 10.0))
    return tuple(sorted(events, key=lambda event: (event.elapsed_s, event.kind)))


def _channels(roast: Roast, file: ImportedFile | None, curve: Curve) -> tuple[Channel, ...]:
    """The machine's own rate and the further channels of the source, row by row."""
    described = file.channels if file else [{"name": MACHINE_RATE, "unit": "c_per_min", "device": 85, "slot": 1}]
    if not described:
        return ()
    rows = stored_samples.read_rows(roast.pk, ("machine_rate_c_per_min", "extras"), limit=stored_curve.MAX_ROWS)
    if len(rows) != len(curve):
        return ()
    channels = []
    for place, each in enumerate(described):
        if each["name"] == MACHINE_RATE:
            values = [rate for rate, _ in rows]
        else:
            values = [(extras or {}).get(str(place)) for _, extras in rows]
        column = np.array(values, dtype=float)
        if file is not None or np.any(np.isfinite(column)):
            channels.append(Channel(values=column, **each))
    return tuple(channels)
