"""`manage.py exportroast ID --format alog [--to FILE]`: one roast as a file, or to standard output."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, BinaryIO

from django.core.management.base import BaseCommand, CommandError, CommandParser

from kernel.errors import ApiError
from roasts.files import exporting
from roasts.formats.writing import FORMATS
from roasts.models import Roast


def _write_whole(file: BinaryIO, data: bytes, path: Path) -> None:
    """All of it, or no file: half a roast (the disk was full) must not be taken for one."""
    try:
        file.write(data)
        file.flush()
    except OSError:
        path.unlink(missing_ok=True)
        raise


class Command(BaseCommand):
    help = "Write one roast in a format; without --to the bytes go to standard output."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("roast_id", metavar="ID")
        parser.add_argument("--format", default="json", choices=list(FORMATS))
        parser.add_argument("--to", metavar="FILE", help="a new file; one that stands is not written over")

    def handle(self, *args: Any, **options: Any) -> None:
        roast = Roast.objects.select_related("machine").filter(pk=options["roast_id"]).first()
        if roast is None:
            raise CommandError(f"{options['roast_id']!r} is no roast.")
        try:
            data = FORMATS[options["format"]].write(exporting.load_roast(roast))
        except ApiError as error:
            raise CommandError(f"{error.message} {error.how_to_fix}") from error
        if options["to"] is None:
            try:
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
            except OSError as error:
                raise CommandError(f"Standard output cannot be written: {error.strerror}") from error
            return
        path = Path(options["to"])
        try:
            with path.open("xb") as file:
                _write_whole(file, data, path)
        except OSError as error:
            raise CommandError(f"{options['to']!r} cannot be written: {error.strerror}") from error
        self.stderr.write(f"{len(data)} bytes written to {options['to']}")
