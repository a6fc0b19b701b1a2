"""A bridge's points through the recorder: the same roast as a machine loop's, however the batches are cut."""

from __future__ import annotations

import datetime as dt
import itertools
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roasts.recording import recorder
from roasts.recording.recorder import CloseRoast, MarkEvent, OpenRoast, RecordGap, SetStatus
from roasts.telemetry import following, stream_state
from roasts.telemetry.envelope import read
from roasts.telemetry.following import StreamState, Taken, take
from roasts.telemetry.steady import NewSample
from roasts.tests.telemetry_senders import BEGUN, CHARGE_S, COOLED_S, DROP_S, envelope, point, span, text

LATE = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)


class Stream:
    """Envelopes one after the other, and all that came of them."""

    def __init__(self, *, is_stored: bool = False) -> None:
        self.state = StreamState()
        self.last = 0
        self.acts: list[Any] = []
        self.samples: list[NewSample] = []
        self.idle = self.repeated = 0
        self._ids = (f"rst_{n}" for n in itertools.count(1))
        self._is_stored = is_stored

    def send(self, points: list[dict[str, Any]], *, sequence: int | None = None, **fields: Any) -> Taken:
        sequence = sequence or self.last + 1
        seen = read(envelope("mch_a", sequence, points, **fields), received_at=LATE)
        assert not seen.refused_points and not seen.refused_events
        taken = take(self.state, seen, self.last, lambda: next(self._ids))
        self.state, self.last = taken.state, max(self.last, sequence)
        if self._is_stored:
            kept, rate = self.state.recording, self.state.recording.rate
            back = stream_state.decode(stream_state.encode(self.state))
            self.state = following.replace(
                back, recording=following.replace(back.recording, watch=kept.watch, recent=kept.recent, rate=rate)
            )
        self.acts += [filing.decision for filing in taken.acts]
        self.samples += taken.samples
        self.idle += taken.idle
        self.repeated += taken.repeated
        return taken

    def of(self, kind: type) -> list[Any]:
        return [act for act in self.acts if isinstance(act, kind)]

    def marks(self) -> dict[str, int]:
        return {mark.kind: mark.elapsed_ms for mark in reversed(self.of(MarkEvent))}


def unstated(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in each.items() if name != "state"} for each in points]


def event(kind: str, seconds: float, **fields: Any) -> dict[str, Any]:
    return {"kind": kind, "at": text(BEGUN + dt.timedelta(seconds=seconds)), **fields}


def by_recorder(points: list[dict[str, Any]]) -> tuple[list[Any], list[tuple[int, float | None]]]:
    """(decisions but samples, samples) of the recorder alone: what a machine loop would have."""
    seen = read(envelope("mch_a", 1, points), received_at=LATE)
    made = following._Follower(Taken(StreamState(), 1), "silent", lambda: "rst_1")
    state, acts, samples = recorder.RecorderState(), [], []
    for each in seen.points:
        step = recorder.step(state, made._reading(each))
        state = step.state
        for decision in step.decisions:
            if isinstance(decision, recorder.RecordSample):
                samples.append((decision.elapsed_ms, decision.rate_of_rise_c_per_min))
            else:
                acts.append(decision)
    return acts, samples


ROAST = span(0, COOLED_S + 5, 0.5)


@pytest.mark.parametrize("cut", [7, 10, len(ROAST)])
@pytest.mark.parametrize("is_stored", [False, True], ids=["kept", "stored"])
def test_the_same_roast_as_a_machine_loops_however_it_is_cut(cut: int, is_stored: bool) -> None:
    stream = Stream(is_stored=is_stored)
    for begin in range(0, len(ROAST), cut):
        stream.send(ROAST[begin : begin + cut])
    acts, samples = by_recorder(ROAST)
    assert stream.acts == acts
    assert [each.elapsed_ms for each in stream.samples] == [elapsed_ms for elapsed_ms, _ in samples]
    assert [each.rate_of_rise_c_per_min for each in stream.samples] == [rate for _, rate in samples]
    assert {"charge", "turning_point", "drop", "cool_end"} <= set(stream.marks())


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.2, 1.4), st.integers(1, 200))
def test_noise_holes_and_odd_states_are_followed_like_the_recorder_follows_them(
    seed: int, every_s: float, cut: int
) -> None:
    """The steady way must be the recorder's own, whatever comes: property over made-up trouble."""
    chance = random.Random(seed)
    points = []
    for each in span(0, 300, every_s):
        if chance.random() < 0.03:
            each["state"] = chance.choice(["unknown", "off", "roasting", "charge", "cooling"])
        if chance.random() < 0.05:
            name = chance.choice(["bean_temp_c", "infrared_temp_c", "heater_step", "state"])
            each["quality"] = {name: chance.choice(["stale", "absent"])}
        if chance.random() < 0.1:
            each["heater_step"] = chance.randrange(10)
        if chance.random() < 0.05:
            each.pop("bean_temp_c")
        if chance.random() < 0.03:
            each["roast_clock_s"] = chance.randrange(300)
        if chance.random() > 0.02:
            points.append(each)
    stream = Stream()
    for begin in range(0, len(points), cut):
        stream.send(points[begin : begin + cut])
    acts, samples = by_recorder(points)
    plain = [act for act in acts if not isinstance(act, RecordGap)]
    assert [act for act in stream.acts if not isinstance(act, RecordGap)] == plain
    assert [(each.elapsed_ms, each.rate_of_rise_c_per_min) for each in stream.samples] == samples


def test_a_sample_says_which_envelope_it_came_by_and_where_it_stood() -> None:
    stream = Stream()
    stream.send(span(0, 15))
    taken = stream.send(span(15, 20))
    assert [each.sequence for each in taken.samples] == [(2 << 12) | n for n in range(5)]


def test_points_while_no_roast_is_on_are_not_recorded() -> None:
    stream = Stream()
    taken = stream.send(span(0, CHARGE_S))
    assert (taken.idle, taken.samples) == (10, [])
    assert taken.newest is not None and taken.newest.at == BEGUN + dt.timedelta(seconds=9)


def test_a_moment_that_is_recorded_is_not_recorded_again() -> None:
    stream = Stream()
    stream.send(span(0, 20))
    taken = stream.send([point(19), point(19), point(20)])
    assert (len(taken.samples), taken.repeated) == (1, 2)


def test_points_out_of_order_inside_an_envelope_are_not_late() -> None:
    stream = Stream()
    points = span(0, 30)
    random.Random(1).shuffle(points)
    taken = stream.send(points)
    assert not taken.late and [each.elapsed_ms for each in taken.samples] == [n * 1000 for n in range(20)]


@pytest.mark.parametrize(("seconds", "is_late"), [(18.999, True), (19.0, False), (19.001, False)])
def test_a_point_older_than_the_newest_is_late(seconds: float, is_late: bool) -> None:
    stream = Stream()
    stream.send(span(0, 20))
    taken = stream.send([point(seconds, device_ms=round(seconds * 1000))])
    assert bool(taken.late) is is_late


# --- lifecycle by events and by silence


def test_events_alone_make_a_roast_of_points_without_states() -> None:
    stream = Stream()
    stream.send(unstated(span(0, 30)), events=[event("charge", CHARGE_S)])
    stream.send(unstated(span(30, 600, 5)))
    stream.send(unstated(span(600, 640)), events=[event("drop", 612.5)])
    stream.send(unstated(span(640, 720)), events=[event("cool_end", 700)])
    assert [act.at for act in stream.of(OpenRoast)] == [BEGUN + dt.timedelta(seconds=CHARGE_S)]
    marks = stream.marks()
    assert (marks["charge"], marks["drop"]) == (0, 602_500)
    assert [act.status for act in stream.of(CloseRoast)] == ["finished"]
    assert stream.samples[0].elapsed_ms <= 1000 and stream.state.recording.roast is None
    assert stream.idle == 10 + 20  # before the charge, and after the cool end


def test_a_charge_that_is_told_late_opens_the_roast_at_its_own_time() -> None:
    stream = Stream()
    stream.send(unstated(span(0, 40, bean_temp_c=180.0)))  # nothing that inference could take for a charge
    stream.send(unstated(span(40, 60, bean_temp_c=180.0)), events=[event("charge", 10)])
    opened = stream.of(OpenRoast)[0]
    assert opened.device_start_ms == 10_000 and stream.samples[0].elapsed_ms == 30_000
    assert [(gap.from_ms, gap.reason) for gap in stream.of(RecordGap)] == [(0, "charge_told_late")]


def test_a_charge_said_twice_is_one_and_a_later_one_is_the_next_roast() -> None:
    stream = Stream()
    stream.send(unstated(span(0, 20)), events=[event("charge", 10)])
    stream.send(unstated(span(20, 40)), events=[event("charge", 30)])
    assert len(stream.of(OpenRoast)) == 1
    stream.send(unstated(span(40, 300, 5)), events=[event("charge", 200)])
    assert len(stream.of(OpenRoast)) == 2 and [act.status for act in stream.of(CloseRoast)] == ["aborted"]


def test_other_events_are_marks() -> None:
    stream = Stream()
    stream.send(span(0, 30), events=[event("first_crack_start", 25.5, source="inferred", confidence=0.4)])
    mark = next(act for act in stream.of(MarkEvent) if act.kind == "first_crack_start")
    assert (mark.elapsed_ms, mark.source, mark.confidence) == (15_500, "inferred", 0.4)


@pytest.mark.parametrize(("silent_s", "is_closed"), [(59.0, False), (60.0, False), (60.5, True), (900.0, True)])
def test_silence_after_the_drop_closes_the_roast_as_of_its_last_point(silent_s: float, is_closed: bool) -> None:
    stream = Stream()
    stream.send(span(0, DROP_S + 20))
    taken = stream.send([point(DROP_S + 19 + silent_s, state="cooling")])
    assert bool(taken.closed_by) is is_closed
    if is_closed:
        closed = stream.of(CloseRoast)[0]
        assert (closed.status, closed.at) == ("finished", BEGUN + dt.timedelta(seconds=DROP_S + 19))
        assert list(taken.closed_by.values()) == ["silence"]


def test_an_empty_envelope_passes_event_time_too() -> None:
    stream = Stream()
    stream.send(span(0, DROP_S + 20))
    stream.send([], at=text(BEGUN + dt.timedelta(seconds=DROP_S + 79)))
    assert not stream.of(CloseRoast)
    stream.send([], at=text(BEGUN + dt.timedelta(seconds=DROP_S + 81)))
    assert [act.status for act in stream.of(CloseRoast)] == ["finished"]


def test_silence_before_the_drop_closes_nothing() -> None:
    stream = Stream()
    stream.send(span(0, 200))
    stream.send(span(500, 510))
    assert not stream.of(CloseRoast) and len(stream.of(OpenRoast)) == 1


# --- gaps and sequences


@pytest.mark.parametrize(
    ("every_s", "hole_s", "is_gap"),
    [(0.1, 1.4, False), (0.1, 1.7, True), (1.0, 3.0, False), (1.0, 3.2, True), (5.0, 14.0, False), (5.0, 16.0, True)],
)
def test_a_gap_is_measured_by_the_senders_own_interval(every_s: float, hole_s: float, is_gap: bool) -> None:
    stream = Stream()
    stream.send(span(0, 100, every_s))
    last_s = 100 - every_s
    stream.send([point(last_s + hole_s)])
    gaps = [(gap.from_ms, gap.to_ms) for gap in stream.of(RecordGap)]
    expected = (round((last_s - CHARGE_S) * 1000), round((last_s + hole_s - CHARGE_S) * 1000))
    assert gaps == ([expected] if is_gap else [])


def test_a_hole_of_missing_envelopes_says_so() -> None:
    stream = Stream()
    stream.send(span(0, 30))
    stream.send(span(50, 60), sequence=4)
    assert [gap.reason for gap in stream.of(RecordGap)] == ["missing_batches"]
    assert stream.state.missing == ((2, 3),)


def test_missing_sequences_are_crossed_off_as_they_come() -> None:
    stream = Stream()
    stream.send(span(0, 10))
    stream.send(span(50, 60), sequence=7)
    for sequence, left in ((4, ((2, 3), (5, 6))), (2, ((3, 3), (5, 6))), (6, ((3, 3), (5, 5)))):
        stream.send([point(20)], sequence=sequence)
        assert stream.state.missing == left
    stream.send(span(100, 110), sequence=20)
    assert stream.state.missing == ((3, 3), (5, 5), (8, 19))


def test_missing_ranges_are_bounded() -> None:
    stream = Stream()
    for n in range(1, 150):
        stream.send([point(n)], sequence=2 * n)
    assert len(stream.state.missing) == following.MAX_MISSING_RANGES


def test_device_time_that_starts_anew_goes_on_in_the_same_roast() -> None:
    stream = Stream()
    stream.send(span(0, 100))
    again = [{**each, "device_ms": each["device_ms"] - 100_000} for each in span(100, 120)]
    stream.send(again)
    assert len(stream.of(recorder.Rebase)) == 1 and len(stream.of(OpenRoast)) == 1
    assert [each.elapsed_ms for each in stream.samples[-3:]] == [107_000, 108_000, 109_000]


def test_points_without_device_time_go_by_their_own() -> None:
    stream = Stream()
    stream.send([{k: v for k, v in each.items() if k != "device_ms"} for each in span(0, 40)])
    assert [each.elapsed_ms for each in stream.samples] == [n * 1000 for n in range(30)]


# --- state


@pytest.mark.parametrize(
    "nonsense",
    [None, {}, [], "x", {"version": 2, "stream": {}}, {"version": 1}, {"version": 1, "stream": {"missing": 5}}],
)
def test_a_state_that_is_none_of_ours_is_said_to_be_unreadable(nonsense: Any) -> None:
    with pytest.raises(stream_state.UnreadableState):
        stream_state.decode(nonsense)


def test_a_state_comes_back_as_it_was() -> None:
    stream = Stream()
    assert stream_state.decode(stream_state.encode(stream.state)) == stream.state
    stream.send(unstated(span(0, 5)))  # a machine without states keeps what inference watches
    assert stream_state.decode(stream_state.encode(stream.state)) == stream.state
    stream.send(span(5, 120))
    back = stream_state.decode(stream_state.encode(stream.state))
    assert back.recording.roast == stream.state.recording.roast and back.roast_id == "rst_1"
    assert SetStatus("roasting") in stream.acts
