"""A roast as columns, and everything that is counted from it. Pure numpy: values in, values out.

Times are seconds since charge, temperatures °C, rates °C/min, controls native steps. A value that is
missing is NaN, a channel that the source does not have is None.

Formulas are Artisan's where it has one (reference "Bullet and alog" §4.3), so that its own summary of a
log and ours are the same numbers; the rest is named in spec/roasts.md "Curve".
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from roasts import curve_rates
from roasts.curve_rates import Crash, Flick

Column = NDArray[np.float64]

#: Drying ends here where nobody marked it and the source does not say (Artisan's default, reference §4.2).
DRY_END_C = 150.0
AUC_BASE_C = 100.0
#: `CurveSummary.auc_from` of an area that begins where the source's own does (`Curve.area_from_s`).
AUC_FROM_SOURCE = "where_the_source_began"
#: Beans below this are a sensor that answers nothing (Artisan writes -1): "lowest positive BT".
LOWEST_BELIEVED_C = 0.0
#: While it roasts, the lowest reading so far is the turning point once the beans rose by this.
TURNED_BY_C = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One roast; row i of every column is the same moment. ``elapsed_s`` rises strictly and is negative before charge.

    ``bean_temp_c`` is the probe in the beans (BT). ``infrared_temp_c`` is a Bullet's eye;
    ``environment_temp_c`` the ET of machines that have one. All columns have the shape of ``elapsed_s``.
    ``dry_end_c`` is where the source itself lets drying end (an `.alog`'s ``phases[1]``); None: it does not say.
    ``area_from_s`` is where the source's own area (AUC) begins if not where the beans turned; None: there.
    """

    elapsed_s: Column
    bean_temp_c: Column
    infrared_temp_c: Column | None = None
    environment_temp_c: Column | None = None
    exhaust_temp_c: Column | None = None
    ambient_temp_c: Column | None = None
    heater_step: Column | None = None
    fan_step: Column | None = None
    drum_step: Column | None = None
    fan_rpm: Column | None = None
    voltage_v: Column | None = None
    state: tuple[str, ...] | None = None  # drivers.port.MachineState values
    dry_end_c: float | None = None
    area_from_s: float | None = None

    def __len__(self) -> int:
        return len(self.elapsed_s)


@dataclass(frozen=True, slots=True)
class Mark:
    """One event of a roast. ``kind`` and ``source`` are values of roasts.models.EventKind and EventSource."""

    kind: str
    elapsed_s: float
    source: str = "person"
    confidence: float = 1.0
    text: str = ""


Marks = tuple[Mark, ...]


def winner_of(marks: Marks, kind: str) -> Mark | None:
    """The mark of this kind that wins: a person's, else the machine's, else the inferred one."""
    rank = {"person": 0, "device": 1, "inferred": 2}
    of_kind = [mark for mark in marks if mark.kind == kind]
    if not of_kind:
        return None
    return min(of_kind, key=lambda mark: (rank.get(mark.source, 3), mark.elapsed_s))


def first_of(marks: Marks, kind: str) -> float | None:
    """Elapsed seconds of the mark of this kind that wins: a person's, else the machine's, else the inferred one."""
    mark = winner_of(marks, kind)
    return None if mark is None else mark.elapsed_s


@dataclass(frozen=True, slots=True)
class HeaterModel:
    """Electric power drawn at a heater step: ``rated_w * step / full_scale_step * (volts / nominal_v)**2``.

    An assumption, not a measurement: no Bullet reports its power. Without a voltage column volts count as nominal.
    """

    rated_w: float
    full_scale_step: float
    nominal_v: float

    @property
    def assumption(self) -> str:
        return (
            f"assumed: {self.rated_w:.0f} W at step {self.full_scale_step:.0f} and {self.nominal_v:.0f} V, "
            "in proportion to the step and to the square of the voltage"
        )


#: The maker's 1.55 kW at 230 V, power steps 0 to 9 (`loadratings` of real logs says 1.55 kW too).
BULLET_R1_HEATER = HeaterModel(rated_w=1550.0, full_scale_step=9.0, nominal_v=230.0)
BULLET_R2_HEATER = HeaterModel(rated_w=1550.0, full_scale_step=14.0, nominal_v=230.0)


@dataclass(frozen=True, slots=True)
class CurveSettings:
    """What a person may choose: where drying ends, from which temperature and event the area counts, the heater."""

    dry_end_c: float | None = None  # None: what the curve's source says, else DRY_END_C
    auc_base_c: float = AUC_BASE_C
    auc_from: str | None = None  # charge | turning_point | dry_end | first_crack_start; None: as source, else turning
    heater: HeaterModel | None = None


@dataclass(frozen=True, slots=True)
class Weights:
    """Grams of green beans in and roasted beans out."""

    in_g: float | None = None
    out_g: float | None = None

    @property
    def loss_percent(self) -> float | None:
        """100 (in - out) / in, as Artisan's ``weight_loss``."""
        if not self.in_g or self.out_g is None or self.out_g <= 0:
            return None
        return 100 * (self.in_g - self.out_g) / self.in_g


@dataclass(frozen=True, slots=True)
class Landmark:
    """A moment the roast is counted by. ``source`` is a mark's source, or "curve" where the curve itself says it.

    ``difference_c`` is infrared (else environment) minus bean temperature there.
    """

    kind: str
    elapsed_s: float
    source: str
    bean_temp_c: float | None = None
    difference_c: float | None = None
    rate_c_per_min: float | None = None  # the causal one


@dataclass(frozen=True, slots=True)
class Phase:
    """drying, maillard or development. ``percent`` is of charge to drop (to the last reading, while it roasts).

    ``rate_c_per_min`` is end to end (drying: from the turning point); ``slope_c_per_min2`` how the causal rate changes.
    """

    name: str
    from_s: float
    to_s: float
    percent: float
    bean_rise_c: float | None
    rate_c_per_min: float | None
    slope_c_per_min2: float | None
    mean_difference_c: float | None
    auc_c_min: float

    @property
    def duration_s(self) -> float:
        return self.to_s - self.from_s


@dataclass(frozen=True, slots=True)
class Energy:
    """Electric energy of the heater from charge to drop, and the model it rests on."""

    energy_kj: float
    assumption: str


@dataclass(frozen=True, slots=True)
class CurveSummary:
    """Everything counted from one roast. Missing marks leave their numbers None; ``remarks`` says what was left out."""

    landmarks: tuple[Landmark, ...]
    phases: tuple[Phase, ...]
    is_dropped: bool
    total_s: float | None  # charge to drop, or to the last reading
    development_ratio: float | None  # DTR, 0..1; only with first crack and drop
    auc_c_min: float | None
    auc_base_c: float
    auc_from: str
    total_rate_c_per_min: float | None  # turning point to drop
    highest_environment_c: float | None  # MET: turning point to drop, infrared where there is no ET
    crashes: tuple[Crash, ...]
    flicks: tuple[Flick, ...]
    energy: Energy | None
    weight_loss_percent: float | None
    dry_end_c: float
    remarks: tuple[str, ...] = ()

    def landmark(self, kind: str) -> Landmark | None:
        """The landmark of this kind, if the roast has one."""
        return next((found for found in self.landmarks if found.kind == kind), None)

    def phase(self, name: str) -> Phase | None:
        """drying, maillard or development, if the roast came that far."""
        return next((found for found in self.phases if found.name == name), None)

    @property
    def turning_point_s(self) -> float | None:
        """Seconds from charge to the turning point (Artisan's TP_time)."""
        return self._since_charge("turning_point")

    @property
    def first_crack_s(self) -> float | None:
        """Seconds from charge to the start of first crack."""
        return self._since_charge("first_crack_start")

    @property
    def dry_phase_s(self) -> float | None:
        """Seconds from charge to dry end (Artisan's dryphasetime)."""
        drying = self.phase("drying")
        return None if drying is None or self.landmark("dry_end") is None else drying.duration_s

    def _since_charge(self, kind: str) -> float | None:
        found, charge = self.landmark(kind), self.landmark("charge")
        return None if found is None or charge is None else found.elapsed_s - charge.elapsed_s


def row_at(curve: Curve, elapsed_s: float) -> int:
    """The row nearest to this moment; the curve must have one."""
    after = min(int(np.searchsorted(curve.elapsed_s, elapsed_s)), len(curve) - 1)
    before = max(after - 1, 0)
    is_before_nearer = elapsed_s - curve.elapsed_s[before] <= curve.elapsed_s[after] - elapsed_s
    return before if is_before_nearer else after


def turning_row(curve: Curve, from_row: int, to_row: int) -> int | None:
    """Row of the lowest positive bean temperature in [from_row, to_row); of equal ones the latest (reference §4.3)."""
    temps_c = curve.bean_temp_c[from_row:to_row]
    rows = np.flatnonzero(temps_c > LOWEST_BELIEVED_C)
    if not len(rows):
        return None
    return from_row + int(rows[temps_c[rows] == np.min(temps_c[rows])][-1])


def dry_end_row(curve: Curve, from_row: int, to_row: int, dry_end_c: float) -> int | None:
    """Row of turning point .. first crack (inclusive) whose bean temperature is nearest to ``dry_end_c``."""
    distance_c = np.abs(curve.bean_temp_c[from_row : to_row + 1] - dry_end_c)
    if not np.any(np.isfinite(distance_c)):
        return None
    return from_row + int(np.nanargmin(distance_c))


def difference_column(curve: Curve) -> Column | None:
    """ET - BT; on a Bullet, which has no ET probe, infrared - BT. None where the machine has neither."""
    other = curve.environment_temp_c if curve.environment_temp_c is not None else curve.infrared_temp_c
    return None if other is None else other - curve.bean_temp_c


def area_c_min(curve: Curve, from_s: float, to_s: float, base_c: float = AUC_BASE_C) -> float:
    """AUC: sum of max(0, mean(BT[i], BT[i-1]) - base) * dt / 60, i from ``from_s``'s row to before ``to_s``'s.

    °C·min. Rows without a temperature are stepped over. (Reference §4.3; Artisan rounds to whole numbers.)
    """
    if len(curve) < 2:
        return 0.0
    first, last = max(row_at(curve, from_s) - 1, 0), row_at(curve, to_s)
    temps_c, times_s = curve.bean_temp_c[first:last], curve.elapsed_s[first:last]
    good = np.isfinite(temps_c) & (temps_c > LOWEST_BELIEVED_C)
    temps_c, times_s = temps_c[good], times_s[good]
    above_c = np.maximum(0.0, (temps_c[1:] + temps_c[:-1]) / 2 - base_c)
    return float(np.sum(above_c * np.diff(times_s)) / 60)


def energy_of(curve: Curve, model: HeaterModel | None, from_s: float, to_s: float) -> Energy | None:
    """What the heater drew from ``from_s`` to ``to_s``; each step holds until the next row. None where not known."""
    if model is None or curve.heater_step is None:
        return None
    rows = np.flatnonzero((curve.elapsed_s >= from_s) & (curve.elapsed_s <= to_s) & np.isfinite(curve.heater_step))
    if len(rows) < 2:
        return None
    power_w = model.rated_w * curve.heater_step[rows] / model.full_scale_step
    if curve.voltage_v is not None:
        volts = np.where(np.isfinite(curve.voltage_v[rows]), curve.voltage_v[rows], model.nominal_v)
        power_w = power_w * (volts / model.nominal_v) ** 2
    joules = float(np.sum(power_w[:-1] * np.diff(curve.elapsed_s[rows])))
    return Energy(joules / 1000, model.assumption)


@dataclass(frozen=True, slots=True)
class _Moments:
    """When things happened, in seconds of the curve; ``end_s`` is the drop or the last reading."""

    charge_s: float
    end_s: float
    is_dropped: bool
    crack: Mark | None = None
    turning: Landmark | None = None
    dry_end: Landmark | None = None
    remarks: tuple[str, ...] = ()


def summarise(
    curve: Curve, marks: Marks = (), settings: CurveSettings | None = None, weights: Weights | None = None
) -> CurveSummary:
    """Count everything that can be counted from a roast, finished or still roasting. Raises nothing.

    ``marks`` in any order; of several of a kind a person's wins. A turning point or dry end that was only
    inferred live gives way to the definition: after the fact the curve knows better.
    """
    settings = settings or CurveSettings()
    dry_end_c = settings.dry_end_c or curve.dry_end_c or DRY_END_C
    if not len(curve) or not np.any(np.isfinite(curve.bean_temp_c)):
        return _empty(settings, dry_end_c, weights)
    moments = _moments(curve, tuple(marks), dry_end_c)
    rates = curve_rates.causal_rate(curve.elapsed_s, curve.bean_temp_c, from_s=moments.charge_s)
    landmarks = _landmarks(curve, tuple(marks), moments, rates)
    phases = tuple(_phase(curve, rates, moments, settings, *span) for span in _spans(moments))
    development = next((phase for phase in phases if phase.name == "development"), None)
    crashes, flicks = _crashes(curve, moments)
    total_s = moments.end_s - moments.charge_s
    is_settled = development is not None and moments.is_dropped and total_s > 0
    return CurveSummary(
        landmarks=landmarks,
        phases=phases,
        is_dropped=moments.is_dropped,
        total_s=total_s,
        development_ratio=development.duration_s / total_s if development is not None and is_settled else None,
        auc_c_min=_area(curve, moments, settings),
        auc_base_c=settings.auc_base_c,
        auc_from=_area_begin(curve, settings),
        total_rate_c_per_min=_end_to_end(curve, moments.turning.elapsed_s, moments.end_s) if moments.turning else None,
        highest_environment_c=_highest_environment(curve, moments),
        crashes=crashes,
        flicks=flicks,
        energy=energy_of(curve, settings.heater, moments.charge_s, moments.end_s),
        weight_loss_percent=weights.loss_percent if weights else None,
        dry_end_c=dry_end_c,
        remarks=moments.remarks,
    )


def _empty(settings: CurveSettings, dry_end_c: float, weights: Weights | None) -> CurveSummary:
    return CurveSummary(
        landmarks=(),
        phases=(),
        is_dropped=False,
        total_s=None,
        development_ratio=None,
        auc_c_min=None,
        auc_base_c=settings.auc_base_c,
        auc_from=settings.auc_from or "turning_point",
        total_rate_c_per_min=None,
        highest_environment_c=None,
        crashes=(),
        flicks=(),
        energy=None,
        weight_loss_percent=weights.loss_percent if weights else None,
        dry_end_c=dry_end_c,
        remarks=("no bean temperature",),
    )


def _moments(curve: Curve, marks: Marks, dry_end_c: float) -> _Moments:
    """Put the marks in order; one that cannot be (a crack after the drop) is left out, and said."""
    remarks: list[str] = []
    charge_s = first_of(marks, "charge") or 0.0
    drop_s = first_of(marks, "drop")
    if drop_s is not None and drop_s <= charge_s:
        remarks.append("the drop is marked before the charge and left out")
        drop_s = None
    end_s = drop_s if drop_s is not None else max(float(curve.elapsed_s[-1]), charge_s)
    crack = winner_of(marks, "first_crack_start")
    if crack is not None and not charge_s < crack.elapsed_s <= end_s:
        remarks.append("first crack is marked outside the roast and left out")
        crack = None
    moments = _Moments(charge_s, end_s, drop_s is not None, crack)
    moments = replace(moments, turning=_turning(curve, marks, moments))
    moments = replace(moments, dry_end=_dry_end(curve, marks, moments, dry_end_c))
    if moments.dry_end is not None and moments.turning is not None and moments.dry_end.source == "curve":
        if dry_end_c < curve.bean_temp_c[row_at(curve, moments.turning.elapsed_s)]:
            remarks.append(f"drying is set to end at {dry_end_c:g} °C, colder than the beans ever were")
    return replace(moments, remarks=tuple(remarks))


def _stated(marks: Marks, kind: str, from_s: float, to_s: float) -> Landmark | None:
    """A person's or the machine's mark inside the span."""
    mark = winner_of(marks, kind)
    if mark is None or mark.source == "inferred" or not from_s <= mark.elapsed_s <= to_s:
        return None
    return Landmark(kind, mark.elapsed_s, mark.source)


def _found(kind: str, curve: Curve, row: int, from_s: float, to_s: float) -> Landmark:
    """What the curve itself says; the row nearest to a mark may lie a moment outside the span, the landmark not."""
    return Landmark(kind, min(max(float(curve.elapsed_s[row]), from_s), to_s), "curve")


def _turning(curve: Curve, marks: Marks, moments: _Moments) -> Landmark | None:
    to_s = moments.crack.elapsed_s if moments.crack else moments.end_s
    stated = _stated(marks, "turning_point", moments.charge_s, to_s)
    if stated is not None:
        return stated
    last_row = row_at(curve, to_s)
    row = turning_row(curve, row_at(curve, moments.charge_s), last_row + 1)
    if row is None:
        return None
    later_c = curve.bean_temp_c[row : last_row + 1]
    has_turned = moments.is_dropped or moments.crack is not None or np.nanmax(later_c) >= later_c[0] + TURNED_BY_C
    return _found("turning_point", curve, row, moments.charge_s, to_s) if has_turned else None


def _dry_end(curve: Curve, marks: Marks, moments: _Moments, dry_end_c: float) -> Landmark | None:
    """Marked, or the row nearest to the temperature; a roast that is still colder has not come to it."""
    to_s = moments.crack.elapsed_s if moments.crack else moments.end_s
    stated = _stated(marks, "dry_end", moments.charge_s, to_s)
    if stated is not None or moments.turning is None:
        return stated
    from_row, to_row = row_at(curve, moments.turning.elapsed_s), row_at(curve, to_s)
    row = dry_end_row(curve, from_row, to_row, dry_end_c)
    is_reached = moments.crack is not None or bool(np.any(curve.bean_temp_c[from_row : to_row + 1] >= dry_end_c))
    if row is None or not is_reached:
        return None
    return _found("dry_end", curve, row, moments.turning.elapsed_s, to_s)


def _landmarks(curve: Curve, marks: Marks, moments: _Moments, rates: Column) -> tuple[Landmark, ...]:
    """All of them in order of time, each with what was read there."""
    charge = winner_of(marks, "charge")
    found = [Landmark("charge", moments.charge_s, charge.source if charge else "curve")]
    found += [landmark for landmark in (moments.turning, moments.dry_end) if landmark is not None]
    if moments.crack is not None:
        found.append(Landmark("first_crack_start", moments.crack.elapsed_s, moments.crack.source))
    for kind in ("first_crack_end", "second_crack_start", "drop", "cool_end"):
        mark = winner_of(marks, kind)
        if mark is not None and mark.elapsed_s >= moments.charge_s and (kind != "drop" or moments.is_dropped):
            found.append(Landmark(kind, mark.elapsed_s, mark.source))
    difference_c = difference_column(curve)
    read = [_read(landmark, curve, difference_c, rates) for landmark in found]
    return tuple(sorted(read, key=lambda landmark: landmark.elapsed_s))


def _read(landmark: Landmark, curve: Curve, difference_c: Column | None, rates: Column) -> Landmark:
    row = row_at(curve, landmark.elapsed_s)
    return replace(
        landmark,
        bean_temp_c=_number(curve.bean_temp_c[row]),
        difference_c=None if difference_c is None else _number(difference_c[row]),
        rate_c_per_min=_number(rates[row]),
    )


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _spans(moments: _Moments) -> list[tuple[str, float, float]]:
    """(name, from, to) of each phase reached; the last one ends with the roast."""
    names = ["drying"]
    edges = [moments.charge_s]
    if moments.dry_end is not None:
        names.append("maillard")
        edges.append(moments.dry_end.elapsed_s)
    if moments.crack is not None:
        names.append("development")
        edges.append(moments.crack.elapsed_s)
    edges.append(moments.end_s)
    return list(zip(names, edges[:-1], edges[1:], strict=True))


def _phase(
    curve: Curve, rates: Column, moments: _Moments, settings: CurveSettings, name: str, from_s: float, to_s: float
) -> Phase:
    """One phase counted. Its area counts from the turning point, as the whole roast's does."""
    total_s = moments.end_s - moments.charge_s
    turning_s = moments.turning.elapsed_s if moments.turning else from_s
    rise_from_s = max(from_s, turning_s)
    rows = (curve.elapsed_s >= from_s) & (curve.elapsed_s <= to_s)
    difference_c = difference_column(curve)
    known_c = difference_c[rows & np.isfinite(difference_c)] if difference_c is not None else np.empty(0)
    return Phase(
        name=name,
        from_s=from_s,
        to_s=to_s,
        percent=100 * (to_s - from_s) / total_s if total_s > 0 else 0.0,
        bean_rise_c=_rise_c(curve, rise_from_s, to_s),
        rate_c_per_min=_end_to_end(curve, rise_from_s, to_s),
        slope_c_per_min2=curve_rates.slope_c_per_min2(curve.elapsed_s[rows], rates[rows]),
        mean_difference_c=float(np.mean(known_c)) if len(known_c) else None,
        auc_c_min=area_c_min(curve, rise_from_s, to_s, settings.auc_base_c) if to_s > rise_from_s else 0.0,
    )


def _rise_c(curve: Curve, from_s: float, to_s: float) -> float | None:
    if to_s <= from_s:
        return None
    return _number(curve.bean_temp_c[row_at(curve, to_s)] - curve.bean_temp_c[row_at(curve, from_s)])


def _end_to_end(curve: Curve, from_s: float, to_s: float) -> float | None:
    """(BT at the end - BT at the start) / time, °C/min."""
    rise_c = _rise_c(curve, from_s, to_s)
    return None if rise_c is None else 60 * rise_c / (to_s - from_s)


def _area_begin(curve: Curve, settings: CurveSettings) -> str:
    """Where the area counts from: what a person chose, else what the curve's source did, else the turning point."""
    return settings.auc_from or ("turning_point" if curve.area_from_s is None else AUC_FROM_SOURCE)


def _area(curve: Curve, moments: _Moments, settings: CurveSettings) -> float | None:
    """The roast's AUC from the chosen event; None where it has no such event."""
    starts = {
        AUC_FROM_SOURCE: curve.area_from_s,
        "charge": moments.charge_s,
        "turning_point": moments.turning.elapsed_s if moments.turning else None,
        "dry_end": moments.dry_end.elapsed_s if moments.dry_end else None,
        "first_crack_start": moments.crack.elapsed_s if moments.crack else None,
    }
    from_s = starts.get(_area_begin(curve, settings))
    return None if from_s is None else area_c_min(curve, from_s, moments.end_s, settings.auc_base_c)


def _highest_environment(curve: Curve, moments: _Moments) -> float | None:
    """MET (reference §4.3): the highest ET, on a Bullet infrared, from turning point to drop."""
    column = curve.environment_temp_c if curve.environment_temp_c is not None else curve.infrared_temp_c
    if column is None or moments.turning is None:
        return None
    rows = (curve.elapsed_s >= moments.turning.elapsed_s) & (curve.elapsed_s <= moments.end_s) & np.isfinite(column)
    return float(np.max(column[rows])) if np.any(rows) else None


def _crashes(curve: Curve, moments: _Moments) -> tuple[tuple[Crash, ...], tuple[Flick, ...]]:
    if moments.crack is None:
        return (), ()
    moved_s = curve_rates.changes_s(curve.elapsed_s, curve.heater_step, curve.fan_step, curve.drum_step)
    return curve_rates.find_crashes(
        curve.elapsed_s, curve.bean_temp_c, moved_s, crack_s=moments.crack.elapsed_s, end_s=moments.end_s
    )
