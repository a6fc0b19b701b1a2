"""What goes into the drum next, as the machine page shows it."""

from __future__ import annotations

import datetime as dt
from typing import Any

from kernel.principals import Principal
from roasts.models import OPEN, PLANNED, Machine, ProfileVersion, Roast

MOST_VERSIONS = 100


def gather_next(principal: Principal, machine: Machine, now: dt.datetime) -> dict[str, Any]:
    """The planned batch, whether a roast is in the drum meanwhile, and this machine's profiles to choose from."""
    rows = Roast.with_planned.filter(machine=machine, status__in=(*PLANNED, *OPEN))  # at most one of each
    found = list(rows.select_related("profile_version__profile").defer("profile_version__document", "summary"))
    planned = next((row for row in found if row.status in PLANNED), None)
    begun_at = next((row.started_at for row in found if row.status in OPEN), None)
    of_machine = ProfileVersion.objects.filter(
        profile__organization=machine.organization_id, profile__is_archived=False, document__sensor__machine=machine.pk
    )
    versions = of_machine.select_related("profile").defer("document").order_by("profile__name", "-version")
    return {
        "planned": planned,
        "is_drum_full": begun_at is not None,
        # Charged after it was planned, and not as it: the loop heard of the plan too late.
        "is_passed_over": planned is not None and begun_at is not None and planned.started_at < begun_at,
        "next_versions": list(versions[:MOST_VERSIONS]),
    }
