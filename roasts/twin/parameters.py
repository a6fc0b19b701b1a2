"""One machine's twin as a value: constants, how readings correct it, how far off it is, and where it was fitted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from roasts.twin.memory import INNOVATIONS, Remembered
from roasts.twin.physics import NAMES, PRIORS, HeatConstants, Vector
from roasts.twin.values import CrackTemperature, TwinError

SCHEMA = 1
#: How the origin of parameters begins that nobody calibrated on this machine.
SHIPPED = "shipped defaults"

#: What the readings up to 90 s after charge correct.
CORRECTED = ("wall_temp_c", "body_temp_c", "bean_temp_c", "shell_temp_c", "uptake_ln", "power_ln")
#: Prior spread of one correction per °C of innovation.
GAIN_SPREAD = {
    "wall_temp_c": 3.0, "body_temp_c": 3.0, "bean_temp_c": 1.0,
    "shell_temp_c": 1.0, "uptake_ln": 0.01, "power_ln": 0.01,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class FittedRange:
    """Where the recorded roasts were: (low, high) each. Outside it predictions are marked *extrapolating*."""

    mass_kg: tuple[float, float]
    voltage_v: tuple[float, float]
    drum_step: tuple[float, float]
    heater_step: tuple[float, float]
    fan_step: tuple[float, float]
    preheat_temp_c: tuple[float, float]
    probe_charge_c: tuple[float, float]
    duration_s: tuple[float, float]


@dataclass(frozen=True, slots=True)
class ErrorGrowth:
    """Held-out error of the probe by how far ahead was predicted: 80 % of it lies within ``within_c``.

    ``unopened_c``: the same for a roast whose first 90 seconds are not in yet, whatever the horizon beyond a minute.
    """

    ahead_s: tuple[float, ...] = (0.0, 15.0, 30.0, 60.0, 120.0, 180.0, 300.0)
    within_c: tuple[float, ...] = (0.25, 0.45, 0.7, 1.2, 2.0, 2.5, 3.5)
    unopened_c: float = 6.5

    def at(self, ahead_s: Any) -> Any:
        """°C within which 80 % of the truth lay ``ahead_s`` seconds ahead (float or array)."""
        return np.interp(ahead_s, self.ahead_s, self.within_c)


@dataclass(frozen=True, slots=True)
class TwinParameters:
    """All that a prediction needs. ``origin`` says in words where the numbers come from."""

    constants: HeatConstants
    gains: tuple[tuple[float, ...], ...]  # CORRECTED × INNOVATIONS
    fitted: FittedRange
    growth: ErrorGrowth
    crack: CrackTemperature
    origin: str
    roast_count: int
    data_digest: str
    report: Mapping[str, Any]
    memory: tuple[Remembered, ...] = ()  # oldest first

    @property
    def is_shipped_default(self) -> bool:
        """Whether nobody has calibrated this machine yet."""
        return self.origin.startswith(SHIPPED)


def prior_vector() -> Vector:
    """The priors' centres as the fit's vector: constants (logarithms where positive), then gains row by row."""
    priors = PRIORS.values()
    centres = [math.log(prior.default) if prior.is_log else prior.default for prior in priors]
    return np.array(centres + [0.0] * (len(CORRECTED) * len(INNOVATIONS)))


def prior_spreads() -> Vector:
    """Standard deviation of each entry of :func:`prior_vector`."""
    spreads = [PRIORS[name].spread for name in NAMES]
    return np.array(spreads + [GAIN_SPREAD[name] for name in CORRECTED for _ in INNOVATIONS])


_IS_LOG = np.array([PRIORS[name].is_log for name in NAMES])


def unpack(vectors: Vector) -> tuple[HeatConstants, Vector]:
    """Vectors (lanes × entries, or one vector) as constants and gains (CORRECTED × INNOVATIONS × lanes)."""
    table = np.atleast_2d(vectors)
    raw = table[:, : len(NAMES)].T
    values = np.where(_IS_LOG[:, None], np.exp(np.where(_IS_LOG[:, None], raw, 0.0)), raw)
    gains = table[:, len(NAMES) :].T.reshape(len(CORRECTED), len(INNOVATIONS), -1)
    return HeatConstants(*[np.ascontiguousarray(row) for row in values]), gains


def pack(constants: HeatConstants, gains: tuple[tuple[float, ...], ...]) -> Vector:
    """The inverse of :func:`unpack` for one machine."""
    values = [float(getattr(constants, name)) for name in NAMES]
    entries = [math.log(v) if PRIORS[n].is_log else v for n, v in zip(NAMES, values, strict=True)]
    return np.array(entries + [g for row in gains for g in row])


def constants_of(vector: Vector) -> tuple[HeatConstants, tuple[tuple[float, ...], ...]]:
    """One vector as plain floats."""
    lanes, gains = unpack(vector)
    constants = HeatConstants(*[float(getattr(lanes, name)[0]) for name in NAMES])
    return constants, tuple(tuple(float(g) for g in row) for row in gains[:, :, 0])


def parameters_to_json(parameters: TwinParameters) -> dict[str, Any]:
    """As plain JSON: what ``TwinFit.parameters`` keeps. Floats keep every bit."""
    return {
        "schema": SCHEMA,
        "origin": parameters.origin,
        "roast_count": parameters.roast_count,
        "data_digest": parameters.data_digest,
        "constants": {name: getattr(parameters.constants, name) for name in NAMES},
        "units": {name: PRIORS[name].unit for name in NAMES},
        "corrected": list(CORRECTED),
        "innovations": list(INNOVATIONS),
        "gains": [list(row) for row in parameters.gains],
        "fitted": {name: list(getattr(parameters.fitted, name)) for name in FittedRange.__slots__},
        "growth": asdict(parameters.growth),
        "crack": asdict(parameters.crack),
        "memory": [asdict(entry) for entry in parameters.memory],
        "report": dict(parameters.report),
    }


def parameters_from_json(record: Mapping[str, Any]) -> TwinParameters:
    """The inverse of :func:`parameters_to_json`.

    Raises:
        TwinError: not a record of this schema, or a number is missing or not finite.
    """
    try:
        if record["schema"] != SCHEMA or tuple(record["corrected"]) != CORRECTED:
            raise TwinError(f"these twin parameters are of another schema than {SCHEMA}: fit the machine again")
        constants = HeatConstants(*[_finite(record["constants"][name], name) for name in NAMES])
        gains = tuple(tuple(_finite(g, "gains") for g in row) for row in record["gains"])
        if [len(row) for row in gains] != [len(INNOVATIONS)] * len(CORRECTED):
            raise TwinError("the gains have the wrong shape: fit the machine again")
        fitted = FittedRange(*[_pair(record["fitted"][name], name) for name in FittedRange.__slots__])
        growth = _growth(record["growth"])
        memory = tuple(_remembered(entry) for entry in record["memory"])
        crack = CrackTemperature(**record["crack"])
        return TwinParameters(
            constants, gains, fitted, growth, crack, str(record["origin"]),
            int(record["roast_count"]), str(record["data_digest"]), dict(record["report"]), memory,
        )  # fmt: skip
    except (KeyError, TypeError) as error:
        raise TwinError(f"these are no twin parameters: {error}") from error


def _remembered(entry: Mapping[str, Any]) -> Remembered:
    """One entry of the memory; records kept before beans were remembered name none."""
    return Remembered(float(entry["began_s"]), tuple(float(f) for f in entry["found"]), str(entry.get("bean", "")))


def _growth(record: Mapping[str, Any]) -> ErrorGrowth:
    ahead_s, within_c = (tuple(float(v) for v in record[key]) for key in ("ahead_s", "within_c"))
    if not ahead_s or len(ahead_s) != len(within_c):
        raise TwinError("the error's growth has the wrong shape: fit the machine again")
    return ErrorGrowth(ahead_s, within_c, _finite(record["unopened_c"], "unopened_c"))


def _finite(value: Any, name: str) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise TwinError(f"twin parameter {name} is not a finite number")
    return number


def _pair(values: Any, name: str) -> tuple[float, float]:
    low, high = (_finite(v, name) for v in values)
    return low, high
