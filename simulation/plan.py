"""A seed becomes a plan: who does what, who runs next, what breaks. Pure; saved as JSON; replayed exactly.

Every part is drawn from a stream of its own (``stream(seed, name)``), so that taking an operation away moves
neither the schedule nor the faults. References are symbolic ("the held order of machine 2"), never ids.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from collections.abc import Mapping
from typing import Any

VERSION = 1
SCHEDULE_LENGTH = 160
MAX_ACTORS = 6
MAX_OPERATIONS = 12


class BadPlan(ValueError):
    """A plan that cannot be read; says what is wrong."""


def stream(seed: int, name: str) -> random.Random:
    """An independent source of choices: the same for the same seed and name in every process."""
    return random.Random(int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest(), "big"))


@dataclasses.dataclass(frozen=True, slots=True)
class Operation:
    """One thing an actor does. ``at_ms``: not before this virtual time since the episode began."""

    verb: str
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    at_ms: int = 0

    def to_json(self) -> dict[str, Any]:
        return {"verb": self.verb, "arguments": dict(sorted(self.arguments.items())), "at_ms": self.at_ms}


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """What breaks: the ``nth`` time (from 1) that ``actor`` comes to ``site``.

    Sites: statement, commit, committed, wire, wired, message. Kinds: see ``simulation.scheduler.FAULTS`` and
    ``simulation.sim_broker.FAULTS``.
    """

    actor: str
    site: str
    nth: int
    kind: str

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """A whole episode. ``schedule``: one number per decision; 0 goes on with whoever runs, k is the k-th other."""

    seed: int
    episode: str
    machine: str
    actors: Mapping[str, tuple[Operation, ...]]
    schedule: tuple[int, ...] = ()
    faults: tuple[Fault, ...] = ()
    is_healed: bool = True  # afterwards nothing breaks any more, time passes, and all must come to its end
    is_sealed: bool = False  # healing runs the sealer, too

    @property
    def operation_count(self) -> int:
        return sum(len(operations) for operations in self.actors.values())

    def to_json(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "seed": self.seed,
            "episode": self.episode,
            "machine": self.machine,
            "actors": {name: [each.to_json() for each in operations] for name, operations in self.actors.items()},
            "schedule": list(self.schedule),
            "faults": [fault.to_json() for fault in self.faults],
            "is_healed": self.is_healed,
            "is_sealed": self.is_sealed,
        }

    def dumps(self) -> str:
        """The plan as text, the same for the same plan."""
        return json.dumps(self.to_json(), indent=1, sort_keys=True) + "\n"


def loads(text: str) -> Plan:
    """The plan of a saved text. BadPlan."""
    try:
        document = json.loads(text)
        if document["version"] != VERSION:
            raise BadPlan(f"version {document['version']!r}: this simulator reads {VERSION}")
        actors = {
            str(name): tuple(Operation(o["verb"], o["arguments"], int(o["at_ms"])) for o in operations)
            for name, operations in sorted(document["actors"].items())
        }
        faults = tuple(Fault(f["actor"], f["site"], int(f["nth"]), f["kind"]) for f in document["faults"])
        plan = Plan(
            int(document["seed"]), str(document["episode"]), str(document["machine"]), actors,
            tuple(int(each) for each in document["schedule"]), faults,
            bool(document["is_healed"]), bool(document["is_sealed"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise error if isinstance(error, BadPlan) else BadPlan(f"not a plan: {error!r}") from error
    if len(plan.actors) > MAX_ACTORS or plan.operation_count > MAX_OPERATIONS:
        raise BadPlan(f"at most {MAX_ACTORS} actors and {MAX_OPERATIONS} operations")
    return plan


def draw_schedule(seed: int, length: int = SCHEDULE_LENGTH) -> tuple[int, ...]:
    """Decisions of one episode. How often it switches is drawn first: few switches find other races than many."""
    chance = stream(seed, "schedule")
    switching = chance.choice((0.12, 0.35, 0.65))
    return tuple(chance.randint(1, 3) if chance.random() < switching else 0 for _ in range(length))
