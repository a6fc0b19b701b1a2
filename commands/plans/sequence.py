"""Several orders as one: each judged where it stands, run in order, stopped at the first that is not confirmed. Pure.

A plan's status is a function of its orders' statuses (``status_of``); nothing else decides it. An order of a plan is
judged from what those before it leave behind (``placed``), and goes on the wire only after them (``is_in_turn``).
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from commands.lifecycle import BEFORE_THE_WIRE, COUNTED, ON_THE_WIRE, SETTLED, Status
from commands.reasons import Decision, Verdict, worst
from commands.rules.conversion import SETTINGS, OrderType
from commands.rules.significance import Rated
from commands.rules.values import Constraints, Limits, Recent, Seen, Situation
from kernel import canonical

MAX_ORDERS = 12
#: A later order of a plan has this much longer than the one before it: its bytes (4 s) and its echo (3 s), and a bit.
ORDER_TAKES_S = 10.0
#: Outcome code of an order that was never begun because one before it, or a person, ended the plan.
STOPPED = "plan_stopped"


class PlanStatus(enum.StrEnum):
    """Where a plan stands."""

    PENDING_APPROVAL = "PENDING_APPROVAL"
    APPROVED = "APPROVED"  # nothing of it is on the wire yet
    REJECTED = "REJECTED"  # refused, or rejected by a person, before anything of it moved
    EXECUTING = "EXECUTING"
    COMPLETED = "COMPLETED"  # every order confirmed
    FAILED = "FAILED"  # an order was not confirmed, or refused at the last moment after others had moved
    ABORTED = "ABORTED"  # called off: by a person, a halt, a moved control
    TIMEOUT = "TIMEOUT"


OPEN = frozenset({PlanStatus.PENDING_APPROVAL, PlanStatus.APPROVED, PlanStatus.EXECUTING})
#: The plan has been let through: its orders may be claimed, each in its turn.
RUNNING = frozenset({PlanStatus.APPROVED, PlanStatus.EXECUTING})
#: Where its first order that ended otherwise than COMPLETED takes a plan of which nothing is open any more.
_ENDED = {Status.FAILED: PlanStatus.FAILED, Status.ABORTED: PlanStatus.ABORTED, Status.TIMEOUT: PlanStatus.TIMEOUT}


@dataclass(frozen=True, slots=True)
class Item:
    """One order of a plan as it stands. ``position`` from 0."""

    position: int
    status: Status
    control: str
    target_step: int | None
    outcome_code: str = ""
    settled_at: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why these orders are no plan: a stable code, what is wrong, the cure."""

    code: str
    message: str
    how_to_fix: str


def refuse_shape(order_types: Sequence[OrderType]) -> Refusal | None:
    """Why orders of these types, in this order, cannot be one plan; None when they can.

    What the machine looks like after its button was pressed is the firmware's doing, so nothing may follow a state.
    """
    if not 1 <= len(order_types) <= MAX_ORDERS:
        return Refusal("plan_too_long", f"A plan has 1 to {MAX_ORDERS} orders, not {len(order_types)}.", "Split it.")
    early = next((each for each in order_types[:-1] if each not in SETTINGS), None)
    if early is None:
        return None
    return Refusal(
        "state_order_not_last",
        f"{early.value} changes the machine's state; what stands after it cannot be judged beforehand.",
        "Put it last, and propose what follows once the machine is there.",
    )


def digest_of(order_digests: Sequence[str]) -> str:
    """SHA-256 over the digests of a plan's orders, in their order: what an approval names."""
    return canonical.digest({"orders": list(order_digests)})


def expected_steps(steps: Mapping[str, int | None], before: Sequence[Item]) -> dict[str, int | None]:
    """Where the controls stand once ``before`` have been carried out."""
    found = dict(steps)
    for item in before:
        if item.control and item.target_step is not None:
            found[item.control] = item.target_step
    return found


def decide(verdicts: Sequence[Verdict]) -> Decision:
    """The whole plan's decision: its worst order's."""
    return worst([verdict.decision for verdict in verdicts])


def placed(situation: Situation, before: Sequence[Item]) -> Situation:
    """The situation of a later order of a plan that is being proposed: as the earlier ones will have left it.

    Controls read what those set; those count as given. The distance in time to an earlier one on the same control is
    not judged here: it is kept by waiting (``gap_s``), and judged once more just before the wire.
    """
    if not before:
        return situation
    reading = situation.reading
    if reading is not None:
        reading = replace(reading, steps=expected_steps(reading.steps, before))
    same = [item for item in before if item.control == situation.order.control and item.control]
    recent = situation.recent
    if situation.order.is_by_agent:
        recent = replace(
            recent,
            day_count=recent.day_count + len(same),
            roast_count=recent.roast_count + (len(same) if situation.roast_id is not None else 0),
            session_count=recent.session_count + (len(before) if situation.roast_id is not None else 0),
            last_on_control_at=None if same else recent.last_on_control_at,
        )
    return replace(situation, reading=reading, recent=recent)


def placed_at_dispatch(
    situation: Situation,
    position: int,
    items: Sequence[Item],
    last_outside_at: dt.datetime | None,
    floor: Rated | None,
) -> Situation:
    """The situation of an order of a plan that is judged again: its grounds are what the earlier ones left behind.

    Just before the wire those are all confirmed, and the reading shows it; at the end of a veto window they are still
    to come, and the reading is taken as they will leave it. ``last_outside_at``: when an agent's order that is not of
    this plan last moved this control. Its later orders, let through with it, are not counted yet. ``floor``: the
    plan's significance.
    """
    earlier = [item for item in items if item.position < position]
    later = [item for item in items if item.position > position and item.status in COUNTED]
    order = situation.order
    seen = order.seen
    if seen is not None:
        seen = Seen(
            state=seen.state,
            steps=expected_steps(seen.steps, earlier),
            bean_temp_c=seen.bean_temp_c,
            rate_of_rise_c_per_min=seen.rate_of_rise_c_per_min,
            device_ms=seen.device_ms,
        )
    reading, to_come = situation.reading, [item for item in earlier if item.status is not Status.COMPLETED]
    if reading is not None and to_come:
        reading = replace(reading, steps=expected_steps(reading.steps, to_come))
    recent = _recent_at_dispatch(situation, earlier, later, last_outside_at)
    return replace(situation, order=replace(order, seen=seen, floor=floor), reading=reading, recent=recent)


def _recent_at_dispatch(
    situation: Situation, earlier: Sequence[Item], later: Sequence[Item], last_outside_at: dt.datetime | None
) -> Recent:
    recent, control = situation.recent, situation.order.control
    if not situation.order.is_by_agent:
        return recent
    not_yet = sum(item.control == control for item in later)
    is_in_roast = situation.roast_id is not None
    same = [item for item in earlier if item.control == control]
    own = [item.settled_at for item in same if item.settled_at is not None]
    is_waiting = any(item.status is not Status.COMPLETED for item in same)  # its distance is kept once they have moved
    moments = [] if is_waiting else [*own, *([last_outside_at] if last_outside_at is not None else [])]
    return replace(
        recent,
        last_on_control_at=max(moments, default=None),
        day_count=max(0, recent.day_count - not_yet),
        roast_count=max(0, recent.roast_count - (not_yet if is_in_roast else 0)),
        session_count=max(0, recent.session_count - (len(later) if is_in_roast else 0)),
    )


def wait_s(
    items: Sequence[Item], position: int, limits: Limits | None, *, is_by_agent: bool, constraints: Constraints
) -> float:
    """Seconds an order of a plan waits after the one before it on the same control: interval and ramp are not waived
    within a plan, they are kept by waiting. People's orders and less heat keep no distance, here as elsewhere."""
    earlier = _same_before(items, position)
    this = next(item for item in items if item.position == position)
    if not is_by_agent or not earlier or this.target_step is None or earlier[-1].target_step is None:
        return 0.0
    change = this.target_step - earlier[-1].target_step
    if this.control == "heater" and change < 0:
        return 0.0
    ramps = [constraints.max_ramp_step_per_s, limits.max_ramp_step_per_s if limits else None]
    bounds = [ramp for ramp in ramps if ramp]
    by_ramp_s = abs(change) / min(bounds) if bounds else 0.0
    return max(limits.min_interval_s if limits else 0.0, constraints.min_interval_s or 0.0, by_ramp_s)


def _same_before(items: Sequence[Item], position: int) -> list[Item]:
    """Earlier orders of the plan on the same control."""
    control = next(item.control for item in items if item.position == position)
    return [item for item in items if item.position < position and item.control == control and control]


def deadlines(first_at: dt.datetime, waits_s: Sequence[float]) -> list[dt.datetime]:
    """When each order of a plan runs out. ``first_at`` is the first one's, and so the approval's; each later one has
    the time the one before it may take, and its own wait (``waits_s``; the first is not looked at)."""
    found = [first_at]
    for wait_s in waits_s[1:]:
        found.append(found[-1] + dt.timedelta(seconds=ORDER_TAKES_S + wait_s))
    return found[: len(waits_s)]


def is_in_turn(items: Sequence[Item], position: int) -> bool:
    """Every earlier order of the plan has been confirmed."""
    return all(item.status is Status.COMPLETED for item in items if item.position < position)


def due_at(items: Sequence[Item], position: int, after_s: float) -> dt.datetime | None:
    """Not before this: ``after_s`` after the newest earlier order on the same control; None: at once."""
    moments = [item.settled_at for item in _same_before(items, position) if item.settled_at is not None]
    return max(moments) + dt.timedelta(seconds=after_s) if moments and after_s > 0 else None


def stopper(items: Sequence[Item]) -> Item | None:
    """The order at which a plan stopped: the first that ended otherwise than confirmed, of its own accord."""
    ended = [item for item in items if item.status in SETTLED and item.status is not Status.COMPLETED]
    ended.sort(key=lambda item: (item.outcome_code == STOPPED, item.position))
    return ended[0] if ended else None


def must_stop(items: Sequence[Item]) -> bool:
    """An order of it was not confirmed, or is not (yet): nothing further of the plan may begin."""
    return stopper(items) is not None or any(item.status is Status.IN_DOUBT for item in items)


def to_stop(items: Sequence[Item]) -> list[int]:
    """Positions of the orders that are called off when the plan stops: what is not on the wire yet, the last first."""
    if not must_stop(items):
        return []
    return sorted((item.position for item in items if item.status in BEFORE_THE_WIRE), reverse=True)


def status_of(items: Sequence[Item]) -> PlanStatus:
    """A plan's status by its orders'. It is over when every order is settled, never before."""
    statuses = [item.status for item in items]
    if any(status not in SETTLED for status in statuses):
        if any(status in (Status.PROPOSED, Status.PENDING_APPROVAL) for status in statuses):
            return PlanStatus.PENDING_APPROVAL
        is_begun = any(status in ON_THE_WIRE or status is Status.COMPLETED for status in statuses)
        return PlanStatus.EXECUTING if is_begun else PlanStatus.APPROVED
    end = stopper(items)
    if end is None:
        return PlanStatus.COMPLETED
    if end.outcome_code == STOPPED:
        return PlanStatus.FAILED  # it stopped at a doubt, which was settled as carried out afterwards
    if end.status is Status.REJECTED:
        is_moved = any(status is Status.COMPLETED for status in statuses)
        return PlanStatus.FAILED if is_moved else PlanStatus.REJECTED
    return _ENDED[end.status]


@dataclass(frozen=True, slots=True)
class Moved:
    """What one order did to its control, as read back."""

    position: int
    order_id: str
    order_type: OrderType
    control: str
    before_step: int | None
    after_step: int | None


def going_back(moved: Sequence[Moved], steps: Mapping[str, int | None]) -> list[Moved] | Refusal:
    """The orders to take back, the last first; or why not.

    ``steps``: where the controls read now. A control that was moved since, by a hand or by another order, is not
    touched, and with it the whole: half a way back is worse than none.
    """
    backwards = [
        each for each in sorted(moved, key=lambda each: each.position, reverse=True)
        if each.control and each.before_step != each.after_step
    ]  # fmt: skip
    if not backwards:
        return Refusal(
            "nothing_to_compensate", "No order of this plan is known to have moved a control.", "Look at the machine."
        )
    stands: dict[str, int | None] = {}
    for each in backwards:
        if each.before_step is None or each.after_step is None:
            return Refusal(
                "nothing_confirmed",
                f"Where the {each.control} stood before order {each.position + 1} was never read.",
                "Order the setting you want.",
            )
        now = stands.get(each.control, steps.get(each.control))
        if now != each.after_step:
            return Refusal(
                "moved_since",
                f"The {each.control} was left at {each.after_step} and reads {now} now.",
                "It was moved since: order the setting you want.",
            )
        stands[each.control] = each.before_step
    return backwards
