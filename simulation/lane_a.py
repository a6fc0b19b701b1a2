"""`python -m simulation.lane_a`: seeds of lane A by hand, all night, or one plan once more.

`--first 0 --count 2000` plays seeds (`--fresh`: nobody's yet), writing down each that fails as a plan; `--seed N
--shrink` leaves the few acts its failure needs; `--plan FILE` plays a plan again. With ``SIMULATION_PLANTED`` a bug is
planted first. Exit status 1 where something failed, or a run did nothing.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
from pathlib import Path
from typing import Any

from simulation import planted

EVERY = 50


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--report", action="store_true", help="what was met how often, at the end")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--shrink", action="store_true")
    parser.add_argument("--plan", type=Path)
    options = parser.parse_args(arguments)
    if planted.chosen():
        planted.install(planted.chosen())
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "roastops.test_settings")
    import django

    django.setup()
    if options.plan is not None:
        return _replay(options.plan)
    if options.seed is not None:
        return _one(options.seed, is_shrunk=options.shrink)
    return _many(options)


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


def _many(options: Any) -> int:
    from simulation.rules import seeds

    play = seeds.player()
    failed = 0
    begun_s = _cpu_s()
    for count in range(1, options.count + 1):
        seed = seeds.fresh_seed() if options.fresh else options.first + count - 1
        outcome = play(seed)
        if not outcome.is_good:
            failed += 1
            _say(f"FAILED seed {seed}: {outcome.failure}")
        if count % EVERY == 0 or count == options.count:
            a_minute = 60 * count / max(0.001, _cpu_s() - begun_s)
            _say(f"{count} seeds, the last {seed}: {failed} failed; {a_minute:.0f} a minute of CPU")
    run = seeds.sometimes()
    if options.report:
        _say(run.report())
        _say("\n".join(run.missing()) or "nothing was missing")
    if run.is_void():
        _say(f"this run proves nothing: {run.is_void()}")
    return 1 if failed or run.is_void() else 0


def _cpu_s() -> float:
    """CPU time of this process (s)."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
