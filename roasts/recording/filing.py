"""One decision of the recorder on its way to the store. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from roasts.recording.recorder import Decision


@dataclass(frozen=True, slots=True)
class Filing:
    """A decision, the roast it belongs to, and the reading (of which keeper boot) it came from."""

    roast_id: str
    connection_id: str
    sequence: int
    decision: Decision
