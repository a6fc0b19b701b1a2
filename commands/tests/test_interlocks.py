"""Interlocks, pure: each rule on both sides of its bound, with its hold and its hysteresis."""

from __future__ import annotations

import datetime as dt

import pytest

from commands.loop import interlocks
from commands.loop.interlocks import Act, InterlockState, Limits, Observation
from drivers.port import MachineState, Quality, Reading
from roasts.recording import recorder
from roasts.tests import real_logs

AT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
S = MachineState


def reading(device_ms: int = 0, **values: object) -> Reading:
    given: dict = {
        "sequence": 1, "at": AT, "monotonic_s": device_ms / 1000, "device_ms": device_ms, "state": S.ROASTING,
        "bean_temp_c": 150.0, "infrared_temp_c": 180.0, "heater_step": 5, "fan_step": 3, "drum_step": 9,
    }  # fmt: skip
    return Reading(**(given | values))


def breath(at_s: float) -> float:
    """A living probe is never quite still: °C to add."""
    return round(at_s * 2) % 2 / 100


def seen(at_s: float = 0.0, **values: object) -> Observation:
    given: dict = {
        "monotonic_s": at_s, "is_keeper_up": True, "is_link_up": True, "reading": reading(round(at_s * 1000)),
        "reading_age_s": 0.05, "since_charge_ms": 200_000, "turned_ms": 60_000,
    }  # fmt: skip
    return Observation(**(given | values))


def run(observations: list[Observation], limits: Limits | None = None):
    """(last step, codes tripped in order, codes cleared in order)."""
    state, tripped, cleared, taken = InterlockState(), [], [], None
    for observation in observations:
        taken = interlocks.step(state, observation, limits or Limits())
        state = taken.state
        tripped += [(trip.alarm.code, trip.act) for trip in taken.trips]
        cleared += taken.cleared
    assert taken is not None
    return taken, tripped, cleared


def every(step_s: float, until_s: float) -> list[float]:
    return [round(n * step_s, 3) for n in range(int(until_s / step_s) + 1)]


def test_a_calm_roast_trips_nothing_and_may_heat_up() -> None:
    taken, tripped, _ = run([seen(0.0), seen(0.1)])
    assert tripped == [] and taken.is_heat_up_allowed


@pytest.mark.parametrize(("age_s", "may"), [(1.0, True), (1.01, False)])
def test_no_heat_up_on_a_reading_older_than_a_second(age_s: float, may: bool) -> None:
    taken, _, _ = run([seen(reading_age_s=age_s)])
    assert taken.is_heat_up_allowed is may


@pytest.mark.parametrize(
    ("age_s", "codes"),
    [
        (3.0, []),
        (3.01, [("stale_reading", Act.HALT_AGENTS)]),
        (5.01, [("stale_reading", Act.HALT_AGENTS), ("stale_heat", Act.HEAT_DOWN)]),
    ],
)
def test_stale_readings_halt_agents_after_3_s_and_heat_after_5_s(age_s: float, codes: list) -> None:
    assert run([seen(reading_age_s=age_s)])[1] == codes


@pytest.mark.parametrize(
    ("interval_s", "age_s", "codes", "may"),
    [
        (1.0, 2.5, [], True),
        (1.0, 2.51, [], False),
        (1.0, 3.01, ["stale_reading"], False),
        (2.0, 5.0, [], True),
        (2.0, 5.01, ["stale_reading", "stale_heat"], False),
        (10.0, 25.0, [], True),
        (10.0, 25.01, ["stale_reading", "stale_heat"], False),
        (3600.0, 25.01, ["stale_reading", "stale_heat"], False),
        (0.1, 1.01, [], False),
    ],
)
def test_a_slow_source_is_fresh_for_two_and_a_half_of_its_intervals(
    interval_s: float, age_s: float, codes: list[str], may: bool
) -> None:
    taken, tripped, _ = run([seen(reading_age_s=age_s, interval_s=interval_s)])
    assert [code for code, _ in tripped] == codes
    assert taken.is_heat_up_allowed is may


def test_the_alarm_of_a_slow_source_says_its_own_bound() -> None:
    slow = interlocks.step(InterlockState(), seen(reading_age_s=26.0, interval_s=10.0), Limits())
    assert [trip.alarm.cause.split(" although")[0].split(" while")[0] for trip in slow.trips] == [
        "No fresh reading for more than 25 s"
    ] * 2
    fast = interlocks.step(InterlockState(), seen(reading_age_s=6.0), Limits())
    assert "more than 3 s" in fast.trips[0].alarm.cause and "more than 5 s" in fast.trips[1].alarm.cause


def test_stale_readings_of_a_cold_machine_halt_nothing() -> None:
    cold = reading(state=S.OFF, heater_step=0)
    assert run([seen(reading=cold, reading_age_s=60.0)])[1] == []


def test_a_lost_device_halts_agents_and_no_heat_down_is_claimed() -> None:
    _, tripped, _ = run([seen(is_link_up=False, reading_age_s=60.0)])
    assert tripped == [("lost_device", Act.HALT_AGENTS)]


def test_a_lost_keeper_is_an_alarm_after_a_second_only() -> None:
    assert run([seen(t, is_keeper_up=False) for t in every(0.1, 0.9)])[1] == []
    assert run([seen(t, is_keeper_up=False) for t in every(0.1, 1.0)])[1] == [("keeper_lost", Act.ALARM)]


def test_bean_temperature_above_its_maximum_for_a_second_turns_heat_down() -> None:
    def hot(temp_c: float, until_s: float) -> list:
        return run([seen(t, reading=reading(round(t * 1000), bean_temp_c=temp_c)) for t in every(0.1, until_s)])[1]

    assert hot(225.0, 5.0) == []
    assert hot(225.1, 0.9) == []
    assert hot(225.1, 1.0) == [("bean_over_temperature", Act.HEAT_DOWN)]


def test_bean_temperature_clears_five_degrees_below_and_after_two_seconds() -> None:
    def at(t: float) -> float:
        return 226.0 if t < 2 else 221.0 if t < 6 else 219.9

    _, tripped, cleared = run([seen(t, reading=reading(round(t * 1000), bean_temp_c=at(t))) for t in every(0.1, 8.1)])
    assert tripped == [("bean_over_temperature", Act.HEAT_DOWN)] and cleared == ["bean_over_temperature"]
    _, _, not_yet = run([seen(t, reading=reading(round(t * 1000), bean_temp_c=at(t))) for t in every(0.1, 7.9)])
    assert not_yet == []


def test_infrared_is_ignored_while_settling_and_outside_roasting() -> None:
    def hot(t: float, state: S = S.ROASTING) -> Observation:
        warm = reading(round(t * 1000), infrared_temp_c=240.0, bean_temp_c=150 + breath(t), state=state)
        return seen(t, reading=warm)

    assert run([hot(t, S.COOLING) for t in every(0.1, 3)])[1] == []
    assert run([hot(t) for t in every(0.1, 3)])[1] == [("infrared_over_temperature", Act.HEAT_DOWN)]
    reset = [
        seen(0, since_charge_ms=0, reading=reading(0, infrared_temp_c=230.0, state=S.CHARGE)),
        seen(0.1, since_charge_ms=0, reading=reading(100, infrared_temp_c=25.0)),
    ]
    assert run([*reset, *[hot(t) for t in every(0.5, 60) if t > 0.5]])[1] == []
    assert run([*reset, *[hot(t) for t in every(0.5, 63) if t > 0.5]])[1] != []


def test_an_infrared_reset_in_mid_roast_halts_agents() -> None:
    steps = [seen(0), seen(0.1, reading=reading(100, infrared_temp_c=25.0))]
    assert run(steps)[1] == [("infrared_reset", Act.HALT_AGENTS)]
    at_charge = [
        seen(0, since_charge_ms=100, reading=steps[0].reading),
        seen(0.1, since_charge_ms=200, reading=steps[1].reading),
    ]
    assert run(at_charge)[1] == []


@pytest.mark.parametrize(("since_turn_ms", "codes"), [(29_000, []), (31_000, ["rate_of_rise_too_high"])])
def test_rate_of_rise_is_armed_30_s_after_the_turning_point(since_turn_ms: int, codes: list) -> None:
    fast = [
        seen(t, rate_of_rise_c_per_min=45.1, turned_ms=60_000, since_charge_ms=60_000 + since_turn_ms)
        for t in every(0.1, 3.0)
    ]
    assert [code for code, _ in run(fast)[1]] == codes


def test_heat_without_warming_for_a_minute_turns_heat_down() -> None:
    def steps(rise_per_s: float, until_s: float, heater: int = 5) -> list[Observation]:
        return [
            seen(t, reading=reading(round(t * 1000), heater_step=heater, bean_temp_c=150 + rise_per_s * t + breath(t)))
            for t in every(0.5, until_s)
        ]

    assert run(steps(0.0, 59.5))[1] == []
    assert run(steps(0.0, 60))[1] == [("heat_without_warming", Act.HEAT_DOWN)]
    assert run(steps(0.02, 200))[1] == []
    assert run(steps(0.0, 200, heater=4))[1] == []
    percent = Limits(warming_heater_step=56)  # a machine whose full heat is 100, not 9
    assert run(steps(0.0, 200, heater=55), percent)[1] == []
    assert run(steps(0.0, 60, heater=56), percent)[1] == [("heat_without_warming", Act.HEAT_DOWN)]


def test_heat_on_for_longer_than_the_bound_turns_heat_down() -> None:
    limits = Limits(max_heat_time_s=100)
    warming = [seen(t, reading=reading(round(t * 1000), bean_temp_c=100 + t / 5)) for t in every(1, 101)]
    assert run(warming[:-1], limits)[1] == []
    assert run(warming, limits)[1] == [("heat_on_too_long", Act.HEAT_DOWN)]


def test_heat_that_comes_back_while_halted_is_turned_off_again_and_again() -> None:
    steps = [seen(t, is_latched=True) for t in every(0.5, 8)]
    _, tripped, _ = run(steps)
    assert tripped == [("heat_while_halted", Act.SAFE_AGAIN)] * 2, "after 2.5 s, and 5 s later once more"
    assert run([seen(t, is_latched=True, reading=reading(0, heater_step=0)) for t in every(0.5, 8)])[1] == []


def test_a_probe_without_value_while_roasting_is_an_alarm() -> None:
    lost = reading(bean_temp_c=12.0, quality={"bean_temp_c": Quality.STALE})
    assert run([seen(t, reading=lost) for t in every(0.5, 3)])[1] == [("bean_sensor_lost", Act.ALARM)]


def test_an_infrared_sensor_that_falls_silent_is_an_alarm_and_one_that_never_spoke_is_none() -> None:
    lost = reading(infrared_temp_c=None, quality={"infrared_temp_c": Quality.ABSENT})
    taken, tripped, _ = run([seen(0), *[seen(t, reading=lost) for t in every(0.5, 3.5) if t]])
    assert tripped == [("infrared_sensor_lost", Act.ALARM)] and taken.is_heat_up_allowed
    assert run([seen(t, reading=lost) for t in every(0.5, 5)])[1] == []


def test_a_machines_own_errors_are_told() -> None:
    _taken, tripped, _ = run([seen(t, reading=reading(error_codes=(1024,))) for t in every(0.1, 0.6)])
    assert tripped == [("machine_error", Act.ALARM)]


def test_every_alarm_says_cause_consequence_and_action() -> None:
    for rule in interlocks.RULES:
        alarm = interlocks._alarm(rule, seen(), InterlockState(), Limits())
        assert alarm.cause and alarm.consequence and alarm.action and "{" not in alarm.cause


@pytest.mark.parametrize("late_s", [0, 90])
@pytest.mark.parametrize("path", real_logs.paths(), ids=lambda path: path.stem)
def test_no_interlock_trips_on_a_real_roast(path, late_s: int) -> None:
    """Watched from before the charge, or joined in mid-roast."""
    state, recording = InterlockState(), recorder.RecorderState()
    readings = real_logs.readings(real_logs.read(path))
    charged_s = next(one.monotonic_s for one in readings if one.state is S.ROASTING)
    for one in readings:
        if late_s and one.monotonic_s < charged_s + late_s:
            continue
        taken = recorder.step(recording, one, "log")
        recording = taken.state
        roast = recording.roast
        observation = Observation(
            monotonic_s=one.monotonic_s, is_keeper_up=True, is_link_up=True, reading=one, reading_age_s=0.0,
            rate_of_rise_c_per_min=taken.rate_of_rise_c_per_min, since_charge_ms=recording.elapsed_ms,
            turned_ms=roast.turned_by_ms if roast else None,
            are_beans_missing=roast is not None and roast.are_beans_missing,
        )  # fmt: skip
        step = interlocks.step(state, observation, Limits())
        state = step.state
        assert step.trips == ()


def test_a_probe_that_shows_one_value_for_9_s_is_said_and_forbids_nothing() -> None:
    still = [seen(at_s, reading=reading(round(at_s * 1000), bean_temp_c=150.0)) for at_s in every(0.1, 9.0)]
    assert run(still[:-1])[1] == []
    taken, tripped, _ = run(still)
    assert tripped == [("bean_sensor_stuck", Act.ALARM)] and taken.is_heat_up_allowed
    alive = [seen(at_s, reading=reading(round(at_s * 1000), bean_temp_c=150.1)) for at_s in (9.1, 11.1, 11.2)]
    assert run(still + alive)[2] == ["bean_sensor_stuck"]
    idle = [seen(at_s, reading=reading(round(at_s * 1000), state=S.CHARGE)) for at_s in every(0.5, 20.0)]
    assert run(idle)[1] == []


@pytest.mark.parametrize(
    ("voltage_v", "codes"), [(196, []), (195, [("mains_low", Act.ALARM)]), (0, []), (None, []), (32_000, [])]
)
def test_mains_15_percent_below_the_best_seen_are_said(voltage_v: int | None, codes: list) -> None:
    well = [seen(at_s, reading=reading(round(at_s * 1000), voltage_v=230, bean_temp_c=at_s)) for at_s in (0.0, 0.1)]
    low = [
        seen(at_s, reading=reading(round(at_s * 1000), voltage_v=voltage_v, bean_temp_c=at_s))
        for at_s in every(0.1, 3.0)[2:]
    ]
    taken, tripped, _ = run(well + low)
    assert tripped == codes and taken.is_heat_up_allowed
    if codes:
        between = [seen(at_s, reading=reading(round(at_s * 1000), voltage_v=200)) for at_s in (3.1, 6.0)]
        over = [seen(at_s, reading=reading(round(at_s * 1000), voltage_v=203)) for at_s in (6.1, 8.2)]
        assert run(well + low + between)[2] == [] and run(well + low + between + over)[2] == ["mains_low"]


def test_a_roast_without_beans_is_said_and_a_person_may_still_heat() -> None:
    taken, tripped, _ = run([seen(are_beans_missing=True)])
    assert tripped == [("no_beans_seen", Act.ALARM)] and taken.is_heat_up_allowed
