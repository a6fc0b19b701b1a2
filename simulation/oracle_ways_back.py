"""What must come of taking an order back: nothing is undone, a control is brought to where it was read before. Pure."""

from __future__ import annotations

from simulation.oracle_values import SETTLED, Asked, Expected, Look, Order, Person


def roll_back(who: Person, order: Order, look: Look) -> Expected:
    """The answer to "take this order back". Who may not order is told so last: first whether it can be done at all."""
    if who.organization != "ours":
        return Expected(404, "proposal_not_found")
    if not order.control:
        return Expected(409, "not_a_setting")
    if order.status not in SETTLED:
        return Expected(409, "not_settled")
    if order.actual is None or order.actual == order.ran_from:
        return Expected(409, "nothing_moved")
    if order.ran_from is None:
        return Expected(409, "nothing_confirmed")
    if look.steps.get(order.control) != order.actual:
        return Expected(409, "moved_since")
    return Expected(201) if who.is_agent or who.may_operate else Expected(403, "not_allowed")


def going_back(order: Order) -> Asked:
    """The new order, in native steps."""
    return Asked(order.asked.order_type, float(order.ran_from) if order.ran_from is not None else None, "step")
