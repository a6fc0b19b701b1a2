"""The console's words: rows that were gathered, put so that an operator understands them at once.

In the language that is active (English where none is): tables are translated when they are shown.

Reads what it is given (with its prefetches) and asks the database nothing. `console.py` gathers.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from commands.models import Halt, OrderType, Proposal, Status
from commands.reasons import ADVISORY
from kernel.principals import Principal
from roasts.models import ControlLimit, EventKind, Machine, MachineReading, Roast, RoastEvent, RoastStatus

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

CONTROL_WORDS = {"heater": _("Heater"), "fan": _("Fan"), "drum": _("Drum")}
ORDER_WORDS = {
    OrderType.SET_POWER.value: _("Heater"),
    OrderType.SET_FAN.value: _("Fan"),
    OrderType.SET_DRUM.value: _("Drum"),
    OrderType.PREHEAT.value: _("Preheat"),
    OrderType.CHARGE.value: _("Charge the beans"),
    OrderType.DROP.value: _("Drop the beans"),
    OrderType.COOL.value: _("Cool"),
}
ORDER_TYPE_OF = {
    "heater": OrderType.SET_POWER.value,
    "fan": OrderType.SET_FAN.value,
    "drum": OrderType.SET_DRUM.value,
}


@dataclass(frozen=True, slots=True)
class StateAct:
    """A press of the machine's own button that a person may ask for from here."""

    order_type: str
    word: StrOrPromise
    hint: StrOrPromise
    done: StrOrPromise


#: Machine state → what may be asked for in it. Charging stays a hand's work: the machine starts when beans fall in.
STATE_ACTS = {
    "off": (
        StateAct(
            OrderType.PREHEAT.value, _("Preheat"), _("Presses the button once: the machine heats by itself."),
            _("Preheat asked for."),
        ),
    ),
    "roasting": (
        StateAct(
            OrderType.DROP.value, _("Drop: end the roast"), _("Presses the button once; open the flap by hand."),
            _("Drop asked for. Open the flap."),
        ),
    ),
}  # fmt: skip
STATE_WORDS = {
    "off": _("Off"),
    "preheating": _("Preheating"),
    "stabilising": _("Stabilising"),
    "charge": _("Ready for beans"),
    "roasting": _("Roasting"),
    "cooling": _("Cooling"),
    "shutdown": _("Shutting down"),
    "unknown": _("State unknown"),
}
ROAST_STATUS_WORDS = {
    RoastStatus.PLANNED.value: _("planned"),
    RoastStatus.PREHEATING.value: _("preheating"),
    RoastStatus.CHARGED.value: _("charged"),
    RoastStatus.ROASTING.value: _("roasting"),
    RoastStatus.COOLING.value: _("cooling"),
    RoastStatus.FINISHED.value: _("finished"),
    RoastStatus.ABORTED.value: _("aborted"),
}
EVENT_WORDS = {
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
#: Marks a person may press, with the key that does it. The turning point is seen by the machine alone.
PRESSABLE_MARKS = (
    (EventKind.DRY_END.value, "D"),
    (EventKind.FIRST_CRACK_START.value, "F"),
    (EventKind.FIRST_CRACK_END.value, "G"),
    (EventKind.SECOND_CRACK_START.value, "2"),
    (EventKind.DROP.value, "O"),
)
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
LEVEL_WORDS = (
    ("L1", _("L1 assist: may not order")),
    ("L2", _("L2 recommend: advice only")),
    ("L3", _("L3 act with approval")),
)
LINK_WORDS = {
    MachineReading.Link.UP.value: _("Link up"),
    MachineReading.Link.STALE.value: _("Readings stopped"),
    MachineReading.Link.DOWN.value: _("Link down"),
    MachineReading.Link.KEEPER_LOST.value: _("Keeper lost"),
    MachineReading.Link.NEVER.value: _("Not connected yet"),
    "untended": _("Nobody tends this machine"),
}
KEEPER_LOST_ADVICE = _("STOP cannot be proved from here: use the panel or the mains.")
DECISION_WORDS = {"ALLOW": _("allow"), "VETO": _("veto"), "HOLD": _("hold"), "REFUSE": _("refuse")}


@dataclass(frozen=True, slots=True)
class LinkWords:
    """The link in a few words; `advice` is what a person should do about it."""

    word: str
    is_normal: bool
    advice: str = ""
    is_down: bool = False  # no cable, or nothing at its other end


@dataclass(frozen=True, slots=True)
class HaltView:
    """A latched stop, and whether beans may still lie in the hot drum now."""

    halt: Halt
    may_hold_hot_beans: bool

    @property
    def by_hand(self) -> list[str]:
        """What hands must still do; the beans have a sentence of their own, which knows when they are out."""
        return [line for line in self.halt.by_hand if "beans" not in line.lower()]


@dataclass(frozen=True, slots=True)
class ControlView:
    """One control as shown: native step and percent of full scale."""

    name: str
    word: str
    step: int | None
    percent: int | None
    min_step: int
    max_step: int
    full_scale_step: int
    order_type: str


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

    @property
    def decision_word(self) -> str:
        """The governor's verdict."""
        return str(DECISION_WORDS.get(self.proposal.decision, self.proposal.decision.lower()))

    @property
    def rejection_word(self) -> str:
        """The reason a person gave by its button."""
        return str(REJECTION_WORDS.get(self.proposal.rejection_code, self.proposal.rejection_code))


@dataclass(frozen=True, slots=True)
class Mark:
    """The standing mark of a kind: a person's before an inferred one."""

    id: str
    kind: str
    word: str
    elapsed_ms: int
    source: str
    by: str
    is_by_person: bool
    may_withdraw: bool


@dataclass(frozen=True, slots=True)
class RoastView:
    """A roast's head: which, since when, and its marks."""

    roast: Roast
    is_open: bool
    phase: str
    marks: tuple[Mark, ...]

    @property
    def status_word(self) -> str:
        return str(ROAST_STATUS_WORDS.get(self.roast.status, self.roast.status))

    def for_script(self) -> dict[str, Any]:
        """What the page's script needs to draw it (times in device milliseconds since charge)."""
        return {
            "roast_id": self.roast.pk,
            "is_open": self.is_open,
            "status": self.roast.status,
            "device_start_ms": self.roast.device_start_ms,
            "started_at": self.roast.started_at.isoformat(),
            "marks": [
                {"id": m.id, "kind": m.kind, "word": m.word, "elapsed_ms": m.elapsed_ms, "source": m.source}
                for m in self.marks
            ],
        }


# --- words ---------------------------------------------------------------------------------------


def latest_of(machine: Machine) -> MachineReading | None:
    """The machine's latest row, or None when no loop ever wrote one."""
    return getattr(machine, "latest", None)


def link_words(link: str, code: str, message: str) -> LinkWords:
    """The link's state and what to do about it, as `machine_state.link_of` found it."""
    if link == MachineReading.Link.NEVER.value:
        return LinkWords(
            str(LINK_WORDS[link]), False, gettext("Switch the machine on and plug it in; it is found by itself.")
        )
    word = str(LINK_WORDS.get(link, link))
    message = gettext(message)  # those of known_sentences; any other stays as it was written
    if link == MachineReading.Link.UP.value:
        return LinkWords(word, True)
    if code and code not in (link, "stale_reading"):
        word = f"{word}: {code.replace('_', ' ')}"
    if link == MachineReading.Link.KEEPER_LOST.value:
        message = f"{message} {KEEPER_LOST_ADVICE}".strip()
    return LinkWords(word, False, message, is_down=link == MachineReading.Link.DOWN.value)


def state_word(state: str) -> str:
    """The machine's state; one we do not know as it calls it."""
    return str(STATE_WORDS.get(state, state))


def phase_word(state: str, mark_kinds: set[str]) -> str:
    """Where the roast stands, in a roaster's words, from the machine's state and the standing marks."""
    if state != "roasting":
        return state_word(state)
    if EventKind.FIRST_CRACK_START.value in mark_kinds:
        return gettext("Development")
    if EventKind.DRY_END.value in mark_kinds:
        return gettext("Maillard")
    return gettext("Drying")


def percent_of(step: int | None, full_scale_step: int) -> int | None:
    """Native step as percent of full scale, nearest; None when either is unknown."""
    if step is None or not full_scale_step:
        return None
    return round(100 * step / full_scale_step)


def control_views(latest: MachineReading | None, limits: list[ControlLimit]) -> tuple[ControlView, ...]:
    """Heater, fan, drum in that order, as far as the envelope names them."""
    by_name = {limit.control: limit for limit in limits}
    views = []
    for name, word in CONTROL_WORDS.items():
        limit = by_name.get(name)
        if limit is None:
            continue
        step = getattr(latest, f"{name}_step") if latest else None
        views.append(
            ControlView(
                name=name,
                word=str(word),
                step=step,
                percent=percent_of(step, limit.full_scale_step),
                min_step=limit.min_step,
                max_step=limit.max_step,
                full_scale_step=limit.full_scale_step,
                order_type=ORDER_TYPE_OF[name],
            )
        )
    return tuple(views)


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
    unit = {"percent": "%", "rpm": "rpm", "celsius": "°C"}.get(proposal.asked_unit, proposal.asked_unit)
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


#: `kind` comes first anyway; the machine's uptime tells a person nothing.
_UNSAID = frozenset({"kind", "from_device_ms", "to_device_ms"})


def _pairs(item: dict[Any, Any]) -> str:
    """`rate of rise: rate 22.2 °C/min, bound 21.6 °C/min` from a mapping, its `kind` first."""
    said = [(key, value) for key, value in list(item.items())[:8] if key not in _UNSAID and value is not None]
    pairs = [_named_value(str(key), value) for key, value in said]
    kind = str(item.get("kind", "")).replace("_", " ")
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


def _named_value(name: str, value: Any) -> str:
    """`rate_of_rise_c_per_min: 16.8` → `rate of rise 16.8 °C/min`."""
    if name.endswith("_ms") and isinstance(value, int | float) and value >= MINUTES_FROM_MS:
        minutes, seconds = divmod(int(value) // 1000, 60)
        return f"{name.removesuffix('_ms').replace('_', ' ')} {minutes}:{seconds:02d}"
    for suffix, unit in _UNITS:
        if name.endswith(suffix) and isinstance(value, int | float):
            words = name.removesuffix(suffix) + ("_temp" if suffix == "_temp_c" else "")
            return f"{words.replace('_', ' ')} {_shown_value(value)} {unit}"
    return f"{name.replace('_', ' ')} {_shown_value(value)}"


def _shown_value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.1f}"
    return str(value)[:120]


def is_advice(proposal: Proposal) -> bool:
    """An agent's order refused only because its level is to recommend: a person may adopt it."""
    if proposal.proposer_agent_id is None or proposal.status != Status.REJECTED.value:
        return False
    return any(reason.get("code") in ADVISORY for reason in proposal.reasons)


def standing_marks(events: list[RoastEvent]) -> tuple[Mark, ...]:
    """One mark of each kind, by time: a person's latest first, then the device's, then an inferred one."""
    rank = {"person": 2, "device": 1, "inferred": 0}
    chosen: dict[str, RoastEvent] = {}
    for event in events:
        if event.withdrawn_at is not None or event.kind == EventKind.NOTE.value:
            continue
        best = chosen.get(event.kind)
        if best is None or (rank[event.source], event.at) >= (rank[best.source], best.at):
            chosen[event.kind] = event
    return tuple(
        Mark(
            id=event.pk,
            kind=event.kind,
            word=str(EVENT_WORDS.get(event.kind, event.kind)),
            elapsed_ms=event.elapsed_ms,
            source=event.source,
            by=event.marked_by.get_username() if event.marked_by else "",
            is_by_person=event.source == "person",
            may_withdraw=event.source != "device",
        )
        for event in sorted(chosen.values(), key=lambda e: e.elapsed_ms)
    )


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
}
_DETAIL_KEYS = ("message", "text", "reason", "code", "writes", "value_after", "actual_step", "step", "took_ms")


def _write_words(writes: Any) -> str:
    """`2 writes: heater −1`: how many, and what the first one meant. (The bytes themselves are in the wire log.)"""
    count = len(writes) if isinstance(writes, list) else writes
    words = ngettext("%(count)s write", "%(count)s writes", count) % {"count": count}
    if isinstance(writes, list) and isinstance(writes[0], dict) and writes[0].get("meaning"):
        words += f": {writes[0]['meaning'].replace('-', MINUS)}"
    return words


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
    if proposal.status == Status.REJECTED.value and proposal.decision == "REFUSE":
        word = gettext("Advice") if is_advice(proposal) else gettext("Refused")
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
        hold_reasons=tuple(reason for reason in proposal.reasons if reason.get("decision", "HOLD") == "HOLD"),
        may_decide=not why_not,
        why_not=why_not,
    )
