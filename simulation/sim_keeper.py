"""The keeper of one simulated machine, without process, socket or thread: what left for the wire, and who may send.

It fences and latches like the real one (`drivers.keeper`), but it does not remember orders: an order that is sent
twice is written twice, so that the ledger shows it.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import Any

from drivers.keeper_client import KeeperRefused
from drivers.port import Outcome, Reading, Receipt, SettingOrder, StateOrder, WireWrite
from simulation.population import SEQUENCE, reading_at
from simulation.scheduler import Scheduler


@dataclasses.dataclass(frozen=True, slots=True)
class Write:
    """Bytes that left: for which order, with which token, after how many commits (-1: before the episode)."""

    order_id: str
    token: int
    index: int
    is_after_latch: bool


class SimKeeper:
    """One machine's controls and the ledger of its wire."""

    def __init__(self, machine_id: str, scheduler: Scheduler, steps: Mapping[str, int]) -> None:
        self.machine_id = machine_id
        self.steps = dict(steps)
        self.sequence = SEQUENCE
        self.latch: dict[str, Any] | None = None
        self.writes: list[Write] = []
        self.known: set[str] = set()
        self.token = 1
        self._scheduler = scheduler

    def read(self, now: dt.datetime, monotonic_s: float) -> Reading:
        """The machine as it stands."""
        self.sequence += 1
        return reading_at(now, monotonic_s, self.steps, self.sequence)

    def hello(self, token: int) -> None:
        """A loop says it is here: a higher token fences every lower one."""
        if token < self.token:
            raise KeeperRefused("fenced", f"{token} is older than {self.token}")
        self.token = token

    def make_safe(self, stop_id: str) -> None:
        """STOP: heat to zero first, then latched."""
        self._scheduler.pause("wire")
        self.steps["heater"] = 0
        self.latch = {"stop_id": stop_id, "by": "simulation", "at": "", "reason": ""}
        self._scheduler.note("wire: make safe, latched")

    def release(self) -> None:
        """A reset lets orders through again."""
        self.latch = None

    def remember_write(self, order_id: str, control: str, step: int, *, token: int, index: int = -1) -> None:
        """The bytes of an order leave (or had left before the episode)."""
        self.known.add(order_id)
        self.writes.append(Write(order_id, token, index, self.latch is not None))
        self.steps[control] = step
        self.sequence += 1

    def apply(self, order: SettingOrder | StateOrder, token: int) -> Receipt:
        """Carry out one setting. KeeperRefused: fenced, halted. Killed: before or after the bytes."""
        self._scheduler.pause("wire")
        if token < self.token:
            raise KeeperRefused("fenced", f"{token} is older than {self.token}")
        if self.latch is not None:
            raise KeeperRefused("halted", "the machine is latched")
        if not isinstance(order, SettingOrder):
            return Receipt(order.order_id, Outcome.NOT_SENT, reason="not_simulated")
        self.known.add(order.order_id)
        before, now_s = self.steps[order.control.value], self._scheduler.clock.monotonic()
        if order.from_step is not None and before != order.from_step:
            return Receipt(order.order_id, Outcome.DECLINED, reason="moved_at_machine", value_before=before)
        index = self._scheduler.commits
        self.remember_write(order.order_id, order.control.value, order.target_step, token=token, index=index)
        self._scheduler.note(f"wire: {order.control.value} {before} to {order.target_step}")
        self._scheduler.pause("wired")
        return Receipt(
            order.order_id, Outcome.PROVED, writes=(WireWrite(now_s, "00", "step"),), value_before=before,
            value_after=order.target_step, proof=self.read(self._scheduler.clock.now(), now_s),
            started_monotonic_s=now_s, first_byte_monotonic_s=now_s, proved_monotonic_s=now_s,
        )  # fmt: skip

    def trace(self, order_id: str) -> dict[str, Any]:
        """What the wire log holds of an order."""
        self._scheduler.pause("wire")
        writes = [write for write in self.writes if write.order_id == order_id]
        return {"known": order_id in self.known, "writes": writes, "receipt": {} if writes else None}


class LoopClient:
    """A machine loop's way to the keeper: what `commands.execution` and `commands.loop.reconcile` ask of it."""

    def __init__(self, keeper: SimKeeper) -> None:
        self._keeper = keeper

    def apply(self, order: SettingOrder | StateOrder, *, token: int, deadline_s: float = 5.0) -> Receipt:
        return self._keeper.apply(order, token)

    def trace(self, order_id: str) -> dict[str, Any]:
        return self._keeper.trace(order_id)

    def hello(self, token: int) -> dict[str, Any]:
        self._keeper.hello(token)
        return {}

    def close(self) -> None:
        """Nothing is open."""
