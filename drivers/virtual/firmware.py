"""The firmware's side of a Bullet, as far as both models are alike: states, heat, the person, steps.

Written from the reference's facts and on purpose not from our own decoders: a mistake on either side shows. No clock,
no I/O; chance comes from the given seed only. What goes over the wire is in ``firmware_r1.py`` and ``firmware_r2.py``;
what a person does at the machine (button, beans, knobs) are methods; what USB does is in ``machine.py``.
"""

from __future__ import annotations

import copy
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

from drivers.virtual import heat
from drivers.virtual.settings import MachineSettings
from drivers.virtual.wire_values import WireValues

OFF, PREHEATING, STABILISING, CHARGE, ROASTING, DROPPING, COOLING, SHUTDOWN = 0, 2, 3, 4, 6, 7, 8, 9
TICKS_PER_S = 10
TICK_S = 1.0 / TICKS_PER_S
HEATED_STATES = frozenset({PREHEATING, STABILISING, CHARGE, ROASTING})
INITIAL_STATES = ("off", "charge", "roasting")
PROBE_OUT_OF_RANGE = 1024  # the maker's own code
OVER_TEMPERATURE = 4096  # our invention: the real code is unknown
RESET_INFRARED_C = 25.0
#: Blower rpm by level, measured on real R1 logs for 1-5 and 7; the rest lies between. Multiples of 15.
FAN_RPM = (0, 810, 915, 1125, 1350, 1560, 1740, 1920, 2100, 2280, 2460, 2640, 2820)


_OWN = frozenset({"settings", "parameters", "note", "_acts_by_state"})  # not part of what a start brings about
_STARTS_MAX = 64
_STARTS: dict[tuple[object, ...], dict[str, object]] = {}  # how machines of this process stood after their start


@dataclass(slots=True)
class Answer:
    """What one OUT transfer did. ``replies`` go to the IN endpoint; ``alarm`` marks what nobody may send."""

    meaning: str
    replies: list[bytes] = field(default_factory=list)
    alarm: str = ""
    clears_queue: bool = False
    reboots: bool = False


@dataclass(slots=True)
class SensorFault:
    """A sensor that lies until a tick. ``value_c`` None: stuck at what it showed first."""

    until_tick: int
    value_c: float | None


@dataclass(slots=True)
class Faulty:
    """Faults the firmware itself can have; set by the fault schedule."""

    sensors: dict[str, SensorFault] = field(default_factory=dict)
    steps_to_drop: int = 0
    steps_to_double: int = 0
    voltage_until_tick: int = 0
    voltage_v: float = 0.0
    extra_watts: float = 0.0
    extra_watts_until_tick: int = 0


class Firmware:
    """What both models do alike. ``note`` receives (what, detail) for everything it does by itself."""

    SETTINGS: ClassVar[type[MachineSettings]] = MachineSettings
    RANGES: ClassVar[dict[str, tuple[int, int]]] = {}  # first and last step a setting takes
    PREHEATS_WITH: ClassVar[tuple[int, int, int]] = (0, 0, 0)  # heater steps: far from, near, and at the set-point
    HOLDS_WITH: ClassVar[tuple[int, int]] = (0, 0)  # heater steps that keep the set-point
    HEAT: ClassVar[heat.HeatParameters] = heat.BULLET_R1
    COOLS_IN: ClassVar[int] = COOLING  # the state a machine that got too hot goes to

    def __init__(
        self,
        settings: MachineSettings | None = None,
        *,
        seed: int,
        initial_state: str = "off",
        parameters: heat.HeatParameters | None = None,
        note: Callable[[str, str], None] | None = None,
    ) -> None:
        if initial_state not in INITIAL_STATES:
            raise ValueError(f"initial state is one of {INITIAL_STATES}, not {initial_state!r}")
        self.settings = settings or self.SETTINGS()
        self.parameters = parameters or self.HEAT
        self.note = note or (lambda what, detail: None)
        self._chance = random.Random(int(seed))
        self._seed = int(seed)
        self._acts_by_state = self._acts()
        self.faulty = Faulty()
        self.ticks = 0
        self.roast_count = self.settings.roast_count
        self.warmth = heat.cold(self.settings.ambient_temp_c)
        self._has_started = False
        self.power_on()
        if initial_state != "off":
            self._start_as_before(initial_state)
        self._has_started = True

    # -- power and set-up -------------------------------------------------------------------------

    def power_on(self) -> None:
        """As after the mains switch: everything but the heat in the metal is forgotten."""
        self.state = OFF
        self.heater_step, self.fan_step, self.drum_step = 0, 1, 0
        self.preheat_target_c = self.settings.preheat_target_c
        self.state_ticks = 0
        self.roast_ticks = 0
        self.sample_counter = 0
        self.error_codes: tuple[tuple[int, int], ...] = ()
        self._infrared_hold_ticks = 0
        self._settling_ticks = 0
        self._infrared_at_reset = False
        self._probe_past: deque[float] = deque([self.warmth.probe_temp_c], maxlen=4 * TICKS_PER_S + 1)
        self._infrared_past: deque[float] = deque([self.warmth.infrared_temp_c], maxlen=4 * TICKS_PER_S + 1)
        self._shown_controls: deque[tuple[int, int, int]] = deque(maxlen=self.settings.echo_lag_frames)
        self._step_ticks: deque[int] = deque(maxlen=64)
        self._idle_message_due = False
        self._voltage_v = self.settings.mains_voltage_v
        self._noise = (0.0, 0.0, 0.0)

    def switch_on_again(self, sample_counter: int, warmth: heat.HeatState) -> None:
        """Off, as after the mains switch and as warm as ``warmth``; but the sample counter goes on from where it is."""
        self.warmth = warmth
        self.power_on()
        self.sample_counter = sample_counter

    def _start_as_before(self, initial_state: str) -> None:
        """As :meth:`_start_warm`; a machine that was started like this before is not roasted all over again."""
        key = (type(self), self.settings, self.parameters, self._seed, initial_state)
        kept = _STARTS.get(key)
        if kept is None:
            self._start_warm(into_roast=initial_state == "roasting")
            while len(_STARTS) >= _STARTS_MAX:
                _STARTS.pop(next(iter(_STARTS)))
            _STARTS[key] = {name: copy.deepcopy(value) for name, value in vars(self).items() if name not in _OWN}
        else:
            vars(self).update(copy.deepcopy(kept))

    def _start_warm(self, *, into_roast: bool) -> None:
        """Skip the preheat; for ``roasting`` also the first 150 s: beans in, heater 5, fan 3, drum 7."""
        self.warmth = heat.preheated(self.parameters, float(self.preheat_target_c) - 1.0, self.settings.ambient_temp_c)
        self._forget_past()
        self._enter(CHARGE)
        if not into_roast:
            return
        self.charge_beans(self.settings.batch_kg)
        self._enter(ROASTING)
        for _ in range(150 * TICKS_PER_S):
            self.tick()
        self.heater_step, self.fan_step, self.drum_step = 5, 3, 7
        self.ticks = self.sample_counter = 0

    def _forget_past(self) -> None:
        self._probe_past.clear()
        self._infrared_past.clear()
        self._probe_past.append(self.warmth.probe_temp_c)
        self._infrared_past.append(self.warmth.infrared_temp_c)

    # -- time -------------------------------------------------------------------------------------

    def tick(self) -> None:
        """A tenth of a second of device time passes."""
        self.ticks += 1
        self.state_ticks += 1
        self.sample_counter = (self.sample_counter + 1) & 0xFFFF
        self._mains()
        self.warmth = heat.step(self.warmth, self._inputs(), self.parameters, TICK_S)
        self._hold_infrared()
        self._probe_past.append(self.warmth.probe_temp_c)
        self._infrared_past.append(self.warmth.infrared_temp_c)
        chance = self._chance
        self._noise = (chance.gauss(0.0, 0.04), chance.gauss(0.0, 0.12), chance.random())
        self._act_alone()

    def _mains(self) -> None:
        if self.ticks < self.faulty.voltage_until_tick:
            self._voltage_v = self.faulty.voltage_v
            return
        drift = 0.02 * (self.settings.mains_voltage_v - self._voltage_v) + self._chance.gauss(0.0, 0.06)
        self._voltage_v = self._voltage_v + drift if self._voltage_v > 180 else self.settings.mains_voltage_v

    def _inputs(self) -> heat.HeatInputs:
        is_extra = self.ticks < self.faulty.extra_watts_until_tick
        return heat.HeatInputs(
            heater_step=self.heater_step if self.state in HEATED_STATES else 0,
            fan_step=self.fan_step,
            drum_step=self.drum_step,
            voltage_v=self._voltage_v,
            ambient_temp_c=self.settings.ambient_temp_c,
            extra_watts=self.faulty.extra_watts if is_extra else 0.0,
        )

    def _hold_infrared(self) -> None:
        """At 4→6 the eye shows exactly 25.0 after half a second, stays about 5 s, then climbs."""
        if self._infrared_hold_ticks <= 0:
            return
        self._infrared_hold_ticks -= 1
        if self._infrared_hold_ticks < 50:
            self._infrared_at_reset = self._infrared_hold_ticks > 0
            self.warmth = replace(self.warmth, infrared_temp_c=RESET_INFRARED_C)

    # -- what the firmware does by itself ---------------------------------------------------------

    def _act_alone(self) -> None:
        if self.state in HEATED_STATES and self._is_too_hot():
            self.error_codes = ((OVER_TEMPERATURE, int(self._hottest_c())),)
            self.note("over_temperature", f"{self._hottest_c():.0f} °C: heat off, cooling")
            self._enter(self.COOLS_IN)
            self.heater_step = 0
        self._acts_by_state[self.state]()

    def _acts(self) -> dict[int, Callable[[], None]]:
        """What goes on in each state."""
        return {
            OFF: self._idle,
            PREHEATING: self._preheat,
            STABILISING: self._stabilise,
            CHARGE: self._await_beans,
            ROASTING: self._roast,
            DROPPING: self._drop,
            COOLING: self._cool,
            SHUTDOWN: self._shut_down,
        }

    def _hottest_c(self) -> float:
        return max(self.warmth.infrared_temp_c, self.warmth.probe_temp_c)

    def _is_too_hot(self) -> bool:
        return self._hottest_c() >= self.settings.trip_temp_c

    def _idle(self) -> None:
        """Off: nothing happens by itself."""

    def _preheat(self) -> None:
        """The firmware owns the heater: on an R1 7, then 1, then 0, as seen in the logs; fan 1, drum 0."""
        missing_c = self.preheat_target_c - self.warmth.infrared_temp_c
        far, near, there = self.PREHEATS_WITH
        self._own(heater_step=far if missing_c > 4 else near if missing_c > 0 else there)
        self._settling_ticks = self._settling_ticks + 1 if missing_c <= 4 else 0
        if self._settling_ticks >= 8 * TICKS_PER_S:
            self._enter(STABILISING)

    def _stabilise(self) -> None:
        self._own(heater_step=self._holding_step())
        off_by_c = abs(self.preheat_target_c - self.warmth.infrared_temp_c)
        if self.state_ticks >= 30 * TICKS_PER_S and off_by_c < 5:
            self._enter(CHARGE)

    def _await_beans(self) -> None:
        """State 4: hold the set-point; a fall of probe or infrared starts the roast, person or wind."""
        if self.settings.heater_owned_in_charge or self.state_ticks < 2:
            self._own(heater_step=self._holding_step())
        fall_c = max(self._infrared_past) - self.warmth.infrared_temp_c
        probe_fall_c = max(self._probe_past) - self.warmth.probe_temp_c
        if self.state_ticks > 2 * TICKS_PER_S and (fall_c > 9.0 or probe_fall_c > 4.0):
            self.note("auto_charge", f"fall of {max(fall_c, probe_fall_c):.1f} °C")
            self._enter(ROASTING)

    def _roast(self) -> None:
        self.roast_ticks += 1

    def _drop(self) -> None:
        if self.state_ticks >= 4:
            self._enter(COOLING)

    def _cool(self) -> None:
        if self.state_ticks == TICKS_PER_S:
            self.note("drop_forces", "heater 0, fan 7, drum 1")
            self.heater_step, self.fan_step, self.drum_step = 0, 7, 1

    def _shut_down(self) -> None:
        self.heater_step = 0
        is_cool = self.warmth.drum_temp_c < 60.0 and self.state_ticks >= 5 * TICKS_PER_S
        if is_cool or self.state_ticks >= 600 * TICKS_PER_S:
            self._enter(OFF)

    def _own(self, *, heater_step: int) -> None:
        self.heater_step, self.fan_step, self.drum_step = heater_step, 1, 0

    def _holding_step(self) -> int:
        """Keep the drum at its set-point with two steps, as the logs show (1 and 3 on an R1); 0 when well above."""
        low, high = self.HOLDS_WITH
        missing_c = self.preheat_target_c - self.warmth.infrared_temp_c
        if missing_c > 0.5:
            return high
        if missing_c < -3.0:
            return 0
        return self.heater_step if self.heater_step in (low, high) and missing_c > -0.5 else low

    def _enter(self, state: int) -> None:
        was, self.state, self.state_ticks = getattr(self, "state", OFF), state, 0
        self.note("state", f"{was} -> {state}")
        if state == PREHEATING:
            self.roast_ticks, self.error_codes = 0, ()
            self._own(heater_step=self.PREHEATS_WITH[0])
        elif state == CHARGE:
            self._own(heater_step=self.HOLDS_WITH[0])
            self._forget_past()
        elif state == ROASTING:
            self.roast_ticks = 0
            self.roast_count += 1
            own = self.settings
            self.heater_step, self.fan_step, self.drum_step = (
                own.start_heater_step, own.start_fan_step, own.start_drum_step)  # fmt: skip
            self._infrared_hold_ticks = 55 if self._resets_infrared() else 0
        elif state in (OFF, SHUTDOWN):
            self.heater_step = 0
            self.fan_step, self.drum_step = (1, 0) if state == OFF else (self.fan_step, self.drum_step)
            self._idle_message_due = False

    def start_roast_by_itself(self) -> None:
        """Wind, a door, or a fault: the roast begins without a person."""
        self.note("auto_charge", "spurious")
        self._enter(ROASTING)

    # -- the person at the machine ----------------------------------------------------------------

    def press_prs(self) -> int:
        """The button; returns the state after it."""
        following = self.settings.RINGS[self.settings.prs].get(self.state)
        if following is None:
            self.note("prs_ignored", f"state {self.state}")
        elif following == COOLING and self.state == ROASTING and self._has_short_drop_state():
            self._enter(DROPPING)
        else:
            self._enter(following)
        return self.state

    def _has_short_drop_state(self) -> bool:
        return False

    def _resets_infrared(self) -> bool:
        return True

    def charge_beans(self, mass_kg: float, bean_temp_c: float | None = None) -> None:
        """Beans fall in; the machine notices by itself if it waits for them."""
        temp_c = self.settings.ambient_temp_c if bean_temp_c is None else bean_temp_c
        self.warmth = heat.charge(self.warmth, self.parameters, mass_kg, temp_c)

    def drop_beans(self) -> None:
        """The door opens: beans out, and the button if the machine still roasts."""
        if self.state == ROASTING:
            self.press_prs()
        self.pour_out()

    def pour_out(self) -> None:
        """Beans out, nothing pressed."""
        self.warmth = heat.pour_out(self.warmth)

    def turn_knob(self, control: str, target_step: int) -> int:
        """A person turns a knob at the machine to an absolute step; returns the step reached. The heater's does nothing
        where an order for it would do nothing: keys and orders are the same to the firmware (nobody measured it)."""
        if control == "heater" and not self._accepts(control):
            return self._step_of(control)
        while self._step_of(control) != target_step:
            before = self._step_of(control)
            self._move(control, 1 if target_step > before else -1)
            if self._step_of(control) == before:
                break
        return self._step_of(control)

    # -- orders -----------------------------------------------------------------------------------

    def receive(self, transfer: bytes) -> Answer:
        """One OUT transfer."""
        raise NotImplementedError

    def pushed_frames(self) -> list[bytes]:
        """What goes out unasked, now; nothing on a machine that is asked."""
        return []

    def slipped_frame(self) -> bytes:
        """A transfer that stands where another belongs."""
        raise NotImplementedError

    def _relative(self, control: str, direction: int) -> str:
        if self._is_over_rate():
            return f"{control} {direction:+d} dropped: too many per second"
        times = 1
        if self.faulty.steps_to_drop > 0:
            self.faulty.steps_to_drop -= 1
            times = 0
        elif self.faulty.steps_to_double > 0:
            self.faulty.steps_to_double -= 1
            times = 2
        before = self._step_of(control)
        if not self._accepts(control):
            return f"{control} {direction:+d} ignored in state {self.state}: {before}"
        for _ in range(times):
            self._move(control, direction)
        return f"{control} {direction:+d}: {before} -> {self._step_of(control)}"

    def _is_over_rate(self) -> bool:
        limit = self.settings.max_steps_per_s
        if limit <= 0:
            return False
        recent = sum(1 for tick in self._step_ticks if self.ticks - tick < TICKS_PER_S)
        if recent >= limit:
            return True
        self._step_ticks.append(self.ticks)
        return False

    def _accepts(self, control: str) -> bool:
        """Does this state let a hand from outside move this control?"""
        if self.state in (PREHEATING, STABILISING):
            return False
        if self.state == CHARGE:
            return not self.settings.heater_owned_in_charge
        if self.state in (OFF, SHUTDOWN):
            return self.settings.controls_when_off
        return self.state == ROASTING or control != "heater"

    def _absolute(self, control: str, value: int) -> str:
        before = self._step_of(control)
        low, high = self.RANGES[control]
        if not self._accepts(control) or not low <= value <= high:
            return f"{control} = {value} ignored in state {self.state}: {before}"
        self._set(control, value)
        return f"{control} = {value}: {before} -> {value}"

    def _preheat_target(self, target_c: int) -> Answer:
        if not 20 <= target_c <= 350:
            return Answer(f"preheat target {target_c} refused")
        self.preheat_target_c = target_c
        return Answer(f"preheat target {target_c}")

    def _step_of(self, control: str) -> int:
        return int({"heater": self.heater_step, "fan": self.fan_step, "drum": self.drum_step}[control])

    def _set(self, control: str, value: int) -> None:
        if control == "heater":
            self.heater_step = value
        elif control == "fan":
            self.fan_step = value
        else:
            self.drum_step = value

    def _move(self, control: str, direction: int) -> None:
        low, high = self.RANGES[control]
        target = self._step_of(control) + direction
        if low <= target <= high:
            self._set(control, target)
        elif self.settings.at_limit == "wrap":
            self._set(control, high if target < low else low)

    # -- what the frames show ---------------------------------------------------------------------

    def wire_values(self) -> WireValues:
        """Everything the two status frames say now."""
        probe_noise, infrared_noise, rpm_noise = self._noise
        at_reset = RESET_INFRARED_C if self._infrared_at_reset else None
        probe_c = self._sensed("probe", self.warmth.probe_temp_c + probe_noise)
        infrared_c = self._sensed("infrared", at_reset or self.warmth.infrared_temp_c + infrared_noise)
        heater, fan, drum = self._shown()
        errors = self.error_codes
        if not errors and not (math.isfinite(probe_c) and probe_c > -1.0):
            errors = ((PROBE_OUT_OF_RANGE, 0),)
        is_probe_b = self.settings.sensor_map == "probe_b"
        rate, infrared_rate = _slope_per_min(self._probe_past), _slope_per_min(self._infrared_past)
        return WireValues(
            temp_a_c=infrared_c if is_probe_b else probe_c,
            temp_b_c=probe_c if is_probe_b else infrared_c,
            rate_c_per_min=rate,
            infrared_rate_c_per_min=infrared_rate,
            exhaust_c=self._exhaust_c(rpm_noise),
            roast_clock_s=self.roast_ticks // TICKS_PER_S,
            heater_step=heater,
            fan_step=fan,
            drum_step=drum,
            state=self.state,
            sample_counter=self.sample_counter,
            ambient_c=self.settings.ambient_temp_c + 0.02 * (self.warmth.drum_temp_c - self.settings.ambient_temp_c),
            board_c=self.settings.ambient_temp_c + 0.06 * (self.warmth.drum_temp_c - self.settings.ambient_temp_c),
            fan_rpm=self._fan_rpm(rpm_noise),
            voltage_v=round(self._voltage_v),
            coil_fan_rpm=1200 + 90 * self.heater_step,
            coil_fan_2_rpm=1150 + 90 * self.heater_step,
            error_codes=errors,
            preheat_target_c=self.preheat_target_c,
            infrared_fan_rpm=6000 + 60 * round(rpm_noise),
            crack_energy=100.0 * self.warmth.crack_energy,
            heater_watts=heat.heater_watts(self.parameters, self._inputs().heater_step, self._voltage_v),
        )

    def _sensed(self, sensor: str, true_c: float) -> float:
        fault = self.faulty.sensors.get(sensor)
        if fault is None or self.ticks >= fault.until_tick:
            return true_c
        if fault.value_c is None:
            fault.value_c = true_c
        return fault.value_c

    def _shown(self) -> tuple[int, int, int]:
        """The controls as echoed, ``echo_lag_frames`` frames late."""
        return self._shown_controls[0] if self._shown_controls else (self.heater_step, self.fan_step, self.drum_step)

    def _exhaust_c(self, noise: float) -> float:
        if not self.settings.has_exhaust_sensor:
            return (-49.4, -52.2, -55.7, -60.4)[min(3, int(noise * 4))]  # an open input, as the logs have it
        return self.warmth.probe_temp_c * 0.8 + 20.0

    def _fan_rpm(self, noise: float) -> int:
        level = min(len(FAN_RPM) - 1, max(0, self.fan_step))
        return FAN_RPM[level] + (15 * (round(noise * 2) - 1) if level else 0)


def _slope_per_min(past_c: deque[float]) -> float:
    """°C/min over the last (up to) four seconds."""
    ticks = len(past_c) - 1
    return (past_c[-1] - past_c[0]) / ticks * TICKS_PER_S * 60.0 if ticks > 0 else 0.0
