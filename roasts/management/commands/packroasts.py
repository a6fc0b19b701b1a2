"""`manage.py packroasts [ROAST …] [--thin-after-days N]`: pack closed roasts, and thin old ones to their packs."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from kernel import clock
from kernel.errors import ApiError
from roasts.models import PackedRoast, Roast
from roasts.store import services_packing


class Command(BaseCommand):
    help = "Pack closed roasts into one object each. With --thin-after-days, rows of packs that old are deleted."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("roasts", nargs="*", metavar="ROAST", help="ids; all that are due when left out")
        parser.add_argument("--thin-after-days", type=float, help="thin what was packed so long ago (0: at once)")

    def handle(self, *args: Any, **options: Any) -> None:
        now, names = clock.now(), options["roasts"]
        days = options["thin_after_days"]
        if days is not None and days < 0:
            raise CommandError("--thin-after-days must not be negative")
        roasts = list(Roast.objects.select_related("organization").filter(pk__in=names))
        unknown = set(names) - {roast.pk for roast in roasts}
        if unknown:
            raise CommandError(f"There is no roast {sorted(unknown)[0]!r}.")
        try:
            packed = self._packed(roasts, now)
            thinned = self._thinned([roast.pk for roast in roasts], days, now) if days is not None else 0
        except ApiError as error:
            raise CommandError(f"{error.message} {error.how_to_fix}") from error
        self.stdout.write(f"{packed} packed, {thinned} thinned")

    def _packed(self, roasts: list[Roast], now: dt.datetime) -> int:
        if not roasts:
            total = 0
            while count := services_packing.pack_due(now=now):
                total += count
            return total
        for roast in roasts:
            pack = services_packing.pack_roast(roast, now=now)
            self.stdout.write(f"{roast.pk}  {pack.samples} samples  {len(pack.payload)} bytes  sha256:{pack.digest}")
        return len(roasts)

    def _thinned(self, names: list[str], days: float, now: dt.datetime) -> int:
        due = PackedRoast.objects.filter(thinned_at__isnull=True, packed_at__lte=now - dt.timedelta(days=days))
        if names:
            due = due.filter(pk__in=names)
        count = 0
        for pack in due.select_related("roast__organization"):
            services_packing.thin_roast(pack.roast, now=now)
            count += 1
        return count
