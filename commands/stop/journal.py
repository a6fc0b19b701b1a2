"""Halts on disk until the store has them: one small file each, written at once, removed when filed. No Django.

STOP, the interlocks and `manage.py stop` write; whoever reaches the store first files (idempotent by stop id).
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from drivers import keeper_config

logger = logging.getLogger(__name__)
MAX_NOTES = 1000
MAX_NOTE_BYTES = 262_144


@dataclass(frozen=True, slots=True)
class HaltNote:
    """All that must be known of one halt. Times ISO with zone; ``result`` "" while under way."""

    stop_id: str
    machine_id: str
    kind: str  # stop | interlock | link_lost
    code: str
    by_kind: str  # person | system
    by_id: str
    by_name: str
    opened_at: str
    result: str = ""
    first_byte_ms: float | None = None
    proved_ms: float | None = None
    by_hand: list[str] = field(default_factory=list)
    proof: dict[str, Any] = field(default_factory=dict)
    joined_id: str = ""  # the halt of an earlier press that stood already: this one belongs to it

    @property
    def halt_id(self) -> str:
        """The halt this press opened, or joined."""
        return self.joined_id or self.stop_id

    def ended(self, **values: Any) -> HaltNote:
        """The same halt with what came of it."""
        return replace(self, **values)


def folder(data_dir: Path) -> Path:
    """Where the notes lie."""
    return data_dir / "journal" / "halts"


def write(data_dir: Path, note: HaltNote) -> Path:
    """Keep a note (replacing an earlier one of the same stop). OSError."""
    place = folder(data_dir)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = place / f"{note.stop_id}.json"
    keeper_config.write_private(path, json.dumps(asdict(note)).encode())
    return path


def read(path: Path) -> HaltNote | None:
    """The note in a file; None where it is gone or nonsense (which is kept aside and logged)."""
    try:
        if path.stat().st_size > MAX_NOTE_BYTES:
            raise ValueError("too large")
        return HaltNote(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        logger.error("halt note %s cannot be read: %s", path.name, error)
        return None


def waiting(data_dir: Path, machine_id: str | None = None) -> list[tuple[Path, HaltNote]]:
    """Notes not filed yet, oldest first (ids sort by time), at most MAX_NOTES."""
    place = folder(data_dir)
    if not place.is_dir():
        return []
    found = []
    for path in sorted(place.glob("*.json"))[:MAX_NOTES]:
        note = read(path)
        if note is not None and (machine_id is None or note.machine_id == machine_id):
            found.append((path, note))
    return found


def remove(path: Path, filed: HaltNote) -> None:
    """Forget a note that is filed, unless it was rewritten meanwhile with more in it."""
    if read(path) == filed:
        path.unlink(missing_ok=True)
