"""A roast's numbers put in words for its page. Asks the database nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from roasts.models import EventKind, EventSource, Roast, RoastEvent, RoastSource

KIND_WORDS = {
    EventKind.CHARGE.value: _("Charge"),
    EventKind.TURNING_POINT.value: _("Turning point"),
    EventKind.DRY_END.value: _("Dry end"),
    EventKind.FIRST_CRACK_START.value: _("First crack"),
    EventKind.FIRST_CRACK_END.value: _("First crack end"),
    EventKind.SECOND_CRACK_START.value: _("Second crack"),
    EventKind.DROP.value: _("Drop"),
    EventKind.COOL_END.value: _("Cool end"),
    EventKind.NOTE.value: _("Note"),
}
SOURCE_WORDS = {
    EventSource.PERSON.value: _("a person"),
    EventSource.DEVICE.value: _("the machine"),
    EventSource.INFERRED.value: _("inferred"),
    "curve": _("read from the curve"),
}
ORIGIN_WORDS = {
    RoastSource.RECORDED.value: _("recorded here"),
    RoastSource.TELEMETRY.value: _("sent by a bridge"),
    RoastSource.IMPORTED.value: _("imported from a file"),
}
PHASE_WORDS = {"drying": _("Drying"), "maillard": _("Maillard"), "development": _("Development")}
FIELD_WORDS = {
    "title": _("Title"),
    "bean": _("Bean"),
    "origin": _("Origin"),
    "process": _("Process"),
    "variety": _("Variety"),
    "lot": _("Lot"),
    "weight_in_g": _("Green in, g"),
    "weight_out_g": _("Roasted out, g"),
    "moisture_in_percent": _("Moisture in, %"),
    "moisture_out_percent": _("Moisture out, %"),
    "colour_whole": _("Colour, whole"),
    "colour_ground": _("Colour, ground"),
    "profile_version_id": _("Profile"),
}
RANK = {EventSource.PERSON.value: 0, EventSource.DEVICE.value: 1, EventSource.INFERRED.value: 2}


def clock_words(seconds: float | None) -> str:
    """``7:05``; a dash for none, a minus before charge."""
    if seconds is None:
        return "–"
    whole = int(abs(seconds) + 0.5)
    return f"{'−' if seconds < 0 and whole else ''}{whole // 60}:{whole % 60:02d}"


def title_of(roast: Roast) -> str:
    """What people call it."""
    return roast.title or roast.bean or gettext("Roast of %(at)s") % {"at": f"{roast.started_at:%Y-%m-%d %H:%M}"}


@dataclass(frozen=True, slots=True)
class MarkRow:
    """One mark on the page. ``counts``: of its kind the one that wins."""

    event_id: str
    word: str
    kind: str
    at: str
    elapsed_ms: int
    source: str
    source_word: str
    confidence_percent: int
    who: str
    text: str
    is_withdrawn: bool
    counts: bool


def mark_rows(events: list[RoastEvent]) -> list[MarkRow]:
    """Every mark in order of time, withdrawn ones too."""
    standing = [event for event in events if event.withdrawn_at is None]
    winners: dict[str, RoastEvent] = {}
    for event in sorted(standing, key=lambda event: (RANK[event.source], event.elapsed_ms)):
        winners.setdefault(event.kind, event)
    counted = {event.pk for event in winners.values()}
    return [
        MarkRow(
            event_id=event.pk,
            word=str(KIND_WORDS[event.kind]),
            kind=event.kind,
            at=clock_words(event.elapsed_ms / 1000),
            elapsed_ms=event.elapsed_ms,
            source=event.source,
            source_word=str(SOURCE_WORDS[event.source]),
            confidence_percent=round(100 * event.confidence),
            who=event.marked_by.get_username() if event.marked_by else "",
            text=event.text,
            is_withdrawn=event.withdrawn_at is not None,
            counts=event.pk in counted,
        )
        for event in sorted(events, key=lambda event: (event.elapsed_ms, event.pk))
    ]


@dataclass(frozen=True, slots=True)
class PhaseRow:
    """One phase on the page, with where its bar begins and how wide it is (percent of the roast)."""

    name: str
    word: str
    time: str
    percent: float
    starts_at_percent: float
    label_at_percent: float
    rate_c_per_min: float | None
    slope_c_per_min2: float | None
    mean_difference_c: float | None
    auc_c_min: float | None


def phase_rows(summary: dict[str, Any]) -> list[PhaseRow]:
    """The phases of a kept summary."""
    rows: list[PhaseRow] = []
    begins = 0.0
    for phase in summary.get("phases", []):
        rows.append(
            PhaseRow(
                name=phase["name"],
                word=str(PHASE_WORDS.get(phase["name"], phase["name"])),
                time=clock_words(phase["to_s"] - phase["from_s"]),
                percent=round(phase["percent"], 1),
                starts_at_percent=round(begins, 2),
                label_at_percent=round(begins + 0.8, 2),
                rate_c_per_min=phase["rate_c_per_min"],
                slope_c_per_min2=phase["slope_c_per_min2"],
                mean_difference_c=phase["mean_difference_c"],
                auc_c_min=phase["auc_c_min"],
            )
        )
        begins += phase["percent"]
    return rows


@dataclass(frozen=True, slots=True)
class LandmarkRow:
    """A moment with what was read there."""

    kind: str
    word: str
    at: str
    source_word: str
    bean_temp_c: float | None
    difference_c: float | None
    rate_c_per_min: float | None


def landmark_rows(summary: dict[str, Any]) -> list[LandmarkRow]:
    """The landmarks of a kept summary."""
    return [
        LandmarkRow(
            kind=row["kind"],
            word=str(KIND_WORDS.get(row["kind"], row["kind"])),
            at=clock_words(row["elapsed_s"]),
            source_word=str(SOURCE_WORDS.get(row["source"], row["source"])),
            bean_temp_c=row["bean_temp_c"],
            difference_c=row["difference_c"],
            rate_c_per_min=row["rate_c_per_min"],
        )
        for row in summary.get("landmarks", [])
    ]


def warnings_of(summary: dict[str, Any]) -> list[str]:
    """What a lead should look at, in sentences."""
    found = [
        f"The rate of rise crashed at {clock_words(crash['from_s'])}: it fell by {crash['fall_c_per_min']:.1f} °C/min "
        f"until {clock_words(crash['bottom_s'])} with the controls left alone."
        for crash in summary.get("crashes", [])
    ]
    found += [
        f"It flicked at {clock_words(flick['from_s'])}: {flick['rise_c_per_min']:.1f} °C/min up for "
        f"{flick['for_s']:.0f} s."
        for flick in summary.get("flicks", [])
    ]
    return found + [f"{remark[:1].upper()}{remark[1:]}." for remark in summary.get("remarks", [])]
