"""When bytes reached a virtual machine: the end of its own wire log, not anybody's answer."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: The log cuts its times to whole milliseconds: add this to a difference, so that no figure flatters.
ROUNDING_MS = 1.0


class WireTail:
    """What was written since :meth:`skip`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def skip(self) -> None:
        """Forget everything up to now."""
        self._offset = self._path.stat().st_size

    def moments(self, *commands_hex: str) -> list[dt.datetime]:
        """When one of these commands reached the machine since `skip`."""
        return [
            dt.datetime.fromisoformat(entry["wall"])
            for entry in self._entries()
            if entry["dir"] == "out" and entry.get("hex") in commands_hex
        ]

    def _entries(self) -> Iterator[dict[str, Any]]:
        with self._path.open("rb") as stream:
            stream.seek(self._offset)
            for line in stream:
                if line.endswith(b"\n"):
                    yield json.loads(line)
