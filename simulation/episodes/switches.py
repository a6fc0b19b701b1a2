"""What is switched on and off: a halt, a suspension, a pause, by three people at once."""

from __future__ import annotations

import random

from simulation.plan import Operation

MACHINES = ("held", "shared", "free")
#: (who switches on, with which verb; who switches off, with which verb)
SWITCHES = (
    ("stop", ("operator", "second", "third"), "reset", ("lead", "other_lead")),
    ("suspend", ("operator", "second", "third"), "resume", ("second", "third")),
    ("pause_orders", (), "resume_orders", ("second", "third")),
)
ON_SHARE = 0.6


def draw(chance: random.Random) -> list[list[Operation]]:
    """Three actors with one switch between them: each presses it once or twice."""
    switch = chance.choices(SWITCHES, (2, 1, 1))[0]
    return [[_press(chance, switch) for _ in range(chance.choice((1, 1, 2)))] for _ in range(3)]


def _press(chance: random.Random, switch: tuple[str, tuple[str, ...], str, tuple[str, ...]]) -> Operation:
    on, switching_on, off, switching_off = switch
    verb, people = (on, switching_on) if chance.random() < ON_SHARE else (off, switching_off)
    return Operation(verb, {"who": chance.choice(people)} if people else {})
