"""The policy's document: every fault is named with its place; what is valid comes back as it was."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commands.reasons import Decision
from commands.rules import policy
from commands.rules.significance import LEVELS
from commands.rules.values import DEFAULT_POLICY, Level


def faults(document) -> dict[str, str]:
    with pytest.raises(policy.PolicyRefused) as caught:
        policy.parse(document, version=1)
    return {fault.place: fault.message for fault in caught.value.faults}


def changed(place: str, value) -> dict:
    """The house's own policy with one entry changed: `numbers.veto_window_s`, `table.3.reason`."""
    document = copy.deepcopy(policy.DEFAULT_DOCUMENT)
    *path, last = place.split(".")
    target = document
    for word in path:
        target = target[int(word)] if isinstance(target, list) else target[word]
    target[int(last) if isinstance(target, list) else last] = value
    return document


def test_the_houses_own_document_is_the_houses_own_policy():
    assert policy.parse(policy.DEFAULT_DOCUMENT, version=0) == DEFAULT_POLICY
    assert policy.document_of(policy.parse(policy.DEFAULT_DOCUMENT, version=7)) == policy.DEFAULT_DOCUMENT


def test_it_survives_the_way_through_json():
    assert policy.parse(json.loads(json.dumps(policy.DEFAULT_DOCUMENT)), version=0) == DEFAULT_POLICY


@pytest.mark.parametrize("name", sorted(policy.NUMBERS))
def test_each_number_has_bounds_and_both_ends_are_in(name):
    least, most, is_whole, _what = policy.NUMBERS[name]
    step = 1 if is_whole else 1e-6
    others = {"veto_window_s": ("expires_in_roast_s", 600.0), "expires_in_roast_s": ("veto_window_s", 5.0 - 1e-9)}
    for value, is_in in ((least, True), (most, True), (least - step, False), (most + step, False)):
        document = changed(f"numbers.{name}", value)
        if name in others and name == "veto_window_s":
            document["numbers"]["expires_in_roast_s"] = 600.0
        if name == "expires_in_roast_s" and is_in:
            document["numbers"]["veto_window_s"] = 5.0
            if value == 5.0:
                assert "numbers.veto_window_s" in faults(document)
                continue
        if is_in:
            assert getattr(policy.parse(document, version=1), name) == value
        else:
            assert f"numbers.{name}" in faults(document)


@pytest.mark.parametrize("value", [None, "15", True, [15], {}, 10**400, 1.5])
def test_a_number_is_a_number(value):
    assert "numbers.session_limit" in faults(changed("numbers.session_limit", value))


def test_a_veto_window_is_shorter_than_an_order_lives():
    document = changed("numbers.veto_window_s", 44.9)
    assert policy.parse(document, version=1).veto_window_s == 44.9
    assert list(faults(changed("numbers.veto_window_s", 45.0))) == ["numbers.veto_window_s"]


@pytest.mark.parametrize(
    ("place", "value", "named"),
    [
        ("two_person_from", "much", "two_person_from"),
        ("own_second_from", "distress", "own_second_from"),
        ("confirm_from", ["watch"], "confirm_from"),
        ("table", [], "table"),
        ("table", {"0": {}}, "table"),
        ("table", [policy.DEFAULT_DOCUMENT["table"][0]] * 201, "table"),
        ("table.2", "row", "table[2]"),
        ("table.2.order_type", "SET_LIGHT", "table[2].order_type"),
        ("table.2.order_type", ["SET_FAN"], "table[2].order_type"),
        ("table.2.direction", "act", "table[2].direction"),
        ("table.2.direction", {}, "table[2].direction"),
        ("table.2.up_to_share", 1.01, "table[2].up_to_share"),
        ("table.2.up_to_share", -0.01, "table[2].up_to_share"),
        ("table.2.up_to_share", "all", "table[2].up_to_share"),
        ("table.2.states", ["burning"], "table[2].states"),
        ("table.2.states", "roasting", "table[2].states"),
        ("table.2.states", [["roasting"]], "table[2].states"),
        ("table.2.significance", "quite", "table[2].significance"),
        ("table.2.reason", "  ", "table[2].reason"),
        ("table.2.reason", "x" * 301, "table[2].reason"),
        ("table.2.extra", 1, "table[2].extra"),
        ("matrix", [], "matrix"),
        ("matrix.L4", "veto", "matrix.L4"),
        ("matrix.L4.watch", "maybe", "matrix.L4.watch"),
        ("matrix.L4.watch", ["veto"], "matrix.L4.watch"),
        ("matrix.L6", {}, "matrix.L6"),
        ("numbers", 3, "numbers"),
        ("extra", 3, "extra"),
        ("matrix.L2.none", "hold", "matrix.L2.none"),
        ("matrix.L3.none", "veto", "matrix.L3.none"),
        ("matrix.L4.none", "allow", "matrix.L4.none"),
    ],
)
def test_each_fault_is_named_with_its_place(place, value, named):
    assert named in faults(changed(place, value))


@pytest.mark.parametrize("missing", ["numbers", "table", "matrix", "two_person_from"])
def test_what_is_missing_is_named(missing):
    document = copy.deepcopy(policy.DEFAULT_DOCUMENT)
    del document[missing]
    assert faults(document) == {missing: "It is missing."}


@pytest.mark.parametrize("document", [None, [], "policy", 3])
def test_a_policy_is_an_object(document):
    assert faults(document) == {"": "A policy is an object."}


def test_every_fault_is_told_not_only_the_first():
    document = changed("numbers.veto_window_s", "x")
    document["numbers"]["session_limit"] = -1
    document["table"][0]["reason"] = ""
    assert set(faults(document)) == {"numbers.veto_window_s", "numbers.session_limit", "table[0].reason"}


def test_more_trust_never_permits_less():
    document = changed("matrix.L5.watch", "hold")
    document["matrix"]["L5"]["warning"] = "hold"
    assert "matrix.L5.watch" in faults(document)  # L4 opens a veto window for it


def test_more_consequence_never_permits_more():
    assert "matrix.L3.severe" not in faults(changed("matrix.L3.watch", "refuse"))
    assert "matrix.L3.warning" in faults(changed("matrix.L3.watch", "refuse"))


def test_a_row_that_never_applies_is_a_fault():
    document = copy.deepcopy(policy.DEFAULT_DOCUMENT)
    document["table"].insert(0, {**document["table"][0], "direction": "any", "up_to_share": 1.0})
    found = faults(document)
    assert found["table[1]"].startswith("It never applies: row 0")


def test_a_row_for_one_state_before_the_row_for_all_is_none():
    document = copy.deepcopy(policy.DEFAULT_DOCUMENT)
    document["table"].insert(0, {**document["table"][0], "states": ["off"], "direction": "any"})
    assert policy.parse(document, version=1).table[0].states == {"off"}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_PLACES = ["numbers", "table", "matrix", "two_person_from", "numbers.veto_window_s", "table.0", "table.0.states",
           "table.0.order_type", "matrix.L4", "matrix.L4.none", "table.5.direction", "confirm_from"]  # fmt: skip


@given(st.sampled_from(_PLACES), _JSON)
@settings(max_examples=400, deadline=None)
def test_whatever_is_written_is_a_policy_or_is_refused_by_name(place, value):
    try:
        parsed = policy.parse(changed(place, value), version=1)
    except policy.PolicyRefused as refused:
        assert refused.faults
    else:
        assert policy.parse(policy.document_of(parsed), version=1) == parsed


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_what_is_accepted_is_monotone_and_capped(data):
    document = copy.deepcopy(policy.DEFAULT_DOCUMENT)
    for _ in range(data.draw(st.integers(1, 4))):
        level, each = data.draw(st.sampled_from([*Level])), data.draw(st.sampled_from(LEVELS))
        document["matrix"][level.value][each.value] = data.draw(st.sampled_from(["allow", "veto", "hold", "refuse"]))
    try:
        matrix = policy.parse(document, version=1).matrix
    except policy.PolicyRefused:
        return
    rank = {Decision.ALLOW: 0, Decision.VETO: 1, Decision.HOLD: 2, Decision.REFUSE: 3}
    for each in LEVELS:
        ranks = [rank[matrix[level][each]] for level in Level]
        assert ranks == sorted(ranks, reverse=True)
    for level in Level:
        ranks = [rank[matrix[level][each]] for each in LEVELS]
        assert ranks == sorted(ranks)
    assert {matrix[level][each] for level in (Level.L1, Level.L2) for each in LEVELS} == {Decision.REFUSE}
