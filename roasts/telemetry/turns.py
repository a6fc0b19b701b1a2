"""One thread of a process computes at a time; while it waits for the database, the next one does.

Threads that all compute take the interpreter from each other; so few threads wait for the database together and the
batches behind them wait, too. A turn keeps the first from happening, and leaves as many threads as one likes.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

_turn = threading.Lock()
_own = threading.local()


@contextlib.contextmanager
def computing() -> Iterator[None]:
    """The caller's turn; waits for it. Not to be taken twice."""
    with _turn:
        _own.has_it = True
        try:
            yield
        finally:
            _own.has_it = False


@contextlib.contextmanager
def waiting() -> Iterator[None]:
    """Something that waits more than it computes: the turn is given up meanwhile, and taken again after. Nothing where
    the caller has none."""
    if not getattr(_own, "has_it", False):
        yield
        return
    _own.has_it = False
    _turn.release()
    try:
        yield
    finally:
        _turn.acquire()
        _own.has_it = True
