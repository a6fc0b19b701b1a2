"""The demo's person at the machine: starts batches, drops them, and otherwise keeps his hands off.

He turns heater and fan once, just after charge; later orders of others are never fought. Device time only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivers.virtual.firmware import CHARGE, COOLING, DROPPING, OFF, PREHEATING, ROASTING, SHUTDOWN, STABILISING

if TYPE_CHECKING:
    from drivers.virtual.machine import VirtualMachine

DROP_AT_PROBE_C = 205.0
DROP_AT_LATEST_S = 660.0
AWAY_S = 5.0  # a log was played meanwhile: what he did before says nothing about now
FIRST_HEATER_SHARE, FIRST_FAN_STEP = 2 / 3, 2


class DemoPerson:
    """Off → preheat → beans in → roast → beans out → cool → off → a pause → again."""

    def __init__(
        self, *, ready_s: float = 6.0, hand_s: float = 3.0, cool_s: float = 60.0, pause_s: float = 20.0
    ) -> None:
        self._waits_s = {CHARGE: ready_s, ROASTING: hand_s, DROPPING: cool_s, COOLING: cool_s}
        self._waits_s |= {SHUTDOWN: 5.0, OFF: pause_s}
        self._state = -1
        self._since_s = 0.0
        self._is_done = False
        self._looked_s = 0.0

    def tick(self, machine: VirtualMachine) -> bool:
        """Look at the machine; True when he did something."""
        status = machine.status()
        was_away = status["device_s"] - self._looked_s > AWAY_S
        self._looked_s = status["device_s"]
        if was_away or status["state"] != self._state:
            self._state, self._since_s, self._is_done = status["state"], status["device_s"], False
        waited_s = status["device_s"] - self._since_s
        if self._state in (PREHEATING, STABILISING):
            return False
        if self._state == ROASTING and self._should_drop(status, waited_s):
            machine.act("drop_beans")
            return True
        if self._is_done or waited_s < self._waits_s.get(self._state, 1e9):
            return self._empty_late(machine, status, waited_s)
        self._is_done = True
        return self._act(machine, status)

    def _should_drop(self, status: dict[str, float], waited_s: float) -> bool:
        is_hot = status["probe_temp_c"] >= DROP_AT_PROBE_C and waited_s > 60.0
        return is_hot or waited_s >= DROP_AT_LATEST_S

    def _act(self, machine: VirtualMachine, status: dict[str, float]) -> bool:
        if self._state == CHARGE:
            machine.act("charge_beans")
        elif self._state == ROASTING:
            if status["bean_mass_kg"] <= 0:
                machine.act("charge_beans")
            hottest = machine.firmware.RANGES["heater"][1]
            machine.act("turn_knob", control="heater", step=round(hottest * FIRST_HEATER_SHARE))
            machine.act("turn_knob", control="fan", step=FIRST_FAN_STEP)
        elif self._state in (DROPPING, COOLING, SHUTDOWN, OFF):
            machine.act("press_prs")
        return True

    def _empty_late(self, machine: VirtualMachine, status: dict[str, float], waited_s: float) -> bool:
        """Somebody else ended the roast: the beans must still come out."""
        if self._state in (DROPPING, COOLING) and status["bean_mass_kg"] > 0 and waited_s >= 2.0:
            machine.act("pour_out")
            return True
        return False
