"""One order's whole story for a person: asked, judged, allowed, sent, read back, and what it did to the curve.

Gathers in a fixed number of queries; decides and writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from django.db.models import Prefetch

from commands.console import order_words
from commands.console.gathering import full_scales
from commands.console.order_words import OrderView
from commands.console.reason_words import reason_words
from commands.models import ExecutionStage, Proposal, ProposalTransition, Status
from commands.plans import plan_words
from commands.plans.plan_words import PlanView
from kernel.principals import Principal

#: Wire writes shown of one attempt; a Bullet R2 takes fourteen at most.
WRITES_SHOWN = 40
CALL_OFF = frozenset({Status.PENDING_APPROVAL.value, Status.APPROVED.value, Status.EXECUTING.value})
RELATED = (
    "organization", "machine", "roast", "proposer_agent", "proposer_user", "approver", "execution", "adopted_from",
    "rolls_back", "plan", "reviewed_by", "abort_requested_by",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ReasonView:
    """One reason of a verdict, with what was measured against what."""

    code: str
    legacy_code: str
    decision: str
    message: str
    value: str
    bound: str
    how_to_fix: str


@dataclass(frozen=True, slots=True)
class Write:
    """One write on the wire: its bytes, what they mean, and when."""

    data_hex: str
    meaning: str
    at: str


@dataclass(frozen=True, slots=True)
class Story:
    """An order, and everything that belongs to it."""

    view: OrderView
    reasons: tuple[ReasonView, ...]
    writes: tuple[Write, ...]
    more_writes: int
    writes_known: int | None
    approvals: tuple[Any, ...]
    effect: tuple[tuple[str, str], ...]
    effect_says: str
    plan_view: PlanView | None
    rollbacks: tuple[OrderView, ...]
    adoptions: tuple[OrderView, ...]
    limits: tuple[tuple[str, str], ...]

    @property
    def order(self) -> Proposal:
        return self.view.proposal

    @property
    def may_call_off(self) -> bool:
        """It has not ended, so an operator may still stop it."""
        return self.order.status in CALL_OFF

    @property
    def may_roll_back(self) -> bool:
        """It moved a control, and nobody has asked for the way back yet."""
        order = self.order
        is_done = order.status in (Status.COMPLETED.value, Status.ABORTED.value, Status.FAILED.value)
        is_undone = any(view.proposal.status != Status.REJECTED.value for view in self.rollbacks)
        return bool(order.control) and is_done and getattr(order, "execution", None) is not None and not is_undone

    @property
    def is_in_doubt(self) -> bool:
        return self.order.status == Status.IN_DOUBT.value


def story_of(principal: Principal, proposal_id: str) -> Story | None:
    """The order with all that is told of it; None where there is none here."""
    order = (
        Proposal.objects.for_principal(principal)
        .select_related(*RELATED)
        .prefetch_related(
            Prefetch("transitions", ProposalTransition.objects.order_by("at", "id")),
            Prefetch("execution__stages", ExecutionStage.objects.order_by("at", "id")),
            "given_approvals__user",
        )
        .filter(pk=proposal_id)
        .first()
    )
    if order is None:
        return None
    scales = full_scales([order.machine_id])
    related = Proposal.objects.select_related("machine", "proposer_agent", "proposer_user")

    def views(rows: Any) -> tuple[OrderView, ...]:
        return tuple(order_words.order_view(row, principal, scales, has_steps=False) for row in rows)

    writes, attempt = writes_of(order), getattr(order, "execution", None)
    plan_view = plan_words.view_of(order.plan_id) if order.plan_id else None
    told = order_words.order_view(order, principal, scales, has_steps=True)
    return Story(
        view=replace(told, plan_titles=tuple(each.title for each in plan_view.orders) if plan_view is not None else ()),
        reasons=tuple(reason_view(reason, order) for reason in order.reasons if isinstance(reason, dict)),
        writes=writes[:WRITES_SHOWN],
        more_writes=max(0, len(writes) - WRITES_SHOWN),
        writes_known=writes_known_of(attempt),
        approvals=tuple(order.given_approvals.all()),
        effect=effect_words(attempt),
        effect_says=str((attempt.effect or {}).get("says") or "") if attempt is not None else "",
        plan_view=plan_view,
        rollbacks=views(related.filter(rolls_back=order).order_by("proposed_at")),
        adoptions=views(related.filter(adopted_from=order).order_by("proposed_at")),
        limits=tuple(
            (str(name).replace("_", " "), order_words.shown_value(value))
            for name, value in order.constraints.items()
            if value not in (None, "", [])
        ),
    )


def reason_view(reason: dict[str, Any], order: Proposal) -> ReasonView:
    """A stored reason as text: figures as a person writes them, lists with commas."""

    def said(name: str) -> str:
        value = reason.get(name)
        return "" if value in (None, "", [], {}) else order_words.shown_value(value)

    words = reason_words(reason, order)
    return ReasonView(
        code=str(reason.get("code", "")),
        legacy_code=str(reason.get("legacy_code", "") or ""),
        decision=str(reason.get("decision", "")),
        message=words.message,
        value=said("value"),
        bound=said("bound"),
        how_to_fix=words.how_to_fix,
    )


def writes_of(order: Proposal) -> tuple[Write, ...]:
    """Every write of its attempt, from the flight recorder."""
    execution = getattr(order, "execution", None)
    found: list[Write] = []
    for stage in execution.stages.all() if execution else ():
        writes = stage.detail.get("writes") if isinstance(stage.detail, dict) else None
        for write in writes if isinstance(writes, list) else ():
            if isinstance(write, dict) and stage.stage == "sent":
                found.append(
                    Write(
                        data_hex=_spaced(str(write.get("data_hex") or write.get("hex") or "")),
                        meaning=order_words.meaning_words(write.get("meaning", "")),
                        at=str(write.get("at", "") or ""),
                    )
                )
    return tuple(found)


def writes_known_of(execution: Any) -> int | None:
    """How many writes the keeper's wire log holds of an attempt whose executor died and which was settled by reading;
    None where it was not settled so."""
    stages = execution.stages.all() if execution is not None else ()
    known = [stage.detail.get("writes_known") for stage in stages if stage.stage == "resolved"]
    return known[-1] if known and isinstance(known[-1], int) else None


def _spaced(data_hex: str) -> str:
    """`3402aaaa` as `34 02 aa aa`."""
    return " ".join(data_hex[i : i + 2] for i in range(0, len(data_hex), 2))


def effect_words(execution: Any) -> tuple[tuple[str, str], ...]:
    """What the order did against the twin's curve without it, as (what, how much). Shown, never judged by."""
    effect = getattr(execution, "effect", None) or {}
    if not isinstance(effect, dict):
        return ()
    return tuple(
        order_words.named_value(str(name), value)
        for name, value in effect.items()
        if name != "says" and not isinstance(value, list | dict) and value not in (None, "")
    )
