"""`manage.py importroasts PATH… --organization demo [--machine NAME]`: files and folders of roasts into the library."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from kernel import clock
from kernel.errors import ApiError
from kernel.models import Organization
from kernel.principals import system_principal
from kernel.serializers import nearest_hint
from roasts.files import importing
from roasts.files.services_imports import IMPORTED_MACHINE
from roasts.formats.imported import MAX_FILE_BYTES, TooLarge, check_length
from roasts.formats.reading import NAMES
from roasts.models import Machine

SUFFIXES = frozenset({".alog", ".csv", ".json", ".ndjson"})
MAX_FILES = 100_000


class Command(BaseCommand):
    help = (
        "Import roasts: Artisan .alog and CSV, RoasTime JSON and CSV, RoastOps JSON and NDJSON. A folder stands for "
        "all such files in it. A file that came before is named and left alone. Exit code 1 when one could not be read."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("paths", nargs="+", metavar="PATH", help="a file or a folder")
        parser.add_argument("--organization", required=True, help="its slug")
        parser.add_argument("--machine", help=f"id or name; “{IMPORTED_MACHINE}” when left out")

    def handle(self, *args: Any, **options: Any) -> None:
        organization = Organization.objects.filter(slug=options["organization"]).first()
        if organization is None:
            known = Organization.objects.values_list("slug", flat=True)
            raise CommandError(
                f"{options['organization']!r} is no organisation. {nearest_hint(options['organization'], known)}"
            )
        machine = _machine(organization, options["machine"]) if options["machine"] else None
        counts = {"imported": 0, "duplicate": 0, "refused": 0}
        paths: list[Path] = []
        principal = system_principal("importroasts", organization)
        files = self._read(options["paths"], paths, counts)
        outcomes = importing.import_files(principal, files, machine=machine, now=clock.now())
        for number, outcome in enumerate(outcomes):
            counts[self._tell(paths[number], outcome, verbosity=options["verbosity"])] += 1
        told = f"{counts['imported']} imported, {counts['duplicate']} came before, {counts['refused']} refused."
        self.stdout.write(told)
        if counts["refused"]:
            raise CommandError(f"{counts['refused']} files could not be imported; the reasons stand above.")

    def _read(self, given: list[str], paths: list[Path], counts: dict[str, int]) -> Iterator[tuple[str, bytes]]:
        """Each file's name and bytes; its path goes to ``paths``. One that the disk does not give is counted."""
        for path in _files(given):
            try:
                data = _bytes_of(path)
            except TooLarge as error:
                self.stderr.write(f"{path}: {error.message} {error.how_to_fix}")
                counts["refused"] += 1
                continue
            except OSError as error:
                self.stderr.write(f"{path}: cannot be read: {error.strerror}")
                counts["refused"] += 1
                continue
            paths.append(path)
            yield path.name, data

    def _tell(self, path: Path, outcome: importing.Filed | ApiError, *, verbosity: int) -> str:
        """Say what came of one file; the word it is counted by."""
        if isinstance(outcome, ApiError):
            self.stderr.write(f"{path}: {outcome.message} {outcome.how_to_fix}")
            return "refused"
        told = importing.describe(outcome)
        if outcome.is_duplicate:
            self.stdout.write(f"{path.name}: came before, as {told['roast_id']} ({told['file_name']})")
            return "duplicate"
        what = f"{NAMES[told['format']]}, {told['samples']} readings, {told['length'] or 'no drop marked'}"
        self.stdout.write(f"{path.name}: {told['roast_id']} ({what})")
        for line in told["warnings"]:
            self.stdout.write(f"  warning: {line}")
        for name in ("understood", "dropped") if verbosity > 1 else ():
            for line in told[name]:
                self.stdout.write(f"  {name}: {line}")
        return "imported"


def _machine(organization: Organization, word: str) -> Machine:
    rows = Machine.objects.filter(organization=organization)
    machine = rows.filter(pk=word).first() or rows.filter(name=word).first()
    if machine is None:
        raise CommandError(f"{word!r} is no machine here. {nearest_hint(word, rows.values_list('name', flat=True))}")
    return machine


def _files(paths: list[str]) -> Iterator[Path]:
    """The files named, and those of the folders named, in order."""
    count = 0
    for text in paths:
        path = Path(text)
        if not path.exists():
            raise CommandError(f"There is no {path}.")
        for file in _inside(path) if path.is_dir() else [path]:
            count += 1
            if count > MAX_FILES:
                raise CommandError(f"More than {MAX_FILES} files: import a folder at a time.")
            yield file


def _inside(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def _bytes_of(path: Path) -> bytes:
    """The file, unless it is too large; one that grows meanwhile, so far that the reader says so."""
    check_length(path.stat().st_size)
    with path.open("rb") as file:
        return file.read(MAX_FILE_BYTES + 1)
