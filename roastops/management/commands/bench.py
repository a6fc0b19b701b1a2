"""`manage.py bench [decode] [ingest] [poll] … [--short] [--full] [--frozen] [--json]`: figures, bars, yardsticks."""

from __future__ import annotations

import json
import logging
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from roastops.benches import (
    analytics,
    approve,
    decode,
    fanout,
    imports,
    ingest,
    library,
    page,
    poll,
    propose,
    stop,
    twin,
    viewers,
)

BENCHES = {
    "analytics": analytics.run,
    "approve": approve.run,
    "curve": library.run_curve,
    "decode": decode.run,
    "fanout": fanout.run,
    "import": imports.run,
    "ingest": ingest.run,
    "library": library.run,
    "page": page.run,
    "poll": poll.run,
    "propose": propose.run,
    "stop": stop.run,
    "twin": twin.run,
    "viewers": viewers.run,
}


class Command(BaseCommand):
    help = "Measure what we promise, each figure against a yardstick in the same run. Exit code 1 when a bar is missed."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("names", nargs="*", metavar="bench", help=f"{', '.join(BENCHES)}; all when left out")
        parser.add_argument("--short", action="store_true", help="few rounds; fails only where nothing was measured")
        parser.add_argument("--json", action="store_true", help="one JSON object per line")
        parser.add_argument("--full", action="store_true", help="ingest: five minutes instead of one")
        parser.add_argument("--rows", type=int, help="analytics: so many orders instead of 1,000,000")
        parser.add_argument("--frozen", action="store_true", help="stop: with PostgreSQL and Redis frozen (SIGSTOP)")

    def handle(self, *args: Any, **options: Any) -> None:
        logging.getLogger("httpx").setLevel(logging.WARNING)
        names = options["names"] or list(BENCHES)
        for name in names:
            if name not in BENCHES:
                raise CommandError(f"There is no bench {name!r}. There are: {', '.join(BENCHES)}.")
        if options["frozen"] and names != ["stop"]:
            raise CommandError("--frozen belongs to `bench stop`.")
        if options["full"] and names != ["ingest"]:
            raise CommandError("--full belongs to `bench ingest`.")
        if options["rows"] is not None and (names != ["analytics"] or options["rows"] < 1000):
            raise CommandError("--rows belongs to `bench analytics`, with at least 1000.")
        missed = []
        for name in names:
            if options["frozen"]:
                outcome = stop.run_frozen(is_short=options["short"])
            elif options["full"]:
                outcome = ingest.run(is_short=False, is_full=True)
            elif options["rows"] is not None:
                outcome = analytics.run(is_short=options["short"], rows=options["rows"])
            else:
                outcome = BENCHES[name](is_short=options["short"])
            self.stdout.write(json.dumps(outcome.as_json()) if options["json"] else "\n".join(outcome.lines()))
            self.stdout.flush()
            if not outcome.is_passed:
                missed.append(name)
        if missed:
            raise CommandError(f"Missed a bar, or measured nothing: {', '.join(missed)}.")
