"""The driver port: what every roaster looks like to the rooms above.

Plain values and one protocol. No Django, no decisions, no storage. Every call is bounded in time.
Temperatures are °C, rates °C/min, controls native steps; a sensor that is not there is ``None``,
never 0 or -1.
"""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass, field
from typing import Any, Protocol


class Control(enum.StrEnum):
    """The settings a machine may expose."""

    HEATER = "heater"
    FAN = "fan"
    DRUM = "drum"


class Quality(enum.StrEnum):
    """How far a field of a reading may be believed."""

    FRESH = "fresh"
    STALE = "stale"
    ABSENT = "absent"


class MachineState(enum.StrEnum):
    """States every model's own codes are mapped to; ``UNKNOWN`` permits nothing."""

    OFF = "off"
    PREHEATING = "preheating"  # R1 2, 0x23, 0x24; R2 2
    STABILISING = "stabilising"  # R1, R2 3
    CHARGE = "charge"  # R1, R2 4: ready, waiting for beans
    ROASTING = "roasting"  # R1, R2 6 (R1 5 and 7 are short and count with their neighbour: see the codec)
    COOLING = "cooling"  # R1 8; R2 7, 8
    SHUTDOWN = "shutdown"  # R1, R2 9
    UNKNOWN = "unknown"


#: A source slower than ours is fresh for so many of its own intervals (spec/commands.md, rule *state*) …
FRESH_INTERVALS = 2.5
#: … as far as it may be slow: one that says it is slower still is judged as if it came this often.
SLOWEST_INTERVAL_S = 10.0


def longest_age_s(bound_s: float, interval_s: float | None) -> float:
    """How old, in seconds, a reading may be where ``bound_s`` holds for a machine that reports ten times a second.

    ``interval_s``: how far apart this source's readings come. None, or anything that is no number: fast.
    """
    if interval_s is None or not interval_s > 0:
        return bound_s
    return max(bound_s, FRESH_INTERVALS * min(interval_s, SLOWEST_INTERVAL_S))


#: In these the firmware, not we, holds the heater: a heater step proves nothing.
FIRMWARE_OWNS_HEAT = frozenset({MachineState.PREHEATING, MachineState.STABILISING, MachineState.CHARGE})


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the machine says it is. Unknown fields are None. ``hours_on`` in hours."""

    model: str
    serial: str | None = None
    firmware: str | None = None
    hours_on: float | None = None
    roast_count: int | None = None
    extras: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ControlRange:
    """Native steps, inclusive, and the longest move one order may make."""

    min_step: int
    max_step: int


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an opened driver can do."""

    controls: dict[Control, ControlRange]
    states: frozenset[MachineState]  # states that can be asked for by `apply`
    poll_interval_s: float
    fields: frozenset[str]  # names of Reading fields this machine fills


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at the machine. ``device_ms`` is the machine's own time (a virtual one may run faster);
    ``at``/``monotonic_s`` ours. ``sequence`` rises by one per reading of this connection.
    """

    sequence: int
    at: dt.datetime
    monotonic_s: float
    device_ms: int
    state: MachineState
    state_code: int | None = None
    bean_temp_c: float | None = None  # BT: the probe in the beans
    infrared_temp_c: float | None = None  # shown as ET on a Bullet (Artisan's convention for device 99)
    environment_temp_c: float | None = None  # ET of machines that have such a probe, beside or instead of infrared
    exhaust_temp_c: float | None = None
    ambient_temp_c: float | None = None
    rate_of_rise_c_per_min: float | None = None  # the machine's own, if it sends one
    infrared_rate_c_per_min: float | None = None
    heater_step: int | None = None
    fan_step: int | None = None
    drum_step: int | None = None
    fan_rpm: int | None = None
    voltage_v: int | None = None
    preheat_target_c: float | None = None
    roast_clock_s: int | None = None
    error_codes: tuple[int, ...] = ()
    quality: dict[str, Quality] = field(default_factory=dict)  # only fields that are not fresh
    extras: dict[str, Any] = field(default_factory=dict)

    def age_s(self, monotonic_s: float) -> float:
        """Seconds since this was read, on the reader's own monotonic clock."""
        return monotonic_s - self.monotonic_s

    def step_of(self, control: Control) -> int | None:
        """Present setting of a control in native steps."""
        return {Control.HEATER: self.heater_step, Control.FAN: self.fan_step, Control.DRUM: self.drum_step}[control]


@dataclass(frozen=True, slots=True)
class SettingOrder:
    """Bring one control to an absolute step. ``from_step`` is what the control must read just before
    the first byte (else DECLINED, `moved_at_machine`); ``allowed_states`` likewise. ``max_reading_age_s``: the bound
    for a fast machine (:func:`longest_age_s`).
    """

    order_id: str
    control: Control
    target_step: int
    from_step: int | None = None
    allowed_states: frozenset[MachineState] = frozenset()  # empty: the driver's own table decides
    max_reading_age_s: float = 1.0


@dataclass(frozen=True, slots=True)
class StateOrder:
    """Bring the machine into a state by its own button ring, each press checked.

    ``preheat_target_c``: with PREHEATING, on a machine whose preheat temperature can be set (a Bullet R2).
    """

    order_id: str
    target_state: MachineState
    from_state: MachineState | None = None
    max_reading_age_s: float = 1.0
    preheat_target_c: float | None = None


class Outcome(enum.StrEnum):
    """What a receipt can honestly say."""

    PROVED = "proved"  # read back at the target
    SENT = "sent"  # bytes left; not read back yet
    IN_DOUBT = "in_doubt"  # bytes may have left, result unknown
    DECLINED = "declined"  # nothing moved, or the machine went elsewhere: see `reason`
    NOT_SENT = "not_sent"  # provably nothing left
    UNPROVED = "unproved"  # make_safe only: sent all it could, could not prove


#: A receipt's reason where a person called the order off before it was all sent. Nothing more left; see its proof.
ABORTED = "aborted"
#: Orders called off that a driver remembers: more than can be on their way at once.
ABORTS_REMEMBERED = 100


@dataclass(frozen=True, slots=True)
class WireWrite:
    """Bytes that left for the machine, and when (monotonic seconds)."""

    monotonic_s: float
    data_hex: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What came of an order on the wire."""

    order_id: str
    outcome: Outcome
    reason: str = ""  # stable lower_snake code when not PROVED
    message: str = ""
    writes: tuple[WireWrite, ...] = ()
    value_before: int | None = None
    value_after: int | None = None
    proof: Reading | None = None
    started_monotonic_s: float = 0.0
    first_byte_monotonic_s: float | None = None
    proved_monotonic_s: float | None = None
    by_hand: tuple[str, ...] = ()  # what a person must still do


class DriverError(Exception):
    """Root of the room's errors; `code` is stable, `how_to_fix` is for a person."""

    code = "driver_error"

    def __init__(self, message: str, how_to_fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.how_to_fix = how_to_fix


class NotFound(DriverError):
    """No such machine is plugged in."""

    code = "not_found"


class NoPermission(DriverError):
    """It is there, but the operating system will not let us have it (names the udev rule)."""

    code = "no_permission"


class Busy(DriverError):
    """Another program holds it."""

    code = "busy"


class NotSent(DriverError):
    """Nothing left for the wire: may be tried again."""

    code = "not_sent"


class InDoubt(DriverError):
    """Something may have left: read back, never repeat."""

    code = "in_doubt"


class ProtocolError(DriverError):
    """Bytes that make no sense."""

    code = "protocol_error"


class Unplugged(DriverError):
    """It was there and is gone."""

    code = "unplugged"


class Driver(Protocol):
    """A roaster's driver. Not thread-safe except `make_safe`, which may be called from any thread while
    another one reads or applies: it goes first, and a running `apply` stops at its next step; and `abort`, after
    which the order of that id writes nothing more: its `apply` holds, reads back and says so (reason ``aborted``).
    """

    identity: Identity
    capabilities: Capabilities

    def open(self) -> None: ...

    def read(self) -> Reading: ...

    def apply(self, order: SettingOrder | StateOrder, deadline_s: float) -> Receipt: ...

    def make_safe(self, deadline_s: float, order_id: str = "make_safe") -> Receipt: ...

    def abort(self, order_id: str) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class WriteNote:
    """What a driver is about to put on the wire for an order, told before the first byte leaves."""

    data_hex: str
    meaning: str
    order_id: str
    step: int  # 1-based
    steps: int  # how many this order plans to write


class Hooks(Protocol):
    """Who owns a driver may listen. Called in the thread that reads or writes; must be quick, never raise."""

    def before_write(self, note: WriteNote) -> None: ...

    def after_write(self, note: WriteNote, monotonic_s: float) -> None: ...

    def on_reading(self, reading: Reading) -> None: ...


class NoHooks:
    """Nobody listens."""

    def before_write(self, note: WriteNote) -> None:
        return

    def after_write(self, note: WriteNote, monotonic_s: float) -> None:
        return

    def on_reading(self, reading: Reading) -> None:
        return
