"""A machine on the bench, and who works at it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from commands import services
from commands.models import Proposal
from commands.tests import console_scene
from commands.tests.rows import commissioned
from kernel import clock
from kernel.models import Agent, Organization, Site
from roasts.models import ControlLimit, Machine, MachineReading, Roast

NOW = dt.datetime(2026, 11, 21, 8, 0, tzinfo=dt.UTC)


@pytest.fixture
def now() -> dt.datetime:
    return clock.now()


@pytest.fixture
def run_dir(settings: Any, tmp_path: Path) -> Path:
    """A run folder of its own: no keeper of another test is found in it."""
    settings.RUN_DIR = tmp_path
    return tmp_path


@pytest.fixture
def scene(now: dt.datetime, run_dir: Path) -> console_scene.Scene:
    """A roastery for pages: people, an agent, a machine in mid-roast."""
    return console_scene.build(now)


@pytest.fixture
def machine(organization: Organization, site: Site, people: Any, now: dt.datetime) -> Machine:
    """A Bullet in mid-roast, fit for agents: heater 6, fan 4, drum 7, beans proved, reading fresh."""
    row = Machine.objects.create(
        organization=organization, site=site, name="Bullet", driver_kind="bullet-r1", created_at=now
    )
    for control, low, high in (("heater", 0, 9), ("fan", 1, 12), ("drum", 1, 9)):
        ControlLimit.objects.create(
            machine=row, control=control, min_step=low, max_step=high, full_scale_step=high, max_change_step=2
        )
    set_reading(row, now)
    return commissioned(row, drilled_at=now)


def set_reading(machine: Machine, at: dt.datetime, **changes: Any) -> MachineReading:
    """Write the machine's latest row."""
    values: dict[str, Any] = {
        "link": "up",
        "at": at,
        "state": "roasting",
        "bean_temp_c": 180.0,
        "infrared_temp_c": 200.0,
        "rate_of_rise_c_per_min": 12.0,
        "heater_step": 6,
        "fan_step": 4,
        "drum_step": 7,
        "device_ms": 400_000,
        "are_beans_proved": True,
        "written_at": at,
        "sequence": 10,
    }
    row, _ = MachineReading.objects.update_or_create(machine=machine, defaults=values | changes)
    return row


@pytest.fixture
def roast(machine: Machine, now: dt.datetime) -> Roast:
    return Roast.objects.create(
        organization=machine.organization,
        machine=machine,
        status="roasting",
        device_start_ms=0,
        started_at=now - dt.timedelta(seconds=400),
    )


@pytest.fixture
def granted(people: Any, agent: Agent, machine: Machine, now: dt.datetime) -> Any:
    """The lead grants the agent L3."""
    return services.grant_autonomy(people.principal("lead"), agent=agent, machine=machine, level="L3", now=now)


@pytest.fixture
def propose(machine: Machine, now: dt.datetime) -> Callable[..., Proposal]:
    """`propose(principal, target=5)`: an order, SET_POWER in steps by default."""

    def ask(principal: Any, order_type: str = "SET_POWER", target: float | None = 5, **more: Any) -> Proposal:
        unit = more.pop("unit", "step" if target is not None else None)
        at = more.pop("now", now)
        return services.propose_order(
            principal,
            machine=more.pop("machine", machine),
            order_type=order_type,
            target_value=target,
            target_unit=unit,
            reasoning="It rises too fast.",
            now=at,
            **more,
        )

    return ask


@pytest.fixture
def held(granted: Any, agent_principal: Any, propose: Callable[..., Proposal]) -> Proposal:
    """The agent's heater 6 → 5, held for a person."""
    return propose(agent_principal)
