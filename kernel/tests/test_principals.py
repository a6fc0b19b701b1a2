"""Who may do what."""

import pytest

from kernel import principals
from kernel.models import Agent, Membership, Organization
from kernel.principals import CAPABILITIES, Principal

HOUSE = Organization(id="org_1", slug="demo", name="Demo")


def person(*roles, via="session", scopes=()):
    return Principal("person", "usr_1", "ann", HOUSE, roles=frozenset(roles), scopes=frozenset(scopes), via=via)


def able(principal):
    return {capability for capability in CAPABILITIES if principal.may(capability)}


@pytest.mark.parametrize(
    ("role", "capabilities"),
    [
        ("viewer", {"view"}),
        ("operator", {"view", "propose", "approve", "stop", "operate", "telemetry"}),
        ("lead", {"view", "propose", "approve", "stop", "operate", "lead", "audit", "telemetry"}),
        ("admin", {"view", "propose", "approve", "stop", "operate", "lead", "audit", "telemetry", "admin"}),
        ("judge", {"view", "judge"}),
        ("auditor", {"view", "audit"}),
    ],
)
def test_role_gives_exactly_its_capabilities(role, capabilities):
    assert able(person(role)) == capabilities


def test_key_without_scopes_reads_only():
    assert able(person("lead", via="key")) == {"view"}


def test_key_scope_without_the_role_gives_nothing():
    assert able(person("viewer", via="key", scopes=["lead", "admin", "operate"])) == {"view"}


def test_stop_scope_opens_stop_alone():
    assert able(person("operator", via="key", scopes=["stop"])) == {"view", "stop"}


@pytest.mark.parametrize("scope", sorted(principals.SCOPES))
def test_agent_never_does_more_than_propose_and_send_telemetry(scope):
    agent = Principal(
        "agent",
        "agt_1",
        "runner",
        HOUSE,
        agent=Agent(),
        scopes=frozenset([scope]),
        roles=frozenset(["lead"]),
        via="key",
    )
    assert able(agent) <= {"view", "propose"} | ({"telemetry"} if scope == "telemetry" else set())


@pytest.mark.parametrize("kind", ["person", "agent"])
def test_a_bound_scope_sends_for_its_own_machine_alone(kind):
    bound = Principal(
        kind, "one", "bridge", HOUSE, roles=frozenset(["operator"]), scopes=frozenset(["telemetry:mch_a"]), via="key"
    )
    assert bound.may_for("telemetry", "mch_a") and not bound.may_for("telemetry", "mch_b")
    assert not bound.may("telemetry") and not bound.may_for("propose", "mch_a")


def test_a_bound_scope_without_the_role_sends_nothing():
    viewer = person("viewer", via="key", scopes=["telemetry:mch_a"])
    assert not viewer.may_for("telemetry", "mch_a")


def test_person_without_organisation_may_nothing():
    assert able(Principal("person", "usr_1", "ann", None, roles=frozenset(["admin"]))) == set()


def test_unknown_capability_is_a_bug():
    with pytest.raises(KeyError):
        person("lead").may("fly")


def test_superuser_is_not_special(organization, django_user_model):
    root = django_user_model.objects.create_superuser("root", password="x")
    assert principals.for_user(root).organization is None
    Membership.objects.create(organization=organization, user=root, role="viewer")
    assert able(principals.for_user(root)) == {"view"}
