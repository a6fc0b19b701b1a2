"""One row that stands, or a new one: where a unique index lets only one of a kind be open at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from django.db import IntegrityError, transaction

Row = TypeVar("Row")
MAX_TRIES = 5


def found_or_made(find: Callable[[], Row | None], make: Callable[[], Row]) -> Row:
    """What ``make`` returns, in a transaction of its own; where somebody else made one first, that one, by ``find``.

    It may have been closed again between the two looks: then there is none, and it is made anew. IntegrityError: it
    could not be made MAX_TRIES times, and none stood (an index about something else refuses it).
    """
    tries_left = MAX_TRIES
    while True:
        tries_left -= 1
        try:
            with transaction.atomic():
                return make()
        except IntegrityError:
            standing = find()
            if standing is not None:
                return standing
            if tries_left <= 0:
                raise
