"""A proposal as the absolute order its keeper is asked for. Pure but for the row it reads."""

from __future__ import annotations

from commands import situation
from commands.loop.notes import View
from commands.models import Proposal
from drivers.port import Control, MachineState, SettingOrder, StateOrder

#: What each state order asks the machine for.
STATE_OF = {
    "PREHEAT": MachineState.PREHEATING,
    "CHARGE": MachineState.ROASTING,
    "DROP": MachineState.COOLING,
    "COOL": MachineState.COOLING,
}
#: States that show that such an order was carried out (firmware walks on by itself).
REACHED = {
    "PREHEAT": frozenset({MachineState.PREHEATING, MachineState.STABILISING, MachineState.CHARGE}),
    "CHARGE": frozenset({MachineState.ROASTING}),
    "DROP": frozenset({MachineState.COOLING}),
    "COOL": frozenset({MachineState.COOLING}),
}


def order_of(proposal: Proposal, view: View) -> SettingOrder | StateOrder:
    """The absolute order for the keeper, bound to what the machine read at the last review."""
    reading = view.reading
    if proposal.control:
        control = Control(proposal.control)
        if proposal.target_step is None:
            raise ValueError(f"{proposal.pk} sets {control} to nothing")
        return SettingOrder(
            order_id=proposal.pk,
            control=control,
            target_step=proposal.target_step,
            from_step=reading.step_of(control) if reading is not None else None,
        )
    return StateOrder(
        order_id=proposal.pk,
        target_state=STATE_OF[proposal.order_type],
        from_state=reading.state if reading is not None else None,
        preheat_target_c=situation.preheat_c_of(proposal),
    )
