"""The deciding part of plans: pure, by the thousand."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from commands.lifecycle import BEFORE_THE_WIRE, NEXT, ON_THE_WIRE, SETTLED, Actor, Status
from commands.plans import sequence
from commands.plans.sequence import Item, Moved, PlanStatus, Refusal
from commands.reasons import Code, Decision, Reason, weigh
from commands.rules.conversion import CONTROL_OF, SETTINGS, OrderType
from commands.rules.significance import Rated, Significance
from commands.rules.values import Constraints, Limits, Seen, Situation
from commands.tests.situations import order, person, situation

NOW = dt.datetime(2026, 11, 21, 8, 0, tzinfo=dt.UTC)
STATUSES = st.sampled_from(list(Status))
CONTROLS = st.sampled_from(["heater", "fan", "drum"])


def item(position: int, status: Status = Status.APPROVED, control: str = "fan", target: int | None = 5, **more: Any):
    return Item(position, status, control, target, **more)


def an_agents(order_type: OrderType, target: int) -> Situation:
    """The agent's order in mid-roast."""
    return situation(order=order(order_type=order_type, control=CONTROL_OF[order_type], target_step=target))


# --- what is a plan


@settings(suppress_health_check=[HealthCheck.too_slow])  # a full machine is slow at drawing, too
@given(st.lists(st.sampled_from(list(OrderType)), max_size=sequence.MAX_ORDERS + 2))
def test_only_a_plans_last_order_may_be_of_a_state(order_types: list[OrderType]) -> None:
    refusal = sequence.refuse_shape(order_types)
    is_short_enough = 1 <= len(order_types) <= sequence.MAX_ORDERS
    is_right = is_short_enough and all(each in SETTINGS for each in order_types[:-1])
    assert (refusal is None) is is_right
    if refusal is not None:
        assert refusal.code == ("state_order_not_last" if is_short_enough else "plan_too_long") and refusal.how_to_fix


@given(st.lists(st.text("0123456789abcdef", min_size=64, max_size=64), min_size=1, max_size=6, unique=True))
def test_the_digest_is_of_these_orders_in_this_order(digests: list[str]) -> None:
    assert sequence.digest_of(digests) == sequence.digest_of(list(digests))
    others = {sequence.digest_of(list(order)) for order in itertools.islice(itertools.permutations(digests), 24)}
    assert len(others) == min(24, len(list(itertools.islice(itertools.permutations(digests), 24))))
    assert sequence.digest_of(digests[:-1]) not in others


@given(st.lists(st.tuples(CONTROLS, st.integers(0, 12)), max_size=8))
def test_controls_stand_where_the_last_order_on_each_left_them(orders: list[tuple[str, int]]) -> None:
    items = [item(place, control=control, target=target) for place, (control, target) in enumerate(orders)]
    found = sequence.expected_steps({"heater": 1, "fan": 2, "drum": None}, items)
    last = dict(orders)
    assert found == {"heater": last.get("heater", 1), "fan": last.get("fan", 2), "drum": last.get("drum")}


def test_a_state_order_leaves_no_step_behind() -> None:
    assert sequence.expected_steps({"fan": 2}, [item(0, control="", target=None)]) == {"fan": 2}


@given(st.lists(st.sampled_from(list(Decision)), min_size=1, max_size=8))
def test_the_worst_order_decides(decisions: list[Decision]) -> None:
    verdicts = [weigh((Reason(Code.OWN_ORDER, decision, "x"),)) for decision in decisions]
    order = [Decision.ALLOW, Decision.VETO, Decision.HOLD, Decision.REFUSE]
    assert sequence.decide(verdicts) is max(decisions, key=order.index)


def test_no_orders_permit_nothing() -> None:
    assert sequence.decide([]) is Decision.REFUSE


# --- a plan's status


ITEMS = st.lists(
    st.tuples(STATUSES, st.sampled_from(["", "halted", sequence.STOPPED])), min_size=1, max_size=sequence.MAX_ORDERS
).map(lambda rows: [item(place, status, outcome_code=code) for place, (status, code) in enumerate(rows)])


@given(ITEMS)
def test_a_plan_is_over_exactly_when_all_its_orders_are(items: list[Item]) -> None:
    is_over = all(each.status in SETTLED for each in items)
    assert (sequence.status_of(items) not in sequence.OPEN) is is_over


@given(ITEMS)
def test_completed_means_every_order_was_confirmed(items: list[Item]) -> None:
    is_whole = all(each.status is Status.COMPLETED for each in items)
    assert (sequence.status_of(items) is PlanStatus.COMPLETED) is is_whole


@given(ITEMS)
def test_what_is_held_runs_nothing(items: list[Item]) -> None:
    if any(each.status in (Status.PENDING_APPROVAL, Status.PROPOSED) for each in items):
        assert sequence.status_of(items) not in sequence.RUNNING


@given(ITEMS)
def test_stopping_touches_only_what_is_not_on_the_wire(items: list[Item]) -> None:
    positions = sequence.to_stop(items)
    assert positions == sorted(positions, reverse=True)
    assert {items[place].status for place in positions} <= BEFORE_THE_WIRE
    if sequence.must_stop(items):
        left = [each for each in items if each.position not in positions]
        assert not any(each.status in BEFORE_THE_WIRE for each in left)
    else:
        assert positions == []


@given(ITEMS)
def test_a_plan_stops_at_the_first_order_that_is_not_confirmed(items: list[Item]) -> None:
    unconfirmed = {*SETTLED, Status.IN_DOUBT} - {Status.COMPLETED}
    assert sequence.must_stop(items) is any(each.status in unconfirmed for each in items)


@given(ITEMS, st.integers(0, sequence.MAX_ORDERS))
def test_an_order_is_in_turn_when_all_before_it_are_confirmed(items: list[Item], position: int) -> None:
    before = [each for each in items if each.position < position]
    assert sequence.is_in_turn(items, position) is all(each.status is Status.COMPLETED for each in before)


@given(st.integers(1, 5), st.data())
def test_no_life_of_its_orders_opens_a_settled_plan_again(count: int, data: st.DataObject) -> None:
    """Any moves the table allows, with the stop that follows each: every plan ends, once, and claims only in turn."""
    items = [item(place, Status.PENDING_APPROVAL) for place in range(count)]
    seen = [sequence.status_of(items)]
    for _ in range(60):
        movable = [each for each in items if NEXT[each.status]]
        if not movable:
            break
        chosen = data.draw(st.sampled_from(movable))
        to = data.draw(st.sampled_from(sorted(NEXT[chosen.status], key=str)))
        may_claim = sequence.is_in_turn(items, chosen.position) and seen[-1] in sequence.RUNNING
        if to is Status.EXECUTING and not may_claim:
            continue
        items[chosen.position] = dataclasses.replace(chosen, status=to)
        for place in sequence.to_stop(items):
            items[place] = dataclasses.replace(items[place], status=Status.ABORTED, outcome_code=sequence.STOPPED)
        seen.append(sequence.status_of(items))
        on_wire = [each for each in items if each.status in ON_THE_WIRE]
        assert len(on_wire) <= 1, "one order at a time"
        assert not on_wire or sequence.is_in_turn(items, on_wire[0].position)
    assert all(status in sequence.OPEN for status in seen[: next_settled(seen)])
    assert len({status for status in seen if status not in sequence.OPEN}) <= 1, "a settled plan stays what it is"


def next_settled(seen: list[PlanStatus]) -> int:
    return next((place for place, status in enumerate(seen) if status not in sequence.OPEN), len(seen))


@pytest.mark.parametrize(
    ("statuses", "code", "wanted"),
    [
        ("REJECTED ABORTED", "", PlanStatus.REJECTED),
        ("COMPLETED REJECTED ABORTED", "", PlanStatus.FAILED),
        ("COMPLETED FAILED ABORTED", "", PlanStatus.FAILED),
        ("ABORTED ABORTED", "", PlanStatus.ABORTED),
        ("COMPLETED ABORTED", "", PlanStatus.ABORTED),
        ("TIMEOUT ABORTED", "", PlanStatus.TIMEOUT),
        ("COMPLETED ABORTED", sequence.STOPPED, PlanStatus.FAILED),
    ],
)
def test_how_a_plan_ends(statuses: str, code: str, wanted: PlanStatus) -> None:
    words = statuses.split()
    items = [
        item(place, Status(word), outcome_code=code or (sequence.STOPPED if word == "ABORTED" and place else ""))
        for place, word in enumerate(words)
    ]
    if statuses == "COMPLETED ABORTED" and not code:
        items[1] = dataclasses.replace(items[1], outcome_code="halted")
    assert sequence.status_of(items) is wanted


def test_every_status_of_a_plan_can_be_reached() -> None:
    found = {
        sequence.status_of([item(place, status) for place, status in enumerate(pair)])
        for pair in itertools.product(Status, repeat=2)
    }
    assert found == set(PlanStatus)


# --- where an order of a plan stands


def test_a_later_order_is_judged_from_what_the_earlier_ones_leave() -> None:
    base = an_agents(OrderType.SET_FAN, 6)
    found = sequence.placed(base, [item(0, control="fan", target=5), item(1, control="heater", target=3)])
    assert found.reading is not None and base.reading is not None
    assert (found.from_step, found.reading.steps["heater"]) == (5, 3)
    assert found.reading.steps["drum"] == base.reading.steps["drum"]
    assert found.recent.day_count == base.recent.day_count + 1
    assert sequence.placed(base, []) is base


def test_a_persons_later_order_counts_nothing() -> None:
    base = situation(order=person(order_type=OrderType.SET_FAN, control="fan", target_step=6))
    assert sequence.placed(base, [item(0)]).recent == base.recent


def test_at_dispatch_its_grounds_are_what_the_earlier_ones_left() -> None:
    base = an_agents(OrderType.SET_POWER, 4)
    seen = dataclasses.replace(base.order, seen=_seen(heater=6, fan=4))
    items = [item(0, Status.COMPLETED, "fan", 5, settled_at=NOW), item(1, Status.APPROVED, "heater", 4)]
    found = sequence.placed_at_dispatch(dataclasses.replace(base, order=seen), 1, items, None, None)
    assert found.order.seen is not None and found.order.seen.steps == {"heater": 6, "fan": 5}
    assert found.reading == base.reading, "what it reads now is what counts"
    assert found.recent.last_on_control_at is None, "nobody else moved this control"


def test_at_the_end_of_a_veto_window_the_earlier_ones_are_still_to_come() -> None:
    base = an_agents(OrderType.SET_FAN, 6)
    items = [item(0, Status.APPROVED, "fan", 5), item(1, Status.PENDING_APPROVAL, "fan", 6)]
    floor = Rated(Significance.WARNING, "x")
    found = sequence.placed_at_dispatch(base, 1, items, NOW, floor)
    assert found.from_step == 5 and found.order.floor is floor
    assert found.recent.last_on_control_at is None, "their distance is kept once the first has moved"


def test_orders_let_through_with_it_are_not_counted_yet() -> None:
    base = an_agents(OrderType.SET_FAN, 5)
    recent = dataclasses.replace(base.recent, day_count=7, roast_count=7, session_count=9)
    base = dataclasses.replace(base, recent=recent, roast_id="rst_1")
    items = [item(0, Status.APPROVED, "fan"), item(1, Status.APPROVED, "fan"), item(2, Status.APPROVED, "drum")]
    found = sequence.placed_at_dispatch(base, 0, items, NOW, None).recent
    assert (found.day_count, found.roast_count, found.session_count, found.last_on_control_at) == (6, 6, 7, NOW)


def _seen(**steps: int) -> Any:
    return Seen(state="roasting", steps=steps)


# --- distance and deadlines


LIMITS = Limits(0, 9, 9, 2, 30.0, 100, 100)
RAMP = dataclasses.replace(LIMITS, min_interval_s=5.0, max_ramp_step_per_s=0.1)


@pytest.mark.parametrize(
    ("control", "first", "second", "limits", "asked", "is_by_agent", "wanted"),
    [
        ("fan", 5, 6, LIMITS, Constraints(), True, 30.0),
        ("fan", 5, 6, LIMITS, Constraints(min_interval_s=45.0), True, 45.0),
        ("fan", 5, 6, RAMP, Constraints(), True, 10.0),
        ("fan", 5, 7, RAMP, Constraints(), True, 20.0),
        ("fan", 5, 6, RAMP, Constraints(max_ramp_step_per_s=0.05), True, 20.0),
        ("fan", 5, 6, None, Constraints(), True, 0.0),
        ("fan", 5, 6, LIMITS, Constraints(), False, 0.0),
        ("heater", 5, 6, LIMITS, Constraints(), True, 30.0),
        ("heater", 6, 5, LIMITS, Constraints(), True, 0.0),
    ],
)
def test_orders_on_one_control_keep_their_distance(
    control: str, first: int, second: int, limits: Any, asked: Constraints, is_by_agent: bool, wanted: float
) -> None:
    items = [item(0, control=control, target=first), item(1, control=control, target=second)]
    first_wait_s = sequence.wait_s(items, 0, limits, is_by_agent=is_by_agent, constraints=asked)
    assert first_wait_s == 0.0, "the first waits for none"
    found = sequence.wait_s(items, 1, limits, is_by_agent=is_by_agent, constraints=asked)
    assert found == pytest.approx(wanted)


def test_orders_on_different_controls_keep_none() -> None:
    items = [item(0, control="fan"), item(1, control="drum")]
    assert sequence.wait_s(items, 1, LIMITS, is_by_agent=True, constraints=Constraints()) == 0.0
    assert sequence.due_at(items, 1, 0.0) is None


def test_due_after_the_newest_earlier_one_on_the_control() -> None:
    later = NOW + dt.timedelta(seconds=7)
    items = [
        item(0, Status.COMPLETED, settled_at=NOW), item(1, Status.COMPLETED, settled_at=later),
        item(2, Status.COMPLETED, "drum", settled_at=later + dt.timedelta(hours=1)), item(3),
    ]  # fmt: skip
    assert sequence.due_at(items, 3, 30.0) == later + dt.timedelta(seconds=30)


@given(st.lists(st.floats(0, 600), min_size=1, max_size=sequence.MAX_ORDERS))
def test_every_later_order_has_the_time_of_those_before_it(waits_s: list[float]) -> None:
    found = sequence.deadlines(NOW, waits_s)
    assert len(found) == len(waits_s) and found[0] == NOW
    for one, other, wait_s in zip(found, found[1:], waits_s[1:], strict=False):
        gap_s = (other - one).total_seconds()
        assert gap_s == pytest.approx(sequence.ORDER_TAKES_S + wait_s, abs=1e-5)


# --- going back


@given(st.lists(st.tuples(CONTROLS, st.integers(0, 12)), min_size=1, max_size=8), st.integers(0, 12))
def test_going_back_ends_where_it_began(orders: list[tuple[str, int]], begun: int) -> None:
    steps: dict[str, int | None] = dict.fromkeys(("heater", "fan", "drum"), begun)
    start, moved = dict(steps), []
    for place, (control, target) in enumerate(orders):
        kind = next(each for each in SETTINGS if CONTROL_OF[each] == control)
        moved.append(Moved(place, f"prp_{place}", kind, control, steps[control], target))
        steps[control] = target
    back = sequence.going_back(moved, steps)
    if isinstance(back, Refusal):
        assert back.code == "nothing_to_compensate"
        assert all(each.before_step == each.after_step for each in moved)
        return
    assert [each.position for each in back] == sorted((each.position for each in back), reverse=True)
    for each in back:
        assert steps[each.control] == each.after_step, "each begins where the one before it leaves the control"
        steps[each.control] = each.before_step
    assert steps == start


@given(st.integers(0, 9), st.integers(0, 9), st.one_of(st.none(), st.integers(0, 9)))
def test_what_was_moved_since_is_not_touched(before: int, after: int, reads: int | None) -> None:
    moved = Moved(0, "prp_0", OrderType.SET_FAN, "fan", before, after)
    found = sequence.going_back([moved], {"fan": reads})
    if before == after:
        assert isinstance(found, Refusal) and found.code == "nothing_to_compensate"
    elif reads == after:
        assert found == [moved]
    else:
        assert isinstance(found, Refusal) and found.code == "moved_since"


def test_what_was_never_read_is_not_gone_back_to() -> None:
    moved = Moved(1, "prp_1", OrderType.SET_FAN, "fan", None, 5)
    found = sequence.going_back([moved], {"fan": 5})
    assert isinstance(found, Refusal) and found.code == "nothing_confirmed"


def test_a_doubt_is_never_left_by_a_retry() -> None:
    assert set(NEXT[Status.IN_DOUBT]) == {Status.COMPLETED, Status.FAILED}
    assert NEXT[Status.EXECUTING][Status.ABORTED] == {Actor.SYSTEM}
