"""From an envelope to what is to be written: the recorder, fed by a bridge instead of a machine loop. Pure.

All of it goes by event time. Points come to the recorder in the order of their times; a point older than what came
before is *late* and goes by its own time to the roast it belongs to, past the recorder. A roast opens at charge (the
machine's state, or the sender's event) and closes at cool end, at the next charge, or by silence
(`roasts.recording.recorder_acts`): a point long after the last one of a dropped roast closes that roast as of its
last point.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from drivers.port import MachineState, Quality, Reading
from roasts.recording import recorder, recorder_acts
from roasts.recording.filing import Filing
from roasts.recording.recorder import RecorderState
from roasts.telemetry.envelope import Envelope, Event, Point, epoch_ms
from roasts.telemetry.steady import FIRST_GAP_S, INDEX_BITS, NewSample, SteadyRun, interval_after, is_steady

#: A stretch without points is a gap when it is longer than this many of the sender's usual intervals …
GAP_INTERVALS = 3.0
MAX_MISSING_RANGES = 100
#: A second charge this soon after the first is the first one, said twice.
SAME_CHARGE_MS = 120_000

STATE_AFTER = {
    "charge": MachineState.ROASTING,
    "drop": MachineState.COOLING,
    "cool_end": MachineState.OFF,
}


@dataclass(frozen=True, slots=True)
class StreamState:
    """What must be remembered of a remote machine between two envelopes."""

    recording: RecorderState = field(default_factory=RecorderState)
    roast_id: str = ""
    word: str = MachineState.UNKNOWN.value  # what the sender's events say the machine does, where points do not
    is_stated: bool = False  # points carry the machine's state
    is_counted: bool = False  # points carry the machine's own time
    interval_ms: float | None = None  # the sender's usual one
    missing: tuple[tuple[int, int], ...] = ()  # sequences that never came, as inclusive ranges


@dataclass(slots=True)
class Taken:
    """What one envelope led to. ``acts`` in order, without samples; ``late``: for the store to place."""

    state: StreamState
    sequence: int
    acts: list[Filing] = field(default_factory=list)
    samples: list[NewSample] = field(default_factory=list)
    late: list[Point] = field(default_factory=list)
    late_events: list[Event] = field(default_factory=list)
    closed_by: dict[str, str] = field(default_factory=dict)  # roast → why
    idle: int = 0  # points while no roast was open
    repeated: int = 0  # points of a moment that is recorded
    newest: Reading | None = None
    rate_of_rise_c_per_min: float | None = None


def take(state: StreamState, envelope: Envelope, last_sequence: int, make_roast_id: Callable[[], str]) -> Taken:
    """Follow one envelope. ``last_sequence``: the highest that came before. Uses ``state`` up: take each once."""
    points = envelope.points
    has_hole = last_sequence > 0 and envelope.sequence > last_sequence + 1
    state = replace(
        state,
        missing=_missing(state.missing, envelope.sequence, last_sequence),
        is_stated=any("state" in point.values for point in points) if points else state.is_stated,
        is_counted="device_ms" in points[0].values if points else state.is_counted,
    )
    follower = _Follower(Taken(state, envelope.sequence), "missing_batches" if has_hole else "silent", make_roast_id)
    follower.follow(_in_order(points, envelope.events))
    if not points:
        follower.note_silence(envelope.at)
    return follower.done()


def open_by_hand(state: StreamState, at: dt.datetime, make_roast_id: Callable[[], str]) -> Taken:
    """A person says the beans are in: a charge at ``at``, for a machine whose points carry no state."""
    follower = _Follower(Taken(state, 0), "silent", make_roast_id)
    follower.take_event(Event("charge", at, None, "device", 1.0, ""))
    return follower.done()


def close_by_hand(state: StreamState) -> StreamState:
    """A person says the roast is over; a machine that still says *roasting* does not open another by that."""
    is_told = not state.is_stated and state.word == MachineState.ROASTING.value
    word = MachineState.OFF.value if is_told else state.word
    return replace(state, recording=recorder_acts.let_go(state.recording), roast_id="", word=word)


def _missing(ranges: tuple[tuple[int, int], ...], sequence: int, last: int) -> tuple[tuple[int, int], ...]:
    """The sequences still missing after ``sequence`` came; the oldest ranges are forgotten first."""
    if last > 0 and sequence > last + 1:
        return (*ranges, (last + 1, sequence - 1))[-MAX_MISSING_RANGES:]
    if sequence > last:
        return ranges
    left: list[tuple[int, int]] = []
    for low, high in ranges:
        if low <= sequence <= high:
            left += [(a, b) for a, b in ((low, sequence - 1), (sequence + 1, high)) if a <= b]
        else:
            left.append((low, high))
    return tuple(left)


def _in_order(points: Sequence[Point], events: Sequence[Event]) -> list[Point | Event]:
    """By event time; at the same time points go first."""
    if not events and all(a.at <= b.at for a, b in zip(points, points[1:], strict=False)):
        return list(points)
    return sorted([*points, *events], key=lambda item: (item.at, isinstance(item, Event)))


class _Follower:
    """One envelope's way through the recorder."""

    def __init__(self, taken: Taken, gap_reason: str, make_roast_id: Callable[[], str]) -> None:
        self._taken = taken
        self._recording = taken.state.recording
        self._roast_id = taken.state.roast_id
        self._word = taken.state.word
        self._interval_ms = taken.state.interval_ms
        self._gap_reason = gap_reason
        self._make_roast_id = make_roast_id
        self._run: SteadyRun | None = None
        self._is_steady = is_steady(self._recording)

    def done(self) -> Taken:
        """What came of it all."""
        self._settled()
        taken = self._taken
        taken.state = replace(
            taken.state,
            recording=self._recording,
            roast_id=self._roast_id,
            word=self._word,
            interval_ms=self._interval_ms,
        )
        return taken

    def follow(self, items: Sequence[Point | Event]) -> None:
        """Points and marks in the order of time."""
        place = 0
        while place < len(items):
            item = items[place]
            if self._is_steady and (went := self._follow_steadily(items, place)):
                place += went
                continue
            if isinstance(item, Point):
                self.take_point(item)
            else:
                self.take_event(item)
            place += 1

    def take_point(self, point: Point) -> None:
        """One point through the recorder; a late one is set aside."""
        taken, recording = self._taken, self._settled()
        if recording.last_at is not None and point.at < recording.last_at:
            taken.late.append(point)
            return
        if not self._is_steady:
            self.note_silence(point.at)
        last_ms = recording.last_device_ms
        reading = self._reading(point)
        step = recorder.step(self._recording, reading)
        self._recording = step.state
        self._decide(step.decisions, reading, point, step.rate_of_rise_c_per_min)
        if last_ms is not None and point.device_ms > last_ms:
            self._interval_ms = interval_after(self._interval_ms, point.device_ms - last_ms)
        taken.newest = reading
        taken.rate_of_rise_c_per_min = step.rate_of_rise_c_per_min
        self._is_steady = is_steady(self._recording)

    def _follow_steadily(self, items: Sequence[Point | Event], begin: int) -> int:
        """Go over the points that are samples and nothing else; how many."""
        run = self._run or SteadyRun(self._recording, self._interval_ms)
        samples = run.follow(items, begin, self._word, self._roast_id, self._taken.sequence)
        if samples:
            self._run, self._interval_ms = run, run.interval_ms
            self._taken.samples += samples
            self._taken.newest = self._reading(samples[-1].point)
            self._taken.rate_of_rise_c_per_min = samples[-1].rate_of_rise_c_per_min
        return len(samples)

    def _settled(self) -> RecorderState:
        """The recorder's state with the steady run that came since written into it."""
        run, recording = self._run, self._recording
        if run is not None and recording.roast is not None:
            self._recording = replace(
                recording,
                last_device_ms=run.device_ms,
                last_at=run.at,
                last_clock_s=run.clock_s,
                watch=run.watch.state,
                roast=replace(recording.roast, last_elapsed_ms=run.elapsed_ms),
            )
        self._run = None
        return self._recording

    def _reading(self, point: Point) -> Reading:
        values = point.values
        state = MachineState(values.get("state") or self._word)
        quality = values.get("quality")
        return Reading(
            sequence=(self._taken.sequence << INDEX_BITS) | point.index,
            at=point.at,
            monotonic_s=0.0,
            device_ms=point.device_ms,
            state=state,
            bean_temp_c=values.get("bean_temp_c"),
            infrared_temp_c=values.get("infrared_temp_c"),
            environment_temp_c=values.get("environment_temp_c"),
            exhaust_temp_c=values.get("exhaust_temp_c"),
            ambient_temp_c=values.get("ambient_temp_c"),
            rate_of_rise_c_per_min=values.get("rate_of_rise_c_per_min"),
            heater_step=values.get("heater_step"),
            fan_step=values.get("fan_step"),
            drum_step=values.get("drum_step"),
            fan_rpm=values.get("fan_rpm"),
            voltage_v=values.get("voltage_v"),
            roast_clock_s=values.get("roast_clock_s"),
            quality={name: Quality(word) for name, word in quality.items()} if quality else {},
        )

    def _decide(
        self, decisions: Sequence[recorder.Decision], reading: Reading, point: Point | None, rate: float | None
    ) -> None:
        """Sort the recorder's decisions: samples here, acts there. ``point`` None: the reading stands for an event."""
        is_recorded = False
        for decision in decisions:
            if isinstance(decision, recorder.RecordSample):
                if decision.reading is not reading:  # read before its charge was understood
                    self._act(decision, decision.reading.sequence)
                    continue
                is_recorded = True
                if point is not None:
                    self._taken.samples.append(
                        NewSample(
                            self._roast_id, decision.elapsed_ms, reading.sequence, reading.state.value, point, rate
                        )
                    )
            elif isinstance(decision, recorder.OpenRoast):
                self._roast_id = self._make_roast_id()
                self._act(decision, reading.sequence)
            elif isinstance(decision, recorder.RecordGap):
                if decision.to_ms - decision.from_ms > self._gap_ms():
                    self._act(replace(decision, reason=self._gap_reason), reading.sequence)
                self._gap_reason = "silent"
            elif isinstance(decision, recorder.CloseRoast):
                self._close(decision, "cool_end" if decision.status == "finished" else "left_roasting")
            else:
                self._act(decision, reading.sequence)
        if point is not None and not is_recorded:
            if self._recording.roast is None:
                self._taken.idle += 1
            else:
                self._taken.repeated += 1

    def _act(self, decision: recorder.Decision, sequence: int) -> None:
        self._taken.acts.append(Filing(self._roast_id, "", sequence, decision))

    def _close(self, decision: recorder.CloseRoast, why: str) -> None:
        self._taken.closed_by[self._roast_id] = why
        self._act(decision, self._taken.sequence << INDEX_BITS)
        self._roast_id = ""

    def _gap_ms(self) -> float:
        """A stretch longer than this is a gap for this sender."""
        if self._interval_ms is None:
            return FIRST_GAP_S * 1000
        return max(recorder.GAP_S * 1000, GAP_INTERVALS * self._interval_ms)

    def note_silence(self, at: dt.datetime) -> None:
        """Close a dropped roast whose machine said nothing for too long before ``at``."""
        self._recording, close = recorder_acts.close_if_silent(self._recording, at)
        if close is not None:
            self._close(close, "silence")

    # --- events ---

    def take_event(self, event: Event) -> None:
        """A mark of the sender. Where points carry no state, charge, drop and cool end move the machine's state too."""
        self._settled()
        last_at = self._recording.last_at
        if last_at is not None and (last_at - event.at).total_seconds() * 1000 > recorder.LONGEST_MS:
            self._taken.late_events.append(event)  # of another roast than the one that is on
            return
        if self._taken.state.is_stated or event.kind not in STATE_AFTER:
            self._mark(event)
            return
        self._word = STATE_AFTER[event.kind].value
        if event.kind == "charge":
            self._charge(event)
            self._is_steady = is_steady(self._recording)
            return
        self._mark(event)
        self._feed(MachineState(self._word), event, self._device_ms(event))
        self._is_steady = is_steady(self._recording)

    def _device_ms(self, event: Event) -> int:
        """The event's device time: its own where the newest point's is anywhere near, else counted on from that."""
        recording = self._recording
        if event.device_ms is not None and self._taken.state.is_counted:
            last_ms = recording.last_device_ms
            if last_ms is None or abs(event.device_ms - last_ms) <= recorder.LONGEST_MS:
                return event.device_ms
        if not self._taken.state.is_counted or recording.last_at is None or recording.last_device_ms is None:
            return epoch_ms(event.at)
        return recording.last_device_ms + round((event.at - recording.last_at).total_seconds() * 1000)

    def _mark(self, event: Event) -> None:
        """File the mark in the open roast, or leave it for the store to place."""
        roast = self._recording.roast
        if roast is None:
            self._taken.late_events.append(event)
            return
        elapsed_ms = self._device_ms(event) + roast.offset_ms
        if not 0 <= elapsed_ms <= recorder.LONGEST_MS:
            self._taken.late_events.append(event)
            return
        mark = recorder.MarkEvent(event.kind, elapsed_ms, event.source, event.confidence, event.at, event.text)
        self._act(mark, self._taken.sequence << INDEX_BITS)

    def _charge(self, event: Event) -> None:
        """Open a roast whose elapsed 0 is the event, even where points after it came first."""
        roast = self._recording.roast
        device_ms = self._device_ms(event)
        if roast is not None and roast.dropped_ms is None:
            if device_ms + roast.offset_ms < SAME_CHARGE_MS:
                return
            self._close(recorder.CloseRoast("aborted", event.at), "next_charge")
            self._recording = replace(self._recording, roast=None)
        begun = len(self._taken.acts)
        fed_ms = self._feed(MachineState.CHARGE, event, device_ms - 1) + 1
        self._feed(MachineState.ROASTING, event, fed_ms)
        self._say_at_charge(begun, event.text)
        opened = self._recording.roast
        if opened is not None and fed_ms != device_ms:
            self._recording = replace(self._recording, roast=replace(opened, offset_ms=-device_ms))
            self._shift_opening(begun, device_ms, fed_ms)

    def _say_at_charge(self, begun: int, text: str) -> None:
        """The recorder marks the charge itself; what the sender said of it belongs to that mark."""
        for place in range(begun, len(self._taken.acts)):
            filing = self._taken.acts[place]
            if text and isinstance(filing.decision, recorder.MarkEvent) and filing.decision.kind == "charge":
                self._taken.acts[place] = replace(filing, decision=replace(filing.decision, text=text))

    def _shift_opening(self, begun: int, device_ms: int, fed_ms: int) -> None:
        """The roast began before points that are gone: say when, and that they are missing."""
        for place in range(begun, len(self._taken.acts)):
            filing = self._taken.acts[place]
            if isinstance(filing.decision, recorder.OpenRoast):
                moved = replace(filing.decision, device_start_ms=device_ms)
                self._taken.acts[place] = replace(filing, decision=moved)
        if fed_ms - device_ms > self._gap_ms():
            self._act(recorder.RecordGap(0, fed_ms - device_ms, "charge_told_late"), self._taken.sequence << INDEX_BITS)

    def _feed(self, state: MachineState, event: Event, device_ms: int) -> int:
        """Give the recorder a reading that says nothing but a state; its device time, later than all before."""
        recording = self._recording
        at = event.at
        if recording.last_device_ms is not None:
            device_ms = max(device_ms, recording.last_device_ms + 1)
        if recording.last_at is not None:
            at = max(at, recording.last_at)
        reading = Reading(self._taken.sequence << INDEX_BITS, at, 0.0, device_ms, state)
        step = recorder.step(recording, reading)
        self._recording = step.state
        self._decide(step.decisions, reading, None, None)
        return device_ms
