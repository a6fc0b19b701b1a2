"""Targets in the machine's own steps: heat never rounds up, every misfit has a name."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commands.rules.conversion import STATES, OrderType, Unit, to_native

MANY = settings(max_examples=400, deadline=None)

numbers = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e6, max_value=1e6)


@MANY
@given(numbers, st.sampled_from(["step", "percent"]), st.integers(1, 20))
def test_heat_never_rounds_up(value, unit, full_scale):
    step = to_native(OrderType.SET_POWER, value, unit, full_scale).step
    exact = Fraction(value) if unit == "step" else Fraction(value) * full_scale / 100
    assert step <= exact < step + 1


@MANY
@given(numbers, st.sampled_from([OrderType.SET_FAN, OrderType.SET_DRUM]), st.integers(1, 20))
def test_air_and_drum_round_to_the_nearest(value, order_type, full_scale):
    step = to_native(order_type, value, "percent", full_scale).step
    assert abs(Fraction(value) * full_scale / 100 - step) <= Fraction(1, 2)


@pytest.mark.parametrize(
    ("order_type", "value", "unit", "step"),
    [
        ("SET_POWER", 5, "step", 5), ("SET_POWER", 5.99, "step", 5), ("SET_POWER", 100, "percent", 9),
        ("SET_POWER", 99.9, "percent", 8), ("SET_POWER", 0, "percent", 0), ("SET_FAN", 4.5, "step", 5),
        ("SET_FAN", 4.49, "step", 4), ("SET_DRUM", 50, "percent", 5), ("SET_POWER", -0.1, "step", -1),
    ],
)  # fmt: skip
def test_conversion_by_example(order_type, value, unit, step):
    assert to_native(OrderType(order_type), value, unit, 9).step == step


@pytest.mark.parametrize("order_type", sorted(OrderType))
@pytest.mark.parametrize("unit", ["", *sorted(Unit)])
@pytest.mark.parametrize("value", [None, 5.0, math.nan, math.inf])
def test_every_misfit_has_a_name(order_type, unit, value):
    got = to_native(order_type, value, unit, 9)
    if order_type in STATES:
        assert (got.misfit is None) == (value is None and not unit)
    elif value is None or not math.isfinite(value):
        assert got.misfit.code == "target_missing"
    else:
        assert (got.misfit is None) == (unit in ("step", "percent"))
        assert got.misfit is None or got.misfit.code == "unit_does_not_fit"


def test_percent_without_an_envelope_is_refused():
    assert to_native(OrderType.SET_FAN, 50, "percent", None).misfit.code == "no_envelope"
