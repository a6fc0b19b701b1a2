"""`manage.py checkevents PATH…`: how well inference meets the marks in these files, walking forward in time."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from roasts.events.crack_history import bean_in_file_name
from roasts.events.walk_forward import KINDS, Figures, MarkedRoast, figures, walk
from roasts.formats.imported import FormatError
from roasts.formats.reading import read_roast
from roasts.inference import Kind

SUFFIXES = frozenset({".alog", ".csv", ".json", ".ndjson"})
EARLIEST = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
#: Variants: name → what inference is given.
VARIANTS: dict[str, dict[str, bool]] = {
    "all channels": {},
    "without the heater": {"has_heater": False},
    "temperatures only": {"is_stated": False, "has_heater": False},
}


class Command(BaseCommand):
    help = (
        "Infer the events of marked roasts, each with the history of the earlier ones only, and say how far off the "
        "people's marks the inferred ones lie. A folder stands for all roasts in it. Nothing is stored."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("paths", nargs="+", metavar="PATH", help="files or folders of one machine's roasts")
        parser.add_argument("--from", dest="since", metavar="YYYY-MM-DD", help="count roasts from this day on only")
        parser.add_argument("--each", action="store_true", help="a line for every roast, too")
        parser.add_argument("--no-bean", action="store_true", help="do not tell inference which bean it is")

    def handle(self, *args: Any, **options: Any) -> None:
        roasts = [self._read(path, has_bean=not options["no_bean"]) for path in _files(options["paths"])]
        marked = [roast for roast in roasts if roast is not None]
        if not marked:
            raise CommandError("There is no readable roast in these files.")
        since = dt.datetime.fromisoformat(options["since"]).replace(tzinfo=dt.UTC) if options["since"] else EARLIEST
        counted = {roast.name for roast in marked if roast.at >= since}
        for name, given in VARIANTS.items():
            outcomes = [outcome for outcome in walk(marked, **given) if outcome.name in counted]
            self.stdout.write(f"{name}: {len(outcomes)} roasts")
            for kind in KINDS:
                self.stdout.write("  " + _line(kind, figures(outcomes, kind)))
            apart = figures(outcomes, Kind.FIRST_CRACK, off_round=True)
            self.stdout.write("  " + _line("… not on 190.0 °C", apart))
            if options["each"] and not given:
                for one in outcomes:
                    late = " ".join(f"{kind} {seconds:+.1f}" for kind, seconds in one.late_s.items())
                    self.stdout.write(f"    {one.name}: {late}{' (on 190.0)' if one.is_on_round else ''}")

    def _read(self, path: Path, *, has_bean: bool) -> MarkedRoast | None:
        try:
            imported = read_roast(path.read_bytes())
        except (OSError, FormatError) as error:
            self.stderr.write(f"{path.name}: {error}")
            return None
        bean = imported.metadata.bean or bean_in_file_name(path.stem)
        at = imported.metadata.roasted_at or EARLIEST
        return MarkedRoast(path.stem, at, imported.curve, imported.marks, bean if has_bean else "")


def _files(paths: list[str]) -> list[Path]:
    found: list[Path] = []
    for given in paths:
        path = Path(given)
        if not path.exists():
            raise CommandError(f"{given} is not there.")
        found += sorted(one for one in path.iterdir() if one.suffix in SUFFIXES) if path.is_dir() else [path]
    return found


def _line(name: str, found: Figures) -> str:
    if not found.count:
        return f"{name:<18} no marks"
    low, high = found.median_bounds_s
    tail_low, tail_high = found.p90_bounds_s
    return (
        f"{name:<18} {found.count:3d} marks, {100 * found.within_3_s:5.1f} % within 3 s, "
        f"median {found.median_s:4.1f} s ({low:.1f}–{high:.1f}), "
        f"90th percentile {found.p90_s:4.1f} s ({tail_low:.1f}–{tail_high:.1f}), missing {found.missing}"
    )
