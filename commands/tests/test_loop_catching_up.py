"""A loop that takes a machine over reads what it missed first: old readings are not a silent machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from commands.loop.interlocks import Limits
from commands.loop.keeper_side import KeeperSide, Resume
from commands.loop.notes import MachineFacts, RaiseAlarm
from drivers import keeper_config, wire_json
from drivers.port import MachineState, Reading
from kernel import clock
from roasts.recording.backlog import Backlog


@pytest.fixture
def side(tmp_path: Path) -> KeeperSide:
    config = keeper_config.make(
        tmp_path / "run", machine_id="mch_test", name="Test", driver_kind="bullet-r1", driver_options={},
        organization_id="org_test",
    )  # fmt: skip
    keeper_config.write(tmp_path / "run", config)
    keeper_side = KeeperSide(
        MachineFacts("mch_test", "org_test", "Test", Limits()), config, token=1, data_dir=tmp_path,
        backlog=Backlog(tmp_path / "readings.ndjson"), resume=Resume(),
    )  # fmt: skip
    link = {"state": "up", "code": "", "message": ""}
    keeper_side.handle({"event": "hello", "boot_id": "boot", "newest_sequence": 100, "latched": None, "link": link})
    return keeper_side


def look(side: KeeperSide, sequence: int, *, age_s: float) -> list[str]:
    """Take a reading of that age, look at the interlocks; the alarms so far."""
    reading = Reading(
        sequence=sequence, at=clock.now(), monotonic_s=clock.monotonic() - age_s, device_ms=sequence * 100,
        state=MachineState.ROASTING, bean_temp_c=150.0 + sequence / 100, infrared_temp_c=180.0, heater_step=5,
        fan_step=3, drum_step=7,
    )  # fmt: skip
    side.handle({"event": "reading", "reading": wire_json.reading_to_json(reading)})
    side._look(clock.monotonic())
    return [note.alarm.code for note in side.notes if isinstance(note, RaiseAlarm)]


def test_interlocks_wait_until_what_was_missed_is_read_and_nothing_heats_up_meanwhile(side: KeeperSide) -> None:
    assert look(side, 50, age_s=60.0) == []
    assert not side.view.is_heat_up_allowed
    assert look(side, 100, age_s=0.1) == []
    assert side.view.is_heat_up_allowed


def test_a_newest_reading_that_is_old_itself_is_a_silent_machine(side: KeeperSide) -> None:
    assert look(side, 50, age_s=60.0) == []
    assert look(side, 100, age_s=6.0) == ["stale_reading", "stale_heat"]


def test_catching_up_excuses_nobody_for_long(side: KeeperSide, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = clock.monotonic()
    look(side, 50, age_s=60.0)
    monkeypatch.setattr(clock, "monotonic", lambda: now_s + 11.0)
    assert look(side, 51, age_s=60.0) == ["stale_reading", "stale_heat"]


def test_heat_up_is_forbidden_again_by_another_hello(side: KeeperSide) -> None:
    look(side, 100, age_s=0.1)
    side.handle({"event": "hello", "boot_id": "boot", "newest_sequence": 900, "latched": None, "link": {"state": "up"}})
    assert not side.view.is_heat_up_allowed
