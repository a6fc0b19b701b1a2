"""Fixtures of every room's tests: an organisation, its people, a stranger, clients by session and by key."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from rest_framework.test import APIClient

from kernel import clock, draining, keys, live, principals
from kernel.models import Agent, Membership, Organization, Role, Site
from roastops import catalogs
from roastops.testing import servers

catalogs.compile_all()  # before Django reads a catalog for the first time


#: What a test asks for that meets the database.
_DATABASE_FIXTURES = frozenset({"db", "transactional_db", "live_server", "django_db_setup"})


def pytest_addoption(parser: Any) -> None:
    parser.addoption("--meeting-database", action="store_true", help="only tests that meet the database")


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    """On the second database the pure tests would be the first run once more."""
    if not config.getoption("--meeting-database"):
        return
    chosen, pure = [], []
    for item in items:
        meets_it = item.get_closest_marker("django_db") or _DATABASE_FIXTURES & set(item.fixturenames)
        (chosen if meets_it else pure).append(item)
    config.hook.pytest_deselected(items=pure)
    items[:] = chosen


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Beside the slowest tests, the slowest files: fixtures of a whole file are its cost too."""
    spent_s: dict[str, float] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            path = getattr(report, "nodeid", "").partition("::")[0]
            spent_s[path] = spent_s.get(path, 0.0) + getattr(report, "duration", 0.0)
    slow = sorted(spent_s.items(), key=lambda item: -item[1])[:15]
    if slow and slow[0][1] > 10:
        terminalreporter.section("slowest files")
        for path, seconds in slow:
            terminalreporter.write_line(f"{seconds:7.1f} s  {path}")


@dataclasses.dataclass(frozen=True)
class People:
    """Who works here, and one who does not."""

    operator: User
    second_operator: User
    lead: User
    judge: User
    viewer: User
    stranger: User  # a lead of the other organisation
    stranger_organization: Organization

    def principal(self, name: str) -> principals.Principal:
        """The Principal of one of them, as by session: `people.principal("operator")`."""
        return principals.for_user(getattr(self, name))


def _person(username: str, organization: Organization, *roles: Role) -> User:
    user = User.objects.create_user(username, password=f"{username}-password")
    for role in roles:
        Membership.objects.create(organization=organization, user=user, role=role.value)
    return user


@pytest.fixture(autouse=True)
def _fresh_process_state() -> Iterator[None]:
    """No reading, drain flag or sign-in count of another test."""
    from django.core.cache import cache

    yield
    draining.reset()
    live.forget_readings()
    cache.clear()


@pytest.fixture
def organization(db: None) -> Organization:
    return Organization.objects.create(slug="demo", name="Demo", created_at=clock.now())


@pytest.fixture
def site(organization: Organization) -> Site:
    return Site.objects.create(organization=organization, name="Roastery")


@pytest.fixture
def people(organization: Organization) -> People:
    other = Organization.objects.create(slug="other", name="Other", created_at=clock.now())
    return People(
        operator=_person("operator", organization, Role.OPERATOR),
        second_operator=_person("second", organization, Role.OPERATOR),
        lead=_person("lead", organization, Role.LEAD),
        judge=_person("judge", organization, Role.JUDGE),
        viewer=_person("viewer", organization, Role.VIEWER),
        stranger=_person("stranger", other, Role.LEAD, Role.OPERATOR),
        stranger_organization=other,
    )


@pytest.fixture
def agent(organization: Organization, people: People) -> Agent:
    """An agent owned by the lead."""
    return Agent.objects.create(
        organization=organization, name="roastrunner", owner=people.lead, created_at=clock.now()
    )


@pytest.fixture
def agent_principal(agent: Agent) -> principals.Principal:
    """The agent as by a key with the scopes read and propose."""
    key, _plain = keys.create_key(agent.organization, agent=agent, scopes=["read", "propose"], now=clock.now())
    return principals.for_key(key)


@pytest.fixture
def api() -> APIClient:
    """A JSON client that is nobody."""
    return APIClient()


@pytest.fixture
def signed_in() -> Callable[[User], APIClient]:
    """`signed_in(people.operator)`: a client with that person's session (CSRF not enforced)."""

    def client(user: User) -> APIClient:
        browser = APIClient()
        browser.force_login(user, backend="kernel.sign_in.ThrottledBackend")
        return browser

    return client


@pytest.fixture
def api_by_key(organization: Organization) -> Callable[..., APIClient]:
    """`api_by_key(user=…, scopes=[…])` or `(agent=…)`: a client with a fresh key of theirs."""

    def client(*, scopes: list[str], user: User | None = None, agent: Agent | None = None, **extra: Any) -> APIClient:
        holder = extra.pop("organization", organization)
        _key, plain = keys.create_key(holder, user=user, agent=agent, scopes=scopes, now=clock.now(), **extra)
        caller = APIClient()
        caller.credentials(HTTP_AUTHORIZATION=f"Bearer {plain}")
        return caller

    return client


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Any]:
    """A private PostgreSQL for tests with real processes: `.url`, `.freeze()`, `.thaw()`."""
    yield from _server_or_skip(servers.start_brief_postgres)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Any]:
    """A private Redis: `.url`, `.freeze()`, `.thaw()`."""
    yield from _server_or_skip(servers.start_redis)


def _server_or_skip(start: Callable[[], servers.Server]) -> Iterator[servers.Server]:
    try:
        server = start()
    except servers.Missing as reason:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(f"cannot run here: {reason}")
        pytest.skip(f"NOT RUN: {reason}")
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of an installed Chromium."""
    try:
        return servers.require_program("chromium")
    except servers.Missing as reason:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(f"cannot run here: {reason}")
        pytest.skip(f"NOT RUN: {reason}")


@pytest.fixture
def demo_world(db: None, tmp_path: Path, settings: Any) -> dict[str, Any]:
    """The demo organisation with an order, an alarm, a halt and a grant of its own: what a stranger must not see.

    Keys: what `manage.py demo --json` prints, and `ids`: the value of every parameter of every address.
    """
    from commands import services
    from commands.history import services_alerts
    from commands.history.alerts import Found, Kind, Severity
    from commands.models import Grant
    from commands.plans import services_plans
    from commands.records import halts
    from commands.rules.conversion import OrderType
    from roastops import demo
    from roasts.models import Machine, Profile, Roast, RoastEvent

    settings.DATA_DIR, settings.RUN_DIR = tmp_path, tmp_path / "run"
    now = clock.now()
    world = demo.ensure(now=now)
    machine = Machine.objects.get(pk=world["machine_id"])
    person = principals.for_user(User.objects.get(username="operator"))
    proposal = services.propose_order(
        person,
        machine=machine,
        order_type="SET_POWER",
        target_value=3,
        target_unit="step",
        reasoning="demo-secret-reasoning",
        now=now,
    )
    planned = [services_plans.PlannedOrder(OrderType.SET_FAN, 5, "step")]
    plan = services_plans.propose_plan(
        person, machine=machine, title="demo-secret-title", reasoning="demo-secret-plan", orders=planned, now=now
    )
    with transaction.atomic():
        alarm = halts.raise_alarm(
            machine, code="test", cause="demo-secret-cause", consequence="c", action="a", now=now
        )
    found = Found(Kind.HIGH_LATENCY, Severity.LOW, "demo-secret-subject", "demo-secret-alert", "", now, machine.pk)
    alert = services_alerts.raise_found(machine.organization, found, now=now)
    roast = Roast.objects.filter(machine=machine).order_by("id").first()
    event = RoastEvent.objects.filter(roast=roast).order_by("id").first()
    profile = Profile.objects.create(organization=machine.organization, name="demo-secret-profile", created_at=now)
    world["ids"] = {
        "profile_id": profile.pk,
        "machine_id": machine.pk,
        "proposal_id": proposal.pk,
        "plan_id": plan.pk,
        "alarm_id": alarm.pk,
        "alert_id": alert.pk if alert else "alt_none",
        "grant_id": Grant.objects.get(machine=machine).pk,
        "roast_id": roast.pk if roast else "rst_none",
        "event_id": event.pk if event else "evt_none",
        "panel": "queue",
    }
    return world
