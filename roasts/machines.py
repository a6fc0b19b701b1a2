"""Taking a machine into the house, and setting its limits: a lead's acts, each in the audit trail."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from drivers.port import DriverError
from drivers.registry import KINDS, BadOption, make_driver
from kernel import audit, live
from kernel.errors import Forbidden
from kernel.principals import Principal
from roasts import option_words
from roasts.models import ControlLimit, Machine
from roasts.recording import services_planned


@dataclass(frozen=True, slots=True)
class StartLimit:
    """A control's envelope on a new machine, native steps; intervals in seconds."""

    control: str
    min_step: int
    max_step: int
    max_change_step: int
    min_interval_s: float


#: What a new machine of a kind starts with; a lead may narrow it. Ranges: the driver's own (reference §1.9).
START_LIMITS: dict[str, tuple[StartLimit, ...]] = {
    "bullet-r1": (
        StartLimit("heater", 0, 9, 1, 20.0),
        StartLimit("fan", 1, 12, 1, 10.0),
        StartLimit("drum", 1, 9, 1, 10.0),
    ),
    "bullet-r2": (
        StartLimit("heater", 0, 14, 1, 20.0),  # one step is less heat than on an R1: a lead may widen it
        StartLimit("fan", 1, 12, 1, 10.0),
        StartLimit("drum", 1, 9, 1, 10.0),
    ),
}
#: Machines whose steps are percent: what one declares (HELLO, or the options of a TC4) may be narrower still.
_PERCENT_LIMITS = (
    StartLimit("heater", 0, 100, 10, 20.0),
    StartLimit("fan", 0, 100, 10, 10.0),
    StartLimit("drum", 0, 100, 10, 10.0),
)
START_LIMITS |= dict.fromkeys(("tcp-line", "tc4-serial", "tc4-tcp"), _PERCENT_LIMITS)


def known_kinds() -> list[str]:
    """Kinds of driver a machine may have, sorted."""
    return sorted(KINDS)


def check_driver(kind: str, options: dict[str, Any]) -> str | None:
    """Why no driver can be made of this, for a person, in their language; None where one can. Opens nothing."""
    try:
        make_driver(kind, options)
    except BadOption as error:
        return option_words.fault_words(error.message_words, error.how_to_fix_words, meant=error.meant, gaps=error.gaps)
    except DriverError as error:
        return option_words.as_sentences(error.message, error.how_to_fix)
    return None


def add_machine(principal: Principal, machine: Machine, *, now: dt.datetime) -> Machine:
    """File a new machine with its kind's starting limits. Forbidden: only a lead. The caller has checked its driver."""
    _require_lead(principal)
    with transaction.atomic():
        machine.organization = principal.organization  # type: ignore[assignment]
        machine.created_at = now
        machine.save(force_insert=True)
        ControlLimit.objects.bulk_create(
            ControlLimit(
                machine=machine,
                control=each.control,
                min_step=each.min_step,
                max_step=each.max_step,
                full_scale_step=each.max_step,
                max_change_step=each.max_change_step,
                min_interval_s=each.min_interval_s,
            )
            for each in START_LIMITS.get(machine.driver_kind, ())
        )
        _tell(principal, machine, "machine_added", {"driver_kind": machine.driver_kind, "name": machine.name}, now)
    return machine


def change_machine(principal: Principal, machine: Machine, *, changed: dict[str, Any], now: dt.datetime) -> Machine:
    """Keep a lead's edit of a machine; ``changed``: field → new value, for the trail. Forbidden: only a lead.

    One that is put away takes its planned batch along: nobody could see it, or charge it.
    """
    _require_lead(principal)
    with transaction.atomic():
        machine.save()
        _tell(principal, machine, "machine_changed", changed, now)
        if machine.is_archived:
            services_planned.withdraw_with_machine(principal, machine, now=now)
    return machine


def change_limit(
    principal: Principal, limit: ControlLimit, *, changed: dict[str, Any], now: dt.datetime
) -> ControlLimit:
    """Keep a lead's edit of one control's envelope. Forbidden: only a lead."""
    _require_lead(principal)
    with transaction.atomic():
        limit.save()
        _tell(principal, limit.machine, "envelope_changed", {"control": limit.control, **changed}, now)
    return limit


def _require_lead(principal: Principal) -> None:
    if not (principal.is_person and principal.may("lead")):
        raise Forbidden("not_allowed", "Machines and their limits are a lead's to set.", "Ask a lead.")


def _tell(principal: Principal, machine: Machine, verb: str, payload: dict[str, Any], now: dt.datetime) -> None:
    organization = principal.organization
    if organization is None:
        raise Forbidden("not_allowed", "You belong to no organisation.", "Ask an admin.")
    audit.record(organization, principal, verb, "machine", machine.pk, payload, now=now)
    live.publish_decision(organization, "machine", machine.pk, machine.pk, {"what": verb}, now=now)
