"""The committed state of one machine, as the oracle sees it, and what one commit changed. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """One fact that a commit changed: ``kind`` of thing, its key, its value before and after ("" for none)."""

    kind: str
    key: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.kind} {self.key}: {self.before or '-'} > {self.after or '-'}"


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """What the oracle must know of an order beside its status. ``expires_s`` and ``runs_s`` are POSIX times: the
    deadline, and the end of the veto window (0.0 where there is none); ``needed``: how many people's yes; ``target``:
    the native step, None of a state."""

    approver: str
    proposer: str
    control: str
    expires_s: float
    runs_s: float = 0.0
    needed: int = 1
    target: int | None = None


def _step(text: str) -> int | None:
    return int(text) if text else None


@dataclasses.dataclass(frozen=True, slots=True)
class Picture:
    """``facts``: (kind, key) -> value. Orders: their status; executions: the token; halts and grants: what is open."""

    facts: Mapping[tuple[str, str], str]
    orders_by_id: Mapping[str, Order] = dataclasses.field(default_factory=dict)
    lease_ends_s: float = 0.0  # POSIX time; renewing it moves nothing that is replayed
    claimed_s: Mapping[str, float] = dataclasses.field(default_factory=dict)  # order's id -> POSIX time
    from_step: Mapping[str, int | None] = dataclasses.field(default_factory=dict)  # order's id -> step at its claim

    @classmethod
    def of(cls, rows: Iterable[tuple[Any, ...]]) -> Picture:
        """From rows (kind, a, b, c) of `race_invariants.PICTURE`, which are one machine's."""
        facts: dict[tuple[str, str], str] = {}
        orders: dict[str, Order] = {}
        claimed_s: dict[str, float] = {}
        from_step: dict[str, int | None] = {}
        lease_ends_s = 0.0
        for kind, a, b, c in rows:
            if kind == "order":
                facts["order", a] = b
                approver, proposer, control, expires_s, runs_s, needed, target = c.split("|")
                orders[a] = Order(
                    approver, proposer, control, float(expires_s), float(runs_s), int(needed), _step(target)
                )
            elif kind == "execution":
                facts["execution", a] = b
                at_s, _, step = c.partition("|")
                claimed_s[a], from_step[a] = float(at_s), _step(step)
            elif kind == "approval":
                facts["approval", f"{a} {b}"] = "yes"
            elif kind == "halt":
                facts["halt", a] = b
            elif kind == "grant":
                facts["grant", c] = f"{b} {a}"
            elif kind == "lease":
                facts["lease", a] = b
                facts["owner", a], _, ends_s = c.rpartition("|")
                lease_ends_s = float(ends_s)
            else:  # suspension, paused
                facts[kind, "machine"] = "yes"
        return cls(facts, orders, lease_ends_s, claimed_s, from_step)

    def status(self, order_id: str) -> str:
        """Where the order stands; "" when there is none."""
        return self.facts.get(("order", order_id), "")

    def has(self, kind: str) -> bool:
        """Whether something of this kind is there at all."""
        return any(each == kind for each, _key in self.facts)

    @property
    def is_halted(self) -> bool:
        return self.has("halt")

    @property
    def token(self) -> int:
        """The lease's token; 0 where nobody ever took it."""
        return max((int(value) for (kind, _key), value in self.facts.items() if kind == "lease"), default=0)

    def orders(self, *statuses: str) -> list[str]:
        """Ids of orders that stand in one of these, sorted."""
        return sorted(key for (kind, key), value in self.facts.items() if kind == "order" and value in statuses)

    def changes_to(self, after: Picture) -> list[Change]:
        """What a commit changed, sorted."""
        keys = sorted(self.facts.keys() | after.facts.keys())
        return [
            Change(kind, key, self.facts.get((kind, key), ""), after.facts.get((kind, key), ""))
            for kind, key in keys
            if self.facts.get((kind, key), "") != after.facts.get((kind, key), "")
        ]
