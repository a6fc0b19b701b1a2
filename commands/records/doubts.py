"""An order in doubt, settled by a person who looked: with evidence, and never against a fresh reading."""

from __future__ import annotations

import datetime as dt

from django.db import transaction

from commands import situation
from commands.lifecycle import Status
from commands.loop.orders_out import REACHED
from commands.models import Attendance, Execution, Proposal
from commands.reasons import Code
from commands.records.executions import record_stage
from commands.records.moves import LostRace, mine, move, settled_by
from commands.rules.values import ReadingLook
from drivers.port import MachineState, longest_age_s
from kernel.errors import Conflict, Forbidden, Malformed, Unprocessable
from kernel.principals import Principal

#: No byte of an order leaves later than this after its claim (``commands.loop.reconcile``): before, nobody can say.
SETTLED_AFTER_S = 9.5


def resolve_doubt(
    principal: Principal,
    proposal: Proposal,
    *,
    reads_step: int | None,
    reads_state: str | None,
    evidence: str,
    now: dt.datetime,
) -> Proposal:
    """A person at the machine says what it reads, and how they know. COMPLETED where that is what was ordered, else
    FAILED; nothing is sent.

    Forbidden: no operator; Malformed: not what this order needs; Unprocessable: no step of this control; Conflict:
    ``not_in_doubt``, ``still_under_way``, ``not_attended`` (the person has not said that they are at the machine),
    ``disagrees_with_reading`` (both figures).
    """
    proposal = mine(principal, proposal)
    if not principal.is_person or not principal.may("operate"):
        raise Forbidden("not_allowed", "An operator at the machine resolves a doubt.", "Ask one.", needed="operate")
    _require_fitting(proposal, reads_step, reads_state)
    _require_step_of_machine(proposal, reads_step)
    if proposal.status != Status.IN_DOUBT:
        raise Conflict(
            "not_in_doubt", f"This order is not in doubt: {settled_by(proposal)}.", "Look at its timeline.",
            proposal_id=proposal.pk, status_now=str(proposal.status),
        )  # fmt: skip
    looked = situation.machine_look(proposal.machine_id)
    policy = situation.policies.policy_in_force(looked.organization_id, looked.policy_digest)
    _require_presence(principal, proposal, policy.attendance_max_age_s, now)
    execution = Execution.objects.get(proposal=proposal)
    left_s = SETTLED_AFTER_S - (now - execution.claimed_at).total_seconds()
    if left_s > 0:
        raise Conflict(
            "still_under_way", f"It was sent a moment ago: bytes of it may still be leaving for {left_s:.0f} s.",
            "Wait, then look again.", proposal_id=proposal.pk,
        )  # fmt: skip
    reading = situation.newest_reading(looked, now)
    max_age_s = longest_age_s(policy.max_age_s, reading.interval_s if reading is not None else None)
    _require_agreement(proposal, reading, max_age_s, reads_step, reads_state)
    return _settle(principal, proposal, execution, reading, reads_step, reads_state, evidence, now)


def _require_fitting(proposal: Proposal, reads_step: int | None, reads_state: str | None) -> None:
    is_setting = bool(proposal.control)
    if (reads_step is not None) == is_setting and (reads_state is not None) == (not is_setting):
        return
    needed = "reads_step" if is_setting else "reads_state"
    raise Malformed(
        "wrong_evidence",
        f"{proposal.order_type} is resolved by {needed}, and by that alone.",
        f"Send {needed}: what the machine's panel reads now.",
    )


def _require_step_of_machine(proposal: Proposal, reads_step: int | None) -> None:
    """A slip of the finger is no evidence: a panel shows no step that the control does not have."""
    limits = situation.limits_of(proposal.machine_id, proposal.control) if proposal.control else None
    if limits is None or reads_step is None or 0 <= reads_step <= limits.full_scale_step:
        return
    raise Unprocessable(
        "no_such_step",
        f"The {proposal.control} of {proposal.machine.name} has no step {reads_step}.",
        f"Give what the panel shows: 0 to {limits.full_scale_step}.",
        said=reads_step, bound=limits.full_scale_step,
    )  # fmt: skip


def _require_presence(principal: Principal, proposal: Proposal, within_s: float, now: dt.datetime) -> None:
    is_there = Attendance.objects.filter(
        machine_id=proposal.machine_id, user=principal.user, at__gte=now - dt.timedelta(seconds=within_s)
    ).exists()
    if not is_there:
        raise Conflict(
            "not_attended",
            f"You have not said in the last {within_s:g} s that you are at {proposal.machine.name}.",
            "Press “I am here” at the machine (POST /v1/machines/{id}/attend), look, then resolve.",
            proposal_id=proposal.pk,
        )


def _require_agreement(
    proposal: Proposal, reading: ReadingLook | None, max_age_s: float, reads_step: int | None, reads_state: str | None
) -> None:
    """Where the machine can be read, nobody's word goes against it."""
    if reading is None or reading.link != "up" or not 0 <= reading.age_s <= max_age_s:
        return
    read, said = (reading.steps.get(proposal.control), reads_step) if proposal.control else (reading.state, reads_state)
    if read is None or read == said:
        return
    what = proposal.control or "state"
    raise Conflict(
        "disagrees_with_reading",
        f"You say the {what} reads {said}; the machine, {reading.age_s:.1f} s ago, says {read}.",
        "Look again. Where the machine is read it speaks for itself, and the doubt settles by that.",
        proposal_id=proposal.pk, said=said, read=read,
    )  # fmt: skip


def _settle(
    principal: Principal,
    proposal: Proposal,
    execution: Execution,
    reading: ReadingLook | None,
    reads_step: int | None,
    reads_state: str | None,
    evidence: str,
    now: dt.datetime,
) -> Proposal:
    is_reached = (
        reads_step == proposal.target_step
        if proposal.control
        else MachineState(reads_state or "unknown") in REACHED[proposal.order_type]
    )
    to = Status.COMPLETED if is_reached else Status.FAILED
    code = Code.RESOLVED_BY_PERSON if is_reached else Code.NOT_REACHED
    reads = reads_step if proposal.control else reads_state
    message = f"{principal.name} looked: the machine reads {reads}{', as ordered' if is_reached else ''}. {evidence}"
    detail = {
        "code": code.value, "actual_step": reads_step, "actual_state": reads_state, "evidence": evidence,
        "by": principal.name, "reading_age_s": round(reading.age_s, 1) if reading is not None else None,
    }  # fmt: skip
    try:
        with transaction.atomic():
            record_stage(execution, "resolved", detail, now=now)
            Execution.objects.filter(pk=execution.pk).update(
                outcome="proved" if is_reached else "declined", concluded_at=now
            )
            return move(
                proposal, to, principal, now=now, verb="doubt_resolved_by_person", detail=detail,
                outcome_code=code.value, outcome_message=message[:2000], actual_step=reads_step,
            )  # fmt: skip
    except LostRace:
        fresh = mine(principal, proposal)
        raise Conflict(
            "not_in_doubt", f"It was settled at this very moment: {settled_by(fresh)}.", "Look at its timeline.",
            proposal_id=proposal.pk, status_now=str(fresh.status),
        ) from None  # fmt: skip
