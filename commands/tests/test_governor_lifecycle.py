"""The table of moves: what is in it, and that nothing else is."""

from __future__ import annotations

import itertools

import pytest

from commands.lifecycle import BEFORE_THE_WIRE, NEXT, ON_THE_WIRE, SETTLED, UNSETTLED, Actor, Status, may_move, moves
from commands.records import order_guards


@pytest.mark.parametrize(("old", "new", "actor"), list(itertools.product(Status, Status, Actor)))
def test_only_the_tables_moves_are_allowed(old, new, actor):
    assert may_move(old, new, actor) == (actor in NEXT[old].get(new, frozenset()))


@pytest.mark.parametrize(
    "words", [("", "APPROVED", "person"), ("PROPOSED", "DONE", "system"), ("PROPOSED", "APPROVED", "robot")]
)
def test_unknown_words_never_move(words):
    assert not may_move(*words)


def test_nothing_follows_a_settled_status():
    assert all(not NEXT[status] for status in SETTLED)
    assert all(NEXT[status] for status in UNSETTLED)


def test_every_status_is_reachable_from_birth():
    reached, border = {Status.PROPOSED}, [Status.PROPOSED]
    while border:
        for follower in NEXT[border.pop()]:
            if follower not in reached:
                reached.add(follower)
                border.append(follower)
    assert reached == set(Status)


def test_no_agent_ever_approves_or_executes():
    for old, followers in NEXT.items():
        for new, actors in followers.items():
            if Actor.AGENT in actors:
                assert (old, new) == (Status.PENDING_APPROVAL, Status.ABORTED)


def test_only_a_person_or_the_end_of_a_veto_window_approves_a_held_order():
    assert NEXT[Status.PENDING_APPROVAL][Status.APPROVED] == {Actor.PERSON, Actor.SYSTEM}


def test_only_an_approved_order_goes_on_the_wire():
    assert [old for old, followers in NEXT.items() if Status.EXECUTING in followers] == [Status.APPROVED]


def test_no_order_leaves_the_wire_to_be_sent_again():
    assert all(not (set(NEXT[status]) & BEFORE_THE_WIRE) for status in ON_THE_WIRE)


def test_the_database_has_the_same_table():
    assert sorted(order_guards.MOVES) == moves()
