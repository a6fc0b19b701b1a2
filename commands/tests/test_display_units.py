"""Figures in the units of the person who looks."""

from __future__ import annotations

import pytest

from commands.console import display_units


def test_a_temperature_has_an_offset_and_a_rate_has_none() -> None:
    assert display_units.temperature_words(0, "F") == "32.0"
    assert display_units.temperature_words(-40, "F") == "-40.0"
    assert display_units.rate_words(0, "F") == "0.0"
    assert display_units.rate_words(10, "F") == "18.0"
    assert display_units.rate_words(-5, "F") == "-9.0"
    assert display_units.temperature_words(178.44, "C") == "178.4"
    assert display_units.temperature_words(None, "F") == display_units.rate_words(None, "C") == "–"


def test_a_mass_in_pounds() -> None:
    assert display_units.mass_words(453.59237, "lb") == "1.00 lb"
    assert display_units.mass_words(1000, "g") == "1000 g"
    assert display_units.mass_words(None, "lb") == ""


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("at 178 °C now", "at 178 °C (352 °F) now"),
        ("rate -2.5 °C/min", "rate -2.5 °C/min (-4.5 °F/min)"),
        ("limit of 225\u00a0°C.", "limit of 225\u00a0°C (437 °F)."),
        ("The probe must fall at least 25 °C", "The probe must fall at least 25 °C"),
        ("the probe rose less than 1 °C", "the probe rose less than 1 °C"),
        ("it fell 110 °C since", "it fell 110 °C since"),
        ("warm by 40.0 °C/min", "warm by 40.0 °C/min (72.0 °F/min)"),
        ("59.9 °C", "59.9 °C"),
        ("60 °C", "60 °C (140 °F)"),
        ("no figures, 12 s", "no figures, 12 s"),
    ],
)
def test_a_sentence_keeps_its_words(written: str, shown: str) -> None:
    assert display_units.with_fahrenheit(written) == shown
