"""Figures in the units of the person who looks: `{{ latest.bean_temp_c|temperature:preferences }}`."""

from __future__ import annotations

from django import template

from commands.console import code_words, display_units, machine_state, sentence_words, words
from kernel.models import Preferences
from roasts.models import Machine

register = template.Library()
register.filter("spoken", code_words.spoken)
register.filter("worded", sentence_words.worded)


def _unit(preferences: Preferences | str | None) -> str:
    """The person's unit; °C on a page that knows nobody's."""
    return preferences.temperature_unit if isinstance(preferences, Preferences) else "C"


@register.filter
def temperature(celsius: float | str | None, preferences: Preferences | str | None) -> str:
    """A temperature stored in °C; a dash for none (a missing row reaches a template as an empty text)."""
    return display_units.temperature_words(None if isinstance(celsius, str) else celsius, _unit(preferences))


@register.filter
def rate(celsius_per_min: float | str | None, preferences: Preferences | str | None) -> str:
    """A rate of rise stored in °C/min."""
    value = None if isinstance(celsius_per_min, str) else celsius_per_min
    return display_units.rate_words(value, _unit(preferences))


@register.filter
def mass(grams: float | None, preferences: Preferences | str | None) -> str:
    """A mass stored in g, with its unit."""
    unit = preferences.mass_unit if isinstance(preferences, Preferences) else "g"
    return display_units.mass_words(grams, unit)


@register.filter
def with_units(text: object, preferences: Preferences | str | None) -> str:
    """Somebody's sentence; for who reads °F, with °F beside each temperature in it. Escaped like any text."""
    words = str(text)
    return display_units.with_fahrenheit(words) if _unit(preferences) == "F" else words


@register.filter
def interval_s(machine: Machine) -> str:
    """How far apart the machine's readings come, in seconds, for a script: a page calls a slow one's old later."""
    return f"{machine_state.interval_of(machine, words.latest_of(machine)):g}"


@register.filter
def degree(preferences: Preferences | str | None) -> str:
    """`°C` or `°F`."""
    return f"°{_unit(preferences)}"
