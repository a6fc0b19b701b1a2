"""The one house of this process, built when it is first needed, and what all its examples together have done."""

from __future__ import annotations

import atexit
import gc

from simulation.house import House
from simulation.sometimes import Sometimes

SOMETIMES = Sometimes()
_standing: list[House] = []


def house() -> House:
    """Built once per process: two seconds, more where the migrations changed."""
    if not _standing:
        made = House(turn_s=0.4)
        made.build()
        _standing.append(made)
        gc.collect()
        gc.freeze()  # what stands for good is not looked through again and again
        atexit.register(pull_down)
    return _standing[0]


def pull_down() -> None:
    """Clock, chance, database and all other seams are again what they were."""
    while _standing:
        _standing.pop().close()
        gc.unfreeze()
