"""What faults do to one machine: when they begin and end, and how they spoil the wire."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

from drivers.virtual.faults import Fault
from drivers.virtual.firmware import ROASTING, TICKS_PER_S, SensorFault

if TYPE_CHECKING:
    from drivers.virtual.machine import VirtualMachine

FOREVER_TICKS = 1 << 60
MAX_PENDING = 1000


class FaultEffects:
    """The schedule of one machine and the faults at work now. Called under the machine's lock."""

    def __init__(self, faults: list[Fault], chance: random.Random) -> None:
        if len(faults) > MAX_PENDING:
            raise ValueError(f"at most {MAX_PENDING} faults")
        self._pending = sorted(faults, key=lambda fault: (fault.at_s, fault.name), reverse=True)
        self._chance = chance
        self.is_plugged = True
        self._replug_tick = FOREVER_TICKS
        self._until_tick = {"nak": 0, "time_out": 0}
        self._left = {"late_reply": 0, "short_read": 0, "garbage": 0}
        self._delay_s = 0.0
        self._short_bytes = 0

    def tick(self, machine: VirtualMachine) -> None:
        """Begin what is due, end what is over."""
        now_tick = round(machine.device_s * TICKS_PER_S)
        while self._pending and self._pending[-1].at_s * TICKS_PER_S <= now_tick:
            self.start(self._pending.pop(), machine)
        if now_tick >= self._replug_tick:
            self._plug(machine)

    def start(self, fault: Fault, machine: VirtualMachine) -> None:
        """Begin one fault now."""
        machine.note_fault(fault, "begins")
        now_tick = round(machine.device_s * TICKS_PER_S)
        lasting_ticks = round(fault.lasts_s * TICKS_PER_S)
        if fault.name in self._until_tick:
            self._until_tick[fault.name] = now_tick + lasting_ticks
        elif fault.name in self._left:
            self._left[fault.name] = fault.parameter("count")
            self._delay_s = fault.parameter("delay_s") if fault.name == "late_reply" else self._delay_s
            self._short_bytes = fault.parameter("bytes") if fault.name == "short_read" else self._short_bytes
        elif fault.name in ("unplug", "replug", "firmware_reboot", "slipped_frame"):
            self._start_cable(fault, machine, now_tick + lasting_ticks)
        else:
            start_inside(fault, machine, lasting_ticks)

    def _start_cable(self, fault: Fault, machine: VirtualMachine, end_tick: int) -> None:
        if fault.name == "replug":
            self._plug(machine)
        elif fault.name == "slipped_frame":
            for _ in range(max(1, fault.parameter("count"))):
                machine.slip()
        else:
            if fault.name == "firmware_reboot":
                machine.firmware.power_on()
            self.is_plugged = False
            self._replug_tick = end_tick if fault.lasts_s > 0 else FOREVER_TICKS
            machine.unplugged()

    def _plug(self, machine: VirtualMachine) -> None:
        self._replug_tick = FOREVER_TICKS
        if not self.is_plugged:
            self.is_plugged = True
            machine.note_fault(Fault("replug", machine.device_s), "plugged in")

    def refuses_out(self, now_tick: int) -> bool:
        """Does the machine not take OUT transfers now?"""
        return now_tick < self._until_tick["nak"]

    def mangle(self, reply: bytes, now_tick: int) -> list[tuple[float, bytes]]:
        """What really goes out for ``reply``: (delay in seconds, bytes), possibly nothing."""
        if now_tick < self._until_tick["time_out"]:
            return []
        delay_s = 0.0
        if self._take("late_reply"):
            delay_s = self._delay_s
        if self._take("garbage"):
            reply = self._chance.randbytes(len(reply))
        if self._take("short_read"):
            reply = reply[: max(0, self._short_bytes)]
        return [(delay_s, reply)]

    def _take(self, name: str) -> bool:
        if self._left[name] <= 0:
            return False
        self._left[name] -= 1
        return True


def start_inside(fault: Fault, machine: VirtualMachine, lasting_ticks: int) -> None:
    """Faults of sensors, mains and firmware."""
    firmware = machine.firmware
    faulty, end_tick = firmware.faulty, firmware.ticks + lasting_ticks
    if fault.name == "stuck_sensor":
        faulty.sensors[fault.parameter("sensor")] = SensorFault(end_tick, None)
    elif fault.name == "nan":
        faulty.sensors[fault.parameter("sensor")] = SensorFault(end_tick, math.nan)
    elif fault.name == "over_temperature":
        sensor = fault.parameter("sensor")
        for each in ("probe", "infrared") if sensor == "both" else (sensor,):
            faulty.sensors[each] = SensorFault(end_tick, fault.parameter("temp_c"))
        faulty.extra_watts, faulty.extra_watts_until_tick = fault.parameter("watts"), end_tick
    elif fault.name == "brown_out":
        faulty.voltage_v, faulty.voltage_until_tick = fault.parameter("voltage_v"), end_tick
    elif fault.name == "dropped_step":
        faulty.steps_to_drop = fault.parameter("count")
    elif fault.name == "doubled_step":
        faulty.steps_to_double = fault.parameter("count")
    elif fault.name == "spurious_charge" and firmware.state != ROASTING:
        firmware.start_roast_by_itself()
