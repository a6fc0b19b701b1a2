"""What a commissioning's steps and a drill are judged by, gathered from rows. A fixed number of queries."""

from __future__ import annotations

import datetime as dt
from typing import Any

from commands.api.serializers import render_time
from commands.commissioning import drill as stop_drill
from commands.commissioning.steps import DrillSeen, Facts, Loss, Move
from commands.console import machine_state
from commands.models import Alarm, Proposal, StopDrill
from commands.rules import policies
from kernel import live
from roasts.models import ControlLimit, Machine, MachineReading

SENSORS = (
    "bean_temp_c", "infrared_temp_c", "environment_temp_c", "exhaust_temp_c", "ambient_temp_c", "voltage_v",
)  # fmt: skip
BOUNDS = (
    "max_bean_temp_c", "max_infrared_temp_c", "max_exhaust_temp_c", "max_rate_of_rise_c_per_min", "max_heat_time_s",
    "silence_policy",
)  # fmt: skip
MAX_ROWS = 200
HISTORY = 20


def limits_of(machine: Machine) -> dict[str, Any]:
    """Every limit a person reviews: the machine's own and each control's. JSON values, sorted."""
    found: dict[str, Any] = {name: getattr(machine, name) for name in BOUNDS}
    for limit in ControlLimit.objects.filter(machine=machine).order_by("control"):
        for name in ("min_step", "max_step", "max_change_step", "min_interval_s", "max_ramp_step_per_s"):
            found[f"{limit.control}: {name}"] = getattr(limit, name)
    return found


def reading_of(machine: Machine, now: dt.datetime) -> tuple[dict[str, Any] | None, str]:
    """The newest reading anybody has, and the link's word."""
    latest = MachineReading.objects.filter(machine=machine).first()
    payload = live.latest_reading(machine.organization_id, machine.pk)
    reading = machine_state.newest_reading(latest, payload, now)
    return reading, machine_state.link_of(machine, latest, payload, reading, now)[0]


def facts_of(machine: Machine, since: dt.datetime, now: dt.datetime) -> Facts:
    """What a step begun at ``since`` may be judged by now."""
    reading, link = reading_of(machine, now)
    latest = MachineReading.objects.filter(machine=machine).first()
    return Facts(
        is_link_up=link == MachineReading.Link.UP.value,
        age_s=None if reading is None else reading["age_ms"] / 1000,
        interval_s=None if reading is None else reading["interval_s"],
        identity=dict(latest.identity) if latest is not None else {},
        readings={name: reading.get(name) for name in SENSORS} if reading else {},
        quality=dict(reading.get("quality") or {}) if reading else {},
        limits=limits_of(machine),
        moves=_moves(machine, since),
        losses=_losses(machine, since),
        drills=_drills(machine, since),
    )


def _moves(machine: Machine, since: dt.datetime) -> tuple[Move, ...]:
    """People's own orders that ended well, oldest first."""
    orders = (
        Proposal.objects.filter(
            machine=machine, proposer_user__isnull=False, proposed_at__gte=since, status="COMPLETED"
        )
        .exclude(control="")
        .select_related("execution")
        .prefetch_related("execution__stages")
        .order_by("proposed_at", "id")[:MAX_ROWS]
    )
    return tuple(_move_of(order) for order in orders)


def _move_of(order: Proposal) -> Move:
    execution = getattr(order, "execution", None)
    stages = {stage.stage: stage.detail for stage in execution.stages.all()} if execution is not None else {}
    writes = stages.get("sent", {}).get("writes") or ()
    return Move(
        proposal_id=order.pk,
        control=order.control,
        from_step=execution.from_step if execution is not None else order.from_step,
        to_step=order.target_step,
        read_back_step=order.actual_step,
        data_hex=tuple(str(write.get("data_hex", "")) for write in writes),
    )


def _losses(machine: Machine, since: dt.datetime) -> tuple[Loss, ...]:
    lost = Alarm.objects.filter(machine=machine, code="lost_device", raised_at__gte=since).order_by("raised_at", "id")
    return tuple(
        Loss(alarm.pk, str(render_time(alarm.raised_at)), str(render_time(alarm.cleared_at) or ""))
        for alarm in lost[:MAX_ROWS]
    )


def _drills(machine: Machine, since: dt.datetime) -> tuple[DrillSeen, ...]:
    drills = StopDrill.objects.filter(machine=machine, at__gte=since).order_by("at", "id")[:MAX_ROWS]
    return tuple(
        DrillSeen(
            drill.pk, drill.is_passed, bool(drill.proof.get("has_heat_gone_down")), drill.first_byte_ms, drill.proved_ms
        )
        for drill in drills
    )


def drill_state(machine: Machine, now: dt.datetime) -> dict[str, Any]:
    """The newest drill, whether one is due, and until when the newest counts. A failed one voids those before."""
    last = StopDrill.objects.filter(machine=machine).select_related("user").first()
    max_age_s = policies.policy_of(machine.organization_id).drill_max_age_s
    age_s = (now - last.at).total_seconds() if last is not None and last.is_passed else None
    is_due = stop_drill.is_due(last_passed_age_s=age_s, max_age_s=max_age_s)
    until = last.at + dt.timedelta(seconds=max_age_s) if last is not None and not is_due else None
    return {"last": last, "is_due": is_due, "counts_until": until, "max_age_s": max_age_s}
