"""When what an agent did lowers its grant, said a second time. Pure.

More than 5 % of at least 20 settled orders in five minutes, or three failures of one type in five minutes, take acting
alone away (L3); a machine that contradicted a setting leaves advice alone (L2). At least one level goes; L2 is the
lowest; each reason counts once a grant; what a hand did is nobody's failure. (An incident, an interlock that halted
the machine, is told of by whoever saw it: ``halted``.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from simulation.oracle_values import Grant, Order

_LEVELS = ("L1", "L2", "L3", "L4", "L5")
_WINDOW_S = 300.0
_NOBODYS = frozenset({"moved_at_machine", "control_moved"})


def lowered(grant: Grant, orders: Iterable[Order]) -> tuple[str, tuple[str, str]] | None:
    """(level it must come down to, the reason), or None while nothing lowers it."""
    if grant.level not in ("L3", "L4", "L5"):
        return None
    ended = sorted(
        (order for order in orders if order.proposer == grant.agent and _counts(order, grant)),
        key=lambda order: (order.settled_s or 0.0, order.order_id),
    )
    found = [reason for reason in _reasons(grant, ended) if reason[1:] not in grant.told]
    if not found:
        return None
    to, *reason = min(found)
    below = _LEVELS[_LEVELS.index(grant.level) - 1]
    return max("L2", min(to, below)), (reason[0], reason[1])


def _counts(order: Order, grant: Grant) -> bool:
    is_over = order.status in ("COMPLETED", "FAILED") and order.settled_s is not None
    return is_over and (order.settled_s or 0.0) > grant.granted_s and order.outcome not in _NOBODYS


def _reasons(grant: Grant, ended: list[Order]) -> Iterator[tuple[str, str, str]]:
    """(level, kind, order type)."""
    if any(order.status == "FAILED" and order.outcome == "contradicted" for order in ended):
        yield "L2", "contradicted", ""
    fresh = [order for order in ended if grant.lowered_s is None or (order.settled_s or 0.0) > grant.lowered_s]
    for last in fresh:
        within = [order for order in fresh if 0 <= (last.settled_s or 0.0) - (order.settled_s or 0.0) < _WINDOW_S]
        failed = [order for order in within if order.status == "FAILED"]
        if len(within) >= 20 and len(failed) * 100 > len(within) * 5:
            yield "L3", "error_rate", ""
        for order_type in {order.asked.order_type for order in failed}:
            if sum(order.asked.order_type == order_type for order in failed) >= 3:
                yield "L3", "failures_of_type", order_type
