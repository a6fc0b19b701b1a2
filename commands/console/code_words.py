"""Codes as a person says them, in the page's language: reasons, outcomes, states, kinds, units.

A code that no table names is said as it is written, without its underscores; in English that is what it was.
"""

from __future__ import annotations

from django.utils.translation import gettext

from commands.console.known_codes import SAID
from commands.console.order_words import DECISION_WORDS, ORDER_WORDS, SIGNIFICANCE_WORDS
from commands.console.words import CONTROL_WORDS, ROAST_STATUS_WORDS, STATE_WORDS

_KNOWN = frozenset(SAID)


def spoken(code: object) -> str:
    """`SAFETY_CONCERN` as a person says it."""
    words = str(code or "").replace("_", " ").lower()
    if ": " in words:  # `drum: max_step`
        return ": ".join(spoken(part) for part in words.split(": "))
    return gettext(words) if words in _KNOWN else words


def control_word(control: object) -> str:
    """`heater` as the page calls it."""
    return str(CONTROL_WORDS.get(str(control), control))


def order_type_word(order_type: object) -> str:
    """`SET_POWER` as the page calls it."""
    return str(ORDER_WORDS.get(str(order_type), order_type))


def state_word(state: object) -> str:
    """A machine's state as the page calls it."""
    return str(STATE_WORDS.get(str(state), state))


def roast_status_word(status: object) -> str:
    """A roast's status as the page calls it."""
    return str(ROAST_STATUS_WORDS.get(str(status), status))


def significance_word(level: object) -> str:
    """How much an order matters, as the page calls it."""
    return str(SIGNIFICANCE_WORDS.get(str(level), level))


def by_word(value: str) -> str:
    """A code met inside a sentence: an order type, a control, a status; a name stays a name."""
    for table in (ORDER_WORDS, CONTROL_WORDS, DECISION_WORDS, STATE_WORDS):
        if value in table:
            return str(table[value])
    words = value.replace("_", " ").lower()
    return gettext(words) if words in _KNOWN else value
