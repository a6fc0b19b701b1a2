"""Ids: sortable by birth, and bounds between the older and the newer."""

from __future__ import annotations

import datetime as dt

from hypothesis import given
from hypothesis import strategies as st

from kernel import clock, ids
from kernel.ids import _base32

AT = dt.datetime(2026, 11, 21, 18, 0, 0, 123_456, tzinfo=dt.UTC)


def test_an_id_is_its_prefix_and_twenty_six_characters() -> None:
    made = ids.new("aud")
    assert made.startswith("aud_") and len(made) == 30 and len(ids.secret()) == 52


def test_what_is_born_later_lies_above_the_bound_and_what_was_born_before_below() -> None:
    before, now = ids.new("aud"), clock.now()
    later = now + dt.timedelta(milliseconds=1)
    assert ids.first("aud", now - dt.timedelta(seconds=1)) <= before < ids.first("aud", later)
    bound = ids.first("aud", AT)
    assert bound == ids.first("aud", AT.replace(microsecond=123_999))
    assert bound < ids.first("aud", AT.replace(microsecond=124_000))


@given(st.integers(0, 2**80 - 1), st.integers(0, 2**80 - 1))
def test_digits_sort_as_their_numbers_do(first: int, second: int) -> None:
    assert (_base32(first, 16) < _base32(second, 16)) == (first < second)
    assert len(_base32(first, 16)) == 16
