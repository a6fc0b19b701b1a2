"""What happened in the drum, read off the readings: a step function. Pure.

``step(state, reading)`` takes one reading and returns the next state and what was decided: a mark made, withdrawn
or confirmed. Causal: nothing is decided from a reading that has not come. Work is done once a second, on the
means of that second, so 1 Hz and 10 Hz look alike; the machine's own states count at once. A reading that comes
late, a value that is missing or no number, decides nothing. Definitions and evidence: docs/events.md.

Times are the machine's (``device_ms``) unless the caller gives its own axis by ``at_ms``.
"""

from __future__ import annotations

import bisect
import datetime as dt
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from drivers.port import MachineState, Quality, Reading
from roasts.curve import Column, Curve, Mark, Marks
from roasts.events.crack_history import History, is_heat_cut, prior_of
from roasts.events.crack_shape import BEND_AFTER_S, BEND_BEFORE_S, POINT_MS, Point
from roasts.events.marks import (
    DRY_END_C,
    Confirmed,
    Decision,
    Expectation,
    Kind,
    Known,
    Made,
    Over,
    Phase,
    Standing,
    Withdrawn,
    confirm,
    confirm_all,
    emptied,
    make,
    withdraw,
)
from roasts.events.phases import LOOKS, end, over, settle_at_drop

__all__ = [
    "Confirmed", "Decision", "Expectation", "InferenceState", "Kind", "Made", "Over", "Running", "Standing", "Step",
    "Withdrawn",
    "adopt", "begin", "dropped", "expect", "expectation_of", "finish", "infer_roast", "is_idle", "is_waiting", "step",
    "waiting",
]  # fmt: skip

#: Points kept: what the phases look back on, and what the bend of a crack needs once it may have been.
KEEP_S = 32.0
KEEP_AT_CRACK_S = BEND_BEFORE_S + BEND_AFTER_S + 10.0
#: A machine that stops roasting without cooling goes on with the same roast if it is back within this.
LEFT_FOR_MS = 10_000
#: A roast joined this long after its charge has no turning point that we could see.
LATE_MS = 60_000
#: Of a whole file's curve, seconds on its axis (0: its charge, or where it begins). No roast is longer, and a file of
#: sixteen hours that never comes to its crack would take five seconds to read.
LOOKED_AT_S = (-3600.0, 10_800.0)
#: A curve has no wall time, and nothing here asks for it.
NO_TIME = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
LEAVES = frozenset({MachineState.COOLING, MachineState.SHUTDOWN})


@dataclass(frozen=True, slots=True)
class Second:
    """Sums over the readings of about one second, and the heater, which goes on into the next."""

    begin_ms: int | None = None
    bean_count: int = 0
    bean_ms: int = 0  # from the begin, so that the sum stays small and exact
    bean_c: float = 0.0
    eye_count: int = 0
    eye_c: float = 0.0
    cut_ms: int | None = None  # when in it the heater was turned down
    heater_step: float | None = None
    highest_step: float = 0.0


@dataclass(frozen=True, slots=True)
class InferenceState:
    """All that is known between two readings: plain values (``roasts.telemetry.stream_state`` writes them as JSON)."""

    known: Known = field(default_factory=Known)
    second: Second = field(default_factory=Second)
    newest_ms: int | None = None

    def mark(self, kind: str) -> Standing | None:
        """The mark of a kind that stands now."""
        return self.known.mark(kind)


class Step(NamedTuple):
    """What one reading led to."""

    state: InferenceState
    decisions: tuple[Decision, ...]


def expectation_of(history: History, bean: str = "", dry_end_c: float = DRY_END_C) -> Expectation:
    """What the first cracks of earlier roasts (oldest first) lead us to expect."""
    return Expectation(prior_of(history, bean), dry_end_c)


def waiting(expectation: Expectation) -> InferenceState:
    """The state before anything was read."""
    return InferenceState(Known(expectation))


def is_waiting(state: InferenceState) -> bool:
    """Whether no roast is under way."""
    return state.known.phase == Phase.WAITING


def is_idle(state: InferenceState) -> bool:
    """Whether the next decision about a charge may be trusted where no roast is open: none is under way, or one is
    cooling off.
    """
    return state.known.phase in (Phase.WAITING, Phase.DROPPED)


def dropped(expectation: Expectation, *, at_ms: int) -> InferenceState:
    """The state right after somebody else closed a roast: beans may just be leaving, a falling probe is no charge."""
    drop = Standing(Kind.DROP, at_ms, "inferred", 1.0, is_confirmed=True)
    return InferenceState(Known(expectation, Phase.DROPPED, (drop,)))


def begin(
    expectation: Expectation, *, charge_ms: int, is_late: bool = False, is_stated: bool = True
) -> InferenceState:
    """The state right at a charge that somebody else knows of (the recorder). ``is_late``: we came after it;
    ``is_stated``: the machine tells its states.
    """
    charge = Standing(Kind.CHARGE, charge_ms, "device" if is_stated else "inferred", 1.0, is_confirmed=True)
    phase = Phase.RISING if is_late else Phase.FALLING
    said = MachineState.ROASTING.value if is_stated else ""
    return InferenceState(Known(expectation, phase, (charge,), machine_state=said))


def adopt(state: InferenceState, kind: str, at_ms: int) -> InferenceState:
    """The mark of this kind stands in the record at another time than ours: the record's counts."""
    marks = tuple(replace(mark, at_ms=at_ms) if mark.kind == kind else mark for mark in state.known.marks)
    return replace(state, known=replace(state.known, marks=marks))


def expect(state: InferenceState, expectation: Expectation) -> InferenceState:
    """Know better what to expect (the bean was named); too late once first crack may have been."""
    if state.known.crack.candidates or state.known.expectation == expectation:
        return state
    return replace(state, known=replace(state.known, expectation=expectation))


def step(state: InferenceState, reading: Reading, at_ms: int | None = None) -> Step:
    """Take one reading; one that is not newer than the newest changes nothing."""
    now_ms = reading.device_ms if at_ms is None else at_ms
    if state.newest_ms is not None and now_ms <= state.newest_ms:
        return Step(state, ())
    known, second = state.known, state.second
    bean_c = _believed(reading, "bean_temp_c")
    is_over = bean_c is not None and (second.begin_ms is None or now_ms - second.begin_ms >= POINT_MS)
    is_told = reading.state is not MachineState.UNKNOWN and reading.state.value != known.machine_state
    if not is_told and not is_over:
        return Step(InferenceState(known, _added(second, reading, now_ms, bean_c), now_ms), ())
    decisions: list[Decision] = []
    if is_over:
        known = _look(known, second, decisions)
        second = Second(now_ms, heater_step=second.heater_step, highest_step=second.highest_step)
    if is_told and reading.quality.get("state", Quality.FRESH) is Quality.FRESH:
        known = _told(known, reading, now_ms, decisions)
    return Step(InferenceState(known, _added(second, reading, now_ms, bean_c), now_ms), tuple(decisions))


def finish(state: InferenceState) -> Step:
    """No reading will come any more: look at the last second, and settle what stands."""
    decisions: list[Decision] = []
    known = _look(state.known, state.second, decisions)
    if known.phase == Phase.RISING and known.points:
        known = end(known, decisions)
    known = confirm_all(known, decisions)
    return Step(replace(state, known=known, second=Second()), tuple(decisions))


class Running:
    """:func:`step` over many readings of a machine that goes on as it is: a second's sums are added to in place, and a
    state is made of them when it is asked for. To the bit what one step after the other comes to.
    """

    __slots__ = (
        "_bean_c",
        "_bean_count",
        "_bean_ms",
        "_begin_ms",
        "_cut_ms",
        "_eye_c",
        "_eye_count",
        "_heater_step",
        "_highest_step",
        "_known",
        "_newest_ms",
    )  # fmt: skip

    def __init__(self, state: InferenceState) -> None:
        self._known, self._newest_ms = state.known, state.newest_ms
        self._take_up(state.second)

    def _take_up(self, second: Second) -> None:
        self._begin_ms, self._cut_ms = second.begin_ms, second.cut_ms
        self._bean_count, self._bean_ms, self._bean_c = second.bean_count, second.bean_ms, second.bean_c
        self._eye_count, self._eye_c = second.eye_count, second.eye_c
        self._heater_step, self._highest_step = second.heater_step, second.highest_step

    def _second(self) -> Second:
        return Second(
            self._begin_ms, self._bean_count, self._bean_ms, self._bean_c, self._eye_count, self._eye_c, self._cut_ms,
            self._heater_step, self._highest_step,
        )  # fmt: skip

    @property
    def state(self) -> InferenceState:
        """What :func:`step` would have come to."""
        return InferenceState(self._known, self._second(), self._newest_ms)

    def add(
        self, now_ms: int, machine_state: str, bean_c: float | None, eye_c: float | None, heater_step: float | None
    ) -> bool:
        """One reading, of what is believed of it (None: missing, stale, no number). False, and nothing taken, where it
        would decide something, or says another state of the machine: then ask :func:`step`.
        """
        if self._newest_ms is not None and now_ms <= self._newest_ms:
            return True
        if machine_state != self._known.machine_state:
            return False
        if bean_c is not None and (self._begin_ms is None or now_ms - self._begin_ms >= POINT_MS):
            decisions: list[Decision] = []
            known = _look(self._known, self._second(), decisions)
            if decisions:
                return False
            self._known = known
            self._take_up(Second(now_ms, heater_step=self._heater_step, highest_step=self._highest_step))
        if heater_step is not None:
            self._highest_step = max(self._highest_step, heater_step)
            before = self._heater_step
            if before is not None and heater_step < before and is_heat_cut(before, heater_step, self._highest_step):
                self._cut_ms = now_ms
            self._heater_step = float(heater_step)
        begin_ms = self._begin_ms
        if bean_c is not None and begin_ms is not None:
            self._bean_count += 1
            self._bean_ms += now_ms - begin_ms
            self._bean_c += bean_c
        if eye_c is not None and begin_ms is not None:
            self._eye_count += 1
            self._eye_c += eye_c
        self._newest_ms = now_ms
        return True


def infer_roast(curve: Curve, expectation: Expectation | None = None) -> Marks:
    """The marks of a whole roast, as inference would have left them: for a file without marks.

    Seconds are the curve's own axis. Marks of the machine's states are ``device``, all others ``inferred``. Readings
    outside LOOKED_AT_S are not looked at.
    """
    state, standing = InferenceState(Known(expectation or Expectation())), list[Standing]()
    for reading, at_ms in _readings_of(curve):
        state, decisions = step(state, reading, at_ms)
        standing = _applied(standing, decisions)
    standing = _applied(standing, finish(state).decisions)
    return tuple(Mark(mark.kind, mark.at_ms / 1000, mark.source, mark.confidence) for mark in standing)


def _applied(standing: list[Standing], decisions: tuple[Decision, ...]) -> list[Standing]:
    """The marks that stand after these decisions."""
    for decision in decisions:
        if isinstance(decision, Made):
            standing = [*standing, decision.mark]
        elif isinstance(decision, Withdrawn):
            standing = [mark for mark in standing if mark != decision.mark]
        elif isinstance(decision, Confirmed):
            same = (decision.mark.kind, decision.mark.at_ms)
            standing = [decision.mark if (mark.kind, mark.at_ms) == same else mark for mark in standing]
    return standing


# --- readings into seconds ---


def _believed(reading: Reading, name: str) -> float | None:
    """A temperature, unless it is missing, no number, or marked stale or absent."""
    value = getattr(reading, name)
    if value is None or not math.isfinite(value) or reading.quality.get(name, Quality.FRESH) is not Quality.FRESH:
        return None
    return float(value)


def _added(second: Second, reading: Reading, now_ms: int, bean_c: float | None) -> Second:
    """The second with one reading more; only a probe that was read begins one."""
    quality, step_now = reading.quality, reading.heater_step
    eye_c = _believed(reading, "infrared_temp_c") if second.begin_ms is not None else None
    cut_ms, heater_step, highest_step = second.cut_ms, second.heater_step, second.highest_step
    if step_now is not None and quality.get("heater_step", Quality.FRESH) is Quality.FRESH:
        highest_step = max(highest_step, step_now)
        if heater_step is not None and step_now < heater_step and is_heat_cut(heater_step, step_now, highest_step):
            cut_ms = now_ms
        heater_step = float(step_now)
    return Second(
        second.begin_ms,
        second.bean_count + (bean_c is not None),
        second.bean_ms + (now_ms - second.begin_ms if bean_c is not None and second.begin_ms is not None else 0),
        second.bean_c + (bean_c or 0.0),
        second.eye_count + (eye_c is not None),
        second.eye_c + (eye_c or 0.0),
        cut_ms,
        heater_step,
        highest_step,
    )


def _look(known: Known, second: Second, decisions: list[Decision]) -> Known:
    """The mean of a second that is over becomes a point, and is looked at."""
    cut_s = None if second.cut_ms is None else second.cut_ms / 1000
    if second.bean_count and second.begin_ms is not None:
        point = Point(
            round((second.begin_ms + second.bean_ms / second.bean_count) / 1000, 3),
            round(second.bean_c / second.bean_count, 4),
            round(second.eye_c / second.eye_count, 4) if second.eye_count else None,
        )
        keep_s = KEEP_AT_CRACK_S if known.crack.candidates else KEEP_S
        gone = 0  # points are in order of time
        while gone < len(known.points) and point.at_s - known.points[gone].at_s > keep_s:
            gone += 1
        points = (*known.points[gone:], point)
        known = replace(known, points=points, is_heater_known=second.heater_step is not None)
        known = LOOKS[known.phase](known, point, cut_s, decisions)
    return known if cut_s is None else replace(known, last_cut_s=cut_s)


# --- what the machine says of itself ---


def _told(known: Known, reading: Reading, now_ms: int, decisions: list[Decision]) -> Known:
    """The firmware's own changes of state: charge, drop, cool end. They are facts, confirmed at once."""
    now, before = reading.state, known.machine_state
    known = replace(known, machine_state=now.value)
    if now is MachineState.ROASTING:
        return _told_roasting(known, before, reading, now_ms, decisions)
    if now in LEAVES and known.phase in (Phase.FALLING, Phase.RISING):
        known = make(known, Kind.DROP, now_ms / 1000, 1.0, decisions, is_device=True)
        return settle_at_drop(known, now_ms / 1000, decisions)
    if before in LEAVES and now not in LEAVES and known.phase == Phase.DROPPED:
        known = make(known, Kind.COOL_END, now_ms / 1000, 1.0, decisions, is_device=True)
        return over(known, now_ms / 1000, decisions)
    if before == MachineState.ROASTING.value and known.phase in (Phase.FALLING, Phase.RISING):
        return replace(known, left_ms=now_ms)
    return known


def _told_roasting(known: Known, before: str, reading: Reading, now_ms: int, decisions: list[Decision]) -> Known:
    """A charge; but for a machine that was away for a moment, or whose roast we know already."""
    if known.phase in (Phase.FALLING, Phase.RISING):
        if not before or (known.left_ms is not None and now_ms - known.left_ms < LEFT_FOR_MS):
            return replace(known, left_ms=None)
        known = withdraw(known, Kind.CHARGE, decisions)
    if known.phase != Phase.WAITING:
        decisions.append(Over(now_ms, is_refuted=known.phase != Phase.DROPPED))
    known = emptied(known)
    if before:
        known = make(known, Kind.CHARGE, now_ms / 1000, 1.0, decisions, is_device=True)
        return replace(known, phase=Phase.FALLING)
    late_ms = (reading.roast_clock_s or 0) * 1000
    known = make(known, Kind.CHARGE, (now_ms - late_ms) / 1000, 0.5, decisions)
    known = confirm(known, Kind.CHARGE, 0.5, decisions)
    return replace(known, phase=Phase.RISING if late_ms > LATE_MS else Phase.FALLING)


# --- a curve as readings ---


def _readings_of(curve: Curve) -> Iterator[tuple[Reading, int]]:
    """Row by row, with its time on the curve's axis in ms."""
    columns = (curve.bean_temp_c, curve.infrared_temp_c, curve.heater_step)
    first, beyond = (bisect.bisect_left(curve.elapsed_s, edge_s) for edge_s in LOOKED_AT_S)
    for row in range(first, beyond):
        bean_c, eye_c, heater = (_number(column, row) for column in columns)
        state = MachineState(curve.state[row]) if curve.state is not None else MachineState.UNKNOWN
        at_ms = round(1000 * float(curve.elapsed_s[row]))
        reading = Reading(
            sequence=row + 1,
            at=NO_TIME,
            monotonic_s=0.0,
            device_ms=at_ms,
            state=state,
            bean_temp_c=bean_c,
            infrared_temp_c=eye_c,
            heater_step=None if heater is None else round(heater),
        )
        yield reading, at_ms


def _number(column: Column | None, row: int) -> float | None:
    value = math.nan if column is None else float(column[row])
    return value if math.isfinite(value) else None
