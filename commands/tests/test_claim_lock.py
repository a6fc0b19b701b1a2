"""A claim whose picture is older than what forbids the order: nothing is claimed, and the next look decides."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from commands import services, situation
from commands.models import Execution, Halt, Proposal, Suspension
from roasts.models import Machine, MachineReading

pytestmark = pytest.mark.django_db


def halt(machine: Machine, people, now) -> None:
    Halt.objects.create(
        organization=machine.organization, machine=machine, kind="stop", opened_at=now, opened_by_kind="person",
        opened_by_id="usr_1", opened_by_name="anna",
    )  # fmt: skip


def pause(machine: Machine, people, now) -> None:
    MachineReading.objects.filter(pk=machine.pk).update(is_orders_paused=True)


def take(machine: Machine, people, now) -> None:
    user = people.operator
    Suspension.objects.create(organization=machine.organization, machine=machine, taken_by=user, taken_at=now)


def look(order: Proposal, now):
    return situation.gather(order.machine_id, Proposal.objects.get(pk=order.pk), None, now)


def claim(order: Proposal, picture, now):
    return services.claim_execution(order.pk, lease_token=1, situation=picture, now=now)


def status(order: Proposal) -> str:
    order.refresh_from_db()
    return str(order.status)


@pytest.mark.parametrize(("forbid", "code"), [(halt, "halted"), (pause, "orders_paused")])
def test_what_came_after_the_look_is_not_passed_by(forbid: Callable, code: str, people, propose, machine, now) -> None:
    order = propose(people.principal("operator"), "SET_FAN", 5)
    picture = look(order, now)
    forbid(machine, people, now)  # by somebody who did not see this order: it was committed a moment later
    with pytest.raises(services.OutOfDate):
        claim(order, picture, now)
    assert status(order) == "APPROVED" and not Execution.objects.exists()
    assert claim(order, look(order, now), now) is None
    assert (status(order), order.rejection_code) == ("REJECTED", code)


def test_i_have_it_is_not_passed_by_an_agents_order(people, held, machine, now) -> None:
    services.approve_proposal(people.principal("operator"), held, digest=held.digest, now=now)
    picture = look(held, now)
    take(machine, people, now)
    with pytest.raises(services.OutOfDate):
        claim(held, picture, now)
    assert claim(held, look(held, now), now) is None
    assert status(held) == "REJECTED"


def test_i_have_it_does_not_keep_a_persons_order_away(people, propose, machine, now) -> None:
    order = propose(people.principal("operator"), "SET_FAN", 5)
    picture = look(order, now)
    take(machine, people, now)
    assert claim(order, picture, now) is not None


@pytest.mark.parametrize("forbid", [halt, pause])
def test_a_persons_less_heat_goes_at_the_second_look(forbid: Callable, people, propose, machine, now) -> None:
    order = propose(people.principal("operator"), "SET_POWER", 4)
    picture = look(order, now)
    forbid(machine, people, now)
    with pytest.raises(services.OutOfDate):
        claim(order, picture, now)
    assert claim(order, look(order, now), now) is not None
