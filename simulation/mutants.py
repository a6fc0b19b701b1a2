"""`python -m simulation.mutants`: every planted bug against seeds, one process each; what found it, and at which seed.

`--tenth` plays a fixed tenth of them; `--seeds 200` is the bound; names choose single ones; `--write` puts the table
into docs/proof.md. `--results FILE` keeps what was found as it is found, and goes on where it was left off (what the
file has is not played again). Exit status 1 where one was not found. `--play NAME` is one of the processes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from simulation import planted, proof_page

ROOT = Path(__file__).resolve().parent.parent
TABLE = proof_page.DOCS / "proof.md"
BEGIN, END = "<!-- planted bugs: written by `make mutants` -->", "<!-- end of planted bugs -->"
TIME_OUT_S = 3600
#: What CI plays of them.
TENTH = (
    "longest_move_exclusive", "ceiling_exclusive", "floor_forgotten", "halt_not_asked", "suspension_not_asked",
    "conflict_not_asked",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """What became of one planted bug. ``seed`` None: no seed found it."""

    name: str
    seed: int | None
    played: int
    how: str


def chosen(names: list[str], *, is_tenth: bool) -> list[str]:
    """Which bugs to play: those named, the fixed tenth, or all."""
    if names:
        return names
    return list(TENTH) if is_tenth else list(planted.PLANTED)


def play(name: str, seeds: int) -> Found:
    """In a process of its own: plant it, then seed after seed until one fails."""
    planted.install(name)
    os.environ["DJANGO_SETTINGS_MODULE"] = os.environ.get("DJANGO_SETTINGS_MODULE", "roastops.test_settings")
    import django

    django.setup()
    from simulation.rules.seeds import player

    try:
        example = player(keeps_failures=False)
    except AssertionError as error:  # the house cannot even be built with it
        return Found(name, 0, 0, str(error)[:200])
    for seed in range(seeds):
        outcome = example(seed)
        if not outcome.is_good:
            return Found(name, seed, seed + 1, outcome.failure[:200])
    return Found(name, None, seeds, "")


def hunt(name: str, seeds: int) -> Found:
    """The same, from outside."""
    environment = {**os.environ, planted.VARIABLE: name}
    command = [sys.executable, "-m", "simulation.mutants", "--play", name, "--seeds", str(seeds)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIME_OUT_S, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"name"')]
    if not lines:
        last = (done.stderr.strip().splitlines() or ["?"])[-1]
        return Found(name, 0, 0, f"the house does not stand: {last[:160]}")
    return Found(**json.loads(lines[-1]))


def table(found: Iterable[Found]) -> str:
    """Rows of docs/proof.md: every planted bug, those that were not played as well."""
    by_name = {each.name: each for each in found}
    lines = ["| bug | area | what is wrong | found at seed | by |", "|---|---|---|---|---|"]
    for bug in planted.PLANTED.values():
        each = by_name.get(bug.name, Found(bug.name, None, 0, ""))
        missed = f"**not found** in {each.played} seeds" if each.played else "not played yet"
        seed = missed if each.seed is None else str(each.seed)
        lines.append(f"| `{bug.name}` | {bug.area} | {bug.what} | {seed} | {_words(each.how)} |")
    return "\n".join(lines)


def summary(found: Iterable[Found]) -> str:
    """One sentence over the table."""
    every = list(found)
    seeds = sorted(each.seed for each in every if each.seed is not None)
    if not seeds:
        return f"None of {len(planted.PLANTED)} was found."
    return (
        f"{len(seeds)} of {len(planted.PLANTED)} found, {len(every) - len(seeds)} played and not found; half of them "
        f"by seed {seeds[len(seeds) // 2]}, the last by seed {seeds[-1]}."
    )


def _words(how: str) -> str:
    """One line without ids, which differ from seed to seed."""
    return proof_page.one_line(re.sub(r"\b(prp|grt|hlt|mch)_[0-9a-z]{26}\b", "…", how), 140)


def kept(path: Path | None) -> list[Found]:
    """What an earlier run has found already."""
    if path is None or not path.exists():
        return []
    return [Found(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines() if line]


def keep(path: Path | None, found: Found) -> None:
    if path is not None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dataclasses.asdict(found)) + "\n")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--play")
    parser.add_argument("--seeds", type=int, default=int(os.environ.get("SEEDS", "200")))
    parser.add_argument("--tenth", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--results", type=Path)
    options = parser.parse_args(arguments)
    if options.play:
        sys.stdout.write(json.dumps(dataclasses.asdict(play(options.play, options.seeds))) + "\n")
        return 0
    found = [each for each in kept(options.results) if each.name in planted.PLANTED]
    for name in chosen(options.names, is_tenth=options.tenth):
        if any(each.name == name for each in found):
            continue
        found.append(hunt(name, options.seeds))
        keep(options.results, found[-1])
        sys.stdout.write(proof_page.said(name, found[-1].seed, _words(found[-1].how)))
        sys.stdout.flush()
    if options.write:
        proof_page.put_between(TABLE, BEGIN, END, f"{summary(found)}\n\n{table(found)}")
    missed = [each.name for each in found if each.seed is None]
    words = f"NOT: {', '.join(missed)}" if missed else ""
    sys.stdout.write(f"{len(found) - len(missed)} of {len(found)} found. {words}\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
