"""`python -m simulation.lane_a`: seeds of lane A by hand, all night, or one plan once more.

`--first 0 --count 2000` plays seeds (`--fresh`: nobody's yet) in as many processes as there are cores (`--processes`),
writing down each that fails as a plan, and says at its end what was met and what it cost; `--digests` says each seed's
trace in one line, and all of them in one more; `--seed N --shrink` leaves the few acts its failure needs; `--plan
FILE` plays a plan again. With ``SIMULATION_PLANTED`` a bug is planted first. Exit status 1 where something failed, or
the whole run proved nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kernel.clock import SystemClock
from simulation import crew, planted
from simulation.tally import Played, Tally
from simulation.virtual_clock import cpu_s

EVERY = 50
#: The machine's own clock: how long something really takes.
REAL = SystemClock()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--processes", type=int, help="so many beside each other; one per core where it is not said")
    parser.add_argument("--report", action="store_true", help="what was met how often, at the end")
    parser.add_argument("--digests", action="store_true", help="each seed's digest, and one of all")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--shrink", action="store_true")
    parser.add_argument("--plan", type=Path)
    parser.add_argument("--member", action="store_true", help=argparse.SUPPRESS)  # one of --processes
    options = parser.parse_args(arguments)
    is_alone = options.member or options.plan is not None or options.seed is not None
    processes = 1 if is_alone else _processes(options.processes, options.count)
    if processes == 1 or options.fresh:
        begin()
    if processes > 1:
        return _many(options, crew.play(_seeds(options), processes=processes))
    if options.member:
        crew.serve(player())
        return 0
    if options.plan is not None:
        return _replay(options.plan)
    if options.seed is not None:
        return _one(options.seed, is_shrunk=options.shrink)
    return _many(options, map(player(), _seeds(options)))


def begin() -> None:
    """Plant what is to be planted, then the product."""
    if planted.chosen():
        planted.install(planted.chosen())
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "roastops.test_settings")
    import django

    django.setup()


def _processes(asked: int | None, count: int) -> int:
    """As many as asked for, and no more than there are seeds. (On PostgreSQL all would share one database: one.)"""
    if os.environ.get("DATABASE_URL"):
        return 1
    return max(1, min(asked or crew.cores(), count))


def _say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


def _replay(path: Path) -> int:
    from simulation.rules import saved

    found = saved.replay(saved.Saved.from_json(path.read_text(encoding="utf-8")))
    _say(f"{found.played} acts: {found.failure or 'nothing is wrong'}")
    return 1 if found.failure else 0


def _one(seed: int, *, is_shrunk: bool) -> int:
    """The seed's plan on the standard output, and what was wrong on the error output."""
    from simulation.rules import saved, seeds

    outcome = seeds.player(keeps_failures=False)(seed)
    plan = seeds.last()
    if outcome.failure and is_shrunk:
        plan = saved.shrink(plan)
    sys.stdout.write(plan.to_json())
    sys.stderr.write(f"seed {seed}, {outcome.digest[:16]}: {outcome.failure or 'nothing is wrong'}\n")
    return 1 if outcome.failure else 0


def _seeds(options: Any) -> Iterator[int]:
    if not options.fresh:
        yield from range(options.first, options.first + options.count)
        return
    from simulation.rules.seeds import fresh_seed

    for _ in range(options.count):
        yield fresh_seed()


def player() -> Callable[[int], Played]:
    """``play(seed)``: one seed in this process, with what it met and what it cost."""
    from simulation.rules import seeds, stage

    play_one = seeds.player()
    seeds.sometimes().take()

    def play(seed: int) -> Played:
        stage.house().resets_ms.clear()
        begun_s = cpu_s()
        outcome = play_one(seed)
        cost_s = cpu_s() - begun_s
        resets_ms = tuple(round(each, 2) for each in stage.house().resets_ms)
        return Played(seed, outcome.digest, outcome.failure, cost_s, resets_ms, seeds.sometimes().take())

    return play


def _many(options: Any, outcomes: Iterator[Played]) -> int:
    tally, begun_s = Tally(), REAL.monotonic()
    for count, played in enumerate(outcomes, start=1):
        tally.add(played)
        if played.failure:
            _say(f"FAILED seed {played.seed}: {played.failure}")
        if options.digests:
            _say(f"{played.seed} {played.digest}")
        elif count % EVERY == 0:
            _say(f"{count} seeds, the last {played.seed}: {len(tally.failures)} failed")
    return _close(options, tally, REAL.monotonic() - begun_s)


def _close(options: Any, tally: Tally, took_s: float) -> int:
    """What all of them came to."""
    if options.report:
        _say(tally.met.report())
        _say("\n".join(tally.met.missing()) or "nothing was missing")
    if options.digests:
        _say(f"all of them {tally.digest()}")
    _say(f"{len(tally.failures)} failed. {tally.cost(took_s)}")
    if tally.met.is_void():
        _say(f"this run proves nothing: {tally.met.is_void()}")
    return 0 if tally.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
