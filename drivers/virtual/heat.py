"""The drum as physics: a lumped heat model of a small induction drum roaster. Pure: values in, values out.

Nodes: the drum, the beans in it, the air passing through. Two sensors look at them: a slow probe in
the beans and an infrared eye that sees beans and drum together. Temperatures °C, power W, energy J,
mass kg, time s. Explicit Euler; call it with ``dt_s`` of at most 1 s (the firmware uses 0.1 s).

Built to be monotone: every coupling between two temperatures is positive and every reaction of the
beans depends on their own temperature only, so more heat can never make anything colder.

The numbers of :data:`BULLET_R1` were fitted to the 400 g roasts of the recorded Bullet logs by feeding
each log's own control steps from charge to drop; ``drivers/tests/test_virtual_heat.py`` states how
close that comes (:data:`FIT_RMSE_PROBE_C`). Calibration per machine belongs to the rooms above.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

#: Median over the recorded roasts of the root mean square error, charge to drop, in °C (open loop: the
#: model sees only charge temperatures, bean mass, mains voltage and control steps).
FIT_RMSE_PROBE_C = 2.7
FIT_RMSE_INFRARED_C = 2.7

WATER_LATENT_J_PER_KG = 2.26e6
COLDEST_C, HOTTEST_C = -40.0, 900.0  # the model's own fence: nothing outside is ever reported


@dataclass(frozen=True, slots=True)
class HeatParameters:
    """One machine's constants. Fluxes are for ``reference_mass_kg`` of beans and scale with mass^(2/3)."""

    watts_per_step: float = 120.1  # heater power of one step at the reference voltage
    reference_voltage_v: float = 200.0
    drum_j_per_k: float = 1500.0
    bean_j_per_kg_k: float = 1873.0
    reference_mass_kg: float = 0.4
    drum_bean_w_per_k: float = 5.192  # drum to beans by contact, drum turning at step 9
    drum_loss_w_per_k: float = 0.6  # drum to the room
    drum_air_w_per_k: float = 0.2  # drum to passing air, per fan step
    bean_air_w_per_k: float = 0.3  # beans to passing air, per fan step
    air_share: float = 0.72  # how far the air warms from room to drum before it meets the beans
    probe_air_share: float = 0.61  # the same at the probe of an empty drum (156 °C under a drum of 239 °C)
    evaporation_per_s: float = 0.001172  # share of the beans' water leaving per second at 100 °C
    evaporation_scale_c: float = 56.1  # °C for a factor e
    moisture_share: float = 0.105  # kg water per kg green beans
    crack_w_per_kg: float = 30.0  # heat set free around the cracks
    crack_at_c: float = 203.0
    crack_width_c: float = 9.0
    probe_bean_per_s: float = 0.01885  # probe follows the beans
    probe_air_per_s: float = 0.0005  # probe follows the air
    probe_empty_per_s: float = 0.034  # the same when no beans lie around it
    infrared_drum_share: float = 0.1211  # how much drum the infrared eye sees past the beans
    infrared_per_s: float = 0.272  # how fast the eye's filtered value follows


@dataclass(frozen=True, slots=True)
class HeatState:
    """Everything the model remembers. ``bean_mass_kg`` 0 means an empty drum."""

    drum_temp_c: float
    bean_temp_c: float
    probe_temp_c: float
    infrared_temp_c: float
    bean_mass_kg: float = 0.0
    water_kg: float = 0.0
    crack_energy: float = 0.0  # 0..1-ish, loudness of cracking now (not fed back)
    cracked_share: float = 0.0  # how much of the batch has cracked (not fed back)


@dataclass(frozen=True, slots=True)
class HeatInputs:
    """What acts on the drum during one step. Steps are native R1 steps."""

    heater_step: int
    fan_step: int
    drum_step: int
    voltage_v: float = 200.0
    ambient_temp_c: float = 25.0
    extra_watts: float = 0.0  # faults only


def cold(ambient_temp_c: float = 25.0) -> HeatState:
    """A machine that stood all night."""
    return HeatState(ambient_temp_c, ambient_temp_c, ambient_temp_c, ambient_temp_c)


def preheated(parameters: HeatParameters, drum_temp_c: float = 239.0, ambient_temp_c: float = 25.0) -> HeatState:
    """A machine that waits for beans: drum at its set-point, probe in the warm air."""
    probe_c = ambient_temp_c + parameters.probe_air_share * (drum_temp_c - ambient_temp_c)
    return HeatState(drum_temp_c, ambient_temp_c, probe_c, drum_temp_c)


def charge(state: HeatState, parameters: HeatParameters, mass_kg: float, bean_temp_c: float) -> HeatState:
    """Beans of ``mass_kg`` at ``bean_temp_c`` fall into the drum (added to what is there)."""
    if not (0.0 < mass_kg <= 2.0 and math.isfinite(bean_temp_c)):
        raise ValueError(f"cannot charge {mass_kg} kg at {bean_temp_c} °C")
    total_kg = state.bean_mass_kg + mass_kg
    mixed_c = (state.bean_temp_c * state.bean_mass_kg + bean_temp_c * mass_kg) / total_kg
    water_kg = state.water_kg + parameters.moisture_share * mass_kg
    return replace(state, bean_mass_kg=total_kg, bean_temp_c=mixed_c, water_kg=water_kg, cracked_share=0.0)


def pour_out(state: HeatState, share: float = 1.0) -> HeatState:
    """``share`` of the beans leave the drum."""
    kept = min(1.0, max(0.0, 1.0 - share))
    mass_kg = state.bean_mass_kg * kept
    if mass_kg < 0.002:
        return replace(state, bean_mass_kg=0.0, water_kg=0.0, crack_energy=0.0)
    return replace(state, bean_mass_kg=mass_kg, water_kg=state.water_kg * kept)


def heater_watts(parameters: HeatParameters, heater_step: int, voltage_v: float) -> float:
    """Induction power follows the step and the square of the mains voltage."""
    volts = max(0.0, voltage_v) / parameters.reference_voltage_v
    return parameters.watts_per_step * max(0, heater_step) * volts * volts


def crack_bump(parameters: HeatParameters, bean_temp_c: float) -> float:
    """0..1: how much of the beans crack at this temperature."""
    distance = (bean_temp_c - parameters.crack_at_c) / parameters.crack_width_c
    return math.exp(-distance * distance)


def step(state: HeatState, inputs: HeatInputs, parameters: HeatParameters, dt_s: float) -> HeatState:
    """The drum ``dt_s`` seconds later."""
    p, ambient_c = parameters, inputs.ambient_temp_c
    drum_c, bean_c, mass_kg = state.drum_temp_c, state.bean_temp_c, state.bean_mass_kg
    size = (mass_kg / p.reference_mass_kg) ** 0.667 if mass_kg > 0 else 0.0
    turning = 0.55 + 0.05 * min(9, max(0, inputs.drum_step))  # a drum that stands still hardly stirs
    fan = float(max(0, inputs.fan_step))
    air_c = ambient_c + p.air_share * (drum_c - ambient_c)
    probe_air_c = ambient_c + p.probe_air_share * (drum_c - ambient_c)

    to_beans_w = p.drum_bean_w_per_k * size * turning * (drum_c - bean_c)
    loss_w = (p.drum_loss_w_per_k + p.drum_air_w_per_k * fan) * (drum_c - ambient_c)
    heat_w = heater_watts(p, inputs.heater_step, inputs.voltage_v) + inputs.extra_watts
    new_drum_c = drum_c + dt_s * (heat_w - to_beans_w - loss_w) / p.drum_j_per_k

    water_kg, energy, cracked = state.water_kg, 0.0, state.cracked_share
    if mass_kg > 0:
        leaving_kg_per_s = water_kg * evaporation_rate(p, bean_c)
        energy = crack_bump(p, bean_c)
        bean_w = to_beans_w + p.bean_air_w_per_k * fan * size * (air_c - bean_c)
        bean_w += p.crack_w_per_kg * mass_kg * energy - leaving_kg_per_s * WATER_LATENT_J_PER_KG
        new_bean_c = bean_c + dt_s * bean_w / (p.bean_j_per_kg_k * mass_kg)
        water_kg = max(0.0, water_kg - dt_s * leaving_kg_per_s)
        cracked = min(1.0, cracked + dt_s * energy / 90.0)
    else:
        new_bean_c = bean_c + dt_s * 0.05 * (ambient_c - bean_c)

    seen = min(1.0, mass_kg / (0.5 * p.reference_mass_kg))  # a handful of beans does not cover the probe
    probe_rate_c = p.probe_bean_per_s * seen * (bean_c - state.probe_temp_c)
    probe_rate_c += (p.probe_air_per_s + p.probe_empty_per_s * (1.0 - seen)) * (probe_air_c - state.probe_temp_c)
    drum_share = 1.0 - seen * (1.0 - p.infrared_drum_share)
    view_c = drum_share * drum_c + (1.0 - drum_share) * bean_c
    return HeatState(
        drum_temp_c=_fenced(new_drum_c),
        bean_temp_c=_fenced(new_bean_c),
        probe_temp_c=_fenced(state.probe_temp_c + dt_s * probe_rate_c),
        infrared_temp_c=_fenced(state.infrared_temp_c + dt_s * p.infrared_per_s * (view_c - state.infrared_temp_c)),
        bean_mass_kg=mass_kg,
        water_kg=water_kg,
        crack_energy=energy,
        cracked_share=cracked,
    )


def evaporation_rate(parameters: HeatParameters, bean_temp_c: float) -> float:
    """Share of the beans' water leaving per second; bounded so that a hot bean cannot explode the sum."""
    exponent = min(3.0, (bean_temp_c - 100.0) / parameters.evaporation_scale_c)
    return parameters.evaporation_per_s * math.exp(exponent)


def _fenced(temp_c: float) -> float:
    return min(HOTTEST_C, max(COLDEST_C, temp_c))


#: A Bullet R1 on a 200 V supply, fitted to the recorded roasts.
BULLET_R1 = HeatParameters()
