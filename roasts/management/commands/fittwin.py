"""`manage.py fittwin --machine M [--roasts ID…] [--logs DIR…] [--held-out DIR] [--out DIR]`: calibrate a twin."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from kernel import clock
from kernel.principals import system_principal
from kernel.serializers import nearest_hint
from roasts.alog import AlogError, read_alog
from roasts.formats.imported import MAX_FILE_BYTES
from roasts.models import Machine, Roast, RoastStatus
from roasts.store.stored_curve import load_curve, load_marks
from roasts.twin import TwinError, TwinParameters, TwinRoast, lanes, parameters_to_json
from roasts.twin import services as services_twin
from roasts.twin.calibration import Calibration, Judged, calibrate, judge
from roasts.twin.recorded import roast_of_curve, roast_of_file
from roasts.twin.shipped import FILE, as_shipped

MOST_ROASTS = 400
WORDS = {
    "known_probe_c": "probe, readings up to 90 s went in",
    "known_infrared_c": "infrared, the same",
    "blind_probe_c": "probe, nothing after charge",
    "alone_probe_c": "probe, nothing after charge nor of earlier roasts",
}


class Command(BaseCommand):
    help = (
        "Fit a machine's twin on its finished roasts (or on .alog files) by least squares with priors, judge it on "
        "roasts held out in turn, and keep it. Without --machine nothing is kept: the report and the files are all."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--machine", help="id or name; its twin is replaced")
        parser.add_argument("--roasts", nargs="+", metavar="ID", default=[], help="only these of its roasts")
        parser.add_argument(
            "--logs", nargs="+", metavar="PATH", default=[], help=".alog files or folders, fitted on too"
        )
        parser.add_argument("--held-out", nargs="+", metavar="PATH", default=[], help=".alog files only judged on")
        parser.add_argument("--out", metavar="DIR", help="writes twin.json, report.json and pictures there")
        parser.add_argument(
            "--ship", action="store_true", help=f"write {FILE} there, too: what a new machine begins with"
        )
        parser.add_argument("--folds", type=int, default=10, help="0: no held-out report")
        parser.add_argument("--seed", type=int, default=0, help="of the shuffle into folds")

    def handle(self, *args: Any, **options: Any) -> None:
        machine = _machine(options["machine"]) if options["machine"] else None
        aside = list(_alogs(options["held_out"]))  # what cannot be is said before minutes of fitting
        if options["out"]:
            _make_folder(Path(options["out"]))
        roasts = [*self._recorded(machine, options["roasts"]), *self._logged(options["logs"])]
        if not roasts:
            raise CommandError("There is nothing to fit on: name a --machine with finished roasts, or --logs.")
        try:
            found = calibrate(roasts, fold_count=max(0, options["folds"]), seed=options["seed"])
            judged = self._judged(found, aside)
        except TwinError as error:
            raise CommandError(f"{error}.") from error
        self._tell(found.parameters)
        if options["out"]:
            self._write(Path(options["out"]), found, judged)
        if options["ship"]:
            path = Path(options["out"] or ".") / FILE
            path.write_text(_json(parameters_to_json(as_shipped(found.parameters))), encoding="utf-8")
            self.stdout.write(f"Written: {path}.")
        if machine is not None:
            principal = system_principal("fittwin", machine.organization)
            made = services_twin.record_fit(principal, machine=machine, parameters=found.parameters, now=clock.now())
            self.stdout.write(f"{machine.name} has a new twin: {made.pk}.")

    def _recorded(self, machine: Machine | None, wanted: Sequence[str]) -> Iterator[TwinRoast]:
        """The machine's finished roasts, newest first, at most MOST_ROASTS; what cannot be read is said."""
        if machine is None:
            return
        rows = Roast.objects.filter(machine=machine, status=RoastStatus.FINISHED.value).order_by("-started_at")
        if wanted:
            rows = rows.filter(pk__in=wanted)
            missing = sorted(set(wanted) - set(rows.values_list("pk", flat=True)))
            if missing:
                raise CommandError(f"No finished roasts of {machine.name}: {', '.join(missing)}.")
        for row in rows[:MOST_ROASTS]:
            try:
                yield _readable(roast_of_curve(
                    load_curve(row), load_marks(row), mass_g=row.weight_in_g,
                    began_s=row.started_at.timestamp(), name=row.pk, bean=row.bean,
                ))  # fmt: skip
            except TwinError as error:
                self.stderr.write(f"left out: {error}")

    def _logged(self, paths: Sequence[str]) -> Iterator[TwinRoast]:
        yield from self._read(_alogs(paths))

    def _read(self, paths: Iterable[Path]) -> Iterator[TwinRoast]:
        for path in paths:
            try:
                with path.open("rb") as file:
                    data = file.read(MAX_FILE_BYTES + 1)
                yield _readable(roast_of_file(read_alog(data), path.stem))
            except (AlogError, TwinError, OSError) as error:
                self.stderr.write(f"left out: {path.name}: {error}")

    def _judged(self, found: Calibration, paths: Sequence[Path]) -> Judged | None:
        """What the fit is worth on roasts that had no part in it; None without any. One that had is left out, and said.

        It is judged on what it did not see: the same roast under another name was seen, too.
        """
        known = {lanes.roast_digest(roast) for roast in found.roasts}
        roasts = []
        for roast in self._read(paths):
            if lanes.roast_digest(roast) in known:
                self.stderr.write(f"left out: {roast.name}: the twin was fitted on this roast")
            else:
                roasts.append(roast)
        if not roasts:
            return None
        judged = judge(found.parameters, roasts, found.roasts)
        report = judged.report()
        self.stdout.write(f"On {len(judged.roasts)} roasts that had no part in the fit (°C, median / 90th percentile):")
        self._tell_errors(report["errors"])
        self._tell_cracks(report["first_crack"])
        return judged

    def _tell(self, parameters: TwinParameters) -> None:
        report = parameters.report
        self.stdout.write(f"Fitted on {parameters.roast_count} different roasts, data {parameters.data_digest[:12]}.")
        if report["held_out"]:
            self.stdout.write(f"Held out, {report['fold_count']} folds (°C, median / 90th percentile):")
            self._tell_errors(report["held_out"])
        self._tell_cracks(report.get("first_crack"))

    def _tell_errors(self, told: dict[str, dict[str, float]]) -> None:
        for name, words in WORDS.items():
            if name in told:
                self.stdout.write(f"  {told[name]['median']:5.2f} / {told[name]['p90']:5.2f}  {words}")

    def _tell_cracks(self, told: dict[str, Any] | None) -> None:
        if told:
            self.stdout.write(
                f"  first crack 2 min before: median {told['median_s']:.1f} s, 90th percentile {told['p90_s']:.0f} s, "
                f"{told['inside']} of {told['count']} inside the 80 % bounds"
            )

    def _write(self, folder: Path, found: Calibration, judged: Judged | None) -> None:
        from roasts.twin import plots  # matplotlib takes a second to load

        (folder / "twin.json").write_text(_json(parameters_to_json(found.parameters)), encoding="utf-8")
        report = dict(found.parameters.report) | {"judged": judged.report() if judged else {}}
        (folder / "report.json").write_text(_json(report), encoding="utf-8")
        pictures = plots.draw_all(folder, found.roasts, found.judged, found.held_out) if found.judged else []
        if judged is not None:
            same = [judged.parameters] * len(judged.roasts)
            pictures += plots.draw_judged(folder, judged.roasts, same, judged.errors)
        self.stdout.write(f"Written to {folder}: twin.json, report.json" + "".join(f", {p.name}" for p in pictures))


def _readable(roast: TwinRoast) -> TwinRoast:
    """TwinError for one that the twin cannot read (it was watched from its middle on, say): the others are fitted."""
    lanes.lay_out([roast])
    return roast


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"Nothing can be written to {folder}: {error.strerror}.") from error


def _json(record: dict[str, Any]) -> str:
    return json.dumps(record, indent=1) + "\n"


def _machine(word: str) -> Machine:
    machine = Machine.objects.filter(pk=word).first()
    named = list(Machine.objects.filter(name=word)[:2])
    if machine is None and len(named) == 1:
        machine = named[0]
    if machine is None:
        more = "" if not named else " Several machines have this name: give the id."
        raise CommandError(
            f"{word!r} is no machine here.{more} {nearest_hint(word, Machine.objects.values_list('name', flat=True))}"
        )
    return machine


def _alogs(paths: Iterable[str]) -> Iterator[Path]:
    for text in paths:
        path = Path(text)
        if not path.exists():
            raise CommandError(f"There is no {path}.")
        yield from sorted(path.rglob("*.alog")) if path.is_dir() else [path]
