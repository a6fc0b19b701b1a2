"""A prepared query answers like the queryset it was made of."""

from __future__ import annotations

import contextlib
import datetime as dt
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models import QuerySet
from django.db.transaction import TransactionManagementError

from kernel import clock
from kernel.models import Agent, ApiKey, AuditEntry, Organization, StreamEvent
from kernel.prepared import Prepared, forget_plans, insert, insert_many, run, together, update, update_each, utc


def _agents(organization: str, name: str) -> QuerySet[Agent, tuple[object, ...]]:
    return (
        Agent.objects.filter(organization_id=organization, name=name, is_active=True)
        .order_by("id")
        .values_list("id", "is_active", "created_at", "organization__slug")
    )


@pytest.mark.django_db
def test_rows_are_those_of_the_queryset_with_their_types(organization: Organization, agent: Agent) -> None:
    prepared = Prepared(_agents, "organization", "name")
    for name in (agent.name, "nobody", "' OR 1=1 --"):
        expected = list(_agents(organization.pk, name))
        assert prepared.rows(organization=organization.pk, name=name) == expected
    row = prepared.first(organization=organization.pk, name=agent.name)
    assert row is not None
    assert row[1] is True
    assert isinstance(row[2], dt.datetime) and row[2].tzinfo is not None


@pytest.mark.django_db
def test_json_columns_come_as_values(organization: Organization, agent: Agent) -> None:
    now = clock.now()
    ApiKey.objects.create(
        organization=organization, agent=agent, prefix="p1", digest="d", scopes=["read", "propose"], created_at=now
    )
    prepared = Prepared(
        lambda prefix: ApiKey.objects.filter(prefix=prefix).values_list("scopes", "expires_at"), "prefix"
    )
    assert prepared.rows(prefix="p1") == [(["read", "propose"], None)]


@pytest.mark.django_db
def test_a_missing_or_extra_value_is_an_error(organization: Organization) -> None:
    prepared = Prepared(_agents, "organization", "name")
    with pytest.raises(TypeError):
        prepared.rows(organization=organization.pk)
    with pytest.raises(TypeError):
        prepared.rows(organization=organization.pk, name="a", more="b")


@pytest.mark.django_db
def test_a_name_the_queryset_ignores_is_an_error() -> None:
    prepared = Prepared(lambda name: Agent.objects.values_list("id"), "name")
    with pytest.raises(TypeError, match="does not use"):
        prepared.rows(name="x")


def test_utc_of_text_and_of_times() -> None:
    noon = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
    assert utc("2026-01-01 12:00:00") == utc(noon.replace(tzinfo=None)) == utc(noon) == noon
    assert utc(None) is None


def _event(organization: Organization, kind: str) -> StreamEvent:
    payload = {"is_on": True, "step": None, "words": "½ 'quoted' %s"}
    return StreamEvent(organization=organization, kind=kind, subject_id="s", payload=payload, at=clock.now())


@pytest.mark.django_db
def test_an_inserted_row_reads_back_as_a_saved_one_and_knows_its_generated_key(organization: Organization) -> None:
    inserted, saved = _event(organization, "a"), _event(organization, "a")
    insert(inserted)
    saved.save(force_insert=True)
    assert inserted.pk is not None and inserted.pk != saved.pk
    assert not inserted._state.adding
    rows = StreamEvent.objects.filter(pk__in=[inserted.pk, saved.pk]).order_by("pk")
    first, second = ({f.attname: getattr(row, f.attname) for f in StreamEvent._meta.concrete_fields} for row in rows)
    assert {**first, "id": 0, "at": 0} == {**second, "id": 0, "at": 0}
    assert first["at"] == inserted.at and first["number"] is None


@pytest.mark.django_db
def test_several_rows_are_one_statement_in_their_order(
    organization: Organization, django_assert_num_queries: pytest.FixtureRequest
) -> None:
    with django_assert_num_queries(1):  # type: ignore[operator]
        insert(_event(organization, "first"), _event(organization, "second"))
    assert list(StreamEvent.objects.order_by("id").values_list("kind", flat=True)) == ["first", "second"]


@pytest.mark.django_db
def test_a_key_of_ones_own_is_kept(organization: Organization) -> None:
    entry = AuditEntry(
        organization=organization, at=clock.now(), actor_kind="system", actor_id="x", actor_name="x", verb="v",
        subject_kind="s", subject_id="s", payload="{}", payload_digest="d",
    )  # fmt: skip
    key = entry.pk
    insert(entry)
    assert AuditEntry.objects.get().pk == key


@pytest.mark.django_db
def test_rows_of_two_models_are_an_error(organization: Organization) -> None:
    with pytest.raises(TypeError):
        insert(_event(organization, "a"), organization)


@pytest.mark.django_db
def test_every_kind_of_value_is_stored_as_save_would_store_it(organization: Organization, agent: Agent) -> None:
    now = clock.now()
    given = {
        "organization": organization, "agent": agent, "digest": "d", "scopes": ["read", 'ü "quoted"', None, 1.5],
        "created_at": now, "expires_at": None,
    }  # fmt: skip
    inserted, saved = ApiKey(prefix="one", **given), ApiKey(prefix="two", **given)
    insert(inserted)
    saved.save(force_insert=True)
    first, second = (ApiKey.objects.filter(prefix=prefix).values().get() for prefix in ("one", "two"))
    assert {**first, "id": 0, "prefix": ""} == {**second, "id": 0, "prefix": ""}
    event = StreamEvent(organization=organization, kind="k", subject_id="", payload="text", at=now, number=2**40)
    insert(event)
    stored = StreamEvent.objects.get(pk=event.pk)
    assert (stored.payload, stored.number, stored.at, stored.machine_id) == ("text", 2**40, now, "")


@pytest.mark.django_db
def test_a_handwritten_statement_takes_values_by_place_and_by_name_and_doubled_percent_signs() -> None:
    assert run("SELECT %s, '100%%', %s", ["a", "b"]) == [("a", "100%", "b")]
    assert run("SELECT %(b)s, %(a)s, %(b)s", {"a": "x", "b": "y"}) == [("y", "x", "y")]
    assert run("UPDATE kernel_streamevent SET kind = %s WHERE id = -1", ["k"]) == []


@pytest.mark.django_db
def test_a_statement_in_a_broken_transaction_is_refused_like_any_other(organization: Organization) -> None:
    with pytest.raises(TransactionManagementError), transaction.atomic():
        with pytest.raises(IntegrityError), transaction.atomic():
            Organization.objects.create(slug=organization.slug, name="twice", created_at=clock.now())
        transaction.set_rollback(True)
        insert(_event(organization, "late"))
    assert not StreamEvent.objects.exists()


@pytest.mark.django_db
def test_whoever_listens_to_statements_hears_these_too(organization: Organization) -> None:
    heard: list[str] = []

    def listen(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        heard.append(sql.split(maxsplit=1)[0])
        return execute(sql, params, many, context)

    with connection.execute_wrapper(listen):
        insert(_event(organization, "heard"))
        assert run("SELECT %s", ["x"]) == [("x",)]
    assert heard == ["INSERT", "SELECT"]


@pytest.mark.django_db
def test_update_writes_what_the_queryset_would_and_says_how_many_rows_there_were(
    organization: Organization, agent: Agent
) -> None:
    now = clock.now()
    key = ApiKey.objects.create(
        organization=organization, agent=agent, prefix="p1", digest="d", scopes=["read"], created_at=now
    )
    assert update(ApiKey, key.pk, {"scopes": ["read", "propose"], "expires_at": now, "prefix": "p2"}) == 1
    key.refresh_from_db()
    assert (key.scopes, key.expires_at, key.prefix, key.digest) == (["read", "propose"], now, "p2", "d")
    assert update(ApiKey, key.pk, {"expires_at": None}) == 1
    key.refresh_from_db()
    assert key.expires_at is None
    assert update(ApiKey, "key_of_nobody" if isinstance(key.pk, str) else 0, {"prefix": "p3"}) == 0


@pytest.mark.django_db
def test_insert_leaves_a_row_that_is_there_as_it_is_where_told_to(organization: Organization) -> None:
    other = Organization(id=organization.pk, slug="other", name="Other", created_at=clock.now())
    more = Organization(slug="more", name="More", created_at=clock.now())
    insert(other, more, skips_known=True)
    assert set(Organization.objects.values_list("slug", flat=True)) == {organization.slug, "more"}
    with pytest.raises(IntegrityError), transaction.atomic():
        insert(Organization(id=organization.pk, slug="again", name="Again", created_at=clock.now()))


def _entry(organization: Organization, verb: str) -> AuditEntry:
    return AuditEntry(
        organization=organization, at=clock.now(), actor_kind="system", actor_id="x", actor_name="x", verb=verb,
        subject_kind="s", subject_id="s", payload="{}", payload_digest="d",
    )  # fmt: skip


@pytest.mark.django_db
def test_rows_given_together_are_written_at_the_end_of_the_block(
    organization: Organization, django_assert_num_queries: pytest.FixtureRequest
) -> None:
    is_one = connection.vendor == "postgresql"
    with django_assert_num_queries(1 if is_one else 2), together():  # type: ignore[operator]
        insert(_event(organization, "first"), _event(organization, "second"))
        with together():  # of the wider block
            insert(_entry(organization, "told"))
    assert list(StreamEvent.objects.order_by("id").values_list("kind", flat=True)) == ["first", "second"]
    assert AuditEntry.objects.get().verb == "told"


@pytest.mark.django_db
def test_of_rows_given_together_none_is_written_where_the_block_raises(organization: Organization) -> None:
    with pytest.raises(ZeroDivisionError), together():
        insert(_event(organization, "first"))
        insert(_entry(organization, "told"))
        raise ZeroDivisionError
    insert(_event(organization, "later"))  # nothing is held back any more
    assert list(StreamEvent.objects.values_list("kind", flat=True)) == ["later"]
    assert not AuditEntry.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_whole", [True, False])
def test_rows_given_together_stand_or_fall_together_and_tell_after_the_commit(
    organization: Organization, is_whole: bool
) -> None:
    """Also where they are the whole transaction, which the statement then commits by itself."""
    told: list[int] = []
    for verb in ("once", "twice"):
        entry = _entry(organization, verb)
        entry.pk = "aud_same"
        before = list(told)
        try:
            with transaction.atomic(), together(is_whole=is_whole):
                insert(_event(organization, verb))
                insert(entry)
                transaction.on_commit(lambda: told.append(StreamEvent.objects.count()))
                assert told == before
        except DatabaseError:
            assert verb == "twice"
    assert told == [1]
    assert list(AuditEntry.objects.values_list("verb", flat=True)) == ["once"]
    assert connection.get_autocommit() and not connection.in_atomic_block
    with transaction.atomic():  # the connection is as it was: a transaction can be taken back
        insert(_event(organization, "taken back"))
        transaction.set_rollback(True)
    assert StreamEvent.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_what_is_not_the_whole_transaction_is_not_committed_by_itself(organization: Organization) -> None:
    """Told so by mistake, after another statement, or inside a wider transaction."""
    for is_nested in (True, False):
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            if not is_nested:
                insert(_event(organization, "before"))
            with transaction.atomic() if is_nested else contextlib.nullcontext(), together(is_whole=True):
                insert(_event(organization, "inside"))
                insert(_entry(organization, "inside"))
            raise ZeroDivisionError
    assert not StreamEvent.objects.exists() and not AuditEntry.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("count", [0, 1, 120])
def test_any_number_of_rows_and_of_single_fields_is_written(organization: Organization, count: int) -> None:
    insert_many([_event(organization, f"k{number}") for number in range(count)])
    rows = list(StreamEvent.objects.order_by("id"))
    assert [row.kind for row in rows] == [f"k{number}" for number in range(count)]
    assert all(row.payload["words"] == "½ 'quoted' %s" and row.number is None for row in rows)
    update_each(StreamEvent, "number", [(row.pk, 2**40 + place) for place, row in enumerate(rows)])
    update_each(StreamEvent, "number", [(row.pk, 1) for row in rows])  # only where it is null
    numbers = StreamEvent.objects.order_by("id").values_list("number", flat=True)
    assert list(numbers) == [2**40 + place for place in range(count)]


@pytest.mark.django_db
def test_plans_that_are_forgotten_are_made_anew(organization: Organization, agent: Agent) -> None:
    built: list[str] = []

    def build(name: str) -> QuerySet[Agent, tuple[object, ...]]:
        built.append(name)
        return Agent.objects.filter(name=name).values_list("id")

    prepared = Prepared(build, "name")
    for _ in range(3):
        assert prepared.rows(name=agent.name) == [(agent.pk,)]
    assert len(built) == 1
    forget_plans()
    assert prepared.rows(name=agent.name) == [(agent.pk,)]
    assert len(built) == 2
