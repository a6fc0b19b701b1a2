"""The words of the model: people, orders, grants and what the machine reads, as the product's spec has them. Pure.

Nothing here knows the product (`simulation/oracle.py` says why). Times are seconds since the house began;
temperatures °C, rates °C/min.
"""

from __future__ import annotations

import dataclasses

CONTROL_OF = {"SET_POWER": "heater", "SET_FAN": "fan", "SET_DRUM": "drum"}
STATE_ORDERS = ("PREHEAT", "CHARGE", "DROP", "COOL")
OPERATING = frozenset({"operator", "lead", "admin"})
LEADING = frozenset({"lead", "admin"})
BEFORE_WIRE = frozenset({"PENDING_APPROVAL", "APPROVED"})
ON_WIRE = frozenset({"EXECUTING", "IN_DOUBT"})
COUNTED = frozenset({"APPROVED", "EXECUTING", "COMPLETED", "FAILED", "IN_DOUBT"})
SETTLED = frozenset({"REJECTED", "COMPLETED", "FAILED", "ABORTED", "TIMEOUT"})
#: Every move an order may make, and who may make it: the spec's lifecycle.
MOVES: dict[tuple[str, str], frozenset[str]] = {
    ("", "PROPOSED"): frozenset({"system"}),
    ("PROPOSED", "PENDING_APPROVAL"): frozenset({"system"}),
    ("PROPOSED", "APPROVED"): frozenset({"system"}),
    ("PROPOSED", "REJECTED"): frozenset({"system"}),
    ("PENDING_APPROVAL", "APPROVED"): frozenset({"person", "system"}),  # system: a veto window that ended
    ("PENDING_APPROVAL", "REJECTED"): frozenset({"person"}),
    ("PENDING_APPROVAL", "ABORTED"): frozenset({"person", "agent", "system"}),
    ("PENDING_APPROVAL", "TIMEOUT"): frozenset({"system"}),
    ("APPROVED", "EXECUTING"): frozenset({"system"}),
    ("APPROVED", "REJECTED"): frozenset({"system", "person"}),  # person: a veto
    ("APPROVED", "ABORTED"): frozenset({"person", "system"}),
    ("APPROVED", "TIMEOUT"): frozenset({"system"}),
    ("EXECUTING", "COMPLETED"): frozenset({"system"}),
    ("EXECUTING", "FAILED"): frozenset({"system"}),
    ("EXECUTING", "ABORTED"): frozenset({"system"}),
    ("EXECUTING", "IN_DOUBT"): frozenset({"system"}),
    ("IN_DOUBT", "COMPLETED"): frozenset({"person", "system"}),
    ("IN_DOUBT", "FAILED"): frozenset({"person", "system"}),
    ("IN_DOUBT", "ABORTED"): frozenset({"system"}),
}
#: Refusals that are advice, and the predecessor's names of codes.
ADVICE = frozenset({"no_grant", "level_recommends_only", "hand_act_countdown", "other_release"})
LEGACY = {
    "level_too_low": "AUTONOMY_LEVEL_TOO_LOW", "level_recommends_only": "AGENT_COMMANDS_NOT_ALLOWED",
    "no_grant": "AGENT_COMMANDS_NOT_ALLOWED", "hand_act_countdown": "AGENT_COMMANDS_NOT_ALLOWED",
    "above_ceiling": "CONSTRAINT_VIOLATION", "below_floor": "CONSTRAINT_VIOLATION",
    "change_too_large": "CONSTRAINT_VIOLATION",
    "ramp_too_steep": "CONSTRAINT_VIOLATION", "target_missing": "CONSTRAINT_VIOLATION",
    "target_not_supported": "CONSTRAINT_VIOLATION", "unit_does_not_fit": "CONSTRAINT_VIOLATION",
    "failure_rate_too_high": "HIGH_FAILURE_RATE", "session_limit_reached": "SESSION_COMMAND_LIMIT",
}  # fmt: skip
TOLERANCE_C = 3.0
UNSURE_C = 0.7  # a prediction this close to the tolerance may fall either way: we do not know the product's decimals
VETO_WINDOW_S = 15.0
ATTENDED_S = 300.0
FAILURE_WINDOW_S = 3600.0


@dataclasses.dataclass(frozen=True, slots=True)
class Person:
    """Somebody with an API key. ``owner`` is an agent's; agents have no roles."""

    name: str
    organization: str
    roles: frozenset[str] = frozenset()
    owner: str = ""
    is_agent: bool = False

    @property
    def may_operate(self) -> bool:
        return not self.is_agent and bool(self.roles & OPERATING)

    @property
    def may_lead(self) -> bool:
        return not self.is_agent and bool(self.roles & LEADING)


@dataclasses.dataclass(frozen=True, slots=True)
class Limit:
    """The envelope of one control; ``high`` is also 100 percent."""

    low: int
    high: int
    longest: int
    interval_s: float
    daily: int
    per_roast: int
    ramp: float | None = None  # steps per second between agents' orders


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """What the machine's loop read last. ``poor``: fields that are not fresh."""

    at_s: float
    state: str
    steps: dict[str, int | None]
    bean_c: float | None
    poor: frozenset[str] = frozenset()
    link: str = "up"
    are_beans_proved: bool = False
    is_in_roast: bool = False
    is_latched: bool = False
    is_after_crack: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """A proposal's body, as far as it matters. ``expires_in_s`` only shortens."""

    order_type: str
    value: float | None = None
    unit: str = ""
    expires_in_s: float | None = None
    max_step: int | None = None
    max_change: int | None = None
    forbidden_state: str = ""


@dataclasses.dataclass(slots=True)
class Order:
    """An order as the model sees it. ``rate`` °C/min: what the product says it rose by when it was proposed."""

    order_id: str
    proposer: str
    asked: Asked
    control: str
    target: int | None
    status: str
    proposed_s: float
    expires_s: float
    seen: Look
    refusals: tuple[str, ...] = ()
    digest: str = ""
    needed: int = 1
    approvers: tuple[str, ...] = ()
    decided_s: float | None = None
    settled_s: float | None = None
    runs_s: float | None = None  # end of its veto window
    adopted_from: str = ""
    is_by_agent: bool = False
    rate: float | None = None
    roast: bool = False
    decision: str = ""
    is_reviewed: bool = False
    outcome: str = ""
    plan: str = ""
    ran_from: int | None = None  # read just before its first byte
    actual: int | None = None  # read back at its end

    @property
    def is_advice(self) -> bool:
        return self.status == "REJECTED" and bool(ADVICE & set(self.refusals)) and not self.approvers


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where an order of a plan stands when it is judged. (The default: an order by itself.)"""

    plan: str = ""
    left: tuple[tuple[str, int], ...] = ()  # where orders before it, still to come, leave the controls
    seen: tuple[tuple[str, int], ...] = ()  # where all before it leave what its proposer saw
    before: tuple[str, ...] = ()  # the controls of those before it, which count as given
    ignored: frozenset[str] = frozenset()  # orders let through with it, which do not count yet
    own: frozenset[str] = frozenset()  # those before it on its control: they moved it when they were settled
    is_distance_kept: bool = False  # interval and ramp are waited for
    floor: str = "none"  # the plan's significance
    expires_in_s: float | None = None


@dataclasses.dataclass(slots=True)
class Plan:
    """Several orders as one. ``floor``: the highest significance it contains."""

    plan_id: str
    proposer: str
    order_ids: tuple[str, ...]
    digest: str
    floor: str
    is_by_agent: bool = False
    is_open: bool = True


@dataclasses.dataclass(slots=True)
class Grant:
    grant_id: str
    agent: str
    level: str
    order_types: frozenset[str]
    expires_s: float | None
    is_live: bool = True
    granted_s: float = 0.0
    lowered_s: float | None = None
    told: frozenset[tuple[str, str]] = frozenset()  # breakers that tripped on it already


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What the governor must say: the decision, and every code that refuses, in its order."""

    decision: str
    refusals: tuple[str, ...]
    needed: int = 1

    @property
    def rejection(self) -> str:
        return LEGACY.get(self.refusals[0], self.refusals[0]) if self.refusals else ""


@dataclasses.dataclass(frozen=True, slots=True)
class Expected:
    """An answer: status, and the code of a refusal ("" where it is none)."""

    status: int
    code: str = ""
