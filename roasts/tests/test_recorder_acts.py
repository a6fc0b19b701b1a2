"""Roasts of machines without states, opened and closed by people and by silence."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import replace

import pytest

from drivers.port import MachineState, Reading
from roasts.recording import recorder, recorder_acts
from roasts.recording.recorder import CloseRoast, MarkEvent, OpenRoast, RecorderState, RecordSample
from roasts.tests.event_roasts import DROP_S, START, at, made_up, probe_c

CHARGE_MS = 20_000


def fed(state: RecorderState, readings: Iterable[Reading]) -> tuple[RecorderState, list[recorder.Decision]]:
    found: list[recorder.Decision] = []
    for reading in readings:
        taken = recorder.step(state, reading, "boot1")
        state = taken.state
        found += taken.decisions
    return state, found


def until(s: float, *, after_s: float = -1e9, step_ms: int = 200) -> list[Reading]:
    """The made-up roast between two seconds after its charge."""
    readings = made_up(charge_ms=CHARGE_MS, end_s=700, step_ms=step_ms)
    return [one for one in readings if after_s < (one.device_ms - CHARGE_MS) / 1000 <= s]


def marks(decisions: list[recorder.Decision]) -> dict[str, int]:
    return {one.kind: one.elapsed_ms for one in decisions if isinstance(one, MarkEvent)}


def moment(device_ms: int) -> dt.datetime:
    return START + dt.timedelta(milliseconds=device_ms)


@pytest.fixture(scope="module")
def roasted() -> tuple[RecorderState, list[recorder.Decision]]:
    """Taken over 2 s after a person said *charged*, followed until 15 s after the drop."""
    state, before = fed(RecorderState(), until(2.0))
    assert not any(isinstance(one, OpenRoast) for one in before), "nothing to infer yet"
    taken = recorder_acts.take_over(state, device_start_ms=CHARGE_MS)
    state, after = fed(taken.state, until(DROP_S + 15, after_s=2.0))
    return state, [*taken.decisions, *after]


def test_a_persons_charge_is_recorded_from_its_moment_without_a_hole(roasted: tuple) -> None:
    samples = [one.elapsed_ms for one in roasted[1] if isinstance(one, RecordSample)]
    assert samples == list(range(0, samples[-1] + 1, 200)) and samples[-1] >= (DROP_S + 14) * 1000
    assert not any(isinstance(one, OpenRoast) for one in roasted[1]), "the record has it already"


def test_what_follows_a_persons_charge_is_inferred(roasted: tuple) -> None:
    found = marks(roasted[1])
    assert "charge" not in found, "that mark is the person's"
    assert abs(found["turning_point"] - 60_000) <= 3000 and abs(found["drop"] - DROP_S * 1000) <= 3000
    assert roasted[0].roast is not None and roasted[0].roast.status == "cooling"


def test_rate_of_rise_goes_on_over_a_persons_charge() -> None:
    state, _ = fed(RecorderState(), until(2.0))
    taken = recorder_acts.take_over(state, device_start_ms=CHARGE_MS)
    rates = [one.rate_of_rise_c_per_min for one in taken.decisions if isinstance(one, RecordSample)]
    assert len(rates) == 11 and None not in rates


def test_a_person_may_press_after_the_probe_has_turned() -> None:
    state, _ = fed(RecorderState(), until(-1.0))
    late = [replace(one, bean_temp_c=probe_c(90 + one.device_ms / 1000)) for one in until(0) if one.device_ms < 4000]
    state, _ = fed(RecorderState(), late)
    taken = recorder_acts.take_over(state, device_start_ms=3800)
    rest = [at(ms, round(probe_c(90 + ms / 1000), 1)) for ms in range(4000, 480_000, 1000)]
    state, found = fed(taken.state, rest)
    assert "drop" in marks(found) and not any(isinstance(one, CloseRoast) for one in found)


def test_a_persons_charge_without_any_fall_is_never_refuted() -> None:
    flat = [at(ms, 160.0) for ms in range(0, 10_000, 1000)]
    state, _ = fed(RecorderState(), flat)
    taken = recorder_acts.take_over(state, device_start_ms=9000)
    state, found = fed(taken.state, [at(ms, 160.0 + ms / 100_000) for ms in range(10_000, 900_000, 1000)])
    assert state.roast is not None and not state.roast.are_beans_proved
    assert not any(isinstance(one, CloseRoast) for one in found)


def test_where_a_roast_is_open_nothing_is_taken_over() -> None:
    state, _ = fed(RecorderState(), until(30))
    assert state.roast is not None and state.roast.is_inferred
    taken = recorder_acts.take_over(state, device_start_ms=CHARGE_MS + 5000)
    assert taken.state is state and taken.decisions == ()


def test_the_fall_after_a_roast_that_a_person_closed_is_no_charge() -> None:
    state, _ = fed(RecorderState(), until(DROP_S))
    assert state.roast is not None
    state, found = fed(recorder_acts.let_go(state), until(DROP_S + 120, after_s=DROP_S))
    assert state.roast is None and found == []


def test_after_a_roast_that_a_person_closed_the_next_charge_is_inferred() -> None:
    state, _ = fed(RecorderState(), until(DROP_S))
    state, _ = fed(recorder_acts.let_go(state), until(DROP_S + 60, after_s=DROP_S))
    low_c, begin_ms = state_c(DROP_S + 60), CHARGE_MS + round((DROP_S + 60) * 1000)
    heated = [at(begin_ms + ms, low_c + ms / 2000) for ms in range(1000, 60_000, 1000)]
    top_c = heated[-1].bean_temp_c or 0.0
    charged = [at(begin_ms + 60_000 + ms, top_c - 2.5 * max(0, ms / 1000 - 2)) for ms in range(0, 15_000, 1000)]
    state, found = fed(state, [*heated, *charged])
    assert [type(one) for one in found[:2]] == [OpenRoast, MarkEvent] and state.roast is not None


def state_c(since_charge_s: float) -> float:
    return round(probe_c(since_charge_s), 1)


@pytest.mark.parametrize(("silent_s", "is_closed"), [(59.9, False), (60.0, False), (60.1, True), (4000, True)])
def test_a_dropped_roast_is_closed_by_silence_as_of_its_last_reading(
    roasted: tuple, silent_s: float, is_closed: bool
) -> None:
    last_at = roasted[0].last_at
    state, close = recorder_acts.close_if_silent(roasted[0], last_at + dt.timedelta(seconds=silent_s))
    assert close == (CloseRoast("finished", last_at) if is_closed else None)
    assert (state.roast is None) is is_closed


def test_silence_before_a_drop_closes_nothing() -> None:
    state, _ = fed(RecorderState(), until(200))
    later, close = recorder_acts.close_if_silent(state, moment(10_000_000))
    assert close is None and later is state


def test_a_machine_with_states_is_closed_by_silence_and_opens_again_at_its_next_charge() -> None:
    stated = [replace(one, state=MachineState.ROASTING) for one in until(300)]
    state, _ = fed(RecorderState(), [at(0, 160.0, MachineState.CHARGE), *stated[1:]])
    state, _ = fed(state, [at(400_000, 200.0, MachineState.COOLING)])
    state, close = recorder_acts.close_if_silent(state, moment(461_000))
    assert close is not None and state.roast is None
    cooling, found = fed(state, [at(500_000, 90.0, MachineState.COOLING)])
    assert found == []
    again = [at(900_000, 160.0, MachineState.CHARGE), at(900_100, 160.0, MachineState.ROASTING)]
    assert any(isinstance(one, OpenRoast) for one in fed(cooling, again)[1])


def test_device_time_of_a_moment_is_counted_from_the_newest_reading() -> None:
    assert recorder_acts.device_ms_at(RecorderState(), START) is None
    state, _ = fed(RecorderState(), [at(50_000, 160.0)])
    assert recorder_acts.device_ms_at(state, moment(47_500)) == 47_500
