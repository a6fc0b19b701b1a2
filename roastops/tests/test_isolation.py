"""Every address of the house, as nobody and as a lead of another organisation: nothing of ours is shown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission
from django.urls import URLPattern, URLResolver, get_resolver

from kernel.models import Agent, Membership
from roastops import staff

METHODS = ("get", "post", "put", "patch", "delete")
#: Open by design: they name nobody.
PUBLIC = {"livez", "readyz", "ready", "health", "metrics", "v1/openapi.json", "v1/docs", "sign-in/"}
_PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>")


def addresses(resolver: URLResolver | None = None, prefix: str = "") -> Iterator[str]:
    """Every route of the resolver, as written."""
    for entry in (resolver or get_resolver()).url_patterns:
        route = prefix + str(entry.pattern)
        if isinstance(entry, URLPattern):
            yield route
        else:
            yield from addresses(entry, route)


ROUTES = sorted({route for route in addresses() if "(?P" not in route})


def filled(route: str, ids: dict[str, str]) -> str:
    """The route with our ids in it; what has no id of ours (the admin's own parameters) gets one of our machine."""
    return "/" + _PARAMETER.sub(lambda match: ids.get(match.group(1), ids["machine_id"]), route).lstrip("/")


def secrets_of(world: dict[str, Any]) -> list[str]:
    """Texts that stand for us: ids, names, words of orders."""
    own = [value for name, value in world["ids"].items() if name != "panel"]
    texts = [*own, world["organization_id"], world["machine"], "demo-secret", "Demo roastery", world["agent_id"]]
    return [*texts, *(quote(text) for text in texts)]  # the admin writes ids in addresses its own way


def shows(answer: Any, world: dict[str, Any], asked: str) -> list[str]:
    """What of ours stands in the answer, but for what was in the question itself."""
    if answer.streaming:
        text = b"".join(answer.streaming_content).decode(errors="replace")
    else:
        text = answer.content.decode(errors="replace")
    return [secret for secret in secrets_of(world) if secret in text.replace(asked, "") and secret not in asked]


def test_the_walk_meets_the_whole_house() -> None:
    """A walk over nothing would find nothing."""
    assert len(ROUTES) > 60
    for route in (
        "v1/machines",
        "v1/proposals/<str:proposal_id>",
        "v1/stream",
        "machines/<str:machine_id>/",
        "healthz",
    ):
        assert route in ROUTES


def test_nobody_sees_nothing(demo_world: dict[str, Any], api: Any) -> None:
    for route in ROUTES:
        path = filled(route, demo_world["ids"])
        for method in METHODS:
            answer = getattr(api, method)(path, {} if method != "get" else None)
            assert is_closed_to_nobody(route, answer), (method, path, answer.status_code)
            assert not shows(answer, demo_world, path), (method, path)


def is_closed_to_nobody(route: str, answer: Any) -> bool:
    """Asked who they are, refused, or sent to a door."""
    if route in PUBLIC or (route.startswith("admin/") and ("login" in route or "jsi18n" in route)):
        return answer.status_code < 500
    if answer.status_code == 302:
        return bool(re.search(r"/sign-in/|/login/|^/admin/$", answer["Location"]))
    return answer.status_code in (301, 401, 403, 404, 405)


@pytest.mark.parametrize("is_staff", [False, True], ids=["member", "staff"])
def test_other_organisations_lead_sees_nothing(
    is_staff: bool, demo_world: dict[str, Any], people_of_other: Any, signed_in: Any
) -> None:
    """With every role of theirs, and with every permission that the admin of ours would need."""
    user = people_of_other
    if is_staff:
        user.is_staff = True
        user.save()
        names = {name for names in staff.PERMISSIONS.values() for name in names}
        user.user_permissions.set(Permission.objects.filter(codename__in=names))
    for route in ROUTES:
        path = filled(route, demo_world["ids"])
        has_id_of_ours = any(f":{name}>" in route for name in demo_world["ids"] if name != "panel")
        for method in METHODS:
            caller = signed_in(user)  # a fresh one: /sign-out/ is an address too
            answer = getattr(caller, method)(path, {} if method != "get" else None)
            assert answer.status_code < 500 or answer.json()["error"] == "no_stream_here", (method, path)
            assert not shows(answer, demo_world, path), (method, path)
            if has_id_of_ours and not route.startswith("admin/"):
                # Not there for them, whatever they send. 400: their body was read first.
                assert answer.status_code in (400, 404, 405), (method, path, answer.status_code)


@pytest.fixture
def people_of_other(db: None) -> Any:
    """A lead and operator of an organisation of their own, with an agent of the same name as ours."""
    from django.contrib.auth.models import User

    from kernel import clock
    from kernel.models import Organization

    other = Organization.objects.create(slug="other", name="Other", created_at=clock.now())
    user = User.objects.create_user("stranger", password="stranger-password")
    for role in ("lead", "operator", "admin", "auditor", "judge"):
        Membership.objects.create(organization=other, user=user, role=role)
    Agent.objects.create(organization=other, name="roastrunner", created_at=clock.now())
    return user


def test_our_own_lead_does_see(demo_world: dict[str, Any], signed_in: Any) -> None:
    """The walk could pass because nobody sees anything: our own lead must."""
    from django.contrib.auth.models import User

    lead = signed_in(User.objects.get(username="lead"))
    ids = demo_world["ids"]
    for path in (
        f"/v1/machines/{ids['machine_id']}",
        f"/v1/proposals/{ids['proposal_id']}",
        f"/v1/roasts/{ids['roast_id']}",
        f"/machines/{ids['machine_id']}/",
        "/admin/kernel/auditentry/",
        "/admin/kernel/agent/",
    ):
        answer = lead.get(path)
        assert answer.status_code == 200, (path, answer.status_code)
        assert shows(answer, demo_world, path), path
