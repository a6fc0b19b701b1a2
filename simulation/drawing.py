"""From a seed to a plan: which episode, on which machine, by whom, what breaks. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType

from simulation.episodes import (
    adoptions,
    approvals,
    claims,
    doubts,
    grants,
    halts,
    leases,
    messages,
    proposals,
    sealing,
    switches,
    two_people,
    windows,
)
from simulation.plan import Fault, Operation, Plan, draw_schedule, stream

#: name -> (module, how often it is drawn).
EPISODES: Mapping[str, tuple[ModuleType, int]] = {
    "adoptions": (adoptions, 2), "approvals": (approvals, 7), "claims": (claims, 5), "doubts": (doubts, 2),
    "grants": (grants, 3), "halts": (halts, 7), "leases": (leases, 6), "messages": (messages, 1),
    "proposals": (proposals, 5), "sealing": (sealing, 3), "switches": (switches, 2), "two_people": (two_people, 5),
    "windows": (windows, 3),
}  # fmt: skip
FAULTY_SHARE, HEALED_SHARE, SEALED_SHARE = 0.3, 0.4, 0.25
#: kind -> (site, the nth time at most): what may befall an actor.
FAULTS: Sequence[tuple[str, str, int]] = (
    ("kill", "statement", 14), ("kill", "commit", 3), ("kill", "committed", 3), ("lost_before_commit", "commit", 2),
    ("lost_after_commit", "commit", 2), ("deadlock", "statement", 10), ("serialization", "statement", 10),
    ("statement_timeout", "statement", 10),
)  # fmt: skip
#: The same of whoever sends orders to the wire: just before the first bytes, and just after.
WIRE_FAULTS: Sequence[tuple[str, str, int]] = (("kill", "wire", 2), ("kill", "wired", 1))
WIRE_SHARE = 0.4
SENDING = frozenset({"tick", "take_over", "work", "claim_again"})
MESSAGE_FAULTS = ("duplicate", "delay", "reorder", "lose")


def draw(seed: int, episode: str | None = None) -> Plan:
    """The plan of a seed; ``episode`` chooses the kind instead of chance."""
    chance = stream(seed, "workload")
    names = sorted(EPISODES)
    name = chance.choices(names, [EPISODES[each][1] for each in names])[0]
    name = episode or name
    module = EPISODES[name][0]
    drawn: Callable[[random.Random], list[list[Operation]]] = module.draw
    actors = {f"actor{index}": tuple(operations) for index, operations in enumerate(drawn(chance))}
    machine = chance.choice(module.MACHINES)
    faults, healing = _faults(seed, name, actors), stream(seed, "healing")
    is_healed = bool(faults) or name == "sealing" or healing.random() < HEALED_SHARE
    is_sealed = is_healed and (name == "sealing" or healing.random() < SEALED_SHARE)
    return Plan(seed, name, machine, actors, draw_schedule(seed), faults, is_healed, is_sealed)


def _faults(seed: int, episode: str, actors: Mapping[str, tuple[Operation, ...]]) -> tuple[Fault, ...]:
    chance = stream(seed, "faults")
    senders = [name for name in sorted(actors) if any(operation.verb in SENDING for operation in actors[name])]
    found = []
    if chance.random() < FAULTY_SHARE:
        for _ in range(chance.choice((1, 1, 2))):
            is_at_the_wire = bool(senders) and chance.random() < WIRE_SHARE
            kind, site, most = chance.choice(WIRE_FAULTS if is_at_the_wire else FAULTS)
            actor = chance.choice(senders if is_at_the_wire else sorted(actors))
            found.append(Fault(actor, site, chance.randint(1, most), kind))
    if episode == "messages" and chance.random() < 0.6:
        found.append(Fault("", "message", chance.randint(1, 3), chance.choice(MESSAGE_FAULTS)))
    return tuple(found)
