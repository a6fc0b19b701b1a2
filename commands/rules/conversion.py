"""What was asked, in the machine's own steps. Pure.

Heat rounds down, always; air and drum round to the nearest step (a half goes up: more air, more turning).
Arithmetic is exact (``Fraction``), so no floating-point crumb ever adds a heat step.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from fractions import Fraction


class OrderType(enum.StrEnum):
    """What may be ordered. STOP is no order: it has its own path."""

    SET_POWER = "SET_POWER"
    SET_FAN = "SET_FAN"
    SET_DRUM = "SET_DRUM"
    PREHEAT = "PREHEAT"
    CHARGE = "CHARGE"
    DROP = "DROP"
    COOL = "COOL"


class Unit(enum.StrEnum):
    """Units a target may carry."""

    STEP = "step"
    PERCENT = "percent"
    RPM = "rpm"
    CELSIUS = "celsius"


#: The control an order sets; a state order has none ("").
CONTROL_OF: dict[OrderType, str] = {
    OrderType.SET_POWER: "heater",
    OrderType.SET_FAN: "fan",
    OrderType.SET_DRUM: "drum",
    OrderType.PREHEAT: "",
    OrderType.CHARGE: "",
    OrderType.DROP: "",
    OrderType.COOL: "",
}
SETTINGS = frozenset(order_type for order_type, control in CONTROL_OF.items() if control)
STATES = frozenset(OrderType) - SETTINGS
#: Beans move by hand on a Bullet: from an agent these are advice with a countdown.
HAND_ACTS = frozenset({OrderType.CHARGE, OrderType.DROP})
#: Units each control understands. No machine of ours tells its drum's rpm per step, so ``rpm`` fits none yet.
UNITS_OF_CONTROL: dict[str, frozenset[Unit]] = {
    "heater": frozenset({Unit.STEP, Unit.PERCENT}),
    "fan": frozenset({Unit.STEP, Unit.PERCENT}),
    "drum": frozenset({Unit.STEP, Unit.PERCENT}),
}


@dataclass(frozen=True, slots=True)
class Misfit:
    """Why a target cannot be converted: a stable code, what was wrong, and the cure."""

    code: str
    message: str
    how_to_fix: str


@dataclass(frozen=True, slots=True)
class Conversion:
    """``step`` is the native target, None for a state order or a misfit. ``preheat_c``: a preheat's, in whole °C."""

    step: int | None = None
    misfit: Misfit | None = None
    preheat_c: int | None = None


def to_native(
    order_type: OrderType,
    value: float | None,
    unit: str,
    full_scale_step: int | None,
    *,
    takes_preheat_c: bool = False,
) -> Conversion:
    """Native step of a target of ``value`` ``unit`` on a control whose 100 percent is ``full_scale_step``.

    ``takes_preheat_c``: this kind of machine's PREHEAT takes a temperature; heat rounds down there, too.
    """
    control = CONTROL_OF[order_type]
    if order_type is OrderType.PREHEAT and takes_preheat_c and (unit or value is not None):
        return _preheat_target(value, unit)
    if not control:
        return _state_target(order_type, value, unit)
    if value is None or not math.isfinite(value):
        return Conversion(misfit=_target_missing(order_type))
    if unit not in UNITS_OF_CONTROL[control]:
        return Conversion(misfit=_unit_misfit(order_type, unit, control))
    if unit == Unit.STEP:
        return Conversion(step=_round(control, Fraction(value)))
    if full_scale_step is None:
        return Conversion(
            misfit=Misfit(
                "no_envelope", f"This machine has no limits for its {control}.", "A lead sets the machine's envelope."
            )
        )
    return Conversion(step=_round(control, Fraction(value) * full_scale_step / 100))


def _round(control: str, exact: Fraction) -> int:
    if control == "heater":
        return math.floor(exact)
    return math.floor(exact + Fraction(1, 2))


def _state_target(order_type: OrderType, value: float | None, unit: str) -> Conversion:
    if value is None and not unit:
        return Conversion()
    return Conversion(
        misfit=Misfit(
            "target_not_supported",
            f"{order_type.value} takes no target on this machine.",
            "Leave target_value and target_unit out; the preheat temperature is set at the panel.",
        )
    )


def _preheat_target(value: float | None, unit: str) -> Conversion:
    if value is None or not math.isfinite(value):
        return Conversion(misfit=_target_missing(OrderType.PREHEAT))
    if unit != Unit.CELSIUS:
        return Conversion(
            misfit=Misfit(
                "unit_does_not_fit",
                f"PREHEAT cannot be given in {unit or 'no unit'}.",
                "Give it in celsius, or without a target.",
            )
        )
    return Conversion(preheat_c=math.floor(value))


def _target_missing(order_type: OrderType) -> Misfit:
    return Misfit("target_missing", f"{order_type.value} needs a target.", "Send target_value and target_unit.")


def _unit_misfit(order_type: OrderType, unit: str, control: str) -> Misfit:
    fitting = ", ".join(sorted(UNITS_OF_CONTROL[control]))
    return Misfit(
        "unit_does_not_fit",
        f"{order_type.value} cannot be given in {unit or 'no unit'}.",
        f"Give the {control} in one of: {fitting}.",
    )
