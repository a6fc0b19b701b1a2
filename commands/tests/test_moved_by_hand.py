"""A hand at the panel, or the firmware: a control that moved without our bytes is on record, and blames nobody."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from commands.models import Alert
from commands.tests.rows import machine_row
from commands.tests.test_waiting import sides
from kernel import clock
from kernel.models import AuditEntry, Organization
from roasts.models import Machine

pytestmark = pytest.mark.django_db


@pytest.fixture
def machine(organization: Organization) -> Machine:
    return machine_row()


def moved(machine: Machine, tmp_path: Path, *states: str) -> None:
    """The keeper's word of one move in each of these machine states, written by the store's side."""
    keeper_side, store, _ = sides(machine, tmp_path)
    for step, state in enumerate(states):
        event = {"event": "moved", "control": "fan", "from": step, "to": step + 1, "sequence": 1, "state": state}
        keeper_side.handle(event)
    while store._apply_note(clock.now()):
        continue


def test_a_control_that_nobody_ordered_to_move_in_a_roast_is_an_alert_that_counts(
    machine: Machine, tmp_path: Path
) -> None:
    moved(machine, tmp_path, "roasting", "roasting")
    alert = Alert.objects.get()
    assert (alert.kind, alert.severity, alert.subject) == ("SAFETY_VIOLATION", "low", f"moved:{machine.pk}")
    assert (alert.times_seen, alert.agent_id) == (2, None)
    assert {name: alert.trigger[name] for name in ("control", "from_step", "to_step")} == {
        "control": "fan", "from_step": 1, "to_step": 2,
    }  # fmt: skip
    entries = AuditEntry.objects.filter(verb="moved_at_machine", subject_id=machine.pk)
    assert [json.loads(entry.payload)["to_step"] for entry in entries.order_by("id")] == [1, 2]


@pytest.mark.parametrize("state", ["off", "preheating", "charge", "cooling"])
def test_what_the_firmware_sets_outside_a_roast_is_in_the_trail_alone(
    state: str, machine: Machine, tmp_path: Path
) -> None:
    moved(machine, tmp_path, state)
    assert AuditEntry.objects.filter(verb="moved_at_machine").count() == 1
    assert not Alert.objects.exists()
