"""A machine that is archived, or handed to a bridge, behind its loop's back: the loop lets go and moves nothing."""

from __future__ import annotations

import pytest

from commands.models import Alarm, MachineLease
from commands.tests.real_machine import wait_for
from commands.tests.test_loop_real import rigged, tending
from kernel import clock
from roasts.models import Machine, MachineReading, Sample

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("flag", ["is_archived", "is_remote"])
def test_a_loop_lets_go_of_a_machine_that_is_no_longer_its_own(settings, flag) -> None:
    with rigged(settings) as (real, machine):
        with tending(machine) as loop:
            wait_for(lambda: Sample.objects.count() > 3, what="samples")
            assert not Alarm.objects.exists(), "a keeper that is starting is no lost device"
            Machine.objects.filter(pk=machine.pk).update(**{flag: True})
            wait_for(loop.stop.is_set, 10, "the loop to let go")
            assert loop.why == "not_ours"
        assert real.status()["heater_step"] == 5, "nothing was moved"
        lease = MachineLease.objects.get(machine=machine)
        assert lease.expires_at <= clock.now(), "and the lease was given up"
        assert MachineReading.objects.get(machine=machine).filed_sequence > 0
