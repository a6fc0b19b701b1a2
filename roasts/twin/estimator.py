"""The twin beside a live roast: an extended Kalman filter over the same model.

Until 90 s after charge it runs open loop, with what the machine's earlier roasts let expect, and collects
what the readings say beyond the bare model; at 90 s it takes that correction (the one that fitting
calibrated) instead, from there on each second's mean of the
readings moves state, heat uptake and power share. It is cheap at any rate of readings: the filter
steps once a second, readings in between only add to a mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from roasts.curve import Curve
from roasts.twin import lanes, physics, simulation
from roasts.twin.parameters import TwinParameters
from roasts.twin.physics import HeatConstants, NodeState, Vector
from roasts.twin.values import KNOWN_UNTIL_S, Band, Controls, Observed, Setting, TwinError

STEP_S = lanes.STEP_S
SHOWS_PREHEAT_C = 150.0  # an infrared above this at charge still shows the empty drum
GAP_S = 20.0  # without readings for longer the twin says so
#: Spread of each node at 90 s (wall, body, bean, water, shell, probe, infrared, uptake, power).
SPREAD_AT_OPENING = np.array([8.0, 10.0, 2.0, 0.002, 1.5, 0.1, 0.5, 0.03, 0.03])
#: What a second adds to each (standard deviation). Chosen on predictions of recorded roasts; the optimum is flat.
WANDER_PER_S = np.array([0.15, 0.05, 0.03, 1e-6, 0.05, 0.02, 0.1, 0.0008, 0.0008]) ** 2
PROBE_NOISE_C, INFRARED_NOISE_C = 0.15, 2.5  # with what the model does not explain from second to second
#: The filter never believes more than this: a stuck sensor must not invent another machine.
MOST_UPTAKE_LN, MOST_POWER_LN = 0.25, 0.25
DIFFERENCE = np.array([0.5, 0.5, 0.1, 1e-4, 0.1, 0.1, 0.1, 0.002, 0.002])


@dataclass(frozen=True, slots=True, eq=False)
class TwinState:
    """Where a live roast stands: all that a prediction needs, safe to hand to another thread."""

    parameters: TwinParameters
    elapsed_s: float
    node: NodeState
    setting: Setting
    mass_kg: float
    preheat_temp_c: float
    probe_charge_c: float
    is_opened: bool  # the readings of the first 90 seconds went in
    silent_s: float  # since the last reading that was usable

    @property
    def bean_temp_c(self) -> float:
        """The probe as the twin has it, °C."""
        return float(self.node.probe_temp_c)


class Estimator:
    """Follows one roast from charge. Feed it readings in order; ask :attr:`state` or :meth:`predict` at any time.

    Deterministic: the same readings give the same state. Not thread-safe; hand out ``state`` instead.
    """

    def __init__(
        self,
        parameters: TwinParameters,
        *,
        mass_kg: float,
        probe_charge_c: float,
        preheat_temp_c: float | None = None,
        began_s: float | None = None,
        bean: str = "",
    ) -> None:
        """``began_s`` (unix seconds of the charge) and ``bean`` choose what earlier roasts say of the first 90 s."""
        if not (0.0 < mass_kg <= 2.0 and math.isfinite(probe_charge_c)):
            raise TwinError(f"cannot follow a roast of {mass_kg} kg from a probe of {probe_charge_c} °C")
        self._parameters = parameters
        self._mass_kg = mass_kg
        self._preheat_c = simulation.usual_preheat_c(preheat_temp_c)
        self._is_preheat_known = preheat_temp_c is not None
        self._probe_charge_c = probe_charge_c
        self._expected = simulation.remembered(parameters, began_s, bean)
        self._node = physics.at_charge(parameters.constants, self._preheat_c, probe_charge_c, mass_kg)
        self._bare = self._node  # the same without the machine's memory: what the opening is measured against
        self._row = 0
        self._setting = Setting(0.0, 2.0)
        self._spread = np.diag(SPREAD_AT_OPENING**2)
        self._made: list[tuple[float, float]] = []
        self._seen: list[tuple[float, float, float]] = []
        self._pending: list[tuple[float, float]] = []
        self._is_opened = False
        self._last_usable_s = 0.0

    @property
    def state(self) -> TwinState:
        """Where the roast stands at the last whole second."""
        return TwinState(
            self._parameters, self._row * STEP_S, self._node, self._setting, self._mass_kg, self._preheat_c,
            self._probe_charge_c, self._is_opened, max(0.0, self._row * STEP_S - self._last_usable_s),
        )  # fmt: skip

    def update(self, elapsed_s: float, readings: Observed, controls: Setting) -> None:
        """A reading ``elapsed_s`` seconds after charge, with the controls that hold from it on.

        Readings before charge, out of order or more than an hour late are left out; a sensor that is
        missing or not finite is left out for itself.
        """
        if not 0.0 <= elapsed_s <= lanes.LONGEST_S or elapsed_s < self._row * STEP_S:
            return
        while elapsed_s >= (self._row + 1) * STEP_S:
            self._close_second()
        self._setting = controls
        self._look_before_charge(elapsed_s, readings)
        probe_c, infrared_c = _number(readings.bean_temp_c), _number(readings.infrared_temp_c)
        if math.isfinite(probe_c):
            self._last_usable_s = elapsed_s
        self._pending.append((probe_c, infrared_c))
        if elapsed_s <= KNOWN_UNTIL_S and (not self._seen or elapsed_s > self._seen[-1][0]):
            self._seen.append((elapsed_s, probe_c, infrared_c))

    def predict(self, horizon_s: float = 180.0, controls: Controls | None = None) -> Band:
        """The next ``horizon_s`` seconds; with ``controls`` under that plan, else with the controls as they stand."""
        from roasts.twin.prediction import predict

        return predict(self.state, horizon_s, controls)

    def _look_before_charge(self, elapsed_s: float, readings: Observed) -> None:
        """In the first second a Bullet's eye may still show the drum before charge: the set-point nobody told."""
        eye_c = _number(readings.infrared_temp_c)
        if self._is_preheat_known or self._row > 0 or elapsed_s >= STEP_S or not eye_c > SHOWS_PREHEAT_C:
            return
        self._preheat_c, self._is_preheat_known = eye_c, True
        self._node = physics.at_charge(self._parameters.constants, eye_c, self._probe_charge_c, self._mass_kg)
        self._bare = self._node

    def _close_second(self) -> None:
        """All readings of the running second are in: compare, correct, step on."""
        seen = _mean(self._pending)
        self._pending = []
        if self._row <= lanes.UPDATE_ROW:
            self._made.append((float(self._bare.probe_temp_c), float(self._bare.infrared_temp_c)))
        if self._row == lanes.MEMORY_ROW:
            self._node = simulation.opened(self._node, self._expected, self._parameters)
        elif self._row == lanes.UPDATE_ROW:
            self._open()
        elif self._row > lanes.UPDATE_ROW:
            self._correct(seen)
        elapsed_s, p = self._row * STEP_S, self._parameters.constants
        if self._row >= lanes.UPDATE_ROW:
            self._spread = _carried(self._spread, self._node, self._setting, p, self._mass_kg, elapsed_s)
        self._node = simulation.stepped(self._node, self._setting, p, self._mass_kg, elapsed_s)
        if self._row < lanes.UPDATE_ROW:
            self._bare = simulation.stepped(self._bare, self._setting, p, self._mass_kg, elapsed_s)
        self._row += 1

    def _open(self) -> None:
        """90 s after charge: what the raw readings so far say beyond the model, as in fitting."""
        made, seen = np.array(self._made), np.array(self._seen or [(0.0, math.nan, math.nan)])
        known = Curve(elapsed_s=seen[:, 0], bean_temp_c=seen[:, 1], infrared_temp_c=seen[:, 2])
        opening = simulation.opening_of(known, made[:, 0], made[:, 1])
        self._is_opened = any(opening.found)
        if self._is_opened:
            self._node = simulation.opened(self._bare, opening, self._parameters)

    def _correct(self, seen: tuple[float, float]) -> None:
        """The Kalman step for the sensors that said something."""
        state = np.array([float(value) for value in self._node])
        for place, value_c, noise_c in ((5, seen[0], PROBE_NOISE_C), (6, seen[1], INFRARED_NOISE_C)):
            if not math.isfinite(value_c):
                continue
            gain = self._spread[:, place] / (self._spread[place, place] + noise_c**2)
            state = state + gain * (value_c - state[place])
            self._spread = self._spread - np.outer(gain, self._spread[place])
        self._node = _fenced(state)


def _carried(
    spread: Vector, node: NodeState, setting: Setting, p: HeatConstants, mass_kg: float, elapsed_s: float
) -> Vector:
    """The covariance one second on: finite differences of the model along each node, plus what wanders."""
    base = np.array([float(value) for value in node])
    moved = NodeState(*(base[:, None] + np.hstack([np.zeros((len(base), 1)), np.diag(DIFFERENCE)])))
    knobs = simulation.knobs_of(setting, simulation.beans_in(p, elapsed_s))
    after = np.stack(physics.advance(moved, knobs, p, mass_kg, STEP_S, np.exp))
    slope = (after[:, 1:] - after[:, :1]) / DIFFERENCE
    return np.asarray(slope @ spread @ slope.T + np.diag(WANDER_PER_S))


def _fenced(state: Vector) -> NodeState:
    """Numbers a drum can have."""
    state = np.clip(state, -40.0, 900.0)
    state[3] = max(0.0, state[3])
    state[7] = min(MOST_UPTAKE_LN, max(-MOST_UPTAKE_LN, state[7]))
    state[8] = min(MOST_POWER_LN, max(-MOST_POWER_LN, state[8]))
    return NodeState(*[float(value) for value in state])


def _number(value: float | None) -> float:
    """NaN for what is missing, not finite or no temperature of a roaster."""
    return value if value is not None and -40.0 < value < 600.0 else math.nan


def _mean(pending: list[tuple[float, float]]) -> tuple[float, float]:
    """Mean of each sensor over what came in; NaN where nothing did."""
    means = []
    for values in ([row[0] for row in pending], [row[1] for row in pending]):
        good = [value for value in values if math.isfinite(value)]
        means.append(sum(good) / len(good) if good else math.nan)
    return means[0], means[1]
