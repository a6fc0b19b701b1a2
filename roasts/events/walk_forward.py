"""How well inference meets the marks people made, roast by roast with the history of earlier ones only. Pure."""

from __future__ import annotations

import datetime as dt
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from roasts import inference
from roasts.curve import Curve, Marks, first_of
from roasts.events.crack_history import EarlierCrack, earlier_crack
from roasts.inference import Kind

#: Kinds that are compared. The turning point is the reference's: the lowest probe from charge to first crack.
KINDS = (Kind.CHARGE, Kind.TURNING_POINT, Kind.FIRST_CRACK, Kind.DROP)
ROUND_C, ON_ROUND_C, NEAR_ROUND_S = 190.0, 0.05, 2.5
#: Draws for the spread of a median and of a 90th percentile.
DRAWS = 2000


@dataclass(frozen=True, slots=True)
class MarkedRoast:
    """A roast with a person's marks; ``at`` orders them."""

    name: str
    at: dt.datetime
    curve: Curve
    marks: Marks
    bean: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One roast: kind → seconds the inferred mark is late (NaN: not made); whether its crack sits on 190.0 °C."""

    name: str
    late_s: dict[str, float]
    is_on_round: bool
    confidence: float | None  # of first crack


@dataclass(frozen=True, slots=True)
class Figures:
    """Of absolute errors in seconds: median and 90th percentile with their 80 % bounds, and the share within 3 s."""

    count: int
    median_s: float
    median_bounds_s: tuple[float, float]
    p90_s: float
    p90_bounds_s: tuple[float, float]
    within_3_s: float
    missing: int


def walk(roasts: Sequence[MarkedRoast], *, is_stated: bool = True, has_heater: bool = True) -> list[Outcome]:
    """Every roast in order of time; its history are the marked cracks before it. A roast given twice counts once."""
    history: list[EarlierCrack] = []
    outcomes, seen = [], set()
    for roast in sorted(roasts, key=lambda one: (one.at, one.name)):
        key = roast.curve.bean_temp_c.tobytes()
        if key in seen:
            continue
        seen.add(key)
        curve = roast.curve if is_stated else replace(roast.curve, state=None)
        curve = curve if has_heater else replace(curve, heater_step=None)
        found = inference.infer_roast(curve, inference.expectation_of(history, roast.bean))
        outcomes.append(_outcome(roast, found))
        crack_s, drop_s = first_of(roast.marks, Kind.FIRST_CRACK), first_of(roast.marks, Kind.DROP)
        if crack_s is not None:
            crack = earlier_crack(roast.curve, crack_s, at=roast.at, bean=roast.bean, drop_s=drop_s)
            history += [crack] if crack is not None else []
    return outcomes


def figures(outcomes: Sequence[Outcome], kind: str, *, off_round: bool = False) -> Figures:
    """Of the roasts that have this mark; ``off_round``: without those marked at the first crossing of 190.0 °C."""
    kept = [one for one in outcomes if kind in one.late_s and not (off_round and one.is_on_round)]
    errors = np.array([abs(one.late_s[kind]) for one in kept])
    errors = np.where(np.isnan(errors), np.inf, errors)
    if not len(errors):
        return Figures(0, math.nan, (math.nan, math.nan), math.nan, (math.nan, math.nan), math.nan, 0)
    draw = random.Random(1)  # the same bounds every time
    picks = [[draw.randrange(len(errors)) for _ in errors] for _ in range(DRAWS)]
    again = errors[np.array(picks)]
    middles, tails = np.median(again, axis=1), _p90(again)
    return Figures(
        count=len(errors),
        median_s=float(np.median(errors)),
        median_bounds_s=_bounds(middles),
        p90_s=float(_p90(errors[None, :])[0]),
        p90_bounds_s=_bounds(tails),
        within_3_s=float(np.mean(errors <= 3.05)),
        missing=int(np.sum(np.isinf(errors))),
    )


def _p90(rows: np.ndarray) -> np.ndarray:
    return np.percentile(rows, 90, axis=1, method="higher")


def _bounds(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, [10, 90], method="nearest")
    return float(low), float(high)


def _outcome(roast: MarkedRoast, found: Marks) -> Outcome:
    wanted = {kind: first_of(roast.marks, kind) for kind in KINDS}
    wanted[Kind.TURNING_POINT] = turning_point_s(roast)
    late = {}
    for kind, wanted_s in wanted.items():
        at_s = first_of(found, kind)
        if wanted_s is not None:
            late[kind] = math.nan if at_s is None else at_s - wanted_s
    crack = next((mark for mark in found if mark.kind == Kind.FIRST_CRACK), None)
    return Outcome(roast.name, late, is_on_round(roast), crack.confidence if crack else None)


def turning_point_s(roast: MarkedRoast) -> float | None:
    """Lowest positive probe temperature between charge and the earlier of first crack and drop, the latest of equals
    (reference, bullet-and-alog §4.3).
    """
    ends = [at_s for kind in (Kind.FIRST_CRACK, Kind.DROP) if (at_s := first_of(roast.marks, kind)) is not None]
    charge_s = first_of(roast.marks, Kind.CHARGE)
    if not ends or charge_s is None:
        return None
    curve = roast.curve
    inside = (curve.elapsed_s >= charge_s) & (curve.elapsed_s < min(ends)) & (curve.bean_temp_c > 0)
    if not inside.any():
        return None
    lowest_c = curve.bean_temp_c[inside].min()
    return float(curve.elapsed_s[inside & (curve.bean_temp_c == lowest_c)][-1])


def is_on_round(roast: MarkedRoast) -> bool:
    """Whether first crack is marked at the first crossing of 190.0 °C after the turning point: a rule, not an ear."""
    crack_s, turn_s = first_of(roast.marks, Kind.FIRST_CRACK), turning_point_s(roast)
    if crack_s is None or turn_s is None:
        return False
    curve = roast.curve
    crossed = (curve.elapsed_s > turn_s) & (curve.bean_temp_c >= ROUND_C - ON_ROUND_C)
    return bool(crossed.any()) and abs(float(curve.elapsed_s[crossed][0]) - crack_s) <= NEAR_ROUND_S
