"""A roaster somebody built on a bench: percent controls round the heat model. Deterministic by seed; ticks of 0.1 s."""

from __future__ import annotations

import random

from drivers.virtual import heat
from drivers.virtual.heat import BULLET_R1, HeatInputs

TICKS_PER_S = 10
INITIAL_STATES = ("off", "charge", "roasting")
WATTS_FULL = 9 * BULLET_R1.watts_per_step  # 100 % is what a Bullet's heater 9 is
PREHEATED_C = 200.0
BATCH_KG = 0.4
ROASTING_FOR_S = 150
CONTROLS = ("heater", "fan", "drum")
_NOISE_C = 0.05


class BenchDrum:
    """Beans, drum, three controls in whole percent, and a state. ``act`` is the person at the machine."""

    def __init__(self, *, seed: int, initial_state: str = "roasting") -> None:
        if initial_state not in INITIAL_STATES:
            raise ValueError(f"initial_state is one of {', '.join(INITIAL_STATES)}, not {initial_state!r}")
        self._chance = random.Random(int(seed))
        self.steps = {"heater": 0, "fan": 0, "drum": 0}
        self.state = "off"
        self.warmth = heat.cold()
        self.extra_c = 0.0
        if initial_state in ("charge", "roasting"):
            self.state, self.warmth = "charge", heat.preheated(BULLET_R1)
            self.steps = {"heater": 0, "fan": 30, "drum": 70}
        if initial_state == "roasting":
            self.act("charge_beans")
            self.steps |= {"heater": 55}
            for _ in range(ROASTING_FOR_S * TICKS_PER_S):
                self.tick()

    @property
    def bean_temp_c(self) -> float:
        """What its bean probe shows, noise included."""
        return self.warmth.probe_temp_c + self.extra_c + self._chance.gauss(0.0, _NOISE_C)

    @property
    def environment_temp_c(self) -> float:
        """What its probe in the drum's air shows."""
        return 0.7 * self.warmth.drum_temp_c + 0.3 * self.warmth.probe_temp_c + self._chance.gauss(0.0, _NOISE_C)

    def tick(self) -> None:
        """0.1 s later."""
        inputs = HeatInputs(
            heater_step=0, fan_step=round(self.steps["fan"] * 12 / 100), drum_step=round(self.steps["drum"] * 9 / 100),
            extra_watts=WATTS_FULL * self.steps["heater"] / 100,
        )
        self.warmth = heat.step(self.warmth, inputs, BULLET_R1, 1.0 / TICKS_PER_S)
        if self.state == "preheating":
            self.steps["heater"] = 80
            if self.warmth.drum_temp_c >= PREHEATED_C:
                self.state = "charge"
                self.steps["heater"] = 10

    def act(self, act: str, **details: object) -> None:
        """``charge_beans``, ``drop_beans``, ``turn_knob`` (control, step), ``set_state`` (state). ValueError."""
        if act == "charge_beans":
            self.warmth = heat.charge(self.warmth, BULLET_R1, BATCH_KG, 25.0)
            self.state = "roasting"
        elif act == "drop_beans":
            self.enter("cooling")
            self.warmth = heat.pour_out(self.warmth)
        elif act == "turn_knob":
            self.steps[str(details["control"])] = int(str(details["step"]))
        elif act == "set_state":
            self.enter(str(details["state"]))
        else:
            raise ValueError(f"nobody can {act!r} here")

    def enter(self, state: str) -> None:
        """Go to a state as its own program does: heat off where beans are not roasted."""
        self.state = state
        if state in ("cooling", "off", "shutdown"):
            self.steps["heater"] = 0
        if state == "cooling":
            self.steps["fan"] = max(70, self.steps["fan"])

    def status(self) -> dict[str, object]:
        """The truth inside."""
        return {
            "state": self.state, **{f"{name}_step": step for name, step in self.steps.items()},
            "bean_temp_c": round(self.warmth.probe_temp_c, 2), "drum_temp_c": round(self.warmth.drum_temp_c, 2),
            "bean_mass_kg": round(self.warmth.bean_mass_kg, 3),
        }
