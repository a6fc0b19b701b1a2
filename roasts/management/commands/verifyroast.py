"""`manage.py verifyroast ROAST`: a roast's signatures, chain, rows and pack, from what is stored alone."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from roasts.models import PackedRoast, Roast
from roasts.store import packing, stored_samples
from roasts.store.packing import CorruptPack
from roasts.telemetry.verification import verify_roast


class Command(BaseCommand):
    help = "Check every envelope of a roast with the public keys that are stored. Exit code 1 when something is wrong."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("roast", help="id of a roast")

    def handle(self, *args: Any, **options: Any) -> None:
        roast = Roast.objects.filter(pk=options["roast"]).first()
        if roast is None:
            raise CommandError(f"There is no roast {options['roast']!r}.")
        problems = []
        packed = PackedRoast.objects.filter(pk=roast.pk).first()
        if packed is not None:
            try:
                packing.unpack(bytes(packed.payload), packed.digest)
                self.stdout.write(f"pack: {packed.samples} samples, sha256:{packed.digest}")
            except CorruptPack as error:
                problems.append(f"pack: {error}")
        if not problems:
            found = verify_roast(roast, stored_samples.sample_values(roast)) if roast.source == "telemetry" else None
            if found is None:
                self.stdout.write("This roast did not come by telemetry: nothing was signed.")
            else:
                self.stdout.write(
                    f"envelopes: {found.envelopes}, verified {found.verified}, unsigned {found.unsigned}, "
                    f"failed {found.failed}; rows agree with {found.rows_agree}, not comparable {found.rows_apart}"
                )
                problems += found.problems
        for problem in problems:
            self.stdout.write(f"WRONG  {problem}")
        if problems:
            raise CommandError(f"{len(problems)} things are wrong with {roast.pk}.")
