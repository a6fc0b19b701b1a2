"""The STOP drill with a real keeper and a real virtual machine: timed, judged, kept; then reset as after any STOP."""

from __future__ import annotations

import pytest
from rest_framework.test import APIClient

from commands.models import Halt
from commands.tests.real_machine import real_machine, wait_for
from commands.tests.rows import machine_row, organization_row, person_row

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("has_heat", [True, False])
def test_a_drill_presses_the_real_stop_and_says_what_it_proved(settings, has_heat) -> None:
    organization = organization_row()
    with real_machine(organization_id=organization.pk) as real:
        settings.DATA_DIR, settings.RUN_DIR = real.data_dir, real.data_dir / "run"
        machine = machine_row(pk="mch_test", driver_options=real.driver_options())
        real.ensure_keeper()
        if not has_heat:
            real.panel.turn_knob("heater", 0)
            wait_for(lambda: real.keeper_status()["reading"]["heater_step"] == 0, what="heat at 0")
        operator, lead = APIClient(), APIClient()
        operator.force_login(person_row("otto", "operator"))
        lead.force_login(person_row("lena", "lead"))
        answer = operator.post(f"/v1/machines/{machine.pk}/drill", {"is_drum_empty": True}, format="json")
        found = answer.json()
        assert answer.status_code == 200, found
        assert found["result"] == "heat_off" and found["proved_ms"] is not None and found["does_not_prove"]
        assert found["has_heat_gone_down"] is has_heat and (found["first_byte_ms"] is not None) is has_heat
        assert real.status()["heater_step"] == 0
        assert ("3402aaaa" in real.heater_steps_sent()) is has_heat
        # On a machine with too much to do the bars may be missed; then it says so.
        is_in_time = found["proved_ms"] <= 2000 and (found["first_byte_ms"] or 0) <= 250
        assert found["is_passed"] is is_in_time
        halt = wait_for(lambda: Halt.objects.filter(pk=found["halt_id"], closed_at__isnull=True).first(), what="halt")
        again = operator.post(f"/v1/machines/{machine.pk}/drill", {"is_drum_empty": True}, format="json")
        assert again.json()["drill_id"] == found["drill_id"], "pressed twice, it is one drill"
        assert operator.post(f"/v1/machines/{machine.pk}/reset", {"reason": "drill"}, format="json").status_code == 403
        reset = lead.post(f"/v1/machines/{machine.pk}/reset", {"reason": "STOP drill"}, format="json")
        assert reset.json()["halts"] == [halt.pk]
        assert operator.get(f"/v1/machines/{machine.pk}/drill").json()["is_due"] is not is_in_time
