"""What will come: the next minutes with a band, an order's effect, first crack and drop. Pure; milliseconds each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.special import ndtr

from roasts.twin import simulation
from roasts.twin.estimator import GAP_S, TwinState
from roasts.twin.physics import Vector
from roasts.twin.values import Band, Controls, CrackTemperature, Eta, Order, Setting, TwinError, WhatIf

STEP_S = simulation.STEP_S
LONGEST_HORIZON_S = 900.0
CONFIDENCE = 0.8
#: 80 % of a normal distribution lies within this many standard deviations.
NORMAL_80 = 1.2816
HABIT_SPREAD_C = 0.3  # a rule of marking is kept to within a reading
LATEST_CHANCE = 0.97  # beyond, the crack is overdue and the distribution says nothing more


def predict(state: TwinState, horizon_s: float = 180.0, controls: Controls | None = None) -> Band:
    """The probe and the infrared from ``state`` on, one entry per second from now to ``horizon_s``.

    Raises:
        TwinError: the horizon is not within 1-900 s.
    """
    if not 1.0 <= horizon_s <= LONGEST_HORIZON_S:
        raise TwinError(f"a prediction reaches 1 to {LONGEST_HORIZON_S:.0f} s ahead, not {horizon_s}")
    probe, infrared = _ahead(state, horizon_s, controls)
    ahead_s: Vector = np.asarray(np.arange(len(probe)) * STEP_S, dtype=np.float64)
    within_c = _within_c(state, ahead_s)
    why = why_extrapolating(state, horizon_s, controls)
    return Band(
        state.elapsed_s + ahead_s, probe, probe - within_c, probe + within_c, infrared, CONFIDENCE, bool(why), why
    )


def what_if(state: TwinState, order: Order, horizon_s: float = 180.0) -> WhatIf:
    """The probe with ``order`` carried out and without it, everything else as it stands."""
    moved = ordered(state.setting, order)
    at_s = state.elapsed_s if order.at_s is None else max(state.elapsed_s, order.at_s)
    plan = Controls((state.elapsed_s - 1.0, at_s), (state.setting, moved))
    band = predict(state, horizon_s, plan)
    without, _ = _ahead(state, horizon_s, None)
    return WhatIf(
        band.times_s, band.bean_temp_c, without, band, band.is_extrapolating, band.why_extrapolating
    )  # fmt: skip


def ordered(setting: Setting, order: Order) -> Setting:
    """The setting after the order."""
    match order.control:
        case "heater":
            return replace(setting, heater_step=order.step)
        case "fan":
            return replace(setting, fan_step=order.step)
        case "drum":
            return replace(setting, drum_step=order.step)
    raise TwinError(f"no control is called {order.control!r}")


def first_crack(
    state: TwinState, crack: CrackTemperature | None = None, controls: Controls | None = None, horizon_s: float = 600.0
) -> Eta:
    """When first crack will be marked, given that it was not yet: the middle and the 80 % bounds of the chance by time.

    ``crack`` is the machine's history (``judging.crack_temperature_of``); without, the parameters' own. The
    chance joins the prediction's error with the spread of the crack temperature and the habit of marking.
    """
    at = state.parameters.crack if crack is None else crack
    probe, _ = _ahead(state, horizon_s, controls)
    within_c = _within_c(state, np.arange(len(probe), dtype=np.float64) * STEP_S)
    chance = np.maximum.accumulate(_crack_chance(probe, within_c / NORMAL_80, at))
    if chance[0] < LATEST_CHANCE:
        chance = (chance - chance[0]) / (1.0 - chance[0])
    low_s, middle_s, high_s = (_reached(state, chance, share) for share in (0.1, 0.5, 0.9))
    why = why_extrapolating(state, horizon_s, controls)
    label = f"first crack at {at.mean_c:.1f} °C on the probe"
    return Eta(middle_s, low_s, high_s, "prediction", CONFIDENCE, label, bool(why))


def _crack_chance(probe_c: Vector, error_sd_c: Vector, at: CrackTemperature) -> Vector:
    """The chance that the crack was marked by each second: what is heard, and the habit of a round temperature."""
    chance = (1.0 - at.habit_share) * _below(probe_c - at.mean_c, np.hypot(error_sd_c, at.spread_c))
    if at.habit_c is not None:
        chance = chance + at.habit_share * _below(probe_c - at.habit_c, np.hypot(error_sd_c, HABIT_SPREAD_C))
    return chance


def _below(over_c: Vector, sd_c: Vector) -> Vector:
    """The normal distribution's share below ``over_c`` at a standard deviation of ``sd_c`` (each at least 0.05 °C)."""
    return np.asarray(ndtr(over_c / np.maximum(sd_c, 0.05)))


def _within_c(state: TwinState, ahead_s: Vector) -> Vector:
    """°C within which 80 % of the truth lies, by how far ahead; wider while the first 90 seconds are not in."""
    growth = state.parameters.growth
    within_c = np.asarray(growth.at(ahead_s))
    if state.is_opened:
        return within_c
    return np.asarray(np.maximum(within_c, growth.unopened_c * np.minimum(1.0, ahead_s / 60.0)))


def drop(
    state: TwinState,
    *,
    target_temp_c: float | None = None,
    development_s: float | None = None,
    first_crack_s: float | None = None,
    controls: Controls | None = None,
    horizon_s: float = 600.0,
) -> Eta:
    """When the plan's end comes: a target of the probe, or a development time after first crack. Always a *plan*.

    ``first_crack_s`` is the mark where there is one; without, the predicted crack is taken.

    Raises:
        TwinError: neither or both of target and development time.
    """
    if (target_temp_c is None) == (development_s is None):
        raise TwinError("a plan for the drop is a target temperature or a development time: exactly one of them")
    if target_temp_c is not None:
        aim = CrackTemperature(target_temp_c, 0.0)
        found = first_crack(state, aim, controls, horizon_s)
        return replace(found, kind="plan", label=f"drop at {target_temp_c:.1f} °C on the probe")
    label = f"drop {development_s:.0f} s after first crack"
    if first_crack_s is not None:
        end_s = first_crack_s + (development_s or 0.0)
        return Eta(end_s, end_s, end_s, "plan", CONFIDENCE, label)
    found = first_crack(state, None, controls, horizon_s)
    ends = [None if moment is None else moment + (development_s or 0.0) for moment in _moments(found)]
    return Eta(ends[0], ends[1], ends[2], "plan", CONFIDENCE, label, found.is_extrapolating)


def why_extrapolating(state: TwinState, horizon_s: float, controls: Controls | None = None) -> tuple[str, ...]:
    """What lies outside the roasts the parameters were fitted on; empty when nothing does."""
    fitted, settings = state.parameters.fitted, [state.setting]
    if controls is not None:
        settings += [
            s for t, s in zip(controls.elapsed_s, controls.settings, strict=True) if t <= state.elapsed_s + horizon_s
        ]
    found = [
        _outside("batch mass", state.mass_kg, fitted.mass_kg, "kg", 0.01),
        _outside("preheat", state.preheat_temp_c, fitted.preheat_temp_c, "°C", 3.0),
        _outside("probe at charge", state.probe_charge_c, fitted.probe_charge_c, "°C", 3.0),
        _outside("time since charge", state.elapsed_s, (0.0, fitted.duration_s[1]), "s", 60.0),
    ]
    for setting in settings:
        found += [
            _outside("heater", setting.heater_step, fitted.heater_step, "", 0.0),
            _outside("fan", setting.fan_step, fitted.fan_step, "", 0.0),
            _outside("drum", setting.drum_step, fitted.drum_step, "", 0.0),
        ]
        if setting.voltage_v is not None:
            found.append(_outside("mains voltage", setting.voltage_v, fitted.voltage_v, "V", 3.0))
    if state.silent_s > GAP_S:
        found.append(f"no usable reading for {state.silent_s:.0f} s")
    return tuple(dict.fromkeys(word for word in found if word))


def _outside(name: str, value: float, span: tuple[float, float], unit: str, slack: float) -> str:
    low, high = span
    if low - slack <= value <= high + slack:
        return ""
    return f"{name} {value:g} {unit} is outside {low:g}-{high:g} {unit}".replace("  ", " ").strip()


def _ahead(state: TwinState, horizon_s: float, controls: Controls | None) -> tuple[Vector, Vector]:
    """Probe and infrared, one entry per second from now on."""
    node, p, elapsed_s = state.node, state.parameters.constants, state.elapsed_s
    probe, infrared = [float(node.probe_temp_c)], [float(node.infrared_temp_c)]
    for _ in range(int(horizon_s / STEP_S)):
        setting = state.setting if controls is None else simulation.setting_at(controls, elapsed_s)
        node = simulation.stepped(node, setting, p, state.mass_kg, elapsed_s)
        elapsed_s += STEP_S
        probe.append(float(node.probe_temp_c))
        infrared.append(float(node.infrared_temp_c))
    return np.array(probe), np.array(infrared)


def _reached(state: TwinState, rising: Vector, level: float) -> float | None:
    """Elapsed seconds where a curve first reaches a level: now, when it has; None where it does not within it."""
    above = np.nonzero(rising >= level)[0]
    if not len(above):
        return None
    row = int(above[0])
    if row == 0:
        return state.elapsed_s
    share = (level - rising[row - 1]) / max(1e-9, rising[row] - rising[row - 1])
    return float(state.elapsed_s + (row - 1 + float(share)) * STEP_S)


def _moments(eta: Eta) -> tuple[float | None, float | None, float | None]:
    return eta.elapsed_s, eta.low_s, eta.high_s
