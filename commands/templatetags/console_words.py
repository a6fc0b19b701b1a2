"""Words of the record in the page's language: `{{ proposal.control|control_word }}`.

`worded` and `spoken`, which most pages need, stand in `console_figures`.
"""

from __future__ import annotations

from typing import Any

from django import template

from commands.console import code_words
from commands.console.reason_words import reason_words, turned_down
from commands.models import Proposal

register = template.Library()

register.filter("control_word", code_words.control_word)
register.filter("order_type_word", code_words.order_type_word)
register.filter("state_word", code_words.state_word)
register.filter("roast_status_word", code_words.roast_status_word)
register.filter("significance_word", code_words.significance_word)
register.filter("turned_down", turned_down)


@register.filter
def reason_message(reason: dict[str, Any], order: Proposal) -> str:
    """Why, of one stored reason of this order's verdict."""
    return reason_words(reason, order).message


@register.filter
def reason_cure(reason: dict[str, Any], order: Proposal) -> str:
    """What would change it; empty where nothing is told."""
    return reason_words(reason, order).how_to_fix
