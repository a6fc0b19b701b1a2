"""What many seeds of lane A came to, whichever process played them: failures, digests, what was met, and what it cost.

Pure; :class:`Played` crosses from process to process as one line of JSON.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import statistics
from typing import Any

from simulation.sometimes import Sometimes

#: What lane A is to cost, by docs/proof.md.
SEEDS_A_MINUTE, IDLE_PERCENT, RESET_MS = 400, 10, 10


@dataclasses.dataclass(frozen=True, slots=True)
class Played:
    """One seed: the digest of its trace, what was wrong ("" for nothing), CPU time (s), that of its resets (ms), and
    what it did, as `Sometimes.take` tells it."""

    seed: int
    digest: str
    failure: str
    cpu_s: float = 0.0
    resets_ms: tuple[float, ...] = ()
    met: dict[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> str:
        """One line."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Played:
        """ValueError, TypeError: it is none."""
        read = json.loads(line)
        return cls(**read | {"resets_ms": tuple(read["resets_ms"])})


class Tally:
    """See the module. The order in which seeds come in makes no difference to what it says of them."""

    def __init__(self) -> None:
        self.digests: dict[int, str] = {}
        self.failures: dict[int, str] = {}
        self.met = Sometimes()
        self.cpu_s = 0.0
        self._resets_ms: list[float] = []

    def add(self, played: Played) -> None:
        """One more seed."""
        self.digests[played.seed] = played.digest
        if played.failure:
            self.failures[played.seed] = played.failure
        self.met.add(played.met)
        self.cpu_s += played.cpu_s
        self._resets_ms += played.resets_ms

    @property
    def is_good(self) -> bool:
        """Nothing failed, and the whole has proved something."""
        return not self.failures and not self.met.is_void()

    def digest(self) -> str:
        """One of all: the same for the same seeds, whoever played which of them, and in which order."""
        lines = [f"{seed} {self.digests[seed]}" for seed in sorted(self.digests)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def cost(self, took_s: float) -> str:
        """The figures beside what they should be; ``took_s`` by the clock, the processes' beginning included."""
        count, steps = len(self.digests), self.met.steps
        reset_ms = statistics.median(self._resets_ms) if self._resets_ms else 0.0
        return (
            f"{count} seeds in {took_s:.0f} s: {_a_minute(count, took_s)} a minute by the clock "
            f"(aim: {SEEDS_A_MINUTE} on two cores), {_a_minute(count, self.cpu_s)} a minute of CPU; "
            f"reset {reset_ms:.1f} ms of CPU (aim: {RESET_MS}); "
            f"{100 * self.met.idle_steps / max(1, steps):.1f} % of {steps} steps idle (aim: {IDLE_PERCENT})"
        )


def _a_minute(count: int, spent_s: float) -> int:
    return round(60 * count / max(0.001, spent_s))
