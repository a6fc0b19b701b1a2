"""Held orders in the Django admin: the same services, the same refusals; nothing is edited there."""

from __future__ import annotations

import pytest
from django.urls import reverse

from kernel.models import Membership

pytestmark = pytest.mark.django_db
URL = "/admin/commands/proposal/"
MODELS = ["proposal", "execution", "halt", "grant", "alarm", "suspension"]


@pytest.fixture
def staff(client, people):
    """`staff("operator")`: that person, signed in, as staff."""

    def sign_in(name):
        user = getattr(people, name)
        user.is_staff = True
        user.save()
        client.force_login(user, backend="kernel.sign_in.ThrottledBackend")
        return client

    return sign_in


def act(client, action, *proposals):
    return client.post(URL, {"action": action, "_selected_action": [row.pk for row in proposals]}, follow=True)


def test_the_list_shows_held_orders(staff, held):
    page = staff("operator").get(URL)
    assert held.pk in page.content.decode()
    assert "Approve the digests shown" in page.content.decode()


def test_operator_approves(staff, held, people):
    act(staff("operator"), "approve", held)
    held.refresh_from_db()
    assert (held.status, held.approver) == ("APPROVED", people.operator)


def test_operator_rejects_with_a_reason(staff, held):
    act(staff("operator"), "reject_wrong_timing", held)
    held.refresh_from_db()
    assert (held.status, held.rejection_code) == ("REJECTED", "WRONG_TIMING")


def test_the_owner_is_told_why_not(staff, held):
    page = act(staff("lead"), "approve", held)
    held.refresh_from_db()
    assert held.status == "PENDING_APPROVAL"
    assert "owner of the proposing agent" in page.content.decode()


@pytest.mark.parametrize("who", ["judge", "viewer"])
def test_without_the_role_there_is_no_action(who, staff, held):
    page = act(staff(who), "approve", held)
    held.refresh_from_db()
    assert held.status == "PENDING_APPROVAL"
    assert "Approve the digests" not in page.content.decode()


def test_a_judge_who_is_an_operator_too_may(staff, held, people):
    Membership.objects.create(organization=held.organization, user=people.judge, role="operator")
    act(staff("judge"), "approve", held)
    held.refresh_from_db()
    assert held.status == "APPROVED"


def test_stranger_sees_nothing(staff, held):
    assert held.pk not in staff("stranger").get(URL).content.decode()
    act(staff("stranger"), "approve", held)
    held.refresh_from_db()
    assert held.status == "PENDING_APPROVAL"


def test_who_is_not_staff_is_sent_to_sign_in(client, held, people):
    client.force_login(people.operator, backend="kernel.sign_in.ThrottledBackend")
    assert client.get(URL).status_code == 302


def test_superuser_without_membership_sees_nothing(client, held, django_user_model):
    root = django_user_model.objects.create_superuser("root", password="root-password-1")
    client.force_login(root, backend="kernel.sign_in.ThrottledBackend")
    assert client.get(URL).status_code == 403


@pytest.mark.parametrize("model", MODELS)
def test_nothing_is_added_changed_or_deleted(model, staff, held, granted):
    browser = staff("lead")
    assert browser.get(reverse(f"admin:commands_{model}_changelist")).status_code == 200
    assert browser.get(reverse(f"admin:commands_{model}_add")).status_code == 403
    row = {"proposal": held, "grant": granted}.get(model)
    if row is not None:
        assert browser.get(reverse(f"admin:commands_{model}_change", args=[row.pk])).status_code == 200
        assert (
            browser.post(reverse(f"admin:commands_{model}_change", args=[row.pk]), {"status": "APPROVED"}).status_code
            == 403
        )
        assert (
            browser.post(reverse(f"admin:commands_{model}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403
        )


def test_every_status_can_be_looked_at(staff, held):
    browser = staff("operator")
    for status in ("all", "PENDING_APPROVAL", "REJECTED", "COMPLETED"):
        assert browser.get(URL, {"status": status}).status_code == 200
