"""How every episode begins, in numbers: what plans and population agree on. Pure."""

from __future__ import annotations

#: Every order of the beginning runs out this long after it; the living loop's lease ends so much earlier.
DEADLINE_MS = 20_000
LEASE_ENDS_MS = 3_000
#: The settings every machine stands at.
STEPS = {"heater": 6, "fan": 4, "drum": 7}
FIRST_LOOP, GONE_LOOP = "loop-1", "loop-gone"
#: Names of the machines; what waits at each says its name (`simulation.population`).
MACHINES = ("held", "ready", "flying", "doubt", "free", "shared")
