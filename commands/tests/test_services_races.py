"""Many at once on one order: one effect, the others told why. Threads and real transactions."""

from __future__ import annotations

import collections
import threading

import pytest
from django.db import OperationalError, connection, connections

from commands import services, situation
from commands.models import Execution, Proposal, ProposalTransition
from kernel import errors

pytestmark = pytest.mark.django_db(transaction=True)
THREADS = 40 if connection.vendor == "postgresql" else 8
ROUNDS = 5


def at_once(acts):
    """Run each act in its own thread, ROUNDS at a time per thread; how each ended."""
    gate, ends = threading.Barrier(THREADS), collections.Counter()
    lock = threading.Lock()

    def work(number):
        gate.wait(timeout=30)
        for turn in range(ROUNDS):
            try:
                end = acts[(number * ROUNDS + turn) % len(acts)]()
            except errors.ApiError as error:
                end = error.code
            except OperationalError as error:  # SQLite may be too busy; nothing happened then
                end = f"busy: {error}"
            with lock:
                ends[end] += 1
        connections.close_all()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=90)
    assert sum(ends.values()) == THREADS * ROUNDS
    return ends


def test_200_decisions_on_one_order_have_one_effect(held, people, machine, now):
    operator, second = people.principal("operator"), people.principal("second_operator")

    def approve():
        return services.approve_proposal(operator, held, digest=held.digest, now=now).status

    def reject():
        return services.reject_proposal(second, held, code="WRONG_TIMING", text="", now=now).status

    ends = at_once([approve, reject])
    assert ends["APPROVED"] + ends["REJECTED"] == 1
    assert set(ends) - {"APPROVED", "REJECTED", "not_awaiting_approval"} == {e for e in ends if e.startswith("busy")}
    assert ProposalTransition.objects.filter(proposal=held, from_status="PENDING_APPROVAL").count() == 1


def test_stop_among_decisions_leaves_one_end(held, people, machine, now):
    operator = people.principal("operator")

    def approve():
        return services.approve_proposal(operator, held, digest=held.digest, now=now).status

    def stop():
        return services.open_halt(machine, kind="stop", by=operator, now=now).kind

    at_once([approve, stop])
    held.refresh_from_db()
    path = list(ProposalTransition.objects.filter(proposal=held).order_by("id").values_list("to_status", flat=True))
    assert held.status == "ABORTED", path
    assert path in (
        ["PROPOSED", "PENDING_APPROVAL", "ABORTED"],
        ["PROPOSED", "PENDING_APPROVAL", "APPROVED", "ABORTED"],
    )
    assert machine.halts.count() == 1


def test_many_claims_make_one_execution(people, propose, now):
    order = propose(people.principal("operator"))
    gathered = situation.gather(order.machine_id, Proposal.objects.get(pk=order.pk), None, now)

    def claim():
        got = services.claim_execution(order.pk, lease_token=1, situation=gathered, now=now)
        return "claimed" if got else "not ours"

    ends = at_once([claim])
    assert ends["claimed"] == 1
    assert Execution.objects.count() == 1


def test_many_agent_orders_on_one_control_hold_one(granted, agent_principal, propose):
    ends = at_once([lambda: propose(agent_principal).status])
    assert ends["PENDING_APPROVAL"] == 1
    assert set(ends) <= {"PENDING_APPROVAL", "REJECTED"} | {end for end in ends if end.startswith("busy")}


def test_many_adoptions_make_one_order(agent_principal, propose, people, now):
    advice = propose(agent_principal)
    ends = at_once([lambda: services.adopt_proposal(people.principal("operator"), advice, now=now).status])
    assert Proposal.objects.filter(adopted_from=advice).exclude(status="REJECTED").count() == 1
    assert ends["APPROVED"] == 1
