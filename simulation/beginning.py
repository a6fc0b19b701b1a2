"""How every episode begins, in numbers: what plans and population agree on. Pure."""

from __future__ import annotations

#: Every order of the beginning runs out this long after it; the living loop's lease ends so much earlier.
DEADLINE_MS = 20_000
LEASE_ENDS_MS = 3_000
#: The settings every machine stands at.
STEPS = {"heater": 6, "fan": 4, "drum": 7}
#: A machine that stands elsewhere: from here, one order is of so much consequence that it needs two people.
GRAVE_STEPS = {**STEPS, "heater": 2}
FIRST_LOOP, GONE_LOOP = "loop-1", "loop-gone"
#: At level 4 an order runs this long after it was proposed, unless somebody vetoes it.
WINDOW_ENDS_MS = 15_000
#: Names of the machines; what waits at each says its name (`simulation.population`).
MACHINES = ("held", "ready", "flying", "doubt", "free", "shared", "grave", "window")
