"""``manage.py fuzzcodecs``: noise against both Bullets' codecs, drivers and virtual machines. Touches no device."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from drivers.fuzzing import Broken, fuzz

FRAMES_MAX = 1_000_000_000


class Command(BaseCommand):
    help = "Feed random and mutated frames to all that reads a Bullet's bytes; fails at the first thing it breaks."
    requires_system_checks: list[str] = []  # type: ignore[assignment]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--frames", type=int, default=100_000, help="byte strings in all")
        parser.add_argument("--seed", type=int, default=1, help="the same seed and frames give the same digest")

    def handle(self, *args: Any, **options: Any) -> None:
        if not 1 <= options["frames"] <= FRAMES_MAX:
            raise CommandError(f"--frames is between 1 and {FRAMES_MAX}")
        try:
            figures = fuzz(options["frames"], options["seed"])
        except Broken as broken:
            raise CommandError(f"seed {options['seed']} broke it: {broken}") from broken
        for outcome, count in sorted(figures.outcomes.items()):
            self.stdout.write(f"  {count:>10,}  {outcome}")
        self.stdout.write(
            f"{figures.inputs:,} byte strings in {figures.seconds:.1f} s ({figures.per_s:,.0f}/s), seed "
            f"{options['seed']}: nothing raised but ProtocolError, no control moved, {figures.readings:,} readings"
        )
        self.stdout.write(f"digest {figures.digest}")
