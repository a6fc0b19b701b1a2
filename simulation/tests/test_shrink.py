"""Shrinking: the smallest plan that still fails alike, and never one that does not fail."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from simulation import drawing
from simulation.plan import Fault, Operation, Plan
from simulation.shrink import minimal, shrink


@given(st.lists(st.integers(0, 30), max_size=30), st.sets(st.integers(0, 30), max_size=4))
@settings(max_examples=150, deadline=None)
def test_minimal_keeps_exactly_what_is_needed(items: list[int], needed: set[int]) -> None:
    needed &= set(items)
    kept = minimal(items, lambda part: needed <= set(part))
    assert set(kept) == needed
    assert len(kept) == len(needed)


def _plan() -> Plan:
    actors = {
        "actor0": (Operation("approve", {"order": 0}, 50), Operation("tick", {})),
        "actor1": (Operation("expire", {}, 20_000),),
        "actor2": (Operation("grant", {}), Operation("revoke", {}), Operation("propose", {})),
    }
    faults = (Fault("actor0", "commit", 1, "kill"), Fault("actor2", "statement", 4, "deadlock"))
    return Plan(5, "approvals", "held", actors, tuple(range(8)) * 6, faults)


def _verbs(plan: Plan) -> set[str]:
    return {operation.verb for operations in plan.actors.values() for operation in operations}


def test_only_the_operations_that_matter_are_left() -> None:
    small = shrink(_plan(), lambda plan: {"approve", "expire"} <= _verbs(plan))
    assert _verbs(small) == {"approve", "expire"}
    assert small.operation_count == 2
    assert set(small.actors) == {"actor0", "actor1"}, "an actor without operations goes"
    assert small.faults == ()
    assert not any(small.schedule)
    assert all(operation.at_ms == 0 for operations in small.actors.values() for operation in operations)


def test_a_fault_and_a_switch_that_matter_stay() -> None:
    def fails(plan: Plan) -> bool:
        has_fault = any(fault.kind == "kill" for fault in plan.faults)
        return has_fault and len(plan.schedule) > 9 and plan.schedule[9] == 1 and "tick" in _verbs(plan)

    small = shrink(_plan(), fails)
    assert [fault.kind for fault in small.faults] == ["kill"]
    assert [place for place, number in enumerate(small.schedule) if number] == [9]
    assert _verbs(small) == {"tick"}


def test_what_is_found_so_far_is_given_back_when_time_is_up() -> None:
    plays = 0

    def fails(plan: Plan) -> bool:
        nonlocal plays
        plays += 1
        return True

    small = shrink(_plan(), fails, is_over=lambda: plays >= 2)
    assert plays == 2
    assert 0 < small.operation_count < _plan().operation_count


def test_every_drawn_plan_shrinks_to_one_operation_when_anything_fails() -> None:
    for seed in range(60):
        assert shrink(drawing.draw(seed), lambda plan: plan.operation_count > 0).operation_count == 1
