"""A machine's row as its keeper and its loop's keeper side need it: they ask the store nothing."""

from __future__ import annotations

import math
from pathlib import Path

from commands.loop.interlocks import WARMING_HEATER_STEP, Limits
from commands.loop.notes import MachineFacts
from drivers import keeper_config
from drivers.keeper_config import KeeperConfig
from kernel.prepared import Prepared
from roasts.models import ControlLimit, Machine


def config_of(machine: Machine, run_dir: Path) -> KeeperConfig:
    """The keeper's config as the machine's row says it."""
    return keeper_config.make(
        run_dir,
        machine_id=machine.pk,
        name=machine.name,
        driver_kind=machine.driver_kind,
        driver_options=machine.driver_options,
        silence_policy=machine.silence_policy,
        limits=keeper_config.Limits(
            machine.max_bean_temp_c, machine.max_infrared_temp_c, machine.max_heat_time_s, machine.max_exhaust_temp_c
        ),
        organization_id=machine.organization_id,
    )


def facts_of(machine: Machine) -> MachineFacts:
    """What the keeper side must know without the store."""
    return MachineFacts(
        machine_id=machine.pk,
        organization_id=machine.organization_id,
        name=machine.name,
        limits=Limits(
            max_bean_temp_c=machine.max_bean_temp_c,
            max_infrared_temp_c=machine.max_infrared_temp_c,
            max_exhaust_temp_c=machine.max_exhaust_temp_c,
            max_rate_of_rise_c_per_min=machine.max_rate_of_rise_c_per_min,
            max_heat_time_s=machine.max_heat_time_s,
            warming_heater_step=_warming_step(machine),
        ),
    )


def _warming_step(machine: Machine) -> int:
    """From which heater step on the beans must warm: 5 of 9 on the machine's own scale (56 where it is percent)."""
    (full,) = _HEATER_SCALE.first(machine=machine.pk) or (None,)
    return math.ceil((full or 9) * WARMING_HEATER_STEP / 9)


_HEATER_SCALE = Prepared(
    lambda machine: (
        ControlLimit.objects.filter(machine_id=machine, control="heater").order_by().values_list("full_scale_step")
    ),
    "machine",
)
