"""Figures as a person wants to see them. Pure; what is stored, sent and decided on stays °C, °C/min and g.

A temperature has an offset (°F = °C × 1.8 + 32); a difference of temperatures and a rate of rise have none (× 1.8).
"""

from __future__ import annotations

import re
from collections.abc import Callable

G_PER_LB = 453.59237  # the international pound, exactly
#: Below this a "°C" in a sentence is as likely a difference ("fell at least 25 °C"): it is left alone.
SURELY_A_TEMPERATURE_C = 60.0
_FIGURE = re.compile(
    r"(?P<before>\b(?:by|least|most|than|fall|falls|fell|drop|dropped|rise|rises|rose|change|changed|delta|margin|spread"
    r"|difference)\s+)?"
    r"(?<![\d.])(?P<value>[-−]?\d+(?:\.\d+)?)(?P<space>[ \u00a0]?)°C(?P<per_min>/min)?"
)


def fahrenheit_of(celsius: float) -> float:
    """A temperature in °F."""
    return celsius * 1.8 + 32


def fahrenheit_per_min_of(celsius_per_min: float) -> float:
    """A rate (or a difference) in °F: no offset."""
    return celsius_per_min * 1.8


def pounds_of(grams: float) -> float:
    """A mass in pounds."""
    return grams / G_PER_LB


def temperature_words(celsius: float | None, unit: str) -> str:
    """`178.4` or `353.1`: one decimal, no unit; a dash where there is none."""
    return _words(celsius, unit, fahrenheit_of)


def rate_words(celsius_per_min: float | None, unit: str) -> str:
    """A rate of rise with one decimal, no unit; a dash where there is none."""
    return _words(celsius_per_min, unit, fahrenheit_per_min_of)


def _words(value: float | None, unit: str, convert: Callable[[float], float]) -> str:
    if value is None:
        return "–"
    return f"{convert(value) if unit == 'F' else value:.1f}"


def mass_words(grams: float | None, unit: str) -> str:
    """`1000 g` or `2.20 lb`."""
    if grams is None:
        return ""
    return f"{pounds_of(grams):.2f} lb" if unit == "lb" else f"{grams:g} g"


def with_fahrenheit(text: str) -> str:
    """A sentence somebody wrote in °C, as it stands, with °F in brackets behind each temperature and rate.

    The words themselves are the record and are not changed. A difference, or what may be one, is left alone.
    """

    def annotated(match: re.Match[str]) -> str:
        value = float(match["value"].replace("−", "-"))
        if match["per_min"]:
            return f"{match[0]} ({fahrenheit_per_min_of(value):.1f} °F/min)"
        if match["before"] or value < SURELY_A_TEMPERATURE_C:
            return match[0]
        return f"{match[0]} ({fahrenheit_of(value):.0f} °F)"

    return _FIGURE.sub(annotated, text)
