"""Twenty presses are one stop: each note says which halt it belongs to, before any record exists."""

from __future__ import annotations

import pytest

from commands.models import Halt
from commands.stop import filing, wire
from commands.stop.journal import HaltNote
from commands.tests.rows import machine_row
from kernel import clock


def press(stop_id: str, **values) -> HaltNote:
    given = {"kind": "stop", "code": "", "by_kind": "person", "by_id": "usr_1", "by_name": "anna"}
    return HaltNote(stop_id=stop_id, machine_id="mch_1", opened_at=clock.now().isoformat(), **(given | values))


@pytest.mark.parametrize(
    ("latched", "halt_id"),
    [
        (None, "hlt_mine"),
        ({"stop_id": "hlt_mine", "by": "anna (usr_1)"}, "hlt_mine"),
        ({"stop_id": "hlt_first", "by": "otto (usr_2)"}, "hlt_first"),
        ({"stop_id": "hlt_first", "by": "machine_loop"}, "hlt_mine"),  # an interlock's latch is no press
        ({"stop_id": "interlock-3", "by": "keeper"}, "hlt_mine"),
        ({"stop_id": "s1", "by": "somebody"}, "hlt_mine"),
        ({}, "hlt_mine"),
    ],
)
def test_a_press_belongs_to_the_stop_that_latched_first(latched, halt_id):
    assert wire.joined(press("hlt_mine"), latched).halt_id == halt_id


@pytest.mark.django_db
def test_whichever_press_is_filed_first_the_halt_is_the_one_that_latched():
    machine = machine_row(pk="mch_1")
    latched = {"stop_id": "hlt_first", "by": "otto (usr_2)"}
    late = wire.joined(press("hlt_late"), latched).ended(result="heat_off", proved_ms=900.0)
    assert filing.file_note(late, now=clock.now()).pk == "hlt_first"
    assert filing.file_note(press("hlt_first"), now=clock.now()).pk == "hlt_first"
    halt = Halt.objects.get(machine=machine)
    assert (halt.pk, halt.result) == ("hlt_first", "heat_off")


@pytest.mark.django_db
def test_a_later_press_that_is_not_proved_says_so_in_the_same_halt():
    machine_row(pk="mch_1")
    filing.file_note(press("hlt_first", result="heat_off", proved_ms=900.0), now=clock.now())
    again = wire.joined(press("hlt_again"), {"stop_id": "hlt_first", "by": "otto"})
    filing.file_note(again.ended(result="unproved", by_hand=["Use the panel."]), now=clock.now())
    assert Halt.objects.get().result == "unproved"
