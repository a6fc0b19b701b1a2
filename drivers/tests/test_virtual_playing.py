# ruff: noqa: F811 - pytest fixtures are imported by name
"""A log played on a machine that is served and read already: no break for its reader, and clear words for its asker."""

from __future__ import annotations

import io
import math
import struct
from pathlib import Path
from typing import Any

import pytest
import usb.core
from django.core.management import CommandError, call_command

import drivers.virtual
from drivers import keeper_config
from drivers.tests.test_virtual_usb import asked, opened
from drivers.tests.virtual_machines import served  # noqa: F401 - a fixture
from drivers.virtual import playing
from drivers.virtual.clocks import ManualClock
from drivers.virtual.machine import VirtualMachine
from drivers.virtual.panel import Panel
from drivers.virtual.person import DemoPerson
from drivers.virtual.usb_backend import VirtualBackend

OFF, PREHEATING, CHARGE, ROASTING, DROPPING, COOLING = 0, 2, 4, 6, 7, 8


def made(folder: Path, states: list[int], name: str = "made.alog") -> Path:
    """A log of one row a second with these states; probe 100, 101, … °C."""
    count = len(states)
    log = {
        "mode": "C", "timex": list(range(count)), "temp1": [200.0] * count, "temp2": [100.0 + i for i in range(count)],
        "extradevices": [84, 87], "extratemp1": [[70] * count, states], "extratemp2": [[20] * count, [900] * count],
    }  # fmt: skip
    path = folder / name
    path.write_text(repr(log), encoding="utf-8")
    return path


class Reader:
    """A driver that reads on and on: what it saw, in order."""

    def __init__(
        self, *, initial_state: str = "roasting", speed: float = 1.0, person: DemoPerson | None = None
    ) -> None:
        self.clock = ManualClock()
        self.machine = VirtualMachine(seed=1, clock=self.clock, initial_state=initial_state, speed=speed, person=person)
        self.device = opened(VirtualBackend(self.machine, self.machine))
        self.states: list[int] = []
        self.counters: list[int] = []
        self.probe_c: list[float] = []

    def read(self, wall_s: float, every_s: float = 0.1) -> None:
        for _ in range(round(wall_s / every_s)):
            self.clock.advance(every_s)
            frame = asked(self.device)
            self.counters.append(struct.unpack_from("<B", frame, 30)[0])
            self.probe_c.append(struct.unpack_from("<f", frame, 8)[0])
            if not self.states or self.states[-1] != frame[29]:
                self.states.append(frame[29])


def test_a_roast_under_way_ends_as_a_roast_and_the_log_comes_after_it(tmp_path) -> None:
    reader = Reader()
    reader.read(1)
    before_s = reader.machine.device_s
    reader.machine.play_log(made(tmp_path, [CHARGE] * 5 + [ROASTING] * 30 + [COOLING] * 5))
    reader.read(70)
    assert reader.states == [ROASTING, DROPPING, COOLING, OFF, CHARGE, ROASTING, COOLING, OFF]
    assert reader.machine.device_s == pytest.approx(before_s + 70, abs=0.2)
    seen = [value for value in reader.probe_c if value in {100.0 + i for i in range(40)}]
    assert seen == sorted(seen) and {100.0 + i for i in range(40)} <= set(seen)
    assert reader.machine.status()["replay"] is None
    # as warm as the log left it, and able to do everything again
    assert 130 < reader.machine.status()["probe_temp_c"] < 140
    assert reader.machine.act("press_prs")["state"] == PREHEATING


def test_the_sample_counter_goes_on_through_all_of_it(tmp_path) -> None:
    reader = Reader(initial_state="charge")
    reader.read(1)
    reader.machine.play_log(made(tmp_path, [CHARGE] * 3 + [ROASTING] * 3))
    counters = []
    for _ in range(300):
        reader.clock.advance(0.1)
        reader.machine.advance()
        counters.append(reader.machine.firmware.sample_counter)
    assert [b - a for a, b in zip(counters, counters[1:], strict=False)] == [1] * 299


def test_it_plays_at_the_speed_asked_for_and_then_goes_on_at_its_own(tmp_path) -> None:
    reader = Reader(initial_state="off", speed=2.0)
    reader.machine.play_log(made(tmp_path, [CHARGE] * 10 + [ROASTING] * 190), speed=20.0)
    reader.read(2)  # 3 s of off at 2
    assert reader.machine.status()["speed"] == 20
    reader.read(5)
    assert reader.machine.status()["replay"]["left_s"] == pytest.approx(200 + 10 - 100, abs=25)
    reader.read(8)
    status = reader.machine.status()
    assert (status["speed"], status["replay"], status["state"]) == (2.0, None, OFF)
    before_s = status["device_s"]
    reader.read(10)
    assert reader.machine.device_s - before_s == pytest.approx(20, abs=0.3)


def test_a_log_that_begins_in_the_roast_waits_for_its_beans_first(tmp_path) -> None:
    reader = Reader(initial_state="off")
    reader.machine.play_log(made(tmp_path, [ROASTING] * 5))
    reader.read(12)
    assert reader.states[:3] == [OFF, CHARGE, ROASTING]
    assert math.isclose(reader.probe_c[-1], 104, abs_tol=1)


def test_another_log_cuts_the_first_one_off(tmp_path) -> None:
    reader = Reader(initial_state="off")
    reader.machine.play_log(made(tmp_path, [CHARGE] * 3 + [ROASTING] * 100))
    reader.read(20)
    reader.machine.play_log(made(tmp_path, [CHARGE] * 3 + [ROASTING] * 5 + [COOLING] * 2, "second.alog"))
    reader.read(40)
    assert reader.states == [OFF, CHARGE, ROASTING, DROPPING, COOLING, OFF, CHARGE, ROASTING, COOLING, OFF]


def test_the_demo_person_keeps_away_from_a_log_and_comes_back(tmp_path) -> None:
    reader = Reader(initial_state="charge", person=DemoPerson(ready_s=2.0, pause_s=4.0))
    reader.read(9)
    reader.machine.play_log(made(tmp_path, [CHARGE] * 3 + [ROASTING] * 20 + [COOLING] * 3))
    reader.read(60)
    assert reader.states == [CHARGE, ROASTING, DROPPING, COOLING, OFF, CHARGE, ROASTING, COOLING, OFF, PREHEATING]
    acts = [entry["act"] for entry in reader.machine.wire.entries(directions=frozenset({"panel"}))]
    assert acts == ["charge_beans", "turn_knob", "turn_knob", "replay", "press_prs"]


# -- the one who asks


def run_file(run_dir: Path, machine_id: str, options: dict[str, Any]) -> None:
    config = keeper_config.make(
        run_dir, machine_id=machine_id, name=f"Virtual {machine_id}", driver_kind="bullet-r1", driver_options=options
    )
    keeper_config.write(run_dir, config)


def virtual(path: Path) -> dict[str, Any]:
    return {"backend": {"kind": "virtual-socket", "path": str(path)}}


def command(run_dir: Path, settings: Any, *arguments: str) -> str:
    settings.RUN_DIR = run_dir
    words = io.StringIO()
    call_command("virtualroaster", *arguments, stdout=words)
    return words.getvalue()


def test_the_command_lets_the_machine_that_runs_play_and_says_where_to_watch(served, tmp_path, settings) -> None:
    log, path = made(tmp_path, [CHARGE] * 3 + [ROASTING] * 117), served("--initial-state", "off")
    run_dir = tmp_path / "run"
    run_file(run_dir, "mch_one", virtual(path))
    run_file(run_dir, "mch_real", {})
    run_file(run_dir, "mch_away", virtual(tmp_path / "none.sock"))
    (run_dir / "other.json").write_text("{}", encoding="utf-8")
    (run_dir / playing.ADDRESS_NAME).write_text("http://127.0.0.1:8123\n", encoding="ascii")
    holder = opened(drivers.virtual.socket_backend(path))
    told = command(run_dir, settings, "--replay", str(log), "--speed", "10")
    assert "Virtual mch_one plays made.alog: 1:59 min of log at 10 times its pace, over in about 0:11 min." in told
    assert "http://127.0.0.1:8123/machines/mch_one/" in told
    with Panel(path) as panel:
        assert panel.status()["replay"]["name"] == "made.alog"
    assert asked(holder)[29] == OFF  # whoever held it holds it still


def test_without_a_holder_nothing_is_played(served, tmp_path) -> None:
    path = served()
    run_file(tmp_path / "run", "mch_one", virtual(path))
    with pytest.raises(playing.CannotPlay, match="nobody holds it"):
        playing.play(tmp_path / "run", made(tmp_path, [ROASTING]), held_within_s=0.3)
    with Panel(path) as panel:
        assert panel.status()["replay"] is None


def test_of_several_one_must_be_chosen(served, tmp_path, settings) -> None:
    paths = {"mch_one": served(), "mch_two": served()}
    for machine_id, path in paths.items():
        run_file(tmp_path / "run", machine_id, virtual(path))
    log = made(tmp_path, [ROASTING] * 3)
    with pytest.raises(CommandError, match=r"mch_one .*mch_two .*--machine ID"):
        command(tmp_path / "run", settings, "--replay", str(log))
    holder = opened(drivers.virtual.socket_backend(paths["mch_two"]))
    assert "/machines/mch_two/" in command(tmp_path / "run", settings, "--replay", str(log), "--machine", "mch_two")
    assert isinstance(holder, usb.core.Device)


def test_what_cannot_be_done_is_said(tmp_path, settings) -> None:
    run_dir, log = tmp_path / "run", str(made(tmp_path, [ROASTING] * 3))
    for arguments, words in (
        ((), "--serve SOCKET, or --replay"),
        (("--replay", log), "No virtual machine runs"),
        (("--replay", log, "--machine", "mch_none"), "No virtual machine 'mch_none'"),
        (("--replay", str(tmp_path / "none.alog")), "cannot be read: No such file"),
        (("--replay", str(tmp_path)), "is not a file"),
        (("--replay", __file__), "does not begin like an .alog"),
        (("--replay", log, "--speed", "0"), "speed must be between"),
        (("--replay", log, "--faults", "unplug@1"), "--faults needs --serve"),
        (("--replay", log, "--serve", str(tmp_path / "x.sock"), "--machine", "m"), "does not go with --serve"),
    ):
        with pytest.raises(CommandError, match=words):
            command(run_dir, settings, *arguments)
    run_file(run_dir, "mch_away", virtual(tmp_path / "none.sock"))
    with pytest.raises(CommandError, match="is not running"):
        command(run_dir, settings, "--replay", log, "--machine", "mch_away")


def test_the_machine_refuses_a_bad_log_in_words_and_lives_on(served, tmp_path) -> None:
    bad = tmp_path / "bad.alog"
    bad.write_text("{'timex': 3}", encoding="utf-8")
    with Panel(served("--initial-state", "roasting")) as panel:
        for path, speed in ((bad, None), (tmp_path / "none.alog", None), (made(tmp_path, [ROASTING]), 5000.0)):
            with pytest.raises(ValueError, match=r"timex|cannot be read|speed"):
                panel.replay(path, speed)
        assert panel.status()["state"] == ROASTING and panel.status()["replay"] is None
