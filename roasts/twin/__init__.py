"""The twin: a heat model of one machine, fitted on its roasts, run beside the live one. Pure numpy and scipy.

`fit(roasts) -> TwinParameters`, `simulate(parameters, controls, initial) -> Curve`, `Estimator` for a live
roast, and on its state `predict`, `what_if(state, order)`, `first_crack(state)`, `drop(state, …)`.
How good it is, and how that was measured: docs/twin.md.
"""

from roasts.twin.calibration import fit
from roasts.twin.estimator import Estimator, TwinState
from roasts.twin.parameters import TwinParameters, parameters_from_json, parameters_to_json
from roasts.twin.prediction import drop, first_crack, predict, what_if, why_extrapolating
from roasts.twin.shipped import shipped_defaults
from roasts.twin.simulation import controls_of, simulate
from roasts.twin.values import (
    Band,
    Controls,
    CrackTemperature,
    Eta,
    Initial,
    Observed,
    Order,
    Setting,
    TwinError,
    TwinRoast,
    WhatIf,
)

__all__ = [
    "Band", "Controls", "CrackTemperature", "Estimator", "Eta", "Initial", "Observed", "Order", "Setting", "TwinError",
    "TwinParameters", "TwinRoast", "TwinState", "WhatIf", "controls_of", "drop", "first_crack", "fit",
    "parameters_from_json", "parameters_to_json", "predict", "shipped_defaults", "simulate", "what_if",
    "why_extrapolating",
]  # fmt: skip
