"""Objects made of rows are those that Django makes."""

from __future__ import annotations

from typing import Any

import pytest
from django.db.models import Model
from django.db.models.signals import post_init

from kernel.loaded_rows import loaded
from kernel.models import Agent, ApiKey, Organization
from kernel.prepared import PreparedObjects


def _all_of(model: type[Model]) -> list[str]:
    return [field.attname for field in model._meta.concrete_fields]


def _known(made: Any) -> dict[str, Any]:
    """What an object holds, what was loaded with it included."""
    state = made.__dict__["_state"]
    inner = {name: None if each is None else _known(each) for name, each in state.fields_cache.items()}
    own = {name: value for name, value in made.__dict__.items() if name != "_state"}
    return {"model": type(made), "own": own, "with": inner, "adding": state.adding, "db": state.db}


@pytest.mark.django_db
def test_an_object_of_a_row_is_as_django_makes_it(agent: Agent) -> None:
    names = _all_of(Agent)
    values = [getattr(agent, name) for name in names]
    assert _known(loaded(Agent, names, values)) == _known(Agent.from_db("default", names, values))


@pytest.mark.django_db
def test_a_column_left_out_is_loaded_when_it_is_asked_for(agent: Agent, django_assert_num_queries: Any) -> None:
    names = ["id", "organization_id"]
    made = loaded(Agent, names, [agent.pk, agent.organization_id])
    assert _known(made) == _known(Agent.from_db("default", names, [agent.pk, agent.organization_id]))
    with django_assert_num_queries(1):
        assert made.name == agent.name
    with django_assert_num_queries(1):
        assert made.organization == agent.organization


@pytest.mark.django_db
def test_what_is_selected_with_a_row_hangs_on_it_and_nothing_where_there_is_nothing(
    organization: Organization, agent: Agent, django_assert_num_queries: Any
) -> None:
    ApiKey.objects.create(organization=organization, agent=agent, prefix="p1", digest="d", created_at=agent.created_at)

    def build(prefix: str) -> Any:
        return ApiKey.objects.filter(prefix=prefix).select_related("agent__owner", "user", "organization")

    expected = build("p1").get()
    made = PreparedObjects(build, "prefix").first(prefix="p1")
    assert made is not None
    assert _known(made) == _known(expected)
    with django_assert_num_queries(0):
        assert made.agent is not None
        assert (made.user, made.agent.owner, made.organization) == (None, agent.owner, organization)


@pytest.mark.django_db
def test_who_listens_to_the_making_of_objects_hears_it(agent: Agent) -> None:
    heard: list[type[Model]] = []

    def hear(sender: type[Model], **_told: Any) -> None:
        heard.append(sender)

    names = _all_of(Agent)
    post_init.connect(hear)
    try:
        loaded(Agent, names, [getattr(agent, name) for name in names])
    finally:
        post_init.disconnect(hear)
    assert heard == [Agent]


def test_a_row_of_another_width_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        loaded(Agent, ["id", "name"], ["agt_1"])
