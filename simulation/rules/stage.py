"""The one house of this process, built when it is first needed, and what all its examples together have done."""

from __future__ import annotations

import atexit
import functools
import gc

from simulation.house import House
from simulation.sometimes import Sometimes

SOMETIMES = Sometimes()


@functools.cache
def house() -> House:
    """Built once per process: about two seconds."""
    made = House(turn_s=0.4)
    made.build()
    gc.collect()
    gc.freeze()  # what stands for good is not looked through again and again
    atexit.register(made.close)
    return made
