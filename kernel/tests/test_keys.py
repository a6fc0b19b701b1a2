"""API keys and the command that makes them."""

import datetime as dt
import io

import pytest
from django.core.management import CommandError, call_command

from kernel import clock, keys
from kernel.models import Agent, ApiKey, AuditEntry
from kernel.principals import SCOPES


@pytest.fixture
def key_of_operator(organization, people):
    return keys.create_key(organization, user=people.operator, scopes=["read"], now=clock.now())


def test_plain_text_is_not_stored(key_of_operator):
    key, plain = key_of_operator
    assert plain.startswith(f"ro_{key.prefix}_")
    assert plain.split("_")[2] not in str(ApiKey.objects.filter(pk=key.pk).values())


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"revoked_at": dt.datetime(2020, 1, 1, tzinfo=dt.UTC)}, "key_revoked"),
        ({"expires_at": dt.datetime(2020, 1, 1, tzinfo=dt.UTC)}, "key_expired"),
        ({"digest": "0" * 64}, "key_unknown"),
    ],
)
def test_dead_key_says_why(api, key_of_operator, change, code):
    key, plain = key_of_operator
    ApiKey.objects.filter(pk=key.pk).update(**change)
    answer = api.get("/v1/me", HTTP_AUTHORIZATION=f"Bearer {plain}")
    assert (answer.status_code, answer.json()["error"]) == (401, code)


def test_key_of_disabled_person_is_dead(api, people, key_of_operator):
    people.operator.is_active = False
    people.operator.save()
    answer = api.get("/v1/me", HTTP_AUTHORIZATION=f"Bearer {key_of_operator[1]}")
    assert answer.json()["error"] == "key_disabled"


def test_key_of_former_member_is_dead(api, people, key_of_operator):
    people.operator.memberships.all().delete()
    answer = api.get("/v1/me", HTTP_AUTHORIZATION=f"Bearer {key_of_operator[1]}")
    assert (answer.status_code, answer.json()["error"]) == (401, "key_disabled")


@pytest.mark.parametrize("nonsense", ["x", "ro__", "ro_a_b_c", "ro_\x00_b", "ro_ä_b", "ro_a_" + "b" * 500, ""])
def test_nonsense_for_a_key_is_401(db, api, nonsense):
    answer = api.get("/v1/me", HTTP_AUTHORIZATION=f"Bearer {nonsense}")
    assert answer.status_code == 401


def test_dead_key_beside_a_live_session_is_refused(people, signed_in):
    """Who names a key means the key."""
    answer = signed_in(people.operator).get("/v1/me", HTTP_AUTHORIZATION="Bearer ro_a_b")
    assert answer.status_code == 401


def test_use_is_noted_at_most_once_a_minute(key_of_operator):
    key, _plain = key_of_operator
    now = clock.now()
    keys.note_use(key, now=now)
    key.refresh_from_db()
    keys.note_use(key, now=now + dt.timedelta(seconds=59))
    assert ApiKey.objects.get().last_used_at == now
    keys.note_use(key, now=now + dt.timedelta(seconds=60))
    assert ApiKey.objects.get().last_used_at == now + dt.timedelta(seconds=60)


def run(*arguments):
    words = io.StringIO()
    call_command("createkey", *arguments, stdout=words)
    return words.getvalue()


def test_createkey_prints_the_key_alone_and_makes_the_agent(organization, api):
    printed = run("--org", "demo", "--agent", "newcomer", "--scopes", "read,propose")
    assert printed.count("\n") == 1
    answer = api.get("/v1/me", HTTP_AUTHORIZATION=f"Bearer {printed.strip()}").json()
    assert (answer["kind"], answer["name"], answer["scopes"]) == ("agent", "newcomer", ["propose", "read"])
    assert Agent.objects.get().grants.count() == 0
    assert AuditEntry.objects.get().verb == "api_key_created"
    assert printed.strip() not in AuditEntry.objects.get().payload


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--org", "dem", "--agent", "a"), "demo"),
        (("--org", "demo", "--user", "operater"), "operator"),
        (("--org", "demo", "--user", "stranger"), "not a member"),
        (("--org", "demo", "--agent", "a", "--scopes", "aprove"), "approve"),
        (("--org", "demo", "--agent", "x" * 101), "at most 100"),
        (("--org", "demo", "--agent", "a", "--scopes", "read,approve"), "'approve' is for people.*read, propose, tele"),
    ],
)
def test_createkey_names_the_nearest(people, arguments, named):
    with pytest.raises(CommandError, match=named):
        run(*arguments)
    assert not ApiKey.objects.exists()
    assert not Agent.objects.exists(), "what is refused leaves no agent behind"


MACHINE = "mch_" + "0" * 26


@pytest.mark.parametrize("scope", sorted({*SCOPES, f"telemetry:{MACHINE}"}))
def test_an_agents_key_has_a_scope_just_when_the_agent_could_use_it(organization, scope):
    agent = Agent.objects.create(organization=organization, name="runner", created_at=clock.now())
    is_of_use = scope in ("read", "propose", "telemetry", f"telemetry:{MACHINE}")
    if is_of_use:
        assert keys.create_key(organization, agent=agent, scopes=[scope], now=clock.now())[0].scopes == [scope]
        return
    with pytest.raises(keys.ScopeOfPeople, match="read, propose, telemetry and telemetry:<id>"):
        keys.create_key(organization, agent=agent, scopes=["read", scope], now=clock.now())
    assert not ApiKey.objects.exists()
