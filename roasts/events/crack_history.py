"""Earlier first cracks of a machine, and what they say of the next one. Pure.

What people marked is of two kinds: a crack that was heard, and a *habit* (the mark sits on the first crossing
of a round temperature: a rule, not an ear). Both are learnt from the marks themselves. A probe drifts, so the
newest roasts weigh most; another bean cracks elsewhere, so roasts of this bean weigh more and longer.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from roasts.curve import Curve
from roasts.events.crack_shape import POINT_MS, Point, bends_at, mean_infrared_c

#: After so many roasts a mark weighs half: the era of the probe.
HALF_LIFE_ROASTS = 6.0
#: The same for what a person does around a crack, which lasts longer than a probe's drift.
HABIT_HALF_LIFE_ROASTS = 12.0
#: A roast of the same bean weighs this much more, and keeps it longer.
SAME_BEAN_WEIGHT = 3.0
SAME_BEAN_HALF_LIFE_ROASTS = 12.0
#: What a log's name holds beside the bean: date and time before it, a number after it.
_NOT_A_BEAN = re.compile(r"^[\d-]+_(\d{4}_)?|(_\d)?_no\d+$")
#: A mark on a round temperature says little of the bean.
HABIT_WEIGHT = 0.25
#: No history: where a drum roaster's probe and a Bullet's infrared eye read at first crack, and how surely.
UNKNOWN_BEAN_C, UNKNOWN_BEAN_SD_C = 192.0, 5.0
UNKNOWN_INFRARED_C, UNKNOWN_INFRARED_SD_C = 203.0, 4.0
UNKNOWN_WEIGHT = 0.3
#: Spread from roast to roast that a short history cannot prove away, and how many roasts it counts for.
BEAN_SD_C, BLEND_SD_C, SD_WEIGHT = 4.0, 2.6, 6.0
#: Of the blend of probe and infrared, the probe's part.
BEAN_SHARE = 0.4
ROUND_C = 5.0
ON_ROUND_C = 0.25
#: So many marks of a hundred sit on a multiple of 5 °C by chance.
ROUND_BY_CHANCE = 2 * ON_ROUND_C / ROUND_C
MAX_HISTORY = 60
#: What people did is kept of so many roasts, where it came within this of the crack (seconds).
MOST_CUTS, MOST_S = 30, 200.0
#: A heater that is regulated in small steps is not turned down by hand at each of them.
SMALLEST_CUT_SHARE = 0.08


@dataclass(frozen=True, slots=True)
class EarlierCrack:
    """One first crack that was marked. Temperatures °C at the mark, times in seconds.

    ``heat_cut_after_s``/``heat_cut_before_s``: to the next heater step down, and since the last one; None where
    there was none or the heater is not known. Bends: see ``roasts.events.crack_shape``.
    """

    at_c: float
    elapsed_s: float
    at: dt.datetime
    rate_of_rise_c_per_min: float | None = None
    infrared_c: float | None = None
    bean: str = ""
    marked_by: str = ""
    heat_cut_after_s: float | None = None
    heat_cut_before_s: float | None = None
    development_s: float | None = None  # to the drop
    bean_bend: float | None = None
    infrared_bend: float | None = None


History = Sequence[EarlierCrack]


@dataclass(frozen=True, slots=True)
class CrackTemperature:
    """Where the probe will read when first crack is marked: ``mean_c`` ± ``sd_c`` over both kinds of mark.

    ``heard_c`` ± ``heard_sd_c``: a crack that is heard; ``habit_c`` with probability ``habit_share``: the round
    temperature people mark at (None: no such habit). ``roasts``: how many earlier ones it rests on.
    """

    mean_c: float
    sd_c: float
    heard_c: float
    heard_sd_c: float
    habit_c: float | None
    habit_share: float
    roasts: int


@dataclass(frozen=True, slots=True)
class Bend:
    """How the rate's bend at a crack is spread: mean and standard deviation of the log ratio."""

    mean: float
    sd: float


@dataclass(frozen=True, slots=True)
class CrackPrior:
    """All that inference needs of the history of one machine and bean; small, and JSON by ``prior_to_json``.

    ``cuts_after``/``cuts_before``: (seconds, weight) of heater steps down around earlier cracks.
    """

    temperature: CrackTemperature
    blend_c: float
    blend_sd_c: float
    bean_bend: Bend
    infrared_bend: Bend
    cuts_after: tuple[tuple[float, float], ...] = ()
    cuts_before: tuple[tuple[float, float], ...] = ()
    developments: tuple[tuple[float, float], ...] = ()


def bean_key(name: str) -> str:
    """A bean's name without what varies between two roasts of it: case, spaces, a number at the end."""
    return "".join(part for part in name.lower().replace("_", " ").split() if not part.isdigit()).rstrip("0123456789-")


def bean_in_file_name(stem: str) -> str:
    """The bean as people put it into a log's name: without date, time and number (``26-03-08_gotiti_no24``: gotiti)."""
    return _NOT_A_BEAN.sub("", stem)


def crack_temperature(history: History, bean: str = "") -> CrackTemperature:
    """The predictive distribution of the probe's temperature at first crack. ``history``: oldest first."""
    rows = list(history)[-MAX_HISTORY:]
    weights, habit_c, share = _weights(rows, bean)
    heard = [w * (HABIT_WEIGHT if _is_on(row.at_c, habit_c) else 1.0) for row, w in zip(rows, weights, strict=True)]
    heard_c, heard_sd_c = _shrunk(
        [row.at_c for row in rows], heard, UNKNOWN_BEAN_C, UNKNOWN_BEAN_SD_C, BEAN_SD_C
    )
    mean_c = heard_c if habit_c is None else (1 - share) * heard_c + share * habit_c
    apart_c = 0.0 if habit_c is None else habit_c - heard_c
    variance = (1 - share) * heard_sd_c**2 + share * (1 - share) * apart_c**2
    return CrackTemperature(mean_c, math.sqrt(variance), heard_c, heard_sd_c, habit_c, share, len(rows))


def prior_of(history: History, bean: str = "") -> CrackPrior:
    """What to expect of the next roast. ``history``: oldest first, of this machine, earlier roasts only."""
    rows = list(history)[-MAX_HISTORY:]
    temperature = crack_temperature(rows, bean)
    weights, habit_c, _ = _weights(rows, bean)
    blends, heard = [], []
    for row, weight in zip(rows, weights, strict=True):
        if row.infrared_c is not None:
            blends.append(blend_c(row.at_c, row.infrared_c))
            heard.append(weight * (HABIT_WEIGHT if _is_on(row.at_c, habit_c) else 1.0))
    unknown_c = blend_c(UNKNOWN_BEAN_C, UNKNOWN_INFRARED_C)
    blend, blend_sd = _shrunk(blends, heard, unknown_c, UNKNOWN_INFRARED_SD_C, BLEND_SD_C)
    ages = _ages(rows)
    lasting = [0.5 ** (age / HABIT_HALF_LIFE_ROASTS) for age in ages]
    return CrackPrior(
        temperature,
        blend,
        blend_sd,
        _bend([row.bean_bend for row in rows], lasting, Bend(-0.30, 0.22)),
        _bend([row.infrared_bend for row in rows], lasting, Bend(-0.35, 0.50)),
        _cuts([row.heat_cut_after_s for row in rows], lasting),
        _cuts([row.heat_cut_before_s for row in rows], lasting),
        _cuts([row.development_s for row in rows], lasting),
    )


def blend_c(bean_temp_c: float, infrared_c: float) -> float:
    """Probe and infrared as one temperature: the probe lags the beans, the eye sees them through a dusty window."""
    return BEAN_SHARE * bean_temp_c + (1 - BEAN_SHARE) * infrared_c


def earlier_crack(
    curve: Curve, crack_s: float, *, at: dt.datetime, bean: str = "", marked_by: str = "", drop_s: float | None = None
) -> EarlierCrack | None:
    """A marked crack as history, from its curve; None where the probe was not read there."""
    points = points_of(curve)
    near = [point for point in points if abs(point.at_s - crack_s) <= 3.0]
    if not near:
        return None
    here = min(near, key=lambda point: abs(point.at_s - crack_s))
    bends = bends_at(points, here.at_s)
    cuts_s = heat_cuts_s(curve, drop_s)
    after = [cut_s - crack_s for cut_s in cuts_s if cut_s > crack_s + 3.0]
    before = [crack_s - cut_s for cut_s in cuts_s if cut_s <= crack_s + 3.0]
    earlier = [point for point in points if crack_s - 30.0 <= point.at_s <= crack_s]
    span_s = earlier[-1].at_s - earlier[0].at_s if len(earlier) > 1 else 0.0
    rate = 60 * (earlier[-1].bean_temp_c - earlier[0].bean_temp_c) / span_s if span_s >= 20.0 else None
    return EarlierCrack(
        at_c=here.bean_temp_c,
        elapsed_s=crack_s,
        at=at,
        rate_of_rise_c_per_min=rate,
        infrared_c=mean_infrared_c(points, here.at_s),
        bean=bean,
        marked_by=marked_by,
        heat_cut_after_s=min(after) if after else None,
        heat_cut_before_s=min(before) if before else None,
        development_s=None if drop_s is None else drop_s - crack_s,
        bean_bend=bends.bean,
        infrared_bend=bends.infrared,
    )


def points_of(curve: Curve) -> tuple[Point, ...]:
    """The curve as about one point a second (means), as inference sees it."""
    sums: list[list[float]] = []  # [begin, count, seconds, °C, count of infrared, °C of infrared]
    infrared = curve.infrared_temp_c
    for row in range(len(curve)):
        bean_c, at_s = float(curve.bean_temp_c[row]), float(curve.elapsed_s[row])
        if not math.isfinite(bean_c):
            continue
        if not sums or at_s - sums[-1][0] >= POINT_MS / 1000:
            sums.append([at_s, 0.0, 0.0, 0.0, 0.0, 0.0])
        eye_c = float(infrared[row]) if infrared is not None else math.nan
        is_seen = math.isfinite(eye_c)
        for index, value in enumerate((1.0, at_s, bean_c, float(is_seen), eye_c if is_seen else 0.0), start=1):
            sums[-1][index] += value
    return tuple(
        Point(at_s / n, bean_c / n, eye_c / seen if seen else None) for _, n, at_s, bean_c, seen, eye_c in sums
    )


def heat_cuts_s(curve: Curve, drop_s: float | None = None) -> list[float]:
    """Elapsed seconds of heater steps down. A step to 0 is a drop or a stop, no answer to a crack."""
    if curve.heater_step is None:
        return []
    cuts, last, highest = [], 0.0, 0.0
    for at_s, step in zip(curve.elapsed_s.tolist(), curve.heater_step.tolist(), strict=True):
        if not math.isfinite(step):
            continue
        if at_s > 0:
            highest = max(highest, step)
            if is_heat_cut(last, step, highest) and (drop_s is None or at_s < drop_s):
                cuts.append(at_s)
        last = step
    return cuts


def is_heat_cut(before_step: float, step: float, highest_step: float) -> bool:
    """Whether a heater was turned down by hand or order: clearly, and not to 0."""
    return 0 < step < before_step and before_step - step >= SMALLEST_CUT_SHARE * highest_step


def _ages(rows: History) -> list[int]:
    return [len(rows) - 1 - index for index in range(len(rows))]


def _weights(rows: History, bean: str) -> tuple[list[float], float | None, float]:
    """Weight of each row for this bean, and the round temperature people mark at with its share of the marks."""
    key = bean_key(bean)
    weights = []
    for row, age in zip(rows, _ages(rows), strict=True):
        weight = 0.5 ** (age / HALF_LIFE_ROASTS)
        if key and bean_key(row.bean) == key:
            weight += SAME_BEAN_WEIGHT * 0.5 ** (age / SAME_BEAN_HALF_LIFE_ROASTS)
        weights.append(weight)
    total = sum(weights)
    by_round: dict[float, float] = {}
    for row, weight in zip(rows, weights, strict=True):
        nearest_c = ROUND_C * round(row.at_c / ROUND_C)
        if _is_on(row.at_c, nearest_c):
            by_round[nearest_c] = by_round.get(nearest_c, 0.0) + weight
    if not by_round:
        return weights, None, 0.0
    habit_c, on_it = max(by_round.items(), key=lambda item: item[1])
    count = sum(1 for row in rows if _is_on(row.at_c, habit_c))
    share = max(0.0, (on_it - ROUND_BY_CHANCE * total) / (1.0 + total))
    return (weights, habit_c, share) if count >= 2 and share > 0.05 else (weights, None, 0.0)


def _is_on(temp_c: float, round_c: float | None) -> bool:
    return round_c is not None and abs(temp_c - round_c) <= ON_ROUND_C


def _shrunk(
    values: list[float], weights: list[float], unknown: float, unknown_sd: float, sd: float
) -> tuple[float, float]:
    """Mean drawn to what is known without history, and the predictive spread (the mean's own doubt included)."""
    total = sum(weights)
    mean = (UNKNOWN_WEIGHT * unknown + sum(w * v for v, w in zip(values, weights, strict=True))) / (
        UNKNOWN_WEIGHT + total
    )
    scatter = sum(w * (v - mean) ** 2 for v, w in zip(values, weights, strict=True))
    variance = (SD_WEIGHT * sd**2 + scatter) / (SD_WEIGHT + total)
    doubt = UNKNOWN_WEIGHT * unknown_sd**2 / (UNKNOWN_WEIGHT + total)
    return mean, math.sqrt(variance * (1 + 0.2 / (UNKNOWN_WEIGHT + total)) + doubt)


def _bend(values: list[float | None], weights: list[float], unknown: Bend) -> Bend:
    known = [(v, w) for v, w in zip(values, weights, strict=True) if v is not None]
    total = 2.0 + sum(w for _, w in known)
    mean = (2.0 * unknown.mean + sum(w * v for v, w in known)) / total
    variance = (2.0 * unknown.sd**2 + sum(w * (v - mean) ** 2 for v, w in known)) / total
    return Bend(mean, math.sqrt(variance))


def _cuts(values: list[float | None], weights: list[float]) -> tuple[tuple[float, float], ...]:
    """(seconds, weight) of what people did, newest last; the oldest hardly weigh."""
    known = [(round(v, 1), round(w, 4)) for v, w in zip(values, weights, strict=True) if v is not None and v < MOST_S]
    return tuple(known[-MOST_CUTS:])
