"""Who and what is there before an episode begins: people, two agents, and machines in every situation of an order.

Built once per database through the product's own services; `simulation.world` puts it back before each episode.
"""

from __future__ import annotations

import dataclasses
import datetime as dt

from django.contrib.auth.models import User

from commands import services, situation
from commands.loop import lease
from commands.models import Attendance, Commissioning, Execution, Proposal, StopDrill
from commands.rules.conversion import OrderType
from drivers.port import MachineState, Reading
from kernel.models import Agent, Membership, Organization, Role, Site
from kernel.principals import Principal, for_user
from kernel.sealer import Sealer
from roasts.models import ControlLimit, Machine, MachineReading, Roast, RoastStatus
from simulation.beginning import DEADLINE_MS, FIRST_LOOP, GONE_LOOP, GRAVE_STEPS, MACHINES, STEPS
from simulation.virtual_clock import BEGIN

#: What every machine reads.
BEAN_TEMP_C, INFRARED_TEMP_C, RATE_C_PER_MIN = 180.0, 200.0, 12.0
DEVICE_MS, SEQUENCE = 400_000, 10


@dataclasses.dataclass(frozen=True, slots=True)
class Cast:
    """Everybody and everything by name. ``orders``: machine's name -> ids of its orders, oldest first."""

    principals: dict[str, Principal]
    agents: dict[str, Agent]
    machines: dict[str, Machine]
    orders: dict[str, tuple[str, ...]]


def reading_at(now: dt.datetime, monotonic_s: float, steps: dict[str, int], sequence: int) -> Reading:
    """What a machine in mid-roast reads."""
    return Reading(
        sequence=sequence, at=now, monotonic_s=monotonic_s, device_ms=DEVICE_MS + sequence * 200,
        state=MachineState.ROASTING, bean_temp_c=BEAN_TEMP_C, infrared_temp_c=INFRARED_TEMP_C,
        heater_step=steps["heater"], fan_step=steps["fan"], drum_step=steps["drum"],
    )  # fmt: skip


def steps_of(machine: str) -> dict[str, int]:
    """Where the machine of that name stands when an episode begins."""
    return GRAVE_STEPS if machine == "grave" else STEPS


def populate() -> Cast:
    """The beginning of every episode."""
    organization = Organization.objects.create(slug="demo", name="Demo", created_at=BEGIN)
    other = Organization.objects.create(slug="other", name="Other", created_at=BEGIN)
    people = {
        "operator": _person("operator", organization, Role.OPERATOR),
        "second": _person("second", organization, Role.OPERATOR),
        "third": _person("third", organization, Role.OPERATOR),
        "lead": _person("lead", organization, Role.LEAD),
        "other_lead": _person("other_lead", organization, Role.LEAD),
        "viewer": _person("viewer", organization, Role.VIEWER),
        "stranger": _person("stranger", other, Role.LEAD),
    }
    agents = {
        name: Agent.objects.create(organization=organization, name=name, owner=people[owner], created_at=BEGIN)
        for name, owner in (("agent_a", "lead"), ("agent_b", "second"))
    }
    principals = {name: for_user(user) for name, user in people.items()}
    principals |= {name: _agent_principal(agent) for name, agent in agents.items()}
    site = Site.objects.create(organization=organization, name="Roastery")
    machines = {name: _machine(name, organization, site, people["lead"]) for name in MACHINES}
    cast, orders = Cast(principals, agents, machines, {}), {}
    for name in MACHINES:
        if name == MACHINES[-1]:
            _seal()
        orders[name] = tuple(_order_ids(cast, name))
    return dataclasses.replace(cast, orders=orders)


def _seal() -> None:
    """What is written so far was sealed long ago; what the last machine writes is left to an episode's sealers."""
    sealer = Sealer("sealer-before")
    while sealer.tick(BEGIN):
        pass
    sealer.let_go(BEGIN)


def _person(username: str, organization: Organization, role: Role) -> User:
    user = User.objects.create(username=username, date_joined=BEGIN)
    Membership.objects.create(organization=organization, user=user, role=role.value)
    return user


def _agent_principal(agent: Agent) -> Principal:
    return Principal(
        kind="agent", id=agent.pk, name=agent.name, organization=agent.organization, agent=agent,
        scopes=frozenset({"read", "propose"}), via="key",
    )  # fmt: skip


def _machine(name: str, organization: Organization, site: Site, lead: User) -> Machine:
    machine = Machine.objects.create(
        organization=organization, site=site, name=name, driver_kind="bullet-r1", created_at=BEGIN
    )
    for control, low, high in (("heater", 0, 9), ("fan", 1, 12), ("drum", 1, 9)):
        ControlLimit.objects.create(
            machine=machine, control=control, min_step=low, max_step=high, full_scale_step=high,
            max_change_step=9 if name == "grave" else 3,
        )  # fmt: skip
    steps = steps_of(name)
    MachineReading.objects.create(
        machine=machine, link="up", at=BEGIN, state="roasting", bean_temp_c=BEAN_TEMP_C, heater_step=steps["heater"],
        infrared_temp_c=INFRARED_TEMP_C, rate_of_rise_c_per_min=RATE_C_PER_MIN, fan_step=steps["fan"],
        drum_step=steps["drum"], device_ms=DEVICE_MS, are_beans_proved=True, written_at=BEGIN, sequence=SEQUENCE,
    )  # fmt: skip
    Roast.objects.create(
        organization=organization, machine=machine, status=RoastStatus.ROASTING.value, device_start_ms=0,
        started_at=BEGIN - dt.timedelta(seconds=400),
    )  # fmt: skip
    whose = {"organization": organization, "machine": machine}
    Commissioning.objects.create(**whose, begun_by=lead, begun_at=BEGIN, completed_by=lead, completed_at=BEGIN)
    StopDrill.objects.create(**whose, user=lead, at=BEGIN, is_passed=True, result="heat_off")
    Attendance.objects.create(**whose, user=lead, at=BEGIN)
    return machine


def _order_ids(cast: Cast, name: str) -> list[str]:
    """Grants, lease and orders of one machine, as its name says."""
    machine, lead = cast.machines[name], cast.principals["lead"]
    is_lost = name in ("flying", "doubt")
    taken_at = BEGIN - dt.timedelta(seconds=10) if is_lost else BEGIN
    lease.take_lease(machine.pk, owner=GONE_LOOP if is_lost else FIRST_LOOP, now=taken_at)
    for agent in cast.agents.values():
        services.grant_autonomy(lead, agent=agent, machine=machine, level="L4" if name == "window" else "L3", now=BEGIN)
    if name == "free":
        return []
    held = [_propose(cast, "agent_a", machine, "SET_POWER", 7 if name == "grave" else STEPS["heater"] - 1)]
    if name in ("held", "shared", "window"):
        held.append(_propose(cast, "agent_b", machine, "SET_FAN", STEPS["fan"] + 2))
    if name == "shared":
        held.append(_propose(cast, "agent_a", machine, "SET_DRUM", STEPS["drum"] - 1))
    approved = {"ready": held, "flying": held, "doubt": held, "shared": held[:1]}.get(name, [])
    for proposal in approved:
        services.approve_proposal(cast.principals["operator"], proposal, digest=proposal.digest, now=BEGIN)
    if is_lost:
        execution = _claim(held[0])
        if name == "doubt":
            services.mark_in_doubt(execution, code="executor_lost", message="The loop is gone.", now=BEGIN)
    return [proposal.pk for proposal in held]


def _propose(cast: Cast, who: str, machine: Machine, order_type: str, target: int) -> Proposal:
    return services.propose_order(
        cast.principals[who], machine=machine, order_type=OrderType(order_type).value, target_value=float(target),
        target_unit="step", reasoning="It rises too fast.", expires_in_s=DEADLINE_MS / 1000, now=BEGIN,
    )  # fmt: skip


def _claim(proposal: Proposal) -> Execution:
    fresh = Proposal.objects.select_related("proposer_agent", "proposer_user", "organization").get(pk=proposal.pk)
    gathered = situation.gather(
        fresh.machine_id, fresh, None, BEGIN, reading=reading_at(BEGIN, 0.0, STEPS, SEQUENCE), keeper_latched=False
    )
    execution = services.claim_execution(fresh.pk, lease_token=1, situation=gathered, now=BEGIN)
    if execution is None:
        raise ValueError(f"the order of the machine {proposal.machine_id} could not be claimed")
    return execution
