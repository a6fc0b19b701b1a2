"""A failing plan made small: operations first, then faults, actors and the schedule, as long as it fails alike.

Delta debugging (Zeller, ddmin): chunks are taken away, halved when none can go. Pure: ``fails`` plays a plan.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeVar

from simulation.plan import Operation, Plan

Item = TypeVar("Item")
Fails = Callable[[Plan], bool]


def shrink(plan: Plan, fails: Fails, *, is_over: Callable[[], bool] = lambda: False) -> Plan:
    """The smallest plan found that still fails. ``is_over``: time is up, what was found so far is given back."""

    def still_fails(candidate: Plan) -> bool:
        return not is_over() and fails(candidate)

    before = None
    while before != plan and not is_over():
        before = plan
        plan = _fewer_operations(plan, still_fails)
        plan = _fewer_faults(plan, still_fails)
        plan = _plainer_operations(plan, still_fails)
        plan = _calmer_schedule(plan, still_fails)
    return plan


def minimal(items: Sequence[Item], is_failing: Callable[[list[Item]], bool]) -> list[Item]:
    """ddmin: a part of ``items`` that still fails and of which no tried chunk can go. ``items`` itself fails."""
    kept, chunk = list(items), max(1, len(items) // 2)
    while kept:
        for start in range(0, len(kept), chunk):
            without = kept[:start] + kept[start + chunk :]
            if is_failing(without):
                kept = without
                chunk = max(1, min(chunk, len(kept) // 2))
                break
        else:
            if chunk == 1:
                return kept
            chunk //= 2
    return kept


def _fewer_operations(plan: Plan, fails: Fails) -> Plan:
    places = [(name, index) for name, operations in plan.actors.items() for index in range(len(operations))]

    def with_only(kept: list[tuple[str, int]]) -> Plan:
        actors = {
            name: tuple(operation for index, operation in enumerate(operations) if (name, index) in set(kept))
            for name, operations in plan.actors.items()
        }
        return dataclasses.replace(plan, actors={name: operations for name, operations in actors.items() if operations})

    return with_only(minimal(places, lambda kept: bool(kept) and fails(with_only(kept))))


def _fewer_faults(plan: Plan, fails: Fails) -> Plan:
    kept = minimal(plan.faults, lambda faults: fails(dataclasses.replace(plan, faults=tuple(faults))))
    return dataclasses.replace(plan, faults=tuple(kept))


def _plainer_operations(plan: Plan, fails: Fails) -> Plan:
    """No waiting where none is needed."""
    for name, operations in plan.actors.items():
        for index, operation in enumerate(operations):
            if operation.at_ms:
                changed = _with(plan, name, index, dataclasses.replace(operation, at_ms=0))
                if fails(changed):
                    plan = changed
    return plan


def _with(plan: Plan, name: str, index: int, operation: Operation) -> Plan:
    operations = list(plan.actors[name])
    operations[index] = operation
    return dataclasses.replace(plan, actors={**plan.actors, name: tuple(operations)})


def _calmer_schedule(plan: Plan, fails: Fails) -> Plan:
    """As few switches as it takes: a decision of 0 goes on with whoever runs."""
    switches = [place for place, number in enumerate(plan.schedule) if number]

    def with_only(kept: list[int]) -> Plan:
        last = max(kept, default=-1)
        numbers = tuple(number if place in set(kept) else 0 for place, number in enumerate(plan.schedule[: last + 1]))
        return dataclasses.replace(plan, schedule=numbers)

    return with_only(minimal(switches, lambda kept: fails(with_only(kept))))
