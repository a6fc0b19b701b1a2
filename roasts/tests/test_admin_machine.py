"""What the admin's form of a machine takes, and what it does not."""

from __future__ import annotations

import pytest
from django.forms import model_to_dict

from kernel import clock
from kernel.models import Organization, Site
from roasts.admin import MachineForm
from roasts.models import Machine

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("was_remote", [False, True])
def test_a_machine_stays_fed_by_its_loop_or_by_a_bridge_as_it_was_made(
    organization: Organization, site: Site, was_remote: bool
) -> None:
    machine = Machine.objects.create(
        organization=organization, site=site, name="B", driver_kind="bullet-r1", is_remote=was_remote,
        created_at=clock.now(),
    )  # fmt: skip
    filled = model_to_dict(machine) | {"site": site.pk, "driver_options": "{}"}
    assert MachineForm(filled | {"name": "C"}, instance=machine).is_valid()
    turned = MachineForm(filled | {"is_remote": not was_remote}, instance=Machine.objects.get())
    assert not turned.is_valid() and "is_remote" in turned.errors
