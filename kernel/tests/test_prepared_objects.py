"""Whole rows by a prepared query are the rows of the queryset it was made of, with what is selected with them."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.models import QuerySet
from django.db.transaction import TransactionManagementError

from kernel import clock
from kernel.models import Agent, ApiKey, Membership, Organization, StreamEvent
from kernel.prepared import Prepared, PreparedObjects, update


def _keys(agent: str) -> QuerySet[ApiKey]:
    return ApiKey.objects.filter(agent_id=agent).select_related("organization", "agent__owner").order_by("prefix")


def _key(organization: Organization, agent: Agent | None, prefix: str, **more: Any) -> ApiKey:
    return ApiKey.objects.create(
        organization=organization, agent=agent, prefix=prefix, digest=prefix, scopes=["read", prefix],
        created_at=clock.now(), **more,
    )  # fmt: skip


def _values(row: Any) -> dict[str, Any]:
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}


@pytest.mark.django_db
def test_rows_are_those_of_the_queryset_with_what_is_selected_with_them(
    organization: Organization, agent: Agent, django_assert_num_queries: Any
) -> None:
    _key(organization, agent, "p1")
    _key(organization, agent, "p2", expires_at=clock.now())
    prepared = PreparedObjects(_keys, "agent")
    expected = list(_keys(agent.pk))
    with django_assert_num_queries(1):
        found = prepared.rows(agent=agent.pk)
        names = [(row.organization.slug, row.agent.name, row.agent.owner) for row in found if row.agent is not None]
    assert [_values(row) for row in found] == [_values(row) for row in expected]
    assert names == [(row.organization.slug, row.agent.name, row.agent.owner) for row in expected if row.agent]
    assert found == expected
    assert not any(row._state.adding for row in found)
    assert prepared.rows(agent="nobody") == [] and prepared.first(agent="nobody") is None


@pytest.mark.django_db
def test_what_is_not_there_is_selected_as_none(organization: Organization) -> None:
    person = User.objects.create(username="keyed")
    _key(organization, None, "p3", user=person)
    prepared = PreparedObjects(
        lambda prefix: ApiKey.objects.filter(prefix=prefix).select_related("agent", "user"), "prefix"
    )
    row = prepared.first(prefix="p3")
    assert row is not None and row.agent is None and row.user == person


@pytest.mark.django_db
@pytest.mark.parametrize("ago", [-1, 0, 1])
def test_times_are_compared_as_times_on_both_sides_of_the_bound(organization: Organization, ago: int) -> None:
    now = clock.now().replace(microsecond=0)
    prepared = PreparedObjects(lambda at: Organization.objects.filter(created_at__lte=at), "at", times=["at"])
    row = Organization.objects.create(slug="timed", name="Timed", created_at=now + dt.timedelta(microseconds=ago))
    assert (row in prepared.rows(at=now)) is (ago <= 0)
    columns = Prepared(
        lambda slug, at: Organization.objects.filter(slug=slug, created_at__gt=at).values_list("created_at"), "slug",
        "at", times=["at"],
    )  # fmt: skip
    assert columns.rows(slug="timed", at=now) == ([(row.created_at,)] if ago > 0 else [])


@pytest.mark.django_db
@pytest.mark.parametrize("off_us", [-1, 0, 1])
def test_a_time_may_be_compared_so_much_later_or_earlier(organization: Organization, off_us: int) -> None:
    now = clock.now().replace(microsecond=0)
    prepared = PreparedObjects(
        lambda name, now: Organization.objects.filter(
            name=name, created_at__gt=now - dt.timedelta(seconds=5), created_at__lte=now + dt.timedelta(days=2)
        ),
        "name", "now", times=["now"],
    )  # fmt: skip
    off = dt.timedelta(microseconds=off_us)
    early = Organization.objects.create(slug="early", name="N", created_at=now - dt.timedelta(seconds=5) + off)
    late = Organization.objects.create(slug="late", name="N", created_at=now + dt.timedelta(days=2) + off)
    found = prepared.rows(name="N", now=now)
    assert (early in found, late in found) == (off_us > 0, off_us <= 0)


@pytest.mark.django_db
def test_a_missing_or_extra_value_is_an_error() -> None:
    prepared = PreparedObjects(_keys, "agent")
    with pytest.raises(TypeError):
        prepared.rows()
    with pytest.raises(TypeError):
        prepared.rows(agent="a", more="b")


@pytest.mark.django_db
def test_a_guarded_update_writes_only_where_the_row_stands_as_said(organization: Organization, agent: Agent) -> None:
    key, other = _key(organization, agent, "p4"), _key(organization, agent, "p5")
    assert update(ApiKey, key.pk, {"digest": "new"}, where={"prefix": "p5"}) == 0
    assert ApiKey.objects.get(pk=key.pk).digest == "p4"
    assert update(ApiKey, key.pk, {"digest": "new"}, where={"prefix": "p4"}) == 1
    assert [ApiKey.objects.get(pk=each.pk).digest for each in (key, other)] == ["new", "p5"]


def _of_holder(user: int, organization: str) -> QuerySet[Membership]:
    return Membership.objects.filter(user_id=user, organization_id=organization).order_by("role")


@pytest.mark.django_db
def test_a_whole_number_is_a_parameter_too(organization: Organization) -> None:
    people = [User.objects.create(username=name) for name in ("one", "two")]
    for person, role in ((people[0], "lead"), (people[0], "judge"), (people[1], "viewer")):
        Membership.objects.create(organization=organization, user=person, role=role)
    prepared = PreparedObjects(_of_holder, "user", "organization", numbers=["user"])
    for key in (*(person.pk for person in people), 2**31 - 1, 0, -1):
        expected = list(_of_holder(key, organization.pk))
        assert prepared.rows(user=key, organization=organization.pk) == expected
    assert len(prepared.rows(user=people[0].pk, organization=organization.pk)) == 2


@pytest.mark.django_db(transaction=True)
def test_rows_are_locked_inside_a_transaction_and_nowhere_else(organization: Organization) -> None:
    locked = Prepared(
        lambda key: Organization.objects.select_for_update().filter(pk=key).order_by().values_list("slug"), "key"
    )
    with transaction.atomic():
        assert locked.rows(key=organization.pk) == [(organization.slug,)]
    if connection.features.has_select_for_update:
        with pytest.raises(TransactionManagementError):
            locked.rows(key=organization.pk)
    else:
        assert locked.rows(key=organization.pk) == [(organization.slug,)]


@pytest.mark.django_db
def test_an_update_is_guarded_by_what_fields_hold_and_by_what_they_do_not(
    organization: Organization, agent: Agent
) -> None:
    now = clock.now()
    key = _key(organization, agent, "p1", expires_at=now)
    for where, is_met in (
        ({"expires_at": None}, False), ({"expires_at": now}, True), ({"revoked_at": None}, True),
        ({"expires_at": now, "prefix": "p2"}, False), ({"agent_id": agent.pk, "digest": "p1"}, True), ({}, True),
    ):  # fmt: skip
        assert update(ApiKey, key.pk, {"scopes": ["read"]}, where=where) == int(is_met), where
    owner = User.objects.create(username="owner")
    assert update(Agent, agent.pk, {"owner": owner}, where={"is_active": True}) == 1
    assert update(Agent, agent.pk, {"owner_id": None}, where={"owner": owner.pk, "is_active": False}) == 0
    agent.refresh_from_db()
    assert agent.owner == owner
    event = StreamEvent.objects.create(organization=organization, kind="k", subject_id="s", payload={}, at=now)
    assert update(StreamEvent, event.pk, {"number": 2**40}, where={"number": None}) == 1
    assert update(StreamEvent, event.pk, {"number": 7}, where={"number": 2**40 + 1}) == 0
    assert update(StreamEvent, event.pk, {"number": 7}, where={"number": 2**40}) == 1
