"""Pictures of a fit: measured against predicted, errors per roast, and how the error grows. Writes PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from roasts.twin import lanes, simulation
from roasts.twin.fitting import RoastError
from roasts.twin.parameters import TwinParameters
from roasts.twin.values import Initial, TwinRoast

matplotlib.use("Agg")
from matplotlib import pyplot as plt

SEEN, MADE, BLIND, EYE = "#3a3a3a", "#c8502d", "#8d99ae", "#2a6f97"
OVERLAYS = 6


def draw_all(
    folder: Path, roasts: Sequence[TwinRoast], judged: Sequence[TwinParameters], errors: Sequence[RoastError]
) -> list[Path]:
    """All pictures of a held-out report; ``judged[i]`` are parameters that do not know ``roasts[i]``."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        draw_overlays(folder / "twin-overlays.png", roasts, judged, errors),
        draw_errors(folder / "twin-errors.png", errors),
        draw_growth(folder / "twin-growth.png", judged[0]),
    ]


def draw_judged(
    folder: Path, roasts: Sequence[TwinRoast], judged: Sequence[TwinParameters], errors: Sequence[RoastError]
) -> list[Path]:
    """Pictures of roasts that had no part in a fit, beside those of :func:`draw_all`."""
    return [
        draw_overlays(folder / "judged-overlays.png", roasts, judged, errors),
        draw_errors(folder / "judged-errors.png", errors),
    ]


def draw_overlays(
    path: Path, roasts: Sequence[TwinRoast], judged: Sequence[TwinParameters], errors: Sequence[RoastError]
) -> Path:
    """Six roasts from the best to the worst held-out probe error, measured and predicted."""
    order = np.argsort([error.known_probe_c for error in errors])
    chosen = [int(order[int(i)]) for i in np.linspace(0, len(order) - 1, min(OVERLAYS, len(order)))]
    figure, axes = plt.subplots(2, 3, figsize=(12, 7), sharex=True, sharey=True)
    for axis, number in zip(axes.flat, chosen, strict=False):
        _overlay(axis, roasts[number], judged[number], errors[number])
    axes.flat[0].legend(fontsize=7, loc="lower right")
    for axis in axes[1]:
        axis.set_xlabel("seconds after charge")
    for axis in axes[:, 0]:
        axis.set_ylabel("°C")
    return _saved(figure, path)


def _overlay(axis: Any, roast: TwinRoast, parameters: TwinParameters, error: RoastError) -> None:
    curve = roast.curve
    inside = (curve.elapsed_s >= 0) & (curve.elapsed_s <= roast.drop_s)
    start_c = float(np.interp(0.0, curve.elapsed_s, curve.bean_temp_c))
    blind = Initial(roast.mass_kg, start_c, lanes.preheat_of(curve), began_s=roast.began_s, bean=roast.bean)
    controls = simulation.controls_of(curve)
    made = simulation.simulate(parameters, controls, replace(blind, known=curve), duration_s=roast.drop_s)
    alone = simulation.simulate(parameters, controls, blind, duration_s=roast.drop_s)
    axis.plot(curve.elapsed_s[inside], curve.bean_temp_c[inside], color=SEEN, lw=2, label="probe, measured")
    axis.plot(made.elapsed_s, made.bean_temp_c, color=MADE, lw=1.2, label="predicted at 90 s")
    axis.plot(alone.elapsed_s, alone.bean_temp_c, color=BLIND, lw=1, ls="--", label="predicted at charge")
    if curve.infrared_temp_c is not None and made.infrared_temp_c is not None:
        axis.plot(curve.elapsed_s[inside], curve.infrared_temp_c[inside], color=EYE, lw=1.5, alpha=0.5)
        axis.plot(made.elapsed_s, made.infrared_temp_c, color=EYE, lw=0.9, label="infrared, predicted")
    axis.axvline(90.0, color="#bbbbbb", lw=0.8)
    axis.set_title(f"{roast.name[:26]}: {error.known_probe_c:.1f} °C", fontsize=9)
    axis.set_ylim(20, 230)


def draw_errors(path: Path, errors: Sequence[RoastError]) -> Path:
    """Held-out RMSE of every roast, in the order of the data."""
    figure, axis = plt.subplots(figsize=(12, 4.5))
    at = np.arange(len(errors))
    axis.bar(at - 0.2, [error.known_probe_c for error in errors], 0.4, color=MADE, label="readings up to 90 s went in")
    axis.bar(at + 0.2, [error.blind_probe_c for error in errors], 0.4, color=BLIND, label="nothing after charge")
    axis.axhline(float(np.median([error.known_probe_c for error in errors])), color=MADE, lw=0.8)
    axis.axhline(float(np.median([error.blind_probe_c for error in errors])), color=BLIND, lw=0.8)
    axis.set_xticks(at, [error.name[:20] for error in errors], rotation=90, fontsize=6)
    axis.set_ylabel("held-out RMSE of the probe, °C")
    axis.legend()
    return _saved(figure, path)


def draw_growth(path: Path, parameters: TwinParameters) -> Path:
    """How far off a live prediction is, by how far ahead."""
    figure, axis = plt.subplots(figsize=(6, 4))
    axis.plot(parameters.growth.ahead_s, parameters.growth.within_c, "o-", color=MADE)
    axis.set_xlabel("seconds ahead")
    axis.set_ylabel("80 % of held-out errors within, °C")
    axis.grid(alpha=0.3)
    return _saved(figure, path)


def _saved(figure: Any, path: Path) -> Path:
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)
    return path
