"""A closed roast is counted, and from then on the database itself keeps it as it was."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import Model

from kernel import append_only, clock
from kernel.models import Organization, Site
from roasts import services
from roasts.models import (
    Machine,
    MachineReading,
    PackedRoast,
    Profile,
    ProfileVersion,
    Roast,
    RoastCorrection,
    RoastEvent,
    Sample,
)
from roasts.tests.test_recorder import roast as readings_of_roast
from roasts.tests.test_services import filings

pytestmark = pytest.mark.django_db


@pytest.fixture
def machine(organization: Organization, site: Site) -> Machine:
    made = Machine.objects.create(
        organization=organization, site=site, name="B", driver_kind="bullet-r1", created_at=clock.now()
    )
    MachineReading.objects.create(machine=made)
    return made


@pytest.fixture
def closed(machine: Machine) -> Roast:
    services.file_decisions(machine, filings(readings_of_roast())[0], now=clock.now())
    return Roast.objects.get()


def refused(act: Callable[[], object]) -> str:
    """The database's own words of refusal."""
    with pytest.raises(IntegrityError) as caught, transaction.atomic():
        act()
    return str(caught.value)


def changed(roast: Roast, **values: object) -> Callable[[], object]:
    return lambda: Roast.objects.filter(pk=roast.pk).update(**values)


def test_a_roast_is_counted_when_it_closes(closed: Roast) -> None:
    assert closed.summary["turning_point_s"] == 60 and closed.total_ms == 115_000
    assert closed.summary["counted_at"] and closed.summary["energy"]["assumption"].startswith("assumed")
    assert closed.drop_bean_temp_c is not None and closed.development_ratio is None, "it was never marked as cracked"


def test_a_mark_on_a_closed_roast_counts_it_again(closed: Roast, people) -> None:
    operator, now = people.principal("operator"), clock.now()
    mark = services.mark_event(operator, closed, kind="first_crack_start", elapsed_ms=90_000, now=now)
    closed.refresh_from_db()
    assert closed.first_crack_ms == 90_000 and closed.development_ratio == pytest.approx(25 / 115)
    services.withdraw_event(operator, closed, mark, now=now)
    closed.refresh_from_db()
    assert closed.first_crack_ms is None and closed.development_ratio is None


@pytest.mark.parametrize(
    "values",
    [
        {"started_at": dt.datetime(2020, 1, 1, tzinfo=dt.UTC)},
        {"status": "roasting"},
        {"device_start_ms": 5},
        {"source": "imported"},
        {"ended_at": None},
        {"summary": None},
    ],
    ids=lambda values: next(iter(values)),
)
def test_what_a_closed_roast_was_never_changes(closed: Roast, values: dict) -> None:
    assert "a closed roast stays" in refused(changed(closed, **values))


@pytest.mark.parametrize("values", [{"bean": "Kenya"}, {"weight_out_g": 351.0}, {"colour_whole": 97.5}, {"lot": "7"}])
def test_what_people_say_of_it_changes_by_a_correction_alone(closed: Roast, people, values: dict) -> None:
    ((field, value),) = values.items()
    assert "correct it with a reason" in refused(changed(closed, **values))
    correct(closed, people.operator, field, value)
    changed(closed, **values)()
    assert getattr(Roast.objects.get(), field) == value
    assert "correct it" in refused(changed(closed, **{field: None if isinstance(value, float) else "else"}))


def correct(roast: Roast, user, field: str, value: object, at: dt.datetime | None = None) -> None:
    RoastCorrection.objects.create(
        roast=roast,
        field=field,
        old_value=None,
        new_value=value,
        corrected_by=user,
        reason="weighed",
        at=at or clock.now(),
    )


def test_only_the_newest_correction_of_a_field_speaks(closed: Roast, people) -> None:
    earlier = clock.now() - dt.timedelta(minutes=5)
    correct(closed, people.operator, "bean", "Old", earlier)
    correct(closed, people.operator, "bean", "New")
    assert "correct it" in refused(changed(closed, bean="Old"))
    assert changed(closed, bean="New")() == 1


def test_a_corrected_field_may_be_emptied_again(closed: Roast, people) -> None:
    correct(closed, people.operator, "weight_in_g", 400.0)
    changed(closed, weight_in_g=400.0)()
    correct(closed, people.operator, "weight_in_g", None)
    assert changed(closed, weight_in_g=None)() == 1


def test_counting_again_and_signature_counts_are_no_change_of_the_roast(closed: Roast) -> None:
    assert changed(closed, verified_points=7, total_ms=1, summary={"again": True})() == 1


def test_samples_of_a_closed_roast_stay(closed: Roast) -> None:
    row = Sample.objects.filter(roast=closed, elapsed_ms=1000)
    assert "samples of a closed roast stay" in refused(lambda: row.update(bean_temp_c=1.0))
    assert "pack it first" in refused(lambda: row._raw_delete("default"))
    assert "not deleted" in refused(lambda: Roast.objects.filter(pk=closed.pk)._raw_delete("default"))


def test_thinning_is_the_one_door(closed: Roast) -> None:
    packed = PackedRoast.objects.create(
        roast=closed, format="roast/1", payload=b"x", digest="0" * 64, samples=1, packed_at=clock.now()
    )
    rows = Sample.objects.filter(roast=closed)
    assert "pack it first" in refused(lambda: rows._raw_delete("default")), "packed, but not marked as thinned"
    packed.thinned_at = clock.now()
    packed.save()
    assert rows._raw_delete("default") > 1000


def test_a_late_sample_joins_a_closed_roast_until_it_is_packed(closed: Roast) -> None:
    def late(elapsed_ms: int) -> Sample:
        return Sample(roast=closed, elapsed_ms=elapsed_ms, sequence=1, at=clock.now(), state="roasting")

    Sample.objects.bulk_create([late(50)])
    PackedRoast.objects.create(
        roast=closed, format="roast/1", payload=b"x", digest="0" * 64, samples=1, packed_at=clock.now()
    )
    assert "takes no more" in refused(lambda: Sample.objects.bulk_create([late(51)]))
    assert Sample.objects.bulk_create([late(50)], ignore_conflicts=True), "one that is there already is no insert"


def test_a_mark_of_a_closed_roast_is_withdrawn_once_and_never_rewritten(closed: Roast) -> None:
    event = RoastEvent.objects.filter(roast=closed, kind="turning_point")
    assert "only withdrawn" in refused(lambda: event.update(elapsed_ms=5))
    assert "stays" in refused(lambda: event._raw_delete("default"))
    assert event.update(withdrawn_at=clock.now()) == 1
    assert "only withdrawn" in refused(lambda: event.update(withdrawn_at=None))


def test_an_open_roast_is_still_free(machine: Machine) -> None:
    now = clock.now()
    made = Roast.objects.create(
        organization=machine.organization, machine=machine, started_at=now, device_start_ms=0, bean="A"
    )
    assert changed(made, bean="B", device_start_ms=9)() == 1
    Sample.objects.create(roast=made, elapsed_ms=1, sequence=1, at=now, state="roasting")
    assert Sample.objects.filter(roast=made).update(bean_temp_c=3) == 1
    assert Sample.objects.filter(roast=made)._raw_delete("default") == 1


def test_profile_versions_notes_and_corrections_only_grow(closed: Roast, people) -> None:
    profile = Profile.objects.create(organization=closed.organization, name="P", created_at=clock.now())
    ProfileVersion.objects.create(profile=profile, version=1, document={}, digest="0" * 64, created_at=clock.now())
    correct(closed, people.operator, "bean", "Kenya")
    for model in (ProfileVersion, RoastCorrection):
        assert "append-only" in refused(lambda model=model: model.objects.all()._raw_delete("default"))


def test_the_next_roast_follows_its_machines_profile_until_it_is_archived(machine: Machine) -> None:
    profile = Profile.objects.create(organization=machine.organization, name="P", created_at=clock.now())
    version = ProfileVersion.objects.create(
        profile=profile, version=1, document={}, digest="0" * 64, created_at=clock.now()
    )
    Machine.objects.filter(pk=machine.pk).update(profile_version=version)
    assert services.followed_profile(machine.pk) == version.pk
    services.file_decisions(machine, filings(readings_of_roast())[0], now=clock.now())
    assert Roast.objects.get().profile_version_id == version.pk, "the loop's own copy of the machine is older"
    Profile.objects.update(is_archived=True)
    assert services.followed_profile(machine.pk) is None


def test_the_guards_are_seen_to_stand_and_are_put_back_after_lifting() -> None:
    assert not append_only.missing_triggers()
    with append_only.lifted("test_runner"):
        assert "closed_roast_frozen" in append_only.missing_triggers()
    assert not append_only.missing_triggers()
    assert {trigger.name for trigger in append_only.guards(connection.vendor)} >= {"closed_roast_sample_thinned"}


def _columns(model: type[Model], **instead: str) -> tuple[str, str]:
    """All columns of a table, and the same as a SELECT takes them, some of them otherwise."""
    names = [field.column for field in model._meta.concrete_fields]
    return ", ".join(names), ", ".join(instead.get(name, name) for name in names)


@pytest.mark.parametrize(
    ("model", "instead"),
    [
        (Roast, {"summary": "NULL"}),
        (Roast, {"id": "'rst_another'"}),
        (Sample, {"bean_temp_c": "999.0"}),
        (RoastEvent, {"elapsed_ms": "1"}),
    ],
    ids=["roast", "roast of the same file", "sample", "mark"],
)
def test_sqlites_replace_does_not_get_round_it(closed: Roast, model: type[Model], instead: dict[str, str]) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("REPLACE is SQLite's")
    with append_only.lifted("test_runner"):
        Roast.objects.update(source_digest="a" * 64)
    before = list(model.objects.order_by("pk").values())
    into, chosen = _columns(model, **instead)
    table = model._meta.db_table
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"REPLACE INTO {table} ({into}) SELECT {chosen} FROM {table}")
    except IntegrityError as error:
        assert "closed_roast" in str(error)
    assert list(model.objects.order_by("pk").values()) == before


def test_sqlites_update_or_replace_does_not_get_round_it(closed: Roast, machine: Machine) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("OR REPLACE is SQLite's")
    with append_only.lifted("test_runner"):
        Roast.objects.update(source_digest="a" * 64)
    now = clock.now()
    another = Roast.objects.create(
        organization=machine.organization, machine=machine, started_at=now, device_start_ms=0, source_digest="b" * 64
    )
    Sample.objects.create(roast=another, elapsed_ms=7, sequence=1, at=now, state="roasting")
    mark = RoastEvent.objects.create(roast=another, kind="note", elapsed_ms=0, source="person", at=now)
    moment = Sample.objects.filter(roast=closed).first()
    theirs = RoastEvent.objects.filter(roast=closed).first()
    acts = [
        ("UPDATE OR REPLACE roasts_sample SET roast_id = %s, elapsed_ms = %s WHERE roast_id = %s",
         [closed.pk, moment.elapsed_ms, another.pk]),
        ("UPDATE OR REPLACE roasts_roastevent SET id = %s WHERE id = %s", [theirs.pk, mark.pk]),
        ("UPDATE OR REPLACE roasts_roast SET source_digest = %s WHERE id = %s", ["a" * 64, another.pk]),
        ("UPDATE OR REPLACE roasts_roast SET id = %s WHERE id = %s", [closed.pk, another.pk]),
    ]  # fmt: skip
    for sql, values in acts:
        with connection.cursor() as cursor:
            assert "closed_roast" in refused(lambda c=cursor, s=sql, v=values: c.execute(s, v))


def test_a_late_sample_of_a_moment_that_is_recorded_is_left_out_and_others_join(closed: Roast) -> None:
    there = Sample.objects.filter(roast=closed).first()
    same = Sample(roast=closed, elapsed_ms=there.elapsed_ms, sequence=9, at=there.at, state="off")
    new = Sample(roast=closed, elapsed_ms=there.elapsed_ms + 1, sequence=10, at=there.at, state="off")
    before = Sample.objects.count()
    Sample.objects.bulk_create([same, new], ignore_conflicts=True)
    assert Sample.objects.count() == before + 1
    assert Sample.objects.filter(roast=closed, elapsed_ms=there.elapsed_ms).get().state == there.state
