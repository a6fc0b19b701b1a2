"""Interlocks of the machine loop: what must not go on, whoever asked for it. Pure; knows nothing of the governor.

``step(state, observation, limits)`` is called for every reading and at least ten times a second without
one. A rule trips when its condition stood for its hold time, and clears when it was gone for its own
(hysteresis lies in the conditions). What a trip leads to is one of :class:`Act`. Times of staleness are
wall time; times of the roast are the machine's own (``device_ms``). A source slower than ours is fresh for 2.5 of
its own intervals where that is longer than 1, 3 or 5 s (``drivers.port.longest_age_s``).

| code | trips when | act |
|---|---|---|
| stale_reading | newest reading older than 3 s, link up | agents halted |
| stale_heat | older than 5 s, link up, heat possible | heat down |
| lost_device | the link is down (not in the first 3 s of a keeper that is starting) | agents halted, orders paused |
| keeper_lost | the keeper does not answer for 1 s | alarm: unproved |
| bean_over_temperature | probe above its maximum for 1 s (clears 5 °C below), once a roast began | heat down |
| infrared_over_temperature | the same for infrared, roasting, settled for 60 s after its reset | heat down |
| exhaust_over_temperature | the same for the exhaust, where there is a sensor and a lead set a maximum | heat down |
| rate_of_rise_too_high | our rate above its maximum for 3 s, armed 30 s after turning, clears 5 below | heat down |
| heat_without_warming | heater 5 of 9 or more for 60 s and the probe rose less than 1 °C, armed likewise | heat down |
| heat_on_too_long | heat on without a break for longer than the machine's bound | heat down |
| infrared_reset | infrared falls to 25.0 in mid-roast | agents halted |
| heat_while_halted | halted, and the heater reads above 0 for 2.5 s | safe again |
| bean_sensor_lost | no believable probe value for 3 s while roasting | alarm |
| infrared_sensor_lost | no believable infrared value for 3 s while roasting, where there was one before | alarm |
| bean_sensor_stuck | the probe shows one value for 9 s while roasting (7 s at most in 40 real roasts) | alarm |
| no_beans_seen | a charge was seen and 20 s later the probe had not fallen as beans make it fall | alarm |
| mains_low | voltage 15 % below the best seen, for 1 s (clears at 12 %) | alarm |
| machine_error | the machine reports error codes | alarm |
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from drivers.port import FIRMWARE_OWNS_HEAT, MachineState, Quality, Reading, longest_age_s

HEAT_UP_MAX_AGE_S = 1.0
AGENTS_MAX_AGE_S = 3.0
HEAT_MAX_AGE_S = 5.0
HYSTERESIS_C = 5.0
HYSTERESIS_C_PER_MIN = 5.0
EXHAUST_ABSENT_BELOW_C = -20.0  # a Bullet without an exhaust sensor reads −65 to −45 °C (reference §1.5)
#: While these last no maximum of a temperature holds.
BEFORE_THE_ROAST = FIRMWARE_OWNS_HEAT | {MachineState.OFF}
STARTING_S = 3.0  # a keeper that has just come opens its device; until then nothing is lost yet
ARMED_AFTER_TURN_MS = 30_000
SETTLING_MS = 60_000
INFRARED_RESET_C = 25.0
WARMING_WITHIN_MS = 60_000
WARMING_C = 1.0
WARMING_HEATER_STEP = 5  # of a Bullet R1's 9; another machine's own scale says its own
CLEAR_HOLD_S = 2.0
AGAIN_AFTER_S = 5.0
STUCK_AFTER_MS = 9_000
MAINS_LOW_SHARE, MAINS_WELL_SHARE = 0.85, 0.88
MAINS_V = range(50, 301)  # what a voltage can be at all; 0 is a machine that does not say


class Act(enum.StrEnum):
    """What a trip leads to, from mild to grave."""

    ALARM = "alarm"
    HALT_AGENTS = "halt_agents"  # alarm and an open Halt: nothing but making safe until a person looked
    HEAT_DOWN = "heat_down"  # make safe at once, latch, Halt, alarm
    SAFE_AGAIN = "safe_again"  # halted already: make safe once more


@dataclass(frozen=True, slots=True)
class Limits:
    """The machine's own bounds, in °C, °C/min and s of heat."""

    max_bean_temp_c: float = 225.0
    max_infrared_temp_c: float = 235.0
    max_exhaust_temp_c: float | None = None  # None: nobody set one, so it is not watched
    max_rate_of_rise_c_per_min: float = 45.0
    max_heat_time_s: float = 1500.0
    warming_heater_step: int = WARMING_HEATER_STEP


@dataclass(frozen=True, slots=True)
class Observation:
    """What the loop knows now. ``since_charge_ms`` and ``turned_ms`` are device time of the open roast."""

    monotonic_s: float
    is_keeper_up: bool
    is_link_up: bool
    link_message: str = ""
    link_code: str = ""
    reading: Reading | None = None
    reading_age_s: float | None = None
    rate_of_rise_c_per_min: float | None = None
    since_charge_ms: int | None = None
    turned_ms: int | None = None
    are_beans_missing: bool = False
    is_latched: bool = False
    interval_s: float | None = None  # how far apart the machine's readings come


@dataclass(frozen=True, slots=True)
class Alarm:
    """For a person: why, what follows, what to do."""

    code: str
    priority: str
    cause: str
    consequence: str
    action: str


@dataclass(frozen=True, slots=True)
class Trip:
    """A rule tripped."""

    act: Act
    alarm: Alarm


@dataclass(frozen=True, slots=True)
class Timer:
    """One rule's memory: since when its condition stands or is gone, and whether it has tripped."""

    bad_since_s: float | None = None
    gone_since_s: float | None = None
    tripped_s: float | None = None


@dataclass(frozen=True, slots=True)
class InterlockState:
    """All interlocks know between two steps."""

    timers: dict[str, Timer] = field(default_factory=dict)
    starting_since_s: float | None = None  # since when the keeper says that it has not opened its device yet
    settling_until_ms: int | None = None
    last_infrared_c: float | None = None
    is_infrared_reset: bool = False
    heat_since_ms: int | None = None
    warm_since_ms: int | None = None  # since when the probe has not risen by WARMING_C
    warm_from_c: float | None = None
    last_device_ms: int | None = None
    bean_same_since_ms: int | None = None  # since when the probe shows exactly ``last_bean_c`` while roasting
    last_bean_c: float | None = None
    best_voltage_v: int | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """What one look led to."""

    state: InterlockState
    trips: tuple[Trip, ...]
    cleared: tuple[str, ...]
    is_heat_up_allowed: bool


Condition = Callable[[Observation, InterlockState, Limits, bool], bool]


@dataclass(frozen=True, slots=True)
class Rule:
    """``is_bad(observation, state, limits, has_tripped)``; ``hold_s`` in wall seconds."""

    code: str
    act: Act
    hold_s: float
    priority: str
    is_bad: Condition
    cause: str
    consequence: str
    action: str
    again_after_s: float | None = None


def is_heat_possible(reading: Reading | None) -> bool:
    """Whether heat may be on as far as this reading can tell (never seen anything: no)."""
    if reading is None:
        return False
    return (reading.heater_step or 0) > 0 or reading.state in FIRMWARE_OWNS_HEAT | {MachineState.ROASTING}


def believed(reading: Reading | None, name: str) -> float | None:
    """A field unless the driver marks it stale or absent."""
    if reading is None or reading.quality.get(name, Quality.FRESH) is not Quality.FRESH:
        return None
    return getattr(reading, name)


def _is_armed(seen: Observation) -> bool:
    """30 s after the turning point, while roasting: before, the probe still finds the beans.

    A machine that tells no state (a line machine) roasts while a roast of it is open.
    """
    return (
        seen.reading is not None
        and seen.turned_ms is not None
        and seen.since_charge_ms is not None
        and seen.since_charge_ms - seen.turned_ms >= ARMED_AFTER_TURN_MS
        and seen.reading.state in (MachineState.ROASTING, MachineState.UNKNOWN)
    )


def _is_roasting(seen: Observation) -> bool:
    return seen.reading is not None and seen.reading.state is MachineState.ROASTING


def _is_stale(seen: Observation, bound_s: float) -> bool:
    is_there = seen.is_keeper_up and seen.is_link_up and seen.reading_age_s is not None
    return is_there and seen.reading_age_s > longest_age_s(bound_s, seen.interval_s)  # type: ignore[operator]


def _is_fresh(seen: Observation) -> bool:
    """Young enough to turn heat up by."""
    return seen.reading_age_s is not None and seen.reading_age_s <= longest_age_s(HEAT_UP_MAX_AGE_S, seen.interval_s)


def _may_be_too_hot(seen: Observation) -> bool:
    """Before a roast a hot, empty drum is what a machine heats up to: no maximum holds there."""
    return seen.reading is not None and seen.reading.state not in BEFORE_THE_ROAST


def _is_bean_hot(seen: Observation, _s: InterlockState, limits: Limits, has_tripped: bool) -> bool:
    temp_c = believed(seen.reading, "bean_temp_c")
    bound_c = limits.max_bean_temp_c - (HYSTERESIS_C if has_tripped else 0)
    return _may_be_too_hot(seen) and temp_c is not None and temp_c > bound_c


def _is_infrared_hot(seen: Observation, state: InterlockState, limits: Limits, has_tripped: bool) -> bool:
    temp_c = believed(seen.reading, "infrared_temp_c")
    if temp_c is None or not _is_roasting(seen) or _is_settling(seen, state):
        return False
    return temp_c > limits.max_infrared_temp_c - (HYSTERESIS_C if has_tripped else 0)


def _is_exhaust_hot(seen: Observation, _s: InterlockState, limits: Limits, has_tripped: bool) -> bool:
    temp_c, bound_c = believed(seen.reading, "exhaust_temp_c"), limits.max_exhaust_temp_c
    if temp_c is None or bound_c is None or temp_c < EXHAUST_ABSENT_BELOW_C:
        return False
    return _may_be_too_hot(seen) and temp_c > bound_c - (HYSTERESIS_C if has_tripped else 0)


def _is_lost(seen: Observation, state: InterlockState, _l: Limits, _t: bool) -> bool:
    """The link is down: at once, but for a keeper that has only just begun to open its device."""
    if not seen.is_keeper_up or seen.is_link_up:
        return False
    since_s = state.starting_since_s
    return since_s is None or seen.monotonic_s - since_s >= STARTING_S


def _is_settling(seen: Observation, state: InterlockState) -> bool:
    """Infrared climbs from 25.0 for a minute after its reset: it says nothing yet."""
    if seen.reading is None or state.settling_until_ms is None:
        return False
    return seen.reading.device_ms < state.settling_until_ms


def _is_rising_too_fast(seen: Observation, _s: InterlockState, limits: Limits, has_tripped: bool) -> bool:
    rate, bound = seen.rate_of_rise_c_per_min, limits.max_rate_of_rise_c_per_min
    return _is_armed(seen) and rate is not None and rate > bound - (HYSTERESIS_C_PER_MIN if has_tripped else 0)


def _is_not_warming(seen: Observation, state: InterlockState, _l: Limits, _t: bool) -> bool:
    if not _is_armed(seen) or seen.reading is None or state.warm_since_ms is None:
        return False
    return seen.reading.device_ms - state.warm_since_ms >= WARMING_WITHIN_MS


def _is_heat_too_long(seen: Observation, state: InterlockState, limits: Limits, _t: bool) -> bool:
    if seen.reading is None or state.heat_since_ms is None:
        return False
    return seen.reading.device_ms - state.heat_since_ms > limits.max_heat_time_s * 1000


def _is_heating_while_halted(seen: Observation, _s: InterlockState, _l: Limits, _t: bool) -> bool:
    reading = seen.reading
    if reading is None or not (seen.is_latched and _is_fresh(seen)) or reading.state in FIRMWARE_OWNS_HEAT:
        return False
    return (reading.heater_step or 0) > 0


def _is_bean_sensor_lost(seen: Observation, _s: InterlockState, _l: Limits, _t: bool) -> bool:
    return _is_fresh(seen) and _is_roasting(seen) and believed(seen.reading, "bean_temp_c") is None


def _is_infrared_lost(seen: Observation, state: InterlockState, _l: Limits, _t: bool) -> bool:
    """A machine that never showed one (no such sensor) is not reminded of it."""
    was_there = state.last_infrared_c is not None
    return was_there and _is_fresh(seen) and _is_roasting(seen) and believed(seen.reading, "infrared_temp_c") is None


def _is_bean_sensor_stuck(seen: Observation, state: InterlockState, _l: Limits, _t: bool) -> bool:
    if seen.reading is None or state.bean_same_since_ms is None:
        return False
    return seen.reading.device_ms - state.bean_same_since_ms >= STUCK_AFTER_MS


def _mains_v(reading: Reading) -> int | None:
    """The voltage, where it can be one."""
    return reading.voltage_v if reading.voltage_v in MAINS_V else None


def _is_mains_low(seen: Observation, state: InterlockState, _l: Limits, has_tripped: bool) -> bool:
    voltage_v = _mains_v(seen.reading) if seen.reading is not None else None
    if voltage_v is None or state.best_voltage_v is None:
        return False
    return voltage_v < state.best_voltage_v * (MAINS_WELL_SHARE if has_tripped else MAINS_LOW_SHARE)


_HALTED = "Agents are halted; nothing but making safe reaches the machine."
_HEAT_OFF = "Heat is being turned off and stays off until a lead resets the halt."
_PANEL = "Look at the roaster. Use its panel, or the mains, if heat must go."

RULES: tuple[Rule, ...] = (
    Rule(
        "stale_reading", Act.HALT_AGENTS, 0.0, "high",
        lambda seen, _s, _l, _t: _is_stale(seen, AGENTS_MAX_AGE_S) and is_heat_possible(seen.reading),
        "No fresh reading for more than {agents_age} s although the machine is plugged in.", _HALTED, _PANEL,
    ),
    Rule(
        "stale_heat", Act.HEAT_DOWN, 0.0, "high",
        lambda seen, _s, _l, _t: _is_stale(seen, HEAT_MAX_AGE_S) and is_heat_possible(seen.reading),
        "No fresh reading for more than {heat_age} s while heat may be on.", _HEAT_OFF, _PANEL,
    ),
    Rule(
        "lost_device", Act.HALT_AGENTS, 0.0, "high", _is_lost,
        "The machine cannot be reached: {link}", "Unproved: it goes on with its last settings. Orders are paused.",
        "Use the panel. Check cable and power; resume orders here once it answers again.",
    ),
    Rule(
        "keeper_lost", Act.ALARM, 1.0, "high",
        lambda seen, _s, _l, _t: not seen.is_keeper_up,
        "The process that holds the machine does not answer.", "Unproved: nothing can be read or sent just now.",
        "Use the panel. It is being restarted.",
    ),
    Rule(
        "bean_over_temperature", Act.HEAT_DOWN, 1.0, "high", _is_bean_hot,
        "Bean temperature {bean} °C is above the machine's maximum of {max_bean} °C.", _HEAT_OFF,
        "Drop the beans by hand. Watch for smoke.",
    ),
    Rule(
        "infrared_over_temperature", Act.HEAT_DOWN, 1.0, "high", _is_infrared_hot,
        "Infrared temperature {infrared} °C is above the machine's maximum of {max_infrared} °C.", _HEAT_OFF,
        "Drop the beans by hand. Watch for smoke.",
    ),
    Rule(
        "exhaust_over_temperature", Act.HEAT_DOWN, 1.0, "high", _is_exhaust_hot,
        "Exhaust temperature {exhaust} °C is above the machine's maximum of {max_exhaust} °C.", _HEAT_OFF,
        "Look at the exhaust and the chaff. Watch for smoke; if it burns, leave the fan and cut the mains.",
    ),
    Rule(
        "rate_of_rise_too_high", Act.HEAT_DOWN, 3.0, "high", _is_rising_too_fast,
        "The beans warm by {rate} °C/min, more than the machine's maximum of {max_rate}.", _HEAT_OFF,
        "Look at the drum. Drop by hand if it smokes.",
    ),
    Rule(
        "heat_without_warming", Act.HEAT_DOWN, 0.0, "high", _is_not_warming,
        "Heater at {heater} for 60 s and the probe rose less than 1 °C.", _HEAT_OFF,
        "Check the bean probe and the drum before resetting.",
    ),
    Rule(
        "heat_on_too_long", Act.HEAT_DOWN, 0.0, "high", _is_heat_too_long,
        "Heat has been on without a break for longer than {max_heat} s.", _HEAT_OFF, "Drop the beans or use the panel.",
    ),
    Rule(
        "infrared_reset", Act.HALT_AGENTS, 0.0, "medium",
        lambda _o, state, _l, _t: state.is_infrared_reset,
        "The infrared sensor was reset in mid-roast: the machine may believe in a new charge.",
        f"{_HALTED} Infrared means nothing for 60 s.", "Look at the machine, then clear this halt.",
    ),
    Rule(
        "heat_while_halted", Act.SAFE_AGAIN, 2.5, "high", _is_heating_while_halted,
        "The heater reads {heater} although the machine is halted.", "Heat is being turned off again.",
        "Keep hands off the heater, or use the panel.", again_after_s=AGAIN_AFTER_S,
    ),
    Rule(
        "bean_sensor_lost", Act.ALARM, 3.0, "high", _is_bean_sensor_lost,
        "The bean probe gives no believable value.", "Heat cannot be turned up; marks are not drawn.",
        "Roast by eye and ear, or drop.",
    ),
    Rule(
        "infrared_sensor_lost", Act.ALARM, 3.0, "medium", _is_infrared_lost,
        "The infrared sensor gives no believable value.",
        "Its over-temperature interlock is blind; the bean probe's still watches.", "Look at the sensor's window.",
    ),
    Rule(
        "bean_sensor_stuck", Act.ALARM, 0.0, "medium", _is_bean_sensor_stuck,
        "The bean probe has shown exactly {bean} °C for 9 s and more: it may be stuck.",
        "Temperature, rate of rise and what agents propose may be wrong.", "Roast by eye and ear; look at the probe.",
    ),
    Rule(
        "no_beans_seen", Act.ALARM, 0.0, "high", lambda seen, _s, _l, _t: seen.are_beans_missing,
        "The machine began a roast, but the probe saw no beans fall in.",
        "Heat may be on in an empty drum. Agents may not heat up.",
        "Look into the drum. Turn the heat down if it is empty.",
    ),
    Rule(
        "mains_low", Act.ALARM, 1.0, "medium", _is_mains_low,
        "Mains voltage is {volts} V; the best seen here was {best_volts} V.",
        "Heat is weaker than its setting says, and the machine may restart.",
        "Look at the supply: a long lead, or another load on the same circuit.",
    ),
    Rule(
        "machine_error", Act.ALARM, 0.5, "medium",
        lambda seen, _s, _l, _t: seen.reading is not None and bool(seen.reading.error_codes),
        "The machine reports error {errors}.", "See the maker's list; 1024 is a probe out of range, 6864 and 47 a fan.",
        "Look at the panel.",
    ),
)  # fmt: skip


def step(state: InterlockState, seen: Observation, limits: Limits) -> Step:
    """Run every rule on what is known now."""
    state = _remembered(_starting(state, seen), seen, limits)
    timers, trips, cleared = dict(state.timers), [], []
    for rule in RULES:
        before = timers.get(rule.code, Timer())
        is_bad = rule.is_bad(seen, state, limits, before.tripped_s is not None)
        timer = _timed(rule, before, is_bad, seen.monotonic_s)
        if timer.tripped_s is not None and timer.tripped_s != before.tripped_s:
            trips.append(Trip(rule.act, _alarm(rule, seen, state, limits)))
        if timer.tripped_s is None and before.tripped_s is not None:
            cleared.append(rule.code)
        timers[rule.code] = timer
    state = replace(state, timers=timers)
    return Step(state, tuple(trips), tuple(cleared), _may_heat_up(seen, state))


def standing(state: InterlockState) -> frozenset[str]:
    """Codes of rules that have tripped and not cleared."""
    return frozenset(code for code, timer in state.timers.items() if timer.tripped_s is not None)


#: Alarms that are told and forbid nothing by themselves.
INFORMS_ONLY = frozenset({"machine_error", "infrared_sensor_lost", "bean_sensor_stuck", "no_beans_seen", "mains_low"})


def _may_heat_up(seen: Observation, state: InterlockState) -> bool:
    return (
        seen.is_keeper_up
        and seen.is_link_up
        and _is_fresh(seen)
        and not seen.is_latched
        and not standing(state) - INFORMS_ONLY
    )


def _timed(rule: Rule, timer: Timer, is_bad: bool, now_s: float) -> Timer:
    if is_bad:
        bad_since_s = now_s if timer.bad_since_s is None else timer.bad_since_s
        if timer.tripped_s is None:
            is_due = now_s - bad_since_s >= rule.hold_s
        else:
            is_due = rule.again_after_s is not None and now_s - timer.tripped_s >= rule.again_after_s
        return Timer(bad_since_s, None, now_s if is_due else timer.tripped_s)
    if timer.tripped_s is None:
        return Timer()
    gone_since_s = now_s if timer.gone_since_s is None else timer.gone_since_s
    if now_s - gone_since_s >= CLEAR_HOLD_S:
        return Timer()
    return Timer(None, gone_since_s, timer.tripped_s)


def _starting(state: InterlockState, seen: Observation) -> InterlockState:
    """Since when a keeper says that it is starting; anything else it says ends that."""
    is_starting = seen.is_keeper_up and not seen.is_link_up and seen.link_code == "starting"
    since_s = (seen.monotonic_s if state.starting_since_s is None else state.starting_since_s) if is_starting else None
    return replace(state, starting_since_s=since_s)


def _remembered(state: InterlockState, seen: Observation, limits: Limits) -> InterlockState:
    """What must be carried from reading to reading: infrared's reset, heat's duration, warming."""
    reading = seen.reading
    if reading is None or reading.device_ms == state.last_device_ms:
        return state
    if state.last_device_ms is not None and reading.device_ms < state.last_device_ms:  # another connection
        state = replace(state, settling_until_ms=None, heat_since_ms=None, warm_since_ms=None, last_infrared_c=None)
    state = _mains(_bean(_infrared(state, seen, reading), seen, reading), reading)
    is_heating = (reading.heater_step or 0) > 0 and reading.state in (MachineState.ROASTING, MachineState.UNKNOWN)
    heat_since_ms = (reading.device_ms if state.heat_since_ms is None else state.heat_since_ms) if is_heating else None
    warming = _warming(state, seen, reading, limits.warming_heater_step)
    return replace(warming, heat_since_ms=heat_since_ms, last_device_ms=reading.device_ms)


def _infrared(state: InterlockState, seen: Observation, reading: Reading) -> InterlockState:
    temp_c, before_c = believed(reading, "infrared_temp_c"), state.last_infrared_c
    if temp_c is None:
        return state
    has_reset = before_c is not None and before_c - temp_c > 50 and temp_c <= INFRARED_RESET_C + 1
    is_mid_roast = seen.since_charge_ms is not None and seen.since_charge_ms > SETTLING_MS and _is_roasting(seen)
    is_over = state.settling_until_ms is not None and reading.device_ms >= state.settling_until_ms
    return replace(
        state,
        last_infrared_c=temp_c,
        settling_until_ms=reading.device_ms + SETTLING_MS if has_reset else state.settling_until_ms,
        is_infrared_reset=(has_reset and is_mid_roast) or (state.is_infrared_reset and not is_over),
    )


def _bean(state: InterlockState, seen: Observation, reading: Reading) -> InterlockState:
    """Since when the probe shows one and the same value."""
    temp_c = believed(reading, "bean_temp_c")
    if temp_c is None or not _is_roasting(seen):
        return replace(state, bean_same_since_ms=None, last_bean_c=None)
    if temp_c == state.last_bean_c:
        return state
    return replace(state, bean_same_since_ms=reading.device_ms, last_bean_c=temp_c)


def _mains(state: InterlockState, reading: Reading) -> InterlockState:
    """The best voltage seen: what the mains here can do."""
    voltage_v = _mains_v(reading)
    if voltage_v is None or voltage_v <= (state.best_voltage_v or 0):
        return state
    return replace(state, best_voltage_v=voltage_v)


def _warming(state: InterlockState, seen: Observation, reading: Reading, heater_step: int) -> InterlockState:
    """Watched only once armed: until the turning point the probe falls whatever the heater does."""
    temp_c = believed(reading, "bean_temp_c")
    is_watched = (reading.heater_step or 0) >= heater_step and _is_armed(seen)
    if not is_watched or temp_c is None:
        return replace(state, warm_since_ms=None, warm_from_c=None) if not is_watched else state
    if state.warm_from_c is None or temp_c >= state.warm_from_c + WARMING_C:
        return replace(state, warm_since_ms=reading.device_ms, warm_from_c=temp_c)
    return state


def _alarm(rule: Rule, seen: Observation, state: InterlockState, limits: Limits) -> Alarm:
    reading = seen.reading
    words = {
        "link": seen.link_message or "no answer",
        "bean": _shown(believed(reading, "bean_temp_c")),
        "infrared": _shown(believed(reading, "infrared_temp_c")),
        "exhaust": _shown(believed(reading, "exhaust_temp_c")),
        "heater": reading.heater_step if reading else None,
        "rate": _shown(seen.rate_of_rise_c_per_min),
        "volts": reading.voltage_v if reading else None,
        "best_volts": state.best_voltage_v,
        "errors": ", ".join(str(code) for code in reading.error_codes) if reading else "",
        "max_bean": _shown(limits.max_bean_temp_c),
        "max_infrared": _shown(limits.max_infrared_temp_c),
        "max_exhaust": _shown(limits.max_exhaust_temp_c),
        "max_rate": _shown(limits.max_rate_of_rise_c_per_min),
        "max_heat": round(limits.max_heat_time_s),
        "agents_age": f"{longest_age_s(AGENTS_MAX_AGE_S, seen.interval_s):g}",
        "heat_age": f"{longest_age_s(HEAT_MAX_AGE_S, seen.interval_s):g}",
    }
    return Alarm(rule.code, rule.priority, rule.cause.format(**words), rule.consequence, rule.action)


def _shown(value: float | None) -> str:
    return "?" if value is None else f"{value:.1f}"


BEANS_STILL_IN_DRUM = Alarm(
    "beans_still_in_drum",
    "high",
    "The machine was told to drop, but the infrared sensor saw no beans leave within 20 s.",
    "Beans left in a hot drum go on roasting and can burn.",
    "Open the door and get the beans out by hand.",
)

ROAST_BROKEN_OFF = Alarm(
    "roast_broken_off",
    "high",
    "The machine left its roast without a drop: it restarted, lost its mains, or was switched over by hand.",
    "Beans may lie in a hot drum without heat, air or turning, where they can burn.",
    "Look into the drum and get the beans out by hand.",
)
