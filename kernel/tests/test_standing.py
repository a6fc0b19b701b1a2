"""Many ask for the one row that may be open; it may be closed again between two looks."""

from __future__ import annotations

import pytest
from django.db import IntegrityError

from kernel import standing


class _House:
    """One row may be open. ``others``: what somebody else does just before each try: "opens", "opens, closes", ""."""

    def __init__(self, *others: str) -> None:
        self._others = list(others)
        self.open = ""
        self.tries = 0

    def make(self) -> str:
        self.tries += 1
        other = self._others.pop(0) if self._others else ""
        if self.open or other:
            self.open = "theirs" if other == "opens" else ""
            raise IntegrityError("one is open")
        self.open = "ours"
        return self.open

    def find(self) -> str | None:
        return self.open or None


@pytest.mark.django_db
def test_it_is_made_where_none_stands() -> None:
    house = _House()
    assert standing.found_or_made(house.find, house.make) == "ours"


@pytest.mark.django_db
def test_who_comes_second_gets_the_first_ones() -> None:
    house = _House("opens")
    assert standing.found_or_made(house.find, house.make) == "theirs"
    assert house.tries == 1


@pytest.mark.django_db
def test_it_is_made_anew_where_the_first_ones_was_closed_at_that_moment() -> None:
    house = _House("opens, closes")
    assert standing.found_or_made(house.find, house.make) == "ours"
    assert house.tries == 2


@pytest.mark.django_db
@pytest.mark.parametrize("times", [standing.MAX_TRIES - 1, standing.MAX_TRIES])
def test_it_gives_up_where_something_else_refuses_it(times: int) -> None:
    house = _House(*["opens, closes"] * times)
    if times < standing.MAX_TRIES:
        assert standing.found_or_made(house.find, house.make) == "ours"
        return
    with pytest.raises(IntegrityError):
        standing.found_or_made(house.find, house.make)
    assert house.tries == standing.MAX_TRIES
