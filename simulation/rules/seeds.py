"""One seed, one example: bytes drawn from the seed are what hypothesis makes its choices of.

`fuzz_one_input` runs exactly one example of the state machine, without the engine around it; what fails is put into
the example database, where the ordinary test (`simulation/tests/test_rules.py`) finds and shrinks it, and written down
as a plan (`simulation/rules/saved.py`), which needs no hypothesis.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis.database import DirectoryBasedExampleDatabase
from hypothesis.stateful import get_state_machine_test

from simulation.rules import saved, stage
from simulation.rules.machine import HouseMachine
from simulation.sometimes import Sometimes

STEPS = 40
SEED_BYTES = 60_000
EXAMPLES = ".hypothesis/examples"
PLANS = Path(".hypothesis/plans")


def settings_of(examples: int, *, phases: Iterable[Phase] = tuple(Phase), keeps_failures: bool = True) -> settings:
    """New Hypothesis makes CI runs all alike and throws their examples away: neither is wanted here. (What a planted
    bug breaks is not kept: it is no example of ours.)"""
    return settings(
        max_examples=examples, stateful_step_count=STEPS, deadline=None, derandomize=False, phases=tuple(phases),
        database=DirectoryBasedExampleDatabase(EXAMPLES) if keeps_failures else None, report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck), print_blob=True,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What one seed came to: the digest of everything that happened, and what was wrong ("" for nothing)."""

    seed: int
    digest: str
    failure: str

    @property
    def is_good(self) -> bool:
        return not self.failure


def player(*, keeps_failures: bool = True) -> Callable[[int], Outcome]:
    """``play(seed)``: one example."""
    stage.house()
    test = get_state_machine_test(_Watched, settings=settings_of(1, keeps_failures=keeps_failures))
    one = test.hypothesis.fuzz_one_input  # type: ignore[attr-defined]
    played = 0

    def play(seed: int) -> Outcome:
        nonlocal played
        _Watched.digest = ""
        failure = ""
        try:
            one(random.Random(seed).randbytes(SEED_BYTES))
        except Exception as error:  # the outermost loop: a seed's failure is its result
            failure = f"{type(error).__name__}: {str(error)[:600]}"
            if keeps_failures:
                failure += f" (plan: {_write(seed)})"
        played += 1
        if played == 1:
            stage.freeze()
        return Outcome(seed, _Watched.digest, failure)

    return play


def _write(seed: int) -> Path:
    """The failing example as a plan, in a file."""
    PLANS.mkdir(parents=True, exist_ok=True)
    path = PLANS / f"seed-{seed}.json"
    path.write_text(last().to_json(), encoding="utf-8")
    return path


def last() -> saved.Saved:
    """The example that was played last, as a plan."""
    return saved.Saved(dict(_Watched.opened), tuple(_Watched.acts))


class _Watched(HouseMachine):
    """Tells the digest of the example that was played last."""

    digest = ""
    lines: list[str] = []
    opened: dict[str, Any] = {}
    acts: list[tuple[str, dict[str, Any]]] = []

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            if hasattr(self, "play"):
                _Watched.digest = self.play.digest()
                _Watched.lines = self.play.lines
                _Watched.opened, _Watched.acts = self.opened, self.acts


def fresh_seed() -> int:
    """A seed nobody has played."""
    return random.SystemRandom().randrange(2**31, 2**48)


def sometimes() -> Sometimes:
    """What all seeds of this process together have done."""
    return stage.SOMETIMES
