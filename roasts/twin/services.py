"""The one writer of twin fits: parameters of a machine, with the digest of their data and the held-out report."""

from __future__ import annotations

import datetime as dt

from django.db import transaction

from kernel import audit
from kernel.principals import Principal
from roasts.models import Machine
from roasts.models_library import TwinFit
from roasts.twin import TwinParameters, parameters_to_json


@transaction.atomic
def record_fit(principal: Principal, *, machine: Machine, parameters: TwinParameters, now: dt.datetime) -> TwinFit:
    """The machine's current twin from now on; the one before is kept, no longer current."""
    Machine.objects.select_for_update().get(pk=machine.pk)
    TwinFit.objects.filter(machine=machine, is_current=True).update(is_current=False)
    made = TwinFit.objects.create(
        machine=machine,
        parameters=parameters_to_json(parameters),
        data_digest=parameters.data_digest,
        roast_count=parameters.roast_count,
        report=dict(parameters.report),
        is_current=True,
        created_at=now,
    )
    audit.record(
        machine.organization, principal, "twin.fit", "machine", machine.pk,
        {"twin_fit_id": made.pk, "data_digest": made.data_digest, "roast_count": made.roast_count},
        now=now,
    )  # fmt: skip
    return made
