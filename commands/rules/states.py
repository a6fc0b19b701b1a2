"""Which order types are allowed in which machine state: one table per kind of machine, by what its driver can do. Pure.

A kind that is not here permits nothing. State names are those of ``drivers.port.MachineState``; ``unknown`` is in no
row of any table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from commands.rules.conversion import HAND_ACTS, OrderType

ALL_KNOWN = frozenset({"off", "preheating", "stabilising", "charge", "roasting", "cooling", "shutdown"})
#: In these the firmware, not we, holds the heater (drivers.port.FIRMWARE_OWNS_HEAT).
FIRMWARE_OWNS_HEAT = frozenset({"preheating", "stabilising", "charge"})
_HANDS_OFF = ALL_KNOWN - FIRMWARE_OWNS_HEAT
_WITH_BEANS = frozenset({"charge", "roasting", "cooling"})
_OFF, _CHARGE, _ROASTING = frozenset({"off"}), frozenset({"charge"}), frozenset({"roasting"})


@dataclass(frozen=True, slots=True)
class StateTable:
    """One kind of machine.

    ``allowed``: order type → states in which it makes sense; a type that is not in it cannot be asked for by wire.
    ``heat_up``: states in which more heat does. ``hand_acts``: from an agent, advice with a countdown.
    ``preheat_range_c``: lowest and highest preheat temperature in °C, where PREHEAT takes one at all.
    """

    allowed: Mapping[OrderType, frozenset[str]]
    heat_up: frozenset[str] = _ROASTING
    hand_acts: frozenset[OrderType] = frozenset()
    preheat_range_c: tuple[int, int] | None = None


#: On a Bullet beans move by hand.
_R1 = StateTable(
    {
        OrderType.SET_POWER: _HANDS_OFF,
        OrderType.SET_FAN: _WITH_BEANS,
        OrderType.SET_DRUM: _WITH_BEANS,
        OrderType.PREHEAT: _OFF,
        OrderType.CHARGE: _CHARGE,
        OrderType.DROP: _ROASTING,
        OrderType.COOL: _ROASTING,
    },
    hand_acts=HAND_ACTS,
)
#: Its button is known out of off, preheating and roasting; nothing presses it out of charge (drivers.bullet.tables).
#: 35 00 sets its preheat temperature (reference §2.2), 20 to 350 °C.
_R2 = StateTable(
    {
        OrderType.SET_POWER: _HANDS_OFF,
        OrderType.SET_FAN: _WITH_BEANS,
        OrderType.SET_DRUM: _WITH_BEANS,
        OrderType.PREHEAT: _OFF,
        OrderType.DROP: _ROASTING,
        OrderType.COOL: _ROASTING,
    },
    hand_acts=HAND_ACTS,
    preheat_range_c=(20, 350),
)
#: A line machine is set by absolute values in every state it says, and asked for the states that its HELLO declares;
#: what it did not declare its driver declines.
_TCP_LINE = StateTable(
    {
        OrderType.SET_POWER: _HANDS_OFF,
        OrderType.SET_FAN: ALL_KNOWN,
        OrderType.SET_DRUM: ALL_KNOWN,
        OrderType.PREHEAT: _OFF,
        OrderType.CHARGE: _CHARGE,
        OrderType.DROP: _ROASTING,
        OrderType.COOL: FIRMWARE_OWNS_HEAT | _ROASTING,
    }
)
#: A TC4 drives outputs; it has no states that could be asked for.
_TC4 = StateTable(
    {OrderType.SET_POWER: _HANDS_OFF, OrderType.SET_FAN: ALL_KNOWN, OrderType.SET_DRUM: ALL_KNOWN}
)
_NOTHING = StateTable({}, heat_up=frozenset())
#: Kind of driver (a key of ``drivers.registry.KINDS``) → its table.
TABLES: dict[str, StateTable] = {
    "bullet-r1": _R1, "bullet-r2": _R2, "tcp-line": _TCP_LINE, "tc4-serial": _TC4, "tc4-tcp": _TC4,
}  # fmt: skip


def table_of(machine_kind: str) -> StateTable:
    """The kind's table; of a kind nobody knows, one that permits nothing."""
    return TABLES.get(machine_kind, _NOTHING)
