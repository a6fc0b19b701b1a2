"""ISA-18.2: every state and every move, both sides of each bound, for alarms by the thousand."""

from __future__ import annotations

import datetime as dt
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.alarms.states import (
    PRIORITIES,
    SHAPES,
    WORDS,
    AlarmLook,
    AlarmState,
    first_outs,
    longest_shelf,
    refuse_shelf,
    sounds,
    state_of,
    worst_first,
)

AT = dt.datetime(2026, 11, 21, 8, 0, tzinfo=dt.UTC)


def at(minutes: float) -> dt.datetime:
    return AT + dt.timedelta(minutes=minutes)


def alarm(name: str = "a", *, priority: str = "high", raised: float = 0, cleared=None, seen=None, shelved=None, of="m"):
    given_times = [None if minutes is None else at(minutes) for minutes in (cleared, seen, shelved)]
    return AlarmLook(name, of, priority, at(raised), *given_times)


@pytest.mark.parametrize(
    ("cleared", "seen", "shelved", "state"),
    [
        (None, None, None, AlarmState.UNACKNOWLEDGED),
        (None, 1, None, AlarmState.ACKNOWLEDGED),
        (1, None, None, AlarmState.RETURNED),
        (1, 2, None, AlarmState.NORMAL),
        (None, None, 10, AlarmState.SHELVED),
        (None, 1, 10, AlarmState.SHELVED),
        (1, None, 10, AlarmState.SHELVED),
        (1, 2, 10, AlarmState.NORMAL),
        (None, None, 5, AlarmState.UNACKNOWLEDGED),  # now is minute 5: the shelf has just ended
        (None, 1, 5, AlarmState.ACKNOWLEDGED),
        (1, None, 5, AlarmState.RETURNED),
    ],
)
def test_cause_person_and_shelf_make_the_state(cleared, seen, shelved, state):
    assert state_of(alarm(cleared=cleared, seen=seen, shelved=shelved), at(5)) is state


def test_a_shelf_ends_at_its_very_moment():
    shelved = alarm(shelved=10)
    assert state_of(shelved, at(10) - dt.timedelta(microseconds=1)) is AlarmState.SHELVED
    assert state_of(shelved, at(10)) is AlarmState.UNACKNOWLEDGED


def test_every_state_has_words_and_a_shape_of_its_own():
    assert set(WORDS) == set(SHAPES) == set(AlarmState)
    assert len(set(WORDS.values())) == len(set(SHAPES.values())) == len(AlarmState)


@pytest.mark.parametrize(
    ("priority", "minutes", "code"),
    [("high", 10, None), ("high", 10.001, "shelved_too_long"), ("high", 60, "shelved_too_long"),
     ("medium", 60, None), ("medium", 60.001, "shelved_too_long"), ("low", 60, None), ("low", 61, "shelved_too_long"),
     ("novel", 10.001, "shelved_too_long"), ("low", 0, "too_short"), ("low", -1, "too_short"), ("low", 0.001, None)],
)  # fmt: skip
def test_how_long_an_alarm_is_shelved_at_most(priority, minutes, code):
    refusal = refuse_shelf(alarm(priority=priority), lasting=dt.timedelta(minutes=minutes), reason="known", now=at(1))
    assert (refusal.code if refusal else None) == code


@pytest.mark.parametrize("reason", ["", "  ", "\n"])
def test_shelving_needs_a_reason(reason):
    refusal = refuse_shelf(alarm(), lasting=dt.timedelta(minutes=5), reason=reason, now=at(1))
    assert refusal and refusal.code == "reason_required"


def test_what_is_over_is_not_shelved():
    refusal = refuse_shelf(alarm(cleared=1, seen=2), lasting=dt.timedelta(minutes=5), reason="x", now=at(3))
    assert refusal and refusal.code == "alarm_over"


def test_what_is_gone_and_unseen_may_be_shelved():
    assert refuse_shelf(alarm(cleared=1), lasting=dt.timedelta(minutes=5), reason="x", now=at(3)) is None


def test_worst_comes_first_and_shelved_last():
    rows = [
        alarm("shelved-high", shelved=60),
        alarm("low", priority="low"),
        alarm("known-high", seen=1),
        alarm("gone-high", cleared=1),
        alarm("old-high"),
        alarm("new-high", raised=1),
        alarm("medium", priority="medium"),
    ]
    names = [each.alarm_id for each in worst_first(rows, at(5))]
    assert names == ["new-high", "old-high", "known-high", "gone-high", "medium", "low", "shelved-high"]


def test_an_unknown_priority_counts_as_the_worst():
    rows = [alarm("medium", priority="medium"), alarm("odd", priority="odd")]
    assert worst_first(rows, at(5))[0].alarm_id == "odd" and sounds(rows[1], at(5))


@pytest.mark.parametrize(
    ("look", "is_heard"),
    [(alarm(), True), (alarm(seen=1), False), (alarm(cleared=1), False), (alarm(shelved=10), False),
     (alarm(priority="medium"), False), (alarm(priority="low"), False)],
)  # fmt: skip
def test_only_a_high_alarm_that_stands_unseen_is_heard(look, is_heard):
    assert sounds(look, at(5)) is is_heard


def test_of_alarms_that_stood_together_the_first_is_marked():
    rows = [alarm("cause", raised=0), alarm("effect", raised=1), alarm("alone", raised=0, of="other")]
    assert first_outs(rows) == {"cause"}


def test_an_alarm_after_all_others_had_gone_begins_a_new_group():
    rows = [
        alarm("a", raised=0, cleared=2),
        alarm("b", raised=1, cleared=3),
        alarm("c", raised=3),
        alarm("d", raised=4),
    ]
    assert first_outs(rows) == {"a", "c"}


looks = st.builds(
    alarm,
    st.uuids().map(str),
    priority=st.sampled_from([*PRIORITIES, "odd"]),
    raised=st.integers(0, 9),
    cleared=st.none() | st.integers(10, 20),
    seen=st.none() | st.integers(0, 20),
    shelved=st.none() | st.integers(0, 30),
    of=st.sampled_from(["m", "n"]),
)


@given(st.lists(looks, max_size=12), st.integers(0, 40))
def test_sorting_loses_nothing_and_never_puts_a_shelved_one_before_another(rows, minute):
    shown = worst_first(rows, at(minute))
    assert sorted(shown, key=lambda each: each.alarm_id) == sorted(rows, key=lambda each: each.alarm_id)
    shelves = [state_of(each, at(minute)) is AlarmState.SHELVED for each in shown]
    assert shelves == sorted(shelves)
    ranks = [longest_shelf(each.priority) for each, shelf in zip(shown, shelves, strict=True) if not shelf]
    assert all(before <= after for before, after in itertools.pairwise(ranks))


@given(st.lists(looks, max_size=12))
def test_every_first_out_stood_together_with_a_later_one_and_none_before_it(rows):
    for name in first_outs(rows):
        first = next(each for each in rows if each.alarm_id == name)
        others = [each for each in rows if each is not first and each.machine_id == first.machine_id]
        end = first.cleared_at or at(10_000)
        assert any(first.raised_at <= each.raised_at < end for each in others)


@given(looks, st.integers(0, 40))
def test_no_shelf_makes_an_alarm_that_stands_look_over(look, minute):
    state = state_of(look, at(minute))
    assert (state is AlarmState.NORMAL) == (look.cleared_at is not None and look.acknowledged_at is not None)
