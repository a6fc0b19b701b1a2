"""The governor by the thousand: every rule at its boundary, both sides; properties over random situations."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commands import governor
from commands.reasons import LEGACY, Code, Decision, Reason, weigh
from commands.rules.conversion import CONTROL_OF, STATES, OrderType
from commands.rules.machine import void_reason
from commands.rules.states import TABLES
from commands.rules.values import (
    DEFAULT_POLICY,
    AttendanceLook,
    Constraints,
    Fitness,
    GrantLook,
    HaltLook,
    Limits,
    Order,
    Phase,
    ReadingLook,
    Recent,
    Seen,
    Situation,
    UnsettledLook,
)

NOW = dt.datetime(2026, 11, 21, 8, 0, tzinfo=dt.UTC)
LIMITS = Limits(0, 9, 9, 2, 10.0, 5, 4)
WIDE = Limits(0, 9, 9, 20, 10.0, 5, 4)
STEPS = {"heater": 6, "fan": 4, "drum": 7}
WORSE = {Decision.ALLOW: 0, Decision.VETO: 1, Decision.HOLD: 2, Decision.REFUSE: 3}
MACHINE_STATES = ["off", "preheating", "stabilising", "charge", "roasting", "cooling", "shutdown", "unknown"]


def order(**changes) -> Order:
    base = Order(
        OrderType.SET_POWER,
        "heater",
        5,
        True,
        "agt_1",
        "roastrunner",
        NOW + dt.timedelta(seconds=45),
        proposal_id="prp_1",
        seen=Seen("roasting", STEPS, 180.0, 12.0, 400_000),
    )
    return dataclasses.replace(base, **changes)


def reading(**changes) -> ReadingLook:
    return dataclasses.replace(ReadingLook(0.1, "roasting", STEPS, 180.0, 12.0, 400_000, 10), **changes)


def situation(**changes) -> Situation:
    base = Situation(
        now=NOW,
        phase=Phase.PROPOSAL,
        order=order(),
        machine_name="Bullet",
        is_machine_archived=False,
        limits=LIMITS,
        reading=reading(),
        are_beans_proved=True,
        machine_kind="bullet-r1",
        is_orders_paused=False,
        is_store_reachable=True,
        keeper_latched=False,
        halts=(),
        suspended_by=None,
        grant=GrantLook("L3"),
        unsettled=(),
        recent=Recent(),
        roast_id="rst_1",
        is_in_roast=True,
        fitness=Fitness(NOW, NOW, True),
    )
    return dataclasses.replace(base, **changes)


def person(**changes) -> Order:
    return order(is_by_agent=False, proposer_id="usr_1", proposer_name="operator", **changes)


def refusals(looked: Situation) -> set[str]:
    return {reason.code.value for reason in governor.review(looked).refusals}


def test_plain_agent_order_is_held_for_one_reason():
    verdict = governor.review(situation())
    assert verdict.decision is Decision.HOLD
    assert [reason.code for reason in verdict.reasons] == [Code.APPROVAL_REQUIRED]


def test_plain_persons_order_is_allowed():
    assert governor.review(situation(order=person())).decision is Decision.ALLOW


def test_no_rules_refuse():
    verdict = governor.review(situation(), ())
    assert verdict.decision is Decision.REFUSE
    assert verdict.reasons[0].code is Code.NO_RULES


def test_rules_without_a_word_refuse():
    assert governor.review(situation(), (("silent", lambda _: ()),)).decision is Decision.REFUSE


def test_raising_rule_refuses_and_keeps_the_other_reasons():
    def broken(_):
        raise ZeroDivisionError("oops")

    verdict = governor.review(situation(order=person()), (*governor.RULES, ("broken", broken)))
    assert verdict.decision is Decision.REFUSE
    assert {reason.code for reason in verdict.reasons} == {Code.OWN_ORDER, Code.RULE_ERROR}
    assert "ZeroDivisionError" in verdict.tracebacks[0]


def test_raising_half_way_keeps_nothing_milder():
    def half(_):
        yield Reason(Code.OWN_ORDER, Decision.ALLOW, "yes")
        raise ValueError

    assert governor.review(situation(), (("half", half),)).decision is Decision.REFUSE


BOUNDARIES = [
    # (what, situation on the allowed side, on the refused side, code)
    (
        "ceiling",
        {"order": order(target_step=9), "limits": WIDE},
        {"order": order(target_step=10), "limits": WIDE},
        "above_ceiling",
    ),
    (
        "floor",
        {"order": order(target_step=0), "limits": WIDE},
        {"order": order(target_step=-1), "limits": WIDE},
        "below_floor",
    ),
    ("agent's change", {"order": order(target_step=4)}, {"order": order(target_step=3)}, "change_too_large"),
    (
        "asked ceiling",
        {"order": order(target_step=5, constraints=Constraints(max_step=5))},
        {"order": order(target_step=5, constraints=Constraints(max_step=4))},
        "above_ceiling",
    ),
    (
        "asked floor",
        {"order": order(target_step=5, constraints=Constraints(min_step=5))},
        {"order": order(target_step=5, constraints=Constraints(min_step=6))},
        "below_floor",
    ),
    (
        "asked change",
        {"order": order(target_step=5, constraints=Constraints(max_change_step=1))},
        {"order": order(target_step=4, constraints=Constraints(max_change_step=1))},
        "change_too_large",
    ),
    (
        "interval",
        {"order": order(target_step=7), "recent": Recent(NOW - dt.timedelta(seconds=10))},
        {"order": order(target_step=7), "recent": Recent(NOW - dt.timedelta(seconds=9.999))},
        "too_soon",
    ),
    (
        "asked interval",
        {
            "order": order(target_step=7, constraints=Constraints(min_interval_s=20)),
            "recent": Recent(NOW - dt.timedelta(seconds=20)),
        },
        {
            "order": order(target_step=7, constraints=Constraints(min_interval_s=20)),
            "recent": Recent(NOW - dt.timedelta(seconds=19)),
        },
        "too_soon",
    ),
    (
        "day",
        {"order": order(target_step=7), "recent": Recent(day_count=4)},
        {"order": order(target_step=7), "recent": Recent(day_count=5)},
        "daily_count_reached",
    ),
    (
        "asked day",
        {"order": order(target_step=7, constraints=Constraints(daily_count=2)), "recent": Recent(day_count=1)},
        {"order": order(target_step=7, constraints=Constraints(daily_count=2)), "recent": Recent(day_count=2)},
        "daily_count_reached",
    ),
    (
        "roast",
        {"order": order(target_step=7), "recent": Recent(roast_count=3)},
        {"order": order(target_step=7), "recent": Recent(roast_count=4)},
        "roast_count_reached",
    ),
    (
        "session",
        {"order": order(target_step=7), "recent": Recent(session_count=DEFAULT_POLICY.session_limit - 1)},
        {"order": order(target_step=7), "recent": Recent(session_count=DEFAULT_POLICY.session_limit)},
        "session_limit_reached",
    ),
    (
        "failure rate",
        {"recent": Recent(settled_count=100, failed_count=30)},
        {"recent": Recent(settled_count=100, failed_count=31)},
        "failure_rate_too_high",
    ),
    (
        "failure sample",
        {"recent": Recent(settled_count=4, failed_count=4)},
        {"recent": Recent(settled_count=5, failed_count=5)},
        "failure_rate_too_high",
    ),
    (
        "heat-up age",
        {"order": order(target_step=7), "reading": reading(age_s=1.0)},
        {"order": order(target_step=7), "reading": reading(age_s=1.001)},
        "stale_reading",
    ),
    ("heat-down age", {"reading": reading(age_s=3.0)}, {"reading": reading(age_s=3.001)}, "stale_reading"),
    *(
        (
            f"age of a source of one reading in {interval_s:g} s",
            {"order": order(target_step=target), "reading": reading(age_s=bound_s, interval_s=interval_s)},
            {"order": order(target_step=target), "reading": reading(age_s=bound_s + 0.001, interval_s=interval_s)},
            "stale_reading",
        )
        for interval_s, target, bound_s in ((0.1, 7, 1.0), (1.0, 7, 2.5), (1.0, 5, 3.0), (10, 7, 25.0), (3600, 5, 25.0))
    ),
    ("from the future", {"reading": reading(age_s=-1.0)}, {"reading": reading(age_s=-1.001)}, "stale_reading"),
    ("age unknown", {"reading": reading(age_s=0.0)}, {"reading": reading(age_s=math.nan)}, "stale_reading"),
    (
        "deadline",
        {"order": order(expires_at=NOW + dt.timedelta(microseconds=1))},
        {"order": order(expires_at=NOW)},
        "expired",
    ),
    (
        "grant's end",
        {"grant": GrantLook("L3", expires_at=NOW + dt.timedelta(microseconds=1))},
        {"grant": GrantLook("L3", expires_at=NOW)},
        "no_grant",
    ),
    (
        "beans",
        {"order": order(target_step=7)},
        {"order": order(target_step=7), "are_beans_proved": False},
        "beans_not_proved",
    ),
    ("suspension", {}, {"suspended_by": "operator"}, "suspended"),
    ("halt", {}, {"halts": (HaltLook("stop"),)}, "halted"),
    ("latch", {"keeper_latched": None}, {"keeper_latched": True}, "halted"),
    ("pause", {}, {"is_orders_paused": True}, "orders_paused"),
    ("store", {}, {"is_store_reachable": False}, "store_unreachable"),
    ("link", {}, {"reading": reading(link="stale")}, "link_down"),
    ("reading", {}, {"reading": None}, "reading_unknown"),
    ("step", {}, {"reading": reading(steps={"heater": None})}, "reading_unknown"),
    ("quality", {}, {"reading": reading(quality={"heater_step": "stale"})}, "poor_quality"),
    (
        "probe",
        {"reading": reading(bean_temp_c=None)},
        {"order": order(target_step=7), "reading": reading(bean_temp_c=None)},
        "reading_unknown",
    ),
    ("limits", {}, {"limits": None}, "no_envelope"),
    ("archived", {}, {"is_machine_archived": True}, "machine_archived"),
    ("active", {}, {"order": order(is_proposer_active=False)}, "proposer_inactive"),
    (
        "conflict",
        {"unsettled": (UnsettledLook("prp_2", "PENDING_APPROVAL", "fan", True),)},
        {"unsettled": (UnsettledLook("prp_2", "PENDING_APPROVAL", "heater", True),)},
        "conflict",
    ),
    (
        "conflict with itself",
        {"unsettled": (UnsettledLook("prp_1", "APPROVED", "heater", True),)},
        {"unsettled": (UnsettledLook("prp_2", "APPROVED", "heater", False),)},
        "conflict",
    ),
    (
        "asked state",
        {"order": order(constraints=Constraints(require_states=frozenset({"roasting"})))},
        {"order": order(constraints=Constraints(require_states=frozenset({"cooling"})))},
        "wrong_state",
    ),
    (
        "forbidden state",
        {"order": order(constraints=Constraints(forbidden_states=frozenset({"cooling"})))},
        {"order": order(constraints=Constraints(forbidden_states=frozenset({"roasting"})))},
        "wrong_state",
    ),
]


@pytest.mark.parametrize(("what", "fine", "bad", "code"), BOUNDARIES, ids=[row[0] for row in BOUNDARIES])
def test_boundary_on_both_sides(what, fine, bad, code):
    assert code not in refusals(situation(**fine))
    assert refusals(situation(**bad)) - {"wrong_state" if what == "reading" else ""} == {code}


@pytest.mark.parametrize("word", ["interval", "day", "roast", "session"])
def test_less_heat_is_exempt_from_counting(word):
    crowded = Recent(NOW, 1000, 1000, 1000)
    assert refusals(situation(recent=crowded)) == set()
    assert refusals(situation(recent=crowded, order=order(target_step=6))) != set()


@pytest.mark.parametrize("state", MACHINE_STATES)
@pytest.mark.parametrize("by_agent", [True, False])
def test_heat_goes_up_only_while_roasting(state, by_agent):
    looked = situation(order=order(target_step=7, is_by_agent=by_agent), reading=reading(state=state))
    assert (governor.review(looked).decision is Decision.REFUSE) == (state != "roasting")


@pytest.mark.parametrize("state", MACHINE_STATES)
def test_heat_goes_down_unless_the_firmware_holds_it(state):
    got = refusals(situation(order=person(), reading=reading(state=state)))
    if state in ("preheating", "stabilising", "charge"):
        assert got == {"firmware_owns_heat"}
    else:
        assert got == ({"wrong_state"} if state == "unknown" else set())


@pytest.mark.parametrize("order_type", sorted(OrderType))
def test_unknown_state_permits_nothing(order_type):
    control = CONTROL_OF[order_type]
    asked = person(order_type=order_type, control=control, target_step=5 if control else None)
    assert governor.review(situation(order=asked, reading=reading(state="unknown"))).decision is Decision.REFUSE


@pytest.mark.parametrize(
    ("level", "decision", "legacy"),
    [
        ("L1", Decision.REFUSE, "AUTONOMY_LEVEL_TOO_LOW"),
        ("L2", Decision.REFUSE, "AGENT_COMMANDS_NOT_ALLOWED"),
        ("L3", Decision.HOLD, "APPROVAL_REQUIRED"),
        ("L4", Decision.VETO, "HIGH_AUTONOMY_LEVEL"),
        ("L5", Decision.ALLOW, "HIGH_AUTONOMY_LEVEL"),
        ("L9", Decision.REFUSE, "UNKNOWN_AUTONOMY_LEVEL"),
    ],
)
def test_levels(level, decision, legacy):
    verdict = governor.review(situation(grant=GrantLook(level), attendance=AttendanceLook("operator", NOW)))
    assert verdict.decision is decision
    assert verdict.reasons[0].to_json()["legacy_code"] == legacy


def test_people_are_never_blocked_by_a_level():
    for grant in (None, GrantLook("L1")):
        assert governor.review(situation(order=person(), grant=grant)).decision is Decision.ALLOW


def test_a_grant_covers_settings_unless_it_names_types():
    assert refusals(situation(grant=GrantLook("L3", frozenset({"SET_FAN"})))) == {"no_grant"}
    cool = order(order_type=OrderType.COOL, control="", target_step=None)
    assert refusals(situation(order=cool)) == {"no_grant"}
    assert refusals(situation(order=cool, grant=GrantLook("L3", frozenset({"COOL"})))) == set()


def test_a_halt_lets_only_a_persons_less_heat_through():
    halted = {"halts": (HaltLook("stop"),), "keeper_latched": True}
    assert refusals(situation(order=person(target_step=5), **halted)) == set()
    assert refusals(situation(order=person(target_step=6), **halted)) == {"halted"}
    assert refusals(situation(order=order(target_step=5), **halted)) == {"halted"}


def test_at_dispatch_an_agents_order_needs_its_approval():
    assert refusals(situation(phase=Phase.DISPATCH)) == {"not_approved"}
    assert refusals(situation(phase=Phase.DISPATCH, order=order(is_approved=True))) == set()


def test_at_dispatch_an_order_without_grounds_is_void():
    looked = situation(phase=Phase.DISPATCH, order=order(is_approved=True, seen=None))
    assert refusals(looked) == {"control_moved"}


def test_at_dispatch_a_persons_order_is_void_only_where_it_waited_for_a_second_person():
    moved = Seen("roasting", {**STEPS, "fan": STEPS["fan"] + 1}, 180.0, 12.0, 400_000)
    ran_at_once = situation(phase=Phase.DISPATCH, order=person(seen=moved))
    waited = situation(phase=Phase.DISPATCH, order=person(seen=moved, is_approved=True))
    assert (refusals(ran_at_once), refusals(waited)) == (set(), {"control_moved"})


@pytest.mark.parametrize(
    ("bean_temp_c", "is_void"), [(186.0, False), (186.01, True), (180.0, False), (179.99, True), (183.0, False)]
)
def test_prediction_is_a_straight_line_with_three_degrees(bean_temp_c, is_void):
    seen = Seen("roasting", STEPS, 180.0, 12.0, 400_000)
    later = reading(device_ms=415_000, bean_temp_c=bean_temp_c)  # 15 s at 12 °C/min: 183
    assert (void_reason(seen, later, DEFAULT_POLICY) is not None) == is_void


def test_prediction_uses_the_machines_own_time():
    seen = Seen("roasting", STEPS, 180.0, 12.0, 400_000)
    assert void_reason(seen, reading(device_ms=460_000, bean_temp_c=192.0), DEFAULT_POLICY) is None


def test_without_a_known_rate_the_line_is_flat():
    seen = Seen("roasting", STEPS, 180.0, None, 400_000)
    assert void_reason(seen, reading(device_ms=460_000, bean_temp_c=183.1), DEFAULT_POLICY) is not None


def test_out_of_a_roast_only_controls_void():
    seen = Seen("preheating", STEPS, 100.0, 0.0, 0)
    warm = reading(state="preheating", bean_temp_c=190.0)
    assert void_reason(seen, warm, DEFAULT_POLICY) is None
    moved = dataclasses.replace(warm, steps={**STEPS, "drum": 6})
    assert void_reason(seen, moved, DEFAULT_POLICY).code is Code.CONTROL_MOVED


def test_control_that_is_unread_for_a_moment_does_not_void():
    seen = Seen("roasting", STEPS, 180.0, 12.0, 400_000)
    assert void_reason(seen, reading(steps={**STEPS, "fan": None}), DEFAULT_POLICY) is None


# properties over random situations

constraints = st.builds(
    Constraints,
    min_step=st.none() | st.integers(-20, 20),
    max_step=st.none() | st.integers(-20, 20),
    max_change_step=st.none() | st.integers(0, 20),
    min_interval_s=st.none() | st.floats(0, 1000),
    daily_count=st.none() | st.integers(0, 10),
    require_states=st.frozensets(st.sampled_from(MACHINE_STATES), max_size=2),
    forbidden_states=st.frozensets(st.sampled_from(MACHINE_STATES), max_size=2),
)
steps = st.fixed_dictionaries({name: st.none() | st.integers(-3, 14) for name in STEPS})
readings = st.none() | st.builds(
    ReadingLook,
    age_s=st.floats(allow_nan=True, allow_infinity=True),
    state=st.sampled_from(MACHINE_STATES),
    steps=steps,
    bean_temp_c=st.none() | st.floats(-50, 400),
    rate_of_rise_c_per_min=st.none() | st.floats(-100, 100),
    device_ms=st.integers(0, 2_000_000),
    quality=st.dictionaries(
        st.sampled_from(["heater_step", "bean_temp_c", "fan_step"]), st.sampled_from(["stale", "absent"])
    ),
    link=st.sampled_from(["up", "stale", "down", "never", "keeper_lost"]),
)
seens = st.none() | st.builds(
    Seen,
    state=st.sampled_from(MACHINE_STATES),
    steps=steps,
    bean_temp_c=st.none() | st.floats(-50, 400),
    rate_of_rise_c_per_min=st.none() | st.floats(-100, 100),
    device_ms=st.none() | st.integers(0, 2_000_000),
)


@st.composite
def situations(draw, **fixed):
    order_type = draw(st.sampled_from(list(OrderType)))
    asked = order(
        order_type=order_type,
        control=CONTROL_OF[order_type],
        target_step=None if order_type in STATES else draw(st.none() | st.integers(-5, 20)),
        is_by_agent=draw(st.booleans()),
        expires_at=NOW + dt.timedelta(seconds=draw(st.integers(-10, 300))),
        constraints=draw(constraints),
        misfit=draw(st.none() | st.just(("unit_does_not_fit", "no", "yes"))),
        seen=draw(seens),
        is_approved=draw(st.booleans()),
        is_proposer_active=draw(st.booleans()),
    )
    counts = st.integers(0, 100)
    settled = draw(counts)
    base = situation(
        order=asked,
        phase=draw(st.sampled_from(list(Phase))),
        is_machine_archived=draw(st.booleans()),
        limits=draw(st.none() | st.just(LIMITS)),
        reading=draw(readings),
        are_beans_proved=draw(st.booleans()),
        machine_kind=draw(st.sampled_from([*TABLES, "no-such-kind"])),
        is_orders_paused=draw(st.booleans()),
        is_store_reachable=draw(st.booleans()),
        keeper_latched=draw(st.none() | st.booleans()),
        halts=draw(st.sampled_from([(), (HaltLook("stop"),), (HaltLook("link_lost", "unplugged"),)])),
        suspended_by=draw(st.none() | st.just("operator")),
        grant=draw(st.none() | st.builds(GrantLook, st.sampled_from(["L1", "L2", "L3", "L4", "L5", "?"]))),
        unsettled=draw(
            st.lists(
                st.builds(
                    UnsettledLook,
                    st.sampled_from(["prp_1", "prp_2"]),
                    st.sampled_from(["PENDING_APPROVAL", "EXECUTING", "IN_DOUBT"]),
                    st.sampled_from(["", "heater", "fan"]),
                    st.booleans(),
                ),
                max_size=3,
            ).map(tuple)
        ),
        recent=Recent(
            draw(st.none() | st.just(NOW)),
            draw(counts),
            draw(counts),
            draw(counts),
            settled,
            draw(st.integers(0, settled)),
        ),
        roast_id=draw(st.none() | st.just("rst_1")),
    )
    return dataclasses.replace(base, **fixed)


MANY = settings(max_examples=400, deadline=None)


@MANY
@given(situations())
def test_never_raises_and_always_explains(looked):
    verdict = governor.review(looked)
    assert verdict.tracebacks == ()
    assert verdict.reasons
    for reason in verdict.reasons:
        assert reason.message
        assert reason.how_to_fix or reason.decision is Decision.ALLOW


@MANY
@given(situations())
def test_an_agent_is_never_allowed_outright(looked):
    if looked.order.is_by_agent:
        assert governor.review(looked).decision in (Decision.HOLD, Decision.REFUSE)


@MANY
@given(situations())
def test_stale_or_unknown_never_permits_heat_up(looked):
    if looked.is_heat_up and (looked.reading is None or not looked.reading.age_s <= 1.0):
        assert governor.review(looked).decision is Decision.REFUSE


@MANY
@given(situations())
def test_a_halt_permits_nothing_but_less_heat(looked):
    if looked.halts or looked.keeper_latched:
        verdict = governor.review(looked)
        assert verdict.decision is Decision.REFUSE or (looked.is_heat_down and not looked.order.is_by_agent)


@MANY
@given(situations())
def test_no_permitted_target_leaves_the_envelope(looked):
    if governor.review(looked).decision is not Decision.REFUSE and looked.order.control:
        target, asked = looked.order.target_step, looked.order.constraints
        assert looked.limits.min_step <= target <= looked.limits.max_step
        assert asked.max_step is None or target <= asked.max_step
        assert asked.min_step is None or target >= asked.min_step


@MANY
@given(situations())
def test_every_word_is_from_the_rules_and_the_worst_wins(looked):
    verdict = governor.review(looked)
    assert WORSE[verdict.decision] == max(WORSE[reason.decision] for reason in verdict.reasons)


@MANY
@given(situations(), constraints)
def test_a_stricter_wish_never_makes_a_verdict_milder(looked, wish):
    plain = dataclasses.replace(looked, order=dataclasses.replace(looked.order, constraints=Constraints()))
    strict = dataclasses.replace(looked, order=dataclasses.replace(looked.order, constraints=wish))
    assert WORSE[governor.review(strict).decision] >= WORSE[governor.review(plain).decision]


reasons = st.builds(Reason, st.sampled_from(list(Code)), st.sampled_from(list(Decision)), st.text(max_size=5))


@MANY
@given(st.lists(reasons, min_size=1, max_size=8), reasons)
def test_another_reason_never_makes_a_verdict_milder(before, one_more):
    milder = weigh(tuple(before))
    assert WORSE[weigh((*before, one_more)).decision] >= WORSE[milder.decision]


@given(st.lists(reasons, min_size=1, max_size=8), st.randoms())
def test_the_order_of_reasons_decides_nothing(some, chance):
    mixed = list(some)
    chance.shuffle(mixed)
    assert weigh(tuple(mixed)).decision is weigh(tuple(some)).decision


def test_legacy_codes_are_upper_case_and_ours_lower():
    assert all(code.value == code.value.lower() for code in Code)
    assert all(word == word.upper() for word in LEGACY.values())
