"""The golden roast as a document: curve, corridor, development, control plan. Pure.

A :class:`ProfileDocument` is made of good roasts by :func:`from_roasts`, stands as JSON in a profile's version
(:func:`to_json`, :func:`from_json`), and answers two questions while a roast runs: where should the beans be now
(:func:`golden_at`, :func:`band_at`), and how fast may they rise at this temperature (:func:`corridor_at`)?

Before first crack everything hangs on time since charge; the development is laid down in seconds and degrees
from first crack, for a crack that comes a minute late makes no development late. Temperatures °C, rates °C/min.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from roasts import curve_rates
from roasts.curve import DRY_END_C, Column, Curve, CurveSettings, CurveSummary, Marks, row_at, summarise
from roasts.library.comparison import temps_at

SCHEMA = "profile/1"
GRID_S = 2.0
CORRIDOR_STEP_C = 2.5
#: The corridor is what good roasts did, from 3 of them on; with fewer it is a width (spec/roasts.md "Models").
CORRIDOR_ROASTS = 3
LOW_PERCENTILE, HIGH_PERCENTILE = 10, 90
HALF_WIDTH_C_PER_MIN = 2.5
LATE_HALF_WIDTH_C_PER_MIN = 1.5
LATE_FROM_C = 170.0
#: How far the beans may stray from the golden curve: at least this, where fewer roasts say nothing more.
BAND_HALF_C = 3.0
#: Bounds on a document from outside: points of a column, rows of a plan, °C, seconds.
MAX_POINTS = 6000
MAX_PLAN = 500
MAX_TEMP_C = 400.0
MAX_ELAPSED_S = 6 * 3600
CONTROLS = ("heater", "fan", "drum")


class BadProfile(ValueError):
    """A document that is no profile; the message names the field and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Sensor:
    """Which probe the temperatures are of, and since when it has read so: probes drift and are replaced."""

    machine: str  # id of the machine, or its serial
    probe: str = "bean_temp_c"
    era: str = ""  # e.g. "2026-02..2026-07" or "new probe, March 2026"


@dataclass(frozen=True, slots=True)
class PlannedSetting:
    """At ``elapsed_s`` after charge the control goes to ``step``, in the machine's own steps."""

    elapsed_s: float
    control: str
    step: int


@dataclass(frozen=True, slots=True)
class Corridor:
    """How fast the beans may rise at this bean temperature, °C/min."""

    low_c_per_min: float
    middle_c_per_min: float
    high_c_per_min: float


@dataclass(frozen=True, slots=True)
class ProfileDocument:
    """Columns are tuples of equal length: (elapsed_s, golden_c, low_c, high_c) over time since charge,
    (corridor_bean_c, corridor_low, corridor_middle, corridor_high) over bean temperature, and
    (development_s, development_rise_c) from first crack. ``landmarks_s`` are seconds since charge.
    """

    elapsed_s: tuple[float, ...]
    golden_c: tuple[float, ...]
    low_c: tuple[float, ...]
    high_c: tuple[float, ...]
    corridor_bean_c: tuple[float, ...]
    corridor_low: tuple[float, ...]
    corridor_middle: tuple[float, ...]
    corridor_high: tuple[float, ...]
    development_s: tuple[float, ...]
    development_rise_c: tuple[float, ...]
    landmarks_s: Mapping[str, float]
    first_crack_c: float | None
    drop_c: float | None
    plan: tuple[PlannedSetting, ...]
    sensor: Sensor
    roast_ids: tuple[str, ...] = ()

    @property
    def roast_count(self) -> int:
        return len(self.roast_ids)

    @property
    def is_corridor_measured(self) -> bool:
        """Whether the corridor is what good roasts did, or only a width around one."""
        return self.roast_count >= CORRIDOR_ROASTS

    @property
    def development_ratio(self) -> float | None:
        """DTR of the golden roast, 0..1."""
        crack_s, drop_s = self.landmarks_s.get("first_crack_start"), self.landmarks_s.get("drop")
        return None if crack_s is None or not drop_s else (drop_s - crack_s) / drop_s

    def corridor_at(self, bean_temp_c: float) -> Corridor | None:
        """The corridor at this bean temperature; None outside what the roasts covered."""
        bean_c = self.corridor_bean_c
        if not bean_c or not bean_c[0] <= bean_temp_c <= bean_c[-1]:
            return None
        columns = (self.corridor_low, self.corridor_middle, self.corridor_high)
        return Corridor(*(float(np.interp(bean_temp_c, bean_c, column)) for column in columns))

    def golden_at(
        self, elapsed_s: float, first_crack_s: float | None = None, first_crack_c: float | None = None
    ) -> float | None:
        """Golden bean temperature at this time since charge; None before it begins and after it ends.

        With ``first_crack_s``, when first crack really came, the development counts from there; its degrees from
        ``first_crack_c``, what the probe read then (None: the golden crack's).
        """
        own_crack_s = self.landmarks_s.get("first_crack_start")
        if first_crack_s is not None and own_crack_s is not None and elapsed_s >= first_crack_s:
            rise_c = _at(elapsed_s - first_crack_s, self.development_s, self.development_rise_c)
            crack_c = self.first_crack_c if first_crack_c is None else first_crack_c
            return None if rise_c is None or crack_c is None else crack_c + rise_c
        return _at(elapsed_s, self.elapsed_s, self.golden_c)

    def band_at(self, elapsed_s: float) -> tuple[float, float] | None:
        """(lowest, highest) bean temperature still on profile at this time since charge."""
        low_c, high_c = _at(elapsed_s, self.elapsed_s, self.low_c), _at(elapsed_s, self.elapsed_s, self.high_c)
        return None if low_c is None or high_c is None else (low_c, high_c)


def _at(where: float, over: tuple[float, ...], values: tuple[float, ...]) -> float | None:
    if not over or not over[0] <= where <= over[-1]:
        return None
    return float(np.interp(where, over, values))


@dataclass(frozen=True, slots=True, eq=False)
class GoodRoast:
    """A roast to make a profile of."""

    roast_id: str
    curve: Curve
    marks: Marks
    summary: CurveSummary | None = None

    def counted(self) -> CurveSummary:
        """With one dry end for all of them, whatever each file was set to."""
        if self.summary is not None:
            return self.summary
        return summarise(self.curve, self.marks, CurveSettings(dry_end_c=DRY_END_C))


def from_roasts(roasts: Sequence[GoodRoast], sensor: Sensor) -> ProfileDocument:
    """The profile of one or more good roasts; the first leads where only one can (the control plan).

    The same curve given twice (a duplicate file) counts once. Raises BadProfile where a roast has no charge-to-drop.
    """
    unique = _unique(roasts)
    summaries = [roast.counted() for roast in unique]
    for roast, summary in zip(unique, summaries, strict=True):
        if not summary.is_dropped or summary.turning_point_s is None:
            raise BadProfile(f"{roast.roast_id}: a golden roast needs a turning point and a drop")
    landmarks_s = _median_landmarks(summaries)
    grid_s = np.arange(0.0, landmarks_s["drop"] + 1e-9, GRID_S)
    pairs = list(zip(unique, summaries, strict=True))
    temps_c = np.array([_laid(roast, summary, landmarks_s, grid_s) for roast, summary in pairs])
    golden_c = _filled(np.nanmedian(temps_c, axis=0))
    low_c, high_c = _band(temps_c, golden_c)
    corridor = _corridor(unique, summaries)
    development_s, rise_c = _development(unique, summaries, landmarks_s)
    crack_s = landmarks_s.get("first_crack_start")
    return ProfileDocument(
        elapsed_s=_rounded(grid_s),
        golden_c=_rounded(golden_c),
        low_c=_rounded(low_c),
        high_c=_rounded(high_c),
        corridor_bean_c=corridor[0],
        corridor_low=corridor[1],
        corridor_middle=corridor[2],
        corridor_high=corridor[3],
        development_s=development_s,
        development_rise_c=rise_c,
        landmarks_s={kind: round(at_s, 2) for kind, at_s in landmarks_s.items()},
        first_crack_c=None if crack_s is None else round(float(np.interp(crack_s, grid_s, golden_c)), 2),
        drop_c=round(float(golden_c[-1]), 2),
        plan=_plan(unique[0].curve, summaries[0]),
        sensor=sensor,
        roast_ids=tuple(roast.roast_id for roast in unique),
    )


def _unique(roasts: Sequence[GoodRoast]) -> list[GoodRoast]:
    if not roasts:
        raise BadProfile("a profile is made of at least one roast")
    seen: set[bytes] = set()
    kept = []
    for roast in roasts:
        key = roast.curve.elapsed_s.tobytes() + roast.curve.bean_temp_c.tobytes()
        if key not in seen:
            kept.append(roast)
        seen.add(key)
    return kept


def _since_charge(summary: CurveSummary) -> dict[str, float]:
    charge = summary.landmark("charge")
    charge_s = charge.elapsed_s if charge is not None else 0.0
    return {landmark.kind: landmark.elapsed_s - charge_s for landmark in summary.landmarks}


def _median_landmarks(summaries: Sequence[CurveSummary]) -> dict[str, float]:
    """Seconds since charge at which each landmark came, the median of the roasts; what one lacks is left out.

    The drop is the median crack plus the median development where all have one: so the two agree.
    """
    each = [_since_charge(summary) for summary in summaries]
    kinds = set.intersection(*(set(found) for found in each)) - {"cool_end"}
    medians = {kind: float(np.median([found[kind] for found in each])) for kind in kinds}
    if "first_crack_start" in medians:
        developed_s = float(np.median([found["drop"] - found["first_crack_start"] for found in each]))
        medians["drop"] = medians["first_crack_start"] + developed_s
    return dict(sorted(medians.items(), key=lambda item: item[1]))


def _laid(roast: GoodRoast, summary: CurveSummary, landmarks_s: Mapping[str, float], grid_s: Column) -> Column:
    """This roast's bean temperature on the grid: by time since charge to the golden crack, from there by its own."""
    charge = summary.landmark("charge")
    charge_s = charge.elapsed_s if charge is not None else 0.0
    at_s = grid_s + charge_s
    crack = summary.landmark("first_crack_start")
    if "first_crack_start" in landmarks_s and crack is not None:
        is_developing = grid_s > landmarks_s["first_crack_start"]
        at_s = np.where(is_developing, grid_s - landmarks_s["first_crack_start"] + crack.elapsed_s, at_s)
    temps_c = temps_at(roast.curve, at_s)
    temps_c[at_s > charge_s + (summary.total_s or 0.0) + GRID_S] = np.nan
    return temps_c


def _filled(column: Column) -> Column:
    """Holes closed by the line between neighbours: a golden curve has none."""
    good = np.isfinite(column)
    if not np.any(good):
        raise BadProfile("these roasts have no bean temperature in common")
    rows = np.arange(len(column))
    return np.interp(rows, rows[good], column[good])


def _band(temps_c: Column, golden_c: Column) -> tuple[Column, Column]:
    """The band on profile: 10th to 90th percentile of enough roasts, and never narrower than BAND_HALF_C each way."""
    low_c, high_c = golden_c - BAND_HALF_C, golden_c + BAND_HALF_C
    if len(temps_c) < CORRIDOR_ROASTS:
        return low_c, high_c
    low_c = np.fmin(low_c, np.nanpercentile(temps_c, LOW_PERCENTILE, axis=0))
    high_c = np.fmax(high_c, np.nanpercentile(temps_c, HIGH_PERCENTILE, axis=0))
    return low_c, high_c


def rates_over_bean(curve: Curve, summary: CurveSummary, bean_c: Column) -> Column:
    """The causal rate a roast had when its beans, between turning point and drop, first passed each temperature.

    NaN where it never came by. (Beans hardly ever cool on the way; where the probe did, its highest so far counts.)
    """
    found = np.full(len(bean_c), np.nan)
    turning, charge = summary.landmark("turning_point"), summary.landmark("charge")
    if turning is None or charge is None:
        return found
    rates = curve_rates.causal_rate(curve.elapsed_s, curve.bean_temp_c, from_s=charge.elapsed_s)
    end_s = charge.elapsed_s + (summary.total_s or 0.0)
    rows = (curve.elapsed_s >= turning.elapsed_s) & (curve.elapsed_s <= end_s)
    rows &= np.isfinite(rates) & np.isfinite(curve.bean_temp_c)
    temps_c, rates = curve.bean_temp_c[rows], rates[rows]
    if len(temps_c) < 2:
        return found
    is_new_high = np.concatenate(([True], temps_c[1:] > np.maximum.accumulate(temps_c)[:-1]))
    return np.interp(bean_c, temps_c[is_new_high], rates[is_new_high], left=np.nan, right=np.nan)


def _corridor(
    roasts: Sequence[GoodRoast], summaries: Sequence[CurveSummary]
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """(bean °C, low, middle, high): 10th, 50th, 90th percentile of the rates, else a width around the middle."""
    bean_c = np.arange(50.0, 260.0, CORRIDOR_STEP_C)
    if len(roasts) < CORRIDOR_ROASTS:
        bean_c = np.union1d(bean_c, [LATE_FROM_C, LATE_FROM_C + 0.01])  # the width steps here, it does not slope
    rates = np.array(
        [rates_over_bean(roast.curve, summary, bean_c) for roast, summary in zip(roasts, summaries, strict=True)]
    )
    counts = np.count_nonzero(np.isfinite(rates), axis=0)
    needed = CORRIDOR_ROASTS if len(roasts) >= CORRIDOR_ROASTS else 1
    rows = counts >= needed
    if not np.any(rows):
        return (), (), (), ()
    bean_c, rates = bean_c[rows], rates[:, rows]
    middle = np.nanmedian(rates, axis=0)
    if needed == CORRIDOR_ROASTS:
        low, high = (np.nanpercentile(rates, percentile, axis=0) for percentile in (LOW_PERCENTILE, HIGH_PERCENTILE))
    else:
        half = np.where(bean_c > LATE_FROM_C, LATE_HALF_WIDTH_C_PER_MIN, HALF_WIDTH_C_PER_MIN)
        low, high = middle - half, middle + half
    return _rounded(bean_c), _rounded(low), _rounded(middle), _rounded(high)


def _development(
    roasts: Sequence[GoodRoast], summaries: Sequence[CurveSummary], landmarks_s: Mapping[str, float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Seconds after first crack and the median rise since it, up to the golden drop."""
    if "first_crack_start" not in landmarks_s:
        return (), ()
    grid_s = np.arange(0.0, landmarks_s["drop"] - landmarks_s["first_crack_start"] + 1e-9, GRID_S)
    rises = []
    for roast, summary in zip(roasts, summaries, strict=True):
        crack = summary.landmark("first_crack_start")
        charge = summary.landmark("charge")
        if crack is None or charge is None:
            continue
        temps_c = temps_at(roast.curve, crack.elapsed_s + grid_s)
        temps_c[crack.elapsed_s + grid_s > charge.elapsed_s + (summary.total_s or 0.0) + GRID_S] = np.nan
        rises.append(temps_c - temps_c[0])
    return _rounded(grid_s), _rounded(_filled(np.nanmedian(np.array(rises), axis=0)))


def _plan(curve: Curve, summary: CurveSummary) -> tuple[PlannedSetting, ...]:
    """What the leading roast's controls stood at when charged, and every move up to the drop."""
    charge = summary.landmark("charge")
    charge_s = charge.elapsed_s if charge is not None else 0.0
    end_s = charge_s + (summary.total_s or 0.0)
    columns = {"heater": curve.heater_step, "fan": curve.fan_step, "drum": curve.drum_step}
    moves: list[PlannedSetting] = []
    for control, column in columns.items():
        if column is None:
            continue
        start = column[row_at(curve, charge_s)]
        if math.isfinite(start):
            moves.append(PlannedSetting(0.0, control, round(float(start))))
        for moved_s in curve_rates.changes_s(curve.elapsed_s, column):
            if charge_s < moved_s < end_s:
                step = round(float(column[row_at(curve, float(moved_s))]))
                moves.append(PlannedSetting(round(float(moved_s) - charge_s, 2), control, step))
    moves.sort(key=lambda move: (move.elapsed_s, CONTROLS.index(move.control)))
    return tuple(moves[:MAX_PLAN])


def _rounded(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(round(float(value), 2) for value in values)


#: Column name → bounds of its values, and the length group it belongs to.
_COLUMNS = {
    "elapsed_s": (0.0, MAX_ELAPSED_S, "time"),
    "golden_c": (-50.0, MAX_TEMP_C, "time"),
    "low_c": (-50.0, MAX_TEMP_C, "time"),
    "high_c": (-50.0, MAX_TEMP_C, "time"),
    "corridor_bean_c": (-50.0, MAX_TEMP_C, "corridor"),
    "corridor_low": (-1000.0, 1000.0, "corridor"),
    "corridor_middle": (-1000.0, 1000.0, "corridor"),
    "corridor_high": (-1000.0, 1000.0, "corridor"),
    "development_s": (0.0, MAX_ELAPSED_S, "development"),
    "development_rise_c": (-MAX_TEMP_C, MAX_TEMP_C, "development"),
}
_RISING = ("elapsed_s", "corridor_bean_c", "development_s")
_OTHERS = ("schema", "landmarks_s", "first_crack_c", "drop_c", "plan", "sensor", "roast_ids")


def to_json(document: ProfileDocument) -> dict[str, Any]:
    """The document as plain JSON values, as :func:`from_json` reads them."""
    return {
        "schema": SCHEMA,
        **{name: list(getattr(document, name)) for name in _COLUMNS},
        "landmarks_s": dict(document.landmarks_s),
        "first_crack_c": document.first_crack_c,
        "drop_c": document.drop_c,
        "plan": [{"elapsed_s": p.elapsed_s, "control": p.control, "step": p.step} for p in document.plan],
        "sensor": {"machine": document.sensor.machine, "probe": document.sensor.probe, "era": document.sensor.era},
        "roast_ids": list(document.roast_ids),
    }


def from_json(raw: object) -> ProfileDocument:
    """Read a document somebody sent. Raises BadProfile, naming the field, for anything that is not one."""
    values = _object(raw, "profile", {*_COLUMNS, *_OTHERS})
    if values.get("schema") != SCHEMA:
        raise BadProfile(f"schema: this reads {SCHEMA!r} only")
    columns = {name: _column(values.get(name), name, low, high) for name, (low, high, _) in _COLUMNS.items()}
    for name in _RISING:
        if any(later <= earlier for earlier, later in zip(columns[name], columns[name][1:], strict=False)):
            raise BadProfile(f"{name}: must rise")
    for group in ("time", "corridor", "development"):
        names = [name for name, (_, _, of_group) in _COLUMNS.items() if of_group == group]
        if len({len(columns[name]) for name in names}) > 1:
            raise BadProfile(f"{', '.join(names)}: must be equally long")
    if len(columns["elapsed_s"]) < 2:
        raise BadProfile("elapsed_s: a golden curve has at least two points")
    _ordered(columns, "low_c", "golden_c", "high_c")
    _ordered(columns, "corridor_low", "corridor_middle", "corridor_high")
    sensor = _object(values.get("sensor"), "sensor", {"machine", "probe", "era"})
    return ProfileDocument(
        **columns,
        landmarks_s=_landmarks(values.get("landmarks_s")),
        first_crack_c=_optional(values.get("first_crack_c"), "first_crack_c"),
        drop_c=_optional(values.get("drop_c"), "drop_c"),
        plan=_plan_from(values.get("plan")),
        sensor=Sensor(*(_text(sensor.get(name, ""), f"sensor.{name}") for name in ("machine", "probe", "era"))),
        roast_ids=tuple(_text(roast_id, "roast_ids") for roast_id in _list(values.get("roast_ids"), "roast_ids")),
    )


def _object(raw: object, name: str, known: set[str]) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise BadProfile(f"{name}: must be an object")
    unknown = [str(key) for key in raw if key not in known]
    if unknown:
        raise BadProfile(f"{name}: unknown field {unknown[0][:40]!r}")
    return raw


def _list(raw: object, name: str) -> list[Any]:
    if not isinstance(raw, list) or len(raw) > MAX_POINTS:
        raise BadProfile(f"{name}: must be a list of at most {MAX_POINTS}")
    return raw


def _text(raw: object, name: str) -> str:
    if not isinstance(raw, str) or len(raw) > 200:
        raise BadProfile(f"{name}: must be words of at most 200 characters")
    return raw


def _value(raw: object, name: str, low: float, high: float) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not low <= raw <= high:
        raise BadProfile(f"{name}: must be a number from {low:g} to {high:g}")
    return float(raw)


def _optional(raw: object, name: str) -> float | None:
    return None if raw is None else _value(raw, name, -50.0, MAX_TEMP_C)


def _column(raw: object, name: str, low: float, high: float) -> tuple[float, ...]:
    return tuple(_value(value, name, low, high) for value in _list(raw, name))


def _ordered(columns: Mapping[str, tuple[float, ...]], *names: str) -> None:
    for row in zip(*(columns[name] for name in names), strict=True):
        if any(lower > higher for lower, higher in zip(row, row[1:], strict=False)):
            raise BadProfile(f"{', '.join(names)}: each must not exceed the next")


def _landmarks(raw: object) -> dict[str, float]:
    kinds = {"charge", "turning_point", "dry_end", "first_crack_start", "first_crack_end", "second_crack_start", "drop"}
    values = _object(raw, "landmarks_s", kinds)
    return {kind: _value(at_s, f"landmarks_s.{kind}", 0.0, MAX_ELAPSED_S) for kind, at_s in values.items()}


def _plan_from(raw: object) -> tuple[PlannedSetting, ...]:
    rows = _list(raw, "plan")
    if len(rows) > MAX_PLAN:
        raise BadProfile(f"plan: at most {MAX_PLAN} moves")
    return tuple(_setting(row) for row in rows)


def _setting(raw: object) -> PlannedSetting:
    row = _object(raw, "plan", {"elapsed_s", "control", "step"})
    if row.get("control") not in CONTROLS:
        raise BadProfile(f"plan: control must be one of {', '.join(CONTROLS)}")
    step = row.get("step")
    if isinstance(step, bool) or not isinstance(step, int) or not 0 <= step <= 100:
        raise BadProfile("plan: step must be a whole number from 0 to 100")
    return PlannedSetting(_value(row.get("elapsed_s"), "plan.elapsed_s", 0.0, MAX_ELAPSED_S), row["control"], step)
