"""The report of a closed roast, composed. Pure: everything comes in as plain values, one JSON document goes out.

Nothing here measures. The figures are `roasts.curve`'s, the order of advice stands in `next_actions`, and
every piece of advice carries the figure it rests on, so that a reader can check it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SCHEMA = "roast-report/1"
MAX_ACTIONS = 5
#: Development time ratio outside these is worth a word where no profile says better.
LOW_DEVELOPMENT_RATIO, HIGH_DEVELOPMENT_RATIO = 0.16, 0.28
#: Share of the time since charge that a roast may spend outside its profile's tolerance before we say so.
MAX_SHARE_OUTSIDE = 0.2
#: A silence shorter than this, in ms, is no hole in the record.
SHORT_GAP_MS = 5_000
CONFIDENCES = ("high", "medium", "low")


@dataclass(frozen=True, slots=True)
class OrderLine:
    """One order of the roast. ``at_ms`` is milliseconds since charge by the house's clock; None before charge."""

    proposal_id: str
    at_ms: int | None
    title: str  # "Heater 7 → 6"
    status: str
    decision: str
    proposer: str
    is_by_agent: bool
    approver: str
    reason_codes: tuple[str, ...] = ()
    stages: tuple[tuple[str, str], ...] = ()  # (stage, UTC time)


@dataclass(frozen=True, slots=True)
class Material:
    """What a report is made of. Dicts hold JSON values only, and are copied into the document as they are."""

    roast: dict[str, Any]
    curve: dict[str, list[float | None]]
    summary: dict[str, Any]  # roasts.curve.CurveSummary as JSON; {} where it could not be counted
    events: tuple[dict[str, Any], ...] = ()
    gaps: tuple[dict[str, Any], ...] = ()
    orders: tuple[OrderLine, ...] = ()
    deviation: dict[str, Any] | None = None  # roasts.curve.Comparison with the golden curve, None without profile
    trust: dict[str, Any] = field(default_factory=dict)
    qc: tuple[dict[str, Any], ...] = ()
    corrections: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do next time, with the figure that says so."""

    code: str
    message: str
    confidence: str  # high | medium | low
    evidence: str


def compose(material: Material) -> dict[str, Any]:
    """The document of schema ``roast-report/1``: the same material gives the same document, key for key."""
    return {
        "schema": SCHEMA,
        "roast": material.roast,
        "curve": material.curve,
        "summary": material.summary,
        "events": list(material.events),
        "gaps": list(material.gaps),
        "orders": [_order(line) for line in material.orders],
        "deviation": material.deviation,
        "trust": material.trust,
        "qc": list(material.qc),
        "corrections": list(material.corrections),
        "next_actions": [_action(action) for action in next_actions(material)],
        "missing": missing(material),
    }


def _order(line: OrderLine) -> dict[str, Any]:
    return {
        "proposal_id": line.proposal_id,
        "at_ms": line.at_ms,
        "title": line.title,
        "status": line.status,
        "decision": line.decision,
        "proposer": line.proposer,
        "is_by_agent": line.is_by_agent,
        "approver": line.approver,
        "reason_codes": list(line.reason_codes),
        "stages": [{"stage": stage, "at": at} for stage, at in line.stages],
    }


def _action(action: Action) -> dict[str, str]:
    return {
        "code": action.code,
        "message": action.message,
        "confidence": action.confidence,
        "evidence": action.evidence,
    }


def next_actions(material: Material) -> list[Action]:
    """At most five, the gravest first: what breaks trust in the record, then the curve, then the plan."""
    found = [
        *_record_actions(material),
        *_order_actions(material),
        *_curve_actions(material.summary),
        *_development_actions(material),
        *_deviation_actions(material),
    ]
    return sorted(found, key=lambda action: CONFIDENCES.index(action.confidence))[:MAX_ACTIONS]


def _record_actions(material: Material) -> list[Action]:
    failed = int(material.trust.get("failed_points", 0))
    actions = []
    if failed:
        actions.append(
            Action(
                "check_signatures",
                "Find out why points came with a signature that does not verify, before anybody relies on this roast.",
                "high",
                f"{failed} points failed verification",
            )
        )
    long_gaps = [g for g in material.gaps if g.get("to_ms") is None or g["to_ms"] - g["from_ms"] >= SHORT_GAP_MS]
    if long_gaps:
        actions.append(
            Action(
                "mend_the_link",
                "Look after cable, power or network: the record has holes, and what happened in them is not known.",
                "high",
                f"{len(long_gaps)} gap(s): " + ", ".join(sorted({str(gap["reason"]) for gap in long_gaps})),
            )
        )
    return actions


def _order_actions(material: Material) -> list[Action]:
    in_doubt = [line for line in material.orders if line.status == "IN_DOUBT"]
    if not in_doubt:
        return []
    return [
        Action(
            "settle_orders_in_doubt",
            "Say what really happened to the orders that were never proved.",
            "high",
            ", ".join(line.title for line in in_doubt[:3]),
        )
    ]


def _curve_actions(summary: dict[str, Any]) -> list[Action]:
    actions = []
    for crash in summary.get("crashes", [])[:1]:
        actions.append(
            Action(
                "avoid_crash",
                "The rate of rise crashed: bring more heat into first crack, and take it off in smaller steps.",
                "medium",
                f"fell {crash['fall_c_per_min']:.1f} °C/min after {clock_words(crash['from_s'])}",
            )
        )
    for flick in summary.get("flicks", [])[:1]:
        actions.append(
            Action(
                "avoid_flick",
                "The rate of rise flicked up before the drop: take heat off after the dip instead of waiting.",
                "medium",
                f"rose {flick['rise_c_per_min']:.1f} °C/min after {clock_words(flick['from_s'])}",
            )
        )
    return actions


def _development_actions(material: Material) -> list[Action]:
    ratio = material.summary.get("development_ratio")
    if not isinstance(ratio, int | float):
        return []
    figure = f"development was {100 * ratio:.1f} % of the roast"
    if ratio < LOW_DEVELOPMENT_RATIO:
        return [Action("extend_development", "Give the beans more time after first crack.", "medium", figure)]
    if ratio > HIGH_DEVELOPMENT_RATIO:
        return [Action("shorten_development", "Drop earlier after first crack.", "medium", figure)]
    return []


def _deviation_actions(material: Material) -> list[Action]:
    deviation = material.deviation or {}
    within, over = deviation.get("in_tolerance_s"), deviation.get("compared_s")
    if not isinstance(within, int | float) or not isinstance(over, int | float) or over <= 0:
        return []
    outside = 1.0 - within / over
    if outside <= MAX_SHARE_OUTSIDE:
        return []
    return [
        Action(
            "follow_the_profile",
            "Compare with the golden curve phase by phase: this roast left its tolerance for long.",
            "low",
            f"{100 * outside:.0f} % of the time outside the tolerance",
        )
    ]


def missing(material: Material) -> list[str]:
    """What the reader might look for and will not find, and why."""
    lines = []
    kinds = {event["kind"] for event in material.events}
    if "first_crack_start" not in kinds:
        lines.append("No first crack is marked: no development time and no ratio.")
    if "drop" not in kinds:
        lines.append("No drop is marked: times end at the last sample.")
    if material.deviation is None:
        lines.append("The roast followed no profile: nothing to deviate from.")
    if material.roast.get("weight_in_g") is None or material.roast.get("weight_out_g") is None:
        lines.append("Weight before or after is not known: no weight loss.")
    if not material.qc:
        lines.append("Nobody has tasted it yet, or nobody wrote it down.")
    return lines


def clock_words(seconds: float) -> str:
    """Seconds since charge as m:ss, as a roaster writes them."""
    total = round(abs(seconds))
    return f"{'−' if seconds < 0 else ''}{total // 60}:{total % 60:02d}"
