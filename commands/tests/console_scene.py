"""A shift at a bench, built through the models: what the console's pages are tested and looked at with."""

from __future__ import annotations

import ast
import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from django.contrib.auth import get_user_model

from commands.models import (
    Alarm,
    Approval,
    Execution,
    ExecutionStage,
    Grant,
    Halt,
    MachineLease,
    Proposal,
    ProposalTransition,
    Suspension,
)
from commands.tests.rows import commissioned
from kernel.models import Agent, Membership, Organization, Site
from roasts.models import ControlLimit, Machine, MachineReading, Roast, RoastEvent, Sample

PASSWORD = "a shift long enough"


@dataclass(frozen=True)
class Scene:
    """The rows a test names."""

    organization: Organization
    operator: object
    lead: object
    viewer: object
    agent: Agent
    machine: Machine
    roast: Roast


def build(now: dt.datetime, *, slug: str = "demo", machine_name: str = "Bench Bullet") -> Scene:
    """One organisation with an operator, a lead, a viewer, an agent owned by the lead, and a roasting machine."""
    users = get_user_model().objects
    organization = Organization.objects.create(slug=slug, name=slug.title() + " Roastery", created_at=now)
    people = {}
    for role in ("operator", "lead", "viewer"):
        person = users.create_user(f"{role}" if slug == "demo" else f"{role}-{slug}", password=PASSWORD)
        Membership.objects.create(organization=organization, user=person, role=role)
        people[role] = person
    site = Site.objects.create(organization=organization, name="Roastery", time_zone="UTC")
    agent = Agent.objects.create(
        organization=organization, name="roastrunner", release="0.1.0", owner=people["lead"], created_at=now
    )
    machine = Machine.objects.create(
        organization=organization, site=site, name=machine_name, driver_kind="bullet-r1", is_virtual=True,
        created_at=now,
    )  # fmt: skip
    for control, low, high in (("heater", 0, 9), ("fan", 1, 12), ("drum", 1, 9)):
        ControlLimit.objects.create(
            machine=machine, control=control, min_step=low, max_step=high, full_scale_step=high, max_change_step=2
        )
    roast = Roast.objects.create(
        organization=organization,
        machine=machine,
        status="roasting",
        started_at=now - dt.timedelta(seconds=400),
        device_start_ms=0,
    )
    commissioned(machine)
    set_latest(machine, now)
    tend(machine, now)
    return Scene(organization, people["operator"], people["lead"], people["viewer"], agent, machine, roast)


def tend(machine: Machine, now: dt.datetime) -> None:
    """A machine loop holds its lease."""
    MachineLease.objects.create(
        machine=machine, owner="loop", token=1, expires_at=now + dt.timedelta(hours=1), heartbeat_at=now
    )


def set_latest(machine: Machine, now: dt.datetime, **changes: object) -> MachineReading:
    """Rewrite the machine's latest row."""
    values = {
        "link": "up",
        "at": now,
        "state": "roasting",
        "bean_temp_c": 178.4,
        "infrared_temp_c": 201.2,
        "rate_of_rise_c_per_min": 11.3,
        "heater_step": 7,
        "fan_step": 4,
        "drum_step": 7,
        "device_ms": 400_000,
        "are_beans_proved": True,
        "written_at": now,
    }
    values.update(changes)
    row, _ = MachineReading.objects.update_or_create(machine=machine, defaults=values)
    return row


ORDER_TYPES = {"heater": "SET_POWER", "fan": "SET_FAN", "drum": "SET_DRUM"}


def hold_order(scene: Scene, now: dt.datetime, *, control: str = "heater", expires_in_s: float = 45) -> Proposal:
    """An agent's order from step 7 to step 6, held for a person."""
    proposal = Proposal.objects.create(
        organization=scene.organization,
        machine=scene.machine,
        roast=scene.roast,
        order_type=ORDER_TYPES[control],
        control=control,
        asked_value=67,
        asked_unit="percent",
        target_step=6,
        from_step=7,
        reasoning="Rate of rise 16.8 °C/min is above the corridor for 12 s at 178 °C; one step less heat bends it "
        "back before first crack.",
        evidence=[{"rate_of_rise_c_per_min": 16.8, "corridor_top_c_per_min": 13.5, "held_s": 12}, "sample 4021"],
        proposer_agent=scene.agent,
        agent_release="0.1.0",
        status="PENDING_APPROVAL",
        decision="HOLD",
        reasons=[
            {
                "code": "approval_required",
                "decision": "HOLD",
                "message": "roastrunner may act here with approval (level L3).",
                "how_to_fix": "",
            }
        ],
        digest="d" * 64,
        proposed_at=now,
        expires_at=now + dt.timedelta(seconds=expires_in_s),
    )
    ProposalTransition.objects.create(
        proposal=proposal, from_status="PROPOSED", to_status="PENDING_APPROVAL", actor_kind="system",
        actor_id="governor", actor_name="governor", at=now, detail={},
    )  # fmt: skip
    return proposal


def complete_order(scene: Scene, at: dt.datetime) -> Proposal:
    """An order that was approved, sent, read back and completed."""
    proposal = hold_order(scene, at)
    steps = (("APPROVED", "person", "operator", 6.2), ("EXECUTING", "system", "machine loop", 6.3))
    for status, kind, name, after_s in (*steps, ("COMPLETED", "system", "machine loop", 7.0)):
        ProposalTransition.objects.create(
            proposal=proposal, from_status="", to_status=status, actor_kind=kind, actor_id=name, actor_name=name,
            at=at + dt.timedelta(seconds=after_s), detail={},
        )  # fmt: skip
    row = Proposal.objects.filter(pk=proposal.pk)
    Approval.objects.create(proposal=proposal, user=scene.operator, digest=proposal.digest, at=at)
    row.update(status="APPROVED", approver=scene.operator, approved_digest=proposal.digest, decided_at=at)
    execution = Execution.objects.create(
        proposal=proposal, machine=scene.machine, lease_token=1, from_step=7, claimed_at=at, outcome="proved"
    )
    writes = [{"meaning": "heater -1", "data_hex": "3402aaaa"}]
    for stage, after_s, detail in (("sent", 6.34, {"writes": writes}), ("read_back", 6.9, {"value_after": 6})):
        ExecutionStage.objects.create(
            execution=execution, stage=stage, at=at + dt.timedelta(seconds=after_s), detail=detail
        )
    row.update(status="EXECUTING")
    row.update(status="COMPLETED", actual_step=6, settled_at=at)
    proposal.refresh_from_db()
    return proposal


def advise(scene: Scene, now: dt.datetime) -> Proposal:
    """An agent's fan order, refused because it may only recommend: advice."""
    return Proposal.objects.create(
        organization=scene.organization, machine=scene.machine, roast=scene.roast, order_type="SET_FAN", control="fan",
        asked_value=5, asked_unit="step", target_step=5, from_step=4, reasoning="More air carries the smoke off.",
        proposer_agent=scene.agent, status="REJECTED", decision="REFUSE", digest="a" * 64, proposed_at=now,
        expires_at=now + dt.timedelta(seconds=45),
        reasons=[{"code": "no_grant", "decision": "REFUSE", "message": "roastrunner has no grant here.",
                  "how_to_fix": "A lead signs a grant, or a person adopts the advice."}],
    )  # fmt: skip


def adopt(scene: Scene, advice: Proposal, now: dt.datetime) -> Proposal:
    """The operator makes an agent's advice their own order."""
    order = Proposal.objects.create(
        organization=scene.organization, machine=scene.machine, roast=scene.roast, order_type=advice.order_type,
        control=advice.control, asked_value=5, asked_unit="step", target_step=5, from_step=4, reasoning="Adopted.",
        proposer_user=scene.operator, adopted_from=advice, decision="ALLOW", digest="b" * 64,
        proposed_at=now, expires_at=now + dt.timedelta(seconds=45), reasons=[],
    )  # fmt: skip
    Proposal.objects.filter(pk=order.pk).update(status="APPROVED", decided_at=now)
    return order


def stop_machine(scene: Scene, now: dt.datetime, *, result: str = "heat_off") -> Halt:
    """A person's STOP, with its result."""
    return Halt.objects.create(
        organization=scene.organization, machine=scene.machine, kind="stop", opened_at=now, opened_by_kind="person",
        opened_by_id="usr_1", opened_by_name="operator", result=result,
        first_byte_ms=4.1 if result == "heat_off" else None, proved_ms=812.0 if result == "heat_off" else None,
        by_hand=[] if result == "heat_off" else ["Press PRS on the panel", "Or pull the mains plug"],
    )  # fmt: skip


def raise_alarm(scene: Scene, now: dt.datetime, *, code: str = "bean_temp_high", priority: str = "high") -> Alarm:
    """A standing alarm."""
    return Alarm.objects.create(
        organization=scene.organization, machine=scene.machine, code=code, priority=priority, raised_at=now,
        cause="Bean temperature 226 °C is above its limit of 225 °C", consequence="The beans may catch fire.",
        action="Drop the beans by hand now.",
    )  # fmt: skip


def grant(scene: Scene, now: dt.datetime, *, level: str = "L3", expires_at: dt.datetime | None = None) -> Grant:
    """A lead's grant to the agent."""
    return Grant.objects.create(
        organization=scene.organization, agent=scene.agent, machine=scene.machine, level=level,
        granted_by=scene.lead, granted_at=now, reason="passed the golden roasts", expires_at=expires_at,
    )  # fmt: skip


def suspend(scene: Scene, now: dt.datetime) -> Suspension:
    """The operator has it."""
    return Suspension.objects.create(
        organization=scene.organization, machine=scene.machine, taken_by=scene.operator, taken_at=now
    )


def mark(scene: Scene, now: dt.datetime, kind: str, elapsed_ms: int, *, by: object = None) -> RoastEvent:
    """A mark by a person, or by the machine."""
    return RoastEvent.objects.create(
        roast=scene.roast, kind=kind, elapsed_ms=elapsed_ms, source="person" if by else "device", marked_by=by, at=now
    )


def film_alog(scene: Scene, path: Path, *, until_s: float) -> list[dict]:
    """Fill the roast with a recorded roast's readings up to ``until_s`` after charge; returns all its rows."""
    rows = read_alog(path)
    Sample.objects.bulk_create(
        Sample(
            roast=scene.roast,
            elapsed_ms=row["elapsed_ms"],
            sequence=i,
            at=scene.roast.started_at + dt.timedelta(milliseconds=row["elapsed_ms"]),
            state="roasting",
            **{k: row[k] for k in row if k != "elapsed_ms"},
        )
        for i, row in enumerate(rows)
        if 0 <= row["elapsed_ms"] <= until_s * 1000
    )
    return rows


def read_alog(path: Path) -> list[dict]:
    """Rows of an Artisan log of a Bullet R1, by milliseconds since charge, with a plain 20 s rate of rise."""
    log = ast.literal_eval(path.read_text())
    charge = max(0, log["timeindex"][0])
    start_s = log["timex"][charge]
    rows = []
    times, beans, infrared = log["timex"], log["temp2"], log["temp1"]
    for i, second in enumerate(times):
        past = max((j for j in range(i) if second - times[j] >= 20), default=None)
        rate = None if past is None else 60 * (beans[i] - beans[past]) / (second - times[past])
        rows.append(
            {
                "elapsed_ms": round((second - start_s) * 1000),
                "bean_temp_c": beans[i],
                "infrared_temp_c": infrared[i],
                "rate_of_rise_c_per_min": rate,
                "heater_step": round(log["extratemp1"][0][i] / 10),
                "fan_step": round(log["extratemp2"][0][i] / 10),
                "drum_step": round(log["extratemp2"][1][i] / 10),
            }
        )
    return rows
