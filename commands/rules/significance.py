"""How much an order matters, in six levels, each with its reason. Pure.

The table is the server's and versioned with the governor's policy. Its rows are tried from the top; the first that
fits rates the order. An order that no row fits has no significance, and the governor refuses an agent's.
The levels and their order are those of XTCE (ISO 14950).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from commands.rules.conversion import CONTROL_OF, OrderType


class Significance(enum.StrEnum):
    """How much hangs on an order."""

    NONE = "none"
    WATCH = "watch"
    WARNING = "warning"
    DISTRESS = "distress"
    CRITICAL = "critical"
    SEVERE = "severe"


#: The levels, the least first.
LEVELS: tuple[Significance, ...] = tuple(Significance)
_RANK = {level: rank for rank, level in enumerate(LEVELS)}


class Direction(enum.StrEnum):
    """Which way an order moves its control."""

    UP = "up"
    DOWN = "down"
    SAME = "same"  # the setting it has already
    ACT = "act"  # a state order: it moves the machine, not a control
    ANY = "any"


#: A share of the scale is compared with this much forgiveness: 3 of 12 steps are 0.25, whatever the float says.
_CRUMB = 1e-9


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. ``up_to_share`` of full scale, inclusive; empty ``states``: any machine state."""

    order_type: OrderType
    direction: Direction
    up_to_share: float
    states: frozenset[str]
    significance: Significance
    reason: str

    def fits(self, move: Move) -> bool:
        return (
            self.order_type is move.order_type
            and self.direction in (Direction.ANY, move.direction)
            and move.share <= self.up_to_share + _CRUMB
            and (not self.states or move.state in self.states)
        )


@dataclass(frozen=True, slots=True)
class Move:
    """What an order would do: which way, over which share of the control's full scale, from which machine state."""

    order_type: OrderType
    direction: Direction
    share: float
    state: str


@dataclass(frozen=True, slots=True)
class Rated:
    """A level and why."""

    level: Significance
    reason: str


def move_of(
    order_type: OrderType, from_step: int | None, target_step: int | None, full_scale_step: int | None, state: str
) -> Move:
    """The move in the table's terms. What is not known counts as the longest way up."""
    if not CONTROL_OF[order_type]:
        return Move(order_type, Direction.ACT, 1.0, state)
    if from_step is None or target_step is None:
        return Move(order_type, Direction.UP, 1.0, state)
    change = target_step - from_step
    share = abs(change) / full_scale_step if full_scale_step else 1.0
    direction = Direction.SAME if change == 0 else Direction.UP if change > 0 else Direction.DOWN
    return Move(order_type, direction, 0.0 if change == 0 else min(share, 1.0), state)


def rate(move: Move, table: Iterable[Row]) -> Rated | None:
    """The first row that fits; None when none does."""
    row = next((row for row in table if row.fits(move)), None)
    return Rated(row.significance, row.reason) if row is not None else None


def is_at_least(level: Significance | str, bound: Significance | str) -> bool:
    """``level`` is ``bound`` or more. ValueError for a word that is no level."""
    return _RANK[Significance(level)] >= _RANK[Significance(bound)]


def highest(rated: Iterable[Rated | None]) -> Rated | None:
    """Of something that installs several effects (a plan, a profile): the highest it contains.

    None when it contains nothing, or anything that no row rates: then the whole has no significance either.
    """
    found: Rated | None = None
    for each in rated:
        if each is None:
            return None
        if found is None or _RANK[each.level] > _RANK[found.level]:
            found = each
    return found


def _row(
    order_type: OrderType, direction: Direction, up_to: float, level: Significance, reason: str, *states: str
) -> Row:
    return Row(order_type, direction, up_to, frozenset(states), level, reason)


_POWER, _FAN, _DRUM = OrderType.SET_POWER, OrderType.SET_FAN, OrderType.SET_DRUM
_UP, _DOWN, _SAME, _ACT = Direction.UP, Direction.DOWN, Direction.SAME, Direction.ACT
#: The house's own table. One step is 1/9 of a Bullet's heater and drum, 1/12 of its fan.
DEFAULT_TABLE: tuple[Row, ...] = (
    _row(_POWER, _SAME, 1.0, Significance.NONE, "The heater has this setting already."),
    _row(_POWER, _DOWN, 0.25, Significance.WATCH, "A little less heat: the safe direction."),
    _row(_POWER, _DOWN, 1.0, Significance.WARNING, "Much less heat: safe, but the roast may stall."),
    _row(_POWER, _UP, 0.12, Significance.WARNING, "A step more heat: it can be taken back, its energy cannot."),
    _row(_POWER, _UP, 0.34, Significance.DISTRESS, "Several steps more heat: the beans may scorch."),
    _row(_POWER, _UP, 0.67, Significance.CRITICAL, "Most of the heater at once: the rate of rise may run away."),
    _row(_POWER, _UP, 1.0, Significance.SEVERE, "Nearly full heat from nearly none."),
    _row(_FAN, _SAME, 1.0, Significance.NONE, "The fan has this setting already."),
    _row(_FAN, Direction.ANY, 1.0, Significance.WATCH, "Beans are cooling: air does no harm.", "cooling"),
    _row(_FAN, _UP, 0.25, Significance.WATCH, "A little more air."),
    _row(_FAN, _UP, 1.0, Significance.WARNING, "Much more air: it takes heat from the beans at once."),
    _row(_FAN, _DOWN, 0.25, Significance.WATCH, "A little less air."),
    _row(_FAN, _DOWN, 0.5, Significance.WARNING, "Less air: smoke and heat stay longer in the drum."),
    _row(_FAN, _DOWN, 1.0, Significance.DISTRESS, "Much less air: smoke, chaff and heat stay in the drum."),
    _row(_DRUM, _SAME, 1.0, Significance.NONE, "The drum has this setting already."),
    _row(_DRUM, _UP, 0.25, Significance.WATCH, "A little faster drum."),
    _row(_DRUM, _UP, 1.0, Significance.WARNING, "Much faster drum: beans may be held to its wall."),
    _row(_DRUM, _DOWN, 0.25, Significance.WARNING, "Slower drum: beans lie longer on hot metal."),
    _row(_DRUM, _DOWN, 1.0, Significance.DISTRESS, "Much slower drum: beans may scorch on its wall."),
    _row(OrderType.PREHEAT, _ACT, 1.0, Significance.CRITICAL, "Heats an empty drum; the firmware holds the heater."),
    _row(OrderType.CHARGE, _ACT, 1.0, Significance.DISTRESS, "Begins a roast: beans go in."),
    _row(OrderType.DROP, _ACT, 1.0, Significance.DISTRESS, "Ends the roast: it cannot be taken back."),
    _row(OrderType.COOL, _ACT, 1.0, Significance.DISTRESS, "Ends the roast: it cannot be taken back."),
)
