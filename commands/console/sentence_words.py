"""A sentence of the record in the page's language, whatever room wrote it.

Rooms write English into the record. A page in another language knows their sentences by `known_sentences` (whole) and
`known_patterns` (with gaps for names and figures), and shows the same sentence with the same figures. One that it does
not know is shown as it was written: nothing is ever left out.
"""

from __future__ import annotations

import functools
import re

from django.utils.translation import get_language, gettext

from commands.console import code_words
from commands.console.known_patterns import PATTERNS
from commands.console.order_words import is_english

_GAP = re.compile(r"\{(\w+)\}")
#: Sentences remembered per process; figures make each new, so the oldest go.
REMEMBERED = 4096
SEPARATOR = " · "  # several said in one line
MAX_CHARACTERS = 2000
MAX_DEPTH = 6  # a sentence in a gap of a sentence


def worded(text: object, *, keeps_codes: bool = False) -> str:
    """``text`` in the active language; as it stands where it is English or nothing is known of it.

    ``keeps_codes``: a code in a gap stays the code, for somebody who must write it.
    """
    words = str(text)
    if not words or is_english() or len(words) > MAX_CHARACTERS:
        return words
    language = get_language() or "en"
    parts = words.split(SEPARATOR)
    return SEPARATOR.join(_worded(part, language, 0, keeps_codes) if part else part for part in parts)


@functools.lru_cache(maxsize=REMEMBERED)
def _worded(words: str, language: str, depth: int, keeps_codes: bool) -> str:
    whole = gettext(words)
    if whole != words or depth >= MAX_DEPTH:
        return whole
    for start, pattern, template in _patterns():
        if not words.startswith(start):
            continue
        found = pattern.fullmatch(words)
        if found is not None:
            return _filled(gettext(template), found.groupdict(), language, depth, keeps_codes)
    return words


def _filled(template: str, gaps: dict[str, str], language: str, depth: int, keeps_codes: bool) -> str:
    """The translated sentence with its gaps filled; a gap that it lacks is a fault of the catalog (a test asks)."""
    return _GAP.sub(lambda gap: _gap(gaps.get(gap[1], gap[0]), language, depth, keeps_codes), template)


def _gap(value: str, language: str, depth: int, keeps_codes: bool) -> str:
    """What stands in a gap: a code by its word, a known sentence translated, anything else as it is."""
    if not value:
        return value  # the empty text is the catalog's own heading
    parts = value.split(", ")
    if all(part.replace("_", "").isalpha() for part in parts):
        return value if keeps_codes else ", ".join(code_words.by_word(part) for part in parts)
    return _worded(value, language, depth + 1, keeps_codes)


@functools.cache
def _patterns() -> tuple[tuple[str, re.Pattern[str], str], ...]:
    """(what it begins with, its expression, its msgid), the longest text first: the most exact wins."""
    ordered = sorted(PATTERNS, key=lambda template: -len(_GAP.sub("", template)))
    return tuple((_GAP.split(template, maxsplit=1)[0], _expression(template), template) for template in ordered)


def _expression(template: str) -> re.Pattern[str]:
    parts = _GAP.split(template)
    return re.compile(
        "".join(f"(?P<{part}>.*?)" if index % 2 else re.escape(part) for index, part in enumerate(parts)), re.S
    )
