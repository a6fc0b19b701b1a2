"""The search for garbage: what stands is left out of it, and what holds itself in a circle is found in the end."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from kernel import garbage


class Circle:
    """Holds itself."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def test_what_stands_is_not_gone_through_again() -> None:
    kept = [[number] for number in range(1000)]
    garbage.settle()
    assert gc.get_freeze_count() > len(kept)
    assert len(gc.get_objects()) < len(kept), "only what came since is looked at"


def test_circles_made_later_are_found_without_being_asked_for() -> None:
    garbage.settle()
    gone = weakref.ref(Circle())
    assert gone() is not None
    held: list[list[int]] = [[] for _ in range(gc.get_threshold()[0] + 1)]
    assert held and gone() is None


def test_garbage_of_before_is_let_go_and_not_frozen() -> None:
    gone = weakref.ref(Circle())
    garbage.settle()
    assert gone() is None
