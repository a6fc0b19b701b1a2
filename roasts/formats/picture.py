"""The curve as a picture: temperatures, rate of rise, settings as steps and marks. The same roast, the same bytes.

No font, clock or random id of the machine goes into it: text is drawn as shapes and ids come from a fixed salt.
"""

from __future__ import annotations

import io
import threading
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator

from roasts.curve import Column, Curve, Marks
from roasts.formats.imported import MACHINE_RATE, ImportedRoast, clock_words
from roasts.formats.tables import plain

WIDTH_IN, HEIGHT_IN, DOTS_PER_IN = 12.0, 7.0, 100
#: Colours that differ in lightness too (Okabe and Ito), with a dash each: read without colour as well.
LINES = (
    ("bean_temp_c", "Beans", "#0072b2", "-"),
    ("infrared_temp_c", "Infrared", "#d55e00", "--"),
    ("environment_temp_c", "Environment", "#cc79a7", "--"),
    ("exhaust_temp_c", "Exhaust", "#777777", ":"),
)
STEPS = (
    ("heater_step", "Heater", "#e69f00", "-"),
    ("fan_step", "Fan", "#009e73", "--"),
    ("drum_step", "Drum", "#555555", ":"),
)
MARKS = {
    "charge": "Charge", "turning_point": "TP", "dry_end": "Dry end", "first_crack_start": "First crack",
    "first_crack_end": "FC end", "second_crack_start": "Second crack", "drop": "Drop", "cool_end": "Cool end",
}  # fmt: skip
SETTINGS: Any = {"svg.hashsalt": "roastops", "svg.fonttype": "path", "font.family": "DejaVu Sans", "font.size": 10}
RATE_LOW, RATE_HIGH = -10.0, 40.0
#: matplotlib keeps its settings in the process: one picture at a time.
_drawing = threading.Lock()


def write_png(roast: ImportedRoast) -> bytes:
    """1200 × 700 pixels."""
    with _drawing, mpl.rc_context(SETTINGS):
        figure = _figure(roast)
        out = io.BytesIO()
        FigureCanvasAgg(figure).print_png(out, metadata={"Software": None})
    return out.getvalue()


def write_svg(roast: ImportedRoast) -> bytes:
    """The same as lines."""
    with _drawing, mpl.rc_context(SETTINGS):
        figure = _figure(roast)
        out = io.StringIO()
        FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None, "Creator": None})
    return out.getvalue().encode("utf-8")


def _figure(roast: ImportedRoast) -> Figure:
    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), dpi=DOTS_PER_IN, facecolor="white")
    grid = figure.add_gridspec(2, 1, height_ratios=(4, 1), hspace=0.08, left=0.07, right=0.93, top=0.9, bottom=0.08)
    above = figure.add_subplot(grid[0])
    below = figure.add_subplot(grid[1], sharex=above)
    _draw_temperatures(above, roast.curve)
    _draw_rate(above, roast)
    _draw_steps(below, roast.curve)
    above.tick_params(labelbottom=False)
    below.xaxis.set_major_formatter(FuncFormatter(lambda value, _: clock_words(value)))
    below.xaxis.set_major_locator(MultipleLocator(_tick_s(roast.curve)))
    below.set_xlabel("minutes since charge")
    above.set_xlim(float(roast.curve.elapsed_s[0]), float(roast.curve.elapsed_s[-1]))
    _draw_marks(above, below, roast.marks)
    figure.text(0.07, 0.95, _title(roast), fontsize=13, parse_math=False)
    return figure


def _tick_s(curve: Curve) -> float:
    length_s = float(curve.elapsed_s[-1] - curve.elapsed_s[0])
    return next((tick for tick in (10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0) if length_s / tick <= 20), 14_400.0)


def _title(roast: ImportedRoast) -> str:
    metadata = roast.metadata
    date = f"{metadata.roasted_at:%Y-%m-%d %H:%M}" if metadata.roasted_at else ""
    weight = f"{metadata.weight_in_g:g} g" if metadata.weight_in_g else ""
    words = [metadata.title or metadata.bean, metadata.batch, metadata.machine_name, date, weight]
    return "   ".join(plain(word)[:60] for word in words if word) or "Roast"


def _draw_temperatures(axes: Axes, curve: Curve) -> None:
    for name, label, colour, dash in LINES:
        column = getattr(curve, name)
        if column is not None:
            width = 2.0 if name == "bean_temp_c" else 1.3
            axes.plot(curve.elapsed_s, column, color=colour, linestyle=dash, linewidth=width, label=f"{label} (°C)")
    axes.set_ylim(0, max(260.0, _highest(curve)))
    axes.set_ylabel("°C")
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    if axes.get_lines():
        axes.legend(loc="upper left", fontsize=9, framealpha=0.9)


def _highest(curve: Curve) -> float:
    columns = [getattr(curve, name) for name, *_ in LINES]
    known = [float(np.nanmax(column)) for column in columns if column is not None and np.any(np.isfinite(column))]
    return min(max(known, default=0.0) + 10.0, 1_500.0)


def _draw_rate(axes: Axes, roast: ImportedRoast) -> None:
    """The machine's own rate of rise where the source has one, else the slope over 30 s, centred: for looking back."""
    rate = roast.channel(MACHINE_RATE)
    label = "Rate of rise, the machine's (°C/min)"
    if rate is None:
        rate, label = _slope(roast.curve), "Rate of rise, centred 30 s (°C/min)"
    right = axes.twinx()
    shown = np.where((rate >= RATE_LOW) & (rate <= RATE_HIGH), rate, np.nan)
    right.plot(roast.curve.elapsed_s, shown, color="#56b4e9", linewidth=1.0, linestyle="-.")
    right.set_ylim(RATE_LOW, RATE_HIGH)
    right.set_ylabel(label)


def _slope(curve: Curve) -> Column:
    is_known = np.isfinite(curve.bean_temp_c)
    if np.count_nonzero(is_known) < 2:
        return np.full(len(curve), np.nan)
    times_s, temps_c = curve.elapsed_s[is_known], curve.bean_temp_c[is_known]
    ends = [np.interp(curve.elapsed_s + shift_s, times_s, temps_c) for shift_s in (-15.0, 15.0)]
    inside = (curve.elapsed_s >= times_s[0] + 15.0) & (curve.elapsed_s <= times_s[-1] - 15.0)
    return np.where(inside, (ends[1] - ends[0]) * 2.0, np.nan)


def _draw_marks(above: Axes, below: Axes, marks: Marks) -> None:
    shown = [mark for mark in marks if mark.kind in MARKS]
    for number, mark in enumerate(shown):
        for axes in (above, below):
            axes.axvline(mark.elapsed_s, color="#333333", linewidth=0.8, linestyle=(0, (2, 2)))
        height = 0.02 + 0.05 * (number % 3)
        is_late = mark.elapsed_s > above.get_xlim()[1] * 0.9
        above.text(
            mark.elapsed_s, height, f" {MARKS[mark.kind]} {clock_words(mark.elapsed_s)} ",
            transform=above.get_xaxis_transform(), fontsize=8.5, color="#111111", parse_math=False,
            ha="right" if is_late else "left",
        )  # fmt: skip


def _draw_steps(axes: Axes, curve: Curve) -> None:
    for name, label, colour, dash in STEPS:
        column = getattr(curve, name)
        if column is not None:
            axes.step(curve.elapsed_s, column, where="post", color=colour, linestyle=dash, linewidth=1.5, label=label)
    axes.set_ylim(-0.5, 14.5)
    axes.set_ylabel("step")
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    if axes.get_lines():
        handles, labels = axes.get_legend_handles_labels()
        if handles:
            axes.legend(handles, labels, loc="upper left", fontsize=8, ncols=3, framealpha=0.9)
