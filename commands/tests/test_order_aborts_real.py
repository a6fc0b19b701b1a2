"""An order called off while it steps, end to end: API, loop, keeper, the bytes on a virtual machine's wire.

A box under load may take longer to call off than the machine takes to step: then the order is COMPLETED, says so, and
is given again the other way.
"""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from commands import services
from commands.models import Execution, Proposal
from commands.stop import wire
from commands.tests.real_machine import wait_for
from commands.tests.rows import person_row
from commands.tests.test_loop_real import latest, operator, order, rig, settled, tending  # noqa: F401
from kernel import clock, errors

pytestmark = pytest.mark.django_db(transaction=True)
FAN_UP, FAN_DOWN = "3101aaaa", "3102aaaa"


def steps(real: Any) -> int:
    return len([entry for entry in real.commands() if entry["hex"] in (FAN_UP, FAN_DOWN)])


def given_and_begun(
    real: Any, principal: Any, machine: Any, target: int, *, is_early: bool = False
) -> tuple[Proposal, int]:
    """The order, with its first step on the wire, and how many steps there were before it. ``is_early``: as soon as it
    is claimed."""
    before = steps(real)
    proposal = order(principal, machine, "SET_FAN", target)
    if is_early:
        wait_for(lambda: not Proposal.objects.filter(pk=proposal.pk, status="APPROVED").exists(), what="the claim")
    else:
        wait_for(lambda: steps(real) > before, what="the first step")
    return proposal, before


def test_a_nine_step_move_called_off_in_the_middle(rig) -> None:  # noqa: F811
    real, machine = rig
    anna = operator()
    browser = Client()
    browser.force_login(person_row("bert", "operator"))
    assert browser.get("/v1/proposals").status_code == 200  # everything is loaded
    with tending(machine):
        wait_for(lambda: latest().at)
        for turn, target in enumerate((12, 3, 12, 3, 12, 3)):
            stood = real.status()["fan_step"]
            if stood == target:
                continue
            proposal, before = given_and_begun(real, anna, machine, target, is_early=turn >= 2)
            browser.post(f"/v1/proposals/{proposal.pk}/abort", {"text": "wrong"}, content_type="application/json")
            settled(proposal, 30)
            sent = steps(real) - before
            assert abs(proposal.actual_step - stood) == sent, "every byte on the wire is one step, and it is told"
            assert proposal.actual_step == real.status()["fan_step"]
            if proposal.status == "ABORTED":
                break
            assert proposal.status == "COMPLETED" and sent == abs(target - stood), proposal.outcome_message
            if proposal.abort_requested_at is not None:
                assert "everything had been sent" in proposal.outcome_message
        clock.sleep(0.5)
        assert steps(real) - before == sent, "nothing was sent afterwards"
    assert (proposal.status, proposal.outcome_code) == ("ABORTED", "aborted"), proposal.outcome_message
    assert sent < abs(target - stood), "the rest was never sent"
    assert proposal.abort_requested_by is not None and proposal.abort_requested_by.username == "bert"
    execution = Execution.objects.get(proposal=proposal)
    assert list(execution.stages.order_by("id").values_list("stage", flat=True)) == ["released", "sent", "aborted"]
    assert len(execution.receipt["writes"]) == sent
    last = proposal.transitions.order_by("-id").first()
    assert last is not None
    assert (last.to_status, last.actor_kind) == ("ABORTED", "system"), "after the receipt, by the loop"


@pytest.mark.prove
def test_stop_wins_over_an_order_that_is_being_called_off(rig) -> None:  # noqa: F811
    real, machine = rig
    anna = operator()
    with tending(machine):
        wait_for(lambda: latest().at)
        proposal, _before = given_and_begun(real, anna, machine, 12)
        Proposal.objects.filter(pk=proposal.pk, status="EXECUTING").update(abort_requested_at=clock.now())
        wire.stop_through_keeper(real.config, by="somebody", reason="STOP", stop_id="hlt_both")
        assert real.status()["heater_step"] == 0, "the heat is off, whatever became of the order"
        settled(proposal, 30)
        assert proposal.status in ("ABORTED", "FAILED", "COMPLETED"), proposal.outcome_message
        with pytest.raises(errors.Conflict):
            services.abort_proposal(anna, proposal, now=clock.now())
