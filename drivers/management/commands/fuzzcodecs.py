"""``manage.py fuzzcodecs``: noise against both Bullets' codecs, drivers and virtual machines. Touches no device."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from drivers.fuzzing import Broken, fuzz
from drivers.lines.fuzzing import FuzzFailure, fuzz_lines

FRAMES_MAX = 1_000_000_000


class Command(BaseCommand):
    help = "Feed random and mutated bytes to all that reads a roaster; fails at the first thing it breaks."
    requires_system_checks: list[str] = []  # type: ignore[assignment]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--frames", type=int, default=100_000, help="byte strings in all")
        parser.add_argument("--lines", type=int, default=10_000, help="lines of text to the line machines' parsers")
        parser.add_argument("--seed", type=int, default=1, help="the same seed and frames give the same digest")

    def handle(self, *args: Any, **options: Any) -> None:
        if not 1 <= options["frames"] <= FRAMES_MAX:
            raise CommandError(f"--frames is between 1 and {FRAMES_MAX}")
        try:
            figures = fuzz(options["frames"], options["seed"])
        except Broken as broken:
            raise CommandError(f"seed {options['seed']} broke it: {broken}") from broken
        self._fuzz_lines(options["lines"], options["seed"])
        for outcome, count in sorted(figures.outcomes.items()):
            self.stdout.write(f"  {count:>10,}  {outcome}")
        self.stdout.write(
            f"{figures.inputs:,} byte strings in {figures.seconds:.1f} s ({figures.per_s:,.0f}/s), seed "
            f"{options['seed']}: nothing raised but ProtocolError, no control moved, {figures.readings:,} readings"
        )
        self.stdout.write(f"digest {figures.digest}")

    def _fuzz_lines(self, count: int, seed: int) -> None:
        """The parsers of TCP lines and TC4."""
        if not 0 <= count <= FRAMES_MAX:
            raise CommandError(f"--lines is between 0 and {FRAMES_MAX}")
        try:
            figures = fuzz_lines(seed=seed, count=count)
        except FuzzFailure as broken:
            raise CommandError(f"seed {seed} broke it: {broken}") from broken
        self.stdout.write(
            f"  {figures.lines:>10,}  lines of text: {figures.samples:,} samples, {figures.rows:,} TC4 rows, "
            f"{figures.greetings:,} greetings, {figures.faults:,} refused by name"
        )
