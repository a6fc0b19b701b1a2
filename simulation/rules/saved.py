"""An example of lane A as a plan: which rule with which arguments, in order. It replays without hypothesis, by any
version of it, and shrinks to the few acts that a failure needs.

Orders and grants are named symbolically (the k-th there is, counted round), so that acts before may be left out.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from typing import Any

from simulation.oracle import Asked
from simulation.rules.base import BUNDLES
from simulation.rules.machine import HouseMachine

MAX_REPLAYS = 160  # of one shrinking: under a minute


@dataclasses.dataclass(frozen=True, slots=True)
class Saved:
    """What an example did. ``opened``: the arguments it began with; ``acts``: (rule, its arguments)."""

    opened: dict[str, Any]
    acts: tuple[tuple[str, dict[str, Any]], ...]

    def to_json(self) -> str:
        lines = ",\n".join(f"  {json.dumps([name, arguments])}" for name, arguments in self.acts)
        return f'{{"opened": {json.dumps(self.opened)}, "acts": [\n{lines}\n]}}\n'

    @classmethod
    def from_json(cls, text: str) -> Saved:
        """KeyError, ValueError: it is no plan."""
        read = json.loads(text)
        return cls(read["opened"], tuple((name, arguments) for name, arguments in read["acts"]))


@dataclasses.dataclass(frozen=True, slots=True)
class Replayed:
    """What came of a plan: "" for nothing wrong, and how many acts it took."""

    failure: str
    played: int


def replay(plan: Saved) -> Replayed:
    """Play it. An act whose time has not come (its precondition) is left out, as hypothesis would have."""
    machine = HouseMachine()
    failure, played = "", 0
    try:
        machine.open_the_house(**plan.opened)
        for name, arguments in plan.acts:
            played += 1
            real = _real(machine, arguments)
            if real is not None and _is_offered(machine, name):
                getattr(machine, name)(**real)
    except AssertionError as error:
        failure = str(error)
    try:
        machine.teardown()
    except AssertionError as error:
        failure = failure or str(error)
    return Replayed(failure, played)


def shrink(plan: Saved, *, most: int = MAX_REPLAYS, play: Callable[[Saved], Replayed] = replay) -> Saved:
    """The fewest acts found, in ``most`` replays, that still fail alike. The plan itself where it does not fail."""
    first = play(plan)
    if not first.failure:
        return plan
    best = dataclasses.replace(plan, acts=plan.acts[: first.played])
    left, size = most, max(1, len(best.acts) // 2)
    while left > 0:
        place, was = 0, len(best.acts)
        while place < len(best.acts) and left > 0:
            tried = dataclasses.replace(best, acts=best.acts[:place] + best.acts[place + size :])
            found = play(tried)
            left -= 1
            if found.failure and kind_of(found.failure) == kind_of(first.failure):
                best = dataclasses.replace(tried, acts=tried.acts[: found.played])
            else:
                place += size
        if size == 1 and len(best.acts) == was:
            break
        size = max(1, size // 2)
    return best


def kind_of(failure: str) -> str:
    """The failure without names and numbers: what stays the same while a plan shrinks."""
    plain = re.sub(r"\b[a-z]{3}_[0-9a-z]{26}\b|[0-9.]+", "", failure)
    return " ".join(plain.split())[:32]


def _is_offered(machine: HouseMachine, name: str) -> bool:
    conditions: tuple[Callable[[HouseMachine], bool], ...]
    conditions = getattr(type(machine), name).hypothesis_stateful_rule.preconditions
    return all(condition(machine) for condition in conditions)


def _real(machine: HouseMachine, arguments: dict[str, Any]) -> dict[str, Any] | None:
    """The other way round; None where what it names is not there."""
    found: dict[str, Any] = {}
    for name, value in arguments.items():
        if name in BUNDLES:
            known = list(getattr(machine.play.model, BUNDLES[name]))
            if not known:
                return None
            found[name] = known[value % len(known)]
        else:
            found[name] = Asked(**value) if name == "asked" else value
    return found
