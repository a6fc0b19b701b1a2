"""Who reads single columns of an old roast reads them from its packed object once the rows are gone."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import People
from kernel import clock
from kernel.models import Organization
from roasts.curve import Mark
from roasts.events import crack_store
from roasts.events.marks import DRY_END_C
from roasts.files import exporting
from roasts.formats.imported import MACHINE_RATE
from roasts.models import Machine, Roast, Sample
from roasts.store import services_packing
from roasts.tests.stored_roasts import MARKS, curve_of, machine_of, store_roast
from roasts.tests.test_importing import file_of, import_one

pytestmark = pytest.mark.django_db


def thinned(roast: Roast) -> None:
    """Pack the roast and let its rows go."""
    services_packing.pack_roast(roast, now=clock.now())
    assert services_packing.thin_roast(roast, now=clock.now()) > 0
    assert not Sample.objects.filter(roast=roast).exists()


def marked_at(machine: Machine, elapsed_s: float, *, days: int) -> Roast:
    """A roast whose dry end a person marked."""
    return store_roast(machine, marks=(*MARKS, Mark("dry_end", elapsed_s, "person")), days=days)


def test_the_habit_of_dry_end_outlives_the_rows(organization: Organization) -> None:
    machine = machine_of(organization)
    roasts = [marked_at(machine, elapsed_s, days=days) for days, elapsed_s in enumerate((330.4, 340.0, 345.0))]
    habit_c = crack_store.expectation_of(machine.pk).dry_end_c
    assert habit_c == pytest.approx(156.0) != DRY_END_C
    for roast in roasts:
        thinned(roast)
        assert crack_store.expectation_of(machine.pk).dry_end_c == habit_c


def test_a_mark_before_the_first_reading_of_a_thinned_roast_says_nothing(organization: Organization) -> None:
    machine = machine_of(organization)
    early = curve_of()
    late = np.flatnonzero(early.elapsed_s >= 400)
    kept = [store_roast(machine, marks=(Mark("dry_end", 340.0, "person"),), days=day) for day in range(2)]
    blind = store_roast(
        machine,
        type(early)(early.elapsed_s[late], early.bean_temp_c[late]),
        marks=(Mark("dry_end", 330.0, "person"),),
        days=3,
    )
    for roast in (*kept, blind):
        thinned(roast)
    assert crack_store.expectation_of(machine.pk).dry_end_c == DRY_END_C, "two that can be read are no habit"


def test_a_thinned_roast_is_exported_with_every_channel_it_came_with(people: People) -> None:
    roast = Roast.objects.get(pk=import_one(people, file_of()).roast.pk)
    before = exporting.load_roast(roast)
    assert {channel.name for channel in before.channels} >= {MACHINE_RATE, "Inlet"}
    thinned(roast)
    after = exporting.load_roast(roast)
    assert [each.name for each in after.channels] == [each.name for each in before.channels]
    for found, channel in zip(after.channels, before.channels, strict=True):
        np.testing.assert_array_equal(found.values, channel.values)
