"""Whole rows by a prepared query are the rows of the queryset it was made of, with what is selected with them."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models import QuerySet

from kernel import clock
from kernel.models import Agent, ApiKey, Organization
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
