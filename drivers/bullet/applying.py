"""How an order becomes writes on a Bullet: fresh read, check, step, read back, stop at the first surprise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from drivers.bullet.tables import BulletModel
from drivers.port import (
    ABORTED,
    Control,
    DriverError,
    InDoubt,
    MachineState,
    Outcome,
    ProtocolError,
    Quality,
    Reading,
    Receipt,
    SettingOrder,
    StateOrder,
)
from drivers.steering import Attempt
from kernel import clock

if TYPE_CHECKING:
    from drivers.bullet.driver import Bullet

HEAT_UP_MAX_AGE_S = 1.0
ECHO_MARGIN_S = 0.05  # of several steps: a doubled one could pass the target while the last is still in flight
SETTLE_S = 1.0  # an echo that has not come by then does not come
STATE_SETTLE_S = 3.0
_POLL_PAUSE_S = 0.03
#: An R2 shows its state, never its preheat temperature (reference §2.3): that one is sent, not proved.
UNTOLD_PREHEAT = "It preheats. The temperature was sent; this machine does not tell it: look at the panel."


def apply_setting(machine: Bullet, order: SettingOrder, deadline_s: float) -> Receipt:
    """Bring heater, fan or drum to an absolute step. At most the steps needed at the fresh read; never more.

    Outcomes: PROVED (read back at the target); DECLINED with a reason (nothing sent), or ``partial``,
    ``contradicted``, ``stopped``, ``aborted`` (steps sent, read back elsewhere); IN_DOUBT; NOT_SENT.
    """
    attempt = Attempt(order.order_id, clock.monotonic())
    deadline_at_s = attempt.started_s + deadline_s
    generation = machine.generation
    try:
        machine.wait_for_slot()
        reading = machine.read_now()
    except DriverError as error:
        return attempt.failed(error)
    attempt.value_before = attempt.value_after = reading.step_of(order.control)
    refusal = refuse_setting(machine.model, order, reading)
    if refusal is not None:
        return attempt.receipt(Outcome.DECLINED, *refusal)
    before = attempt.value_before
    if before is None:  # refuse_setting has said so already; this is for the type checker
        return attempt.receipt(Outcome.DECLINED, "no_reading_of_control")
    writes = machine.model.encode_setting(order.control, before, order.target_step)
    if not writes:
        return attempt.receipt(Outcome.PROVED, proof=reading)
    try:
        return _step(machine, order, attempt, writes, generation=generation, deadline_at_s=deadline_at_s)
    except DriverError as error:
        return _read_back_after(machine, order, attempt, error)


def refuse_setting(model: BulletModel, order: SettingOrder, reading: Reading) -> tuple[str, str] | None:
    """(reason, message) where this order must not start from this reading, else None. Pure."""
    limits = model.ranges[order.control]
    if not limits.min_step <= order.target_step <= limits.max_step:
        return "out_of_range", f"{order.control.value} goes from {limits.min_step} to {limits.max_step}"
    current = reading.step_of(order.control)
    if current is None or reading.quality.get(f"{order.control.value}_step", Quality.FRESH) is not Quality.FRESH:
        return "stale_reading", f"the machine does not say where its {order.control.value} stands"
    if order.from_step is not None and current != order.from_step:
        return "moved_at_machine", f"{order.control.value} stands at {current}, not at {order.from_step}"
    if order.allowed_states and reading.state not in order.allowed_states:
        return "wrong_state", f"the machine is {reading.state.value}"
    is_safe_direction = order.control is Control.HEATER and order.target_step <= current
    if reading.state is MachineState.UNKNOWN and not is_safe_direction:
        return "unknown_state", f"state code {reading.state_code} is not in the table"
    if order.control is Control.HEATER and order.target_step > current and reading.state is not MachineState.ROASTING:
        return "wrong_state", f"heat goes up only while roasting; the machine is {reading.state.value}"
    return None


def _step(
    machine: Bullet, order: SettingOrder, attempt: Attempt, writes: list[bytes], *, generation: int,
    deadline_at_s: float,
) -> Receipt:
    """Write the steps, ten a second, reading back between them."""
    max_age_s = min(order.max_reading_age_s, HEAT_UP_MAX_AGE_S)
    for number, data in enumerate(writes, start=1):
        if number > 1:
            machine.wait_for_slot()
            reading = machine.read_now()
            surprise = _surprise(machine.model, order, attempt, reading)
            if surprise is not None:
                return attempt.receipt(Outcome.DECLINED, *surprise, proof=reading)
        if machine.generation != generation:
            return attempt.receipt(Outcome.DECLINED, "stopped", "STOP came first")
        if order.order_id in machine.aborted:
            return _hold(machine, order, attempt, generation)
        now_s = clock.monotonic()
        latest = machine.latest
        is_stale = latest is None or latest.age_s(now_s) > max_age_s
        if is_stale or now_s >= deadline_at_s:
            if attempt.writes:
                break
            reason = "stale_reading" if is_stale else "deadline"
            return attempt.receipt(Outcome.NOT_SENT, reason, "it took too long to get to the first byte")
        attempt.has_tried = True
        attempt.writes.append(machine.send_order(data, order_id=order.order_id, step=number, steps=len(writes)))
    return _settle(machine, order, attempt, generation)


def _hold(machine: Bullet, order: SettingOrder, attempt: Attempt, generation: int) -> Receipt:
    """Called off in mid-order: no more steps. Wait until what was sent must show, and say where the control stands."""
    if not attempt.writes:
        return attempt.receipt(Outcome.NOT_SENT, ABORTED, "called off before the first byte")
    quiet_s = attempt.writes[-1].monotonic_s + machine.model.echo_s + ECHO_MARGIN_S
    until_s = clock.monotonic() + SETTLE_S
    error: DriverError | None = None
    while clock.monotonic() < until_s:
        try:
            reading = machine.read()
        except DriverError as failure:
            error = failure
            if not machine.port.is_open or failure.code == "unplugged":
                break
            clock.sleep(_POLL_PAUSE_S)
            continue
        error = None
        surprise = _surprise(machine.model, order, attempt, reading)
        if surprise is not None:
            reason = "stopped" if machine.generation != generation else surprise[0]
            return attempt.receipt(Outcome.DECLINED, reason, surprise[1], proof=reading)
        if reading.monotonic_s >= quiet_s:
            words = f"called off after {len(attempt.writes)} step(s): {order.control.value} stands at"
            return attempt.receipt(Outcome.DECLINED, ABORTED, f"{words} {attempt.value_after}", proof=reading)
        clock.sleep(_POLL_PAUSE_S)
    words = "called off in mid-order; what was sent was not read back"
    return attempt.receipt(Outcome.IN_DOUBT, error.code if error is not None else ABORTED, words)


def _surprise(
    model: BulletModel, order: SettingOrder, attempt: Attempt, reading: Reading
) -> tuple[str, str] | None:
    """(reason, message) where the machine is not on the way from before to target, else None.

    An echo may lag, so anything between the last value seen and what was sent so far is on the way.
    """
    value = reading.step_of(order.control)
    before, last = attempt.value_before, attempt.value_after
    if value is None or before is None or last is None:
        return "stale_reading", f"{order.control.value} cannot be read any more"
    attempt.value_after = value
    if order.control in model.absolute_controls:
        is_on_the_way = value in (before, order.target_step)
    else:
        sent = len(attempt.writes) if order.target_step > before else -len(attempt.writes)
        low, high = sorted((last, before + sent))
        is_on_the_way = low <= value <= high
    if not is_on_the_way:
        return "contradicted", f"{order.control.value} reads {value} after {len(attempt.writes)} step(s) from {before}"
    is_up = order.control is Control.HEATER and order.target_step > before
    if is_up and reading.state is not MachineState.ROASTING:
        return "wrong_state", f"the machine went to {reading.state.value}"
    if order.allowed_states and reading.state not in order.allowed_states:
        return "wrong_state", f"the machine went to {reading.state.value}"
    return None


def _settle(machine: Bullet, order: SettingOrder, attempt: Attempt, generation: int) -> Receipt:
    """Read until the target is echoed; a value that stays elsewhere is ``partial``."""
    until_s = clock.monotonic() + SETTLE_S
    echo_s = machine.model.echo_s + ECHO_MARGIN_S
    reading: Reading | None = None
    error: DriverError | None = None
    while clock.monotonic() < until_s:
        try:
            reading = machine.read()
        except DriverError as failure:
            error = failure
            if not machine.port.is_open or failure.code == "unplugged":
                break
            continue
        error = None
        surprise = _surprise(machine.model, order, attempt, reading)
        if surprise is not None:
            reason = "stopped" if machine.generation != generation else surprise[0]
            return attempt.receipt(Outcome.DECLINED, reason, surprise[1], proof=reading)
        is_settled = len(attempt.writes) <= 1 or reading.monotonic_s - attempt.writes[-1].monotonic_s >= echo_s
        if attempt.value_after == order.target_step and is_settled:
            return attempt.receipt(Outcome.PROVED, proof=reading)
        clock.sleep(_POLL_PAUSE_S)
    if error is not None or reading is None:
        return attempt.receipt(Outcome.IN_DOUBT, error.code if error else "no_echo", "sent, but not read back")
    message = f"{order.control.value} reads {attempt.value_after}, asked was {order.target_step}"
    return attempt.receipt(Outcome.DECLINED, "partial", message, proof=reading)


def _read_back_after(machine: Bullet, order: SettingOrder, attempt: Attempt, error: DriverError) -> Receipt:
    """A write or a read failed in mid-order: nothing more is sent; say where the control stands, if it can be read."""
    if not isinstance(error, InDoubt):
        return attempt.failed(error)
    until_s = clock.monotonic() + SETTLE_S
    while clock.monotonic() < until_s:
        try:
            reading = machine.read()
        except DriverError as failure:
            if failure.code == "unplugged":
                break
            clock.sleep(_POLL_PAUSE_S)
            continue
        attempt.value_after = reading.step_of(order.control)
        if attempt.value_after == order.target_step:
            return attempt.receipt(Outcome.PROVED, proof=reading)
        clock.sleep(_POLL_PAUSE_S)
    return attempt.failed(error)


def apply_state(machine: Bullet, order: StateOrder, deadline_s: float) -> Receipt:
    """One press of the button, where the table knows what it does, and the state read afterwards.

    ``value_before``/``value_after`` are state codes. Never retried: a second press is a second step of the ring.
    """
    attempt = Attempt(order.order_id, clock.monotonic())
    generation = machine.generation
    try:
        machine.wait_for_slot()
        reading = machine.read()  # the next to come: a press on a state of a moment ago would be another step
    except DriverError as error:
        return attempt.failed(error)
    attempt.value_before = attempt.value_after = reading.state_code
    is_there = reading.state is order.target_state and not reading.quality.get("state")
    refusal = refuse_preheat(machine.model, order)
    if refusal is None and not is_there:
        refusal = refuse_state(machine.model, order, reading)
    if refusal is not None:
        return attempt.receipt(Outcome.DECLINED, *refusal)
    if is_there and order.preheat_target_c is None:
        return attempt.receipt(Outcome.PROVED, proof=reading)
    try:
        refusal = _send_state_writes(machine, order, attempt, generation, is_there=is_there)
    except DriverError as error:
        return attempt.failed(error)
    if refusal is not None:
        return attempt.receipt(Outcome.DECLINED, *refusal)
    if is_there:
        return attempt.receipt(Outcome.SENT, "no_echo", "the machine does not tell its preheat temperature")
    return _await_state(machine, order, attempt, min(deadline_s, STATE_SETTLE_S))


def _send_state_writes(
    machine: Bullet, order: StateOrder, attempt: Attempt, generation: int, *, is_there: bool
) -> tuple[str, str] | None:
    """The preheat temperature, where one is asked for, then the button, where it is needed; why not, else None."""
    model = machine.model
    writes = []
    if order.preheat_target_c is not None and model.encode_preheat is not None:
        writes.append(model.encode_preheat(math.floor(order.preheat_target_c)))
    if not is_there:
        writes.append(model.prs)
    for number, data in enumerate(writes, start=1):
        if number > 1:
            machine.wait_for_slot()
            if machine.read().state_code != attempt.value_before:
                return "moved_at_machine", "the machine went on by itself before the button was pressed"
        if machine.generation != generation:
            return "stopped", "STOP came first"
        if order.order_id in machine.aborted:
            return ABORTED, f"called off after {len(attempt.writes)} of {len(writes)} write(s)"
        attempt.has_tried = True
        attempt.writes.append(machine.send_order(data, order_id=order.order_id, step=number, steps=len(writes)))
    return None


def refuse_preheat(model: BulletModel, order: StateOrder) -> tuple[str, str] | None:
    """(reason, message) where the order's preheat temperature cannot be set, else None. Pure."""
    target_c = order.preheat_target_c
    if target_c is None:
        return None
    if model.encode_preheat is None or order.target_state is not MachineState.PREHEATING:
        return "no_preheat_target", f"a {model.name} takes no preheat temperature with this order: set it at the panel"
    try:
        model.encode_preheat(math.floor(target_c))
    except (ProtocolError, OverflowError, ValueError) as error:
        return "out_of_range", str(error)
    return None


def refuse_state(model: BulletModel, order: StateOrder, reading: Reading) -> tuple[str, str] | None:
    """(reason, message) where the button must not be pressed, else None. Pure."""
    if reading.quality.get("state"):
        return "stale_reading", "the machine's state cannot be believed now"
    if order.from_state is not None and reading.state is not order.from_state:
        return "moved_at_machine", f"the machine is {reading.state.value}, not {order.from_state.value}"
    if (reading.state_code, order.target_state) not in model.presses:
        return "no_such_press", (
            f"no press of the button is known to bring this machine from {reading.state.value} "
            f"(code {reading.state_code}) to {order.target_state.value}: do it at the machine"
        )
    return None


def _await_state(machine: Bullet, order: StateOrder, attempt: Attempt, wait_s: float) -> Receipt:
    """Poll until the press shows."""
    before = attempt.value_before or 0
    expected = machine.model.presses[before, order.target_state]
    until_s = clock.monotonic() + wait_s
    error: DriverError | None = None
    while clock.monotonic() < until_s:
        try:
            reading = machine.read()
        except DriverError as failure:
            error = failure
            if failure.code == "unplugged":
                break
            continue
        attempt.value_after = reading.state_code
        if reading.state in expected:
            words = UNTOLD_PREHEAT if order.preheat_target_c is not None else ""
            return attempt.receipt(Outcome.PROVED, message=words, proof=reading)
        is_passing = reading.state_code == before or reading.state_code in machine.model.passing_codes
        if not is_passing:
            message = f"the button was pressed in state {before} and the machine went to {reading.state.value}"
            return attempt.receipt(Outcome.DECLINED, "contradicted", message, proof=reading)
        clock.sleep(_POLL_PAUSE_S)
    reason = error.code if error is not None else "no_state_change"
    return attempt.receipt(Outcome.IN_DOUBT, reason, "the button was pressed; no new state was read")
