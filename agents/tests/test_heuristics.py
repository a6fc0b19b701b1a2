"""The three heuristics: each fires where it should, none where it must not."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import corridor, heuristics
from agents.heuristics import Advice, Look, Note, Plan, View, advise, note_first_crack, note_order, observe

LIMITS = {"heater": (0, 9), "fan": (1, 12)}
PLAN = Plan()


def roast(
    rates: Callable[[float], float],
    *,
    from_c: float = 100.0,
    to_c: float = 210.0,
    heater: int = 6,
    fan: int = 3,
    infrared_c: float = 238.0,
) -> Iterator[Look]:
    """A roast at 1 Hz: in CHARGE for 5 s, a dip of 60 s, then from `from_c` on with `rates(bean_temp_c)` °C/min."""
    for second in range(5):
        yield Look(second * 1000, "charge", 160.0, infrared_c, 0, 1)
    at_ms = 5000
    for second in range(60):
        yield Look(at_ms, "roasting", 160 - (160 - from_c) * second / 59, 25.0, heater, fan)
        at_ms += 1000
    temp_c = from_c
    while temp_c < to_c:
        yield Look(at_ms, "roasting", temp_c, 150.0, heater, fan)
        temp_c += max(0.04, rates(temp_c)) / 60
        at_ms += 1000


def usual(temp_c: float) -> float:
    here = corridor.corridor_at(temp_c)
    return here.middle_c_per_min if here else 15.0


def share_of_usual(share: float) -> Callable[[float], float]:
    return lambda temp_c: share * usual(temp_c)


def play(
    looks: Iterator[Look], *, plan: Plan = PLAN, cracked_at_c: float | None = None
) -> list[tuple[Look, Advice | Note]]:
    """Everything the heuristics said over a roast, noted as the agent notes it. Nothing answers the advice."""
    view, said = View(), []
    for look in looks:
        view = observe(view, look)
        is_new = view.first_crack_ms is None and look.state == "roasting" and look.device_ms > 70_000
        if is_new and cracked_at_c is not None and (look.bean_temp_c or 0) >= cracked_at_c:
            view = note_first_crack(view, look.device_ms)
        found = advise(view, plan, LIMITS)
        if isinstance(found, Advice):
            view = note_order(view, found)
            said.append((look, found))
        elif found is not None:
            view = heuristics.note_said(view, found)
            said.append((look, found))
    return said


def test_a_roast_in_the_middle_of_the_corridor_is_left_alone() -> None:
    assert play(roast(usual)) == []


def test_a_roast_above_the_corridor_gets_less_power() -> None:
    said = play(roast(share_of_usual(1.35), to_c=150.0))
    assert said
    look, advice = said[0]
    assert isinstance(advice, Advice)
    assert (advice.heuristic, advice.control, advice.from_step, advice.target_step) == ("hot", "heater", 6, 5)
    [evidence] = advice.evidence
    assert evidence["rate_c_per_min"] > evidence["bound_c_per_min"] > 18.0
    assert all(rate > 18.0 for _, rate, _ in evidence["moments"]) and len(evidence["moments"]) >= 10
    assert evidence["to_device_ms"] - evidence["from_device_ms"] >= 10_000
    assert evidence["to_device_ms"] == look.device_ms == advice.device_ms


def test_hot_waits_ten_seconds_and_for_a_window_after_the_turning_point() -> None:
    looks = list(roast(share_of_usual(1.35), to_c=150.0))
    lowest_ms = min((look for look in looks if look.state == "roasting"), key=lambda look: look.bean_temp_c).device_ms
    first = play(iter(looks))[0][0]
    assert first.device_ms >= lowest_ms + 30_000 + 10_000


def test_at_a_low_heater_air_is_the_lever() -> None:
    said = play(roast(share_of_usual(1.35), to_c=150.0, heater=2, fan=3))
    assert isinstance(said[0][1], Advice)
    assert (said[0][1].control, said[0][1].target_step) == ("fan", 4)


def test_air_stops_at_six_and_then_the_last_step_of_heat_goes_but_never_all_of_it() -> None:
    two = play(roast(share_of_usual(1.35), to_c=150.0, heater=2, fan=6))[0][1]
    assert isinstance(two, Advice) and (two.control, two.target_step) == ("heater", 1)
    assert play(roast(share_of_usual(1.15), to_c=150.0, heater=1, fan=6)) == []


def test_after_first_crack_heat_and_air_take_turns() -> None:
    said = [
        advice
        for _, advice in play(roast(share_of_usual(1.6), from_c=100, to_c=196, heater=5, fan=3), cracked_at_c=165)
    ]
    controls = [advice.control for advice in said if isinstance(advice, Advice) and advice.device_ms > 0]
    assert "heater" in controls and "fan" in controls


def test_a_rate_over_26_below_150_degrees_is_a_scorch_risk() -> None:
    said = play(roast(lambda temp_c: 27.5, to_c=140.0))
    assert isinstance(said[0][1], Advice) and said[0][1].heuristic == "scorch_risk"
    assert said[0][1].target_step == 5


def test_a_rate_of_25_is_hot_but_no_scorch_risk() -> None:
    kinds = {found.heuristic for _, found in play(roast(lambda temp_c: 25.5, to_c=140.0)) if isinstance(found, Advice)}
    assert kinds == {"hot"}


@pytest.mark.parametrize(("infrared_c", "is_said"), [(250.0, False), (250.4, True)])
def test_a_charge_more_than_ten_degrees_too_hot_takes_a_step_of_heat_at_once(infrared_c: float, is_said: bool) -> None:
    said = play(roast(usual, infrared_c=infrared_c))
    assert bool(said) is is_said
    if is_said:
        look, advice = said[0]
        assert isinstance(advice, Advice) and advice.heuristic == "scorch_risk" and advice.target_step == 5
        assert look.device_ms <= 5000 + 60_000
        assert len(said) == 1, "said once"


def test_a_hot_charge_with_the_heater_low_already_is_a_note_for_the_next_one() -> None:
    said = play(roast(usual, infrared_c=255.0, heater=2))
    assert [found.code for _, found in said if isinstance(found, Note)] == ["scorch_risk_next_charge"]


def test_a_roast_that_will_stall_gets_one_step_more() -> None:
    said = play(roast(share_of_usual(0.6), to_c=170.0, heater=5))
    assert isinstance(said[0][1], Advice)
    assert (said[0][1].heuristic, said[0][1].control, said[0][1].target_step) == ("stall", "heater", 6)
    [evidence] = said[0][1].evidence
    assert evidence["predicted_rate_c_per_min"] < 6.0 and evidence["first_crack_in_s"] > 60


def test_a_stall_never_asks_for_more_than_one_step_over_the_usual_heater() -> None:
    eight = [a for _, a in play(roast(share_of_usual(0.6), to_c=135.0, heater=8)) if isinstance(a, Advice)]
    assert eight == []
    seven = [a for _, a in play(roast(share_of_usual(0.6), to_c=135.0, heater=7)) if isinstance(a, Advice)]
    assert {a.target_step for a in seven} == {8}


def test_a_heater_that_was_turned_off_is_never_lit_by_the_agent() -> None:
    off = [a for _, a in play(roast(share_of_usual(0.6), to_c=170.0, heater=0)) if isinstance(a, Advice)]
    assert not [advice for advice in off if advice.control == "heater"]


def test_no_heat_is_added_within_a_minute_of_first_crack() -> None:
    for look, advice in play(roast(share_of_usual(0.6), heater=2)):
        if isinstance(advice, Advice) and advice.control == "heater" and advice.target_step > advice.from_step:
            away_s = heuristics.seconds_to(
                PLAN.first_crack_temp_c, look.bean_temp_c or 0, usual(look.bean_temp_c or 0) * 0.6
            )
            assert away_s is not None and away_s > 55


def test_after_first_crack_a_stall_takes_air_and_adds_no_heat() -> None:
    said = play(roast(share_of_usual(0.5), heater=3, fan=4, to_c=196.0), cracked_at_c=185.0)
    late = [a for look, a in said if isinstance(a, Advice) and (look.bean_temp_c or 0) > 188]
    assert late and all((a.control, a.target_step) == ("fan", 3) for a in late)


def test_twenty_seconds_before_the_drop_nothing_is_said() -> None:
    looks = list(roast(share_of_usual(1.5), heater=6, fan=3))
    last_ms = next(
        look.device_ms for look in looks if (look.bean_temp_c or 0) >= PLAN.drop_temp_c and look.device_ms > 70_000
    )
    assert all(look.device_ms < last_ms - 19_000 for look, _ in play(iter(looks)))


def test_a_drop_agreed_by_time_is_kept_quiet_too() -> None:
    plan = Plan(drop_after_s=200.0)
    said = play(roast(share_of_usual(1.35), to_c=190.0), plan=plan)
    assert said and all(look.device_ms - 5000 < 180_000 for look, _ in said)


def test_other_states_stale_or_missing_temperatures_say_nothing() -> None:
    hot = list(roast(share_of_usual(1.5), to_c=150.0))
    assert play(Look(look.device_ms, "cooling", look.bean_temp_c, None, 6, 3) for look in hot) == []
    assert play(Look(look.device_ms, look.state, None, None, 6, 3) for look in hot) == []


def test_a_hole_in_the_readings_silences_the_rate_until_it_has_passed() -> None:
    looks = [Look(s * 1000, "roasting", 100 + s * 0.4, None, 6, 3) for s in range(60) if not 20 < s < 30]
    assert heuristics.rate_c_per_min(tuple(looks), 40_000) is None
    assert heuristics.rate_c_per_min(tuple(looks), 59_000) == pytest.approx(24.0, abs=0.01)


def test_a_device_clock_that_went_back_starts_a_new_view() -> None:
    view = View()
    for look in roast(usual, to_c=120.0):
        view = observe(view, look)
    view = observe(view, Look(0, "roasting", 120.0))
    assert len(view.looks) == 1 and view.charged_ms is None


def test_a_control_without_limits_is_left_alone() -> None:
    view = View()
    for look in roast(share_of_usual(1.35), to_c=130.0):
        view = observe(view, look)
        if found := advise(view, PLAN, LIMITS):
            assert isinstance(found, Advice)
            assert advise(view, PLAN, {}) is None
            assert advise(view, PLAN, {"heater": (6, 9)}) is None
            return
    raise AssertionError("nothing was hot")


@settings(max_examples=25, deadline=None)
@given(
    shares=st.lists(st.floats(0.2, 2.0), min_size=11, max_size=11),
    heater=st.integers(0, 9),
    fan=st.integers(1, 12),
    infrared_c=st.floats(200, 270),
    cracked_at_c=st.one_of(st.none(), st.floats(150, 195)),
)
def test_whatever_the_roast_does_the_laws_hold(
    shares: list[float], heater: int, fan: int, infrared_c: float, cracked_at_c: float | None
) -> None:
    def rates(temp_c: float) -> float:
        return shares[min(10, max(0, int((temp_c - 100) // 10)))] * usual(temp_c)

    cracked_ms: int | None = None
    view, last_ms = View(), None
    for look in roast(rates, heater=heater, fan=fan, infrared_c=infrared_c):
        view = observe(view, look)
        is_late = cracked_ms is None and look.device_ms > 70_000
        if is_late and cracked_at_c is not None and (look.bean_temp_c or 0) >= cracked_at_c:
            cracked_ms = look.device_ms
            view = note_first_crack(view, cracked_ms)
        found = advise(view, PLAN, LIMITS)
        if isinstance(found, Note):
            view = heuristics.note_said(view, found)
        if not isinstance(found, Advice):
            continue
        assert abs(found.target_step - found.from_step) == 1
        assert found.evidence and found.reasoning
        assert LIMITS[found.control][0] <= found.target_step <= LIMITS[found.control][1]
        assert last_ms is None or found.device_ms - last_ms >= 40_000
        assert (look.bean_temp_c or 0) < PLAN.drop_temp_c
        if found.control == "heater" and found.target_step > found.from_step:
            assert cracked_ms is None and (look.bean_temp_c or 0) < PLAN.first_crack_temp_c
        if found.control == "fan":
            assert 2 <= found.target_step <= 6 or found.target_step < found.from_step
        last_ms = found.device_ms
        view = note_order(view, found)


@settings(max_examples=100, deadline=None)
@given(bean_temp_c=st.floats(allow_nan=True, allow_infinity=True))
def test_the_corridor_is_ordered_everywhere_and_absent_below_100_degrees(bean_temp_c: float) -> None:
    here = corridor.corridor_at(bean_temp_c)
    if not bean_temp_c >= 100:
        assert here is None
    else:
        assert here is not None and here.low_c_per_min < here.middle_c_per_min < here.high_c_per_min


def test_a_plan_counts_in_the_machines_own_steps() -> None:
    fourteen = Plan(heater_full_step=14, fan_full_step=10)
    assert [Plan().heater(step) for step in range(10)] == list(range(10))
    assert [Plan().fan(step) for step in range(13)] == list(range(13))
    assert [fourteen.heater(step) for step in (0, 1, 2, 5, 9)] == [0, 1, 3, 7, 14]  # never more heat than meant
    assert [fourteen.fan(step) for step in (0, 2, 6, 12)] == [0, 2, 5, 10]
