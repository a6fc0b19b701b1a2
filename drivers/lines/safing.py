"""Making a line machine safe: its heat to the declared safe value, again and again until telemetry shows it.

Absolute settings can be repeated without harm, so STOP always sends, at once, before anything is read. A machine that
offers no control of its heat cannot be made safe from here, and the receipt says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivers.lines.applying import UNHEARD_S
from drivers.port import (
    FIRMWARE_OWNS_HEAT,
    Control,
    DriverError,
    MachineState,
    Outcome,
    Quality,
    Reading,
    Receipt,
    Unplugged,
    WireWrite,
)
from kernel import clock

if TYPE_CHECKING:
    from drivers.lines.line_machine import LineMachine

REPEAT_S = 0.3
SENDS_MAX = 12
_PAUSE_S = 0.02
_MOVES_AIR_IN = frozenset({MachineState.ROASTING, MachineState.COOLING})

BY_HAND_READ_ONLY = (
    "This machine is only read from here: turn its heat off at the machine itself, or cut the mains or the gas.",
    "Beans may still be hot: drop them by hand.",
)
BY_HAND_UNPROVED = (
    "Look at the machine: is its heat off? Turn it off there, or cut the mains or the gas.",
    "Beans may still be hot: drop them by hand.",
)
BY_HAND_FIRMWARE = (
    "The machine's own program holds the heat in this state: end it at the machine, or cut the mains or the gas.",
)


class _Descent:
    """One make_safe in progress."""

    def __init__(self, machine: LineMachine, deadline_s: float, order_id: str, safe_step: int) -> None:
        self.machine = machine
        self.order_id = order_id
        self.safe_step = safe_step
        self.started_s = clock.monotonic()
        self.deadline_at_s = self.started_s + deadline_s
        self.writes: list[WireWrite] = []
        self.sent: list[tuple[str, float]] = []  # heat commands: id, monotonic second
        self.attempts = 0
        self.tried_s = self.started_s
        self.last_error: DriverError | None = None
        self.seen: list[Reading] = []  # at the safe value, taken after our command, one after the other
        latest = machine.latest
        self.value_before = latest.heater_step if latest is not None else None
        if latest is not None and self.value_before is not None and _is_believed(latest, machine, self.started_s):
            self.safe_step = min(safe_step, self.value_before)  # heat only ever goes down: it may stand lower already

    def send(self, control: Control = Control.HEATER, step: int | None = None) -> None:
        """One command; a failure is remembered, never raised: the next one is tried."""
        self.attempts += 1
        self.tried_s = clock.monotonic()
        wire_id = f"{self.order_id}/{self.attempts}"
        try:
            write = self.machine.set_control(
                control, self.safe_step if step is None else step, wire_id=wire_id, order_id=self.order_id,
                number=self.attempts, numbers=self.attempts)
            self.writes.append(write)
            if control is Control.HEATER:
                self.sent.append((wire_id, write.monotonic_s))
        except DriverError as error:
            self.last_error = error

    def heard_s(self) -> tuple[float, int] | None:
        """(since when readings count, how many of them prove it); None: not yet.

        An acknowledgement says that this command, and all before it, were carried out: one later reading proves.
        Without one, two do, the first of them a second after the last command.
        """
        answers = [self.machine.ack_of(wire_id) for wire_id, sent_s in self.sent if sent_s > self.machine.last_order_s]
        acknowledged = [answer[1] for answer in answers if answer is not None and answer[0].is_ok]
        if acknowledged:
            return min(acknowledged), 1
        if not self.writes:
            return None
        return self.writes[-1].monotonic_s + (UNHEARD_S if self.machine.is_answering else 0.0), 2

    def is_overtaken(self) -> bool:
        """An order left, or is leaving, after our last command: ours must go again before anything is proved."""
        machine = self.machine
        return machine.is_order_leaving or not self.writes or machine.last_order_s >= self.writes[-1].monotonic_s

    def look(self) -> Reading | None:
        """A reading that may be believed about the heater, else None."""
        try:
            reading = self.machine.read_within(self.machine.look_s)
        except DriverError as error:
            self.last_error = error
            return None
        if reading.heater_step is None or reading.quality.get("heater_step", Quality.FRESH) is not Quality.FRESH:
            return None
        return reading

    def has_proof(self, reading: Reading) -> bool:
        """Enough readings at the safe value, of different moments, all taken after the machine heard us."""
        heard = self.heard_s()
        if reading.heater_step != self.safe_step or heard is None or self.is_overtaken():
            self.seen.clear()
            return False
        since_s, needed = heard
        if reading.monotonic_s > since_s and all(reading.device_ms != each.device_ms for each in self.seen):
            self.seen.append(reading)
        self.seen = [each for each in self.seen if each.monotonic_s > since_s]
        return len(self.seen) >= needed


def _is_believed(latest: Reading, machine: LineMachine, now_s: float) -> bool:
    """Does this reading still say where the heater stands?"""
    is_young = latest.age_s(now_s) <= machine.stale_s()
    return is_young and latest.quality.get("heater_step", Quality.FRESH) is Quality.FRESH


def make_safe(machine: LineMachine, deadline_s: float, order_id: str) -> Receipt:
    """Heat to its safe value, proved by telemetry where it can be; air up after.

    PROVED: heater 0 was read after the command was heard. UNPROVED: everything else, with what a person must do.
    """
    steerable = machine.controls.get(Control.HEATER)
    if steerable is None or steerable.safe_step is None:
        return _without_control(machine, order_id)
    descent = _Descent(machine, deadline_s, order_id, steerable.safe_step)
    descent.send()
    proof = _descend(descent, has_echo=steerable.has_echo)
    if proof is None:
        reason = descent.last_error.code if descent.last_error is not None else "not_echoed"
        if not steerable.has_echo:
            reason = "no_echo"
        return _receipt(descent, Outcome.UNPROVED, reason, BY_HAND_UNPROVED, proof=None)
    proved_at_s = clock.monotonic()
    if proof.state in FIRMWARE_OWNS_HEAT:
        return _receipt(descent, Outcome.UNPROVED, "firmware_owns_heat", BY_HAND_FIRMWARE, proof=proof)
    _move_air(descent, proof)
    if descent.safe_step > 0:
        by_hand = (f"Its safe value is {descent.safe_step} % heat, not 0: turn the rest off at the machine.",
                   *BY_HAND_UNPROVED)
        return _receipt(descent, Outcome.UNPROVED, "safe_value_is_not_off", by_hand, proof=proof)
    return _receipt(descent, Outcome.PROVED, "", (), proof=proof, proved_at_s=proved_at_s)


def _without_control(machine: LineMachine, order_id: str) -> Receipt:
    """Nothing can be sent: say so, and what was last read."""
    latest, now_s = machine.latest, clock.monotonic()
    reason = "read_only" if machine.is_open else "unplugged"
    words = "this machine offers no control of its heat" if machine.is_open else "the machine is not connected"
    if latest is not None and latest.heater_step is not None:
        words += f"; {latest.age_s(now_s):.1f} s ago its telemetry said heater {latest.heater_step} %"
    by_hand = BY_HAND_READ_ONLY if machine.is_open else BY_HAND_UNPROVED
    return Receipt(order_id=order_id, outcome=Outcome.UNPROVED, reason=reason, message=words,
                   value_before=latest.heater_step if latest is not None else None,
                   started_monotonic_s=now_s, by_hand=by_hand)


def _descend(descent: _Descent, *, has_echo: bool) -> Reading | None:
    """Send and look until it is proved, or the time is over; the reading that proved it, else None."""
    while clock.monotonic() < descent.deadline_at_s:
        reading = descent.look()
        if reading is None and isinstance(descent.last_error, Unplugged):
            return None
        if reading is not None:
            descent.last_error = None
            if descent.has_proof(reading):
                return reading
        is_there = reading is not None and reading.heater_step == descent.safe_step and not descent.is_overtaken()
        is_due = clock.monotonic() - descent.tried_s >= REPEAT_S
        if is_due and not is_there and descent.attempts < SENDS_MAX:
            descent.send()
        elif not has_echo and descent.attempts >= 3:
            return None  # three times is enough where nothing will ever show it
        else:
            clock.sleep(_PAUSE_S)
    return None


def _move_air(descent: _Descent, proof: Reading) -> None:
    """Air up to its safe value where one is declared; never down. Best effort: heat is off already."""
    fan = descent.machine.controls.get(Control.FAN)
    if fan is None or fan.safe_step is None or proof.state not in _MOVES_AIR_IN:
        return
    if proof.fan_step is None or proof.fan_step < fan.safe_step:
        descent.send(Control.FAN, fan.safe_step)


def _receipt(
    descent: _Descent, outcome: Outcome, reason: str, by_hand: tuple[str, ...], *, proof: Reading | None,
    proved_at_s: float | None = None,
) -> Receipt:
    message = "" if outcome is Outcome.PROVED else (
        descent.last_error.message if descent.last_error is not None else "heat off could not be proved")
    return Receipt(
        order_id=descent.order_id, outcome=outcome, reason=reason, message=message, writes=tuple(descent.writes),
        value_before=descent.value_before, value_after=proof.heater_step if proof is not None else None, proof=proof,
        started_monotonic_s=descent.started_s,
        first_byte_monotonic_s=descent.writes[0].monotonic_s if descent.writes else None,
        proved_monotonic_s=proved_at_s, by_hand=by_hand,
    )
