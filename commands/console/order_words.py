"""One order in words: what it would change, why, by whose leave, and everything that happened to it.

In the language that is active (English where none is): tables are translated when they are shown. Reads what it is
given (with its prefetches) and asks the database nothing.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import Any

from django.utils.translation import get_language, gettext, ngettext
from django.utils.translation import gettext_lazy as _

from commands.console.known_codes import SAID
from commands.models import OrderType, Proposal, Status
from commands.reasons import ADVISORY, LEGACY
from kernel.principals import Principal

ORDER_WORDS = {
    OrderType.SET_POWER.value: _("Heater"),
    OrderType.SET_FAN.value: _("Fan"),
    OrderType.SET_DRUM.value: _("Drum"),
    OrderType.PREHEAT.value: _("Preheat"),
    OrderType.CHARGE.value: _("Charge the beans"),
    OrderType.DROP.value: _("Drop the beans"),
    OrderType.COOL.value: _("Cool"),
}
REJECTION_WORDS = {
    "SAFETY_CONCERN": _("Safety concern"),
    "WRONG_TIMING": _("Wrong timing"),
    "INCORRECT_TARGET": _("Incorrect target"),
    "MACHINE_UNAVAILABLE": _("Machine unavailable"),
    "SESSION_MISMATCH": _("Wrong roast"),
    "OPERATOR_OVERRIDE": _("I will do it myself"),
    "OTHER": _("Other"),
}
STATUS_WORDS = {
    Status.PROPOSED.value: (_("Proposed"), "clock"),
    Status.PENDING_APPROVAL.value: (_("Held"), "clock"),
    Status.APPROVED.value: (_("Approved"), "arrow"),
    Status.EXECUTING.value: (_("On the wire"), "arrow"),
    Status.COMPLETED.value: (_("Completed"), "check"),
    Status.REJECTED.value: (_("Rejected"), "cross"),
    Status.FAILED.value: (_("Failed"), "warning"),
    Status.ABORTED.value: (_("Aborted"), "cross"),
    Status.TIMEOUT.value: (_("Expired"), "clock"),
    Status.IN_DOUBT.value: (_("In doubt"), "question"),
}
MINUS = "\u2212"
MINUTES_FROM_MS = 10_000  # longer spans of an agent's evidence are shown as m:ss
ABNORMAL_STATUSES = frozenset({Status.FAILED.value, Status.IN_DOUBT.value})
SIGNIFICANCE_WORDS = {
    "none": _("of no significance"),
    "watch": _("worth watching"),
    "warning": _("a warning"),
    "distress": _("distress"),
    "critical": _("critical"),
    "severe": _("severe"),
}
GRAVE = frozenset({"distress", "critical", "severe"})  # approving these takes a tick as well
#: An order whose veto window is open stands in one of these.
VETO_STATUSES = (Status.PENDING_APPROVAL.value, Status.APPROVED.value)
#: An attempt was made, or ended: what ran at once may be looked at.
ATTEMPTED = (Status.COMPLETED.value, Status.FAILED.value, Status.IN_DOUBT.value)
_ASKING = ("HOLD", "VETO")
_PREDECESSORS = frozenset(LEGACY.values())
DECISION_WORDS = {"ALLOW": _("allow"), "VETO": _("veto"), "HOLD": _("hold"), "REFUSE": _("refuse")}


@dataclass(frozen=True, slots=True)
class Step:
    """One line of an order's timeline."""

    at: dt.datetime
    word: str
    who: str = ""
    detail: str = ""
    is_abnormal: bool = False
    rank: int = 0  # of things recorded in one instant, which came first


@dataclass(frozen=True, slots=True)
class OrderView:
    """An order in words: what it would change, why, and everything that happened to it."""

    proposal: Proposal
    title: str
    percents: str
    asked: str
    proposer: str
    is_by_agent: bool
    status_word: str
    icon: str
    is_abnormal: bool
    steps: tuple[Step, ...] = ()
    evidence: tuple[str, ...] = ()
    hold_reasons: tuple[dict[str, Any], ...] = ()
    may_decide: bool = False
    why_not: str = ""
    viewer_id: int | None = None  # whose page it is
    is_advice: bool = False  # an agent's that may only recommend: a person may adopt it
    plan_titles: tuple[str, ...] = ()  # of a plan that is decided as a whole: every order of it, in turn

    @property
    def act_path(self) -> str:
        """Where a decision goes: an order of a plan is never decided by itself."""
        plan_id = self.proposal.plan_id
        return f"/v1/plans/{plan_id}" if plan_id else f"/v1/proposals/{self.proposal.pk}"

    @property
    def act_digest(self) -> str:
        """What an approval names: the order's digest, or its plan's (which is loaded with it)."""
        plan = self.proposal.plan if self.proposal.plan_id else None
        return plan.digest if plan is not None else self.proposal.digest

    @property
    def is_vetoable(self) -> bool:
        """It runs by itself at ``runs_at``, unless somebody vetoes it."""
        return self.proposal.runs_at is not None and self.proposal.status in VETO_STATUSES

    @property
    def is_held(self) -> bool:
        """It waits for a person's yes."""
        return self.proposal.status == Status.PENDING_APPROVAL.value and not self.is_vetoable

    @property
    def needs_review(self) -> bool:
        """An agent's order that ran at once (L5), and nobody has looked yet."""
        order = self.proposal
        return order.decision == "ALLOW" and self.may_be_reviewed

    @property
    def may_be_reviewed(self) -> bool:
        """An agent's order that ran without anybody's yes, and nobody has looked yet."""
        order = self.proposal
        ran_alone = order.decision in ("ALLOW", "VETO") and order.approver_id is None
        is_open = ran_alone and order.proposer_agent_id is not None and order.reviewed_at is None
        return is_open and order.status in ATTEMPTED

    @property
    def is_grave(self) -> bool:
        """Approving it takes a tick besides the press."""
        return self.proposal.significance in GRAVE

    @property
    def significance_word(self) -> str:
        return str(SIGNIFICANCE_WORDS.get(self.proposal.significance, self.proposal.significance))

    @property
    def approved_by(self) -> list[str]:
        """Who has said yes so far, of an order that needs several (needs its prefetch)."""
        if self.proposal.approvals_needed < 2:
            return []
        return [approval.user.get_username() for approval in self.proposal.given_approvals.all()]

    @property
    def has_said_yes(self) -> bool:
        """This person approved it already; it waits for another's (needs its prefetch)."""
        if self.proposal.approvals_needed < 2 or self.viewer_id is None:
            return False
        return any(approval.user_id == self.viewer_id for approval in self.proposal.given_approvals.all())

    @property
    def decision_word(self) -> str:
        """The governor's verdict."""
        return str(DECISION_WORDS.get(self.proposal.decision, self.proposal.decision.lower()))

    @property
    def rejection_word(self) -> str:
        """The reason a person gave by its button; of a refusal, its code in small letters."""
        code = self.proposal.rejection_code
        if code in _PREDECESSORS:  # one word of theirs for many of ours: the governor's own says which it was
            code = next((str(reason["code"]) for reason in self.proposal.reasons if _refuses(reason)), code)
        return str(REJECTION_WORDS.get(code) or _known(code.replace("_", " ").lower()))


def _refuses(reason: Any) -> bool:
    return isinstance(reason, dict) and reason.get("decision") == "REFUSE" and "code" in reason


def percent_of(step: int | None, full_scale_step: int) -> int | None:
    """Native step as percent of full scale, nearest; None when either is unknown."""
    if step is None or not full_scale_step:
        return None
    return round(100 * step / full_scale_step)


def _shown_step(step: int | None) -> str:
    return "?" if step is None else str(step)


def order_title(proposal: Proposal) -> str:
    """`Heater 7 → 6`, or the state asked for."""
    word = str(ORDER_WORDS.get(proposal.order_type, proposal.order_type))
    if not proposal.control:
        return word
    return f"{word} {_shown_step(proposal.from_step)}\u00a0→\u00a0{_shown_step(proposal.target_step)}"


def order_percents(proposal: Proposal, full_scale: dict[tuple[str, str], int]) -> str:
    """`78 % → 67 %` of full scale; empty for a state order or an unknown scale."""
    scale = full_scale.get((proposal.machine_id, proposal.control), 0)
    before, after = percent_of(proposal.from_step, scale), percent_of(proposal.target_step, scale)
    if after is None:
        return ""
    return f"{'?' if before is None else before} % → {after} %"


def asked_words(proposal: Proposal) -> str:
    """What was asked in the asker's own unit, when that is not already the native step."""
    if proposal.asked_value is None or proposal.asked_unit in ("", "step"):
        return ""
    unit = {"percent": "%", "rpm": gettext("rpm"), "celsius": "°C"}.get(proposal.asked_unit, proposal.asked_unit)
    return gettext("asked %(value)s %(unit)s") % {"value": f"{proposal.asked_value:g}", "unit": unit}


def evidence_lines(evidence: Any) -> tuple[str, ...]:
    """An agent's evidence as short lines; whatever shape it came in, it is shown as text."""
    items = evidence if isinstance(evidence, list) else [evidence]
    lines = []
    for item in items[:12]:
        if isinstance(item, dict):
            lines.append(_pairs(item))
        elif item not in (None, ""):
            lines.append(str(item))
    return tuple(line[:300] for line in lines)


_CODES = frozenset(SAID)
#: `kind` comes first anyway; the machine's uptime tells a person nothing.
_UNSAID = frozenset({"kind", "from_device_ms", "to_device_ms"})


def _pairs(item: dict[Any, Any]) -> str:
    """`rate of rise: rate 22.2 °C/min, bound 21.6 °C/min` from a mapping, its `kind` first."""
    said = [(key, value) for key, value in list(item.items())[:8] if key not in _UNSAID and value is not None]
    pairs = [_named_value(str(key), value) for key, value in said]
    kind = _known(str(item.get("kind", "")).replace("_", " "))
    return f"{kind}: {', '.join(pairs)}" if kind else ", ".join(pairs)


#: Units end the name (house style 8); longest first.
_UNITS = (
    ("_c_per_min", "°C/min"),
    ("_temp_c", "°C"),
    ("_percent", "%"),
    ("_rpm", "rpm"),
    ("_ms", "ms"),
    ("_c", "°C"),
    ("_s", "s"),
)


def _known(words: str) -> str:
    """What was measured, in the page's language where the catalog has it."""
    return gettext(words) if words in _CODES else words


def _named_value(name: str, value: Any) -> str:
    """`rate_of_rise_c_per_min: 16.8` → `rate of rise 16.8 °C/min`."""
    return " ".join(named_value(name, value))


def named_value(name: str, value: Any) -> tuple[str, str]:
    """`rate_of_rise_c_per_min: 16.8` → (`rate of rise`, `16.8 °C/min`)."""
    if isinstance(value, bool):
        return _known(name.replace("_", " ")), shown_value(value)
    if name.endswith("_ms") and isinstance(value, int | float) and value >= MINUTES_FROM_MS:
        minutes, seconds = divmod(int(value) // 1000, 60)
        return _known(name.removesuffix("_ms").replace("_", " ")), f"{minutes}:{seconds:02d}"
    for suffix, unit in _UNITS:
        if name.endswith(suffix) and isinstance(value, int | float):
            words = name.removesuffix(suffix) + ("_temp" if suffix == "_temp_c" else "")
            return _known(words.replace("_", " ")), f"{shown_value(value)} {unit}"
    return _known(name.replace("_", " ")), shown_value(value)


def shown_value(value: Any) -> str:
    """A stored value as a person writes it: 0.31, 12.0 → 12, lists with commas."""
    if isinstance(value, bool):
        return gettext("yes") if value else gettext("no")
    if isinstance(value, float):
        return f"{value:.1f}" if abs(value) >= 1 or value == 0 else f"{value:.2f}"
    if isinstance(value, list | tuple):
        return ", ".join(shown_value(each) for each in value[:12])[:120]
    return str(value)[:120]


def reasons_of(proposal: Proposal) -> list[dict[str, Any]]:
    """The verdict's reasons, as far as they are ones."""
    return [reason for reason in proposal.reasons if isinstance(reason, dict)]


def is_advice(proposal: Proposal) -> bool:
    """An agent's order refused only because its level is to recommend: a person may adopt it."""
    if proposal.proposer_agent_id is None or proposal.status != Status.REJECTED.value:
        return False
    return any(reason.get("code") in ADVISORY for reason in reasons_of(proposal))


# --- one order's life ----------------------------------------------------------------------------

_TRANSITION_WORDS = {
    Status.PENDING_APPROVAL.value: _("Held for a person"),
    Status.APPROVED.value: _("Approved"),
    Status.EXECUTING.value: _("Taken up by the machine loop"),
    Status.COMPLETED.value: _("Completed"),
    Status.REJECTED.value: _("Rejected"),
    Status.FAILED.value: _("Failed"),
    Status.ABORTED.value: _("Aborted"),
    Status.TIMEOUT.value: _("Expired undecided"),
    Status.IN_DOUBT.value: _("In doubt"),
}
_STAGE_WORDS = {
    "queued": _("Queued"),
    "released": _("Released"),
    "sent": _("Sent"),
    "acknowledged": _("Acknowledged"),
    "read_back": _("Read back"),
    "verified": _("Verified"),
    "contradicted": _("Contradicted"),
    "in_doubt": _("In doubt"),
    "effect": _("Effect seen"),
}
_ORDER_OF = {
    "heater": OrderType.SET_POWER.value, "fan": OrderType.SET_FAN.value, "drum": OrderType.SET_DRUM.value,
}  # fmt: skip
_DETAIL_KEYS = ("message", "says", "text", "reason", "code", "writes", "value_after", "actual_step", "step", "took_ms")


def _write_words(writes: Any) -> str:
    """`2 writes: heater −1`: how many, and what the first one meant. (The bytes themselves are in the wire log.)"""
    count = len(writes) if isinstance(writes, list) else writes
    words = ngettext("%(count)s write", "%(count)s writes", count) % {"count": count}
    if isinstance(writes, list) and isinstance(writes[0], dict) and writes[0].get("meaning"):
        words += f": {meaning_words(writes[0]['meaning'])}"
    return words


def meaning_words(meaning: object) -> str:
    """What one write meant, as the codec words it (`heater -1`), with the control's own name."""
    control, _space, rest = str(meaning).replace("-", MINUS).partition(" ")
    word = str(ORDER_WORDS[_ORDER_OF[control]]) if control in _ORDER_OF and not is_english() else control
    return f"{word} {rest}".strip()


def is_english() -> bool:
    """Whether the page shows the record's own words."""
    return (get_language() or "en").startswith("en")


def _detail_words(detail: dict[str, Any]) -> str:
    """The part of a stored detail a person can use, in one line."""
    words = []
    for key in _DETAIL_KEYS:
        value = detail.get(key)
        if value in (None, "", []):
            continue
        if key == "writes":
            words.append(_write_words(value))
        elif key in ("value_after", "actual_step", "step"):
            words.append(gettext("step %(step)s") % {"step": value})
        elif key == "took_ms":
            words.append(gettext("first byte after %(ms)s ms") % {"ms": value})
        elif str(value) not in words:
            words.append(str(value).replace("_", " ") if key in ("code", "reason") else str(value))
    return " · ".join(words)[:300]


def order_steps(proposal: Proposal) -> tuple[Step, ...]:
    """Proposal, verdict, decisions and wire stages of one order, oldest first (needs its prefetches)."""
    proposer = proposer_name(proposal)
    steps = [Step(proposal.proposed_at, gettext("Proposed"), proposer, asked_words(proposal))]
    for transition in proposal.transitions.all():
        if transition.to_status == Status.PROPOSED.value:
            continue
        word = str(_TRANSITION_WORDS.get(transition.to_status, transition.to_status))
        if transition.to_status == Status.REJECTED.value and transition.actor_kind == "system":
            word = gettext("Refused by the governor")
        abnormal = transition.to_status in ABNORMAL_STATUSES
        rank = 0 if transition.to_status == Status.EXECUTING.value else 2  # taken up before, settled after the wire
        steps.append(Step(transition.at, word, transition.actor_name, _detail_words(transition.detail), abnormal, rank))
    execution = getattr(proposal, "execution", None)
    if execution is not None and execution.first_byte_at is not None:
        steps.append(Step(execution.first_byte_at, gettext("First byte on the wire"), rank=1))
    for stage in execution.stages.all() if execution else ():
        word = str(_STAGE_WORDS.get(stage.stage, stage.stage.replace("_", " ")))
        abnormal = stage.stage in ("contradicted", "in_doubt")
        steps.append(Step(stage.at, word, "", _detail_words(stage.detail), abnormal, 1))
    return tuple(sorted(_in_order(steps), key=lambda step: (step.at, step.rank)))


def _in_order(steps: list[Step]) -> list[Step]:
    """What is on the wire comes after its taking up, whatever two clocks a few milliseconds apart say."""
    taken_up = next((step.at for step in steps if step.word == _TRANSITION_WORDS[Status.EXECUTING.value]), None)
    if taken_up is None:
        return steps
    return [replace(step, at=max(step.at, taken_up)) if step.rank == 1 else step for step in steps]


def proposer_name(proposal: Proposal) -> str:
    """Agent with its release, or the person's name."""
    if proposal.proposer_agent is not None:
        return f"{proposal.proposer_agent.name} {proposal.agent_release}".strip()
    return proposal.proposer_user.get_username() if proposal.proposer_user else "?"


def _why_not(proposal: Proposal, principal: Principal) -> str:
    """Why this person may not decide this order; empty when they may."""
    if not principal.may("operate"):
        return gettext("Only an operator decides.")
    user_id = principal.user.pk if principal.user else None
    if proposal.proposer_user_id is not None and proposal.proposer_user_id == user_id:
        return gettext("This is your own order: somebody else decides.")
    if proposal.proposer_agent is not None and proposal.proposer_agent.owner_id == user_id:
        return gettext("You own this agent: somebody else decides.")
    return ""


def order_view(
    proposal: Proposal, principal: Principal, full_scale: dict[tuple[str, str], int], *, has_steps: bool
) -> OrderView:
    """One order in words for this person."""
    word, icon = STATUS_WORDS.get(proposal.status, (proposal.status, "question"))
    advises = is_advice(proposal)
    if proposal.status == Status.REJECTED.value and proposal.decision == "REFUSE":
        word = gettext("Advice") if advises else gettext("Refused")
    if proposal.runs_at is not None and proposal.status in VETO_STATUSES:
        word, icon = gettext("Runs unless vetoed"), "clock"
    why_not = _why_not(proposal, principal)
    return OrderView(
        proposal=proposal,
        title=order_title(proposal),
        percents=order_percents(proposal, full_scale),
        asked=asked_words(proposal),
        proposer=proposer_name(proposal),
        is_by_agent=proposal.proposer_agent_id is not None,
        status_word=str(word),
        icon=icon,
        is_abnormal=proposal.status in ABNORMAL_STATUSES,
        steps=order_steps(proposal) if has_steps else (),
        evidence=evidence_lines(proposal.evidence),
        hold_reasons=tuple(reason for reason in reasons_of(proposal) if reason.get("decision", "HOLD") in _ASKING),
        may_decide=not why_not,
        why_not=why_not,
        viewer_id=principal.user.pk if principal.user else None,
        is_advice=advises and proposal.decision == "REFUSE",
    )
