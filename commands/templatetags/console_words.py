"""Words of the record in the page's language: `{{ proposal.control|control_word }}`. (`worded` and `spoken` stand in `console_figures`.)."""

from __future__ import annotations

from django import template

from commands.console import code_words

register = template.Library()

register.filter("control_word", code_words.control_word)
register.filter("order_type_word", code_words.order_type_word)
register.filter("state_word", code_words.state_word)
register.filter("roast_status_word", code_words.roast_status_word)
register.filter("significance_word", code_words.significance_word)
