"""Held-out judging of the live side: how far predictions were off, and whether first crack was foreseen. Pure.

Each roast is followed reading by reading under parameters that were fitted without it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from roasts.curve import Curve
from roasts.events import crack_history
from roasts.twin import lanes, prediction, simulation
from roasts.twin.estimator import Estimator, TwinState
from roasts.twin.fitting import RoastError
from roasts.twin.parameters import ErrorGrowth, TwinParameters
from roasts.twin.values import CrackTemperature, Observed, Setting, TwinRoast

AHEAD_S = (0.0, 15.0, 30.0, 60.0, 120.0, 180.0, 300.0)
ASKED_EVERY_S, FIRST_ASKED_S = 30.0, 120.0
BEFORE_CRACK_S = 120.0
FEWEST_ERRORS = 20  # below, the default growth stands
EPOCH = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class CrackError:
    """First crack foretold two minutes before it was marked; ``error_s`` positive: foretold too late."""

    name: str
    error_s: float
    is_inside: bool
    history_count: int


def follow(parameters: TwinParameters, roast: TwinRoast, at_s: Sequence[float]) -> list[TwinState]:
    """The state of a live twin at moments (rising, seconds after charge), fed with the roast's own readings."""
    curve = roast.curve
    started = float(np.interp(0.0, curve.elapsed_s, curve.bean_temp_c))
    preheat_c = lanes.preheat_of(curve)
    twin = Estimator(parameters, mass_kg=roast.mass_kg, probe_charge_c=started, preheat_temp_c=preheat_c)
    asked, found = list(at_s), []
    for row in np.nonzero((curve.elapsed_s >= 0.0) & (curve.elapsed_s <= roast.drop_s))[0]:
        moment_s = float(curve.elapsed_s[row])
        while asked and moment_s > asked[0]:
            found.append(twin.state)
            asked.pop(0)
        twin.update(moment_s, observed_at(curve, int(row)), setting_of(curve, int(row)))
    return found


def observed_at(curve: Curve, row: int) -> Observed:
    """The temperatures of one row."""
    eye = None if curve.infrared_temp_c is None else float(curve.infrared_temp_c[row])
    return Observed(float(curve.bean_temp_c[row]), eye)


def setting_of(curve: Curve, row: int) -> Setting:
    """The controls of one row; what is not recorded stands at the usual."""
    heater, fan, drum = (
        usual if column is None or not np.isfinite(column[row]) else float(column[row])
        for column, usual in ((curve.heater_step, 0.0), (curve.fan_step, 2.0), (curve.drum_step, 9.0))
    )
    volts = curve.voltage_v
    voltage_v = None if volts is None or not np.isfinite(volts[row]) else float(volts[row])
    return Setting(heater, fan, drum, voltage_v)


def growth_of(
    roasts: Sequence[TwinRoast], judged: Sequence[TwinParameters], held_out: Sequence[RoastError]
) -> ErrorGrowth:
    """The 80 % error of the probe by horizon, from roasts followed under parameters that do not know them."""
    off: dict[float, list[float]] = {ahead_s: [] for ahead_s in AHEAD_S}
    for roast, parameters in zip(roasts, judged, strict=True):
        _collect(roast, parameters, off)
    if min(len(errors) for errors in off.values()) < FEWEST_ERRORS:
        return ErrorGrowth()
    within_c = np.maximum.accumulate([float(np.percentile(off[ahead_s], 80)) for ahead_s in AHEAD_S])
    # An RMSE over a roast is about one standard deviation of its error.
    blind = [error.alone_probe_c for error in held_out if np.isfinite(error.alone_probe_c)]
    unopened_c = float(np.percentile(blind, 80)) * prediction.NORMAL_80
    return ErrorGrowth(AHEAD_S, tuple(float(value) for value in within_c), unopened_c)


def _collect(roast: TwinRoast, parameters: TwinParameters, off: dict[float, list[float]]) -> None:
    """Absolute errors of one roast, by horizon, under the controls that came."""
    controls = simulation.controls_of(roast.curve)
    asked = np.arange(FIRST_ASKED_S, roast.drop_s - 10.0, ASKED_EVERY_S)
    for state in follow(parameters, roast, [float(moment) for moment in asked]):
        made = prediction.predict(state, AHEAD_S[-1], controls)
        for ahead_s in AHEAD_S:
            moment_s = state.elapsed_s + ahead_s
            if moment_s > roast.drop_s:
                break
            seen_c = float(np.interp(moment_s, roast.curve.elapsed_s, roast.curve.bean_temp_c))
            off[ahead_s].append(abs(float(made.bean_temp_c[round(ahead_s)]) - seen_c))


def crack_history_of(roasts: Sequence[TwinRoast]) -> list[crack_history.EarlierCrack]:
    """The marked first cracks of roasts as history, in the order given (oldest first)."""
    found = []
    for number, roast in enumerate(roasts):
        if roast.crack_s is None:
            continue
        at = EPOCH + dt.timedelta(days=number)
        earlier = crack_history.earlier_crack(roast.curve, roast.crack_s, at=at, bean=roast.bean, drop_s=roast.drop_s)
        if earlier is not None:
            found.append(earlier)
    return found


def crack_temperature_of(history: crack_history.History, bean: str = "") -> CrackTemperature:
    """A machine's crack history as the twin wants it."""
    return as_the_twin_wants(crack_history.crack_temperature(history, bean))


def as_the_twin_wants(found: crack_history.CrackTemperature) -> CrackTemperature:
    """The crack that is heard and the habit of marking, kept apart: live as in every judged figure."""
    return CrackTemperature(found.heard_c, found.heard_sd_c, found.roasts, found.habit_c, found.habit_share)


def crack_errors(
    roasts: Sequence[TwinRoast], judged: Sequence[TwinParameters], others: Sequence[TwinRoast] = ()
) -> list[CrackError]:
    """First crack foretold two minutes before the mark: history of earlier roasts only, controls as they stand.

    ``others`` only lend their marks to the history of later roasts.
    """
    known = [(roast, parameters) for roast, parameters in zip(roasts, judged, strict=True)]
    rows: list[tuple[TwinRoast, TwinParameters | None]] = [*known, *((roast, None) for roast in others)]
    history: list[crack_history.EarlierCrack] = []
    found = []
    for roast, parameters in sorted(rows, key=lambda row: row[0].began_s or 0.0):
        if roast.crack_s is None:
            continue
        if parameters is not None and roast.crack_s > lanes.KNOWN_UNTIL_S + BEFORE_CRACK_S:
            found.append(_crack_error(roast, parameters, crack_temperature_of(history)))
        history += crack_history_of([roast])
    return found


def _crack_error(roast: TwinRoast, parameters: TwinParameters, crack: CrackTemperature) -> CrackError:
    crack_s = float(roast.crack_s or 0.0)
    state = follow(parameters, roast, [crack_s - BEFORE_CRACK_S])[0]
    eta = prediction.first_crack(state, crack)
    foretold_s = state.elapsed_s + 600.0 if eta.elapsed_s is None else eta.elapsed_s
    is_inside = (eta.low_s or 0.0) <= crack_s and (eta.high_s is None or crack_s <= eta.high_s)
    return CrackError(roast.name, foretold_s - crack_s, is_inside, crack.count)


def crack_report(errors: Sequence[CrackError]) -> dict[str, Any]:
    """Median and 90th percentile of the error (s), and how many of how many lay in the 80 % bounds."""
    if not errors:
        return {}
    off = np.abs([error.error_s for error in errors])
    return {
        "before_s": BEFORE_CRACK_S,
        "median_s": float(np.median(off)),
        "p90_s": float(np.percentile(off, 90)),
        "inside": sum(error.is_inside for error in errors),
        "count": len(errors),
        "roasts": [[error.name, round(error.error_s, 1), error.is_inside] for error in errors],
    }
