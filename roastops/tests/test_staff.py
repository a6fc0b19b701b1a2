"""Somebody joins an organisation: by one command, with roles, in the trail."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client

from kernel.models import AuditEntry, Membership, Organization, Role, Site

pytestmark = pytest.mark.django_db


def add(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    call_command("addperson", *arguments)
    return capsys.readouterr().out.strip()


def test_a_new_house_with_its_lead_who_signs_in_and_may_add_a_machine(capsys: Any) -> None:
    password = add(capsys, "--org", "north", "--new-org", "North roastery", "--user", "ada", "--roles", "lead")
    house = Organization.objects.get(slug="north")
    assert Site.objects.get(organization=house).name == "North roastery"
    assert authenticate(username="ada", password=password) is not None
    browser = Client()
    assert browser.login(username="ada", password=password)
    assert browser.get("/").status_code == 200
    assert browser.get("/admin/roasts/machine/add/").status_code == 200
    verbs = set(AuditEntry.objects.filter(organization=house).values_list("verb", flat=True))
    assert verbs >= {"organization_created", "membership_added"}


def test_a_member_gets_a_further_role_and_keeps_the_password(capsys: Any, people: Any, organization: Any) -> None:
    before = people.operator.password
    assert add(capsys, "--org", organization.slug, "--user", people.operator.username, "--roles", "judge,lead") == ""
    user = User.objects.get(pk=people.operator.pk)
    assert user.password == before
    roles = set(Membership.objects.filter(user=user, organization=organization).values_list("role", flat=True))
    assert roles >= {Role.OPERATOR.value, Role.JUDGE.value, Role.LEAD.value}


def test_twice_is_once(capsys: Any, organization: Any) -> None:
    assert add(capsys, "--org", organization.slug, "--user", "ben", "--roles", "viewer")
    assert add(capsys, "--org", organization.slug, "--user", "ben", "--roles", "viewer") == ""
    assert AuditEntry.objects.filter(verb="membership_added").count() == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--org", "nowhere", "--user", "x", "--roles", "lead"], "no organisation 'nowhere'"),
        (["--org", "HOUSE", "--user", "x", "--roles", "leed"], "Did you mean `lead`"),
        (["--org", "HOUSE", "--user", "x", "--roles", " , "], "names none"),
        (["--org", "HOUSE", "--user", "a b", "--roles", "lead"], "valid username"),
        (["--org", "HOUSE", "--user", "x" * 151, "--roles", "lead"], "At most 150"),
        (["--org", "HOUSE", "--new-org", "Again", "--user", "x", "--roles", "lead"], "already"),
        (["--org", "a/b", "--new-org", "New", "--user", "x", "--roles", "lead"], "slug"),
    ],
)
def test_what_makes_no_sense_is_said_and_nothing_is_made(organization: Any, arguments: list[str], words: str) -> None:
    given = [organization.slug if word == "HOUSE" else word for word in arguments]
    with pytest.raises(CommandError, match=words):
        call_command("addperson", *given)
    assert not User.objects.filter(username="x").exists()


def test_somebody_elses_account_is_not_taken(organization: Any) -> None:
    User.objects.create_user("stranger", password="theirs")
    with pytest.raises(CommandError, match="not a member"):
        call_command("addperson", "--org", organization.slug, "--user", "stranger", "--roles", "lead")
    assert not Membership.objects.filter(user__username="stranger").exists()
