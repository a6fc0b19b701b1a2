"""What a report is made of, gathered: a fixed number of queries, plain values out."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import numpy as np
from django.conf import settings
from django.db.models import Prefetch
from django.utils import translation

from commands.console import order_words
from commands.models import ExecutionStage, Proposal
from evals.report import Material, OrderLine
from kernel import canonical
from roasts import curve as curves
from roasts import curve_rates
from roasts.curve import Column, Curve, CurveSummary
from roasts.library import comparison, planning
from roasts.models import ProfileVersion, Roast, RoastEvent
from roasts.store import stored_curve, summaries

#: Points of the curve that a report keeps: enough for a figure of a page's width.
FIGURE_POINTS = 400
MAX_ORDERS = 200
GOLDEN_LINES = ("golden_c", "low_c", "high_c")
CURVE_COLUMNS = (
    "bean_temp_c",
    "infrared_temp_c",
    "environment_temp_c",
    "heater_step",
    "fan_step",
    "drum_step",
)


def gather(roast: Roast) -> Material:
    """Everything the record holds of this roast that a report tells."""
    curve, marks = stored_curve.load_curve(roast), stored_curve.load_marks(roast)
    summary = curves.summarise(curve, marks, summaries.settings_of(roast), summaries.weights_of(roast))
    deviation = _deviation(roast, curve, summary)
    golden = deviation.pop("golden") if deviation else {}
    return Material(
        roast=_facts(roast, summary),
        curve={**_figure(curve), **{f"golden_{name.removeprefix('golden_')}": golden[name] for name in golden}},
        summary=summaries.summary_to_json(summary),
        events=_events(roast),
        gaps=tuple(dict(row) for row in roast.gaps.order_by("from_ms").values("from_ms", "to_ms", "reason")),
        orders=_orders(roast),
        deviation=deviation,
        trust=_trust(roast),
        qc=_qc(roast),
        corrections=_corrections(roast),
    )


def _facts(roast: Roast, summary: CurveSummary) -> dict[str, Any]:
    names = (
        "title bean origin process variety lot weight_in_g weight_out_g moisture_in_percent moisture_out_percent "
        "colour_whole colour_ground status source close_reason"
    ).split()
    return {
        "roast_id": roast.pk,
        "machine_id": roast.machine_id,
        "machine_name": roast.machine.name,
        "started_at": canonical.utc_text(roast.started_at),
        "ended_at": canonical.utc_text(roast.ended_at) if roast.ended_at else None,
        "weight_loss_percent": _rounded(summary.weight_loss_percent),
        **{name: getattr(roast, name) for name in names},
    }


def _figure(curve: Curve) -> dict[str, list[float | None]]:
    """The curve's columns, thinned evenly to FIGURE_POINTS, with our causal rate."""
    rows = np.unique(np.linspace(0, len(curve) - 1, min(len(curve), FIGURE_POINTS)).round().astype(int))
    rows = rows[rows >= 0] if len(curve) else rows[:0]
    columns: dict[str, list[float | None]] = {"elapsed_s": _numbers(curve.elapsed_s, rows)}
    for name in CURVE_COLUMNS:
        column = getattr(curve, name)
        if column is not None:
            columns[name] = _numbers(column, rows)
    rates = curve_rates.causal_rate(curve.elapsed_s, curve.bean_temp_c, from_s=0.0)
    columns["rate_of_rise_c_per_min"] = _numbers(rates, rows)
    return columns


def _numbers(column: Column, rows: Any) -> list[float | None]:
    return [_rounded(float(value)) for value in column[rows]]


def _rounded(value: float | None) -> float | None:
    """Two decimals; None for what is not a number."""
    return None if value is None or not math.isfinite(value) else round(float(value), 2)


def _events(roast: Roast) -> tuple[dict[str, Any], ...]:
    """Every mark, withdrawn ones too; the one that stands for its kind says so."""
    rows = list(roast.events.select_related("marked_by").order_by("elapsed_ms", "id"))
    winners: dict[str, RoastEvent] = {}
    rank = {"inferred": 0, "device": 1, "person": 2}
    for row in sorted((r for r in rows if r.withdrawn_at is None), key=lambda r: (rank[r.source], r.at, r.pk)):
        winners[row.kind] = row
    standing = {row.pk for row in winners.values()}
    return tuple(
        {
            "kind": row.kind,
            "elapsed_ms": row.elapsed_ms,
            "source": row.source,
            "confidence": round(row.confidence, 3),
            "marked_by": row.marked_by.get_username() if row.marked_by else None,
            "text": row.text,
            "is_withdrawn": row.withdrawn_at is not None,
            "is_standing": row.pk in standing or (row.kind == "note" and row.withdrawn_at is None),
        }
        for row in rows
    )


def _orders(roast: Roast) -> tuple[OrderLine, ...]:
    rows = (
        Proposal.objects.filter(roast=roast)
        .select_related("proposer_agent", "proposer_user", "approver", "execution")
        .prefetch_related(Prefetch("execution__stages", ExecutionStage.objects.order_by("at", "id")))
        .order_by("proposed_at", "id")[:MAX_ORDERS]
    )
    return tuple(_order_line(row, roast) for row in rows)


def _order_line(row: Proposal, roast: Roast) -> OrderLine:
    since = row.seen_device_ms
    execution = getattr(row, "execution", None)
    stages = tuple((s.stage, canonical.utc_text(s.at)) for s in execution.stages.all()) if execution else ()
    return OrderLine(
        proposal_id=row.pk,
        at_ms=since - roast.device_start_ms if since is not None else None,
        title=_title(row),
        status=row.status,
        decision=row.decision,
        proposer=_name(row.proposer_agent, row.proposer_user),
        is_by_agent=row.proposer_agent_id is not None,
        approver=row.approver.get_username() if row.approver else "",
        reason_codes=tuple(str(reason.get("code", "")) for reason in row.reasons),
        stages=stages,
    )


def _title(row: Proposal) -> str:
    """In English whoever asks: a report is signed over and read by the judge."""
    with translation.override(settings.LANGUAGE_CODE):
        return order_words.order_title(row)


def _name(agent: Any, user: Any) -> str:
    return agent.name if agent else user.get_username() if user else ""


def _deviation(roast: Roast, curve: Curve, summary: CurveSummary) -> dict[str, Any] | None:
    """How the roast lay against its golden curve, charge to drop; None where it followed none.

    Development is laid over the golden one from first crack on (`planning.laid_out`).
    """
    document = planning.document_of(roast)
    if document is None or roast.profile_version is None or not summary.total_s:
        return None
    crack = summary.landmark("first_crack_start")
    golden = planning.laid_out(document, summary.first_crack_s, crack.bean_temp_c if crack is not None else None)
    at_s = np.arange(0.0, summary.total_s + 1e-9, 1.0)
    bean_c = comparison.temps_at(curve, at_s)
    lines = [np.interp(at_s, golden["elapsed_s"], golden[name], left=np.nan, right=np.nan) for name in GOLDEN_LINES]
    good = np.isfinite(bean_c) & np.isfinite(lines[0])
    if not good.any():
        return None
    off_c = (bean_c - lines[0])[good]
    is_within = (bean_c >= lines[1]) & (bean_c <= lines[2])
    farthest = int(np.argmax(np.abs(off_c)))
    return {
        "profile_name": roast.profile_version.profile.name,
        "profile_version": roast.profile_version.version,
        "profile_digest": roast.profile_version.digest,
        "rmse_c": _rounded(float(np.sqrt(np.mean(off_c**2)))),
        "max_deviation_c": _rounded(float(off_c[farthest])),
        "max_at_s": _rounded(float(at_s[good][farthest])),
        "in_tolerance_s": float((is_within & good).sum()),
        "compared_s": float(good.sum()),
        "golden": golden,
    }


def _trust(roast: Roast) -> dict[str, Any]:
    packed = getattr(roast, "packed", None)
    return {
        "verified_points": roast.verified_points,
        "unsigned_points": roast.unsigned_points,
        "failed_points": roast.failed_points,
        "late_points": roast.late_points,
        "packed_digest": packed.digest if packed else None,
    }


def _qc(roast: Roast) -> tuple[dict[str, Any], ...]:
    return tuple(
        {
            "author": note.author.get_username(),
            "at": _utc(note.created_at),
            "cupping_score": note.cupping_score,
            "attributes": note.attributes,
            "defects": note.defects,
            "colour_whole": note.colour_whole,
            "colour_ground": note.colour_ground,
            "text": note.text,
        }
        for note in roast.qc_notes.select_related("author")
    )


def _corrections(roast: Roast) -> tuple[dict[str, Any], ...]:
    """Every correction; a profile by its name, for a reader of paper knows no ids."""
    rows = list(roast.corrections.select_related("corrected_by"))
    ids = {value for row in rows if row.field == "profile_version_id" for value in (row.old_value, row.new_value)}
    versions = ProfileVersion.objects.filter(pk__in=ids - {None}).select_related("profile").defer("document")
    names: dict[Any, str] = {each.pk: f"{each.profile.name}, version {each.version}" for each in versions}
    return tuple(
        {
            "field": row.field,
            "old_value": names.get(row.old_value, row.old_value),
            "new_value": names.get(row.new_value, row.new_value),
            "by": row.corrected_by.get_username(),
            "reason": row.reason,
            "at": _utc(row.at),
        }
        for row in rows
    )


def _utc(at: dt.datetime) -> str:
    return canonical.utc_text(at)
