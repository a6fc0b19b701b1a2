"""The next batch of a machine, as whoever opens its roasts must know it. Pure."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from drivers.port import MachineState

#: What a machine says before the beans go in: it heats up, or is hot and waits for them.
HEATING_UP = frozenset({MachineState.PREHEATING, MachineState.STABILISING, MachineState.CHARGE})


@dataclass(frozen=True, slots=True)
class PlannedBatch:
    """What is planned to go in next. ``at``: when that was planned; a charge before then is not its own."""

    roast_id: str
    at: dt.datetime
    is_preheating: bool = False

    def is_for(self, charged_at: dt.datetime) -> bool:
        """Whether a charge of that moment may be this batch's."""
        return charged_at >= self.at
