"""What the governor looks at: frozen values only. Pure.

Gathered by ``commands.situation`` with a fixed number of queries; built by hand in tests, by the thousand.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from commands.reasons import Decision, Reason
from commands.rules.conversion import OrderType
from commands.rules.significance import DEFAULT_TABLE, LEVELS, Rated, Row, Significance, highest, move_of, rate


class Phase(enum.StrEnum):
    """When the rules run."""

    PROPOSAL = "proposal"
    DISPATCH = "dispatch"  # just before the wire


class Level(enum.StrEnum):
    """How far an agent is trusted."""

    L1 = "L1"  # assist: may not order
    L2 = "L2"  # recommend: advice only
    L3 = "L3"  # act with approval
    L4 = "L4"  # act with veto: runs after a window in which any operator may veto
    L5 = "L5"  # act with audit: runs at once, reviewed after


Matrix = Mapping[Level, Mapping[Significance, Decision]]


def _across(*decisions: Decision) -> dict[Significance, Decision]:
    return dict(zip(LEVELS, decisions, strict=True))


_A, _V, _H, _R = Decision.ALLOW, Decision.VETO, Decision.HOLD, Decision.REFUSE
#: Level × significance (none, watch, warning, distress, critical, severe) of an agent's order. Severe is XTCE's
#: *forbidden*: no agent, whatever its level.
DEFAULT_MATRIX: Matrix = {
    Level.L1: _across(_R, _R, _R, _R, _R, _R),
    Level.L2: _across(_R, _R, _R, _R, _R, _R),
    Level.L3: _across(_H, _H, _H, _H, _H, _R),
    Level.L4: _across(_V, _V, _V, _H, _H, _R),
    Level.L5: _across(_A, _A, _A, _V, _H, _R),
}


@dataclass(frozen=True, slots=True)
class Policy:
    """The governor's own numbers and tables. Ratios 0–1, times in seconds, temperatures °C.

    One version per organisation is in force (``commands.rules.policy`` has its document); 0 is the house's own.
    """

    version: int = 0
    failure_threshold: float = 0.3  # strictly more refuses
    failure_min_settled: int = 5
    failure_window_s: float = 3600.0
    session_limit: int = 60  # agents' orders in one roast
    max_age_heat_up_s: float = 1.0
    max_age_s: float = 3.0
    max_clock_skew_s: float = 1.0  # a reading from further in the future is not believed
    prediction_tolerance_c: float = 3.0
    expires_off_roast_s: float = 300.0
    expires_in_roast_s: float = 45.0
    expires_after_first_crack_s: float = 20.0
    expires_own_order_s: float = 20.0
    veto_window_s: float = 15.0  # L4: from the proposal to the wire
    attendance_max_age_s: float = 300.0  # a presence confirmed longer ago does not count
    drill_max_age_s: float = 86_400.0  # a STOP drill longer ago does not count
    breaker_error_rate: float = 0.05  # strictly more of the settled lowers the grant …
    breaker_min_settled: int = 20  # … of at least so many …
    breaker_window_s: float = 300.0  # … in this time
    breaker_failures_of_type: int = 3  # so many failures of one order type in that time lower it, too
    confirm_from: Significance | None = Significance.DISTRESS  # approving asks for a tick from here
    two_person_from: Significance | None = Significance.CRITICAL  # a held agent's order needs two people from here
    own_second_from: Significance | None = None  # a person's own order needs a second person from here
    table: tuple[Row, ...] = DEFAULT_TABLE
    matrix: Matrix = field(default_factory=lambda: DEFAULT_MATRIX)
    fault: str = ""  # the stored version cannot be read: agents are refused until a lead writes another


DEFAULT_POLICY = Policy()


@dataclass(frozen=True, slots=True)
class Timing:
    """What decides how long an order may wait."""

    is_persons_own: bool
    is_in_roast: bool
    is_after_first_crack: bool
    policy: Policy = DEFAULT_POLICY


@dataclass(frozen=True, slots=True)
class Constraints:
    """Stricter limits the proposer asked for. None: did not ask. Looser ones than the machine's change nothing."""

    min_step: int | None = None
    max_step: int | None = None
    max_change_step: int | None = None
    min_interval_s: float | None = None
    max_ramp_step_per_s: float | None = None
    daily_count: int | None = None
    require_states: frozenset[str] = frozenset()
    forbidden_states: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Limits:
    """The machine's envelope of one control, native steps."""

    min_step: int
    max_step: int
    full_scale_step: int
    max_change_step: int
    min_interval_s: float
    daily_count: int
    roast_count: int
    max_ramp_step_per_s: float | None = None  # agents' change ÷ time since the last; None: no bound


@dataclass(frozen=True, slots=True)
class ReadingLook:
    """The newest reading, as the governor needs it. ``age_s`` at the situation's ``now``."""

    age_s: float
    state: str  # a drivers.port.MachineState
    steps: Mapping[str, int | None] = field(default_factory=dict)  # heater, fan, drum
    bean_temp_c: float | None = None
    rate_of_rise_c_per_min: float | None = None  # ours, causal
    device_ms: int = 0
    sequence: int = 0
    quality: Mapping[str, str] = field(default_factory=dict)  # only fields that are not fresh
    link: str = "up"
    at: dt.datetime | None = None
    interval_s: float | None = None  # how far apart this source's readings come; None: fast


@dataclass(frozen=True, slots=True)
class Seen:
    """What the machine read when the order was proposed: its grounds."""

    state: str = ""
    steps: Mapping[str, int | None] = field(default_factory=dict)
    bean_temp_c: float | None = None
    rate_of_rise_c_per_min: float | None = None
    device_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for, natively. ``misfit``: why the target could not be converted (code, message, cure)."""

    order_type: OrderType
    control: str
    target_step: int | None
    is_by_agent: bool
    proposer_id: str
    proposer_name: str
    expires_at: dt.datetime
    constraints: Constraints = Constraints()
    misfit: tuple[str, str, str] | None = None
    proposal_id: str = ""
    seen: Seen | None = None
    is_approved: bool = False  # all the people it needs have approved it (dispatch)
    agent_release: str = ""
    runs_at: dt.datetime | None = None  # end of the veto window it was given (dispatch)
    plan_id: str = ""
    floor: Rated | None = None  # significance of what it is part of (a plan): it has at least that
    is_proposer_active: bool = True
    asked_value: float | None = None
    asked_unit: str = ""
    preheat_c: int | None = None  # whole °C, with PREHEAT where one was asked for


@dataclass(frozen=True, slots=True)
class GrantLook:
    """The live grant of this agent here. Empty ``order_types``: all settings, no states; empty release: any.

    ``level`` is what it is worth now; ``signed_level`` what the lead signed, where a circuit breaker lowered it.
    """

    level: str
    order_types: frozenset[str] = frozenset()
    expires_at: dt.datetime | None = None
    agent_release: str = ""
    signed_level: str = ""


@dataclass(frozen=True, slots=True)
class Fitness:
    """What must stand before any agent acts on a machine. None: never."""

    commissioned_at: dt.datetime | None = None  # of the commissioning in force
    drilled_at: dt.datetime | None = None  # the newest STOP drill
    is_drill_passed: bool = False


@dataclass(frozen=True, slots=True)
class AttendanceLook:
    """Who said last that they are at the machine, and when."""

    name: str
    at: dt.datetime


@dataclass(frozen=True, slots=True)
class HaltLook:
    """An open halt."""

    kind: str
    code: str = ""
    halt_id: str = ""


@dataclass(frozen=True, slots=True)
class UnsettledLook:
    """Another order that may still move a control."""

    proposal_id: str
    status: str
    control: str
    is_by_agent: bool
    proposer_name: str = ""
    plan_id: str = ""


@dataclass(frozen=True, slots=True)
class Recent:
    """Counts over agents' orders here, this order left out; the server's clock."""

    last_on_control_at: dt.datetime | None = None  # newest that moved this control, or is about to
    day_count: int = 0  # on this control, last 24 hours
    roast_count: int = 0  # on this control, this roast
    session_count: int = 0  # this roast, any control
    settled_count: int = 0  # of this agent, in the window
    failed_count: int = 0


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything the rules may look at. None means unknown, and unknown never permits."""

    now: dt.datetime
    phase: Phase
    order: Order
    machine_name: str
    is_machine_archived: bool
    limits: Limits | None
    reading: ReadingLook | None
    are_beans_proved: bool
    machine_kind: str  # a key of drivers.registry.KINDS: it has a table in commands.rules.states
    is_orders_paused: bool
    is_store_reachable: bool
    keeper_latched: bool | None  # None: not asked (only the loop can)
    halts: tuple[HaltLook, ...]
    suspended_by: str | None
    grant: GrantLook | None
    unsettled: tuple[UnsettledLook, ...]
    recent: Recent
    roast_id: str | None = None
    is_in_roast: bool = False
    is_after_first_crack: bool = False
    policy: Policy = DEFAULT_POLICY
    fitness: Fitness = Fitness()
    attendance: AttendanceLook | None = None
    max_preheat_temp_c: float | None = None  # of the machine's envelope

    @property
    def from_step(self) -> int | None:
        """What the order's control reads now."""
        return self.reading.steps.get(self.order.control) if self.reading else None

    @property
    def is_heat_up(self) -> bool:
        """More heat than now; unknown counts as more."""
        if self.order.control != "heater":
            return self.order.order_type is OrderType.PREHEAT or self.order.order_type is OrderType.CHARGE
        if self.order.target_step is None or self.from_step is None:
            return True
        return self.order.target_step > self.from_step

    @property
    def is_safe_direction(self) -> bool:
        """Less heat, or beans out, or cooling: exempt from counting and interval rules."""
        if self.order.order_type in (OrderType.DROP, OrderType.COOL):
            return True
        return self.is_heat_down

    @property
    def is_heat_down(self) -> bool:
        """Provably less heat than now."""
        return (
            self.order.control == "heater"
            and self.order.target_step is not None
            and self.from_step is not None
            and self.order.target_step < self.from_step
        )

    @property
    def rated(self) -> Rated | None:
        """How much the order matters by the policy's table; None where no row fits it."""
        order, full_scale = self.order, self.limits.full_scale_step if self.limits else None
        state = self.reading.state if self.reading else "unknown"
        move = move_of(order.order_type, self.from_step, order.target_step, full_scale, state)
        own = rate(move, self.policy.table)
        return own if order.floor is None else highest((own, order.floor))

    @property
    def is_attended(self) -> bool:
        """A person's presence at this machine was confirmed within the policy's time, its last moment included."""
        if self.attendance is None:
            return False
        age_s = (self.now - self.attendance.at).total_seconds()
        return -self.policy.max_clock_skew_s <= age_s <= self.policy.attendance_max_age_s


@dataclass(frozen=True, slots=True)
class ApprovalLook:
    """Who wants to approve what."""

    is_person: bool
    may_approve: bool
    is_proposer: bool
    is_owner_of_proposer: bool
    status: str
    settled_by: str  # who or what settled it, for the message
    digest: str
    given_digest: str
    expires_at: dt.datetime
    now: dt.datetime
    has_approved: bool = False  # this person has said yes to it already


Rule = Callable[[Situation], Iterable[Reason]]
