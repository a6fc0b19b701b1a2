"""The governor's rules about authority: how far an agent is trusted here and now, and who else must agree. Pure.

These are the only rules that ever allow, hold, or open a veto window. They are asked again just before the wire, and
there ``check_consent`` holds the order to what they say by then.
"""

from __future__ import annotations

from collections.abc import Iterator

from commands.reasons import Code, Decision, Reason, is_worse, worst
from commands.rules.conversion import SETTINGS
from commands.rules.significance import is_at_least
from commands.rules.values import GrantLook, Level, Phase, Situation

#: Levels at which an agent runs orders by itself: they need a person at the machine.
_UNATTENDED_NEVER = frozenset({Level.L4, Level.L5})
#: What a level says by itself, before significance.
_BY_LEVEL = {Level.L3: Decision.HOLD, Level.L4: Decision.VETO, Level.L5: Decision.ALLOW}


def _refuse(code: Code, message: str, how_to_fix: str, value: object = None, bound: object = None) -> Reason:
    return Reason(code, Decision.REFUSE, message, how_to_fix, value, bound)


def check_policy(situation: Situation) -> Iterator[Reason]:
    """A policy that cannot be read trusts no agent."""
    if situation.order.is_by_agent and situation.policy.fault:
        yield _refuse(
            Code.POLICY_UNREADABLE,
            f"The governor's policy cannot be read ({situation.policy.fault}), so no agent acts.",
            "A lead writes a new version of the policy.",
            value=situation.policy.version,
        )


def check_autonomy(situation: Situation) -> Iterator[Reason]:
    """People order by their own authority; an agent as far as a lead's live grant reaches, else it recommends (L2)."""
    order, grant = situation.order, situation.grant
    if not order.is_by_agent:
        yield Reason(Code.OWN_ORDER, Decision.ALLOW, f"{order.proposer_name} gives this order by their own authority.")
        return
    if grant is None or not _covers(grant, situation):
        yield _refuse(
            Code.NO_GRANT,
            f"{order.proposer_name} has no grant for {order.order_type.value} on {situation.machine_name}: "
            "it may only recommend.",
            "A person may adopt this advice; a lead may sign a grant.",
            value=Level.L2.value, bound=Level.L3.value,
        )  # fmt: skip
        return
    if grant.agent_release and grant.agent_release != order.agent_release:
        yield _refuse(
            Code.OTHER_RELEASE,
            f"The grant is for release {grant.agent_release} of {order.proposer_name}; this order comes from "
            f"{order.agent_release or 'an unnamed release'}.",
            "A person may adopt this advice; a lead may sign a grant for the new release.",
            value=order.agent_release, bound=grant.agent_release,
        )  # fmt: skip
        return
    yield from _by_level(grant, situation)


def _covers(grant: GrantLook, situation: Situation) -> bool:
    if grant.expires_at is not None and situation.now >= grant.expires_at:
        return False
    if not grant.order_types:
        return situation.order.order_type in SETTINGS
    return situation.order.order_type.value in grant.order_types


def _by_level(grant: GrantLook, situation: Situation) -> Iterator[Reason]:
    level, name = grant.level, situation.order.proposer_name
    granted = f"is granted {level}" if grant.signed_level in ("", level) else (
        f"was granted {grant.signed_level} and lowered to {level}"
    )  # fmt: skip
    if level == Level.L1:
        yield _refuse(
            Code.LEVEL_TOO_LOW, f"{name} {granted} (assist): it may not order.", "A lead may grant more.",
            value=level, bound=Level.L3.value,
        )  # fmt: skip
    elif level == Level.L2:
        yield _refuse(
            Code.LEVEL_RECOMMENDS_ONLY, f"{name} {granted} (recommend): its orders are advice.",
            "A person may adopt this advice; a lead may grant more.", value=level, bound=Level.L3.value,
        )  # fmt: skip
    elif level == Level.L3:
        yield Reason(
            Code.APPROVAL_REQUIRED, Decision.HOLD, f"{name} {granted}: it acts with approval.",
            "An operator approves or rejects.", value=level,
        )  # fmt: skip
        yield from _unattended(situation, level)
    elif level in _UNATTENDED_NEVER:
        yield from _unattended(situation, level) if not situation.is_attended else _by_itself(level, situation)
    else:
        yield _refuse(Code.UNKNOWN_LEVEL, f"There is no level {level!r}.", "A lead signs the grant again.", value=level)


def _unattended(situation: Situation, level: str) -> Iterator[Reason]:
    """L4, L5 and any heat-up of an agent need a person at the machine; without one they are held, as at L3."""
    if situation.is_attended or (level == Level.L3 and not situation.is_heat_up):
        return
    last = situation.attendance
    bound_s = situation.policy.attendance_max_age_s
    seen = "nobody has" if last is None else (
        f"{last.name} did {(situation.now - last.at).total_seconds():.0f} s ago, nobody since"
    )  # fmt: skip
    yield Reason(
        Code.NOT_ATTENDED,
        Decision.HOLD,
        f"Nobody confirmed in the last {bound_s:g} s that they are at {situation.machine_name} ({seen}): "
        f"treated as L3, with approval.",
        "The operator at the machine presses “I am here”, or approves this order.",
        value=None if last is None else round((situation.now - last.at).total_seconds(), 1),
        bound=bound_s,
    )


def _by_itself(level: str, situation: Situation) -> Iterator[Reason]:
    name, window_s = situation.order.proposer_name, situation.policy.veto_window_s
    if level == Level.L5:
        yield Reason(
            Code.ACTS_WITH_AUDIT, Decision.ALLOW, f"{name} acts with audit (L5): it runs now and is reviewed after.",
            "A person reviews it afterwards.", value=level,
        )  # fmt: skip
        return
    yield Reason(
        Code.VETO_WINDOW, Decision.VETO, f"{name} acts with veto (L4): it runs {window_s:g} s after it was proposed.",
        "Any operator may veto it until then, or approve it now.", value=level, bound=window_s,
    )  # fmt: skip


def check_significance(situation: Situation) -> Iterator[Reason]:
    """Level × significance: what matters more needs more. An agent's order that no row of the table fits is refused."""
    order, grant = situation.order, situation.grant
    if not order.is_by_agent or grant is None:
        return
    if order.control and (order.target_step is None or situation.from_step is None):
        return  # there is nothing to rate: the envelope and reading rules have refused
    rated = situation.rated
    if rated is None:
        yield _refuse(
            Code.NO_SIGNIFICANCE,
            f"No row of the significance table fits this {order.order_type.value}.",
            "A lead adds a row to the governor's policy.",
            value=order.order_type.value,
        )
        return
    level = _acting_level(grant, situation)
    if level is None:
        return
    decision = situation.policy.matrix.get(level, {}).get(rated.level, Decision.REFUSE)
    if is_worse(decision, _BY_LEVEL[level]):
        yield Reason(
            Code.SIGNIFICANCE,
            decision,
            f"At {level.value}, what is {rated.level.value} is {_WORDS[decision]}: {rated.reason}",
            "A smaller step matters less; a person may order it." if decision is Decision.REFUSE
            else "An operator decides.",
            value=rated.level.value,
            bound=level.value,
        )  # fmt: skip


_WORDS = {
    Decision.ALLOW: "allowed", Decision.VETO: "open to veto", Decision.HOLD: "held", Decision.REFUSE: "refused",
}  # fmt: skip


def _acting_level(grant: GrantLook, situation: Situation) -> Level | None:
    """The level the agent acts at now; None where it does not act at all."""
    level = next((each for each in _BY_LEVEL if each == grant.level), None)
    return Level.L3 if level in _UNATTENDED_NEVER and not situation.is_attended else level


def check_veto_window(situation: Situation) -> Iterator[Reason]:
    """An order that would run out before its veto window ends can only be approved."""
    if situation.phase is not Phase.PROPOSAL or asked_consent(situation) is not Decision.VETO:
        return
    left_s, window_s = (situation.order.expires_at - situation.now).total_seconds(), situation.policy.veto_window_s
    if left_s <= window_s:
        yield Reason(
            Code.VETO_WINDOW_TOO_LONG,
            Decision.HOLD,
            f"It runs out in {left_s:g} s, before its veto window of {window_s:g} s ends: it needs approval.",
            "An operator approves or rejects.",
            value=left_s,
            bound=window_s,
        )


def check_second_person(situation: Situation) -> Iterator[Reason]:
    """Where the organisation asks for it, a person's own order of much consequence needs another's yes.

    Less heat, beans out and cooling never wait.
    """
    bound = situation.policy.own_second_from
    if situation.order.is_by_agent or bound is None or situation.is_safe_direction:
        return
    rated = situation.rated
    if rated is not None and not is_at_least(rated.level, bound):
        return
    yield Reason(
        Code.SECOND_PERSON,
        Decision.HOLD,
        f"Orders from {bound.value} need a second person here; "
        + (f"this is {rated.level.value}: {rated.reason}" if rated is not None else "this one is in no table."),
        "Another operator approves it.",
        value=rated.level.value if rated is not None else None,
        bound=bound.value,
    )


def check_fitness(situation: Situation) -> Iterator[Reason]:
    """Before any agent acts on a machine it was commissioned, and its STOP was drilled lately, and passed."""
    if not situation.order.is_by_agent:
        return
    fitness, bound_s = situation.fitness, situation.policy.drill_max_age_s
    if fitness.commissioned_at is None:
        yield _refuse(
            Code.NOT_COMMISSIONED,
            f"{situation.machine_name} is not commissioned: no agent acts on it.",
            "Walk through its commissioning; a person may order meanwhile.",
        )
    age_s = None if fitness.drilled_at is None else (situation.now - fitness.drilled_at).total_seconds()
    if age_s is None or not fitness.is_drill_passed or not -situation.policy.max_clock_skew_s <= age_s <= bound_s:
        found = "none yet" if age_s is None else "the last one failed" if not fitness.is_drill_passed else (
            f"the last one {age_s / 3600:.1f} h ago"
        )  # fmt: skip
        yield _refuse(
            Code.NO_STOP_DRILL,
            f"{situation.machine_name} has no STOP drill that counts ({found}): no agent acts on it.",
            f"Press the STOP drill at the machine; one counts for {bound_s / 3600:g} h.",
            value=None if age_s is None else round(age_s, 1),
            bound=bound_s,
        )


def asked_consent(situation: Situation) -> Decision:
    """What the rules of authority ask for now: run at once (ALLOW), a veto window, a person's yes, or never."""
    said = (check_autonomy, check_significance, check_second_person)
    return worst([reason.decision for rule in said for reason in rule(situation)])


def check_consent(situation: Situation) -> Iterator[Reason]:
    """Just before the wire: the consent that is asked for by then was given, or the order does not go."""
    if situation.phase is not Phase.DISPATCH or situation.order.is_approved:
        return
    asked, runs_at = asked_consent(situation), situation.order.runs_at
    if asked is Decision.VETO and runs_at is not None and situation.now >= runs_at:
        return
    if asked is Decision.VETO:
        yield _refuse(
            Code.VETO_WINDOW_OPEN, "Its veto window has not ended.", "Wait for it, or an operator approves.",
            value=None if runs_at is None else round((runs_at - situation.now).total_seconds(), 3), bound=0,
        )  # fmt: skip
    elif asked is not Decision.ALLOW:
        yield _refuse(
            Code.NOT_APPROVED, "Nobody approved this order.", "An operator approves it before its time runs out."
        )
