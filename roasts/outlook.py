"""What will come of the roast that is under way: the twin beside it, read on demand.

Nothing waits for this: it runs in the request of whoever looks, never in the machine loop and never in
the way of an order. Each process keeps the estimators of the roasts it was asked about and feeds them
what was filed since.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from roasts import twin
from roasts.events import crack_store
from roasts.library import planning
from roasts.library.profile import ProfileDocument
from roasts.models import Machine, Roast, Sample, TwinFit
from roasts.twin import judging
from roasts.twin.values import Band, Eta, Observed, Setting

#: Without a weight the batch counts as this, and the answer says so.
USUAL_MASS_KG = 0.4
#: A batch lighter than this is no batch, and the model's beans would burn in a second.
LIGHTEST_KG = 0.02
OLDER_TWIN = "This machine's twin is of an older version: calibrate it again with `manage.py fittwin`."
UNKNOWN_WEIGHT = "The twin knows no batch of this weight: it follows 20 g to 2 kg."
#: Roasts followed at once by one process; the one asked about longest ago goes first.
MOST_FOLLOWED = 64
#: Samples read in one go; a roast of an hour at 10 Hz has 36,000.
MOST_SAMPLES = 40_000
HORIZON_S = 180.0
_FED = ("elapsed_ms", "bean_temp_c", "infrared_temp_c", "heater_step", "fan_step", "drum_step", "voltage_v")
#: A prediction is sent with one point in so many seconds.
POINT_EVERY_S = 5
#: First cracks a person must have marked on a machine before they count for more than the twin's own.
CRACKS_NEEDED = 3
#: Kinds of driver whose steps the shipped twin was fitted on.
SHIPPED_FOR = frozenset({"bullet-r1"})


@dataclass(slots=True)
class _Followed:
    """One roast under an estimator; ``lock`` because two pages may ask at once."""

    estimator: twin.Estimator | None
    parameters: twin.TwinParameters
    told: tuple[float, str] = (0.0, "")  # batch mass (kg) and bean the estimator was begun with
    last_ms: int = -1
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True, slots=True)
class Outlook:
    """A roast's near future. ``state`` is what `twin.what_if` of an order starts from."""

    roast: Roast
    state: twin.TwinState
    prediction: Band
    first_crack: Eta | None  # None once it is marked
    drop: Eta | None  # whichever end of the plan comes first
    by_temperature: Eta | None
    plan: planning.EndPlan
    next_settings: dict[str, dict[str, Any]]
    is_mass_assumed: bool


class NoOutlook(Exception):
    """There is nothing to say, and why; the message is for the page."""


_followed: OrderedDict[str, _Followed] = OrderedDict()
_followed_lock = threading.Lock()


def outlook_of(machine: Machine) -> Outlook:
    """The near future of the machine's open roast.

    Raises:
        NoOutlook: no roast is under way, its first seconds are not in yet, or this machine has no twin.
    """
    roast = (
        Roast.objects.open()
        .filter(machine=machine)
        .select_related("machine", "profile_version__profile")
        .order_by("-started_at")
        .first()
    )
    if roast is None:
        raise NoOutlook("No roast is under way.")
    state = _state_of(roast)
    document = planning.document_of(roast)
    return _look_ahead(roast, state, document)


def _look_ahead(roast: Roast, state: twin.TwinState, document: ProfileDocument | None) -> Outlook:
    plan = planning.plan_of(roast, document)
    crack_s = planning.first_crack_of(roast)
    crack_at = crack_temperature_of(roast) if crack_s is None else None
    by_temperature = twin.drop(state, target_temp_c=plan.drop_temp_c) if plan.drop_temp_c is not None else None
    by_time = (
        twin.drop(state, development_s=plan.development_s, first_crack_s=crack_s)
        if plan.development_s is not None
        else None
    )
    ends = [eta for eta in (by_temperature, by_time) if eta is not None and eta.elapsed_s is not None]
    return Outlook(
        roast=roast,
        state=state,
        prediction=twin.predict(state, HORIZON_S),
        first_crack=twin.first_crack(state, crack_at) if crack_s is None else None,
        drop=min(ends, key=lambda eta: eta.elapsed_s or 0.0, default=by_temperature or by_time),
        by_temperature=by_temperature,
        plan=plan,
        next_settings=_next_settings(document, state.elapsed_s),
        is_mass_assumed=not roast.weight_in_g,
    )


def crack_temperature_of(roast: Roast) -> twin.CrackTemperature | None:
    """Where this machine's first cracks were heard and where they are marked by habit, this bean's more than others;
    None: too few to say.
    """
    found = crack_store.expectation_of(roast.machine_id, roast.bean).crack.temperature
    if found.roasts < CRACKS_NEEDED:
        return None
    return judging.as_the_twin_wants(found)


def _next_settings(document: ProfileDocument | None, elapsed_s: float) -> dict[str, dict[str, Any]]:
    """control → the next setting of the profile's plan."""
    found: dict[str, dict[str, Any]] = {}
    for setting in sorted(document.plan if document else (), key=lambda planned: planned.elapsed_s):
        if setting.elapsed_s > elapsed_s:
            found.setdefault(setting.control, {"elapsed_s": setting.elapsed_s, "step": setting.step})
    return found


def parameters_of(machine: Machine) -> twin.TwinParameters:
    """The machine's own calibration, else the shipped one where it fits. NoOutlook where neither is."""
    fit = TwinFit.objects.filter(machine=machine, is_current=True).first()
    if fit is not None:
        return _read_fit(fit)
    if machine.driver_kind not in SHIPPED_FOR:
        raise NoOutlook("This machine has no twin yet: calibrate one with `manage.py fittwin`.")
    return twin.shipped_defaults()


def _read_fit(fit: TwinFit) -> twin.TwinParameters:
    try:
        return twin.parameters_from_json(fit.parameters)
    except twin.TwinError as error:
        raise NoOutlook(OLDER_TWIN) from error


def _state_of(roast: Roast) -> twin.TwinState:
    """The estimator's state after everything that was filed of this roast. NoOutlook."""
    followed = _follow(roast)
    with followed.lock:
        rows = list(
            Sample.objects.filter(roast=roast, elapsed_ms__gt=followed.last_ms, elapsed_ms__gte=0)
            .order_by("elapsed_ms")
            .only(*_FED)[:MOST_SAMPLES]
        )
        for row in rows:
            _feed(followed, roast, row)
        if followed.estimator is None:
            raise NoOutlook("Waiting for the first readings of this roast.")
        return followed.estimator.state


def state_at(roast: Roast, elapsed_ms: int) -> twin.TwinState:
    """The twin as it stood then: an estimator of its own, fed with what was filed up to ``elapsed_ms``. NoOutlook."""
    followed = _Followed(None, parameters_of(roast.machine), _told_of(roast))
    rows = Sample.objects.filter(roast=roast, elapsed_ms__gte=0, elapsed_ms__lte=elapsed_ms).order_by("elapsed_ms")
    for row in rows.only(*_FED)[:MOST_SAMPLES]:
        _feed(followed, roast, row)
    if followed.estimator is None:
        raise NoOutlook("No reading of this roast is older than the order.")
    return followed.estimator.state


def _follow(roast: Roast) -> _Followed:
    """The roast under its estimator; begun again where somebody weighed the batch or named the bean meanwhile."""
    told = _told_of(roast)
    with _followed_lock:
        found = _followed.get(roast.pk)
        if found is not None and found.told == told:
            _followed.move_to_end(roast.pk)
            return found
    parameters = parameters_of(roast.machine)
    with _followed_lock:
        found = _followed.get(roast.pk)
        if found is None or found.told != told:
            found = _followed[roast.pk] = _Followed(None, parameters, told)
        _followed.move_to_end(roast.pk)
        while len(_followed) > MOST_FOLLOWED:
            _followed.popitem(last=False)
        return found


def _feed(followed: _Followed, roast: Roast, row: Sample) -> None:
    """One sample into the estimator, which begins with the first believable probe reading."""
    followed.last_ms = row.elapsed_ms  # of a row that says nothing, too: it is not read again
    if followed.estimator is None:
        if row.bean_temp_c is None:
            return
        followed.estimator = _begun(followed, roast, row.bean_temp_c)
    if row.heater_step is None or row.fan_step is None:
        return  # without controls the model has no input: the gap shows as silence
    volts = None if row.voltage_v is None else float(row.voltage_v)
    setting = Setting(float(row.heater_step), float(row.fan_step), float(row.drum_step or 9), volts)
    followed.estimator.update(row.elapsed_ms / 1000, Observed(row.bean_temp_c, row.infrared_temp_c), setting)


def _told_of(roast: Roast) -> tuple[float, str]:
    """Batch mass in kg and the bean, as people say them now."""
    return (roast.weight_in_g or USUAL_MASS_KG * 1000) / 1000, roast.bean


def _begun(followed: _Followed, roast: Roast, probe_charge_c: float) -> twin.Estimator:
    """NoOutlook for a batch or a probe that the model knows nothing of."""
    mass_kg, bean = followed.told
    if mass_kg < LIGHTEST_KG:
        raise NoOutlook(UNKNOWN_WEIGHT)
    try:
        return twin.Estimator(
            followed.parameters,
            mass_kg=mass_kg,
            probe_charge_c=probe_charge_c,
            began_s=roast.started_at.timestamp(),
            bean=bean,
        )
    except twin.TwinError as error:
        raise NoOutlook(UNKNOWN_WEIGHT) from error


def forget_all() -> None:
    """Drop every estimator (tests, and after a machine was calibrated anew)."""
    with _followed_lock:
        _followed.clear()


def says(outlook: Outlook) -> str:
    """One line under the curve: which twin speaks, and when not to believe it."""
    parameters = outlook.state.parameters
    line = f"Twin: {parameters.origin}."
    if outlook.is_mass_assumed:
        line += f" Batch weight not entered: {USUAL_MASS_KG * 1000:.0f} g assumed."
    if outlook.prediction.is_extrapolating:
        line += " Extrapolating: " + "; ".join(outlook.prediction.why_extrapolating) + "."
    return line


def render_eta(eta: Eta | None) -> dict[str, Any] | None:
    """Seconds since charge; ``kind`` is prediction or plan."""
    if eta is None:
        return None
    return {
        "elapsed_s": _round(eta.elapsed_s),
        "low_s": _round(eta.low_s),
        "high_s": _round(eta.high_s),
        "kind": eta.kind,
        "confidence": eta.confidence,
        "label": eta.label,
        "is_extrapolating": eta.is_extrapolating,
    }


def render_band(band: Band) -> dict[str, Any]:
    """One point in POINT_EVERY_S seconds."""
    pick = slice(None, None, POINT_EVERY_S)
    return {
        "times_s": [round(float(value), 1) for value in band.times_s[pick]],
        "bean_c": [round(float(value), 2) for value in band.bean_temp_c[pick]],
        "low_c": [round(float(value), 2) for value in band.bean_low_c[pick]],
        "high_c": [round(float(value), 2) for value in band.bean_high_c[pick]],
        "confidence": band.confidence,
        "is_extrapolating": band.is_extrapolating,
    }


def render_what_if(found: twin.WhatIf) -> dict[str, Any]:
    """An order's effect: the probe with it and without, and how far the truth may lie from the former at the end."""
    pick = slice(None, None, POINT_EVERY_S)
    band = found.band
    return {
        "times_s": [round(float(value), 1) for value in found.times_s[pick]],
        "with_c": [round(float(value), 2) for value in found.with_c[pick]],
        "without_c": [round(float(value), 2) for value in found.without_c[pick]],
        "within_c": round(float(band.bean_high_c[-1] - band.bean_temp_c[-1]), 1),
        "is_extrapolating": found.is_extrapolating,
        "why_extrapolating": list(found.why_extrapolating),
    }


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
