"""The curve of a report as SVG for paper: a pure drawing, the same document gives the same bytes.

No script, no style attribute (the house's Content-Security-Policy allows none): classes are coloured by report.css.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Any

WIDTH, HEIGHT = 900, 420
LEFT, RIGHT, TOP, BOTTOM = 46, 854, 26, 300  # of the temperature plot
LANES = (("heater_step", "Heater", 318), ("fan_step", "Fan", 350), ("drum_step", "Drum", 382))
LANE_HEIGHT = 24
LABEL_EVERY_S = 12.0  # of two changes nearer than this only the first is named
LOW_C, HIGH_C = 40.0, 240.0
LOW_RATE, HIGH_RATE = -10.0, 45.0
TICK_C, TICK_S = 40, 60
EVENT_WORDS = {
    "turning_point": "TP",
    "dry_end": "Dry end",
    "first_crack_start": "First crack",
    "first_crack_end": "FC end",
    "second_crack_start": "Second crack",
    "drop": "Drop",
    "cool_end": "Cool end",
}
Values = Sequence[float | None]


def draw(document: dict[str, Any], say: Callable[[str], str] = str) -> str:
    """An ``<svg>`` element (user units, no fixed size) of the document's curve; words only where there is none.

    ``say`` words a text in the reader's language.
    """
    curve = document["curve"]
    times: list[float] = [t for t in curve.get("elapsed_s", []) if t is not None]
    if len(times) < 2:
        return f'<p class="report-no-curve">{html.escape(say("No curve was recorded."))}</p>'
    end_s = max(times[-1], TICK_S)
    parts = [
        f'<svg class="report-curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{_label(document, say)}">',
        _grid(end_s),
        _line("rate", times, curve.get("rate_of_rise_c_per_min", []), end_s, LOW_RATE, HIGH_RATE),
        _line("infrared", times, curve.get("infrared_temp_c", []), end_s, LOW_C, HIGH_C),
        _line("environment", times, curve.get("environment_temp_c", []), end_s, LOW_C, HIGH_C),
        _line("golden", curve.get("golden_elapsed_s", []), curve.get("golden_c", []), end_s, LOW_C, HIGH_C),
        _line("bean", times, curve.get("bean_temp_c", []), end_s, LOW_C, HIGH_C),
        *(_lane((word, say(word)), top, times, curve.get(name, []), end_s) for name, word, top in LANES),
        _marks(document["events"], end_s, say),
        "</svg>",
    ]
    return "".join(parts)


def _x(elapsed_s: float, end_s: float) -> float:
    return LEFT + (RIGHT - LEFT) * min(max(elapsed_s, 0.0), end_s) / end_s


def _y(value: float, low: float, high: float) -> float:
    share = (min(max(value, low), high) - low) / (high - low)
    return BOTTOM - (BOTTOM - TOP) * share


def _label(document: dict[str, Any], say: Callable[[str], str]) -> str:
    roast = document["roast"]
    name = roast.get("title") or roast.get("bean") or roast.get("roast_id", "")
    words = say("Roast curve of {name}: bean temperature, rate of rise and controls over time")
    return html.escape(words.replace("{name}", str(name)), quote=True)


def _grid(end_s: float) -> str:
    parts = []
    for value in range(int(LOW_C), int(HIGH_C) + 1, TICK_C):
        y = _y(value, LOW_C, HIGH_C)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{RIGHT}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value}</text>')
    for value in range(int(LOW_RATE), int(HIGH_RATE) + 1, 10):
        y = _y(value, LOW_RATE, HIGH_RATE)
        parts.append(f'<text class="tick rate-tick" x="{RIGHT + 6}" y="{y + 4:.1f}">{value}</text>')
    step_s = TICK_S if end_s <= 20 * TICK_S else 5 * TICK_S
    for number in range(int(end_s // step_s) + 1):
        x = _x(number * step_s, end_s)
        parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{HEIGHT - 14}"/>')
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{HEIGHT}" text-anchor="middle">{number * step_s // 60}:00</text>'
        )
    return "".join(parts)


def _line(name: str, times: Values, values: Values, end_s: float, low: float, high: float) -> str:
    """One polyline, broken where a value is missing; nothing where the channel is."""
    commands: list[str] = []
    is_down = False
    for at_s, value in zip(times, values, strict=False):
        if at_s is None or value is None or at_s < 0 or not low <= value <= high:
            is_down = False
            continue
        commands.append(f"{'L' if is_down else 'M'}{_x(at_s, end_s):.1f} {_y(value, low, high):.1f}")
        is_down = True
    return f'<path class="line line-{name}" d="{"".join(commands)}"/>' if commands else ""


def _lane(names: tuple[str, str], top: int, times: Values, values: Values, end_s: float) -> str:
    """A control (its name, and as it is said) as steps; the number stands where it changes."""
    known = [(t, v) for t, v in zip(times, values, strict=False) if t is not None and v is not None and t >= 0]
    if not known:
        return ""
    full = max(9.0, *(value for _, value in known))
    parts = [f'<text class="tick" x="{LEFT - 6}" y="{top + 16}" text-anchor="end">{html.escape(names[1])}</text>']
    commands: list[str] = []
    last: float | None = None
    labelled_s = -LABEL_EVERY_S
    for at_s, value in known:
        x, y = _x(at_s, end_s), top + LANE_HEIGHT - 4 - (LANE_HEIGHT - 6) * value / full
        if last is None:
            commands.append(f"M{x:.1f} {y:.1f}")
        elif value != last:
            commands.append(f"H{x:.1f}V{y:.1f}")
        if value != last and at_s - labelled_s >= LABEL_EVERY_S:
            labelled_s = at_s
            parts.append(f'<text class="step-number" x="{x + 2:.1f}" y="{max(y - 2, top + 8):.1f}">{value:.0f}</text>')
        last = value
    commands.append(f"H{_x(known[-1][0], end_s):.1f}")
    name = names[0].lower()
    return f'<path class="line line-{name}" d="{"".join(commands)}"/>' + "".join(parts)


def _marks(events: list[dict[str, Any]], end_s: float, say: Callable[[str], str]) -> str:
    parts = []
    for index, event in enumerate(e for e in events if e["kind"] in EVENT_WORDS and e.get("is_standing", True)):
        x = _x(event["elapsed_ms"] / 1000, end_s)
        word = html.escape(say(EVENT_WORDS[event["kind"]]))
        parts.append(f'<path class="mark mark-{html.escape(event["source"])}" d="M{x:.1f} {TOP}V{HEIGHT - 14}"/>')
        anchor = "end" if x > RIGHT - 70 else "start"
        shift = -3 if anchor == "end" else 3
        y = TOP - 4 if index % 2 == 0 else TOP + 9
        parts.append(f'<text class="mark-word" x="{x + shift:.1f}" y="{y}" text-anchor="{anchor}">{word}</text>')
    return "".join(parts)
