"""A machine's envelope: what it is, and a lead's change of it. A limit never exceeds what the machine's kind can do."""

from __future__ import annotations

import datetime as dt
from typing import Any

from commands.api.serializers import LimitSerializer
from kernel.errors import Malformed, NotFound
from kernel.principals import Principal
from roasts import machines
from roasts.models import ControlLimit, Machine

MAXIMA = (
    "max_bean_temp_c", "max_infrared_temp_c", "max_exhaust_temp_c", "max_rate_of_rise_c_per_min", "max_heat_time_s",
    "max_preheat_temp_c",
)  # fmt: skip
CONTROL_ORDER = {"heater": 0, "fan": 1, "drum": 2}


def limits_of(machine: Machine) -> list[ControlLimit]:
    """Heater, fan, drum, as far as there are limits."""
    rows: list[ControlLimit] = list(machine.limits.all())  # type: ignore[attr-defined]
    return sorted(rows, key=lambda row: CONTROL_ORDER.get(row.control, 9))


def render_envelope(machine: Machine) -> dict[str, Any]:
    """For the API: maxima of the machine, limits per control in native steps."""
    names = list(LimitSerializer().fields)
    return {
        "machine_id": machine.pk,
        "machine": machine.name,
        **{name: getattr(machine, name) for name in MAXIMA},
        "limits": [{name: getattr(row, name) for name in names} for row in limits_of(machine)],
    }


def kind_range(machine: Machine, control: str) -> tuple[int, int] | None:
    """First and last step that this kind of machine has at all; None where nobody knows."""
    for start in machines.START_LIMITS.get(machine.driver_kind, ()):
        if start.control == control:
            return start.min_step, start.max_step
    return None


def set_limit(
    principal: Principal, machine: Machine, values: dict[str, Any], *, reason: str, now: dt.datetime
) -> ControlLimit:
    """A lead sets one control's limits. Malformed: an envelope that does not hold together or exceeds the machine."""
    control = values["control"]
    limit = next((row for row in limits_of(machine) if row.control == control), None)
    if limit is None:
        raise NotFound("limit_not_found", f"{machine.name} has no {control}.", "See GET /v1/envelopes.")
    changed: dict[str, Any] = {}
    for name, value in values.items():
        if name != "control" and getattr(limit, name) != value:
            changed[name] = value
            setattr(limit, name, value)
    if limit.min_step > limit.max_step:
        raise Malformed("limits_crossed", "The lowest step is above the highest.", "Give min_step ≤ max_step.")
    known = kind_range(machine, control)
    if known is not None and (limit.min_step < known[0] or limit.max_step > known[1]):
        raise Malformed(
            "beyond_machine", f"The {control} of this machine has steps {known[0]} to {known[1]}.",
            "Stay within them.",
        )  # fmt: skip
    return machines.change_limit(principal, limit, changed={**changed, "reason": reason}, now=now)


def apply_maxima(machine: Machine, values: dict[str, Any]) -> dict[str, Any]:
    """Set the machine's maxima on the row (not saved); what changed, for the trail."""
    changed = {name: value for name, value in values.items() if getattr(machine, name) != value}
    for name, value in changed.items():
        setattr(machine, name, value)
    return changed
