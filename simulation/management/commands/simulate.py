"""`manage.py simulate`: episodes by seed or plan on a PostgreSQL database of the simulation's own."""

from __future__ import annotations

import dataclasses
import gc
import json
import logging
import os
from argparse import ArgumentParser
from collections import Counter
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from kernel.clock import SystemClock
from roastops.testing import servers
from simulation import drawing, planted_races, race_sometimes, runs, sandbox, shrink, simulator
from simulation import plan as planning
from simulation.world import World

REGRESSIONS = Path(__file__).resolve().parents[2] / "regressions"
SHRINK_WITHIN_S = 60.0
#: The machine's own clock: how long something really takes.
REAL = SystemClock()
COLLECT_EVERY = 200


class Command(BaseCommand):
    help = "Play the simulation's lane B: real PostgreSQL transactions interleaved exactly, by seed or by plan."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--seed", type=int, help="one seed: its trace's digest (and, with --trace, the trace)")
        parser.add_argument("--seeds", help="many: FROM:TO, half-open")
        parser.add_argument("--plan", type=Path, action="append", default=[], help="a saved plan (again for more)")
        parser.add_argument("--regressions", action="store_true", help="every committed plan of simulation/regressions")
        parser.add_argument("--episode", choices=sorted(drawing.EPISODES), help="only this kind")
        parser.add_argument("--processes", type=int, default=1, help="so many beside each other, for --seeds")
        parser.add_argument("--trace", action="store_true", help="print what happened, line by line")
        parser.add_argument("--digests", action="store_true", help="print one digest per seed, rows included")
        parser.add_argument("--server", default="", help="a PostgreSQL server's address; else a private one is started")
        parser.add_argument("--make-template", action="store_true", help="migrate once on --server, for many processes")
        parser.add_argument("--until-failure", action="store_true", help="stop at the first failing seed")
        parser.add_argument("--save", type=Path, help="folder for failing plans, shrunk")
        parser.add_argument("--json", action="store_true", help="the summary as JSON")

    def handle(self, *arguments: Any, **options: Any) -> None:
        logging.disable(logging.CRITICAL)
        try:
            with sandbox.server(options["server"]) as url:
                if options["make_template"]:
                    sandbox.make_template(url)
                    return
                if options["seeds"] and options["processes"] > 1:
                    self._play_beside_each_other(url, options)
                    return
                with sandbox.database(url) as place:
                    settings.AUDIT_KEY_FILE = sandbox.audit_key_file()
                    self._play(World(place), options)
        except servers.Missing as reason:
            raise CommandError(f"NOT RUN: {reason}") from None

    def _play_beside_each_other(self, url: str, options: dict[str, Any]) -> None:
        """The seeds in as many processes, each with a database of its own."""
        with sandbox.template(url):
            first, last = _range(options["seeds"])
            more = ["--json", *(["--episode", options["episode"]] if options["episode"] else [])]
            more += ["--save", str(options["save"])] if options["save"] else []
            under_way = [
                runs.simulate(url, "--seeds", share, *more)
                for share in runs.shares(first, last, options["processes"])
            ]
            ended = [run.wait_for() for run in under_way]
        parts = [run.summary for run in ended]
        for run, part in zip(ended, parts, strict=True):
            if part is None:
                raise CommandError(f"A process did not come to its end: {run.said[-2000:]}")
        self._summarise(runs.together(part for part in parts if part is not None), options)

    def _play(self, world: World, options: dict[str, Any]) -> None:
        try:
            bug = os.environ.get(planted_races.VARIABLE, "")
            if bug:
                planted_races.PLANTED[bug].install(world.control)
            plans = [planning.loads(path.read_text()) for path in options["plan"]]
            if options["regressions"]:
                plans += [planning.loads(path.read_text()) for path in sorted(REGRESSIONS.glob("*.json"))]
            if plans or options["seed"] is not None:
                seeds = [] if options["seed"] is None else [drawing.draw(options["seed"], options["episode"])]
                self._play_each(world, [*plans, *seeds], options)
            elif options["seeds"]:
                self._play_many(world, options)
            else:
                raise CommandError("Give --seed, --seeds FROM:TO, --plan or --regressions.")
        finally:
            world.close()

    def _play_each(self, world: World, plans: list[planning.Plan], options: dict[str, Any]) -> None:
        failed = 0
        for plan in plans:
            outcome = simulator.run(world, plan, is_digested=True)
            if options["trace"]:
                self.stdout.write(plan.dumps())
                self.stdout.write("\n".join(outcome.trace))
            for failure in outcome.failures:
                self.stdout.write(f"FAILED: {failure}")
            failed += bool(outcome.failures)
            self.stdout.write(f"seed {plan.seed} {plan.episode}: {outcome.digest}")
        if failed:
            raise CommandError(f"{failed} of {len(plans)} failed.")

    def _play_many(self, world: World, options: dict[str, Any]) -> None:
        first, last = _range(options["seeds"])
        met: Counter[str] = Counter()
        failing: list[list[Any]] = []
        decisions = count = 0
        begun_s = REAL.monotonic()
        gc.collect()
        gc.freeze()
        gc.disable()
        for seed in range(first, last):
            outcome = simulator.run(world, drawing.draw(seed, options["episode"]), is_digested=options["digests"])
            count += 1
            decisions += outcome.decisions
            met.update(outcome.met)
            if options["digests"]:
                self.stdout.write(f"{seed} {outcome.digest}")
            if outcome.failures:
                failing.append([seed, outcome.failures[0]])
                self._save(world, outcome, options)
                if options["until_failure"]:
                    break
            if count % COLLECT_EVERY == 0:
                gc.collect()
        took_s = REAL.monotonic() - begun_s
        self._summarise(runs.Summary.of(count, decisions, met, failing, took_s), options)

    def _save(self, world: World, outcome: simulator.Outcome, options: dict[str, Any]) -> None:
        if options["save"] is None:
            return
        until_s = REAL.monotonic() + SHRINK_WITHIN_S
        small = shrink.shrink(
            outcome.plan,
            lambda plan: bool(simulator.run(world, plan).failures),
            is_over=lambda: REAL.monotonic() > until_s,
        )
        options["save"].mkdir(parents=True, exist_ok=True)
        path = options["save"] / f"{outcome.plan.episode}-{outcome.plan.seed}.json"
        path.write_text(small.dumps())
        self.stdout.write(f"seed {outcome.plan.seed}: {small.operation_count} operations in {path}")

    def _summarise(self, found: runs.Summary, options: dict[str, Any]) -> None:
        is_partial = options["digests"] or options["episode"] or (options["until_failure"] and found.failing)
        missing = [] if is_partial else race_sometimes.missing(found.met, found.episodes)
        if options["json"]:
            shown = dataclasses.replace(found, failing=found.failing[:20], missing=missing)
            self.stdout.write(json.dumps(dataclasses.asdict(shown)))
        else:
            for seed, failure in found.failing[:20]:
                self.stdout.write(f"seed {seed}: {failure}")
            self.stdout.write(
                f"{found.episodes} episodes, {found.per_minute}/min, {found.decisions} decisions each, "
                f"{len(found.failing)} failed."
            )
            for what in missing:
                self.stdout.write(f"MISSING {what}")
        if found.failing:
            raise CommandError(
                f"{len(found.failing)} of {found.episodes} seeds failed, the first: {found.failing[0][0]}."
            )
        if missing:
            raise CommandError("The run proved too little: " + "; ".join(missing))


def _range(text: str) -> tuple[int, int]:
    """``FROM:TO`` in numbers. CommandError."""
    first, colon, last = text.partition(":")
    if not (colon and first.isdigit() and last.isdigit() and int(first) < int(last)):
        raise CommandError(f"--seeds {text!r}: FROM:TO is asked for, in numbers, the first the smaller.")
    return int(first), int(last)
