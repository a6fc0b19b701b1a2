"""The model by itself: ramp, ways back, breakers and plans. (Levels and approvers: test_rules.py.)"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from simulation import oracle_breakers, oracle_plans, oracle_ways_back
from simulation.oracle import Asked, Grant, Limit, Look, Model, Order, Person, Plan

ROOM = Path(__file__).resolve().parent.parent
LIMITS = {
    "heater": Limit(0, 9, 3, 2.0, 6, 4, 1.0), "fan": Limit(1, 12, 4, 0.0, 99, 99, 5.0),
    "drum": Limit(1, 9, 2, 1.2, 3, 2),
}  # fmt: skip
AGENT = Person("steady", "ours", owner="owner", is_agent=True)
OPERATOR = Person("operator", "ours", frozenset({"operator"}))
VIEWER = Person("viewer", "ours", frozenset({"viewer"}))
STRANGER = Person("stranger", "theirs", frozenset({"operator", "lead"}))
LOOK = Look(10.0, "roasting", {"heater": 5, "fan": 4, "drum": 9}, 150.0, are_beans_proved=True, is_in_roast=True)


def _model(level: str = "L5", *, attended_s: float = 10.0) -> Model:
    model = Model({each.name: each for each in (AGENT, OPERATOR, VIEWER, STRANGER)}, LIMITS)
    model.grants["g"] = Grant("g", "steady", level, frozenset(), None)
    model.attended_s = attended_s
    return model


def _order(order_id: str, status: str = "COMPLETED", **more: object) -> Order:
    asked = Asked("SET_FAN", 5.0, "step")
    order = Order(order_id, "steady", asked, "fan", 5, status, 0.0, 45.0, LOOK, is_by_agent=True)
    for name, value in more.items():
        setattr(order, name, value)
    return order


@pytest.mark.parametrize(
    ("target", "at_s", "refusals"),
    [(6.0, 10.4, ()), (7.0, 10.4, ("ramp_too_steep",)), (8.0, 10.8, ()), (8.0, 10.799999, ("ramp_too_steep",)),
     (4.0, 10.0, ()), (5.0, 10.0, ("ramp_too_steep",))],
)  # fmt: skip
def test_the_model_knows_the_ramp_on_both_sides_of_its_bound(
    target: float, at_s: float, refusals: tuple[str, ...]
) -> None:
    model = _model()
    model.orders["p"] = _order("p", decided_s=10.0)
    look = dataclasses.replace(LOOK, at_s=at_s)
    assert model.judge(AGENT, Asked("SET_FAN", target, "step"), look, at_s).refusals == refusals


def test_people_and_less_heat_know_no_ramp() -> None:
    model = _model()
    model.orders["p"] = _order("p", decided_s=10.0, control="heater")
    assert model.judge(OPERATOR, Asked("SET_POWER", 9.0, "step"), LOOK, 10.1).refusals == ()
    assert "ramp_too_steep" not in model.judge(AGENT, Asked("SET_POWER", 2.0, "step"), LOOK, 10.1).refusals


@pytest.mark.parametrize(
    ("more", "who", "expected"),
    [
        ({"actual": 5, "ran_from": 4}, OPERATOR, (409, "moved_since")),
        ({"actual": 4, "ran_from": 6}, OPERATOR, (201, "")),
        ({"actual": 4, "ran_from": 6}, AGENT, (201, "")),
        ({"actual": 4, "ran_from": 6}, VIEWER, (403, "not_allowed")),
        ({"actual": 4, "ran_from": 6}, STRANGER, (404, "proposal_not_found")),
        ({"actual": 4, "ran_from": 4}, OPERATOR, (409, "nothing_moved")),
        ({}, VIEWER, (409, "nothing_moved")),
        ({"actual": 4}, OPERATOR, (409, "nothing_confirmed")),
        ({"status": "IN_DOUBT"}, OPERATOR, (409, "not_settled")),
        ({"control": ""}, OPERATOR, (409, "not_a_setting")),
    ],
)
def test_the_model_knows_what_can_be_taken_back(
    more: dict[str, object], who: Person, expected: tuple[int, str]
) -> None:
    found = oracle_ways_back.roll_back(who, _order("p", **more), LOOK)
    assert (found.status, found.code) == expected


def test_the_way_back_is_to_where_it_was() -> None:
    assert oracle_ways_back.going_back(_order("p", ran_from=6)) == Asked("SET_FAN", 6.0, "step")


def _failed(count: int, *, every_s: float = 60.0, code: str = "not_sent") -> list[Order]:
    return [_order(f"p{place}", "FAILED", settled_s=place * every_s + 1, outcome=code) for place in range(count)]


@pytest.mark.parametrize(("level", "to"), [("L5", "L3"), ("L4", "L3"), ("L3", "L2"), ("L2", None)])
def test_three_failures_of_a_type_take_acting_alone_away(level: str, to: str | None) -> None:
    grant = Grant("g", "steady", level, frozenset(), None)
    assert oracle_breakers.lowered(grant, _failed(2)) is None
    found = oracle_breakers.lowered(grant, _failed(3))
    assert (found and found[0]) == to


def test_a_reason_counts_once_and_never_what_was_before_the_grant() -> None:
    grant = Grant("g", "steady", "L5", frozenset(), None, told=frozenset({("failures_of_type", "SET_FAN")}))
    assert oracle_breakers.lowered(grant, _failed(4)) is None
    assert oracle_breakers.lowered(Grant("g", "steady", "L5", frozenset(), None, granted_s=2.0), _failed(3)) is None
    assert oracle_breakers.lowered(Grant("g", "steady", "L5", frozenset(), None), _failed(3, every_s=150.0)) is None


def test_a_contradiction_leaves_advice_alone_and_a_hand_is_nobodys_failure() -> None:
    grant = Grant("g", "steady", "L5", frozenset(), None)
    assert oracle_breakers.lowered(grant, _failed(1, code="contradicted")) == ("L2", ("contradicted", ""))
    assert oracle_breakers.lowered(grant, _failed(5, code="moved_at_machine")) is None


def _fan(*targets: float) -> list[Asked]:
    return [Asked("SET_FAN", target, "step") for target in targets]


def test_the_worst_order_decides_for_the_whole_plan() -> None:
    verdicts = oracle_plans.judge(_model(), AGENT, _fan(5.0, 13.0), LOOK, 10.2)
    assert [verdict.decision for verdict in verdicts] == ["REFUSE", "REFUSE"]
    assert verdicts[0].refusals == ("plan_refused",)
    assert "above_ceiling" in verdicts[1].refusals


def test_each_order_of_a_plan_is_judged_where_those_before_it_leave_the_machine() -> None:
    model = _model()
    assert oracle_plans.judge(model, AGENT, _fan(8.0, 12.0), LOOK, 10.2)[1].refusals == ()  # 4 steps, not 8
    assert model.judge(AGENT, _fan(12.0)[0], LOOK, 10.2).refusals == ("change_too_large",)


def test_a_later_order_has_the_time_of_those_before_it_and_its_own_distance() -> None:
    heat = [Asked("SET_POWER", target, "step") for target in (6.0, 9.0, 8.0)]
    agents = oracle_plans.places_of(_model(), AGENT, heat, LOOK)
    assert [place.expires_in_s for place in agents] == [45.0, 58.0, 68.0]  # three steps at one a second; less heat
    persons = oracle_plans.places_of(_model(), OPERATOR, _fan(5.0, 6.0), LOOK)
    assert [place.expires_in_s for place in persons] == [20.0, 30.0]


def test_an_order_of_a_plan_is_judged_from_where_the_machine_was_read() -> None:
    model = _model()
    first = _order("a", "COMPLETED", plan="n", target=6, settled_s=10.5)
    second = _order("b", "APPROVED", plan="n", target=8)
    model.orders = {"a": first, "b": second}
    plan = Plan("n", "steady", ("a", "b"), "", "watch", is_by_agent=True)
    assert oracle_plans.place_of(model, plan, second, 10.2).left == (("fan", 6),)  # read before it moved
    assert oracle_plans.place_of(model, plan, second, 10.6).left == ()
    assert oracle_plans.place_of(model, plan, second, 10.6).seen == (("fan", 6),)


@pytest.mark.parametrize(
    ("statuses", "found"),
    [
        (("PENDING_APPROVAL", "PENDING_APPROVAL"), {"PENDING_APPROVAL"}),
        (("APPROVED", "APPROVED"), {"APPROVED"}),
        (("COMPLETED", "APPROVED"), {"EXECUTING"}),
        (("IN_DOUBT", "ABORTED"), {"EXECUTING"}),
        (("COMPLETED", "COMPLETED"), {"COMPLETED"}),
        (("REJECTED", "ABORTED"), {"REJECTED", "ABORTED"}),
        (("COMPLETED", "REJECTED"), {"FAILED"}),
        (("FAILED", "ABORTED"), {"FAILED", "ABORTED"}),
    ],
)
def test_the_model_knows_a_plan_by_its_orders(statuses: tuple[str, ...], found: set[str]) -> None:
    model = _model()
    for place, status in enumerate(statuses):
        model.orders[f"p{place}"] = _order(f"p{place}", status, plan="n")
    plan = Plan("n", "steady", tuple(model.orders), "", "watch", is_by_agent=True)
    assert oracle_plans.statuses_of(model, plan) == found


def test_the_plan_oracle_and_its_neighbours_import_nothing_of_the_product() -> None:
    allowed = ("from simulation.oracle import", "from simulation.oracle_values import")
    for name in ("oracle", "oracle_values", "oracle_plans", "oracle_breakers", "oracle_ways_back"):
        for line in (ROOM / f"{name}.py").read_text(encoding="utf-8").splitlines():
            rooms = ("commands", "kernel", "drivers", "roasts", "django", "simulation")
            is_import = line.startswith(tuple(f"{word} {room}" for word in ("from", "import") for room in rooms))
            assert not is_import or line.startswith(allowed), f"{name}: {line}"
