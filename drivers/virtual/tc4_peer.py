"""A virtual TC4: answers CHAN, UNITS, FILT, READ; takes OT1, OT2, IO3 (driver kinds ``tc4-serial``, ``tc4-tcp``)."""

from __future__ import annotations

from drivers.virtual.clocks import Clock
from drivers.virtual.line_faults import TC4_FAULTS
from drivers.virtual.line_peer import Peer

ANSWER_S = 0.05  # conversions of the shield take their time
OUTPUTS = {"OT1": "heater", "OT2": "drum", "IO3": "fan"}


class Tc4Peer(Peer):
    """``shows_outputs``: READ carries heater, fan and set value. Without CHAN it shows nothing but the ambient."""

    FAULTS = TC4_FAULTS

    def __init__(
        self, *, seed: int, clock: Clock | None = None, speed: float = 1.0, faults: str = "",
        initial_state: str = "roasting", shows_outputs: bool = True, has_environment_probe: bool = True,
        io3_full_scale: int = 100,
    ) -> None:
        super().__init__(seed=seed, clock=clock, speed=speed, faults=faults, initial_state=initial_state)
        self._shows_outputs = shows_outputs
        self._has_environment_probe = has_environment_probe
        self._io3_full_scale = io3_full_scale
        self._fan_raw = 0  # as IO3 was set, in the sketch's own count
        self.chan, self.units = "0000", "F"  # as such a sketch starts

    def on_connect(self) -> None:
        """A TC4 says nothing by itself."""

    def on_tick(self) -> None:
        """Nor later."""

    def on_reboot(self) -> None:
        self.chan, self.units = "0000", "F"
        self.drum.steps |= {"heater": 0}

    def is_command(self, line: str) -> bool:
        return line.partition(";")[0] in OUTPUTS

    def carry_out(self, line: str) -> None:
        word, _, value = line.partition(";")
        if word == "READ":
            self.send_line(self._row() + "\r", ANSWER_S)
        elif word == "CHAN" and len(value) == 4 and value.isdecimal():
            self.chan = value
            self.send_line(f"# Active channels set to {value}\r")
        elif word == "UNITS" and value in ("C", "F"):
            self.units = value
            self.send_line(f"# Changed units to {value}\r")
        elif word == "FILT":
            pass  # taken without a word
        elif word in OUTPUTS and value.isdecimal():
            full_scale = self._io3_full_scale if word == "IO3" else 100
            self.set_step(OUTPUTS[word], min(100, round(int(value) * 100 / full_scale)))
            if word == "IO3":
                self._fan_raw = int(value)

    def _row(self) -> str:
        shown = {"1": self._environment(), "2": self._bean(), "3": "", "4": ""}
        cells = [self._temp(24.0), *(shown.get(digit, "") for digit in self.chan if digit != "0")]
        if self._shows_outputs:
            fan = round(self.drum.steps["fan"] * self._io3_full_scale / 100)
            if round(self._fan_raw * 100 / self._io3_full_scale) == self.drum.steps["fan"]:
                fan = self._fan_raw
            cells += [str(self.drum.steps["heater"]), str(fan), "0.0"]
        return ",".join(cells)

    def _environment(self) -> str:
        return self._temp(self.drum.environment_temp_c) if self._has_environment_probe else ""

    def _bean(self) -> str:
        return "nan" if self.troubles.take("nan") else self._temp(self.drum.bean_temp_c)

    def _temp(self, value_c: float) -> str:
        return f"{value_c:.1f}" if self.units == "C" else f"{value_c * 1.8 + 32:.1f}"
