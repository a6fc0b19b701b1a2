"""`manage.py grant`, and the sweeper's task."""

from __future__ import annotations

import pytest
from django.core.management import CommandError, call_command

from commands import tasks
from commands.models import Grant, Proposal

pytestmark = pytest.mark.django_db


def grant(machine, by="lead", agent="roastrunner", level="L3", **more):
    call_command("grant", agent=agent, machine=machine, level=level, by=by, **more)


def test_a_lead_grants_by_name_and_by_id(people, agent, machine):
    grant(machine.pk)
    grant(machine.name, level="L2")
    assert list(Grant.objects.filter(revoked_at__isnull=True).values_list("level", flat=True)) == ["L2"]
    assert Grant.objects.count() == 2


@pytest.mark.parametrize("by", ["operator", "judge", "stranger", "nobody"])
def test_nobody_else_grants(by, people, agent, machine):
    with pytest.raises(CommandError):
        grant(machine.pk, by=by)
    assert Grant.objects.count() == 0


@pytest.mark.parametrize("change", [{"agent": "roastruner"}, {"order_types": "SET_HEAT"}, {"expires_in_days": 0}])
def test_what_is_not_known_is_said(change, people, agent, machine):
    with pytest.raises(CommandError):
        grant(machine.pk, **change)


def test_unknown_machine_is_said(people, agent, machine):
    with pytest.raises(CommandError, match="no machine"):
        grant("Bulet")


def test_the_sweeper_leaves_what_is_not_due(held):
    assert tasks.sweep() == 0
    assert Proposal.objects.get(pk=held.pk).status == "PENDING_APPROVAL"
