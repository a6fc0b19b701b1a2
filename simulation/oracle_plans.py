"""Several orders as one, said a second time. Pure.

Each order is judged where those before it leave the machine; the worst decides for all; approved as one digest; run in
turn; stopped at the first that is not confirmed. Within a plan agents' distances are kept by waiting.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from simulation.oracle import Model, rank_of
from simulation.oracle_values import (
    BEFORE_WIRE,
    CONTROL_OF,
    COUNTED,
    ON_WIRE,
    SETTLED,
    Asked,
    Expected,
    Look,
    Order,
    Person,
    Place,
    Plan,
    Verdict,
)

ORDER_TAKES_S = 10.0
_RANK = {"ALLOW": 0, "VETO": 1, "HOLD": 2, "REFUSE": 3}


def judge(model: Model, who: Person, asked: Sequence[Asked], look: Look, now_s: float) -> list[Verdict]:
    """The verdict on every order of a plan that is proposed now: one decision for all."""
    places = places_of(model, who, asked, look)
    floor = max((model.significance(one, look, place) for one, place in zip(asked, places, strict=True)), key=rank_of)
    verdicts = [
        model.judge(who, one, look, now_s, place=dataclasses.replace(place, floor=floor))
        for one, place in zip(asked, places, strict=True)
    ]
    whole = max((verdict.decision for verdict in verdicts), key=_RANK.__getitem__)
    is_grave = whole == "HOLD" and who.is_agent and floor in ("critical", "severe")
    return [
        Verdict(
            whole,
            verdict.refusals or (("plan_refused",) if whole == "REFUSE" else ()),
            2 if is_grave else 1,
        )
        for verdict in verdicts
    ]


def places_of(model: Model, who: Person, asked: Sequence[Asked], look: Look) -> list[Place]:
    """Where each order stands, and how long it may wait."""
    found: list[Place] = []
    left: dict[str, int] = {}
    expires_s = 0.0
    for position, one in enumerate(asked):
        control = CONTROL_OF.get(one.order_type, "")
        before = tuple(CONTROL_OF.get(each.order_type, "") for each in asked[:position])
        last = left.get(control)
        if position:
            expires_s += ORDER_TAKES_S + wait_s(model, who, one, last)
        else:
            expires_s = model.expiry_s(who, one, look)
        found.append(
            Place(left=tuple(left.items()), before=before, is_distance_kept=control in before, expires_in_s=expires_s)
        )
        target, _ = model.target_of(one)
        if control and target is not None:
            left[control] = target
    return found


def wait_s(model: Model, who: Person, asked: Asked, last: int | None) -> float:
    """Seconds between this order and the one before it on its control, which leaves it at ``last``."""
    control = CONTROL_OF.get(asked.order_type, "")
    target, _ = model.target_of(asked)
    if not who.is_agent or last is None or target is None or (control == "heater" and target < last):
        return 0.0
    limit = model.limits[control]
    return max(limit.interval_s, abs(target - last) / limit.ramp if limit.ramp else 0.0)


def place_of(model: Model, plan: Plan, order: Order, since_s: float) -> Place:
    """Where an order of a plan stands that is judged again, to somebody who read the machine then."""
    orders = [model.orders[order_id] for order_id in plan.order_ids]
    position = orders.index(order)
    earlier, later = orders[:position], orders[position + 1 :]
    to_come = [each for each in earlier if each.status != "COMPLETED" or (each.settled_s or 0.0) > since_s]
    same = [each for each in earlier if each.control == order.control]
    return Place(
        plan=plan.plan_id,
        left=tuple((each.control, each.target) for each in to_come if each.control and each.target is not None),
        seen=tuple((each.control, each.target) for each in earlier if each.control and each.target is not None),
        ignored=frozenset(each.order_id for each in later if each.status in COUNTED),
        is_distance_kept=any(each.status != "COMPLETED" for each in same),
        own=frozenset(each.order_id for each in same),
        floor=plan.floor,
    )


def is_in_turn(model: Model, plan: Plan, order: Order) -> bool:
    """Everything before it is confirmed."""
    position = plan.order_ids.index(order.order_id)
    return all(model.orders[each].status == "COMPLETED" for each in plan.order_ids[:position])


def due_s(model: Model, who: Person, plan: Plan, order: Order) -> float:
    """Not before this moment, for the distance to the one before it on its control."""
    orders = [model.orders[order_id] for order_id in plan.order_ids]
    same = [each for each in orders[: orders.index(order)] if each.control == order.control]
    if not same:
        return 0.0
    return (same[-1].settled_s or 0.0) + wait_s(model, who, order.asked, same[-1].target)


def has_stopped(model: Model, plan: Plan) -> bool:
    """An order of it was not confirmed: nothing more of it may begin."""
    statuses = [model.orders[order_id].status for order_id in plan.order_ids]
    return any((each in SETTLED and each != "COMPLETED") or each == "IN_DOUBT" for each in statuses)


def statuses_of(model: Model, plan: Plan) -> frozenset[str]:
    """What a plan may be called by its orders. (Which of its orders ended it decides between ends.)"""
    statuses = [model.orders[order_id].status for order_id in plan.order_ids]
    if any(each in ("PROPOSED", "PENDING_APPROVAL") for each in statuses):
        return frozenset({"PENDING_APPROVAL"})
    if any(each not in SETTLED for each in statuses):
        is_begun = any(each in ON_WIRE or each == "COMPLETED" for each in statuses)
        return frozenset({"EXECUTING" if is_begun else "APPROVED"})
    if all(each == "COMPLETED" for each in statuses):
        return frozenset({"COMPLETED"})
    ends = {each for each in statuses if each != "COMPLETED"}
    if "COMPLETED" in statuses:  # what had begun was not finished
        ends = (ends - {"REJECTED"}) | {"FAILED"}
    return frozenset(ends)


# -- what requests must answer --


def propose(model: Model, who: Person, verdicts: Sequence[Verdict]) -> Expected:
    """An agent's plan stands alone on a machine."""
    expected = model.propose(who, "ours")
    if expected.status == 201 and who.is_agent and verdicts[0].decision != "REFUSE" and any(
        plan.is_by_agent and plan.is_open for plan in model.plans.values()
    ):
        return Expected(409, "plan_open")
    return expected


def first_held(model: Model, plan: Plan) -> Order | None:
    """The first of its orders that waits for a person."""
    orders = (model.orders[order_id] for order_id in plan.order_ids)
    return next((order for order in orders if order.status == "PENDING_APPROVAL"), None)


def first_waiting(model: Model, plan: Plan) -> Order | None:
    """The first of its orders that is not on the wire."""
    orders = (model.orders[order_id] for order_id in plan.order_ids)
    return next((order for order in orders if order.status in BEFORE_WIRE), None)


def approve(model: Model, who: Person, plan: Plan, now_s: float, *, is_digest_right: bool) -> Expected:
    if who.organization != "ours":
        return Expected(404, "plan_not_found")
    if not is_digest_right:
        return Expected(412, "stale_digest")
    order = first_held(model, plan)
    if order is None:
        return Expected(409, "not_awaiting_approval")
    return model.approve(who, order, now_s, is_digest_right=True, is_whole=True)


def reject(model: Model, who: Person, plan: Plan, now_s: float) -> Expected:
    if who.organization != "ours":
        return Expected(404, "plan_not_found")
    order = first_held(model, plan)
    if order is None:
        return Expected(409, "not_awaiting_approval")
    return model.reject(who, order, now_s, "WRONG_TIMING", "")


def veto(model: Model, who: Person, plan: Plan) -> Expected:
    if who.organization != "ours":
        return Expected(404, "plan_not_found")
    order = first_waiting(model, plan)
    return Expected(409, "plan_over") if order is None else model.veto(who, order)


def abort(model: Model, who: Person, plan: Plan) -> Expected:
    """(Of a plan that has nothing on the wire.)"""
    if who.organization != "ours":
        return Expected(404, "plan_not_found")
    is_own = who.is_agent and plan.proposer == who.name
    if not who.may_operate and not is_own:
        return Expected(403, "not_allowed")
    if first_waiting(model, plan) is None:
        return Expected(409, "plan_over")
    if is_own and any(model.orders[each].status != "PENDING_APPROVAL" for each in plan.order_ids):
        return Expected(409, "not_abortable")
    return Expected(200)
