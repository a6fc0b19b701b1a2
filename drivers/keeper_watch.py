"""The keeper's own interlocks: heat only, and they know nothing of governor, database or agents. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from drivers.keeper_config import Limits
from drivers.port import FIRMWARE_OWNS_HEAT, MachineState, Quality, Reading, longest_age_s

LOOP_SILENT_S = 2.0
NEVER_HEARD_GRACE_S = 10.0  # after our own start a loop may take this long to come
STALE_HEAT_DOWN_S = 5.0
ABOVE_FOR_S = 1.0
INFRARED_SETTLING_MS = 60_000  # of machine time, after the roast's start
RETRY_UNPROVED_S = 2.0
#: While these last no maximum of a temperature holds: a hot, empty drum is what the machine heats up to.
BEFORE_THE_ROAST = FIRMWARE_OWNS_HEAT | {MachineState.OFF}


class Reason(enum.StrEnum):
    """Why the keeper makes a machine safe by itself."""

    LOOP_SILENT = "loop_silent"
    STALE_READING = "stale_reading"
    BEAN_TOO_HOT = "bean_above_maximum"
    INFRARED_TOO_HOT = "infrared_above_maximum"
    EXHAUST_TOO_HOT = "exhaust_above_maximum"
    HEAT_TOO_LONG = "heat_on_too_long"


@dataclass(frozen=True, slots=True)
class View:
    """What the watch sees at one tick."""

    now_s: float
    is_link_open: bool
    reading: Reading | None
    loop_silent_s: float | None  # None: never heard since our start
    up_for_s: float  # how long this keeper runs
    link_up_for_s: float
    is_applying: bool
    is_latched: bool
    interval_s: float = 0.0  # how far apart the machine's readings come


class Watch:
    """Remembers since when a limit is passed. One instance per keeper; no clock of its own."""

    def __init__(self, limits: Limits, silence_policy: str) -> None:
        self._limits = limits
        self._is_heat_off_policy = silence_policy == "heat_off"
        self._above_since_s: dict[Reason, float] = {}
        self._roasting_since_ms: int | None = None
        self._heat_since_ms: int | None = None
        self._moved_at_s: float | None = None  # the last reading that was not the same frame again

    def set_limits(self, limits: Limits) -> None:
        """From the next tick on. What it remembers (since when it heats) stays."""
        self._limits = limits

    def tick(self, view: View) -> Reason | None:
        """The reason to make safe and latch now, or None. Silent while already latched."""
        self._follow(view.reading)
        if view.is_latched:
            self._above_since_s.clear()
            return None
        checks = (
            (Reason.BEAN_TOO_HOT, self._is_bean_too_hot(view.reading)),
            (Reason.INFRARED_TOO_HOT, self._is_infrared_too_hot(view.reading)),
            (Reason.EXHAUST_TOO_HOT, self._is_exhaust_too_hot(view.reading)),
        )
        for reason, is_above in checks:
            if not is_above:
                self._above_since_s.pop(reason, None)
            elif view.now_s - self._above_since_s.setdefault(reason, view.now_s) >= ABOVE_FOR_S:
                return reason
        if self._is_heat_too_long(view.reading):
            return Reason.HEAT_TOO_LONG
        if self._is_stale(view):
            return Reason.STALE_READING
        if self._is_heat_off_policy and is_loop_silent(view) and _may_be_heating(view):
            return Reason.LOOP_SILENT
        return None

    def _follow(self, reading: Reading | None) -> None:
        """Since when, in machine time, does it roast, and heat? When did its telemetry last move?"""
        if reading is not None and reading.quality.get("state") is not Quality.STALE:
            self._moved_at_s = reading.monotonic_s
        if reading is None or reading.state not in (MachineState.ROASTING, MachineState.UNKNOWN):
            self._roasting_since_ms = self._heat_since_ms = None
            return
        if self._roasting_since_ms is None:
            self._roasting_since_ms = reading.device_ms
        if not reading.heater_step:
            self._heat_since_ms = None
        elif self._heat_since_ms is None:
            self._heat_since_ms = reading.device_ms

    def _is_bean_too_hot(self, reading: Reading | None) -> bool:
        limit = self._limits.max_bean_temp_c
        if reading is None or limit is None or reading.state in BEFORE_THE_ROAST:
            return False
        return reading.bean_temp_c is not None and reading.bean_temp_c > limit

    def _is_infrared_too_hot(self, reading: Reading | None) -> bool:
        limit = self._limits.max_infrared_temp_c
        if reading is None or limit is None or self._roasting_since_ms is None:
            return False
        if reading.device_ms - self._roasting_since_ms < INFRARED_SETTLING_MS:
            return False
        return reading.infrared_temp_c is not None and reading.infrared_temp_c > limit

    def _is_exhaust_too_hot(self, reading: Reading | None) -> bool:
        """Where there is a sensor (below −20 °C there is none) and somebody set a maximum."""
        limit = self._limits.max_exhaust_temp_c
        if reading is None or limit is None or reading.state in BEFORE_THE_ROAST:
            return False
        return reading.exhaust_temp_c is not None and reading.exhaust_temp_c > limit

    def _is_heat_too_long(self, reading: Reading | None) -> bool:
        limit_s = self._limits.max_heat_time_s
        if reading is None or limit_s is None or self._heat_since_ms is None:
            return False
        return reading.device_ms - self._heat_since_ms > limit_s * 1000

    def _is_stale(self, view: View) -> bool:
        """The cable is in and nothing comes: the heater may be on, so down, blind."""
        bound_s = longest_age_s(STALE_HEAT_DOWN_S, view.interval_s)
        if not view.is_link_open or view.link_up_for_s <= bound_s:
            return False
        if view.reading is None or view.reading.age_s(view.now_s) > bound_s:
            return True
        is_frozen = self._moved_at_s is not None and view.now_s - self._moved_at_s > bound_s
        return is_frozen and _may_be_heating(view)


def is_loop_silent(view: View) -> bool:
    """Nobody who decides has been heard for 2 s (10 s where none came since our start)."""
    if view.is_applying:
        return False
    if view.loop_silent_s is None:
        return view.up_for_s > NEVER_HEARD_GRACE_S
    return view.loop_silent_s > LOOP_SILENT_S


def _may_be_heating(view: View) -> bool:
    """The link is open and the heater is not known to be at 0."""
    if not view.is_link_open:
        return False
    if view.reading is None or view.reading.heater_step is None:
        return True
    return view.reading.heater_step > 0 and view.reading.state is not MachineState.OFF


def should_try_again(view: View, *, is_proved: bool, ended_ago_s: float) -> bool:
    """A stop that could not be proved is tried again once readings come again from a state where heat is ours."""
    is_new_link = view.link_up_for_s < ended_ago_s  # that attempt had no device: nothing to wait for
    if is_proved or view.reading is None or (ended_ago_s < RETRY_UNPROVED_S and not is_new_link):
        return False
    is_fresh = view.is_link_open and view.reading.age_s(view.now_s) < longest_age_s(1.0, view.interval_s)
    return is_fresh and not view.reading.quality.get("heater_step") and view.reading.state not in FIRMWARE_OWNS_HEAT
