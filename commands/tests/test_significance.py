"""How much an order matters: the table from the top, shares of full scale on both sides of each bound."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commands.rules.conversion import STATES, OrderType
from commands.rules.significance import (
    DEFAULT_TABLE,
    LEVELS,
    Direction,
    Rated,
    Row,
    Significance,
    highest,
    is_at_least,
    move_of,
    rate,
)


def rated(order_type: str, start: int | None, target: int | None, full: int | None = 9, state: str = "roasting") -> str:
    found = rate(move_of(OrderType(order_type), start, target, full, state), DEFAULT_TABLE)
    return found.level.value if found else "no row"


@pytest.mark.parametrize(
    ("order_type", "start", "target", "full", "level"),
    [
        ("SET_POWER", 6, 6, 9, "none"),
        ("SET_POWER", 6, 4, 9, "watch"),  # 2 of 9
        ("SET_POWER", 6, 3, 9, "warning"),  # 3 of 9 is over a quarter
        ("SET_POWER", 8, 4, 16, "watch"),  # exactly a quarter
        ("SET_POWER", 9, 4, 16, "warning"),
        ("SET_POWER", 6, 7, 9, "warning"),
        ("SET_POWER", 6, 8, 9, "distress"),
        ("SET_POWER", 6, 9, 9, "distress"),  # 3 of 9 is a third
        ("SET_POWER", 5, 9, 9, "critical"),
        ("SET_POWER", 3, 9, 9, "critical"),  # 6 of 9
        ("SET_POWER", 2, 9, 9, "severe"),
        ("SET_POWER", 0, 9, 9, "severe"),
        ("SET_FAN", 4, 4, 12, "none"),
        ("SET_FAN", 4, 7, 12, "watch"),
        ("SET_FAN", 4, 8, 12, "warning"),
        ("SET_FAN", 8, 5, 12, "watch"),
        ("SET_FAN", 9, 3, 12, "warning"),  # half
        ("SET_FAN", 9, 2, 12, "distress"),
        ("SET_DRUM", 7, 6, 9, "warning"),
        ("SET_DRUM", 7, 4, 9, "distress"),
        ("PREHEAT", None, None, None, "critical"),
        ("CHARGE", None, None, None, "distress"),
        ("DROP", None, None, None, "distress"),
        ("COOL", None, None, None, "distress"),
    ],
)
def test_the_houses_own_table(order_type, start, target, full, level):
    assert rated(order_type, start, target, full) == level


def test_the_machines_state_counts():
    assert rated("SET_FAN", 12, 1, 12, "cooling") == "watch"
    assert rated("SET_FAN", 12, 1, 12, "roasting") == "distress"


def test_what_is_not_known_counts_as_the_longest_way_up():
    assert rated("SET_POWER", None, 5) == "severe"
    assert rated("SET_POWER", 5, None) == "severe"
    assert rated("SET_POWER", 5, 6, None) == "severe"


def test_the_first_row_that_fits_decides():
    up = Row(OrderType.SET_FAN, Direction.ANY, 1.0, frozenset(), Significance.SEVERE, "all")
    move = move_of(OrderType.SET_FAN, 4, 5, 12, "roasting")
    assert rate(move, (up, *DEFAULT_TABLE)).level is Significance.SEVERE
    assert rate(move, (*DEFAULT_TABLE, up)).level is Significance.WATCH


def test_an_order_no_row_fits_has_no_significance():
    assert rate(move_of(OrderType.SET_FAN, 4, 5, 12, "roasting"), ()) is None
    only_cooling = tuple(row for row in DEFAULT_TABLE if "cooling" in row.states)
    assert rate(move_of(OrderType.SET_FAN, 4, 5, 12, "roasting"), only_cooling) is None


@given(st.sampled_from([*OrderType]), st.integers(0, 100), st.integers(0, 100), st.integers(1, 100), st.text())
@settings(max_examples=300, deadline=None)
def test_the_houses_own_table_rates_every_order(order_type, start, target, full, state):
    assert rate(move_of(order_type, start, target, full, state), DEFAULT_TABLE) is not None


@given(st.sampled_from([*set(OrderType) - STATES]), st.integers(0, 12), st.integers(0, 12), st.integers(0, 12))
@settings(max_examples=300, deadline=None)
def test_further_in_one_direction_never_matters_less(order_type, start, one, other):
    near, far = sorted((one, other), key=lambda target: abs(target - start))
    if (near - start) * (far - start) <= 0:
        return
    levels = [rate(move_of(order_type, start, each, 12, "roasting"), DEFAULT_TABLE).level for each in (near, far)]
    assert is_at_least(levels[1], levels[0])


@given(st.lists(st.sampled_from(LEVELS), min_size=1))
def test_a_whole_has_the_highest_it_contains(levels):
    found = highest(Rated(level, level.value) for level in levels)
    assert found is not None and found.level == max(levels, key=LEVELS.index)


def test_a_whole_with_something_unrated_has_none():
    assert highest([Rated(Significance.WATCH, "w"), None]) is None
    assert highest([]) is None
