"""One roast from charge on, in plain floats: fast, and the same to the bit for the same input. Pure.

``simulate`` runs open loop; the opening (readings up to 90 s) corrects it once, as in fitting.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass

import numpy as np

from roasts.curve import Curve
from roasts.twin import lanes, physics
from roasts.twin.memory import expected_from
from roasts.twin.parameters import TwinParameters
from roasts.twin.physics import HeatConstants, Knobs, NodeState, Vector
from roasts.twin.values import KNOWN_UNTIL_S, Controls, Initial, Setting, TwinError

STEP_S = lanes.STEP_S
EYE_RESET_S = 5.0  # the infrared shows 25.0 °C this long after charge
NOISE_PROBE_C, NOISE_INFRARED_C = 0.08, 0.25  # what a seed adds: measured round the recorded curves


@dataclass(frozen=True, slots=True)
class Opening:
    """Readings of the first 90 seconds against the model: innovations of lanes.innovations, °C."""

    found: tuple[float, ...]


def usual_preheat_c(preheat_temp_c: float | None) -> float:
    """The set-point to start from where nobody saw it."""
    return lanes.USUAL_PREHEAT_C if preheat_temp_c is None else preheat_temp_c


def knobs_of(setting: Setting, beans_in: float) -> Knobs:
    """A setting as the model wants it."""
    volts = physics.REFERENCE_VOLTAGE_V if setting.voltage_v is None else setting.voltage_v
    return Knobs(max(0.0, setting.heater_step), physics.fan_krpm(setting.fan_step), max(0.0, volts), beans_in)


def beans_in(p: HeatConstants, elapsed_s: float) -> float:
    """Share of the beans that have fallen in by then."""
    return min(1.0, max(0.0, elapsed_s + STEP_S - float(p.fall_s)))


def stepped(
    state: NodeState, setting: Setting, p: HeatConstants, mass_kg: float, elapsed_s: float, dt_s: float = STEP_S
) -> NodeState:
    """The state ``dt_s`` later, under a setting that holds; ``elapsed_s`` is where the step begins."""
    after = physics.advance(state, knobs_of(setting, beans_in(p, elapsed_s)), p, mass_kg, dt_s)
    if elapsed_s < EYE_RESET_S:
        return after._replace(infrared_temp_c=state.infrared_temp_c)
    return after


def setting_at(controls: Controls, elapsed_s: float) -> Setting:
    """The setting that holds at a moment."""
    return controls.settings[max(0, bisect.bisect_right(controls.elapsed_s, elapsed_s + 1e-6) - 1)]


def controls_of(curve: Curve) -> Controls:
    """The controls that a recorded curve shows, one entry per change.

    Raises:
        TwinError: the curve has no heater channel.
    """
    if curve.heater_step is None or not len(curve):
        raise TwinError("this curve has no heater channel: without controls nothing can be simulated")
    at_s = curve.elapsed_s
    heater = lanes.held(at_s, curve.heater_step, at_s, 0.0)
    fan = lanes.held(at_s, curve.fan_step, at_s, 2.0)
    drum = lanes.held(at_s, curve.drum_step, at_s, 9.0)
    volts = lanes.held(at_s, curve.voltage_v, at_s, physics.REFERENCE_VOLTAGE_V)
    table = np.stack([heater, fan, drum, volts], axis=1)
    changed = np.concatenate([[True], np.any(table[1:] != table[:-1], axis=1)])
    rows = [tuple(float(v) for v in row) for row in table[changed]]
    return Controls(tuple(float(t) for t in at_s[changed]), tuple(Setting(*row) for row in rows))


def simulate(
    parameters: TwinParameters,
    controls: Controls,
    initial: Initial,
    *,
    duration_s: float = 720.0,
    seed: int | None = None,
) -> Curve:
    """A roast of ``duration_s`` from charge, one row per second, open loop.

    With ``initial.known`` the readings up to 90 s after charge correct the model once, at 90 s. With a
    ``seed`` the sensors get their noise (same seed, same roast to the bit); without, none.

    Raises:
        TwinError: no mass, a start that is no temperature, or a duration beyond an hour.
    """
    p, mass_kg = parameters.constants, initial.mass_kg
    if not (0.0 < mass_kg <= 2.0 and math.isfinite(initial.probe_temp_c)):
        raise TwinError(f"cannot start a roast of {mass_kg} kg at a probe of {initial.probe_temp_c} °C")
    if not 1.0 <= duration_s <= lanes.LONGEST_S:
        raise TwinError(f"a simulated roast lasts 1 s to one hour, not {duration_s} s")
    state = physics.at_charge(p, usual_preheat_c(initial.preheat_temp_c), initial.probe_temp_c, mass_kg)
    probe, infrared, settings = [], [], []
    for row in range(int(duration_s / STEP_S) + 1):
        elapsed_s = row * STEP_S
        probe.append(float(state.probe_temp_c))
        infrared.append(float(state.infrared_temp_c))
        if row == lanes.UPDATE_ROW and initial.known is not None:
            opening = opening_of(initial.known, np.array(probe), np.array(infrared))
            state = opened(state, opening, parameters)
        elif row == lanes.MEMORY_ROW and initial.known is None:
            state = opened(state, remembered(parameters, initial.began_s, initial.bean), parameters)
        setting = setting_at(controls, elapsed_s)
        settings.append(setting)
        state = stepped(state, setting, p, mass_kg, elapsed_s)
    return _curve(probe, infrared, settings, seed)


def opening_of(known: Curve, probe_made_c: Vector, infrared_made_c: Vector) -> Opening:
    """Recorded readings up to 90 s against the model's own seconds. Later readings are not looked at."""
    at_s: Vector = np.arange(lanes.UPDATE_ROW, dtype=np.float64) * STEP_S
    inside = known.elapsed_s <= KNOWN_UNTIL_S
    times_s = known.elapsed_s[inside]
    eye = None if known.infrared_temp_c is None else known.infrared_temp_c[inside]
    probe = lanes.measured(times_s, known.bean_temp_c[inside], at_s)
    infrared = lanes.measured(times_s, eye, at_s)
    made = (probe_made_c[: len(at_s), None], infrared_made_c[: len(at_s), None])
    return Opening(tuple(float(row[0]) for row in lanes.innovations(probe[:, None], infrared[:, None], *made)))


def remembered(parameters: TwinParameters, began_s: float | None, bean: str) -> Opening:
    """What this machine's earlier roasts let expect of one charged at ``began_s`` (unix seconds; None: nothing)."""
    found = expected_from(parameters.memory, math.nan if began_s is None else began_s, bean)
    return Opening(tuple(float(value) for value in found))


def opened(state: NodeState, opening: Opening, parameters: TwinParameters) -> NodeState:
    """The state at 90 s after what the opening said, in floats."""
    gains = np.array(parameters.gains)[:, :, None]
    found = tuple(np.array([value]) for value in opening.found)
    moved = lanes.corrected(state, gains, found, parameters.constants.probe_core_s)
    return NodeState(*[float(np.ravel(value)[0]) for value in moved])


def _curve(probe: list[float], infrared: list[float], settings: list[Setting], seed: int | None) -> Curve:
    made = [np.array(probe), np.array(infrared)]
    if seed is not None:
        chance = np.random.default_rng(seed)
        for column, spread_c in zip(made, (NOISE_PROBE_C, NOISE_INFRARED_C), strict=True):
            column += chance.normal(0.0, spread_c, len(column))
    return Curve(
        elapsed_s=np.asarray(np.arange(len(probe)) * STEP_S, dtype=np.float64),
        bean_temp_c=made[0],
        infrared_temp_c=made[1],
        heater_step=np.array([setting.heater_step for setting in settings]),
        fan_step=np.array([setting.fan_step for setting in settings]),
        drum_step=np.array([setting.drum_step for setting in settings]),
        voltage_v=np.array([setting.voltage_v or physics.REFERENCE_VOLTAGE_V for setting in settings]),
    )
