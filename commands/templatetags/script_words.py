"""`{% script_words as words %}`: the words of the page's scripts in the page's language, as JSON."""

from __future__ import annotations

from django import template

from commands.console import script_words as table

register = template.Library()


@register.simple_tag
def script_words() -> str:
    """Empty on an English page."""
    return table.table_json()
