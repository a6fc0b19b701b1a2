"""How an order is carried out on a line machine: a fresh look, one absolute command, the echo. Never sent twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from drivers.lines import greeting
from drivers.port import (
    ABORTED,
    Control,
    DriverError,
    MachineState,
    Outcome,
    Quality,
    Reading,
    Receipt,
    SettingOrder,
    StateOrder,
    Unplugged,
    WireWrite,
    longest_age_s,
)
from drivers.steering import Attempt
from kernel import clock

if TYPE_CHECKING:
    from drivers.lines.line_machine import LineMachine

HEAT_UP_MAX_AGE_S = 1.0
UNHEARD_S = 1.0  # without an acknowledgement a reading counts once it came this long after the command
_LOOK_S = 0.1
_PAUSE_S = 0.02

Refusal = tuple[str, str]


@dataclass(slots=True, kw_only=True)
class LineAttempt(Attempt):
    """One order's one command, its deadline, and the stop it must not outlive."""

    deadline_at_s: float
    generation: int

    def proved_s(self, proof: Reading) -> float:
        """The monotonic second at which a line said so; it came when it came, whenever it was written."""
        return clock.monotonic()


def apply_setting(machine: LineMachine, order: SettingOrder, deadline_s: float) -> Receipt:
    """Bring one control to an absolute percentage.

    PROVED: telemetry taken after the command shows the target. DECLINED: nothing was sent, or the machine said no, or
    went elsewhere (``contradicted``). IN_DOUBT: sent, and no telemetry shows it. NOT_SENT.
    """
    attempt = _begin(machine, order.order_id, deadline_s)
    max_age_s = _max_age_s(machine, order)
    steerable = machine.controls.get(order.control)
    if machine.is_open and steerable is None:
        return attempt.receipt(Outcome.DECLINED, "read_only", f"this machine offers no control of its {order.control}")
    try:
        reading = _fresh(machine, attempt, max_age_s)
    except DriverError as error:
        return attempt.failed(error)
    if steerable is None:  # it was closed, and failed above; this is for the type checker
        return attempt.receipt(Outcome.DECLINED, "read_only")
    attempt.value_before = attempt.value_after = reading.step_of(order.control)
    refusal = refuse_setting(order, reading, steerable, clock.monotonic(), max_age_s)
    if refusal is not None:
        return attempt.receipt(Outcome.DECLINED, *refusal)
    if attempt.value_before == order.target_step:
        return attempt.receipt(Outcome.PROVED, proof=reading)
    wire_id = order.order_id
    stopped = _send(machine, attempt, lambda: machine.set_control(
        order.control, order.target_step, wire_id=wire_id, order_id=order.order_id))
    if stopped is not None:
        return stopped
    if not steerable.has_echo:
        words = f"sent; this machine never says where its {order.control} stands"
        return attempt.receipt(Outcome.IN_DOUBT, "no_echo", words)
    before = attempt.value_before
    return _await(
        machine, attempt, wire_id, is_there=lambda seen: seen.step_of(order.control) == order.target_step,
        is_on_the_way=lambda seen: _is_between(before, seen.step_of(order.control), order.target_step),
        value=lambda seen: seen.step_of(order.control),
    )


def refuse_setting(
    order: SettingOrder, reading: Reading, steerable: greeting.Steerable, now_s: float, max_age_s: float,
) -> Refusal | None:
    """(reason, message) where this order must not start from this reading, else None. Pure."""
    limits = steerable.range
    is_safe_value = order.target_step == steerable.safe_step
    if not (limits.min_step <= order.target_step <= limits.max_step or is_safe_value):
        return "out_of_range", f"{order.control.value} goes from {limits.min_step} to {limits.max_step} %"
    if not greeting.is_id(order.order_id):
        return "bad_order_id", "an order's id travels on the line: plain letters, digits and _.:/- only"
    current = reading.step_of(order.control)
    quality = reading.quality.get(f"{order.control.value}_step", Quality.FRESH)
    is_unsaid = current is None or quality is not Quality.FRESH
    if reading.age_s(now_s) > max_age_s or quality is Quality.STALE:
        return "stale_reading", f"the newest line is {reading.age_s(now_s):.1f} s old"
    if steerable.has_echo and is_unsaid:
        return "stale_reading", f"the machine does not say where its {order.control.value} stands"
    if order.from_step is not None and current != order.from_step:
        return "moved_at_machine", f"{order.control.value} stands at {current}, not at {order.from_step}"
    if order.allowed_states and reading.state not in order.allowed_states:
        return "wrong_state", f"the machine is {reading.state.value}"
    is_down = order.control is Control.HEATER and (order.target_step <= current if current is not None
                                                   else order.target_step == 0)
    if reading.state is MachineState.UNKNOWN and not is_down:
        return "unknown_state", "the machine does not say what it is doing"
    if order.control is Control.HEATER and not is_down and reading.state is not MachineState.ROASTING:
        return "wrong_state", f"heat goes up only while roasting; the machine is {reading.state.value}"
    return None


def apply_state(machine: LineMachine, order: StateOrder, deadline_s: float) -> Receipt:
    """Ask for a state, once, where the machine declares that it may be asked for it; telemetry proves it."""
    attempt = _begin(machine, order.order_id, deadline_s)
    max_age_s = _max_age_s(machine, order)
    try:
        reading = _fresh(machine, attempt, max_age_s)
    except DriverError as error:
        return attempt.failed(error)
    if reading.state is order.target_state and not reading.quality.get("state"):
        return attempt.receipt(Outcome.PROVED, proof=reading)
    refusal = refuse_state(order, reading, machine.states, clock.monotonic(), max_age_s)
    if refusal is not None:
        return attempt.receipt(Outcome.DECLINED, *refusal)
    before = reading.state
    stopped = _send(machine, attempt, lambda: machine.send(
        machine.state_words(order.order_id, order.target_state), f"state {order.target_state.value}",
        order_id=order.order_id))
    if stopped is not None:
        return stopped
    return _await(
        machine, attempt, order.order_id, is_there=lambda seen: seen.state is order.target_state,
        is_on_the_way=lambda seen: seen.state in (before, MachineState.UNKNOWN), value=lambda seen: seen.state_code,
    )


def refuse_state(
    order: StateOrder, reading: Reading, states: frozenset[MachineState], now_s: float, max_age_s: float,
) -> Refusal | None:
    """(reason, message) where the state must not be asked for, else None. Pure."""
    if order.target_state not in states:
        return "no_such_press", f"it cannot be asked to go to {order.target_state.value}: do it at the machine"
    if order.preheat_target_c is not None:
        return "target_not_supported", "the preheat temperature of this machine is set at the machine"
    if not greeting.is_id(order.order_id):
        return "bad_order_id", "an order's id travels on the line: plain letters, digits and _.:/- only"
    if reading.age_s(now_s) > max_age_s or reading.quality.get("state"):
        return "stale_reading", "the machine's state cannot be believed now"
    if order.from_state is not None and reading.state is not order.from_state:
        return "moved_at_machine", f"the machine is {reading.state.value}, not {order.from_state.value}"
    return None


def _begin(machine: LineMachine, order_id: str, deadline_s: float) -> LineAttempt:
    now_s = clock.monotonic()
    return LineAttempt(order_id, now_s, deadline_at_s=now_s + deadline_s, generation=machine.generation)


def _max_age_s(machine: LineMachine, order: SettingOrder | StateOrder) -> float:
    """How old the line an order starts from may be: what the order says, or what a slow source can give."""
    return longest_age_s(min(order.max_reading_age_s, HEAT_UP_MAX_AGE_S), machine.capabilities.poll_interval_s)


def _fresh(machine: LineMachine, attempt: LineAttempt, max_age_s: float) -> Reading:
    """A reading young enough, waited for at most as long as a line may take; else the newest there is."""
    latest = machine.latest
    if not machine.is_open or latest is None:
        return machine.read()
    until_s = min(attempt.deadline_at_s, attempt.started_s + machine.stale_s())
    while latest.age_s(clock.monotonic()) > max_age_s and clock.monotonic() < until_s:
        latest = machine.read_within(machine.look_s)
    return machine.latest or latest


def _send(machine: LineMachine, attempt: LineAttempt, write: Callable[[], WireWrite]) -> Receipt | None:
    """The one write of an order; a receipt where it ends here. While it leaves, make_safe proves nothing."""
    machine.is_order_leaving = True
    try:
        refused = _last_moment(machine, attempt)
        if refused is not None:
            return refused
        attempt.has_tried = True
        machine.last_order_s = clock.monotonic()
        attempt.writes.append(write())
    except DriverError as error:
        return attempt.failed(error)
    finally:
        machine.is_order_leaving = False
    return None


def _last_moment(machine: LineMachine, attempt: LineAttempt) -> Receipt | None:
    """What forbids the first byte: STOP, a person who called it off, or a deadline that has passed."""
    if machine.generation != attempt.generation:
        return attempt.receipt(Outcome.DECLINED, "stopped", "STOP came first")
    if attempt.order_id in machine.aborted:
        return attempt.receipt(Outcome.NOT_SENT, ABORTED, "called off before the first byte")
    if clock.monotonic() >= attempt.deadline_at_s:
        return attempt.receipt(Outcome.NOT_SENT, "deadline", "it took too long to get to the first byte")
    return None


def _await(
    machine: LineMachine, attempt: LineAttempt, wire_id: str, *, is_there: Callable[[Reading], bool],
    is_on_the_way: Callable[[Reading], bool], value: Callable[[Reading], int | None],
) -> Receipt:
    """Read until telemetry shows the target, the machine says no, or the time is over."""
    sent_s = attempt.writes[0].monotonic_s
    until_s = min(sent_s + machine.settle_s, max(attempt.deadline_at_s, sent_s + _LOOK_S))
    error: DriverError | None = None
    while clock.monotonic() < until_s:
        try:
            reading = machine.read_within(machine.look_s)
            error = None
        except DriverError as failure:
            error = failure
            if isinstance(failure, Unplugged):
                break
            clock.sleep(_PAUSE_S)
            continue
        if reading.monotonic_s <= sent_s or reading.quality.get("state") is Quality.STALE:
            clock.sleep(_PAUSE_S)
            continue  # taken before the command, or not believed
        attempt.value_after = value(reading)
        if is_there(reading):
            return attempt.receipt(Outcome.PROVED, proof=reading)
        if not is_on_the_way(reading):
            reason = "stopped" if machine.generation != attempt.generation else "contradicted"
            words = f"the machine went to {attempt.value_after if value(reading) is not None else reading.state.value}"
            return attempt.receipt(Outcome.DECLINED, reason, words, proof=reading)
        heard = machine.ack_of(wire_id)
        if heard is not None and not heard[0].is_ok and reading.monotonic_s > heard[1]:
            reason = heard[0].reason or "no reason given"
            return attempt.receipt(
                Outcome.DECLINED, "declined_by_machine", f"the machine declined: {reason}", proof=reading)
        clock.sleep(_PAUSE_S)
    return _unproved(machine, attempt, wire_id, error)


def _unproved(machine: LineMachine, attempt: LineAttempt, wire_id: str, error: DriverError | None) -> Receipt:
    """Sent, and nothing shows it: it may still come, so it is in doubt, never sent again."""
    if error is not None:
        return attempt.receipt(Outcome.IN_DOUBT, error.code, f"sent, but not read back: {error.message}")
    if machine.generation != attempt.generation:
        return attempt.receipt(Outcome.IN_DOUBT, "stopped", "STOP came while it was on its way")
    if machine.ack_of(wire_id) is not None:
        return attempt.receipt(Outcome.IN_DOUBT, "acknowledged_not_echoed", (
            "the machine acknowledged it, but its telemetry does not show it"))
    return attempt.receipt(Outcome.IN_DOUBT, "no_acknowledgement", "sent; no acknowledgement, and no echo")


def _is_between(before: int | None, value: int | None, target: int) -> bool:
    """A machine may move slowly: anything from before to the target is on the way."""
    if before is None or value is None:
        return True
    return min(before, target) <= value <= max(before, target)
