"""Who may STOP, from the snapshot alone: keys, tokens, sessions; strangers, viewers, agents, neighbours."""

from __future__ import annotations

import datetime as dt

import pytest
from django.contrib.sessions.backends.db import SessionStore
from django.db import connection
from django.test.utils import CaptureQueriesContext

from commands.stop.authority import Credentials, Refused, Snapshot, authorize, load_snapshot
from commands.tests.rows import machine_row, organization_row, person_row
from drivers import stop_token
from kernel import clock, keys
from kernel.models import Agent, ApiKey, Membership

KEY = b"k" * 32
pytestmark = pytest.mark.django_db


def allowed(given: Credentials, machine, *, snapshot: Snapshot | None = None, now: dt.datetime | None = None):
    """The principal, decided without one query."""
    now = now or clock.now()
    snapshot = snapshot or load_snapshot(Snapshot(), now)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        principal = authorize(
            given, machine.pk, snapshot.machines.get(machine.pk), snapshot=snapshot, stop_key=KEY, now=now
        )
    assert len(queries) == 0
    return principal


def refused(given: Credentials, machine, **more) -> Refused:
    with pytest.raises(Refused) as caught:
        allowed(given, machine, **more)
    return caught.value


def key_of(user=None, agent=None, scopes=("stop",), slug="demo", **more) -> str:
    return keys.create_key(organization_row(slug), scopes=scopes, user=user, agent=agent, now=clock.now(), **more)[1]


def session_of(user, **content) -> str:
    session = SessionStore()
    session.update({"_auth_user_id": str(user.pk), "_auth_user_hash": user.get_session_auth_hash(), **content})
    session.save()
    return session.session_key


@pytest.mark.parametrize("role", ["operator", "lead", "admin"])
def test_whoever_may_operate_stops_by_key(role: str) -> None:
    machine, user = machine_row(), person_row("anna", role)
    principal = allowed(Credentials(bearer=key_of(user)), machine)
    assert (principal.kind, principal.name, principal.id) == ("person", "anna", f"usr_{user.pk}")


@pytest.mark.parametrize("role", ["viewer", "judge", "auditor"])
def test_others_may_not(role: str) -> None:
    machine, user = machine_row(), person_row("vera", role)
    refusal = refused(Credentials(bearer=key_of(user)), machine)
    assert (refusal.status, refusal.code) == (403, "not_allowed")


def test_a_key_without_the_scope_may_not() -> None:
    machine, user = machine_row(), person_row("anna", "operator")
    assert refused(Credentials(bearer=key_of(user, scopes=("read",))), machine).status == 403


def test_an_agent_may_not_whatever_its_scopes() -> None:
    machine = machine_row()
    agent = Agent.objects.create(organization=organization_row(), name="runner", created_at=clock.now())
    plain = key_of(agent=agent, scopes=("read",))
    ApiKey.objects.filter(agent=agent).update(scopes=["stop", "admin"])  # a key from before agents' scopes were bounded
    refusal = refused(Credentials(bearer=plain), machine)
    assert refusal.status == 403


def test_a_neighbour_finds_no_such_machine() -> None:
    machine, user = machine_row(), person_row("nils", "operator", slug="other")
    refusal = refused(Credentials(bearer=key_of(user, slug="other")), machine)
    assert (refusal.status, refusal.code) == (404, "machine_not_found")


@pytest.mark.parametrize("bearer", ["", "nonsense", "ro_x_y", "ro_" + "a" * 300, "ro_ä_ö", "a_b_c_d"])
def test_nonsense_is_nobody(bearer: str) -> None:
    assert refused(Credentials(bearer=bearer), machine_row()).status == 401


def test_a_revoked_an_expired_and_a_disabled_persons_key_open_nothing() -> None:
    machine, user, gone = machine_row(), person_row("anna", "operator"), person_row("gone", "operator")
    now = clock.now()
    revoked, plain = keys.create_key(organization_row(), scopes=["stop"], user=user, now=now)
    revoked.revoked_at = now
    revoked.save()
    ending = key_of(user, expires_at=now + dt.timedelta(seconds=5))
    orphan = key_of(gone)
    gone.is_active = False
    gone.save()
    snapshot = load_snapshot(Snapshot(), now)
    assert refused(Credentials(bearer=plain), machine, snapshot=snapshot).status == 401
    assert refused(Credentials(bearer=orphan), machine, snapshot=snapshot).status == 401
    later = now + dt.timedelta(seconds=5)
    assert refused(Credentials(bearer=ending), machine, snapshot=snapshot, now=later).code == "key_expired"


def test_a_session_needs_its_csrf_token() -> None:
    machine, user = machine_row(), person_row("anna", "operator")
    session = session_of(user)
    assert allowed(Credentials(session_key=session, is_csrf_good=True), machine).via == "session"
    refusal = refused(Credentials(session_key=session, is_csrf_good=False), machine)
    assert (refusal.status, refusal.code) == (403, "csrf_failed")


def test_a_session_from_before_a_password_change_is_nobodys() -> None:
    machine, user = machine_row(), person_row("anna", "operator")
    session = session_of(user)
    user.set_password("another one entirely")
    user.save()
    assert refused(Credentials(session_key=session, is_csrf_good=True), machine).status == 401


def test_a_session_in_another_organisation_sees_no_machine() -> None:
    machine, user = machine_row(), person_row("anna", "operator")
    other = organization_row("other")
    Membership.objects.create(organization=other, user=user, role="operator")
    session = session_of(user, organization_id=other.pk)
    assert refused(Credentials(session_key=session, is_csrf_good=True), machine).status == 404


def test_a_stop_token_works_for_its_machine_and_person_until_it_expires() -> None:
    machine, second = machine_row(), machine_row("Second")
    user = person_row("anna", "operator")
    now = clock.now()
    token = stop_token.sign(KEY, machine.pk, f"usr_{user.pk}", int(now.timestamp()) + 60)
    assert allowed(Credentials(stop_token=token), machine, now=now).name == "anna"
    assert refused(Credentials(stop_token=token), second, now=now).status == 401
    assert refused(Credentials(stop_token=token), machine, now=now + dt.timedelta(seconds=61)).status == 401
    forged = token[:-1] + ("1" if token.endswith("0") else "0")
    assert refused(Credentials(stop_token=forged), machine, now=now).status == 401


def test_a_stop_token_stops_even_before_the_first_snapshot() -> None:
    now = clock.now()
    token = stop_token.sign(KEY, "mch_x", "usr_1", int(now.timestamp()) + 60)
    principal = authorize(Credentials(stop_token=token), "mch_x", "org_x", snapshot=Snapshot(), stop_key=KEY, now=now)
    assert principal.may("stop")


def test_a_stop_token_of_somebody_demoted_to_viewer_stops_no_more() -> None:
    machine, user = machine_row(), person_row("anna", "viewer")
    now = clock.now()
    token = stop_token.sign(KEY, machine.pk, f"usr_{user.pk}", int(now.timestamp()) + 60)
    assert refused(Credentials(stop_token=token), machine, now=now).status == 403


def test_session_texts_are_decoded_once() -> None:
    machine_row()
    session_of(person_row("anna", "operator"))
    first = load_snapshot(Snapshot(), clock.now())
    second = load_snapshot(first, clock.now())
    (key,) = first.sessions
    assert second.sessions[key] is first.sessions[key]
