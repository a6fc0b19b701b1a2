"""Every interlock: both sides of its bound, its hold to the tick, its hysteresis, its two quiet seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.loop import interlocks
from commands.loop.interlocks import RULES, Act, InterlockState, Limits, Observation
from commands.tests.test_interlocks import breath, every, reading, run, seen
from drivers.port import MachineState, Quality

S = MachineState
TICK_S = 0.05
LIMITS = Limits(max_exhaust_temp_c=210.0)


def at_reading(name: str, state: S = S.ROASTING) -> Callable[[float, Any], Observation]:
    """A field of the reading is the value."""

    def make(at_s: float, value: Any) -> Observation:
        given = {"state": state, "bean_temp_c": 150.0 + breath(at_s), name: value}
        return seen(at_s, reading=reading(round(at_s * 1000), **given))

    return make


def at_observation(name: str, **more: Any) -> Callable[[float, Any], Observation]:
    """A field of the observation is the value."""
    return lambda at_s, value: seen(at_s, **{name: value, **more})


def halted(at_s: float, value: Any) -> Observation:
    return seen(at_s, is_latched=True, reading=reading(round(at_s * 1000), heater_step=value))


def age(at_s: float, value: Any) -> Observation:
    return seen(at_s, reading_age_s=value)


def mains(at_s: float, value: Any) -> Observation:
    """200 V is the best seen: the first look shows it."""
    volts = 200 if at_s < TICK_S else value
    return seen(at_s, reading=reading(round(at_s * 1000), voltage_v=volts, bean_temp_c=150 + breath(at_s)))


def lost_sensor(name: str) -> Callable[[float, Any], Observation]:
    def make(at_s: float, value: Any) -> Observation:
        first = at_s < TICK_S  # there was a value before
        quality = {} if first or value else {name: Quality.ABSENT}
        return seen(at_s, reading=reading(round(at_s * 1000), quality=quality))

    return make


@dataclass(frozen=True)
class Row:
    """One interlock: the last good value, the first bad one, what keeps it tripped and what lets it clear."""

    code: str
    make: Callable[[float, Any], Observation]
    good: Any
    bad: Any
    stays: Any
    clears: Any
    hold_s: float
    act: Act


ROWS = (
    Row("stale_reading", age, 3.0, 3.001, 3.001, 3.0, 0.0, Act.HALT_AGENTS),
    Row("stale_heat", age, 5.0, 5.001, 5.001, 5.0, 0.0, Act.HEAT_DOWN),
    Row("lost_device", at_observation("is_link_up"), True, False, False, True, 0.0, Act.HALT_AGENTS),
    Row("keeper_lost", at_observation("is_keeper_up"), True, False, False, True, 1.0, Act.ALARM),
    Row("bean_over_temperature", at_reading("bean_temp_c"), 225.0, 225.1, 220.1, 220.0, 1.0, Act.HEAT_DOWN),
    Row("infrared_over_temperature", at_reading("infrared_temp_c"), 235.0, 235.1, 230.1, 230.0, 1.0, Act.HEAT_DOWN),
    Row("exhaust_over_temperature", at_reading("exhaust_temp_c"), 210.0, 210.1, 205.1, 205.0, 1.0, Act.HEAT_DOWN),
    Row("rate_of_rise_too_high", at_observation("rate_of_rise_c_per_min"), 45.0, 45.1, 40.1, 40.0, 3.0, Act.HEAT_DOWN),
    Row("heat_while_halted", halted, 0, 1, 1, 0, 2.5, Act.SAFE_AGAIN),
    Row("bean_sensor_lost", lost_sensor("bean_temp_c"), True, False, False, True, 3.0, Act.ALARM),
    Row("infrared_sensor_lost", lost_sensor("infrared_temp_c"), True, False, False, True, 3.0, Act.ALARM),
    Row("no_beans_seen", at_observation("are_beans_missing"), False, True, True, False, 0.0, Act.ALARM),
    Row("mains_low", mains, 170, 169, 175, 176, 1.0, Act.ALARM),
    Row("machine_error", at_reading("error_codes"), (), (1024,), (1024,), (), 0.5, Act.ALARM),
)
#: These remember device time themselves; tested below, each by name.
BY_DEVICE_TIME = {"heat_without_warming", "heat_on_too_long", "infrared_reset", "bean_sensor_stuck"}
rows = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.code)


def play(row: Row, *parts: tuple[Any, float]) -> tuple[bool, bool]:
    """Each part: a value and for how many seconds. (tripped, cleared) of this row's code."""
    now_s, observations = TICK_S, [row.make(0.0, row.good)]
    for value, lasting_s in parts:
        for _ in range(round(lasting_s / TICK_S) + 1):
            observations.append(row.make(round(now_s, 3), value))
            now_s += TICK_S
        now_s -= TICK_S  # a part begins where the former ended
    _, tripped, cleared = run(observations, LIMITS)
    return row.code in {code for code, _ in tripped}, row.code in cleared


def test_every_interlock_stands_in_the_table_or_is_tested_by_name():
    assert {rule.code for rule in RULES} == {row.code for row in ROWS} | BY_DEVICE_TIME
    assert {row.code: row.act for row in ROWS} == {
        rule.code: rule.act for rule in RULES if rule.code not in BY_DEVICE_TIME
    }


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_every_interlock_tells_cause_consequence_and_action(rule):
    for words in (rule.cause, rule.consequence, rule.action):
        assert len(words.split()) >= 3 and words[-1] in ".}"
    assert rule.priority in ("high", "medium", "low")
    assert rule.priority == "high" or rule.act not in (Act.HEAT_DOWN, Act.SAFE_AGAIN)


@rows
def test_its_bound_itself_never_trips(row):
    assert play(row, (row.good, 8.0)) == (False, False)


@rows
def test_past_its_bound_it_trips_after_its_hold_and_not_a_tick_before(row):
    assert play(row, (row.bad, row.hold_s))[0]
    if row.hold_s:
        assert not play(row, (row.bad, row.hold_s - TICK_S))[0]


@rows
def test_a_moment_of_good_begins_its_hold_anew(row):
    if row.hold_s:
        almost = (row.bad, row.hold_s - TICK_S)
        assert not play(row, almost, (row.good, TICK_S), almost)[0]


@rows
def test_it_stays_within_its_hysteresis_and_clears_after_two_quiet_seconds(row):
    trip = (row.bad, row.hold_s)
    assert play(row, trip, (row.stays, 10.0)) == (True, False)
    assert play(row, trip, (row.clears, TICK_S), (row.clears, 1.9)) == (True, False)
    assert play(row, trip, (row.clears, TICK_S), (row.clears, 2.0)) == (True, True)


@rows
def test_while_it_stands_heat_goes_up_only_past_what_merely_informs(row):
    state = InterlockState()
    for number in range(round((row.hold_s + 1) / TICK_S)):
        at_s = round(number * TICK_S, 3)
        taken = interlocks.step(state, row.make(at_s, row.bad if number else row.good), LIMITS)
        state = taken.state
    assert taken.is_heat_up_allowed is (row.code in interlocks.INFORMS_ONLY)


# --- where a value is not watched at all ---


@pytest.mark.parametrize("temp_c", [-65.0, -45.0, -20.1])
def test_an_exhaust_sensor_below_minus_twenty_is_absent(temp_c):
    limits = Limits(max_exhaust_temp_c=-60.0)  # whatever the limit: what is not there is not hot
    _, tripped, _ = run([at_reading("exhaust_temp_c")(t, temp_c) for t in every(0.1, 3.0)], limits)
    assert tripped == []


def test_an_exhaust_sensor_at_minus_twenty_is_there():
    limits = Limits(max_exhaust_temp_c=-25.0)
    _, tripped, _ = run([at_reading("exhaust_temp_c")(t, -20.0) for t in every(0.1, 3.0)], limits)
    assert ("exhaust_over_temperature", Act.HEAT_DOWN) in tripped


def test_an_exhaust_nobody_set_a_maximum_for_is_not_watched():
    _, tripped, _ = run([at_reading("exhaust_temp_c")(t, 400.0) for t in every(0.1, 3.0)], Limits())
    assert tripped == []


@pytest.mark.parametrize("state", [state for state in S if state not in (S.ROASTING, S.UNKNOWN)])
def test_rate_of_rise_and_infrared_are_watched_while_roasting_alone(state):
    hot = [
        seen(t, rate_of_rise_c_per_min=99.0, reading=reading(round(t * 1000), state=state, infrared_temp_c=300.0))
        for t in every(0.1, 5.0)
    ]
    assert not {code for code, _ in run(hot)[1]} & {"rate_of_rise_too_high", "infrared_over_temperature"}


@pytest.mark.parametrize("state", list(S))
def test_a_maximum_holds_from_the_roast_on(state):
    hot = [
        seen(t, reading=reading(round(t * 1000), state=state, bean_temp_c=300.0 + breath(t), exhaust_temp_c=300.0))
        for t in every(0.1, 2.0)
    ]
    found = {code for code, _ in run(hot, LIMITS)[1]} & {"bean_over_temperature", "exhaust_over_temperature"}
    assert len(found) == (0 if state in (S.OFF, S.PREHEATING, S.STABILISING, S.CHARGE) else 2)


def test_a_machine_that_tells_no_state_is_watched_while_its_roast_is_open():
    def line(t: float) -> Observation:
        cold = reading(round(t * 1000), state=S.UNKNOWN, heater_step=9, bean_temp_c=150 + breath(t))
        return seen(t, reading=cold, rate_of_rise_c_per_min=99.0)

    codes = {code for code, _ in run([line(t) for t in every(0.5, 61.0)], Limits(max_heat_time_s=50.0))[1]}
    assert codes == {"rate_of_rise_too_high", "heat_without_warming", "heat_on_too_long"}


# --- armed thirty seconds after the turning point ---


@pytest.mark.parametrize(("since_turn_ms", "is_armed"), [(29_999, False), (30_000, True)])
def test_rate_of_rise_is_armed_thirty_seconds_after_the_turning_point(since_turn_ms, is_armed):
    fast = [
        seen(t, rate_of_rise_c_per_min=50.0, turned_ms=60_000, since_charge_ms=60_000 + since_turn_ms)
        for t in every(0.1, 3.0)
    ]
    assert (("rate_of_rise_too_high", Act.HEAT_DOWN) in run(fast)[1]) is is_armed


@pytest.mark.parametrize("turned_ms", [None, 100_000])
def test_before_the_turning_point_neither_is_armed(turned_ms):
    cold = [
        seen(t, rate_of_rise_c_per_min=80.0, turned_ms=turned_ms, since_charge_ms=90_000,
             reading=reading(round(t * 1000), heater_step=9, bean_temp_c=150 + breath(t)))
        for t in every(0.5, 90.0)
    ]  # fmt: skip
    assert run(cold)[1] == []


# --- rules that count device time ---


def heated(until_s: float, step: int, temp_c: Callable[[float], float]) -> list[tuple[str, Act]]:
    return run(
        [
            seen(t, reading=reading(round(t * 1000), heater_step=step, bean_temp_c=temp_c(t)))
            for t in every(0.5, until_s)
        ]
    )[1]


@pytest.mark.parametrize(("step", "until_s", "trips"), [(5, 59.5, False), (5, 60.0, True), (4, 90.0, False)])
def test_heat_of_five_or_more_must_warm_the_probe_within_a_minute(step, until_s, trips):
    found = heated(until_s, step, lambda t: 150.0 + breath(t))
    assert (("heat_without_warming", Act.HEAT_DOWN) in found) is trips


@pytest.mark.parametrize(("rise_c", "trips"), [(0.99, True), (1.0, False)])
def test_one_degree_in_a_minute_is_warming_enough(rise_c, trips):
    found = heated(61.0, 7, lambda t: 150.0 + (rise_c if t >= 30 else 0.0))
    assert (("heat_without_warming", Act.HEAT_DOWN) in found) is trips


@pytest.mark.parametrize(("until_s", "trips"), [(100.0, False), (100.5, True)])
def test_heat_on_too_long_counts_past_its_bound_only(until_s, trips):
    limits = Limits(max_heat_time_s=100.0)
    on = [seen(t, reading=reading(round(t * 1000), heater_step=1, bean_temp_c=150 + t)) for t in every(0.5, until_s)]
    assert (("heat_on_too_long", Act.HEAT_DOWN) in run(on, limits)[1]) is trips


def test_a_break_in_the_heat_begins_its_count_anew():
    limits = Limits(max_heat_time_s=100.0)
    on = [
        seen(t, reading=reading(round(t * 1000), heater_step=0 if t == 60 else 1, bean_temp_c=150 + t / 10))
        for t in every(0.5, 159.0)
    ]
    assert "heat_on_too_long" not in {code for code, _ in run(on, limits)[1]}


def infrared(at_s: float, temp_c: float, since_charge_ms: int) -> Observation:
    warm = reading(round(at_s * 1000), infrared_temp_c=temp_c, bean_temp_c=150 + breath(at_s))
    return seen(at_s, reading=warm, since_charge_ms=since_charge_ms)


@pytest.mark.parametrize(("since_charge_ms", "trips"), [(60_000, False), (60_001, True)])
def test_an_infrared_reset_in_mid_roast_halts_agents(since_charge_ms, trips):
    found = run([infrared(0.0, 200.0, since_charge_ms), infrared(0.1, 25.0, since_charge_ms)])[1]
    assert (("infrared_reset", Act.HALT_AGENTS) in found) is trips


@pytest.mark.parametrize(("fell_to_c", "trips"), [(26.0, True), (26.1, False), (25.0, True)])
def test_only_a_fall_to_twenty_five_is_a_reset(fell_to_c, trips):
    found = run([infrared(0.0, 200.0, 200_000), infrared(0.1, fell_to_c, 200_000)])[1]
    assert (("infrared_reset", Act.HALT_AGENTS) in found) is trips


@pytest.mark.parametrize(("at_s", "trips"), [(60.0, False), (61.2, True)])
def test_infrared_settles_for_a_minute_after_its_reset(at_s, trips):
    """Reset at 0.1 s; far too hot from then on: only after 60 s, and a second of hold, does it count."""
    warm = [infrared(0.0, 200.0, 30_000), infrared(0.1, 25.0, 30_000)]
    warm += [infrared(t, 300.0, 30_000) for t in every(0.1, at_s) if t > 0.1]
    assert (("infrared_over_temperature", Act.HEAT_DOWN) in run(warm)[1]) is trips


@pytest.mark.parametrize(("until_s", "trips"), [(8.9, False), (9.0, True)])
def test_a_probe_that_shows_one_value_for_nine_seconds_may_be_stuck(until_s, trips):
    same = [seen(t, reading=reading(round(t * 1000), bean_temp_c=150.0)) for t in every(0.1, until_s)]
    assert (("bean_sensor_stuck", Act.ALARM) in run(same)[1]) is trips


# --- a keeper that has only just come ---


def starting(at_s: float, code: str = "starting") -> Observation:
    return seen(at_s, is_link_up=False, link_code=code, reading=None, reading_age_s=None)


@pytest.mark.parametrize(("until_s", "trips"), [(2.95, False), (3.0, True)])
def test_a_keeper_that_is_starting_has_lost_nothing_for_three_seconds(until_s, trips):
    taken, tripped, _ = run([starting(t) for t in every(0.05, until_s)])
    assert (("lost_device", Act.HALT_AGENTS) in tripped) is trips
    assert not taken.is_heat_up_allowed


def test_heat_never_goes_up_while_the_keeper_starts_whatever_was_read_before():
    fresh = [seen(t, is_link_up=False, link_code="starting") for t in every(0.05, 2.0)]
    state = InterlockState()
    for observation in fresh:
        taken = interlocks.step(state, observation, Limits())
        state = taken.state
        assert not taken.is_heat_up_allowed


@pytest.mark.parametrize("code", ["not_found", "unplugged", "busy", "no_permission", ""])
def test_any_other_word_is_a_lost_device_at_once(code):
    assert run([starting(0.0), starting(0.05, code)])[1] == [("lost_device", Act.HALT_AGENTS)]


def test_a_keeper_that_starts_again_gets_its_seconds_again():
    parts = [starting(t) for t in every(0.05, 2.0)]
    parts += [seen(2.1)]
    parts += [starting(2.2 + t) for t in every(0.05, 2.9)]
    assert run(parts)[1] == []


# --- whatever is seen ---

observations = st.builds(
    lambda at, up, link, temp, infrared_c, exhaust, step, age_s, latched: seen(
        at, is_keeper_up=up, is_link_up=link, reading_age_s=age_s, is_latched=latched,
        reading=reading(round(at * 1000), bean_temp_c=temp, infrared_temp_c=infrared_c, exhaust_temp_c=exhaust,
                        heater_step=step),
    ),
    st.floats(0, 100), st.booleans(), st.booleans(),
    st.none() | st.floats(-70, 400), st.none() | st.floats(-70, 400), st.none() | st.floats(-70, 400),
    st.none() | st.integers(0, 9), st.none() | st.floats(0, 60), st.booleans(),
)  # fmt: skip


@given(st.lists(observations, max_size=15))
def test_heat_never_goes_up_unseen_latched_or_past_a_trip(parts):
    state = InterlockState()
    for observation in sorted(parts, key=lambda each: each.monotonic_s):
        taken = interlocks.step(state, observation, LIMITS)
        state = taken.state
        if taken.is_heat_up_allowed:
            assert observation.is_keeper_up and observation.is_link_up and not observation.is_latched
            assert observation.reading_age_s is not None and observation.reading_age_s <= 1.0
            assert not interlocks.standing(state) - interlocks.INFORMS_ONLY
