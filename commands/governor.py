"""May this order move a control now? Pure: a frozen Situation in, a Verdict out.

``review`` runs every rule and keeps every reason; the worst decides (REFUSE > HOLD > VETO > ALLOW). It runs when
an order is proposed and again just before the wire. What is unknown refuses; a rule that raises refuses; no rules
refuse. A later rule is one more line in ``RULES``.
"""

from __future__ import annotations

import datetime as dt
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from commands.lifecycle import Status
from commands.reasons import Code, Decision, Reason, Verdict, weigh
from commands.rules import authority
from commands.rules import machine as rules
from commands.rules.significance import is_at_least
from commands.rules.values import ApprovalLook, Rule, Situation, Timing

__all__ = ["RULES", "ApprovalRefusal", "approvals_needed", "expiry", "needs_second_person", "refuse_approval", "review"]

#: Every rule, in the order in which their reasons are told.
RULES: tuple[tuple[str, Rule], ...] = (
    ("policy", authority.check_policy),
    ("autonomy", authority.check_autonomy),
    ("significance", authority.check_significance),
    ("second_person", authority.check_second_person),
    ("veto_window", authority.check_veto_window),
    ("consent", authority.check_consent),
    ("fitness", authority.check_fitness),
    ("hand_act", rules.check_hand_act),
    ("proposer", rules.check_proposer),
    ("expiry", rules.check_expiry),
    ("halt", rules.check_halt),
    ("suspension", rules.check_suspension),
    ("orders_paused", rules.check_orders_paused),
    ("store", rules.check_store),
    ("reading", rules.check_reading),
    ("state", rules.check_state),
    ("beans", rules.check_beans),
    ("envelope", rules.check_envelope),
    ("change", rules.check_change),
    ("interval", rules.check_interval),
    ("ramp", rules.check_ramp),
    ("counts", rules.check_counts),
    ("session", rules.check_session),
    ("failure_rate", rules.check_failure_rate),
    ("conflict", rules.check_conflict),
    ("void", rules.check_void),
)


def review(situation: Situation, table: Iterable[tuple[str, Rule]] = RULES) -> Verdict:
    """Every rule's word on the situation, weighed. The verdict carries tracebacks for its caller to log."""
    reasons: list[Reason] = []
    tracebacks: list[str] = []
    count = 0
    for name, rule in table:
        count += 1
        try:
            reasons.extend(rule(situation))
        except Exception as error:  # the one place around each rule: a broken rule refuses, and is told
            tracebacks.append(f"{name}: {traceback.format_exc()}")
            reasons.append(_rule_error(name, error))
    if not count:
        reasons.append(
            Reason(
                Code.NO_RULES,
                Decision.REFUSE,
                "The governor has no rules, so it permits nothing.",
                "Restore the rule table.",
            )
        )
    return replace(weigh(tuple(reasons)), tracebacks=tuple(tracebacks))


def _rule_error(name: str, error: Exception) -> Reason:
    return Reason(
        Code.RULE_ERROR,
        Decision.REFUSE,
        f"The rule `{name}` could not judge this order ({type(error).__name__}), so it is refused.",
        "Report it: the log has the traceback.",
        value=name,
    )


def expiry(timing: Timing, *, now: dt.datetime, asked_s: float | None) -> dt.datetime:
    """When an order proposed now runs out: by the phase of the roast; ``asked_s`` only shortens.

    A person's own order runs at once or not at all, so it gets the shortest time of the policy.
    """
    policy = timing.policy
    if timing.is_persons_own:
        allowed_s = policy.expires_own_order_s
    elif timing.is_after_first_crack:
        allowed_s = policy.expires_after_first_crack_s
    elif timing.is_in_roast:
        allowed_s = policy.expires_in_roast_s
    else:
        allowed_s = policy.expires_off_roast_s
    if asked_s is not None:
        allowed_s = min(allowed_s, asked_s)
    return now + dt.timedelta(seconds=max(0.0, allowed_s))


def needs_second_person(situation: Situation) -> bool:
    """A person's own order that waits for another's yes."""
    return any(authority.check_second_person(situation))


def approvals_needed(situation: Situation, decision: Decision) -> int:
    """By how many different people a held order must be approved."""
    bound, rated = situation.policy.two_person_from, situation.rated
    if decision is not Decision.HOLD or not situation.order.is_by_agent or bound is None:
        return 1
    return 2 if rated is None or is_at_least(rated.level, bound) else 1


@dataclass(frozen=True, slots=True)
class ApprovalRefusal:
    """Why this person may not approve this order now; ``status`` is HTTP's word for what to do next."""

    code: Code
    status: int
    message: str
    how_to_fix: str


def refuse_approval(look: ApprovalLook) -> ApprovalRefusal | None:
    """The approver rules, first the person, then the order. None: may be approved."""
    for rule in _APPROVER_RULES:
        refusal = rule(look)
        if refusal is not None:
            return refusal
    return None


def _by_an_agent(look: ApprovalLook) -> ApprovalRefusal | None:
    if look.is_person:
        return None
    return ApprovalRefusal(
        Code.AGENTS_CANNOT_APPROVE,
        403,
        "Only a person may approve an order.",
        "An operator approves it in the console.",
    )


def _by_the_proposer(look: ApprovalLook) -> ApprovalRefusal | None:
    if not look.is_proposer:
        return None
    return ApprovalRefusal(
        Code.PROPOSER_CANNOT_APPROVE, 403, "Nobody approves their own order.", "Another operator approves it."
    )


def _by_the_owner(look: ApprovalLook) -> ApprovalRefusal | None:
    if not look.is_owner_of_proposer:
        return None
    return ApprovalRefusal(
        Code.OWNER_CANNOT_APPROVE,
        403,
        "The owner of the proposing agent may not approve its orders.",
        "Another operator approves it.",
    )


def _without_role(look: ApprovalLook) -> ApprovalRefusal | None:
    if look.may_approve:
        return None
    return ApprovalRefusal(
        Code.ROLE_REQUIRED,
        403,
        "Approving needs the operator's role (and, by key, its scope).",
        "Ask an operator, or ask an admin for the role.",
    )


def _settled(look: ApprovalLook) -> ApprovalRefusal | None:
    if look.status == Status.PENDING_APPROVAL:
        return None
    code = Code.EXPIRED if look.status == Status.TIMEOUT else Code.NOT_AWAITING_APPROVAL
    return ApprovalRefusal(
        code,
        409,
        f"This order is not awaiting approval: {look.settled_by}.",
        "Look at its timeline; a new order needs a new proposal.",
    )


def _expired(look: ApprovalLook) -> ApprovalRefusal | None:
    if look.now < look.expires_at:
        return None
    return ApprovalRefusal(
        Code.EXPIRED,
        409,
        "The time to approve this order has run out.",
        "Wait for a new proposal, or give the order yourself.",
    )


def _already(look: ApprovalLook) -> ApprovalRefusal | None:
    if not look.has_approved:
        return None
    return ApprovalRefusal(
        Code.APPROVED_ALREADY, 409, "You have approved this order already.", "It needs another person's yes."
    )


def _other_digest(look: ApprovalLook) -> ApprovalRefusal | None:
    if look.given_digest == look.digest:
        return None
    return ApprovalRefusal(
        Code.STALE_DIGEST,
        412,
        "The digest is not this order's: you looked at something else.",
        "Read the order again and approve the digest it shows now.",
    )


_APPROVER_RULES: tuple[Callable[[ApprovalLook], ApprovalRefusal | None], ...] = (
    _by_an_agent, _by_the_proposer, _by_the_owner, _without_role, _settled, _expired, _other_digest,
    _already,
)  # fmt: skip
