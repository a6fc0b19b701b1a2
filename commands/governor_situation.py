"""What the governor looks at: frozen values only. Pure.

Gathered by ``commands.situation`` with a fixed number of queries; built by hand in tests, by the thousand.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from commands.conversion import OrderType
from commands.reasons import Reason


class Phase(enum.StrEnum):
    """When the rules run."""

    PROPOSAL = "proposal"
    DISPATCH = "dispatch"  # just before the wire


class Level(enum.StrEnum):
    """How far an agent is trusted."""

    L1 = "L1"  # assist: may not order
    L2 = "L2"  # recommend: advice only
    L3 = "L3"  # act with approval
    L4 = "L4"  # act with veto: not built yet, held like L3
    L5 = "L5"  # act with audit: not built yet, held like L3


@dataclass(frozen=True, slots=True)
class Policy:
    """The governor's own numbers. Ratios 0–1, times in seconds, temperatures °C."""

    version: int = 1
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
    is_approved: bool = False  # a person has approved it (dispatch)
    is_proposer_active: bool = True
    asked_value: float | None = None
    asked_unit: str = ""


@dataclass(frozen=True, slots=True)
class GrantLook:
    """The live grant of this agent here. Empty ``order_types``: all settings, no states."""

    level: str
    order_types: frozenset[str] = frozenset()
    expires_at: dt.datetime | None = None


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
    is_bullet: bool
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


Rule = Callable[[Situation], Iterable[Reason]]
