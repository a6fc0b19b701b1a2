"""The one house of this process, built when it is first needed, and what all its examples together have done."""

from __future__ import annotations

import atexit
import gc

from simulation.house import House
from simulation.sometimes import Sometimes

SOMETIMES = Sometimes()
#: Garbage of examples is looked for seldom: what one leaves is soon let go by itself.
GARBAGE_EVERY = (100_000, 50, 50)
_USUAL = gc.get_threshold()
_standing: list[House] = []


def house() -> House:
    """Built once per process: two seconds, more where the migrations changed."""
    if not _standing:
        made = House(turn_s=0.4)
        made.build()
        _standing.append(made)
        gc.set_threshold(*GARBAGE_EVERY)
        freeze()
        atexit.register(pull_down)
    return _standing[0]


def freeze() -> None:
    """What stands for good is not looked through again and again. (Once more after the first example: it imports.)"""
    gc.collect()
    gc.freeze()


def pull_down() -> None:
    """Clock, chance, database and all other seams are again what they were."""
    while _standing:
        _standing.pop().close()
        gc.unfreeze()
        gc.set_threshold(*_USUAL)
