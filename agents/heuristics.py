"""The first three heuristics of the built-in agent: hot, scorch risk, stall. Pure.

Readings go in one by one (:func:`observe`), at most one piece of :class:`Advice` or a :class:`Note` comes
out (:func:`advise`). All times are the roaster's own (``device_ms``), so that a roast that runs four times
as fast is judged the same. Numbers: spec/agents.md, "Built-in agents".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from agents.corridor import CHARGE_SETPOINT_C, DROP_TEMP_C, FIRST_CRACK_TEMP_C, corridor_at

RATE_WINDOW_S = 30.0
HELD_S = 10.0  # a breach must last this long
SCORCH_HELD_S = 3.0
SPACING_S = 40.0  # between two orders of ours
QUIET_BEFORE_DROP_S = 20.0
SCORCH_RATE_C_PER_MIN = 26.0
SCORCH_BELOW_C = 150.0
SETPOINT_MARGIN_C = 10.0
SETPOINT_FROM_S, SETPOINT_NOTE_S, SETPOINT_UNTIL_S = 5.0, 30.0, 60.0  # after the charge
STALL_RATE_C_PER_MIN = 6.0
STALL_AWAY_S = 60.0
NINTHS, TWELFTHS = 9, 12  # the Bullet R1 on which the steps below, and the corridor's, were learnt
HEATER_FLOOR_STEP = 1  # we never ask for no heat at all: that is a person's decision
HEATER_LOW_STEP = 2  # at or below it air is the better lever
FAN_CEILING_STEP = 6
FAN_FLOOR_STEP = 2  # less air than this leaves smoke in the drum
_KEPT_S = RATE_WINDOW_S + HELD_S + 5.0
_WIDEST_HOLE_S = 6.0
_CLOSEST_S = 0.2


@dataclass(frozen=True, slots=True)
class Look:
    """What we take from one reading. Temperatures °C, settings native steps; None is *not there*."""

    device_ms: int
    state: str
    bean_temp_c: float | None
    infrared_temp_c: float | None = None
    heater_step: int | None = None
    fan_step: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What this roast is meant to do. ``drop_after_s`` seconds after charge, where a time is agreed."""

    first_crack_temp_c: float = FIRST_CRACK_TEMP_C
    drop_temp_c: float = DROP_TEMP_C
    drop_after_s: float | None = None
    charge_setpoint_c: float = CHARGE_SETPOINT_C
    heater_full_step: int = NINTHS  # how this machine counts: an R1 nine steps of heat, an R2 fourteen
    fan_full_step: int = TWELFTHS

    def heater(self, ninths: int) -> int:
        """The machine's own heater step for a step of nine; never more heat than that."""
        return ninths * self.heater_full_step // NINTHS

    def fan(self, twelfths: int) -> int:
        """The machine's own fan step for a step of twelve."""
        return round(twelfths * self.fan_full_step / TWELFTHS)


@dataclass(frozen=True, slots=True)
class View:
    """The roast as far as we have seen it; grows by :func:`observe`."""

    looks: tuple[Look, ...] = ()
    charged_ms: int | None = None
    setpoint_c: float | None = None  # infrared just before the beans went in
    is_setpoint_judged: bool = False
    lowest_temp_c: float | None = None
    lowest_ms: int | None = None
    first_crack_ms: int | None = None
    last_order_ms: int | None = None
    last_control: str = ""

    @property
    def latest(self) -> Look | None:
        return self.looks[-1] if self.looks else None


@dataclass(frozen=True, slots=True)
class Advice:
    """One order to propose: bring ``control`` from ``from_step`` to ``target_step``."""

    heuristic: str  # hot | scorch_risk | stall
    order_type: str  # SET_POWER | SET_FAN
    control: str  # heater | fan
    from_step: int
    target_step: int
    reasoning: str
    evidence: tuple[dict[str, Any], ...]
    device_ms: int


@dataclass(frozen=True, slots=True)
class Note:
    """Something worth knowing that no order can mend now."""

    code: str
    text: str
    evidence: tuple[dict[str, Any], ...]
    device_ms: int


# --- seeing -----------------------------------------------------------------------------------


def observe(view: View, look: Look) -> View:
    """The view with one more reading. A device clock that went back is another machine life: start anew."""
    latest = view.latest
    if latest is not None and look.device_ms < latest.device_ms:
        view, latest = View(), None
    if latest is not None and look.state == latest.state and look.device_ms - latest.device_ms < _CLOSEST_S * 1000:
        return view
    if look.state == "roasting" and latest is not None and latest.state != "roasting":
        view = _charged(view, look)
    oldest_ms = look.device_ms - int(_KEPT_S * 1000)
    view = replace(view, looks=(*(kept for kept in view.looks if kept.device_ms >= oldest_ms), look))
    if look.state != "roasting" or look.bean_temp_c is None:
        return view
    if view.lowest_temp_c is not None and look.bean_temp_c > view.lowest_temp_c:
        return view
    return replace(view, lowest_temp_c=look.bean_temp_c, lowest_ms=look.device_ms)


def _charged(view: View, look: Look) -> View:
    """Beans went in: a new roast. The infrared sensor's last word before it is the charge set-point."""
    hot = [kept.infrared_temp_c for kept in view.looks if kept.state == "charge" and kept.infrared_temp_c is not None]
    return View(
        charged_ms=look.device_ms,
        setpoint_c=max(hot) if hot else None,
        last_order_ms=view.last_order_ms,
        last_control=view.last_control,
    )


def note_first_crack(view: View, device_ms: int) -> View:
    """Somebody, or something, marked first crack."""
    return replace(view, first_crack_ms=device_ms)


def note_order(view: View, advice: Advice) -> View:
    """We proposed: the next order keeps its distance from here, whatever becomes of this one."""
    is_judged = view.is_setpoint_judged or advice.heuristic == "scorch_risk"
    return replace(view, last_order_ms=advice.device_ms, last_control=advice.control, is_setpoint_judged=is_judged)


def note_said(view: View, note: Note) -> View:
    """The note was passed on: say it once."""
    return replace(view, is_setpoint_judged=True)


# --- reckoning --------------------------------------------------------------------------------


def rate_c_per_min(looks: tuple[Look, ...], at_ms: int, window_s: float = RATE_WINDOW_S) -> float | None:
    """Least-squares slope of the bean temperature over the ``window_s`` before ``at_ms``, in °C/min. Causal.
    None where the window is not filled: under 80 % of its span, under six readings, or a hole of over 6 s."""
    start_ms = at_ms - int(window_s * 1000)
    points = [
        (look.device_ms / 1000, look.bean_temp_c)
        for look in looks
        if start_ms <= look.device_ms <= at_ms and look.bean_temp_c is not None and look.state == "roasting"
    ]
    if len(points) < 6 or points[-1][0] - points[0][0] < 0.8 * window_s:
        return None
    if max(right[0] - left[0] for left, right in pairwise(points)) > _WIDEST_HOLE_S:
        return None
    mean_s = sum(point[0] for point in points) / len(points)
    mean_c = sum(point[1] for point in points) / len(points)
    spread = sum((point[0] - mean_s) ** 2 for point in points)
    return 60 * sum((point[0] - mean_s) * (point[1] - mean_c) for point in points) / spread


def seconds_to(target_temp_c: float, bean_temp_c: float, rate: float) -> float | None:
    """Seconds until ``target_temp_c`` if the roast keeps its present share of the usual rate of rise at every
    temperature on the way. 0 when it is there already; None when it is not getting there."""
    if bean_temp_c >= target_temp_c:
        return 0.0
    here = corridor_at(bean_temp_c)
    if here is None or rate <= 0:
        return None
    share, duration_s, temp_c = rate / here.middle_c_per_min, 0.0, bean_temp_c
    while temp_c < target_temp_c:
        step_c = min(1.0, target_temp_c - temp_c)
        there = corridor_at(temp_c + step_c / 2) or here
        duration_s += 60 * step_c / (share * there.middle_c_per_min)
        temp_c += step_c
    return duration_s


def rate_at(target_temp_c: float, bean_temp_c: float, rate: float) -> float | None:
    """The rate at ``target_temp_c`` if the present share of the usual rate of rise is kept, in °C/min."""
    here, there = corridor_at(bean_temp_c), corridor_at(target_temp_c)
    if here is None or there is None:
        return None
    return rate / here.middle_c_per_min * there.middle_c_per_min


@dataclass(frozen=True, slots=True)
class _Moment:
    """One reading with its rate: what a held breach is made of."""

    device_ms: int
    bean_temp_c: float
    rate: float


def _moments(view: View, held_s: float) -> tuple[_Moment, ...]:
    """The last ``held_s`` seconds, one moment a second; empty unless every one of them has a rate that was
    measured wholly after the turning point."""
    latest = view.latest
    if latest is None or view.lowest_ms is None:
        return ()
    moments: list[_Moment] = []
    for look in view.looks:
        if latest.device_ms - look.device_ms > held_s * 1000 + 1000:
            continue
        if moments and look.device_ms - moments[-1].device_ms < 900 and look is not latest:
            continue
        rate = rate_c_per_min(view.looks, look.device_ms)
        if rate is None or look.bean_temp_c is None or look.device_ms - RATE_WINDOW_S * 1000 < view.lowest_ms:
            moments.clear()
            continue
        moments.append(_Moment(look.device_ms, look.bean_temp_c, rate))
    if not moments or moments[-1].device_ms - moments[0].device_ms < held_s * 1000:
        return ()
    return tuple(moments)


# --- advising ---------------------------------------------------------------------------------


def advise(view: View, plan: Plan, limits: Mapping[str, tuple[int, int]]) -> Advice | Note | None:
    """What to propose now, if anything. ``limits`` are the machine's inclusive native steps per control; a
    control without limits is left alone. Scorching comes before hot, hot before stall."""
    latest = view.latest
    if latest is None or latest.state != "roasting" or latest.bean_temp_c is None:
        return None
    if is_quiet(view, plan):
        return None
    for heuristic in (_scorch_risk, _hot, _stall):
        found = heuristic(view, plan, latest)
        if isinstance(found, Note):
            return found
        if found is not None and _is_within(found, limits):
            return found
    return None


def is_quiet(view: View, plan: Plan) -> bool:
    """Too soon after our last order, or too near the drop."""
    latest = view.latest
    if latest is None or latest.bean_temp_c is None:
        return True
    if view.last_order_ms is not None and latest.device_ms - view.last_order_ms < SPACING_S * 1000:
        return True
    if latest.bean_temp_c >= plan.drop_temp_c:
        return True
    if _seconds_to_agreed_drop(view, plan, latest) <= QUIET_BEFORE_DROP_S:
        return True
    rate = rate_c_per_min(view.looks, latest.device_ms)
    away_s = seconds_to(plan.drop_temp_c, latest.bean_temp_c, rate) if rate is not None else None
    return away_s is not None and away_s <= QUIET_BEFORE_DROP_S


def _seconds_to_agreed_drop(view: View, plan: Plan, latest: Look) -> float:
    if plan.drop_after_s is None or view.charged_ms is None:
        return float("inf")
    return plan.drop_after_s - (latest.device_ms - view.charged_ms) / 1000


def is_cracked(view: View, plan: Plan) -> bool:
    """First crack was marked, or the beans are as hot as where it comes: after it, never more heat."""
    latest = view.latest
    is_hot = latest is not None and latest.bean_temp_c is not None and latest.bean_temp_c >= plan.first_crack_temp_c
    return view.first_crack_ms is not None or is_hot


def _is_within(advice: Advice, limits: Mapping[str, tuple[int, int]]) -> bool:
    low, high = limits.get(advice.control, (1, 0))
    return low <= advice.target_step <= high


def _scorch_risk(view: View, plan: Plan, latest: Look) -> Advice | Note | None:
    too_hot = _charged_too_hot(view, plan, latest)
    if too_hot is not None:
        return too_hot
    moments = _moments(view, SCORCH_HELD_S)
    if moments and all(m.rate > SCORCH_RATE_C_PER_MIN and m.bean_temp_c < SCORCH_BELOW_C for m in moments):
        if view.is_setpoint_judged and (latest.heater_step or 0) <= plan.heater(HEATER_LOW_STEP):
            return None  # said already
        reason = (
            f"Rate of rise {moments[-1].rate:.1f} °C/min at {moments[-1].bean_temp_c:.1f} °C: above "
            f"{SCORCH_RATE_C_PER_MIN:.0f} °C/min below {SCORCH_BELOW_C:.0f} °C the surface may scorch."
        )
        return _less_heat("scorch_risk", reason, _rate_evidence(moments, SCORCH_RATE_C_PER_MIN), latest, plan)
    return None


def _charged_too_hot(view: View, plan: Plan, latest: Look) -> Advice | Note | None:
    """The set-point is judged once per charge, when the person's hand has had time to set the heater."""
    if view.setpoint_c is None or view.charged_ms is None or view.is_setpoint_judged:
        return None
    elapsed_s = (latest.device_ms - view.charged_ms) / 1000
    bound_c = plan.charge_setpoint_c + SETPOINT_MARGIN_C
    if view.setpoint_c <= bound_c or not SETPOINT_FROM_S <= elapsed_s <= SETPOINT_UNTIL_S:
        return None
    if (latest.heater_step or 0) <= plan.heater(HEATER_LOW_STEP) and elapsed_s < SETPOINT_NOTE_S:
        return None
    reason = (
        f"Charged at {view.setpoint_c:.1f} °C by the infrared sensor, more than {SETPOINT_MARGIN_C:.0f} °C "
        f"above the usual {plan.charge_setpoint_c:.0f} °C: the drum may scorch the beans."
    )
    evidence = {
        "kind": "charge_setpoint",
        "infrared_temp_c": round(view.setpoint_c, 1),
        "bound_c": bound_c,
        "device_ms": view.charged_ms,
    }
    return _less_heat("scorch_risk", reason, evidence, latest, plan)


def _less_heat(heuristic: str, reason: str, evidence: dict[str, Any], latest: Look, plan: Plan) -> Advice | Note | None:
    if latest.heater_step is None:
        return None
    if latest.heater_step <= plan.heater(HEATER_LOW_STEP):
        text = f"{reason} The heater is at {latest.heater_step} already: charge the next batch cooler."
        return Note(f"{heuristic}_next_charge", text, (evidence,), latest.device_ms)
    return _order(heuristic, "heater", -1, reason, evidence, latest)


def _hot(view: View, plan: Plan, latest: Look) -> Advice | None:
    moments = _moments(view, HELD_S)
    bounds = [corridor_at(moment.bean_temp_c) for moment in moments]
    if not moments or not all(
        b is not None and m.rate > b.high_c_per_min for m, b in zip(moments, bounds, strict=True)
    ):
        return None
    here = corridor_at(moments[-1].bean_temp_c)
    if here is None or latest.heater_step is None:
        return None
    evidence = _rate_evidence(moments, here.high_c_per_min)
    reason = (
        f"Rate of rise {moments[-1].rate:.1f} °C/min at {moments[-1].bean_temp_c:.1f} °C has been above the "
        f"corridor's {here.high_c_per_min:.1f} °C/min for {HELD_S:.0f} s."
    )
    cracked = is_cracked(view, plan)
    air_is_next = latest.heater_step <= plan.heater(HEATER_LOW_STEP) or (cracked and view.last_control == "heater")
    if air_is_next and latest.fan_step is not None and latest.fan_step < plan.fan(FAN_CEILING_STEP):
        return _order("hot", "fan", +1, reason, evidence, latest)
    if latest.heater_step > plan.heater(HEATER_FLOOR_STEP):
        return _order("hot", "heater", -1, reason, evidence, latest)
    return None


def _stall(view: View, plan: Plan, latest: Look) -> Advice | None:
    moments = _moments(view, HELD_S)
    if not moments:
        return None
    if is_cracked(view, plan):
        return _stall_after_crack(moments, latest, plan)
    predictions = [rate_at(plan.first_crack_temp_c, moment.bean_temp_c, moment.rate) for moment in moments]
    if any(predicted is None or predicted >= STALL_RATE_C_PER_MIN for predicted in predictions):
        return None
    away_s = seconds_to(plan.first_crack_temp_c, moments[-1].bean_temp_c, moments[-1].rate)
    here = corridor_at(moments[-1].bean_temp_c)
    if here is None or latest.heater_step is None or (away_s is not None and away_s <= STALL_AWAY_S):
        return None
    usual_step = plan.heater(here.heater_step)
    if latest.heater_step + 1 > usual_step + 1:
        return None
    if latest.heater_step == 0:  # somebody, or STOP, took the heat off: lighting it again is a person's act
        return None
    predicted = predictions[-1] or 0.0
    when = "not in sight" if away_s is None else f"{away_s:.0f} s away"
    reason = (
        f"At this pace the rate of rise at first crack ({plan.first_crack_temp_c:.0f} °C, {when}) would be "
        f"{predicted:.1f} °C/min, under {STALL_RATE_C_PER_MIN:.0f}: the roast may stall."
    )
    evidence = {
        "kind": "stall_prediction",
        "predicted_rate_c_per_min": round(predicted, 2),
        "predicted_bound_c_per_min": STALL_RATE_C_PER_MIN,
        "first_crack_in_s": None if away_s is None else round(away_s),
        "usual_heater_step": usual_step,
    } | {name: value for name, value in _rate_evidence(moments, here.middle_c_per_min).items() if name != "kind"}
    return _order("stall", "heater", +1, reason, evidence, latest)


def _stall_after_crack(moments: tuple[_Moment, ...], latest: Look, plan: Plan) -> Advice | None:
    bounds = [corridor_at(moment.bean_temp_c) for moment in moments]
    if not all(b is not None and m.rate < b.low_c_per_min for m, b in zip(moments, bounds, strict=True)):
        return None
    if latest.fan_step is None or latest.fan_step <= plan.fan(FAN_FLOOR_STEP):
        return None
    bound = bounds[-1].low_c_per_min if bounds[-1] else 0.0
    reason = (
        f"After first crack the rate of rise {moments[-1].rate:.1f} °C/min at {moments[-1].bean_temp_c:.1f} °C has "
        f"been below the corridor's {bound:.1f} °C/min for {HELD_S:.0f} s: less air, never more heat here."
    )
    return _order("stall", "fan", -1, reason, _rate_evidence(moments, bound), latest)


def _rate_evidence(moments: tuple[_Moment, ...], bound_c_per_min: float) -> dict[str, Any]:
    """The numbers we saw, newest first to be read, and over which stretch of the machine's own time."""
    return {
        "kind": "rate_of_rise",
        "rate_c_per_min": round(moments[-1].rate, 2),
        "bound_c_per_min": round(bound_c_per_min, 2),
        "bean_temp_c": round(moments[-1].bean_temp_c, 1),
        "window_s": RATE_WINDOW_S,
        "held_s": round((moments[-1].device_ms - moments[0].device_ms) / 1000, 1),
        "from_device_ms": moments[0].device_ms,
        "to_device_ms": moments[-1].device_ms,
        "moments": [[m.device_ms, round(m.rate, 2), round(m.bean_temp_c, 1)] for m in moments],
    }


def _order(
    heuristic: str, control: str, change: int, reason: str, evidence: dict[str, Any], latest: Look
) -> Advice | None:
    """One step up or down from where the control stands; None where that is not known."""
    from_step = latest.heater_step if control == "heater" else latest.fan_step
    if from_step is None:
        return None
    word = {"heater": "Power", "fan": "Fan"}[control]
    return Advice(
        heuristic=heuristic,
        order_type={"heater": "SET_POWER", "fan": "SET_FAN"}[control],
        control=control,
        from_step=from_step,
        target_step=from_step + change,
        reasoning=f"{reason} {word} {from_step} → {from_step + change}.",
        evidence=(evidence,),
        device_ms=latest.device_ms,
    )
