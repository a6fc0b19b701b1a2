"""What a sample keeps of a reading's extras: further named numbers and short words, and not too many of them. Pure.

Lists, nested values and long texts (advice to a person) are the live reading's; at 10 Hz a roast would keep thousands
of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

MAX_EXTRAS = 16
MAX_NAME_CHARACTERS = 40
MAX_WORD_CHARACTERS = 40
MAX_NUMBER = 2**63


def kept(extras: Mapping[str, Any]) -> dict[str, Any] | None:
    """The first MAX_EXTRAS that are a finite number, yes or no (1, 0), or a short word; None where there is none."""
    found: dict[str, Any] = {}
    for name, value in extras.items():
        if len(found) == MAX_EXTRAS:
            break
        if 1 <= len(name) <= MAX_NAME_CHARACTERS and _is_kept(value):
            found[name] = int(value) if isinstance(value, bool) else value
    return found or None


def _is_kept(value: Any) -> bool:
    if isinstance(value, str):
        return 0 < len(value) <= MAX_WORD_CHARACTERS and "\0" not in value
    return isinstance(value, int | float) and abs(value) < MAX_NUMBER and math.isfinite(value)
