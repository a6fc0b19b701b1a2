"""Making a Bullet safe: heat first and only down, then air. Never a press of the button, never a step up of heat.

At least once: where nothing can be read, the full count of downs goes out blind and the receipt says ``UNPROVED``.
With readings, not one down more than the heater stands at is sent before the echo has settled: whether the
firmware clamps or wraps below 0 is unknown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    from drivers.bullet.driver import Bullet

PROOF_WAIT_S = 2.0  # after the blind downs: how long to go on looking for proof
TRUST_S = 0.5  # a reading older than this does not say where the heater stands
BLIND_AFTER_LOOKS = 2  # where heat was read as 0: so many failed looks in a row before steps go down unseen
ROUNDS_MAX = 3  # full counts of downs
FAN_SAFE_STEP = 7
DRUM_TURNING_STEP = 9
AIR_MAX_S = 1.7  # nine steps of a drum and some of a fan
_POLL_PAUSE_S = 0.03
_MOVES_AIR_IN = frozenset({MachineState.ROASTING, MachineState.COOLING})

BY_HAND_FIRMWARE = (
    "The machine's own program holds the heater in this state: press its button until it cools, or cut the mains.",
)
BY_HAND_UNPROVED = (
    "Look at the machine's panel: is the heater at 0? Turn it down there, or cut the mains.",
    "Beans may still be hot: drop them by hand.",
)


class _Descent:
    """One make_safe in progress."""

    def __init__(self, machine: Bullet, deadline_s: float, order_id: str) -> None:
        self.machine = machine
        self.order_id = order_id
        self.started_s = clock.monotonic()
        self.deadline_at_s = self.started_s + deadline_s
        self.writes: list[WireWrite] = []
        self.attempts = 0  # downs handed to the wire, whether or not it took them
        self.was_applying = machine.is_applying  # its last step up may be in flight
        self.blind_need = machine.model.heater_max_step + (1 if self.was_applying else 0)
        self.expected: int | None = None  # where the heater must stand once all that was sent is echoed
        self.rounds = 0
        self.missed_looks = 0  # in a row
        self.last_error: DriverError | None = None
        self.zeros: list[Reading] = []
        self.value_before: int | None = None

    def down(self) -> None:
        """One heater step down; a failure is remembered, never raised: the next one is tried."""
        self.attempts += 1
        try:
            self.writes.append(
                self.machine.send(
                    self.machine.model.heater_down, order_id=self.order_id, step=self.attempts, steps=self.blind_need
                )
            )
        except DriverError as error:
            self.last_error = error
        if self.expected is not None:
            self.expected = max(0, self.expected - 1)

    def look(self) -> Reading | None:
        """A reading that may be believed about the heater, else None."""
        try:
            reading = self.machine.read_within(self.machine.model.look_s)
        except DriverError as error:
            self.last_error = error
            return None
        if reading.heater_step is None or reading.quality.get("heater_step", Quality.FRESH) is not Quality.FRESH:
            return None
        if self.value_before is None:
            self.value_before = reading.heater_step
        return reading

    def has_proof(self, reading: Reading) -> bool:
        """Two fresh frames in a row with heater 0, of different moments of the machine, the second so long after
        our last write that no step of ours can still be on its way.
        """
        if reading.heater_step != 0:
            self.zeros.clear()
        elif not self.zeros or reading.device_ms != self.zeros[-1].device_ms:
            self.zeros.append(reading)
        is_quiet = not self.machine.is_order_leaving and self.has_settled(reading)
        return len(self.zeros) >= 2 and is_quiet

    def is_over(self) -> bool:
        """Out of time, or beyond every count that could make sense."""
        downs_max = ROUNDS_MAX * self.machine.model.heater_max_step
        return clock.monotonic() >= self.deadline_at_s or self.attempts >= downs_max

    def has_settled(self, reading: Reading) -> bool:
        """Was it read so long after our last write that this one must show in it?"""
        return reading.monotonic_s - self.machine.last_step_s >= self.machine.model.echo_s


def make_safe(machine: Bullet, deadline_s: float, order_id: str) -> Receipt:
    """Heat to 0, proved by two fresh frames where it can be; air up and drum turning after.

    PROVED: heater 0 was read twice in a state where the heater is ours. UNPROVED: everything else, with what a
    person must do. The first byte leaves before anything is read, unless the heater is known to be at 0.
    """
    descent = _Descent(machine, deadline_s, order_id)
    latest = machine.latest
    is_young = latest is not None and latest.age_s(descent.started_s) <= TRUST_S
    if latest is not None and is_young and not latest.quality.get("heater_step"):
        descent.value_before = latest.heater_step
        is_step_up_unseen = machine.last_heat_up_s > latest.monotonic_s - machine.model.echo_s
        if latest.heater_step or not is_step_up_unseen:  # else it stands above the 0 that was read
            descent.expected = latest.heater_step
    if descent.expected != 0:
        descent.down()
    proof = _descend(descent)
    state = proof.state if proof is not None else MachineState.UNKNOWN
    proved_at_s = clock.monotonic() if proof is not None else None
    if proof is not None and state in _MOVES_AIR_IN:
        _move_air(descent, proof)
    if proof is None:
        return _unproved(descent)
    if state in FIRMWARE_OWNS_HEAT or state is MachineState.UNKNOWN:
        return _receipt(descent, Outcome.UNPROVED, "firmware_owns_heat", BY_HAND_FIRMWARE, proof=proof)
    return _receipt(descent, Outcome.PROVED, "", (), proof=proof, proved_at_s=proved_at_s)


def _unproved(descent: _Descent) -> Receipt:
    """Why not, and what a person must do."""
    latest = descent.machine.latest
    if descent.last_error is not None:
        return _receipt(descent, Outcome.UNPROVED, descent.last_error.code, BY_HAND_UNPROVED, proof=None)
    if latest is not None and latest.state in FIRMWARE_OWNS_HEAT:
        return _receipt(descent, Outcome.UNPROVED, "firmware_owns_heat", BY_HAND_FIRMWARE, proof=latest)
    if descent.machine.is_order_leaving:
        return _receipt(descent, Outcome.UNPROVED, "order_in_flight", BY_HAND_UNPROVED, proof=latest)
    return _receipt(descent, Outcome.UNPROVED, "heater_not_zero", BY_HAND_UNPROVED, proof=latest)


def _descend(descent: _Descent) -> Reading | None:
    """Down until 0 is read twice; the reading that proves it, or None."""
    while not descent.is_over():
        reading = descent.look()
        if reading is None:
            if isinstance(descent.last_error, Unplugged):
                return None
            descent.missed_looks += 1
            if descent.expected == 0 and descent.missed_looks < BLIND_AFTER_LOOKS:
                continue  # one lost reply does not make a heater that stood at 0 a hot one: look again
            if descent.attempts < descent.blind_need:
                descent.machine.wait_for_slot()
                descent.down()
            elif clock.monotonic() - descent.started_s > PROOF_WAIT_S:
                return None
            else:
                clock.sleep(_POLL_PAUSE_S)
            continue
        descent.last_error, descent.missed_looks = None, 0
        if descent.has_proof(reading):
            return reading
        is_ours = reading.state not in FIRMWARE_OWNS_HEAT
        if not is_ours and reading.heater_step and descent.expected == 0 and descent.has_settled(reading):
            return None  # one full count of downs was sent; the firmware does not listen here
        if _next_down_is_due(descent, reading):
            descent.machine.wait_for_slot()
            descent.down()
        else:
            clock.sleep(_POLL_PAUSE_S)
    return None


def _next_down_is_due(descent: _Descent, reading: Reading) -> bool:
    """Is a further step needed, beyond those sent whose echo may still be on its way?"""
    heater = reading.heater_step or 0
    if heater == 0:
        descent.expected = 0
        return False
    if descent.expected is None:
        # Nothing was known before: believe this frame once our first down must show in it.
        if descent.attempts and not descent.has_settled(reading):
            return False
        descent.expected = heater
        return True
    if descent.expected > 0:
        descent.expected = min(descent.expected, heater)
        return True
    if descent.has_settled(reading) and descent.rounds < ROUNDS_MAX:
        descent.rounds += 1  # steps were dropped, or a hand turned it up
        descent.expected = heater
        return True
    return False


def _move_air(descent: _Descent, proof: Reading) -> None:
    """Fan up to 7 (never down), a standing drum to 9 while roasting. Best effort: heat is off already."""
    until_s = clock.monotonic() + AIR_MAX_S
    try:
        if proof.state is MachineState.ROASTING and proof.drum_step == 0:
            _raise(descent, Control.DRUM, 0, DRUM_TURNING_STEP, until_s)
        if proof.fan_step is not None and proof.fan_step < FAN_SAFE_STEP:
            _raise(descent, Control.FAN, proof.fan_step, FAN_SAFE_STEP, until_s)
    except DriverError as error:
        descent.last_error = error  # told nowhere else: heat was proved off before


def _raise(descent: _Descent, control: Control, from_step: int, target_step: int, until_s: float) -> None:
    """Up by the steps it takes, looking before each: not one beyond the target, none once heat comes back."""
    machine = descent.machine
    for data in machine.model.encode_setting(control, from_step, target_step):
        machine.wait_for_slot()
        reading = machine.read_within(machine.model.look_s)
        is_surprising = (reading.step_of(control) or 0) >= target_step or reading.heater_step != 0
        if is_surprising or reading.state not in _MOVES_AIR_IN or clock.monotonic() > until_s:
            return
        number = len(descent.writes) + 1
        descent.writes.append(machine.send(data, order_id=descent.order_id, step=number, steps=number))


def _receipt(
    descent: _Descent, outcome: Outcome, reason: str, by_hand: tuple[str, ...], *, proof: Reading | None,
    proved_at_s: float | None = None,
) -> Receipt:
    message = "" if outcome is Outcome.PROVED else (
        descent.last_error.message if descent.last_error is not None else "heater 0 could not be proved"
    )
    return Receipt(
        order_id=descent.order_id, outcome=outcome, reason=reason, message=message, writes=tuple(descent.writes),
        value_before=descent.value_before, value_after=proof.heater_step if proof is not None else None, proof=proof,
        started_monotonic_s=descent.started_s,
        first_byte_monotonic_s=descent.writes[0].monotonic_s if descent.writes else None,
        proved_monotonic_s=proved_at_s, by_hand=by_hand,
    )
