"""Readings in, decisions out: charge, beans, turning point, drop, cool end, gaps, restarts."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.port import MachineState, Reading
from roasts import inference
from roasts.recording import decision_json, recorder
from roasts.recording.recorder import RecorderState
from roasts.tests import real_logs
from roasts.tests.event_roasts import DROP_S, at, made_up

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
S = MachineState


def reading(device_ms: int, state: S = S.ROASTING, bean_c: float | None = 150.0, **more: object) -> Reading:
    values: dict = {
        "sequence": device_ms // 100 + 1,
        "at": START + dt.timedelta(milliseconds=device_ms),
        "monotonic_s": device_ms / 1000,
        "device_ms": device_ms,
        "state": state,
        "bean_temp_c": bean_c,
        "infrared_temp_c": 200.0,
        "heater_step": 5,
    }
    return Reading(**(values | more))


def run(readings: Iterable[Reading], state: RecorderState | None = None, connection: str = "boot1"):
    """(last state, all decisions)."""
    state = state or RecorderState()
    decisions: list[recorder.Decision] = []
    for one in readings:
        taken = recorder.step(state, one, connection)
        state = taken.state
        decisions += taken.decisions
    return state, decisions


def of(kind: type, decisions: list) -> list:
    return [decision for decision in decisions if isinstance(decision, kind)]


def marks(decisions: list) -> dict[str, int]:
    return {mark.kind: mark.elapsed_ms for mark in of(recorder.MarkEvent, decisions)}


def roast(*, charge_ms: int = 5000, cooling_ms: int = 120_000, end_ms: int = 180_000, fall_c: float = 60, jump=True):
    """A made-up roast at 10 Hz: the probe falls for 60 s, rises, drops at ``cooling_ms``."""
    for ms in range(0, end_ms, 100):
        since_s = (ms - charge_ms) / 1000
        if ms < charge_ms:
            yield reading(ms, S.CHARGE, 160.0, infrared_temp_c=230.0)
        elif ms < cooling_ms:
            low = 160 - fall_c * min(since_s, 60) / 60 * (2 - min(since_s, 60) / 60)
            yield reading(ms, S.ROASTING, low + max(0.0, since_s - 60) * 0.3)
        else:
            hot = jump and ms > cooling_ms + 3000
            yield reading(ms, S.COOLING, 150.0, infrared_temp_c=238.0 if hot else 205.0, heater_step=0)
    yield reading(end_ms, S.OFF, 90.0, heater_step=0)


def test_a_whole_roast_is_opened_marked_and_finished() -> None:
    state, decisions = run(roast())
    opened = of(recorder.OpenRoast, decisions)
    assert [(o.device_start_ms, o.is_late, o.is_spurious) for o in opened] == [(5000, False, False)]
    found = marks(decisions)
    assert found.pop("turning_point") == pytest.approx(60_000, abs=1000)
    assert found == {"charge": 0, "drop": 115_000, "cool_end": 175_000}
    assert [c.status for c in of(recorder.CloseRoast, decisions)] == ["finished"]
    assert [s.status for s in of(recorder.SetStatus, decisions)] == ["roasting", "cooling"]
    assert state.roast is None
    samples = of(recorder.RecordSample, decisions)
    assert [s.elapsed_ms for s in samples] == list(range(0, 175_001, 100)), "each reading once, by device time"


def test_beans_are_proved_by_a_fall_of_25_degrees_within_20_seconds() -> None:
    def proved(fall_at_20_s: float) -> bool:
        state, _ = run(
            [reading(0, S.CHARGE, 160.0)] + [reading(ms, S.ROASTING, 160 - fall_at_20_s * ms / 20_000)
             for ms in range(100, 20_101, 100)]
        )  # fmt: skip
        assert state.roast is not None
        return state.roast.are_beans_proved

    assert proved(25.2)
    assert not proved(24.8)


def test_beans_that_fall_after_20_seconds_are_not_proved() -> None:
    state, _ = run([reading(0, S.CHARGE, 160.0), reading(100, S.ROASTING, 160.0), reading(20_200, S.ROASTING, 100.0)])
    assert state.roast is not None and not state.roast.are_beans_proved


def test_beans_are_missing_only_where_the_charge_was_seen() -> None:
    def missing(readings: Iterable[Reading]) -> list[int]:
        """Elapsed ms of readings at which beans are missing."""
        state, found = RecorderState(), []
        for one in readings:
            state = recorder.step(state, one, "boot1").state
            if state.roast is not None and state.roast.are_beans_missing:
                found.append(state.roast.last_elapsed_ms)
        return found

    assert missing(roast(fall_c=60)) == []
    empty = missing(roast(fall_c=5))
    assert (empty[0], empty[-1]) == (20_100, 114_900), "until the drop"
    assert missing(one for one in roast(fall_c=5) if one.device_ms >= 7000) == [], "we came after the charge"


def test_a_roast_joined_late_counts_as_turned_after_two_minutes() -> None:
    """So that interlocks of the rate of rise are armed; the mark itself is not made up."""
    late = [one for one in roast(cooling_ms=200_000, end_ms=200_000) if 75_000 <= one.device_ms < 200_000]
    state, decisions = run(late)
    assert state.roast is not None and state.roast.turned_by_ms == 120_000
    assert "turning_point" not in marks(decisions)
    state, _ = run(one for one in roast(cooling_ms=200_000, end_ms=200_000) if one.device_ms < 200_000)
    assert state.roast is not None and state.roast.turned_by_ms == pytest.approx(60_000, abs=1000)
    state, _ = run(one for one in roast() if one.device_ms < 40_000)
    assert state.roast is not None and state.roast.turned_by_ms is None


def test_turning_point_waits_for_the_rise_and_is_the_latest_of_equals() -> None:
    temps = [160.0] * 5 + [120.0 - n for n in range(20)] + [100.0, 100.0, 100.5, 100.9]
    readings = [reading(0, S.CHARGE, 160.0)] + [reading(1000 * (n + 1), bean_c=t) for n, t in enumerate(temps)]
    state, decisions = run(readings)
    assert "turning_point" not in marks(decisions)
    risen = [reading(1000 * (len(temps) + n), bean_c=101.0) for n in (1, 2)]
    _, more = run(risen, state)
    assert marks(more) == {"turning_point": 26_000}


def test_a_spurious_start_without_beans_has_no_turning_point() -> None:
    state, decisions = run(
        [reading(0, S.PREHEATING, 160.0)] + [reading(ms, bean_c=160 + ms / 10_000) for ms in range(100, 60_000, 100)]
    )
    assert of(recorder.OpenRoast, decisions)[0].is_spurious
    assert "turning_point" not in marks(decisions)
    assert state.roast is not None and not state.roast.are_beans_proved


def test_beans_still_in_the_drum_when_no_jump_follows_the_drop() -> None:
    _, with_jump = run(roast(jump=True))
    _, without = run(roast(jump=False))
    assert of(recorder.BeansStillInDrum, with_jump) == []
    assert [b.elapsed_ms for b in of(recorder.BeansStillInDrum, without)] == [135_100]


def test_a_repeated_device_time_is_recorded_once() -> None:
    readings = [reading(0, S.CHARGE), reading(100), reading(100, sequence=99), reading(200)]
    _, decisions = run(readings)
    assert [s.elapsed_ms for s in of(recorder.RecordSample, decisions)] == [0, 100]


def test_a_hole_is_marked_with_its_reason_and_the_roast_goes_on() -> None:
    state, _ = run(list(roast())[:1000])
    state = recorder.note_loss(state, "unplugged")
    _, decisions = run([one for one in roast() if one.device_ms > 110_000], state)
    assert of(recorder.OpenRoast, decisions) == []
    gap = of(recorder.RecordGap, decisions)[0]
    assert (gap.from_ms, gap.to_ms, gap.reason) == (94_900, 105_100, "unplugged")


def test_a_new_connection_continues_by_the_machines_roast_clock() -> None:
    """Device time starts anew after a replug; a virtual machine runs four times faster than the wall."""
    minute = [reading(ms, roast_clock_s=(ms - 100) // 1000) for ms in range(100, 60_100, 100)]
    state, _ = run([reading(0, S.CHARGE), *minute])
    at = START + dt.timedelta(seconds=70)
    later = [reading(5, roast_clock_s=99, at=at), reading(105, roast_clock_s=99, at=at + dt.timedelta(seconds=0.1))]
    state, decisions = run(later, state, "boot2")
    assert of(recorder.OpenRoast, decisions) == []
    assert [s.elapsed_ms for s in of(recorder.RecordSample, decisions)] == [99_900, 100_000]
    assert of(recorder.Rebase, decisions)[0].device_start_ms == 5 - 99_900
    assert of(recorder.RecordGap, decisions)


def test_a_new_connection_whose_device_time_goes_on_keeps_exact_time() -> None:
    minute = [reading(ms, roast_clock_s=(ms - 100) // 1000) for ms in range(100, 60_100, 100)]
    state, _ = run([reading(0, S.CHARGE), *minute])
    at = START + dt.timedelta(seconds=63)
    _, decisions = run([reading(65_300, roast_clock_s=65, at=at)], state, "boot2")
    assert [s.elapsed_ms for s in of(recorder.RecordSample, decisions)] == [65_200]
    assert of(recorder.Rebase, decisions) == []
    assert [(g.from_ms, g.to_ms) for g in of(recorder.RecordGap, decisions)] == [(59_900, 65_200)]


def test_coming_late_opens_at_the_machines_clock_with_a_gap() -> None:
    _, decisions = run([reading(500_000, roast_clock_s=120)])
    opened = of(recorder.OpenRoast, decisions)[0]
    assert opened.is_late and opened.device_start_ms == 380_000
    assert of(recorder.RecordGap, decisions) == [recorder.RecordGap(0, 120_000, "loop_lost")]


def test_leaving_roasting_for_off_aborts_after_ten_seconds_and_a_return_goes_on() -> None:
    begin = [reading(0, S.CHARGE)] + [reading(ms) for ms in range(100, 30_000, 100)]
    away = [reading(ms, S.OFF) for ms in range(30_000, 39_900, 100)]
    state, decisions = run([*begin, *away, reading(39_900)])
    assert of(recorder.CloseRoast, decisions) == [] and state.roast is not None
    state, decisions = run([*begin, *away, reading(40_000, S.OFF)])
    assert [c.status for c in of(recorder.CloseRoast, decisions)] == ["aborted"]


def test_an_unknown_state_decides_nothing() -> None:
    _state, decisions = run([reading(0, S.CHARGE), reading(100), reading(200, S.UNKNOWN), reading(300)])
    assert len(of(recorder.OpenRoast, decisions)) == 1
    assert len(of(recorder.RecordSample, decisions)) == 3


def test_a_second_charge_without_cool_end_finishes_the_first_roast() -> None:
    readings = [reading(0, S.CHARGE), reading(100), reading(200, S.COOLING), reading(300)]
    _, decisions = run(readings)
    assert len(of(recorder.OpenRoast, decisions)) == 2
    assert [c.status for c in of(recorder.CloseRoast, decisions)] == ["finished"]


def clocked(first_ms: int, last_ms: int, *, charge_ms: int, state: S = S.ROASTING, at_s: float = 0) -> list[Reading]:
    """Readings at 10 Hz of a machine that tells its roast clock; ``at_s``: the wall's time of the first."""
    return [
        reading(
            ms, state, roast_clock_s=max(0, ms - charge_ms) // 1000 if state is S.ROASTING else 0,
            at=START + dt.timedelta(seconds=at_s + (ms - first_ms) / 1000),
        )
        for ms in range(first_ms, last_ms, 100)
    ]  # fmt: skip


def opened_and_closed(decisions: list) -> list[tuple[str, object]]:
    """[("open", joined late?) | ("close", status)], in order."""
    return [
        ("open", one.is_late) if isinstance(one, recorder.OpenRoast) else ("close", one.status)
        for one in decisions
        if isinstance(one, recorder.OpenRoast | recorder.CloseRoast)
    ]


@pytest.mark.parametrize("first_s", [4, 40, 400])
def test_a_machine_switched_on_anew_begins_another_roast(first_s: int) -> None:
    """Its charge is not the open roast's second one, however soon it comes."""
    first = [reading(0, S.CHARGE), *clocked(100, 100 + first_s * 1000, charge_ms=100)]
    state, before = run(first)
    heating = clocked(50, 5_050, charge_ms=0, state=S.CHARGE, at_s=first_s + 5)
    again = clocked(5_050, 9_050, charge_ms=5_050, at_s=first_s + 10)
    _, after = run([*heating, *again], recorder.note_loss(state, "keeper_lost"), "boot2")
    assert opened_and_closed(before + after) == [("open", False), ("close", "aborted"), ("open", False)]
    assert of(recorder.OpenRoast, after)[0].device_start_ms == 5_050


@pytest.mark.parametrize("first_s", [4, 40, 400])
def test_so_it_does_where_we_were_switched_off_too(first_s: int) -> None:
    state, _ = run([reading(0, S.CHARGE), *clocked(100, 100 + first_s * 1000, charge_ms=100)])
    state = replace(state, is_resumed=True, last_state=None, last_clock_s=None)
    heating = clocked(50, 5_050, charge_ms=0, state=S.CHARGE, at_s=first_s + 5)
    _, after = run([*heating, *clocked(5_050, 9_050, charge_ms=5_050, at_s=first_s + 10)], state, "boot2")
    assert opened_and_closed(after) == [("close", "aborted"), ("open", False)]


def test_a_charge_while_the_line_was_cut_is_another_roast_joined_late() -> None:
    state, _ = run([reading(0, S.CHARGE), *clocked(100, 400_000, charge_ms=100)])
    seen_again = clocked(30_000, 34_000, charge_ms=10_000, at_s=600)
    _, after = run(seen_again, recorder.note_loss(state, "unplugged"), "boot2")
    assert opened_and_closed(after) == [("close", "aborted"), ("open", True)]
    closed = of(recorder.CloseRoast, after)[0]
    assert closed.at == state.last_at, "the old roast ends where it was last seen"
    assert of(recorder.RecordGap, after) == [recorder.RecordGap(0, 20_000, "loop_lost")]
    assert next(s.elapsed_ms for s in of(recorder.RecordSample, after)) == 20_000


def test_a_flicker_of_the_state_is_no_other_roast() -> None:
    """Nor is a roast clock that a single frame tells wrongly while the machine goes on roasting."""
    begin = [reading(0, S.CHARGE), *clocked(100, 60_000, charge_ms=100)]
    off = clocked(60_000, 60_300, charge_ms=0, state=S.OFF, at_s=60)
    on = clocked(60_300, 61_000, charge_ms=100, at_s=60.3)
    wrong = [reading(61_000, roast_clock_s=0), *clocked(61_100, 62_000, charge_ms=100, at_s=61.1)]
    _, decisions = run([*begin, *off, *on, *wrong])
    assert opened_and_closed(decisions) == [("open", False)]


STATES = st.sampled_from(list(MachineState))


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.integers(-3000, 30_000), STATES, st.none() | st.floats(-50, 400), st.sampled_from(["a", "a", "a", "b"])
        ),
        max_size=80,
    )
)
def test_whatever_comes_roasts_open_and_close_in_turn_and_time_rises(rows: list) -> None:
    state, device_ms = RecorderState(), 100_000
    at = START
    is_open, last_ms = False, -1
    for step_ms, machine_state, bean_c, connection in rows:
        device_ms = max(0, device_ms + step_ms)
        at += dt.timedelta(milliseconds=abs(step_ms))
        taken = recorder.step(state, reading(device_ms, machine_state, bean_c, at=at), connection)
        state = taken.state
        for decision in taken.decisions:
            assert decision_json.decode(json.loads(json.dumps(decision_json.encode(decision)))) == decision
            if isinstance(decision, recorder.OpenRoast):
                assert not is_open
                is_open, last_ms = True, -1
                continue
            assert is_open, "nothing is recorded outside a roast"
            if isinstance(decision, recorder.RecordSample):
                assert decision.elapsed_ms > last_ms
                last_ms = decision.elapsed_ms
            if isinstance(decision, recorder.CloseRoast):
                is_open = False
        assert is_open == (state.roast is not None)


@pytest.mark.parametrize("path", real_logs.paths(), ids=lambda path: path.stem)
def test_marks_of_a_real_log_agree_with_artisans_summary(path) -> None:
    log = real_logs.read(path)
    state, decisions = run(real_logs.readings(log))
    assert state.roast is not None and state.roast.are_beans_proved
    assert of(recorder.BeansStillInDrum, decisions) == []
    found, summary = marks(decisions), log.raw["computed"]
    charge_s = log.times_s[log.raw["timeindex"][0]]
    assert of(recorder.OpenRoast, decisions)[0].device_start_ms / 1000 == pytest.approx(charge_s, abs=3.1)
    if "DROP_time" in summary:  # where the person marked no drop, Artisan's TP is of a wider window
        assert found["turning_point"] / 1000 == pytest.approx(summary["TP_time"], abs=1.1)
        assert found["drop"] / 1000 == pytest.approx(summary["DROP_time"], abs=3.1)


def test_the_real_logs_are_there_where_they_must_be() -> None:
    real_logs.need_logs()


# --- a machine that tells no states ---


def silent(end_s: float = 700, charge_ms: int = 20_000) -> list[Reading]:
    return list(made_up(charge_ms=charge_ms, end_s=end_s, step_ms=500))


def test_a_machine_without_states_opens_its_roast_at_the_inferred_charge_and_loses_no_reading() -> None:
    _, decisions = run(silent())
    opened = of(recorder.OpenRoast, decisions)[0]
    assert opened.device_start_ms == pytest.approx(20_000, abs=3000)
    samples = of(recorder.RecordSample, decisions)
    elapsed = [sample.elapsed_ms for sample in samples]
    assert elapsed[0] < 500 and all(b - a == 500 for a, b in zip(elapsed, elapsed[1:], strict=False))
    assert all(sample.reading.device_ms - opened.device_start_ms == sample.elapsed_ms for sample in samples)
    charge = next(mark for mark in of(recorder.MarkEvent, decisions) if mark.kind == "charge")
    assert (charge.elapsed_ms, charge.source) == (0, "inferred")


def test_it_is_dropped_and_closed_by_inference_too() -> None:
    readings = silent(end_s=900)
    state, decisions = run(readings)
    drop = next(mark for mark in of(recorder.MarkEvent, decisions) if mark.kind == "drop")
    start_ms = of(recorder.OpenRoast, decisions)[0].device_start_ms
    assert drop.elapsed_ms + start_ms == pytest.approx(20_000 + 1000 * DROP_S, abs=3000)
    assert [s.status for s in of(recorder.SetStatus, decisions)] == ["roasting", "cooling"]
    assert [c.status for c in of(recorder.CloseRoast, decisions)] == ["finished"]
    assert state.roast is None


def test_a_charge_that_was_none_aborts_the_roast_it_opened() -> None:
    temps = [160.0] * 10 + [158.0, 156.0, 154.0, 153.0, 154.0, 156.0, 158.0, *[160.0] * 20]
    state, decisions = run([at(1000 * n, temp_c) for n, temp_c in enumerate(temps)])
    assert [type(d).__name__ for d in decisions if not isinstance(d, recorder.RecordSample | recorder.SetStatus)] == [
        "OpenRoast", "MarkEvent", "WithdrawMark", "CloseRoast",
    ]  # fmt: skip
    assert of(recorder.CloseRoast, decisions)[0].status == "aborted" and state.roast is None


def test_two_roasts_of_a_machine_without_states_are_two() -> None:
    first = silent(end_s=900)
    again_ms = first[-1].device_ms + 1000
    heated = [at(again_ms + 1000 * n, min(160.0, 60.0 + n)) for n in range(130)]
    begin_ms = heated[-1].device_ms + 1000
    second = [replace(one, device_ms=one.device_ms + begin_ms, at=one.at + dt.timedelta(milliseconds=begin_ms))
              for one in silent(end_s=900)]  # fmt: skip
    _, decisions = run([*first, *heated, *second])
    assert len(of(recorder.OpenRoast, decisions)) == 2
    assert [c.status for c in of(recorder.CloseRoast, decisions)] == ["finished", "finished"]


def test_a_machine_that_tells_states_opens_no_roast_by_its_temperatures() -> None:
    _, decisions = run([replace(one, state=S.OFF) for one in silent()])
    assert decisions == []


def test_a_hole_in_mid_roast_moves_no_mark() -> None:
    """Another connection, device time anew: inference goes on by the roast's own time."""
    whole = list(_clocked())
    _, unbroken = run(whole)
    cut = 2 * 300
    state, before = run(whole[:cut])
    moved = [replace(one, device_ms=one.device_ms - whole[cut].device_ms + 7) for one in whole[cut:]]
    _, after = run(moved, state, "boot2")
    found, wanted = marks([*before, *after]), marks(unbroken)
    for kind in ("turning_point", "dry_end", "drop"):
        assert found[kind] == pytest.approx(wanted[kind], abs=1500), kind


def _clocked() -> Iterable[Reading]:
    """The made-up roast of a machine with states and a roast clock."""
    for one in silent():
        since_s = (one.device_ms - 20_000) / 1000
        state = S.CHARGE if since_s < 0 else S.ROASTING if since_s < DROP_S else S.COOLING
        yield replace(one, state=state, roast_clock_s=max(0, int(since_s)))


def test_what_is_expected_reaches_the_open_roast_and_the_next() -> None:
    expectation = inference.Expectation(dry_end_c=140.0)
    state, _ = run(list(_clocked())[:200])
    assert recorder.expect(state, expectation).watch.known.expectation == expectation
    state = recorder.expect(RecorderState(), expectation)
    _, decisions = run(_clocked(), state)
    _, usual = run(_clocked())
    assert marks(decisions)["dry_end"] < marks(usual)["dry_end"] - 10_000
