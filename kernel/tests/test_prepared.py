"""A prepared query answers like the queryset it was made of."""

from __future__ import annotations

import datetime as dt

import pytest
from django.db.models import QuerySet

from kernel import clock
from kernel.models import Agent, ApiKey, Organization
from kernel.prepared import Prepared, utc


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
