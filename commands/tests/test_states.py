"""Each kind of machine has its own table of states: no order is allowed that its driver could not carry out."""

from __future__ import annotations

import dataclasses

import pytest

from commands import governor
from commands.loop.orders_out import STATE_OF
from commands.reasons import Code, Decision
from commands.rules.conversion import CONTROL_OF, STATES, OrderType, to_native
from commands.rules.states import ALL_KNOWN, FIRMWARE_OWNS_HEAT, TABLES, table_of
from commands.rules.values import Constraints, Limits
from commands.tests.situations import BASE, person, situation
from drivers import registry
from drivers.bullet import codec_r2
from drivers.bullet.tables import R1, R2, BulletModel
from drivers.lines import greeting
from drivers.port import FIRMWARE_OWNS_HEAT as OWNED
from drivers.port import MachineState

MODELS = {"bullet-r1": R1, "bullet-r2": R2}
HALF = Limits(0, 100, 100, 100, 0.0, 1000, 100)
#: The R1's table as one table stood for all: written out once more, so that a slip of the pen in either is seen.
R1_AS_EVER = {
    "SET_POWER": {"off", "roasting", "cooling", "shutdown"},
    "SET_FAN": {"charge", "roasting", "cooling"},
    "SET_DRUM": {"charge", "roasting", "cooling"},
    "PREHEAT": {"off"}, "CHARGE": {"charge"}, "DROP": {"roasting"}, "COOL": {"roasting"},
}  # fmt: skip


def refused(kind: str, order_type: OrderType, state: str, **changes: object) -> set[str]:
    """Codes by which a person's order is refused; settings go down a little."""
    control = CONTROL_OF[order_type]
    step = {"heater": 5, "fan": 5, "drum": 6}.get(control)
    own = person(order_type=order_type, control=control, target_step=step, **changes)
    reading = dataclasses.replace(BASE.reading, state=state)
    looked = situation(order=own, reading=reading, machine_kind=kind, limits=HALF if control else None)
    return {reason.code.value for reason in governor.review(looked).refusals}


def test_every_kind_of_driver_has_a_table_and_nothing_else_has() -> None:
    assert set(TABLES) == set(registry.KINDS)
    assert {state.value for state in OWNED} == FIRMWARE_OWNS_HEAT
    assert {state.value for state in MachineState} - {"unknown"} == ALL_KNOWN


def test_the_r1s_table_is_what_it_was_for_all() -> None:
    table = TABLES["bullet-r1"]
    assert {order.value: set(states) for order, states in table.allowed.items()} == R1_AS_EVER
    assert table.heat_up == {"roasting"} and table.preheat_range_c is None


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("order_type", sorted(STATES))
def test_a_bullets_table_allows_a_press_just_where_its_driver_knows_one(kind: str, order_type: OrderType) -> None:
    """But for the R1's CHARGE, which stays: a person's is declined by the driver, in words."""
    model: BulletModel = MODELS[kind]
    codec_states = {code: state for code in range(256) if (state := _state_of(kind, code)) is not MachineState.UNKNOWN}
    target = STATE_OF[order_type.value]
    known = {codec_states[code].value for code, wanted in model.presses if wanted is target and code in codec_states}
    allowed = set(table_of(kind).allowed.get(order_type, ()))
    if (kind, order_type) == ("bullet-r1", OrderType.CHARGE):
        assert allowed == {"charge"} and known == set()
    else:
        assert allowed == known


def _state_of(kind: str, code: int) -> MachineState:
    from drivers.bullet import codec_r1

    return codec_r1.state_of(code) if kind == "bullet-r1" else codec_r2.state_of(code)


def test_the_r2s_preheat_range_is_its_codecs() -> None:
    assert TABLES["bullet-r2"].preheat_range_c == codec_r2.PREHEAT_RANGE_C
    assert [kind for kind, table in TABLES.items() if table.preheat_range_c] == ["bullet-r2"]


def test_a_line_machine_is_asked_only_for_states_that_a_hello_can_declare() -> None:
    for order_type in set(TABLES["tcp-line"].allowed) & STATES:
        assert STATE_OF[order_type.value] in greeting.ASKABLE
    for kind in ("tc4-serial", "tc4-tcp"):
        assert not set(TABLES[kind].allowed) & STATES, "a TC4 has no states to be asked for"


@pytest.mark.parametrize("kind", sorted(TABLES))
@pytest.mark.parametrize("order_type", sorted(OrderType))
@pytest.mark.parametrize("state", sorted({*ALL_KNOWN, "unknown"}))
def test_a_persons_order_passes_just_in_the_states_of_the_kinds_table(
    kind: str, order_type: OrderType, state: str
) -> None:
    allowed = TABLES[kind].allowed.get(order_type)
    codes = refused(kind, order_type, state) & {"wrong_state", "not_by_wire", "firmware_owns_heat"}
    if allowed is None:
        assert codes == {"not_by_wire"}
    elif state in allowed:
        assert codes == set()
    elif order_type is OrderType.SET_POWER and state in FIRMWARE_OWNS_HEAT:
        assert codes == {"firmware_owns_heat"}
    else:
        assert codes == {"wrong_state"}


@pytest.mark.parametrize("kind", sorted(TABLES))
def test_heat_goes_up_only_while_roasting_on_every_kind(kind: str) -> None:
    for state in sorted({*ALL_KNOWN, "unknown"}):
        reading = dataclasses.replace(BASE.reading, state=state)
        looked = situation(order=person(target_step=7), reading=reading, machine_kind=kind)
        assert (governor.review(looked).decision is Decision.REFUSE) == (state != "roasting"), state


@pytest.mark.parametrize("order_type", sorted(OrderType))
@pytest.mark.parametrize("state", sorted(ALL_KNOWN))
def test_a_kind_that_nobody_knows_permits_nothing(order_type: OrderType, state: str) -> None:
    assert "not_by_wire" in refused("bullet-r9", order_type, state)


@pytest.mark.parametrize(("kind", "is_by_hand"), [("bullet-r1", True), ("bullet-r2", True), ("tcp-line", False)])
def test_an_agents_drop_is_advice_where_beans_move_by_hand(kind: str, is_by_hand: bool) -> None:
    drop = dataclasses.replace(BASE.order, order_type=OrderType.DROP, control="", target_step=None)
    codes = {reason.code for reason in governor.review(situation(order=drop, machine_kind=kind, limits=None)).reasons}
    assert (Code.HAND_ACT in codes) == is_by_hand


# --- the preheat temperature


def preheated(degrees: float, kind: str = "bullet-r2", **constraints: int) -> set[str]:
    takes_c = table_of(kind).preheat_range_c is not None
    native = to_native(OrderType.PREHEAT, degrees, "celsius", None, takes_preheat_c=takes_c)
    misfit = native.misfit
    own = person(
        order_type=OrderType.PREHEAT, control="", target_step=None, preheat_c=native.preheat_c,
        misfit=(misfit.code, misfit.message, misfit.how_to_fix) if misfit else None,
        constraints=Constraints(**constraints),
    )  # fmt: skip
    reading = dataclasses.replace(BASE.reading, state="off")
    looked = situation(order=own, reading=reading, machine_kind=kind, limits=None, max_preheat_temp_c=260.0)
    return {reason.code.value for reason in governor.review(looked).refusals}


@pytest.mark.parametrize(
    ("degrees", "code"),
    [
        (19.99, "preheat_out_of_range"), (20, ""), (20.99, ""), (260, ""), (260.99, ""),
        (261, "preheat_out_of_range"), (350, "preheat_out_of_range"), (-1e9, "preheat_out_of_range"),
    ],
)  # fmt: skip
def test_a_preheat_is_rounded_down_and_kept_between_the_kinds_lowest_and_the_envelopes_highest(
    degrees: float, code: str
) -> None:
    assert preheated(degrees) == ({code} if code else set())


def test_a_proposer_may_ask_for_a_lower_highest_and_never_for_a_higher() -> None:
    assert preheated(230, max_step=229) == {"preheat_out_of_range"}
    assert preheated(229, max_step=229) == set()
    assert preheated(261, max_step=300) == {"preheat_out_of_range"}
    assert preheated(100, min_step=101) == {"preheat_out_of_range"}


@pytest.mark.parametrize("kind", ["bullet-r1", "tcp-line"])
def test_a_machine_that_takes_no_preheat_temperature_says_so(kind: str) -> None:
    assert preheated(200, kind) == {"target_not_supported"}


@pytest.mark.parametrize(
    ("value", "unit", "code"),
    [
        (None, "", ""), (200.0, "celsius", ""), (200.0, "", "unit_does_not_fit"), (200.0, "step", "unit_does_not_fit"),
        (200.0, "rpm", "unit_does_not_fit"), (None, "celsius", "target_missing"),
        (float("nan"), "celsius", "target_missing"), (float("inf"), "celsius", "target_missing"),
    ],
)  # fmt: skip
def test_what_a_preheat_may_be_given_in(value: float | None, unit: str, code: str) -> None:
    got = to_native(OrderType.PREHEAT, value, unit, None, takes_preheat_c=True)
    assert (got.misfit.code if got.misfit else "") == code
    assert got.step is None and (got.preheat_c is not None) == (value == 200.0 and not code)


def test_an_order_for_less_than_a_whole_degree_more_is_the_degree_below() -> None:
    assert to_native(OrderType.PREHEAT, 220.999, "celsius", None, takes_preheat_c=True).preheat_c == 220
