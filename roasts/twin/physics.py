"""The drum as six temperatures: a grey-box heat model of a small induction drum roaster. Pure.

It is the family of ``drivers/virtual/heat.py`` with what recorded roasts showed to be missing: a slow
body behind the drum wall, passing air that is warmed by both, a probe of two lags that also sees air
and body, a heat capacity that changes with temperature, and two factors that belong to one roast (how
much heat its beans take up, how much of the heater's power arrives).

Temperatures °C, power W, energy J, mass kg, time s. :func:`advance` is written with plain operators so
that it serves Python floats (one roast: fast) and numpy lanes (hundreds at once: fitting, filtering)
with the same lines; ``exp`` is ``math.exp`` or ``numpy.exp`` accordingly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, get_type_hints

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Value = Any  # float, or Vector with one entry per lane

WATER_LATENT_J_PER_KG = 2.26e6
REFERENCE_MASS_KG = 0.4
REFERENCE_VOLTAGE_V = 200.0
ROOM_TEMP_C = 24.0

#: Blower of the R1 by fan step: thousand rpm (reference: bullet-and-alog.md, fixture numbers; 6 and above 7 extended).
FAN_KRPM = (0.6, 0.81, 0.915, 1.125, 1.35, 1.56, 1.74, 1.92, 2.1, 2.28, 2.46, 2.64, 2.82)


@dataclass(frozen=True, slots=True)
class Prior:
    """What is believed of a constant before any roast: its centre, and how far off that may be."""

    default: float
    spread: float  # standard deviation; in natural logarithms where ``is_log``
    unit: str
    meaning: str
    is_log: bool  # a positive constant


def scale(default: float, spread: float, unit: str, meaning: str) -> Prior:
    """A positive constant: log-normal, ``spread`` in natural logarithms."""
    return Prior(default, spread, unit, meaning, True)


def plain(default: float, spread: float, unit: str, meaning: str) -> Prior:
    """A constant of either sign: normal, ``spread`` in its own unit."""
    return Prior(default, spread, unit, meaning, False)


@dataclass(frozen=True, slots=True)
class HeatConstants:
    """One machine's constants with their priors; every field a float, or a Vector over lanes."""

    heater_w_per_step: Annotated[Value, scale(140.0, 0.15, "W", "heater power of one step at 200 V")]
    heater_bend_per_step: Annotated[Value, plain(0.0, 0.03, "1/step", "how the power per step grows above step 5")]
    wall_j_per_k: Annotated[Value, scale(1400.0, 0.4, "J/K", "heat capacity of the drum wall")]
    body_j_per_k: Annotated[Value, scale(1500.0, 0.5, "J/K", "heat capacity of what stands behind the wall")]
    wall_body_w_per_k: Annotated[Value, scale(1.0, 0.6, "W/K", "wall to body")]
    body_loss_w_per_k: Annotated[Value, scale(0.3, 0.6, "W/K", "body to the room")]
    wall_loss_w_per_k: Annotated[Value, scale(0.4, 0.6, "W/K", "wall to the room")]
    wall_bean_w_per_k: Annotated[Value, scale(5.0, 0.4, "W/K", "wall to beans by contact, 400 g at drum step 9")]
    bean_j_per_kg_k: Annotated[Value, scale(1700.0, 0.15, "J/kg K", "heat capacity of green beans at 120 °C")]
    bean_j_slope: Annotated[Value, plain(0.0, 0.2, "1/100 K", "relative growth of that heat capacity per 100 K")]
    wall_air_w_per_k: Annotated[Value, scale(1.0, 0.6, "W/K", "wall to passing air at 1000 rpm")]
    bean_air_w_per_k: Annotated[Value, scale(1.5, 0.6, "W/K", "beans to passing air at 1000 rpm")]
    air_exponent: Annotated[Value, plain(0.6, 0.3, "1", "how convection grows with the blower's speed")]
    air_w_per_k: Annotated[Value, scale(0.6, 0.6, "W/K", "heat that passing air carries off at 1000 rpm")]
    evaporation_per_s: Annotated[Value, scale(0.0012, 0.6, "1/s", "share of the water leaving per second at 100 °C")]
    evaporation_scale_c: Annotated[Value, scale(45.0, 0.3, "°C", "temperature for a factor e of evaporation")]
    moisture_share: Annotated[Value, scale(0.105, 0.2, "kg/kg", "water in green beans")]
    crack_w_per_kg: Annotated[Value, scale(30.0, 0.6, "W/kg", "heat set free at first crack's peak")]
    crack_at_c: Annotated[Value, scale(200.0, 0.03, "°C", "where that peak stands")]
    crack_width_c: Annotated[Value, scale(9.0, 0.4, "°C", "how wide it is")]
    pyrolysis_w_per_kg: Annotated[Value, scale(3.0, 1.0, "W/kg", "heat set free by browning at 200 °C")]
    probe_shell_s: Annotated[Value, scale(35.0, 0.5, "s", "first lag of the probe: its shell at 1000 rpm")]
    probe_core_s: Annotated[Value, scale(10.0, 0.5, "s", "second lag of the probe")]
    probe_air_share: Annotated[Value, scale(0.1, 0.6, "1", "share of passing air in what the probe sees")]
    probe_body_share: Annotated[Value, scale(0.1, 0.6, "1", "share of the body in what the probe sees")]
    probe_air_exponent: Annotated[Value, plain(0.2, 0.3, "1", "how the shell's lag shortens with the blower's speed")]
    infrared_wall_share: Annotated[Value, scale(0.12, 0.5, "1", "how much wall the infrared eye sees past the beans")]
    infrared_s: Annotated[Value, scale(5.0, 0.4, "s", "lag of the eye's filtered value")]
    green_temp_c: Annotated[Value, plain(25.0, 8.0, "°C", "temperature of the beans as they fall in")]
    start_wall_c: Annotated[Value, plain(0.0, 12.0, "°C", "wall at charge, beside the preheat set-point")]
    start_wall_per_probe: Annotated[Value, plain(0.0, 0.5, "1", "the same per °C of the probe beside 157 °C")]
    start_body_c: Annotated[Value, plain(0.0, 30.0, "°C", "body at charge, beside the probe")]
    start_body_per_probe: Annotated[Value, plain(0.7, 0.5, "1", "the same per °C of the probe beside 157 °C")]
    start_body_per_preheat: Annotated[Value, plain(0.3, 0.5, "1", "the same per °C of the set-point beside 238 °C")]
    start_shell_c: Annotated[Value, plain(0.0, 5.0, "°C", "probe's shell at charge, beside the probe")]
    fall_s: Annotated[Value, plain(2.0, 1.5, "s", "how long after the machine says charge the beans lie in the drum")]


PRIORS: dict[str, Prior] = {
    name: hint.__metadata__[0] for name, hint in get_type_hints(HeatConstants, include_extras=True).items()
}
NAMES: tuple[str, ...] = tuple(PRIORS)


class NodeState(NamedTuple):
    """Everything the model remembers; floats, or Vectors over lanes."""

    wall_temp_c: Value
    body_temp_c: Value
    bean_temp_c: Value
    water_kg: Value
    shell_temp_c: Value
    probe_temp_c: Value
    infrared_temp_c: Value
    uptake_ln: Value  # ln of this roast's heat capacity beside the machine's usual
    power_ln: Value  # ln of the share of heater power that arrives in this roast


class Knobs(NamedTuple):
    """What acts on the drum during one step; native R1 steps, volts; ``fan_krpm`` from :func:`fan_krpm`."""

    heater_step: Value
    fan_krpm: Value
    voltage_v: Value
    beans_in: Value = 1.0  # 0..1: share of the beans that lie in the drum already


def fan_krpm(fan_step: float) -> float:
    """Blower speed of a fan step (0-12) in thousand rpm; between steps linear."""
    low = min(11, max(0, int(fan_step)))
    share = min(1.0, max(0.0, fan_step - low))
    return FAN_KRPM[low] + share * (FAN_KRPM[low + 1] - FAN_KRPM[low])


def at_charge(p: HeatConstants, preheat_temp_c: Value, probe_temp_c: Value, mass_kg: Value) -> NodeState:
    """The machine as the beans fall in: preheat set-point (infrared before charge) and probe in °C."""
    zero = 0.0 * (p.green_temp_c + probe_temp_c)
    probe_over_c, preheat_over_c = probe_temp_c - 157.0, preheat_temp_c - 238.0
    body_c = probe_temp_c + p.start_body_c
    body_c = body_c + p.start_body_per_probe * probe_over_c + p.start_body_per_preheat * preheat_over_c
    return NodeState(
        wall_temp_c=preheat_temp_c + p.start_wall_c + p.start_wall_per_probe * probe_over_c,
        body_temp_c=body_c,
        bean_temp_c=p.green_temp_c + zero,
        water_kg=p.moisture_share * mass_kg + zero,
        shell_temp_c=probe_temp_c + p.start_shell_c,
        probe_temp_c=probe_temp_c + zero,
        infrared_temp_c=25.0 + zero,
        uptake_ln=zero,
        power_ln=zero,
    )


def heater_w(p: HeatConstants, heater_step: Value, voltage_v: Value) -> Value:
    """Induction power in W: the step (nearly linear) and the square of the mains voltage."""
    volts = voltage_v / REFERENCE_VOLTAGE_V
    return p.heater_w_per_step * heater_step * (1.0 + p.heater_bend_per_step * (heater_step - 5.0)) * volts * volts


def reaction_w_per_kg(p: HeatConstants, bean_temp_c: Value, exp: Callable[[Value], Value]) -> Value:
    """Heat that the beans set free themselves: a bump at first crack and browning that grows and levels off."""
    distance = (bean_temp_c - p.crack_at_c) / p.crack_width_c
    browning = exp((bean_temp_c - 200.0) / 12.0)
    return p.crack_w_per_kg * exp(-distance * distance) + p.pyrolysis_w_per_kg * browning / (1.0 + browning / 20.0)


def evaporation_per_s(p: HeatConstants, bean_temp_c: Value, exp: Callable[[Value], Value]) -> Value:
    """Share of the beans' water leaving per second; levels off so that a hot bean cannot explode the sum."""
    growth = exp((bean_temp_c - 100.0) / p.evaporation_scale_c)
    return p.evaporation_per_s * growth / (1.0 + growth / 20.0)


def advance(
    state: NodeState,
    knobs: Knobs,
    p: HeatConstants,
    mass_kg: Value,
    dt_s: float,
    exp: Callable[[Value], Value] = math.exp,
) -> NodeState:
    """The drum ``dt_s`` seconds later (explicit Euler; at most 2 s). ``mass_kg`` as charged, above 0."""
    wall_c, body_c, bean_c, water_kg, shell_c, probe_c, infrared_c, uptake_ln, power_ln = state
    here = (mass_kg / REFERENCE_MASS_KG) ** 0.667 * knobs.beans_in
    blown = knobs.fan_krpm**p.air_exponent
    wall_air, bean_air, carried = p.wall_air_w_per_k * blown, p.bean_air_w_per_k * blown * here, p.air_w_per_k
    carried = carried * knobs.fan_krpm
    air_c = (carried * ROOM_TEMP_C + wall_air * wall_c + bean_air * bean_c) / (carried + wall_air + bean_air)

    heat_w = heater_w(p, knobs.heater_step, knobs.voltage_v) * exp(power_ln)
    to_bean_w = p.wall_bean_w_per_k * here * (wall_c - bean_c)
    to_body_w = p.wall_body_w_per_k * (wall_c - body_c)
    lost_w = wall_air * (wall_c - air_c) + p.wall_loss_w_per_k * (wall_c - ROOM_TEMP_C)
    leaving_kg_per_s = water_kg * evaporation_per_s(p, bean_c, exp)
    bean_w = to_bean_w + bean_air * (air_c - bean_c) - leaving_kg_per_s * WATER_LATENT_J_PER_KG
    bean_w = bean_w + mass_kg * reaction_w_per_kg(p, bean_c, exp)
    over = (bean_c - 120.0) / 100.0
    over = over / (1.0 + (over / 3.0) ** 4) ** 0.25  # straight within any roast, at most ±3: never a negative capacity
    bean_j_per_k = mass_kg * exp(uptake_ln) * p.bean_j_per_kg_k * (1.0 + p.bean_j_slope * over)

    seen_c = bean_c + p.probe_air_share * (air_c - bean_c) + p.probe_body_share * (body_c - bean_c)
    seen_c = shell_c + knobs.beans_in * (seen_c - shell_c)
    shell_per_s = knobs.fan_krpm**p.probe_air_exponent / p.probe_shell_s
    viewed_c = bean_c + p.infrared_wall_share * (wall_c - bean_c)
    return NodeState(
        wall_temp_c=wall_c + dt_s * (heat_w - to_bean_w - to_body_w - lost_w) / p.wall_j_per_k,
        body_temp_c=body_c + dt_s * (to_body_w - p.body_loss_w_per_k * (body_c - ROOM_TEMP_C)) / p.body_j_per_k,
        bean_temp_c=bean_c + dt_s * bean_w / bean_j_per_k,
        water_kg=water_kg - dt_s * leaving_kg_per_s,
        shell_temp_c=shell_c + dt_s * shell_per_s * (seen_c - shell_c),
        probe_temp_c=probe_c + dt_s * (shell_c - probe_c) / p.probe_core_s,
        infrared_temp_c=infrared_c + dt_s * (viewed_c - infrared_c) / p.infrared_s,
        uptake_ln=uptake_ln,
        power_ln=power_ln,
    )
