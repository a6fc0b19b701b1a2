"""What followers of a keeper are told: one bounded ring of encoded lines; each follower reads at its own pace."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from typing import Any

from drivers.port import Control, Reading
from drivers.wire_json import reading_to_json

RING_LINES = 8192  # > 6000 readings: ten minutes at 10 Hz, and the events between them
OWN_MOVE_S = 1.5  # a control that changes this soon after our write to it moved because of it


@dataclass(frozen=True, slots=True)
class Line:
    """One event, encoded once for all followers. ``sequence`` is the newest reading's at its time."""

    index: int
    sequence: int
    raw: bytes


class EventRing:
    """The last RING_LINES events."""

    def __init__(self) -> None:
        self._lines: list[Line | None] = [None] * RING_LINES
        self._next = 0
        self._sequence = 0
        self._changed = threading.Condition()
        self._is_closed = False

    def add(self, event: str, content: dict[str, Any], *, sequence: int | None = None) -> None:
        """Append and wake the followers."""
        raw = json.dumps({"event": event, **content}, separators=(",", ":")).encode() + b"\n"
        with self._changed:
            if sequence is not None:
                self._sequence = sequence
            self._lines[self._next % RING_LINES] = Line(self._next, self._sequence, raw)
            self._next += 1
            self._changed.notify_all()

    def start_after(self, sequence: int) -> int:
        """The index of the first event newer than the reading with that sequence."""
        with self._changed:
            index = self._next
            while index > max(0, self._next - RING_LINES):
                line = self._lines[(index - 1) % RING_LINES]
                if line is None or line.sequence <= sequence:
                    break
                index -= 1
            return index

    def wait_from(self, index: int, timeout_s: float) -> tuple[list[Line], int]:
        """Events from ``index`` on (at most 256) and how many were overwritten before they could be read."""
        with self._changed:
            if index >= self._next and not self._is_closed:
                self._changed.wait(timeout_s)
            oldest = max(0, self._next - RING_LINES)
            lost = max(0, oldest - index)
            start = index + lost
            found = [self._lines[i % RING_LINES] for i in range(start, min(self._next, start + 256))]
        return [line for line in found if line is not None], lost

    def close(self) -> None:
        """Let waiting followers go."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()


class MoveWatch:
    """Sees controls that change without our bytes: a hand at the panel, or the firmware."""

    def __init__(self) -> None:
        self._steps: dict[Control, int] = {}
        self._written_at_s: dict[Control, float] = {}
        self._state: str | None = None

    def wrote(self, meaning: str, monotonic_s: float) -> None:
        """Our bytes went to this control (``meaning`` as the codec words it)."""
        control = meaning.partition(" ")[0]
        if control in Control.__members__.values():
            self._written_at_s[Control(control)] = monotonic_s

    def see(self, reading: Reading) -> list[dict[str, Any]]:
        """One entry per control that moved by itself since the last reading."""
        moves = []
        for control in Control:
            step = reading.step_of(control)
            if step is None:
                continue
            before = self._steps.get(control)
            self._steps[control] = step
            written_at_s = self._written_at_s.get(control)
            is_ours = written_at_s is not None and reading.monotonic_s - written_at_s <= OWN_MOVE_S
            if before is not None and before != step and not is_ours:
                moves.append({"control": control.value, "from": before, "to": step, "sequence": reading.sequence,
                              "state": reading.state.value})
        return moves


def reading_event(reading: Reading) -> dict[str, Any]:
    """The content of a reading event."""
    return {"reading": reading_to_json(reading)}
