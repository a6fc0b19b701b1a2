"""Why an order was refused, held or allowed: stable codes, with the predecessor's beside them. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any


class Decision(enum.StrEnum):
    """What a verdict says; the worst reason decides."""

    ALLOW = "ALLOW"
    VETO = "VETO"  # runs after a window in which any operator may veto
    HOLD = "HOLD"
    REFUSE = "REFUSE"


#: How bad each is: the larger wins.
_SEVERITY = {Decision.ALLOW: 0, Decision.VETO: 1, Decision.HOLD: 2, Decision.REFUSE: 3}


def worst(decisions: list[Decision] | tuple[Decision, ...]) -> Decision:
    """The worst of them; with none there is no ground to permit anything: REFUSE."""
    return max(decisions, key=_SEVERITY.__getitem__, default=Decision.REFUSE)


def is_worse(decision: Decision, than: Decision) -> bool:
    """``decision`` wins over ``than``."""
    return _SEVERITY[decision] > _SEVERITY[than]


class Code(enum.StrEnum):
    """Stable reason codes of this room."""

    OWN_ORDER = "own_order"
    APPROVAL_REQUIRED = "approval_required"
    VETO_WINDOW = "veto_window"
    ACTS_WITH_AUDIT = "acts_with_audit"
    NOT_ATTENDED = "not_attended"
    VETO_WINDOW_TOO_LONG = "veto_window_too_long"
    VETO_WINDOW_OPEN = "veto_window_open"
    NOT_COMMISSIONED = "not_commissioned"
    NO_STOP_DRILL = "no_stop_drill"
    SIGNIFICANCE = "significance"
    NO_SIGNIFICANCE = "no_significance"
    SECOND_PERSON = "second_person_required"
    POLICY_UNREADABLE = "policy_unreadable"
    OTHER_RELEASE = "other_release"
    RAMP_TOO_STEEP = "ramp_too_steep"
    LEVEL_TOO_LOW = "level_too_low"
    LEVEL_RECOMMENDS_ONLY = "level_recommends_only"
    UNKNOWN_LEVEL = "unknown_level"
    NO_GRANT = "no_grant"
    HAND_ACT = "hand_act_countdown"
    PROPOSER_INACTIVE = "proposer_inactive"
    MACHINE_ARCHIVED = "machine_archived"
    TARGET_MISSING = "target_missing"
    TARGET_NOT_SUPPORTED = "target_not_supported"
    UNIT_DOES_NOT_FIT = "unit_does_not_fit"
    NO_ENVELOPE = "no_envelope"
    ABOVE_CEILING = "above_ceiling"
    BELOW_FLOOR = "below_floor"
    CHANGE_TOO_LARGE = "change_too_large"
    TOO_SOON = "too_soon"
    DAILY_COUNT = "daily_count_reached"
    ROAST_COUNT = "roast_count_reached"
    WRONG_STATE = "wrong_state"
    FIRMWARE_OWNS_HEAT = "firmware_owns_heat"
    NOT_BY_WIRE = "not_by_wire"
    PREHEAT_OUT_OF_RANGE = "preheat_out_of_range"
    BEANS_NOT_PROVED = "beans_not_proved"
    READING_UNKNOWN = "reading_unknown"
    STALE_READING = "stale_reading"
    POOR_QUALITY = "poor_quality"
    LINK_DOWN = "link_down"
    HALTED = "halted"
    SUSPENDED = "suspended"
    ORDERS_PAUSED = "orders_paused"
    STORE_UNREACHABLE = "store_unreachable"
    FAILURE_RATE = "failure_rate_too_high"
    SESSION_LIMIT = "session_limit_reached"
    CONFLICT = "conflict"
    EXPIRED = "expired"
    CONTROL_MOVED = "control_moved"
    LEFT_PREDICTION = "left_prediction"
    NOT_APPROVED = "not_approved"
    RULE_ERROR = "rule_error"
    NO_RULES = "no_rules"
    # why a held order was called off, or an approval turned away
    SUPERSEDED = "superseded"
    VETOED = "vetoed"
    ADOPTED = "adopted"
    WITHDRAWN = "withdrawn"
    AGENTS_CANNOT_APPROVE = "agents_cannot_approve"
    PROPOSER_CANNOT_APPROVE = "proposer_cannot_approve"
    OWNER_CANNOT_APPROVE = "owner_cannot_approve"
    ROLE_REQUIRED = "role_required"
    NOT_AWAITING_APPROVAL = "not_awaiting_approval"
    STALE_DIGEST = "stale_digest"
    APPROVED_ALREADY = "approved_already"
    # how an attempt ended
    NOT_SENT = "not_sent"
    CONTRADICTED = "contradicted"
    IN_DOUBT = "in_doubt"
    RESOLVED_BY_READING = "resolved_by_reading"
    NOT_REACHED = "not_reached"
    RESOLVED_BY_PERSON = "resolved_by_person"
    # of an order that is part of a plan: another one decided
    PLAN_REFUSED = "plan_refused"
    PLAN_HELD = "plan_held"
    PLAN_VETO = "plan_open_to_veto"


#: The predecessor's codes, for clients that know them.
LEGACY: dict[Code, str] = {
    Code.OWN_ORDER: "MANUAL_COMMAND_ALLOWED",
    Code.APPROVAL_REQUIRED: "APPROVAL_REQUIRED",
    Code.VETO_WINDOW: "HIGH_AUTONOMY_LEVEL",
    Code.ACTS_WITH_AUDIT: "HIGH_AUTONOMY_LEVEL",
    Code.LEVEL_TOO_LOW: "AUTONOMY_LEVEL_TOO_LOW",
    Code.LEVEL_RECOMMENDS_ONLY: "AGENT_COMMANDS_NOT_ALLOWED",
    Code.NO_GRANT: "AGENT_COMMANDS_NOT_ALLOWED",
    Code.OTHER_RELEASE: "AGENT_COMMANDS_NOT_ALLOWED",
    Code.NOT_COMMISSIONED: "AGENT_COMMANDS_NOT_ALLOWED",
    Code.NO_STOP_DRILL: "AGENT_COMMANDS_NOT_ALLOWED",
    Code.RAMP_TOO_STEEP: "CONSTRAINT_VIOLATION",
    Code.HAND_ACT: "AGENT_COMMANDS_NOT_ALLOWED",
    Code.UNKNOWN_LEVEL: "UNKNOWN_AUTONOMY_LEVEL",
    Code.ABOVE_CEILING: "CONSTRAINT_VIOLATION",
    Code.BELOW_FLOOR: "CONSTRAINT_VIOLATION",
    Code.CHANGE_TOO_LARGE: "CONSTRAINT_VIOLATION",
    Code.TARGET_MISSING: "CONSTRAINT_VIOLATION",
    Code.TARGET_NOT_SUPPORTED: "CONSTRAINT_VIOLATION",
    Code.UNIT_DOES_NOT_FIT: "CONSTRAINT_VIOLATION",
    Code.NO_ENVELOPE: "CONSTRAINT_VIOLATION",
    Code.PREHEAT_OUT_OF_RANGE: "CONSTRAINT_VIOLATION",
    Code.FAILURE_RATE: "HIGH_FAILURE_RATE",
    Code.SESSION_LIMIT: "SESSION_COMMAND_LIMIT",
}

#: A refusal for one of these is advice: a person may adopt it.
ADVISORY = frozenset(
    {
        Code.NO_GRANT, Code.OTHER_RELEASE, Code.LEVEL_RECOMMENDS_ONLY, Code.HAND_ACT, Code.NOT_COMMISSIONED,
        Code.NO_STOP_DRILL,
    }
)  # fmt: skip


class RejectCode(enum.StrEnum):
    """Why a person rejected a held order (the predecessor's seven)."""

    SAFETY_CONCERN = "SAFETY_CONCERN"
    WRONG_TIMING = "WRONG_TIMING"
    INCORRECT_TARGET = "INCORRECT_TARGET"
    MACHINE_UNAVAILABLE = "MACHINE_UNAVAILABLE"
    SESSION_MISMATCH = "SESSION_MISMATCH"
    OPERATOR_OVERRIDE = "OPERATOR_OVERRIDE"
    OTHER = "OTHER"  # needs a text


@dataclass(frozen=True, slots=True)
class Reason:
    """One rule's word: what it decides, the value it saw, the bound it used, what would change it."""

    code: Code
    decision: Decision
    message: str
    how_to_fix: str = ""
    value: Any = None
    bound: Any = None

    def to_json(self) -> dict[str, Any]:
        """As stored and shown; ``legacy_code`` only where the predecessor had one."""
        document: dict[str, Any] = {
            "code": self.code.value,
            "decision": self.decision.value,
            "message": self.message,
            "how_to_fix": self.how_to_fix,
            "value": self.value,
            "bound": self.bound,
        }
        if self.code in LEGACY:
            document["legacy_code"] = LEGACY[self.code]
        return document


@dataclass(frozen=True, slots=True)
class Verdict:
    """What all rules together say; every reason is kept."""

    decision: Decision
    reasons: tuple[Reason, ...]
    tracebacks: tuple[str, ...] = ()  # of rules that raised

    @property
    def refusals(self) -> tuple[Reason, ...]:
        return tuple(reason for reason in self.reasons if reason.decision is Decision.REFUSE)

    @property
    def is_advice(self) -> bool:
        """Refused because agents may only advise here."""
        return any(reason.code in ADVISORY for reason in self.refusals)


def weigh(reasons: tuple[Reason, ...]) -> Verdict:
    """The worst reason decides; no reason at all refuses."""
    return Verdict(worst([reason.decision for reason in reasons]), reasons)
