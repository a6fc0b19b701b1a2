"""A plain situation to vary: an agent's heater 6 → 5 in mid-roast, on a machine fit for agents."""

from __future__ import annotations

import dataclasses
import datetime as dt

from commands.rules.conversion import OrderType
from commands.rules.values import (
    AttendanceLook,
    Fitness,
    GrantLook,
    Limits,
    Order,
    Phase,
    ReadingLook,
    Recent,
    Seen,
    Situation,
)

NOW = dt.datetime(2026, 11, 21, 8, 0, tzinfo=dt.UTC)
LIMITS = Limits(0, 9, 9, 20, 0.0, 1000, 100)
STEPS = {"heater": 6, "fan": 4, "drum": 7}
BASE = Situation(
    now=NOW,
    phase=Phase.PROPOSAL,
    order=Order(
        OrderType.SET_POWER, "heater", 5, True, "agt_1", "roastrunner", NOW + dt.timedelta(seconds=45),
        proposal_id="prp_1", agent_release="1", seen=Seen("roasting", STEPS, 180.0, 12.0, 400_000),
    ),
    machine_name="Bullet",
    is_machine_archived=False,
    limits=LIMITS,
    reading=ReadingLook(0.1, "roasting", STEPS, 180.0, 12.0, 400_000, 10),
    are_beans_proved=True,
    machine_kind="bullet-r1",
    is_orders_paused=False,
    is_store_reachable=True,
    keeper_latched=False,
    halts=(),
    suspended_by=None,
    grant=GrantLook("L3"),
    unsettled=(),
    recent=Recent(),
    roast_id="rst_1",
    is_in_roast=True,
    fitness=Fitness(NOW, NOW, True),
    attendance=AttendanceLook("operator", NOW),
)  # fmt: skip


def order(**changes) -> Order:
    return dataclasses.replace(BASE.order, **changes)


def person(**changes) -> Order:
    return order(is_by_agent=False, proposer_id="usr_1", proposer_name="operator", **changes)


def fan(target: int, **changes) -> Order:
    return order(order_type=OrderType.SET_FAN, control="fan", target_step=target, **changes)


def situation(**changes) -> Situation:
    return dataclasses.replace(BASE, **changes)


def level(word: str, **changes) -> Situation:
    return situation(grant=GrantLook(word), **changes)


def ago(seconds: float) -> dt.datetime:
    return NOW - dt.timedelta(seconds=seconds)
