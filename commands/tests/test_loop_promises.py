"""What the loop and STOP promised and did not quite keep: limits at once, notes never lost, the last word last."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from commands.console.order_words import order_steps
from commands.loop import keeper_side, lease, waiting
from commands.loop.interlocks import Limits
from commands.loop.keeper_side import KeeperSide, Resume
from commands.loop.notes import MachineFacts, MovedAtMachine, PauseOrders
from commands.loop.store_side import StoreSide
from commands.models import Execution, Halt
from commands.stop import filing, wire
from commands.stop.journal import HaltNote
from commands.tests import console_scene
from commands.tests.rows import machine_row
from drivers import keeper_config
from drivers.keeper_client import KeeperRefused, StopAnswer
from drivers.port import Outcome, Receipt, WireWrite
from kernel import clock
from roasts.models import Machine
from roasts.recording.backlog import Backlog


class ToldKeeper:
    """A keeper's end of the line that remembers the limits it was given."""

    def __init__(self, *, is_old: bool = False) -> None:
        self.given: list[keeper_config.Limits] = []
        self._is_old = is_old

    def hello(self, token: int) -> dict[str, Any]:
        return {}

    def beat(self, token: int) -> dict[str, Any]:
        return {"latched": None}

    def set_limits(self, token: int, limits: keeper_config.Limits) -> None:
        if self._is_old:
            raise KeeperRefused("bad_request", "there is no op 'limits'")
        self.given.append(limits)

    def close(self) -> None:
        return


@pytest.fixture
def make_side(tmp_path: Path) -> Callable[..., KeeperSide]:
    def make(keeper: ToldKeeper, machine_id: str = "mch_test") -> KeeperSide:
        config = keeper_config.make(
            tmp_path / "run", machine_id=machine_id, name="Test", driver_kind="bullet-r1", driver_options={},
            organization_id="org_test",
        )  # fmt: skip
        keeper_config.write(tmp_path / "run", config)
        side = KeeperSide(
            MachineFacts(machine_id, "org_test", "Test", Limits()), config, token=1, data_dir=tmp_path,
            backlog=Backlog(tmp_path / "readings.ndjson"), resume=Resume(), make_client=lambda _config: keeper,  # type: ignore[arg-type,return-value]
        )  # fmt: skip
        side.handle({"event": "hello", "boot_id": "b", "newest_sequence": 0, "latched": None, "link": {"state": "up"}})
        return side

    return make


@pytest.mark.django_db
def test_a_lowered_maximum_reaches_both_interlocks_and_the_run_file_within_a_second(make_side, tmp_path) -> None:
    machine = machine_row(pk="mch_test")
    keeper = ToldKeeper()
    side = make_side(keeper)
    token = lease.take_lease(machine.pk, owner="test", now=clock.now())
    store = StoreSide(
        machine, owner="test", token=token or 0, keeper_side=side, backlog=side._backlog, data_dir=tmp_path
    )
    store.tick(clock.now())
    Machine.objects.filter(pk=machine.pk).update(max_bean_temp_c=210.0)
    store._watch_envelope(waiting.at_machine(store.machine.pk))
    assert side.facts.limits.max_bean_temp_c == 210.0
    assert keeper_config.read(keeper_config.config_path(tmp_path / "run", machine.pk)).limits.max_bean_temp_c == 210.0
    side._beat()
    assert keeper.given[-1].max_bean_temp_c == 210.0


def test_limits_are_pushed_at_the_first_beat_for_the_keeper_may_be_older_than_the_envelope(make_side) -> None:
    keeper = ToldKeeper()
    side = make_side(keeper)
    side._beat()
    side._beat()
    assert keeper.given == [side.config.limits]


def test_a_keeper_that_does_not_know_the_request_is_beaten_on(make_side) -> None:
    side = make_side(ToldKeeper(is_old=True))
    side._beat()
    assert side.view.is_heard


def test_a_full_queue_never_forgets_that_orders_are_paused(make_side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_side, "MAX_NOTES", 10)
    side = make_side(ToldKeeper())
    pause = PauseOrders("lost_device", clock.now())
    side._tell(MovedAtMachine("fan", 0, 0, clock.now()))
    side._tell(pause)
    for step in range(50):
        side._tell(MovedAtMachine("fan", step, step + 1, clock.now()))
    assert pause in side.notes
    assert len(side.notes) == 10


# --- STOP's last word ----------------------------------------------------------------------------


def note(machine_id: str, result: str) -> HaltNote:
    at = clock.now().isoformat()
    return HaltNote("hlt_one", machine_id, "stop", "", "person", "usr_1", "anna", at).ended(result=result)


@pytest.mark.django_db
def test_of_one_press_a_proof_stands_when_its_not_proved_yet_is_filed_late() -> None:
    machine = machine_row(pk="mch_test")
    filing.file_note(note(machine.pk, "unproved"), now=clock.now())
    filing.file_note(note(machine.pk, "heat_off"), now=clock.now())
    filing.file_note(note(machine.pk, "unproved"), now=clock.now())
    assert Halt.objects.get().result == "heat_off"


def receipt(*writes: WireWrite) -> Receipt:
    return Receipt("hlt_one", Outcome.PROVED, started_monotonic_s=1.0, proved_monotonic_s=1.5, writes=writes)


def test_a_first_byte_that_was_the_fans_is_not_called_heat_going_down() -> None:
    fan = WireWrite(monotonic_s=1.2, data_hex="3101aaaa", meaning="fan +1")
    heater = WireWrite(monotonic_s=1.1, data_hex="3402aaaa", meaning="heater -1")
    assert wire.outcome_of(StopAnswer(1.2, receipt(fan)), 1.0)["first_byte_ms"] is None
    assert wire.outcome_of(StopAnswer(1.1, receipt(heater, fan)), 1.0)["first_byte_ms"] == pytest.approx(100)


# --- the timeline --------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_first_byte_comes_after_the_taking_up_whatever_the_clocks_say() -> None:
    now = clock.now()
    scene = console_scene.build(now)
    proposal = console_scene.complete_order(scene, now)
    taken_up = proposal.transitions.get(to_status="EXECUTING").at
    Execution.objects.filter(proposal=proposal).update(first_byte_at=taken_up - dt.timedelta(milliseconds=3))
    proposal = type(proposal).objects.get(pk=proposal.pk)
    words = [step.word for step in order_steps(proposal)]
    assert words.index("Taken up by the machine loop") < words.index("First byte on the wire")
