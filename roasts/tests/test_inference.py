"""Events from readings: each rule on a made-up roast, and what must hold of any stream."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.port import MachineState, Quality, Reading
from roasts import inference
from roasts.curve import Curve
from roasts.inference import InferenceState
from roasts.recording.recorder import RecorderState
from roasts.telemetry import stream_state
from roasts.telemetry.following import StreamState
from roasts.tests.event_roasts import DROP_S, TURN_S, at, made_up, play, probe_c, standing

S = MachineState


def stated(charge_ms: int = 20_000, end_s: float = 600) -> list[Reading]:
    """The made-up roast of a machine that tells its states."""
    found = []
    for reading in made_up(charge_ms=charge_ms, end_s=end_s):
        since_s = (reading.device_ms - charge_ms) / 1000
        state = S.CHARGE if since_s < 0 else S.ROASTING if since_s < DROP_S else S.COOLING
        found.append(replace(reading, state=state))
    return found


def kinds(decisions: list) -> list[str]:
    return [decision.mark.kind for decision in decisions if isinstance(decision, inference.Made)]


def test_temperatures_alone_give_charge_turn_dry_end_crack_and_drop() -> None:
    _, decisions = play(made_up())
    found = standing(decisions)
    assert found["charge"] == pytest.approx(20_000, abs=3000)
    assert found["turning_point"] == pytest.approx(20_000 + 1000 * TURN_S, abs=3000)
    assert found["drop"] == pytest.approx(20_000 + 1000 * DROP_S, abs=3000)
    crossing_s = next(s for s in range(100, 500) if probe_c(s) >= 150)
    assert found["dry_end"] == pytest.approx(20_000 + 1000 * crossing_s, abs=1500)
    assert found["first_crack_start"] < found["drop"]


def test_the_machines_own_states_are_facts_and_stand_at_once() -> None:
    state, decisions = play(stated(), is_finished=False)
    made = {d.mark.kind: d.mark for d in decisions if isinstance(d, inference.Made)}
    assert (made["charge"].at_ms, made["charge"].source, made["charge"].is_confirmed) == (20_000, "device", True)
    assert (made["drop"].at_ms, made["drop"].source) == (20_000 + round(1000 * DROP_S), "device")
    assert made["turning_point"].source == "inferred"
    assert not [d for d in decisions if isinstance(d, inference.Withdrawn) and d.mark.source == "device"]
    assert state.mark("charge") is not None


def test_no_mark_is_ever_later_than_the_reading_that_made_it() -> None:
    state = InferenceState()
    for reading in made_up():
        state, decisions = inference.step(state, reading)
        assert all(d.mark.at_ms <= reading.device_ms for d in decisions if isinstance(d, inference.Made))


def test_a_fall_of_four_degrees_is_a_charge_and_one_of_less_is_none() -> None:
    def charged(fall_c: float) -> bool:
        falling = [160.0 - fall_c * n / 5 for n in range(1, 6)]
        temps = [160.0] * 10 + falling + [falling[-1]] * 3
        state, _ = play([at(1000 * n, temp_c) for n, temp_c in enumerate(temps)], is_finished=False)
        return state.mark("charge") is not None

    assert charged(4.2)
    assert not charged(3.8)


def test_a_cold_probe_that_falls_is_no_charge() -> None:
    temps = [70.0] * 10 + [70.0 - 2 * n for n in range(20)]
    assert kinds(play([at(1000 * n, temp_c) for n, temp_c in enumerate(temps)])[1]) == []


def test_a_charge_is_taken_back_when_the_probe_comes_back() -> None:
    """Somebody opened the door."""
    temps = [160.0] * 10 + [158.0, 156.0, 154.0, 153.0, 154.0, 156.0, 158.0, *[160.0] * 20]
    state, decisions = play([at(1000 * n, temp_c) for n, temp_c in enumerate(temps)], is_finished=False)
    assert [type(d).__name__ for d in decisions] == ["Made", "Withdrawn", "Over"]
    assert inference.is_waiting(state) and decisions[-1].is_refuted


def test_a_machine_that_cools_down_is_not_charged_for_long() -> None:
    temps = [200 - 1.0 * n for n in range(30)] + [170 - 0.3 * n for n in range(400)]
    state, decisions = play([at(1000 * n, max(30.0, t)) for n, t in enumerate(temps)], is_finished=False)
    assert standing(decisions) == {} and inference.is_waiting(state)


def test_the_infrared_reset_dates_a_charge_to_the_second() -> None:
    readings = [
        at(1000 * n, 160.0 - max(0, n - 33) * 1.5, infrared_temp_c=25.0 if n > 30 else 235.0) for n in range(45)
    ]
    assert standing(play(readings, is_finished=False)[1])["charge"] == pytest.approx(30_500, abs=600)


def test_the_turning_point_waits_for_one_degree_and_is_the_latest_of_equals() -> None:
    temps = [160.0] * 10 + [160.0 - 3 * n for n in range(1, 21)] + [99.9, 99.9, 99.9, 100.2, 100.5, 100.8]
    readings = [at(1000 * n, round(temp_c, 1)) for n, temp_c in enumerate(temps)]
    state, decisions = play(readings, is_finished=False)
    assert "turning_point" not in kinds(decisions)
    more = [at(1000 * (len(temps) + n), 100.9) for n in range(2)]
    _, decisions = play(more, state, is_finished=False)
    assert standing(decisions)["turning_point"] == 32_000


def test_a_turning_point_is_taken_back_when_the_probe_falls_lower() -> None:
    temps = [160.0] * 10 + [160.0 - 3 * n for n in range(1, 21)] + [100.5, 101.0, 101.2, 99.0, 98.0, 97.0]
    _, decisions = play([at(1000 * n, t) for n, t in enumerate(temps)], is_finished=False)
    turns = [type(d).__name__ for d in decisions if getattr(d, "mark", None) and d.mark.kind == "turning_point"]
    assert turns == ["Made", "Withdrawn"]


def test_dry_end_that_is_lost_again_is_taken_back_and_a_sure_one_stays() -> None:
    begin = [reading for reading in made_up() if probe_c(reading.device_ms / 1000 - 20) < 149.9 or
             reading.device_ms < 100_000]  # fmt: skip
    begin = [reading for reading in begin if reading.device_ms < 300_000]
    state, _ = play(begin, is_finished=False)
    last_ms = begin[-1].device_ms

    def after(*temps_c: float) -> list[str]:
        readings = [at(last_ms + 1000 * (n + 1), temp_c) for n, temp_c in enumerate(temps_c)]
        found = play(readings, state, is_finished=False)[1]
        return [type(d).__name__ for d in found if getattr(d, "mark", None) and d.mark.kind == "dry_end"]

    assert after(150.2, 150.4, 148.8, 148.7) == ["Made", "Withdrawn"]
    assert after(150.2, 152.1, 152.2) == ["Made", "Confirmed"]


def test_a_dip_of_the_probe_in_mid_roast_is_no_drop_for_long() -> None:
    until_s = 400
    readings = [r for r in made_up() if r.device_ms < 20_000 + 1000 * until_s]
    top_c, last_ms = readings[-1].bean_temp_c or 0.0, readings[-1].device_ms
    dip = [top_c - 1, top_c - 2, top_c - 3, top_c - 4, top_c - 3, top_c - 1, top_c + 1, top_c + 2, top_c + 3]
    _, decisions = play([*readings, *(at(last_ms + 1000 * (n + 1), t) for n, t in enumerate(dip))], is_finished=False)
    drops = [type(d).__name__ for d in decisions if getattr(d, "mark", None) and d.mark.kind == "drop"]
    assert drops in ([], ["Made", "Withdrawn"])


def test_a_second_roast_in_the_same_stream_is_inferred_too() -> None:
    first = list(made_up(end_s=560))
    gap_ms = first[-1].device_ms + 1000
    reheat = [at(gap_ms + 1000 * n, min(160.0, 150 + n * 0.5)) for n in range(60)]
    again_ms = reheat[-1].device_ms + 1000
    second = [replace(r, device_ms=r.device_ms + again_ms) for r in made_up()]
    _, decisions = play([*first, *reheat, *second])
    assert kinds(decisions).count("charge") >= 2 and kinds(decisions).count("drop") >= 2
    assert standing(decisions)["charge"] == pytest.approx(again_ms + 20_000, abs=3000)


def test_a_machine_away_for_a_moment_goes_on_with_its_roast_and_not_after_ten_seconds() -> None:
    def roasts(away_s: int) -> int:
        until_ms = 200_000 + 1000 * away_s
        readings = [replace(r, state=S.OFF) if 200_000 <= r.device_ms < until_ms else r for r in stated()]
        return kinds(play(readings)[1]).count("charge")

    assert (roasts(9), roasts(10)) == (1, 2)


@pytest.mark.parametrize(("begins_s", "is_seen"), [(0.0, True), (9_000.0, True), (11_000.0, False), (-4_500.0, False)])
def test_of_a_files_hours_three_are_looked_at_and_one_before(begins_s: float, is_seen: bool) -> None:
    readings = list(made_up())
    times_s = np.array([begins_s + one.device_ms / 1000 for one in readings])
    bean_c = np.array([one.bean_temp_c for one in readings], dtype=float)
    marks = inference.infer_roast(Curve(times_s, bean_c))
    assert ("charge" in {mark.kind for mark in marks}) is is_seen


def test_joining_late_takes_the_charge_from_the_machines_clock_and_makes_no_turn_up() -> None:
    late = [replace(r, roast_clock_s=(r.device_ms - 20_000) // 1000) for r in stated() if r.device_ms >= 150_000]
    _, decisions = play(late)
    found = standing(decisions)
    assert found["charge"] == 20_000 and "turning_point" not in found


def test_a_crack_that_lies_in_a_hole_is_not_made_up() -> None:
    readings = [r for r in stated() if not 250_000 <= r.device_ms < 540_000]
    assert "first_crack_start" not in standing(play(readings)[1])


def test_finish_keeps_a_drop_that_had_only_begun_to_show() -> None:
    until_ms = 20_000 + round(1000 * DROP_S) + 6000
    _, decisions = play([r for r in made_up() if r.device_ms <= until_ms])
    assert standing(decisions)["drop"] == pytest.approx(20_000 + 1000 * DROP_S, abs=3000)


def test_expecting_better_counts_until_the_crack_may_have_been() -> None:
    better = inference.Expectation(dry_end_c=140.0)
    readings = list(made_up())
    early, _ = play(readings[:100], is_finished=False)
    late, _ = play(readings[:520], is_finished=False)
    assert inference.expect(early, better).known.expectation == better
    assert inference.expect(late, better).known.expectation != better


# --- of any stream ---

TEMPS = st.none() | st.floats(-50, 400) | st.sampled_from([math.nan, math.inf, 25.0, 160.0, 100.0, 190.0])
ROWS = st.lists(
    st.tuples(
        st.integers(-3000, 30_000), st.sampled_from([*MachineState, S.UNKNOWN, S.UNKNOWN, S.UNKNOWN]), TEMPS, TEMPS,
        st.none() | st.integers(0, 9), st.sampled_from([{}, {}, {"bean_temp_c": Quality.STALE}]),
    ),
    max_size=120,
)  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(rows=ROWS)
def test_only_a_standing_mark_that_is_not_confirmed_is_withdrawn(rows: list) -> None:
    state, now_ms, newest_ms = InferenceState(), 1_000_000, -1
    open_marks: dict[str, bool] = {}
    for step_ms, machine_state, bean_c, eye_c, heater, quality in rows:
        now_ms += step_ms
        reading = at(now_ms, bean_c, machine_state, infrared_temp_c=eye_c, heater_step=heater, quality=quality)
        before = state
        state, decisions = inference.step(state, reading)
        if now_ms <= newest_ms:
            assert state == before and not decisions, "late readings change nothing"
        newest_ms = max(newest_ms, now_ms)
        for decision in decisions:
            if isinstance(decision, inference.Over):
                open_marks = {}
                continue
            kind = decision.mark.kind
            if isinstance(decision, inference.Made):
                assert kind not in open_marks and decision.mark.at_ms <= now_ms
                open_marks[kind] = decision.mark.is_confirmed
            elif isinstance(decision, inference.Withdrawn):
                assert open_marks.pop(kind) is False
            else:
                assert open_marks[kind] is False
                open_marks[kind] = True
        assert set(open_marks) == {mark.kind for mark in state.known.marks}


@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.sampled_from([None, math.nan, math.inf, -math.inf]), min_size=1, max_size=60))
def test_no_value_and_no_number_decide_nothing(values: list) -> None:
    _, decisions = play([at(1000 * n, value, infrared_temp_c=value) for n, value in enumerate(values)])
    assert decisions == []


@settings(max_examples=15, deadline=None)
@given(holes=st.lists(st.tuples(st.integers(0, 619), st.sampled_from([None, math.nan, "stale"])), max_size=40))
def test_readings_without_a_probe_in_between_change_no_decision(holes: list) -> None:
    clean = list(made_up())
    dirty = list(clean)
    for place, value in sorted(holes, key=lambda hole: hole[0], reverse=True):
        quality = {"bean_temp_c": Quality.STALE} if value == "stale" else {}
        bean_c = 500.0 if value == "stale" else value
        dirty.insert(place + 1, at(clean[place].device_ms + 500, bean_c, quality=quality))
    assert play(dirty)[1] == play(clean)[1]


def through_json(state: InferenceState) -> InferenceState:
    written = json.dumps(stream_state.encode(StreamState(recording=RecorderState(watch=state))), allow_nan=False)
    return stream_state.decode(json.loads(written)).recording.watch


CLEAN = list(made_up())
DECIDED = play(CLEAN)


@settings(max_examples=25, deadline=None)
@given(cuts=st.sets(st.integers(0, len(CLEAN)), min_size=1, max_size=8))
def test_a_stream_cut_anywhere_and_kept_as_json_decides_the_same(cuts: set[int]) -> None:
    state, decisions = InferenceState(), []
    bounds = [0, *sorted(cuts), len(CLEAN)]
    for begin, end in zip(bounds, bounds[1:], strict=False):
        state, found = play(CLEAN[begin:end], state, is_finished=False)
        decisions += found
        state = through_json(state)
    state, found = inference.finish(state)
    assert (state, [*decisions, *found]) == DECIDED
