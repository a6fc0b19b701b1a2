"""Readings in, decisions out: when a roast opens, what is recorded of it, and when it closes. Pure.

``step(state, reading)`` returns the next state and what is to be written. Time is the machine's own
(``device_ms``): a virtual machine may run faster than the wall. Marks are causal: nothing is decided
from a reading that has not come yet. The state owns its rate window and ``step`` consumes it: use each
state once.

- charge: the machine enters *roasting* (4→6, or a spurious start from preheat): elapsed 0;
- beans proved: the probe fell at least 25 °C within 20 s of it;
- turning point, dry end, first crack: ``roasts.inference``, which is asked with every reading; its marks may be
  withdrawn until they are confirmed;
- drop: the machine leaves *roasting* for *cooling* (or shutdown);
- beans still in the drum: after a drop, no infrared jump of at least 10 °C within 20 s;
- cool end: the machine leaves *cooling*; the roast is finished;
- a machine that leaves *roasting* for anything else for 10 s: the roast is aborted;
- a machine that is *roasting* after an absence, its own roast clock behind where it was: it began another roast;
- a machine that never tells a state: charge, drop and the end of the roast are inferred, too. What was read between
  the charge and the moment it was understood is recorded then.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from drivers.port import MachineState, Quality, Reading
from roasts import inference
from roasts.inference import Expectation, InferenceState
from roasts.rate_of_rise import WINDOW_S, RateOfRise

BEANS_FALL_C = 25.0
BEANS_WITHIN_MS = 20_000
JUMP_C = 10.0
JUMP_WITHIN_MS = 20_000
LEFT_FOR_MS = 10_000
#: After our own restart: a roast clock this far behind the recorded roast belongs to another roast.
RESTARTED_MS = 30_000
#: The machine's roast clock counts whole seconds and is shown a little late.
CLOCK_SLACK_MS = 2_500
#: Wall time between two readings that counts as a hole (the Bullet is read at 10 Hz).
GAP_S = 1.5

#: No roast lasts so long: one that would was left open, or its device time jumped. (A row holds 24 days.)
LONGEST_MS = 3 * 86_400_000

#: A roast we joined late: by then, since its charge, the probe has turned (after 58 to 65 s in 40 real roasts).
TURNED_BY_MS = 120_000

#: Of a machine without states: readings kept until a charge is understood (ms, and a bound on their number).
RECENT_MS, RECENT_MOST = 30_000, 600

DROPPED_INTO = frozenset({MachineState.COOLING, MachineState.SHUTDOWN})


@dataclass(frozen=True, slots=True)
class OpenRoast:
    """A roast began at this device time. ``is_late``: we came after the charge."""

    device_start_ms: int
    at: dt.datetime
    is_late: bool
    is_spurious: bool


@dataclass(frozen=True, slots=True)
class RecordSample:
    """One reading of the open roast, with our rate."""

    elapsed_ms: int
    reading: Reading
    rate_of_rise_c_per_min: float | None


@dataclass(frozen=True, slots=True)
class MarkEvent:
    """A mark on the curve; ``source`` is ``device`` or ``inferred``, ``text`` what a bridge said of it."""

    kind: str
    elapsed_ms: int
    source: str
    confidence: float
    at: dt.datetime
    text: str = ""


@dataclass(frozen=True, slots=True)
class WithdrawMark:
    """An inferred mark is refuted; it stays as history."""

    kind: str
    elapsed_ms: int
    at: dt.datetime


@dataclass(frozen=True, slots=True)
class ConfirmMark:
    """An inferred mark stays, with this confidence."""

    kind: str
    elapsed_ms: int
    confidence: float
    at: dt.datetime


@dataclass(frozen=True, slots=True)
class SetStatus:
    """The roast's own status moves: ``roasting`` or ``cooling``."""

    status: str


@dataclass(frozen=True, slots=True)
class RecordGap:
    """No readings from one elapsed time to another, and why."""

    from_ms: int
    to_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class Rebase:
    """Device time started anew (another connection): where elapsed 0 of the open roast lies in it."""

    device_start_ms: int


@dataclass(frozen=True, slots=True)
class BeansStillInDrum:
    """Dropped, but the jump that leaving beans make did not come."""

    elapsed_ms: int


@dataclass(frozen=True, slots=True)
class CloseRoast:
    """The roast is over: ``finished`` or ``aborted``."""

    status: str
    at: dt.datetime


Decision = (
    OpenRoast
    | RecordSample
    | MarkEvent
    | WithdrawMark
    | ConfirmMark
    | SetStatus
    | RecordGap
    | Rebase
    | BeansStillInDrum
    | CloseRoast
)


@dataclass(frozen=True, slots=True)
class OpenState:
    """What must be remembered of the open roast."""

    offset_ms: int  # elapsed = device_ms + offset
    status: str = "charged"
    last_elapsed_ms: int = -1
    charge_bean_temp_c: float | None = None
    turned_ms: int | None = None
    are_beans_proved: bool = False
    is_charge_seen: bool = False  # we were there when it began
    dropped_ms: int | None = None
    drop_infrared_c: float | None = None  # lowest infrared since the drop
    is_jump_settled: bool = False
    left_ms: int | None = None  # since when the machine is neither roasting nor cooling
    left_clock_s: int | None = None  # its roast clock before that
    is_inferred: bool = False  # the machine tells no states: charge and drop are inferred
    axis_ms: int = 0  # inference's time = elapsed + axis

    @property
    def turned_by_ms(self) -> int | None:
        """Device time since charge by which the probe had turned; None where it may still fall."""
        if self.turned_ms is not None:
            return self.turned_ms
        return None if self.is_charge_seen else TURNED_BY_MS

    @property
    def are_beans_missing(self) -> bool:
        """We saw the charge, and the probe did not fall in time as beans make it fall."""
        is_late_enough = self.is_charge_seen and self.last_elapsed_ms > BEANS_WITHIN_MS
        return is_late_enough and not self.are_beans_proved and self.dropped_ms is None


@dataclass(frozen=True, slots=True)
class RecorderState:
    """All the recorder knows between two readings."""

    connection_id: str = ""
    last_device_ms: int | None = None
    last_at: dt.datetime | None = None
    last_state: MachineState | None = None
    last_clock_s: int | None = None
    gap_reason: str = "loop_lost"
    roast: OpenState | None = None
    is_resumed: bool = False  # the roast was read from the store; nothing of it seen yet
    expectation: Expectation = field(default_factory=Expectation)
    watch: InferenceState = field(default_factory=InferenceState)
    recent: tuple[Reading, ...] = ()  # of a machine without states, while no roast is open
    rate: RateOfRise = field(default_factory=RateOfRise, compare=False)

    @property
    def elapsed_ms(self) -> int | None:
        """Device time since charge of the last reading, while a roast is open."""
        return self.roast.last_elapsed_ms if self.roast else None


@dataclass(frozen=True, slots=True)
class Step:
    """What one reading led to."""

    state: RecorderState
    decisions: tuple[Decision, ...]
    rate_of_rise_c_per_min: float | None


def step(state: RecorderState, reading: Reading, connection_id: str = "") -> Step:
    """Take one reading. A device time already seen on this connection leads to nothing."""
    is_same_connection = connection_id == state.connection_id and state.last_device_ms is not None
    if is_same_connection and reading.device_ms == state.last_device_ms:
        return Step(state, (), state.rate.rate)
    decisions: list[Decision] = []
    state = _outlasted(state, reading, connection_id, decisions)
    state = _begun_anew(state, reading, connection_id, decisions)
    state = _continued(state, reading, connection_id, decisions)
    state = _moved(state, reading, decisions)
    rate = state.rate.step(reading.device_ms, believed(reading, "bean_temp_c"))
    watch, found = _asked(state, reading)
    if found or state.roast is None:
        state = _inferred(replace(state, watch=watch), found, reading, decisions)
        watch = state.watch
    if state.roast is not None:
        state = replace(state, roast=followed(state.roast, reading, rate, decisions), watch=watch)
    state = _closed(state, reading, decisions)
    clock_s = reading.roast_clock_s if reading.roast_clock_s is not None else state.last_clock_s
    state = replace(
        state,
        connection_id=connection_id,
        last_device_ms=reading.device_ms,
        last_at=reading.at,
        last_state=reading.state if reading.state is not MachineState.UNKNOWN else state.last_state,
        last_clock_s=clock_s,
        is_resumed=False,
    )
    return Step(state, tuple(decisions), rate)


def note_loss(state: RecorderState, reason: str) -> RecorderState:
    """Say why the readings that follow come after a hole: unplugged | keeper_lost | loop_lost."""
    return replace(state, gap_reason=reason)


def expect(state: RecorderState, expectation: Expectation) -> RecorderState:
    """What earlier roasts of this machine (and bean) lead us to expect; for the open roast where it is not too late."""
    return replace(state, expectation=expectation, watch=inference.expect(state.watch, expectation))


def believed(reading: Reading, name: str) -> float | None:
    """A field's value unless the driver marks it stale or absent."""
    return getattr(reading, name) if reading.quality.get(name, Quality.FRESH) is Quality.FRESH else None


def _outlasted(state: RecorderState, reading: Reading, connection_id: str, decisions: list[Decision]) -> RecorderState:
    """Close a roast that would be longer than any, as of its last reading; what comes now is of another."""
    roast = state.roast
    if roast is None:
        return state
    elapsed_ms = reading.device_ms + roast.offset_ms
    if state.last_at is not None and _is_rebased(state, reading, connection_id):
        wall_s = (reading.at - state.last_at).total_seconds()
        elapsed_ms = roast.last_elapsed_ms + _missed_ms(state, reading, wall_s)
    if elapsed_ms <= LONGEST_MS:
        return state
    status = "finished" if roast.dropped_ms is not None else "aborted"
    decisions.append(CloseRoast(status, state.last_at or reading.at))
    return replace(state, roast=None, last_state=None, watch=_fresh_watch(state), recent=())


def _begun_anew(state: RecorderState, reading: Reading, connection_id: str, decisions: list[Decision]) -> RecorderState:
    """Close a roast that ended unseen, as of its last reading: the machine's roast clock says that this is another."""
    roast = state.roast
    if roast is None or roast.dropped_ms is not None or reading.state is not MachineState.ROASTING:
        return state
    if not _was_away(state, reading, connection_id) or not _is_clock_back(state, roast, reading):
        return state
    decisions.append(CloseRoast("aborted", state.last_at or reading.at))
    is_charge_unseen = state.is_resumed or state.last_state is MachineState.ROASTING
    last_state = None if is_charge_unseen else state.last_state
    return replace(state, roast=None, last_state=last_state, is_resumed=False, watch=_fresh_watch(state), recent=())


def _was_away(state: RecorderState, reading: Reading, connection_id: str) -> bool:
    """Whether something may have happened between the roast's last reading of *roasting* and this one."""
    roast, last_at = state.roast, state.last_at
    if state.is_resumed or connection_id != state.connection_id or (roast is not None and roast.left_ms is not None):
        return True
    return last_at is not None and (reading.at - last_at).total_seconds() > GAP_S


def _is_clock_back(state: RecorderState, roast: OpenState, reading: Reading) -> bool:
    """Whether the machine's roast clock stands clearly before where this roast's was (False where it tells none)."""
    if reading.roast_clock_s is None:
        return False
    known_s = state.last_clock_s if roast.left_ms is None else roast.left_clock_s
    if known_s is not None:
        return (known_s - reading.roast_clock_s) * 1000 > CLOCK_SLACK_MS
    # After our own restart only our own time since charge is known, which a person may have moved.
    slack_ms = min(RESTARTED_MS, max(CLOCK_SLACK_MS, roast.last_elapsed_ms // 2))
    return roast.last_elapsed_ms - reading.roast_clock_s * 1000 > slack_ms


def _continued(state: RecorderState, reading: Reading, connection_id: str, decisions: list[Decision]) -> RecorderState:
    """Carry the open roast over a hole or into another connection, whose device time starts anew."""
    roast = state.roast
    if state.last_at is None or state.last_device_ms is None:
        return state
    is_rebased = _is_rebased(state, reading, connection_id)
    wall_s = (reading.at - state.last_at).total_seconds()
    if is_rebased:
        state.rate.reset()
        if roast is None:
            state = replace(state, watch=_fresh_watch(state), recent=())
    if roast is None or not (is_rebased or wall_s > GAP_S):
        return state
    before_ms = max(0, roast.last_elapsed_ms)
    if is_rebased:
        elapsed_ms = before_ms + _missed_ms(state, reading, wall_s)
        roast = replace(roast, offset_ms=elapsed_ms - reading.device_ms)
        decisions.append(Rebase(-roast.offset_ms))
    after_ms = reading.device_ms + roast.offset_ms
    if wall_s > GAP_S and after_ms > before_ms:
        decisions.append(RecordGap(before_ms, after_ms, state.gap_reason))
    return replace(state, roast=roast, gap_reason="loop_lost")


def _is_rebased(state: RecorderState, reading: Reading, connection_id: str) -> bool:
    """Whether device time started anew. Over a restart of the keeper it usually goes on (the machine counts by
    itself); the machine's roast clock decides.
    """
    if state.last_device_ms is None or reading.device_ms < state.last_device_ms:
        return True
    if connection_id == state.connection_id:
        return False
    last_s = state.last_clock_s
    if last_s is None and state.roast is not None and reading.state is MachineState.ROASTING:
        last_s = state.roast.last_elapsed_ms // 1000
    if reading.roast_clock_s is None or last_s is None:
        return True
    passed_ms = (reading.roast_clock_s - last_s) * 1000
    return abs(reading.device_ms - state.last_device_ms - passed_ms) > CLOCK_SLACK_MS


def _missed_ms(state: RecorderState, reading: Reading, wall_s: float) -> int:
    """Best effort: device time passed across a hole, by the machine's roast clock where it went on."""
    clock_s, last_s = reading.roast_clock_s, state.last_clock_s
    if last_s is None and state.is_resumed and state.roast is not None and reading.state is MachineState.ROASTING:
        last_s = state.roast.last_elapsed_ms // 1000  # the machine's clock counts from charge, too
        return max(1, (clock_s - last_s) * 1000) if clock_s is not None else max(1, round(wall_s * 1000))
    if clock_s is not None and last_s is not None and reading.state is state.last_state and clock_s >= last_s:
        return max(1, (clock_s - last_s) * 1000)
    return max(1, round(wall_s * 1000))


def _moved(state: RecorderState, reading: Reading, decisions: list[Decision]) -> RecorderState:
    """Open a roast at a charge; close the old one first if the machine began another."""
    if reading.state is not MachineState.ROASTING or state.last_state is MachineState.ROASTING:
        return state
    if state.roast is not None:
        if _is_same_roast(state, reading):
            return state
        decisions.append(CloseRoast("finished" if state.roast.dropped_ms is not None else "aborted", reading.at))
    is_late = state.last_state is None
    late_ms = (reading.roast_clock_s or 0) * 1000 if is_late else 0
    decisions.append(
        OpenRoast(
            device_start_ms=reading.device_ms - late_ms,
            at=reading.at,
            is_late=is_late,
            is_spurious=not is_late and state.last_state is not MachineState.CHARGE,
        )
    )
    decisions.append(MarkEvent("charge", 0, "inferred" if is_late else "device", 0.5 if is_late else 1.0, reading.at))
    if late_ms > GAP_S * 1000:
        decisions.append(RecordGap(0, late_ms, "loop_lost"))
    state.rate.reset()
    watch = inference.begin(state.expectation, charge_ms=0, is_late=late_ms > inference.LATE_MS)
    roast = OpenState(offset_ms=late_ms - reading.device_ms, is_charge_seen=not is_late)
    return replace(state, roast=roast, watch=watch, recent=())


def _is_same_roast(state: RecorderState, reading: Reading) -> bool:
    """Whether *roasting* after our restart, or after a short absence, is the open roast going on (the machine's roast
    clock, where it tells one, was asked before).
    """
    roast = state.roast
    if roast is None or roast.dropped_ms is not None:
        return False
    return state.is_resumed or roast.left_ms is not None


def _fresh_watch(state: RecorderState) -> InferenceState:
    """Inference with nothing seen yet."""
    return inference.waiting(state.expectation)


def _asked(state: RecorderState, reading: Reading) -> tuple[InferenceState, tuple[inference.Decision, ...]]:
    """What inference makes of the reading. While no roast is open it matters only where no states are told."""
    roast = state.roast
    if roast is not None:
        at_ms = reading.device_ms + roast.offset_ms + roast.axis_ms
        return inference.step(state.watch, reading, at_ms)
    if not _is_silent(state, reading):
        return state.watch, ()
    watch = state.watch if inference.is_idle(state.watch) else _fresh_watch(state)
    return inference.step(watch, reading)


def _is_silent(state: RecorderState, reading: Reading) -> bool:
    """Whether the machine never told a state."""
    return reading.state is MachineState.UNKNOWN and state.last_state is None


def _inferred(
    state: RecorderState, found: Sequence[inference.Decision], reading: Reading, decisions: list[Decision]
) -> RecorderState:
    """Take over what inference decided; keep the newest readings of a machine whose charge is not understood yet."""
    if state.roast is None and _is_silent(state, reading):
        kept = state.recent
        while kept and kept[0].device_ms < reading.device_ms - RECENT_MS:
            kept = kept[1:]
        state = replace(state, recent=(*kept, reading)[-RECENT_MOST:])
    for decision in found:
        state = _taken(state, decision, reading, decisions)
    return state


def _taken(
    state: RecorderState, found: inference.Decision, reading: Reading, decisions: list[Decision]
) -> RecorderState:
    """One decision of inference. What the machine said itself is recorded elsewhere."""
    if isinstance(found, inference.Over):
        return _ended_by_inference(state, found, reading, decisions)
    mark, roast = found.mark, state.roast
    if mark.source == "device":
        return state
    if roast is None:
        is_charge = isinstance(found, inference.Made) and mark.kind == inference.Kind.CHARGE
        return _opened_by_inference(state, mark, reading, decisions) if is_charge else state
    elapsed_ms = max(0, mark.at_ms - roast.axis_ms)
    is_turn, is_drop = mark.kind == inference.Kind.TURNING_POINT, mark.kind == inference.Kind.DROP
    if isinstance(found, inference.Made):
        decisions.append(MarkEvent(mark.kind, elapsed_ms, "inferred", mark.confidence, reading.at))
        roast = replace(roast, turned_ms=elapsed_ms) if is_turn else roast
        if is_drop:
            decisions.append(SetStatus("cooling"))
            roast = replace(roast, status="cooling", dropped_ms=elapsed_ms, is_jump_settled=True)
    elif isinstance(found, inference.Withdrawn):
        decisions.append(WithdrawMark(mark.kind, elapsed_ms, reading.at))
        roast = replace(roast, turned_ms=None) if is_turn else roast
        if is_drop:
            decisions.append(SetStatus("roasting"))
            roast = replace(roast, status="roasting", dropped_ms=None)
    else:
        decisions.append(ConfirmMark(mark.kind, elapsed_ms, mark.confidence, reading.at))
    return replace(state, roast=roast)


def _opened_by_inference(
    state: RecorderState, charge: inference.Standing, reading: Reading, decisions: list[Decision]
) -> RecorderState:
    """A charge understood a few seconds late: open the roast at it, and record what was read since."""
    began = reading.at - dt.timedelta(milliseconds=reading.device_ms - charge.at_ms)
    decisions.append(OpenRoast(charge.at_ms, began, is_late=False, is_spurious=False))
    decisions.append(MarkEvent("charge", 0, "inferred", charge.confidence, reading.at))
    roast = OpenState(
        offset_ms=-charge.at_ms, is_charge_seen=True, are_beans_proved=True, is_inferred=True, axis_ms=charge.at_ms
    )
    state.rate.reset()
    for earlier in state.recent:
        if charge.at_ms <= earlier.device_ms < reading.device_ms:
            rate = state.rate.step(earlier.device_ms, believed(earlier, "bean_temp_c"))
            roast = followed(roast, earlier, rate, decisions)
    state.rate.step(reading.device_ms, believed(reading, "bean_temp_c"))
    return replace(state, roast=roast, recent=())


def _ended_by_inference(
    state: RecorderState, over: inference.Over, reading: Reading, decisions: list[Decision]
) -> RecorderState:
    """Inference sees no roast any more: it cooled down, or it never was one."""
    if state.roast is None or not state.roast.is_inferred:
        return state
    decisions.append(CloseRoast("aborted" if over.is_refuted else "finished", reading.at))
    return replace(state, roast=None)


def followed(roast: OpenState, reading: Reading, rate: float | None, decisions: list[Decision]) -> OpenState:
    """Record the reading in the open roast and draw what can be drawn from it."""
    elapsed_ms = reading.device_ms + roast.offset_ms
    if elapsed_ms <= roast.last_elapsed_ms:
        return roast
    decisions.append(RecordSample(elapsed_ms, reading, rate))
    roast = replace(roast, last_elapsed_ms=elapsed_ms)
    bean_temp_c = believed(reading, "bean_temp_c")
    if reading.state is MachineState.ROASTING or (roast.is_inferred and roast.dropped_ms is None):
        roast = replace(roast, left_ms=None)
        if bean_temp_c is not None:
            roast = _beans(roast, elapsed_ms, bean_temp_c)
        if roast.status == "charged" and (roast.are_beans_proved or elapsed_ms > BEANS_WITHIN_MS):
            decisions.append(SetStatus("roasting"))
            roast = replace(roast, status="roasting")
        return roast
    if reading.state in DROPPED_INTO:
        return _dropped(roast, elapsed_ms, reading, decisions)
    return roast


def _beans(roast: OpenState, elapsed_ms: int, bean_temp_c: float) -> OpenState:
    """Beans are proved by the probe's fall right after charge."""
    if roast.charge_bean_temp_c is None:
        if elapsed_ms > BEANS_WITHIN_MS:
            return roast
        return replace(roast, charge_bean_temp_c=bean_temp_c)
    if elapsed_ms <= BEANS_WITHIN_MS:
        highest_c = max(roast.charge_bean_temp_c, bean_temp_c)
        is_proved = roast.are_beans_proved or highest_c - bean_temp_c >= BEANS_FALL_C
        return replace(roast, charge_bean_temp_c=highest_c, are_beans_proved=is_proved)
    return roast


def _dropped(roast: OpenState, elapsed_ms: int, reading: Reading, decisions: list[Decision]) -> OpenState:
    """The drop, and whether the beans really left."""
    infrared_c = believed(reading, "infrared_temp_c")
    if roast.dropped_ms is None:
        decisions.append(MarkEvent("drop", elapsed_ms, "device", 1.0, reading.at))
        decisions.append(SetStatus("cooling"))
        return replace(roast, status="cooling", dropped_ms=elapsed_ms, drop_infrared_c=infrared_c, left_ms=None)
    if roast.is_jump_settled:
        return roast
    lowest_c = infrared_c if roast.drop_infrared_c is None else roast.drop_infrared_c
    if infrared_c is not None and lowest_c is not None:
        lowest_c = min(lowest_c, infrared_c)
        if infrared_c - lowest_c >= JUMP_C:
            return replace(roast, is_jump_settled=True)
    if elapsed_ms - roast.dropped_ms > JUMP_WITHIN_MS:
        decisions.append(BeansStillInDrum(elapsed_ms))
        return replace(roast, is_jump_settled=True)
    return replace(roast, drop_infrared_c=lowest_c)


def _closed(state: RecorderState, reading: Reading, decisions: list[Decision]) -> RecorderState:
    """Close at cool end, or when the machine left roasting for something that is no drop."""
    roast = state.roast
    if roast is None or reading.state in (MachineState.ROASTING, MachineState.UNKNOWN):
        return state
    elapsed_ms = reading.device_ms + roast.offset_ms
    if roast.dropped_ms is not None:
        if reading.state is MachineState.COOLING or (
            reading.state is MachineState.SHUTDOWN and state.last_state is MachineState.ROASTING
        ):
            return state
        decisions.append(MarkEvent("cool_end", elapsed_ms, "device", 1.0, reading.at))
        decisions.append(CloseRoast("finished", reading.at))
        return replace(state, roast=None, watch=_fresh_watch(state))
    left_ms = elapsed_ms if roast.left_ms is None else roast.left_ms
    if elapsed_ms - left_ms >= LEFT_FOR_MS:
        decisions.append(CloseRoast("aborted", reading.at))
        return replace(state, roast=None, watch=_fresh_watch(state))
    left_clock_s = state.last_clock_s if roast.left_ms is None else roast.left_clock_s
    return replace(state, roast=replace(roast, left_ms=left_ms, left_clock_s=left_clock_s))


def prime_rate(state: RecorderState, points: list[tuple[int, float | None]]) -> RecorderState:
    """Fill the rate's window with (device_ms, °C) already recorded, so that a restart leaves no hole in it."""
    newest_ms = points[-1][0] if points else 0
    for device_ms, bean_temp_c in points:
        if newest_ms - device_ms <= WINDOW_S * 1000:
            state.rate.step(device_ms, bean_temp_c)
    return state
