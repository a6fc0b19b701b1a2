"""`python -m simulation.race_hunt`: every planted race against seeds, one process each; at which seed it was found.

Names choose single ones; `--seeds 200` is the bound; `--write` puts the table into docs/proof-lane-b.md (of all of
them). Exit status 1 where one was not found.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import os
import re
import sys
import tempfile
from collections.abc import Iterable

from roastops.testing import servers
from simulation import proof_page, runs, sandbox

TABLE = proof_page.DOCS / "proof-lane-b.md"
BEGIN, END = "<!-- planted races: written by `make races` -->", "<!-- end of planted races -->"
#: What no oracle said, but the list of what must be met: the run proved nothing.
_RED = "the run was red: "


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """What became of one planted race. ``seed`` None: no seed found it; ``how``: what was said of it."""

    name: str
    seed: int | None
    how: str


def hunt(url: str, name: str, seeds: int) -> Found:
    """In a process of its own (a copy of this one: nothing is planted here, and what is planted is never taken back):
    plant it, then seed after seed until one fails."""
    from simulation.planted_races import PLANTED

    within = min(seeds, PLANTED[name].within)
    with tempfile.NamedTemporaryFile("r", prefix="roastops-race-") as said:
        copy = multiprocessing.get_context("fork").Process(target=_play, args=(url, name, within, said.name))
        copy.start()
        copy.join()
        text = said.read()
    summary = runs.summary_of(text)
    if summary is None:
        return Found(name, None, f"did not run: {(text.strip().splitlines() or ['?'])[-1]}")
    if summary.failing:
        return Found(name, int(summary.failing[0][0]), str(summary.failing[0][1]))
    return Found(name, None, _RED + "; ".join(summary.missing) if summary.missing else "")


def _play(url: str, name: str, seeds: int, path: str) -> None:
    from django.core.management import CommandError, call_command

    from simulation.planted_races import VARIABLE

    os.environ[VARIABLE] = name
    with open(path, "w", encoding="utf-8") as said:
        try:
            call_command("simulate", server=url, seeds=f"0:{seeds}", until_failure=True, json=True, stdout=said)
        except CommandError as reason:
            said.write(f"\n{reason}\n")


def table(found: Iterable[Found]) -> str:
    """Rows of the page."""
    from simulation.planted_races import PLANTED

    lines = ["| planted | what is wrong | found at seed | by |", "|---|---|---|---|"]
    for each in found:
        seed = "**not found**" if each.seed is None else str(each.seed)
        lines.append(f"| {each.name} | {PLANTED[each.name].what} | {seed} | {words(each.how)} |")
    return "\n".join(lines)


def words(how: str) -> str:
    """One line, without ids, numbers of commits and actors, which differ from seed to seed."""
    plain = re.sub(r"\b(?:prp|exe|grt|hlt|mch|agt|usr|sus|aud|org)_\w+|\b\d{20,}\b", "…", " ".join(how.split()))
    plain = re.sub(r"\b(?:after )?commit \d+(?: by actor\d)?:? ?|\bactor\d+ ", "", plain)
    return proof_page.one_line(plain, 120)


def main(arguments: list[str] | None = None) -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "roastops.test_settings")
    import django

    django.setup()
    from simulation.planted_races import PLANTED

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seeds", type=int, default=int(os.environ.get("SEEDS") or 200))
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args(arguments)
    found = []
    with sandbox.server("") as url:
        if runs.simulate(url, "--make-template").wait_for().returncode:
            raise servers.Missing("the simulation's database could not be made")
        for name in options.names or list(PLANTED):
            found.append(hunt(url, name, options.seeds))
            sys.stdout.write(proof_page.said(name, found[-1].seed, words(found[-1].how)))
            sys.stdout.flush()
    if options.write and not options.names:
        proof_page.put_between(TABLE, BEGIN, END, table(found))
    missed = [each.name for each in found if each.seed is None]
    sys.stdout.write(f"{len(found) - len(missed)} of {len(found)} found. {', '.join(missed)}\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
