"""Levels 1 to 5, significance, presence, fitness, veto windows, second people: both sides of each; properties."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commands import governor
from commands.reasons import Code, Decision, Reason, is_worse
from commands.rules.conversion import CONTROL_OF, OrderType
from commands.rules.significance import Rated, Significance
from commands.rules.values import (
    DEFAULT_POLICY,
    AttendanceLook,
    Constraints,
    Fitness,
    GrantLook,
    Level,
    Phase,
    ReadingLook,
    Recent,
    UnsettledLook,
)
from commands.tests.situations import LIMITS, NOW, STEPS, ago, fan, level, order, person, situation

NOBODY = {"attendance": None}
WORDS = [each.value for each in Level]
RANK = {Decision.ALLOW: 0, Decision.VETO: 1, Decision.HOLD: 2, Decision.REFUSE: 3}


def decision(looked) -> str:
    return governor.review(looked).decision.value


def codes(looked) -> set[str]:
    return {reason.code.value for reason in governor.review(looked).reasons}


@pytest.mark.parametrize(
    ("word", "step", "wanted"),
    [
        *((word, step, "REFUSE") for word in ("L1", "L2", "L9") for step in (5, 4, 6, 8)),
        ("L3", 5, "HOLD"), ("L3", 3, "HOLD"), ("L3", 8, "HOLD"), ("L3", 9, "HOLD"),
        ("L4", 5, "VETO"), ("L4", 3, "VETO"), ("L4", 7, "VETO"), ("L4", 8, "HOLD"),
        ("L5", 5, "ALLOW"), ("L5", 3, "ALLOW"), ("L5", 7, "ALLOW"), ("L5", 8, "VETO"),
    ],
)  # fmt: skip
def test_level_times_significance_decides(word, step, wanted):
    assert decision(level(word, order=order(target_step=step))) == wanted


@pytest.mark.parametrize(("word", "start", "wanted"), [("L4", 3, "HOLD"), ("L5", 3, "HOLD"), ("L5", 2, "REFUSE")])
def test_critical_is_held_and_severe_refused_at_any_level(word, start, wanted):
    steps = {**STEPS, "heater": start}
    looked = level(word, order=order(target_step=9), reading=ReadingLook(0.1, "roasting", steps, 180.0, 12.0, 1, 1))
    assert decision(looked) == wanted


def test_no_agent_lights_the_whole_heater_even_with_approval():
    steps = {**STEPS, "heater": 0}
    looked = level("L3", order=order(target_step=9), reading=ReadingLook(0.1, "roasting", steps, 180.0, 12.0, 1, 1))
    assert codes(looked) >= {"significance"} and decision(looked) == "REFUSE"
    assert decision(dataclasses.replace(looked, order=person(target_step=9))) == "ALLOW"


@pytest.mark.parametrize("word", ["L4", "L5"])
@pytest.mark.parametrize(
    ("age_s", "is_there"), [(0, True), (300.0, True), (300.001, False), (-1.0, True), (-1.1, False)]
)
def test_presence_counts_for_five_minutes(word, age_s, is_there):
    looked = level(word, attendance=AttendanceLook("operator", ago(age_s)))
    assert (decision(looked) != "HOLD") is is_there
    assert ("not_attended" in codes(looked)) is not is_there


@pytest.mark.parametrize("word", ["L4", "L5"])
def test_with_nobody_there_an_agent_acts_as_at_l3(word):
    assert decision(level(word, **NOBODY)) == "HOLD"
    assert decision(level(word, order=fan(5), **NOBODY)) == "HOLD"


def test_a_heat_up_says_that_nobody_is_there_even_at_l3():
    assert "not_attended" in codes(level("L3", order=order(target_step=7), **NOBODY))
    assert "not_attended" not in codes(level("L3", order=order(target_step=5), **NOBODY))
    assert "not_attended" not in codes(level("L3", order=order(target_step=7)))


def test_a_persons_order_needs_no_presence_no_drill_and_no_row():
    bare = dataclasses.replace(DEFAULT_POLICY, table=())
    assert decision(situation(order=person(), fitness=Fitness(), policy=bare, **NOBODY)) == "ALLOW"


@pytest.mark.parametrize(
    ("fitness", "wanted"),
    [
        (Fitness(None, NOW, True), {"not_commissioned"}),
        (Fitness(NOW, None, False), {"no_stop_drill"}),
        (Fitness(NOW, NOW, False), {"no_stop_drill"}),
        (Fitness(NOW, ago(86_400), True), set()),
        (Fitness(NOW, ago(86_400.001), True), {"no_stop_drill"}),
        (Fitness(NOW, ago(-1.0), True), set()),
        (Fitness(NOW, ago(-1.001), True), {"no_stop_drill"}),
        (Fitness(), {"not_commissioned", "no_stop_drill"}),
    ],
)
def test_no_agent_acts_on_a_machine_that_is_not_fit(fitness, wanted):
    verdict = governor.review(level("L5", fitness=fitness))
    assert {reason.code.value for reason in verdict.refusals} == wanted


def test_the_drill_counts_as_long_as_the_policy_says():
    short = dataclasses.replace(DEFAULT_POLICY, drill_max_age_s=3600.0)
    assert decision(level("L5", fitness=Fitness(NOW, ago(3600), True), policy=short)) == "ALLOW"
    assert decision(level("L5", fitness=Fitness(NOW, ago(3601), True), policy=short)) == "REFUSE"


def test_an_order_no_row_fits_is_refused():
    looked = level("L5", policy=dataclasses.replace(DEFAULT_POLICY, table=()))
    assert codes(looked) >= {"no_significance"} and decision(looked) == "REFUSE"


def test_a_matrix_without_the_level_refuses():
    looked = level("L5", policy=dataclasses.replace(DEFAULT_POLICY, matrix={}))
    assert decision(looked) == "REFUSE"


def test_a_policy_that_cannot_be_read_trusts_no_agent():
    broken = dataclasses.replace(DEFAULT_POLICY, fault="version 3: gone")
    assert codes(level("L3", policy=broken)) >= {"policy_unreadable"}
    assert decision(situation(order=person(), policy=broken)) == "ALLOW"


def test_a_breaker_lowers_what_the_lead_signed_and_says_so():
    verdict = governor.review(situation(grant=GrantLook("L3", signed_level="L5")))
    assert verdict.decision is Decision.HOLD
    assert "was granted L5 and lowered to L3" in verdict.reasons[0].message


@pytest.mark.parametrize(("bound", "wanted"), [("", "HOLD"), ("1", "HOLD"), ("2", "REFUSE")])
def test_a_grant_may_be_for_one_release(bound, wanted):
    assert decision(situation(grant=GrantLook("L3", agent_release=bound))) == wanted


def test_an_order_of_another_release_is_advice():
    assert governor.review(situation(grant=GrantLook("L3", agent_release="2"))).is_advice


@pytest.mark.parametrize(("left_s", "wanted"), [(15.0, "HOLD"), (15.001, "VETO")])
def test_a_veto_window_ends_before_the_order_does_or_it_is_held(left_s, wanted):
    looked = level("L4", order=order(expires_at=NOW + dt.timedelta(seconds=left_s)))
    assert decision(looked) == wanted


# --- just before the wire ---


def dispatched(word: str, **changes):
    looked = level(word, phase=Phase.DISPATCH)
    return dataclasses.replace(looked, order=dataclasses.replace(looked.order, **changes))


@pytest.mark.parametrize(
    ("word", "changes", "wanted"),
    [
        ("L3", {}, {"not_approved"}),
        ("L3", {"is_approved": True}, set()),
        ("L3", {"runs_at": NOW}, {"not_approved"}),
        ("L4", {}, {"veto_window_open"}),
        ("L4", {"runs_at": NOW}, set()),
        ("L4", {"runs_at": NOW + dt.timedelta(microseconds=1)}, {"veto_window_open"}),
        ("L4", {"is_approved": True}, set()),
        ("L5", {}, set()),
    ],
)
def test_at_dispatch_the_consent_asked_for_by_then_was_given(word, changes, wanted):
    assert {reason.code.value for reason in governor.review(dispatched(word, **changes)).refusals} == wanted


def test_nobody_there_any_more_at_dispatch_stops_what_ran_by_itself():
    for word in ("L4", "L5"):
        gone = dataclasses.replace(dispatched(word, runs_at=NOW), attendance=AttendanceLook("operator", ago(301)))
        assert {reason.code.value for reason in governor.review(gone).refusals} == {"not_approved"}


def test_an_expired_grant_at_dispatch_stops_it():
    over = dataclasses.replace(dispatched("L5"), grant=GrantLook("L5", expires_at=NOW))
    assert Code.NO_GRANT in {reason.code for reason in governor.review(over).refusals}


# --- second people ---


def second(bound: Significance | None, **changes):
    return situation(policy=dataclasses.replace(DEFAULT_POLICY, own_second_from=bound), **changes)


@pytest.mark.parametrize(("start", "wanted"), [(6, "ALLOW"), (5, "HOLD"), (2, "HOLD")])
def test_an_own_order_of_much_consequence_waits_for_a_second_person_where_the_house_asks(start, wanted):
    reading = ReadingLook(0.1, "roasting", {**STEPS, "heater": start}, 180.0, 12.0, 1, 1)
    looked = second(Significance.CRITICAL, order=person(target_step=9), reading=reading)
    assert decision(looked) == wanted
    assert decision(dataclasses.replace(looked, policy=DEFAULT_POLICY)) == "ALLOW"


@pytest.mark.parametrize("order_type", ["DROP", "COOL"])
def test_beans_out_never_wait_for_a_second_person(order_type):
    own = person(order_type=OrderType(order_type), control="", target_step=None)
    table = tuple(dataclasses.replace(row, significance=Significance.SEVERE) for row in DEFAULT_POLICY.table)
    policy = dataclasses.replace(DEFAULT_POLICY, own_second_from=Significance.CRITICAL, table=table)
    assert decision(situation(order=own, policy=policy)) == "ALLOW"
    assert decision(situation(order=person(target_step=1), policy=policy)) == "ALLOW"  # nor less heat


def test_an_own_order_in_no_table_waits_where_the_house_asks():
    policy = dataclasses.replace(DEFAULT_POLICY, own_second_from=Significance.SEVERE, table=())
    assert decision(situation(order=person(target_step=7), policy=policy)) == "HOLD"


@pytest.mark.parametrize(
    ("start", "bound", "wanted"),
    [(6, "critical", 1), (5, "critical", 2), (6, "distress", 2), (7, "distress", 2), (8, "distress", 1), (5, None, 1)],
)
def test_how_many_people_a_held_order_needs(start, bound, wanted):
    reading = ReadingLook(0.1, "roasting", {**STEPS, "heater": start}, 180.0, 12.0, 1, 1)
    policy = dataclasses.replace(DEFAULT_POLICY, two_person_from=Significance(bound) if bound else None)
    looked = level("L3", order=order(target_step=9), reading=reading, policy=policy)
    assert governor.approvals_needed(looked, governor.review(looked).decision) == wanted


def test_only_a_held_agents_order_needs_two():
    looked = level("L5", order=order(target_step=5))
    assert governor.approvals_needed(looked, Decision.ALLOW) == 1
    assert governor.approvals_needed(situation(order=person()), Decision.HOLD) == 1


def test_a_part_of_a_plan_matters_as_much_as_the_plan():
    floor = Rated(Significance.CRITICAL, "the plan")
    looked = level("L5", order=order(target_step=5, floor=floor))
    assert looked.rated == floor and decision(looked) == "HOLD"
    assert level("L5", order=order(floor=Rated(Significance.NONE, "n"))).rated.level is Significance.WATCH


# --- ramp ---


@pytest.mark.parametrize(
    ("target", "elapsed_s", "is_refused"),
    [(7, 0.2, False), (7, 0.199, True), (8, 0.4, False), (8, 0.399, True), (7, 0.0, True), (7, -5.0, True)],
)
def test_ramp_at_its_bound_of_five_steps_a_second(target, elapsed_s, is_refused):
    limits = dataclasses.replace(LIMITS, max_ramp_step_per_s=5.0)
    looked = situation(order=order(target_step=target), limits=limits, recent=Recent(last_on_control_at=ago(elapsed_s)))
    assert ("ramp_too_steep" in codes(looked)) is is_refused


def test_ramp_looks_at_agents_only_and_never_at_less_heat_or_no_change():
    limits = dataclasses.replace(LIMITS, max_ramp_step_per_s=0.1)
    recent = Recent(last_on_control_at=ago(1))
    for own in (person(target_step=9), order(target_step=5), order(target_step=6)):
        assert "ramp_too_steep" not in codes(situation(order=own, limits=limits, recent=recent))
    assert "ramp_too_steep" in codes(situation(order=order(target_step=7), limits=limits, recent=recent))
    assert "ramp_too_steep" not in codes(situation(order=order(target_step=7), limits=limits))  # the first one


def test_a_proposers_own_ramp_is_heard_where_it_is_stricter():
    recent, strict = Recent(last_on_control_at=ago(1)), Constraints(max_ramp_step_per_s=0.5)
    assert "ramp_too_steep" in codes(situation(order=order(target_step=7, constraints=strict), recent=recent))
    loose = dataclasses.replace(LIMITS, max_ramp_step_per_s=0.5)
    asked = order(target_step=7, constraints=Constraints(max_ramp_step_per_s=50.0))
    assert "ramp_too_steep" in codes(situation(order=asked, limits=loose, recent=recent))


def test_orders_of_one_plan_do_not_conflict():
    looked = situation(
        order=order(plan_id="pln_1"), unsettled=(UnsettledLook("prp_0", "APPROVED", "heater", True, plan_id="pln_1"),)
    )
    assert "conflict" not in codes(looked)
    for other in (UnsettledLook("prp_0", "APPROVED", "heater", True, plan_id="pln_2"),
                  UnsettledLook("prp_0", "APPROVED", "heater", True)):  # fmt: skip
        assert "conflict" in codes(dataclasses.replace(looked, unsettled=(other,)))


# --- properties ---


_STATES = ["roasting", "cooling", "unknown"]


@st.composite
def situations(draw):
    order_type = draw(st.sampled_from([*OrderType]))
    control = CONTROL_OF[order_type]
    target = draw(st.none() | st.integers(0, 12)) if control else None
    steps = {name: draw(st.none() | st.integers(0, 9)) for name in STEPS}
    asked = order(
        order_type=order_type, control=control, target_step=target, is_by_agent=draw(st.booleans()),
        is_approved=draw(st.booleans()), runs_at=draw(st.none() | st.just(NOW) | st.just(ago(-1))),
        expires_at=NOW + dt.timedelta(seconds=draw(st.sampled_from([0, 10, 15, 16, 45]))),
    )  # fmt: skip
    return situation(
        order=asked,
        phase=draw(st.sampled_from([*Phase])),
        reading=draw(st.none() | st.builds(ReadingLook, st.just(0.1), st.sampled_from(_STATES), st.just(steps))),
        grant=draw(st.none() | st.builds(GrantLook, st.sampled_from([*WORDS, "?"]), st.just(frozenset({*OrderType})))),
        fitness=draw(st.sampled_from([Fitness(), Fitness(NOW, NOW, True), Fitness(NOW, ago(90_000), True)])),
        attendance=draw(st.none() | st.sampled_from([AttendanceLook("o", NOW), AttendanceLook("o", ago(301))])),
        suspended_by=draw(st.none() | st.just("operator")),
        are_beans_proved=draw(st.booleans()),
        policy=draw(st.sampled_from([
            DEFAULT_POLICY, dataclasses.replace(DEFAULT_POLICY, table=()),
            dataclasses.replace(DEFAULT_POLICY, own_second_from=Significance.CRITICAL),
            dataclasses.replace(DEFAULT_POLICY, fault="x"),
        ])),
    )  # fmt: skip


@given(situations(), st.integers(0, len(governor.RULES) - 1))
@settings(max_examples=200, deadline=None)
def test_a_rule_that_raises_refuses_wherever_it_stands(looked, place):
    def broken(_):
        raise KeyError("lost")

    table = [*governor.RULES[:place], ("broken", broken), *governor.RULES[place:]]
    verdict = governor.review(looked, table)
    assert verdict.decision is Decision.REFUSE
    assert Code.RULE_ERROR in {reason.code for reason in verdict.refusals}


@given(situations())
@settings(max_examples=300, deadline=None)
def test_the_worst_reason_wins(looked):
    verdict = governor.review(looked)
    assert verdict.decision == max((reason.decision for reason in verdict.reasons), key=RANK.__getitem__)


@given(situations(), st.sampled_from([*Decision]))
@settings(max_examples=300, deadline=None)
def test_a_further_rule_never_turns_a_refusal_into_anything_else(looked, word):
    more = (*governor.RULES, ("more", lambda _: (Reason(Code.OWN_ORDER, word, "more"),)))
    assert not is_worse(governor.review(looked).decision, governor.review(looked, more).decision)


@given(situations())
@settings(max_examples=300, deadline=None)
def test_more_trust_is_never_less_free(looked):
    looked = dataclasses.replace(looked, order=dataclasses.replace(looked.order, is_by_agent=True))
    types = frozenset({*OrderType})
    found = [governor.review(dataclasses.replace(looked, grant=GrantLook(word, types))).decision for word in WORDS]
    ranks = [RANK[each] for each in found]
    if looked.phase is Phase.DISPATCH and not looked.order.is_approved:
        return  # there the consent that was given counts: a window that an L4 order has, an L5 order never had
    assert ranks == sorted(ranks, reverse=True), list(zip(WORDS, found, strict=True))
    assert set(ranks[:2]) == {RANK[Decision.REFUSE]} and ranks[2] >= RANK[Decision.HOLD]


@given(situations())
@settings(max_examples=300, deadline=None)
def test_no_agents_order_ever_runs_unheard_without_presence_and_fitness(looked):
    if not looked.order.is_by_agent:
        return
    verdict = governor.review(looked)
    if verdict.decision is not Decision.REFUSE:
        assert looked.fitness == Fitness(NOW, NOW, True) and not looked.policy.fault
    if verdict.decision in (Decision.ALLOW, Decision.VETO):
        assert looked.is_attended


@given(situations())
@settings(max_examples=200, deadline=None)
def test_what_an_agent_may_a_person_may(looked):
    """People's orders are never blocked by a level, presence or a drill."""
    of_agent = governor.review(dataclasses.replace(looked, order=dataclasses.replace(looked.order, is_by_agent=True)))
    of_person = governor.review(dataclasses.replace(looked, order=dataclasses.replace(looked.order, is_by_agent=False)))
    if of_agent.decision is not Decision.REFUSE:
        assert of_person.decision in (Decision.ALLOW, Decision.HOLD) or looked.phase is Phase.DISPATCH
