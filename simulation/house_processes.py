"""The house's processes as far as dying goes, and what a request came to."""

from __future__ import annotations

import dataclasses
from typing import Any


class Killed(BaseException):
    """kill -9 of one process at this point. Nobody catches it but the edge of that process."""

    def __init__(self, victim: Process) -> None:
        super().__init__(victim.name)
        self.victim = victim


@dataclasses.dataclass(eq=False)
class Process:
    """A process of the house as far as dying goes."""

    name: str  # web | worker | keeper
    is_alive: bool = True


@dataclasses.dataclass(slots=True)
class Deaths:
    """Who dies next, and where. ``site``: commit_before, commit_after, wire_before, wire_after, apply_answered.

    ``count``: at the how-many-th such point from now on. ``victim`` "": whoever is there.
    """

    site: str = ""
    count: int = 0
    victim: str = ""
    fired: list[str] = dataclasses.field(default_factory=list)

    def plan(self, site: str, count: int = 1, victim: str = "") -> None:
        self.site, self.count, self.victim = site, count, victim

    def forget(self) -> None:
        self.site = ""

    def is_due(self, site: str, victim: str) -> bool:
        if self.site != site or self.victim not in ("", victim):
            return False
        self.count -= 1
        if self.count > 0:
            return False
        self.site = ""
        self.fired.append(f"{site}:{victim}")
        return True


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What a request came to; status 0: the web process died over it and nobody answered."""

    status: int
    body: Any

    @property
    def code(self) -> str:
        return str(self.body.get("error", "")) if isinstance(self.body, dict) and self.status >= 400 else ""
